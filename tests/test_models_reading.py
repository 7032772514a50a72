"""A .keras file of a stranger: whatever it names, no code of it runs, and nothing that it refers to is read.

The files are real. Where Keras alone would run their code, a control shows that it does.
"""

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.models.own_layers import MinPooling2D
from convladder.models.reading import check_weights, read_network

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rung, as Keras saves it."""
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    cl.build_model("tiny", (28, 28, 1), 10).save(path)
    return path


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that the code of a hostile file would make. At the end it must not exist."""
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w').close()\nclass Layer: pass\ndef function(*_): pass\n"
    for name in ("evil", "keras_hub"):  # Keras imports the second of itself
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    assert not marker.exists()


def rewrite(source: Path, target: Path, change: Change | None = None, **members: bytes) -> Path:
    """A .keras file with another description or other members."""
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if change:
        config = json.loads(contents["config.json"])
        change(config)
        contents["config.json"] = json.dumps(config).encode()
    contents |= {name.replace("__", "."): content for name, content in members.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


def with_layer(part: dict[str, Any]) -> Change:
    """Replace a network's second layer by another, at the same place."""

    def change(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        layers[1] = {key: layers[1][key] for key in ("name", "inbound_nodes")} | part

    return change


def layer(module: str | None, name: str, registered: str | None = None, /, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def dense(**config: Any) -> dict[str, Any]:
    return layer("keras.layers", "Dense", **({"units": 1} | config))


LAMBDA = layer("keras.layers", "Lambda", function={"class_name": "__lambda__", "config": {"value": "4wAA"}})
# Each names, in its own way, code that Keras would run, import or look for, or a file that it would read.
HOSTILE: dict[str, dict[str, Any]] = {
    "Lambda": LAMBDA,
    "Lambda by its own module": LAMBDA | {"module": "keras.src.layers.core.lambda_layer"},
    "Lambda without a module, as before Keras 3": {key: LAMBDA[key] for key in ("class_name", "config")},
    "Lambda under the name of our layer": LAMBDA | {"registered_name": "convladder>MinPooling2D"},
    "a lambda alone": {"class_name": "__lambda__", "config": {"value": "4wAA"}},
    "TimeDistributed": layer("keras.layers", "TimeDistributed", layer=LAMBDA),
    "Bidirectional": layer("keras.layers", "Bidirectional", layer=LAMBDA, backward_layer=LAMBDA),
    "a network in the network": layer("keras", "Sequential", name="inner", layers=[dense(), LAMBDA]),
    "a class of a module": layer("evil", "Layer"),
    "a class of a module that Keras imports": layer("keras_hub", "Layer"),
    "a registered class": layer("evil", "Layer", "evil>Layer"),
    "a registered class named as one of Keras": layer("keras.layers", "Dense", "evil>Layer", units=1),
    "a function of the system": function("os", "system"),
    "a function of Keras's insides": function("keras.src.utils.file_utils", "get_file"),
    "a class of Keras's insides": layer("keras.src.saving.file_editor", "KerasFileEditor", filepath="/etc/passwd"),
    "an activation": dense(activation=function("evil", "function")),
    "an activation that is a built-in": dense(activation=function("builtins", "eval")),
    "a function that makes others": dense(activation=function("builtins", "deserialize")),
    "an initializer": dense(kernel_initializer=layer("evil", "Layer")),
    "a regularizer": dense(kernel_regularizer=function("evil", "function")),
    "a constraint": dense(bias_constraint=layer("keras.constraints", "get", identifier="evil:function")),
    "a policy of types": dense(dtype=layer("evil", "Layer")),
    "a type of a library": dense(kernel_initializer={"class_name": "__typespec__", "module": "evil", "config": []}),
    "TFSMLayer": layer("keras.layers", "TFSMLayer", filepath="saved"),
    "TorchModuleWrapper": layer("keras.layers", "TorchModuleWrapper", module="gASVAAAA"),
    "JaxLayer": layer("keras.layers", "JaxLayer", call_fn=function("evil", "function")),
    "a vocabulary in a file": layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
    "a loop of functions": layer("keras.src.ops.core", "Map"),
    "a class that is a list": {"module": "keras.layers", "class_name": ["Lambda"], "config": {}},
    "a class of an unknown place in an operation": layer("keras.src.ops.numpy", "backend.config"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_code_runs_from_a_keras_file(whole: Path, marker: Path, tmp_path: Path, kind: str) -> None:
    path = rewrite(whole, tmp_path / "model.keras", with_layer(HOSTILE[kind]))
    with pytest.raises(cl.ConvladderError, match="which could run code or read files, so it was not loaded"):
        read_network(path)


def test_code_at_any_place_of_the_description_is_found(whole: Path, marker: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(whole) as archive:
        description = json.loads(archive.read("config.json"))
    evil = layer("evil", "Layer")

    def places(part: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if key not in ("class_name", "module", "registered_name", "compile_config"):
                yield (*way, key)
            if isinstance(value, dict | list):
                yield from places(value, (*way, key))

    for way in list(places(description))[::29]:

        def put(config: dict[str, Any], way: tuple[Any, ...] = way) -> None:
            part: Any = config
            for key in way[:-1]:
                part = part[key]
            part[way[-1]] = evil

        with pytest.raises(cl.ConvladderError, match=r"holds 'evil\.Layer'"):
            read_network(rewrite(whole, tmp_path / "model.keras", put))


def test_a_lambda_that_keras_runs_is_refused_by_all_that_load_a_network(
    run: cl.Run,
    marker: Path,
    tmp_path: Path,
    convladder: Any,
) -> None:
    image = keras.Input((28, 28, 1))
    call = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    x = keras.layers.Lambda(call, output_shape=(28, 28, 1))(image)
    network = keras.Model(image, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x)))
    folder = tmp_path / "hostile"
    shutil.copytree(run.path, folder)
    network.save(folder / "model.keras")
    marker.unlink(missing_ok=True)
    keras.saving.load_model(folder / "model.keras", safe_mode=False)(np.zeros((1, 28, 28, 1)))
    assert marker.exists()  # the code is real
    marker.unlink()

    with pytest.raises(cl.ConvladderError, match=r"holds 'keras\.layers\.Lambda'"):
        cl.Run(folder).load_model()
    picture = tmp_path / "zero.png"
    Image.new("L", (28, 28)).save(picture)
    for command in (["explain", folder, picture], ["export", folder], ["export", folder, "--format", "savedmodel"]):
        result = convladder(*command)
        assert result.status == 2
        assert "keras.layers.Lambda" in result.err.splitlines()[-1]


def test_a_module_that_keras_would_import_is_not_imported(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras_hub.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = rewrite(whole, tmp_path / "model.keras", with_layer(layer("keras_hub", "Layer")))
    with pytest.raises(cl.ConvladderError, match=r"keras_hub\.Layer"):
        read_network(path)
    assert not (tmp_path / "marker").exists()
    with pytest.raises(ValueError, match="KerasSaveable"):  # Keras 3.15, in safe mode
        keras.saving.load_model(path)
    assert (tmp_path / "marker").exists()
    monkeypatch.delitem(sys.modules, "keras_hub")


def test_what_a_file_says_of_compiling_is_not_read(whole: Path, marker: Path, tmp_path: Path) -> None:
    def compiled(config: dict[str, Any]) -> None:
        config["compile_config"] = {"optimizer": layer("evil", "Layer"), "loss": function("evil", "function")}
        config["config"]["layers"][1]["compile_config"] = config["compile_config"]

    network = read_network(rewrite(whole, tmp_path / "model.keras", compiled))
    assert not network.compiled


def test_registered_layers_of_this_process_are_loaded(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("mine")
    class Doubled(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    try:
        image = keras.Input((8, 8, 1))
        network = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(Doubled()(image))))
        network.save(tmp_path / "model.keras")
        again = read_network(tmp_path / "model.keras")
        pixels = np.random.default_rng(0).random((3, 8, 8, 1))
        np.testing.assert_array_equal(again(pixels), network(pixels))
    finally:
        del keras.saving.get_custom_objects()["mine>Doubled"]
    with pytest.raises(cl.ConvladderError, match="Doubled"):
        read_network(tmp_path / "model.keras")


@pytest.mark.long
def test_networks_of_many_layers_are_loaded_with_the_same_weights(tmp_path: Path) -> None:
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.RandomFlip()(x)
    x = keras.Sequential([layers.Conv2D(8, 3, kernel_regularizer="l2"), layers.LeakyReLU()], name="inner")(x)
    x = keras.ops.relu6(keras.ops.flip(x[:, 1:], axis=2))
    x = MinPooling2D()(x) + layers.MaxPooling2D()(x)
    y = layers.Bidirectional(layers.LSTM(4))(layers.Reshape((-1, 8))(x))
    z = layers.MultiHeadAttention(2, 4)(layers.Reshape((-1, 8))(x), layers.Reshape((-1, 8))(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), y, layers.GlobalMaxPooling1D()(z)])
    x = layers.Dropout(0.5)(layers.Dense(16, "gelu", kernel_initializer="he_normal", bias_constraint="non_neg")(x))
    network = keras.Model(image, layers.Dense(3, activation=keras.activations.softmax)(x))
    network.compile("adam", "categorical_crossentropy")
    network.save(tmp_path / "model.keras")
    again = read_network(tmp_path / "model.keras")
    pixels = np.random.default_rng(0).random((2, 16, 16, 3)) * 255
    np.testing.assert_allclose(again(pixels, training=False), network(pixels, training=False), atol=1e-6)
    for kept, given in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, given)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (dense(units=10**10), "describes a network of"),
        (layer("keras.layers", "UpSampling2D", size=[40_000, 40_000]), "values in one map"),
        (layer("keras.layers", "ZeroPadding2D", padding=1_000_000), "values in one map"),
        (layer("keras.layers", "Conv2DTranspose", filters=2, kernel_size=2, strides=50_000), "values in one map"),
    ],
)
def test_descriptions_out_of_proportion_are_refused_before_they_take_memory(
    tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    image = keras.Input((28, 28, 1))
    network = keras.Model(image, keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU()(image)))
    network.save(tmp_path / "small.keras")
    path = rewrite(tmp_path / "small.keras", tmp_path / "model.keras", with_layer(part))
    with pytest.raises(cl.ConvladderError, match=message):
        read_network(path)
    # What was refused leaves nothing behind: Keras makes weights as before.
    assert keras.layers.Dense(2)(np.ones((1, 3))).shape == (1, 2)


def hdf5(write: Callable[[h5py.File], None]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    return content.getvalue()


def external_storage(file: h5py.File) -> None:
    file.create_dataset("w", (16,), "f4", external=[("/etc/passwd", 0, 64)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "w", (4,))
    file.create_virtual_dataset("w", layout)


WEIGHTS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "a link to another file": (
        lambda file: file.__setitem__("layers", h5py.ExternalLink("/etc/passwd", "/")),
        "refer to other places or files",
    ),
    "a link in a group": (
        lambda file: file.create_group("layers/dense").__setitem__("vars", h5py.ExternalLink("other.h5", "/w")),
        "refer to other places or files",
    ),
    "a soft link": (lambda file: file.__setitem__("layers", h5py.SoftLink("/layers")), "refer to other places"),
    "values in another file": (external_storage, "refer to other places or files"),
    "a virtual dataset": (virtual, "refer to other places or files"),
    "a filter of a plugin": (
        lambda file: file.create_dataset("w", data=np.ones(64, "f4"), chunks=(8,), compression="lzf"),
        "would load more code",
    ),
    "objects": (lambda file: file.create_dataset("w", (4,), h5py.ref_dtype), "would load more code"),
    "a shape that is not stored": (lambda file: file.create_dataset("w", (10**6, 10**6), "f4"), "declare"),
    "a shape that is compressed": (
        lambda file: file.create_dataset("w", (10**5, 10**5), "f4", chunks=(1000, 1000), compression="gzip"),
        "declare",
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_refer_elsewhere_or_declare_too_much_are_refused(whole: Path, tmp_path: Path, kind: str) -> None:
    write, message = WEIGHTS[kind]
    content = hdf5(write)
    with pytest.raises(cl.ConvladderError, match=message):
        read_network(rewrite(whole, tmp_path / "model.keras", model__weights__h5=content))
    (tmp_path / "model.weights.h5").write_bytes(content)
    with pytest.raises(cl.ConvladderError, match=message):
        check_weights(tmp_path / "model.weights.h5")


def test_hostile_weights_of_a_backbone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.weights.h5").write_bytes(hdf5(external_storage))
    with pytest.raises(cl.ConvladderError, match="refer to other places or files"):
        cl.build_model("transfer", (32, 32, 3), 2, backbone="MobileNetV2", weights=str(tmp_path / "w.weights.h5"))


def test_an_archive_that_is_not_as_keras_writes_it_is_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(cl.ConvladderError, match=r"holds .*assets/x.* Expected config\.json"):
        read_network(rewrite(whole, path, None, **{"assets/x": b"", "metadata.json": b"{}"}))
    with pytest.raises(cl.ConvladderError, match="Could not load"):
        read_network(rewrite(whole, path, config__json=b"[" * 100_000))
    with pytest.raises(cl.ConvladderError, match="Expected a network"):
        read_network(rewrite(whole, path, config__json=b"[]"))
    for part in (b'{"class_name": "Sequential", "module": "keras", "config": {}}', b"{}"):
        with pytest.raises(cl.ConvladderError, match=r"Could not load|holds a dict"):
            read_network(rewrite(whole, path, config__json=part))
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(cl.ConvladderError, match="is compressed"):
        read_network(path)
    shutil.copy(whole, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    with pytest.raises(cl.ConvladderError, match=r"config\.json"):
        read_network(path)


def test_other_kinds_of_files_named_keras_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    for content in (b"", b"\x80\x04N.", hdf5(lambda file: None)):
        path.write_bytes(content)
        with pytest.raises(cl.ConvladderError, match="Could not load"):
            read_network(path)
    path.unlink()
    with pytest.raises(cl.ConvladderError, match="No such file"):
        read_network(path)
    path.mkdir()
    (path / "config.json").write_text("{}")
    with pytest.raises(cl.ConvladderError, match="Could not load"):
        read_network(path)
