"""`explain`: show what a run looks at."""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from convladder.cli.application import AnyCost, AsJson, app, remark
from convladder.data.sources import expand
from convladder.errors import ConvladderError
from convladder.markup import printable

RANDOM_NETWORKS = 3  # by chance, one alone may look where the trained one does


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or an .onnx file (occlusion only).")],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Images, folders, or patterns like '*.png'; - reads paths."),
    ],
    layer: Annotated[str | None, typer.Option(help="Also show the feature maps of this layer.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for PNG files, one per map. Default: explained, or none with --figure."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Write everything as one figure, .png or .svg.")] = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Compare each map with the maps of networks with randomized weights.")
    ] = False,
    any_cost: AnyCost = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run looks at: first filters, Grad-CAM, occlusion, and a layer's feature maps."""
    from convladder.inference.classifier import Classifier

    if figure and figure.suffix not in (".png", ".svg"):
        raise ConvladderError(
            f"--figure {figure} is not a supported image file. Expected a name that ends in .png or .svg."
        )
    within = (model / "model.keras").exists()
    if not within and (layer or sanity):
        raise ConvladderError(f"{model} holds no Keras network. Expected a run folder for --layer or --sanity.")
    classifier = Classifier(model, any_cost=any_cost)
    network, random, filters = _load_networks(model, sanity) if within else (None, [], None)
    from convladder.evaluating.explaining import explain as explain_picture

    seen, failed = [], False
    # A None means that the next path may take long. That does not matter here, where each is answered at once.
    for source in map(Path, filter(None, chain.from_iterable(expand(source, remark) for source in sources))):
        try:
            image = classifier.decode(source)
        except ConvladderError as error:
            failed = True
            if as_json:
                print(json.dumps({"source": str(source), "error": str(error)}))
            else:
                remark(f"Error: {error}")
            continue
        one = explain_picture(classifier.predict_probabilities, image, network, layer=layer, random_models=random)
        seen.append((source, one))
        for name, reason in one.flat.items():
            remark(f"{source}: {name} shows nothing, because {reason}.")
    titles = [f"{source.name}: {classifier.class_names[one.label]}, {one.probability:.1%}" for source, one in seen]
    if network is not None and seen and "grad-cam" not in seen[0][1].maps:
        remark(f"{model} has no convolution, so there is no Grad-CAM; occlusion works for any network.")
    written = _write_figures(seen, titles, filters, folder or (None if figure else Path("explained")), figure)
    for (source, one), title, files in zip(seen, titles, written, strict=True):
        if as_json:
            described = {"label": classifier.class_names[one.label], "probability": one.probability}
            print(
                json.dumps(
                    {"source": str(source)} | described | {"sanity": one.sanity, "flat": one.flat, "files": files}
                )
            )
            continue
        print("\t".join(map(printable, [title, ", ".join(files)])))
        for method, correlation in one.sanity.items():
            print(f"  {method}: rank correlation with randomized weights {correlation:.2f}")
    if failed:
        raise typer.Exit(2)


def _load_networks(run: Path, sanity: bool) -> tuple[Any, Any, Any]:
    """A run's network, networks with randomized weights for `sanity`, and the first filters, if any."""
    from convladder.engine import import_engine
    from convladder.runs.run import Run

    import_engine()
    from convladder.evaluating.explaining import first_filters, randomize

    network = Run(run).load_model()
    try:
        filters = first_filters(network)
    except ConvladderError:
        filters = None
    return network, [randomize(network, seed) for seed in range(RANDOM_NETWORKS if sanity else 0)], filters


def _names(stems: Sequence[str]) -> list[str]:
    """Names that differ even without regard to case, as some file systems need; repeated names get a number."""
    folded, names = [stem.casefold() for stem in stems], []
    taken: set[str] = set()
    for place, stem in enumerate(stems, start=1):
        name = stem if folded.count(stem.casefold()) == 1 else f"{stem}-{place}"
        while name.casefold() in taken or (name != stem and name.casefold() in folded):
            name += "-"
        taken.add(name.casefold())
        names.append(name)
    return names


def _write_figures(
    seen: list[tuple[Path, Any]], titles: list[str], filters: Any, folder: Path | None, figure: Path | None
) -> list[list[str]]:
    """Write the figures; return, for each source, the files that show it."""
    from convladder.files import create_folder, whole_file
    from convladder.reporting import plots

    written: list[list[str]] = [[] for _ in seen]
    if not seen:
        return written
    if folder:
        create_folder(folder)
        if filters is not None:
            with whole_file(folder / "filters.png") as temporary:
                plots.plot_filters(filters, temporary)
        names = _names([source.stem for source, _ in seen])
        for number, (name, (_, one)) in enumerate(zip(names, seen, strict=True)):
            for method in one.maps:
                with whole_file(folder / f"{name}-{method}.png") as temporary:
                    plots.plot_map(one, method, temporary)
                written[number].append(str(folder / f"{name}-{method}.png"))
            for layer, maps in one.feature_maps.items():
                with whole_file(folder / f"{name}-{layer}.png") as temporary:
                    plots.plot_feature_maps(maps, temporary)
                written[number].append(str(folder / f"{name}-{layer}.png"))
    if figure:
        with whole_file(figure) as temporary:
            plots.plot_explanations(list(zip(titles, (one for _, one in seen), strict=True)), filters, temporary)
        written = [[*files, str(figure)] for files in written]
    return written
