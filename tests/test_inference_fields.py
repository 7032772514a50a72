"""A file that is no ONNX is refused with what is wrong in it; fields that are not known are passed over."""

from pathlib import Path

import pytest

import convladder as cl
from convladder.inference.artifact import read_artifact


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x0b", "a field of wire type 3"),
        (b"\x0f\x00", "a field of wire type 7"),
        (b"\x3a\x03ab", "a truncated field"),  # of three bytes
        (b"\x09" + bytes(7), "a truncated field"),  # of eight
        (b"\x0d" + bytes(3), "a truncated field"),  # of four
        (b"\x08", "a truncated number"),
        (b"\x80", "a truncated number"),
        (b"\xff" * 11, "a number of more than ten bytes"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(cl.ConvladderError, match=rf"model\.onnx \(not ONNX: {reason}\)\. Expected a model\.onnx"):
        read_artifact(tmp_path / "model.onnx")


def test_fields_of_every_kind_are_passed_over(tmp_path: Path) -> None:
    content = (
        b"\x09" + bytes(8) + b"\x0d" + bytes(4) + b"\x08\x80\x01" + b"\x12\x02ab" + b"\x08" + b"\x81" * 9 + b"\x01"
    ) + b"\x3a\x00"  # an empty graph
    (tmp_path / "model.onnx").write_bytes(content)
    assert read_artifact(tmp_path / "model.onnx").content == content
