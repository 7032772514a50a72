"""Every block of code in the documentation is run, in order, and must print what stands below it.

`python` blocks are doctests that share a namespace a page; `console` blocks hold commands after `$`, whose output,
both streams, follows. Runs of white space count as one, and an ellipsis stands for any text. `sh` blocks install
or run for minutes: of them it is tested that what they call is there.
"""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from convladder import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def run_console(block: str, page: Path) -> None:
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE):
        words = shlex.split(command)
        assert words[0] == "convladder", f"{page.name} calls {words[0]}"
        finished = subprocess.run(
            [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        checker = doctest.OutputChecker()
        if not checker.check_output(expected.strip() + "\n", finished.stdout.strip() + "\n", FLAGS):
            pytest.fail(f"{page.name}: {command} printed\n{finished.stdout}\nexpected\n{expected}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_prints_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for number, (language, block) in enumerate(blocks(page)):
        assert language in {"python", "console", "sh", "text"}, f"{page.name} has a block of {language}"
        if language == "python":
            test = doctest.DocTestParser().get_doctest(block, namespace, f"{page.name}[{number}]", str(page), 0)
            assert test.examples, f"{page.name} has a python block that is not run"
            report: list[str] = []
            runner.run(test, out=report.append, clear_globs=False)
            namespace = test.globs
            assert not report, "".join(report)
        elif language == "console":
            run_console(block, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_calls_is_there(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    commands = {
        command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback
    }
    for language, block in blocks(page):
        if language == "sh":
            assert set(re.findall(r"\bmake (\w+)", block)) <= targets
            assert set(re.findall(r"^\s*(?:\S+/)?convladder (\w+)", block, flags=re.MULTILINE)) <= commands
            for script in re.findall(r"\bpython (\S+\.py)", block):
                assert (ROOT / script).exists(), script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_option_is_explained() -> None:
    """The README names every command; `--help` explains every option."""
    import typer

    readme = (ROOT / "README.md").read_text()
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        assert f"convladder {name}" in readme, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
