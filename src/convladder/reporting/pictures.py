"""The report's pictures: chooses and shrinks test images, and draws what an answer depends on."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convladder.inference.occlusion import occlude

PICTURE_SIDE = 160  # pixels per side of a picture, at most; smaller ones are enlarged to it
SMALL_SIDE = 64  # up to here, a picture shows its pixels, which are stored without loss
QUALITY = 78
MOST_BYTES = 1_200_000  # of all small pictures together
WRONG_IN_CELL, RIGHT_IN_CELL = 12, 6
WORST, EXPLAINED = 8, 4  # pictures per rung
NAMED = 3  # classes named beside a picture
RED, BLUE = (214, 40, 40), (38, 110, 220)  # of an occlusion map
MOST_COVERED = 0.75  # of the picture, where the map is strongest

Pixels = npt.NDArray[np.uint8]
Cell = tuple[int, int]  # actual class, predicted class


@dataclass
class Gallery:
    """Test images as data URIs, each once, until the space is used up.

    Attributes:
        images: Shape (count, height, width, channels).
        left: Bytes that can still be added.
        shown: From the number of an image to its data URI.
    """

    images: Pixels
    left: int = MOST_BYTES
    shown: dict[int, str] = field(default_factory=dict)

    def add(self, number: int) -> bool:
        """Add an image if there is space; returns whether it is shown."""
        if number not in self.shown and self.left > 0:
            uri = picture_uri(np.asarray(self.images[number]))
            self.left -= len(uri)
            self.shown[number] = uri
        return number in self.shown


def is_small(images: Pixels) -> bool:
    """Whether images are so small that each pixel is seen when they are enlarged."""
    return max(images.shape[1:3]) <= SMALL_SIDE


def picture_uri(pixels: Pixels) -> str:
    """A picture of shape (height, width, channels) as a data URI: WebP, without loss if it is small."""
    picture = Image.fromarray(shrink(pixels))
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=max(picture.size) <= SMALL_SIDE, quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def shrink(pixels: Pixels) -> Pixels:
    """A picture as it is shown: shape (height, width, 3), 160 pixels high and wide at most."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def sort_into_cells(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[Cell, list[int]]:
    """The images in each cell of the confusion matrix: errors with the most confident first, correct ones reversed."""
    taken = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    confidence = np.where(taken == labels, -confidence, confidence)
    cells: dict[Cell, list[int]] = {}
    for number in np.argsort(-confidence, kind="stable").tolist():
        cells.setdefault((int(labels[number]), int(taken[number])), []).append(number)
    return cells


def fill(gallery: Gallery, cells_of_rungs: Sequence[dict[Cell, list[int]]]) -> list[dict[Cell, list[int]]]:
    """Add the first image of every cell, then the second, and so on, while there is space; errors come first.

    Args:
        gallery: The gallery that images are added to.
        cells_of_rungs: For each rung, the most important first, what `sort_into_cells` returns.

    Returns:
        For each rung and cell, the numbers of the images that are shown.
    """
    shown: list[dict[Cell, list[int]]] = [{} for _ in cells_of_rungs]
    for most, wrong in ((WRONG_IN_CELL, True), (RIGHT_IN_CELL, False)):
        for turn in range(most):
            for cells, kept in zip(cells_of_rungs, shown, strict=True):
                for cell, numbers in cells.items():
                    if (cell[0] != cell[1]) == wrong and turn < len(numbers) and gallery.add(numbers[turn]):
                        kept.setdefault(cell, []).append(numbers[turn])
    return shown


def name_top(probabilities: npt.NDArray[np.float32]) -> list[tuple[int, float]]:
    """The most probable labels with their probabilities."""
    return [(label, round(float(probabilities[label]), 3)) for label in probabilities.argsort()[::-1][:NAMED].tolist()]


def find_worst(cells: Mapping[Cell, Sequence[int]], probabilities: npt.NDArray[np.float32]) -> list[tuple[int, Cell]]:
    """The most confident errors: the numbers of their images, and their cells."""
    wrong = [(number, cell) for cell, numbers in cells.items() if cell[0] != cell[1] for number in numbers]
    wrong.sort(key=lambda one: -float(probabilities[one[0]].max()))
    return wrong[:WORST]


def draw_maps(
    worst: Sequence[tuple[int, Cell]],
    pictures: Pixels,
    images: Pixels,
    predict: Callable[[Pixels], npt.NDArray[np.float32]],
) -> dict[str, str]:
    """Occlusion maps of the first few errors, as data URIs by the number of the image.

    Args:
        worst: As `find_worst` returns it.
        pictures: The images as they are shown, shape (count, height, width, channels).
        images: The images as the network takes them.
        predict: Function from images to probabilities.
    """
    return {
        str(number): picture_uri(overlay(shrink(pictures[number]), occlude(predict, np.asarray(images[number]), taken)))
        for number, (_, taken) in worst[:EXPLAINED]
    }


def describe_answers(
    chosen: Sequence[tuple[int, Cell]],
    probabilities: npt.NDArray[np.float32],
    class_names: Sequence[str],
    pictures: Pixels | None,
    maps: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Answers for test images in words, with pictures if the images are there, and the maps of a few."""
    described = []
    for number, (label, taken) in chosen:
        one: dict[str, Any] = {
            "number": number,
            "label": class_names[label],
            "taken": class_names[taken],
            "top": [(class_names[named], share) for named, share in name_top(probabilities[number])],
        }
        if pictures is not None:
            one["picture"] = picture_uri(np.asarray(pictures[number]))
            one["map"] = maps.get(str(number))
        described.append(one)
    return described


def overlay(image: npt.NDArray[np.uint8], values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """An occlusion map over its picture in gray, shape (height, width, 3). The answer depends on the red parts.

    Where the map is near 0, the picture stays as it is; its range of grays leaves room for colours on black and white.
    """
    height, width = image.shape[:2]
    if values.shape != (height, width):
        values = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
    strength = np.clip(np.abs(values) / max(float(np.abs(values).max()), 1e-9), 0, 1)[..., np.newaxis]
    gray = 56 + 0.6 * image.mean(axis=2, keepdims=True)
    colours = np.where(values[..., np.newaxis] > 0, RED, BLUE)
    return np.asarray(np.rint(gray + MOST_COVERED * strength * (colours - gray)), np.uint8)
