"""What each rung is on the data at hand, and what it bought there, in words with these data's numbers."""

from collections.abc import Mapping
from typing import Any

from convladder.comparing.differences import ALIKE, BETTER
from convladder.evaluating.few import points_of
from convladder.models.backbone import BACKBONE
from convladder.models.ladder import rung_choices
from convladder.runs.run import Run

FILTERS = 32  # of the second convolution of the article's networks
DESCRIBED: Mapping[str, str] = {
    "dense": "Reads the {image} = {values} values of an image as a list, through two hidden layers of {hidden} units. "
    "It does not know which pixels are neighbours.",
    "conv": "Two convolutions before `dense`, with 64 and 32 filters of {kernel_size}×{kernel_size}: each filter looks "
    "at every place of the {side} image.",
    "pool": "{pooling} pooling after each convolution of `conv`{fewer}.",
    "regularized": "`pool` with dropout of {dropout}{penalty}, against overfitting to {train} training images.",
    "batchnorm": "`pool` with batch normalization{off} after each convolution, so that the next layer sees values of "
    "a steady range.",
    "linear_head": "`batchnorm` without hidden layers: the {classes} classes are read from the last feature maps, "
    "{pooled}×32 = {pooled_values} values.",
    "inception": "Kernels of 1×1, 3×3 and 5×5 side by side in place of one size{reduced}.",
    "deep": "{depth} convolutions of 16 channels on top of one another, all but the first on {quarter} places.",
    "residual": "`deep` with an identity connection{off} around every two of its {depth} convolutions.",
    "fast": "Made for few seconds of training: two convolutions, pooled before they are activated, and one hidden "
    "layer of {hidden} units, {parameters} parameters.",
    "tiny": "Made for few parameters, {parameters} here: three convolutions of 8, 14 and 16 filters, pooled three "
    "times, and no hidden layer.",
    "strong": "Made for the highest accuracy of a network that is trained from scratch: {strong}, "
    "{parameters} parameters.",
    "transfer": "Features that `{backbone}` learned from ImageNet's photographs, of images of {side}. Only the last "
    "layer, for {classes} classes, is fitted, to {train} images.",
    "finetune": "`transfer`, trained on from its last layer: all {parameters} parameters adapt to the {train} training "
    "images.",
}


def describe_network(run: Run) -> str:
    """A sentence or two on a rung's network, with the numbers that it has for these images."""
    info = run.info
    if info["rung"] not in DESCRIBED or info.get("own_network"):
        return f"A network of your own, with {info['parameters']:,} parameters."
    return DESCRIBED[info["rung"]].format(**_numbers(info, rung_choices(info["rung"]) | (info.get("choices") or {})))


def describe_gain(row: Mapping[str, Any], pair: Mapping[str, Any] | None, chance: float) -> str:
    """What a rung bought here: over the rung below it; for the lowest, over always giving the same answer.

    Args:
        row: A row of a comparison.
        pair: The step up to this row; None for the lowest.
        chance: Share of the most frequent class.
    """
    images = row["test_images"]
    said = f"{round(row['test_accuracy'] * images):,} of {images:,} test images are right"
    if pair is None:
        constant = f"; always answering the most frequent class gives {round(chance * images):,}" if chance else ""
        return f"{said}{constant}."
    more, lower, times = round(pair["difference"] * images), pair["lower"], _times(pair["seconds_ratio"])
    count = (
        f"{abs(more):,} {'more' if more > 0 else 'fewer'} than with `{lower}`" if more else f"as many as with `{lower}`"
    )
    if pair["verdict"] == ALIKE:
        return f"{said}, {count}{', which may be chance' if more else ''}. Training takes {times} the seconds."
    (points,) = points_of([abs(pair["difference"])], images, nonzero=True)
    way = "more" if pair["verdict"] == BETTER else "less"
    return f"{said}, {count}: {points} points {way}, for {times} the seconds of training."


def _times(ratio: float) -> str:
    return f"{ratio:.2g}×" if ratio < 10 else f"{ratio:,.0f}×"


def _numbers(info: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, str]:
    """What the sentences name, for a run and its rung's choices."""
    height, width, channels = info["input_shape"]
    window = own.get("pool_size", 2) ** 2  # of two poolings after one another, along each side
    pooled, pooled_values = f"{height // window}×{width // window}", (height // window) * (width // window) * FILTERS
    shrunk = (
        f": of {height}×{width} places {pooled} are left, so the hidden layers read {pooled_values:,} values in place "
        f"of {height * width * FILTERS:,}, and a small shift matters less"
    )
    weights = " and ".join(f"{name.upper()} of {own[name]:g}" for name in ("l1", "l2") if own.get(name))
    off = not own.get("batch_norm", True) if info["rung"] == "batchnorm" else not own.get("residual", True)
    return {
        "image": f"{height}×{width}" if channels == 1 else f"{height}×{width}×{channels}",
        "side": f"{height}×{width}",
        "values": f"{height * width * channels:,}",
        "classes": f"{len(info['class_names']):,}",
        "train": f"{info['images']['train']:,}",
        "parameters": f"{info['parameters']:,}",
        "hidden": f"{own.get('hidden', 0):,}",
        "kernel_size": str(own.get("kernel_size", "")),
        "pooling": str(own.get("pooling", "")).capitalize(),
        "fewer": shrunk if own.get("stride", 1) == 1 and own.get("padding", "same") == "same" else "",
        "pooled": pooled,
        "pooled_values": f"{pooled_values:,}",
        "dropout": f"{own.get('dropout', 0):g}",
        "penalty": f" and a penalty on weights ({weights})" if weights else "",
        "off": ", switched off," if off else "",
        "reduced": ", after 1×1 convolutions that reduce the channels" if own.get("module") == "reduced" else "",
        "depth": str(1 + (own.get("depth", 1) - 1) // 2 * 2),
        "quarter": f"{height // 4}×{width // 4}",
        "strong": "seven convolutions in four stages" if channels == 3 else "three convolutions and a hidden layer",
        "backbone": str(own.get("backbone", BACKBONE)),
    }
