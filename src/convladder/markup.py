"""What is shown: names made printable, for they may hold anything; tables and objects as HTML, for notebooks."""

import unicodedata
from collections.abc import Callable, Sequence
from html import escape
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


def html_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table for a notebook: the first column names the row."""
    head = "".join(f'<th scope="col">{_escaped(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{_escaped(first)}</th>{"".join(f"<td>{_escaped(cell)}</td>" for cell in others)}</tr>'
        for first, *others in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _escaped(cell: str) -> str:
    return escape(printable(cell.strip()))


def draw_with(draw: Callable[[Any], str]) -> None:
    """Have `html_of` call a function. A Run and a Comparison come before the package that draws them."""
    global _draw  # noqa: PLW0603 (set once, by the first lines of the package)
    _draw = draw


def html_of(shown: Any) -> str:
    """What a notebook shows of a Run or a Comparison."""
    return _draw(shown)


_draw: Callable[[Any], str] = repr
