"""What the lesson is made of: its text, its data, and the server that it needs."""

import html
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import keras
import numpy as np
import pytest
from keras import layers

import convladder as cl
from convladder.inference.artifact import read_artifact
from convladder.models.ladder import MODELS, build_model
from convladder.serving.application import create_application
from convladder.serving.page import WEB
from served import Client

ROOT = Path(__file__).parents[1]
LEARN = Path(str(WEB)) / "learn"


def test_the_experiments_are_those_of_the_program_that_makes_them() -> None:
    experiments = json.loads((LEARN / "experiments.json").read_text(encoding="utf-8"))
    program = runpy.run_path(str(ROOT / "benchmarks" / "lesson.py"))
    assert set(experiments) == set(program["EXPERIMENTS"])
    assert list(experiments["depth"]["curves"]) == [
        f"{kind} {depth}" for depth in (8, 20, 32) for kind in ("without", "with")
    ]
    for experiment in experiments.values():
        told = re.search(r"(\d+) epochs", experiment["about"])
        assert told
        for curves in experiment["curves"].values():
            assert set(curves) == set(program["CURVES"])
            assert {len(values) for values in curves.values()} == {int(told[1])}


def test_what_the_answers_say_was_measured() -> None:
    plain, residual = json.loads((LEARN / "blocks.json").read_text(encoding="utf-8"))
    assert all(with_ > without for with_, without in zip(residual["without"], plain["without"], strict=True))
    assert all(residual["accuracy"] - residual["without"][block] < 0.01 for block in (4, 5))
    experiments = json.loads((LEARN / "experiments.json").read_text(encoding="utf-8"))
    rates, kinds = experiments["rates"]["curves"], experiments["regularized"]["curves"]
    assert [rate for rate, curves in rates.items() if curves["accuracy"][-1] < 0.12] == ["0.1"]
    assert rates["0.00001"]["val_loss"][-1] == min(rates["0.00001"]["val_loss"])  # it goes on learning
    assert kinds["dropout"]["loss"][-1] > kinds["none"]["loss"][-1]


TERMS = (
    "ReLU",
    "softmax",
    "loss",
    "logit",
    "epoch",
    "overfit",
    "learning rate",
    "parameter",
    "channel",
    "stride",
    "padding",
)


def test_every_term_is_explained_where_it_first_occurs() -> None:
    text = (LEARN / "index.html").read_text(encoding="utf-8").partition('<div class="lessons">')[2]
    text = re.sub(r"<!--.*?-->|<(h\d|pre|code|label|option)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"<(?!/?dfn).*?>", "", text)
    marked = re.findall(r"<dfn>(.*?)</dfn>", text)
    for term in [*TERMS, *(one.removesuffix("s") for one in marked)]:
        first = re.search(rf"(<dfn>)?\b{re.escape(term)}", text, re.I)
        assert first
        assert first[1], f"{term} occurs before it is explained: {text[first.start() - 60 : first.end() + 20]}"


def codes() -> dict[str, str]:
    text = (LEARN / "index.html").read_text(encoding="utf-8")
    return {rung: html.unescape(code) for rung, code in re.findall(r'<code data-rung="(\w+)">(.*?)</code>', text, re.S)}


@pytest.mark.parametrize("rung", codes())
def test_the_keras_code_of_a_subject_is_the_rung(rung: str) -> None:
    assert rung in MODELS
    names: dict[str, Any] = {"keras": keras, "layers": layers}
    exec(codes()[rung], names)  # so that a reader can copy it
    expected = build_model(rung, (28, 28, 1), 10)
    assert [one.shape for one in names["model"].weights] == [one.shape for one in expected.weights]
    assert kinds(names["model"]) == kinds(expected)[:-1]  # softmax is in the last layer here


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def test_the_lessons_figures_are_those_of_the_benchmarks() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "lesson.py"))["copy_ladder"]()
    assert json.loads((LEARN / "ladder.json").read_text(encoding="utf-8")) == made


def test_kernels_are_read_from_the_shipped_file(run: cl.Run) -> None:
    kernels = read_artifact(run.path / "model.onnx").first_kernels
    assert kernels is not None
    kept = run.load_model().get_layer("stage1_conv").get_weights()[0]  # (height, width, channels, filters)
    np.testing.assert_allclose(kernels, kept.transpose(3, 2, 0, 1), atol=1e-6)


def test_a_server_without_a_model_teaches_and_answers_nothing_else() -> None:
    client = Client(create_application({}))
    for path in ("/", "/learn"):
        assert client.get(path).headers["location"] == "learn/"  # relative, so that it holds behind a proxy's path
    assert "text/html" in client.get("/learn/").headers["content-type"]
    assert client.get("/docs").status_code == 200
    refused = client.post("/predict", files={"images": b"x"})
    assert refused.status_code == 404
    assert "No model is served" in refused.json()["error"]


@pytest.mark.long
def test_learn_starts_without_a_model_and_refuses_what_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convladder", "learn", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = process.stderr.readline()
        assert httpx.get(line.rpartition(" ")[2].strip()).status_code == 200
    finally:
        process.terminate()
        assert process.wait(60) == 0
        if process.stderr:
            process.stderr.close()
    refused = subprocess.run([*command, str(tmp_path / "nothing")], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
