"""Seconds to an accuracy on MNIST, beside the article's program and the examples of Keras and PyTorch.

    python benchmarks/time_to_accuracy.py --quick            the two ratios, within 8 minutes on two cores
    python benchmarks/time_to_accuracy.py --output docs/benchmarks

It is `convladder benchmark`, under the name that a benchmark is looked for. Nothing else should run meanwhile.
"""

import sys

from convladder.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["benchmark"]
    main()
