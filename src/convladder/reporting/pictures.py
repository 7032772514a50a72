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
from convladder.reporting import plots

PICTURE_SIDE = 72  # pixels per side of a picture, at most
MOST_BYTES = 1_200_000  # of all small pictures together
WRONG_IN_CELL, RIGHT_IN_CELL = 12, 6
WORST, EXPLAINED = 8, 4  # pictures per rung
NAMED = 3  # classes named beside a picture

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


def picture_uri(pixels: Pixels) -> str:
    """A picture of shape (height, width, channels) as a data URI: PNG or JPEG, whichever is shorter."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    encoded = []
    for form, settings in (("PNG", {"optimize": True}), ("JPEG", {"quality": 85})):
        file = io.BytesIO()
        picture.save(file, form, **settings)
        encoded.append((len(file.getvalue()), form.lower(), file.getvalue()))
    _, form, content = min(encoded)
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


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


def describe_worst(
    cells: Mapping[Cell, Sequence[int]],
    probabilities: npt.NDArray[np.float32],
    class_names: Sequence[str],
    images: Pixels | None,
    predict: Callable[[Pixels], npt.NDArray[np.float32]] | None,
) -> list[dict[str, Any]]:
    """The most confident errors, with pictures and a few occlusion maps if the images are there."""
    wrong = [(number, cell) for cell, numbers in cells.items() if cell[0] != cell[1] for number in numbers]
    wrong.sort(key=lambda one: -float(probabilities[one[0]].max()))
    described = []
    for place, (number, (label, taken)) in enumerate(wrong[:WORST]):
        one: dict[str, Any] = {
            "number": number,
            "label": class_names[label],
            "taken": class_names[taken],
            "top": [(class_names[named], share) for named, share in name_top(probabilities[number])],
        }
        if images is not None:
            pixels = np.asarray(images[number])
            one["picture"] = picture_uri(pixels)
            if predict is not None and place < EXPLAINED:
                one["map"] = picture_uri(plots.overlay(pixels, occlude(predict, pixels, taken)))
        described.append(one)
    return described
