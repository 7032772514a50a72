"""Loading: the embedded MNIST, or an .npz file with its keys, checked at the edge and split."""

import hashlib
import zipfile
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset, Split
from convladder.errors import ConvladderError

KEYS = ("x_train", "y_train", "x_test", "y_test")

# Of MNIST's four files as Yann LeCun and Corinna Cortes published them, gunzipped.
MNIST_IDX_MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}


def load_dataset(source: str | Path, *, validation: float = 1 / 12, seed: int = 0) -> Dataset:
    """Load images, and hold some of the training images out for validation.

    Args:
        source: "mnist" for the embedded one, or the path of an .npz file with MNIST's keys: x_train, y_train,
            x_test, y_test; images (count, height, width) or (count, height, width, channels), uint8.
        validation: The share of the training images to hold out, stratified by class; 0 to 0.5. A twelfth of
            MNIST's 60,000 are 5,000.
        seed: Of the choice of the validation images; the same for all runs that are to be compared.

    Raises:
        ConvladderError: No such file, or not what is described above, or MNIST's own bytes are not MNIST's.

    Example:
        >>> mnist = load_dataset("mnist")
        >>> len(mnist.train), len(mnist.validation), len(mnist.test)
        (55000, 5000, 10000)
    """
    if not 0 <= validation <= 0.5:
        raise ConvladderError(f"A validation share of {validation:g} is out of range. Expected 0 to 0.5.")
    if source == "mnist":
        arrays = read_npz(Path(str(files("convladder.data") / "mnist.npz")))
        for key, expected in MNIST_IDX_MD5.items():
            if hashlib.md5(encode_idx(arrays[key]), usedforsecurity=False).hexdigest() != expected:
                raise ConvladderError(f"The embedded MNIST is damaged ({key}). Install convladder again.")
        name = "mnist"
    else:
        arrays = read_npz(Path(source))
        name = Path(source).stem
    train, test = (
        Split(_with_channels(arrays[f"x_{split}"]), arrays[f"y_{split}"].astype(np.int64))
        for split in ("train", "test")
    )
    num_classes = 1 + int(max(train.labels.max(), test.labels.max()))
    train, held_out = _hold_out(train, validation, seed)
    return Dataset(name, tuple(str(label) for label in range(num_classes)), train, held_out, test)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read and check an .npz file with MNIST's keys; nothing in it is ever unpickled."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in KEYS}
    except OSError as error:
        raise ConvladderError(
            f"{path} cannot be read ({error.strerror or error}). Expected mnist or the path of an .npz file."
        ) from error
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ConvladderError(
            f"{path} is damaged or no data set ({error}). Expected an .npz file with {', '.join(KEYS)}."
        ) from error
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
            raise ConvladderError(
                f"x_{split} of {path} is {images.dtype} of shape {images.shape}. Expected uint8 of "
                "(count, height, width) or (count, height, width, channels), with a count of at least 1."
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
            raise ConvladderError(
                f"y_{split} of {path} is {labels.dtype} of shape {labels.shape}. Expected {len(images)} integers, "
                "from 0 up."
            )
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise ConvladderError(
            f"The images of {path} are {arrays['x_train'].shape[1:]} for training and "
            f"{arrays['x_test'].shape[1:]} for testing. Expected one shape."
        )
    return arrays


def encode_idx(array: npt.NDArray[Any]) -> bytes:
    """Encode as an IDX file: two zero bytes, type 8 (unsigned byte), the rank, the sides big-endian, the values."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def _with_channels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return images if images.ndim == 4 else images[..., np.newaxis]


def _hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off a stratified share."""
    count = round(share * len(split))
    if not count:
        return split, Split(split.images[:0], split.labels[:0])
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(
            np.arange(len(split)), test_size=count, stratify=split.labels, random_state=seed
        )
    except ValueError as error:
        raise ConvladderError(f"The training images cannot be split by class: {error}") from error
    kept.sort()
    held_out.sort()
    return Split(split.images[kept], split.labels[kept]), Split(split.images[held_out], split.labels[held_out])
