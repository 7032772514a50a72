"""Every block of code in the documentation is run, in order, and must print what stands below it.

`python` blocks are doctests that share a namespace a page; `console` blocks hold commands after `$`, whose output,
both streams, follows. Runs of white space count as one, and an ellipsis stands for any text. `sh` and `text` blocks are
not run, each for a reason that stands in NOT_RUN. Of `sh` blocks it is tested that what they call is there, and takes
these options.
"""

import doctest
import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import pytest
import typer

from convladder import cli
from convladder.cli import _complete as complete
from convladder.comparing.settings import DIFFERING_COLUMNS, MARK, differing, value_in_words
from convladder.evaluating.metrics import share_interval
from convladder.models.ladder import build_model, suited_rungs
from convladder.models.summary import count_macs
from convladder.reporting.tables import cells_of_comparison
from convladder.training.assembling import VIEWS
from convladder.training.recipes import TUNED, default_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINING = (
    "compare.md",
    "data.md",
    "evaluate.md",
    "guide.md",
    "photos.md",
    "reliability.md",
    "ship.md",
    "tutorial.md",
)  # for a minute or more each
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# How each block begins that is not run, and why not.
NOT_RUN = {
    "measures for a quarter of an hour": ["python benchmarks/scaling.py"],
    "installs, or fetches from a registry": [
        "make run",
        "python3 -m venv",
        "pip install",
        "convladder export runs/linear",
    ],
    "needs a cluster; test_predicting_cluster.py has one": [
        "convladder predict runs/fast-1 photos --ray",
        ">>> cl.predict_on",
        ">>> pandas.read",
    ],
    "needs two machines; test_comparing_machines.py writes the second": ["Trained with different versions"],
    "needs a file that one trusts and that is refused; test_inference_cost.py makes some": [
        "convladder predict model.onnx photos --any-cost"
    ],
    "measures for hours": ["make figures"],
    "takes minutes": [
        "convladder compare --seeds 5",
        "convladder compare --seeds 2",
        "convladder train --model linear_head",
        "convladder train --data cifar10",
        "convladder train --data clothes",
        "convladder compare --data clothes",
        "convladder compare --models residual",
        "convladder tune",
        "python benchmarks/page.py",
    ],
    "goes on with a training that was killed; test_training_resuming.py does it": ["convladder train --resume"],
    "needs photographs or weights of one's own; photos.md does the first with those of the package": [
        "convladder train --data photos",
    ],
    "evaluate.md runs it on a smaller network": ["convladder explain runs/transfer-1"],
    "data.md runs it, and shows what it prints": ["convladder audit clothes --learning-curve"],
    "pays on some processors and not on others; test_training_solving.py does it": [
        "convladder export runs/transfer-1 --int8"
    ],
    "takes runs of MNIST; test_reporting_report.py does it with smaller ones": ["convladder report runs"],
    "serves until it is ended; test_serving_application.py, test_serving_server.py and test_serving_learn.py ask it": [
        "convladder serve runs/fast-1",
        "convladder learn",
        "convladder watch runs/pool-1",
        "curl --form",
        "export CONVLADDER_API_KEY",
        "CONVLADDER_API_KEY=",
        '{"model": "fast-1"',
        '{"error": ',
        "import numpy as np, tritonclient",
    ],
    "what a search on 2,000 digits printed": ["trial  differs from the default"],
    "searches for minutes; test_tuning_tune.py does it on fewer images": ["import convladder as cl\n\nfound = cl.tune"],
    "asks that server, or Triton; test_exporting_triton.py runs it": ["import tritonclient.http as triton"],
    "needs a cluster; test_deploy.py checks these and the manifest": [
        "FROM convladder",
        "docker build",
        "apiVersion: monitoring",
        "rules:",
        "metrics:",
    ],
    "is nginx's configuration; test_serving_proxies.py and test_serving_hostile.py run nginx with it": [
        "server {",
        "upstream convladder {",
    ],
    "what make run printed; its figures that are no measurements are tested below": ["rung         epochs"],
}


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def run_console(block: str, page: Path) -> None:
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE):
        words = shlex.split(command)
        assert words[0] == "convladder", f"{page.name} calls {words[0]}"
        stream = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(stream), redirect_stderr(stream):
            patch.setattr("sys.argv", words)
            with pytest.raises(SystemExit):
                cli.main()
        printed = stream.getvalue()
        if not doctest.OutputChecker().check_output(expected.strip() + "\n", printed.strip() + "\n", FLAGS):
            pytest.fail(f"{page.name}: {command} printed\n{printed}\nexpected\n{expected}")


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.long] * (page.name in TRAINING), id=page.name) for page in PAGES],
)
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
def test_every_command_that_is_not_run_takes_its_options(page: Path) -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for language, block in blocks(page):
        for line in re.findall(r"(?:^|&& )(?:\S+/)?convladder (.*)$", block, flags=re.MULTILINE):
            if language == "sh":
                words = shlex.split(line.partition(" && ")[0], comments=True)
                commands[words[0]].make_context(words[0], complete(words[1:]))  # parses, and calls nothing


def test_every_block_that_is_not_run_has_a_reason() -> None:
    begun = [block.strip() for page in PAGES for language, block in blocks(page) if language in ("sh", "text")]
    listed = [beginning for beginnings in NOT_RUN.values() for beginning in beginnings]
    assert [block.splitlines()[0] for block in begun if not block.startswith(tuple(listed))] == []
    assert [beginning for beginning in listed if not any(block.startswith(beginning) for block in begun)] == []


def ladder() -> tuple[list[str], dict[str, dict[str, str]]]:
    """What docs/ladder.md says that `make run` printed: the titles, and by rung its cells under them."""
    (printed,) = (block for language, block in blocks(ROOT / "docs" / "ladder.md") if language == "text")
    head, _, *lines = printed.partition("\n\n")[0].splitlines()
    titles = re.split(r"\s{2,}", head.strip())
    return titles, {cells[0].rstrip(MARK): dict(zip(titles, cells, strict=True)) for cells in map(str.split, lines)}


@pytest.mark.long
def test_the_ladder_s_table_is_that_of_the_present_code() -> None:
    titles, rows = ladder()
    assert list(rows) == suited_rungs(photographs=False)  # what `make run` climbs on MNIST
    recipes = {rung: default_recipe(rung) for rung in rows}
    shown = [key for key in DIFFERING_COLUMNS if key in differing([asdict(recipe) for recipe in recipes.values()])]
    usual, _ = cells_of_comparison([], {})
    assert titles == [usual[0], *(DIFFERING_COLUMNS[key] for key in shown), *usual[1:]]

    def number(row: dict[str, str], title: str) -> float:
        return float(row[title].rstrip("*").replace(",", ""))

    for rung, row in rows.items():
        assert [row[DIFFERING_COLUMNS[key]] for key in shown] == [
            value_in_words(getattr(recipes[rung], key)) for key in shown
        ]
        assert row["rung"].endswith(MARK) == (rung in TUNED)
        model = build_model(rung, (28, 28, 1), 10)
        assert number(row, "parameters") == model.count_params(), rung
        assert number(row, "MACs") == VIEWS[default_recipe(rung).views][1] * count_macs(model), rung
        right = round(10_000 * number(row, "test accuracy"))
        low, high = share_interval(right, 10_000)
        assert row["95 % interval"] == f"{low:.4f}–{high:.4f}", rung
        for title in ("parameters", "MACs"):  # the others are rounded, so that two may look alike
            on_front = not any(
                number(other, "test accuracy") >= number(row, "test accuracy")
                and number(other, title) < number(row, title)
                for other in rows.values()
            )
            assert row[title].endswith("*") == on_front, (rung, title)


def test_the_readme_s_table_is_an_excerpt_of_the_ladder_s() -> None:
    _, rows = ladder()
    readme = (ROOT / "README.md").read_text()
    excerpt = re.findall(r"^\| `(\w+)` \| .* \| (\S+) \| (\S+) \|$", readme, flags=re.MULTILINE)
    assert len(excerpt) == 5
    for rung, accuracy, parameters in excerpt:
        assert (accuracy, parameters) == (rows[rung]["test accuracy"], rows[rung]["parameters"].rstrip("*")), rung


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_option_is_explained() -> None:
    """docs/commands.md names every command; `--help` explains every option."""
    page = (ROOT / "docs" / "commands.md").read_text()
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        assert f"convladder {name}" in page, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
