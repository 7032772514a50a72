"""Likely label errors: pictures that a trained model, which has not seen them, is sure belong to another class."""

from pathlib import Path

import numpy as np

from convladder.classifier import Classifier
from convladder.data import load_dataset
from convladder.data.audit import Finding
from convladder.data.dataset import slices
from convladder.errors import ConvladderError
from convladder.runs import Run


def find_label_errors(source: str | Path, run: Run) -> Finding:
    """Confident learning on the pictures that a run held out (Northcutt et al. 2021, arXiv:1911.00068), by cleanlab.

    A model is sure of what it was trained on, wrong labels included, so only the validation and test pictures are
    judged. To judge the others, train again with another split. It does not name every wrong
    label: of five planted in the tests it named two or three.

    Args:
        source: The folder or CSV file that the run was trained on.
        run: A finished run.

    Returns:
        A group for each picture, the likeliest error first: its path, and what it is labelled and looks like.

    Raises:
        ConvladderError: The run was trained on other data, so it may have seen any of these.
    """
    from cleanlab.filter import find_label_issues

    classifier: Classifier = run.classifier()
    height, _, channels = classifier.input_shape
    data = load_dataset(source, image_size=height, channels=channels, fit=classifier.fit)
    if not run.info["images"]["validation"]:
        data = data.without_validation()
    if data.fingerprint != run.info["fingerprint"] or data.account is None:
        raise ConvladderError(
            f"{run.path} was trained on other data than {source} holds. Expected a run of the same pictures: train one."
        )
    parts = [part for part in (data.validation, data.test) if len(part)]
    labels = np.concatenate([part.labels for part in parts])
    probabilities = np.concatenate(
        [classifier.predict_probabilities(images) for part in parts for images in slices(part.images)]
    )
    likely = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    names = data.account.paths[len(data.train) :]
    looks_like = probabilities.argmax(axis=1)
    return Finding(
        "likely label errors",
        [
            [
                names[row],
                f"labelled {data.class_names[labels[row]]}, looks like {data.class_names[looks_like[row]]} "
                f"({probabilities[row].max():.2f})",
            ]
            for row in likely
        ],
    )
