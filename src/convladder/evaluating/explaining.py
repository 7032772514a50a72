"""Explaining a network's answer: its first filters, its feature maps, and the pixels that the answer depends on.

A sanity check after Adebayo et al. 2018 (arXiv:1810.03292) tests whether a map depends on the network at all: a network
with randomized weights must give a different map.

Keras is imported only to look into a network. A shipped model does not need it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError, check_choice, check_range
from convladder.inference.occlusion import check_image, occlude

if TYPE_CHECKING:
    import keras

Map = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

FLAT = 1e-6  # the rounding error of float32; a map with no larger value shows nothing
SMALLEST = 1e-12  # the smallest probability whose logarithm is taken
# Layers that only select a part of the output of the layer before.
PASSING_ON = ("InputLayer", "Rescaling", "Dropout", "MaxPooling2D", "AveragePooling2D", "MinPooling2D")


@dataclass(frozen=True)
class Explanation:
    """Everything that explains one answer.

    Attributes:
        image: Shape (height, width, channels).
        label: The most probable class, which everything here is about.
        probability: Its probability, 0–1.
        maps: For each method, "grad-cam", "hires-cam" and "occlusion", the pixels that support it, shape (height,
            width).
        feature_maps: Output of each requested layer, shape (height, width, channels) or (units,).
        sanity: For each method, the mean rank correlation of its map with those of networks with randomized weights,
            −1 to 1; without methods whose maps are flat.
    """

    image: Pixels
    label: int
    probability: float
    maps: dict[str, Map] = field(default_factory=dict)
    feature_maps: dict[str, Map] = field(default_factory=dict)
    sanity: dict[str, float] = field(default_factory=dict)

    @property
    def flat(self) -> dict[str, str]:
        """For each method and layer whose map shows nothing, the reason: it is zero everywhere, or it is not finite."""
        reasons = {method: _why_flat(values, WHY_FLAT[method]) for method, values in self.maps.items()}
        reasons |= {layer: _why_flat(maps, "the layer is not active") for layer, maps in self.feature_maps.items()}
        return {name: reason for name, reason in reasons.items() if reason}


# The meaning of a map that is zero everywhere.
NOTHING_SPEAKS = "no feature map supports the class, so another part of the network does; see occlusion"
WHY_FLAT = {
    "grad-cam": NOTHING_SPEAKS,
    "hires-cam": NOTHING_SPEAKS,
    "occlusion": "the answer stays the same, whatever is covered",
}


def _why_flat(values: Map, meaning: str) -> str:
    if not np.isfinite(values).all():
        return "it has values that are not finite: the network's weights or gradients are out of range"
    return f"it is zero everywhere: {meaning}" if np.abs(values).max() <= FLAT else ""


def explain(
    predict: Callable[[Pixels], Map],
    image: Pixels,
    model: "keras.Model | None" = None,
    *,
    layer: str | None = None,
    random_models: "Sequence[keras.Model]" = (),
) -> Explanation:
    """Explain one answer with all methods.

    Args:
        predict: Function from pixels, shape (count, height, width, channels), to probabilities, such as a
            Classifier's `predict_probabilities`.
        image: Shape (height, width, channels).
        model: The Keras network. Without it, occlusion is the only method.
        layer: The name of a layer whose feature maps you want.
        random_models: Networks with randomized weights, as `randomize` returns them, for the sanity check, which
            uses their mean.

    Raises:
        ConvladderError: The layer does not exist.
    """
    check_image(image)
    answer = predict(image[np.newaxis])[0]
    label = int(answer.argmax())
    maps: dict[str, Map] = {}
    seen: dict[str, Map] = {}
    if model is not None:
        if layer:
            seen[layer] = feature_maps(model, image, layer)
        if has_convolution(model):
            maps |= _gradient_maps(model, image, label)
    maps["occlusion"] = occlude(predict, image, label)
    correlations: dict[str, list[float]] = {method: [] for method in maps}
    for random_model in random_models:
        random = {"occlusion": occlude(predict_with(random_model), image, label)}
        if "grad-cam" in maps:
            random |= _gradient_maps(random_model, image, label)
        for method, trained in maps.items():
            correlation = rank_correlation(trained, random[method])
            if not math.isnan(correlation):  # a flat map has no ranks
                correlations[method].append(correlation)
    sanity = {method: float(np.mean(several)) for method, several in correlations.items() if several}
    return Explanation(image, label, float(answer[label]), maps, seen, sanity)


def first_filters(model: "keras.Model") -> Map:
    """The filters of the first layer.

    Args:
        model: A network. For an ensemble, its first member is used.

    Returns:
        Shape (filters, height, width, channels): the kernels of the first convolution. If the first layer is fully
        connected: its weights, each as a picture of the input's size.

    Raises:
        ConvladderError: The first layer is neither a convolution nor fully connected.
    """
    import keras

    network = _members(model)[0]
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            return np.asarray(layer.kernel).transpose(3, 0, 1, 2)
        if isinstance(layer, keras.layers.Dense) and layer.kernel.shape[0] == np.prod(network.input_shape[1:]):
            return np.asarray(layer.kernel).T.reshape(-1, *network.input_shape[1:])
    raise ConvladderError(f"{model.name} begins with neither a convolution nor a fully connected layer.")


def feature_maps(model: "keras.Model", image: Pixels, layer: str) -> Map:
    """A layer's output for a picture.

    Args:
        model: A network. For an ensemble, its first member is used.
        image: Shape (height, width, channels).
        layer: Name of the layer, as `convladder summary` prints it.

    Returns:
        Shape (height, width, channels) for a spatial layer, else (units,).

    Raises:
        ConvladderError: The layer does not exist, or the image has another shape.
    """
    import keras

    _check_fits(model, image)
    network = _members(model)[0]
    check_choice("layer", layer, [one.name for one in network.layers])
    part = keras.Model(network.input, network.get_layer(layer).output)
    return np.asarray(part(image[np.newaxis].astype(np.float32), training=False)[0], np.float32)


def grad_cam(
    model: "keras.Model",
    image: Pixels,
    label: int | None = None,
    layer: str | None = None,
    *,
    by_place: bool = False,
) -> Map:
    """Grad-CAM: where the last feature maps support a class (Selvaraju et al. 2017, arXiv:1610.02391).

    Each feature map is weighted by its mean gradient. This is exact for networks with global average pooling, such as
    `inception`, `deep` and `residual`. A fully connected head weights each position separately, so the mean can point
    to positions that the answer does not depend on. Then `by_place`, which is HiResCAM (Draelos and Carin 2020,
    arXiv:2011.08891), is better, because it takes no mean. With global average pooling the two are equal.

    Args:
        model: A network with a convolution. For an ensemble, the members' maps are averaged.
        image: Shape (height, width, channels).
        label: The class; by default the most probable.
        layer: A spatial layer; by default the last one that does more than select from the layer before.
        by_place: Whether to weight each position of a feature map by its own gradient.

    Returns:
        The picture's shape (height, width), 0–1; all 0 if no feature map supports the class.

    Raises:
        ConvladderError: The network has no convolution, the layer is not spatial, or the image has another shape.
    """
    import keras
    import tensorflow as tf
    from PIL import Image

    _check_fits(model, image)
    pixels = tf.constant(image[np.newaxis], tf.float32)
    if label is None:
        label = int(np.argmax(model(pixels, training=False)[0]))
    check_range("label", label, 0, model.output_shape[-1] - 1)
    height, width = image.shape[:2]
    total = np.zeros((height, width), np.float32)
    for network in _members(model):
        maps = network.get_layer(_choose_layer(network, layer)).output
        names = [one.name for one in network.layers]
        # Before the softmax, whose gradient vanishes for a class that is nearly certain.
        end = (
            network.get_layer("logits").output
            if "logits" in names
            else keras.ops.log(keras.ops.maximum(network.output, SMALLEST))
        )
        with tf.GradientTape() as tape:
            tape.watch(pixels)  # weights that are not trained are not watched
            values, scores = keras.Model(network.input, [maps, end])(pixels, training=False)
            score = scores[:, label]
        slopes = tape.gradient(score, values)  # (1, height, width, channels)
        if not by_place:
            slopes = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)  # (1, 1, 1, channels)
        small = tf.nn.relu(tf.reduce_sum(slopes * values, axis=3))[0].numpy()
        large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
        total += large / max(float(large.max()), 1e-12)
    return total / max(float(total.max()), 1e-12)


def _check_fits(model: "keras.Model", image: Pixels) -> None:
    check_image(image)
    if image.shape != model.input_shape[1:]:
        raise ConvladderError(
            f"The image has shape {image.shape}. Expected {model.input_shape[1:]}, the network's input shape."
        )


def _gradient_maps(model: "keras.Model", image: Pixels, label: int) -> dict[str, Map]:
    return {
        "grad-cam": grad_cam(model, image, label),
        "hires-cam": grad_cam(model, image, label, by_place=True),
    }


def has_convolution(model: "keras.Model") -> bool:
    """Whether Grad-CAM is possible: some layer is a convolution."""
    import keras

    return any(isinstance(layer, keras.layers.Conv2D) for layer in _members(model)[0].layers)


def randomize(model: "keras.Model", seed: int = 0) -> "keras.Model":
    """An untrained copy of a network: new random kernels (He et al. 2015, arXiv:1502.01852), other weights neutral.

    Shuffled weights would not work: a normalized network with them gives the same answer whatever is covered, and its
    flat maps prove nothing.
    """
    import keras

    rng = np.random.default_rng(seed)
    twin = keras.models.clone_model(model)
    drawn = []
    for weight in model.weights:
        if len(weight.shape) > 1:
            deviation = (2 / np.prod(weight.shape[:-1])) ** 0.5
            drawn.append(rng.normal(0, deviation, weight.shape))
        else:
            drawn.append(np.full(weight.shape, float(weight.name in ("gamma", "moving_variance"))))
    twin.set_weights(drawn)
    return twin


def rank_correlation(first: Map, second: Map) -> float:
    """Spearman's rank correlation of two maps' values, −1 to 1; NaN if one of them is constant."""
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def predict_with(model: "keras.Model") -> Callable[[Pixels], Map]:
    """The function that `occlude` needs, for a Keras network."""

    def predict(images: Pixels) -> Map:
        return np.asarray(model(images.astype(np.float32), training=False), np.float32)

    return predict


def _members(model: "keras.Model") -> list[Any]:
    """The networks of an ensemble; for a single network, itself."""
    from convladder.models.blocks import members

    return members(model) or [model]


def _choose_layer(network: "keras.Model", name: str | None) -> str:
    """The layer that Grad-CAM uses."""
    if not has_convolution(network):
        raise ConvladderError(
            f"{network.name} has no convolution, so Grad-CAM is not possible. Expected a convolutional rung. "
            "Occlusion works for any network."
        )
    placed = [layer for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4]
    if name is None:
        return str([layer for layer in placed if type(layer).__name__ not in PASSING_ON][-1].name)
    check_choice("layer that keeps places", name, [layer.name for layer in placed])
    return name
