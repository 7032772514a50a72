"""Comparisons that were ended: the run under way goes on from its checkpoint, and no other is taken for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import convladder as cl
from convladder.comparing.compare import climb
from convladder.comparing.planning import plan
from convladder.comparing.trials import Outcome, run_trial
from convladder.signals import Stopped
from convladder.training import checkpoint
from test_training_resuming import At, assert_same, terminate

BRIEF = replace(cl.DEFAULT, epochs=2, batch_size=32, precision="float32")


def here(callbacks: Any = ()) -> Any:
    """A runner in this process, which has imported TensorFlow already."""

    def run(trials: Any, dataset: cl.Dataset, directory: Path, **_: Any) -> Iterator[Outcome]:
        for trial in trials:
            yield Outcome(trial, cl.Run(run_trial(trial, dataset, directory, callbacks)))

    return run


@pytest.mark.long
def test_the_same_comparison_goes_on_with_the_run_that_was_ended(
    small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = plan(small, ["dense"], lambda *_: BRIEF, seeds=2, deterministic=True)
    whole = [outcome.run for outcome in climb(trials, small, tmp_path / "whole", runner=here())]
    with pytest.raises(Stopped):
        list(climb(trials, small, tmp_path, runner=here([At("on_train_batch_end", 1, terminate)])))
    assert (tmp_path / "dense-1" / checkpoint.FILE).exists()
    other = plan(small, ["dense"], lambda *_: replace(BRIEF, epochs=3), seeds=1, deterministic=True)
    said: list[str] = []
    list(climb(other, small, tmp_path, runner=here(), say=said.append))  # another recipe: a folder of its own
    assert not any("go on" in line for line in said)
    outcomes = list(climb(trials, small, tmp_path, runner=here(), say=said.append))
    assert said[-3] == "1 run will go on from where it was ended: dense, seed 0."
    assert [outcome.run and outcome.run.path.name for outcome in outcomes] == ["dense-1", "dense-3"]
    for outcome, expected in zip(outcomes, whole, strict=True):
        assert outcome.run
        assert expected
        assert_same(outcome.run, expected)
    again = list(climb(trials, small, tmp_path, runner=here([At("on_train_begin", 1, terminate)])))
    assert [outcome.run and outcome.run.path.name for outcome in again] == ["dense-1", "dense-3"]  # all are finished
