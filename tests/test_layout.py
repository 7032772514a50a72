"""The layout of the package: every import counts, also one within a function or for types alone.

import-linter checks the order of the packages (pyproject.toml); this is what it has no contract for.
"""

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[1] / "src" / "convladder"
MOST_LINES = 400
TOP = {
    "__init__",
    "__main__",
    "cluster",
    "engine",
    "errors",
    "files",
    "markup",
    "processors",
    "signals",
    "startup",
    "urls",
    "workers",
}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """From each module to those that it imports; not from the package itself, whose names are all of theirs."""
    graph = grimp.build_graph("convladder", cache_dir=None)
    return {
        module: set(graph.find_modules_directly_imported_by(module)) - {"convladder"}
        for module in graph.modules
        if module != "convladder"
    }


def test_no_modules_import_one_another_in_a_circle(imports: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_nothing_imports_the_command_line(imports: dict[str, set[str]]) -> None:
    for module, imported in imports.items():
        if not module.startswith(("convladder.cli", "convladder.__main__")):
            assert not {name for name in imported if name.startswith("convladder.cli")}, module


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_is_read_in_one_go(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_top_holds_what_every_package_may_use() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == TOP


def test_a_package_says_what_it_holds_and_imports_nothing() -> None:
    for path in SOURCE.glob("*/__init__.py"):
        if path.parent.name != "cli":
            assert path.read_text(encoding="utf-8").startswith('"""'), path
            assert "import " not in path.read_text(encoding="utf-8").rpartition('"""')[2], path
