"""Where a benchmark writes to: seen to before it measures for minutes."""

import argparse
import tempfile
from pathlib import Path


def prepare(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Make the folder; end with status 2 and a line where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile("wb", dir=folder).close()
    except OSError as error:
        parser.error(f"--output {folder} cannot be written to ({error.strerror}). Expected a folder.")
