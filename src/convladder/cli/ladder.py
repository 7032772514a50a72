"""`models` and `summary`: the ladder, and a rung layer by layer."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from convladder.reporting import tables
from convladder.cli.application import AsJson, Classes, Input, app, offer_choices, show
from convladder.engine import import_engine
from convladder.errors import ConvladderError


@app.command()
def models(as_json: AsJson = False, size: Input = "28x28x1", classes: Classes = 10) -> None:
    """The ladder: what each rung adds, its parameters and multiply-accumulates."""
    import_engine()
    from convladder.models.summary import count_macs
    from convladder.models.ladder import MODELS, build_model, rung_idea
    from convladder.training.recipes import TUNED

    rows = []
    for name in MODELS:
        model = build_model(name, parse_size(size), classes)
        rows.append(
            {
                "name": name,
                "idea": rung_idea(name),
                "parameters": model.count_params(),
                "macs": count_macs(model),
                "tuned": name in TUNED,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    show(tables.of_models(rows))


@app.command()
@offer_choices
def summary(
    rung: Annotated[str, typer.Argument(help="A name that `convladder models` lists.")],
    choices: dict[str, Any],
    size: Input = "28x28x1",
    classes: Classes = 10,
    as_json: AsJson = False,
) -> None:
    """A rung layer by layer, with the arithmetic of each output size."""
    import_engine()
    from convladder.models.summary import summarize
    from convladder.models.ladder import build_model

    rows = summarize(build_model(rung, parse_size(size), classes, **choices))
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    if as_json:
        print(json.dumps({"layers": [asdict(row) for row in rows], "parameters": parameters, "macs": macs}, indent=2))
        return
    show(tables.of_layers(rung, rows))


def parse_size(text: str) -> tuple[int, int, int]:
    """Read 28x28x1."""
    try:
        height, width, channels = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConvladderError(f"--input {text} is no size. Expected HEIGHTxWIDTHxCHANNELS, as 28x28x1.") from error
    return height, width, channels
