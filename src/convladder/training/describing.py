"""Describing: what run.json says of the data and the machine."""

import hashlib
import json
import platform
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convladder import __version__
from convladder.data.dataset import Dataset
from convladder.processors import count_processors
from convladder.training.hardware import processor_name

COMPUTING = ("scipy", "scikit-learn", "onnxruntime", "pillow")  # besides Keras, TensorFlow and NumPy


def describe_data(data: Dataset) -> dict[str, Any]:
    """What run.json says of the data."""
    return {
        "dataset": data.name,
        "data": None if data.source is None else dict(data.source),
        "fit": data.resize,
        "fingerprint": data.fingerprint,
        "content": data.identity,
        "photographs": data.photographs,
        "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "left_out": len(data.account.left_out) if data.account else 0,
        "leaks_left_out": data.leaks_left_out,
        "class_names": list(data.class_names),
        "input_shape": list(data.input_shape),
    }


def describe_machine() -> dict[str, Any]:
    """What run.json says of what it was trained with and on."""
    return {
        "versions": {
            "convladder": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            **{name: version(name) for name in COMPUTING},
            "python": platform.python_version(),
        },
        "hardware": {"processor": processor_name(), "cores": count_processors()},
    }


def digest_layers(network: keras.Model) -> str:
    """A short hash over the layers of a network and their order. Names, which Keras counts on, do not change it."""
    names: dict[str, str] = {}

    def unnamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unnamed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [unnamed(inner) for inner in value]
        return names.get(value, value) if isinstance(value, str) else value

    def note(value: Any) -> None:
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            note(inner)
        if isinstance(value, dict) and isinstance(name := value.get("name"), str):
            names.setdefault(name, f"layer {len(names)}")

    note(config := json.loads(network.to_json(default=lambda value: type(value).__name__)))
    return hashlib.sha256(json.dumps(unnamed(config), sort_keys=True).encode()).hexdigest()[:12]
