"""`models`: the ladder."""

import json

from convladder.cli.application import AsJson, Classes, Input, app, parse_size, show
from convladder.engine import import_engine
from convladder.reporting import tables


@app.command()
def models(as_json: AsJson = False, size: Input = "28x28x1", classes: Classes = 10) -> None:
    """List the ladder: what each rung adds, its parameters and multiply-accumulates."""
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
