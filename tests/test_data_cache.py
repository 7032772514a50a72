"""The decoded cache: decodes once, notices every change, survives kills and company, and keeps to its limit."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convladder as cl
import hostile
from convladder import workers as parallel
from convladder.data import cache, dataset, features, rows
from convladder.data.decoding import decode_image, decode_twice
from convladder.data.similarity import HASHED_SIDE
from convladder.files import locked
from convladder.workers import map_files


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "convladder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            hostile.picture(hash((name, number)) % 1000, (16, 16)).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded to be learned from, and not to look for copies."""
    seen: list[Path] = []

    def decode(path: Path, shape: tuple[int, int, int], *arguments: object) -> object:
        if shape[0] != HASHED_SIDE:
            seen.append(path)
        return decode_image(path, shape, *arguments)  # type: ignore[arg-type]

    def decode_for_both(path: str, *sizes: Any) -> object:
        first, second = decode_twice(path, *sizes)
        if second is not None:
            seen.append(Path(path))
        return first, second

    monkeypatch.setattr(rows, "decode_image", decode)
    monkeypatch.setattr(rows, "decode_twice", decode_for_both)
    return seen


def entries(root: Path) -> list[Path]:
    """Those of pictures to be learned from."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_of_copies(path / "index.npz"))


def is_of_copies(index: Path) -> bool:
    return index.exists() and index.stat().st_size > 0 and np.load(index)["shape"][0] == HASHED_SIDE


def test_what_was_decoded_once_is_not_decoded_again(root: Path, folder: Path, decodings: list[Path]) -> None:
    first = cl.load_dataset(folder)
    assert len(decodings) == 20
    second = cl.load_dataset(folder)
    assert len(decodings) == 20
    assert isinstance(second.train.images, np.memmap)
    assert first.fingerprint == second.fingerprint == cl.load_dataset(folder, cache=False).fingerprint
    assert first.account == second.account


def test_copies_are_looked_for_once(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cl.load_dataset(folder)
    monkeypatch.setattr(rows, "decode_image", None)  # nothing is decoded any more
    monkeypatch.setattr(rows, "decode_twice", None)
    cl.load_dataset(folder)
    assert len(list(root.iterdir())) > len(entries(root))


def test_a_changed_file_a_new_one_and_other_settings_are_noticed(
    root: Path, folder: Path, decodings: list[Path]
) -> None:
    loaders: list[Callable[[], cl.Dataset]] = [
        lambda: cl.load_dataset(folder),
        lambda: cl.load_dataset(folder, image_size=12),
        lambda: cl.load_dataset(folder, channels=1),
        lambda: cl.load_dataset(folder, resize="pad"),
    ]
    for number, load in enumerate(loaders, start=1):
        load()
        assert len(decodings) == 20 * number
    before = cl.load_dataset(folder)
    changed = folder / "a" / "3.png"
    times = changed.stat()
    hostile.picture(4321, (16, 16)).save(changed)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a tool does that keeps dates
    after = cl.load_dataset(folder)
    assert len(decodings) == 100
    assert after.fingerprint != before.fingerprint
    hostile.picture(7).save(folder / "a" / "new.png")
    assert sum(len(part) for part in (*_parts(cl.load_dataset(folder)),)) == 21


def _parts(data: cl.Dataset) -> tuple[cl.Split, ...]:
    return data.train, data.validation, data.test


def test_without_cache_nothing_is_left(
    root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    data = cl.load_dataset(folder, cache=False)
    assert not root.exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert data.train.images.any()  # it can be read all the same


def test_the_images_are_mapped_and_joined_without_reading(root: Path, folder: Path) -> None:
    data = cl.load_dataset(folder)
    whole = data.without_validation().train
    assert isinstance(whole.images, np.memmap)
    np.testing.assert_array_equal(whole.images, np.concatenate([data.train.images, data.validation.images]))
    reversed_parts = dataset.join(data.validation.images, data.train.images)
    np.testing.assert_array_equal(reversed_parts, np.concatenate([data.validation.images, data.train.images]))
    dataset.release(data.train.images)
    np.testing.assert_array_equal(whole.images[: len(data.train)], data.train.images)


def test_slices_are_all_of_the_images_in_order_and_smaller_for_large_ones(root: Path, folder: Path) -> None:
    mapped = cl.load_dataset(folder).train.images
    np.testing.assert_array_equal(np.concatenate(list(dataset.slices(mapped))), mapped)
    assert [len(part) for part in dataset.slices(np.empty((1200, 28, 28, 1), np.uint8))] == [500, 500, 200]
    assert [len(part) for part in dataset.slices(np.empty((90, 224, 224, 1), np.uint8))] == [20, 20, 20, 20, 10]


def test_a_damaged_entry_is_built_anew(root: Path, folder: Path, decodings: list[Path]) -> None:
    expected = cl.load_dataset(folder).fingerprint
    for name in ("images", "index.npz"):
        (entry,) = entries(root)
        (entry / name).write_bytes(b"")
        assert cl.load_dataset(folder).fingerprint == expected
    assert len(decodings) == 60


BUILD = """
import sys
import convladder as cl
from convladder.data import cache

if sys.argv[2] == "stop":
    def stop(*_):
        print("building", flush=True)
        sys.stdin.read()
    cache._close_gaps = stop
data = cl.load_dataset(sys.argv[1])
print(data.fingerprint)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(folder), *(arguments or ("go",))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.long
def test_a_build_that_was_killed_is_built_anew(root: Path, folder: Path) -> None:
    with start(folder, "stop") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        assert [path.suffix for path in entries(root)] == [".new"]
        waiting = start(folder)  # meanwhile a second one waits for the first
        os.kill(process.pid, signal.SIGKILL)
    fingerprint = waiting.communicate()[0].strip()
    assert fingerprint == cl.load_dataset(folder).fingerprint == cl.load_dataset(folder, cache=False).fingerprint
    assert [path.suffix for path in entries(root)] == [""]


KILLED = """
import os, signal, sys
import numpy as np
import convladder as cl
from convladder.data import cache, features, journal
journal.SECONDS_APART = 0
add, added = journal.Journal.add, 0
def killed(self, entry):
    global added
    add(self, entry)
    added += 1
    if added == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "features":
    data = cl.load_dataset("clothes", image_size=64)
    journal.Journal.add = killed
    features.compute_features([data.train.images])
else:
    journal.Journal.add = killed
    cl.load_dataset(sys.argv[1])
"""


def build_and_be_killed(folder: Path, entries: int, what: str = "pictures") -> None:
    command = [sys.executable, "-c", KILLED, str(folder), str(entries), what]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def test_a_build_that_was_killed_goes_on_with_what_was_decoded(root: Path, folder: Path, decodings: list[Path]) -> None:
    (folder / "a" / "4.png").write_bytes(b"no picture")
    build_and_be_killed(folder, 21 + 1 + 12)  # each journal begins with a line of its own; the first looks for copies
    expected = cl.load_dataset(folder, cache=False)
    decodings.clear()
    data = cl.load_dataset(folder)
    assert 0 < len(decodings) < 20
    assert data.fingerprint == expected.fingerprint
    assert [path.suffix for path in entries(root)] == [""]
    assert sorted(path.name for path in entries(root)[0].iterdir()) == ["images", "index.npz"]


def test_pixels_that_a_power_cut_has_lost_are_decoded_again(root: Path, folder: Path, decodings: list[Path]) -> None:
    build_and_be_killed(folder, 21 + 1 + 12)
    (new,) = root.glob("*.new")
    with (new / "images").open("r+b") as file:
        file.truncate(5 * 16 * 16 * 3)
        file.truncate(12 * 16 * 16 * 3)  # zeros, as a file system may leave them
    with (new / "journal").open("ab") as file:
        file.write(b"\0\0\0")
    expected = cl.load_dataset(folder, cache=False).fingerprint
    decodings.clear()
    assert cl.load_dataset(folder).fingerprint == expected
    assert len(decodings) == 15


@pytest.mark.long
def test_features_go_on_after_a_kill(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = cl.load_dataset("clothes", image_size=64)
    build_and_be_killed(folder, 4, "features")
    images, run = [data.train.images], features.open_graph
    batches: list[int] = []

    class Counting:
        def __init__(self, session: object) -> None:
            self.session = session

        def __getattr__(self, name: str) -> object:
            if name == "run":
                batches.append(1)
            return getattr(self.session, name)

    monkeypatch.setattr(features, "open_graph", lambda content: Counting(run(content)))
    (kept,) = features.compute_features(images)
    resumed = len(batches)
    (anew,) = features.compute_features(images, cache=False)
    np.testing.assert_array_equal(kept, anew)
    assert resumed == len(batches) - resumed - 2 * 3  # each batch twice, for its mirror image
    (entry,) = (path for path in root.iterdir() if (path / "features.npy").exists())
    assert [path.name for path in entry.iterdir()] == ["features.npy"]


@pytest.mark.long
def test_two_processes_build_one_entry_and_agree(root: Path, folder: Path) -> None:
    for number in range(parallel.CHUNK):  # enough for processes of their own
        hostile.picture(2000 + number, (16, 16)).save(folder / "b" / f"more {number}.png")
    first, second = start(folder), start(folder)
    fingerprints = {process.communicate()[0] for process in (first, second)}
    assert fingerprints == {cl.load_dataset(folder, cache=False).fingerprint + "\n"}
    assert len(entries(root)) == 1


def test_the_limit_is_kept_and_the_oldest_goes_first(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (16, 17, 18)
    for age, size in enumerate(sizes):
        before = set(entries(root)) if root.exists() else set()
        cl.load_dataset(folder, image_size=size)
        (new,) = set(entries(root)) - before
        os.utime(new, (1e9 + age, 1e9 + age))
    oldest = entries(root)
    cl.load_dataset(folder, image_size=16)  # used again, so it is the youngest now
    abandoned = root / "0123.new"
    abandoned.mkdir()
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(1e-9 * 20 * 3 * (3.4 * 18 * 18 + HASHED_SIDE * HASHED_SIDE)))
    cl.load_dataset(folder, image_size=19)
    assert not abandoned.exists()
    kept = entries(root)
    assert len(set(oldest) - set(kept)) == 1
    assert {np.load(entry / "index.npz")["shape"][0] for entry in kept} == {16, 18, 19}
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "0.000001")
    with pytest.raises(cl.ConvladderError, match="smaller --image-size"):
        cl.load_dataset(folder, image_size=20)
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "much")
    with pytest.raises(cl.ConvladderError, match="number of gigabytes"):
        cl.load_dataset(folder, image_size=20)


def test_room_is_made_from_entries_that_nobody_opens_and_never_from_runs(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (16, 17):
        cl.load_dataset(folder, image_size=size)
    in_use, unused = entries(root)
    run = root / "runs" / "0123" / "fast-1"  # the copy of a run at a URL, which may not have been sent yet
    run.mkdir(parents=True)
    for path in (run.parent.parent, in_use, unused):
        os.utime(path, (1e9, 1e9))
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "0.00002")
    with locked(in_use.with_suffix(".lock")):  # as another process would
        cache.make_room(root, 20_000)
    assert not unused.exists()
    assert in_use.exists()
    assert run.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(cl.ConvladderError, match=r"No space left on device.*--no-cache") as raised:
        cl.load_dataset(folder)
    assert raised.value.exit_status == 1
    assert entries(root) == []


def test_a_cache_that_cannot_be_made_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(cl.ConvladderError, match="XDG_CACHE_HOME"):
        cl.load_dataset(folder)


def double_or_die(number: int) -> int:
    if number == 1234:
        os.kill(os.getpid(), signal.SIGKILL)  # as a file may that makes a decoder crash
    if number < 0:
        raise ValueError("negative")
    return 2 * number


@pytest.mark.long
def test_an_item_that_ends_its_process_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    results = list(map_files(double_or_die, range(1100, 1400)))
    assert results == [None if number == 1234 else 2 * number for number in range(1100, 1400)]
    with pytest.raises(ValueError, match="negative"):
        list(map_files(double_or_die, range(-300, 0)))


def test_processes_that_cannot_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(cl.ConvladderError, match="ended at once"):
        list(map_files(double_or_die, range(300)))


@pytest.mark.parametrize("kept", [True, False])
def test_the_features_of_a_data_set_are_kept_unless_it_says_no(root: Path, folder: Path, kept: bool) -> None:
    data = cl.load_dataset(folder, cache=kept)
    pooled, labels = features.pool_features(data)
    assert pooled.shape == (2, len(labels), 1280)
    assert features.are_kept([split.images for split in data.splits]) == kept
