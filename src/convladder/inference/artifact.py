"""The shipped file: an ONNX model with a description of itself, and a digest that detects changes.

The description is JSON under one key of ONNX's metadata. Its digest is the SHA-256 of the whole file, with zeros in
place of the digest. It detects changes; it is not a signature, because anybody can compute it anew.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.files import parse_json
from convladder.inference.kinds import name_folder, name_kind

METADATA_KEY = "convladder"
FORMAT = 1
LARGEST_SIDE = 4096  # of a picture, as in `build_model`
LARGEST = (1 << 31) - 1  # bytes of a protobuf message
EXPECTED = "Expected a model.onnx that convladder wrote."
FAMILIARITY = "familiarity"  # the name of the second output; files of before have none
LARGEST_NUMBER = 1e300  # in a description: larger whole numbers do not fit into a float
NO_DIGEST = "0" * 64
# JSON escapes quotation marks in texts, so no class name can look like this.
_DIGEST = re.compile(rb'"digest": "([0-9a-f]{64})"')

# Field numbers from ONNX's onnx.proto3.
_GRAPH_OF_MODEL, _METADATA_OF_MODEL = 7, 14
_INPUT_OF_GRAPH, _OUTPUT_OF_GRAPH, _NAME_OF_OUTPUT = 11, 12, 1
_NODE_OF_GRAPH, _TENSOR_OF_GRAPH = 1, 5
_INPUTS_OF_NODE, _TYPE_OF_NODE, _DOMAIN_OF_NODE = 1, 4, 7
_SHAPE_OF_TENSOR, _TYPE_OF_TENSOR, _NAME_OF_TENSOR, _BYTES_OF_TENSOR = 1, 2, 8, 9
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
FLOAT = 1  # as the type of a tensor, float32
VALUES_A_BYTE = 2  # at most: of 4 bits
MOST_SIDES = 64  # of a tensor
OWN_DOMAINS = (b"", b"ai.onnx")
FOREIGN = {
    "function": "functions of its own",
    "training": "a graph for training",
    "sparse": "sparse weights, whose size is not that of the file",
}
# For each message, its fields that can hold a tensor or a node, directly or nested, and their kind.
_TOWARDS: dict[str, dict[int, str]] = {
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
    def description(self) -> str | None:
        """The text of its description, if it has one."""
        entries = [value for number, _, value in fields(self.content) if number == _METADATA_OF_MODEL]
        texts = {bytes(_last(entry, 1)): bytes(_last(entry, 2)) for entry in entries}
        stored = texts.get(METADATA_KEY.encode())
        return None if stored is None else stored.decode()

    @property
    def inputs(self) -> list[tuple[str, int, list[int | None]]]:
        """Name, type of numbers (1 is float32) and shape of what the graph takes; None for a side of any length."""
        graph = next(value for number, _, value in fields(self.content) if number == _GRAPH_OF_MODEL)
        tensors = (by_number(value) for number, _, value in fields(graph) if number == _TENSOR_OF_GRAPH)
        weights = {bytes(tensor.get(_NAME_OF_TENSOR, [b""])[-1]) for tensor in tensors}
        found: list[tuple[str, int, list[int | None]]] = []
        for number, _, value in fields(graph):
            name = _last(value, 1) if number == _INPUT_OF_GRAPH else memoryview(b"")
            if number == _INPUT_OF_GRAPH and bytes(name) not in weights:
                tensor = _last(_last(value, 2), 1)  # other kinds of values have no type here
                types = numbers_of([_last(tensor, 1)]) or [0]
                sides = (numbers_of([_last(side, 1)]) for side in by_number(_last(tensor, 2)).get(1, []))
                found.append((bytes(name).decode(), types[-1], [side[-1] if side else None for side in sides]))
        return found

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        graph = next(value for number, _, value in fields(self.content) if number == _GRAPH_OF_MODEL)
        outputs = (value for number, _, value in fields(graph) if number == _OUTPUT_OF_GRAPH)
        names = (next(v for number, _, v in fields(output) if number == _NAME_OF_OUTPUT) for output in outputs)
        return tuple(bytes(name).decode() for name in names)

    @property
    def first_kernels(self) -> npt.NDArray[np.float32] | None:
        """The kernels of the first convolution, shape (filters, channels, height, width), where it keeps float32."""
        graph = next((value for number, _, value in fields(self.content) if number == _GRAPH_OF_MODEL), b"")
        tensors: dict[bytes, dict[int, list[memoryview]]] = {}
        wanted = b""
        for number, _, value in fields(graph):
            if number == _NODE_OF_GRAPH and not wanted:
                node = by_number(value)
                if bytes(node.get(_TYPE_OF_NODE, [b""])[0]) == b"Conv" and len(node[_INPUTS_OF_NODE]) > 1:
                    wanted = bytes(node[_INPUTS_OF_NODE][1])
            elif number == _TENSOR_OF_GRAPH:
                tensor = by_number(value)
                tensors[bytes(tensor.get(_NAME_OF_TENSOR, [b""])[0])] = tensor
        kept = tensors.get(wanted, {})
        if numbers_of(kept.get(_TYPE_OF_TENSOR, [])) != [FLOAT] or _BYTES_OF_TENSOR not in kept:
            return None  # no convolution, or of whole numbers
        shape = numbers_of(kept[_SHAPE_OF_TENSOR])
        return np.frombuffer(kept[_BYTES_OF_TENSOR][0], "<f4").reshape(shape)

    @property
    def answers_alone(self) -> bytes:
        """The same model with only its probabilities and familiarity, because ONNX Runtime computes every output."""
        count = 1 + (self.outputs[1:2] == (FAMILIARITY,))
        parts: list[memoryview | bytes] = []
        for number, field, value in fields(self.content):
            if number != _GRAPH_OF_MODEL:
                parts.append(field)
                continue
            kept: list[memoryview] = []
            outputs = 0
            for inner, inner_field, _ in fields(value):
                outputs += inner == _OUTPUT_OF_GRAPH
                if inner != _OUTPUT_OF_GRAPH or outputs <= count:
                    kept.append(inner_field)
            graph = b"".join(kept)
            parts.append(encode(_GRAPH_OF_MODEL, graph))
        return b"".join(parts)


def read_artifact(path: Path) -> Artifact:
    """Read a file and compare it with its digest, if it has one.

    Raises:
        ConvladderError: It cannot be read, is of another kind, was changed after it was written, has weights in
            another file, which the digest does not cover, or has more than one graph of ONNX's own operators.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        kind = name_folder(path) or name_folder(path.parent) or error.strerror
        raise ConvladderError(f"Could not load {path} ({kind}). {EXPECTED}") from error
    if len(content) > LARGEST:
        raise ConvladderError(f"Could not load {path} (more than {LARGEST:,} bytes). {EXPECTED}")
    if kind := name_kind(content):
        raise ConvladderError(f"Could not load {path} ({kind}). {EXPECTED}")
    found = _DIGEST.search(content)
    if found and found[1].decode() != _digest(content):
        raise ConvladderError(
            f"{path} was changed or damaged after it was written: its SHA-256 does not match. "
            "Export it again, or copy it again from its source."
        )
    try:
        external = _names_other_files(content)
        foreign = _find_foreign(content)
    except ValueError as error:
        raise ConvladderError(f"Could not load {path} (not ONNX: {error}). {EXPECTED}") from error
    if external:
        raise ConvladderError(
            f"{path} keeps weights in another file (external data). Expected all weights in one file: export it again."
        )
    if foreign:
        raise ConvladderError(
            f"{path} holds {foreign}. Expected one graph of ONNX's own operators, as convladder writes it."
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
    sides = _is_list(shape, int) and len(shape) == 3 and all(0 < side <= LARGEST_SIDE for side in shape)
    if not (_is_list(names, str) and len(names) >= 2 and sides):
        raise ConvladderError(
            f"{path} has class_names {names!r:.80} and input_shape {shape!r:.80}. Expected at least two names, and "
            f"[height, width, channels], each at most {LARGEST_SIDE:,}: export it again."
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


def _messages(content: bytes) -> Iterator[tuple[str, memoryview]]:
    """The model and all messages in it that lead to a tensor or a node, at any depth, with their kind.

    Raises:
        ValueError: It is not a model.
    """
    waiting: list[tuple[str, memoryview]] = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        yield kind, message
        inner = _TOWARDS.get(kind, {})
        waiting += [(inner[number], value) for number, _, value in fields(message) if number in inner]


def _names_other_files(content: bytes) -> bool:
    """Whether any tensor of a model keeps its values in another file: at any location but 0, which means in it."""
    places = (_EXTERNAL_DATA, _DATA_LOCATION)
    tensors = (message for kind, message in _messages(content) if kind == "tensor")
    return any(number in places and any(value) for tensor in tensors for number, _, value in fields(tensor))


def _find_foreign(content: bytes) -> str:
    """What a model holds besides a graph of ONNX's own operators, if anything.

    Raises:
        ValueError: It has no graph, or several.
    """
    graphs = sum(number == _GRAPH_OF_MODEL for number, _, _ in fields(content))
    if graphs != 1:
        raise ValueError(f"{graphs} graphs")
    for kind, message in _messages(content):
        if kind in FOREIGN:
            return FOREIGN[kind]
        if kind == "node":
            node = by_number(message)
            domain = bytes(node.get(_DOMAIN_OF_NODE, [b""])[-1])
            if domain not in OWN_DOMAINS:
                name = domain + b"." + bytes(node.get(_TYPE_OF_NODE, [b""])[-1])
                return f"the custom operator {name.decode(errors='replace')!r:.80}"
        if kind == "tensor":
            sides = numbers_of(by_number(message).get(_SHAPE_OF_TENSOR, []))
            few = len(sides) <= MOST_SIDES and min(sides, default=0) >= 0
            if not few or math.prod(sides) > VALUES_A_BYTE * len(message):
                return f"a weight of shape {sides!r:.80} in {len(message):,} bytes"
    return ""


def _last(message: memoryview, number: int) -> memoryview:
    """The value of a field, the last if there are several; empty if there is none."""
    return by_number(message).get(number, [memoryview(b"")])[-1]


def by_number(message: memoryview) -> dict[int, list[memoryview]]:
    """The values of a protobuf message's fields, by number."""
    values: dict[int, list[memoryview]] = {}
    for number, _, value in fields(message):
        values.setdefault(number, []).append(value)
    return values


def fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
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


def numbers_of(values: Iterable[memoryview]) -> list[int]:
    """Whole numbers with a sign, whether they are stored one by one or packed."""
    found: list[int] = []
    for view in values:
        position = 0
        while position < len(view):
            value, position = _read_varint(view, position)
            found.append(value - (1 << 64) if value >> 63 else value)
    return found


def encode(number: int, value: int | bytes) -> bytes:
    """A field of a protobuf message: a whole number from 0 up, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
