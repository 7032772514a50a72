"""The tables that the command line prints. Each function yields parts that are printed below one another."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

from convladder.comparing.settings import (
    DIFFERING_COLUMNS,
    MARK,
    describe_settings,
    describe_tuned,
    differing,
    value_in_words,
)
from convladder.evaluating.few import FEW_FOR_DETAIL, caution, leaks_in_words, points_digits, rounded

if TYPE_CHECKING:
    from convladder.data.audit import Audit
    from convladder.models.summary import LayerSummary
    from convladder.training.learning_curve import LearningCurve

WIDEST_MATRIX = 12  # classes
WIDEST_NAMES = 100  # characters, of all their names in one line

Parts = Iterator[Table | str]


def of_models(rows: Sequence[dict[str, Any]]) -> Parts:
    """The output of `models`."""
    table = Table("rung", "what it adds", box=SIMPLE_HEAD)
    for title in ("parameters", "MACs"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(marked(row), row["idea"], f"{row['parameters']:,}", f"{row['macs']:,}")
    yield table
    yield f"{describe_tuned(row['name'] for row in rows if row['tuned'])} All others share one recipe."


def marked(row: Mapping[str, Any]) -> str:
    """The name of a row, marked if it has its own recipe."""
    return f"{row['name']}{MARK if row['tuned'] else ''}"


def of_layers(rung: str, rows: "Sequence[LayerSummary]") -> Parts:
    """The output of `summary`."""
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


def of_audit(result: "Audit") -> Parts:
    """The tables of `audit`."""
    table = Table(_names("class"), box=SIMPLE_HEAD)
    table.add_column("pictures", justify="right")
    for name, count in result.classes.items():
        table.add_row(name, f"{count:,}")
    yield table
    if result.findings:
        table = Table("found", box=SIMPLE_HEAD)
        table.add_column("times", justify="right")
        for title in ("what to do", "for example"):
            table.add_column(title)
        for finding in result.findings:
            example = ", ".join(os.path.basename(name) for name in finding.groups[0][:3])
            table.add_row(finding.check, f"{len(finding.groups):,}", finding.advice, example)
        yield table
    yield (
        f"{result.files:,} files: {result.pictures:,} pictures, {result.left_out:,} left out, "
        f"{sum(result.ignored.values()):,} ignored. {'No problems were found.' if not result.findings else ''}"
    )
    yield from result.notes


def of_learning_curve(curve: "LearningCurve") -> Parts:
    """The output that `audit --learning-curve` adds."""
    table = Table(box=SIMPLE_HEAD)
    for title in ("pictures per class", "accuracy", "95 % interval"):
        table.add_column(title, justify="right")
    for point in curve.points:
        table.add_row(f"{point.pictures_a_class:.0f}", f"{point.accuracy:.3f}", f"{point.low:.3f}–{point.high:.3f}")
    yield table
    yield from curve.lines()


def cells_of_comparison(
    rows: Sequence[Mapping[str, Any]], pareto: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Titles, and a row of cells per rung. An asterisk marks a cost that no rung of at least its accuracy undercuts.

    A dagger marks a rung with its own recipe. Settings in which rows differ get a column: image size, epochs,
    augmentation and more.
    """
    costs: list[tuple[str, str, Callable[[Any], str]]] = [
        ("parameters", "parameters", "{:,}".format),
        ("macs", "MACs", "{:,}".format),
        ("fit_seconds", "fit s", "{:.1f}".format),
        ("latency_seconds", "ms/image", lambda seconds: f"{1000 * seconds:.3f}"),
        ("images_per_second", "images/s", "{:,.0f}".format),
        ("bytes", "kB", lambda size: f"{size / 1000:,.0f}"),
    ]
    unlike = differing([row["settings"] for row in rows])
    shown = [key for key in DIFFERING_COLUMNS if key in unlike]
    cells = []
    for row in rows:
        accuracy, low, high = (rounded(row[key], row["test_images"]) for key in ("test_accuracy", "low", "high"))
        accuracy += _mark(row)
        cells.append([marked(row), str(row["seeds"]), accuracy, f"{low}–{high}"])
        cells[-1][1:1] = [value_in_words(row["settings"].get(key)) for key in shown]
        for cost, _, show in costs:
            mark = "*" if row["name"] in pareto.get(cost, ()) else " "
            cells[-1].append("" if row[cost] is None else show(row[cost]) + mark)
    titles = ["rung", *(DIFFERING_COLUMNS[key] for key in shown), "seeds", "test accuracy", "95 % interval"]
    return titles + [title for _, title, _ in costs], cells


def _mark(row: Mapping[str, Any]) -> str:
    """The mark beside an accuracy that does not beat the constant answer."""
    if row["learned_nothing"] == row["seeds"]:
        return " learned nothing"
    if row["learned_nothing"]:
        return f" {row['learned_nothing']} of {row['seeds']} learned nothing"
    return "" if row["recommendable"] else " no better than a constant"


def of_comparison(
    rows: Sequence[Mapping[str, Any]], pareto: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Table]:
    """The table of `compare`, also while it is still training."""
    titles, cells = cells_of_comparison(rows, pareto or {})
    table = Table(titles[0], box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for title in titles[1:]:
        table.add_column(title, justify="right")
    for row in cells:
        table.add_row(*row)
    yield table


def of_reproduction(result: dict[str, Any]) -> Parts:
    """The output of `reproduce`."""
    if "networks" in result:
        table = Table("network", box=SIMPLE_HEAD)
        for title in ("parameters", "test accuracy", "seconds per epoch"):
            table.add_column(Text(f"{title}\narticle"), justify="right")
            table.add_column(Text("\nhere"), justify="right")
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


def of_evaluation(result: dict[str, Any]) -> Parts:
    """The output of `evaluate`."""
    images = result["images"]
    accuracy, low, high, loss = (rounded(result[key], images) for key in ("accuracy", "low", "high", "loss"))
    pictures = f"{images:,} {result['split']} images of {result['data']}"
    by = f", by {result['tested_by']}" if "tested_by" in result else ""
    yield f"{result['run']} on {pictures}{by}: accuracy {accuracy} ({low} to {high}), loss {loss}"
    yield from filter(None, (result["no_better"], leaks_in_words(result), caution(result)))
    if left_out := result.get("leaks_left_out"):
        yield f"Left out of training: {left_out:,} copies of validation or test pictures"
    top = [f"top-{row['k']} accuracy: {rounded(row['accuracy'], images)}" for row in result["top_k"] if row["k"] > 1]
    if top:
        yield "  ".join(top)
    table = Table(_names("class"), box=SIMPLE_HEAD)
    for title in ("precision", "recall", "F1", "images"):
        table.add_column(title, justify="right")
    for row in result["per_class"]:
        scores = ("–" if row[key] is None else rounded(row[key], images) for key in ("precision", "recall", "f1"))
        table.add_row(Text(row["name"]), *scores, f"{row['support']:,}")
    yield table
    yield of_confusion(result["confusion"], [row["name"] for row in result["per_class"]], result["confusions"])
    temperature = f"temperature {result['temperature']:.3f}, which is built into the network"
    if result["temperature"] == 1 and "temperature_reason" in result:
        temperature = f"temperature 1: {result['temperature_reason'].removeprefix('1, since ')}"
    if images < FEW_FOR_DETAIL:
        yield f"{images} images are too few to measure calibration: {FEW_FOR_DETAIL} are needed. It has {temperature}"
    else:
        yield of_reliability(result["calibration"]["bins"])
        yield f"Calibration error {result['calibration']['ece']:.2%}, at {temperature}"
    kept = result["abstention"]
    if kept["threshold"]:
        right = "none" if kept["accuracy"] is None else f"{kept['accuracy']:.2%}"
        yield (
            f"Abstaining below {kept['threshold']:.3f} answers {kept['coverage']:.2%} of the images, {right} of them "
            f"correctly"
        )
    else:
        yield f"It never abstains: {result.get('threshold_reason', 'no threshold')}"
    yield of_unlike(result)
    if "robustness" in result:
        yield of_robustness(result["robustness"])


def of_unlike(result: Mapping[str, Any]) -> str:
    """The line of `evaluate` on pictures that are unlike the training pictures."""
    unlike = result["unlike_training"]
    if unlike is None:
        return f"How many images are unlike the training images is not known: {result['unlike_training_reason']}"
    share = f"{unlike['share']:.{points_digits(unlike['images'])}%}"
    more = ", more than the 1 in 100 to expect" if unlike["low"] > unlike["threshold"] else ""
    return f"{unlike['unlike']:,} of {unlike['images']:,} images ({share}) are unlike the training images{more}"


def of_confusion(
    confusion: Sequence[Sequence[int]] | None, names: Sequence[str], confusions: Sequence[Sequence[int]] = ()
) -> Table:
    """The confusion matrix if it fits on a screen, else the ten most frequent confusions."""
    fits = len(names) <= WIDEST_MATRIX and sum(map(cell_len, names)) <= WIDEST_NAMES
    if confusion is not None and fits:
        table = Table(_names("actual, predicted"), box=SIMPLE_HEAD)
        for name in names:
            table.add_column(name, justify="right", overflow="fold")
        for name, row in zip(names, confusion, strict=True):
            table.add_row(name, *(f"{count:,}" if count else "·" for count in row))
        return table
    table = Table(_names("actual"), _names("predicted"), box=SIMPLE_HEAD)
    table.add_column("images", justify="right")
    cells = [(count, true, taken) for true, taken, count in confusions]
    if confusion is not None:
        cells = [(count, i, j) for i, row in enumerate(confusion) for j, count in enumerate(row) if count and i != j]
    for count, true, taken in sorted(cells, reverse=True)[:10]:
        table.add_row(names[true], names[taken], f"{count:,}")
    return table


def _names(title: str) -> Column:
    """A column of class names, which are never cut."""
    return Column(title, overflow="fold")


def of_reliability(bins: Sequence[dict[str, Any]]) -> Table:
    """Predicted probability and accuracy, bin by bin."""
    table = Table("probability", box=SIMPLE_HEAD)
    for title in ("mean", "accuracy", "images"):
        table.add_column(title, justify="right")
    for row in bins:
        span = f"{row['low']:.0%} to {row['high']:.0%}"
        table.add_row(span, f"{row['confidence']:.1%}", f"{row['accuracy']:.1%}", f"{row['images']:,}")
    return table


def of_robustness(robustness: dict[str, Any]) -> Table:
    """Accuracy at each severity of each change."""
    table = Table(f"accuracy on {robustness['images']:,} images", box=SIMPLE_HEAD)
    for number in range(len(robustness["curves"][0]["points"])):
        table.add_column("unchanged" if number == 0 else "", justify="right")
    for curve in robustness["curves"]:
        cells = (f"{point['severity']:g}: {point['accuracy']:.3f}" for point in curve["points"])
        table.add_row(f"{curve['name']}, {curve['unit']}", *cells)
    return table


def of_tuning(trials: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]]) -> Parts:
    """The table of `tune`: a row a trial, beside what the best were with new seeds."""
    anew = {row["trial"]: row for row in best if row["seeds"]}
    several = len({row["name"] for row in trials}) > 1
    table = Table(Column("trial", justify="right"), box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("differs from the default", overflow="fold")
    for title in ("validation accuracy", "with new seeds", "95 % interval", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in trials:
        differs = describe_settings(row["differs"], list(row["differs"])) or "default"
        accuracy = row["state"] if row["validation_accuracy"] is None else f"{row['validation_accuracy']:.4f}"
        again = anew.get(row["trial"])
        cells = (
            [f"{again['validation_accuracy']:.4f}", f"{again['low']:.4f}–{again['high']:.4f}"] if again else ["", ""]
        )
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        words = f"{row['name']}: {differs}" if several else differs
        table.add_row(str(row["trial"]), words, accuracy, *cells, seconds)
    yield table
