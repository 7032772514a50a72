"""Builds the report: from stored runs to the template's content and to one file."""

import base64
import contextlib
import hashlib
import html
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from convladder import __version__
from convladder.comparing.comparison import FILE, Comparison
from convladder.comparing.settings import describe_difference
from convladder.data.dataset import Dataset
from convladder.errors import ConvladderError
from convladder.evaluating.few import FEW, caution, points_digits, rounded
from convladder.evaluating.learned import share_of_commonest
from convladder.evaluating.robustness import measure_robustness
from convladder.files import whole_file
from convladder.markup import printable, shown
from convladder.reporting import plots
from convladder.reporting.curves import svg_of_all_learning, svg_of_learning
from convladder.reporting.descriptions import describe_gain, describe_network
from convladder.reporting.inside import choose_pictures, look_inside
from convladder.reporting.kept import MOST_FILES, keep_audit, keep_learning_curve
from convladder.reporting.learning_curve import render_learning_curve
from convladder.reporting.pictures import is_small
from convladder.reporting.repeating import command_for, facts_of, recipe_in_words
from convladder.reporting.svg import error_of, is_logarithmic
from convladder.reporting.tables import cells_of_comparison
from convladder.runs.evaluating import keep_robustness
from convladder.runs.film import describe_film
from convladder.runs.run import Run, finished_runs

MOMENTS_SHOWN = 20  # of a film, so that the report of the whole ladder stays small
Say = Callable[[str], None]


def collect_runs(sources: Sequence[str | Path]) -> Comparison:
    """The runs in folders, each a run or a directory of runs.

    A directory that compare wrote gives the runs of its last comparison; any other gives all finished runs.

    Raises:
        ConvladderError: There is no finished run, or the runs were tested on different images.
    """
    runs: list[Run] = []
    not_run: tuple[Mapping[str, Any], ...] = ()
    for source in map(Path, sources):
        if (source / "run.json").exists():
            runs.append(Run(source))
        elif (source / FILE).exists():
            comparison = Comparison.load(source)
            runs += comparison.runs
            not_run += comparison.not_run
        else:
            found = sorted(finished_runs(source), key=lambda run: run.info["started"])
            if not found:
                raise ConvladderError(f"{source} holds no finished run. Expected a run folder, or a folder of them.")
            runs += found
    return Comparison(tuple({run.path.resolve(): run for run in runs}.values()), not_run)


def write_report(
    runs: Comparison | str | Path | Run | Sequence[str | Path | Run],
    path: str | Path = "report.html",
    *,
    say: Say = lambda _: None,
) -> Path:
    """Write a report of runs: one HTML file for a reader with five minutes. It needs no other file and no network.

    Robustness that is not known yet is measured on one run of each rung and stored there. If the test images are gone
    or have changed, the report has no pictures.

    Args:
        runs: A comparison; or one or more runs of one data set, their folders, or the directory that holds them.
        path: The HTML file to write.
        say: Takes a line for the user.

    Returns:
        The path.

    Raises:
        ConvladderError: There is no finished run, the runs have different images, or the file cannot be written.
    """
    if not isinstance(runs, Comparison):
        runs = [runs] if isinstance(runs, str | Path | Run) else runs
        runs = collect_runs([run.path if isinstance(run, Run) else run for run in runs])
    for run in runs.runs:
        if run.info.get("status") != "finished":
            raise ConvladderError(f"{run.path} is {run.info.get('status')}. Expected a finished run.")
    page = render_report(runs, say)
    path = Path(path)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render_report(comparison: Comparison, say: Say = lambda _: None) -> str:
    """The page as HTML. Names are escaped."""
    from jinja2 import Environment, FileSystemLoader

    folder = Path(__file__).parent
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
        loader=FileSystemLoader(folder),
        auto_reload=False,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {"percent": percent, "words": words, "sensible": sensible, "rounded": rounded}
    film = files("convladder.serving") / "web" / "film"
    script, player, style = (
        "".join(part.read_text(encoding="utf-8") for part in parts)
        for parts in (
            [folder / "script.js"],
            [film / "player.js", folder / "films.js"],
            [folder / "style.css", film / "player.css"],
        )
    )
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, player)]
    page = environment.get_template("template.html")
    content = _content(comparison, say)
    return page.render(content, script=script, player=player, style=style, digests=digests, version=__version__)


def _content(comparison: Comparison, say: Say) -> dict[str, Any]:
    """Everything that the template shows."""
    recommended, names = comparison.recommendation, [row["name"] for row in comparison.rows]
    first = comparison.runs[0]
    images = len(first.answers[1])
    typical = [_typical(group) for group in comparison.groups.values()]
    datasets, without_pictures = _load(typical)
    chosen = names.index(recommended["take"] or recommended["best"])
    dataset = datasets[chosen]
    found = [_robustness(run, data, say) for run, data in zip(typical, datasets, strict=True)]
    robustness = {number: measured for number, measured in enumerate(found) if measured is not None}
    pictures, chance = (
        choose_pictures([data for data in datasets if data is not None]),
        share_of_commonest(first.answers[1]),
    )
    views, gallery = look_inside(typical, chosen, datasets, pictures, chance, say)
    curves, measured, measured_chance = _curves(comparison, dataset)
    measured_images = first.info["images"]["validation"] or images
    return _compared(comparison, chosen, images) | {
        "dataset": first.info["dataset"],
        "source": (first.info.get("data") or {}).get("source"),
        "learning_figures": [
            (name, svg_of_learning(curves, number, name, measured_images, measured_chance))
            for number, name in enumerate(names)
            if curves[number]
        ],
        "all_learning": svg_of_all_learning(curves, names, chosen, measured_images, measured_chance)
        if sum(map(bool, curves)) > 1
        else "",
        "learning_of": measured,
        "curves": dict(zip(names, curves, strict=True)),
        "films": _films(comparison),
        "views": views,
        "gallery": gallery,
        "small": pictures is not None and is_small(pictures) and not first.info.get("photographs"),
        "without_pictures": without_pictures,
        "robustness": {names[number]: found for number, found in robustness.items()},
        "robustness_figures": _draw_robustness(robustness, chance),
        "audit": _audit(first, dataset) if dataset is not None else None,
        "learning_curve": _learning_curve(first, dataset, say) if dataset is not None else "",
        "account": dataset.account if dataset is not None else None,
        "command": command_for(comparison),
        "facts": facts_of(comparison.runs),
        "runs": [
            run for group in comparison.groups.values() for run in sorted(group, key=lambda run: run.info["seed"])
        ],
        "recipe_in_words": recipe_in_words,
    }


def _compared(comparison: Comparison, chosen: int, images: int) -> dict[str, Any]:
    """What the template shows of the rungs side by side; the one of this number is recommended."""
    rows, first = comparison.rows, comparison.runs[0]
    below = {pair["upper"]: pair for pair in comparison.pairs}
    chance = share_of_commonest(first.answers[1])
    titles, cells = cells_of_comparison(rows, comparison.pareto)
    return {
        "comparison": comparison,
        "images": images,
        "rows": rows,
        "row": rows[chosen],
        "sizes": {row["name"]: f" ({row['image_size']} pixels)" for row in rows} if "pixels" in titles else {},
        "chosen": chosen,
        "recommended": comparison.recommendation,
        "steps": [pair | _besides(pair) for pair in comparison.pairs],
        "counted": Counter(pair["verdict"] for pair in comparison.pairs),
        "tested_by": first.info.get("tested_by"),
        "digits": points_digits(images),
        "caution": caution(comparison.groups[rows[chosen]["name"]][0].metrics["test"], first.info),
        "no_better": [
            (name, run.no_better) for name, group in comparison.groups.items() for run in group if run.no_better
        ],
        "seeds": sorted({row["seeds"] for row in rows}),
        "titles": titles,
        "cells": cells,
        "cost_figures": plots.svgs_of_costs(rows, comparison.pareto, images, chance),
        "logarithmic": is_logarithmic(min(error_of(row["high"], images) for row in rows)),
        "chance": chance,
        "described": [
            (name, describe_network(group[0]), describe_gain(row, below.get(name), chance or 0))
            for row, (name, group) in zip(rows, comparison.groups.items(), strict=True)
        ],
    }


def _load(runs: Sequence[Run]) -> tuple[list[Dataset | None], str]:
    """Each run's data at its size; or the reason why they are not available."""
    loaded: dict[str, Dataset | None] = {}
    reason = ""
    for run in runs:
        if run.info["fingerprint"] not in loaded:
            try:
                loaded[run.info["fingerprint"]] = run.load_dataset()
            except ConvladderError as error:
                loaded[run.info["fingerprint"]], reason = None, str(error)
    return [loaded[run.info["fingerprint"]] for run in runs], reason


def _typical(group: Sequence[Run]) -> Run:
    """The run of a rung that the report looks into: the one with the median accuracy."""
    median = statistics.median_low(run.info["test_accuracy"] for run in group)
    return next(run for run in group if run.info["test_accuracy"] == median)


def _besides(pair: Mapping[str, Any]) -> dict[str, str]:
    """What a step changes besides the network, if anything."""
    return {"besides": describe_difference({key: both for key, both in pair["differs"].items() if key != "image_size"})}


def _robustness(run: Run, dataset: Dataset | None, say: Say) -> dict[str, Any] | None:
    """A rung's robustness: stored with the run, or measured and then stored; None if the images are gone."""
    stored = run.metrics.get("robustness")
    # A network trained on the test images would look too good, and few images would show mostly chance.
    if stored is not None or dataset is None or "tested_by" in run.info or run.metrics["test"]["images"] < FEW:
        return stored
    say(f"{run.path}: measuring robustness, once.")
    measured = measure_robustness(run.classifier().predict_probabilities, *dataset.test)
    with contextlib.suppress(ConvladderError):  # if the folder cannot be written, the next report measures again
        keep_robustness(run, measured)
    return measured


def _curves(comparison: Comparison, dataset: Dataset | None) -> tuple[list[list[list[float]]], str, float | None]:
    """Accuracy after each epoch, by rung and run (or ensemble member); the images it was measured on; their chance."""
    validated = all(run.epochs("validation_accuracy") for run in comparison.runs)
    key = "validation_accuracy" if validated else "accuracy"
    curves = [[curve for run in group for curve in run.epochs(key)] for group in comparison.groups.values()]
    labels = comparison.runs[0].predictions.get("validation_labels") if validated else None
    if not validated and dataset is not None:
        labels = dataset.train.labels
    return curves, "validation" if validated else "training", share_of_commonest(labels)


def _films(comparison: Comparison) -> list[dict[str, Any]]:
    """The film of each rung's best run, or why there is none."""
    films: list[dict[str, Any]] = []
    for name, group in comparison.groups.items():
        best = max(group, key=lambda run: run.info["test_accuracy"])
        shown: dict[str, Any] = {"name": name, "seed": best.info["seed"], "film": None, "why": ""}
        try:
            shown["film"] = describe_film(best, MOMENTS_SHOWN)
        except ConvladderError as error:
            shown["why"] = str(error)
        films.append(shown)
    return films


def _draw_robustness(robustness: Mapping[int, Mapping[str, Any]], chance: float | None) -> list[str]:
    changes: dict[tuple[str, str], dict[int, Any]] = {}
    for number, measured in robustness.items():
        for curve in measured["curves"]:
            changes.setdefault((curve["name"], curve["unit"]), {})[number] = curve["points"]
    return [plots.svg_of_robustness(name, unit, curves, chance) for (name, unit), curves in changes.items()]


def _audit(run: Run, dataset: Dataset) -> Any:
    """The audit of the files, if the data are files and not too many."""
    if dataset.account is None or dataset.source is None or dataset.account.files > MOST_FILES:
        return None
    return keep_audit(run, dataset)


def _learning_curve(run: Run, dataset: Dataset, say: Say) -> str:
    """The gain from more pictures, for photographs that are not too many."""
    if not dataset.photographs or dataset.account is None or dataset.account.files > MOST_FILES:
        return ""
    curve = keep_learning_curve(run, dataset, say)
    return "" if curve is None else render_learning_curve(curve)


def percent(value: float, digits: int = 2) -> str:
    """0.9925 as 99.25 %."""
    return f"{100 * value:.{digits}f}\u202f%"


def sensible(value: float) -> str:
    """A number with its significant digits: 0.051, 3.2, 1,234."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def words(text: str) -> Any:
    """A sentence with its `names` as code. Everything else is escaped."""
    from markupsafe import Markup

    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(printable(text))))
