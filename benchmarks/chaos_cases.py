"""The commands that chaos.py ends, the data that they work on, and what they must have written in the end."""

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass
class Case:
    """A command, what to call when it was ended, and what its result is.

    Attributes:
        name: In the table.
        command: From a folder to the arguments, as they are first or when something is there already.
        result: From the folder to a digest of what the command wrote, once it is done.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    result: Callable[[Path], str]


def digest_arrays(path: Path) -> str:
    """SHA-256 over the arrays of an .npz file: the zip itself holds times."""
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as archive:
        for name in sorted(archive.files):
            digest.update(name.encode() + archive[name].tobytes())
    return digest.hexdigest()


def digest_weights(path: Path) -> str:
    """SHA-256 over the weights in a .keras file, read without Keras: this process must not start TensorFlow."""
    import h5py

    digest = hashlib.sha256()

    def take(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(item[()].tobytes())

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(take)
    return digest.hexdigest()


def digest_runs(folder: Path) -> str:
    """Of all finished runs: weights and answers; and how many runs are not finished."""
    finished, others = [], 0
    for path in sorted(folder.glob("runs/*/run.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        if info["status"] == "finished":
            seen = digest_weights(path.parent / "model.keras"), digest_arrays(path.parent / "predictions.npz")
            finished.append((info["rung"], info["seed"], *seen))
        else:
            others += 1
    return hashlib.sha256(repr((sorted(finished), others)).encode()).hexdigest()


def digest_files(folder: Path) -> str:
    """Of a folder's files, all of which must hold something.

    TensorFlow's differ from one undisturbed export to the next: what they answer was tested by the command itself.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(content if path.suffix == ".json" else str(len(content) > 0).encode())
    return digest.hexdigest()


def train(*arguments: str) -> Callable[[Path], Sequence[str]]:
    """`train`, or where it has begun `train --resume`."""

    def command(folder: Path) -> Sequence[str]:
        begun = sorted(path.parent for path in folder.glob("runs/*/run.json"))
        if begun:
            return ["train", "--resume", str(begun[0])]
        return ["train", *arguments, "--deterministic", "--runs", str(folder / "runs")]

    return command


def cases(data: Path) -> list[Case]:
    """All long commands."""
    small, model = data / "small.npz", data / "runs" / "fast-1"
    brief = ("--data", str(small), "--epochs", "12", "--seed", "3")
    tuned = ("--data", str(data / "few"), "--image-size", "32", "--epochs", "1", "--seed", "3")
    return [
        Case("train", train("--model", "batchnorm", "--augment", "digits", *brief), digest_runs),
        Case("ensemble", train("--model", "dense", "--ensemble", "3", *brief), digest_runs),
        Case(
            "predict",
            lambda folder: [
                *("predict", str(model), str(data / "pictures"), "--csv", "--output", str(folder / "answers.csv")),
            ],
            lambda folder: hashlib.sha256((folder / "answers.csv").read_bytes()).hexdigest(),
        ),
        Case(
            "export",
            lambda folder: ["export", str(model), "--format", "savedmodel", "--output", str(folder / "saved")],
            lambda folder: digest_files(folder / "saved"),
        ),
        Case(
            "cache",
            lambda folder: ["cache", str(data / "pictures"), str(folder / "fingerprint")],
            lambda folder: (folder / "fingerprint").read_text(encoding="utf-8"),
        ),
        Case(
            "compare",
            lambda folder: [
                *("compare", "--models", "dense,fast", "--deterministic", *brief[:4], "--runs", str(folder / "runs")),
            ],
            digest_runs,
        ),
        Case("finetune", train("--model", "finetune", *tuned), digest_runs),
    ]


def prepare_data(folder: Path) -> None:
    """Small data, because what is tried is where a command is ended, not how much it has to do."""
    import convladder as cl

    mnist = cl.load_dataset("mnist")
    np.savez(
        folder / "small.npz",
        x_train=mnist.train.images[:800, ::2, ::2, 0],
        y_train=mnist.train.labels[:800],
        x_test=mnist.test.images[:200, ::2, ::2, 0],
        y_test=mnist.test.labels[:200],
    )
    for name, count, classes in (("pictures", 400, 10), ("few", 100, 2)):
        for number in range(count):
            path = folder / name / f"class {number % classes}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            digit = Image.fromarray(mnist.train.images[number, ..., 0]).resize((300, 300))
            Image.merge("RGB", [digit] * 3).save(path, compress_level=1)


def carry_out(arguments: Sequence[str]) -> None:
    """In a fork: what the command line does, and the cache, for which no command does nothing else."""
    if arguments[0] == "cache":
        import convladder as cl
        from convladder.files import whole_file

        fingerprint = cl.load_dataset(arguments[1]).fingerprint
        with whole_file(Path(arguments[2])) as temporary:
            temporary.write_text(fingerprint, encoding="utf-8")
        return
    from convladder.cli import main

    sys.argv = ["convladder", *arguments]
    main()
