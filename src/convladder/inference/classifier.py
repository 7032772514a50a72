"""The Classifier: runs a shipped model, one .onnx file, with ONNX Runtime. All predictions use it.

Neither this module nor anything that it imports needs Keras or TensorFlow.
"""

import functools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from convladder.data.decoding import decode_image
from convladder.data.resizing import RESIZINGS
from convladder.errors import ConvladderError
from convladder.inference.artifact import EXPECTED, FAMILIARITY, FLOAT, Artifact, read_artifact, read_metadata
from convladder.inference.cost import check_cost
from convladder.processors import count_threads
from convladder.workers import stream_files

IMAGES_A_BATCH = 128  # 256 are as fast per image for `fast`, and 25 % slower for `pool`, whose maps fill the cache
SECONDS_A_BATCH = 0.05  # of decoding, so that answers for large pictures come one by one
PLACES_A_BATCH = 1 << 20  # pixels per batch: 128 images of 90×90, 20 of 224×224
# How long ONNX Runtime's threads spin before they sleep. The default is so long that they take a core from the decoders
# between two batches. Without spinning, one image takes 50 % longer.
MICROSECONDS_AWAKE = 200
CUDA = "CUDAExecutionProvider"
NO_GPU = (
    "ONNX Runtime cannot compute on a GPU here ({reason}). Expected its build for CUDA, the package onnxruntime-gpu in "
    "place of onnxruntime, with NVIDIA's driver; or a classifier without a GPU."
)
UNLIKE = 0.01  # below this familiarity, a picture is unlike those that were trained on


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes:
        source: Path of the picture.
        label: The most probable class.
        probability: Probability of that class, 0–1.
        top: The most probable classes as (name, probability), in descending order.
        abstained: Whether the probability is below the model's threshold, so that the label is not reliable.
        familiarity: The share of held-out pictures that are at least as strange to the model, 0–1; None for files of
            before, which do not tell.
        unlike_training: Whether that is below 0.01: the picture is unlike those that the model was trained on, and no
            probability means anything.
    """

    source: str
    label: str
    probability: float
    top: list[tuple[str, float]]
    abstained: bool = False
    familiarity: float | None = None
    unlike_training: bool | None = None


class Answers(NamedTuple):
    """Answers for several pictures.

    Attributes:
        probabilities: Shape (count, num_classes).
        familiarity: Shape (count,); None for files of before.
    """

    probabilities: npt.NDArray[np.float32]
    familiarity: npt.NDArray[np.float32] | None

    def part(self, start: int, stop: int) -> "Answers":
        """The answers for some of the pictures."""
        familiarity = None if self.familiarity is None else self.familiarity[start:stop]
        return Answers(self.probabilities[start:stop], familiarity)


def join_answers(parts: Sequence[Answers]) -> Answers:
    """The answers of several calls, at least one, one after the other."""
    if len(parts) == 1:
        return parts[0]
    told = [part.familiarity for part in parts if part.familiarity is not None]
    return Answers(np.concatenate([part.probabilities for part in parts]), np.concatenate(told) if told else None)


class Classifier:
    """A trained model that classifies images without Keras or TensorFlow. Threads can share it.

    Nothing in the file can run code or read other files. What it costs is estimated before it runs.

    Args:
        path: An .onnx file that convladder wrote, or a run folder. The file holds everything below.
        threads: Number of threads for one call; 0 means one for each usable processor. A server uses one, because
            threads that wait for the next call keep a processor busy for a while.
        any_cost: Whether to allow a network whose cost is unknown, as of loops, or out of proportion to its file. It
            may take any time and memory, so allow it for files that you trust.
        gpu: Whether to compute on a GPU, the first that the process may use. This needs ONNX Runtime's build for CUDA.

    Attributes:
        path: The file.
        class_names: One per label.
        input_shape: (height, width, channels).
        resize: How a picture of another proportion is brought to that size, as it was for training.
        temperature: The logits are divided by it, so that the probabilities are calibrated.
        threshold: It abstains below this probability; 0 means never.
        stages: The names of the feature maps that `feature_maps` returns.
        largest_batch: How many pictures are best answered together, at most.
        metadata: The whole description in the file, with rung, data set, fingerprint, test accuracy and version.

    Raises:
        ConvladderError: The file does not exist, is not ONNX, was not written by convladder, was changed, or holds
            what is refused (see docs/security.md).
    """

    def __init__(self, path: str | Path, *, threads: int = 0, any_cost: bool = False, gpu: bool = False) -> None:
        path = Path(path)
        self.path = path / "model.onnx" if path.is_dir() else path
        self._artifact = read_artifact(self.path)
        try:
            self.metadata: dict[str, Any] = read_metadata(self._artifact.description, path)
            height, width, channels = self.metadata["input_shape"]
            self.largest_batch = max(1, min(IMAGES_A_BATCH, PLACES_A_BATCH // (height * width)))
            self._input = _check_input(self._artifact, (height, width, channels))
            if not any_cost:
                batch = (self.largest_batch, height, width, channels)
                check_cost(self._artifact.content, self._input, batch, path)
            self._session = _open(self._artifact.answers_alone, threads, gpu)
        except ConvladderError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common class
            reason = " ".join(str(error).split())
            raise ConvladderError(f"Could not load {path} ({reason}). {EXPECTED}") from error
        self.class_names: tuple[str, ...] = tuple(self.metadata["class_names"])
        self.input_shape: tuple[int, int, int] = (height, width, channels)
        self.resize: str = self.metadata.get("fit", "stretch")
        self.temperature: float = float(self.metadata.get("temperature", 1.0))
        self.threshold: float = float(self.metadata.get("threshold", 0.0))
        self.stages: tuple[str, ...] = tuple(self.metadata["stages"])
        self._outputs = _check_graph(self, self._session, self._artifact)
        self._maps_session: onnxruntime.InferenceSession | None = None
        self._threads, self._gpu = threads, gpu
        self._lock = threading.Lock()

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """What `answer` gives for each picture, by name, with its shape."""
        shapes: dict[str, tuple[int, ...]] = {"probabilities": (len(self.class_names),)}
        return shapes | ({FAMILIARITY: ()} if FAMILIARITY in self._outputs else {})

    @property
    def fit(self) -> str:
        """What `resize` was called before."""
        return self.resize

    def predict_probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of shape (count, num_classes) for pixels of shape (count, height, width, channels), 0–255.

        Raises:
            ConvladderError: The array has another shape, does not hold numbers, or has values out of range.
        """
        return self.answer(images).probabilities

    def answer(self, images: npt.NDArray[np.uint8]) -> Answers:
        """Probabilities and familiarity for pixels of shape (count, height, width, channels), 0–255.

        Raises:
            ConvladderError: As `predict_probabilities` does.
        """
        probabilities, *more = self._session.run(self._outputs, {self._input: self._checked(images)})
        return Answers(probabilities, more[0] if more else None)

    def feature_maps(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """The feature maps of each stage for pixels of shape (count, height, width, channels).

        Returns:
            From each stage, in the network's order, to float32 of shape (count, height, width, channels), or (count,
            units) for a fully connected layer.

        Raises:
            ConvladderError: As `predict_probabilities` does.
        """
        pixels = self._checked(images)
        with self._lock:
            if self._maps_session is None:  # created on demand, because it takes the memory of a second model
                self._maps_session = _open(self._artifact.content, self._threads, self._gpu)
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
        if images.dtype != np.uint8 and not ((images >= 0) & (images <= 255)).all():  # also refuses NaN
            raise ConvladderError(
                f"The images have values from {images.min():g} to {images.max():g}. Expected pixels, 0 to 255."
            )
        return images.astype(np.float32, order="C")

    def decode(self, source: str | Path | bytes) -> npt.NDArray[np.uint8]:
        """Decode a picture, a file or its bytes, to pixels of shape `input_shape`.

        Raises:
            ConvladderError: It cannot be read, or is not a picture.
        """
        return decode_image(source if isinstance(source, bytes) else Path(source), self.input_shape, self.resize)

    def predict(
        self, sources: str | Path | Iterable[str | Path | None], top: int | None = None
    ) -> Iterator[Prediction | ConvladderError]:
        """Classify picture files, in order, as they are decoded. A bad file gives its error instead of an answer.

        Args:
            sources: Paths of JPEG, PNG, BMP, GIF, WebP or TIFF files, or one such path. They are consumed lazily, so
                there can be any number. If the next path may take long, as from a queue, a None among them makes all
                paths before it be answered first.
            top: Number of classes in an answer; by default all.

        Returns:
            For each path a Prediction, or the ConvladderError that says what is wrong with the picture.

        Raises:
            ConvladderError: The sources are not paths. For pixels use `predict_probabilities`.
        """
        if isinstance(sources, str | Path):
            sources = [sources]
        elif isinstance(sources, bytes | np.ndarray) or not isinstance(sources, Iterable):
            raise ConvladderError(
                f"The sources are {type(sources).__name__}. Expected paths of pictures. For pixels use "
                "predict_probabilities, for the bytes of a file use decode."
            )
        return self._predict(sources, top)

    def _predict(self, sources: Iterable[str | Path | None], top: int | None) -> Iterator[Prediction | ConvladderError]:
        total = length_hint(sources)  # 0 for iterables without a length
        paths = (None if source is None else _as_path(source) for source in sources)
        decode = functools.partial(_decode, input_shape=self.input_shape, resize=self.resize)
        size = 1  # doubled from batch to batch, so that the first answer comes early
        batch: list[tuple[str, npt.NDArray[np.uint8] | ConvladderError | None]] = []
        began = time.perf_counter()
        for source, decoded in stream_files(decode, paths, total):
            if source is not None:
                batch.append((source, decoded))
            if source is None or len(batch) == size or time.perf_counter() - began > SECONDS_A_BATCH:
                yield from self.answer_decoded(batch, top)
                size, batch = min(2 * size, self.largest_batch), []
                began = time.perf_counter()
        yield from self.answer_decoded(batch, top)

    def answer_decoded(
        self, batch: Sequence[tuple[str, npt.NDArray[np.uint8] | ConvladderError | None]], top: int | None
    ) -> Iterator[Prediction | ConvladderError]:
        """The answers for pictures that are decoded already, at most `largest_batch` of them.

        Args:
            batch: For each picture its source and what `decode` returned, or the error that it raised; None stands for
                a file that crashed the process that read it.
            top: Number of classes in an answer; by default all.
        """
        images = [decoded for _, decoded in batch if isinstance(decoded, np.ndarray)]
        answers = self.answer(np.stack(images)) if images else Answers(np.empty((0, 0), np.float32), None)
        rows = iter(range(len(images)))
        for source, decoded in batch:
            if isinstance(decoded, np.ndarray):
                yield self.prediction(source, answers, next(rows), top)
            else:
                yield decoded or ConvladderError(f"Could not read {source} (it crashed the process that read it).")

    def prediction(self, source: str, answers: Answers, row: int = 0, top: int | None = None) -> Prediction:
        """The Prediction for a picture, a row of answers."""
        probabilities = answers.probabilities[row]
        order = (-probabilities).argsort(kind="stable")[:top].tolist()
        named = [(self.class_names[label], float(probabilities[label])) for label in order]
        abstained = named[0][1] < self.threshold
        if answers.familiarity is None:
            return Prediction(source, *named[0], named, abstained)
        familiarity = float(answers.familiarity[row])
        return Prediction(source, *named[0], named, abstained, familiarity, familiarity < UNLIKE)


def _open(content: bytes, threads: int, gpu: bool) -> onnxruntime.InferenceSession:
    providers = [CUDA, "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    if gpu and CUDA not in onnxruntime.get_available_providers():
        raise ConvladderError(NO_GPU.format(reason="it is built for processors alone"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or count_threads() or 0
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(MICROSECONDS_AWAKE))
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    if gpu and session.get_providers()[0] != CUDA:  # it goes on without one, where a driver or a library is missing
        raise ConvladderError(NO_GPU.format(reason="it found no GPU, or no CUDA of its version"))
    return session


def _as_path(source: str | Path) -> str:
    if not isinstance(source, str | Path):
        raise ConvladderError(f"A source is of type {type(source).__name__}. Expected the path of a picture.")
    return str(source)


def _decode(source: str, *, input_shape: tuple[int, int, int], resize: str) -> npt.NDArray[np.uint8] | ConvladderError:
    try:
        return decode_image(Path(source), input_shape, resize)
    except ConvladderError as error:
        return error


def _check_input(artifact: Artifact, input_shape: tuple[int, int, int]) -> str:
    """The name of a graph's input, if it takes pictures of the size that it describes."""
    inputs = artifact.inputs
    if [(kind, *shape[1:]) for _, kind, shape in inputs] != [(FLOAT, *input_shape)]:
        shapes = ", ".join(f"{shape} of type {kind}" for _, kind, shape in inputs) or "nothing"
        raise ConvladderError(
            f"{artifact.path} takes {shapes}, but describes {input_shape}. Expected one input of that shape after the "
            f"batch, of float32 (type {FLOAT}): export it again."
        )
    return inputs[0][0]


def _check_graph(classifier: Classifier, session: onnxruntime.InferenceSession, artifact: Artifact) -> list[str]:
    """The names of a graph's probabilities and familiarity, if they match its metadata."""
    outputs = session.get_outputs()
    for output in outputs:
        if output.type != "tensor(float)":
            raise ConvladderError(
                f"{artifact.path} gives {output.name} as {output.type}. Expected tensor(float): export it again."
            )
    given = [list(output.shape[1:]) for output in outputs if output.name != FAMILIARITY]
    said = ", ".join(map(str, given)) or "no"
    if given != [[len(classifier.class_names)]]:
        raise ConvladderError(
            f"{artifact.path} gives {said} probabilities for {len(classifier.class_names)} class names. "
            "Expected the same number: export it again."
        )
    if not set(classifier.stages) <= set(artifact.outputs[1:]):
        raise ConvladderError(
            f"{artifact.path} names the stages {', '.join(classifier.stages)}, but gives "
            f"{', '.join(artifact.outputs[1:]) or 'none'}. Expected the same: export it again."
        )
    if classifier.resize not in RESIZINGS:
        raise ConvladderError(
            f"{artifact.path} has the fit {classifier.resize!r}. Expected one of: {', '.join(RESIZINGS)}."
        )
    return [output.name for output in outputs]
