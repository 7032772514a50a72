"""Trials: the runs that a comparison needs, one per rung and seed, and the reuse of finished runs."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convladder import __version__
from convladder.comparing.settings import identity_of
from convladder.data.dataset import Dataset
from convladder.errors import ConvladderError
from convladder.runs.run import Run
from convladder.training.checkpoint import remove_checkpoint
from convladder.training.recipes import Recipe, resolve_precision
from convladder.training.resuming import in_use

if TYPE_CHECKING:
    import keras

PATIENCE = 10.0  # seconds; a worker whose caller was killed has so long to end


@dataclass(frozen=True)
class Trial:
    """One run to train.

    Attributes:
        rung: A name from MODELS.
        seed: Seed of everything random in it.
        recipe: How it is trained.
        deterministic: Whether a repetition gives the same weights, bit for bit.
        tensorboard: Whether it writes logs for TensorBoard into its folder.
        choices: Choices of the rung.
        ensemble: Number of networks that it averages, with the seeds from `seed` up.
        resume: Name of the run folder in which it was started and not finished.
    """

    rung: str
    seed: int
    recipe: Recipe
    deterministic: bool = False
    tensorboard: bool = False
    choices: Mapping[str, Any] = field(default_factory=dict, hash=False)
    ensemble: int = 1
    resume: str | None = None

    @property
    def label(self) -> str:
        """Its name while it runs."""
        return f"{self.rung}, seed {self.seed}"

    def identity(self, fingerprint: str, resize: str) -> dict[str, Any]:
        """The identity of a run that can replace this trial, for data with this fingerprint and `resize`."""
        return identity_of(
            {
                "rung": self.rung,
                "choices": dict(self.choices),
                "ensemble": self.ensemble,
                "recipe": asdict(self.recipe),
                "precision": resolve_precision(self.recipe)[0],
                "seed": self.seed,
                "deterministic": self.deterministic,
                "fit": resize,
                "fingerprint": fingerprint,
            }
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        trial: The trial.
        run: Its run; None if it failed or was not started.
        error: Why there is no run.
        failed: Whether it was started and failed.
    """

    trial: Trial
    run: Run | None = None
    error: str = ""
    failed: bool = False


LookOn = Callable[[str], "Sequence[keras.callbacks.Callback]"]
Say = Callable[[str], None]
Late = Callable[[], bool]

TOO_LATE = "had not ended when the minutes were over"


def never() -> bool:
    """Never too late: for comparisons without a time limit."""
    return False


class Runner(Protocol):
    """Carries out trials; they can finish in any order."""

    def __call__(
        self, trials: Iterable[Trial], dataset: Dataset, directory: Path, *, look_on: LookOn, say: Say, late: Late
    ) -> Iterator[Outcome]:
        """Carry out the trials. The next one is taken when there is a free place.

        Args:
            trials: In the order of their start.
            dataset: The training data of all trials.
            directory: Folder for the run folders.
            look_on: From a label to Keras callbacks that see the training's epochs and steps, but not its model.
            say: Takes a line for the user.
            late: Whether unfinished trials must be stopped now.
        """


def run_trial(
    trial: Trial, dataset: Dataset, directory: Path, callbacks: "Sequence[keras.callbacks.Callback]" = ()
) -> Path:
    """Train in this process, and return the run folder."""
    from convladder.training.tracking import with_tensorboard
    from convladder.training.train import train

    # On another machine of a cluster the folder may not be there.
    begun = directory / trial.resume if trial.resume else None
    run = train(
        trial.rung,
        dataset,
        trial.recipe,
        seed=trial.seed,
        ensemble=trial.ensemble,
        choices=trial.choices,
        directory=directory,
        resume=begun if begun and begun.exists() else None,
        callbacks=with_tensorboard(callbacks) if trial.tensorboard else callbacks,
        deterministic=trial.deterministic,
        by_folds=False,  # all rungs are tested on the same pictures
    )
    return run.path


def take_finished(stored: Iterable[Run], identity: Mapping[str, Any]) -> Run | None:
    """The first stored run with an identity, if it was made by compatible versions."""
    for run in stored:
        whole = all((run.path / name).exists() for name in ("metrics.json", "model.onnx", "predictions.npz"))
        if whole and identity_of(run.info) == identity and _compatible(run):
            remove_checkpoint(run.path)  # of a process that was killed before it could
            return run
    return None


def take_unfinished(stored: Iterable[Run], identity: Mapping[str, Any]) -> str | None:
    """Name of the first stored run with an identity that no process trains, and that can be resumed."""
    for run in stored:
        same = identity_of(run.info) | ({"precision": identity["precision"]} if identity["rung"] == "finetune" else {})
        if same == identity and _compatible(run):
            with contextlib.suppress(ConvladderError), in_use(run.path, PATIENCE):
                return run.path.name
    return None


def _compatible(run: Run) -> bool:
    """Whether it was made by versions that differ only in their last number."""
    import keras
    import tensorflow as tf

    made_by = run.info.get("versions", {})
    here = {"convladder": __version__, "keras": keras.__version__, "tensorflow": tf.__version__}
    return all(_minor(made_by.get(name, "")) == _minor(version) for name, version in here.items())


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
