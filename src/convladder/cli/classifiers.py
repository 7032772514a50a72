"""MODEL, as commands that serve take it: to classifiers by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convladder.errors import ConvladderError
from convladder.markup import printable

if TYPE_CHECKING:
    from convladder.inference.classifier import Classifier


def open_classifiers(models: Sequence[Path], *, any_cost: bool = False) -> "dict[str, Classifier]":
    """The classifiers of run folders and .onnx files, by the folder's or the file's name.

    Raises:
        ConvladderError: A file that cannot be loaded, or two of one name.
    """
    from convladder.inference.classifier import Classifier

    classifiers: dict[str, Classifier] = {}
    for path in models:
        file = path / "model.onnx" if path.is_dir() else path
        name = printable(file.resolve().parent.name if file.name == "model.onnx" else file.stem)
        if name in classifiers:
            raise ConvladderError(f"Two models are named {name}. Expected different names: rename a folder or file.")
        classifiers[name] = Classifier(file, threads=1, any_cost=any_cost)
    return classifiers
