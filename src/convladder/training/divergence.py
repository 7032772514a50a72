"""Divergence: a loss, weight or answer that is not finite ends the training at once, with a message."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.training.recipes import Recipe

LOWER = 10  # the suggested learning rate is this many times lower


def check_loss(logs: Mapping[str, float] | None, place: str, recipe: Recipe) -> None:
    """Raise unless a step's loss is finite.

    Raises:
        ConvladderError: It is NaN or infinite. The message says where, the likely cause and what to do; exit status 1.
    """
    loss = (logs or {}).get("loss", 0.0)
    if not math.isfinite(loss):
        raise diverged(f"The loss is {loss:g}, not a finite number, {place}", recipe)


def check_weights(weights: Sequence[npt.NDArray[Any]], place: str, recipe: Recipe) -> None:
    """Like `check_loss`, for weights: the last step can spoil them without an effect on its loss."""
    spoilt = sum(not np.isfinite(weight).all() for weight in weights)
    if spoilt:
        raise diverged(f"{spoilt} of {len(weights)} arrays of weights hold NaN or infinity {place}", recipe)


def check_answers(probabilities: npt.NDArray[np.float32], images: str, place: str, recipe: Recipe) -> None:
    """Like `check_loss`, for answers, which can overflow for some images even if the weights are finite."""
    wrong = int((~np.isfinite(probabilities).all(axis=1)).sum())
    if wrong:
        raise diverged(f"The network answers with NaN for {wrong:,} of {len(probabilities):,} {images} {place}", recipe)


def diverged(what: str, recipe: Recipe) -> ConvladderError:
    """The error for a training that has diverged."""
    rate = recipe.learning_rate
    return ConvladderError(
        f"{what}: the training has diverged. The likely cause is a learning rate that is too high for this network, "
        f"{rate:g}{' at its peak' if recipe.one_cycle else ''}. Expected a lower one: try --learning-rate "
        f"{rate / LOWER:.2g}{', or --precision float32' if recipe.precision != 'float32' else ''}.",
        exit_status=1,
    )
