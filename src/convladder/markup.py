"""Text that is shown: makes any name printable, and tables and objects HTML for notebooks."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from html import escape
from typing import Any


def printable(text: str) -> str:
    r"""A name as one line that can be shown and stored anywhere, with unprintable characters escaped.

    A line break becomes `\n`, and an escape sequence has no effect. A byte of a file name that is not UTF-8 is shown as
    Python writes it, `\udce9`, which is also valid in JSON.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or _is_space(c) else c.encode("unicode_escape").decode() for c in text)


def _is_space(character: str) -> bool:
    """Whether it is a space that Python does not count as printable, such as a no-break or an ideographic space."""
    return unicodedata.category(character) == "Zs"


_FORMULA = re.compile(r"(^|;)(?=[=+\-@＝＋－＠])")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)


def cell(text: str) -> str:
    """A text as a cell of a CSV file: printable, and no formula to a spreadsheet, which would compute it.

    An apostrophe is put before a sign that begins a formula, also after a semicolon, which some spreadsheets take for
    the end of a cell. Numbers stay as they are.
    """
    return printable(text) if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1'", printable(text))


def shown(value: Any) -> Any:
    """A value as a template shows it: text is made printable; everything else, such as safe markup, is unchanged."""
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
    """Set the function that `html_of` calls, because Run and Comparison cannot import the package that draws them."""
    global _draw  # noqa: PLW0603 (set once, by the first lines of the package)
    _draw = draw


def html_of(shown: Any) -> str:
    """A Run or a Comparison as HTML for a notebook."""
    return _draw(shown)


_draw: Callable[[Any], str] = repr
