"""Near copies: pictures that were saved again, resized or retouched, found by a perceptual hash."""

import itertools

import numpy as np
import numpy.typing as npt

from convladder.data.checks import Groups

HASHED_SIDE = 32  # pixels of the thumbnail that is hashed
LOW = 8  # frequencies that are kept per axis: 64 bits
FAR = 6  # bits in which the hashes of near copies may differ; those of unlike photographs differ in 12 or more
BANDS = (0, 9, 18, 27, 36, 45, 54, 64)  # one band more than FAR, so that near hashes have at least one equal band
FAINT = 0.1  # mean difference of near copies, relative to a picture's standard deviation
STRICT = 0.02  # the same for kinds of pictures that are all similar, such as digits; few copies differ more
ALIKE = 5e-4  # of all pairs: if the second check refuses more, the pictures are of a similar kind
ALIKE_FROM = 20  # refused pairs. 24 in 10,000 pairs of 10,000 digits, one in 100,000 pairs of 1,515 photographs


def perceptual_hashes(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """64 bits per picture that hardly change when it is resized, compressed or slightly edited.

    Each bit says whether one of the 64 lowest frequencies of a cosine transform is above their median (Zauner 2010,
    "Implementation and benchmarking of perceptual image hash functions").

    Args:
        images: Shape (count, 32, 32), gray.
    """
    from scipy.fft import dctn

    low = dctn(images.astype(np.float64), axes=(1, 2))[:, :LOW, :LOW].reshape(len(images), -1)
    bits = low > np.median(low, axis=1, keepdims=True)  # (count, 64)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def hash_thumbnails(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """The hashes of pictures of shape (count, 32, 32, 3), and the pictures at half the size for the second check."""
    gray = (pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    halves = pixels.reshape(-1, HASHED_SIDE // 2, 2, HASHED_SIDE // 2, 2, 3).mean(axis=(2, 4))
    return perceptual_hashes(gray), halves.astype(np.uint8)


def group_similar(
    hashes: npt.NDArray[np.uint64], thumbnails: npt.NDArray[np.uint8], skip: npt.NDArray[np.bool_]
) -> Groups:
    """Groups of at least two rows that are near copies, without the rows to skip.

    If the second check, pixel by pixel, refuses many pairs, the pictures are of a similar kind, and it becomes
    stricter: otherwise thousands of similar digits would count as copies.

    Args:
        hashes: Shape (count,), as `perceptual_hashes` returns them.
        thumbnails: Shape (count, height, width, 3), for the second check, because low contrast gives similar hashes.
        skip: Shape (count,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(~skip)
    if len(rows) < 2:
        return []
    pairs = _near_pairs(hashes[rows])
    distance = np.empty(pairs.shape[1])
    for start in range(0, pairs.shape[1], 4096):
        first, second = (thumbnails[rows[side[start : start + 4096]]].astype(np.float32) for side in pairs)
        contrast = first.std(axis=(1, 2, 3)) + 1e-6
        distance[start : start + 4096] = np.abs(first - second).mean(axis=(1, 2, 3)) / contrast
    alike = (distance > FAINT).sum() > max(ALIKE_FROM, ALIKE * len(rows) * (len(rows) - 1) / 2)
    pairs = pairs[:, distance <= (STRICT if alike else FAINT)]
    linked = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(len(rows), len(rows)))
    _, component = connected_components(linked, directed=False)
    order = np.argsort(component, kind="stable")
    borders = np.flatnonzero(np.diff(component[order])) + 1
    return [rows[group] for group in np.split(order, borders) if len(group) > 1]


def _near_pairs(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Pairs of near hashes, shape (2, count). Equal hashes are paired only with the next one, which links them all."""
    order = np.argsort(hashes, kind="stable")
    same = np.diff(hashes[order]) == 0
    found = [np.stack([order[:-1][same], order[1:][same]])]
    unique = order[np.concatenate([[True], ~same])]
    for low, high in itertools.pairwise(BANDS):
        band = (hashes[unique] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        by_band = np.argsort(band, kind="stable")
        band, rows = band[by_band], unique[by_band]
        step = 1
        while (equal := band[step:] == band[:-step]).any():
            first, second = rows[:-step][equal], rows[step:][equal]
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= FAR
            found.append(np.stack([first[near], second[near]]))
            step += 1
    return np.concatenate(found, axis=1)
