"""The embedded MNIST against its published checksums; .npz files, good and bad."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convladder as cl
from convladder.data import loading
from convladder.data.dataset import describe_classes
from convladder.data.idx import encode_idx

# Of the four files as published, gunzipped; typed here a second time, so that a change there is caught.
MD5 = {
    "train-images": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels": "a25bea736e30d166cdddb491f175f624",
    "test-images": "2646ac647ad5339dbf082846283269ea",
    "test-labels": "27ae3e4e09519cfbb04c329615203637",
}


def embedded() -> Path:
    return Path(loading.__file__).with_name("mnist.npz")


def test_the_embedded_mnist_encodes_to_the_four_published_idx_files() -> None:
    arrays = loading.read_npz(embedded())
    for name, key in zip(MD5, ("x_train", "y_train", "x_test", "y_test"), strict=True):
        assert hashlib.md5(encode_idx(arrays[key])).hexdigest() == MD5[name]


def test_mnist_is_split_by_class(mnist: cl.Dataset) -> None:
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    assert mnist.input_shape == (28, 28, 1)
    everything = Counter(mnist.train.labels.tolist()) + Counter(mnist.validation.labels.tolist())
    for label, count in Counter(mnist.validation.labels.tolist()).items():
        assert count == pytest.approx(everything[label] / 12, abs=1)


def test_the_split_is_the_same_every_time_and_loses_no_image(mnist: cl.Dataset) -> None:
    assert cl.load_dataset("mnist").fingerprint == mnist.fingerprint
    whole = mnist.without_validation()
    assert (len(whole.train), len(whole.validation)) == (60_000, 0)
    original = loading.read_npz(embedded())["x_train"]
    assert whole.train.images.sum(dtype=np.int64) == original.sum(dtype=np.int64)


def test_the_fingerprint_tells_one_changed_pixel(small: cl.Dataset) -> None:
    images = small.test.images.copy()
    images[7, 14, 14, 0] ^= 1
    changed = cl.Dataset(
        small.name, small.class_names, small.train, small.validation, cl.Split(images, small.test.labels)
    )
    assert changed.fingerprint != small.fingerprint


def test_an_npz_with_the_keys_of_mnist_is_a_data_set(small_npz: Path, small: cl.Dataset) -> None:
    loaded = cl.load_dataset(small_npz)
    assert len(loaded.train) + len(loaded.validation) == len(small.train)
    np.testing.assert_array_equal(loaded.test.images, small.test.images)


@pytest.mark.parametrize("position", [0, 100, 5_000_000])
def test_a_damaged_embedded_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    damaged = bytearray(embedded().read_bytes())
    damaged[position] ^= 0xFF
    (tmp_path / "mnist.npz").write_bytes(damaged)
    monkeypatch.setattr(loading, "files", lambda _: tmp_path)
    with pytest.raises(cl.ConvladderError, match="damaged"):
        cl.load_dataset("mnist")


def test_a_well_formed_file_with_other_digits_is_not_taken_for_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_npz: Path
) -> None:
    (tmp_path / "mnist.npz").write_bytes(small_npz.read_bytes())
    monkeypatch.setattr(loading, "files", lambda _: tmp_path)
    with pytest.raises(cl.ConvladderError, match="embedded MNIST is damaged"):
        cl.load_dataset("mnist")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((4, 28, 28), np.float32)}, "x_train .* float32"),
        ({"x_train": np.zeros((4, 28), np.uint8)}, "x_train"),
        ({"y_train": np.zeros(3, np.int64)}, "Expected 4 integers"),
        ({"y_train": np.array([0, 1, -1, 0])}, "from 0 up"),
        ({"x_test": np.zeros((2, 9, 9), np.uint8)}, "one shape"),
        ({"y_test": np.array([None, None])}, "damaged or no data set"),
    ],
)
def test_a_file_that_is_no_data_set_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "x_train": np.zeros((4, 28, 28), np.uint8),
        "y_train": np.array([0, 1, 0, 1]),
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "y_test": np.array([0, 1]),
    }
    np.savez(tmp_path / "data.npz", **(good | arrays))
    with pytest.raises(cl.ConvladderError, match=message):
        cl.load_dataset(tmp_path / "data.npz")


@pytest.mark.parametrize("content", [None, b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_an_unreadable_path_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(cl.ConvladderError, match=r"data\.npz"):
        cl.load_dataset(path)


def test_a_class_with_one_image_cannot_be_split(tmp_path: Path) -> None:
    labels = np.array([0] * 23 + [1])
    images = np.zeros((24, 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(cl.ConvladderError, match="cannot be split by class"):
        cl.load_dataset(tmp_path / "data.npz")


def test_of_many_classes_the_largest_and_the_smallest_are_named(tmp_path: Path) -> None:
    counts = range(2, 32)
    labels = np.repeat(np.arange(30), counts)
    images = np.zeros((len(labels), 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    told = describe_classes(cl.load_dataset(tmp_path / "data.npz").without_validation())
    largest = ", ".join(f"{label} ({2 * (label + 2)})" for label in range(29, 10, -1))
    assert told.startswith(f"30 classes: {largest}, … 0 (4). 495 pictures for training, 0 for validation, ")


def test_a_data_set_says_how_to_load_it_again(small_npz: Path) -> None:
    data = cl.load_dataset(small_npz, validation=0.2, seed=3)
    assert data.source is not None
    again = cl.load_dataset(**data.source)
    assert again.source == data.source
    assert again.fingerprint == data.fingerprint != cl.load_dataset(small_npz, validation=0.2, seed=4).fingerprint
