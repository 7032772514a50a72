"""The tables that the command line prints; each function yields what stands below one another."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from convladder.data.audit import Audit
    from convladder.describing import LayerSummary

Parts = Iterator[Table | str]


def of_models(rows: Sequence[dict[str, Any]]) -> Parts:
    """What `models` prints."""
    table = Table("rung", "one idea more", box=SIMPLE_HEAD)
    for title in ("parameters", "MACs"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["name"], row["idea"], f"{row['parameters']:,}", f"{row['macs']:,}")
    yield table


def of_layers(rung: str, rows: "Sequence[LayerSummary]") -> Parts:
    """What `summary` prints."""
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    table = Table(box=SIMPLE_HEAD, show_footer=True)
    for title, footer in (("layer", rung), ("kind", ""), ("output", "")):
        table.add_column(title, footer, no_wrap=True)
    for title, total in (("parameters", parameters), ("MACs", macs)):
        table.add_column(title, f"{total:,}", justify="right", no_wrap=True)
    table.add_column("arithmetic of the output's height")
    for row in rows:
        shape = "×".join(f"{side:,}" for side in row.output_shape)
        table.add_row(row.name, row.kind, shape, f"{row.parameters:,}", f"{row.macs:,}", row.arithmetic)
    yield table


def of_benchmark(result: dict[str, Any]) -> Parts:
    """The tables of `benchmark`."""
    table = Table("contender", "seeds", "seconds, median", "range", "test accuracy", box=SIMPLE_HEAD)
    for title in ("utilization", "computes in"):
        table.add_column(title)
    for row in result["rows"]:
        table.add_row(
            row["name"],
            str(row["seeds"]),
            f"{row['seconds']:.2f}",
            f"{row['seconds_low']:.2f} to {row['seconds_high']:.2f}",
            f"{row['test_accuracy']:.4f}",
            f"{row['utilization']:.0%}",
            row["precision"],
        )
    yield table
    for ratio in result["ratios"]:
        more = "" if ratio["reached"] else "more than "
        yield (
            f"{ratio['accuracy']:.2%}: {ratio['peer']} {ratio['peer_seconds']:.1f} s, {ratio['here']} "
            f"{ratio['here_seconds']:.2f} s: {more}{ratio['ratio']:.0f} times (asked: {ratio['target']})"
        )


def of_audit(result: "Audit") -> Parts:
    """The tables of `audit`."""
    table = Table("class", box=SIMPLE_HEAD)
    table.add_column("pictures", justify="right")
    for name, count in result.classes.items():
        table.add_row(Text(name), f"{count:,}")
    yield table
    if result.findings:
        table = Table("found", box=SIMPLE_HEAD)
        table.add_column("times", justify="right")
        for title in ("what to do", "for example"):
            table.add_column(title)
        for finding in result.findings:
            example = Text(", ".join(os.path.basename(name) for name in finding.groups[0][:3]))
            table.add_row(finding.check, f"{len(finding.groups):,}", finding.advice, example)
        yield table
    yield (
        f"{result.files:,} files: {result.pictures:,} pictures, {result.left_out:,} left out, "
        f"{sum(result.ignored.values()):,} ignored. {'Nothing was found.' if not result.findings else ''}"
    )


def cells_of_comparison(
    rows: Sequence[Mapping[str, Any]], pareto: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Titles, and a row of cells a rung; an asterisk marks a cost that no more accurate rung undercuts."""
    costs: list[tuple[str, str, Callable[[Any], str]]] = [
        ("parameters", "parameters", "{:,}".format),
        ("macs", "MACs", "{:,}".format),
        ("fit_seconds", "fit s", "{:.1f}".format),
        ("latency_seconds", "ms an image", lambda seconds: f"{1000 * seconds:.3f}"),
        ("images_per_second", "images/s", "{:,.0f}".format),
        ("bytes", "kB", lambda size: f"{size / 1000:,.0f}"),
    ]
    cells = []
    for row in rows:
        cells.append(
            [row["name"], str(row["seeds"]), f"{row['test_accuracy']:.4f}", f"{row['low']:.4f}–{row['high']:.4f}"]
        )
        for cost, _, show in costs:
            mark = "*" if row["name"] in pareto.get(cost, ()) else " "
            cells[-1].append("" if row[cost] is None else show(row[cost]) + mark)
    return ["rung", "seeds", "test accuracy", "95 % interval", *(title for _, title, _ in costs)], cells


def of_comparison(
    rows: Sequence[Mapping[str, Any]], pareto: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Table]:
    """The table of `compare`, and what it shows while it climbs."""
    titles, cells = cells_of_comparison(rows, pareto or {})
    table = Table(titles[0], box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for title in titles[1:]:
        table.add_column(title, justify="right")
    for row in cells:
        table.add_row(*row)
    yield table


def html_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table for a notebook: the first column names the row."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell.strip())}</td>" for cell in others)}</tr>'
        for first, *others in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def of_reproduction(result: dict[str, Any]) -> Parts:
    """The tables of `reproduce`."""
    if "networks" in result:
        table = Table("network", box=SIMPLE_HEAD)
        for title in ("parameters", "test accuracy", "seconds an epoch"):
            table.add_column(f"{title}\narticle", justify="right")
            table.add_column("\nhere", justify="right")
        for row in result["networks"]:
            table.add_row(
                row["name"],
                f"{row['article_parameters']:,}",
                f"{row['parameters']:,}",
                f"{row['article_test_accuracy']:.4f}",
                f"{row['test_accuracy']:.4f}",
                f"{row['article_seconds_per_epoch']:.0f}",
                f"{row['seconds_per_epoch']:.1f}",
            )
        yield table
    if "claims" in result:
        table = Table("the article says", "measured here", "verdict", box=SIMPLE_HEAD, show_lines=True)
        for claim in result["claims"]:
            table.add_row(claim["claim"], claim["measured"], claim["verdict"])
        yield table
        shifts = result["shifts"]
        table = Table("accuracy at a shift of", box=SIMPLE_HEAD)
        for pixels in range(len(next(iter(shifts.values())))):
            table.add_column(f"{pixels} px", justify="right")
        for name, accuracies in shifts.items():
            table.add_row(name, *(f"{accuracy:.3f}" for accuracy in accuracies))
        yield table
