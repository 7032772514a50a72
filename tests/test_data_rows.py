"""Pictures are decoded once for two sizes: for the search for copies, and for the network."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.data import decoding
from convladder.data.decoding import decode_image, decode_twice
from convladder.data.rows import Ahead, Target


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures of 1280×960, one of them rotated by its metadata, two in other formats."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for number in range(12):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        path = tmp_path / "photographs" / "ab"[number % 2] / f"{number}.{'png' if number > 9 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 3 else 1
        coarse.resize((1280, 960)).save(path, exif=exif)
    return tmp_path / "photographs"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gets an entry for each picture whose pixels are read."""
    read: list[Any] = []
    whole = decoding._read_upright

    def note(picture: Image.Image, *settings: Any) -> Image.Image:
        read.append(settings)
        return whole(picture, *settings)

    monkeypatch.setattr(decoding, "_read_upright", note)
    return read


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_a_folder_is_decoded_once_and_has_the_pixels_of_each_file(
    photographs: Path, reads: list[Any], resize: str, cache: bool
) -> None:
    data = cl.load_dataset(photographs, image_size=64, channels=3, resize=resize, validation=0.2, cache=cache)
    assert len(reads) == 12
    images = np.concatenate([split.images for split in (data.train, data.validation, data.test)])
    assert data.account is not None
    for path, pixels in zip(data.account.paths, images, strict=True):
        np.testing.assert_array_equal(pixels, decode_image(path, (64, 64, 3), resize))
    assert not list(photographs.parent.glob("cache/convladder/*/ahead"))


@pytest.mark.parametrize(("side", "channels"), [(400, 3), (64, 1)])
def test_more_of_a_file_or_other_channels_are_read_again(photographs: Path, side: int, channels: int) -> None:
    for path in map(str, photographs.rglob("*.jpg")):
        first, second = decode_twice(path, ((32, 32, 3), "crop"), ((side, side, channels), "crop"))
        np.testing.assert_array_equal(first, decode_image(path, (32, 32, 3), "crop"))
        assert second is None
    data = cl.load_dataset(photographs, image_size=side, channels=channels, validation=0)
    assert data.account is not None
    np.testing.assert_array_equal(
        data.train.images[0], decode_image(data.account.paths[0], (side, side, channels), "crop")
    )


def test_a_file_that_has_changed_meanwhile_is_not_taken(photographs: Path, tmp_path: Path) -> None:
    path = str(photographs / "a" / "0.jpg")
    ahead = Ahead(lambda: (64, 64, 3), "crop")
    target = ahead.begin(tmp_path / "ahead", [(0, path)])
    assert target is not None
    ahead.put(path, 0, (1, 2, False))
    assert ahead.has(path, target)
    assert not ahead.has(path, Target(target.path, (48, 48, 3), "crop"))
    os.utime(path, (1, 1))
    assert not ahead.has(path, target)
    ahead.close()


def test_with_little_room_each_size_is_decoded_by_itself(
    photographs: Path, reads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=12 * 64 * 64 * 3 * 2))
    data = cl.load_dataset(photographs, image_size=64, channels=3, validation=0)
    assert len(reads) == 24
    assert len(data.train) + len(data.test) == 12
