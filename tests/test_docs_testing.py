"""docs/testing.md: its tables are those of the last measurement, and what makes them counts as it says."""

import json
from pathlib import Path
from typing import Any

import branches
import mutants
import mutations
import pytest

DOCS = Path(__file__).parents[1] / "docs"
CODE = """
def share(part: int | None, whole: int = 1) -> float:
    if part is None or whole < 1:
        raise ValueError("Expected two numbers.")
    return part / whole
"""


def measured(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DOCS / "benchmarks" / name).read_text(encoding="utf-8"))
    return content


def test_the_page_has_the_tables_of_coverage_and_mutation() -> None:
    page = (DOCS / "testing.md").read_text(encoding="utf-8")
    assert branches.table(measured("branch_coverage.json")["packages"]) in page
    assert mutants.table(measured("mutation.json")) in page


def test_every_survivor_was_looked_at() -> None:
    content = measured("mutation.json")
    alive = {key for tried in content["tried"].values() for key, first in tried.items() if first in mutants.ALIVE}
    assert alive == content["survivors"].keys()
    for survivor in content["survivors"].values():
        assert survivor["now"] not in mutants.ALIVE or survivor.get("equivalent") or survivor.get("open"), survivor


def test_a_change_is_of_behaviour_and_keeps_its_name_where_the_code_above_it_changes() -> None:
    found = list(mutations.mutants("data.share", CODE))
    changes = {(mutant.was, mutant.now) for mutant in found}
    assert {("part / whole", "part * whole"), ("1", "2"), ("whole < 1", "whole <= 1")} & changes
    for mutant in found:
        assert mutant.write() != CODE
        compile(mutant.write(), "share.py", "exec")
        assert "int | None, whole: int" in mutant.write()  # no annotation is changed
        assert "Expected two numbers." in mutant.write() or mutant.now == "ValueError(None)"
    later = [mutant.key for mutant in mutations.mutants("data.share", f"LIMIT = None\n{CODE}")]
    assert [mutant.key for mutant in found] == later[-len(found) :]
    assert len(set(later)) == len(later)


def test_a_sample_holds_the_same_share_of_every_module_and_goes_on() -> None:
    groups = [list(mutations.mutants(name, CODE * times)) for name, times in (("data.one", 1), ("runs.two", 3))]
    order = mutations.in_order(groups, seed=0)
    assert sorted(mutant.key for mutant in order) == sorted(mutant.key for group in groups for mutant in group)
    half = order[: len(order) // 2]
    for group in groups:
        assert sum(mutant.module == group[0].module for mutant in half) == pytest.approx(len(group) / 2, abs=1)
    assert order != mutations.in_order(groups, seed=1)
