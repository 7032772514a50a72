"""The space of a search: for each rung what of its recipe and choices is searched, in which range, around its default.

The choices and their ranges come from the ladder. What the user gives is fixed, and not searched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from convladder.comparing.planning import allot
from convladder.comparing.settings import describe_settings, name_all
from convladder.comparing.trials import Say, Trial
from convladder.data.dataset import Dataset
from convladder.errors import ConvladderError, check_choice
from convladder.models.ladder import MODELS, OPTIONS, RANGES, build_model, rung_choices
from convladder.training.recipes import Recipe

if TYPE_CHECKING:
    import optuna

RUNG = "model"  # the parameter that chooses among several rungs
DIGITS = 3  # significant digits of what is tried, so that a recipe can be typed


class Numbers(NamedTuple):
    """Numbers from low to high; integers if both are."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: "optuna.Trial", name: str) -> float:
        """A number for a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Options(NamedTuple):
    """Values without an order."""

    values: tuple[Any, ...]

    def suggest(self, trial: "optuna.Trial", name: str) -> Any:
        """A value for a trial."""
        return trial.suggest_categorical(name, self.values)


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        defaults: By rung, a trial with its default recipe and choices, and with what the user gave.
        ranges: By rung, what is searched of it.
    """

    defaults: Mapping[str, Trial]
    ranges: Mapping[str, Mapping[str, Numbers | Options]]

    @property
    def rungs(self) -> list[str]:
        """The rungs; the first one's default is what everything is compared with."""
        return list(self.defaults)

    def suggest(self, trial: "optuna.Trial") -> None:
        """Have the sampler choose all parameters of a trial."""
        rung = self.rungs[0] if len(self.rungs) == 1 else trial.suggest_categorical(RUNG, self.rungs)
        for name, values in self.ranges[rung].items():
            values.suggest(trial, f"{rung}.{name}")

    def default_parameters(self, rung: str) -> dict[str, Any]:
        """The parameters with which a trial is the rung's default."""
        chosen = {} if len(self.rungs) == 1 else {RUNG: rung}
        return chosen | {f"{rung}.{name}": self._default(rung, name) for name in self.ranges[rung]}

    def trial(self, parameters: Mapping[str, Any], seed: int) -> Trial:
        """What is trained for the parameters of one of the study's trials."""
        rung = self.rung(parameters)
        changes = self.differences(parameters)
        default = self.defaults[rung]
        choices = {name: value for name, value in changes.items() if name in rung_choices(rung)}
        recipe = {name: value for name, value in changes.items() if name not in choices}
        return replace(
            default, seed=seed, recipe=replace(default.recipe, **recipe), choices={**default.choices, **choices}
        )

    def rung(self, parameters: Mapping[str, Any]) -> str:
        """The rung that parameters choose."""
        return str(parameters.get(RUNG, self.rungs[0]))

    def differences(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What differs from the rung's default."""
        rung = self.rung(parameters)
        differences = {}
        for name in self.ranges[rung]:
            value, default = parameters.get(f"{rung}.{name}"), self._default(rung, name)
            if value is not None and value != default:
                differences[name] = float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        return differences

    def words(self, parameters: Mapping[str, Any]) -> str:
        """The rung and what differs from its default: pool, batch size 64."""
        differences = self.differences(parameters)
        return f"{self.rung(parameters)}, {describe_settings(differences, list(differences)) or 'default'}"

    @property
    def content(self) -> dict[str, Any]:
        """The whole space as JSON values; two searches of one study must have the same."""
        return {
            rung: {"recipe": asdict(trial.recipe), "choices": dict(trial.choices), "searched": self.ranges[rung]}
            for rung, trial in self.defaults.items()
        }

    def _default(self, rung: str, name: str) -> Any:
        trial = self.defaults[rung]
        return trial.choices.get(name, rung_choices(rung).get(name, getattr(trial.recipe, name, None)))


def make_space(
    dataset: Dataset,
    rungs: Sequence[str],
    recipe_for: Callable[[str, Dataset], Recipe],
    *,
    fixed: Mapping[str, Any],
    choices: Mapping[str, Any],
    say: Say = lambda _: None,
) -> Space:
    """The space of a search over rungs.

    Args:
        dataset: Has validation images, which choose.
        rungs: Names from MODELS, at least one.
        recipe_for: From a rung and the data to its recipe, with what the user gave of it.
        fixed: What the user gave of the recipe. Minutes take the place of epochs.
        choices: What the user gave of the rungs' choices.
        say: Takes a line for the user: which rungs a choice is for.

    Raises:
        ConvladderError: There is nothing to choose by, or nothing to search.
    """
    for rung in rungs:
        check_choice("rung", rung, MODELS)
    if "transfer" in rungs:
        raise ConvladderError(
            "transfer has nothing to search: its head is solved, not trained. Expected other rungs; compare sets it "
            "beside them."
        )
    recipes = {rung: recipe_for(rung, dataset) for rung in dict.fromkeys(rungs)}
    if not len(dataset.validation) or not all(recipe.validate for recipe in recipes.values()):
        why = "has no validation pictures" if not len(dataset.validation) else "is all trained on by this recipe"
        raise ConvladderError(
            f"{dataset.name} {why}, and a search chooses by them. Expected data that hold some out, and the recipe "
            "default."
        )
    defaults = {trial.rung: trial for trial in allot(recipes, choices, 1, say)}
    for trial in defaults.values():
        build_model(trial.rung, dataset.input_shape, dataset.num_classes, **trial.choices)  # refuses impossible choices
    ranges = {rung: _ranges(trial, dataset, {*fixed, *choices}) for rung, trial in defaults.items()}
    if idle := [rung for rung, searched in ranges.items() if not searched]:
        raise ConvladderError(f"Nothing of {name_all(idle)} is left to search. Expected fewer options that fix it.")
    return Space(defaults, ranges)


def _ranges(trial: Trial, dataset: Dataset, fixed: set[str]) -> dict[str, Numbers | Options]:
    """What is searched of a rung: its recipe, then its choices."""
    recipe = trial.recipe
    rate, batch = recipe.learning_rate, recipe.batch_size
    augmentation = "photos" if dataset.photographs or dataset.input_shape[2] == 3 else "digits"
    ranges: dict[str, Numbers | Options] = {
        "learning_rate": Numbers(rate / 10, 10.0 * rate, log=True),
        "batch_size": Options(tuple(size for size in (batch // 4, batch // 2, batch, 2 * batch) if size)),
        "epochs": Numbers(recipe.epochs / 2, 2.0 * recipe.epochs),
        "augment": Options(tuple(dict.fromkeys(("none", augmentation, recipe.augment)))),
        "weight_decay": Numbers(0.0, max(0.1, 2.0 * recipe.weight_decay)),
        "label_smoothing": Numbers(0.0, max(0.2, min(1.0, 2.0 * recipe.label_smoothing))),
    }
    if not rate:
        del ranges["learning_rate"]
    if recipe.minutes is not None:
        del ranges["epochs"]
    for name, default in rung_choices(trial.rung).items():
        if isinstance(default, bool):
            ranges[name] = Options((True, False))
        elif name in OPTIONS:
            ranges[name] = Options(OPTIONS[name])
        elif name in RANGES and default:
            ranges[name] = _around(default, *RANGES[name][1:])
    return {name: values for name, values in ranges.items() if name not in fixed}


def _around(default: float, low: float, high: float) -> Numbers:
    """From half to twice a whole number; from the least to twice a share; a tenth to ten times any other number."""
    if isinstance(default, int):
        return Numbers(max(int(low), default // 2), min(int(high), 2 * default))
    if high <= 1:
        return Numbers(float(low), min(float(high), 2 * default))
    return Numbers(max(float(low), default / 10), min(float(high), 10 * default), log=True)
