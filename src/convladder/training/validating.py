"""Validating: train a network as `train` does, and score it on the validation images alone, for a search.

The test images are not read: not for scores, not for a film, not for an export. Nothing is written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset
from convladder.exporting.pretrained import predict_quickly
from convladder.models.backbone import BACKBONE, PRETRAINED
from convladder.models.ladder import build_model
from convladder.training.assembling import assemble
from convladder.training.finetuning import finetune
from convladder.training.fitting import fit
from convladder.training.recipes import Recipe, resolve_precision
from convladder.training.solving import solve_head


def validate(
    rung: str,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    choices: Mapping[str, Any],
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> npt.NDArray[np.bool_]:
    """Train a rung, choose its best epoch on the validation images, and say which of them it classifies correctly.

    Args:
        rung: A name from MODELS, but not `transfer`, whose head has nothing to search.
        data: At the rung's size.
        recipe: How to train. All its minutes are for fitting.
        seed: Of the weights, the order of the images, augmentation and dropout.
        choices: What the rung lets one choose.
        callbacks: Keras callbacks. What one of them raises ends the training, and is raised.

    Returns:
        A value for each validation image, shape (count,).
    """
    keras.utils.set_random_seed(seed)
    network = build_model(rung, data.input_shape, data.num_classes, rescale=recipe.rescale, **choices)
    backbone = choices.get("backbone", BACKBONE)
    if rung == "finetune" and backbone == BACKBONE:
        fitted = finetune(network, data, recipe, seed=seed, callbacks=callbacks).fitted
    else:
        if rung in PRETRAINED:
            network.set_weights(solve_head(network, data, recipe, backbone).fitted.weights)
        fitted = fit(network, data, recipe, seed=seed, precision=resolve_precision(recipe)[0], callbacks=callbacks)
    network.set_weights(fitted.weights)
    answers = predict_quickly(assemble([network], recipe.views), data.validation.images)
    right: npt.NDArray[np.bool_] = answers.argmax(axis=1) == data.validation.labels
    return right
