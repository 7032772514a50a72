"""What mutation testing changes: one place of the code at a time, by the operators of mutmut."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

SOURCE = Path(__file__).parents[1] / "src" / "convladder"
PACKAGES = ("data", "evaluating", "comparing", "inference", "runs")
LEFT_ALONE = ("len", "isinstance")  # functions whose arguments are not changed, as in mutmut


@dataclass(frozen=True)
class Mutant:
    """A change of one place: in a module of the package, on a line of the statement that begins at `first`."""

    module: str
    first: int
    line: int
    was: str
    now: str
    key: str  # of the line's text, not its number: it stays when code above is changed
    write: Callable[[], str]


class Changes(cst.CSTVisitor):
    """Collects what mutmut's operators make of each node, in the bodies of decorated classes too."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[cst.CSTNode] = []
        self.found: list[tuple[int, int, int, cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator) or _calls(node, LEFT_ALONE):
            return False
        if isinstance(node, cst.BaseCompoundStatement | cst.SimpleStatementLine):
            self.statements.append(node)
        if isinstance(node, cst.SimpleString) and " " in node.value:
            return False  # wording: mutmut leaves that of f-strings alone
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                at = self.get_metadata(PositionProvider, node).start
                first = self.get_metadata(PositionProvider, self.statements[-1]).start.line if self.statements else 1
                self.found += [(first, at.line, at.column, node, changed) for changed in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self.statements and self.statements[-1] is original_node:
            self.statements.pop()


def _calls(node: cst.CSTNode, names: Sequence[str]) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in names


def mutants(module: str, text: str) -> Iterator[Mutant]:
    """All changes of a module's text."""
    wrapper = MetadataWrapper(cst.parse_module(text))
    changes = Changes()
    wrapper.visit(changes)
    tree, lines, met = wrapper.module, text.splitlines(), Counter[str]()
    for first, line, column, node, changed in changes.found:
        was, now = tree.code_for_node(node).strip(), tree.code_for_node(changed).strip()
        place = "\n".join([module, lines[line - 1].strip(), str(column), was, now])
        met[place] += 1
        key = hashlib.sha256(f"{place}\n{met[place]}".encode()).hexdigest()[:12]
        yield Mutant(module, first, line, was, now, key, partial(_write, tree, node, changed))


def _write(tree: cst.Module, node: cst.CSTNode, changed: cst.CSTNode) -> str:
    replaced = tree.deep_replace(node, changed)
    assert isinstance(replaced, cst.Module)
    return replaced.code


def change_everything() -> list[list[Mutant]]:
    """All changes of each module."""
    paths = [path for package in PACKAGES for path in sorted((SOURCE / package).glob("*.py"))]
    groups = [list(mutants(f"{path.parent.name}.{path.stem}", path.read_text(encoding="utf-8"))) for path in paths]
    return [group for group in groups if group]


def where_used(mutant: Mutant) -> list[int]:
    """The lines of its module that name the constant which its statement sets; none for other statements."""
    lines = SOURCE.joinpath(*mutant.module.split(".")).with_suffix(".py").read_text(encoding="utf-8").splitlines()
    name = re.match(r"(\w+)\s*(:[^=]+)?=", lines[mutant.first - 1])
    return [number for number, line in enumerate(lines, 1) if name and re.search(rf"\b{name[1]}\b", line)]


def in_order(groups: Sequence[Sequence[Mutant]], seed: int) -> list[Mutant]:
    """So shuffled that any beginning holds the same share of each group."""
    placed = []
    for group in groups:
        shuffled = sorted(group, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
        placed += [((rank + 0.5) / len(group), mutant.key, mutant) for rank, mutant in enumerate(shuffled)]
    return [mutant for *_, mutant in sorted(placed, key=lambda item: item[:2])]
