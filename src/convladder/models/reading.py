"""Reading a .keras file of anybody: nothing that it names can run code, and nothing in it is larger than it.

Keras's own `safe_mode` has let code through more than once (CVE-2024-3660, CVE-2025-1550, CVE-2025-8747,
CVE-2025-9906, CVE-2026-1462), because it asks what is forbidden. Here the file may name only what is known to compute
with numbers alone. The weights are HDF5, which can refer to other files and declare sizes that it does not hold.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convladder.engine import Later
from convladder.errors import ConvladderError

if TYPE_CHECKING:
    import keras
else:
    keras = Later("keras")

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {CONFIG, WEIGHTS, "metadata.json"}
LARGEST_CONFIG = 1 << 24  # bytes; `deep` with 1,000 layers takes 2 MB
MOST_VALUES = 1 << 29  # in one map of one picture
EXPANSION = 100  # times the file's size, that its compressed weights may take in memory
SMALL = 1 << 20  # bytes, and numbers, that need no proportion: seeds are not always stored
BUILT_IN_FILTER = 6  # HDF5 loads those of higher numbers, as code, from a folder of plugins

LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling2D AdaptiveMaxPooling2D Add AdditiveAttention AlphaDropout
    Attention Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CenterCrop
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM2D Cropping1D Cropping2D
    Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Flatten GRU GRUCell
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention Identity InputLayer
    LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum
    MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization RNN RandomBrightness RandomContrast
    RandomCrop RandomFlip RandomRotation RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D
    SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D
    UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
INITIALIZERS = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
"""
CORE_OPERATIONS = "Cast ConvertToTensor SaturateCast Slice SliceUpdate StopGradient Unstack"
# None stands for all classes: Keras takes none but operations from there, and these compute with numbers.
KNOWN: Mapping[str, frozenset[str] | None] = {
    "keras": frozenset({"DTypePolicy", "Sequential"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.initializers": frozenset(INITIALIZERS.split()),
    "keras.layers": frozenset(LAYERS.split()),
    "keras.regularizers": frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.ops.core": frozenset(CORE_OPERATIONS.split()),
    "keras.src.ops.image": None,
    "keras.src.ops.linalg": None,
    "keras.src.ops.math": None,
    "keras.src.ops.nn": None,
    "keras.src.ops.numpy": None,
}
VALUES = frozenset({"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"})


def read_network(path: Path) -> "keras.Model":
    """Load a network that Keras saved, if all that its file names is known.

    Layers of this package are known, and those that this process registered with Keras.

    Raises:
        ConvladderError: It cannot be read, names something else, or is out of proportion to its size.
    """
    import convladder.models.own_layers  # noqa: F401 (registers our layers with Keras)

    config, values = _open(path)
    for name in _find_unknown(config):
        raise ConvladderError(
            f"{path} holds {name!r:.100}, which could run code or read files, so it was not loaded. Expected layers of "
            "Keras that compute: build the network in a script of your own, and give it to train."
        )
    scope = keras.StatelessScope(initialize_variables=False)
    try:
        with scope:  # no weight takes memory yet
            network = keras.saving.deserialize_keras_object(config, safe_mode=True)
        _check_proportion(network, values, path)
        with keras.StatelessScope():
            pass  # at its end the weights get their memory
        network.load_weights(path)
    except ConvladderError:
        _forget_weights()
        raise
    except Exception as error:  # of any class, as the description may be wrong in any way
        _forget_weights()
        raise _unreadable(path, error) from error
    return network


def check_weights(path: Path) -> None:
    """Check a file of weights, .h5 or .keras, before Keras reads it.

    Raises:
        ConvladderError: It is neither, refers to other files, or declares more than it holds.
    """
    try:
        if zipfile.is_zipfile(path):
            _open(path)
        else:
            _count_values(path.read_bytes(), path)
    except OSError as error:
        raise ConvladderError(f"Could not read {path} ({error.strerror}). Expected a file of weights.") from error


def _open(path: Path) -> tuple[dict[str, Any], int]:
    """A .keras file's description, and how many numbers its weights are."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(names) != len(set(names)) or not {CONFIG, WEIGHTS} <= set(names) <= MEMBERS:
                raise ConvladderError(
                    f"{path} holds {', '.join(names)[:200]!r}. Expected {', '.join(sorted(MEMBERS))}, as Keras saves "
                    "a network of layers: save it again."
                )
            if any(member.file_size != member.compress_size for member in members):
                raise ConvladderError(f"{path} is compressed. Expected it as Keras saves it: save it again.")
            if archive.getinfo(CONFIG).file_size > LARGEST_CONFIG:
                raise ConvladderError(f"The description in {path} has more than {LARGEST_CONFIG:,} bytes.")
            config = json.loads(archive.read(CONFIG))
            values = _count_values(archive.read(WEIGHTS), path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError) as error:
        if isinstance(error, ConvladderError):
            raise
        raise _unreadable(path, error) from error
    if not isinstance(config, dict):
        raise ConvladderError(f"The description in {path} is {config!r:.80}. Expected a network that Keras saved.")
    return config, values


def _find_unknown(config: Any) -> Iterator[str]:
    """The names in a description, at any depth, that are not known. How it was compiled is removed from it."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            part.pop("compile_config", None)
            waiting += part.values()
            if ("class_name" in part or "registered_name" in part) and not _is_known(part):
                named = [str(part.get(key)) for key in ("module", "class_name")]
                if part.get("class_name") == "function":
                    named[1] = str(part.get("config"))
                yield ".".join(named)


def _is_known(part: Mapping[str, Any]) -> bool:
    module, name, registered = (part.get(key) for key in ("module", "class_name", "registered_name"))
    if not isinstance(name, str):
        return False
    if name in VALUES:
        return True
    if "module" not in part:
        return False  # the format of before Keras 3, which would be read in another way
    if isinstance(registered, str):
        own = keras.saving.get_registered_object(registered)
        if own is not None and getattr(own, "__name__", "") == name:
            return True  # of this process
        if registered != name:
            return False
    if name == "function":
        return module == "builtins" and _is_activation(part.get("config"))
    if not isinstance(module, str) or module not in KNOWN:
        return False
    names = KNOWN[module]
    return name.isidentifier() if names is None else name in names


def _is_activation(name: Any) -> bool:
    offered = isinstance(name, str) and name.islower() and callable(getattr(keras.activations, name, None))
    return offered and name not in ("deserialize", "get", "serialize")


def _check_proportion(network: Any, values: int, path: Path) -> None:
    if not isinstance(network, keras.Model):
        raise ConvladderError(f"{path} holds a {type(network).__name__}. Expected a network that Keras saved.")
    needed = sum(math.prod(variable.shape) for variable in network.variables)
    if needed > values + SMALL:
        raise ConvladderError(
            f"{path} describes a network of {needed:,} weights, but holds {values:,}. Expected the same number."
        )
    largest = max(map(math.prod, _shapes(network)), default=0)
    if largest > MOST_VALUES:
        raise ConvladderError(
            f"{path} describes a network with {largest:,} values in one map. Expected at most {MOST_VALUES:,}."
        )


def _shapes(network: Any) -> Iterator[list[int]]:
    """The shapes of all that a network computes for one picture, at any depth."""
    for operation in getattr(network, "operations", None) or network.layers:
        for tensor in keras.tree.flatten(operation.output):
            yield [side for side in tensor.shape if side is not None]
        if isinstance(operation, keras.Model):
            yield from _shapes(operation)


def _forget_weights() -> None:
    """Drop the weights that were described and have no memory: Keras would give it to them at the next chance."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("uninitialized_variables", [])


def _count_values(content: bytes, path: Path) -> int:
    """How many numbers an HDF5 file holds, if it holds them itself."""
    import h5py

    found: list[Any] = []
    links: list[str] = []

    def look(name: str, link: Any) -> None:
        if not isinstance(link, h5py.HardLink):
            links.append(name)

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems_links(look)
            if not links:
                file.visititems(lambda _, item: found.append(item))
            sets = [item for item in found if isinstance(item, h5py.Dataset)]
            elsewhere = links or [item.name for item in sets if item.external or item.is_virtual]
            coded = [item.name for item in sets if _has_plugin(item) or item.dtype.kind not in "biufSV"]
            values = sum(math.prod(item.shape or ()) for item in sets)
            size = sum(math.prod(item.shape or ()) * item.dtype.itemsize for item in sets)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, error) from error
    if elsewhere:
        raise ConvladderError(
            f"The weights in {path} refer to other places or files ({str(elsewhere[0])!r:.80}), which are not read. "
            "Expected all weights in the file: save it again."
        )
    if coded:
        raise ConvladderError(
            f"The weights in {path} are packed in a way that would load more code, or are no numbers "
            f"({str(coded[0])!r:.80}). Expected numbers as Keras saves them: save it again."
        )
    if size > EXPANSION * len(content) + SMALL:
        raise ConvladderError(
            f"The weights in {path} declare {size:,} bytes, and the file has {len(content):,}. Expected at most "
            f"{EXPANSION} times as many: save it again."
        )
    return values


def _has_plugin(dataset: Any) -> bool:
    stored = dataset.id.get_create_plist()
    return any(stored.get_filter(number)[0] > BUILT_IN_FILTER for number in range(stored.get_nfilters()))


def _unreadable(path: Path, error: BaseException) -> ConvladderError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ConvladderError(f"Could not load {path} ({reason}). Expected a network that Keras saved.")
