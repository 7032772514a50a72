"""Tuned: what a search found, and how much of it was luck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from convladder.comparing.costs import count_of
from convladder.comparing.differences import BETTER
from convladder.evaluating.few import points_of, rounded
from convladder.evaluating.significance import RightAnswers, estimate_difference, mean_accuracy
from convladder.runs.run import Run
from convladder.tuning.space import Space
from convladder.tuning.studies import ANEW, DEFAULT, ERROR, RIGHT, SECONDS, is_retried, newest, unpack

FINALISTS = 3  # trained anew, besides the default
FEWEST_SEEDS = 2  # to tell a lead from luck
LEVEL = "95 % is for the differences of all {} finalists from the default at once (Šidák)."
STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        study: Its name.
        space: What was searched.
        searched: The trials of the search, as Optuna keeps them.
        anew: What was trained again with other seeds.
        run: The run of the winner, or of the default where nothing beats it; None if the minutes were over before.
    """

    study: str
    space: Space
    searched: Sequence[FrozenTrial]
    anew: Sequence[FrozenTrial] = ()
    run: Run | None = None

    @cached_property
    def trials(self) -> list[dict[str, Any]]:
        """A row a trial: what differs from its rung's default, its accuracy on the validation images, its seconds."""
        return [
            {
                "trial": number,
                "name": self.space.rung(trial.params),
                "differs": self.space.differences(trial.params),
                "validation_accuracy": trial.value if trial.state is TrialState.COMPLETE else None,
                "seconds": trial.user_attrs.get(SECONDS),
                "state": STATES[TrialState.WAITING if is_retried(trial) else trial.state],
                "reason": trial.user_attrs.get(ERROR),
            }
            for number, trial in enumerate(self._newest)
        ]

    @cached_property
    def finalists(self) -> list[int]:
        """The default and the best of the search, as rows of `trials`; of equals, the quicker one first."""
        best = sorted(
            (row for row in self.trials[1:] if row["validation_accuracy"] is not None),
            key=lambda row: (-row["validation_accuracy"], row["seconds"]),
        )
        return [0, *(row["trial"] for row in best[:FINALISTS])]

    @cached_property
    def best(self) -> list[dict[str, Any]]:
        """The finalists with their accuracy in the search and with new seeds; the difference of these is luck."""
        rows = []
        for number in self.finalists:
            answers = self._answers(number)
            row = {key: self.trials[number][key] for key in ("trial", "name", "differs")} | {
                "search_accuracy": self.trials[number]["validation_accuracy"],
                "seeds": len(answers),
                "failed": self._failed(number),
            }
            if len(answers):
                row |= dict(zip(("validation_accuracy", "low", "high"), mean_accuracy(answers), strict=True))
                luck = estimate_difference(self._right(number)[None], answers)
                row |= {"luck": luck.value, "luck_low": luck.interval()[0], "luck_high": luck.interval()[1]}
            rows.append(row)
        return rows

    @cached_property
    def lead(self) -> dict[str, Any] | None:
        """The lead of the best finalist over the default, with new seeds; None if too few have been trained."""
        if not self._concluded or not (others := [row for row in self.best[1:] if row["seeds"] >= FEWEST_SEEDS]):
            return None
        default = self.best[0]
        best = max(others, key=lambda row: float(row["validation_accuracy"]))
        # For all finalists at once, because which is the best is known only afterwards.
        difference = estimate_difference(self._answers(best["trial"]), self._answers(0))
        low, high = difference.interval(len(others))
        return {
            "trial": best["trial"],
            "in_search": best["search_accuracy"] - default["search_accuracy"],
            "difference": difference.value,
            "low": low,
            "high": high,
            "p_value": difference.p_value(len(others)),
            "verdict": BETTER if low > 0 else "not more accurate",
            "level": LEVEL.format(len(others)) if len(others) > 1 else "",
        }

    @property
    def named(self) -> int | None:
        """The row of `trials` to take: the best finalist if it beats the default, else the default."""
        if self.lead is None:
            return 0 if self._concluded else None
        return int(self.lead["trial"]) if self.lead["verdict"] == BETTER else 0

    def parameters(self, number: int) -> Mapping[str, Any]:
        """Those of a row of `trials`, as Optuna keeps them."""
        return self._newest[number].params

    def words(self, number: int) -> str:
        """A row of `trials` in words."""
        return f"trial {number} ({self.space.words(self.parameters(number))})"

    @cached_property
    def sentences(self) -> list[str]:
        """What the search found, in sentences."""
        if self.named is None and self.best[0]["failed"]:
            return ["Nothing is named: the default failed with other seeds, so there is nothing to compare with."]
        if self.named is None:
            return [
                "Nothing is named: the minutes were over before the best had been trained again with other seeds. The "
                "same command with more --minutes goes on."
            ]
        said = [self._judgement]
        if self.lead is not None:
            said += filter(None, [self._luck(int(self.lead["trial"])), self.lead["level"]])
        if self.run is not None:
            test = self.run.metrics["test"]
            accuracy, low, high = (rounded(test[key], test["images"]) for key in ("accuracy", "low", "high"))
            said.append(
                f"{self.run.path}: test accuracy {accuracy} ({low} to {high} for {test['images']:,} images, which "
                "nothing was chosen by)"
            )
        return said

    @property
    def account(self) -> dict[str, Any]:
        """What run.json says of the search that a run came from, as `tuned_by`."""
        number = self.named or 0
        row = next(row for row in self.best if row["trial"] == number)
        done = sum(trial["state"] in ("done", "pruned", "failed") for trial in self.trials)
        found = {key: value for key, value in row.items() if key not in ("name", "differs")}
        return {"study": self.study, "trials": done, **found, "words": " ".join(self.sentences[:2])}

    @property
    def content(self) -> dict[str, Any]:
        """The whole result as JSON values."""
        run = None if self.run is None else str(self.run.path)
        test = None if self.run is None else self.run.metrics["test"]["accuracy"]
        return {
            "study": self.study,
            "trials": self.trials,
            "best": self.best,
            "lead": self.lead,
            "named": self.named,
            "run": run,
            "test_accuracy": test,
        }

    @cached_property
    def _newest(self) -> list[FrozenTrial]:
        """The trials, first the default that all are compared with."""
        trials = newest(list(self.searched))
        first = self.space.rungs[0]
        return sorted(trials, key=lambda trial: trial.user_attrs.get(DEFAULT) != first)

    @property
    def _concluded(self) -> bool:
        """Whether the default and the best, but for those that failed, were trained again with enough seeds."""
        return self.best[0]["seeds"] >= FEWEST_SEEDS and all(
            row["seeds"] >= FEWEST_SEEDS or row["failed"] for row in self.best
        )

    @property
    def _judgement(self) -> str:
        if self.lead is None:
            return "No trial but the default came to its end: take the default."
        images = len(self._right(0))
        shown = points_of([self.lead[key] for key in ("difference", "low", "high", "in_search")], images)
        points, low, high, searched = shown
        with_seeds = f"{points} points over the default with {count_of(self.best[0]['seeds'], 'new seed')}"
        found = f"{with_seeds} ({low} to {high}), {searched} in the search"
        name = self.words(int(self.lead["trial"]))
        if self.lead["verdict"] == BETTER:
            return f"Take {name}: {found}."
        return (
            "Nothing beats the default beyond the spread of seeds and images: take it, or try more --seeds. "
            f"The best was {name}: {found}."
        )

    def _luck(self, number: int) -> str:
        row = next(row for row in self.best if row["trial"] == number)
        images = len(self._right(number))
        before, after, low, high = (
            rounded(row[key], images) for key in ("search_accuracy", "validation_accuracy", "low", "high")
        )
        luck, least, most = points_of([row["luck"], row["luck_low"], row["luck_high"]], images)
        said = f"Its validation accuracy was {before} in the search and is {after} ({low} to {high}) with new seeds"
        if row["luck"] <= 0:
            return f"{said}, which took nothing away."
        return f"{said}: {luck} points ({least} to {most}) of it were luck."

    def _right(self, number: int) -> RightAnswers:
        return unpack(self._newest[number].user_attrs[RIGHT])

    def _answers(self, number: int) -> RightAnswers:
        """With new seeds, shape (seeds, images)."""
        found = [unpack(trial.user_attrs[RIGHT]) for trial in self._again(number) if RIGHT in trial.user_attrs]
        return np.stack(found) if found else np.empty((0, 0), bool)

    def _failed(self, number: int) -> int:
        failed = (TrialState.FAIL, TrialState.PRUNED)
        return sum(trial.state in failed and not is_retried(trial) for trial in self._again(number))

    def _again(self, number: int) -> list[FrozenTrial]:
        """What was trained again of a row of `trials`."""
        parameters = self.parameters(number)
        return [
            trial for trial in newest(list(self.anew)) if trial.user_attrs.get(ANEW, {}).get("parameters") == parameters
        ]
