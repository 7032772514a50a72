"""What the tests share: the real MNIST, a small part of it, and one finished run."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convladder.engine import import_engine

import_engine()  # before anything imports Keras, so that failures are not buried in TensorFlow's start-up lines

import convladder as cl  # noqa: E402
from convladder.data.dataset import Split  # noqa: E402

# A shell has what it starts in the background ignore these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has npm fetch ONNX Runtime Web."""
    for item in items:
        if "runtime" in getattr(item, "fixturenames", ()):
            item.add_marker("network")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded pictures out of the user's cache, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def mnist() -> cl.Dataset:
    return cl.load_dataset("mnist")


@pytest.fixture(scope="session")
def small(mnist: cl.Dataset) -> cl.Dataset:
    """The first 2,000, 500 and 1,000 images of MNIST's three splits."""

    def first(split: Split, count: int) -> Split:
        return Split(split.images[:count], split.labels[:count])

    return cl.Dataset(
        "small",
        mnist.class_names,
        first(mnist.train, 2000),
        first(mnist.validation, 500),
        first(mnist.test, 1000),
    )


@pytest.fixture(scope="session")
def small_npz(small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(
        path,
        x_train=small.train.images[..., 0],
        y_train=small.train.labels,
        x_test=small.test.images[..., 0],
        y_test=small.test.labels,
    )
    return path


@pytest.fixture(scope="session")
def run(small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    return cl.train("fast", small, replace(cl.DEFAULT, epochs=4), seed=1, directory=tmp_path_factory.mktemp("runs"))
