"""Work: one trial of a study, in the process that trains, here or on a node of a cluster."""

import time
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import keras
import optuna
from optuna.trial import FrozenTrial, TrialState

from convladder.comparing.local import describe, relay
from convladder.data.dataset import Dataset
from convladder.signals import defer_signals
from convladder.training.validating import validate
from convladder.tuning.jobs import Job
from convladder.tuning.studies import (
    ANEW,
    BEGUN,
    DEFAULT,
    ERROR,
    RIGHT,
    SECONDS,
    SURPLUS,
    TENTHS,
    fresh,
    open_storage,
    open_study,
    pack,
    retry,
)
from convladder.workers import Tell


def work(parts: Mapping[str, Dataset], tell: Tell, job: Job) -> None:
    """Carry out one trial. What becomes of it is in the study; `tell` hears that it began, and its epochs.

    Args:
        parts: By rung, the data at its size, without test images.
        tell: Called with "begun", and the trial's number, name and recipe; "event" and "warning" as in `comparing`.
        job: The trial.
    """
    keras.backend.clear_session()
    study = _open(job.place, job.study)
    begun: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        begun.append(trial.number)
        try:
            return _carry_out(trial, job, parts, tell)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr(ERROR, describe(error))
            raise

    try:
        with defer_signals(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell("warning", str(message))
            study.optimize(objective, n_trials=1, catch=(Exception,))
    except KeyboardInterrupt:  # it alone was told to stop, or its caller has passed it on
        if begun and study.trials[begun[0]].state is TrialState.FAIL:
            retry(study, begun[0])
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        if not begun or not study.trials[begun[0]].state.is_finished():
            raise
        tell("warning", f"Trial {begun[0]} stood still for so long that it is now carried out again.")


@cache
def _open(place: str, name: str) -> optuna.Study:
    return open_study(open_storage(place), name)


def _carry_out(trial: optuna.Trial, job: Job, parts: Mapping[str, Dataset], tell: Tell) -> float:
    """Train what the trial says; return its accuracy on the validation images."""
    trial.set_user_attr(BEGUN, trial.number)
    if SURPLUS in trial.user_attrs:  # its process died before it could leave it
        raise optuna.TrialPruned
    anew = trial.user_attrs.get(ANEW)
    parameters, seed = _claim_anew(trial, anew) if anew else _claim(trial, job)
    tried = job.space.trial(parameters, seed)
    name = f"{tried.rung} again, seed {seed}" if anew else f"{tried.rung}, trial {trial.number}"
    tell("begun", (trial.number, name, tried))
    callbacks = [relay(tell)]
    if not anew and DEFAULT not in trial.user_attrs:
        callbacks.append(_Judge(trial))
    began = time.monotonic()
    try:
        right = validate(
            tried.rung, parts[tried.rung], tried.recipe, seed=seed, choices=tried.choices, callbacks=callbacks
        )
    except ValueError as error:  # it diverged, or its choices do not go together
        trial.set_user_attr(ERROR, str(error))
        raise optuna.TrialPruned from error
    finally:
        trial.set_user_attr(SECONDS, time.monotonic() - began)
    trial.set_user_attr(RIGHT, pack(right))
    return float(right.mean())


def _claim(trial: optuna.Trial, job: Job) -> tuple[Mapping[str, Any], int]:
    """The parameters and seed of a trial of the search. Of processes that search together, one may be too many."""
    trials = trial.study.get_trials(deepcopy=False)
    counted = fresh(trials)
    before = [other for other in counted if other.number < trial.number]
    if any(other.number == trial.number for other in counted):
        rung = trial.user_attrs.get(DEFAULT)
        if len(before) >= job.wanted or (rung and any(other.user_attrs.get(DEFAULT) == rung for other in before)):
            _leave(trial)
    else:  # it stands in for one that counts; two processes may have had it wait
        *earlier, mine = trials[: trial.number + 1]
        if any(_history(other) == _history(mine) and SURPLUS not in other.user_attrs for other in earlier):
            _leave(trial)
    job.space.suggest(trial)
    return trial.params, job.seed


def _claim_anew(trial: optuna.Trial, anew: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """Like `_claim`, for what is trained again: of several that are the same, the first in the study counts."""
    *earlier, mine = trial.study.get_trials(deepcopy=False)[: trial.number + 1]
    for other in earlier:
        same = other.user_attrs.get(ANEW) == anew and SURPLUS not in other.user_attrs
        ended = other.state is TrialState.FAIL and ERROR not in other.user_attrs  # and waits again
        if same and not ended and other.number not in _history(mine):
            _leave(trial)
    return anew["parameters"], anew["seed"]


def _history(trial: FrozenTrial) -> list[int]:
    """The trials that a trial stands in for."""
    return list(trial.system_attrs.get("retry_history", ()))


def _leave(trial: optuna.Trial) -> None:
    trial.set_user_attr(SURPLUS, True)
    raise optuna.TrialPruned


class _Judge(keras.callbacks.Callback):
    """Ends a training whose accuracy is below the median of the others', at the same share of the training."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self._trial = trial
        self._last = 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report the accuracy, at most once in a tenth of the training."""
        total = self.params.get("total") or self.params["epochs"] * self.params["steps"]
        tenth = min(TENTHS, int(TENTHS * int(self.model.optimizer.iterations) / total + 1e-6))
        accuracy = (logs or {}).get("validation_accuracy")
        if accuracy is None or tenth <= self._last:
            return
        self._last = tenth
        self._trial.report(accuracy, tenth)
        if tenth < TENTHS and self._trial.should_prune():
            raise optuna.TrialPruned
