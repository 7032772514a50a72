"""Divergence: a loss, a weight or an answer that is no finite number ends the training at once, and says where."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.training.recipes import Recipe

LOWER = 10  # times, that a learning rate is to be tried at


def check_loss(logs: Mapping[str, float] | None, place: str, recipe: Recipe) -> None:
    """Raise unless a step's loss is finite.

    Raises:
        ConvladderError: It is NaN or infinite: where, why that is likely, and what to do; exit status 1.
    """
    loss = (logs or {}).get("loss", 0.0)
    if not math.isfinite(loss):
        raise diverged(f"The loss is {loss:g}, which is no finite number, {place}", recipe)


def check_weights(weights: Sequence[npt.NDArray[Any]], place: str, recipe: Recipe) -> None:
    """As `check_loss`, of a network's weights: the last step may spoil what its loss does not show."""
    spoilt = sum(not np.isfinite(weight).all() for weight in weights)
    if spoilt:
        raise diverged(f"{spoilt} of {len(weights)} arrays of weights hold NaN or infinity {place}", recipe)


def check_answers(probabilities: npt.NDArray[np.float32], images: str, place: str, recipe: Recipe) -> None:
    """As `check_loss`, of a network's answers, which may overflow for some images where its weights are finite."""
    wrong = int((~np.isfinite(probabilities).all(axis=1)).sum())
    if wrong:
        raise diverged(f"The network answers with NaN for {wrong:,} of {len(probabilities):,} {images} {place}", recipe)


def diverged(what: str, recipe: Recipe) -> ConvladderError:
    """What is said of a training that came to this."""
    rate = recipe.learning_rate
    return ConvladderError(
        f"{what}: the training has diverged. The likely cause is a learning rate too high for this network, "
        f"{rate:g}{' at its peak' if recipe.one_cycle else ''}. Expected a lower one: try --learning-rate "
        f"{rate / LOWER:.2g}{', or --precision float32' if recipe.precision != 'float32' else ''}.",
        exit_status=1,
    )
