"""From a SOURCE, as commands that read images take it, to paths."""

import glob
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from convladder.errors import ConvladderError

LONGEST_PATH = 1 << 16  # bytes; systems allow fewer


def expand(source: str, say: Callable[[str], object], null: bool = False) -> Sequence[str] | Iterator[str | None]:
    """The paths that a SOURCE stands for: a folder's images, a pattern's matches, or the lines of standard input.

    Args:
        source: What was given.
        say: Takes a line on what is skipped.
        null: Whether paths on standard input end in NUL.

    Raises:
        ConvladderError: A folder has no images, or a pattern has no match.
    """
    if source == "-":
        return read_paths(sys.stdin.fileno(), b"\0" if null else b"\n")
    if os.path.isdir(source):
        from convladder.data.folders import list_pictures

        listing = list_pictures(Path(source))
        if listing.ignored:
            say(f"{source}: {listing.count_ignored()}, skipped.")
        return sorted([*listing.paths, *(path for path, _ in listing.left_out)])  # unreadable files are reported later
    if glob.has_magic(source) and not os.path.lexists(source):
        matches = list(dict.fromkeys(_matches(source)))
        found = sorted(path for path in matches if not os.path.isdir(path))
        if found and "**" not in source and len(found) < len(matches):
            say(f"{source}: {len(matches) - len(found):,} folders, skipped.")
        if not found:
            raise ConvladderError(f"{source} matches no file. Expected a pattern for images, such as 'photos/*.jpg'.")
        return found
    return [source]


def _matches(pattern: str) -> Iterator[str]:
    """What a pattern matches; `**` stands for any folders, but follows no links, because they may lead in circles."""
    from convladder.data.candidates import check_depth

    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index("**")
    within = parts[place + 1 :] or ["*"]
    for start in glob.glob(os.sep.join(parts[:place]) + os.sep) if place else [""]:
        for folder, folders, _ in os.walk(start or os.curdir):
            below = os.path.relpath(folder, start or os.curdir)
            check_depth(folder, below.count(os.sep))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            here = start if below == os.curdir else os.path.join(start, below)
            yield from _matches(os.path.join(glob.escape(here), *within))


def read_paths(descriptor: int, end: bytes) -> Iterator[str | None]:
    """Yield the paths that a file, pipe or terminal lists, and None whenever it has no more of them yet.

    Args:
        descriptor: Where to read. A Python file would read ahead and hide what is available.
        end: What ends a path. A carriage return before a line feed is dropped too.

    Raises:
        ConvladderError: Reading failed.
    """
    rest, part = b"", b"more"
    while part:
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
        try:
            part = os.read(descriptor, LONGEST_PATH)
        except OSError as error:
            raise ConvladderError(f"Could not read standard input ({error.strerror}). Expected paths.") from error
        *paths, rest = (rest + (part or end)).split(end)  # the last path may lack its end
        for path in paths:
            if end == b"\0" and path:
                yield os.fsdecode(path)
            elif end == b"\n" and path.strip():
                yield os.fsdecode(path.rstrip(b"\r"))
        if len(rest) > LONGEST_PATH:
            yield None
            raise ConvladderError(f"Standard input is not a list of paths: one has {len(rest):,} bytes or more.")
