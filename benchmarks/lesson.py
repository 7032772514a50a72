"""What the lesson shows and does not compute itself: networks, a film, experiments of training, the ladder's figures.

    python benchmarks/lesson.py [networks] [blocks] [film] [ladder] [rates] [regularized] [normalized] [depth]

Without a word it makes all. Writes networks.json, blocks.json, film.json, ladder.json and experiments.json into
src/convladder/serving/web/learn/. The two networks are trained on MNIST as DEFAULT says, for eight epochs, the two
stacks of blocks on few images. All weights are rounded to 8 bits, and the accuracy is that of the rounded weights. The
ladder's figures are copied from docs/benchmarks. An experiment has few images, because there the ideas differ most.
Takes about ten minutes on two cores.
"""

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import convladder as cl
from convladder.engine import import_engine
from convladder.runs.film import describe_film

import_engine()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from convladder.training import filming, fitting  # noqa: E402

ROOT = Path(__file__).parents[1]
LEARN = ROOT / "src/convladder/serving/web/learn"
FIGURES = ROOT / "docs/benchmarks"
EPOCHS = 8  # of the networks
FILMED = 24  # epochs
MOMENTS = 36  # of the film
LAYERS = 14  # of the stacks: a convolution, six blocks of two, the last layer
STACK_IMAGES, STACK_EPOCHS = 5_000, 4
SEEDS = (1, 2)  # of the experiments, as what follows
BATCH = 32
RATE = 0.001
CURVES = ("loss", "val_loss", "accuracy", "val_accuracy")


def make_networks() -> list[dict[str, Any]]:
    """The dense network, and a convolutional one that averages over places."""
    mnist = cl.load_dataset("mnist")
    made = []
    for rung, choices in (("dense", {}), ("deep", {"depth": 5, "batch_norm": False})):
        model = _train(mnist, rung, choices)
        layers = [kept for layer in model.layers if (kept := _describe(layer))]
        made.append(_account(rung, model, layers, mnist))
    return made


def make_blocks() -> list[dict[str, Any]]:
    """A stack without shortcuts and one with them, and the accuracy of each with one block switched off."""
    mnist = cl.load_dataset("mnist")
    made = []
    for rung in ("deep", "residual"):
        trained, _ = _fit(mnist, rung, {"depth": LAYERS}, STACK_IMAGES, STACK_EPOCHS)
        model = _fold(trained, mnist.validation.images[:100])
        made.append(_account(rung, model, _describe_blocks(model), mnist))
        made[-1]["about"] = f"{STACK_IMAGES:,} training images of MNIST, {STACK_EPOCHS} epochs"
        without = []
        for stage in range(2, 2 + (LAYERS - 1) // 2):
            kept = model.get_weights()
            switch_off(model, stage)
            without.append(_accuracy(model, mnist))
            model.set_weights(kept)
        made[-1]["without"] = without
    return made


def _train(mnist: cl.Dataset, rung: str, choices: dict[str, Any]) -> keras.Model:
    with TemporaryDirectory() as folder:
        recipe = replace(cl.DEFAULT, epochs=EPOCHS)
        return cl.train(rung, mnist, recipe, seed=1, choices=choices, directory=folder).load_model()


def _account(rung: str, model: keras.Model, layers: list[dict[str, Any]], mnist: cl.Dataset) -> dict[str, Any]:
    return {"rung": rung, "parameters": model.count_params(), "accuracy": _accuracy(model, mnist), "layers": layers}


def _accuracy(model: keras.Model, mnist: cl.Dataset) -> float:
    answers = model.predict(mnist.test.images, batch_size=500, verbose=0).argmax(axis=1)
    return float(np.mean(answers == mnist.test.labels))


def _fold(trained: keras.Model, images: npt.NDArray[np.uint8]) -> keras.Model:
    """The same network without batch normalization, which is in the weights of the convolutions before it."""
    folded = cl.build_model(trained.name, (28, 28, 1), 10, depth=LAYERS, batch_norm=False)
    for layer in folded.layers:
        if isinstance(layer, keras.layers.Conv2D):
            norm = trained.get_layer(f"{layer.name.removesuffix('_conv')}_norm")
            scale, offset, mean, variance = norm.get_weights()
            factor = scale / np.sqrt(variance + norm.epsilon)
            layer.set_weights([trained.get_layer(layer.name).get_weights()[0] * factor, offset - mean * factor])
        elif layer.weights:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    expected, given = (model.predict(images, verbose=0) for model in (trained, folded))
    np.testing.assert_allclose(given, expected, atol=1e-4)  # differs if pooling comes before a negative scale
    return folded


def switch_off(model: keras.Model, stage: int) -> None:
    """Give a block such weights that its input goes on as it is: zeros beside a shortcut, else copying kernels."""
    first, second = (model.get_layer(f"stage{stage}_conv{number}") for number in (1, 2))
    kernel, bias = (np.zeros_like(weights) for weights in first.get_weights())
    if model.name == "deep":
        kernel[1, 1] = np.eye(kernel.shape[-1])  # ReLU changes nothing, because the input has no values below zero
    first.set_weights([kernel, bias])
    second.set_weights([kernel, bias])


def _describe_blocks(model: keras.Model) -> list[dict[str, Any]]:
    """All layers for network.js, those of a block together."""
    described: list[dict[str, Any]] = []
    for layer in model.layers:
        kept = _describe(layer)
        if layer.name.endswith("_conv1"):
            described.append({"kind": "block", "shortcut": model.name == "residual", "layers": [kept]})
        elif kept and layer.name.endswith(("_conv1_relu", "_conv2")):
            described[-1]["layers"].append(kept)
        elif kept and not layer.name.endswith("_conv2_relu"):  # which belongs to every block
            described.append(kept)
    return described


def _describe(layer: keras.Layer) -> dict[str, Any] | None:
    """A layer for network.js, its weights rounded to 8 bits here too."""
    kind = {
        "Conv2D": "convolution",
        "Dense": "dense",
        "MaxPooling2D": "pooling",
        "Flatten": "flatten",
        "GlobalAveragePooling2D": "mean",
    }.get(type(layer).__name__)
    relu = getattr(layer, "activation", None) is keras.activations.relu
    if kind in ("convolution", "dense"):
        kernel, bias = layer.get_weights()
        scale = float(np.abs(kernel).max()) / 127
        rounded = np.rint(kernel / scale).astype(np.int8)
        layer.set_weights([rounded * np.float32(scale), bias])
        return {
            "kind": kind,
            "shape": list(kernel.shape),
            "scale": scale,
            "weights": base64.b64encode(rounded.tobytes()).decode(),
            "bias": [round(float(value), 5) for value in bias],
            "relu": relu,
        }
    if kind == "pooling":
        return {"kind": kind, "size": layer.pool_size[0]}
    if type(layer).__name__ == "Activation":
        return {"kind": "relu"} if relu else None
    return {"kind": kind} if kind else None


def make_film() -> dict[str, Any]:
    """The film of a training on few images, which overfits; it may take its time."""
    filming.SHARE, fitting.STEPS_PER_LOOK = 1.0, 4
    mnist = cl.load_dataset("mnist")
    train, validation = (cl.Split(part.images[:1000], part.labels[:1000]) for part in (mnist.train, mnist.validation))
    few = cl.Dataset("mnist", mnist.class_names, train, validation, mnist.test)
    recipe = replace(cl.ARTICLE, epochs=FILMED, batch_size=BATCH, rescale=True, validate=True)
    with TemporaryDirectory() as folder:
        run = cl.train("fast", few, recipe, seed=1, directory=folder)
        film = describe_film(run, MOMENTS)
    return film | {"age": 0.0}


def copy_ladder() -> dict[str, Any]:
    """What the comparison of five seeds and the article's claims measured, as docs/benchmarks keeps it."""
    comparison = json.loads((FIGURES / "comparison.json").read_text(encoding="utf-8"))
    reproduced = json.loads((FIGURES / "reproduce.json").read_text(encoding="utf-8"))
    keys = ("name", "seeds", "test_accuracy", "low", "high", "parameters", "macs", "fit_seconds")
    return {
        "source": "docs/benchmarks/comparison.json",
        "models": [{key: model[key] for key in keys} for model in comparison["models"]],
        "pairs": [{key: pair[key] for key in ("lower", "upper", "words")} for pair in comparison["pairs"]],
        "claims": reproduced["claims"],
        "shifts": reproduced["shifts"],
    }


def try_rates() -> dict[str, Any]:
    """Learning rates of Adam."""
    rates = (0.00001, 0.0001, 0.001, 0.01, 0.1)
    return _experiment("pool", 1000, 16, {np.format_float_positional(rate): ("pool", rate, {}) for rate in rates})


def try_regularization() -> dict[str, Any]:
    """Nothing, dropout, L1 and L2 on few images."""
    choices = {"none": {}, "dropout": {"dropout": 0.4}, "L1": {"l1": 3e-4}, "L2": {"l2": 3e-3}}
    nothing = {"dropout": 0.0, "l1": 0.0, "l2": 0.0}
    tried = {name: ("regularized", RATE, nothing | chosen) for name, chosen in choices.items()}
    return _experiment("pool", 500, 16, tried)


def try_normalization() -> dict[str, Any]:
    """The same network without and with batch normalization."""
    tried = {name: ("batchnorm", RATE, {"batch_norm": name == "with"}) for name in ("without", "with")}
    return _experiment("pool or batchnorm", 1000, 16, tried)


def try_depth() -> dict[str, Any]:
    """Stacks of convolutions without and with shortcuts."""
    rungs = {"without": "deep", "with": "residual"}
    tried = {f"{name} {depth}": (rungs[name], RATE, {"depth": depth}) for depth in (8, 20, 32) for name in rungs}
    return _experiment("deep or residual", 1000, 8, tried, seeds=(1,))


def _experiment(
    called: str,
    images: int,
    epochs: int,
    tried: dict[str, tuple[str, float, dict[str, Any]]],
    seeds: tuple[int, ...] = SEEDS,
) -> dict[str, Any]:
    """The curves of what is tried: by name a rung, a learning rate and choices; and what the lesson says of them."""
    about = (
        f"The rung {called}, {images:,} training images of MNIST, batches of {BATCH}, {epochs} epochs, "
        f"{'one seed' if len(seeds) == 1 else f'mean of {len(seeds)} seeds'}"
    )
    return {"about": about, "curves": {name: _curves(images, epochs, seeds, *how) for name, how in tried.items()}}


def _curves(
    images: int, epochs: int, seeds: tuple[int, ...], rung: str, rate: float, choices: dict[str, Any]
) -> dict[str, list[float]]:
    """The means over the seeds, epoch by epoch, of loss and accuracy in training and on 1,000 validation images."""
    mnist = cl.load_dataset("mnist")
    validation = (mnist.validation.images[:1000], mnist.validation.labels[:1000])
    histories: list[npt.NDArray[np.float64]] = []
    for seed in seeds:
        _, history = _fit(mnist, rung, choices, images, epochs, rate, seed, validation)
        histories.append(np.asarray([history[name] for name in CURVES]))
        keras.backend.clear_session()
    means = np.mean(histories, axis=0)
    print(rung, choices, rate, means[:, -1].round(4), flush=True)
    return {name: [round(float(value), 4) for value in curve] for name, curve in zip(CURVES, means, strict=True)}


def _fit(
    mnist: cl.Dataset,
    rung: str,
    choices: dict[str, Any],
    images: int,
    epochs: int,
    rate: float = RATE,
    seed: int = 1,
    validation: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None = None,
) -> tuple[keras.Model, dict[str, list[float]]]:
    """Train a rung with Adam on the first training images. Returns it and its history."""
    keras.utils.set_random_seed(seed)
    model = cl.build_model(rung, mnist.input_shape, mnist.num_classes, **choices)
    # Without XLA, which takes longer to compile than it saves on a processor.
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    fitted = model.fit(
        mnist.train.images[:images],
        mnist.train.labels[:images],
        batch_size=BATCH,
        epochs=epochs,
        validation_data=validation,
        validation_batch_size=500,
        verbose=0,
    )
    return model, fitted.history


MAKERS: dict[str, Callable[[], Any]] = {
    "networks": make_networks,
    "blocks": make_blocks,
    "film": make_film,
    "ladder": copy_ladder,
}
EXPERIMENTS: dict[str, Callable[[], Any]] = {
    "rates": try_rates,
    "regularized": try_regularization,
    "normalized": try_normalization,
    "depth": try_depth,
}


def main() -> None:
    """Make what is asked for."""
    for name in sys.argv[1:] or [*MAKERS, *EXPERIMENTS]:
        if name in MAKERS:
            _write(LEARN / f"{name}.json", MAKERS[name]())
        else:  # one experiment anew, the others stay
            path = LEARN / "experiments.json"
            kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            _write(path, kept | {name: EXPERIMENTS[name]()})


def _write(path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path.name}: {len(text):,} characters", flush=True)


if __name__ == "__main__":
    main()
