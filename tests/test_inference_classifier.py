"""The shipped model: right answers, from pictures of many kinds, without Keras or TensorFlow."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import convladder as cl
from convladder import workers as parallel
from convladder.data.decoding import decode_image
from convladder.inference.artifact import seal
from convladder.inference.classifier import CUDA


@pytest.fixture
def digits(small: cl.Dataset, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(200)]
    for path, image in zip(paths, small.test.images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    return paths


def test_predictions_from_png_files_are_those_of_the_run(run: cl.Run, digits: list[Path]) -> None:
    answers = list(run.classifier().predict(digits))
    for answer, expected in zip(answers, run.predictions["probabilities"], strict=False):
        assert isinstance(answer, cl.Prediction)
        assert answer.label == str(expected.argmax())
        assert answer.probability == pytest.approx(expected.max(), abs=1e-5)
        assert dict(answer.top) == pytest.approx({str(i): p for i, p in enumerate(expected)}, abs=1e-5)
        assert [p for _, p in answer.top] == sorted((p for _, p in answer.top), reverse=True)


def test_a_bad_picture_gives_its_error_and_the_rest_goes_on(run: cl.Run, digits: list[Path], tmp_path: Path) -> None:
    text, cut = tmp_path / "text.png", tmp_path / "cut.png"
    text.write_text("no picture")
    cut.write_bytes(digits[0].read_bytes()[:60])
    answers = list(run.classifier().predict([text, digits[0], cut, tmp_path / "missing.png", tmp_path, digits[1]]))
    assert [isinstance(answer, cl.ConvladderError) for answer in answers] == [
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert "text.png is not a picture" in str(answers[0])


@pytest.mark.long
def test_prediction_works_where_what_trains_is_not_installed(run: cl.Run, digits: list[Path]) -> None:
    script = (
        "import importlib.abc, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('keras', 'tensorflow', 'sklearn', 'scipy', 'onnx', 'tf2onnx', 'matplotlib'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from convladder.cli import main\n"
        f"sys.argv = ['convladder', 'predict', {str(run.path)!r}, {str(digits[0])!r}]\n"
        "main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    source, label, probability = finished.stdout.strip().split("\t")
    assert source == str(digits[0])
    assert label == str(run.predictions["probabilities"][0].argmax())
    assert float(probability) == pytest.approx(run.predictions["probabilities"][0].max(), abs=1e-4)


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(cl.ConvladderError, match="Could not load"):
        cl.Classifier(tmp_path / "model.onnx")


def test_a_foreign_model_is_refused(run: cl.Run, tmp_path: Path) -> None:
    model = onnx.load(run.path / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(cl.ConvladderError, match="a file that convladder wrote"):
        cl.Classifier(tmp_path / "foreign.onnx")


def test_a_changed_model_is_refused(run: cl.Run, tmp_path: Path) -> None:
    content = bytearray((run.path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1  # a bit of a weight: ONNX Runtime would not notice
    (tmp_path / "changed.onnx").write_bytes(content)
    with pytest.raises(cl.ConvladderError, match="changed or damaged"):
        cl.Classifier(tmp_path / "changed.onnx")


def rewrite(run: cl.Run, path: Path, **changes: object) -> Path:
    """The run's model with other metadata, sealed anew, as somebody might who means it."""
    model = onnx.load(run.path / "model.onnx")
    stored = json.loads(model.metadata_props[0].value) | changes
    onnx.helper.set_model_props(model, {"convladder": json.dumps(stored)})
    path.write_bytes(seal(model.SerializeToString()))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "of format 2"),
        ({"class_names": ["cat", "dog"]}, "10. probabilities for 2 class names"),
        ({"class_names": "0123456789"}, "at least two names"),
        ({"input_shape": [32, 32, 3]}, "Expected one input of that shape"),
        ({"input_shape": 28}, "height, width, channels"),
        ({"stages": ["stage9"]}, "names the stages stage9"),
        ({"fit": "squash"}, "the fit 'squash'"),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    run: cl.Run, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(cl.ConvladderError, match=message):
        cl.Classifier(rewrite(run, tmp_path / "model.onnx", **changes))


@pytest.mark.parametrize("stored", ["{", "[]", "{}"])
def test_metadata_that_are_none_are_refused(run: cl.Run, tmp_path: Path, stored: str) -> None:
    model = onnx.load(run.path / "model.onnx")
    onnx.helper.set_model_props(model, {"convladder": stored})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(cl.ConvladderError, match=r"[Ee]xport it again"):
        cl.Classifier(tmp_path / "model.onnx")


def test_feature_maps_are_those_of_keras(run: cl.Run, small: cl.Dataset) -> None:
    classifier, network = run.classifier(), run.load_model()
    images = small.test.images[:3]
    maps = classifier.feature_maps(images)
    assert tuple(maps) == classifier.stages == ("stage1", "stage2", "hidden")
    for name, layer in zip(maps, ("stage1_relu", "stage2_relu", "hidden"), strict=True):
        expected = keras.Model(network.inputs[0], network.get_layer(layer).output)(images.astype(np.float32))
        np.testing.assert_allclose(maps[name], expected, rtol=1e-4, atol=1e-4)


def test_the_file_tells_what_it_is(run: cl.Run) -> None:
    told = run.classifier().metadata
    assert told["rung"] == "fast"
    assert told["dataset"] == run.info["dataset"]
    assert told["fingerprint"] == run.info["fingerprint"]
    assert told["test_accuracy"] == run.metrics["test"]["accuracy"]
    assert told["version"] == cl.__version__


def test_below_the_threshold_it_abstains(run: cl.Run, digits: list[Path], tmp_path: Path) -> None:
    sure = cl.Classifier(rewrite(run, tmp_path / "never.onnx", threshold=0.0))
    unsure = cl.Classifier(rewrite(run, tmp_path / "always.onnx", threshold=1.1))
    for classifier, abstained in ((sure, False), (unsure, True)):
        (answer,) = classifier.predict(digits[:1])
        assert isinstance(answer, cl.Prediction)
        assert answer.abstained is abstained


def test_the_bytes_of_a_picture_are_decoded_as_its_file_is(run: cl.Run, digits: list[Path]) -> None:
    classifier = run.classifier()
    np.testing.assert_array_equal(classifier.decode(digits[0].read_bytes()), classifier.decode(digits[0]))
    with pytest.raises(cl.ConvladderError, match="The picture is not a picture"):
        classifier.decode(b"text")


def test_answers_come_before_the_sources_end(run: cl.Run, digits: list[Path]) -> None:
    taken = []

    def endless() -> Iterator[Path]:
        for path in itertools.cycle(digits):
            taken.append(path)
            yield path

    answers = run.classifier().predict(endless())
    assert isinstance(next(answers), cl.Prediction)
    assert len(taken) == 1
    labels = [answer.label for answer in itertools.islice(answers, 599) if isinstance(answer, cl.Prediction)]
    assert labels == [str(p.argmax()) for p in np.tile(run.predictions["probabilities"][:200], (3, 1))][1:]
    answers.close()  # type: ignore[attr-defined]


@pytest.mark.long
def test_processes_that_decode_change_no_answer(
    run: cl.Run, digits: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "SECONDS_A_START", 0.0)  # start them at once
    monkeypatch.setattr(parallel, "SECONDS_TO_JUDGE", 0.0)
    (tmp_path / "bad.png").write_text("no picture")
    sources = [*digits, tmp_path / "bad.png"] * 5
    answers = list(run.classifier().predict(sources))
    expected = [str(p.argmax()) for p in run.predictions["probabilities"][:200]]
    for number, answer in enumerate(answers):
        place = number % 201
        assert isinstance(answer, cl.ConvladderError if place == 200 else cl.Prediction)
        assert isinstance(answer, cl.ConvladderError) or (answer.label, answer.source) == (
            expected[place],
            str(digits[place]),
        )
    assert len(answers) == len(sources)


def test_it_computes_on_as_many_threads_as_it_is_given(run: cl.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convladder.inference.classifier.count_threads", lambda: 3)
    for given, expected in ((0, 3), (1, 1), (2, 2)):
        classifier = cl.Classifier(run.path / "model.onnx", threads=given)
        assert classifier._session.get_session_options().intra_op_num_threads == expected


def test_threads_may_share_a_classifier(run: cl.Run, small: cl.Dataset) -> None:
    classifier = run.classifier()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(classifier.predict_probabilities, np.split(small.test.images, 50)))
        maps = list(threads.map(classifier.feature_maps, [small.test.images[:2]] * 4))
    np.testing.assert_allclose(np.concatenate(answers), run.predictions["probabilities"], atol=1e-5)
    assert all((one["hidden"] == maps[0]["hidden"]).all() for one in maps)


def test_pictures_are_fitted_as_they_were_for_training(run: cl.Run, small: cl.Dataset, tmp_path: Path) -> None:
    assert run.classifier().resize == small.resize
    rewrite(run, tmp_path / "crop.onnx", fit="crop")
    wide = np.pad(small.test.images[0, ..., 0], ((0, 0), (14, 14)), constant_values=255)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (answer,) = cl.Classifier(tmp_path / "crop.onnx").predict([tmp_path / "wide.png"])
    assert isinstance(answer, cl.Prediction)
    assert answer.probability == pytest.approx(run.predictions["probabilities"][0].max(), abs=1e-5)


def gradient() -> Image.Image:
    return Image.fromarray(np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_kind_of_picture_becomes_what_the_model_takes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    gradient().convert(mode).save(path)
    assert decode_image(path, (28, 28, 1)).shape == (28, 28, 1)
    assert decode_image(path, (20, 30, 3)).shape == (20, 30, 3)


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    picture = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    picture.save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(np.asarray(picture), k=-1)
    np.testing.assert_array_equal(decode_image(tmp_path / "turned.png", (28, 28, 1))[..., 0], expected)


def test_a_file_that_says_nothing_of_its_answers_gives_them_as_they_are(run: cl.Run, tmp_path: Path) -> None:
    model = onnx.load(run.path / "model.onnx")
    stored = json.loads(model.metadata_props[0].value)
    kept = {key: value for key, value in stored.items() if key not in ("temperature", "threshold", "fit")}
    onnx.helper.set_model_props(model, {"convladder": json.dumps(kept)})
    (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
    classifier = cl.Classifier(tmp_path / "model.onnx")
    assert (classifier.temperature, classifier.threshold, classifier.resize) == (1.0, 0.0, "stretch")


def test_the_name_of_the_gpu_provider_is_onnx_runtime_s() -> None:
    assert CUDA in onnxruntime.get_all_providers()  # which lists those of other builds, too
