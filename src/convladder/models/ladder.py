"""The ladder: one function per rung. Each rung adds one idea to a rung below it.

A rung's function takes scaled images (a pretrained one: pixels) and returns the input of the classifier's last layer.
Its keyword arguments are the rung's choices. `build_model` adds the input, the scaling and the softmax. `MODELS`, at
the end of the file, is the ladder in order.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from convladder.engine import Later
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.models import applications
from convladder.models.backbone import BACKBONE, PRETRAINED, build_features, load_weights
from convladder.models.blocks import (
    PADDINGS,
    POOLINGS,
    convolve,
    hidden_layers,
    inception_module,
    normalize,
    normalize_and_activate,
    pool,
)

if TYPE_CHECKING:
    import keras
    from keras import layers
else:
    keras, layers = Later("keras"), Later("keras.layers")

SMALLEST_SIDE, LARGEST_SIDE = 8, 4096
MODULES = ("reduced", "naive")


def build_dense(x: Any, *, hidden: int = 32) -> Any:
    """Two hidden fully connected layers; every pixel is a feature of its own."""
    return hidden_layers(x, hidden)


def build_conv(x: Any, *, kernel_size: int = 3, stride: int = 1, padding: str = "same", hidden: int = 32) -> Any:
    """Two convolutions before `dense`: the same small filter looks at every place (LeCun et al. 1998)."""
    for stage, filters in ((1, 64), (2, 32)):
        x = convolve(
            x,
            filters,
            f"stage{stage}_conv",
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            activation="relu",
        )
    return hidden_layers(x, hidden)


def build_pool(
    x: Any,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    padding: str = "same",
    pooling: str = "max",
    pool_size: int = 2,
    hidden: int = 32,
) -> Any:
    """Pooling after each convolution of `conv`: a quarter of the positions, some freedom to shift."""
    for stage, filters in ((1, 64), (2, 32)):
        x = convolve(
            x,
            filters,
            f"stage{stage}_conv",
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            activation="relu",
        )
        x = pool(x, f"stage{stage}_pool", pooling=pooling, pool_size=pool_size)
    return hidden_layers(x, hidden)


def build_regularized(
    x: Any,
    *,
    dropout: float = 0.25,
    l1: float = 0.0,
    l2: float = 1e-4,
    pooling: str = "max",
    pool_size: int = 2,
) -> Any:
    """Dropout and a weight penalty on `pool`, against overfitting (Srivastava et al. 2014)."""
    penalty = keras.regularizers.L1L2(l1, l2) if l1 or l2 else None
    for stage, filters in ((1, 64), (2, 32)):
        x = convolve(x, filters, f"stage{stage}_conv", activation="relu", kernel_regularizer=penalty)
        x = pool(x, f"stage{stage}_pool", pooling=pooling, pool_size=pool_size)
        x = layers.Dropout(dropout, name=f"stage{stage}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (1, 2):
        x = layers.Dense(32, activation="relu", kernel_regularizer=penalty, name=f"hidden{number}")(x)
    return layers.Dropout(dropout, name="hidden_dropout")(x)


def build_batchnorm(
    x: Any,
    *,
    batch_norm: bool = True,
    kernel_size: int = 3,
    stride: int = 1,
    padding: str = "same",
    pooling: str = "max",
    pool_size: int = 2,
) -> Any:
    """Batch normalization after each convolution of `pool` (Ioffe and Szegedy 2015, arXiv:1502.03167).

    It stands between pooling and ReLU. This gives the same network, because max and ReLU commute, and normalizes a
    quarter of the values: an epoch takes 8 s instead of 27 s.
    """
    for stage, filters in ((1, 64), (2, 32)):
        x = convolve(x, filters, f"stage{stage}_conv", kernel_size=kernel_size, stride=stride, padding=padding)
        x = pool(x, f"stage{stage}_pool", pooling=pooling, pool_size=pool_size)
        x = normalize_and_activate(x, f"stage{stage}", batch_norm)
    return hidden_layers(x)


def build_linear_head(x: Any, *, batch_norm: bool = True, pooling: str = "max", pool_size: int = 2) -> Any:
    """No hidden fully connected layers on `batchnorm`: the softmax reads the feature maps themselves."""
    for stage, filters in ((1, 64), (2, 32)):
        x = convolve(x, filters, f"stage{stage}_conv")
        x = pool(x, f"stage{stage}_pool", pooling=pooling, pool_size=pool_size)
        x = normalize_and_activate(x, f"stage{stage}", batch_norm)
    return layers.Flatten(name="flatten")(x)


def build_inception(x: Any, *, module: str = "reduced", batch_norm: bool = True) -> Any:
    """Kernels of several sizes side by side instead of one size (Szegedy et al. 2014, arXiv:1409.4842)."""
    check_choice("inception module", module, MODULES)
    x = convolve(x, 32, "stage1_conv", use_bias=not batch_norm)
    x = pool(x, "stage1_pool")
    x = normalize_and_activate(x, "stage1", batch_norm)
    x = inception_module(x, 24, "stage2", reduce=module == "reduced", batch_norm=batch_norm)
    x = pool(x, "stage2_pool")
    x = inception_module(x, 24, "stage3", reduce=module == "reduced", batch_norm=batch_norm)
    return layers.GlobalAveragePooling2D(name="global_pool")(x)  # (batch, channels)


def build_deep(x: Any, *, depth: int = 20, batch_norm: bool = True) -> Any:
    """A very deep stack of convolutions, plain: what residual connections are measured against."""
    return _deep_stack(x, depth, batch_norm, residual=False)


def build_residual(x: Any, *, depth: int = 20, batch_norm: bool = True, residual: bool = True) -> Any:
    """Identity connections around every two layers of `deep` (He et al. 2015, arXiv:1512.03385)."""
    return _deep_stack(x, depth, batch_norm, residual)


def build_fast(x: Any, *, filters: int = 16, hidden: int = 96) -> Any:
    """What reaches 99 % of MNIST in the fewest seconds: few filters, pooled a lot, and before they are activated."""
    x = convolve(x, filters, "stage1_conv", kernel_size=5, padding="valid", kernel_initializer="he_normal")
    x = pool(x, "stage1_pool", pool_size=3 if min(x.shape[1:3]) >= 6 else 2)  # what is left can be pooled once more
    x = normalize_and_activate(x, "stage1", batch_norm=False)  # (batch, 8, 8, filters) on 28×28
    x = convolve(x, 3 * filters, "stage2_conv", kernel_initializer="he_normal")
    x = pool(x, "stage2_pool")
    x = normalize_and_activate(x, "stage2", batch_norm=False)  # (batch, 4, 4, 3 · filters)
    x = layers.Flatten(name="flatten")(x)
    return layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name="hidden")(x)


def build_strong(x: Any, *, filters: int = 32, hidden: int = 128, batch_norm: bool = True) -> Any:
    """What reaches the highest accuracy: `fast` with a third convolution, wider and normalized; of colours, deeper."""
    if x.shape[-1] == 3:
        return _colour_stack(x, filters, batch_norm)
    x = layers.Flatten(name="flatten")(_pooled_stack(x, (filters, 2 * filters, 3 * filters), batch_norm))
    return layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name="hidden")(x)


def build_tiny(x: Any, *, batch_norm: bool = True) -> Any:
    """What keeps 99.4 % of MNIST with fewer than 5,000 parameters: `fast` pooled once more, without a hidden layer."""
    x = layers.MaxPooling2D(2, padding="same", name="stage3_pool")(_pooled_stack(x, (8, 14, 16), batch_norm))
    return layers.Flatten(name="flatten")(x)


def build_transfer(pixels: Any, *, backbone: str = BACKBONE, weights: str = "") -> Any:
    """Features that a network learnt on ImageNet's photographs, as they are, under a linear head of one's own.

    Donahue et al. 2013, arXiv:1310.1531. Nothing but the last layer is fitted, so a few pictures a class are enough.
    """
    return _backbone_features(pixels, backbone, weights)


def build_finetune(pixels: Any, *, backbone: str = BACKBONE, weights: str = "") -> Any:
    """`transfer`, all of it trained on from its head: the features turn to the pictures at hand.

    Yosinski et al. 2014, arXiv:1411.1792.
    """
    return _backbone_features(pixels, backbone, weights)


def _backbone_features(pixels: Any, name: str, weights: str) -> Any:
    return build_features(pixels) if name == BACKBONE else applications.build_features(pixels, name, weights or None)


def _pooled_stack(x: Any, filters: tuple[int, int, int], batch_norm: bool) -> Any:
    """Convolutions of 5×5, 3×3 and 3×3. The first two are pooled before the activation, which is cheaper."""
    first, second, third = filters
    x = convolve(x, first, "stage1_conv", kernel_size=5, padding="valid", kernel_initializer="he_normal")
    x = pool(x, "stage1_pool")
    x = normalize_and_activate(x, "stage1", batch_norm)  # (batch, 12, 12, first) on 28×28
    x = convolve(x, second, "stage2_conv", kernel_initializer="he_normal")
    x = pool(x, "stage2_pool")
    x = normalize_and_activate(x, "stage2", batch_norm)  # (batch, 6, 6, second)
    x = convolve(x, third, "stage3_conv", kernel_initializer="he_normal")
    return normalize_and_activate(x, "stage3", batch_norm)  # (batch, 6, 6, third)


def _colour_stack(x: Any, filters: int, batch_norm: bool) -> Any:
    """A convolution, then three stages of two convolutions, each at half the size; widths ×1, ×2, ×8, ×8.

    The shape is that of airbench's network for CIFAR-10 (Jordan 2024, arXiv:2404.00498), with a trained first layer.
    """
    x = convolve(x, filters, "stage1_conv", kernel_initializer="he_normal")
    x = layers.Activation("relu", name="stage1_relu")(x)
    for stage, width in ((2, 2 * filters), (3, 8 * filters), (4, 8 * filters)):
        x = convolve(x, width, f"stage{stage}_conv1", kernel_initializer="he_normal")
        x = pool(x, f"stage{stage}_pool")  # (batch, height // 2, width // 2, channels), of the stage before
        x = normalize_and_activate(x, f"stage{stage}_conv1", batch_norm)
        x = convolve(x, width, f"stage{stage}_conv2", kernel_initializer="he_normal")
        x = normalize_and_activate(x, f"stage{stage}_conv2", batch_norm)
    return layers.GlobalMaxPooling2D(name="global_pool")(x)  # (batch, 8 · filters)


def _deep_stack(x: Any, depth: int, batch_norm: bool, residual: bool) -> Any:
    """A convolution, then (depth − 1) // 2 pairs of convolutions at a quarter of the size, all with 16 channels."""
    x = convolve(x, 16, "stage1_conv", use_bias=not batch_norm)
    x = pool(x, "stage1_pool", pool_size=4)  # (batch, height // 4, width // 4, 16)
    x = normalize_and_activate(x, "stage1", batch_norm)
    for stage in range(2, 2 + (depth - 1) // 2):
        shortcut = x
        x = convolve(x, 16, f"stage{stage}_conv1", use_bias=not batch_norm)
        x = normalize_and_activate(x, f"stage{stage}_conv1", batch_norm)
        x = convolve(x, 16, f"stage{stage}_conv2", use_bias=not batch_norm)
        if batch_norm:
            x = normalize(x, f"stage{stage}_conv2_norm")
        if residual:
            x = layers.Add(name=f"stage{stage}_add")([x, shortcut])
        x = layers.Activation("relu", name=f"stage{stage}_conv2_relu")(x)
    return layers.GlobalAveragePooling2D(name="global_pool")(x)  # (batch, 16)


MODELS: Mapping[str, Callable[..., Any]] = {
    "dense": build_dense,
    "conv": build_conv,
    "pool": build_pool,
    "regularized": build_regularized,
    "batchnorm": build_batchnorm,
    "linear_head": build_linear_head,
    "inception": build_inception,
    "deep": build_deep,
    "residual": build_residual,
    "fast": build_fast,
    "tiny": build_tiny,
    "strong": build_strong,
    "transfer": build_transfer,
    "finetune": build_finetune,
}


# Names and ranges of the numeric choices.
RANGES: Mapping[str, tuple[str, float, float]] = {
    "kernel_size": ("kernel size", 1, 255),
    "stride": ("stride", 1, 255),
    "pool_size": ("pool size", 1, 255),
    "hidden": ("hidden units", 1, 65_536),
    "filters": ("filters", 1, 4_096),
    "depth": ("depth", 3, 1_000),
    "dropout": ("dropout", 0, 0.99),
    "l1": ("l1", 0, 1_000),
    "l2": ("l2", 0, 1_000),
}
# What the choices that are texts can be.
OPTIONS: Mapping[str, tuple[str, ...]] = {"padding": PADDINGS, "pooling": POOLINGS, "module": MODULES}


def build_model(
    rung: str, input_shape: tuple[int, int, int], num_classes: int, *, rescale: bool = True, **choices: Any
) -> "keras.Model":
    """Build a rung as a plain Keras model, its weights drawn from Keras's global seed.

    Args:
        rung: A name from MODELS.
        input_shape: (height, width, channels); height and width 8 to 4,096, channels 1 or 3.
        num_classes: 2 to 100,000.
        rescale: Whether the first layer scales pixels from 0–255 to 0–1. The article's networks do not; pretrained
            ones always scale as in their training.
        **choices: Choices of the rung; `rung_choices` lists them.

    Returns:
        A model from pixels, shape (batch, height, width, channels), range 0–255, to class probabilities, shape
        (batch, num_classes), float32.

    Raises:
        ConvladderError: The rung or a choice is unknown, or a value is out of range.

    Example:
        >>> build_model("pool", (28, 28, 1), 10, pooling="average").count_params()
        70698
    """
    check_choices(rung, choices)
    height, width, channels = input_shape
    if min(height, width) < SMALLEST_SIDE or max(height, width) > LARGEST_SIDE or channels not in (1, 3):
        raise ConvladderError(
            f"Images of {height}×{width}×{channels} are not possible. Expected height and width of at least "
            f"{SMALLEST_SIDE} and at most {LARGEST_SIDE}, and 1 or 3 channels."
        )
    check_range("the number of classes", num_classes, 2, 100_000)

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image) if rescale and rung not in PRETRAINED else image
    x = MODELS[rung](x, **choices)
    x = layers.Dense(num_classes, name="logits")(x)
    # Always float32, even if the rest is trained in bfloat16, because probabilities need the digits.
    x = layers.Activation("softmax", dtype="float32", name="probabilities")(x)
    model = keras.Model(image, x, name=rung)
    if rung in PRETRAINED:
        if choices.get("backbone", BACKBONE) == BACKBONE:
            load_weights(model)
        for layer in model.layers:
            # Batch normalization keeps its statistics from pretraining on many photographs.
            normalizes = isinstance(layer, layers.BatchNormalization)
            layer.trainable = layer.name == "logits" or (rung == "finetune" and not normalizes)
    return model


# Why a comparison leaves out a rung by default.
NOT_FOR_PHOTOGRAPHS: Mapping[str, str] = {
    "dense": "every pixel is a feature of its own",
    "conv": "millions of weights",
    "regularized": "augmentation does its work",
    "inception": "slow",
    "deep": "residual without its connections",
    "fast": "tuned for digits",
    "tiny": "tuned for digits",
    "strong": "slow from scratch",
}
NOT_FOR_OTHERS: Mapping[str, str] = dict.fromkeys(PRETRAINED, "pretrained on photographs")


def suited_rungs(photographs: bool) -> list[str]:
    """The rungs that suit photographs, or other images, in the order of the ladder."""
    left_out = NOT_FOR_PHOTOGRAPHS if photographs else NOT_FOR_OTHERS
    return [rung for rung in MODELS if rung not in left_out]


def explain_left_out(photographs: bool) -> str:
    """A line that says which rungs a comparison leaves out by default, and why."""
    left_out = NOT_FOR_PHOTOGRAPHS if photographs else NOT_FOR_OTHERS
    by_reason: dict[str, list[str]] = {}
    for rung, reason in left_out.items():
        by_reason.setdefault(reason, []).append(rung)
    named = ", ".join(f"{' and '.join(rungs)} ({reason})" for reason, rungs in by_reason.items())
    kind = "photographs" if photographs else "images that are not photographs"
    return f"Left out, for {kind}: {named}. --models all takes them."


def check_choices(rung: str, choices: Mapping[str, Any]) -> None:
    """Raise a ConvladderError unless the rung exists and has these choices, with numbers in range."""
    check_choice("rung", rung, MODELS)
    offered = rung_choices(rung)
    for choice, value in choices.items():
        if choice not in offered:
            raise ConvladderError(
                f"{rung} has no choice {choice.replace('_', '-')}. It has: "
                f"{', '.join(name.replace('_', '-') for name in offered)}."
            )
        if choice in RANGES:
            what, low, high = RANGES[choice]
            check_range(what, value, low, high)
    if "weights" in offered:
        applications.check_backbone(choices.get("backbone", BACKBONE), choices.get("weights"))


def rung_choices(rung: str) -> dict[str, Any]:
    """The choices that a rung offers, with their defaults, in the order of its signature."""
    parameters = inspect.signature(MODELS[rung]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def rung_idea(rung: str) -> str:
    """What a rung adds, in one line: the first line of its docstring."""
    return (MODELS[rung].__doc__ or "").strip().splitlines()[0]
