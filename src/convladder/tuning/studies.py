"""Studies: where a search keeps its trials, so that it goes on after any end, and several processes share it.

Optuna keeps them, in a database (SQLite, PostgreSQL) or a journal, a file on a disk that machines share. A trial whose
process died is failed by Optuna's heartbeat, and waits to be carried out again, with the same parameters.
"""

import base64
import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from convladder.errors import ConvladderError

SECONDS_A_BEAT = 5
SECONDS_TO_LIVE = 60  # without a beat
MOST_RETRIES = 10  # of a trial whose processes die
SECONDS_TO_MAKE_TABLES = 1.0
SECONDS_FOR_LOCK = 60.0  # of SQLite, which several processes write
STARTUP_TRIALS = 5  # before any is pruned
TENTHS = 10  # of a training: accuracies are compared at the same share of the learning rate's schedule
FIRST_PRUNED = 5  # tenths: at the peak of the learning rate accuracy tells little
# Attributes of trials.
DEFAULT, ANEW, SURPLUS, ERROR, RIGHT, SECONDS = "default", "anew", "surplus", "error", "right", "seconds"

BEGUN = "begun"  # its value is the trial's number, because what is carried out again keeps the other attributes

_seen: dict[int, float] = {}  # when this process first saw a trial that has not begun

Retry = Callable[[optuna.Study, FrozenTrial], None]


class BeatingJournal(JournalStorage, BaseHeartbeat):
    """A journal with a heartbeat, which Optuna has for databases only.

    Clocks of machines may differ: a trial is dead if its beat has not changed while this process watched.
    """

    def __init__(self, path: str, retry: Retry) -> None:
        super().__init__(JournalFileBackend(path))
        self._retry = retry
        self._seen: dict[int, tuple[Any, float]] = {}

    def record_heartbeat(self, trial_id: int) -> None:
        """Note in the journal that a trial's process is alive."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.set_trial_system_attr(trial_id, "beat", time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        now, running = time.monotonic(), self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            beat = trial.system_attrs.get("beat")
            if self._seen.get(trial._trial_id, (None, 0))[0] != beat or trial._trial_id not in self._seen:
                self._seen[trial._trial_id] = (beat, now)
        return [trial._trial_id for trial in running if now - self._seen[trial._trial_id][1] > SECONDS_TO_LIVE]

    def get_heartbeat_interval(self) -> int:
        """Seconds from a beat to the next."""
        return SECONDS_A_BEAT

    def get_heartbeat_stale_trial_callback(self) -> Retry:
        """What makes a dead trial wait for another process."""
        return self._retry


def open_storage(place: str) -> BaseStorage:
    """Open where studies are kept: a URL of a database, or the path of a journal.

    Raises:
        ConvladderError: It cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    if place.startswith("sqlite") and (place.endswith("://") or ":memory:" in place):
        raise ConvladderError(f"{place} keeps nothing for other processes. Expected a file: sqlite:///FILE.")
    try:
        try:
            return _open(place)
        except Exception:  # another process may have made the tables at the same moment
            time.sleep(SECONDS_TO_MAKE_TABLES)
            return _open(place)
    except Exception as error:  # of SQLAlchemy, of a driver, of the system, or of Optuna where it is no such database
        first = error.__cause__ or error
        reason = getattr(first, "strerror", None) or str(first).strip() or type(first).__name__
        reason = reason.splitlines()[0].rstrip(".")
        raise ConvladderError(
            f"{without_password(place)} cannot be reached ({reason}). Expected postgresql://USER:PASSWORD@HOST/DATABASE"
            ", sqlite:///FILE or the path of a journal, in a folder that is there."
        ) from error


def _open(place: str) -> BaseStorage:
    with quiet():
        retry = RetryHeartbeatStaleTrialCallback(MOST_RETRIES)
        if "://" not in place:
            return BeatingJournal(place, retry)
        return RDBStorage(
            place,
            {"connect_args": {"timeout": SECONDS_FOR_LOCK}} if place.startswith("sqlite") else None,
            heartbeat_interval=SECONDS_A_BEAT,
            grace_period=SECONDS_TO_LIVE,
            heartbeat_stale_trial_callback=retry,
        )


def open_study(storage: BaseStorage, name: str) -> optuna.Study:
    """A study that is made if it is not there yet."""
    with quiet():
        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(),
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, FIRST_PRUNED),
        )


def check_about(study: optuna.Study, about: Mapping[str, Any], place: str) -> None:
    """Note what a study is about; refuse it if it is about something else.

    Raises:
        ConvladderError: It is another search. The message names what differs.
    """
    known = study.user_attrs
    if told := [name for name, value in about.items() if known.get(name, value) != value]:
        raise ConvladderError(
            f"The study {study.study_name} in {without_password(place)} was begun with other {' and '.join(told)}. "
            "Expected the same, to go on with it: give what it was begun with, or another --study."
        )
    for name, value in about.items():
        if name not in known:
            study.set_user_attr(name, value)


def fresh(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: one carried out again stands in for the one that died, and none is surplus."""
    return [
        trial for trial in trials if not trial.system_attrs.get("retry_history") and SURPLUS not in trial.user_attrs
    ]


def newest(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The last try of each trial that counts, in the order of the first."""
    tries = {trial.number: trial for trial in fresh(trials)}
    for trial in trials:
        if history := trial.system_attrs.get("retry_history"):
            tries[history[0]] = trial
    return [tries[number] for number in sorted(tries)]


def fail_stale(study: optuna.Study) -> None:
    """Have the trials of dead processes wait for another."""
    with quiet():
        optuna.storages.fail_stale_trials(study)
    now = time.monotonic()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # One whose process died before its first beat is stale to no database.
        if (
            trial.user_attrs.get(BEGUN) != trial.number
            and now - _seen.setdefault(trial._trial_id, now) > SECONDS_TO_LIVE
        ):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
                study.tell(trial.number, state=TrialState.FAIL)
                retry(study, trial.number)


def retry(study: optuna.Study, number: int) -> None:
    """Have a trial that was told to stop wait for another process."""
    with quiet():
        RetryHeartbeatStaleTrialCallback()(study, study.trials[number])


def fail(study: optuna.Study, number: int, reason: str) -> None:
    """Note that a trial's process has ended, and why; it is not carried out again, because it would end so again."""
    trial = optuna.trial.Trial(study, study.trials[number]._trial_id)
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):  # it was about to be told
        trial.set_user_attr(ERROR, reason)
        study.tell(number, state=TrialState.FAIL)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that a part of Optuna is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def without_password(place: str) -> str:
    """A place as a message may show it."""
    if "@" not in place or "://" not in place:
        return place
    scheme, rest = place.split("://", 1)
    who, where = rest.rsplit("@", 1)
    return f"{scheme}://{who.partition(':')[0]}@{where}"


def absolute(place: str) -> str:
    """The same place, from any current directory."""
    if "://" not in place:
        return str(Path(place).absolute())
    scheme, path = place.split("://", 1)
    relative = scheme.startswith("sqlite") and path.startswith("/") and not path.startswith(("//", "/:"))
    return f"{scheme}:///{Path(path[1:]).absolute()}" if relative else place


def default_place(directory: Path) -> str:
    """Where studies are kept if the user names no place: a SQLite file among the runs."""
    return f"sqlite:///{(directory / 'tune.db').resolve()}"


def pack(right: npt.NDArray[np.bool_]) -> str:
    """Which images are classified correctly, as a text for an attribute: their number, then a bit for each."""
    return f"{len(right)} {base64.b64encode(np.packbits(right).tobytes()).decode()}"


def unpack(text: str) -> npt.NDArray[np.bool_]:
    """What `pack` was given."""
    count, bits = text.split()
    return np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=int(count)).astype(bool)
