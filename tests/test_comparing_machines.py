"""Runs made with other versions or on other machines: compare and the report say in what they differ, and where."""

import contextlib
import html
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import convladder as cl
from convladder import cli
from convladder.comparing.comparison import Comparison
from convladder.comparing.costs import measure_costs
from convladder.comparing.machines import describe_unlike, measured_on, unlike
from convladder.files import write_json
from convladder.reporting.report import write_report
from convladder.training.describing import describe_machine
from convladder.training.recipes import default_recipe_for
from convladder.training.resuming import note_machine

pytestmark = pytest.mark.xdist_group("machines")  # in one process, so that its runs are made once

VERSIONS = (
    "convladder",
    "keras",
    "tensorflow",
    "numpy",
    "scipy",
    "scikit-learn",
    "onnxruntime",
    "pillow",
    "python",
)
OTHER: list[tuple[str, str, Any]] = [
    *(("versions", name, "9.8.7") for name in VERSIONS),
    ("hardware", "processor", "Abacus 3000"),
    ("hardware", "cores", 99),
]
# Of versions that compare takes as its own: others would be trained anew.
REUSED = [one for one in OTHER if one[1] not in ("convladder", "keras", "tensorflow")]


@pytest.fixture(scope="module")
def two(small_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of one rung, as compare makes them."""
    folder = tmp_path_factory.mktemp("two")
    data = cl.load_dataset(small_npz)
    recipe = replace(default_recipe_for("dense", data), epochs=0.2)
    runs = [cl.train("dense", data, recipe, seed=seed, directory=folder, by_folds=False) for seed in (0, 1)]
    for run in runs:
        measure_costs(run, data.test.images)
    write_json(folder / "comparison.json", {"runs": [run.path.name for run in runs], "not_run": []})
    return folder


def change(folder: Path, *changes: tuple[str, str, Any]) -> None:
    """Change what the second run says of its versions and hardware."""
    path = folder / "dense-2" / "run.json"
    info = json.loads(path.read_text())
    for kind, name, value in changes:
        info[kind][name] = value
    write_json(path, info)


@pytest.fixture
def copied(two: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "runs"))


@pytest.fixture(scope="module")
def reported(two: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of two runs that have nothing in common."""
    folder = Path(shutil.copytree(two, tmp_path_factory.mktemp("reported") / "runs"))
    change(folder, *OTHER)
    return write_report(folder, folder / "report.html").read_text()


@pytest.fixture(scope="module")
def printed(two: Path, small_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What compare prints of finished runs that differ in all that it takes for the same."""
    folder = Path(shutil.copytree(two, tmp_path_factory.mktemp("printed") / "runs"))
    change(folder, *REUSED)
    command = ["compare", "--data", str(small_npz), "--models", "dense", "--seeds", "2", "--epochs", "0.2"]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["convladder", *command, "--runs", str(folder)])
        cli.main()
    assert ended.value.code == 0
    assert {path.parent.name for path in folder.glob("*/run.json")} == {"dense-1", "dense-2"}  # nothing is trained
    return " ".join(said.getvalue().split())


def test_run_json_says_all_that_computes() -> None:
    machine = describe_machine()
    assert set(machine["versions"]) == set(VERSIONS)
    assert set(machine["hardware"]) == {"processor", "cores"}


@pytest.mark.long
def test_of_runs_of_one_machine_nothing_is_said(two: Path) -> None:
    comparison = Comparison.load(two)
    assert comparison.content["machines"] == {"training": {}, "costs": {}}
    assert not comparison.machines_in_words


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name", "value"), OTHER, ids=[name for _, name, _ in OTHER])
def test_the_report_says_which(two: Path, reported: str, kind: str, name: str, value: Any) -> None:
    was = str(cl.Run(two / "dense-1").info[kind][name])
    (sentence,) = re.findall(r'<p class="warning">Trained with different (.*)</p>', reported)
    assert f"{name} {was} (<code>dense-1</code>) and {value} (<code>dense-2</code>)" in html.unescape(sentence)
    facts = html.unescape(reported[reported.index('id="again"') :])
    assert was in facts
    assert str(value) in facts


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name", "value"), REUSED, ids=[name for _, name, _ in REUSED])
def test_compare_says_which(two: Path, printed: str, kind: str, name: str, value: Any) -> None:
    assert f"{name} {cl.Run(two / 'dense-1').info[kind][name]} (`dense-1`) and {value} (`dense-2`)" in printed


@pytest.mark.long
def test_what_an_older_run_did_not_record_is_said_too(copied: Path) -> None:
    path = copied / "dense-1" / "run.json"
    info = json.loads(path.read_text())
    del info["versions"]["pillow"]
    write_json(path, info)
    (sentence,) = Comparison.load(copied).machines_in_words
    assert re.search(r"pillow not recorded \(`dense-1`\) and \d+\.[\d.]+ \(`dense-2`\)\.$", sentence)


@pytest.mark.long
def test_runs_of_the_same_name_are_told_apart(copied: Path, two: Path) -> None:
    change(copied, ("versions", "numpy", "9.8.7"))
    runs = (cl.Run(two / "dense-1"), cl.Run(copied / "dense-2"))
    assert Comparison(runs).machines["training"]["numpy"]["9.8.7"] == [f"{copied.name}/dense-2"]


@pytest.mark.long
def test_latency_of_another_machine_is_measured_again(copied: Path, small: cl.Dataset) -> None:
    run = cl.Run(copied / "dense-2")
    costs = run.metrics["costs"]
    run.metrics["costs"] = costs | {"latency_seconds": 123.0, "machine": costs["machine"] | {"processor": "Abacus"}}
    write_json(run.path / "metrics.json", run.metrics)
    (sentence,) = Comparison.load(copied).machines_in_words
    assert sentence.startswith("Latency and throughput measured with different versions or machines: processor ")
    measure_costs(cl.Run(run.path), small.test.images)
    assert cl.Run(run.path).metrics["costs"]["latency_seconds"] < 123
    assert not unlike(Comparison.load(copied).runs, measured_on)
    before = (run.path / "metrics.json").stat().st_mtime_ns
    measure_costs(cl.Run(run.path), small.test.images)
    assert (run.path / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_a_run_that_goes_on_elsewhere_says_so(copied: Path, tmp_path: Path) -> None:
    run = cl.Run(copied / "dense-1")
    here = {key: run.info[key] for key in ("versions", "hardware")}
    there = {"versions": here["versions"] | {"numpy": "9.8.7"}, "hardware": here["hardware"] | {"cores": 99}}
    assert note_machine(run.path, run.info, here) == {}
    with pytest.warns(UserWarning, match=r"dense-1 was trained with numpy .*, not 9\.8\.7; cores \d+, not 99\. It"):
        noted = note_machine(run.path, run.info, there)
    resumed = run.info | noted
    assert note_machine(run.path, resumed, there) == {}
    assert note_machine(run.path, resumed, here) == {}
    write_json(run.path / "run.json", resumed)
    machines = Comparison.load(copied).machines["training"]
    assert machines["cores"] == {str(here["hardware"]["cores"]): ["dense-1", "dense-2"], "99": ["dense-1"]}


def test_of_many_folders_the_first_three_are_named() -> None:
    told = describe_unlike({"numpy": {"2.3": ["a", "b", "c"], "2.4": ["d", "e", "f", "g", "h"]}})
    assert told == "numpy 2.3 (`a`, `b`, `c`) and 2.4 (`d`, `e`, `f` and 2 more)"
