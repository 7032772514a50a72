"""Settings: what identifies a run, and the differences between runs in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The parts of run.json that change a run's result. The machine and the callbacks are not among them.
IDENTIFYING = (
    "rung",
    "own_network",  # with layers and first weights from the user
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

# Keys with another name in tables. A setting that is false is not in the name of a row.
SETTING_WORDS = {
    "augment": "augmentation",
    "fit": "resize",
    "image_size": "pixels",
    "tested_by": "tested by",
    "split_seed": "seed of the split",
}
# Columns that a table has if rows differ in them.
DIFFERING_COLUMNS = {
    key: SETTING_WORDS.get(key, key) for key in ("image_size", "epochs", "minutes", "augment", "views", "precision")
}

# Marks a rung with its own recipe.
MARK = "†"


def identity_of(info: Info) -> dict[str, Any]:
    """The identity of a run. Runs with equal identities can replace one another.

    Args:
        info: Its run.json, or the same for a run that does not exist yet.
    """
    return {key: info.get(key) for key in IDENTIFYING} | {"fit": _resize(info), "own_network": _own_network(info)}


def settings_of(info: Info) -> dict[str, Any]:
    """All settings without rung and seeds, as a flat dictionary; recipe and data are split into their parts."""
    data, choices = info.get("data") or {}, info.get("choices") or {}
    recipe = {key: value for key, value in info.get("recipe", {}).items() if key not in ("name", "precision")}
    if recipe.get("minutes") is not None:  # minutes replace the epochs
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
    """The keys whose values are not all equal. The data's key is included only if no other key explains the difference.

    Minutes instead of epochs are named by the minutes only.
    """
    keys = list(dict.fromkeys(key for one in settings for key in one))
    unlike = [key for key in keys if any(one.get(key) != settings[0].get(key) for one in settings)]
    if "epochs" in unlike and len({one["epochs"] for one in settings if one.get("epochs") is not None}) == 1:
        unlike.remove("epochs")
    return [key for key in unlike if key != "data"] or unlike


def row_names(rung: str, settings: Sequence[Info]) -> list[str]:
    """Names of the rows of one rung: the rung, with the differences if there are several rows."""
    keys = differing(settings)
    names = [f"{rung} ({describe_settings(one, keys)})" if keys else rung for one in settings]
    if len(set(names)) < len(names):
        names = [f"{name[:-1]}, data {one['data']:.8})" for name, one in zip(names, settings, strict=True)]
    return names


def describe_settings(settings: Info, keys: Sequence[str]) -> str:
    """Some settings in words: epochs 2, augmentation none."""
    return ", ".join(f"{_word(key)} {value_in_words(settings.get(key))}" for key in keys)


def describe_difference(differs: Mapping[str, Sequence[Any]]) -> str:
    """Differences in words: epochs 20 and 1.5, augmentation digits and none."""
    return ", ".join(f"{_word(key)} {' and '.join(map(value_in_words, both))}" for key, both in differs.items())


def describe_tuned(rungs: Iterable[str]) -> str:
    """The footnote on rungs with their own recipe."""
    return f"{MARK} {name_all(rungs)}: network and recipe were tuned together, so a difference comes from both."


def name_all(names: Iterable[str], last: str = "and") -> str:
    """A list in words: a, b and c."""
    *most, end = names
    return f"{', '.join(most)} {last} {end}" if most else end


def value_in_words(value: Any) -> str:
    """A setting's value as a table shows it."""
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
    """How pictures are resized to the network's proportions; arrays are not resized."""
    return str(info.get("fit") or (info.get("data") or {}).get("fit") or "")
