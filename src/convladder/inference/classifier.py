"""Classifier: a shipped model, one .onnx file, run by ONNX Runtime. The one prediction path.

Neither Keras nor TensorFlow is imported here, or by anything that this imports.
"""

import functools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from convladder.data.decoding import decode_image
from convladder.data.resizing import RESIZINGS
from convladder.errors import ConvladderError
from convladder.inference.artifact import METADATA_KEY, Artifact, read_artifact, read_metadata
from convladder.processors import count_threads
from convladder.workers import stream_files

IMAGES_A_BATCH = 128  # 256 are as fast a piece for `fast`, and a quarter slower for `pool`, whose maps fill the cache
SECONDS_A_BATCH = 0.05  # of decoding: large pictures are answered for as they come
PLACES_A_BATCH = 1 << 20  # of a batch's images together: 128 of 90×90, 20 of 224×224
# How long ONNX Runtime's threads wait for more, busily, before they sleep. By default so long that they take a core
# from whoever decodes between two batches; not at all, and one image takes half as long again.
MICROSECONDS_AWAKE = 200


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes:
        source: Where it came from.
        label: The most probable class.
        probability: Of that class, 0–1.
        top: Classes, as (name, probability), the most probable first.
        abstained: Whether the probability is below the model's threshold: do not rely on the label.
    """

    source: str
    label: str
    probability: float
    top: list[tuple[str, float]]
    abstained: bool = False


class Classifier:
    """A trained model that answers without what trained it. Threads may share one.

    Args:
        path: An .onnx file that convladder wrote, or the folder of a run; it holds all that is told below.
        threads: That share the work of one call; 0, one for each processor that may be used. A server takes one:
            others that wait for the next call keep a processor busy for a while.

    Attributes:
        path: The file.
        class_names: One a label.
        input_shape: (height, width, channels).
        resize: How a picture of another proportion is brought to that size, as it was for training.
        temperature: What the logits were divided by, so that probabilities are as often right as they say.
        threshold: Below this probability it abstains; 0, never.
        stages: The names of the feature maps that `feature_maps` gives.
        metadata: All that the file says of itself: also rung, data set, fingerprint, test accuracy, version.

    Raises:
        ConvladderError: No such file, no ONNX, one that convladder did not write, or one changed since.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        path = Path(path)
        self.path = path / "model.onnx" if path.is_dir() else path
        self._artifact = read_artifact(self.path)
        try:
            self._session = _open(self._artifact.first_output_alone, threads)
            stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            reason = " ".join(str(error).split())
            raise ConvladderError(f"{path} cannot be loaded ({reason}). Expected a model.onnx.") from error
        self.metadata: dict[str, Any] = read_metadata(stored, path)
        self.class_names: tuple[str, ...] = tuple(self.metadata["class_names"])
        height, width, channels = self.metadata["input_shape"]
        self.input_shape: tuple[int, int, int] = (height, width, channels)
        self.resize: str = self.metadata.get("fit", "stretch")
        self.temperature: float = float(self.metadata.get("temperature", 1.0))
        self.threshold: float = float(self.metadata.get("threshold", 0.0))
        self.stages: tuple[str, ...] = tuple(self.metadata["stages"])
        self._input, self._outputs = _check_graph(self, self._session, self._artifact)
        self._maps_session: onnxruntime.InferenceSession | None = None
        self._threads = threads
        self._lock = threading.Lock()

    @property
    def fit(self) -> str:
        """What `resize` was called before."""
        return self.resize

    def predict_probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of shape (count, num_classes) for pixels of shape (count, height, width, channels), 0–255.

        Raises:
            ConvladderError: An array of another shape, of something else than numbers, or with values out of range.
        """
        probabilities: npt.NDArray[np.float32] = self._session.run(self._outputs, {self._input: self._checked(images)})[
            0
        ]
        return probabilities

    def feature_maps(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """What each stage makes of pixels of shape (count, height, width, channels).

        Returns:
            By stage, in the order of the network, float32 of shape (count, height, width, channels), or (count,
            units) of a fully connected layer.

        Raises:
            ConvladderError: As `predict_probabilities` does.
        """
        pixels = self._checked(images)
        with self._lock:
            if self._maps_session is None:  # it takes the memory of a second model: only for those who ask
                self._maps_session = _open(self._artifact.content, self._threads)
        maps = self._maps_session.run(list(self.stages), {self._input: pixels})
        return dict(zip(self.stages, maps, strict=True))

    def _checked(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if (
            not isinstance(images, np.ndarray)
            or images.shape[1:] != self.input_shape
            or images.dtype.kind not in "uifb"
        ):
            shape = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else repr(type(images))
            raise ConvladderError(
                f"The images are {shape}. Expected an array of pixels, 0 to 255, of shape "
                f"(count, {', '.join(map(str, self.input_shape))})."
            )
        if images.dtype != np.uint8 and not ((images >= 0) & (images <= 255)).all():  # of NaN neither is true
            raise ConvladderError(
                f"The images have values from {images.min():g} to {images.max():g}. Expected pixels, 0 to 255."
            )
        return images.astype(np.float32, order="C")

    def decode(self, source: str | Path | bytes) -> npt.NDArray[np.uint8]:
        """A picture, as a file or as the bytes of one, as pixels of shape `input_shape`.

        Raises:
            ConvladderError: It cannot be read, or is no picture.
        """
        return decode_image(source if isinstance(source, bytes) else Path(source), self.input_shape, self.resize)

    def predict(
        self, sources: str | Path | Iterable[str | Path | None], top: int | None = None
    ) -> Iterator[Prediction | ConvladderError]:
        """Answer for pictures in files, in order, as they become ready; a bad one gives its error instead.

        Args:
            sources: Paths of JPEG, PNG, BMP, GIF, WebP or TIFF files, or one such path. They are asked for as answers
                are taken, so that there may be any number of them. Where more may be long in coming, as from a queue,
                a None among them has all before it answered first.
            top: How many classes an answer names; by default all.

        Returns:
            For each, a Prediction, or the ConvladderError that says what is wrong with this picture.

        Raises:
            ConvladderError: Something else than paths: pixels go to `predict_probabilities`.
        """
        if isinstance(sources, str | Path):
            sources = [sources]
        elif isinstance(sources, bytes | np.ndarray) or not isinstance(sources, Iterable):
            raise ConvladderError(
                f"The sources are {type(sources).__name__}. Expected paths of pictures; pixels go to "
                "predict_probabilities, the bytes of a file to decode."
            )
        return self._predict(sources, top)

    def _predict(self, sources: Iterable[str | Path | None], top: int | None) -> Iterator[Prediction | ConvladderError]:
        total = length_hint(sources)  # 0 of what has no length
        paths = (None if source is None else _as_path(source) for source in sources)
        decode = functools.partial(_decode, input_shape=self.input_shape, resize=self.resize)
        height, width, _ = self.input_shape
        largest = max(1, min(IMAGES_A_BATCH, PLACES_A_BATCH // (height * width)))
        size = 1  # doubled from batch to batch, so that the first answer waits for no other picture
        batch: list[tuple[str, npt.NDArray[np.uint8] | ConvladderError | None]] = []
        began = time.perf_counter()
        for source, decoded in stream_files(decode, paths, total):
            if source is not None:
                batch.append((source, decoded))
            if source is None or len(batch) == size or time.perf_counter() - began > SECONDS_A_BATCH:
                yield from self._answer(batch, top)
                size, batch = min(2 * size, largest), []
                began = time.perf_counter()
        yield from self._answer(batch, top)

    def _answer(
        self, batch: Sequence[tuple[str, npt.NDArray[np.uint8] | ConvladderError | None]], top: int | None
    ) -> Iterator[Prediction | ConvladderError]:
        """Answers for pixels; for what is none, why; None stands for a file that ended the process that read it."""
        images = [decoded for _, decoded in batch if isinstance(decoded, np.ndarray)]
        shape = (0, len(self.class_names))
        probabilities = self.predict_probabilities(np.stack(images)) if images else np.empty(shape, np.float32)
        orders = (-probabilities).argsort(axis=1, kind="stable")[:, :top]
        rows = zip(probabilities.tolist(), orders.tolist(), strict=True)
        for source, decoded in batch:
            if isinstance(decoded, np.ndarray):
                yield self._prediction(source, *next(rows))
            else:
                yield decoded or ConvladderError(f"{source} cannot be read (it ended the process that read it).")

    def _prediction(self, source: str, probabilities: list[float], order: list[int]) -> Prediction:
        named = [(self.class_names[label], probabilities[label]) for label in order]
        return Prediction(source, *named[0], named, named[0][1] < self.threshold)

    def prediction(self, source: str, probabilities: npt.NDArray[np.float32], top: int | None = None) -> Prediction:
        """What probabilities of shape (num_classes,) mean, for the picture that they belong to."""
        return self._prediction(source, probabilities.tolist(), (-probabilities).argsort(kind="stable")[:top].tolist())


def _open(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or count_threads() or 0
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(MICROSECONDS_AWAKE))
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _as_path(source: str | Path) -> str:
    if not isinstance(source, str | Path):
        raise ConvladderError(f"A source is of type {type(source).__name__}. Expected the path of a picture.")
    return str(source)


def _decode(source: str, *, input_shape: tuple[int, int, int], resize: str) -> npt.NDArray[np.uint8] | ConvladderError:
    try:
        return decode_image(Path(source), input_shape, resize)
    except ConvladderError as error:
        return error


def _check_graph(
    classifier: Classifier, session: onnxruntime.InferenceSession, artifact: Artifact
) -> tuple[str, list[str]]:
    """The names of a graph's input and of its output of probabilities, if they are what its metadata say."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != classifier.input_shape:
        raise ConvladderError(
            f"{artifact.path} takes {[node.shape for node in inputs]}, and says {classifier.input_shape}. "
            "Expected one input of that shape after the batch: export it again."
        )
    given = [list(output.shape[1:]) for output in outputs]
    said = ", ".join(map(str, given)) or "no"
    if given != [[len(classifier.class_names)]]:
        raise ConvladderError(
            f"{artifact.path} gives {said} probabilities for {len(classifier.class_names)} class names. "
            "Expected as many of both: export it again."
        )
    if not set(classifier.stages) <= set(artifact.outputs[1:]):
        raise ConvladderError(
            f"{artifact.path} names the stages {', '.join(classifier.stages)}, and gives "
            f"{', '.join(artifact.outputs[1:]) or 'none'}. Expected the same: export it again."
        )
    if classifier.resize not in RESIZINGS:
        raise ConvladderError(
            f"{artifact.path} has the fit {classifier.resize!r}. Expected one of: {', '.join(RESIZINGS)}."
        )
    return inputs[0].name, [outputs[0].name]
