"""Training: a model, a Dataset and a recipe to a Run."""

import contextlib
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from convladder import __version__
from convladder.data.dataset import Dataset
from convladder.data.leaks import leaked
from convladder.data.loading import at_size
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.evaluating.calibration import choose_threshold, reliability, temper
from convladder.evaluating.few import FEW
from convladder.evaluating.learned import beside_constant
from convladder.evaluating.metrics import describe, predict_probabilities, without
from convladder.exporting.onnx_file import export_onnx
from convladder.exporting.parity import check_answers, parity_images
from convladder.exporting.pretrained import answer
from convladder.files import whole_file, write_arrays, write_csv, write_json
from convladder.models.backbone import NAME as BACKBONE
from convladder.models.backbone import NUM_PARAMETERS, PRETRAINED
from convladder.models.ladder import MODELS, build_model
from convladder.models.summary import count_macs
from convladder.processors import count_processors
from convladder.runs.examples import choose_examples
from convladder.runs.run import LEARNED, Run, create_run_folder, embedded_name
from convladder.signals import check_stop, defer_signals, stopped
from convladder.training.adopting import adopt
from convladder.training.assembling import VIEWS, Answers, assemble, calibrate
from convladder.training.finetuning import finetune
from convladder.training.fitting import Fitted, Interrupted, fit
from convladder.training.hardware import processor_name
from convladder.training.pacing import Deadline, seconds_after
from convladder.training.recipes import Recipe, default_recipe_for, resolve_precision, rung_side
from convladder.training.solving import check_solvable, solve_head

MANY_PARAMETERS = 50_000_000
BYTES_A_PARAMETER = 20  # four each for the weight, its gradient, Adam's two averages, and the best epoch's copy


@defer_signals()
def train(
    model: str | keras.Model,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    ensemble: int = 1,
    choices: Mapping[str, Any] | None = None,
    directory: str | Path = "runs",
    callbacks: Sequence[keras.callbacks.Callback] | Callable[[Path], Sequence[keras.callbacks.Callback]] = (),
    deterministic: bool = False,
    by_folds: bool = True,
    began: float | None = None,
) -> Run:
    """Train a model, choose its best epoch on the validation images, test it once, and write a run folder.

    Args:
        model: A rung's name, or any Keras model from pixels, shape (batch, height, width, channels), range 0–255,
            to the probabilities of the classes, shape (batch, num_classes). It stays as it is: a copy is trained.
        dataset: Its training images fit the weights, its validation images choose the epoch.
        recipe: How to train; by default DEFAULT, with what a tuned rung changes of it.
        seed: Of the weights, the order of the images, augmentation and dropout: two runs that share it share these.
        ensemble: How many networks to train, with the seeds from `seed` up, and to average into one model.
        choices: What the rung lets one choose.
        directory: Where the run folder is made.
        callbacks: Keras callbacks that look on, for instance a progress bar; or what makes them for the run's folder.
            Where they have them, `on_scoring_begin` and `on_scoring_end` are called around scoring and export.
        deterministic: Whether two runs on one machine shall end with the same weights, bit for bit. It holds for
            the rest of the process: TensorFlow cannot take it back.
        by_folds: Whether `transfer` is trained on all pictures, and tested by cross-validation, where fewer than 30
            would be held out by chance. Not where several rungs are to be tested on the same pictures.
        began: From when on the recipe's minutes count, of `time.monotonic()`; by default from now on.

    Returns:
        The finished run.

    Raises:
        ConvladderError: An unknown rung, a choice it lacks; a directory that cannot be written; a parity gate
            that refused.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP, once the folder holds the best weights so far.
    """
    check_range("the ensemble", ensemble, 1, 100)
    check_range("seed", seed, 0, 2**32 - ensemble)
    rung = model if isinstance(model, str) else ""
    if ensemble > 1 and not rung:
        raise ConvladderError("A built model cannot become an ensemble. Expected a rung's name, to build each anew.")
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if rung:
        check_choice("rung", rung, MODELS)
        dataset = at_size(dataset, rung_side(rung, dataset))
    recipe = recipe or default_recipe_for(rung or getattr(model, "name", ""), dataset)
    if rung == "transfer":
        check_solvable(recipe, ensemble)
    data, by_folds = _arrange(dataset, recipe, by_folds and rung == "transfer")

    def member(number: int) -> keras.Model:
        keras.utils.set_random_seed(seed + number)
        if not isinstance(model, str):
            return adopt(model, data)
        return build_model(rung, data.input_shape, data.num_classes, rescale=recipe.rescale, **(choices or {}))

    building = time.monotonic()
    warn_of_size(first := member(0))
    deadline = _deadline(began, time.monotonic() - building, recipe, data, ensemble)
    precision, reason = resolve_precision(recipe)
    info: dict[str, Any] = {
        "status": "running",
        "rung": first.name,
        "own_network": not rung,
        "choices": dict(choices or {}),
        "ensemble": ensemble,
        "recipe": asdict(recipe),
        "seed": seed,
        "deterministic": deterministic,
        "precision": precision,
        "precision_reason": reason,
        **_describe_data(data),
        "parameters": ensemble * first.count_params(),
        "macs": ensemble * VIEWS[recipe.views][1] * count_macs(first),
        **_describe_machine(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    check_stop()
    folder = create_run_folder(Path(directory), first.name)

    trained = _Trained()
    try:
        write_json(folder / "run.json", info)
        look_on = callbacks(folder) if callable(callbacks) else callbacks
        for number in range(ensemble):
            network = first if number == 0 else member(number)
            trained.fit(
                network,
                rung,
                data,
                recipe,
                by_folds,
                seed=seed + number,
                precision=precision,
                deterministic=deterministic,
                callbacks=look_on,
                backbone=(choices or {}).get("backbone", BACKBONE),
                deadline=deadline and deadline.among(ensemble - number),
            )
        with _told_of_scoring(look_on):
            info |= _write_results(folder, trained, recipe.views, data) | trained.account | {"status": "finished"}
        write_json(folder / "run.json", info)
    except KeyboardInterrupt as stop:
        info["status"] = "interrupted"
        write_json(folder / "run.json", info)  # before the weights: a second signal does not wait for them
        if isinstance(stop, Interrupted):
            trained.keep(network, stop.fitted, stop.account)
        if trained.members and not (folder / "model.keras").exists():
            _write_weights(folder, assemble(trained.members, recipe.views), trained.history)
        write_json(folder / "run.json", info | trained.account)
        kept = "the best weights so far" if trained.members else "no weights yet"
        raise stopped(stop, f"{folder} holds {kept}.") from None
    except BaseException as error:
        info |= {"status": "failed", "error": str(error)}
        write_json(folder / "run.json", info)
        raise
    check_stop(f"{folder} is finished.")
    return Run(folder)


def _arrange(dataset: Dataset, recipe: Recipe, by_folds: bool) -> tuple[Dataset, bool]:
    """The data as they are trained and tested on; and whether by cross-validation, which `by_folds` allows."""
    if by_folds and dataset.held_out and len(dataset.test) < FEW:
        return dataset.pooled(), True
    return dataset if recipe.validate else dataset.without_validation(), False


def _deadline(began: float | None, building: float, recipe: Recipe, data: Dataset, ensemble: int) -> Deadline | None:
    """When the run must be done, where the recipe has minutes, and what it does when all networks are fitted."""
    if recipe.minutes is None:
        return None
    began = time.monotonic() if began is None else began
    answers = 2 * (len(data.validation) + len(parity_images(data))) + len(data.test)
    return Deadline(
        began + 60 * recipe.minutes,
        fixed=ensemble * seconds_after(building),
        images=ensemble * VIEWS[recipe.views][1] * answers,
    )


@dataclass
class _Trained:
    """The networks of a run, one or the members of an ensemble, and how they were fitted.

    Attributes:
        members: With their best weights.
        history: A row an epoch.
        seconds: Of fitting.
        best_epochs: Of each member.
        details: What else run.json says of the fitting; of an ensemble, of its last member.
        answers: What is known of the answers of a head that was solved.
    """

    members: list[keras.Model] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    best_epochs: list[int] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)
    answers: Answers | None = None

    def fit(
        self,
        network: keras.Model,
        rung: str,
        data: Dataset,
        recipe: Recipe,
        by_folds: bool,
        *,
        deterministic: bool,
        precision: str,
        backbone: str,
        **how: Any,
    ) -> None:
        """Fit a network as its rung is fitted, and take it in; `how` are the seed, the callbacks and the deadline."""
        if rung == "finetune" and backbone == BACKBONE:
            tuned = finetune(network, data, recipe, measure=not deterministic, **how)
            self.keep(network, tuned.fitted, tuned.account)
        elif rung in PRETRAINED:
            solved = solve_head(network, data, recipe, backbone, by_folds=by_folds)
            fitted = solved.fitted
            if rung == "transfer":
                self.answers = solved.answers
            else:  # of another backbone the blocks are not known: it is trained on as a whole
                network.set_weights(fitted.weights)
                fitted = fit(network, data, recipe, precision=precision, **how)
            self.keep(network, fitted, solved.account)
        else:
            self.keep(network, fit(network, data, recipe, precision=precision, **how))

    def keep(self, network: keras.Model, fitted: Fitted, details: Mapping[str, Any] | None = None) -> None:
        """Take a fitted network in."""
        # What is scored, saved and exported is the float32 network: bfloat16 scores alike, not equal.
        network.set_weights(fitted.weights)
        self.members.append(network)
        self.history.extend({"member": len(self.members)} | row for row in fitted.history)
        self.seconds += fitted.seconds
        self.best_epochs.append(fitted.best_epoch)
        self.details = details or {}

    @property
    def account(self) -> dict[str, Any]:
        """What run.json says of the fitting."""
        return {"fit_seconds": self.seconds, "best_epochs": self.best_epochs} | dict(self.details)


def _describe_data(data: Dataset) -> dict[str, Any]:
    """What run.json says of the data."""
    return {
        "dataset": data.name,
        "data": None if data.source is None else dict(data.source),
        "fit": data.fit,
        "fingerprint": data.fingerprint,
        "content": data.identity,
        "photographs": data.photographs,
        "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "left_out": len(data.account.left_out) if data.account else 0,
        "leaks_left_out": data.leaks_left_out,
        "class_names": list(data.class_names),
        "input_shape": list(data.input_shape),
    }


def _describe_machine() -> dict[str, Any]:
    """What run.json says of what it was trained with and on."""
    return {
        "versions": {
            "convladder": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "hardware": {"processor": processor_name(), "cores": count_processors()},
    }


def warn_of_size(model: keras.Model) -> None:
    """Say what a model of more than 50 million parameters will cost, and what would not; training goes on."""
    parameters = model.count_params()
    if parameters <= MANY_PARAMETERS:
        return
    height, width, channels = model.input_shape[1:]
    what = f"{model.name} has {parameters:,} parameters for pictures of {height}×{width}×{channels}"
    cost = f"training keeps {BYTES_A_PARAMETER} bytes for each, {BYTES_A_PARAMETER * parameters / 1e9:.1f} GB"
    if model.name in PRETRAINED:
        if model.name == "transfer":
            cost = f"they take {4 * parameters / 1e9:.1f} GB, and as much again where they are stored"
        advice = f"Take a smaller --backbone: {BACKBONE} has {NUM_PARAMETERS:,}."
    else:
        smaller = build_model("residual", (height, width, channels), model.output_shape[1])
        advice = (
            "Take a smaller --image-size, or a rung that averages over places before its last layer: residual has "
            f"{smaller.count_params():,}."
        )
    warnings.warn(f"{what}; {cost}. {advice}", stacklevel=3)


@contextlib.contextmanager
def _told_of_scoring(callbacks: Sequence[keras.callbacks.Callback]) -> Iterator[None]:
    """Tell those who look on that all is fitted, and when all is scored and written."""
    for callback in callbacks:
        getattr(callback, "on_scoring_begin", bool)()
    try:
        yield
    finally:
        for callback in callbacks:
            getattr(callback, "on_scoring_end", bool)()


def _write_results(folder: Path, trained: _Trained, views: str, data: Dataset) -> dict[str, Any]:
    """Write weights, metrics, predictions and the exported model; give back what run.json repeats of them."""
    answers = trained.answers
    model, calibration = calibrate(trained.members, views, data.validation, answers)
    _write_weights(folder, model, trained.history)
    metrics: dict[str, Any] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    threshold, why = 0.0, "no validation images"
    if calibration.before is not None and calibration.after is not None:
        labels = data.validation.labels if answers is None else answers.labels
        threshold, why = choose_threshold(calibration.after, labels)
        before = reliability(calibration.before, labels)["ece"]
        metrics["validation"] = describe(calibration.after, labels, data.class_names, threshold) | {
            "ece_before_temperature": before
        }
        arrays = {"validation_probabilities": calibration.after, "validation_labels": labels}
    if answers is None:
        shipped = answer(model, data.test.images)
    else:
        shipped = temper(answers.test, calibration.temperature).astype(np.float32)
    probabilities = shipped if answers is None or answers.by_folds is None else answers.by_folds
    metrics["test"] = describe(probabilities, data.test.labels, data.class_names, threshold)
    metrics["test"] |= without(leaked(data), probabilities, data.test.labels)
    write_arrays(folder / LEARNED, digests=np.unique(data.digests[: -len(data.test)]))
    write_arrays(folder / "predictions.npz", probabilities=probabilities, labels=data.test.labels, **arrays)
    examples = choose_examples(data.test.images, data.test.labels, shipped.argmax(axis=1))
    write_arrays(folder / "examples.npz", **examples._asdict())
    test = metrics["test"]
    fitted = {"temperature": calibration.temperature, "threshold": threshold}
    described = fitted | {
        "rung": model.name,
        "class_names": data.class_names,
        "input_shape": data.input_shape,
        "fit": data.fit,
        "fingerprint": data.fingerprint,
        "dataset": data.name,
        "embedded": embedded_name({"data": data.source}),
        "test_accuracy": test["accuracy"],
        "test_images": test["images"],
        "interval": [test["low"], test["high"]],
        "tested_by": f"{answers.folds}-fold cross-validation" if answers and answers.folds else None,
    }
    images = parity_images(data)
    expected = predict_probabilities(model, images)
    if answers is not None:  # what was scored was computed without Keras: the model that is kept answers so too
        check_answers(shipped[: len(images)], expected[: len(shipped)], "The head")
    parity = export_onnx(model, folder / "model.onnx", described, images, expected)
    write_json(folder / "metrics.json", metrics | {"parity": parity})
    accuracies = {f"{split}_accuracy": scores["accuracy"] for split, scores in metrics.items()}
    reasons = {"temperature_reason": calibration.reason, "threshold_reason": why}
    return accuracies | fitted | reasons | {"learned_nothing": beside_constant(test).nothing}


def _write_weights(folder: Path, model: keras.Model, history: Sequence[Mapping[str, float]]) -> None:
    if history:
        write_csv(folder / "history.csv", history)
    with whole_file(folder / "model.keras") as temporary:
        model.save(temporary)
