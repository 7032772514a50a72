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

MOST_IMAGES = 2000  # of the training pictures, and of the held-out ones


def familiarize(model: keras.Model, data: Dataset, answers: Answers | None) -> Familiarity | None:
    """Learn what the pictures are like that a network was trained on.

    Args:
        model: As `assemble` returns it. Its first network counts, on the unchanged picture.
        data: What it was trained on; the validation pictures are held out.
        answers: Of a head that was solved: it comes with the features.
    """
    if answers is not None:
        train, held_out = answers.features
        return learn_familiarity([_some(train)], [_some(held_out)], frozen=True)
    network = next(iter(members(model)), model)
    kinds = [describe(network, _some(images)) for images in (data.train.images, data.validation.images)]
    return learn_familiarity(*kinds, frozen=False)


def _some(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """At most 2,000 rows, by chance."""
    if len(rows) <= MOST_IMAGES:
        return rows
    return rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_IMAGES])]


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
