"""Studies: where a search keeps its trials, so that it goes on after any end, and several processes share it.

Optuna keeps them, in a database (SQLite, PostgreSQL) or a journal, a file on a disk that machines share. A trial whose
process died is failed by Optuna's heartbeat, and waits to be carried out again, with the same parameters.
"""

import base64
import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from convladder.errors import ConvladderError

SECONDS_A_BEAT = 5
SECONDS_TO_LIVE = 60  # without a beat
MOST_RETRIES = 10  # of a trial whose processes die
SECONDS_TO_MAKE_TABLES = 1.0
SECONDS_FOR_LOCK = 60.0  # of SQLite, which several processes write
SECONDS_TO_CONNECT = 10
EXPECTED = "Expected postgresql://USER:PASSWORD@HOST/DATABASE, sqlite:///FILE or the path of a journal"
LOST = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
STARTUP_TRIALS = 5  # before any is pruned
TENTHS = 10  # of a training: accuracies are compared at the same share of the learning rate's schedule
FIRST_PRUNED = 5  # tenths: at the peak of the learning rate accuracy tells little
DRIVER = "postgresql+psycopg"  # whatever SQLAlchemy takes by default
JOURNAL = b'{"op_code":'  # how Optuna's journals begin
# Attributes of trials.
DEFAULT, ANEW, SURPLUS, ERROR, RIGHT, SECONDS = "default", "anew", "surplus", "error", "right", "seconds"

BEGUN = "begun"  # its value is the trial's number, because what is carried out again keeps the other attributes

# When this process first saw a trial of a study, by number, in a state that it should soon leave.
_seen: WeakKeyDictionary[optuna.Study, dict[tuple[int, TrialState], float]] = WeakKeyDictionary()

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
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, OSError):
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


class Database(RDBStorage):
    """A database whose heartbeat goes on after it could not be reached for a while."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Note in the database that a trial's process is alive."""
        with contextlib.suppress(*LOST):
            super().record_heartbeat(trial_id)


def open_storage(place: str) -> BaseStorage:
    """Open where studies are kept: a URL of a database, or the path of a journal.

    Raises:
        ConvladderError: It cannot be reached, or is something else.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    shown = without_password(place)
    if place.startswith("sqlite") and (place.endswith("://") or ":memory:" in place):
        raise ConvladderError(f"{shown} keeps nothing for other processes. Expected a file: sqlite:///FILE.")
    try:
        try:
            return _open(place)
        except SQLAlchemyError:  # another process may have made the tables at the same moment
            time.sleep(SECONDS_TO_MAKE_TABLES)
            return _open(place)
    except ConvladderError:
        raise
    except Exception as error:  # of SQLAlchemy, of a driver, of the system, or of Optuna where it is no such database
        if isinstance(error.__cause__, ModuleNotFoundError):
            name = error.__cause__.name
            package = "psycopg[binary]" if name == "psycopg" else name
            told = f"{shown} needs {name}, which is not installed. Run: pip install '{package}'"
            raise ConvladderError(told) from error
        raise ConvladderError(
            f"{shown} cannot be reached ({_reason(error)}). {EXPECTED}, in a folder that is there."
        ) from error


@contextlib.contextmanager
def reached(place: str) -> Iterator[None]:
    """Say in one line if the place is lost in this context.

    Raises:
        ConvladderError: A database that ended, a full disk.
    """
    try:
        yield
    except (*LOST, OSError) as error:
        if "://" in place and isinstance(error, OSError):  # of something else
            raise
        raise ConvladderError(
            f"{without_password(place)}, where the search is kept, cannot be reached any more ({_reason(error)}). The "
            "trials that have ended are kept; the same command goes on from there.",
            exit_status=1,
        ) from error


def _reason(error: BaseException) -> str:
    first = error.__cause__ or error
    reason = getattr(first, "strerror", None) or str(getattr(first, "orig", first)).strip() or type(first).__name__
    return str(reason).splitlines()[0].rstrip(".")


def _open(place: str) -> BaseStorage:
    with quiet():
        retry = RetryHeartbeatStaleTrialCallback(MOST_RETRIES)
        if "://" not in place:
            _mend_journal(place)
            return BeatingJournal(place, retry)
        url, arguments = _parse(place), {}
        if url.drivername.startswith("sqlite"):
            arguments = {"timeout": SECONDS_FOR_LOCK}
        elif url.drivername in ("postgres", "postgresql", DRIVER):
            url, arguments = url.set(drivername=DRIVER), {"connect_timeout": SECONDS_TO_CONNECT}
        return Database(
            url.render_as_string(hide_password=False),
            # No pool: a trial takes minutes, and a server has room for a hundred connections.
            {"connect_args": arguments, "poolclass": NullPool},
            heartbeat_interval=SECONDS_A_BEAT,
            grace_period=SECONDS_TO_LIVE,
            heartbeat_stale_trial_callback=retry,
        )


def _mend_journal(path: str) -> None:
    """Cut off the last line if it was written by half, as a power cut or a full disk leaves it.

    Optuna would write on in that line, and never read the file again.

    Raises:
        ConvladderError: The file is something else, which is left alone.
    """
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        content = file.read(len(JOURNAL))
        if not JOURNAL.startswith(content):
            raise ConvladderError(
                f"{path} is there, and is no journal of a search. Expected another name for --storage."
            )
        if not content or os.pread(file.fileno(), 1, os.path.getsize(path) - 1) == b"\n":
            return
    lock = JournalFileSymlinkLock(path)
    lock.acquire()
    try:
        with open(path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


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
        if (history := trial.system_attrs.get("retry_history")) and SURPLUS not in trial.user_attrs:
            tries[history[0]] = trial
    return [tries[number] for number in sorted(tries)]


def is_retried(trial: FrozenTrial) -> bool:
    """Whether the process that failed a trial is about to have it wait for another: these are two steps."""
    tries = len(trial.system_attrs.get("retry_history", ()))
    return trial.state is TrialState.FAIL and ERROR not in trial.user_attrs and tries < MOST_RETRIES


def fail_stale(study: optuna.Study) -> None:
    """Have the trials of dead processes wait for another."""
    with quiet():
        optuna.storages.fail_stale_trials(study)
    now, seen = time.monotonic(), _seen.setdefault(study, {})
    for trial in newest(study.get_trials(deepcopy=False)):
        # One whose process died before its first beat is stale to no database, nor is one whose process died between
        # the two steps.
        begins = trial.state is TrialState.RUNNING and trial.user_attrs.get(BEGUN) != trial.number
        if (begins or is_retried(trial)) and now - seen.setdefault((trial.number, trial.state), now) > SECONDS_TO_LIVE:
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
                if begins:
                    study.tell(trial.number, state=TrialState.FAIL)
                retry(study, trial.number)


def retry(study: optuna.Study, number: int) -> None:
    """Have a trial that was told to stop, or failed, wait for another process."""
    trial = study.trials[number]
    trial.user_attrs.pop(ERROR, None)
    with quiet():
        RetryHeartbeatStaleTrialCallback()(study, trial)


def retry_failed(study: optuna.Study) -> None:
    """Have what no search can end without, defaults and what is trained again, be carried out again if it failed."""
    for trial in newest(study.get_trials(deepcopy=False)):
        if trial.state is TrialState.FAIL and {DEFAULT, ANEW} & set(trial.user_attrs):
            retry(study, trial.number)


def fail(study: optuna.Study, number: int, reason: str) -> None:
    """Note that a trial's process has ended, and why; it is not carried out again at once: it would end so again."""
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
    """A place as a message may show it: without a password, and without options, which may hold one too."""
    if "://" not in place:
        return f"{place.partition(':')[0]}:…" if ":" in place and "@" in place else place
    url = _parse(place)
    shown = URL.create(url.drivername, url.username, None, url.host, url.port, url.database)
    return shown.render_as_string()


def _parse(place: str) -> URL:
    try:
        return make_url(place)
    except Exception:  # its message may hold the password
        raise ConvladderError(f"{place.partition('://')[0]}://… is no URL of a database. {EXPECTED}.") from None


def absolute(place: str) -> str:
    """The same place, from any current directory."""
    if "://" not in place:
        if place.startswith(("postgres:", "postgresql:", "sqlite:")):
            raise ConvladderError(f"{without_password(place)} has no // after its colon. {EXPECTED}.")
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
