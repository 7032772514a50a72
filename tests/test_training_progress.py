"""What a training shows while it goes on: a bar on a terminal, lines elsewhere, nothing left behind."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from rich.console import Console

import convladder as cl
from convladder.training.progress import ProgressBar

SHORT = replace(cl.DEFAULT, epochs=2)


@pytest.fixture(scope="module")
def shown(small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, str]:
    """What one training shows on a terminal, and where there is none."""
    streams = {terminal: io.StringIO() for terminal in (True, False)}
    bars = [
        ProgressBar("dense", SHORT.batch_size, Console(file=stream, force_terminal=terminal, width=160))
        for terminal, stream in streams.items()
    ]
    cl.train("dense", small, SHORT, directory=tmp_path_factory.mktemp("shown"), callbacks=bars)
    return {terminal: stream.getvalue() for terminal, stream in streams.items()}


def test_a_line_an_epoch_where_there_is_no_terminal(shown: dict[bool, str]) -> None:
    *lines, last = shown[False].splitlines()
    assert last == "dense  fitted; scoring, exporting and testing the export"
    assert [line.split("  ")[1] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("accuracy" in line and "loss" in line and "validation_accuracy" in line for line in lines)


def test_a_bar_on_a_terminal(shown: dict[bool, str]) -> None:
    bar = shown[True]
    for part in ("dense", "epoch", "2/2", "loss", "accuracy", "images/s", "0:00:"):
        assert part in bar
    assert bar.endswith("\x1b[?25h") or "\x1b[?25h" in bar.split("\x1b[?25l")[-1]  # the cursor is back


def test_the_cursor_is_back_after_an_interruption(small: cl.Dataset, tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    stream = io.StringIO()
    bar = ProgressBar("dense", SHORT.batch_size, Console(file=stream, force_terminal=True, width=160))
    with pytest.raises(KeyboardInterrupt, match="holds the best weights so far"):
        cl.train("dense", small, SHORT, directory=tmp_path, callbacks=[bar, Stop()])
    assert "\x1b[?25h" in stream.getvalue().split("\x1b[?25l")[-1]
    assert cl.Run(tmp_path / "dense-1").info["status"] == "interrupted"
