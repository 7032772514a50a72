"""The shipped file: an ONNX model with a description of itself, and a digest that detects changes.

The description is JSON under one key of ONNX's metadata. Its digest is the SHA-256 of the whole file, with zeros in
place of the digest. It detects changes; it is not a signature, because anybody can compute it anew.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.files import parse_json

METADATA_KEY = "convladder"
FORMAT = 1
FAMILIARITY = "familiarity"  # the name of the second output; files of before have none
LARGEST_NUMBER = 1e300  # in a description: larger whole numbers do not fit into a float
NO_DIGEST = "0" * 64
# JSON escapes quotation marks in texts, so no class name can look like this.
_DIGEST = re.compile(rb'"digest": "([0-9a-f]{64})"')

# Field numbers from ONNX's onnx.proto3.
_GRAPH_OF_MODEL, _OUTPUT_OF_GRAPH, _NAME_OF_OUTPUT = 7, 12, 1
_NODE_OF_GRAPH, _TENSOR_OF_GRAPH = 1, 5
_INPUTS_OF_NODE, _TYPE_OF_NODE = 1, 4
_SHAPE_OF_TENSOR, _TYPE_OF_TENSOR, _NAME_OF_TENSOR, _BYTES_OF_TENSOR = 1, 2, 8, 9
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
_FLOAT32 = b"\x01"  # as the type of a tensor
# For each message, its fields that can hold a tensor, directly or nested, and their kind.
_TOWARDS_TENSORS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


@dataclass(frozen=True)
class Artifact:
    """A file that was read and is unchanged.

    Attributes:
        content: Its bytes.
        path: Its path.
    """

    content: bytes
    path: Path

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        graph = next(value for number, _, value in _fields(self.content) if number == _GRAPH_OF_MODEL)
        outputs = (value for number, _, value in _fields(graph) if number == _OUTPUT_OF_GRAPH)
        names = (next(v for number, _, v in _fields(output) if number == _NAME_OF_OUTPUT) for output in outputs)
        return tuple(bytes(name).decode() for name in names)

    @property
    def first_kernels(self) -> npt.NDArray[np.float32] | None:
        """The kernels of the first convolution, shape (filters, channels, height, width), where it keeps float32."""
        graph = next((value for number, _, value in _fields(self.content) if number == _GRAPH_OF_MODEL), b"")
        tensors: dict[bytes, dict[int, list[memoryview]]] = {}
        wanted = b""
        for number, _, value in _fields(graph):
            if number == _NODE_OF_GRAPH and not wanted:
                node = _by_number(value)
                if bytes(node.get(_TYPE_OF_NODE, [b""])[0]) == b"Conv" and len(node[_INPUTS_OF_NODE]) > 1:
                    wanted = bytes(node[_INPUTS_OF_NODE][1])
            elif number == _TENSOR_OF_GRAPH:
                tensor = _by_number(value)
                tensors[bytes(tensor.get(_NAME_OF_TENSOR, [b""])[0])] = tensor
        kept = tensors.get(wanted, {})
        if bytes(kept.get(_TYPE_OF_TENSOR, [b""])[0]) != _FLOAT32 or _BYTES_OF_TENSOR not in kept:
            return None  # no convolution, or of whole numbers
        shape = [_read_varint(part, 0)[0] for part in kept[_SHAPE_OF_TENSOR]]
        return np.frombuffer(kept[_BYTES_OF_TENSOR][0], "<f4").reshape(shape)

    @property
    def answers_alone(self) -> bytes:
        """The same model with only its probabilities and familiarity, because ONNX Runtime computes every output."""
        count = 1 + (self.outputs[1:2] == (FAMILIARITY,))
        parts: list[memoryview | bytes] = []
        for number, field, value in _fields(self.content):
            if number != _GRAPH_OF_MODEL:
                parts.append(field)
                continue
            kept: list[memoryview] = []
            outputs = 0
            for inner, inner_field, _ in _fields(value):
                outputs += inner == _OUTPUT_OF_GRAPH
                if inner != _OUTPUT_OF_GRAPH or outputs <= count:
                    kept.append(inner_field)
            graph = b"".join(kept)
            parts += [bytes([_GRAPH_OF_MODEL << 3 | 2]), _varint(len(graph)), graph]
        return b"".join(parts)


def read_artifact(path: Path) -> Artifact:
    """Read a file and compare it with its digest, if it has one.

    Raises:
        ConvladderError: It cannot be read, was changed after it was written, or has weights in another file, which
            the digest does not cover.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConvladderError(f"Could not load {path} ({error.strerror}). Expected a model.onnx.") from error
    found = _DIGEST.search(content)
    if found and found[1].decode() != _digest(content):
        raise ConvladderError(
            f"{path} was changed or damaged after it was written: its SHA-256 does not match. "
            "Export it again, or copy it again from its source."
        )
    try:
        external = _names_other_files(content)
    except ValueError as error:
        raise ConvladderError(f"Could not load {path} (not ONNX: {error}). Expected a model.onnx.") from error
    if external:
        raise ConvladderError(
            f"{path} keeps weights in another file (external data). Expected all weights in one file: export it again."
        )
    return Artifact(content, path)


def read_metadata(stored: str | None, path: Path) -> dict[str, Any]:
    """Parse a file's description.

    Raises:
        ConvladderError: It is missing, is not JSON, lacks what a classifier needs, or has an unknown format.
    """
    if stored is None:
        raise ConvladderError(f"{path} does not name its classes. Expected a file that convladder wrote.")
    try:
        metadata = parse_json(stored)
    except ValueError as error:
        raise ConvladderError(f"The description in {path} is not JSON ({error}). Export it again.") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT or "digest" not in metadata:
        written = metadata.get("format", "none") if isinstance(metadata, dict) else "none"
        raise ConvladderError(
            f"{path} is of format {written!r}. Expected {FORMAT}: export it again with this version of convladder."
        )
    names: Any = metadata.get("class_names")
    shape: Any = metadata.get("input_shape")
    stages: Any = metadata.get("stages")
    if not (_is_list(names, str) and len(names) >= 2 and _is_list(shape, int) and len(shape) == 3):
        raise ConvladderError(
            f"{path} has class_names {names!r:.80} and input_shape {shape!r:.80}. Expected at least two names, and "
            "[height, width, channels]: export it again."
        )
    if not _is_list(stages, str):
        raise ConvladderError(f"{path} has stages {stages!r:.80}. Expected a list of names: export it again.")
    for key in ("temperature", "threshold"):
        number: Any = metadata.get(key, 1.0)
        if not (isinstance(number, int | float) and 0 <= number <= LARGEST_NUMBER):
            raise ConvladderError(f"{path} has the {key} {number!r:.80}. Expected a number from 0 up: export it again.")
    return metadata


def write_metadata(metadata: Mapping[str, Any], **more: Any) -> str:
    """A description as it is stored, before `seal` puts the digest in."""
    return json.dumps({"format": FORMAT, "digest": NO_DIGEST, **metadata, **more})


def seal(content: bytes) -> bytes:
    """Write a file's digest into its description."""
    return _with_digest(content, _digest(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(_with_digest(content, NO_DIGEST)).hexdigest()


def _with_digest(content: bytes, digest: str) -> bytes:
    return _DIGEST.sub(b'"digest": "%s"' % digest.encode(), content, count=1)


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _names_other_files(content: bytes) -> bool:
    """Whether any tensor of a model, at any depth, keeps its values in another file.

    Raises:
        ValueError: It is not a model.
    """
    waiting: list[tuple[str, memoryview]] = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        inner = _TOWARDS_TENSORS.get(kind, {})
        for number, _, value in _fields(message):
            if number in inner:
                waiting.append((inner[number], value))
            elif kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION) and any(value):
                return True  # any location but 0, which means in the model
    return False


def _by_number(message: memoryview) -> dict[int, list[memoryview]]:
    values: dict[int, list[memoryview]] = {}
    for number, _, value in _fields(message):
        values.setdefault(number, []).append(value)
    return values


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield the fields of a protobuf message: number, all bytes, and the bytes of the value.

    Raises:
        ValueError: It is not a protobuf message.
    """
    view = memoryview(message)
    position = 0
    while position < len(view):
        start = position
        tag, position = _read_varint(view, position)
        if tag >= 1 << 32:  # other parsers would drop the upper bits and read another field
            raise ValueError("a field without a number")
        wire_type = tag & 7
        if wire_type == 0:
            _, end = _read_varint(view, position)
        elif wire_type == 2:
            length, position = _read_varint(view, position)
            end = position + length
        elif wire_type in (1, 5):
            end = position + (8 if wire_type == 1 else 4)
        else:
            raise ValueError(f"a field of wire type {wire_type}")
        if end > len(view):
            raise ValueError("a truncated field")
        yield tag >> 3, view[start:end], view[position:end]
        position = end


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number with seven bits per byte, the lowest first, and the position of its end."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise ValueError("a truncated number")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
