"""What is fuzzed: for each input of others a function that takes any bytes, and valid inputs to begin with.

A target either returns or raises a ConvladderError; everything else is a find, and so is an answer of 5xx. The tests
call the targets with hypothesis (tests/test_fuzz.py), `make fuzz` with atheris (benchmarks/fuzz.py).
"""

import asyncio
import gzip
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.types import ASGIApp, Message

import convladder as cl
from convladder.data.csv_tables import list_csv
from convladder.data.decoding import decode_image
from convladder.data.folders import list_folder, list_pictures
from convladder.data.idx import encode_idx, read_idx
from convladder.data.loading import read_npz
from convladder.errors import ConvladderError
from convladder.evaluating.familiarity import read_familiarity
from convladder.inference.artifact import METADATA_KEY, seal
from convladder.runs.catalogue import account_for, describe_model, find_examples
from convladder.runs.examples import read_examples
from convladder.runs.film import describe_film
from convladder.serving.application import create_application
from convladder.serving.limits import Limits
from convladder.serving.uploads import read_pictures

SHAPE = (16, 16, 3)
LIMITS = Limits(body=1_000_000, pixels=1_000_000, images=8)
SEPARATOR = b"\0\n"  # between the parts of an input that has several
METHODS = ("GET", "POST", "HEAD", "PUT", "OPTIONS")
HOST = (b"host", b"127.0.0.1")


@dataclass(frozen=True)
class Target:
    """An input of others.

    Attributes:
        name: In the table.
        seeds: Valid inputs.
        run: Takes any bytes; raises a ConvladderError for those that it refuses.
        weight: How many cases it gets, relative to the others.
    """

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes], object]
    weight: int = 1


def targets(folder: Path, run: cl.Run) -> list[Target]:
    """All targets.

    Args:
        folder: An empty folder, for their files.
        run: A finished run.
    """
    return [
        Target("picture", pictures(), _decode, 8),
        Target("IDX", _idx_files(), _in_file(folder / "images.idx", read_idx), 8),
        Target("npz", _npz_files(), _in_file(folder / "data.npz", read_npz), 4),
        Target("CSV", *_tables(folder / "table")),
        Target("folder", *_folders(folder / "tree")),
        Target("run folder", *_runs(folder / "run", run), 2),
        Target("model", *_models(folder / "model", run)),
        Target("description of a model", *_descriptions(folder / "described", run)),
        Target("form", _forms(), _read_form, 8),
        Target("request", *_requests(run), 8),
    ]


def pictures() -> list[bytes]:
    """A small file of each kind of picture."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(rng.integers(0, 4096, (6, 5)).astype(np.uint16))
    ways: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colours, "JPEG", {"exif": exif}),
        (colours, "JPEG", {"progressive": True}),
        (colours.convert("CMYK"), "JPEG", {}),
        (colours, "PNG", {"exif": exif}),
        (colours.quantize(8), "PNG", {"transparency": 0}),
        (deep, "PNG", {}),
        (colours, "BMP", {}),
        (colours, "GIF", {"save_all": True, "append_images": [colours.rotate(90)]}),
        (colours, "WEBP", {"lossless": True}),
        (colours, "WEBP", {"exif": exif, "save_all": True, "append_images": [colours.rotate(90)]}),
        (colours, "TIFF", {"save_all": True, "append_images": [colours]}),
        (colours, "TIFF", {"compression": "tiff_lzw"}),
        (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (colours, "MPO", {"save_all": True, "append_images": [colours]}),
    ]
    files = []
    for image, kind, options in ways:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return [*files, _run_length_bmp()]


def _run_length_bmp() -> bytes:
    palette = bytes(range(256)) * 4
    rows = b"\x08\x01\0\0" * 5 + b"\0\x08\1\2\3\4\5\6\7\x08\0\0" + b"\0\2\0\2" + b"\0\1"  # the last but one skips two
    header = (8).to_bytes(4, "little") * 2 + b"\1\0\x08\0" + (1).to_bytes(4, "little")
    sizes = len(rows).to_bytes(4, "little") + bytes(8) + (256).to_bytes(4, "little") + bytes(4)
    body = (40).to_bytes(4, "little") + header + sizes + palette + rows
    return b"BM" + (14 + len(body)).to_bytes(4, "little") + bytes(4) + (54 + 1024).to_bytes(4, "little") + body


def _decode(data: bytes) -> None:
    decode_image(data, SHAPE, "crop")
    decode_image(data, (*SHAPE[:2], 1), "pad")


def _in_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A function that writes bytes to a file and has it read."""

    def run(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return run


def _idx_files() -> list[bytes]:
    images = encode_idx(np.arange(60, dtype=np.uint8).reshape(3, 5, 4))
    return [images, gzip.compress(images, mtime=0), encode_idx(np.arange(3))]


def _npz_files() -> list[bytes]:
    images, labels = np.arange(60, dtype=np.uint8).reshape(3, 5, 4), np.arange(3)
    files = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
        files.append(file.getvalue())
    return files


def _tables(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"\x89PNG")
    rows = "".join(f"{number}.png,{'ab'[number % 2]},{'train' if number < 2 else 'test'}\n" for number in range(4))
    plain = f"path,label,split\n{rows}"
    seeds = [plain, plain.replace(",", ";"), rows, f'\ufeff"path","label"\r\n{rows}', "a,b\nc,d\n", ""]
    return [seed.encode() for seed in seeds], _in_file(folder / "table.csv", list_csv)


def _folders(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Each line of an input is a path; what stands after a tab is the file's content, or after > a link's target."""

    def run(data: bytes) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for line in data.split(b"\n")[:50]:
            name, _, content = line.partition(b"\t")
            parts = [part[:100] for part in name.replace(b"\0", b"").split(b"/") if part not in (b"", b".", b"..")]
            path = os.path.join(os.fsencode(folder), *parts[:8])
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if content.startswith(b">"):
                    os.symlink(content[1:].replace(b"\0", b"").replace(b"/", b"") or b".", path)
                else:
                    with open(path, "wb") as file:
                        file.write(content)
            except OSError:  # no name that the system takes, or one that is taken
                continue
        for read in (list_folder, list_pictures):
            try:
                read(folder)
            except ConvladderError:
                continue

    plain = b"\n".join(b"%s/%d.png\t\x89PNG" % (name, number) for name in (b"cat", b"dog") for number in range(2))
    split = b"\n".join(b"%s/%s/1.png\t\x89PNG" % (part, name) for part in (b"train", b"val") for name in (b"a", b"b"))
    odd = b"cat/loop\t>.\nd\x1b[31mog/\xff\xfe.png\t\x89PNG\ncat/.hidden/1.png\ncat/notes.txt\tx\ncat/gone.png\t>gone"
    return [plain, split, odd, plain + b"\n" + odd], run


RUN_FILES = (
    *("run.json", "metrics.json", "history.csv", "predictions.npz"),
    *("film.npz", "examples.npz", "learned.npz", "familiarity.npz"),
)


def _runs(folder: Path, run: cl.Run) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The first byte of an input says which file of the run folder the others replace."""
    shutil.copytree(run.path, folder)
    names = [name for name in RUN_FILES if (folder / name).exists()]
    kept = {name: (folder / name).read_bytes() for name in names}
    reads: list[Callable[[cl.Run], object]] = [
        lambda copy: (copy.metrics, copy.epochs("loss"), copy.learned, copy.no_better),
        lambda copy: copy.load_dataset(),
        cl.evaluate,
        lambda copy: json.dumps(describe_film(copy), allow_nan=False),
        lambda copy: read_examples(copy.path / "examples.npz"),
        lambda copy: read_familiarity(copy.path / "familiarity.npz"),
    ]
    classifier = cl.Run(folder).classifier()

    def read(data: bytes) -> None:
        name = names[data[0] % len(names)] if data else names[0]
        (folder / name).write_bytes(data[1:])
        try:
            # A run beside a model never keeps the model from being shown.
            json.dumps(account_for(classifier), allow_nan=False)
            find_examples(classifier)
            copy = cl.Run(folder)
            for one in reads:
                try:
                    one(copy)
                except ConvladderError:
                    continue
        finally:
            (folder / name).write_bytes(kept[name])

    return [bytes([number]) + kept[name] for number, name in enumerate(names)], read


def _models(folder: Path, run: cl.Run) -> tuple[list[bytes], Callable[[bytes], object]]:
    folder.mkdir()
    content = (run.path / "model.onnx").read_bytes()

    def use(path: Path) -> None:
        path.write_bytes(seal(path.read_bytes()))  # else its digest would refuse nearly everything
        classifier = cl.Classifier(path, threads=1)
        classifier.predict_probabilities(np.zeros((1, *classifier.input_shape), np.uint8))
        json.dumps(describe_model("model", classifier), allow_nan=False)

    return [content], _in_file(folder / "model.onnx", use)


def _descriptions(folder: Path, run: cl.Run) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Any text as the description in a sound model."""
    import onnx

    model = onnx.load(run.path / "model.onnx")
    (stored,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    seed = stored.value.encode()
    _, use = _models(folder, run)

    def describe(data: bytes) -> object:
        stored.value = data.decode(errors="replace")
        return use(model.SerializeToString())

    return [seed], describe


def _forms() -> list[bytes]:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="1.png"\r\nContent-Type: image/png\r\n\r\nx\r\n'
    )
    kinds = (b"multipart/form-data; boundary=b", b"image/png", b"application/octet-stream", b"text/plain")
    return [kind + SEPARATOR + body for kind in kinds for body in (part * 2 + b"--b--\r\n", b"x")]


def _read_form(data: bytes) -> object:
    kind, _, body = data.partition(SEPARATOR)
    return read_pictures(body, kind.decode("latin-1"), LIMITS.images)


def _requests(run: cl.Run) -> tuple[list[bytes], Callable[[bytes], object]]:
    """An input is a method, a path with its query, headers and a body, with SEPARATOR between them."""
    app = create_application({"digits": run.classifier()}, LIMITS)
    height, width, channels = run.classifier().input_shape
    size = height * width * channels
    tensor: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [1, height, width, channels]}
    plain = json.dumps({"inputs": [tensor | {"data": [0] * size}], "id": "1", "outputs": [{"name": "probabilities"}]})
    binary = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]})
    form = _forms()[0].partition(SEPARATOR)[2].replace(b"x\r\n", pictures()[3] + b"\r\n")
    length = f"inference-header-content-length: {len(binary)}"
    asked = [
        ("POST", "/predict?top=3&probabilities=true", "content-type: image/png", pictures()[3]),
        ("POST", "/predict?model=digits", "content-type: multipart/form-data; boundary=b", form),
        ("POST", "/v2/models/digits/infer", "content-type: application/json", plain.encode()),
        ("POST", "/v2/models/digits/versions/1/infer", length, binary.encode() + bytes(size)),
        ("POST", "/look/digits?maps=1", "content-type: application/octet-stream", bytes(size)),
        ("POST", "/decode/digits", "", pictures()[0]),
        *(("GET", path, "origin: http://127.0.0.1\r\nauthorization: Basic YTpi", b"") for path in PATHS),
    ]
    return [SEPARATOR.join([*(part.encode() for part in head), body]) for *head, body in asked], _asker(app)


PATHS = (
    *(
        "/",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/models.json",
        "/examples/digits",
        "/page/page.js",
        "/learn/lesson.json",
    ),
    *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/digits", "/v2/models/digits/ready"),
    *("/v2/models/digits/versions/1", "/film/films.json", "/film/of/digits", "/film/", "/..%2f..%2fetc/passwd"),
)


def _asker(app: ASGIApp) -> Callable[[bytes], object]:
    def ask(data: bytes) -> None:
        method, address, head, body = (*data.split(SEPARATOR, 3), b"", b"", b"")[:4]
        path, _, query = address.partition(b"?")
        lines = (line.partition(b":") for line in head.split(b"\r\n") if line)
        status, answer = asyncio.run(
            answered(
                app,
                {
                    "type": "http",
                    "http_version": "1.1",
                    "method": method.decode("latin-1") or "GET",
                    "scheme": "http",
                    "path": path.decode(errors="replace"),
                    "raw_path": path,
                    "query_string": query,
                    "root_path": "",
                    "headers": [HOST, *((name.strip().lower(), value.strip()) for name, _, value in lines)],
                    "client": ("127.0.0.1", 1),
                    "server": ("127.0.0.1", 80),
                },
                body,
            )
        )
        if status >= 500 and status not in (501, 503):
            raise AssertionError(f"{status} {answer[:300]!r}")
        if status >= 400 and method != b"HEAD" and set(json.loads(answer)) != {"error", "code", "status"}:
            raise AssertionError(f"{status} without an error of our shape: {answer[:300]!r}")

    return ask


async def answered(app: ASGIApp, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    """Status and body of an application's answer."""
    sent: list[Message] = []
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(received, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    if body:
        scope["headers"].append((b"content-length", str(len(body)).encode()))
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
