"""Export for the web: runs to the page as a folder, through the parity gate as every other format."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convladder.classifier import Classifier
from convladder.errors import ConvladderError
from convladder.parity import PARITY_IMAGES, check_answers
from convladder.runs import Run
from convladder.serving.static import answer_in_node, write_site


def export_web(runs: Mapping[str, Run], folder: Path, runtime: Path | None = None) -> dict[str, dict[str, Any]]:
    """Write the page with runs' models in it, if ONNX Runtime Web, run by Node, answers as Keras did.

    Args:
        runs: By the name that the page shows.
        folder: It must not exist, or be empty.
        runtime: The folder `dist` of an installed onnxruntime-web; by default npm fetches it.

    Returns:
        The gate's account of each run: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: As `write_site` does, or, with exit status 3, the gate refused; then nothing is written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConvladderError(f"{folder} holds something already. Expected a new folder: name one by --output.")
    classifiers = {name: run.classifier() for name, run in runs.items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            site = Path(temporary) / "site"
            write_site(classifiers, site, runtime)
            parities = {name: _check(site, runs[name], classifier) for name, classifier in classifiers.items()}
            if folder.exists():
                folder.rmdir()
            site.rename(folder)
    except OSError as error:
        raise ConvladderError(f"{folder} cannot be written ({error.strerror or error}).", exit_status=1) from error
    return parities


def _check(site: Path, run: Run, classifier: Classifier) -> dict[str, Any]:
    """Compare with what Keras answered, and training kept, for the first test images."""
    images = run.load_dataset().test.images[:PARITY_IMAGES]
    answered = answer_in_node(site, classifier.path, images, len(classifier.class_names))
    return check_answers(answered, run.predictions["probabilities"][:PARITY_IMAGES])
