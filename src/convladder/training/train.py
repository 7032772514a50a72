"""Training: a model, a Dataset and a recipe to a Run."""

import contextlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from convladder.data.dataset import Dataset
from convladder.data.loading import at_size
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.evaluating.few import FEW
from convladder.exporting.parity import parity_images
from convladder.files import write_json
from convladder.models.backbone import BACKBONE, NUM_PARAMETERS, PRETRAINED
from convladder.models.ladder import MODELS, build_model
from convladder.models.summary import count_macs
from convladder.runs.run import Run, create_run_folder
from convladder.signals import check_stop, defer_signals, stopped
from convladder.training.adopting import adopt
from convladder.training.assembling import VIEWS, Answers, assemble
from convladder.training.checkpoint import Checkpoint, Part, remove_checkpoint
from convladder.training.describing import describe_data, describe_machine, digest_layers
from convladder.training.filming import Camera
from convladder.training.finetuning import finetune
from convladder.training.fitting import Interrupted, fit
from convladder.training.keeping import Fitted
from convladder.training.pacing import Deadline, seconds_after
from convladder.training.progress import told_of_scoring
from convladder.training.recipes import Recipe, default_recipe_for, resolve_precision, rung_side
from convladder.training.resuming import begun, check_same, in_use, note_machine
from convladder.training.scoring import write_results, write_weights
from convladder.training.solving import check_solvable, solve_head

tf.get_logger().setLevel("ERROR")  # otherwise it warns in a notebook when a few models are traced

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
    resume: str | Path | None = None,
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
        resume: Instead of a new run folder, that of a run with the same arguments that was stopped, killed or failed.
            It goes on from its checkpoint. With `deterministic` its weights are bit for bit those of a run that nothing
            interrupted. A finished run is returned as it is.
        callbacks: Keras callbacks that look on, for instance a progress bar; or what makes them for the run's folder.
            Where they have them, `on_scoring_begin` and `on_scoring_end` are called around scoring and export.
        deterministic: Whether two runs on one machine end with the same weights, bit for bit. It holds for
            the rest of the process: TensorFlow cannot take it back.
        by_folds: Whether `transfer` is trained on all pictures, and tested by cross-validation, where fewer than 30
            would be held out by chance. Not where several rungs are to be tested on the same pictures.
        began: From when on the recipe's minutes count, of `time.monotonic()`; by default from now on.

    Returns:
        The finished run.

    Raises:
        ConvladderError: An unknown rung, a choice it lacks; a directory that cannot be written; a parity gate
            that refused; arguments, data or versions that are not those of the run to resume.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP, once the folder holds the best weights so far.
    """
    plan = _plan(model, dataset, recipe, seed, ensemble, choices, deterministic, by_folds)
    building = time.monotonic()
    warn_of_size(first := plan.build(0))
    building = time.monotonic() - building
    info: dict[str, Any] = {"status": "running"} | plan.describe(first)
    check_stop()
    folder = create_run_folder(Path(directory), first.name, info) if resume is None else begun(Path(resume))
    with in_use(folder):
        if resume is not None:
            started = Run(folder).info
            check_same(folder, started, info)
            if started["status"] == "finished":
                remove_checkpoint(folder)  # of a process that was killed before it could
                return Run(folder)
            again = {"status": "running", "resumed": started.get("resumed", 0) + 1}
            info = started | again | note_machine(folder, started, info)
            info.pop("error", None)
        return _carry_out(plan, folder, info, first, callbacks, began, building)


def _carry_out(
    plan: "_Plan",
    folder: Path,
    info: dict[str, Any],
    first: keras.Model,
    callbacks: Sequence[keras.callbacks.Callback] | Callable[[Path], Sequence[keras.callbacks.Callback]],
    began: float | None,
    building: float,
) -> Run:
    """Train into a folder, from its checkpoint on if there is one. `building` is the seconds that `first` took."""
    trained = _Trained(plan, folder, checkpoint := Checkpoint(folder))
    # What a checkpoint took to write is known only after it is written; run.json tells it of the last one, too.
    checkpoint.seconds = max(checkpoint.seconds, info.get("checkpoint_seconds", 0.0))
    if checkpoint.left is not None:
        began = time.monotonic() + checkpoint.left - 60 * (plan.recipe.minutes or 0)
    deadline = _deadline(began, building, plan)
    checkpoint.ends = deadline.at if deadline else None
    try:
        write_json(folder / "run.json", info)
        look_on = callbacks(folder) if callable(callbacks) else callbacks
        for number in range(plan.ensemble):
            network = first if number == 0 else plan.build(number)
            trained.fit(network, number, look_on, deadline and deadline.among(plan.ensemble - number))
        with told_of_scoring(look_on):
            members, history, answers = trained.members, trained.history, trained.answers
            results = write_results(folder, members, history, plan.recipe.views, plan.data, answers)
            info |= results | trained.account | {"status": "finished"}
        write_json(folder / "run.json", info)
    except KeyboardInterrupt as stop:
        kept = _keep_interrupted(folder, info, trained, stop)
        raise stopped(stop, f"{folder} holds {kept}.") from None
    except BaseException as error:
        info |= {"status": "failed", "error": str(error)}
        with contextlib.suppress(ConvladderError):  # what is to be told is the first error
            write_json(folder / "run.json", info)
        raise
    remove_checkpoint(folder)
    check_stop(f"{folder} is finished.")
    return Run(folder)


@dataclass(frozen=True)
class _Plan:
    """What a run trains and how, decided and checked before its folder is made.

    Attributes:
        model: What the user named or built.
        rung: Its name; of a built model an empty text.
        data: As they are trained and tested on.
        recipe: How each network is trained.
        seed: Of the first network; the others have the next ones.
        ensemble: How many networks.
        choices: What the rung lets one choose.
        deterministic: Whether a second run gives the same weights, bit for bit.
        by_folds: Whether the test is a cross-validation.
    """

    model: str | keras.Model
    rung: str
    data: Dataset
    recipe: Recipe
    seed: int
    ensemble: int
    choices: Mapping[str, Any]
    deterministic: bool
    by_folds: bool

    @cached_property
    def precision(self) -> tuple[str, str]:
        """What is computed in, and why."""
        return resolve_precision(self.recipe)

    @property
    def backbone(self) -> str:
        """What a pretrained rung stands on."""
        name: str = self.choices.get("backbone", BACKBONE)
        return name

    def build(self, number: int) -> keras.Model:
        """A network that nothing has been fitted to yet."""
        keras.utils.set_random_seed(self.seed + number)
        if not isinstance(self.model, str):
            return adopt(self.model, self.data)
        shape, classes = self.data.input_shape, self.data.num_classes
        return build_model(self.rung, shape, classes, rescale=self.recipe.rescale, **self.choices)

    def describe(self, network: keras.Model) -> dict[str, Any]:
        """What run.json says of it, given its first network."""
        precision, reason = self.precision
        return {
            "rung": network.name,
            "own_network": not self.rung,
            **({} if self.rung else {"layers": digest_layers(network)}),
            "choices": dict(self.choices),
            "ensemble": self.ensemble,
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "deterministic": self.deterministic,
            "precision": precision,
            "precision_reason": reason,
            **describe_data(self.data),
            "parameters": self.ensemble * network.count_params(),
            "macs": self.ensemble * VIEWS[self.recipe.views][1] * count_macs(network),
            **describe_machine(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }


def _plan(
    model: str | keras.Model,
    dataset: Dataset,
    recipe: Recipe | None,
    seed: int,
    ensemble: int,
    choices: Mapping[str, Any] | None,
    deterministic: bool,
    by_folds: bool,
) -> _Plan:
    """Check what `train` was given, and fill in what it was not."""
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
    return _Plan(model, rung, data, recipe, seed, ensemble, dict(choices or {}), deterministic, by_folds)


def _arrange(dataset: Dataset, recipe: Recipe, by_folds: bool) -> tuple[Dataset, bool]:
    """The data as they are trained and tested on; and whether by cross-validation, which `by_folds` allows."""
    if by_folds and dataset.held_out and len(dataset.test) < FEW:
        return dataset.pooled(), True
    return dataset if recipe.validate else dataset.without_validation(), False


def _deadline(began: float | None, building: float, plan: _Plan) -> Deadline | None:
    """When the run must be done, where the recipe has minutes, and what it does when all networks are fitted."""
    recipe, data = plan.recipe, plan.data
    if recipe.minutes is None:
        return None
    began = time.monotonic() if began is None else began
    answers = 2 * (len(data.validation) + len(parity_images(data))) + len(data.test)
    return Deadline(
        began + 60 * recipe.minutes,
        fixed=plan.ensemble * seconds_after(building),
        images=plan.ensemble * VIEWS[recipe.views][1] * answers,
    )


@dataclass
class _Trained:
    """The networks of a run, one or the members of an ensemble, and how they were fitted.

    Attributes:
        plan: What is trained, and how.
        folder: Of the run, where the film of its first network is kept.
        checkpoint: Of the run.
        camera: What films it; None where a head is solved, or was filmed before the run was resumed.
        network: The one that is or was fitted last.
        members: With their best weights.
        history: A row an epoch.
        seconds: Of fitting.
        best_epochs: Of each member.
        details: What else run.json says of the fitting; of an ensemble, what its last member says of it.
        answers: What is known of the answers of a head that was solved.
    """

    plan: _Plan
    folder: Path
    checkpoint: Checkpoint
    camera: Camera | None = None
    network: keras.Model | None = None
    members: list[keras.Model] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    best_epochs: list[int] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)
    answers: Answers | None = None

    def fit(
        self,
        network: keras.Model,
        number: int,
        callbacks: Sequence[keras.callbacks.Callback],
        deadline: Deadline | None,
    ) -> None:
        """Fit a network, the one of this number, as its rung is fitted, and take it in."""
        plan, data, recipe = self.plan, self.plan.data, self.plan.recipe
        self.network = network
        if number < len(self.checkpoint.fitted):  # before the run was resumed
            self.keep(network, *_fitted(self.checkpoint.fitted[number]))
            return
        if number == 0 and plan.rung != "transfer":
            self.camera = Camera(self.folder, data, recipe)
            callbacks = [*callbacks, self.camera]
        how: dict[str, Any] = {"seed": plan.seed + number, "callbacks": callbacks, "deadline": deadline}
        how["checkpoint"] = self.checkpoint
        if plan.rung == "finetune" and plan.backbone == BACKBONE:
            tuned = finetune(network, data, recipe, measure=not plan.deterministic, **how)
            self.finish(network, tuned.fitted, tuned.account)
        elif plan.rung in PRETRAINED:
            solved = solve_head(network, data, recipe, plan.backbone, by_folds=plan.by_folds)
            fitted = solved.fitted
            if plan.rung == "transfer":  # its features are kept, and solving takes seconds: it needs no checkpoint
                self.answers = solved.answers
                self.keep(network, fitted, solved.account)
            else:  # of another backbone the blocks are not known: it is trained on as a whole
                network.set_weights(fitted.weights)
                fitted = fit(network, data, recipe, precision=plan.precision[0], **how)
                self.finish(network, fitted, solved.account)
        else:
            self.finish(network, fit(network, data, recipe, precision=plan.precision[0], **how))

    def finish(self, network: keras.Model, fitted: Fitted, details: Mapping[str, Any] | None = None) -> None:
        """Take a fitted network in, and write it into the checkpoint; `_fitted` reads it."""
        details = {**(details or {}), **self._filmed}
        self.keep(network, fitted, details)
        state = {key: value for key, value in vars(fitted).items() if key != "weights"}
        self.checkpoint.finish(Part({"fitted": state, "details": details}, {"weights": fitted.weights}))

    def keep(self, network: keras.Model, fitted: Fitted, details: Mapping[str, Any] | None = None) -> None:
        """Take a fitted network in."""
        # What is scored, saved and exported is the float32 network: bfloat16 scores alike, not equal.
        network.set_weights(fitted.weights)
        self.members.append(network)
        self.history.extend({"member": len(self.members)} | row for row in fitted.history)
        self.seconds += fitted.seconds
        self.best_epochs.append(fitted.best_epoch)
        self.details = {**self.details, **(details or {})}

    @property
    def account(self) -> dict[str, Any]:
        """What run.json says of the fitting."""
        seconds = {"fit_seconds": self.seconds, "checkpoint_seconds": self.checkpoint.seconds}
        return seconds | {"best_epochs": self.best_epochs} | self._filmed | dict(self.details)

    @property
    def _filmed(self) -> dict[str, Any]:
        return {"film_seconds": self.camera.seconds} if self.camera else {}


def _fitted(part: Part) -> tuple[Fitted, Mapping[str, Any]]:
    """A network's weights and history from the checkpoint, and the details of run.json."""
    return Fitted(part.arrays["weights"], **part.state["fitted"]), part.state["details"]


def _keep_interrupted(folder: Path, info: dict[str, Any], trained: _Trained, stop: KeyboardInterrupt) -> str:
    """Write what there is of a run that was told to stop; give back, in words, what that is."""
    info["status"] = "interrupted"
    write_json(folder / "run.json", info)  # before the weights: a second signal does not wait for them
    if isinstance(stop, Interrupted):
        trained.keep(trained.network, stop.fitted, stop.account)
    if trained.members:
        write_weights(folder, assemble(trained.members, trained.plan.recipe.views), trained.history)
    write_json(folder / "run.json", info | trained.account)
    return "the best weights so far" if trained.members else "no weights yet"


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
