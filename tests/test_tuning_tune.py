"""Searches: killed and called again, shared by processes, and honest about luck. Trials are real, on 300 digits."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

import convladder as cl
from convladder.data.dataset import Split
from convladder.errors import ConvladderError
from convladder.reporting.repeating import facts_of
from convladder.signals import Stopped
from convladder.training.recipes import default_recipe_for
from convladder.tuning import studies
from convladder.tuning.jobs import Job, Parts
from convladder.tuning.space import Space, make_space
from convladder.tuning.studies import newest, open_storage, open_study, pack, unpack
from convladder.tuning.tune import Plan, search
from convladder.tuning.tuned import Tuned
from convladder.tuning.work import work
from databases import PASSWORD, PostgreSQL, serve_postgresql
from test_comparing_resuming import here as run_here

pytestmark = pytest.mark.xdist_group("tuning")  # in one process, so that its search is made once

FIXED: dict[str, Any] = {"epochs": 1.0, "batch_size": 32, "augment": "none", "precision": "float32"}


@pytest.fixture(scope="module")
def digits(small: cl.Dataset) -> cl.Dataset:
    def first(split: Split, count: int) -> Split:
        return Split(split.images[:count], split.labels[:count])

    return replace(
        small, train=first(small.train, 200), validation=first(small.validation, 60), test=first(small.test, 40)
    )


def space_of(data: cl.Dataset, *rungs: str, **choices: Any) -> Space:
    def recipe_for(rung: str, data: cl.Dataset) -> cl.Recipe:
        return replace(default_recipe_for(rung, data), **FIXED)

    return make_space(data, rungs, recipe_for, fixed=FIXED, choices=choices)


class Here:
    """A carrier in this process, which has imported TensorFlow already; `stop` ends it after so many trials."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.done = stop, 0
        self.tested: set[int] = set()

    def __call__(self, jobs: Iterator[Job | None], parts: Parts, **_: Any) -> Iterator[None]:
        self.tested |= {len(data.test) for data in parts.values()}
        for job in jobs:
            if self.done == self.stop:
                raise Stopped(2)
            assert job is not None
            work(parts, lambda *_: None, job)
            self.done += 1
            yield


@pytest.fixture(scope="module")
def tuned(digits: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, list[str], Here]:
    """A search of two trials that was stopped after the first one, and again among the other seeds."""
    plan = Plan(space_of(digits, "dense"), tmp_path_factory.mktemp("tuned"), trials=2, seeds=2)
    said: list[str] = []
    for stop in (1, 3):
        with pytest.raises(Stopped):
            search(plan, digits, carrier=Here(stop), runner=run_here())
    carrier = Here()
    return search(plan, digits, carrier=carrier, runner=run_here(), say=said.append), said, carrier


@pytest.mark.long
def test_a_search_that_was_ended_goes_on_and_repeats_nothing(tuned: tuple[Tuned, list[str], Here]) -> None:
    found, said, carrier = tuned
    assert said[0].startswith("2 of 2 trials are there already, in sqlite:///")
    assert carrier.done == 2 * 2 - 2  # two of the four other seeds were there
    assert [row["state"] for row in found.trials] == ["done"] * 2
    assert [row["seeds"] for row in found.best] == [2, 2]


@pytest.mark.long
def test_the_default_is_trial_0_and_what_is_tried_differs_from_it(tuned: tuple[Tuned, list[str], Here]) -> None:
    found, _, _ = tuned
    assert found.trials[0]["differs"] == {}
    for row in found.trials[1:]:
        assert set(row["differs"]) <= {"learning_rate", "weight_decay", "label_smoothing", "hidden"}
        assert 16 <= row["differs"].get("hidden", 32) <= 64


@pytest.mark.long
def test_trials_get_no_test_images_and_what_is_named_is_a_run_that_says_where_it_came_from(
    tuned: tuple[Tuned, list[str], Here], digits: cl.Dataset
) -> None:
    found, _, carrier = tuned
    assert carrier.tested == {0}
    assert found.run is not None
    (folder,) = found.run.path.parent.glob("*/run.json")  # of all that was trained, one was tested
    assert folder.parent == found.run.path
    by = found.run.info["tuned_by"]
    assert (by["study"], by["trial"], by["trials"]) == ("dense", found.named, 2)
    assert found.run.info["seed"] not in (0, 1, 2)
    assert found.run.metrics["test"]["images"] == len(digits.test)
    assert found.content["test_accuracy"] == found.run.info["test_accuracy"]
    assert f"dense, seed 3: {found.sentences[0]}" in dict(facts_of([found.run]))["found by a search"]


def answers(rng: np.random.Generator, accuracy: float, images: int = 10_000) -> str:
    return pack(rng.random(images) < accuracy)


def imagine(digits: cl.Dataset, searched: list[float], anew: list[float], seeds: int = 4) -> Tuned:
    """A search whose trials had these accuracies, and then others with new seeds."""
    rng, space = np.random.default_rng(0), space_of(digits, "dense")
    parameters = [space.default_parameters("dense") | {"dense.hidden": 32 + number} for number in range(len(searched))]

    def trial(number: int, accuracy: float, params: dict[str, Any], **attributes: Any) -> FrozenTrial:
        right = answers(rng, accuracy)
        made = optuna.create_trial(
            value=float(unpack(right).mean()),
            params=params,
            distributions={
                name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()
            },
            user_attrs={"right": right, "seconds": 1.0} | attributes,
        )
        made.number = number
        return made

    first = [
        trial(number, accuracy, parameters[number], **({} if number else {"default": "dense"}))
        for number, accuracy in enumerate(searched)
    ]
    again = [
        trial(seed * len(anew) + number, accuracy, {}, anew={"parameters": parameters[number], "seed": seed})
        for seed in range(seeds)
        for number, accuracy in enumerate(anew)
    ]
    return Tuned("imagined", space, first, again)


def test_a_lead_that_new_seeds_do_not_confirm_is_luck_and_the_default_is_named(digits: cl.Dataset) -> None:
    found = imagine(digits, [0.90, 0.94], [0.90, 0.90])
    assert found.named == 0
    assert found.sentences[0].startswith("Nothing beats the default beyond the spread of seeds and images: take it")
    best = found.best[1]
    right = [
        unpack(trial.user_attrs["right"])
        for trial in found.anew
        if trial.user_attrs["anew"]["parameters"]["dense.hidden"] == 33
    ]
    assert best["luck"] == pytest.approx(best["search_accuracy"] - np.mean(right))
    assert best["luck_low"] > 0
    assert "of it were luck" in found.sentences[1]


def test_a_lead_that_new_seeds_confirm_is_named_with_its_interval(digits: cl.Dataset) -> None:
    found = imagine(digits, [0.80, 0.95, 0.70, 0.69, 0.68], [0.80, 0.95, 0.70, 0.69, 0.68])
    assert found.finalists == [0, 1, 2, 3]
    assert found.named == 1
    assert found.lead is not None
    assert found.lead["low"] > 0
    assert found.sentences[0].startswith("Take trial 1 (dense, hidden 33): ")
    assert "all 3 finalists" in found.lead["level"]


def test_a_finalist_that_new_seeds_make_better_was_not_lucky(digits: cl.Dataset) -> None:
    found = imagine(digits, [0.80, 0.90], [0.80, 0.95])
    assert found.best[1]["luck"] < 0
    assert found.sentences[1].endswith("with new seeds, which took nothing away.")


def test_without_the_other_seeds_nothing_is_named(digits: cl.Dataset) -> None:
    found = imagine(digits, [0.80, 0.95], [0.80, 0.95], seeds=1)
    assert (found.named, found.lead) == (None, None)
    assert found.sentences[0].startswith("Nothing is named: the minutes were over")


def test_the_best_of_many_equal_trials_is_hardly_ever_named(digits: cl.Dataset) -> None:
    """The search takes the luckiest of thirty; the other seeds do not."""
    rng = np.random.default_rng(1)
    named = 0
    for _ in range(40):
        luck = sorted(rng.normal(0.9, 0.01, 30), reverse=True)[:3]
        found = imagine(digits, [0.9, *luck], [0.9] * 4, seeds=3)
        named += found.named != 0
    assert named <= 6


@pytest.mark.long
def test_a_hopeless_trial_is_pruned_and_an_impossible_one_says_why(digits: cl.Dataset, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/tune.db"
    study = open_study(open_storage(place), "dense")
    space = replace(space_of(digits, "dense"))
    longer = replace(space.defaults["dense"], recipe=replace(space.defaults["dense"].recipe, epochs=4.0))
    space = Space({"dense": longer}, space.ranges)
    for _ in range(6):
        study.add_trial(optuna.create_trial(value=0.99, intermediate_values=dict.fromkeys((2, 5, 7), 0.99)))
    study.enqueue_trial(space.default_parameters("dense"))
    work({"dense": digits}, lambda *_: None, Job(place, "dense", space, 0, 9))
    hopeless = study.trials[6]
    assert hopeless.state is TrialState.PRUNED
    assert "error" not in hopeless.user_attrs
    assert max(hopeless.intermediate_values) == 5  # half of the training was enough to see it
    tiny = replace(digits, train=cut(digits.train), validation=cut(digits.validation), test=cut(digits.test))
    pooled = space_of(tiny, "pool")
    study = open_study(open_storage(place), "pool")
    study.enqueue_trial(pooled.default_parameters("pool") | {"pool.pool_size": 4})
    work({"pool": tiny}, lambda *_: None, Job(place, "pool", pooled, 0, 9))
    assert study.trials[0].state is TrialState.PRUNED
    assert "pooling window" in study.trials[0].user_attrs["error"]


def cut(split: Split) -> Split:
    return Split(np.ascontiguousarray(split.images[:, 10:18, 10:18]), split.labels)


KILLED = """
import os, signal, sys
from convladder.engine import import_engine
import_engine()
sys.path.insert(0, sys.argv[1])
import test_tuning_tune as test
from convladder.data.loading import load_dataset
from convladder.tuning import studies
from convladder.tuning.jobs import Job
from convladder.tuning.tune import _enqueue_defaults
from convladder.tuning.work import work
studies.SECONDS_A_BEAT, studies.SECONDS_TO_LIVE = 1, 3
data = load_dataset(sys.argv[2])
space = test.space_of(data, "dense")
_enqueue_defaults(studies.open_study(studies.open_storage(sys.argv[3]), "dense"), space)
def tell(word, content):
    if word == "event" and content[0] == "on_train_batch_end":
        os.kill(os.getpid(), signal.SIGKILL)
work({"dense": data}, tell, Job(sys.argv[3], "dense", space, 0, 2))
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_trial_that_was_killed_is_carried_out_again_with_its_parameters(
    kind: str, digits: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (x_train, y_train), (x_test, y_test) = digits.train, digits.test
    np.savez(tmp_path / "digits.npz", x_train=x_train[..., 0], y_train=y_train, x_test=x_test[..., 0], y_test=y_test)
    place = f"sqlite:///{tmp_path}/tune.db" if kind == "sqlite" else str(tmp_path / "tune.journal")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "digits.npz"), place],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -9, ended.stderr
    monkeypatch.setattr(studies, "SECONDS_A_BEAT", 1)
    monkeypatch.setattr(studies, "SECONDS_TO_LIVE", 3)
    study = open_study(open_storage(place), "dense")
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    data = cl.load_dataset(tmp_path / "digits.npz")
    space, jobs = space_of(data, "dense"), Job(place, "dense", space_of(data, "dense"), 0, 2)
    while len([trial for trial in newest(study.trials) if trial.state is TrialState.COMPLETE]) < 2:
        studies.fail_stale(study)
        waiting = any(trial.state is TrialState.WAITING for trial in study.trials)
        if waiting or len(newest(study.trials)) < 2:
            work({"dense": data}, lambda *_: None, jobs)
    first, second = newest(study.trials)
    assert len(study.trials) == 3  # the one that was killed, it again, and the second
    assert study.trials[0].state is TrialState.FAIL
    assert first.params == space.default_parameters("dense")
    assert second.params != first.params


def test_a_process_that_died_before_its_first_heartbeat_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(open_storage(f"sqlite:///{tmp_path}/tune.db"), "dense")
    with pytest.warns(UserWarning, match="Heartbeat"):
        study.ask()
    studies.fail_stale(study)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    monkeypatch.setattr(studies, "SECONDS_TO_LIVE", -1)
    studies.fail_stale(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.long
def test_a_trial_that_another_process_has_failed_and_not_yet_had_wait_is_waited_for(
    digits: cl.Dataset, tmp_path: Path
) -> None:
    said: list[str] = []
    waited: list[str] = []

    def between(jobs: Iterator[Job | None], parts: Parts, **_: Any) -> Iterator[None]:
        job = next(jobs)
        assert job is not None
        study = open_study(open_storage(job.place), job.study)
        with pytest.warns(UserWarning, match="Heartbeat"):
            trial = study.ask()  # of the search the default
        study.tell(trial.number, state=TrialState.FAIL)
        for other in jobs:
            if other is None:
                waited.append(job.study)
                studies.retry(study, trial.number)
            else:
                work(parts, lambda *_: None, other)
            yield

    plan = Plan(space_of(digits, "dense"), tmp_path, trials=2, seeds=2)
    found = search(plan, digits, carrier=between, runner=run_here(), say=said.append)
    assert waited == ["dense", "dense anew"]
    assert [row["state"] for row in found.trials] == ["done"] * 2
    assert [row["seeds"] for row in found.best] == [2, 2]
    assert len([line for line in said if "dense, " in line and "Named" not in line]) == 2 + 2 * 2
    assert not [line for line in said if "failed" in line]


def test_a_trial_that_was_failed_by_a_process_that_then_died_waits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(open_storage(f"sqlite:///{tmp_path}/tune.db"), "dense")
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs={"error": "it crashed"}))
    studies.fail_stale(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2
    monkeypatch.setattr(studies, "SECONDS_TO_LIVE", -1)
    studies.fail_stale(study)
    studies.fail_stale(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2 + [TrialState.WAITING]
    assert study.trials[2].system_attrs["retry_history"] == [0]


def test_without_the_default_there_is_nothing_to_train_again(
    digits: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convladder.tuning.tune._Clock.fits", lambda _, seeds: seeds == 0)  # another process has it
    carrier = Here()
    found = search(Plan(space_of(digits, "dense"), tmp_path), digits, carrier=carrier)
    assert (carrier.done, found.named, found.run) == (0, None, None)
    assert found.sentences[0].startswith("Nothing is named: the minutes were over")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_of_processes_that_do_the_same_all_but_one_leave_it(kind: str, digits: cl.Dataset, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/tune.db" if kind == "sqlite" else str(tmp_path / "tune.journal")
    other = open_study(open_storage(place), "dense")
    with pytest.warns(UserWarning, match="Heartbeat"):
        other.ask()  # another process, which works on the only trial that is wanted
    space = space_of(digits, "dense")
    work({"dense": digits}, lambda *_: None, Job(place, "dense", space, 0, 1))
    assert len(other.trials) == 2
    assert len(newest(other.trials)) == 1
    anew = {"parameters": space.default_parameters("dense"), "seed": 1}
    again = open_study(open_storage(place), "dense anew")
    for _ in range(2):  # two processes asked for the same at once
        again.enqueue_trial({}, user_attrs={"anew": anew})
    with pytest.warns(UserWarning, match="Heartbeat"):
        first = again.ask()
    work({"dense": digits}, lambda *_: None, Job(place, "dense anew", space, 0, 0))  # the other has said nothing yet
    work({"dense": digits}, lambda *_: None, Job(place, "dense anew", space, 0, 0))  # and here nothing waits any more
    assert [trial.state for trial in again.trials] == [TrialState.RUNNING, TrialState.PRUNED, TrialState.PRUNED]
    assert len(newest(again.trials)) == 1
    again.tell(first.number, state=TrialState.FAIL)
    for _ in range(2):  # two processes had it wait again at once
        studies.retry(again, first.number)
        work({"dense": digits}, lambda *_: None, Job(place, "dense anew", space, 0, 0))
    assert [trial.state for trial in again.trials[3:]] == [TrialState.COMPLETE, TrialState.PRUNED]
    again.enqueue_trial({}, user_attrs={"anew": anew | {"seed": 2}})
    with pytest.warns(UserWarning, match="Heartbeat"):
        crashed = again.ask().number
    studies.fail(again, crashed, "it crashed")
    studies.retry_failed(again)  # as the same command does, called again
    work({"dense": digits}, lambda *_: None, Job(place, "dense anew", space, 0, 0))
    assert again.trials[-1].state is TrialState.COMPLETE
    other.tell(0, state=TrialState.FAIL)
    for _ in range(2):
        studies.retry(other, 0)
        work({"dense": digits}, lambda *_: None, Job(place, "dense", space, 0, 1))
    assert [trial.state for trial in other.trials[2:]] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_the_space_is_that_of_the_ladder_around_the_default_without_what_is_given(digits: cl.Dataset) -> None:
    space = space_of(digits, "pool", "regularized", kernel_size=5)
    assert space.defaults["pool"].choices == {"kernel_size": 5}
    assert "kernel_size" not in space.ranges["pool"]
    assert not set(space.ranges["pool"]) & set(FIXED)
    assert space.ranges["pool"]["pooling"].values == ("max", "average", "min")  # type: ignore[union-attr]
    low, high, log = space.ranges["regularized"]["l2"]  # type: ignore[misc]
    assert (low, high, log) == (pytest.approx(1e-5), pytest.approx(1e-3), True)
    assert space.differences(space.default_parameters("regularized")) == {}
    parameters = space.default_parameters("regularized") | {"regularized.dropout": 0.41239}
    tried = space.trial(parameters, seed=7)
    assert (tried.rung, tried.seed, dict(tried.choices)) == ("regularized", 7, {"dropout": 0.412})
    assert space.words(parameters) == "regularized, dropout 0.412"


def test_what_cannot_be_searched_is_refused(digits: cl.Dataset, tmp_path: Path) -> None:
    for rungs, data, told in [
        (["pol"], digits, "Did you mean pool?"),
        (["transfer"], digits, "its head is solved"),
        (["dense"], digits.without_validation(), "has no validation pictures"),
    ]:
        with pytest.raises(ConvladderError, match=told):
            space_of(data, *rungs)
    plan = Plan(space_of(digits, "dense"), tmp_path)
    other = replace(digits, test=Split(digits.test.images[:9], digits.test.labels[:9]))
    search_some = {"carrier": Here(0), "runner": run_here()}
    with pytest.raises(Stopped):
        search(plan, digits, **search_some)
    with pytest.raises(ConvladderError, match=r"dense in sqlite.* was begun with other data\. Expected the same"):
        search(plan, other, **search_some)
    with pytest.raises(ConvladderError, match="was begun with other models and settings"):
        search(replace(plan, study="dense", space=space_of(digits, "fast")), digits, **search_some)
    with pytest.raises(ConvladderError, match="'epoch' is not a setting of a recipe"):
        cl.tune(digits, "dense", fixed={"epoch": 1})


@pytest.mark.long
def test_the_command_refuses_in_one_line_and_leaves_nothing(convladder: Any, small_npz: Path, tmp_path: Path) -> None:
    refusals: list[tuple[list[Any], str]] = [
        (["--models", "pol"], "'pol' is not a rung"),
        (["--recipe", "article"], "is all trained on by this recipe"),
        (["--epochs", 1, "--trial-minutes", 1], "both say how long to train"),
        (["--storage", "nowhere/tune.journal"], "nowhere/tune.journal cannot be reached (No such file"),
        (["--storage", "sqlite:////nowhere/tune.db"], "cannot be reached (unable to open database file"),
        (
            ["--storage", "postgresql://me:secret@127.0.0.1:1/none"],
            "postgresql://me@127.0.0.1:1/none cannot be reached (",
        ),
        (["--storage", "sqlite://"], "sqlite:// keeps nothing for other processes"),
        (["--storage", "wrong://x"], "wrong://x cannot be reached"),
        (["--storage", "postgresql:me:secret@host/none"], "postgresql:… has no // after its colon"),
        (["--storage", "postgresql://me@host:secret/none"], "postgresql://… is no URL of a database"),
        (
            ["--storage", "postgresql://127.0.0.1:1/none?user=me&password=secret"],
            "127.0.0.1:1/none cannot be reached (",
        ),
        (["--storage", "mysql+pymysql://me:secret@host/none"], "pip install 'pymysql'"),
        (["--runs", "memory://runs"], "where runs are kept but no search. Expected --storage"),
        (["--minutes", 0], "minutes 0 is out of range"),
    ]
    for given, told in refusals:
        refused = convladder("tune", "--data", small_npz, "--models", "dense", *given)
        (line,) = refused.err.splitlines()
        assert told in line, line
        assert (refused.status, refused.out) == (2, "")
        assert "secret" not in line
        assert list(tmp_path.iterdir()) == []


@pytest.mark.cluster
@pytest.mark.xdist_group("ray")
def test_a_search_on_a_cluster_of_this_machine_is_kept_as_any_other(small_npz: Path, tmp_path: Path) -> None:
    given = [
        "--data",
        small_npz,
        "--models",
        "dense",
        "--epochs",
        1,
        "--trials",
        3,
        "--seeds",
        2,
        "--ray",
        "--cores",
        1,
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "convladder", "tune", *map(str, given), "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert [row["state"] for row in found["trials"]] == ["done"] * 3
    assert [row["seeds"] for row in found["best"]] == [2, 2, 2]
    assert found["run"] == "runs/dense-1"


def test_a_file_that_is_no_journal_is_refused_and_left_alone(convladder: Any, small_npz: Path, tmp_path: Path) -> None:
    for content in (b"notes", b"notes\n", b"{}\n", b"\xff\xd8\xff"):
        (tmp_path / "notes").write_bytes(content)
        refused = convladder("tune", "--data", small_npz, "--models", "dense", "--storage", "notes")
        assert refused.status == 2
        assert "notes is there, and is no journal of a search" in refused.err
        assert (tmp_path / "notes").read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_journal_whose_last_line_was_written_by_half_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "tune.journal"
    open_study(open_storage(str(place)), "dense").set_user_attr("data", "abc")
    whole = place.read_bytes()
    place.write_bytes(whole + whole.splitlines()[-1][:-9])  # as a power cut or a full disk leaves it
    study = open_study(open_storage(str(place)), "dense")
    study.set_user_attr("seed", 1)
    assert open_study(open_storage(str(place)), "dense").user_attrs == {"data": "abc", "seed": 1}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_process_that_stood_still_says_that_its_trial_is_carried_out_again(
    kind: str, digits: cl.Dataset, tmp_path: Path
) -> None:
    place = f"sqlite:///{tmp_path}/tune.db" if kind == "sqlite" else str(tmp_path / "tune.journal")
    study = open_study(open_storage(place), "dense")
    told = []

    def tell(word: str, content: Any) -> None:
        if word == "event" and content[0] == "on_train_begin":  # another process takes this one for dead
            study.tell(0, state=TrialState.FAIL)
            studies.retry(study, 0)
        elif word == "warning":
            told.append(content)

    job = Job(place, "dense", space_of(digits, "dense"), 0, 1)
    work({"dense": digits}, tell, job)
    assert told == ["Trial 0 stood still for so long that it is now carried out again."]
    work({"dense": digits}, lambda *_: None, job)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.trials[0].params == study.trials[1].params


@pytest.mark.long
def test_a_default_whose_process_was_killed_is_tried_again_by_the_same_command(
    digits: cl.Dataset, tmp_path: Path
) -> None:
    plan = Plan(space_of(digits, "dense"), tmp_path, trials=2, seeds=2)
    study = open_study(open_storage(plan.place), "dense")

    def kill(jobs: Iterator[Job | None], *_: Any, **__: Any) -> Iterator[None]:
        for _job in jobs:
            with pytest.warns(UserWarning, match="Heartbeat"):
                studies.fail(study, study.ask().number, "its process was killed")
            yield

    told = r"The default recipe failed: its process was killed\. .* the same command tries it again"
    with pytest.raises(ConvladderError, match=told):
        search(plan, digits, carrier=kill)
    with pytest.raises(Stopped):
        search(plan, digits, carrier=Here(1))
    default = newest(study.trials)[0]
    assert (default.state, default.params) == (TrialState.COMPLETE, plan.space.default_parameters("dense"))
    assert "error" not in default.user_attrs


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with serve_postgresql() as server:
        yield server


@pytest.mark.long
def test_a_search_whose_database_ends_says_so_in_one_line_and_goes_on_when_it_is_back(
    postgresql: PostgreSQL, digits: cl.Dataset, tmp_path: Path
) -> None:
    plan = Plan(space_of(digits, "dense"), tmp_path, study="lost", storage=postgresql.url, trials=2, seeds=2)

    class Losing(Here):
        def __call__(self, *arguments: Any, **settings: Any) -> Iterator[None]:
            for _ in super().__call__(*arguments, **settings):
                postgresql.stop()
                yield

    with pytest.raises(ConvladderError) as lost:
        search(plan, digits, carrier=Losing(), runner=run_here())
    postgresql.start()
    message = str(lost.value)
    assert message.startswith("postgresql://tuner@127.0.0.1")
    assert "cannot be reached any more" in message
    assert "\n" not in message
    assert PASSWORD not in message
    again = Here()
    found = search(plan, digits, carrier=again, runner=run_here())
    assert again.done == 1 + 2 * 2  # the first trial was there
    assert PASSWORD not in json.dumps(found.run and found.run.info)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_two_commands_search_together_and_one_that_is_killed_loses_nothing(
    kind: str, small_npz: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage = "tune.journal" if kind == "journal" else request.getfixturevalue("postgresql").url
    code = (
        "from convladder.tuning import studies; studies.SECONDS_A_BEAT, studies.SECONDS_TO_LIVE = 1, 45\n"
        "from convladder.cli import main; main()"
    )
    given = ["tune", "--data", small_npz, "--models", "dense", "--epochs", 5, "--trials", 6, "--seeds", 2, "--json"]
    command = [sys.executable, "-c", code, *map(str, given), "--storage", storage]
    settings: dict[str, Any] = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    killed, *others = (subprocess.Popen(command, **settings) for _ in range(3))
    assert killed.stderr
    lines: list[str] = []
    while "epoch 1/" not in "".join(lines[-1:]):
        lines.append(killed.stderr.readline())
        assert lines[-1], lines
    killed.kill()
    killed.communicate()
    found = []
    for process in others:
        out, told = process.communicate()
        assert process.returncode == 0, told
        assert PASSWORD not in told
        found.append(json.loads(out))
    assert found[0]["trials"] == found[1]["trials"]
    assert len(found[0]["trials"]) == 6
    assert all(row["state"] in ("done", "pruned") for row in found[0]["trials"])
    assert [row["seeds"] for row in found[0]["best"]] == [2] * len(found[0]["best"])
    assert found[0]["run"] == found[1]["run"] == "runs/dense-1"
    assert len(list((tmp_path / "runs").iterdir())) == 1
    opened = open_storage(str(tmp_path / storage) if kind == "journal" else storage)
    searched, anew = (open_study(opened, name).trials for name in ("dense", "dense anew"))
    ended = [trial for trial in searched if "seconds" in trial.user_attrs and "surplus" not in trial.user_attrs]
    assert len(ended) == 6  # what others carried out too, or again after it had ended, would have seconds as well
    assert [trial.state for trial in searched].count(TrialState.FAIL) == 1
    trained = [json.dumps(trial.user_attrs["anew"]) for trial in anew if "right" in trial.user_attrs]
    assert len(trained) == len(set(trained)) == 2 * len(found[0]["best"])
