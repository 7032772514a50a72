"""Comparison: what is told apart, what is recommended; real runs that are taken, killed, and interrupted."""

import functools
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.comparing.compare import climb, conclude
from convladder.comparing.comparison import Comparison
from convladder.comparing.costs import TimeBudget
from convladder.comparing.differences import ALIKE, BETTER
from convladder.comparing.local import run_in_processes
from convladder.comparing.planning import plan
from convladder.comparing.trials import Outcome
from convladder.data.cache import cache_folder
from convladder.reporting.report import write_report
from convladder.training.recipes import default_recipe_for
from sharing import take_first
from test_evaluating_significance import simulate

RUNGS = ["dense", "fast"]
QUICK = ["--models", "fast,dense", "--epochs", "2", "--seeds", "2", "--deterministic"]


def quick_recipe(rung: str, dataset: cl.Dataset) -> cl.Recipe:
    return replace(default_recipe_for(rung, dataset), epochs=2)


def imagined_run(rung: str, macs: int, right: np.ndarray) -> cl.Run:
    """A run whose answers are given, without a folder."""
    run = object.__new__(cl.Run)
    run.path = Path(rung)
    run.info = {"rung": rung, "parameters": macs, "macs": macs, "fit_seconds": 1.0}
    run.metrics = {"test": {"images": len(right)}}
    run.predictions = {"labels": np.zeros(len(right), int), "probabilities": np.stack([right, ~right], axis=1)}
    return run


def imagine(rng: np.random.Generator, accuracies: dict[str, float]) -> Comparison:
    """Five seeds a rung; the rungs cost the more the later they are named."""
    return Comparison(
        tuple(
            imagined_run(rung, 1000 * (position + 1), right)
            for position, (rung, accuracy) in enumerate(accuracies.items())
            for right in simulate(rng, accuracy, 0.05, 5, 1000)
        )
    )


@pytest.mark.long
def test_equal_rungs_cannot_be_told_apart_and_the_cheapest_is_recommended() -> None:
    rng = np.random.default_rng(0)
    alike = cheapest = 0
    for _ in range(200):
        comparison = imagine(rng, dict.fromkeys(["dense", "conv", "pool", "batchnorm", "fast"], 0.97))
        alike += all(pair["verdict"] == ALIKE for pair in comparison.pairs)  # none of four, that is
        cheapest += comparison.recommendation["name"] == "dense"
    assert alike >= 190
    assert cheapest >= 190


def test_a_better_rung_is_found_and_a_worse_one_is_not_recommended() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        comparison = imagine(rng, {"dense": 0.90, "conv": 0.97, "pool": 0.97, "fast": 0.97})
        assert comparison.pairs[0]["verdict"] == BETTER
        assert comparison.pairs[0]["words"].startswith("`conv` over `dense`: +")
        assert comparison.recommendation["name"] in ("conv", "pool", "fast")


def test_where_few_seeds_tell_nothing_apart_nothing_is_settled() -> None:
    right = {"dense": (700, 860), "fast": (855, 865)}
    few = [
        imagined_run(rung, macs, np.arange(1000) < count)
        for macs, rung in enumerate(right, start=1)
        for count in right[rung]
    ]
    found = Comparison(tuple(few)).recommendation
    assert (found["name"], found["best"], found["settled"]) == ("dense", "fast", False)
    assert found["words"].startswith("Not settled: `dense`")
    many = imagine(np.random.default_rng(0), {"dense": 0.90, "fast": 0.97}).recommendation
    assert (many["name"], many["settled"]) == ("fast", True)


def test_a_cost_has_the_front_of_those_that_nobody_undercuts() -> None:
    right = np.arange(1000)
    comparison = Comparison(
        tuple(
            imagined_run(rung, macs, right < accuracy)
            for rung, macs, accuracy in [("dense", 1, 900), ("conv", 9, 950), ("pool", 5, 950), ("fast", 7, 940)]
        )
    )
    assert comparison.pareto["macs"] == ["dense", "pool"]
    assert comparison.pareto["latency_seconds"] == []  # not measured
    assert any("one seed" in sentence for sentence in comparison.sentences)


def test_runs_of_other_images_are_refused() -> None:
    with pytest.raises(cl.ConvladderError, match="different images"):
        Comparison((imagined_run("dense", 1, np.ones(9, bool)), imagined_run("conv", 1, np.ones(8, bool))))


@pytest.fixture(scope="module")
def compared(small_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two rungs with two seeds each, not interrupted by anything."""
    directory = tmp_path_factory.mktemp("compared")
    dataset = cl.load_dataset(small_npz)
    trials = plan(dataset, ["fast", "dense"], quick_recipe, seeds=2, deterministic=True)
    assert [(trial.rung, trial.seed) for trial in trials] == [("dense", 0), ("fast", 0), ("dense", 1), ("fast", 1)]
    outcomes = list(climb(trials, dataset, directory))
    comparison = conclude(outcomes, directory)
    assert [outcome.trial.label for outcome in outcomes] == [trial.label for trial in trials]
    return comparison


@pytest.mark.long
def test_a_comparison_has_all_that_its_table_shows(compared: Comparison) -> None:
    content = compared.content
    assert [(row["name"], row["seeds"]) for row in content["models"]] == [("dense", 2), ("fast", 2)]
    for row in content["models"]:
        assert 0 <= row["low"] <= row["test_accuracy"] <= row["high"] <= 1
        assert row["latency_seconds"] > 0
        assert row["images_per_second"] > 0
        assert row["bytes"] == np.mean([(Path(run) / "model.onnx").stat().st_size for run in row["runs"]])
    assert [(pair["lower"], pair["upper"]) for pair in content["pairs"]] == [("dense", "fast")]
    assert {"name", "best", "words"} <= set(content["recommendation"])
    assert content["not_run"] == []


@pytest.mark.long
def test_a_comparison_and_a_run_show_themselves_in_a_notebook(compared: Comparison) -> None:
    page = compared._repr_html_()
    assert page.count("<tr>") == 3
    assert "<script" not in page
    assert f"{compared.rows[1]['test_accuracy']:.4f}" in page
    assert html.escape(compared.recommendation["words"]) in page
    assert f"{compared.runs[0].info['test_accuracy']:.4f}" in compared.runs[0]._repr_html_()


def no_runner(trials: Any, *_: Any, **__: Any) -> Iterator[Outcome]:
    assert not list(trials)
    return iter(())


@pytest.mark.long
def test_what_is_finished_is_taken_and_a_comparison_is_read_back(
    compared: Comparison, small_npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = compared.runs[0].path.parent
    assert Comparison.load(directory).content == compared.content
    dataset = cl.load_dataset(small_npz)

    take = functools.partial(climb, dataset=dataset, directory=directory)
    trials = plan(dataset, RUNGS, quick_recipe, seeds=2, deterministic=True)
    assert [o.run.path.name for o in take(trials, runner=no_runner) if o.run] == [
        "dense-1",
        "fast-1",
        "dense-2",
        "fast-2",
    ]
    # Neither other seeds, nor another recipe, nor other versions of what trains.
    asked: list[str] = []

    def ask(trials: Any, *_: Any, **__: Any) -> Iterator[Outcome]:
        asked.extend(trial.label for trial in trials)
        return iter(())

    list(take(plan(dataset, RUNGS, quick_recipe, seeds=3, deterministic=True), runner=ask))
    assert asked == ["dense, seed 2", "fast, seed 2"]
    asked.clear()

    def change_fast(rung: str, dataset: cl.Dataset) -> cl.Recipe:
        return (default_recipe_for if rung == "fast" else quick_recipe)(rung, dataset)

    list(take(plan(dataset, RUNGS, change_fast, seeds=1, deterministic=True), runner=ask))
    list(take(trials[:1], runner=ask, fresh=True))
    monkeypatch.setattr("keras.__version__", "3.99.0")
    list(take(trials[:1], runner=ask))
    assert asked == ["fast, seed 0", "dense, seed 0", "dense, seed 0"]


@pytest.mark.long
def test_a_killed_comparison_goes_on_and_ends_with_the_same_table(
    compared: Comparison, small_npz: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "convladder", "compare", "--data", str(small_npz), "--runs", "runs", *QUICK]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not finished(tmp_path / "runs"):
        assert process.poll() is None
        time.sleep(0.02)  # until it is in the middle
    process.kill()
    process.wait()
    kept = finished(tmp_path / "runs")
    assert 1 <= len(kept) < 4
    again = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"{len(kept)} of 4 runs are there already" in again.stderr
    assert finished(tmp_path / "runs").items() >= kept.items()
    content = json.loads(again.stdout)
    for row, expected in zip(content["models"], compared.rows, strict=True):
        assert sorted(row["runs"])[0].startswith("runs")
        same = ("name", "seeds", "test_accuracy", "low", "high", "validation_accuracy", "parameters", "macs")
        assert [row[key] for key in same] == [expected[key] for key in same]
    assert len(finished(tmp_path / "runs")) == 4  # nothing was repeated


def finished(directory: Path) -> dict[str, str]:
    """Of each finished run, when it began."""
    infos = [json.loads(path.read_text()) for path in directory.glob("*/run.json")]
    return {f"{i['rung']} {i['seed']}": i["started"] for i in infos if i["status"] == "finished"}


@pytest.mark.long
def test_ctrl_c_ends_everything_and_leaves_whole_files(small_npz: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convladder", "compare", "--data", str(small_npz), "--models", "dense"]
    process = subprocess.Popen(
        [*command, "--epochs", "10000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (a background job ignores it)
    )
    assert process.stderr is not None
    while "epoch 3" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, told = process.communicate()
    assert process.returncode == 130
    assert output == ""
    assert "Interrupted. runs/dense-1 holds the best weights so far." in told
    run = cl.Run(tmp_path / "runs" / "dense-1")
    assert run.info["status"] == "interrupted"
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoint.npz",
        "film.npz",
        "history.csv",
        "model.keras",
        "run.json",
    ]
    assert run.load_model().count_params() == run.info["parameters"]


@pytest.mark.long
def test_a_run_that_is_killed_costs_that_run_alone(small_npz: Path, tmp_path: Path) -> None:
    class Killer(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            os.kill(newest_descendant(os.getpid()), signal.SIGKILL)

    dataset = cl.load_dataset(small_npz)
    trials = plan(dataset, RUNGS, quick_recipe, seeds=1)
    said: list[str] = []
    outcomes = list(
        climb(
            trials,
            dataset,
            tmp_path,
            look_on=lambda label: [Killer()] if label.startswith("dense") else [],
            say=said.append,
        )
    )
    assert [(outcome.failed, outcome.run is None) for outcome in outcomes] == [(True, True), (False, False)]
    assert "its process was killed" in said[1]
    assert said[2].startswith("About ")  # what is left; and not that the run which failed were done
    comparison = conclude(outcomes, tmp_path)
    assert [(gone["name"], gone["seed"], gone["failed"]) for gone in comparison.not_run] == [("dense", 0, True)]
    assert "Missing: `dense`, seed 0" in comparison.sentences[-1]


@pytest.mark.long
def test_a_run_is_the_same_whatever_its_process_did_before(small: cl.Dataset, tmp_path: Path) -> None:
    few = take_first(small, 400, 100, 100)
    (trial,) = plan(few, ["regularized"], brief_recipe, seeds=1, deterministic=True)
    trials = [trial, *plan(few, ["fast"], brief_recipe, seeds=1, deterministic=True), trial]
    seen, outcomes = watch_processes(trials, few, tmp_path)
    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    assert len(set(seen)) == 1
    one, _, again = (outcome.run for outcome in outcomes)
    assert one
    assert again
    assert same_network(one, again)


@pytest.mark.long
def test_a_run_of_a_comparison_equals_the_same_run_alone(small_npz: Path, tmp_path: Path) -> None:
    given = ["--data", str(small_npz), "--epochs", "0.2", "--deterministic"]
    for words in (["compare", "--models", "dense,regularized"], ["train", "--model", "regularized", "--runs", "alone"]):
        subprocess.run([sys.executable, "-m", "convladder", *words, *given], cwd=tmp_path, check=True)
    assert same_network(cl.Run(tmp_path / "runs" / "regularized-1"), cl.Run(tmp_path / "alone" / "regularized-1"))


@pytest.mark.long
def test_what_a_run_changes_for_good_is_not_passed_on(small: cl.Dataset, tmp_path: Path) -> None:
    """TensorFlow's determinism, and what the C library does with freed memory when `finetune` has told it."""
    few = take_first(small, 60, 60, 60)
    trials = [
        *plan(few, ["dense"], brief_recipe, seeds=1, deterministic=True),
        *plan(few, ["dense", "finetune"], brief_recipe, seeds=1),
        *plan(few, ["fast"], brief_recipe, seeds=1),  # apart, because a plan has the order of the ladder
    ]
    seen, outcomes = watch_processes(trials, few, tmp_path)
    assert [outcome.error for outcome in outcomes] == [""] * 4
    assert seen[0] != seen[1]
    assert seen[1] == seen[2]
    assert seen[2] != seen[3]


@pytest.mark.long
def test_a_process_that_ends_between_two_runs_costs_none(small: cl.Dataset, tmp_path: Path) -> None:
    outcomes = run_in_processes(
        plan(small, ["dense", "fast"], brief_recipe, seeds=1), small, tmp_path, look_on=lambda _: (), say=print
    )
    assert next(outcomes).run
    os.kill(newest_descendant(os.getpid()), signal.SIGKILL)
    assert next(outcomes).run
    assert next(outcomes, None) is None
    assert newest_descendant(os.getpid()) == os.getpid()


def brief_recipe(rung: str, dataset: cl.Dataset) -> cl.Recipe:
    return replace(default_recipe_for(rung, dataset), epochs=0.2)


def watch_processes(trials: Any, dataset: cl.Dataset, directory: Path) -> tuple[list[int], list[Outcome]]:
    """The process that each run takes place in, and what becomes of it."""
    seen: list[int] = []

    class Look(keras.callbacks.Callback):  # type: ignore[misc]
        def on_scoring_begin(self, logs: Any = None) -> None:
            seen.append(newest_descendant(os.getpid()))

    return seen, list(run_in_processes(trials, dataset, directory, look_on=lambda _: [Look()], say=print))


def same_network(first: cl.Run, second: cl.Run) -> bool:
    """Whether they have the same weights, bit for bit, and the same names of layers."""
    one, other = first.load_model(), second.load_model()
    same = [np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True)]
    return all(same) and one.to_json() == other.to_json()


@pytest.mark.long
def test_a_folder_of_pictures_is_compared(mnist: cl.Dataset, tmp_path: Path) -> None:
    for digit in (3, 8):
        (tmp_path / "digits" / str(digit)).mkdir(parents=True)
        for number, image in enumerate(mnist.train.images[mnist.train.labels == digit][:150]):
            Image.fromarray(image[..., 0]).save(tmp_path / "digits" / str(digit) / f"{number}.png")
    command = [sys.executable, "-m", "convladder", "compare", "--data", "digits", "--models", "dense"]
    finished = subprocess.run(
        [*command, "--epochs", "4", "--batch-size", "16", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "300 files: 300 pictures" in finished.stderr
    rows = json.loads(finished.stdout)["models"]
    assert [row["name"] for row in rows] == ["dense"]
    run = cl.Run(tmp_path / rows[0]["runs"][0])
    assert run.info["class_names"] == ["3", "8"]
    assert run.info["images"] == {"train": 234, "validation": 22, "test": 44}
    assert rows[0]["test_accuracy"] > 0.7
    assert run.load_dataset().fingerprint == run.info["fingerprint"]


def newest_descendant(process: int) -> int:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ours = [int(child) for child in children if b"convladder" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return newest_descendant(ours[-1]) if ours else process


@pytest.mark.long
def test_a_budget_starts_what_fits_and_names_the_rest(small: cl.Dataset, tmp_path: Path) -> None:
    trials = plan(small, ["dense", "conv"], default_recipe_for, seeds=2)
    budget = TimeBudget(small, minutes=1)
    assert budget.seconds(trials[1]) > budget.seconds(trials[0])
    budget.learn(trials[0], 15.0)
    budget.learn(trials[1], 66.5)  # with start and report from 92 to 149 s, by whatever measures it
    skipped: list[Any] = []
    assert list(budget.select(trials[2:], skipped)) == [trials[2]]
    assert skipped == [trials[3]]
    assert "about 2 minutes" in budget.foresee(trials[2:])
    with pytest.raises(cl.ConvladderError, match=r"would not have fitted into 0\.01 minutes"):
        conclude(climb(trials, small, tmp_path, minutes=0.01), tmp_path)


@pytest.mark.long
def test_a_run_that_has_not_ended_in_time_is_ended_and_named(small: cl.Dataset, tmp_path: Path) -> None:
    trials = plan(small, ["dense"], lambda *_: replace(cl.DEFAULT, epochs=100_000), seeds=1)
    started = tmp_path / "dense-1" / "run.json"
    outcomes = run_in_processes(trials, small, tmp_path, look_on=lambda _: (), say=lambda _: None, late=started.exists)
    (outcome,) = outcomes
    assert (outcome.run, outcome.failed) == (None, False)
    assert outcome.error == "had not ended when the minutes were over"
    assert json.loads(started.read_text(encoding="utf-8"))["status"] == "interrupted"


def test_what_failed_teaches_nothing_of_how_long_a_run_takes(small: cl.Dataset, tmp_path: Path) -> None:
    def fails(trials: Any, *_: Any, **__: Any) -> Iterator[Outcome]:
        for trial in trials:
            yield Outcome(trial, error="failed at once", failed=True)

    said: list[str] = []
    trials = plan(small, ["dense"], lambda *_: replace(cl.DEFAULT, epochs=50_000), seeds=2)
    list(climb(trials, small, tmp_path, runner=fails, say=said.append))
    first, after = (re.search(r"bout (\d+) minutes", line) for line in said[:2])
    assert first
    assert after
    assert int(after[1]) > int(first[1]) / 3  # half of them are left, and not a second


def test_with_little_time_the_quickest_come_first_and_no_second_seed_before_them(small: cl.Dataset) -> None:
    trials = plan(small, ["dense", "conv", "pool"], default_recipe_for, seeds=2)
    budget = TimeBudget(small, minutes=3)
    for trial, seconds in zip(trials, (30.0, 20.0, 10.0), strict=False):
        budget.learn(trial, seconds)
    ordered = budget.quickest_first(trials)
    assert [(trial.rung, trial.seed) for trial in ordered] == [
        (rung, seed) for seed in (0, 1) for rung in ("pool", "conv", "dense")
    ]


@pytest.mark.long
def test_a_short_run_corrects_the_estimate_of_a_long_one_by_little(small: cl.Dataset) -> None:
    (dense, conv) = plan(small, ["dense", "conv"], lambda *_: replace(cl.DEFAULT, epochs=50), seeds=1)
    budget = TimeBudget(small, None)
    before, told = budget.seconds(conv), budget.seconds(dense)
    budget.learn(dense, 5 * told)
    assert before < budget.seconds(conv) < 4 * before


@pytest.mark.long
def test_the_estimate_grows_with_the_work(small: cl.Dataset, mnist: cl.Dataset) -> None:
    (dense, conv) = plan(small, ["dense", "conv"], default_recipe_for, seeds=1)
    assert TimeBudget(small, None).seconds(conv) < TimeBudget(mnist, None).seconds(conv)
    assert TimeBudget(mnist, None).seconds(dense) < TimeBudget(mnist, None).seconds(conv)


@pytest.mark.long
def test_pictures_that_are_not_kept_are_compared(mnist: cl.Dataset, tmp_path: Path) -> None:
    """They lie in a file without a name, which the process that trains cannot open."""
    folder = tmp_path / "digits"
    for label in (0, 1):
        (folder / str(label)).mkdir(parents=True)
        for number, image in enumerate(mnist.train.images[mnist.train.labels == label][:30, ..., 0]):
            Image.fromarray(image).save(folder / str(label) / f"{number}.png")
    root = cache_folder()
    assert root is not None
    kept = set(root.glob("*"))
    dataset = cl.load_dataset(folder, cache=False)
    comparison = cl.compare(dataset, "dense", quick_recipe, directory=tmp_path / "runs")
    assert [(run.info["rung"], run.info["status"]) for run in comparison.runs] == [("dense", "finished")]
    write_report(comparison, tmp_path / "report.html")
    cl.evaluate(comparison.runs[0], data=folder)
    assert set(root.glob("*")) == kept


def test_minutes_out_of_range_are_refused_by_name(small: cl.Dataset) -> None:
    with pytest.raises(cl.ConvladderError, match="minutes"):
        TimeBudget(small, minutes=0)
