"""Overlap: whether one picture is a part of another, in whatever light, as it is or mirrored.

A perceptual hash misses crops; features find them, and take pictures of one kind of thing for copies. So what features
find is looked at again here: pixel by pixel, at every place and at many sizes.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from convladder.data.decoding import decode_outline
from convladder.errors import ConvladderError

COARSE, FINE = 32, 64  # pixels of the longer side: for a first look, and for a second where the first finds something
PROMISING = 0.6  # of the first look: one in eight pairs of unlike photographs of a kind has more, and all crops
DETAIL = 3 / 64  # of the longer side: what is larger, as a garment's outline before a wall, many pictures share
SMALLEST_CROP = 0.5  # of the picture's sides
SMALLEST_PART = 6  # pixels of a side: in less there is too little to compare
LEAST_CONTRAST = 1.0  # gray levels: what varies less is noise

Gray = npt.NDArray[np.float32]


def overlap(paths: tuple[str, str]) -> float:
    """How well one of two pictures is found within the other: 1 perfectly, 0 not at all.

    The largest correlation (of the normalized kind, which brightness and contrast do not change) of what is fine in
    one picture, reduced to any size down to half, with any place of the other.

    Args:
        paths: Two files; where one of them cannot be read, 0 comes back.

    Returns:
        Of 60 crops to 70 % of the sides 57 have 0.83 or more, and of 60 pictures in other light 58; of 1,736 pairs of
        like photographs that are no copies, two.
    """
    try:
        first, second = (decode_outline(path, FINE) for path in paths)
    except ConvladderError:
        return 0.0
    coarse = _compare(_shrink(first, COARSE), _shrink(second, COARSE))
    return _compare(first, second) if coarse > PROMISING else coarse


def _compare(first: Gray, second: Gray) -> float:
    from scipy.ndimage import gaussian_filter

    first, second = (gray - gaussian_filter(gray, DETAIL * max(gray.shape), mode="nearest") for gray in (first, second))
    found = (max(_search(*pair), default=0.0) for pair in ((first, second), (second, first)))
    return max(found)


def _search(part: Gray, whole: Gray) -> Iterator[float]:
    """The largest correlation of a part, and of its mirror image, with any place of the whole, size by size."""
    from scipy.fft import irfft2, rfft2

    height, width = whole.shape
    transformed = rfft2(whole)
    sums, squares = (_accumulate(values) for values in (whole, whole**2))
    largest = min(height / part.shape[0], width / part.shape[1])
    step = 1 + 2 / max(whole.shape)  # a pixel on each side
    scales = largest * step ** -np.arange(1 - np.log(SMALLEST_CROP) / np.log(step))
    for down, across in dict.fromkeys((round(scale * part.shape[0]), round(scale * part.shape[1])) for scale in scales):
        if min(down, across) < SMALLEST_PART:
            return
        small = np.asarray(Image.fromarray(part).resize((across, down), Image.Resampling.BILINEAR))
        small = small - small.mean()
        both = np.stack([small, small[:, ::-1]])
        product = irfft2(transformed * np.conj(rfft2(both, (height, width))), (height, width))
        product = product[:, : height - down + 1, : width - across + 1].max(axis=0)  # places that lie within the whole
        count = down * across
        varying = _sum_boxes(squares, down, across) - _sum_boxes(sums, down, across) ** 2 / count
        places = np.sqrt(np.maximum(varying, LEAST_CONTRAST * count))
        yield float((product / places).max()) / max(float(np.linalg.norm(small)), (LEAST_CONTRAST * count) ** 0.5)


def _shrink(gray: Gray, side: int) -> Gray:
    picture = Image.fromarray(gray)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _accumulate(values: Gray) -> npt.NDArray[np.float64]:
    """Sums over all rectangles that begin at the corner, from which those over any others follow."""
    return np.pad(values.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))


def _sum_boxes(table: npt.NDArray[np.float64], down: int, across: int) -> npt.NDArray[np.float64]:
    rows = table[down:] - table[:-down]
    return rows[:, across:] - rows[:, :-across]
