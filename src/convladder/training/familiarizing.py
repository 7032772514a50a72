"""Familiarizing: the features of training and held-out pictures, from which a run learns what is strange to it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset, slices
from convladder.data.features import open_graph
from convladder.evaluating.familiarity import Familiarity, Features, learn_familiarity
from convladder.exporting.familiarity import LAST, average_places
from convladder.exporting.onnx_file import find_stages
from convladder.exporting.pretrained import IMAGE, convert_pretrained
from convladder.models.backbone import PRETRAINED
from convladder.models.blocks import members
from convladder.training.assembling import Answers

MOST_IMAGES = 2000  # of the training pictures, of the held-out ones, and of the test pictures


def familiarize(model: keras.Model, data: Dataset, answers: Answers | None) -> Familiarity | None:
    """Learn what the pictures are like that a network was trained on.

    Args:
        model: As `assemble` returns it. Its first network counts, on the unchanged picture.
        data: What it was trained on; the validation pictures are held out.
        answers: Of a head that was solved: it comes with the features.
    """
    if answers is not None:
        train, held_out, _ = answers.features
        return learn_familiarity([_some(train)], [_some(held_out)], frozen=True)
    network = _first(model)
    kinds = [describe(network, _some(images)) for images in (data.train.images, data.validation.images)]
    return learn_familiarity(*kinds, frozen=False)


def measure_test(
    model: keras.Model, data: Dataset, answers: Answers | None, familiarity: Familiarity | None
) -> dict[str, npt.NDArray[Any]]:
    """How strange some test pictures are, as predictions.npz keeps it.

    Nothing where it is not known, or where the network was fitted to the test pictures too.
    """
    if familiarity is None or (answers is not None and answers.by_folds is not None):
        return {}
    kinds = describe(_first(model), _some(data.test.images)) if answers is None else [_some(answers.features[2])]
    squares = familiarity.squares(kinds)
    return {
        "familiarity_rows": _rows(len(data.test)),
        "familiarity": familiarity.share(squares),
        "strangeness": np.sqrt(np.maximum(squares, 0)),
    }


def _first(model: keras.Model) -> keras.Model:
    return next(iter(members(model)), model)


def _rows(count: int) -> npt.NDArray[np.int64]:
    """At most 2,000 of so many rows, by chance."""
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST_IMAGES])


def _some(pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return pictures if len(pictures) <= MOST_IMAGES else pictures[_rows(len(pictures))]


def describe(network: keras.Model, images: npt.NDArray[np.uint8]) -> Sequence[Features]:
    """What the last layer reads, and the means of the first stage unless the network is pretrained."""
    graph = convert_pretrained(network, [LAST])
    if graph is not None:
        session = open_graph(graph.SerializeToString())
        return [np.concatenate([session.run([LAST], {IMAGE: part.astype(np.float32)})[0] for part in slices(images)])]
    stages = find_stages(network, last=True)
    kinds = list(stages.values())[: 1 if network.name in PRETRAINED else 2]
    seer = keras.Model(network.inputs[0], [average_places(kind) for kind in kinds])
    none = [np.zeros((0, kind.shape[-1]), np.float32) for kind in kinds]
    parts = [keras.tree.flatten(seer.predict_on_batch(part)) for part in slices(images)]  # of one it returns no list
    return [np.concatenate(part) for part in zip(none, *parts, strict=True)]
