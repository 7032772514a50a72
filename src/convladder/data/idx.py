"""IDX files, the format of MNIST and Fashion-MNIST: read, gzipped or not, and written."""

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError

GZIP = b"\x1f\x8b"
UNSIGNED_BYTE = 8

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
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConvladderError(f"Could not read {path} ({reason}). Expected an IDX file, gzipped or not.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE:
        raise ConvladderError(
            f"{path} begins with {content[:4].hex(' ')}. Expected 00 00 08, as in IDX files of bytes."
        )
    start = 4 + 4 * content[3]
    if len(content) >= start:
        shape = tuple(int(side) for side in np.frombuffer(content, ">u4", content[3], offset=4))
        if len(content) - start == int(np.prod(shape, dtype=object)):
            return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    raise ConvladderError(f"{path} is truncated or too long: {len(content):,} bytes. Copy or download it again.")


def encode_idx(array: npt.NDArray[Any]) -> bytes:
    """Encode as an IDX file: two zero bytes, type 8 (unsigned byte), the rank, the sides big-endian, the values."""
    header = bytes([0, 0, UNSIGNED_BYTE, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()
