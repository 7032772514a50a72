"""Solving: the head of a pretrained network, fitted to kept features; what `fitting` is to other rungs."""

import hashlib
import time
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from convladder.data.dataset import Dataset
from convladder.data.features import OWN, Extractor, compute_features
from convladder.errors import ConvladderError
from convladder.evaluating.few import FEW_TO_VALIDATE
from convladder.evaluating.metrics import score
from convladder.exporting.onnx_file import export_graph
from convladder.models.backbone import FEATURES, NAME
from convladder.training.assembling import VIEWS, Answers
from convladder.training.fitting import Fitted
from convladder.training.head import Solution, judge_by_folds, solve
from convladder.training.recipes import Recipe


@dataclass(frozen=True)
class Solved:
    """What solving gives.

    Attributes:
        fitted: The network's weights, its head among them, and what the history says of it.
        solution: The head, and how it was chosen.
        answers: What it answered for the pictures that it was not fitted to.
        extractor: The backbone.
    """

    fitted: Fitted
    solution: Solution
    answers: Answers
    extractor: Extractor

    @property
    def account(self) -> dict[str, Any]:
        """What run.json says of the head, and of how it was tested."""
        head = {
            "backbone": self.extractor.name,
            **({"weights_sha256": self.extractor.weights} if self.extractor.weights else {}),
            "strength": self.solution.strength,
            "chosen_by": self.solution.method,
            "images": self.solution.seen,
        }
        folds = self.answers.folds
        return {"head": head} | ({"tested_by": f"{folds}-fold cross-validation"} if folds else {})


def idle_options(recipe: Recipe, ensemble: int, minutes: str = "--minutes") -> list[str]:
    """What was asked for and would change nothing, where a head is solved and not trained."""
    idle = {
        "--ensemble": ensemble > 1,
        minutes: recipe.minutes is not None,
        "--until": recipe.until is not None,
        "--augment": recipe.augment != "none",
        "--views digits": recipe.views == "digits",
    }
    return [option for option, asked in idle.items() if asked]


def check_solvable(recipe: Recipe, ensemble: int) -> None:
    """Refuse what would change nothing, where a head is solved and not trained.

    Raises:
        ConvladderError: The recipe limits its time or augments its pictures, or an ensemble is asked for.
    """
    if asked := idle_options(recipe, ensemble):
        raise ConvladderError(
            f"{', '.join(asked)} changes nothing of transfer, whose head is solved and not trained. Expected it "
            "without, or the rung finetune."
        )


def solve_head(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    backbone: str = NAME,
    *,
    by_folds: bool = False,
    pool: bool = True,
) -> Solved:
    """Fit the layer `logits` of a model on its backbone's features; the rest of it stays as it is.

    Args:
        model: As `build_model` gives it for a pretrained rung; it is not changed.
        data: As for `fit`. Where it holds few validation pictures, these are fitted to as well.
        recipe: Its views say what an answer is averaged over; nothing else of it matters.
        backbone: The name of the model's.
        by_folds: Whether the data are `Dataset.pooled`, and tested by cross-validation.
        pool: Whether few validation pictures are fitted to as well; else they are left for another choice.
    """
    began = time.perf_counter()
    cache = data.source is None or data.source.get("cache", True)
    extractor = OWN if backbone == NAME else _make_extractor(model, backbone)
    labels = data.train.labels
    tested = data.test.images[: 0 if by_folds else None]  # which are among the training images then
    parts = [data.train.images, data.validation.images, tested]
    train, validation, test = compute_features(parts, extractor, cache=cache)
    if not all(np.isfinite(features).all() for features in (train, validation, test)):
        raise ConvladderError(
            f"The features that {extractor.name} gives of these pictures hold NaN or infinity. Expected finite ones: "
            "its weights are damaged, fetch them again.",
            exit_status=1,
        )
    if by_folds:
        test = train[:, np.bincount(labels)[labels] > 1]
    views = VIEWS[recipe.views][1]
    chosen_on = len(data.validation) if pool or len(data.validation) >= FEW_TO_VALIDATE else 0
    held_out = validation[:, :chosen_on], data.validation.labels[:chosen_on]
    solution = solve(train, labels, *held_out, data.num_classes, views)
    head = solution.head
    weights = [*model.get_weights()[:-2], head.kernel, head.bias]  # the layer `logits` is the last that has any
    fitted = Fitted(weights, best_epoch=1, seconds=time.perf_counter() - began)
    on_train = score(head.predict(train[:views]), labels)
    row = {"epoch": 1, "loss": on_train["loss"], "accuracy": on_train["accuracy"], "seconds": fitted.seconds}
    if len(solution.labels):
        on_validation = score(solution.probabilities, solution.labels)
        row |= {"validation_accuracy": on_validation["accuracy"], "validation_loss": on_validation["loss"]}
    fitted.history.append(row)
    answers = Answers(solution.probabilities, solution.labels, head.predict(test[:views]))
    if by_folds:
        judged, folds = judge_by_folds(train, labels, data.num_classes, views)
        answers = replace(answers, by_folds=judged, folds=folds)
    return Solved(fitted, solution, answers, extractor)


def _make_extractor(model: keras.Model, backbone: str) -> Extractor:
    """What computes the features of a model whose backbone is not the package's, and is known by its weights."""
    network = keras.Model(model.inputs[0], model.get_layer(FEATURES).output)
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)

    def build_graph(input_shape: tuple[int, int, int]) -> bytes:
        network(np.zeros((1, *input_shape), np.float32))  # Keras exports only what was called
        content: bytes = export_graph(network).SerializeToString()
        return content

    return Extractor(backbone, digest.hexdigest(), build_graph)
