"""Progress of a training on standard error: a bar in a terminal, plain lines elsewhere."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from convladder.markup import printable
from convladder.training.pacing import ENDLESS


def unfailing(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """Wrap a callback so that its failure is a warning, and the training continues without it."""
    failed = False

    def guard(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def guarded(*arguments: Any, **named: Any) -> None:
            nonlocal failed
            if failed:
                return
            try:
                method(*arguments, **named)
            except Exception as error:
                failed = True
                reason = str(error).partition("\n")[0] or type(error).__name__
                with contextlib.suppress(OSError):  # it may have failed because the terminal is gone
                    warnings.warn(
                        f"{type(callback).__name__} failed ({reason}). The training continues without it.", stacklevel=2
                    )

        return guarded

    for name in dir(callback):
        if name.startswith(("on_", "set_")):
            setattr(callback, name, guard(getattr(callback, name)))
    return callback


class ProgressBar(keras.callbacks.Callback):
    """Shows epoch, loss, accuracy, images per second and the remaining time of a training.

    Args:
        label: Name of what is trained.
        batch_size: Images per step.
        console: Where to show it.
    """

    def __init__(self, label: str, batch_size: int, console: Console) -> None:
        super().__init__()
        self.label = printable(label)
        self.batch_size = batch_size
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.4f}"),
            TextColumn("{task.fields[rate]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        unfailing(self)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Show an empty bar, because tracing makes the first steps slow."""
        self._steps, self._epochs = self.params["steps"], self.params["epochs"]
        self._started, self._epoch = time.perf_counter(), 0
        self._before: int | None = None  # steps of the epochs before, where a run is resumed
        for task in self._progress.task_ids:  # of the rest of an epoch
            self._progress.remove_task(task)
        self._task = self._progress.add_task(
            self.label,
            total=None if self._epochs >= ENDLESS else self._steps * self._epochs,
            epoch=self._count(1),
            loss=0.0,
            accuracy=0.0,
            rate=0.0,
        )
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the epoch."""
        self._epoch = epoch
        if self._before is None:
            self._before = epoch * self._steps

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Show the progress. `batch` is the last finished step of this epoch."""
        done = self._epoch * self._steps + batch + 1
        logs = logs or {}
        self._progress.update(
            self._task,
            completed=done,
            total=self.params.get("total"),  # predicted, if the clock ends the training
            epoch=self._count(self._epoch + 1),
            loss=float(logs.get("loss", 0.0)),
            accuracy=float(logs.get("accuracy", 0.0)),
            rate=(done - (self._before or 0)) * self.batch_size / (time.perf_counter() - self._started),
        )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Without a terminal, print a line with the epoch's results."""
        if self.console.is_terminal:
            return
        values = "  ".join(f"{key} {value:.4f}" for key, value in (logs or {}).items() if key != "seconds")
        seconds = (logs or {}).get("seconds", 0.0)
        line = f"{self.label}  epoch {self._count(epoch + 1)}  {values}  {seconds:.1f} s"
        self.console.print(Text(line), soft_wrap=True)  # a Text, because a console can take brackets for markup

    def on_scoring_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Say that fitting is done, and that scoring, export and the parity gate follow."""
        line = f"{self.label}  fitted; scoring, exporting and testing the export"
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.add_task(line)
            self._progress.start()
        else:
            self.console.print(Text(line), soft_wrap=True)

    def on_scoring_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Clear the line."""
        self._progress.stop()

    def _count(self, epoch: int) -> str:
        """The epoch, and the number of epochs if it is known."""
        return f"{epoch}" if self._epochs >= ENDLESS else f"{epoch}/{self._epochs}"

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Clear the bar."""
        self._progress.stop()


@contextlib.contextmanager
def told_of_scoring(callbacks: Sequence[keras.callbacks.Callback]) -> Iterator[None]:
    """Tell those who look on that all is fitted, and when all is scored and written."""
    for callback in callbacks:
        getattr(callback, "on_scoring_begin", bool)()
    try:
        yield
    finally:
        for callback in callbacks:
            getattr(callback, "on_scoring_end", bool)()
