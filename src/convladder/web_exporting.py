"""Export for the web: runs as a page in a folder, through the parity gate as every other format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convladder.evaluating import predict_probabilities
from convladder.exporting import check_parity, parity_images
from convladder.runs import Run, whole_folder
from convladder.serving.static import MODELS_FILE, answer_in_node, write_site


def export_web(runs: Mapping[str, Run], folder: Path, runtime: Path | None = None) -> dict[str, dict[str, Any]]:
    """Write the page with runs' models in it, if ONNX Runtime Web, run by Node, answers as Keras does.

    Args:
        runs: By the name that the page shows; finished runs, whose data are still where they were.
        folder: It is made, or replaced where it is a former export.
        runtime: The folder `dist` of an installed onnxruntime-web; by default npm fetches it.

    Returns:
        The gate's account of each run: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: The gate refused, exit status 3; npm or Node is missing or failed, exit status 1; something
            else stands at `folder`; a run's data is gone. Nothing is written then.
    """
    with whole_folder(folder, MODELS_FILE) as site:
        write_site({name: run.classifier() for name, run in runs.items()}, site, runtime)
        return {name: _check(site, run) for name, run in runs.items()}


def _check(site: Path, run: Run) -> dict[str, Any]:
    images = parity_images(run.load_dataset())
    expected = predict_probabilities(run.load_model(), images)
    classifier = run.classifier()
    return check_parity(
        lambda part: answer_in_node(site, classifier.path, part, len(classifier.class_names)),
        images,
        expected,
        f"{run.path.name} in the browser's runtime",
    )
