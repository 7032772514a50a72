"""Nothing is sent, and a home holds afterwards what docs/privacy.md says."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from traced import addresses, environment, files, run_traced, trace

PAGE = Path(__file__).parents[1] / "docs" / "privacy.md"
DOCUMENTED = re.findall(r"^\| `~/([^|]*) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
FOLDERS = tuple(f"{name}/" for cell in DOCUMENTED for name in re.sub(r"`~?/?", "", cell).split(", "))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 180)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(30):
            pixels = random.normal(level, 20, (16, 16)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def undocumented(found: set[str]) -> set[str]:
    return {name for name in found if not name.startswith(FOLDERS)}


def test_the_page_names_folders_and_no_folder_of_microsoft() -> None:
    assert ".keras/" in FOLDERS
    assert ".cache/convladder/" in FOLDERS
    assert ".config/matplotlib/" in FOLDERS
    assert undocumented({".cache/Microsoft/DeveloperTools/.onnxruntime/deviceid"})


@pytest.mark.long
def test_training_exporting_predicting_and_auditing_connect_to_nothing(tmp_path: Path, pictures: Path) -> None:
    named, found = run_traced(
        tmp_path,
        "train --data pictures --model dense --epochs 1 --tensorboard",
        "predict runs/dense-1 pictures/dark/1.png",
        "export runs/dense-1",
        "evaluate runs/dense-1",
        "explain runs/dense-1 pictures/dark/1.png --output maps",
        "audit pictures",
    )
    assert not named
    assert not undocumented(found)
    assert any(name.startswith(".cache/convladder/") for name in found)


@pytest.mark.long
def test_serving_connects_to_nothing_and_stores_nothing(tmp_path: Path, run: cl.Run) -> None:
    home, log = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    command = [*trace(log), sys.executable, "-P", "-m", "convladder", "serve", str(run.path), "--port", "0"]
    with subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stderr
            url = process.stderr.readline().rpartition(" ")[2].strip()
            with urllib.request.urlopen(f"{url.rstrip('/')}/v2/health/ready", timeout=30) as answer:
                assert answer.status == 200
        finally:
            (server,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
            os.kill(int(server), signal.SIGINT)
            process.wait(timeout=60)
    assert not addresses(log)
    assert not files(home)


@pytest.mark.long
@pytest.mark.parametrize(
    "script",
    [
        "import convladder; convladder.Classifier(PATH)",
        "import convladder.inference.classifier; convladder.inference.classifier.Classifier(PATH)",
        "from convladder import workers\nimport onnxruntime; onnxruntime.InferenceSession(PATH + '/model.onnx')",
        "import convladder, multiprocessing as m\n"
        "def work(path): import onnxruntime; onnxruntime.InferenceSession(path + '/model.onnx')\n"
        "p = m.get_context('fork').Process(target=work, args=(PATH,)); p.start(); p.join(); assert p.exitcode == 0",
    ],
    ids=["classifier", "module", "after", "worker"],
)
def test_onnxruntime_leaves_no_device_id_whoever_imports_it(tmp_path: Path, run: cl.Run, script: str) -> None:
    subprocess.run(
        [sys.executable, "-c", f"PATH = {str(run.path)!r}\n{script}"], env=environment(tmp_path), check=True, timeout=60
    )
    assert not files(tmp_path)


def test_a_setting_to_the_contrary_is_overruled(tmp_path: Path, run: cl.Run) -> None:
    subprocess.run(
        [sys.executable, "-c", f"import convladder; convladder.Classifier({str(run.path)!r})"],
        env=environment(tmp_path) | {"ORT_DISABLE_TELEMETRY": "0"},
        check=True,
        timeout=60,
    )
    assert not files(tmp_path)


@pytest.mark.long
def test_comparing_mlflow_and_openvino_connect_to_nothing(tmp_path: Path, pictures: Path) -> None:
    named, found = run_traced(
        tmp_path,
        "compare --data pictures --models dense --epochs 1 --mlflow",
        "export runs/dense-1 --format openvino",
        "export runs/dense-1 --format litert",
        "export runs/dense-1 --format savedmodel",
    )
    assert not named
    assert not undocumented(found)


@pytest.mark.long
@pytest.mark.xdist_group("ray")
def test_ray_connects_to_nothing(tmp_path: Path, pictures: Path) -> None:
    """But for a socket that is never written to, by which Ray asks the system for this machine's own address."""
    named, found = run_traced(tmp_path, "compare --data pictures --models dense --epochs 1 --ray --cores 1")
    sent = [line for line in (tmp_path / "trace").read_text(encoding="utf-8").splitlines() if "8.8.8.8" in line]
    assert named <= {"8.8.8.8"}
    assert all("connect(" in line for line in sent)
    assert not undocumented(found)
