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


def fill(page: Path, name: str, text: str) -> None:
    """Replace what stands in a page between its two comments of a name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
