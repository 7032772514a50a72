"""Candidates: which files may be pictures. A picture's ending says so, and under any other name the content."""

import contextlib
import os
import stat
from typing import TypeAlias

READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
# Pictures of formats that are not read: better said than passed over.
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".ico", ".psd", ".eps", ".ppm", ".pgm", ".tga", ".dng")

# What JPEG, PNG, GIF and TIFF files begin with; BMP's two letters begin many a text too.
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the second header, which follow 14 of the first

NO_PICTURE = "no picture by name and content"

Entry: TypeAlias = "os.DirEntry[str]"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over with all that is in it."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def why_passed_over(entry: Entry) -> str:
    """Why a file is not looked at; an empty text where it may be a picture, or cannot be opened, to be said."""
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
    if not stat.S_ISREG(entry.stat().st_mode):  # a pipe would be waited for without end
        return False
    with open(entry.path, "rb") as file:
        head = file.read(18)
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in BMP_HEADERS
    return head.startswith(BEGINNINGS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


def list_entries(folder: str | os.PathLike[str]) -> list[Entry]:
    """What is in a folder, by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
