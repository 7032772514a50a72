"""What the tests share: the real MNIST, a small part of it, and finished runs, which are trained once for all."""

import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from convladder.engine import import_engine

import_engine()  # before anything imports Keras, so that failures are not buried in TensorFlow's start-up lines

import convladder as cl  # noqa: E402
from convladder import cli  # noqa: E402
from sharing import contents, made_once, take_first  # noqa: E402

# A shell has what it starts in the background ignore these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Leave random numbers to the tests: pytest-randomly chooses the order alone."""
    config.option.randomly_reset_seed = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which order it was."""
    if (seed := config.getoption("randomly_seed", None)) is not None:
        terminalreporter.write_line(f"In the order of --randomly-seed={seed}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has npm fetch ONNX Runtime Web, and what shares a module's fixtures: one process makes them."""
    for item in items:
        if "runtime" in getattr(item, "fixturenames", ()):
            item.add_marker("network")
        if item.get_closest_marker("xdist_group") is None and shares_fixtures(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def shares_fixtures(item: pytest.Item) -> bool:
    """Whether a test takes a fixture that is made once a module."""
    assert isinstance(item, pytest.Function)
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return any(definition.scope == "module" for several in definitions for definition in several)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Fail a test that leaves other handlers of signals than it found: a later one would be ended by them."""
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(kind) for kind in kinds]
    yield
    after = [signal.getsignal(kind) for kind in kinds]
    for kind, handler in zip(kinds, before, strict=True):
        signal.signal(kind, handler)
    assert after == before


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded pictures out of the user's cache, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


class Result(NamedTuple):
    """What a command ended with, and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture
def convladder(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Call the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", ["convladder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Result(int(ended.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of two cores: each takes one run of a comparison at a time."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100_000_000}
    handler = signal.getsignal(signal.SIGTERM)
    nodes: Any = Cluster(initialize_head=True, head_node_args=node)
    nodes.second = nodes.add_node(**node)
    yield nodes
    nodes.shutdown()
    signal.signal(signal.SIGTERM, handler)  # every node that starts here installs its own, which exits


@pytest.fixture
def s3(_s3_server: None) -> str:
    """The URL of an empty bucket of its own, on an S3 server which all that is started here can reach."""
    import fsspec

    bucket = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[None]:
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, pytest.MonkeyPatch.context() as patch:
        assert server.stderr
        address = next(found for line in server.stderr if (found := re.search(r"http://\S+:\d+", line)))[0]
        reading = threading.Thread(target=server.stderr.read)  # its log would fill the pipe
        reading.start()
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            yield
        finally:
            server.kill()
            reading.join()


@pytest.fixture(scope="session")
def mnist() -> cl.Dataset:
    return cl.load_dataset("mnist")


@pytest.fixture(scope="session")
def small(mnist: cl.Dataset) -> cl.Dataset:
    """The first 2,000, 500 and 1,000 images of MNIST's three splits."""

    return take_first(mnist, 2000, 500, 1000, name="small")


@pytest.fixture(scope="session")
def small_npz(small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def write(folder: Path) -> None:
        np.savez(
            folder / "small.npz",
            x_train=small.train.images[..., 0],
            y_train=small.train.labels,
            x_test=small.test.images[..., 0],
            y_test=small.test.labels,
        )

    return made_once(tmp_path_factory, "data", write) / "small.npz"


def share(folder: Path) -> Iterator[cl.Run]:
    """The one run in a folder, which other tests look at too: who wants to change it copies it."""
    (path,) = folder.iterdir()
    before = contents(path)
    yield cl.Run(path)
    changed = set(before.items()) ^ set(contents(path).items())
    assert not changed, f"a test has changed a shared run, or added to it: {sorted({name for name, _ in changed})}"


@pytest.fixture(scope="session")
def run(small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cl.Run]:
    recipe = replace(cl.DEFAULT, epochs=4)
    yield from share(
        made_once(tmp_path_factory, "runs", lambda folder: cl.train("fast", small, recipe, seed=1, directory=folder))
    )


@pytest.fixture(scope="session")
def stored(small_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cl.Run]:
    """Another rung, on data that can be loaded again."""

    def train(folder: Path) -> None:
        cl.train("dense", cl.load_dataset(small_npz), replace(cl.DEFAULT, epochs=6), directory=folder)

    yield from share(made_once(tmp_path_factory, "stored", train))
