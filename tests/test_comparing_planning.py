"""Like with like: what a comparison gives to all rungs, what it leaves alone and says so, and what it refuses."""

import itertools
import pickle
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import convladder as cl
from convladder import cli
from convladder.comparing.cluster import _key
from convladder.comparing.planning import equalize, plan
from convladder.comparing.trials import Trial
from convladder.data.dataset import Split
from convladder.models.backbone import PRETRAINED
from convladder.models.ladder import MODELS
from convladder.reporting.repeating import command_for
from convladder.training.recipes import ARTICLE, EQUAL, TUNED, default_recipe, default_recipe_for, is_tuned
from test_comparing_resuming import here


def planned(
    data: cl.Dataset, rungs: list[str], recipe_for: Any = default_recipe_for, **asked: Any
) -> tuple[dict[str, Trial], list[str]]:
    """A trial of each rung, and what was said."""
    said: list[str] = []
    trials = plan(data, rungs, recipe_for, seeds=1, say=said.append, **asked)
    return {trial.rung: trial for trial in trials}, said


# --- every option that train takes


def test_compare_takes_every_option_that_train_takes() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    train, compare = ({p.name for p in commands[name].params} for name in ("train", "compare"))
    # --models, --seeds and --equal-minutes are what they are for several rungs; a comparison resumes by itself.
    assert train - compare == {"model", "seed", "resume"}
    assert {"models", "seeds", "equal_minutes"} <= compare


def test_a_choice_is_for_all_rungs_that_have_it_and_a_line_names_the_others(small: cl.Dataset) -> None:
    trials, said = planned(small, ["dense", "conv", "inception", "pool"], choices={"module": "naive", "hidden": 16})
    assert {rung: dict(trial.choices) for rung, trial in trials.items()} == {
        "dense": {"hidden": 16},
        "conv": {"hidden": 16},
        "pool": {"hidden": 16},
        "inception": {"module": "naive"},
    }
    assert said == [
        "module is a choice of inception; dense, conv and pool stay as they are.",
        "hidden is a choice of dense, conv and pool; inception stays as it is.",
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"choices": {"module": "naive"}},
            r"^dense and pool have no choice module\. Expected one of the rungs inception",
        ),
        (
            {"choices": {"poolin": "max"}},
            r"'poolin' is not a choice of a rung\. Expected one of: .*\. Did you mean pooling",
        ),
        ({"choices": {"pooling": "averag"}}, "'averag' is not a pooling.*Did you mean average"),
        ({"choices": {"hidden": 0}}, "hidden units 0 is out of range"),
        ({"choices": {"pool_size": 99}}, "99×99 does not fit into 28×28"),
        ({"ensemble": 0}, "the ensemble 0 is out of range. Expected a number from 1 to 100"),
        ({"equal_minutes": 0.0}, "equal minutes 0 is out of range. Expected a number from 0.05"),
        ({"equal_minutes": float("nan")}, "equal minutes nan is out of range"),
    ],
)
def test_what_no_rung_has_or_can_be_is_refused_before_anything_is_trained(
    small: cl.Dataset, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(cl.ConvladderError, match=message):
        planned(small, ["dense", "pool"], **asked)


def test_transfer_stays_as_it_is_where_its_solved_head_has_no_use_for_what_is_asked(small: cl.Dataset) -> None:
    def recipe_for(rung: str, data: cl.Dataset) -> cl.Recipe:
        return replace(default_recipe_for(rung, data), augment="digits", views="digits", until=0.9)

    trials, said = planned(small, ["pool", "transfer"], recipe_for, ensemble=2, equal_minutes=1)
    assert trials["transfer"].recipe == default_recipe("transfer")
    assert trials["transfer"].ensemble == 1
    pool = trials["pool"]
    assert (pool.recipe.augment, pool.recipe.until, pool.recipe.minutes, pool.ensemble) == ("digits", 0.9, 1, 2)
    (line,) = said
    assert line.startswith(
        "transfer has no use for --ensemble, --equal-minutes, --until, --augment and --views digits:"
    )
    assert line.endswith("It stays as it is.")
    with pytest.raises(cl.ConvladderError, match=r"transfer has no use for --equal-minutes: .* Expected another rung"):
        planned(small, ["transfer"], equal_minutes=1)


def test_an_ensemble_of_each_seed_has_networks_of_its_own(small: cl.Dataset) -> None:
    trials = plan(small, ["dense", "transfer"], default_recipe_for, seeds=3, ensemble=4)
    assert [(trial.rung, trial.seed, trial.ensemble) for trial in trials] == [
        ("dense", 0, 4),
        ("transfer", 0, 1),
        ("dense", 4, 4),
        ("transfer", 1, 1),
        ("dense", 8, 4),
        ("transfer", 2, 1),
    ]


def test_runs_of_other_choices_or_another_ensemble_are_not_taken_for_a_trial(small: cl.Dataset) -> None:
    plain = Trial("pool", 0, default_recipe("pool"))
    others = [replace(plain, choices={"pooling": "min"}), replace(plain, choices={"pooling": "max"})]
    others.append(replace(plain, ensemble=2))
    for one, other in itertools.combinations([plain, *others], 2):
        assert one.identity("f", "") != other.identity("f", "")
        assert _key(one.identity("f", "")) != _key(other.identity("f", ""))  # its folder in the storage of a cluster
    for trial in others:
        assert pickle.loads(pickle.dumps(trial)) == trial  # as it is sent to a process or a node
        assert {trial: 1}[trial] == 1


# --- the same time


def test_equal_minutes_give_all_rungs_the_same_time_batches_augmentation_and_views(small: cl.Dataset) -> None:
    trials, said = planned(small, list(MODELS), equal_minutes=2)
    alike = {rung: trial.recipe for rung, trial in trials.items() if rung not in PRETRAINED}
    for key in ("minutes", *EQUAL):
        assert len({getattr(recipe, key) for recipe in alike.values()}) == 1, key
    assert {recipe.minutes for recipe in alike.values()} == {2} == {trials["finetune"].recipe.minutes}
    assert trials["transfer"].recipe.minutes is None
    assert said[0] == (
        "fast, tiny and strong: the ladder's batches, augmentation and views, but learning rate, weight decay and "
        "label smoothing of their own."
    )
    assert alike["tiny"].label_smoothing == 0
    assert alike["fast"].learning_rate == 4 * alike["pool"].learning_rate


def test_equal_minutes_go_with_an_augmentation_for_all_and_with_the_article_s_recipe(small: cl.Dataset) -> None:
    def augmented(rung: str, data: cl.Dataset) -> cl.Recipe:
        return replace(default_recipe_for(rung, data), augment="digits", batch_size=64)

    trials, _ = planned(small, ["dense", "tiny"], augmented, equal_minutes=2)
    assert [(t.recipe.augment, t.recipe.batch_size, t.recipe.views) for t in trials.values()] == [
        ("digits", 64, "none")
    ] * 2
    trials, said = planned(small, ["dense", "tiny"], lambda *_: ARTICLE, equal_minutes=2)
    assert {trial.recipe for trial in trials.values()} == {replace(ARTICLE, minutes=2)}
    assert said == []


# --- one recipe, and the rungs that have their own


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("images", [200, 5_000, 60_000])
@pytest.mark.parametrize("photographs", [False, True])
def test_the_article_s_ladder_has_one_recipe(channels: int, images: int, photographs: bool) -> None:
    ladder = [rung for rung in MODELS if rung not in TUNED]
    assert ladder == list(MODELS)[: len(ladder)]
    assert len({default_recipe(rung, channels, images, photographs=photographs) for rung in ladder}) == 1


@pytest.mark.parametrize("rung", MODELS)
@pytest.mark.parametrize(("channels", "images"), [(1, 60_000), (3, 200)])
def test_a_row_is_tuned_where_its_recipe_is_the_rung_s_own(rung: str, channels: int, images: int) -> None:
    def tuned(recipe: cl.Recipe) -> bool:
        data = {"input_shape": [32, 32, channels], "images": {"train": images}}
        return is_tuned({"rung": rung, "recipe": asdict(recipe), **data})

    own, ladder = (default_recipe(name, channels, images) for name in (rung, "pool"))
    assert tuned(own) == tuned(equalize({rung: own}, ladder, 2)[rung]) == (rung in TUNED)
    assert not tuned(ladder)
    assert not tuned(replace(ladder, augment="digits", epochs=7.5))
    assert not tuned(ARTICLE)


# --- for real


ASKED = {"augment": "digits", "views": "photos", "until": 0.99, "batch_size": 100, "precision": "float32"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("length", "given", "ensemble"),
    [
        ("--epochs 2 --ensemble 2", {"epochs": 2}, 2),
        pytest.param("--equal-minutes 0.05", {"minutes": 0.05}, 1, marks=pytest.mark.long),
    ],
)
def test_compare_trains_all_rungs_so_and_the_report_s_command_takes_these_runs(
    length: str,
    given: dict[str, Any],
    ensemble: int,
    small: cl.Dataset,
    tmp_path: Path,
    convladder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, test = (Split(split.images[:200, ..., 0], split.labels[:200]) for split in (small.train, small.test))
    monkeypatch.setattr("convladder.comparing.local.run_in_processes", here())
    np.savez("few.npz", x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    options = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in ASKED.items())
    command = f"compare --data few.npz --models pool,tiny --pooling average --deterministic {options} {length}"
    done = convladder(*shlex.split(command))
    assert done.status == 0, done.err
    assert "pooling is a choice of pool; tiny stays as it is." in done.err
    line = "tiny: the ladder's batches, augmentation and views, but learning rate and label smoothing of its own."
    assert (line in done.err) == ("minutes" in given)
    assert "† `tiny`: network and recipe were tuned together, so a difference comes from both." in done.out
    assert " tiny† " in done.out
    assert " pool† " not in done.out
    # What was asked of all is no difference; what the rungs have of their own is one.
    said = " ".join(done.out.split())
    differs = "learning rate 0.00333333 and 0.002, label smoothing 0 and 0.1, pooling none and average"
    assert f"they also differ in {differs}" in said
    for rung, choices in {"pool": {"pooling": "average"}, "tiny": {}}.items():
        info = cl.Run(tmp_path / "runs" / f"{rung}-1").info
        assert (ASKED | given).items() <= info["recipe"].items()
        assert (info["choices"], info["ensemble"]) == (choices, ensemble)
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "† <code>tiny</code>: network and recipe were tuned together" in page
    repeated = command_for(cl.Comparison.load("runs"))
    assert repeated is not None
    again = convladder(*shlex.split(repeated)[1:])
    assert "2 of 2 runs are there already" in again.err, repeated


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--models dense,pool --module naive", "dense and pool have no choice module."),
        ("--models transfer --augment photos", "transfer has no use for --augment"),
        ("--models dense --hidden 0", "hidden units 0 is out of range."),
        ("--models dense --ensemble 0", "'--ensemble': 0 is not in the range 1<=x<=100"),
        ("--models dense --equal-minutes 0", "equal minutes 0 is out of range."),
        ("--models dense --equal-minutes 1 --epochs 2", "--epochs and --equal-minutes both say how long to train."),
        ("--models dense --until 2", "until 2 is out of range."),
        ("--models dense --recipe article --until 0.9", "--until needs validation images."),
        ("--models dense --augment digit", "'digit' is not a augmentation."),
        ("--models dense --precision float16", "'float16' is not a precision."),
    ],
)
def test_compare_refuses_in_one_line(small_npz: Path, options: str, message: str, convladder: Any) -> None:
    refused = convladder("compare", "--data", small_npz, *shlex.split(options))
    assert refused.status == 2
    assert message in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert not Path("runs").exists()


@pytest.mark.long
def test_from_python_a_warning_names_what_stays_as_it_is(small: cl.Dataset, tmp_path: Path) -> None:
    asked: list[Trial] = []

    def look(trials: Any, *_: Any, **__: Any) -> Any:
        asked.extend(trials)
        return iter(())

    with (
        pytest.warns(UserWarning, match="pooling is a choice of pool; dense stays as it is") as warned,
        pytest.raises(IndexError),  # nothing is trained here
    ):
        cl.compare(small, ["dense", "pool"], choices={"pooling": "min"}, ensemble=2, directory=tmp_path, runner=look)
    assert [warning.filename for warning in warned] == [__file__]
    assert [(trial.rung, dict(trial.choices), trial.ensemble) for trial in asked] == [
        ("dense", {}, 2),
        ("pool", {"pooling": "min"}, 2),
    ]


@pytest.mark.long
def test_a_budget_starts_what_fits_of_equal_minutes(small: cl.Dataset, tmp_path: Path) -> None:
    started: list[str] = []

    def look(trials: Any, *_: Any, **__: Any) -> Any:
        started.extend(trial.rung for trial in trials)
        return iter(())

    with pytest.raises(cl.ConvladderError, match="dense, seed 0 would not have fitted into 2 minutes"):
        cl.compare(small, ["dense", "conv"], equal_minutes=3, minutes=2, directory=tmp_path, runner=look)
    assert started == []
    with pytest.raises(IndexError):
        cl.compare(small, ["dense"], equal_minutes=1, minutes=20, directory=tmp_path, runner=look)
    assert started == ["dense"]
