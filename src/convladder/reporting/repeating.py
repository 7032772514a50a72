"""How to reproduce the runs of a report: the command, and the versions and machine that made them."""

import inspect
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from convladder.comparing.comparison import Comparison
from convladder.comparing.machines import trained_on
from convladder.comparing.planning import PLAIN_RUNG, allot, equalize
from convladder.data.loading import load_dataset
from convladder.models.backbone import PRETRAINED, SIDE
from convladder.models.ladder import MODELS, suited_rungs
from convladder.runs.run import Run
from convladder.training.recipes import ARTICLE, usual_recipe

# The parts of a recipe that compare takes, for all rungs alike.
OPTIONS = ("epochs", "until", "batch_size", "learning_rate", "augment", "views", "precision")

# Settings of data loaded in Python that have no option below.
SAID = ("source", "image_size", "channels", "resize", "cache", "columns", "keep_leaks")
UNSAID = {name: given for name, given in inspect.signature(load_dataset).parameters.items() if name not in SAID}


def command_for(comparison: Comparison) -> str | None:
    """The `convladder compare` command that makes these runs, or None if no single command does."""
    runs = comparison.runs
    seeds = {rung: sorted(run.info["seed"] for run in group) for rung, group in comparison.groups.items()}
    networks = {rung: group[0].info["ensemble"] for rung, group in comparison.groups.items()}
    count = max(map(len, seeds.values()))
    data = runs[0].info.get("data")
    if data is not None and all(map(_own_size, runs)):
        data = data | {"image_size": None}
    alike = (
        data is not None
        and all(numbers == [networks[rung] * n for n in range(count)] for rung, numbers in seeds.items())
        and all(rung in MODELS for rung in seeds)
        and not any(run.info.get("own_network") for run in runs)
        and all(_same_data(run, data) for run in runs)
        and (data["image_size"] is None or len({run.info["input_shape"][0] for run in runs}) == 1)
        and all("tested_by" not in run.info for run in runs)
        and all(data.get(key, usual.default) == usual.default for key, usual in UNSAID.items())
        and len({(run.info["recipe"]["name"], run.info["deterministic"]) for run in runs}) == 1
    )
    if not alike or data is None or (asked := _asked_for(runs)) is None:
        return None
    words = ["convladder", "compare"]
    if data["source"] != "mnist":
        words += ["--data", data["source"]]
    words += [f"--{key.replace('_', '-')}={data[key]}" for key in ("image_size", "channels") if data.get(key)]
    words += ["--resize", data["fit"]] if data.get("fit", "crop") != "crop" else []
    words += [f"--{column}-column={name}" for column, name in (data.get("columns") or {}).items()]
    words += ["--keep-leaks"] if data.get("keep_leaks") else []
    words += [] if data.get("cache", True) else ["--no-cache"]
    if list(seeds) != suited_rungs(runs[0].info.get("photographs", False)):
        words += ["--models", "all" if list(seeds) == list(MODELS) else ",".join(seeds)]
    words += ["--seeds", str(count)]
    words += ["--recipe", "article"] if runs[0].info["recipe"]["name"] == "article" else []
    for key, value in asked.items():
        option = key.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{option}"] if isinstance(value, bool) else [f"--{option}", str(value)]
    words += ["--deterministic"] if runs[0].info["deterministic"] else []
    return shlex.join(words)


def facts_of(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """The runs' machine, versions and data, as names and values; several values if the runs differ."""

    def several(values: Sequence[Any]) -> str:
        return "; ".join(dict.fromkeys(str(value) for value in values))

    infos = [run.info for run in runs]
    machines = [machine for run in runs for machine in trained_on(run)]
    versions = [
        f"{name} {' or '.join(dict.fromkeys(str(machine[name]) for machine in machines if name in machine))}"
        for name in dict.fromkeys(name for info in infos for name in info.get("versions", {}))
    ]
    hardware = [f"{one['processor']}, {one['cores']} cores" for one in machines if "processor" in one]
    images = [", ".join(f"{count:,} {split}" for split, count in info["images"].items()) for info in infos]
    facts = {
        "data": several([info["dataset"] for info in infos]),
        "images": several(images),
        "pixels": several(["×".join(map(str, info["input_shape"])) for info in infos]),
        "fingerprint of the data (SHA-256)": several([info["fingerprint"] for info in infos]),
        "versions": ", ".join(versions),
        "processor": several(hardware),
        "precision": several([info.get("precision", "float32") for info in infos]),
        "started": f"{min(info['started'] for info in infos)} to {max(info['started'] for info in infos)}",
        "deterministic": several(["yes" if info["deterministic"] else "no" for info in infos]),
    }
    if tuned := [
        f"{info['rung']}, seed {info['seed']}: {info['tuned_by']['words']}" for info in infos if "tuned_by" in info
    ]:
        facts["found by a search"] = several(tuned)
    return list(facts.items())


def recipe_in_words(run: Run) -> str:
    """The recipe: only what differs from the rung's usual one."""
    recipe = run.info["recipe"]
    minutes = recipe.get("minutes")
    length = f"{recipe['epochs']:g} epochs" if minutes is None else f"{minutes:g} minutes"
    words = [recipe["name"], length, f"{recipe['batch_size']} images per step"]
    words += [f"{name} {value}" for name, value in run.info["choices"].items()]
    words += [f"ensemble of {run.info['ensemble']}"] if run.info["ensemble"] > 1 else []
    return ", ".join(words)


def _same_data(run: Run, data: Mapping[str, Any]) -> bool:
    """Whether a run had these data, at any size."""
    return {**(run.info.get("data") or {}), "image_size": None} == {**data, "image_size": None}


def _own_size(run: Run) -> bool:
    """Whether a run had its pictures at its rung's default size."""
    large = run.info["rung"] in PRETRAINED and run.info.get("photographs", False)
    return bool((run.info.get("data") or {}).get("image_size") == (SIDE if large else None))


def _asked_for(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The options with which compare would make these runs; None if it cannot."""
    infos = [run.info for run in runs]
    choices = {choice: value for info in infos for choice, value in info["choices"].items()}
    ensemble = max(info["ensemble"] for info in infos)
    minutes = next((info["recipe"]["minutes"] for info in infos if info["recipe"].get("minutes") is not None), None)
    article = infos[0]["recipe"]["name"] == ARTICLE.name
    usual = {rung: ARTICLE if article else usual_recipe(rung, infos[0]) for rung in MODELS}
    given: dict[str, Any] = {}

    def unlike() -> dict[str, Any]:
        """The runs' values of everything that compare would do differently by default."""
        recipes = {rung: replace(recipe, **given) for rung, recipe in usual.items()}
        if minutes is not None:
            recipes = equalize(recipes, recipes[PLAIN_RUNG], minutes)
        trials = {trial.rung: trial for trial in allot(recipes, choices, ensemble)}
        found: dict[str, Any] = {}
        for info in infos:
            trial = trials[info["rung"]]
            made = asdict(trial.recipe) | {"choices": dict(trial.choices), "ensemble": trial.ensemble}
            wanted = info["recipe"] | {"choices": info["choices"], "ensemble": info["ensemble"]}
            found |= {key: value for key, value in wanted.items() if value != made.get(key)}
        return found

    given |= {key: value for key, value in unlike().items() if key in OPTIONS}
    if unlike() or (minutes is not None and "epochs" in given):
        return None
    asked = given | choices
    asked |= {"ensemble": ensemble} if ensemble > 1 else {}
    return asked | ({"equal_minutes": minutes} if minutes is not None else {})
