"""Backbones of `keras.applications`: real ones, with weights that are drawn here, since there is no network."""

import inspect
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import convladder as cl
from convladder.data.dataset import Split
from convladder.evaluating.explaining import grad_cam
from convladder.exporting.onnx_file import export_graph, find_stages
from convladder.models.applications import _preprocess, list_backbones
from convladder.models.ladder import build_model
from convladder.training.train import warn_of_size

APPLICATIONS = list_backbones()[1:]
FAMILIES = ["ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3", "NASNetMobile"]
FAMILIES += ["ResNet50", "ResNet50V2", "VGG16", "Xception"]
SHAPE = (96, 96, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.float32)


def draw(name: str, *, include_top: bool = False) -> keras.Model:
    """An application whose weights are drawn, statistics among them."""
    keras.utils.set_random_seed(1)
    settings: dict[str, Any] = {} if include_top else {"include_top": False, "pooling": "avg", "input_shape": SHAPE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = getattr(keras.applications, name)(weights=None, **settings)
    rng = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            *others, mean, variance = layer.get_weights()
            layer.set_weights([*others, rng.normal(0, 0.1, mean.shape), rng.uniform(0.5, 1.5, variance.shape)])
    return network


def features_of(model: keras.Model, images: np.ndarray = IMAGES) -> np.ndarray:
    return np.asarray(keras.Model(model.inputs[0], model.get_layer("features").output)(images, training=False))


def save(network: keras.Model, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that .h5 is the old form
        (network.save_weights if path.name.endswith(".weights.h5") else network.save)(path)
    return path


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(draw("MobileNet"), tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5")


@pytest.mark.parametrize("name", APPLICATIONS)
def test_pixels_are_scaled_as_the_application_s_own_function_does(name: str) -> None:
    module: Any = inspect.getmodule(getattr(keras.applications, name))
    pixels = keras.Input(SHAPE)
    inside = keras.Model(pixels, _preprocess(pixels, module))(IMAGES)
    np.testing.assert_allclose(inside, module.preprocess_input(IMAGES.copy()), atol=2e-5)


def check_features(name: str, path: Path, *, include_top: bool = False) -> keras.Model:
    network = draw(name, include_top=include_top)
    save(network, path)
    if include_top:  # the features of the whole network, at the size of the pictures
        features = draw(name)
        features.set_weights(network.get_weights()[: len(features.weights)])
        network = features
    module: Any = inspect.getmodule(getattr(keras.applications, name))
    expected = np.asarray(network(module.preprocess_input(IMAGES.copy()), training=False))
    model = build_model("transfer", SHAPE, 3, backbone=name, weights=str(path))
    np.testing.assert_allclose(features_of(model), expected, atol=1e-4 * np.abs(expected).max())
    assert [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]
    sides = [stage.shape[1] for stage in find_stages(model).values()]
    assert len(sides) >= 4
    assert sides == sorted(sides, reverse=True)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)  # else they would pass for an ensemble
    return model


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "file", "include_top"),
    [("MobileNetV2", "old.h5", False), ("MobileNetV3Small", "old.h5", True), ("MobileNet", "new.keras", True)],
)
def test_features_are_those_of_the_application(name: str, file: str, include_top: bool, tmp_path: Path) -> None:
    check_features(name, tmp_path / file, include_top=include_top)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_those_of_every_family(name: str, tmp_path: Path) -> None:
    model = check_features(name, tmp_path / "all.weights.h5")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(IMAGES, training=False), model(IMAGES, training=False))


@pytest.mark.long
def test_deviations_in_efficientnet_s_weights_are_not_taken_for_variances(tmp_path: Path) -> None:
    """Keras divides by them once more where it downloads the weights, and not where it reads a file."""
    network = draw("EfficientNetB0")
    normalization = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    mean, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalization.set_weights([mean, deviations, np.array(0)])  # as in the file that Keras has for the download
    file = save(network, tmp_path / "efficientnetb0_notop.weights.h5")
    normalization.set_weights([mean, deviations**2, np.array(0)])
    normalization.finalize_state()  # else it computes with what it had before
    expected = np.asarray(network(IMAGES, training=False))
    model = build_model("transfer", SHAPE, 3, backbone="EfficientNetB0", weights=str(file))
    np.testing.assert_allclose(features_of(model), expected, atol=1e-4 * np.abs(expected).max())
    normalized = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    scaled = keras.Model(model.input, normalized.output)
    scaled(IMAGES)  # Keras exports only what was called
    graph = export_graph(scaled)
    assert len(graph.graph.input) == 1  # and not what the normalization computes with


def few(small: cl.Dataset) -> cl.Dataset:
    def first(split: Split, count: int) -> Split:
        return Split(split.images[:count], split.labels[:count])

    return replace(
        small, train=first(small.train, 60), validation=first(small.validation, 0), test=first(small.test, 20)
    )


@pytest.mark.long
def test_a_run_needs_neither_the_file_nor_keras_s_cache_later(
    mobilenet: Path, small: cl.Dataset, tmp_path: Path
) -> None:
    """Gray and small pictures among it: they are enlarged, and have three channels, inside the model."""
    weights = tmp_path / "mobilenet.weights.h5"
    weights.write_bytes(mobilenet.read_bytes())
    choices = {"backbone": "MobileNet", "weights": str(weights)}
    run = cl.train("transfer", few(small), choices=choices, directory=tmp_path / "runs")
    weights.unlink()
    assert run.info["choices"] == choices
    assert run.info["head"]["backbone"] == "MobileNet"
    assert len(run.info["head"]["weights_sha256"]) == 64
    images = small.test.images[:4]
    model = run.load_model()
    np.testing.assert_allclose(
        run.classifier().predict_probabilities(images), model(images.astype(np.float32), training=False), atol=1e-4
    )
    assert list(run.classifier().feature_maps(images)) == ["stage1", "stage2", "stage3", "stage4", "stage5"]
    assert grad_cam(model, images[0]).shape == (28, 28)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"backbone": "mobilenetv2"}, "Did you mean MobileNetV2"),
        ({"backbone": "VGG-16"}, "Did you mean VGG16"),
        ({"weights": "mine.h5"}, "come with the package"),
        ({"backbone": "MobileNetV2", "weights": "none.h5"}, "Could not read --weights none.h5"),
        ({"backbone": "MobileNetV2", "weights": "weights.npz"}, r"Expected \.weights\.h5, \.h5 or \.keras"),
        ({"backbone": "MobileNetV2", "weights": "damaged.h5"}, "does not fit MobileNetV2"),
        ({"backbone": "MobileNetV2", "weights": "damaged.keras"}, "does not fit MobileNetV2"),
        ({"backbone": "MobileNetV2", "weights": "mobilenet.weights.h5"}, "does not fit MobileNetV2"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_in_a_line(
    choices: dict[str, str],
    said: str,
    mobilenet: Path,
    small: cl.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (Path("damaged.h5"), Path("damaged.keras")):
        file.write_bytes(b"no weights")
    Path("mobilenet.weights.h5").symlink_to(mobilenet)
    with pytest.raises(cl.ConvladderError, match=said) as raised:
        cl.train("transfer", few(small), choices=choices, directory="runs")
    assert "\n" not in str(raised.value)
    assert not Path("runs").exists()


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of Keras's of its own, and no way to the network."""
    from keras.src.backend import config

    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr(
        urllib.request, "_opener", None
    )  # which is made once a process, with the proxies of that moment
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        # Which is not the name that the file has where it comes from.
        pytest.param("NASNetMobile", "nasnet_mobile_no_top.h5", marks=pytest.mark.long),
    ],
)
def test_offline_a_line_says_which_file_goes_where(
    name: str, file: str, keras_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(cl.ConvladderError) as raised:
        build_model("transfer", SHAPE, 3, backbone=name)
    assert f"Put {file} into {keras_home / 'models'}, or name the file with --weights" in str(raised.value)
    assert raised.value.exit_status == 1
    said = capsys.readouterr()
    assert f"Keras downloads the weights of {name}, {file}," in said.err
    assert said.out == ""


def test_a_network_of_many_parameters_says_what_it_takes() -> None:
    image = keras.Input(SHAPE)
    network = keras.Model(image, keras.layers.Dense(2000)(keras.layers.Flatten()(image)), name="transfer")
    with pytest.warns(UserWarning, match=r"55,298,000 parameters .* they take 0\.2 GB.* Take a smaller --backbone"):
        warn_of_size(network)


@pytest.mark.long
def test_what_is_in_keras_s_cache_is_not_downloaded(keras_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = keras_home / "models"
    folder.mkdir()
    network = draw("MobileNetV2")
    save(network, folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5")
    model = build_model("transfer", SHAPE, 3, backbone="MobileNetV2")
    expected = np.asarray(network(IMAGES / 127.5 - 1, training=False))
    np.testing.assert_allclose(features_of(model), expected, atol=1e-4 * np.abs(expected).max())
    assert "downloads" not in capsys.readouterr().err


def test_another_file_in_its_place_is_refused_and_left_alone(keras_home: Path) -> None:
    file = keras_home / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.parent.mkdir()
    file.write_bytes(b"another")
    with pytest.raises(cl.ConvladderError, match="is not Keras's file with the weights of VGG16"):
        build_model("transfer", SHAPE, 3, backbone="VGG16")
    assert file.read_bytes() == b"another"
