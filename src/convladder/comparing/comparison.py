"""The Comparison: which rungs differ measurably, what they cost, and which one to take."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convladder.comparing.differences import ALIKE, level_of, set_beside
from convladder.comparing.machines import Unlike, describe_unlike, measured_on, trained_on, unlike
from convladder.comparing.settings import describe_tuned, row_names, settings_of
from convladder.errors import ConvladderError
from convladder.evaluating.few import FEW, caution, leaks_in_words, points_of, rounded
from convladder.evaluating.significance import RightAnswers, estimate_difference, mean_accuracy
from convladder.files import read_json
from convladder.markup import html_of
from convladder.models.ladder import MODELS
from convladder.runs.run import Run
from convladder.training.recipes import is_tuned

COSTS = ("parameters", "macs", "fit_seconds", "latency_seconds", "bytes")
FILE = "comparison.json"

ONE_SEED = (
    "A rung with one seed has intervals and verdicts only for that network on other images, not for other seeds. "
    "Use more seeds."
)

# How much less accurate than the best a recommended rung may be, at the end of the interval, without a warning.
SETTLED = 0.01


@dataclass(frozen=True)
class Comparison:
    """A comparison of several runs.

    Attributes:
        runs: Runs on the same data. The runs of a row differ only in their seeds.
        not_run: `name`, `seed`, `reason` and `failed` of each requested run that is missing.
    """

    runs: tuple[Run, ...]
    not_run: tuple[Mapping[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        for first, run in itertools.pairwise(self.runs):
            contents = {one.info.get("content") or one.info.get("fingerprint") for one in (first, run)}
            if len(contents) > 1 or not np.array_equal(first.answers[1], run.answers[1]):
                raise ConvladderError(
                    f"{first.path} and {run.path} were trained and tested on different images. Expected runs of one "
                    "unchanged data set, all tested on its held-out images, as compare does, or all by "
                    "cross-validation."
                )
        for name, group in self.groups.items():
            for run, other in itertools.combinations([run for run in group if "seed" in run.info], 2):
                if shared := _seeds(run) & _seeds(other):
                    raise ConvladderError(
                        f"{run.path} and {other.path} are the same training: {name}, seed {min(shared)}. Expected "
                        "different seeds, because a copy shows nothing new: leave one of them out."
                    )

    @staticmethod
    def load(directory: str | Path) -> "Comparison":
        """Load the comparison in a directory of runs.

        Raises:
            ConvladderError: There is no comparison, or its runs are gone.
        """
        path = Path(directory) / FILE
        try:
            content = read_json(path)
            return Comparison(tuple(Run(path.parent / name) for name in content["runs"]), tuple(content["not_run"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConvladderError):
                raise
            raise ConvladderError(f"{path} is not a comparison ({error}). Expected what compare wrote.") from error

    @cached_property
    def groups(self) -> dict[str, list[Run]]:
        """The runs of each row, in the order of the ladder. Networks that are not rungs come last.

        A row is a rung with its settings. Runs with other settings are another row, whose name has the difference.
        """
        order = [*MODELS, *(run.info["rung"] for run in self.runs)]
        rungs: dict[str, dict[str, list[Run]]] = {}
        for run in sorted(self.runs, key=lambda run: order.index(run.info["rung"])):
            settings = json.dumps(settings_of(run.info), sort_keys=True, default=str)
            rungs.setdefault(run.info["rung"], {}).setdefault(settings, []).append(run)
        groups: dict[str, list[Run]] = {}
        for rung, rows in rungs.items():
            names = row_names(rung, [settings_of(group[0].info) for group in rows.values()])
            groups |= zip(names, rows.values(), strict=True)
        return groups

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row per rung: accuracy with its 95 % interval over seeds and test images, and mean costs."""
        return [_row(name, group, self._answers[name]) for name, group in self.groups.items()]

    @cached_property
    def pairs(self) -> list[dict[str, Any]]:
        """Each row compared with the one below it: difference, interval and verdict, at the level of `level`."""
        names = list(self.groups)
        return self._judge([(upper, lower) for lower, upper in itertools.pairwise(names)])

    @property
    def level(self) -> dict[str, Any]:
        """The joint confidence of all intervals of differences, and the method."""
        return level_of(len(self.groups))

    @cached_property
    def pareto(self) -> dict[str, list[str]]:
        """For each cost, the rungs of the Pareto front: no other rung is more accurate without costing more."""
        fronts = {}
        for cost in COSTS:
            rows = [row for row in self.rows if row[cost] is not None and row["recommendable"]]
            fronts[cost] = [row["name"] for row in rows if not any(_dominates(other, row, cost) for other in rows)]
        return fronts

    @cached_property
    def recommendation(self) -> dict[str, Any]:
        """The row with the fewest MACs that cannot be told apart from the most accurate; of equals, the smaller one.

        It uses MACs because, unlike seconds, they are the same on every machine and in every run. It is `settled` if
        that row is at most one point below the best; otherwise few seeds, which can tell nothing apart, would
        recommend anything. `take` is the row to take: that one, or the best if it is not settled. Rows that do not
        beat the constant answer are not recommended; if none does, `take` and `name` are None.
        """
        best = max(self.rows, key=lambda row: float(row["test_accuracy"]))["name"]
        rows = {row["name"]: row for row in self.rows if row["recommendable"]}
        if not rows:
            none: dict[str, Any] = dict.fromkeys(("name", "take", "difference", "low", "high"))
            share = rounded(self.groups[best][0].beside_constant.share, self.rows[0]["test_images"])
            words = (
                "Recommended: none. No rung is more accurate than the constant answer, the most frequent "
                f"class: {share}."
            )
            return none | {"best": best, "cost": "macs", "alike": [], "settled": False, "words": words}
        best = max(rows, key=lambda name: rows[name]["test_accuracy"])
        # Choosing the best from all rows is covered, because the level is for all pairs.
        judged = {pair["upper"]: pair for pair in self._judge([(name, best) for name in rows if name != best])}
        alike = [name for name in rows if name == best or judged[name]["verdict"] == ALIKE]
        name = min(alike, key=lambda name: (rows[name]["macs"], rows[name]["parameters"]))
        result = {"name": name, "best": best, "take": name, "cost": "macs", "alike": alike}
        if name == best:
            cheaper = any(row["macs"] < rows[best]["macs"] for row in rows.values())
            others = "every row of fewer MACs is less accurate" if cheaper else "none has fewer MACs"
            words = f"Recommended: `{best}`, the most accurate here; {others}."
            return result | {"difference": 0.0, "low": 0.0, "high": 0.0, "settled": True, "words": words}
        result |= {key: judged[name][key] for key in ("difference", "low", "high")}
        settled = result["low"] >= -SETTLED
        words = (
            f"`{name}`, the fewest MACs ({rows[name]['macs']:,}) of those that cannot be told apart from the most "
            f"accurate, `{best}`"
        )
        (shortfall,) = points_of([-result["low"]], rows[name]["test_images"], nonzero=True)
        below = f"{shortfall} points below it"
        if settled:
            words = f"Recommended: {words}; it is at most {below}."
        else:
            result["take"] = best
            more = "more test images" if rows[name]["test_images"] < FEW else "more seeds"
            words = f"Not settled: {words}, may be up to {below}: {more} would show. Until then, take `{best}`."
        return result | {"settled": settled, "words": words}

    @property
    def leaks(self) -> list[str]:
        """The accuracy of each row's first run without test images whose copies it was trained on."""
        told = {name: leaks_in_words(group[0].metrics["test"]) for name, group in self.groups.items()}
        return [f"`{name}`: {words}" for name, words in told.items() if words]

    @cached_property
    def machines(self) -> dict[str, Unlike]:
        """The versions, processors and cores in which the runs differ, and those of their measured costs."""
        return {"training": unlike(self.runs, trained_on), "costs": unlike(self.runs, measured_on)}

    @property
    def machines_in_words(self) -> list[str]:
        """The same in sentences."""
        told = {
            "training": "Trained with different versions or machines, which may change results: {}.",
            "costs": "Latency and throughput measured with different versions or machines: {}.",
        }
        return [told[key].format(describe_unlike(found)) for key, found in self.machines.items() if found]

    @property
    def content(self) -> dict[str, Any]:
        """The whole comparison as JSON values."""
        return {
            "models": self.rows,
            "pairs": self.pairs,
            "level": self.level,
            "pareto": self.pareto,
            "recommendation": self.recommendation,
            "machines": self.machines,
            "not_run": list(self.not_run),
        }

    @property
    def sentences(self) -> list[str]:
        """The comparison in sentences."""
        said = [pair["words"] for pair in self.pairs]
        if said:
            said.append(self.level["words"])
        if any(row["seeds"] == 1 for row in self.rows) and said:
            said.append(ONE_SEED)
        if said and (tuned := self.tuned):
            said.append(tuned)
        if said:
            said.append(self.recommendation["words"])
        said += self.leaks
        said += self.machines_in_words
        run = self.groups[self.recommendation["best"]][0]
        if warned := caution(run.metrics["test"], run.info):
            said.append(f"`{run.info['rung']}`: {warned}")
        for name, group in self.groups.items():
            said += [f"`{name}`, seed {run.info.get('seed')}: {run.no_better}" for run in group if run.no_better]
        said += [f"Missing: `{gone['name']}`, seed {gone['seed']}: {gone['reason']}." for gone in self.not_run]
        return said

    @property
    def tuned(self) -> str:
        """A sentence on the rows with their own recipe; empty if there are none."""
        names = [f"`{row['name']}`" for row in self.rows if row["tuned"]]
        return describe_tuned(names) if names else ""

    def _repr_html_(self) -> str:
        return html_of(self)

    @cached_property
    def _answers(self) -> dict[str, RightAnswers]:
        return {name: np.stack([_right(run) for run in group]) for name, group in self.groups.items()}

    def _judge(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """Tests of pairs (upper, lower). The level covers all possible pairs."""
        rows = {row["name"]: row for row in self.rows}
        tests = self.level["differences"]
        return [
            set_beside(rows[upper], rows[lower], estimate_difference(self._answers[upper], self._answers[lower]), tests)
            for upper, lower in pairs
        ]


def _seeds(run: Run) -> set[int]:
    """The seeds of its networks: several for an ensemble."""
    return set(range(run.info["seed"], run.info["seed"] + run.info.get("ensemble", 1)))


def _right(run: Run) -> RightAnswers:
    taken, labels = run.answers
    return np.asarray(taken == labels)


def _row(name: str, group: Sequence[Run], answers: RightAnswers) -> dict[str, Any]:
    accuracy, low, high = mean_accuracy(answers)
    costs = [run.metrics["costs"] for run in group if "costs" in run.metrics]
    validation = [run.info["validation_accuracy"] for run in group if "validation_accuracy" in run.info]
    measured = {
        key: statistics.median(cost[key] for cost in costs) if costs else None
        for key in ("latency_seconds", "images_per_second", "bytes")
    }
    return {
        "name": name,
        "rung": group[0].info["rung"],
        "tuned": is_tuned(group[0].info),
        "seeds": len(group),
        "test_accuracy": accuracy,
        "test_images": answers.shape[1],
        "low": low,
        "high": high,
        "validation_accuracy": statistics.fmean(validation) if validation else None,
        "parameters": group[0].info["parameters"],
        "macs": group[0].info["macs"],
        "learned_nothing": sum(run.beside_constant.nothing for run in group),
        "recommendable": _beats_constant(group),
        "image_size": group[0].info.get("input_shape", [None])[0],
        "fit_seconds": statistics.fmean(run.info["fit_seconds"] for run in group),
        **measured,
        "settings": settings_of(group[0].info),
        "runs": [str(run.path) for run in group],
    }


def _beats_constant(group: Sequence[Run]) -> bool:
    """Whether a row beats the constant answer. If none of its runs does, its lead is chance."""
    found = [run.beside_constant for run in group]
    more = statistics.fmean(one.accuracy for one in found) > found[0].share
    return more and any(one.beats is not False for one in found)


def _dominates(other: Mapping[str, Any], row: Mapping[str, Any], cost: str) -> bool:
    better = other["test_accuracy"] > row["test_accuracy"] or other[cost] < row[cost]
    return better and other["test_accuracy"] >= row["test_accuracy"] and other[cost] <= row[cost]
