"""`audit`: what is wrong with a folder of pictures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from convladder import tables
from convladder.cli.application import AsJson, app, note_embedded, show
from convladder.engine import import_engine


@app.command()
def audit(
    source: Annotated[str, typer.Argument(metavar="DIR", help="A folder of pictures, a .csv file, or clothes.")],
    run: Annotated[Path | None, typer.Option(help="A run of these pictures: adds likely label errors.")] = None,
    folds: Annotated[
        int,
        typer.Option(
            min=0, max=100, help="With --run: trainings that judge what it was trained on; 0 leaves that out."
        ),
    ] = 3,
    html: Annotated[Path | None, typer.Option(help="Also write a page with thumbnails there.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 where anything was found.")] = False,
    as_json: AsJson = False,
) -> None:
    """What is wrong with a folder of pictures, before anything is trained on it."""
    from convladder.data.audit import audit as audit_pictures

    note_embedded(source)
    result = audit_pictures(source)
    if run:
        import_engine()
        from convladder.label_errors import find_label_errors
        from convladder.runs import Run

        likely = find_label_errors(source, Run(run), folds=folds)
        result = replace(result, findings=[*result.findings, *([likely] if likely.groups else [])])
    if html:
        from convladder.data.audit_report import render_audit
        from convladder.runs import whole_file

        page = render_audit(result)
        with whole_file(html) as temporary:
            temporary.write_text(page, encoding="utf-8")
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        show(tables.of_audit(result))
    if strict and result.findings:
        raise typer.Exit(3)
