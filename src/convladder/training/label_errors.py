"""Likely label errors: a model that was not trained on a picture is sure that it belongs to another class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convladder.data.audit import LABEL_ERRORS, Finding
from convladder.data.dataset import Dataset, Split, slices
from convladder.data.features import pool_features
from convladder.data.loading import load_dataset
from convladder.errors import ConvladderError, check_range
from convladder.evaluating.mislabelling import MOST_CONTRADICTED
from convladder.inference.classifier import Classifier
from convladder.runs.run import Run
from convladder.training import visual_audit

TIMES_AS_LIKELY = 3.0  # how much more probable than the label another class must be
SURE_OF_ERROR = 0.7  # probability that the other class must have, because 0.03 is also three times 0.01


def find_label_errors(
    source: str | Path, run: Run, *, folds: int = 3, columns: Mapping[str, str] | None = None
) -> Finding:
    """Judge every picture with a model that was not trained on it, because a model is sure of its training pictures.

    The run's own model judges the pictures that it held out. Other models judge the rest, each trained in the same way
    on all folds but one (Northcutt et al. 2021, arXiv:1911.00068; ranked by cleanlab). We use the filter of cleanlab
    that takes every picture for which another class is more probable. Its default filter wants more confidence than a
    class has on average, and missed two or three of five planted errors.

    For a pretrained rung, heads on cached features judge every picture, each with a head that was not fitted to it,
    because the run's head may be fitted to the validation pictures too. No fold is trained.

    Args:
        source: The folder or CSV file that the run was trained on.
        run: A finished run.
        folds: Number of trainings for the run's training pictures, at least 2; 0 leaves these out.
        columns: Columns of a .csv file, as `load_dataset` takes them.

    Returns:
        A group for each picture, the most likely error first: its path, and its label and the other class, which is
        at least three times as probable and has a probability of at least 0.7. No groups if the models contradict
        more than three in ten labels.

    Raises:
        ConvladderError: The run was trained on other data, so it may have been trained on any of these.
    """
    from convladder.models.backbone import PRETRAINED

    if folds:
        check_range("folds", folds, 2, 100)
    classifier: Classifier = run.classifier()
    height, _, channels = classifier.input_shape
    # Load the data like the run's: with its validation share, its seed and its other settings.
    settings = {key: value for key, value in (run.info.get("data") or {}).items() if key != "source"}
    settings |= {"image_size": height, "channels": channels, "fit": classifier.resize}
    settings |= {"columns": columns} if columns else {}
    data = run.arrange(load_dataset(source, **settings))
    if data.fingerprint != run.info["fingerprint"] or data.account is None:
        raise ConvladderError(
            f"{run.path} was not trained on the data in {source}. Expected a run of the same pictures: train one."
        )
    if run.info["rung"] in PRETRAINED and not run.info.get("own_network"):
        return visual_audit.judge_labels(data, *pool_features(data))
    if folds and run.info.get("own_network"):
        raise ConvladderError(
            f"{run.path} is a run of your own network, which cannot be built anew. Expected --folds 0, which "
            "judges only what it held out, or a run of a rung."
        )
    from cleanlab.filter import find_label_issues

    judged = [data.train] * bool(folds) + [part for part in (data.validation, data.test) if len(part)]
    probabilities = [predict_out_of_fold(data, run, folds)] if folds else []
    probabilities += [
        classifier.predict_probabilities(images) for part in judged[bool(folds) :] for images in slices(part.images)
    ]
    labels, likelihoods = np.concatenate([part.labels for part in judged]), np.concatenate(probabilities)
    if (likelihoods.argmax(axis=1) != labels).mean() > MOST_CONTRADICTED:
        return Finding(LABEL_ERRORS, [])
    names = data.account.paths[-len(labels) :]
    ranked = find_label_issues(
        labels,
        likelihoods,
        filter_by="predicted_neq_given",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return Finding(LABEL_ERRORS, list(_say(ranked, names, labels, likelihoods, data.class_names)))


def predict_out_of_fold(data: Dataset, run: Run, folds: int) -> npt.NDArray[np.float32]:
    """Probabilities of the training pictures, shape (count, num_classes), each from a model trained without it."""
    import keras
    from sklearn.model_selection import StratifiedKFold

    from convladder.evaluating.metrics import predict_probabilities
    from convladder.models.ladder import build_model
    from convladder.training.fitting import fit
    from convladder.training.recipes import Recipe, resolve_precision

    recipe = replace(Recipe(**run.info["recipe"]), validate=False, until=None)
    probabilities = np.empty((len(data.train), data.num_classes), np.float32)
    by_class = StratifiedKFold(folds, shuffle=True, random_state=0)
    for number, (rest, fold) in enumerate(by_class.split(data.train.labels, data.train.labels)):
        keras.backend.clear_session()
        keras.utils.set_random_seed(number)
        model = build_model(
            run.info["rung"], data.input_shape, data.num_classes, rescale=recipe.rescale, **run.info["choices"]
        )
        train, none = (Split(data.train.images[rows], data.train.labels[rows]) for rows in (rest, slice(0)))
        part = replace(data, train=train, validation=none)
        fitted = fit(model, part, recipe, seed=number, precision=resolve_precision(recipe)[0])
        model.set_weights(fitted.weights)
        probabilities[fold] = predict_probabilities(model, data.train.images[fold])
    return probabilities


def _say(
    ranked: Sequence[int],
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    class_names: Sequence[str],
) -> Iterator[list[str]]:
    """For each row: its path, its label and the class that it looks like."""
    for row in ranked:
        looks_like = int(probabilities[row].argmax())
        if probabilities[row, looks_like] >= max(SURE_OF_ERROR, TIMES_AS_LIKELY * probabilities[row, labels[row]]):
            yield [
                names[row],
                f"labelled {class_names[labels[row]]}, looks like {class_names[looks_like]} "
                f"({probabilities[row, looks_like]:.2f})",
            ]
