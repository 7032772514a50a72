"""What is shipped: sdist and wheel are built, installed in clean environments with the pinned versions, and tried."""

import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import convladder as cl

ROOT = Path(__file__).parents[1]
BASE = ROOT / "requirements" / "base.txt"
pytestmark = [pytest.mark.long, pytest.mark.network, pytest.mark.xdist_group("packaging")]


def build(source: Path, kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(folder), str(source)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="module")
def wheels(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of the checkout, and that of the sdist."""
    return {
        name: build(source, "wheel", tmp_path_factory.mktemp(name))
        for name, source in (("checkout", ROOT), ("sdist", unpacked))
    }


@pytest.fixture(scope="module", params=["checkout", "sdist"])
def installed(
    request: pytest.FixtureRequest, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of programs of a new environment with a wheel and the base install."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(BASE)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheels[request.param])], check=True)
    return folder / "bin"


def call(program: Path, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Call a program outside of the checkout, with nothing of this environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = [str(program), *map(str, arguments)]
    finished = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == status, finished.stderr
    return finished


def test_the_wheel_of_the_sdist_is_byte_for_byte_that_of_the_checkout(wheels: dict[str, Path]) -> None:
    assert wheels["checkout"].name == wheels["sdist"].name
    assert wheels["checkout"].read_bytes() == wheels["sdist"].read_bytes()


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheels: dict[str, Path]) -> None:
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = set(zipfile.ZipFile(wheels["checkout"]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == {
        name.removeprefix("src/") for name in listed.splitlines()
    }
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if ".dist-info/" in name}


def test_the_sdist_holds_the_tests_and_what_they_need(unpacked: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "tests", "docs", "examples", "benchmarks", "requirements", ".ci", "Makefile", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [name for name in listed.splitlines() if not (unpacked / name).exists()] == []


def test_installed_it_predicts_and_names_the_extra_that_trains(installed: Path, run: cl.Run, small: cl.Dataset) -> None:
    program = installed / "convladder"
    assert "predict" in call(program, "--help").stdout
    assert call(program, "--version").stdout == f"convladder {cl.__version__}\n"
    picture = next((ROOT / "src" / "convladder" / "data" / "clothes" / "test").rglob("*.jpg"))
    (answer,) = map(
        json.loads, call(program, "predict", run.path / "model.onnx", picture, "--json").stdout.splitlines()
    )
    (expected,) = run.classifier().predict([picture])
    assert isinstance(expected, cl.Prediction)
    assert answer["label"] == expected.label
    assert answer["probability"] == pytest.approx(expected.probability, abs=1e-6)
    refused = call(program, "train", status=1).stderr
    assert re.fullmatch(r".*convladder\[train\].*\n", refused), refused


@pytest.fixture
def serving(installed: Path, run: cl.Run) -> Iterator[str]:
    command = [str(installed / "convladder"), "serve", str(run.path / "model.onnx"), "--port", "0"]
    with subprocess.Popen(command, cwd="/", stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line, "it ended"
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
        yield address[0]
        process.terminate()
        process.stderr.read()


def test_installed_it_serves(serving: str) -> None:
    with urllib.request.urlopen(f"{serving}/v2/health/ready", timeout=60) as answer:
        assert answer.status == 200


def test_a_file_with_another_hash_is_refused(installed: Path, tmp_path: Path) -> None:
    pins = re.split(r"^(?=\w)", BASE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (pin,) = (pin for pin in pins if pin.startswith("httptools=="))
    changed = re.sub(r"sha256:(.)", lambda found: f"sha256:{'1' if found[1] == '0' else '0'}", pin)
    (tmp_path / "changed.txt").write_text(changed, encoding="utf-8")
    pip = ["install", "--no-deps", "--require-hashes", "--target", tmp_path / "target"]
    refused = call(installed / "pip", *pip, "--requirement", tmp_path / "changed.txt", status=1)
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not (tmp_path / "target").exists()
