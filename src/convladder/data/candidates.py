"""Candidates: files that may be pictures, by the extension of their name or else by their content."""

import contextlib
import os
import stat
from typing import TypeAlias

from convladder.errors import ConvladderError

READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
# Picture formats that cannot be read. These files are reported, not skipped.
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".ico", ".psd", ".eps", ".ppm", ".pgm", ".tga", ".dng")

# First bytes of JPEG, PNG, GIF and TIFF files. BMP's two letters are not enough: many texts begin with them.
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the second header, which follows 14 bytes of the first

NO_PICTURE = "no picture by name and content"
DEEPEST = 100  # folders within one another

Entry: TypeAlias = "os.DirEntry[str]"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped with everything in it."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def why_passed_over(entry: Entry) -> str:
    """Why a file is skipped. Empty if it may be a picture, or cannot be opened and so must be reported."""
    if is_hidden(entry.name):
        return "hidden"
    if not os.path.splitext(entry.name)[1] or _named_as_picture(entry):
        return ""
    try:
        return "" if _begins_as_picture(entry) else NO_PICTURE
    except OSError:
        return ""


def seems_picture(entry: Entry) -> bool:
    """Whether a file that is not hidden has the name or the content of a picture."""
    with contextlib.suppress(OSError):
        return not is_hidden(entry.name) and (_named_as_picture(entry) or _begins_as_picture(entry))
    return False


def _named_as_picture(entry: Entry) -> bool:
    return entry.name.lower().endswith(READ + NOT_READ)


def _begins_as_picture(entry: Entry) -> bool:
    if not stat.S_ISREG(entry.stat().st_mode):  # reading a pipe could block forever
        return False
    with open(entry.path, "rb") as file:
        head = file.read(18)
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in BMP_HEADERS
    return head.startswith(BEGINNINGS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


def check_depth(folder: str | os.PathLike[str], depth: int) -> None:
    """Refuse a folder that lies so many folders deep in the one that was named.

    Raises:
        ConvladderError: It is deeper than 100.
    """
    if depth > DEEPEST:
        shown = os.fspath(folder)
        raise ConvladderError(
            f"{shown[:100]}… is more than {DEEPEST} folders deep. Expected pictures in fewer: move the folders, or "
            "remove them."
        )


def list_entries(folder: str | os.PathLike[str]) -> list[Entry]:
    """The contents of a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
