"""From a Dataset to what a search finds: search, train the best again with other seeds, and test what is named once."""

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from convladder.comparing.compare import climb
from convladder.comparing.local import run_in_processes
from convladder.comparing.trials import Runner, Say
from convladder.data.dataset import Dataset, Split
from convladder.data.loading import at_size
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.files import create_folder, lock, write_json
from convladder.runs.run import Run
from convladder.signals import check_stop
from convladder.training.recipes import MOST_MINUTES, Recipe, default_recipe_for, rung_side
from convladder.tuning.jobs import Carrier, Job, LookOn
from convladder.tuning.local import carry_out_here
from convladder.tuning.space import Space, make_space
from convladder.tuning.studies import (
    ANEW,
    DEFAULT,
    ERROR,
    SECONDS,
    absolute,
    check_about,
    default_place,
    fail_stale,
    fresh,
    is_retried,
    newest,
    open_storage,
    open_study,
    reached,
    retry_failed,
    without_password,
)
from convladder.tuning.tuned import FEWEST_SEEDS, FINALISTS, STATES, Tuned

TRIALS, SEEDS = 30, 3
SECONDS_AROUND = 5.0  # of the run of what is named: scoring and export
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
SECONDS_A_LOOK = 1.0  # at other processes


@dataclass(frozen=True)
class Plan:
    """A search, and where it is kept.

    Attributes:
        space: What is searched.
        directory: Where the run folder of what is named is made.
        study: Name of the study; by default the rungs.
        storage: A URL of a database or the path of a journal; by default a SQLite file in the directory.
        trials: Number of trials, with the default's.
        seeds: Other seeds that the best are trained again with, at least 2.
        seed: Of the search's trials; the others follow it.
        minutes: A budget for all of it.
        began: From when on they count, of `time.monotonic()`.
    """

    space: Space
    directory: Path
    study: str = ""
    storage: str = ""
    trials: int = TRIALS
    seeds: int = SEEDS
    seed: int = 0
    minutes: float | None = None
    began: float | None = None

    def __post_init__(self) -> None:
        check_range("trials", self.trials, 2, 1_000_000)
        check_range("seeds", self.seeds, FEWEST_SEEDS, 1000)
        check_range("seed", self.seed, 0, 2**31)
        if self.minutes is not None:
            check_range("minutes", self.minutes, 0.01, MOST_MINUTES)

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study or "+".join(self.space.rungs)

    @property
    def place(self) -> str:
        """Where it is kept. Processes of a cluster run in other folders."""
        return absolute(self.storage) if self.storage else default_place(self.directory)


def tune(
    dataset: Dataset,
    rungs: str | Sequence[str],
    *,
    fixed: Mapping[str, Any] | None = None,
    choices: Mapping[str, Any] | None = None,
    trials: int = TRIALS,
    seeds: int = SEEDS,
    seed: int = 0,
    minutes: float | None = None,
    directory: str | Path = "runs",
    study: str = "",
    storage: str = "",
) -> Tuned:
    """Search for the recipe and the choices of a rung, or for a rung, that are best on the validation images.

    The best three are then trained again with other seeds, beside the default, and only what still beats it is named.
    That is trained once more, as a run, and tested once. Called again after any end, it goes on.

    Args:
        dataset: Has validation images.
        rungs: A name from MODELS, or several. The first one's default is what everything is compared with.
        fixed: Values of Recipe that are not searched: `{"epochs": 2}`; minutes, of each trial, take the place of
            epochs.
        choices: Choices of the rungs that are not searched.
        trials: Number of trials, at least 2. The first are the defaults of the rungs.
        seeds: Other seeds for the best, at least 2.
        seed: Of the trials of the search.
        minutes: A budget for all of it.
        directory: Where the run folder is made.
        study: Name of the study, if the directory has several of these rungs.
        storage: Where the study is kept: a URL of a database that SQLAlchemy knows, or the path of a journal, on a disk
            that several machines share; by default a SQLite file in the directory.

    Returns:
        What was found: `trials`, `best`, `lead`, `sentences`, and `run`, the Run of what is named.

    Raises:
        ConvladderError: An unknown rung; data without validation images; a study of something else; a storage that
            cannot be reached.
    """
    fixed = dict(fixed or {})
    for name in fixed:
        check_choice("setting of a recipe", name, (field.name for field in fields(Recipe)))

    def recipe_for(rung: str, data: Dataset) -> Recipe:
        return replace(default_recipe_for(rung, data), **fixed)

    named = [rungs] if isinstance(rungs, str) else list(rungs)
    say = partial(warnings.warn, stacklevel=3)
    space = make_space(dataset, named, recipe_for, fixed=fixed, choices=dict(choices or {}), say=say)
    return search(Plan(space, Path(directory), study, storage, trials, seeds, seed, minutes), dataset)


def search(
    plan: Plan,
    dataset: Dataset,
    *,
    carrier: Carrier = carry_out_here,
    runner: Runner = run_in_processes,
    look_on: LookOn = lambda *_: (),
    say: Say = lambda _: None,
) -> Tuned:
    """Carry out a plan; `tune` says how.

    Args:
        plan: The search.
        dataset: The data. What trials get of it has no test images.
        carrier: What carries out trials.
        runner: What trains the run of what is named.
        look_on: From a trial's name, and the trial, to Keras callbacks that see its epochs and steps.
        say: Takes a line for the user: what became of each trial.
    """
    if not plan.storage:
        create_folder(plan.directory)
    with reached(plan.place):
        result = _find(plan, dataset, carrier, look_on, say)
    if result.named is None:
        return result
    with _alone(plan.directory):
        trial = plan.space.trial(result.parameters(result.named), plan.seed + plan.seeds + 1)
        say(f"Named: {result.words(result.named)}. Its run, with seed {trial.seed}, is the only one tested.")
        (outcome,) = climb([trial], dataset, plan.directory, runner=runner, look_on=lambda name: look_on(name, trial))
        if outcome.run is None:
            raise ConvladderError(
                f"{trial.label}, which the search named, failed: {outcome.error}. The same command tries it again.",
                exit_status=1,
            )
        write_json(outcome.run.path / "run.json", outcome.run.info | {"tuned_by": result.account})
    return replace(result, run=Run(outcome.run.path))


def _find(plan: Plan, dataset: Dataset, carrier: Carrier, look_on: LookOn, say: Say) -> Tuned:
    """Search, and train the best again."""
    storage = open_storage(plan.place)
    searched, anew = open_study(storage, plan.name), open_study(storage, f"{plan.name} anew")
    space = plan.space
    about = {"data": dataset.fingerprint, "models": space.rungs, "settings": space.content, "seed": plan.seed}
    check_about(searched, json.loads(json.dumps(about)), plan.place)
    _enqueue_defaults(searched, space)
    retry_failed(searched)
    retry_failed(anew)
    parts = {rung: _without_test(at_size(dataset, rung_side(rung, dataset))) for rung in space.rungs}
    clock = _Clock(plan, searched)

    def carry_out(jobs: Iterator[Job | None], study: optuna.Study, told: "_Told", late: Callable[[], bool]) -> None:
        for _ in carrier(jobs, parts, look_on=look_on, late=late):
            told(study)
        told(study)  # of other processes, since then

    told = _Told(say, space)
    count = max(plan.trials, len(space.rungs))
    say(f"{told.note(searched)} of {count} trials are there already, in {without_password(plan.place)}.")
    carry_out(_jobs(plan, searched, clock), searched, told, partial(clock.late, plan.seeds))
    result = Tuned(plan.name, space, searched.get_trials())
    _check_default(result)
    if result.trials[0]["state"] != "done":  # the minutes were over
        return result
    told = _Told(say, space, "Again: ")
    told.note(anew)
    carry_out(_jobs_anew(plan, result, anew, clock), anew, told, partial(clock.late, 0))
    return replace(result, anew=anew.get_trials())


def _enqueue_defaults(study: optuna.Study, space: Space) -> None:
    """Have the defaults of the rungs be the first trials."""
    known = {trial.user_attrs.get(DEFAULT) for trial in study.get_trials(deepcopy=False)}
    for rung in space.rungs:
        if rung not in known:
            study.enqueue_trial(space.default_parameters(rung), user_attrs={DEFAULT: rung})


def _without_test(dataset: Dataset) -> Dataset:
    return replace(dataset, test=Split(dataset.test.images[:0], dataset.test.labels[:0]))


def _jobs(plan: Plan, study: optuna.Study, clock: "_Clock") -> Iterator[Job | None]:
    """The trials of the search that are missing; None while other processes are at work on the last ones."""
    wanted = max(plan.trials, len(plan.space.rungs))
    job = Job(plan.place, plan.name, plan.space, plan.seed, wanted)
    while clock.fits(plan.seeds):
        fail_stale(study)
        trials = study.get_trials(deepcopy=False)
        last = newest(trials)
        if len(fresh(trials)) < wanted or any(trial.state is TrialState.WAITING for trial in last):
            yield job
        elif any(_goes_on(trial) for trial in last):
            yield None
        else:
            return


def _jobs_anew(plan: Plan, result: Tuned, study: optuna.Study, clock: "_Clock") -> Iterator[Job | None]:
    """What is missing of the best with other seeds: first all of them with one, then with the next."""
    job = Job(plan.place, study.study_name, plan.space, plan.seed, 0)
    items = [
        {"parameters": dict(result.parameters(number)), "seed": plan.seed + seed}
        for seed in range(1, plan.seeds + 1)
        for number in result.finalists
    ]
    while clock.fits(0):
        fail_stale(study)
        last = newest(study.get_trials(deepcopy=False))
        known = [trial.user_attrs.get(ANEW) for trial in last]
        if missing := [item for item in items if item not in known]:
            study.enqueue_trial({}, user_attrs={ANEW: missing[0]})  # with what it is about, in one step
            yield job
        elif any(trial.state is TrialState.WAITING for trial in last):
            yield job
        elif any(_goes_on(trial) for trial in last):
            yield None
        else:
            return


def _goes_on(trial: FrozenTrial) -> bool:
    """Whether another process is at work on a trial, or is about to have it carried out again."""
    return trial.state is TrialState.RUNNING or is_retried(trial)


def _check_default(result: Tuned) -> None:
    default = result.trials[0]
    if default["state"] in ("failed", "pruned"):
        raise ConvladderError(
            f"The default recipe failed: {default['reason'] or 'its process died several times'}. Expected one that "
            "can be compared with: train shows what is wrong, and the same command tries it again.",
            exit_status=1,
        )


class _Clock:
    """Whether there is time for another trial, with all that follows the search."""

    def __init__(self, plan: Plan, study: optuna.Study) -> None:
        began = time.monotonic() if plan.began is None else plan.began
        self._ends = None if plan.minutes is None else began + 60 * plan.minutes
        self._study = study

    def fits(self, seeds: int) -> bool:
        """Whether another trial would end in time, if the best are trained again with so many seeds after it."""
        check_stop()
        return self._ends is None or time.monotonic() + self._mean < self._ends - self._after(seeds)

    def late(self, seeds: int) -> bool:
        """Whether only the time for what follows is left."""
        return self._ends is not None and time.monotonic() > self._ends - self._after(seeds)

    def _after(self, seeds: int) -> float:
        return self._mean * ((FINALISTS + 1) * seeds + 1) + SECONDS_AROUND if self._mean else 0.0

    @property
    def _mean(self) -> float:
        """Mean seconds of the trials that were trained to their end."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sum(trial.user_attrs[SECONDS] for trial in complete) / max(1, len(complete))


class _Told:
    """Says a line of each trial that has ended since the last look, whichever process has carried it out."""

    def __init__(self, say: Say, space: Space, prefix: str = "") -> None:
        self._say, self._space, self._prefix = say, space, prefix
        self._told: set[int] = set()

    def note(self, study: optuna.Study) -> int:
        """Leave out what has ended before; return how many that is."""
        self._told |= {trial.number for trial in newest(study.get_trials()) if trial.state in ENDED}
        return len(self._told)

    def __call__(self, study: optuna.Study) -> None:
        """Say what has ended."""
        for number, trial in enumerate(newest(study.get_trials())):
            if trial.state not in ENDED or is_retried(trial) or trial.number in self._told:
                continue
            self._told.add(trial.number)
            anew = trial.user_attrs.get(ANEW)
            words = self._space.words(anew["parameters"] if anew else trial.params)
            name = f"{words}, seed {anew['seed']}" if anew else f"trial {number}, {words}"
            became = f"{trial.value:.4f}" if trial.state is TrialState.COMPLETE else STATES[trial.state]
            if ERROR in trial.user_attrs:
                became = trial.user_attrs[ERROR].rstrip(".")
            self._say(f"{self._prefix}{name}: {became}, {trial.user_attrs.get(SECONDS, 0):.1f} s")


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait until no other process that shares the directory ends a search, so that a winner is tested once."""
    create_folder(directory)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        while True:
            try:
                lock(descriptor)
                break
            except BlockingIOError:
                check_stop()
                time.sleep(SECONDS_A_LOOK)
        yield
    finally:
        os.close(descriptor)
