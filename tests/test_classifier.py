"""The shipped model: right answers, from pictures of many kinds, without Keras or TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import convladder as cl
from convladder.artifact import seal
from convladder.data.decoding import decode_image


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
    assert "text.png is no picture" in str(answers[0])


def test_prediction_imports_neither_keras_nor_tensorflow(run: cl.Run, digits: list[Path]) -> None:
    script = (
        "import sys\n"
        "from convladder.cli import main\n"
        f"sys.argv = ['convladder', 'predict', {str(run.path)!r}, {str(digits[0])!r}]\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'keras', 'tensorflow', 'sklearn', 'scipy', 'onnx', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
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
    with pytest.raises(cl.ConvladderError, match="cannot be loaded"):
        cl.Classifier(tmp_path / "model.onnx")


def test_a_foreign_model_is_refused(run: cl.Run, tmp_path: Path) -> None:
    model = onnx.load(run.path / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(cl.ConvladderError, match="a file that convladder wrote"):
        cl.Classifier(tmp_path / "foreign.onnx")


def test_pictures_are_fitted_as_they_were_for_training(run: cl.Run, small: cl.Dataset, tmp_path: Path) -> None:
    model = onnx.load(run.path / "model.onnx")
    stored = json.loads(model.metadata_props[0].value)
    assert stored["fit"] == small.fit
    onnx.helper.set_model_props(model, {"convladder": json.dumps(stored | {"fit": "crop"})})
    (tmp_path / "crop.onnx").write_bytes(seal(model.SerializeToString()))
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
