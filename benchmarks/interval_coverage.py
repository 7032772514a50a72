"""How often intervals cover, and how often equal rungs are told apart: simulated answers, no training.

    python benchmarks/interval_coverage.py [--repeats 600] [--output docs/benchmarks]

Networks of a rung differ in their error rate by a spread over the seeds (a beta distribution, whose spread is at most
half of the error rate: a wider one would be of networks with hardly any error and a few with many). Images differ in
difficulty: of what makes an error, a share is the image, alike for all networks; the rest is chance. Test images are
drawn anew in each repeat. With one seed the truth is the accuracy of that network, with more the mean over all seeds.

Prints tables, and writes interval_coverage.json. Takes three minutes on one quiet core.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from output import prepare
from scipy.special import ndtr, ndtri

from convladder.evaluating.significance import RightAnswers, estimate_difference, mean_accuracy

ACCURACIES = (0.9, 0.95, 0.98, 0.99, 0.998)
IMAGES = (100, 1000, 10_000)
SEEDS = (1, 2, 3, 4, 5)
SPREADS = (0.0, 0.003, 0.01)
SHARED = (0.0, 0.7)  # of the variance of what makes an error, the image's
FAMILIES = (2, 5, 12)
RANGE = (0.94, 0.97)
FEW = 5  # errors of a network
UNITS = {"accuracy": "", "rungs": "rungs"}
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)

Floats = npt.NDArray[np.float64]


def draw_errors(rng: np.random.Generator, error: float, spread: float, seeds: int) -> Floats:
    """The error rates of the networks of a rung, shape (seeds,)."""
    spread = min(spread, error / 2)
    if not spread:
        return np.full(seeds, error)
    count = error * (1 - error) / spread**2 - 1
    return rng.beta(error * count, (1 - error) * count, seeds)


def draw_answers(rng: np.random.Generator, errors: Floats, images: int, shared: float) -> RightAnswers:
    """What networks of these error rates get right, shape (networks, images), by the frequency of each pattern."""
    patterns = (np.arange(2 ** len(errors))[:, None] >> np.arange(len(errors))) & 1  # (patterns, networks)
    thresholds = ndtri(np.maximum(errors, 1e-14))[:, None]
    wrong = ndtr((thresholds - math.sqrt(shared) * NODES) / math.sqrt(1 - shared))  # (networks, nodes)
    likelihood = np.ones((len(patterns), len(NODES)))
    for network, rate in enumerate(wrong):
        likelihood *= np.where(patterns[:, network, None] == 1, rate, 1 - rate)
    frequencies = likelihood @ WEIGHTS
    counts = rng.multinomial(images, frequencies / frequencies.sum())
    return np.repeat(patterns.T == 0, counts, axis=1)


def draw_many(rng: np.random.Generator, errors: Floats, images: int, shared: float) -> RightAnswers:
    """The same for more networks than have patterns that can be listed."""
    chance = math.sqrt(1 - shared) * rng.standard_normal((len(errors), images), dtype=np.float32)
    difficulty = math.sqrt(shared) * rng.standard_normal(images, dtype=np.float32)
    return np.asarray(chance + difficulty >= ndtri(errors)[:, None])


def coverage_of_accuracies(rng: np.random.Generator, repeats: int, cell: dict[str, Any]) -> dict[str, Any]:
    """How often the interval of an accuracy holds it."""
    error, seeds = 1 - cell["accuracy"], cell["seeds"]
    covered = []
    for _ in range(repeats):
        errors = draw_errors(rng, error, cell["spread"], seeds)
        truth = 1 - (errors[0] if seeds == 1 else error)
        _, low, high = mean_accuracy(draw_answers(rng, errors, cell["images"], cell["shared"]))
        covered.append(low <= truth <= high)
    return cell | {"covered": float(np.mean(covered))}


def coverage_of_differences(rng: np.random.Generator, repeats: int, cell: dict[str, Any]) -> dict[str, Any]:
    """The same of the difference between two rungs, the lower of which makes twice the errors."""
    seeds = cell["seeds"]
    covered = []
    for _ in range(repeats):
        rates = [draw_errors(rng, part * (1 - cell["accuracy"]), cell["spread"], seeds) for part in (1, 2)]
        truth = rates[1][0] - rates[0][0] if seeds == 1 else 1 - cell["accuracy"]
        answers = draw_answers(rng, np.concatenate(rates), cell["images"], cell["shared"])
        low, high = estimate_difference(answers[:seeds], answers[seeds:]).interval()
        covered.append(low <= truth <= high)
    return cell | {"covered": float(np.mean(covered))}


def false_claims(rng: np.random.Generator, repeats: int, cell: dict[str, Any]) -> dict[str, Any]:
    """How often, of equal rungs, any two are told apart: neighbours, or any that the best could be set beside."""
    rungs, seeds = cell["rungs"], cell["seeds"]
    claims = 0
    for _ in range(repeats):
        errors = np.concatenate([draw_errors(rng, 1 - cell["accuracy"], cell["spread"], seeds) for _ in range(rungs)])
        answers = draw_many(rng, errors, cell["images"], cell["shared"]).reshape(rungs, seeds, -1)
        means = answers.mean(axis=(1, 2))
        order = np.argsort(means)
        pairs = {(int(order[-1]), int(other)) for other in order[:-1]} | {(i, i + 1) for i in range(rungs - 1)}
        claims += any(differ(answers[upper], answers[lower], math.comb(rungs, 2)) for upper, lower in pairs)
    return cell | {"claimed": claims / repeats}


def differ(upper: RightAnswers, lower: RightAnswers, tests: int) -> bool:
    low, high = estimate_difference(upper, lower).interval(tests)
    return low > 0 or high < 0


def cells_of_accuracies() -> Iterator[dict[str, Any]]:
    for seeds in SEEDS:
        for images in IMAGES:
            for accuracy in ACCURACIES:
                for spread in SPREADS if seeds > 1 else SPREADS[:1]:
                    for shared in SHARED:
                        yield {
                            "accuracy": accuracy,
                            "images": images,
                            "seeds": seeds,
                            "spread": spread,
                            "shared": shared,
                        }


def cells_of_differences() -> Iterator[dict[str, Any]]:
    for seeds in SEEDS[:3]:
        for cell in cells_of_accuracies():
            if cell["seeds"] == seeds and cell["shared"] != SHARED[0] and cell["accuracy"] in (0.95, 0.98, 0.99):
                yield cell


def cells_of_families() -> Iterator[dict[str, Any]]:
    for rungs in FAMILIES:
        for seeds, spread in ((1, 0.0), (2, 0.0), (2, 0.01), (3, 0.01), (5, 0.003), (5, 0.01)):
            for accuracy, images in ((0.9, 300), (0.97, 1000), (0.99, 3000)):
                yield {
                    "rungs": rungs,
                    "accuracy": accuracy,
                    "images": images,
                    "seeds": seeds,
                    "spread": spread,
                    "shared": 0.5,
                }


def one_seed_taken_for_a_rung() -> Iterator[dict[str, Any]]:
    """What no method can know: of equal rungs with one seed each, whose networks differ."""
    for rungs in FAMILIES:
        for spread in SPREADS[1:]:
            yield {"rungs": rungs, "accuracy": 0.97, "images": 3000, "seeds": 1, "spread": spread, "shared": 0.5}


Measure = Callable[[np.random.Generator, int, dict[str, Any]], dict[str, Any]]
PARTS: dict[str, tuple[Measure, Callable[[], Iterator[dict[str, Any]]], float]] = {
    "accuracies": (coverage_of_accuracies, cells_of_accuracies, 1.0),
    "differences": (coverage_of_differences, cells_of_differences, 0.5),
    "equal_rungs": (false_claims, cells_of_families, 0.5),
    "one_seed_taken_for_a_rung": (false_claims, one_seed_taken_for_a_rung, 0.2),
}


Cell = dict[str, Any]


def summarize(rows: list[Cell]) -> list[str]:
    """How many combinations lie in the range, by seeds, apart from those in which a network makes hardly any errors."""
    lines = ["| seeds | errors | combinations | below 94 % | 94 to 97 % | above 97 % | lowest | median | highest |"]
    lines.append("| " + " | ".join(["---"] * 9) + " |")
    for seeds in sorted({row["seeds"] for row in rows}):
        for few in (False, True):
            values = [row["covered"] for row in rows if row["seeds"] == seeds and (expected_errors(row) < FEW) == few]
            below, above = sum(value < RANGE[0] for value in values), sum(value > RANGE[1] for value in values)
            spread = [f"{100 * np.quantile(values, q):.1f}" for q in (0, 0.5, 1)]
            counts = [len(values), below, len(values) - below - above, above]
            cells = [seeds, f"fewer than {FEW}" if few else f"{FEW} or more", *counts, *spread]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def tabulate(rows: list[Cell], by: tuple[str, ...], across: str) -> list[str]:
    """A table in percent: combinations below one another, one key across, the kinds of images in one cell.

    What is bold is out of range; what is in brackets is of networks with fewer than 5 errors.
    """
    found: dict[tuple[Any, ...], dict[Any, list[str]]] = {}
    for row in rows:
        share = row["covered"] if "covered" in row else row["claimed"]
        shown = f"{100 * share:.1f}"
        if expected_errors(row) < FEW:
            shown = f"({shown})"
        elif not RANGE[0] <= share <= RANGE[1] if "covered" in row else share > 0.05:
            shown = f"**{shown}**"
        found.setdefault(tuple(row[key] for key in by), {}).setdefault(row[across], []).append(shown)
    columns = list(dict.fromkeys(row[across] for row in rows))
    titles = [*by, *(f"{column:g} {UNITS[across]}".strip() for column in columns)]
    lines = [f"| {' | '.join(titles)} |", "| " + " | ".join(["---"] * len(titles)) + " |"]
    for key, cells in sorted(found.items()):
        named = zip(by, key, strict=True)
        begin = [f"{100 * value:g}" if name == "spread" else f"{value:,}" for name, value in named]
        lines.append(f"| {' | '.join([*begin, *(' / '.join(cells[column]) for column in columns)])} |")
    return lines


def describe(content: dict[str, Any]) -> list[str]:
    """All tables, as docs/compare.md has them."""
    cell = ("seeds", "images", "spread")
    tables = [
        summarize(content["accuracies"]),
        tabulate(content["accuracies"], cell, "accuracy"),
        tabulate(content["differences"], cell, "accuracy"),
        tabulate(content["equal_rungs"], ("seeds", "spread", "accuracy", "images"), "rungs"),
        tabulate(content["one_seed_taken_for_a_rung"], ("spread",), "rungs"),
    ]
    return [line for table in tables for line in ["", *table]]


def expected_errors(cell: Cell) -> float:
    """A network's; of fewer than 5 the counts are so coarse that no interval covers as often as it says."""
    return round(float(cell["images"]) * (1 - float(cell["accuracy"])), 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=600)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    content: dict[str, Any] = {"repeats": arguments.repeats}
    for name, (measure, cells, share) in PARTS.items():
        rng = np.random.default_rng(0)
        repeats = max(1, round(share * arguments.repeats))
        rows = [measure(rng, repeats, cell) for cell in cells()]
        print(f"{name}: {len(rows)} combinations, {repeats:,} times each", flush=True)
        content[name] = rows
    lines = json.dumps(content).replace("}, {", "},\n{")
    (arguments.output / "interval_coverage.json").write_text(lines + "\n", encoding="utf-8")
    print("\n".join(describe(content)))


if __name__ == "__main__":
    main()
