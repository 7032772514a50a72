"""Other backbones: the networks of `keras.applications`, with weights from a file or downloaded by Keras.

They are built by Keras, with their preprocessing in front, and with layers named by stage.
"""

import contextlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convladder.engine import Later
from convladder.errors import ConvladderError, check_choice
from convladder.models.backbone import BACKBONE, FEATURES, enlarged
from convladder.models.blocks import settle
from convladder.models.reading import check_weights

if TYPE_CHECKING:
    import keras
    from keras import layers
else:
    keras, layers = Later("keras"), Later("keras.layers")

WEIGHT_ENDINGS = (".h5", ".keras")  # .weights.h5 among them
PROBES = 255 * np.concatenate([np.zeros((1, 3)), np.eye(3)])  # black, red, green, blue
SMALLER = 0.75  # of the side at the beginning of a stage: the next stage begins where maps are smaller
DEVIATIONS = (0.229, 0.224, 0.225)  # of the colours of ImageNet, as in EfficientNet's weights


def list_backbones() -> list[str]:
    """The embedded backbone, then the networks of `keras.applications`."""
    return [BACKBONE, *(name for name in sorted(vars(keras.applications)) if name[0].isupper())]


def check_backbone(name: str, weights: str | None) -> None:
    """Raise a ConvladderError unless the backbone exists, and the file of weights can be read."""
    check_choice("backbone", name, list_backbones())
    if weights is None:
        return
    if name == BACKBONE:
        raise ConvladderError(
            f"--weights {weights} cannot be used with {BACKBONE}, whose weights come with the package. Also give "
            "--backbone, the network of these weights."
        )
    if not weights.endswith(WEIGHT_ENDINGS):
        raise ConvladderError(f"--weights {weights} is not a file of weights. Expected .weights.h5, .h5 or .keras.")
    try:
        Path(weights).open("rb").close()
    except OSError as error:
        raise ConvladderError(f"Could not read --weights {weights} ({error.strerror}). Expected a file.") from error


def build_features(pixels: Any, name: str, weights: str | None) -> Any:
    """Features of images, like `backbone.build_features`, from a network of `keras.applications`.

    Args:
        pixels: A Keras input of shape (batch, height, width, channels), range 0–255; 1 or 3 channels.
        name: Its name in `keras.applications`.
        weights: The path of a file; by default Keras takes them from its cache, or downloads them.

    Returns:
        Shape (batch, features): the mean over all positions of the last feature maps.

    Raises:
        ConvladderError: The file does not match; the weights cannot be downloaded, exit status 1.
    """
    height, width, channels = pixels.shape[1:]
    build = getattr(keras.applications, name)
    x = layers.Concatenate(name="gray_to_colors")([pixels] * 3) if channels == 1 else pixels
    if enlarged(height, width) != (height, width):
        x = layers.Resizing(*enlarged(height, width), name="enlarge")(x)
    x = _preprocess(x, inspect.getmodule(build))
    settings = {"include_top": False, "pooling": "avg", "input_tensor": x, "input_shape": x.shape[1:]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MobileNets warn that their weights were trained for another size
        if weights is None:
            with _told_of_fetching(name):
                network = build(weights="imagenet", **settings)
        else:
            with _fitting(name, weights):
                check_weights(Path(weights))
            network = build(weights=None, **settings)
            _load(network, build, name, weights)
    return _rename(network, pixels)


def _preprocess(x: Any, module: Any) -> Any:
    """A network's `preprocess_input` as layers that can be exported: it scales channels, and may reverse their order.

    Its effect on four colours is enough to find out. For networks with preprocessing inside, it does nothing.
    """
    black, *colours = module.preprocess_input(PROBES.copy())
    slopes = (np.array(colours) - black) / 255  # slope of each output by each input: (in, out)
    if not np.diag(slopes).all():
        x, slopes = keras.ops.flip(x, axis=-1), slopes[::-1]
    scale = np.diag(slopes)
    if np.allclose(scale, 1) and np.allclose(black, 0):
        return x
    return layers.Rescaling(scale.tolist(), offset=black.tolist(), name="rescale")(x)


@contextlib.contextmanager
def _told_of_fetching(name: str) -> Iterator[None]:
    """Announce a download before Keras starts it. If it fails, say which file to put where.

    All applications load their weights through one function. Their text on standard output goes to standard error.

    Raises:
        ConvladderError: Another file has its name; or the download failed, exit status 1.
    """
    from keras.src.backend.config import keras_home
    from keras.src.utils import file_utils

    fetch = file_utils.get_file

    def get_file(fname: str, origin: str, *, cache_subdir: str, file_hash: str | None = None) -> str:
        path = Path(keras_home()).expanduser() / cache_subdir / fname
        advice = f"Put {fname} into {path.parent}, or name the file with --weights."
        if path.exists() and file_hash and not file_utils.validate_file(path, file_hash):
            # Keras would download it again, and delete the file if that fails.
            raise ConvladderError(f"{path} is not Keras's file with the weights of {name}. {advice}")
        if not path.exists():
            print(f"Keras downloads the weights of {name}, {fname}, into {path.parent}.", file=sys.stderr, flush=True)
        try:
            return str(fetch(fname, origin, cache_subdir=cache_subdir, file_hash=file_hash))
        except Exception as error:
            reason = str(error).rpartition(" -- ")[2]  # before it stands a URL
            raise ConvladderError(
                f"The weights of {name} could not be downloaded ({reason}). {advice}", exit_status=1
            ) from error

    file_utils.get_file = get_file
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        file_utils.get_file = fetch


@contextlib.contextmanager
def _fitting(name: str, weights: str) -> Iterator[None]:
    """Say of whatever goes wrong that the file does not fit."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConvladderError(
            f"--weights {weights} does not fit {name} ({reason}). Expected a file of this network, with or without "
            "its last layer, as Keras saves it."
        ) from error


def _load(network: "keras.Model", build: Any, name: str, weights: str) -> None:
    """Load weights into a network without its last layer, from a file of that or of the whole network."""
    with _fitting(name, weights):
        try:
            network.load_weights(weights)
        except Exception:
            whole = build(weights=None)
            whole.load_weights(weights)
            network.set_weights(whole.get_weights()[: len(network.weights)])
    for layer in network.layers:
        # EfficientNet's files hold deviations where Keras expects variances; Keras corrects only its own download.
        if isinstance(layer, layers.Normalization) and layer.weights:
            mean, variance, *rest = layer.get_weights()
            if np.allclose(variance.ravel(), DEVIATIONS, atol=1e-3):
                layer.set_weights([mean, variance**2, *rest])


def _rename(network: "keras.Model", pixels: Any) -> Any:
    """Rebuild a network on `pixels`, with layers named by stage, also in nested blocks. Returns its output.

    The size of a layer's maps determines its stage, so that the last maps of each stage can be found.
    """
    network = keras.Model(pixels, network.output)  # some applications take their input as a list
    names = dict(_name_layers(network))
    pairs: list[tuple[Any, Any]] = []

    def copy(layer: Any) -> Any:
        twin = type(layer).from_config(layer.get_config() | {"name": names[layer.name]})
        pairs.append((layer, twin))
        return twin

    def copy_block(layer: Any) -> Any:
        return layer if isinstance(layer, keras.Sequential) or not isinstance(layer, layers.Layer) else copy(layer)

    def call(layer: Any, x: Any, *others: Any, **settings: Any) -> Any:
        if not isinstance(layer, keras.Sequential):
            return layer(x, *others, **settings)
        for part in layer.layers:
            x = copy(part)(x)
        return x

    renamed = keras.models.clone_model(network, pixels, copy_block, call)
    for layer, twin in pairs:
        twin.set_weights(layer.get_weights())
    settle(renamed)
    return renamed.output


def _name_layers(network: "keras.Model") -> Iterator[tuple[str, str]]:
    """For each layer its name, and the name with the stage in front if it has one."""
    parts = [part for layer in network.layers for part in getattr(layer, "layers", [layer])]
    first = next(i for i, layer in enumerate(parts) if isinstance(layer, layers.Conv2D))
    # Maps smaller than the last are channel weights (squeeze-and-excitation); padding gives odd sides.
    sides = {
        layer.name: layer.output.shape[1]
        for layer in parts[first:]
        if len(layer.output.shape) == 4 and not isinstance(layer, layers.ZeroPadding2D)
    }
    last = list(sides.values())[-1]
    begins: list[int] = []
    for side in sorted(set(sides.values()), reverse=True):
        if side >= last and (not begins or side <= SMALLER * begins[-1]):
            begins.append(side)
    for layer in parts:
        if layer.output is network.output:
            yield layer.name, FEATURES
        elif sides.get(layer.name, 0) >= last:
            yield layer.name, f"stage{sum(begin >= sides[layer.name] for begin in begins)}_{layer.name}"
        else:
            yield layer.name, layer.name
