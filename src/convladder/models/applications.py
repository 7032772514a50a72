"""Other backbones: the networks of `keras.applications`, with weights from a file, or as Keras itself fetches them.

They come as Keras builds them, with their preprocessing before them and their layers named by stage.
"""

import contextlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from convladder.errors import ConvladderError, check_choice
from convladder.models.backbone import BACKBONE, FEATURES, enlarged
from convladder.models.blocks import settle

WEIGHT_ENDINGS = (".h5", ".keras")  # .weights.h5 among them
PROBES = 255 * np.concatenate([np.zeros((1, 3)), np.eye(3)])  # black, red, green, blue
SMALLER = 0.75  # of the side where a stage begins: the next one begins there
DEVIATIONS = (0.229, 0.224, 0.225)  # of the colours of ImageNet's pictures, as EfficientNet's weights hold them


def list_backbones() -> list[str]:
    """The package's own, then the networks of `keras.applications`."""
    return [BACKBONE, *(name for name in sorted(vars(keras.applications)) if name[0].isupper())]


def check_backbone(name: str, weights: str | None) -> None:
    """Raise a ConvladderError unless there is such a backbone, and such a file of weights."""
    check_choice("backbone", name, list_backbones())
    if weights is None:
        return
    if name == BACKBONE:
        raise ConvladderError(
            f"--weights {weights} is of no use to {BACKBONE}, whose weights come with the package. Expected "
            "--backbone, the network that they are of, with it."
        )
    if not weights.endswith(WEIGHT_ENDINGS):
        raise ConvladderError(f"--weights {weights} is no file of weights. Expected .weights.h5, .h5 or .keras.")
    try:
        Path(weights).open("rb").close()
    except OSError as error:
        raise ConvladderError(f"--weights {weights} cannot be read ({error.strerror}). Expected a file.") from error


def build_features(pixels: Any, name: str, weights: str | None) -> Any:
    """The features of images: what `backbone.build_features` gives, by a network of `keras.applications`.

    Args:
        pixels: A Keras input of shape (batch, height, width, channels), range 0–255; 1 or 3 channels.
        name: As `keras.applications` names it.
        weights: The path of a file; by default Keras takes them from its cache, or downloads them.

    Returns:
        Shape (batch, features): the mean over all places of the last feature maps.

    Raises:
        ConvladderError: The file does not fit; the weights cannot be fetched, exit status 1.
    """
    height, width, channels = pixels.shape[1:]
    build = getattr(keras.applications, name)
    x = layers.Concatenate(name="gray_to_colors")([pixels] * 3) if channels == 1 else pixels
    if enlarged(height, width) != (height, width):
        x = layers.Resizing(*enlarged(height, width), name="enlarge")(x)
    x = _preprocess(x, inspect.getmodule(build))
    settings = {"include_top": False, "pooling": "avg", "input_tensor": x, "input_shape": x.shape[1:]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MobileNets: that their weights were trained for another size
        if weights is None:
            with _told_of_fetching(name):
                network = build(weights="imagenet", **settings)
        else:
            network = build(weights=None, **settings)
            _load(network, build, name, weights)
    return _rename(network, pixels)


def _preprocess(x: Any, module: Any) -> Any:
    """A network's own `preprocess_input` as layers that export: it scales each colour, and may reverse their order.

    What it does to four colours tells all; of networks that preprocess inside it does nothing.
    """
    black, *colours = module.preprocess_input(PROBES.copy())
    slopes = (np.array(colours) - black) / 255  # of each output by each input: (in, out)
    if not np.diag(slopes).all():
        x, slopes = keras.ops.flip(x, axis=-1), slopes[::-1]
    scale = np.diag(slopes)
    if np.allclose(scale, 1) and np.allclose(black, 0):
        return x
    return layers.Rescaling(scale.tolist(), offset=black.tolist(), name="rescale")(x)


@contextlib.contextmanager
def _told_of_fetching(name: str) -> Iterator[None]:
    """Say that Keras downloads a file before it does; where it cannot, which file goes where.

    All applications ask one function for their weights. Their text on standard output goes to standard error.

    Raises:
        ConvladderError: Another file of its name is there; the file cannot be fetched, exit status 1.
    """
    from keras.src.backend.config import keras_home
    from keras.src.utils import file_utils

    fetch = file_utils.get_file

    def get_file(fname: str, origin: str, *, cache_subdir: str, file_hash: str | None = None) -> str:
        path = Path(keras_home()).expanduser() / cache_subdir / fname
        advice = f"Put {fname} into {path.parent}, or name the file with --weights."
        if path.exists() and file_hash and not file_utils.validate_file(path, file_hash):
            # Keras would download it again, and remove what is there if that fails.
            raise ConvladderError(f"{path} is not the file that Keras has as the weights of {name}. {advice}")
        if not path.exists():
            print(f"Keras downloads the weights of {name}, {fname}, into {path.parent}.", file=sys.stderr, flush=True)
        try:
            return str(fetch(fname, origin, cache_subdir=cache_subdir, file_hash=file_hash))
        except Exception as error:
            reason = str(error).rpartition(" -- ")[2]  # what stands before it is a URL
            raise ConvladderError(
                f"The weights of {name} could not be downloaded ({reason}). {advice}", exit_status=1
            ) from error

    file_utils.get_file = get_file
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        file_utils.get_file = fetch


def _load(network: keras.Model, build: Any, name: str, weights: str) -> None:
    """Load weights into a network that has no last layer, from a file of it or of the whole network."""
    try:
        try:
            network.load_weights(weights)
        except Exception:
            whole = build(weights=None)
            whole.load_weights(weights)
            network.set_weights(whole.get_weights()[: len(network.weights)])
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConvladderError(
            f"--weights {weights} does not fit {name} ({reason}). Expected a file of this network, with or without "
            "its last layer, as Keras saves it."
        ) from error
    for layer in network.layers:
        # EfficientNet's hold deviations where Keras reads variances; with its own download it makes good for that.
        if isinstance(layer, layers.Normalization) and layer.weights:
            mean, variance, *rest = layer.get_weights()
            if np.allclose(variance.ravel(), DEVIATIONS, atol=1e-3):
                layer.set_weights([mean, variance**2, *rest])


def _rename(network: keras.Model, pixels: Any) -> Any:
    """The same network from `pixels` on, its layers named by stage, those of nested blocks among them; its output.

    A stage is named after the sides of its maps, so that what looks for the last maps of each finds them.
    """
    network = keras.Model(pixels, network.output)  # some applications call their input a list
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


def _name_layers(network: keras.Model) -> Iterator[tuple[str, str]]:
    """For each layer its name, and that name with its stage before it where it has one."""
    parts = [part for layer in network.layers for part in getattr(layer, "layers", [layer])]
    first = next(i for i, layer in enumerate(parts) if isinstance(layer, layers.Conv2D))
    # Maps smaller than the last are the weights of channels (squeeze and excitation); padding gives odd sides.
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
