"""Evaluation of a run: on what it held out, from what it stored, or on other images of the same classes."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.data.csv_tables import is_table
from convladder.data.dataset import Dataset, Split, digest_images, join, slices
from convladder.data.idx import find_idx_files
from convladder.data.loading import load_dataset, locate
from convladder.errors import ConvladderError, check_choice
from convladder.evaluating.familiarity import FEWEST, count_unlike
from convladder.evaluating.learned import beside_constant
from convladder.evaluating.metrics import describe_predictions, without
from convladder.evaluating.robustness import measure_robustness
from convladder.files import write_json
from convladder.inference.classifier import UNLIKE, Answers, join_answers
from convladder.runs.run import FAMILIARITY_FILE, Run

SPLITS_OR_ALL = ("test", "validation", "all")


def evaluate(
    run: Run | str | Path,
    split: str | None = None,
    data: str | Path | Dataset | None = None,
    *,
    robustness: bool = False,
) -> dict[str, Any]:
    """How good a run is: from the predictions that it stored, or by its shipped model on other images.

    Args:
        run: A finished run, or its folder.
        split: "test" or "validation"; of other images also "all", the default for them. Validation images chose the
            epoch, so they flatter.
        data: Other images whose classes are among the run's, by name: what `load_dataset` takes, or a Dataset.
        robustness: Whether to measure accuracy on 1,000 of the images, shifted, turned, noisy, blurred and pale. What
            is measured on the run's own test images is kept in its metrics.json.

    Returns:
        What `describe_predictions` gives, with `run`, `rung`, `data`, `split`, `temperature`, `test_accuracy`,
        `validation_accuracy`, `fit_seconds`, `tested_by` where that was cross-validation, and `robustness`, as
        `measure_robustness` gives it, where it is known; `beats_constant`, whether it is right more often than always
        the same answer would be, none where that cannot be told, and `no_better`, that in words where it is not.
        Where images are copies of others that the run learned from, `without_leaks` gives the accuracy without them;
        `leaks_left_out` how many pictures it did not learn from, because they were copies of its own.
        `unlike_training` tells how many are unlike the pictures that it was trained on, as `count_unlike` does; it is
        None where that is not known, and `unlike_training_reason` says why.

    Raises:
        ConvladderError: Other classes, images of another shape, no such split, or data that have changed.
    """
    run = run if isinstance(run, Run) else Run(run)
    chosen = split or ("test" if data is None else "all")
    _check(run, chosen, data, robustness)

    @functools.cache
    def images() -> Split:
        """Loaded only where they are needed."""
        return getattr(run.load_dataset(), chosen) if data is None else _of_other_data(run, data, chosen)

    answers: Answers | None = None
    stored = _stored(run, chosen) if data is None else None
    if stored is None:
        answers = _answer(run, images())
        stored = answers.probabilities, images().labels
    probabilities, labels = stored
    threshold = float(run.info.get("threshold", 0))
    result: dict[str, Any] = {
        "run": str(run.path),
        "rung": run.info["rung"],
        "data": run.info["dataset"] if data is None else data.name if isinstance(data, Dataset) else str(data),
        "split": chosen,
        **describe_predictions(probabilities, labels, run.info["class_names"], threshold),
        "temperature": float(run.info.get("temperature", 1)),
        **{key: run.info[key] for key in ("temperature_reason", "threshold_reason") if key in run.info},
        **{key: run.info.get(key) for key in ("test_accuracy", "validation_accuracy", "fit_seconds")},
    }
    beside, own_test = beside_constant(result), data is None and chosen == "test"
    words = run.no_better if own_test else beside.words(run.info["class_names"], own=data is None)
    result |= {"beats_constant": beside.beats, "no_better": words}
    if data is None:
        result |= _stored_facts(run, own_test)
    else:
        result |= without(_learned_rows(run, images().images), probabilities, labels)
    unlike = _find_unlike(run, chosen, answers, labels)
    if isinstance(unlike, str):
        result |= {"unlike_training": None, "unlike_training_reason": unlike}
    else:
        result["unlike_training"] = unlike
    if robustness:
        result["robustness"] = measure_robustness(run.classifier().predict_probabilities, *images())
        if own_test:
            keep_robustness(run, result["robustness"])
    elif own_test and "robustness" in run.metrics:
        result["robustness"] = run.metrics["robustness"]
    return result


def _check(run: Run, split: str, data: str | Path | Dataset | None, robustness: bool) -> None:
    """Refuse what cannot be evaluated, or not so."""
    check_choice("split", split, SPLITS_OR_ALL)
    if data is None and robustness and "tested_by" in run.info:
        raise ConvladderError(
            f"{run.path} was trained on all of its pictures, so that changed ones would flatter it. Expected "
            "--robustness with other --data."
        )
    if data is None and split == "all":
        raise ConvladderError("A run has seen most of its own images. Expected test or validation, or other --data.")
    if run.info.get("status") != "finished":
        raise ConvladderError(f"{run.path} is {run.info.get('status')}. Expected a run that is finished.")
    if data is None and not run.info["images"][split]:
        raise ConvladderError(f"{run.path} held out no {split} images. Expected --split test.")


def _answer(run: Run, images: Split) -> Answers:
    """Answers by the shipped model."""
    classifier = run.classifier()
    return join_answers([classifier.answer(part) for part in slices(images.images)])


def find_unlike_test(run: Run) -> dict[str, Any] | str:
    """How many of a run's own test pictures are unlike its training pictures, or why that is not known."""
    if "tested_by" in run.info:
        return "it was trained on all of its images, so that none is left to judge by"
    if "familiarity" not in run.predictions:
        return _why_unknown(run)
    predictions = run.predictions
    rows = predictions["familiarity_rows"]
    right = predictions["probabilities"][rows].argmax(axis=1) == predictions["labels"][rows]
    return count_unlike(predictions["familiarity"], right, UNLIKE)


def _why_unknown(run: Run) -> str:
    if run.info["images"]["train"] < FEWEST and not (run.path / FAMILIARITY_FILE).exists():
        return f"fewer than {FEWEST} training images are too few to learn what is like them"
    return "it was trained by an earlier version. Train it again to know"


def _find_unlike(run: Run, split: str, answers: Answers | None, labels: npt.NDArray[np.int64]) -> dict[str, Any] | str:
    """As `find_unlike_test`, of the answers if there are any."""
    if answers is not None and answers.familiarity is not None:
        return count_unlike(answers.familiarity, answers.probabilities.argmax(axis=1) == labels, UNLIKE)
    if answers is not None:
        return _why_unknown(run)
    if split == "validation":
        return "validation images set the bound, which 1 in 100 of them is beyond"
    return find_unlike_test(run)


def _stored_facts(run: Run, own_test: bool) -> dict[str, Any]:
    """What the run knows of its own images: copies among them, and how it was tested."""
    facts: dict[str, Any] = {}
    if own_test and "without_leaks" in run.metrics["test"]:
        facts["without_leaks"] = run.metrics["test"]["without_leaks"]
    elif run.info.get("leaks_left_out"):
        facts["leaks_left_out"] = run.info["leaks_left_out"]
    if own_test and "tested_by" in run.info:
        facts["tested_by"] = run.info["tested_by"]
    return facts


def _learned_rows(run: Run, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The rows of images that are copies of what the run learned from; one colour is no picture."""
    rows = np.flatnonzero(np.isin(digest_images(images), run.learned))
    return np.array([row for row in rows if np.ptp(images[row])], np.int64)


def load_like(run: Run, source: str | Path, columns: Mapping[str, str] | None = None) -> Dataset:
    """Load other images as the run's own were, so that the pixels are alike; arrays are taken as they are.

    Args:
        run: A finished run.
        source: As `load_dataset` takes it.
        columns: The same.

    Raises:
        ConvladderError: As `load_dataset` does.
    """
    height, _, channels = run.info["input_shape"]
    path = locate(source)
    like: dict[str, Any] = {"columns": columns, "keep_leaks": True}  # nothing is learned from these
    if is_table(path) or (path.is_dir() and not find_idx_files(path)):
        like["cache"] = (run.info.get("data") or {}).get("cache", True)
        like |= {"image_size": height, "channels": channels, "resize": run.classifier().resize}
    return load_dataset(source, **like)


def _stored(run: Run, split: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None:
    prefix = "validation_" if split == "validation" else ""
    stored = run.predictions
    if f"{prefix}labels" not in stored:
        return None
    return stored[f"{prefix}probabilities"], stored[f"{prefix}labels"]


def _of_other_data(run: Run, data: str | Path | Dataset, split: str) -> Split:
    """The images of one split, or of all, their labels in the order of the run's classes."""
    height, width, channels = run.info["input_shape"]
    if not isinstance(data, Dataset):
        data = load_like(run, data)
    if data.input_shape != (height, width, channels):
        raise ConvladderError(
            f"{data.name} has images of {'×'.join(map(str, data.input_shape))}. Expected {height}×{width}×{channels}, "
            f"as {run.path} takes them."
        )
    names = {name: label for label, name in enumerate(run.info["class_names"])}
    unknown = [name for name in data.class_names if name not in names]
    if unknown:
        raise ConvladderError(
            f"{data.name} has classes that {run.path} does not know: {', '.join(unknown[:5])}. Expected some of: "
            f"{', '.join(list(names)[:20])}."
        )
    if split == "all":
        images = join(join(data.train.images, data.validation.images), data.test.images)
        labels = np.concatenate([data.train.labels, data.validation.labels, data.test.labels])
    else:
        images, labels = getattr(data, split)
    if not len(labels):
        raise ConvladderError(f"{data.name} has no {split} images. Expected another split.")
    label_of = np.array([names[name] for name in data.class_names], np.int64)
    return Split(images, label_of[labels])


def keep_robustness(run: Run, robustness: dict[str, Any]) -> None:
    """Add what `measure_robustness` gave for the test images to a run's metrics.json."""
    write_json(run.path / "metrics.json", {**Run(run.path).metrics, "robustness": robustness})
    run.__dict__.pop("metrics", None)  # read again when asked for
