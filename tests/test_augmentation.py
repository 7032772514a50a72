"""Augmentation against SciPy's resampling; small, different for each image, the same for the same seed."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import center_of_mass

import convladder as cl
from convladder.data import augmentation
from convladder.data.augmentation import augment_digits


def augment(images: np.ndarray, *seed: int) -> np.ndarray:
    return np.asarray(augment_digits(tf.constant(images), tf.constant(seed)))


def test_images_stay_bytes_of_their_shape_and_change_each_by_itself(small: cl.Dataset) -> None:
    same = np.repeat(small.train.images[:1], 50, axis=0)
    changed = augment(same, 1, 2)
    assert changed.dtype == np.uint8
    assert changed.shape == same.shape
    assert len({image.tobytes() for image in changed}) == 50


def test_the_seed_decides(small: cl.Dataset) -> None:
    images = small.train.images[:8]
    np.testing.assert_array_equal(augment(images, 1, 2), augment(images, 1, 2))
    assert not np.array_equal(augment(images, 1, 2), augment(images, 1, 3))


def test_a_digit_moves_by_two_pixels_at_most_and_keeps_its_ink(small: cl.Dataset) -> None:
    images = small.train.images[:500]
    changed = augment(images, 0, 0)
    moved = [
        np.abs(np.subtract(center_of_mass(after), center_of_mass(before)))
        for before, after in zip(images[..., 0], changed[..., 0], strict=True)
    ]
    # MNIST is centred by its mass, so turning and scaling around the middle move that by little.
    assert 1.5 < np.max(moved) < 2 + 0.5
    ink = changed.sum(axis=(1, 2, 3), dtype=float) / images.sum(axis=(1, 2, 3), dtype=float)
    assert ink.min() > (1 - augmentation.SCALE) ** 2 - 0.06
    assert ink.max() < (1 + augmentation.SCALE) ** 2 + 0.12


@pytest.mark.parametrize("name", ["SHIFT", "ROTATION", "SCALE"])
def test_without_any_range_nothing_changes(name: str, small: cl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one range alone left, images do change, so each of the three is in use."""
    ranges = {"SHIFT", "ROTATION", "SCALE"}
    for other in ranges - {name}:
        monkeypatch.setattr(augmentation, other, 0.0)
    images = small.train.images[:4]
    assert not np.array_equal(augment(images, 0, 0), images)
    monkeypatch.setattr(augmentation, name, 0.0)
    np.testing.assert_array_equal(augment(images, 0, 0), images)


def test_a_quarter_turn_is_a_quarter_turn(small: cl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "SHIFT", 0.0)
    monkeypatch.setattr(augmentation, "SCALE", 0.0)
    monkeypatch.setattr(augmentation, "ROTATION", np.pi / 2)
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, *_: tf.ones(shape))
    images = small.train.images[:4]
    turned = augment(images, 0, 0).astype(int)
    assert min(np.abs(turned - np.rot90(images, k, axes=(1, 2)).astype(int)).max() for k in (1, 3)) <= 1
