"""`python -m convladder` is the command line."""

from convladder.cli import main

main()
