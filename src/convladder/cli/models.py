"""`models`: the ladder."""

import json

from convladder.cli.application import AsJson, Classes, Input, app, show
from convladder.engine import import_engine
from convladder.errors import ConvladderError
from convladder.reporting import tables


@app.command()
def models(as_json: AsJson = False, size: Input = "28x28x1", classes: Classes = 10) -> None:
    """The ladder: what each rung adds, its parameters and multiply-accumulates."""
    import_engine()
    from convladder.models.ladder import MODELS, build_model, rung_idea
    from convladder.models.summary import count_macs
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


def parse_size(text: str) -> tuple[int, int, int]:
    """Read 28x28x1."""
    try:
        height, width, channels = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConvladderError(f"--input {text} is no size. Expected HEIGHTxWIDTHxCHANNELS, as 28x28x1.") from error
    return height, width, channels
