"""`evaluate`: measure how good a run is."""

import json
from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import AsJson, app, note_embedded, offer_columns, remark, show
from convladder.reporting import tables


@app.command()
@offer_columns
def evaluate(
    columns: dict[str, str],
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    split: Annotated[
        str | None, typer.Option(help="Split: test or validation. With --data also all, its default.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Other images of the same classes: a folder, or anything else that train takes.")
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also test on shifted, rotated, blurred, faded and noisy images.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a run: accuracy by class, calibration, confusions and robustness."""
    from convladder.runs.evaluating import evaluate as evaluate_run
    from convladder.runs.evaluating import load_like
    from convladder.runs.run import Run

    finished = Run(run)
    note_embedded(data)
    remark.hold()
    other = load_like(finished, data, columns) if data is not None else None
    for line in other.lines() if other else ():
        remark(line)
    result = evaluate_run(finished, split, other, robustness=robustness)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    show(tables.of_evaluation(result))
