"""From a Dataset to a Comparison: plan the runs, carry them out, and wait for what they say."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convladder.comparing.comparison import FILE, Comparison
from convladder.comparing.costs import SECONDS_AROUND, TimeBudget, count_of, measure_costs
from convladder.comparing.local import run_in_processes
from convladder.comparing.planning import plan
from convladder.comparing.trials import LookOn, Outcome, Runner, Say, Trial, take_finished
from convladder.data.dataset import Dataset
from convladder.data.loading import at_size
from convladder.errors import ConvladderError
from convladder.files import create_folder, write_json
from convladder.models.ladder import suited_rungs
from convladder.runs.run import Run, finished_runs
from convladder.training.recipes import Recipe, default_recipe_for, rung_side


def compare(
    dataset: Dataset,
    rungs: str | Sequence[str] | None = None,
    recipe_for: Callable[[str, Dataset], Recipe] = default_recipe_for,
    *,
    seeds: int = 1,
    choices: Mapping[str, Any] | None = None,
    ensemble: int = 1,
    equal_minutes: float | None = None,
    directory: str | Path = "runs",
    minutes: float | None = None,
    runner: Runner = run_in_processes,
) -> Comparison:
    """Train every rung with every seed, in another process, and compare them.

    Finished runs of the same rungs, seeds, recipes and images are taken from the directory, not repeated.

    Args:
        dataset: What all are trained on.
        rungs: Names from MODELS, or one; by default those that suit the data, as `suited_rungs` gives them.
        recipe_for: From a rung and the data to how it is trained.
        seeds: Runs a rung, at least 1; their seeds are 0, 1, …. One seed tells little about small differences.
        choices: What rungs let one choose, for all that have it; a warning names the others, which stay as they are.
        ensemble: Networks a run, for all rungs but `transfer`; their predictions are averaged.
        equal_minutes: Instead of epochs: give each run so long, with the ladder's batches, augmentation and
            views.
        directory: Where the run folders are made, and comparison.json.
        minutes: A budget for all of it: runs that would not fit into it are not started, or are ended.
        runner: What carries the runs out; `convladder.comparing.cluster.run_on_ray` does it on a cluster.

    Returns:
        The comparison; in a notebook it shows itself as tables.

    Raises:
        ConvladderError: An unknown rung, or a choice that none of them has, before anything is trained; no run came to
            its end.
    """
    if rungs is None:
        rungs = suited_rungs(dataset.photographs)
    trials = plan(
        dataset,
        [rungs] if isinstance(rungs, str) else rungs,
        recipe_for,
        seeds=seeds,
        choices=choices,
        ensemble=ensemble,
        equal_minutes=equal_minutes,
        say=functools.partial(warnings.warn, stacklevel=4),
    )
    return conclude(climb(trials, dataset, Path(directory), minutes=minutes, runner=runner), Path(directory))


def climb(
    trials: Sequence[Trial],
    dataset: Dataset,
    directory: Path,
    *,
    minutes: float | None = None,
    began: float | None = None,
    fresh: bool = False,
    runner: Runner = run_in_processes,
    look_on: LookOn = lambda _: (),
    say: Say = lambda _: None,
) -> Iterator[Outcome]:
    """Carry out trials, and yield what becomes of each.

    Args:
        trials: In the order of their start.
        dataset: What all are trained on.
        directory: Where the run folders are made, and where finished ones are looked for.
        minutes: The quickest trials come first; what would not fit into so many, with the report after it, is not
            started; one that has not ended by then is ended.
        began: From when on they count, of `time.monotonic()`; by default from now on.
        fresh: Whether finished runs are left alone, and all trials carried out.
        runner: What carries them out.
        look_on: From a label to Keras callbacks that see epochs and steps.
        say: Takes a line for the user: what was taken, what failed.
    """
    sized = functools.cache(functools.partial(at_size, dataset))
    budget = TimeBudget(dataset, minutes, sized, began)
    outcomes, waiting = _take(trials, [] if fresh else finished_runs(directory), dataset, sized)
    for outcome in outcomes:
        if outcome.run is not None:
            budget.learn(outcome.trial, outcome.run.info["fit_seconds"] + SECONDS_AROUND)
    if outcomes:
        say(f"{len(outcomes)} of {len(trials)} runs are there already, in {directory}; --fresh trains them anew.")
        yield from outcomes
    create_folder(directory)
    if minutes is not None:
        waiting = budget.quickest_first(waiting)
    skipped: list[Trial] = []
    if waiting:
        runs = count_of(len(waiting), "run")
        say(f"{runs} on {len(dataset.train):,} images: {budget.foresee(waiting)} on this machine.")
        given = budget.select(waiting, skipped)
        left = waiting
        for outcome in runner(given, dataset, directory, look_on=look_on, say=say, late=budget.is_late):
            outcomes.append(outcome)
            if outcome.run is not None:  # what failed tells nothing of how long one takes
                budget.learn(outcome.trial)
            yield outcome
            left = [trial for trial in left if trial != outcome.trial and trial not in skipped]
            if left and not budget.have_begun(left):
                foreseen = budget.foresee(left)
                say(f"{outcome.trial.label} is done; {foreseen} left." if outcome.run else f"A{foreseen[1:]} left.")
    for trial in skipped:
        yield Outcome(trial, error=f"would not have fitted into {minutes:g} minutes")
    for outcome in outcomes:  # one after the other, when nothing else is computed any more
        if outcome.run is not None:
            measure_costs(outcome.run, sized(outcome.run.info["input_shape"][0]).test.images)


def _take(
    trials: Sequence[Trial], stored: Sequence[Run], dataset: Dataset, sized: Callable[[int], Dataset]
) -> tuple[list[Outcome], list[Trial]]:
    """The trials whose runs are among the stored ones, with these; and those that must be carried out."""

    @functools.cache
    def fingerprint(side: int, validate: bool) -> str:
        data = sized(side)
        return (data if validate else data.without_validation()).fingerprint if stored else ""

    taken, waiting = [], []
    for trial in trials:
        seen = fingerprint(rung_side(trial.rung, dataset), trial.recipe.validate)
        run = take_finished(stored, trial.identity(seen, dataset.resize))
        if run is None:
            waiting.append(trial)
        else:
            taken.append(Outcome(trial, run))
    return taken, waiting


def conclude(outcomes: Iterator[Outcome] | Sequence[Outcome], directory: Path) -> Comparison:
    """Wait for all outcomes, and write comparison.json.

    Raises:
        ConvladderError: None of them is a run; exit status 1.
    """
    ended = list(outcomes)
    comparison = Comparison(
        tuple(outcome.run for outcome in ended if outcome.run is not None),
        tuple(
            {"name": o.trial.rung, "seed": o.trial.seed, "reason": o.error, "failed": o.failed}
            for o in ended
            if o.run is None
        ),
    )
    if not comparison.runs:
        raise ConvladderError(
            f"There is no run to compare: {ended[0].trial.label} {ended[0].error}. Expected at least one.",
            exit_status=1,
        )
    write_json(directory / FILE, {"runs": [run.path.name for run in comparison.runs]} | comparison.content)
    return comparison
