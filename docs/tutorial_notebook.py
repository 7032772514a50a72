"""Write docs/tutorial.ipynb, the tutorial as a notebook, from docs/tutorial.md.

python docs/tutorial_notebook.py    # `make pictures` draws the pictures first

The outputs are those that the page shows; the tests run the notebook and compare. Pictures are inside it and links to
other pages are plain words, so that the file can be opened alone.
"""

import base64
import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

DOCS = Path(__file__).parent
PAGE, NOTEBOOK = DOCS / "tutorial.md", DOCS / "tutorial.ipynb"
INSTALL = '# Skip this cell if convladder is installed.\n%pip install --quiet "convladder[train]"'


def text_cell(text: str) -> str:
    """Markdown with its pictures inside, and without links to other files."""

    def embed(match: re.Match[str]) -> str:
        picture = base64.b64encode((DOCS / match[2]).read_bytes()).decode()
        return f"![{match[1]}](data:image/svg+xml;base64,{picture})"

    text = re.sub(r"!\[([^\]]*)\]\(([^)]+\.svg)\)", embed, text)
    return re.sub(r"(?<!!)\[([^\]]+)\]\([^)]+\)", r"\1", text).strip()


def code_cells(language: str, block: str) -> Iterator[tuple[str, str]]:
    """The source and the output of each cell. A cell ends where something is printed, as only its last line prints."""
    if language == "console":
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE):
            yield f"%%bash\n{command}", output
        return
    source = ""
    for example in doctest.DocTestParser().get_examples(block):
        source += example.source
        if example.want:
            yield source.rstrip("\n"), example.want
            source = ""
    if source:
        yield source.rstrip("\n"), ""


def convert(page: str) -> str:
    """The notebook, as JSON."""
    cells: list[Any] = [v4.new_code_cell(INSTALL)]
    position = 0
    for fence in re.finditer(r"^```(\w+)\n(.*?)^```\n", page, flags=re.MULTILINE | re.DOTALL):
        cells.append(v4.new_markdown_cell(text_cell(page[position : fence.start()])))
        for source, output in code_cells(fence[1], fence[2]):
            outputs = [v4.new_output("stream", text=output)] if output else []
            cells.append(v4.new_code_cell(source, outputs=outputs))
        position = fence.end()
    cells.append(v4.new_markdown_cell(text_cell(page[position:])))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = v4.new_notebook(cells=[cell for cell in cells if cell["source"]], metadata=metadata)
    written: str = nbformat.writes(notebook)
    return written + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(convert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
