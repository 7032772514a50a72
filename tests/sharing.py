"""What is made once, for all tests and for all processes of pytest-xdist."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import convladder as cl


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills: in the process that asks first, while the others wait for it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / f"shared-{name}", base / f"shared-{name}.made"
    with (base / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def take_first(dataset: cl.Dataset, *counts: int, name: str = "few") -> cl.Dataset:
    """The first images of the three splits, so many of each."""
    train, validation, test = (
        cl.Split(split.images[:count], split.labels[:count])
        for split, count in zip(dataset.splits, counts, strict=True)
    )
    return cl.Dataset(name, dataset.class_names, train, validation, test)


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file, by which one sees that a test has changed what others look at too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
