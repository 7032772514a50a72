"""Features of images from a pretrained backbone, computed once with ONNX Runtime and cached.

The embedded backbone needs neither Keras nor TensorFlow. A cache entry is named after the backbone, the size and the
images' content, so the same pictures are found again in any folder, order or split.
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from convladder.data.cache import JOURNAL, cache_folder, keep, make_room, with_bar
from convladder.data.dataset import Dataset, digest_images, release
from convladder.data.journal import Journal
from convladder.errors import ConvladderError
from convladder.models import backbone
from convladder.processors import count_processors
from convladder.signals import check_stop

FEATURES_VERSION = 1  # of an entry's content, and of how features are computed
IMAGES_A_BATCH = 16
FEATURE_VIEWS = 2  # the picture and its mirror image

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Extractor:
    """A backbone as an ONNX graph.

    Attributes:
        name: Its name.
        weights: A SHA-256 of its weights; empty for the embedded weights.
        build_graph: Builds the ONNX model for images of shape (height, width, channels). The model maps pixels, float32
            (batch, height, width, channels), to features, float32 (batch, features).
    """

    name: str
    weights: str
    build_graph: Callable[[tuple[int, int, int]], bytes]


OWN = Extractor(backbone.BACKBONE, "", backbone.build_graph)


def compute_features(
    parts: Sequence[npt.NDArray[np.uint8]], extractor: Extractor = OWN, *, cache: bool = True
) -> list[Features]:
    """Compute a backbone's features of images and of their mirror images.

    Args:
        parts: Images of shape (count, height, width, channels), range 0–255, all of one size.
        extractor: The backbone; by default the embedded one.
        cache: Whether to keep the features for the next time.

    Returns:
        For each part, shape (2, count, features): first the images, then their mirror images, in the given order.

    Raises:
        ConvladderError: The cache cannot be written; exit status 1.
    """
    digests = np.concatenate([digest_images(images) for images in parts])
    known, rows = np.unique(digests, return_inverse=True)  # each picture once, in an order that depends only on content
    borders = np.cumsum([len(images) for images in parts])[:-1]
    root = cache_folder() if cache else None
    if root is None:
        return np.split(_compute(parts, extractor), borders, axis=1)
    key = _name_entry(known, parts[0].shape[1:], extractor)

    def build(folder: Path) -> None:
        _, first = np.unique(digests, return_index=True)
        journal = Journal(folder / JOURNAL, hashlib.sha256(digests.tobytes()).hexdigest())
        rows = folder / "rows"
        rows.touch()
        with contextlib.closing(journal), rows.open("r+b") as file:
            features = _compute(parts, extractor, (journal, file))[:, first]
        make_room(folder.parent, features.nbytes)
        np.save(folder / "features.npy", features)
        rows.unlink()
        (folder / JOURNAL).unlink()

    def read(folder: Path) -> Features:
        return np.asarray(np.load(folder / "features.npy", allow_pickle=False))

    try:
        return np.split(keep(root, key, build, read)[:, rows], borders, axis=1)
    except OSError as error:
        raise ConvladderError(
            f"Could not cache features ({error.strerror or error}). Free some space, choose another folder with "
            "XDG_CACHE_HOME, or use --no-cache.",
            exit_status=1,
        ) from error


def are_kept(parts: Sequence[npt.NDArray[np.uint8]]) -> bool:
    """Whether the features of these images are in the cache."""
    root = cache_folder()
    known = np.unique(np.concatenate([digest_images(images) for images in parts]))
    return root is not None and (root / _name_entry(known, parts[0].shape[1:], OWN)).exists()


def _name_entry(known: npt.NDArray[np.uint64], shape: tuple[int, ...], extractor: Extractor) -> str:
    described = f"{FEATURES_VERSION} {extractor.name}{extractor.weights} {'×'.join(map(str, shape))}"
    return hashlib.sha256(described.encode() + known.tobytes()).hexdigest()[:32]


def pool_features(dataset: Dataset) -> tuple[Features, npt.NDArray[np.int64]]:
    """The features of all pictures of a data set, shape (2, count, 1280), and their labels, in the order of the splits.

    `transfer` at this size uses the same features, so whichever comes second finds them in the cache.
    """
    cache = dataset.source is None or dataset.source.get("cache", True)
    parts = compute_features([split.images for split in dataset.splits], cache=cache)
    return np.concatenate(parts, axis=1), np.concatenate([split.labels for split in dataset.splits])


def open_graph(content: bytes) -> Any:
    """An ONNX Runtime session that uses all processors that this process may use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_processors()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _compute(
    parts: Sequence[npt.NDArray[np.uint8]], extractor: Extractor, kept: tuple[Journal, BinaryIO] | None = None
) -> Features:
    """Compute all features. `kept` is a journal with a checksum of each batch, and a file with their features."""
    session = open_graph(extractor.build_graph(parts[0].shape[1:]))
    (pixels_in,), (features_out,) = session.get_inputs(), session.get_outputs()
    features = np.empty((FEATURE_VIEWS, sum(map(len, parts)), features_out.shape[1]), np.float32)
    done = 0
    total = -(-features.shape[1] // IMAGES_A_BATCH)
    for number, batch in enumerate(with_bar(_batches(parts), "Computing features", total)):
        place = features[:, done : done + len(batch)]
        done += len(batch)
        if kept and number < len(kept[0].entries):  # computed by a process that was killed
            content = kept[1].read(place.nbytes)
            if zlib.crc32(content) == kept[0].entries[number]:
                place[:] = np.frombuffer(content, np.float32).reshape(place.shape)
                continue
            kept[1].seek(-len(content), os.SEEK_CUR)
            kept[0].cut(number)
        pixels = batch.astype(np.float32)
        for view, seen in enumerate((pixels, np.ascontiguousarray(pixels[:, :, ::-1]))):
            place[view] = session.run(None, {pixels_in.name: seen})[0]
        if kept:
            content = place.tobytes()
            kept[1].write(content)
            kept[1].flush()  # before its entry
            kept[0].add(zlib.crc32(content))
    return features


def _batches(parts: Sequence[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    for images in parts:
        for start in range(0, len(images), IMAGES_A_BATCH):
            check_stop()
            yield images[start : start + IMAGES_A_BATCH]
            release(images)
