"""Solving: fits the head of a pretrained network to cached features, instead of training as in `fitting`."""

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
from convladder.models.backbone import BACKBONE, FEATURES
from convladder.training.assembling import VIEWS, Answers
from convladder.training.head import Solution, judge_by_folds, solve
from convladder.training.keeping import Fitted
from convladder.training.recipes import Recipe, idle_options


@dataclass(frozen=True)
class Solved:
    """The result of solving.

    Attributes:
        fitted: The network's weights, with the head, and the history.
        solution: The head, and how it was chosen.
        answers: Its answers for pictures that it was not fitted to.
        extractor: The backbone.
    """

    fitted: Fitted
    solution: Solution
    answers: Answers
    extractor: Extractor

    @property
    def account(self) -> dict[str, Any]:
        """The part of run.json on the head and its test."""
        head = {
            "backbone": self.extractor.name,
            **({"weights_sha256": self.extractor.weights} if self.extractor.weights else {}),
            "strength": self.solution.strength,
            "chosen_by": self.solution.method,
            "images": self.solution.seen,
        }
        folds = self.answers.folds
        return {"head": head} | ({"tested_by": f"{folds}-fold cross-validation"} if folds else {})


def check_solvable(recipe: Recipe, ensemble: int) -> None:
    """Refuse options that have no effect on a head that is solved, not trained.

    Raises:
        ConvladderError: The recipe has a time limit or augmentation, or an ensemble is requested.
    """
    if asked := idle_options(recipe, ensemble):
        raise ConvladderError(
            f"{', '.join(asked)} has no effect on transfer, whose head is solved, not trained. Leave it out, or use "
            "the rung finetune."
        )


def solve_head(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    backbone: str = BACKBONE,
    *,
    by_folds: bool = False,
    pool: bool = True,
) -> Solved:
    """Fit the layer `logits` of a model to its backbone's features. The other layers stay as they are.

    Args:
        model: As `build_model` returns it for a pretrained rung. It is not changed.
        data: As in `fit`. Few validation pictures are fitted too.
        recipe: Only its views matter.
        backbone: Name of the model's backbone.
        by_folds: Whether the data are `Dataset.pooled`, and tested by cross-validation.
        pool: Whether few validation pictures are fitted too; otherwise they stay available for another choice.
    """
    began = time.perf_counter()
    cache = data.source is None or data.source.get("cache", True)
    extractor = OWN if backbone == BACKBONE else _make_extractor(model, backbone)
    labels = data.train.labels
    tested = data.test.images[: 0 if by_folds else None]  # by folds, the test images are among the training images
    parts = [data.train.images, data.validation.images, tested]
    train, validation, test = compute_features(parts, extractor, cache=cache)
    if not all(np.isfinite(features).all() for features in (train, validation, test)):
        raise ConvladderError(
            f"The features from {extractor.name} for these pictures hold NaN or infinity. Expected finite ones: "
            "its weights are damaged, download them again.",
            exit_status=1,
        )
    if by_folds:
        test = train[:, np.bincount(labels)[labels] > 1]
    views = VIEWS[recipe.views][1]
    chosen_on = len(data.validation) if pool or len(data.validation) >= FEW_TO_VALIDATE else 0
    held_out = validation[:, :chosen_on], data.validation.labels[:chosen_on]
    solution = solve(train, labels, *held_out, data.num_classes, views)
    head = solution.head
    weights = [*model.get_weights()[:-2], head.kernel, head.bias]  # the layer `logits` is the last with weights
    fitted = Fitted(weights, best_epoch=1, seconds=time.perf_counter() - began)
    on_train = score(head.predict(train[:views]), labels)
    row = {"epoch": 1, "loss": on_train["loss"], "accuracy": on_train["accuracy"], "seconds": fitted.seconds}
    if len(solution.labels):
        on_validation = score(solution.probabilities, solution.labels)
        row |= {"validation_accuracy": on_validation["accuracy"], "validation_loss": on_validation["loss"]}
    fitted.history.append(row)
    seen = train[0], validation[0], test[0]
    answers = Answers(solution.probabilities, solution.labels, head.predict(test[:views]), seen)
    if by_folds:
        judged, folds = judge_by_folds(train, labels, data.num_classes, views)
        answers = replace(answers, by_folds=judged, folds=folds)
    return Solved(fitted, solution, answers, extractor)


def _make_extractor(model: keras.Model, backbone: str) -> Extractor:
    """The Extractor for a model whose backbone is not the embedded one. Its weights identify it."""
    network = keras.Model(model.inputs[0], model.get_layer(FEATURES).output)
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight).data)

    def build_graph(input_shape: tuple[int, int, int]) -> bytes:
        network(np.zeros((1, *input_shape), np.float32))  # Keras exports only models that were called
        content: bytes = export_graph(network).SerializeToString()
        return content

    return Extractor(backbone, digest.hexdigest(), build_graph)
