"""`summary`: a rung layer by layer."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from convladder.cli.application import AsJson, Classes, Input, app, offer_choices, parse_size, show
from convladder.engine import import_engine
from convladder.reporting import tables


@app.command()
@offer_choices
def summary(
    rung: Annotated[str, typer.Argument(help="A name that `convladder models` lists.")],
    choices: dict[str, Any],
    size: Input = "28x28x1",
    classes: Classes = 10,
    as_json: AsJson = False,
) -> None:
    """Show a rung layer by layer, with the arithmetic of each output size."""
    import_engine()
    from convladder.models.ladder import build_model
    from convladder.models.summary import summarize

    rows = summarize(build_model(rung, parse_size(size), classes, **choices))
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    if as_json:
        print(json.dumps({"layers": [asdict(row) for row in rows], "parameters": parameters, "macs": macs}, indent=2))
        return
    show(tables.of_layers(rung, rows))
