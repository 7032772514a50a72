"""Classifier: a shipped model, one .onnx file, run by ONNX Runtime. The one prediction path.

Neither Keras nor TensorFlow is imported here, or by anything that this imports.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from convladder.data.decoding import decode_image
from convladder.errors import ConvladderError

METADATA_KEY = "convladder"


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes:
        source: Where it came from.
        label: The most probable class.
        probability: Of that class, 0–1.
        top: All classes, as (name, probability), the most probable first.
    """

    source: str
    label: str
    probability: float
    top: list[tuple[str, float]]


class Classifier:
    """A trained model that answers without what trained it.

    Args:
        path: An .onnx file that convladder wrote; it holds class names, input size and fit.
        threads: That share the work of one call; 0 for as many as there are processors.

    Attributes:
        class_names: One a label.
        input_shape: (height, width, channels).
        fit: How a picture of another proportion is brought to that size, as it was for training.

    Raises:
        ConvladderError: No such file, no ONNX, or one that convladder did not write.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            raise ConvladderError(f"{path} cannot be loaded ({error}). Expected a model.onnx.") from error
        stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if stored is None:
            raise ConvladderError(f"{path} says nothing of its classes. Expected a file that convladder wrote.")
        metadata = json.loads(stored)
        self.class_names: tuple[str, ...] = tuple(metadata["class_names"])
        height, width, channels = metadata["input_shape"]
        self.input_shape: tuple[int, int, int] = (height, width, channels)
        self.fit: str = metadata.get("fit", "stretch")
        self._input = self._session.get_inputs()[0].name

    def predict_probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of shape (count, num_classes) for pixels of shape (count, height, width, channels)."""
        (probabilities,) = self._session.run(None, {self._input: images.astype(np.float32)})
        return np.asarray(probabilities, dtype=np.float32)

    def predict(self, sources: Iterable[str | Path]) -> Iterator[Prediction | ConvladderError]:
        """Answer for pictures in files, one after the other, in order; a bad one gives its error instead.

        Args:
            sources: Paths of JPEG, PNG, BMP, GIF, WebP or TIFF files.

        Yields:
            A Prediction, or the ConvladderError that says what is wrong with this picture.
        """
        for source in sources:
            try:
                pixels = decode_image(Path(source), self.input_shape, self.fit)
            except ConvladderError as error:
                yield error
                continue
            probabilities = self.predict_probabilities(pixels[np.newaxis])[0]
            order = probabilities.argsort()[::-1]
            top = [(self.class_names[i], float(probabilities[i])) for i in order]
            yield Prediction(str(source), *top[0], top)
