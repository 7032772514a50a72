"""`audit`: find what is wrong with a folder of images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import AsJson, app, note_embedded, offer_columns, show
from convladder.engine import import_engine
from convladder.errors import ConvladderError
from convladder.reporting import tables


@app.command()
@offer_columns
def audit(
    columns: dict[str, str],
    source: Annotated[str, typer.Argument(metavar="DIR", help="A folder of images, a .csv file, or clothes.")],
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Also examine every image with a pretrained network, without training: likely label errors, crops, "
            "copies in other light, and outliers of a class.",
        ),
    ] = False,
    learning_curve: Annotated[
        bool,
        typer.Option(
            "--learning-curve", help="Measure accuracy with few and all images; estimate it for twice as many."
        ),
    ] = False,
    run: Annotated[Path | None, typer.Option(help="A run trained on these images. Adds likely label errors.")] = None,
    folds: Annotated[
        int,
        typer.Option(min=0, max=100, help="With --run: folds of cross-validation on its training images; 0 skips it."),
    ] = 3,
    html: Annotated[Path | None, typer.Option(help="Also write an HTML page with thumbnails to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if anything is found.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong with a folder of images before you train on it."""
    from convladder.data.audit import audit as audit_pictures

    note_embedded(source)
    result = audit_pictures(source, columns)
    if run:
        import_engine()
        from convladder.runs.run import Run
        from convladder.training.label_errors import find_label_errors

        result = result.with_findings([find_label_errors(source, Run(run), folds=folds, columns=columns)])
    curve = None
    if labels or learning_curve:
        from convladder.data.features import pool_features
        from convladder.data.loading import load_dataset
        from convladder.models.backbone import SIDE

        dataset = load_dataset(source, photograph_size=SIDE, columns=columns, keep_leaks=True)
        if dataset.account is None:  # files of arrays beside folders of images
            raise ConvladderError(f"{source} holds arrays. Expected image files: name their folder.")
        features, known = pool_features(dataset)
        if labels:
            from convladder.training.visual_audit import audit_visually

            result = audit_visually(result, dataset, features, known, labels_judged=run is not None)
        if learning_curve:
            from convladder.training.learning_curve import measure_learning_curve

            curve = measure_learning_curve(dataset, features, known)
            result = replace(result, learning_curve=curve.as_dict())
    if html:
        from convladder.files import whole_file
        from convladder.reporting.audit import render_audit

        section = ""
        if curve:
            from convladder.reporting.learning_curve import render_learning_curve

            section = render_learning_curve(curve)
        page = render_audit(result, section)
        with whole_file(html) as temporary:
            temporary.write_text(page, encoding="utf-8")
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        show(tables.of_audit(result))
        if curve:
            show(tables.of_learning_curve(curve))
    if strict and result.findings:
        raise typer.Exit(3)
