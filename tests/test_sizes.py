"""Rungs of different sizes on the same photographs: one comparison, its report, and what is done with a run of 224."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.comparing.compare import climb, conclude
from convladder.comparing.comparison import Comparison
from convladder.comparing.costs import _measure_backbone, estimate
from convladder.comparing.planning import plan
from convladder.data.dataset import Split
from convladder.data.features import compute_features
from convladder.data.loading import at_size
from convladder.models.ladder import MODELS, explain_left_out, suited_rungs
from convladder.reporting.repeating import command_for
from convladder.reporting.report import write_report
from convladder.training.recipes import TUNED, default_recipe_for
from test_comparing_resuming import here

RUNG_BY_DEFAULT = "The rung is transfer, because these are photographs, 70 pixels at their shorter side"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in front of a dark or a light ground, large enough to be taken for photographs."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "pictures"
    for number in range(24):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (70, 80, 3), np.uint8) + np.uint8(number % 2 * 100)
        Image.fromarray(pixels).save(folder / "ab"[number % 2] / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def transferred(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    """As `compare` trains it: tested on what was held out, although that is little."""
    return cl.train("transfer", cl.load_dataset(folder), directory=tmp_path_factory.mktemp("runs"), by_folds=False)


@pytest.fixture(scope="module")
def compared(folder: Path, transferred: cl.Run) -> Comparison:
    """The run that there is, and one beside it."""
    directory = transferred.path.parent
    data = cl.load_dataset(folder)
    trials = plan(data, ["dense", "transfer"], quick_recipe, seeds=1)
    outcomes = list(climb(trials, data, directory, runner=here()))
    assert [outcome.run.path.name for outcome in outcomes if outcome.run] == ["transfer-1", "dense-1"]
    return conclude(outcomes, directory)


def quick_recipe(rung: str, dataset: cl.Dataset) -> cl.Recipe:
    recipe = default_recipe_for(rung, dataset)
    return recipe if rung == "transfer" else replace(recipe, epochs=2)


@pytest.mark.long
def test_each_rung_has_its_own_size_and_the_table_and_the_words_say_so(compared: Comparison) -> None:
    assert [row["image_size"] for row in compared.rows] == [48, 224]
    assert "`transfer` at 224 pixels" in compared.pairs[0]["words"]
    assert "`dense` at 48 pixels" in compared.pairs[0]["words"]
    assert "<td>224</td>" in compared._repr_html_()
    assert len({run.info["content"] for run in compared.runs}) == 1
    assert all(run.metrics["costs"]["latency_seconds"] > 0 for run in compared.runs)


@pytest.mark.long
def test_the_report_looks_into_each_rung_at_its_own_size(compared: Comparison, tmp_path: Path) -> None:
    page = write_report(compared, tmp_path / "report.html").read_text()
    assert "This report has no pictures" not in page
    assert "dense (48 pixels)" in page
    # `dense` alone had other epochs than is usual, which no one command says; so there is none.
    assert "convladder compare --data" not in page
    assert not any("robustness" in cl.Run(run.path).metrics for run in compared.runs)  # 4 test pictures would not tell


@pytest.mark.long
def test_the_command_that_does_it_again_names_a_size_only_where_one_was_named(
    folder: Path, transferred: cl.Run, tmp_path: Path
) -> None:
    runs = []
    for size in (None, 32):
        data = cl.load_dataset(folder, image_size=size)
        recipe = replace(default_recipe_for("dense", data), epochs=1)
        runs.append(cl.train("dense", data, recipe, directory=tmp_path))

    def command(*of: cl.Run) -> str | None:
        return command_for(Comparison(of))

    start = f"convladder compare --data {folder}"
    assert command(runs[0], transferred) == f"{start} --models dense,transfer --seeds 1 --epochs 1"
    assert command(runs[1]) == f"{start} --image-size=32 --models dense --seeds 1 --epochs 1"
    assert command(runs[1], transferred) is None  # no one command gives these two sizes


@pytest.mark.long
def test_finished_runs_of_every_size_are_taken(folder: Path, compared: Comparison) -> None:
    data = cl.load_dataset(folder)

    def refuse(trials: Any, *_: Any, **__: Any) -> Any:
        assert not list(trials)
        return iter(())

    trials = plan(data, ["dense", "transfer"], quick_recipe, seeds=1)
    outcomes = climb(trials, data, compared.runs[0].path.parent, runner=refuse)
    assert {outcome.run.path.name for outcome in outcomes if outcome.run} == {"dense-1", "transfer-1"}


@pytest.mark.long
def test_a_run_of_224_pixels_is_evaluated_on_other_data_and_explained(
    folder: Path,
    transferred: cl.Run,
    convladder: Any,
) -> None:
    evaluated = convladder("evaluate", transferred.path, "--data", folder, "--json")
    assert json.loads(evaluated.out)["images"] == 24
    assert convladder("explain", transferred.path, folder / "a" / "0.png").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", 1], "--minutes has no effect on transfer"),
        (["--ensemble", 2], "--ensemble has no effect on transfer"),
        (["--pooling", "average"], "transfer has no choice pooling"),
    ],
)
def test_a_refusal_of_the_rung_that_train_took_is_one_line_that_says_why_it_is_that_rung(
    folder: Path,
    convladder: Any,
    options: list[object],
    message: str,
) -> None:
    refused = convladder("train", "--data", folder, *options)
    assert (refused.status, refused.out) == (2, "")
    (line,) = refused.err.splitlines()
    assert message in line
    assert RUNG_BY_DEFAULT in line
    assert not Path("runs").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "--model", "conv", "--kernel-size", 100, "--padding", "valid"], "A kernel of 100×100"),
        (["train", "--model", "transfer", "--minutes", 1], "--minutes has no effect"),
        (["evaluate", "RUN", "--split", "tst"], "Did you mean test?"),
    ],
)
def test_nothing_is_said_of_the_files_before_a_refusal(
    folder: Path,
    transferred: cl.Run,
    convladder: Any,
    command: list[object],
    message: str,
) -> None:
    (folder / "a" / "bad.png").write_text("no picture")  # which is said where nothing is refused
    try:
        refused = convladder(*(transferred.path if word == "RUN" else word for word in command), "--data", folder)
    finally:
        (folder / "a" / "bad.png").unlink()
    assert (refused.status, refused.out) == (2, "")
    (line,) = refused.err.splitlines()
    assert message in line


@pytest.mark.long
def test_runs_of_other_pictures_are_refused_though_their_labels_are_the_same(folder: Path, tmp_path: Path) -> None:
    others = tmp_path / "pictures"
    for path in folder.glob("*/*.png"):
        (others / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(others / path.parent.name / path.name)
    runs = []
    for source in (folder, others):
        data = cl.load_dataset(source)
        runs.append(cl.train("dense", data, quick_recipe("dense", data), directory=tmp_path / "runs"))
    np.testing.assert_array_equal(runs[0].predictions["labels"], runs[1].predictions["labels"])
    with pytest.raises(cl.ConvladderError, match="different images"):
        Comparison(tuple(runs))


def test_the_content_of_arrays_is_the_same_whichever_of_them_validate(small: cl.Dataset) -> None:
    assert small.without_validation().identity == small.identity
    changed = small.train.images.copy()
    changed[7] = 255 - changed[7]
    assert replace(small, train=Split(changed, small.train.labels)).identity != small.identity


@pytest.mark.long
def test_an_estimate_is_measured_at_the_size_of_its_rung_and_knows_kept_features(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cl.load_dataset(folder)
    steps = [
        estimate(data, "dense", replace(default_recipe_for("dense", data), epochs=epochs)) for epochs in (1, 100_000)
    ]
    assert steps[1].run > 2 * steps[0].run > 0
    large = at_size(data, 224)
    recipe = default_recipe_for("transfer", large)
    compute_features([split.images for split in (large.train, large.validation, large.test)])
    measured: list[tuple[int, ...]] = []

    def noted(parts: Any, **how: Any) -> Any:
        measured.extend(part.shape[1:] for part in parts)
        return compute_features(parts, **how)

    monkeypatch.setattr("convladder.comparing.costs.compute_features", noted)
    estimate(large, "transfer", recipe)
    assert set(measured) == {(224, 224, 3)}
    assert 0.001 < _measure_backbone(large) < 0.9  # seconds an image
    monkeypatch.setattr("convladder.comparing.costs._measure_backbone", lambda dataset: 1.0)
    kept = estimate(large, "transfer", recipe)
    monkeypatch.setattr("convladder.comparing.costs.are_kept", lambda images: False)
    assert estimate(large, "transfer", recipe).run - kept.run == pytest.approx(2 * 24, abs=5)  # two passes over all
    assert estimate(data, "dense", replace(recipe, minutes=3.0)).run == 180  # they are for the whole run


@pytest.mark.parametrize("photographs", [True, False])
def test_every_rung_is_compared_by_default_or_left_out_with_a_reason(photographs: bool) -> None:
    suited, line = suited_rungs(photographs), explain_left_out(photographs)
    assert "\n" not in line
    assert "--models all" in line
    named = re.sub(r"\(.*?\)", "", line).replace(",", " ").split()
    assert all((rung in named) != (rung in suited) for rung in MODELS)
    assert [rung for rung in suited if rung in ("transfer", "finetune")] == ["transfer", "finetune"] * photographs


def test_photographs_count_steps_and_mnist_s_recipes_stay(mnist: cl.Dataset, folder: Path) -> None:
    for rung in suited_rungs(False):
        assert default_recipe_for(rung, mnist) == replace(cl.DEFAULT, **TUNED.get(rung, {}))
    few = cl.load_dataset(folder)
    for rung in suited_rungs(True)[:-2]:
        recipe = default_recipe_for(rung, few)
        assert recipe.augment == "photos"
        assert (
            recipe.epochs * len(few.train) / recipe.batch_size > 50
        )  # two epochs of a batch of 256 would be two steps
        assert recipe.learning_rate < cl.DEFAULT.learning_rate
