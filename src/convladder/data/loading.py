"""Loading: the embedded sets, a folder or CSV file of pictures, IDX files or an .npz file, checked and split."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy.typing as npt

from convladder.data.arrays import check_arrays, load_arrays
from convladder.data.csv_tables import COLUMNS, is_table, list_csv
from convladder.data.dataset import SMALLEST_PHOTOGRAPH, Dataset
from convladder.data.folders import list_folder
from convladder.data.idx import encode_idx, find_idx_files, read_idx
from convladder.data.layouts import has_picture_folders
from convladder.data.pictures import Settings, load_pictures, median_side
from convladder.data.resizing import accept_fit
from convladder.errors import ConvladderError, check_choice
from convladder.files import read_arrays
from convladder.markup import printable

EMBEDDED = ("mnist", "clothes")  # what comes with the package and has a name in place of a path
KEYS = ("x_train", "y_train", "x_test", "y_test")

# Of MNIST's four files as Yann LeCun and Corinna Cortes published them, gunzipped.
MNIST_IDX_MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}

# Of the photographs as benchmarks/clothes.py made them.
CLOTHES_SHA256 = "94d324a194ccc4c29a9ef5af92ba3b75e4bdc59dc891e986abbdd0dfc3fbc5fc"


@accept_fit
def load_dataset(
    source: str | Path,
    *,
    validation: float = 1 / 12,
    seed: int = 0,
    image_size: int | None = None,
    photograph_size: int | None = None,
    channels: int | None = None,
    resize: str = "crop",
    cache: bool = True,
    columns: Mapping[str, str] | None = None,
    keep_leaks: bool = False,
) -> Dataset:
    """Load images, and hold some of the training images out for validation.

    Args:
        source: "mnist" or "clothes", 70,000 digits and 200 photographs that come with the package, or a path; a
            folder of yours that is called so is `Path("clothes")` or "./clothes":
            a folder `PATH/<class>/*`, of which 15 % of each class are held out for testing;
            a folder `PATH/{train,validation,test}/<class>/*`, or other usual names for these; a missing split is held
            out; a .csv or .tsv file of path, label and perhaps split; a folder of four IDX files,
            gzipped or not, as MNIST and its kin come;
            an .npz file with MNIST's keys: x_train, y_train, x_test, y_test; images (count, height, width) or
            (count, height, width, channels), uint8.
        validation: The share of the training images to hold out, stratified by class; 0 to 0.5. A twelfth of
            MNIST's 60,000 are 5,000.
        seed: Of the choice of what is held out; the same for all runs that are to be compared.
        image_size: Of pictures in files: height and width, 8 to 1024; by default the median of their shorter sides,
            at most 48, which rungs that are trained from scratch can learn from in minutes.
        photograph_size: The same, of pictures whose shorter side is at least 64 pixels by median, where `image_size`
            is not given.
        channels: Of pictures in files: 1, gray, or 3, colours; by default 1 where none has colours.
        resize: Of pictures in files: "crop", "pad" or "stretch", as `decode_image` takes it.
        cache: Of pictures in files: whether to keep them, decoded, for the next time.
        columns: Of a .csv file, by "path", "label" and "split", the header or number of the column that is meant;
            "none" for a split passes over a column of splits.
        keep_leaks: Whether to train on copies of pictures that validate or test. By default these are left out, or
            kept in one split where chance makes the splits; of photographs near copies too.

    Returns:
        The data. Pictures in files are mapped into memory, not loaded: they may be more than fit. A file that cannot
        be read is left out; `Dataset.account` says which, and what else was noticed.

    Raises:
        ConvladderError: No such file, or not what is described above, or the embedded files are not what
            they were.

    Example:
        >>> mnist = load_dataset("mnist")
        >>> len(mnist.train), len(mnist.validation), len(mnist.test)
        (55000, 5000, 10000)
    """
    if not 0 <= validation <= 0.5:
        raise ConvladderError(f"A validation share of {validation:g} is out of range. Expected 0 to 0.5.")
    settings = Settings(image_size, channels, resize, cache, keep_leaks)
    path = locate(source)
    origin = {
        "source": source if source in EMBEDDED else str(path.resolve()),
        "validation": validation,
        "seed": seed,
        "image_size": image_size,
        "channels": channels,
        "fit": resize,
        **({} if cache else {"cache": False}),
        **({"columns": dict(columns)} if columns else {}),
        **({"keep_leaks": True} if keep_leaks else {}),
    }
    _check_columns(columns, source, path)
    idx_files = find_idx_files(path) if path.is_dir() else {}
    if not idx_files and (path.is_dir() or is_table(path)):
        listing = list_folder(path) if path.is_dir() else list_csv(path, columns)
        name = path.resolve().name if path.is_dir() else path.stem
        if image_size is None and photograph_size is not None and median_side(listing.paths) >= SMALLEST_PHOTOGRAPH:
            settings, origin = replace(settings, image_size=photograph_size), origin | {"image_size": photograph_size}
        loaded = load_pictures(listing, printable(name), settings, validation=validation, seed=seed)
        return replace(loaded, source=origin)
    arrays = _read_arrays(source, path, idx_files)
    if image_size is not None or channels is not None:
        raise ConvladderError(
            f"{source} holds arrays of {arrays['x_train'].shape[1:]}, which are taken as they are. "
            "Expected an image size or channels for pictures in files alone: leave them away."
        )
    loaded = load_arrays(
        arrays,
        printable(path.stem),
        validation=validation,
        seed=seed,
        keep_leaks=keep_leaks,
        known=source == "mnist",
    )
    return replace(loaded, source=origin)


def _check_columns(columns: Mapping[str, str] | None, source: str | Path, path: Path) -> None:
    for name in columns or ():
        check_choice("column", name, COLUMNS)
    if columns and not is_table(path):
        raise ConvladderError(f"{source} has no columns to name. Expected a .csv file with {', '.join(columns)}.")


def _read_arrays(source: str | Path, path: Path, idx_files: Mapping[str, Path]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of MNIST, of IDX files or of an .npz file, checked."""
    if source == "mnist":
        arrays = read_npz(path)
        for key, expected in MNIST_IDX_MD5.items():
            if hashlib.md5(encode_idx(arrays[key]), usedforsecurity=False).hexdigest() != expected:
                raise ConvladderError(f"The embedded MNIST is damaged ({key}). Install convladder again.")
        return arrays
    if not idx_files:
        return read_npz(path)
    if has_picture_folders(path):
        raise ConvladderError(
            f"{path} holds pictures beside {idx_files['x_train'].name} and its kin. Expected one data set: move "
            "one of them into a folder of its own."
        )
    return check_arrays({key: read_idx(file) for key, file in idx_files.items()}, path)


def at_size(dataset: Dataset, side: int) -> Dataset:
    """The same pictures in the same splits at another height and width; arrays, which have but one, as they are.

    Raises:
        ConvladderError: The files are gone, or were changed since they were loaded.
    """
    if not dataset.native_side or dataset.source is None or dataset.input_shape[:2] == (side, side):
        return dataset
    other = load_dataset(**{**dataset.source, "image_size": side})
    if not len(dataset.validation):
        other = other.without_validation()
    if other.content != dataset.content:
        raise ConvladderError(
            f"{dataset.source['source']} has changed while it was worked on. Expected the same files: start again."
        )
    return other


def locate(source: str | Path) -> Path:
    """Where data lie: the embedded sets by their names, wherever the package is installed; others at their path.

    A `Path`, and a text with a separator in it, is never a name: it leads to the user's own folder `clothes`.

    Raises:
        ConvladderError: The embedded photographs are not what they were.
    """
    if source == "mnist":
        return Path(str(files("convladder.data") / "mnist.npz"))
    if source != "clothes":
        return Path(source)
    folder = Path(str(files("convladder.data") / "clothes"))
    if digest_of_pictures(folder) != CLOTHES_SHA256:
        raise ConvladderError("The embedded photographs, clothes, are damaged. Install convladder again.")
    return folder


def digest_of_pictures(folder: Path) -> str:
    """SHA-256 over the names and bytes of FOLDER/<split>/<class>/*.jpg."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*/*.jpg")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read and check an .npz file with MNIST's keys; nothing in it is ever unpickled."""
    try:
        arrays = read_arrays(path, *KEYS)
    except OSError as error:
        raise ConvladderError(
            f"{path} cannot be read ({error.strerror or error}). Expected mnist, clothes, a folder or .csv file of "
            "pictures, or an .npz file."
        ) from error
    except ValueError as error:
        raise ConvladderError(
            f"{path} is damaged or no data set ({error}). Expected an .npz file with {', '.join(KEYS)}."
        ) from error
    return check_arrays(arrays, path)
