"""IDX files, the format of MNIST and Fashion-MNIST: read, gzipped or not, and written."""

import gzip
import math
import os
import re
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.files import most_unpacked, regular

GZIP = b"\x1f\x8b"
UNSIGNED_BYTE = 8
MOST_SIDES = 8  # the format allows 255; images have three

# Patterns for train-images-idx3-ubyte, emnist-letters-t10k-labels.idx1-ubyte.gz and so on, by the array's key.
NAMES = {
    key: re.compile(rf"((?:.*[-_])?){split}-{kind}[-.]idx{rank}-ubyte(?:\.gz)?", re.IGNORECASE)
    for key, split, kind, rank in (
        ("x_train", "train", "images", 3),
        ("y_train", "train", "labels", 1),
        ("x_test", "(?:t10k|test)", "images", 3),
        ("y_test", "(?:t10k|test)", "labels", 1),
    )
}


def find_idx_files(folder: Path) -> dict[str, Path]:
    """The four files of a folder by the keys x_train, y_train, x_test and y_test; empty if there are none.

    Raises:
        ConvladderError: The folder holds only some of the four, or files of several data sets.
    """
    found: dict[str, list[Path]] = {key: [] for key in NAMES}
    sets = set()
    for path in sorted(folder.iterdir()):
        for key, pattern in NAMES.items():
            if match := pattern.fullmatch(path.name):
                found[key].append(path)
                sets.add(match.group(1))
    files = {key: paths[0] for key, paths in found.items() if paths}  # the one without .gz comes first
    missing = [key for key in NAMES if key not in files]
    if files and missing:
        raise ConvladderError(
            f"{folder} holds {', '.join(path.name for path in files.values())} but no file for {', '.join(missing)}. "
            "Expected four: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
            "t10k-labels-idx1-ubyte, each with or without .gz."
        )
    for paths in found.values():
        if len({path.name.lower().removesuffix(".gz") for path in paths}) > 1 or len(sets) > 1:
            raise ConvladderError(
                f"{folder} holds more than one data set: {', '.join(path.name for path in paths)}. Expected the four "
                "files of one: move them into a folder of their own."
            )
    return files


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not, with any name.

    Raises:
        ConvladderError: It cannot be read, is damaged, or holds another type than unsigned bytes.
    """
    try:
        with open(path, "rb", opener=regular) as file:
            size, packed = os.fstat(file.fileno()).st_size, file.read(2) == GZIP
            file.seek(0)
            if not packed:
                return _read_values(path, file, size)
            with gzip.open(file, "rb") as unpacked:
                return _read_values(path, unpacked, most_unpacked(size))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConvladderError(f"Could not read {path} ({reason}). Expected an IDX file, gzipped or not.") from error


def _read_values(path: Path, file: "BinaryIO | gzip.GzipFile", most: int) -> npt.NDArray[np.uint8]:
    """Read the header and exactly the values that it declares, of at most `most` bytes."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != UNSIGNED_BYTE:
        raise ConvladderError(f"{path} begins with {head.hex(' ')}. Expected 00 00 08, as in IDX files of bytes.")
    rank = head[3]
    sides = file.read(4 * rank)
    if rank <= MOST_SIDES and len(sides) == 4 * rank:
        shape = tuple(int(side) for side in np.frombuffer(sides, ">u4"))
        declared = math.prod(shape)
        content = file.read(declared + 1) if declared <= most else b""
        if len(content) == declared:
            return np.frombuffer(content, np.uint8).reshape(shape)
    raise ConvladderError(
        f"{path} is truncated, too long or damaged: it does not hold the bytes that its header declares. Copy or "
        "download it again."
    )


def encode_idx(array: npt.NDArray[Any]) -> bytes:
    """Encode as an IDX file: two zero bytes, type 8 (unsigned byte), the rank, the sides big-endian, the values."""
    header = bytes([0, 0, UNSIGNED_BYTE, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()
