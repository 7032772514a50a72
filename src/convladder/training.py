"""Training: a model, a Dataset and a recipe to a Run."""

import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convladder import __version__
from convladder.data import Dataset, Split
from convladder.describing import count_macs
from convladder.evaluating import predict_probabilities, score
from convladder.exporting import export_onnx
from convladder.models import build_model
from convladder.recipes import DEFAULT, Recipe, resolve_precision
from convladder.runs import Run, create_run_folder, whole_file, write_arrays, write_csv, write_json

# Steps that TensorFlow runs between two looks of Python: more save time in small networks, fewer answer Ctrl-C sooner.
STEPS_PER_EXECUTION = 32


def train(
    model: str | keras.Model,
    dataset: Dataset,
    recipe: Recipe = DEFAULT,
    *,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
    directory: str | Path = "runs",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    deterministic: bool = False,
) -> Run:
    """Train a model, choose its best epoch on the validation images, test it once, and write a run folder.

    Args:
        model: A rung's name, or any Keras model from pixels, shape (batch, height, width, channels), range 0–255,
            to the probabilities of the classes, shape (batch, num_classes).
        dataset: Its training images fit the weights, its validation images choose the epoch.
        recipe: How to train.
        seed: Of the weights, the order of the images, dropout: two runs that share it share these.
        choices: What the rung lets one choose.
        directory: Where the run folder is made.
        callbacks: Keras callbacks that look on, for instance a progress bar.
        deterministic: Whether two runs on one machine shall end with the same weights, bit for bit. It holds for
            the rest of the process: TensorFlow cannot take it back.

    Returns:
        The finished run.

    Raises:
        ConvladderError: An unknown rung, a choice it lacks; a directory that cannot be written; a parity gate
            that refused.
        KeyboardInterrupt: Passed on, once the folder holds the best weights so far.
    """
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    data = dataset if recipe.validate else dataset.without_validation()
    if isinstance(model, str):
        model = build_model(model, data.input_shape, data.num_classes, rescale=recipe.rescale, **(choices or {}))
    precision, reason = resolve_precision(recipe)
    folder = create_run_folder(Path(directory), model.name)
    info: dict[str, Any] = {
        "status": "running",
        "rung": model.name,
        "choices": dict(choices or {}),
        "recipe": asdict(recipe),
        "seed": seed,
        "deterministic": deterministic,
        "precision": precision,
        "precision_reason": reason,
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "class_names": list(data.class_names),
        "input_shape": list(data.input_shape),
        "parameters": model.count_params(),
        "macs": count_macs(model),
        "versions": {
            "convladder": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "hardware": {"processor": _processor_name(), "cores": os.cpu_count()},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_json(folder / "run.json", info)

    fitted = _as_bfloat16(model) if precision == "bfloat16" else model
    keeper = BestWeights(data.validation)
    try:
        _fit(fitted, data, recipe, seed, [keeper, *callbacks])
        # What is scored, saved and exported is the float32 network: bfloat16 scores alike, not equal.
        model.set_weights(keeper.weights)
        info |= {"best_epoch": keeper.best_epoch, "fit_seconds": keeper.fit_seconds()}
        info |= _write_results(folder, model, data, keeper) | {"status": "finished"}
    except KeyboardInterrupt:
        model.set_weights(keeper.weights or fitted.get_weights())
        _write_weights(folder, model, keeper)
        info |= {"status": "interrupted", "fit_seconds": keeper.fit_seconds()}
        raise KeyboardInterrupt(f"Interrupted. {folder} holds the best weights so far.") from None
    except Exception as error:
        info |= {"status": "failed", "error": str(error)}
        raise
    finally:
        write_json(folder / "run.json", info)
    return Run(folder)


def _write_results(folder: Path, model: keras.Model, data: Dataset, keeper: "BestWeights") -> dict[str, Any]:
    """Write weights, metrics, predictions and the exported model; give back what run.json repeats of them."""
    _write_weights(folder, model, keeper)
    metrics = {}
    if len(data.validation):
        metrics["validation"] = score(predict_probabilities(model, data.validation.images), data.validation.labels)
    probabilities = predict_probabilities(model, data.test.images)
    metrics["test"] = score(probabilities, data.test.labels)
    write_arrays(folder / "predictions.npz", probabilities=probabilities, labels=data.test.labels)
    described = {"class_names": data.class_names, "input_shape": data.input_shape}
    parity = export_onnx(model, folder / "model.onnx", described, data.test.images, probabilities)
    write_json(folder / "metrics.json", metrics | {"parity": parity})
    return {f"{split}_accuracy": scores["accuracy"] for split, scores in metrics.items()}


class BestWeights(keras.callbacks.Callback):
    """Scores each epoch on the validation images, keeps the best weights and the history, and times the fitting.

    Without validation images the last epoch is the one kept.
    """

    def __init__(self, validation: Split) -> None:
        super().__init__()
        self.validation = validation
        self.history: list[dict[str, float]] = []
        self.weights: list[Any] = []
        self.best_epoch = 0
        self._best_accuracy = -1.0
        self._started = self._stopped = time.perf_counter()
        self._evaluated = 0.0

    def fit_seconds(self) -> float:
        """Wall time of fitting, tracing included, evaluation apart."""
        return self._stopped - self._started - self._evaluated

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keep the time, should this have been the last step."""
        self._stopped = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score, keep, and tell the callbacks that come after by `logs`."""
        self._stopped = time.perf_counter()
        logs = {} if logs is None else logs
        logs["seconds"] = self.fit_seconds()
        accuracy = float(epoch)  # without validation images a later epoch is a better one
        if len(self.validation):
            scores = score(predict_probabilities(self.model, self.validation.images), self.validation.labels)
            accuracy = scores["accuracy"]
            logs |= {"validation_accuracy": accuracy, "validation_loss": scores["loss"]}
        if accuracy > self._best_accuracy:
            self._best_accuracy, self.best_epoch = accuracy, epoch + 1
            self.weights = self.model.get_weights()
        self.history.append({"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()})
        self._evaluated += time.perf_counter() - self._stopped
        self._stopped = time.perf_counter()


def _fit(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Fit the weights: `recipe.epochs` passes, in ⌈epochs⌉ rounds of equal length."""
    rounds = math.ceil(recipe.epochs)
    steps = max(1, round(recipe.epochs * len(data.train) / recipe.batch_size / rounds))
    learning_rate: Any = recipe.learning_rate
    if recipe.one_cycle:
        total = rounds * steps
        learning_rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=recipe.learning_rate / 25,
            warmup_target=recipe.learning_rate,
            warmup_steps=max(1, round(0.3 * total)),
            decay_steps=max(1, total - round(0.3 * total)),
        )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate, recipe.beta_1, recipe.beta_2),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        steps_per_execution=min(STEPS_PER_EXECUTION, steps),
        jit_compile=False,  # XLA compiles longer than it saves on a processor
    )
    batches = training_batches(data.train, data.num_classes, recipe.batch_size, seed)
    model.fit(batches, epochs=rounds, steps_per_epoch=steps, callbacks=list(callbacks), shuffle=False, verbose=0)


def training_batches(split: Split, num_classes: int, batch_size: int, seed: int) -> Any:
    """Endless shuffled batches: pixels uint8, (batch, height, width, channels); labels one-hot, (batch, classes)."""
    images = tf.constant(split.images)
    labels = tf.one_hot(split.labels, num_classes)
    return (
        tf.data.Dataset.range(len(split))
        .shuffle(len(split), seed=seed, reshuffle_each_iteration=True)
        .repeat()
        .batch(batch_size, drop_remainder=True)
        .map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))
        .prefetch(tf.data.AUTOTUNE)
    )


def _as_bfloat16(model: keras.Model) -> keras.Model:
    """The same network with the same weights, computing in bfloat16; the last layer stays float32."""
    last = model.layers[-1].name

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name != last:
            config["dtype"] = "mixed_bfloat16"
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=clone)
    twin.set_weights(model.get_weights())
    return twin


def _write_weights(folder: Path, model: keras.Model, keeper: BestWeights) -> None:
    if keeper.history:
        write_csv(folder / "history.csv", keeper.history)
    with whole_file(folder / "model.keras") as temporary:
        model.save(temporary)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
