"""docs/benchmarks.md: its tables are those of the files beside it, and what makes these is there."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import figures
import pytest
import tables

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_page_has_the_table_of_the_files(name: str) -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    _, _, rest = page.partition(f"<!-- {name} -->\n")
    assert rest.partition(f"<!-- end of {name} -->\n")[0].strip() == tables.TABLES[name]().strip()


def test_what_each_figure_was_made_with_is_told() -> None:
    made = figures.made()
    assert list(made) == list(figures.FIGURES)
    for name, figure in figures.FIGURES.items():
        assert (tables.RESULTS / figure.file).is_file()
        assert re.fullmatch("[0-9a-f]{7,}", made[name]["commit"])
        program, script = shlex.split(figure.command)[:2]
        assert program == "convladder" or (ROOT / script).is_file()


@pytest.mark.parametrize("path", sorted(tables.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_no_file_names_a_folder_of_the_machine_that_measured(path: Path) -> None:
    assert not re.findall(r'"/[^"]+', path.read_text(encoding="utf-8"))


@pytest.mark.long
def test_a_figure_is_noted_with_the_commit_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("1")
    (tmp_path / "made.json").write_text("{}")
    git("init", "--quiet")
    git("add", "src")
    git("commit", "--quiet", "--message", "one")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    monkeypatch.setattr(figures, "MADE", tmp_path / "made.json")
    monkeypatch.setattr(figures, "FIGURES", {"models": figures.Figure("convladder models", "a.txt", 1, prints=True)})
    assert not figures.is_new("models")
    figures.make("models", {})
    assert "strong" in (tmp_path / "a.txt").read_text()
    entry = json.loads((tmp_path / "made.json").read_text())["models"]
    assert entry["commit"] == figures.git("rev-parse", "--short", "HEAD")
    assert figures.is_new("models")
    (tmp_path / "src" / "code.py").write_text("2")
    assert not figures.is_new("models")
