"""What the lesson shows and does not compute itself: two small networks, experiments of training, the ladder's figures.

    python benchmarks/lesson.py [networks] [ladder] [rates] [regularized] [normalized] [depth]

Without a word it makes all. Writes networks.json, ladder.json and experiments.json into
src/convladder/serving/web/learn/. The networks are trained on MNIST as DEFAULT says, for eight epochs; their weights
are rounded to 8 bits, and their accuracy is that of the rounded weights. The ladder's figures are copied from
docs/benchmarks. An experiment is a mean of two seeds, on few images, because there the ideas differ most. Takes
about five minutes on two cores.
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

import_engine()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

ROOT = Path(__file__).parents[1]
LEARN = ROOT / "src/convladder/serving/web/learn"
FIGURES = ROOT / "docs/benchmarks"
SEEDS = (1, 2)
EPOCHS = 16
CURVES = ("loss", "val_loss", "accuracy", "val_accuracy")


def make_networks() -> list[dict[str, Any]]:
    """The dense network, and a convolutional one that averages over places."""
    mnist = cl.load_dataset("mnist")
    made = []
    for rung, choices in (("dense", {}), ("deep", {"depth": 5, "batch_norm": False})):
        with TemporaryDirectory() as folder:
            run = cl.train(rung, mnist, replace(cl.DEFAULT, epochs=8), seed=1, choices=choices, directory=folder)
            model = run.load_model()
        layers = [kept for layer in model.layers if (kept := _describe(layer))]
        answers = model.predict(mnist.test.images, batch_size=500, verbose=0).argmax(axis=1)
        accuracy = float(np.mean(answers == mnist.test.labels))
        made.append({"rung": rung, "parameters": model.count_params(), "accuracy": accuracy, "layers": layers})
    return made


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
    return {
        np.format_float_positional(rate): _curves("pool", 1000, rate=rate)
        for rate in (0.00001, 0.0001, 0.001, 0.01, 0.1)
    }


def try_regularization() -> dict[str, Any]:
    """Nothing, dropout, L1 and L2 on few images."""
    choices = {"none": {}, "dropout": {"dropout": 0.4}, "L1": {"l1": 3e-4}, "L2": {"l2": 3e-3}}
    nothing = {"dropout": 0.0, "l1": 0.0, "l2": 0.0}
    return {name: _curves("regularized", 500, **nothing | chosen) for name, chosen in choices.items()}


def try_normalization() -> dict[str, Any]:
    """The same network without and with batch normalization."""
    return {name: _curves("batchnorm", 1000, batch_norm=name == "with") for name in ("without", "with")}


def try_depth() -> dict[str, Any]:
    """Stacks of convolutions without and with shortcuts."""
    names = {"without": "deep", "with": "residual"}
    return {f"{name} {depth}": _curves(names[name], 1000, depth=depth) for depth in (8, 20, 32) for name in names}


def _curves(rung: str, images: int, *, rate: float = 0.001, **choices: Any) -> dict[str, list[float]]:
    """The means over the seeds, epoch by epoch, of loss and accuracy in training and on 1,000 validation images."""
    mnist = cl.load_dataset("mnist")
    validation = (mnist.validation.images[:1000], mnist.validation.labels[:1000])
    histories: list[npt.NDArray[np.float64]] = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        model = cl.build_model(rung, mnist.input_shape, mnist.num_classes, **choices)
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(
            mnist.train.images[:images],
            mnist.train.labels[:images],
            batch_size=32,
            epochs=EPOCHS,
            validation_data=validation,
            validation_batch_size=500,
            verbose=0,
        ).history
        histories.append(np.asarray([history[name] for name in CURVES]))
        keras.backend.clear_session()
    means = np.mean(histories, axis=0)
    print(rung, choices, rate, means[:, -1].round(4), flush=True)
    return {name: [round(float(value), 4) for value in curve] for name, curve in zip(CURVES, means, strict=True)}


MAKERS: dict[str, Callable[[], Any]] = {"networks": make_networks, "ladder": copy_ladder}
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
            _write(path, kept | {"seeds": len(SEEDS), name: EXPERIMENTS[name]()})


def _write(path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path.name}: {len(text):,} characters", flush=True)


if __name__ == "__main__":
    main()
