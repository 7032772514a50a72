"""Export for the web: runs as a page in a folder, after the parity gate of every format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from convladder.errors import ConvladderError
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting.parity import check_parity, parity_images
from convladder.exporting.site import MODELS_FILE, answer_in_node, write_site
from convladder.files import whole_folder
from convladder.runs.run import Run


def export_web(runs: Mapping[str, Run], folder: Path, runtime: Path | None = None) -> dict[str, dict[str, Any]]:
    """Write the page with the models of runs, if ONNX Runtime Web, tested in Node, agrees with Keras.

    Args:
        runs: Finished runs by the names that the page shows. Their data must still be in place.
        folder: The folder to create. An earlier export is replaced.
        runtime: The folder `dist` of an installed onnxruntime-web; by default npm fetches it.

    Returns:
        The gate's result for each run: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: The gate refused, exit status 3; npm or Node is missing or failed, exit status 1; `folder`
            exists and is not an export; a run's data are gone. Nothing is written then.
    """
    with whole_folder(folder, MODELS_FILE) as site:
        write_site({name: run.classifier() for name, run in runs.items()}, site, runtime)
        written = json.loads((site / MODELS_FILE).read_text(encoding="utf-8"))["models"]
        if [model["name"] for model in written] != list(runs):
            raise ConvladderError(f"{site / MODELS_FILE} does not name {', '.join(runs)}.", exit_status=3)
        return {model["name"]: _check(site, model, runs[model["name"]]) for model in written}


def _check(site: Path, model: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Test the exported runtime with the exported model file, as the page will fetch it."""
    images = parity_images(run.load_dataset())
    expected = predict_probabilities(run.load_model(), images)
    return check_parity(
        lambda part: answer_in_node(site, site / unquote(model["file"]), part, len(model["class_names"])),
        images,
        expected,
        f"{run.path.name} in the browser's runtime",
    )
