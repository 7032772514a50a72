"""A film read back: what the player is told, where overfitting begins, and films that are damaged."""

import base64
import io
import json
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import convladder as cl
from convladder.errors import ConvladderError
from convladder.files import write_json
from convladder.runs.film import FILM, Film, describe_film, find_overfitting, list_films, read_film


def unpacked(packed: dict[str, Any], kind: Any) -> npt.NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed["values"])), kind).reshape(packed["shape"])


def test_the_player_is_told_what_the_film_holds(run: cl.Run) -> None:
    film, told = read_film(run), describe_film(run)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    np.testing.assert_array_equal(unpacked(told["images"], np.uint8), film.images)
    np.testing.assert_array_equal(unpacked(told["filters"], np.int8), film.filters)
    np.testing.assert_array_equal(unpacked(told["maps"], np.int8), film.maps)
    assert told["steps"] == film.step.tolist()
    assert told["answers"] == film.answers.tolist()
    for moment, image in np.ndindex(film.answers.shape):
        said = film.probabilities[moment, image] / 255
        assert told["sure"][moment][image] == pytest.approx(said.max(), abs=0.003)
        assert told["right"][moment][image] == pytest.approx(said[film.labels[image]], abs=0.001)
    assert told["loss"][0] is None  # before the first step
    assert told["validation"]["accuracy"] == pytest.approx(
        [row["validation_accuracy"] for row in run.history], abs=1e-4
    )
    assert (told["name"], told["running"], told["class_names"]) == (run.path.name, False, list("0123456789"))


def test_few_moments_reach_from_the_first_to_the_last(run: cl.Run) -> None:
    every, few = describe_film(run)["steps"], describe_film(run, 3)["steps"]
    assert len(few) == min(3, len(every))  # on a slow machine its share of the time is two moments
    assert (few[0], few[-1]) == (every[0], every[-1])


def epochs(validation: list[float], training: list[float] | None = None) -> npt.NDArray[np.float64]:
    training = training or [1 / (1 + number) for number in range(len(validation))]
    rows = [[n + 1, 10 * (n + 1), training[n], 0.5, loss, 0.5] for n, loss in enumerate(validation)]
    return np.asarray(rows, np.float64).reshape(-1, 6)


@pytest.mark.parametrize(
    ("losses", "training", "epoch"),
    [
        ([0.5, 0.3, 0.2, 0.25, 0.3], None, 3),
        ([0.2, 0.25, 0.3], None, 1),
        ([0.5, 0.3, 0.2, 0.25], None, None),  # one epoch is chance
        ([0.5, 0.2, 0.3, 0.3, 0.205], None, None),  # it came back
        ([0.5, 0.2, 0.205, 0.208], None, None),  # within 5 %
        ([0.5, 0.4, 0.3, 0.2], None, None),
        ([0.5, 0.2, 0.9, 2.0], [0.5, 0.3, 1.0, 3.0], None),  # it diverged
        ([], None, None),
        ([0.5], None, None),
    ],
)
def test_overfitting_is_said_only_where_the_validation_loss_really_rises(
    losses: list[float], training: list[float] | None, epoch: int | None
) -> None:
    found = find_overfitting(epochs(losses, training))
    assert (found and found["epoch"]) == epoch
    if found:
        assert (found["loss"], found["last"], found["step"]) == (min(losses), losses[-1], 10 * found["epoch"])


def arrays(run: cl.Run) -> dict[str, Any]:
    film = read_film(run)
    return {field.name: getattr(film, field.name) for field in fields(Film)}


def saved(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


DAMAGES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "empty": lambda _: b"",
    "no zip file": lambda _: b"\x89PNG\r\n" * 50,
    "cut off": lambda film: saved(film)[:-300],
    "overwritten in the middle": lambda film: saved(film)[:2000] + bytes(3000) + saved(film)[5000:],
    "another file": lambda _: saved({"images": np.zeros(3)}),
    "no array in it": lambda _: zipped("images.npy", b"text"),
    "a pickle": lambda film: saved(film | {"labels": np.array([print], object)}),
    "a pickle of its own": lambda _: zipped("images.npy", pickle.dumps(print)),
    "too large": lambda film: saved(film | {"maps": np.zeros((9000, 1, 1, 100, 100), np.int8)}),
    "no moment": lambda film: saved({name: values[:0] for name, values in film.items()}),
    "a moment less of one": lambda film: saved(film | {"loss": film["loss"][1:]}),
    "a class that does not exist": lambda film: saved(film | {"answers": film["answers"] + 10}),
    "a negative label": lambda film: saved(film | {"labels": film["labels"] - 10}),
    "more maps than images": lambda film: saved(film | {"maps": np.repeat(film["maps"], 20, axis=1)}),
    "filters that are numbers": lambda film: saved(film | {"filters": film["filter_peaks"]}),
    "images of another type": lambda film: saved(film | {"images": film["images"].astype(np.float32)}),
    "epochs of another shape": lambda film: saved(film | {"epochs": np.zeros((3, 2))}),
    "text": lambda film: saved(film | {"step": np.array(["a"] * len(film["step"]))}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_film_is_one_line_and_harms_nothing_else(damage: str, run: cl.Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    (copy / FILM).write_bytes(DAMAGES[damage](arrays(run)))
    damaged = cl.Run(copy)
    with pytest.raises(ConvladderError, match=r"film.npz is damaged \(.*delete it") as told:
        describe_film(damaged)
    assert "\n" not in str(told.value)
    (entry,) = list_films({"copy": copy}, ["of/copy"])
    assert (entry["file"], entry["why"]) == (None, str(told.value))
    assert damaged.metrics == run.metrics


def test_a_run_without_a_film_says_why(run: cl.Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    (copy / FILM).unlink()
    reasons = {
        "finished": "Expected a run of this version: train again",
        "running": "has no film yet: its training has not taken a step",
    }
    for status, reason in reasons.items():
        write_json(copy / "run.json", run.info | {"status": status})
        with pytest.raises(ConvladderError, match=reason):
            read_film(cl.Run(copy))
    assert list_films({"gone": tmp_path / "gone"}, ["of/gone"])[0]["why"].startswith(str(tmp_path / "gone"))
