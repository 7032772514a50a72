"""Learned nothing: said of a network that does not beat the constant answer, with the cause; and never recommended."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import convladder as cl
from convladder.comparing.comparison import Comparison
from convladder.evaluating.learned import beside_constant, likely_cause, set_beside_constant
from convladder.evaluating.metrics import describe_predictions
from convladder.reporting import tables
from convladder.reporting.report import write_report


def judge(labels: Sequence[int], taken: Sequence[int]) -> Any:
    """Of answers, by what `describe_predictions` says of them."""
    classes = max(*labels, *taken) + 1
    probabilities = np.eye(classes, dtype=np.float32)[list(taken)]
    test = describe_predictions(probabilities, np.array(labels, np.int64), [f"class {n}" for n in range(classes)])
    found = beside_constant(test)
    counts = (np.bincount(numbers, minlength=classes).tolist() for numbers in (labels, taken))
    assert found == set_beside_constant(int((np.array(labels) == np.array(taken)).sum()), *counts)
    return found


def answers(labels: Sequence[int], right: int) -> list[int]:
    """Right on so many of the labels, spread over them, and wrong on the others."""
    rows = np.random.default_rng(0).permutation(len(labels))
    taken = np.array(labels)
    taken[rows[right:]] = (taken[rows[right:]] + 1) % (max(labels) + 1)
    return [int(one) for one in taken]


BALANCED = [n % 5 for n in range(100)]
RARE = [0] * 990 + [1] * 10


@pytest.mark.parametrize(
    ("labels", "taken", "beats", "nothing"),
    [
        (BALANCED, answers(BALANCED, 95), True, False),
        (BALANCED, answers(BALANCED, 40), True, False),
        (BALANCED, answers(BALANCED, 20), False, True),  # as by guessing
        (BALANCED, answers(BALANCED, 22), False, True),  # by luck a little more
        (BALANCED, answers(BALANCED, 2), False, True),
        (BALANCED, [3] * 100, False, True),  # always the same
        (RARE, [0] * 1000, False, True),
        ([0] * 45 + [1] * 5, [0] * 50, False, True),
        (RARE, [0] * 961 + [1] * 39, False, False),  # finds all of the rare ones, at the price of 29 others
        ([0, 0, 1], [0, 0, 1], None, False),  # three pictures tell nothing
        ([0, 0, 1], [0, 0, 0], None, False),
        ([0, 1, 2], [0, 1, 2], True, False),  # but all three of three classes by chance once in 27 times
        ([0, 0, 1], [1, 1, 0], False, True),
        ([0] * 27 + [1] * 3, [0] * 26 + [1] * 4, None, False),
        ([0] * 50, [0] * 49 + [1], None, False),  # of one class: nothing to beat
        ([0] * 50, [0] * 20 + [1] * 30, None, False),
    ],
)
def test_what_beats_the_constant_answer_and_what_has_learned_nothing(
    labels: list[int], taken: list[int], beats: bool | None, nothing: bool
) -> None:
    found = judge(labels, taken)
    assert (found.beats, found.nothing) == (beats, nothing)
    names = [f"class {number}" for number in range(5)]
    assert bool(found.words(names)) == (beats is False)
    assert found.words(names).startswith("Learned nothing") == nothing
    assert "Learned nothing" not in found.words(names, own=False)


def test_chance_is_rarely_taken_for_skill_and_skill_hardly_ever_for_nothing() -> None:
    rng = np.random.default_rng(0)
    for images, classes in ((20, 2), (60, 5), (500, 10), (10_000, 10)):
        learned = accused = 0
        for _ in range(300):
            labels = rng.integers(0, classes, images)
            counts = np.bincount(labels, minlength=classes).tolist()
            guessed = rng.integers(0, classes, images)
            learned += (
                set_beside_constant(
                    int((guessed == labels).sum()), counts, np.bincount(guessed, minlength=classes).tolist()
                ).beats
                is True
            )
            good = np.where(rng.random(images) < 0.9, labels, guessed)
            accused += set_beside_constant(
                int((good == labels).sum()), counts, np.bincount(good, minlength=classes).tolist()
            ).nothing
        assert learned <= 20  # of 300: 5 % are 15
        assert accused <= 4


@pytest.mark.parametrize("right", range(0, 101, 7))
def test_it_is_the_exact_binomial_test(right: int) -> None:
    expected = binomtest(right, 100, 0.2, "greater").pvalue <= 0.05
    assert (judge(BALANCED, answers(BALANCED, right)).beats is True) == expected


@pytest.mark.parametrize(
    ("recipe", "fitted", "said"),
    [
        ({"epochs": 0.1}, 0.12, "too few training steps, 1: use more --epochs"),
        ({"epochs": 3}, 0.12, "too few training steps, 23: use more"),
        ({"epochs": 3, "learning_rate": 5.0}, 0.12, "learning rate that is too high, 5: try --learning-rate 0.5"),
        ({"epochs": 100}, 0.12, "learning rate that is too high, 0.006: try --learning-rate 0.0006. Or the labels"),
        ({"epochs": 100}, 0.98, "accuracy on the training images is 0.98"),
    ],
)
def test_the_likely_cause_is_named(recipe: dict[str, Any], fitted: float, said: str) -> None:
    made = vars(replace(cl.DEFAULT, **recipe))
    rows = [{"accuracy": fitted}] * max(1, int(made["epochs"]))
    assert said in likely_cause({"rung": "pool", "recipe": made, "images": {"train": 2000}}, rows, 0.11)


@pytest.fixture(scope="module")
def runs(run: cl.Run, small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, cl.Run]:
    """One that learns, one whose learning rate is far too high, one of a single step of no size."""
    directory = tmp_path_factory.mktemp("learned")
    wild = replace(cl.DEFAULT, epochs=2, learning_rate=30.0, one_cycle=False, precision="float32")
    still = replace(cl.DEFAULT, epochs=0.01, learning_rate=1e-9, one_cycle=False, precision="float32")
    return {
        "good": run,
        "wild": cl.train("dense", small, wild, directory=directory),
        "still": cl.train("conv", small, still, directory=directory),
    }


@pytest.mark.long
def test_a_run_that_learned_nothing_says_so_everywhere(runs: dict[str, cl.Run], tmp_path: Path) -> None:
    assert [run.info["learned_nothing"] for run in runs.values()] == [False, True, True]
    assert runs["good"].no_better == ""
    assert "learning rate that is too high, 30: try --learning-rate 3" in runs["wild"].no_better
    assert "too few training steps, 1:" in runs["still"].no_better
    without = cl.Run(shutil.copytree(runs["still"].path, tmp_path / "without"))
    (without.path / "history.csv").unlink()  # as while its first epoch goes on
    assert without.no_better.startswith("Learned nothing")
    for name, run in runs.items():
        result = cl.evaluate(run)
        assert result["beats_constant"] == (name == "good")
        assert result["no_better"] == run.no_better
        assert ("Learned nothing" in "\n".join(map(str, tables.of_evaluation(result)))) == (name != "good")
    page = write_report(runs["wild"].path, tmp_path / "one.html").read_text(encoding="utf-8")
    assert "Learned nothing" in page
    assert "Take <strong>" not in page


@pytest.mark.long
def test_what_learned_nothing_is_never_recommended(runs: dict[str, cl.Run], tmp_path: Path) -> None:
    comparison = Comparison((runs["wild"], runs["still"], runs["good"]))
    found = comparison.recommendation
    assert (found["name"], found["best"], found["take"]) == ("fast", "fast", "fast")
    assert found["alike"] == ["fast"]
    assert all(front in ([], ["fast"]) for front in comparison.pareto.values())
    said = [sentence for sentence in comparison.sentences if "Learned nothing" in sentence]
    assert [sentence.split("`")[1] for sentence in said] == ["dense", "conv"]
    titles, cells = tables.cells_of_comparison(comparison.rows, comparison.pareto)
    accuracy = titles.index("test accuracy")
    assert [row[accuracy].endswith("learned nothing") for row in cells] == [True, True, False]
    page = write_report(comparison, tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Learned nothing") == 2
    assert "Take <strong>fast</strong>" in page


@pytest.mark.long
def test_where_all_learned_nothing_none_is_recommended(runs: dict[str, cl.Run], tmp_path: Path) -> None:
    comparison = Comparison((runs["wild"], runs["still"]))
    found = comparison.recommendation
    assert (found["name"], found["take"], found["settled"]) == (None, None, False)
    assert found["words"].startswith("Recommended: none.")
    assert found["words"] in comparison.sentences
    assert json.loads(json.dumps(comparison.content))["recommendation"]["take"] is None
    page = write_report(comparison, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Take none of them" in page
    assert "take this" not in page
    assert 'class="recommended"' not in page


def test_the_line_of_train_says_it(convladder: Any, small_npz: Path) -> None:
    given = ["--data", small_npz, "--model", "dense", "--epochs", 0.01, "--learning-rate", "1e-9"]
    (line,) = convladder("train", *given).out.splitlines()
    assert "test accuracy" in line
    assert "Learned nothing: always answering" in line
    assert "too few training steps, 1: use more --epochs" in line
