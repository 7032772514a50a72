"""Settings: what identifies a run, and what two of them differ in, in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What of run.json changes what a run comes to. The machine is not among it, nor is what only looks on.
IDENTIFYING = (
    "rung",
    "own_network",  # whose layers and first weights its user made
    "choices",
    "ensemble",
    "recipe",
    "precision",
    "seed",
    "deterministic",
    "fit",
    "fingerprint",
    "tested_by",
)

Info = Mapping[str, Any]

# What is said in other words than its key; of what is false nothing is said in the name of a row.
SETTING_WORDS = {
    "augment": "augmentation",
    "fit": "resize",
    "image_size": "pixels",
    "tested_by": "tested by",
    "split_seed": "seed of the split",
}
# The columns of a table, where rows differ in them.
DIFFERING_COLUMNS = {
    key: SETTING_WORDS.get(key, key) for key in ("image_size", "epochs", "minutes", "augment", "views", "precision")
}

# Marks a rung that has a recipe of its own.
MARK = "†"


def identity_of(info: Info) -> dict[str, Any]:
    """What a run is known by: of equal ones, one can be taken for the other.

    Args:
        info: Its run.json; or the same of a run that is not there yet.
    """
    return {key: info.get(key) for key in IDENTIFYING} | {"fit": _resize(info), "own_network": _own_network(info)}


def settings_of(info: Info) -> dict[str, Any]:
    """All of it but the rung and what makes one run of several: recipe and data by their parts, flat."""
    data, choices = info.get("data") or {}, info.get("choices") or {}
    recipe = {key: value for key, value in info.get("recipe", {}).items() if key not in ("name", "precision")}
    if recipe.get("minutes") is not None:  # which the training goes by, whatever its epochs
        recipe["epochs"] = None
    return {
        **choices,
        "own_network": _own_network(info),
        "ensemble": info.get("ensemble", 1),
        **recipe,
        "precision": info.get("precision"),
        "image_size": info.get("input_shape", [None])[0],
        "fit": _resize(info),
        "validation": data.get("validation"),
        "split_seed": data.get("seed"),
        "tested_by": info.get("tested_by"),
        "data": info.get("fingerprint"),
    }


def differing(settings: Sequence[Info]) -> list[str]:
    """The keys in which they are not all equal; that of the data only where nothing else tells why these differ.

    Minutes instead of epochs are told by the minutes alone.
    """
    keys = list(dict.fromkeys(key for one in settings for key in one))
    unlike = [key for key in keys if any(one.get(key) != settings[0].get(key) for one in settings)]
    if "epochs" in unlike and len({one["epochs"] for one in settings if one.get("epochs") is not None}) == 1:
        unlike.remove("epochs")
    return [key for key in unlike if key != "data"] or unlike


def row_names(rung: str, settings: Sequence[Info]) -> list[str]:
    """Names of rows of one rung: its own, and of several rows what tells them apart."""
    keys = differing(settings)
    names = [f"{rung} ({describe_settings(one, keys)})" if keys else rung for one in settings]
    if len(set(names)) < len(names):
        names = [f"{name[:-1]}, data {one['data']:.8})" for name, one in zip(names, settings, strict=True)]
    return names


def describe_settings(settings: Info, keys: Sequence[str]) -> str:
    """Some of the settings: epochs 2, augmentation none."""
    return ", ".join(f"{_word(key)} {value_in_words(settings.get(key))}" for key in keys)


def describe_difference(differs: Mapping[str, Sequence[Any]]) -> str:
    """What two differ in: epochs 20 and 1.5, augmentation digits and none."""
    return ", ".join(f"{_word(key)} {' and '.join(map(value_in_words, both))}" for key, both in differs.items())


def describe_tuned(rungs: Iterable[str]) -> str:
    """What is said of rungs that have a recipe of their own."""
    return f"{MARK} {name_all(rungs)}: a network and a recipe tuned together, so that a difference is of both."


def name_all(names: Iterable[str], last: str = "and") -> str:
    """A list in words: a, b and c."""
    *most, end = names
    return f"{', '.join(most)} {last} {end}" if most else end


def value_in_words(value: Any) -> str:
    """A setting as a table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _word(key: str) -> str:
    return SETTING_WORDS.get(key, key.replace("_", " "))


def _own_network(info: Info) -> bool:
    return bool(info.get("own_network"))


def _resize(info: Info) -> str:
    """How pictures are brought to the network's proportions; of arrays nothing is."""
    return str(info.get("fit") or (info.get("data") or {}).get("fit") or "")
