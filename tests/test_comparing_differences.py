"""Like with like: what counts as a row, as a seed and as the same run; what a pair differs in; one level for all."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import convladder as cl
from convladder.comparing.compare import climb
from convladder.comparing.comparison import Comparison
from convladder.comparing.differences import ALIKE, BETTER
from convladder.comparing.planning import plan
from convladder.comparing.settings import identity_of
from convladder.comparing.trials import Outcome
from convladder.files import write_arrays, write_json
from convladder.models.ladder import MODELS
from convladder.reporting.report import write_report
from convladder.reporting.tables import cells_of_comparison
from convladder.training.recipes import default_recipe_for

SETTINGS: dict[str, Any] = {
    "choices": {},
    "ensemble": 1,
    "precision": "float32",
    "deterministic": False,
    "input_shape": [28, 28, 1],
    "fingerprint": "f",
    "content": "c",
    "status": "finished",
    "fit_seconds": 1.0,
}


def store(path: Path, rung: str, seed: int, right: npt.NDArray[np.bool_], **changed: Any) -> cl.Run:
    """A run whose answers are given, as a folder that `Comparison` reads."""
    path.mkdir(parents=True)
    macs = 1000 * (1 + list(MODELS).index(rung))
    recipe = {"epochs": 2.0, "augment": "none", "views": "none", **changed.pop("recipe", {})}
    info = SETTINGS | {"rung": rung, "seed": seed, "recipe": recipe, "parameters": macs, "macs": macs} | changed
    write_json(path / "run.json", info | {"test_accuracy": float(right.mean())})
    test = {"images": len(right), "low": 0.0, "high": 1.0, "accuracy": float(right.mean()), "per_class": []}
    write_json(path / "metrics.json", {"test": test})
    answers = {"probabilities": np.stack([right, ~right], axis=1).astype(float), "labels": np.zeros(len(right), int)}
    write_arrays(path / "predictions.npz", **answers)
    return cl.Run(path)


def answers(accuracy: float, seed: int = 0, images: int = 1000) -> npt.NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(images) < accuracy)


# --- rows


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": {"epochs": 30.0}}, "epochs 30"),
        ({"recipe": {"augment": "digits"}}, "augmentation digits"),
        ({"recipe": {"views": "digits"}}, "views digits"),
        ({"recipe": {"minutes": 2.0}}, "minutes 2"),
        ({"precision": "bfloat16"}, "precision bfloat16"),
        ({"input_shape": [32, 32, 1]}, "pixels 32"),
        ({"fit": "pad"}, "resize pad"),
        ({"ensemble": 3}, "ensemble 3"),
        ({"choices": {"pooling": "average"}}, "pooling average"),
        ({"fingerprint": "another"}, "data another"),
        ({"data": {"validation": 0.2}}, "validation 0.2"),
        ({"data": {"seed": 3}}, "seed of the split 3"),
    ],
)
def test_runs_of_other_settings_are_another_row_and_its_name_says_which(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    runs = [
        store(tmp_path / "a", "pool", 0, answers(0.9)),
        store(tmp_path / "b", "pool", 1, answers(0.9, 1), **changed),
    ]
    comparison = Comparison(tuple(runs))
    assert [row["seeds"] for row in comparison.rows] == [1, 1]
    assert {row["rung"] for row in comparison.rows} == {"pool"}
    assert f"pool ({said})" in comparison.groups
    assert f"pool ({said})" in comparison.pairs[0]["words"]


def test_runs_that_differ_in_their_seeds_alone_are_one_row(tmp_path: Path) -> None:
    runs = [store(tmp_path / str(s), "pool", s, answers(0.9, s), deterministic=bool(s)) for s in range(3)]
    assert [(row["name"], row["seeds"]) for row in Comparison(tuple(runs)).rows] == [("pool", 3)]


@pytest.mark.parametrize(("ensemble", "second"), [(1, 0), (3, 2)])
def test_a_seed_that_is_there_twice_is_refused(tmp_path: Path, ensemble: int, second: int) -> None:
    runs = [store(tmp_path / str(s), "pool", s, answers(0.9), ensemble=ensemble) for s in (0,)]
    runs.append(store(tmp_path / "copy", "pool", second, answers(0.9), ensemble=ensemble))
    with pytest.raises(
        cl.ConvladderError, match=rf"copy are the same training: pool, seed {second}\. Expected different"
    ):
        Comparison(tuple(runs))


@pytest.mark.parametrize("changed", [{"content": "d"}, {"content": None}, {"content": None, "fingerprint": "g"}])
def test_runs_of_other_data_whose_labels_agree_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    runs = [store(tmp_path / "a", "pool", 0, answers(0.9)), store(tmp_path / "b", "conv", 0, answers(0.9), **changed)]
    with pytest.raises(cl.ConvladderError, match="different images"):
        Comparison(tuple(runs))


# --- what a pair says


def test_a_pair_says_what_it_differs_in_besides_the_network(tmp_path: Path) -> None:
    more = {"epochs": 20.0, "augment": "digits", "views": "digits"}
    runs = (
        store(tmp_path / "a", "fast", 0, answers(0.9)),
        store(tmp_path / "b", "tiny", 0, answers(0.98, 1), recipe=more, precision="bfloat16"),
    )
    comparison = Comparison(runs)
    (pair,) = comparison.pairs
    assert pair["differs"] == {
        "epochs": [20.0, 2.0],
        "augment": ["digits", "none"],
        "views": ["digits", "none"],
        "precision": ["bfloat16", "float32"],
    }
    assert pair["words"].endswith(
        "they also differ in epochs 20 and 2, augmentation digits and none, views digits and none, "
        "precision bfloat16 and float32"
    )
    titles, cells = cells_of_comparison(comparison.rows, {})
    assert titles[:5] == ["rung", "epochs", "augmentation", "views", "precision"]
    assert cells[1][:5] == ["tiny", "20", "digits", "digits", "bfloat16"]
    larger = Comparison((runs[0], store(tmp_path / "d", "conv", 0, answers(0.9), input_shape=[32, 32, 1])))
    assert "`conv` at 32 pixels" in larger.pairs[0]["words"]
    assert "differ in" not in larger.pairs[0]["words"]  # the size is said already
    alike = Comparison((runs[0], store(tmp_path / "c", "conv", 0, answers(0.9))))
    assert "besides" not in alike.pairs[0]["words"]
    assert cells_of_comparison(alike.rows, {})[0][1] == "seeds"


@pytest.mark.parametrize("rungs", [2, 5, 12])
def test_every_interval_is_of_the_one_level_that_is_named_beside_a_corrected_p_value(
    tmp_path: Path, rungs: int
) -> None:
    runs = [store(tmp_path / rung, rung, 0, answers(0.9 + 0.006 * i, i)) for i, rung in enumerate(list(MODELS)[:rungs])]
    comparison = Comparison(tuple(runs))
    count = rungs * (rungs - 1) // 2
    assert comparison.content["level"] == comparison.level
    assert (comparison.level["confidence"], comparison.level["differences"]) == (0.95, count)
    assert comparison.level["words"] in comparison.sentences
    verdicts = set()
    for pair in comparison.pairs:
        assert (pair["p_value"] <= 0.05) == (pair["verdict"] != ALIKE)
        assert f"({pair['points'].partition('(')[2]}" in pair["words"]
        assert re.search(r", p = [\d.e−-]+, for ", pair["words"])
        verdicts.add(pair["verdict"])
    best = comparison.recommendation["best"]
    for pair in comparison._judge([(name, best) for name in comparison.groups if name != best]):
        assert (pair["p_value"] <= 0.05) == (pair["upper"] not in comparison.recommendation["alike"])


def test_an_interval_whose_end_looks_like_zero_is_called_no_difference_or_has_more_digits(tmp_path: Path) -> None:
    images, seen = 20_000, 0
    lower = np.arange(images) < 19_000
    for more in range(60, 90):  # that the upper gets right besides: somewhere here the lower end passes zero
        upper = (np.arange(images) < 19_000 + more) & (np.arange(images) >= 40)
        runs = (
            store(tmp_path / f"{more}a", "conv", 0, lower),
            store(tmp_path / f"{more}b", "pool", 0, upper),
        )
        (pair,) = Comparison(runs).pairs
        low = pair["points"].partition("(")[2].partition(" to ")[0]
        if pair["verdict"] == BETTER:
            assert float(low) > 0
            seen += pair["low"] < 5e-5  # two digits of points would show 0.00
    assert seen


# --- one finding


@pytest.mark.long
def test_the_report_takes_what_the_finding_takes(tmp_path: Path, small_npz: Path) -> None:
    dataset = cl.load_dataset(small_npz)
    for rung, seed, epochs in (("fast", 0, 2), ("dense", 0, 1), ("dense", 1, 1), ("dense", 2, 3)):
        cl.train(rung, dataset, replace(cl.DEFAULT, epochs=epochs), seed=seed, directory=tmp_path / "runs")
    page = write_report([tmp_path / "runs"], tmp_path / "report.html").read_text()
    said = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page.partition("<main")[2]))
    comparison = Comparison(tuple(cl.Run(path.parent) for path in sorted((tmp_path / "runs").glob("*/run.json"))))
    assert list(comparison.groups) == ["dense (epochs 1)", "dense (epochs 3)", "fast"]
    found = comparison.recommendation
    assert f"Take {found['take']}: it classifies" in said
    assert said.count("Recommended:") + said.count("Not settled:") == 1
    assert f"{found['take']} take this" in said
    assert ("Until then, take " + found["take"] in said) != found["settled"]
    assert re.search(r"also different .* epochs \d+ and \d+", said)
    assert comparison.level["words"] in said


def test_what_is_not_settled_is_taken_from_the_best(tmp_path: Path) -> None:
    counts = {"dense": (700, 860), "fast": (855, 865)}
    runs = [
        store(tmp_path / f"{rung}{seed}", rung, seed, np.arange(1000) < count)
        for rung in counts
        for seed, count in enumerate(counts[rung])
    ]
    found = Comparison(tuple(runs)).recommendation
    assert (found["settled"], found["name"], found["take"]) == (False, "dense", "fast")
    assert found["words"].endswith("Until then, take `fast`.")


def test_where_nothing_is_cheaper_nothing_is_said_of_the_cheaper(tmp_path: Path) -> None:
    runs = (store(tmp_path / "a", "dense", 0, answers(0.95)), store(tmp_path / "b", "conv", 0, answers(0.7, 1)))
    assert (
        Comparison(runs).recommendation["words"] == "Recommended: `dense`, the most accurate here; none has fewer MACs."
    )


# --- what is taken for what


@pytest.mark.long
def test_a_run_that_differs_in_anything_that_counts_is_not_taken_for_another(tmp_path: Path, small: cl.Dataset) -> None:
    (trial,) = plan(small, ["dense"], default_recipe_for, seeds=1)
    identity = trial.identity(small.fingerprint, small.resize)
    run = cl.train("dense", small, trial.recipe, directory=tmp_path, by_folds=False)
    assert identity_of(json.loads((run.path / "run.json").read_text())) == json.loads(json.dumps(identity))
    changes: list[dict[str, Any]] = [
        {"rung": "conv"},
        {"choices": {"units": 64}},
        {"ensemble": 2},
        {"precision": "other"},
        {"seed": 1},
        {"deterministic": True},
        {"fit": "pad"},
        {"fingerprint": "another"},
        {"tested_by": "5-fold cross-validation"},
        *({"recipe": run.info["recipe"] | {field.name: "changed"}} for field in fields(cl.Recipe)),
    ]
    for changed in changes:
        assert identity_of(run.info | changed) != identity, changed


@pytest.mark.long
def test_runs_of_another_fit_are_not_taken(tmp_path: Path, mnist: cl.Dataset) -> None:
    from PIL import Image

    for digit in (3, 8):  # square pictures: cropped and padded, the pixels are the same
        (tmp_path / "digits" / str(digit)).mkdir(parents=True)
        for number, image in enumerate(mnist.train.images[mnist.train.labels == digit][:60]):
            Image.fromarray(image[..., 0]).save(tmp_path / "digits" / str(digit) / f"{number}.png")
    crop, pad = (cl.load_dataset(tmp_path / "digits", resize=resize) for resize in ("crop", "pad"))
    assert crop.fingerprint == pad.fingerprint

    def one_epoch(rung: str, data: cl.Dataset) -> cl.Recipe:
        return replace(default_recipe_for(rung, data), epochs=1)

    asked: list[str] = []

    def ask(trials: Any, *_: Any, **__: Any) -> Any:
        asked.extend(trial.label for trial in trials)
        return iter(())

    cl.train("dense", crop, one_epoch("dense", crop), directory=tmp_path / "runs", by_folds=False)
    outcomes: list[Outcome] = []
    for data in (crop, pad):
        outcomes += climb(plan(data, ["dense"], one_epoch, seeds=1), data, tmp_path / "runs", runner=ask)
    assert len(outcomes) == 1
    assert asked == ["dense, seed 0"]
