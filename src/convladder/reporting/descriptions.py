"""What each rung is on the data at hand, and what it bought there, in words with these data's numbers."""

from collections.abc import Callable, Mapping
from typing import Any

from convladder.comparing.differences import ALIKE, BETTER
from convladder.evaluating.few import points_of
from convladder.models.backbone import BACKBONE
from convladder.models.ladder import rung_choices
from convladder.runs.run import Run

FILTERS = 32  # of the second convolution of the article's networks


def describe_network(run: Run) -> str:
    """A sentence or two on a rung's network, with the numbers that it has for these images."""
    info = run.info
    rung = info["rung"]
    if rung not in DESCRIBED or info.get("own_network"):
        return f"A network of your own, with {info['parameters']:,} parameters."
    return DESCRIBED[rung](info, rung_choices(rung) | (info.get("choices") or {}))


def describe_gain(row: Mapping[str, Any], pair: Mapping[str, Any] | None, chance: float) -> str:
    """What a rung bought here: over the rung below it; for the lowest, over always giving the same answer.

    Args:
        row: A row of a comparison.
        pair: The step up to this row; None for the lowest.
        chance: Share of the most frequent class.
    """
    images = row["test_images"]
    right = round(row["test_accuracy"] * images)
    said = f"{right:,} of {images:,} test images are right"
    if pair is None:
        return f"{said}; always answering the most frequent class gives {round(chance * images):,}." if chance else f"{said}."
    more, lower, times = round(pair["difference"] * images), pair["lower"], f"{pair['seconds_ratio']:.2g}×"
    count = f"{abs(more):,} {'more' if more > 0 else 'fewer'} than with `{lower}`" if more else f"as many as with `{lower}`"
    if pair["verdict"] == ALIKE:
        return f"{said}, {count}{', which may be chance' if more else ''}. Training takes {times} the seconds."
    (points,) = points_of([abs(pair["difference"])], images, nonzero=True)
    way = "more" if pair["verdict"] == BETTER else "less"
    return f"{said}, {count}: {points} points {way}, for {times} the seconds of training."


def _image(info: Mapping[str, Any]) -> str:
    height, width, _ = info["input_shape"]
    return f"{height}×{width}"


def _places(info: Mapping[str, Any], shrunk: int) -> tuple[int, int]:
    height, width, _ = info["input_shape"]
    return height // shrunk, width // shrunk


def _dense(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    height, width, channels = info["input_shape"]
    colours = "" if channels == 1 else f"×{channels}"
    return (
        f"Reads the {height}×{width}{colours} = {height * width * channels:,} values of an image as a list, through two "
        f"hidden layers of {own['hidden']:,} units. It does not know which pixels are neighbours."
    )


def _conv(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    kernel = own["kernel_size"]
    return (
        f"Two convolutions before `dense`, with 64 and {FILTERS} filters of {kernel}×{kernel}: each filter looks at every "
        f"place of the {_image(info)} image."
    )


def _pool(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    said = f"{own['pooling'].capitalize()} pooling after each convolution of `conv`"
    if own["stride"] > 1 or own["padding"] != "same":
        return f"{said}, over windows of {own['pool_size']}×{own['pool_size']}."
    (height, width), (before, across) = _places(info, own["pool_size"] ** 2), _places(info, 1)
    return (
        f"{said}: of {before}×{across} places {height}×{width} are left, so the hidden layers read "
        f"{height * width * FILTERS:,} values in place of {before * across * FILTERS:,}, and a small shift matters less."
    )


def _regularized(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    weights = " and ".join(f"{name.upper()} of {own[name]:g}" for name in ("l1", "l2") if own[name])
    penalty = f" and a penalty on weights ({weights})" if weights else ""
    return (
        f"`pool` with dropout of {own['dropout']:g}{penalty}, against overfitting to {info['images']['train']:,} training "
        "images."
    )


def _batchnorm(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    if not own["batch_norm"]:
        return "`pool`, with its batch normalization switched off."
    return "`pool` with batch normalization after each convolution, so that the next layer sees values of a steady range."


def _linear_head(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    height, width = _places(info, own["pool_size"] ** 2)
    return (
        f"`batchnorm` without hidden layers: the {len(info['class_names'])} classes are read from the last feature maps, "
        f"{height}×{width}×{FILTERS} = {height * width * FILTERS:,} values."
    )


def _inception(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    reduced = ", after 1×1 convolutions that reduce the channels" if own["module"] == "reduced" else ""
    return f"Kernels of 1×1, 3×3 and 5×5 side by side in place of one size{reduced}."


def _deep(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    height, width = _places(info, 4)
    return f"{1 + (own['depth'] - 1) // 2 * 2} convolutions of 16 channels on top of one another, all but the first on {height}×{width} places."


def _residual(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    if not own["residual"]:
        return _deep(info, own)
    return f"{_deep(info, own)[:-1]}, with an identity connection around every two."


def _fast(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    filters = own["filters"]
    return (
        f"Made for few seconds of training: three convolutions of {filters}, {2 * filters} and {4 * filters} filters, pooled "
        f"before they are activated, and one hidden layer of {own['hidden']:,} units."
    )


def _tiny(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    return (
        f"Made for few parameters, {info['parameters']:,} here: three convolutions of 8, 14 and 16 filters, pooled three "
        "times, and no hidden layer."
    )


def _strong(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    colours = info["input_shape"][2] == 3
    layers = "seven convolutions in four stages" if colours else "three wide convolutions and a hidden layer"
    return f"Made for the highest accuracy of a network trained from scratch: {layers}, {info['parameters']:,} parameters."


def _transfer(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    backbone = own.get("backbone", BACKBONE)
    return (
        f"Features that `{backbone}` learned from ImageNet's photographs, of images of {_image(info)}. Only the last layer, "
        f"for {len(info['class_names'])} classes, is fitted, to {info['images']['train']:,} images."
    )


def _finetune(info: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    return (
        f"`transfer`, trained on from its last layer: all {info['parameters']:,} parameters adapt to the "
        f"{info['images']['train']:,} training images."
    )


DESCRIBED: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = {
    "dense": _dense,
    "conv": _conv,
    "pool": _pool,
    "regularized": _regularized,
    "batchnorm": _batchnorm,
    "linear_head": _linear_head,
    "inception": _inception,
    "deep": _deep,
    "residual": _residual,
    "fast": _fast,
    "tiny": _tiny,
    "strong": _strong,
    "transfer": _transfer,
    "finetune": _finetune,
}
