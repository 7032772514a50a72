"""Names in CSV: a spreadsheet that opens the file computes none of them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import convladder as cl
from convladder.inference.artifact import METADATA_KEY, seal
from convladder.markup import cell
from hostile import picture

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "=HYPERLINK(0;1)", "＝1+1", "+cmd|' /C calc'!A1", "-", "=", "+A1", "-A1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_name_that_begins_a_formula_gets_an_apostrophe(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell(f"a;{text}") == f"a;'{text}"


@pytest.mark.parametrize("text", ["-1", "+0.5", "-1.5e-10", "12", "cat", "a=b", "a-b", "x;y", "", "'=1", "c@t"])
def test_other_names_and_numbers_stay_as_they_are(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1", "\x1b=1", "\0=1"])
def test_a_control_character_before_a_formula_is_escaped(text: str) -> None:
    assert cell(text).startswith("\\")


def test_predict_writes_no_formulas_whatever_pictures_and_classes_are_called(
    convladder: Any, run: cl.Run, tmp_path: Path
) -> None:
    model = onnx.load(run.path / "model.onnx")
    described = json.loads(model.metadata_props[0].value)
    described["class_names"] = [f"{'=+-@'[number % 4]}class{number}" for number in range(10)]
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(described)})
    (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
    names = ["=1+1.png", "-A1.png", "a;=1+1.png", "plain.png"]
    for name in names:
        picture(1, (28, 28)).convert("L").save(tmp_path / name)
    (tmp_path / "@broken.png").write_bytes(b"no picture")
    done = convladder("predict", "model.onnx", "--csv", "--top", "3", "--", *names, "@broken.png", "=gone.png")
    assert done.status == 2
    rows = list(csv.reader(io.StringIO(done.out)))
    assert len(rows) == 7
    for row in rows[1:]:
        for value in (part for text in row for part in text.split(";")):
            assert not value.startswith(("=", "+", "-", "@"))
    assert [row[0] for row in rows[1:]] == [
        "'=1+1.png",
        "'-A1.png",
        "a;'=1+1.png",
        "plain.png",
        "'@broken.png",
        "'=gone.png",
    ]
    said = [
        json.loads(line)["source"]
        for line in convladder("predict", "model.onnx", "--json", "--", *names).out.splitlines()
    ]
    assert said == names  # a program gets the names themselves
