"""Names as they can be shown: of files, folders, classes and models, which may hold anything."""

import unicodedata
from typing import Any


def printable(text: str) -> str:
    r"""A name as one line that can be shown and stored anywhere: what cannot be printed, escaped.

    A line break becomes `\n`, an escape sequence loses its power, and a byte of a file's name that is not UTF-8 is
    shown as Python writes it, `\udce9`, which is valid in JSON as well.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or _is_space(c) else c.encode("unicode_escape").decode() for c in text)


def _is_space(character: str) -> bool:
    """Such as a no-break or an ideographic space, which Python does not count as printable."""
    return unicodedata.category(character) == "Zs"


def shown(value: Any) -> Any:
    """What a template shows of a value: text printable, all else, safe markup among it, as it is."""
    return printable(value) if type(value) is str else value
