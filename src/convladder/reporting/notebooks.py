"""How a notebook shows a Run or a Comparison: as a table and plots."""

import contextlib
from html import escape
from typing import Any

from convladder.evaluating.few import rounded
from convladder.evaluating.learned import share_of_commonest
from convladder.markup import html_table
from convladder.reporting.tables import cells_of_comparison
from convladder.runs.run import SCORED_SPLITS, Run


def draw(shown: Any) -> str:
    """A Run or a Comparison as HTML. A Run has no curve if matplotlib is not installed."""
    return _draw_run(shown) if isinstance(shown, Run) else _draw_comparison(shown)


def _draw_run(run: Run) -> str:
    info = run.info
    cells = [[key, str(info[key])] for key in ("rung", "status", "dataset", "seed") if key in info]
    cells += [
        [f"{split} accuracy", rounded(info[key], info["images"][split])]
        for split in SCORED_SPLITS
        if (key := f"{split}_accuracy") in info
    ]
    cells += [[key, f"{info[key]:,}"] for key in ("parameters", "macs") if key in info]
    cells += [["fit seconds", f"{info['fit_seconds']:.1f}"]] if "fit_seconds" in info else []
    table = html_table(["run", str(run.path)], cells)
    curves = run.epochs("validation_accuracy")
    if not curves:
        return table
    try:
        from convladder.reporting.curves import svg_of_learning
    except ModuleNotFoundError:
        return table
    chance = None
    with contextlib.suppress(OSError):  # it has no predictions yet
        chance = share_of_commonest(run.predictions.get("validation_labels"))
    figure = svg_of_learning([curves], 0, info["rung"], info["images"]["validation"], chance)
    return f'{table}<div style="max-width:20rem">{figure}</div>'


def _draw_comparison(comparison: Any) -> str:
    from convladder.reporting import plots

    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.sentences)
    labels = comparison.runs[0].answers[1]
    figures = plots.svgs_of_costs(comparison.rows, comparison.pareto, len(labels), share_of_commonest(labels))
    drawn = "".join(f'<div style="flex:1 1 18rem;max-width:24rem">{figure}</div>' for figure in figures)
    table = html_table(*cells_of_comparison(comparison.rows, comparison.pareto))
    return f'{table}<ul>{said}</ul><div style="display:flex;flex-wrap:wrap">{drawn}</div>'
