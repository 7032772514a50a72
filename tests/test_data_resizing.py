"""`resize` and what it was called before, `fit`: both are accepted, and files keep the old key."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder import cli
from convladder.comparing.settings import identity_of
from convladder.data.decoding import decode_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice as wide as high, so that crop, pad and stretch differ."""
    folder = tmp_path_factory.mktemp("wide") / "pictures"
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(noise.integers(0, 256, (16, 32), np.uint8)).save(folder / name / f"{number}.png")
    return folder


def call(*arguments: str) -> int:
    """Call the command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["convladder", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    """Trained by the old option."""
    runs = tmp_path_factory.mktemp("runs")
    options = ["--model", "dense", "--epochs", "1", "--image-size", "16", "--fit", "pad", "--runs", str(runs)]
    assert call("train", "--data", str(folder), *options) == 0
    return cl.Run(runs / "dense-1")


def test_the_old_option_is_accepted_and_not_shown(run: cl.Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run.classifier().resize == "pad"
    assert call("train", "--help") == 0
    shown = capfd.readouterr().out
    assert "--resize" in shown
    assert "--fit" not in shown


@pytest.mark.filterwarnings("error")
def test_the_old_keyword_is_accepted(folder: Path) -> None:
    new, old = cl.load_dataset(folder, image_size=16, resize="pad"), cl.load_dataset(folder, image_size=16, fit="pad")  # type: ignore[call-arg]
    assert (old.fingerprint, old.source, old.resize) == (new.fingerprint, new.source, "pad")
    assert new.fingerprint != cl.load_dataset(folder, image_size=16).fingerprint
    picture = folder / "cat" / "0.png"
    padded = decode_image(picture, (16, 16, 1), fit="pad")  # type: ignore[call-arg]
    np.testing.assert_array_equal(padded, decode_image(picture, (16, 16, 1), resize="pad"))
    splits = (new.train, new.validation, new.test)
    built = cl.Dataset("built", new.class_names, *splits, fit="crop")  # type: ignore[call-arg]
    assert built.resize == built.fit == "crop"


def test_both_names_at_once_are_refused(folder: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected resize alone"):
        cl.load_dataset(folder, resize="pad", fit="crop")  # type: ignore[call-arg]


def test_files_keep_the_old_key_and_are_read_by_it(run: cl.Run) -> None:
    """A run.json of today has the keys of one from before, so either is taken for the other."""
    assert run.info["fit"] == run.info["data"]["fit"] == run.classifier().metadata["fit"] == "pad"
    assert "resize" not in json.dumps([run.info, run.classifier().metadata])
    assert run.load_dataset().resize == "pad"
    assert identity_of(run.info)["fit"] == "pad"
