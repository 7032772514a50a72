"""Augmentation against SciPy's resampling; small, different for each image, the same for the same seed."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import center_of_mass

import convladder as cl
import hostile
from convladder.training import augmentation
from convladder.training.augmentation import augment_digits, augment_photos


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


@pytest.fixture
def photos() -> np.ndarray:
    return np.stack([np.asarray(hostile.picture(seed, (32, 24))) for seed in range(64)])


def recolour(photos: np.ndarray, *seed: int) -> np.ndarray:
    return np.asarray(augment_photos(tf.constant(photos), tf.constant(seed)))


def only(monkeypatch: pytest.MonkeyPatch, *kept: str) -> None:
    for name in {"CROP", "BRIGHTNESS", "CONTRAST", "SATURATION", "CUTOUT"} - set(kept):
        monkeypatch.setattr(augmentation, name, 0.0)


def test_photos_stay_bytes_of_their_shape_change_each_by_itself_and_by_the_seed(photos: np.ndarray) -> None:
    same = np.repeat(photos[:1], 50, axis=0)
    changed = recolour(same, 1, 2)
    assert changed.dtype == np.uint8
    assert changed.shape == same.shape
    assert len({image.tobytes() for image in changed}) == 50
    np.testing.assert_array_equal(recolour(photos, 1, 2), recolour(photos, 1, 2))
    assert not np.array_equal(recolour(photos, 1, 2), recolour(photos, 1, 3))


def test_half_of_the_photos_are_flipped(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    changed = recolour(photos, 0, 0)
    flipped = [np.array_equal(after, before[:, ::-1]) for after, before in zip(changed, photos, strict=True)]
    kept = [np.array_equal(after, before) for after, before in zip(changed, photos, strict=True)]
    assert all(a or b for a, b in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48


def test_photos_are_shifted_by_whole_pixels_with_a_mirrored_border(
    photos: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "CROP")
    shifts = set()
    for after, before in zip(recolour(photos, 0, 0), photos, strict=True):
        padded = np.pad(before, ((3, 3), (4, 4), (0, 0)), mode="symmetric")  # an eighth of 24 and of 32
        matches = [
            (down, right)
            for down in range(7)
            for right in range(9)
            for window in [padded[down : down + 24, right : right + 32]]
            if np.array_equal(after, window) or np.array_equal(after, window[:, ::-1])
        ]
        assert len(matches) == 1
        shifts.update(matches)
    assert {down for down, _ in shifts} == set(range(7))
    assert {right for _, right in shifts} == set(range(9))


@pytest.mark.parametrize("name", ["BRIGHTNESS", "CONTRAST", "SATURATION"])
def test_each_change_of_colour_is_what_it_says(name: str, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, name)
    muted = (96 + photos.astype(float) / 4).astype(np.uint8)  # so that nothing is clipped
    for after, before in zip(recolour(muted, 0, 0).astype(float), muted.astype(float), strict=True):
        upright = min((before, before[:, ::-1]), key=lambda image: np.abs(after - image).mean())
        if name == "BRIGHTNESS":
            assert np.ptp(after - upright) <= 1
            assert np.abs(after - upright).max() <= 26
        elif name == "CONTRAST":
            assert after.mean() == pytest.approx(upright.mean(), abs=0.5)
            assert 0.78 < after.std() / upright.std() < 1.22
        else:
            weights = [0.299, 0.587, 0.114]
            np.testing.assert_allclose(after @ weights, upright @ weights, atol=1)
            spread = np.ptp(after, axis=2).sum() / np.ptp(upright, axis=2).sum()
            assert 0.78 < spread < 1.22


def test_a_rectangle_of_a_quarter_of_each_side_is_hidden(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "CUTOUT")
    areas = []
    for after, before in zip(recolour(photos, 0, 0).astype(float), photos.astype(float), strict=True):
        upright = min((before, before[:, ::-1]), key=lambda image: np.abs(after - image).mean())
        hidden = (after != upright).any(axis=2)
        np.testing.assert_allclose(after[hidden], upright.mean(), atol=1)
        assert hidden.any(axis=1).sum() <= 24 / 4
        assert hidden.any(axis=0).sum() <= 32 / 4
        areas.append(hidden.sum())
    assert np.median(areas) > 24 * 32 / 4**2 / 2


def test_gray_photos_can_be_changed_too(photos: np.ndarray) -> None:
    assert recolour(photos[..., :1], 0, 0).shape == (64, 24, 32, 1)
