"""Inside a rung: its confusions, with the images behind them, its most confident errors, and its calibration."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convladder.data.dataset import Dataset
from convladder.data.loading import at_size
from convladder.errors import ConvladderError
from convladder.evaluating.few import FEW_FOR_DETAIL
from convladder.models.backbone import SIDE
from convladder.reporting import plots
from convladder.reporting.kept import MOST_FILES, keep_maps
from convladder.reporting.pictures import (
    EXPLAINED,
    PICTURE_SIDE,
    WORST,
    Gallery,
    Pixels,
    describe_answers,
    draw_maps,
    fill,
    find_worst,
    name_top,
    sort_into_cells,
)
from convladder.runs.evaluating import find_unlike_test
from convladder.runs.run import Run

WIDEST_MATRIX = 20  # classes; with more, the most frequent confusions are listed
CONFUSIONS_LISTED = 30
Say = Callable[[str], None]


def look_inside(
    typical: Sequence[Run],
    chosen: int,
    datasets: Sequence[Dataset | None],
    pictures: Pixels | None,
    chance: float | None,
    say: Say,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A view of each rung, and the data for the page's script: pictures by number, and their numbers by rung and cell.

    All rungs show the same pictures. `datasets` are the images as each rung takes them.
    """
    cells = [sort_into_cells(run.predictions["probabilities"], run.predictions["labels"]) for run in typical]
    shown: list[dict[tuple[int, int], list[int]]] = [{} for _ in typical]
    gallery = Gallery(pictures) if pictures is not None else None
    if gallery is not None:
        order = sorted(range(len(typical)), key=lambda number: number != chosen)
        for number, kept in zip(order, fill(gallery, [cells[number] for number in order]), strict=True):
            shown[number] = kept
    views = [
        _view(run, number, cells[number], datasets[number], pictures, chance, say) for number, run in enumerate(typical)
    ]
    found = [
        {
            f"{label},{taken}": [[number, name_top(run.predictions["probabilities"][number])] for number in numbers]
            for (label, taken), numbers in kept.items()
        }
        for run, kept in zip(typical, shown, strict=True)
    ]
    page = {"pictures": gallery.shown if gallery else {}, "cells": found, "classes": typical[0].info["class_names"]}
    return views, page


def _view(
    run: Run,
    number: int,
    cells: Mapping[tuple[int, int], Sequence[int]],
    dataset: Dataset | None,
    pictures: Pixels | None,
    chance: float | None,
    say: Say,
) -> dict[str, Any]:
    """The view of one rung."""
    test, names = run.metrics["test"], run.info["class_names"]
    confusions = sorted(
        ((len(numbers), label, taken) for (label, taken), numbers in cells.items() if label != taken), reverse=True
    )
    probabilities = run.predictions["probabilities"]
    worst = find_worst(cells, probabilities)
    maps: dict[str, str] = {}
    # A network that was also trained on these images would look at other things than the one that misjudged them.
    if dataset is not None and pictures is not None and "tested_by" not in run.info:
        images = dataset.test.images
        numbers = [image for image, _ in worst[:EXPLAINED]]
        maps = keep_maps(
            run, numbers, lambda: draw_maps(worst, pictures, images, run.classifier().predict_probabilities), say
        )
    return {
        "name": run.info["rung"],
        "number": number,
        "run": run,
        "test": test,
        "validation": run.metrics.get("validation"),
        "confusions": confusions[:CONFUSIONS_LISTED],
        "most": max((count for count, _, _ in confusions), default=1),
        "as_matrix": len(names) <= WIDEST_MATRIX,
        "worst": describe_answers(worst, probabilities, names, pictures, maps),
        "unlike": find_unlike_test(run),
        "strangest": describe_answers(find_strangest(run), probabilities, names, pictures, {}),
        "detailed": test["images"] >= FEW_FOR_DETAIL,
        "reliability": plots.svg_of_reliability(test["calibration"]["bins"], number, run.info["rung"], chance),
    }


def find_strangest(run: Run) -> list[tuple[int, tuple[int, int]]]:
    """The test pictures least like the training pictures: their numbers, and their cells of the confusion matrix."""
    predictions = run.predictions
    if "strangeness" not in predictions or "tested_by" in run.info:
        return []
    numbers = predictions["familiarity_rows"][np.argsort(-predictions["strangeness"], kind="stable")[:WORST]].tolist()
    taken, labels = predictions["probabilities"].argmax(axis=1), predictions["labels"]
    return [(number, (int(labels[number]), int(taken[number]))) for number in numbers]


def choose_pictures(datasets: Sequence[Dataset]) -> Pixels | None:
    """The test images as they are shown: of the sizes that are there, the largest; small photographs from their files.

    At the size of the pretrained rungs, the files are decoded anyway, and kept, for the learning curve.
    """
    if not datasets:
        return None
    largest = max(datasets, key=lambda dataset: dataset.input_shape[0])
    few = largest.account is not None and largest.account.files <= MOST_FILES
    if largest.photographs and few and not largest.by_folds and largest.input_shape[0] < PICTURE_SIDE:
        with contextlib.suppress(ConvladderError):
            return at_size(largest, SIDE).test.images
    return largest.test.images
