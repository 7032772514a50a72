"""What Python code may hand over by mistake: one path for several, and arrays that are no pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.evaluating.explaining import feature_maps

GOOD = np.zeros((2, 28, 28, 1), np.uint8)
BAD: dict[str, Any] = {
    "one picture": GOOD[0],
    "no channels": GOOD[..., 0],
    "channels first": GOOD.transpose(0, 3, 1, 2),
    "colours": np.zeros((2, 28, 28, 3), np.uint8),
    "another size": GOOD[:, :20],
    "a list": GOOD.tolist(),
    "none": None,
    "objects": GOOD.astype(object),
    "texts": GOOD.astype(str),
    "complex numbers": GOOD.astype(complex),
    "dates": GOOD.astype("datetime64[s]"),
    "negative": GOOD - np.int64(1),
    "too large": GOOD + np.int64(256),
    "not a number": np.full(GOOD.shape, np.nan),
    "infinite": np.full(GOOD.shape, np.inf, np.float32),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_are_no_pictures_are_refused_in_one_line(run: cl.Run, name: str) -> None:
    classifier = run.classifier()
    for ask in (classifier.predict_probabilities, classifier.feature_maps):
        with pytest.raises(cl.ConvladderError, match=r"^The images (are|have) .*Expected") as raised:
            ask(BAD[name])
        assert "\n" not in str(raised.value)
        assert "ONNX" not in str(raised.value)


def test_arrays_of_other_layouts_and_numbers_are_answered_alike(run: cl.Run, small: cl.Dataset) -> None:
    classifier, images = run.classifier(), small.test.images[:6]
    expected = classifier.predict_probabilities(images)
    layouts: tuple[Callable[[Any], Any], ...] = (
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=2)[:, :, ::2],
        lambda array: array[::-1][::-1],
        lambda array: array.astype(np.int64),
        lambda array: array.astype(np.float64),
        lambda array: array.astype(">u2"),
    )
    for layout in layouts:
        np.testing.assert_array_equal(classifier.predict_probabilities(layout(images)), expected)
    assert classifier.predict_probabilities(images[:0]).shape == (0, 10)


def test_one_path_is_one_picture(run: cl.Run, small: cl.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(small.test.images[0, ..., 0]).save(path)
    classifier = run.classifier()
    (expected,) = classifier.predict([path])
    assert list(classifier.predict(str(path))) == list(classifier.predict(path)) == [expected]
    assert isinstance(expected, cl.Prediction)


@pytest.mark.parametrize("sources", [b"x.png", GOOD, 5, None])
def test_what_is_no_path_is_refused_at_the_call(run: cl.Run, sources: Any) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected paths of pictures"):
        run.classifier().predict(sources)


@pytest.mark.parametrize("source", [b"x.png", GOOD, 5])
def test_what_is_no_path_among_several_is_refused(run: cl.Run, source: Any) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected the path of a picture"):
        list(run.classifier().predict([source]))


@pytest.mark.long
def test_one_folder_is_one_run(run: cl.Run, tmp_path: Path) -> None:
    written = [cl.write_report(given, tmp_path / "report.html").read_text() for given in (run, str(run.path), [run])]
    assert written[0] == written[1] == written[2]
    assert cl.evaluate(str(run.path)) == cl.evaluate(run)


def test_one_rung_is_a_name_and_not_letters(small: cl.Dataset, tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match=r"'pol' is not a rung.* Did you mean pool"):
        cl.compare(small, "pol", directory=tmp_path)
    with pytest.raises(cl.ConvladderError, match="5 is not a rung"):
        cl.compare(small, [5], directory=tmp_path)  # type: ignore[list-item]


@pytest.mark.parametrize("image", [GOOD, GOOD[0, ..., 0], "x.png", GOOD[0].astype(object), GOOD[0, :0], GOOD[0, :20]])
def test_what_is_not_one_picture_is_not_explained(run: cl.Run, image: Any) -> None:
    predict, network = run.classifier().predict_probabilities, run.load_model()
    for ask in (
        lambda: cl.occlude(predict, image),
        lambda: cl.explain(predict, image),
        lambda: cl.grad_cam(network, image),
        lambda: feature_maps(network, image, "stage1_conv"),
    ):
        with pytest.raises(cl.ConvladderError, match=r"^The images? (is|are|has|have) .*Expected"):
            ask()


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_none_is_refused(run: cl.Run, label: int) -> None:
    with pytest.raises(cl.ConvladderError, match=r"label .* is out of range"):
        cl.occlude(run.classifier().predict_probabilities, GOOD[0], label)
    with pytest.raises(cl.ConvladderError, match=r"label .* is out of range"):
        cl.grad_cam(run.load_model(), GOOD[0], label)
