"""Maps against their definitions in NumPy and SciPy; the commands against the files they promise."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.signal import correlate2d

import convladder as cl
from convladder.cli.explain import _names
from convladder.evaluating.explaining import (
    explain,
    feature_maps,
    first_filters,
    grad_cam,
    predict_with,
    randomize,
    rank_correlation,
)


@pytest.fixture(scope="module")
def seven(small: cl.Dataset) -> npt.NDArray[np.uint8]:
    image: npt.NDArray[np.uint8] = small.test.images[0]
    return image


def test_grad_cam_is_a_class_activation_map_where_places_are_averaged(seven: npt.NDArray[np.uint8]) -> None:
    (model,) = untrained("residual")
    # Zhou et al. 2015, arXiv:1512.04150: feature maps, weighed as the last layer weighs their means.
    maps = feature_maps(model, seven, "stage10_conv2_relu")
    for label in (0, 4):
        weights = model.get_layer("logits").get_weights()[0][:, label]
        small = np.maximum((maps * weights).sum(axis=2), 0).astype(np.float32)
        expected = np.asarray(Image.fromarray(small).resize((28, 28), Image.Resampling.BILINEAR)) / small.max()
        for by_place in (False, True):
            found = grad_cam(model, seven, label, by_place=by_place)
            np.testing.assert_allclose(found, expected / expected.max(), atol=1e-4)


def test_first_filters_and_feature_maps_are_those_of_the_convolution(run: cl.Run, seven: npt.NDArray[np.uint8]) -> None:
    model = run.load_model()
    filters = first_filters(model)
    assert filters.shape == (16, 5, 5, 1)
    maps = feature_maps(model, seven, "stage1_conv")
    bias = model.get_layer("stage1_conv").get_weights()[1]
    for number in (0, 7):
        expected = correlate2d(seven[..., 0] / 255, filters[number, ..., 0], mode="valid") + bias[number]
        np.testing.assert_allclose(maps[..., number], expected, atol=1e-4)
    assert feature_maps(model, seven, "hidden").shape == (96,)
    with pytest.raises(cl.ConvladderError, match="Did you mean stage1_conv"):
        feature_maps(model, seven, "stage1_con")
    with pytest.raises(cl.ConvladderError, match="keeps places"):
        grad_cam(model, seven, layer="hidden")


def test_dense_has_filters_as_large_as_the_picture_and_no_grad_cam(seven: npt.NDArray[np.uint8]) -> None:
    model = cl.build_model("dense", (28, 28, 1), 10)
    kernel = model.get_layer("hidden1").get_weights()[0]
    np.testing.assert_array_equal(first_filters(model)[5].ravel(), kernel[:, 5])
    with pytest.raises(cl.ConvladderError, match=r"no convolution.*Occlusion"):
        grad_cam(model, seven)
    assert list(explain(predict_with(model), seven, model).maps) == ["occlusion"]


def test_occlusion_finds_the_pixels_that_count() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[4, 25] = 200

    def predict(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        seen = (images[:, 4, 25, 0] == 200).astype(np.float32)
        return np.stack([1 - 0.8 * seen, 0.8 * seen], axis=1)

    found = cl.occlude(predict, image)
    assert found.shape == (20, 30)
    assert found.max() == found[4, 25] == pytest.approx(0.8)  # every patch over it takes the answer away
    rows, columns = np.nonzero(found)
    assert rows.min() > 4 - 4
    assert rows.max() < 4 + 4
    assert columns.min() > 25 - 4
    assert columns.max() < 25 + 4
    np.testing.assert_allclose(cl.occlude(predict, image, label=0), -found, atol=1e-6)


def test_a_shipped_model_is_occluded_as_its_network_is(run: cl.Run, seven: npt.NDArray[np.uint8]) -> None:
    shipped = cl.occlude(run.classifier().predict_probabilities, seven)
    np.testing.assert_allclose(shipped, cl.occlude(predict_with(run.load_model()), seven), atol=1e-4)
    assert shipped.max() > 0
    ink = seven[..., 0] > 0
    assert shipped[ink].mean() > shipped[~ink].mean()


def test_maps_change_with_the_weights(run: cl.Run, seven: npt.NDArray[np.uint8]) -> None:
    model = run.load_model()
    random = randomize(model)
    kernel = random.get_layer("hidden").get_weights()[0]
    assert kernel.std() == pytest.approx((2 / len(kernel)) ** 0.5, rel=0.05)
    assert kernel.shape == model.get_layer("hidden").get_weights()[0].shape
    one = explain(predict_with(model), seven, model, random_models=[random, randomize(model, 1)])
    assert set(one.sanity) == set(one.maps) == {"grad-cam", "hires-cam", "occlusion"}
    assert all(abs(correlation) < 0.7 for correlation in one.sanity.values())
    itself = explain(predict_with(model), seven, model, random_models=[model])
    assert min(itself.sanity.values()) > 0.99
    assert np.isnan(rank_correlation(one.maps["occlusion"], np.zeros((28, 28), np.float32)))


@pytest.mark.parametrize("rung", ["batchnorm", "residual", "strong"])
def test_a_randomized_network_still_answers(rung: str, seven: npt.NDArray[np.uint8]) -> None:
    found = cl.occlude(predict_with(randomize(*untrained(rung))), seven)
    assert np.ptp(found) > 1e-5  # a hundred times what float32 rounds: a flat map has no ranks, and would prove nothing


def test_an_ensemble_s_map_is_the_mean_of_its_members(seven: npt.NDArray[np.uint8]) -> None:
    members = [keras.Model(m.input, m.output, name=f"member{n}") for n, m in enumerate(untrained("fast", "tiny"))]
    image = keras.Input((28, 28, 1))
    model = keras.Model(image, keras.layers.Average()([member(image) for member in members]))
    label = int(predict_with(model)(seven[np.newaxis])[0].argmax())
    mean = np.sum([grad_cam(member, seven, label) for member in members], axis=0)
    np.testing.assert_allclose(grad_cam(model, seven), mean / mean.max(), atol=1e-4)
    assert randomize(model).count_params() == model.count_params()
    np.testing.assert_array_equal(first_filters(model), first_filters(members[0]))


def untrained(*rungs: str) -> list[keras.Model]:
    keras.utils.set_random_seed(5)
    return [cl.build_model(rung, (28, 28, 1), 10) for rung in rungs]


@pytest.fixture
def digits(small: cl.Dataset, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(small.test.images[0, ..., 0]).save(tmp_path / folder / "seven.png")
    (tmp_path / "text.png").write_text("no picture")


@pytest.mark.long
@pytest.mark.usefixtures("digits")
def test_explain_writes_a_file_a_map_and_goes_on_after_a_bad_picture(convladder: Any, run: cl.Run) -> None:
    result = convladder(
        "explain", run.path, "a/seven.png", "text.png", "b/seven.png", "--layer", "stage2_conv", "--sanity", "--json"
    )
    assert result.status == 2
    bad, first, second = map(json.loads, result.out.splitlines())
    assert "not a picture" in bad["error"]
    assert first["label"] == str(run.predictions["probabilities"][0].argmax())
    assert set(first["sanity"]) == {"grad-cam", "hires-cam", "occlusion"}
    assert not set(first["files"]) & set(second["files"])
    for name in [*first["files"], *second["files"], "explained/filters.png"]:
        with Image.open(name) as picture:
            assert picture.format == "PNG"
            assert np.ptp(np.asarray(picture)) > 100  # something is to be seen


@pytest.mark.usefixtures("digits")
def test_explain_writes_one_figure_also_of_a_shipped_model(convladder: Any, run: cl.Run, tmp_path: Path) -> None:
    result = convladder("explain", run.path / "model.onnx", "a/seven.png", "--figure", "one.svg")
    assert result.status == 0
    assert "</svg>" in (tmp_path / "one.svg").read_text()
    assert not (tmp_path / "explained").exists()


@pytest.mark.usefixtures("digits")
def test_explain_takes_what_predict_takes(convladder: Any, run: cl.Run, tmp_path: Path) -> None:
    (tmp_path / "text.png").unlink()
    (tmp_path / "shipped").mkdir()  # a folder with model.onnx alone
    shutil.copy(run.path / "model.onnx", tmp_path / "shipped")
    for model in (run.path, "shipped"):
        result = convladder("explain", model, ".", "b/*.png", "--json")
        assert result.status == 0, result.err
        answers = [json.loads(line) for line in result.out.splitlines()]
        assert [answer["source"] for answer in answers] == ["a/seven.png", "b/seven.png", "b/seven.png"]
        files = [file for answer in answers for file in answer["files"]]
        assert len(set(files)) == len(files) == 3 * len(answers[0]["files"])
        shutil.rmtree(tmp_path / "explained")


@pytest.mark.usefixtures("digits")
def test_a_map_that_shows_nothing_is_said_and_not_drawn_black(convladder: Any, run: cl.Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.path, tmp_path / "run"))
    model = cl.Run(folder).load_model()
    for name, sign in (("hidden", 1), ("logits", -1)):  # the more is seen, the less it speaks for any class
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([sign * np.abs(kernel), np.abs(bias)])
    model.save(folder / "model.keras")
    result = convladder("explain", "run", "a/seven.png", "--json", "--figure", "all.png")
    assert result.status == 0
    said = [line for line in result.err.splitlines() if "shows nothing" in line]
    assert [line.split()[1] for line in said] == ["grad-cam", "hires-cam"]
    assert all("no feature map supports the class" in line and line.endswith("see occlusion.") for line in said)
    assert set(json.loads(result.out)["flat"]) == {"grad-cam", "hires-cam"}


def test_maps_are_flat_where_they_are_zero_rounded_or_no_numbers(seven: npt.NDArray[np.uint8]) -> None:
    def always(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.full((len(images), 2), (0.4, 0.6 + 1e-8), np.float32)

    assert "whatever is covered" in explain(always, seven).flat["occlusion"]
    (model,) = untrained("fast")
    model.get_layer("stage1_conv").set_weights([np.zeros((5, 5, 1, 16)), np.zeros(16)])
    seen = explain(predict_with(model), seven, model, layer="stage1_conv")
    assert "not active" in seen.flat["stage1_conv"]
    model.get_layer("logits").bias.assign(np.full(10, np.nan))
    broken = explain(predict_with(model), seven, model).flat
    assert "not finite" in broken["occlusion"]
    assert explain(predict_with(*untrained("pool")), seven).flat == {}


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "one.txt"], "ends in .png or .svg"),
        (["--layer", "stage9_conv"], "'stage9_conv' is not a layer"),
    ],
)
def test_explain_refuses_what_it_cannot_do(
    convladder: Any,
    run: cl.Run,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    result = convladder("explain", run.path, "a/seven.png", *arguments)
    assert result.status == 2
    assert message in result.err
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "text.png"}
    shipped = convladder("explain", run.path / "model.onnx", "a/seven.png", "--sanity")
    assert shipped.status == 2
    assert "Expected a run folder" in shipped.err


@pytest.mark.parametrize(
    "stems",
    [["a", "a"], ["a", "A"], ["a", "a", "a-1"], ["a-2", "a", "a", "a-2-"], ["É", "é", "e"], ["a", "A-2", "a"]],
)
def test_maps_of_equal_names_do_not_overwrite_one_another(stems: list[str]) -> None:
    names = _names(stems)
    assert len({name.casefold() for name in names}) == len(stems)
    assert all(name.casefold().startswith(stem.casefold()) for name, stem in zip(names, stems, strict=True))
