"""Planning: the trials of a comparison. A choice is for all rungs that offer it, so that the comparison is fair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convladder.comparing.settings import differing, name_all
from convladder.comparing.trials import Say, Trial
from convladder.data.dataset import Dataset
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.models.backbone import PRETRAINED
from convladder.models.ladder import MODELS, build_model, rung_choices
from convladder.training.recipes import EQUAL, MOST_MINUTES, TUNED, Recipe, default_recipe, idle_options, rung_side

PLAIN_RUNG = next(rung for rung in MODELS if rung not in TUNED)  # of the article's ladder, which shares one recipe


def plan(
    dataset: Dataset,
    rungs: Sequence[str],
    recipe_for: Callable[[str, Dataset], Recipe],
    *,
    seeds: int,
    choices: Mapping[str, Any] | None = None,
    ensemble: int = 1,
    equal_minutes: float | None = None,
    deterministic: bool = False,
    tensorboard: bool = False,
    say: Say = lambda _: None,
) -> list[Trial]:
    """The trials of a comparison: first seeds of all rungs in the order of the ladder, then second seeds, and so on.

    Raises:
        ConvladderError: A rung is unknown, a choice or setting is out of range, or none of the rungs offers it.
    """
    for rung in rungs:
        check_choice("rung", rung, MODELS)
    check_range("seeds", seeds, 1)
    check_range("the ensemble", ensemble, 1, 100)
    recipes = {rung: recipe_for(rung, dataset) for rung in MODELS if rung in rungs}
    if equal_minutes is not None:
        check_range("equal minutes", equal_minutes, 0.05, MOST_MINUTES)
        recipes = equalize(recipes, recipe_for(PLAIN_RUNG, dataset), equal_minutes, say)
    choices = dict(choices or {})
    if choices.get("weights"):  # a cluster's process runs in another folder
        choices["weights"] = str(Path(choices["weights"]).absolute())
    trials = allot(recipes, choices, ensemble, say)
    for trial in trials:
        if trial.choices:  # impossible choices are refused before training
            side, (height, width, channels) = rung_side(trial.rung, dataset), dataset.input_shape
            shape = (height, width, channels) if side == height else (side, side, channels)
            build_model(trial.rung, shape, dataset.num_classes, **trial.choices)
    return [
        replace(trial, seed=number * trial.ensemble, deterministic=deterministic, tensorboard=tensorboard)
        for number in range(seeds)
        for trial in trials
    ]


def equalize(
    recipes: Mapping[str, Recipe], ladder: Recipe, minutes: float, say: Say = lambda _: None
) -> dict[str, Recipe]:
    """The recipes with equal minutes, and with the ladder's batches, augmentation and views.

    Pretrained rungs keep their own batches and augmentation, because their pictures have another size.
    """
    alike = {key: getattr(ladder, key) for key in EQUAL}
    equal = {rung: replace(recipe, minutes=minutes) for rung, recipe in recipes.items()}
    scratch = {rung: replace(recipe, **alike) for rung, recipe in equal.items() if rung not in PRETRAINED}
    own = {rung: differing([asdict(ladder), asdict(replace(recipe, minutes=None))]) for rung, recipe in scratch.items()}
    if tuned := [rung for rung, keys in own.items() if keys]:
        kept = dict.fromkeys(key.replace("_", " ") for keys in own.values() for key in keys)
        whose = "its" if len(tuned) == 1 else "their"
        say(f"{name_all(tuned)}: the ladder's batches, augmentation and views, but {name_all(kept)} of {whose} own.")
    return equal | scratch


def allot(
    recipes: Mapping[str, Recipe], choices: Mapping[str, Any], ensemble: int, say: Say = lambda _: None
) -> list[Trial]:
    """One trial per rung with the choices and settings that the rung offers; others do not change it.

    Raises:
        ConvladderError: None of the rungs offers a choice.
    """
    for choice in choices:
        word = choice.replace("_", "-")
        having = [rung for rung in recipes if choice in rung_choices(rung)]
        lacking = [rung for rung in recipes if rung not in having]
        if not having:
            check_choice("choice of a rung", choice, (name for rung in MODELS for name in rung_choices(rung)))
            known = name_all((rung for rung in MODELS if choice in rung_choices(rung)), "or")
            have = "has" if len(lacking) == 1 else "have"
            raise ConvladderError(f"{name_all(lacking)} {have} no choice {word}. Expected one of the rungs {known}.")
        if lacking:
            stay = "stays as it is" if len(lacking) == 1 else "stay as they are"
            say(f"{word} is a choice of {name_all(having)}; {name_all(lacking)} {stay}.")
    trials = {
        rung: Trial(
            rung,
            0,
            recipe,
            choices={choice: value for choice, value in choices.items() if choice in rung_choices(rung)},
            ensemble=ensemble,
        )
        for rung, recipe in recipes.items()
    }
    if "transfer" in trials and (idle := idle_options(recipes["transfer"], ensemble, minutes="--equal-minutes")):
        told = f"transfer has no use for {name_all(idle)}: its head is solved, not trained"
        if len(trials) == 1:
            raise ConvladderError(f"{told}. Expected another rung beside it, or finetune.")
        say(f"{told}. It stays as it is.")
        usual, recipe = default_recipe("transfer"), recipes["transfer"]
        views = usual.views if recipe.views == "digits" else recipe.views
        recipe = replace(recipe, minutes=None, until=None, augment=usual.augment, views=views)
        trials["transfer"] = replace(trials["transfer"], recipe=recipe, ensemble=1)
    return list(trials.values())
