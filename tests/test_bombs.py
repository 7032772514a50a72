"""Small files that ask for much: memory and time stay in proportion, in a process that may have no more of either."""

import json
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from bombs import BOMBS
from convladder.data.csv_tables import list_csv
from convladder.data.decoding import decode_image
from convladder.data.folders import list_folder, list_pictures
from convladder.data.loading import read_npz
from convladder.inference.artifact import METADATA_KEY, seal
from convladder.reporting.kept import FILE, keep
from hostile import encoded, png_chunk

MEMORY = 1_500_000_000  # bytes of address space: what Python, NumPy, Pillow and their threads map takes half of it
SECONDS = 20  # of a processor, for a start and a dozen files that should take fractions of a second

READ = """
import sys
from pathlib import Path
from convladder.errors import ConvladderError
{prepare}
for name in sys.argv[1:]:
    try:
        {read}
        print("read")
    except ConvladderError as error:
        print(error)
"""


def read_within_limits(prepare: str, read: str, *names: Path) -> list[str]:
    """For each file "read" or why it was refused, in a process with little memory and time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    script = READ.format(prepare=prepare, read=read)
    finished = subprocess.run(
        [sys.executable, "-c", script, *map(str, names)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert finished.returncode == 0, finished.stderr
    said = finished.stdout.splitlines()
    assert len(said) == len(names)
    return said


@pytest.mark.long
def test_pictures_that_ask_for_much_cost_little(tmp_path: Path) -> None:
    paths = []
    for number, (make, _) in enumerate(BOMBS.values()):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(make())
    said = read_within_limits(
        "from convladder.data.decoding import decode_image", "decode_image(Path(name), (32, 32, 3))", *paths
    )
    for (name, (_, expected)), line in zip(BOMBS.items(), said, strict=True):
        if expected is not None:
            assert (line == "read") == expected, f"{name}: {line}"


def npz_that_declares(path: Path, shape: tuple[int, ...], dtype: str = "|u1", content: bytes = b"") -> Path:
    """An .npz file whose arrays are of that shape by their header."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", member)
    return path


@pytest.mark.long
def test_arrays_that_ask_for_much_are_refused(tmp_path: Path) -> None:
    vast = tmp_path / "vast.npz"
    with (
        zipfile.ZipFile(vast, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w") as file,
    ):
        file.write(b"\x93NUMPY\1\0" + struct.pack("<H", 70))
        file.write(repr({"descr": "|u1", "fortran_order": False, "shape": (600_000_000,)}).encode().ljust(70))
        for _ in range(60):
            file.write(bytes(10_000_000))
    paths = [
        vast,
        npz_that_declares(tmp_path / "1.npz", (10**12,)),
        npz_that_declares(tmp_path / "2.npz", (10**300,)),
        npz_that_declares(tmp_path / "3.npz", (10**6, 10**6, 10**6)),
        npz_that_declares(tmp_path / "4.npz", (1,), "|U1000000000"),
        npz_that_declares(tmp_path / "5.npz", (-(10**12), -1)),
        npz_that_declares(tmp_path / "6.npz", (0, 10**12)),
    ]
    said = read_within_limits("from convladder.data.loading import read_npz", "read_npz(Path(name))", *paths)
    assert "unpack to 600,000,0" in said[0]
    assert "read" not in said


def test_idx_files_that_ask_for_much_are_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=-15)
    header = packer.compress(b"\0\0\x08\3" + struct.pack(">III", 600_000, 1000, 1)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)  # after a full flush it can be repeated
    packed = tmp_path / "packed"
    packed.write_bytes(b"\x1f\x8b\x08" + bytes(7) + header + zeros * 600 + b"\3\0" + bytes(8))
    (tmp_path / "declared").write_bytes(b"\0\0\x08\3" + b"\xff" * 12 + bytes(100))
    (tmp_path / "dimensions").write_bytes(b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\0")
    paths = [packed, tmp_path / "declared", tmp_path / "dimensions"]
    said = read_within_limits("from convladder.data.idx import read_idx", "read_idx(Path(name))", *paths)
    assert all("truncated, too long or damaged" in line for line in said)


@pytest.mark.long
def test_tables_that_ask_for_much_are_refused(tmp_path: Path) -> None:
    contents = {
        "field": "path,label\n" + "a" * 100_000_000 + ",b\n",
        "columns": ",".join(["a"] * 1_000_000) + "\n",
        "columns of a later row": "path,label\n" + "a,b\n" * 2000 + "," * 1_000_000 + "a\n",
        "blank rows": "\n" * 500_000,
        "empty rows": "path,label\n" + ",\n" * 100_000,
        "one column": "a\n" * 1_000_000,
    }
    paths = [tmp_path / f"{name}.csv" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_text(content)
    said = read_within_limits("from convladder.data.csv_tables import list_csv", "list_csv(Path(name))", *paths)
    assert "field larger than field limit" in said[0]
    assert "1,000,000 columns" in said[1]
    assert "1,000,001 columns" in said[2]
    assert "read" not in said


@pytest.mark.parametrize("listing", [list_folder, list_pictures])
def test_folders_far_within_one_another_are_refused(tmp_path: Path, listing: Callable[[Path], object]) -> None:
    deep = tmp_path / "data" / "/".join("a" * 150)
    deep.mkdir(parents=True)
    (deep / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(cl.ConvladderError, match="more than 100 folders deep"):
        listing(tmp_path / "data")


def test_a_pattern_for_all_folders_follows_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convladder.data.sources import expand

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1.png", "a/b/2.png", "a/.hidden.png"):
        (tmp_path / name).write_bytes(b"")
    for name in ("one", "other", "third"):
        (tmp_path / "a" / "b" / name).symlink_to(tmp_path / "a", target_is_directory=True)
    assert list(expand("a/**/*.png", print)) == ["a/1.png", "a/b/2.png"]
    assert list(expand("**/*.png", print)) == ["a/1.png", "a/b/2.png"]
    assert list(expand(f"{tmp_path}/**/b/*.png", print)) == [f"{tmp_path}/a/b/2.png"]
    assert list(expand("a/**", print)) == ["a/1.png", "a/b/2.png"]


@pytest.mark.parametrize("name", ["data.npz", "table.csv", "picture.png", "train-images-idx3-ubyte", "run.json"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    import os

    from convladder.data.idx import read_idx

    read: dict[str, Callable[[Path], object]] = {
        "data.npz": read_npz,
        "table.csv": list_csv,
        "picture.png": lambda path: decode_image(path, (8, 8, 3)),
        "train-images-idx3-ubyte": read_idx,
        "run.json": lambda path: cl.Run(path.parent),
    }
    os.mkfifo(tmp_path / name)
    with pytest.raises(cl.ConvladderError, match="it is not a regular file"):
        read[name](tmp_path / name)


DEEP = ["[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900]


@pytest.mark.parametrize("text", DEEP, ids=["endless", "lists", "objects"])
def test_json_that_is_nested_deeply_is_refused_wherever_it_is_read(run: cl.Run, tmp_path: Path, text: str) -> None:
    import onnx

    (tmp_path / "run.json").write_text(text)
    with pytest.raises(cl.ConvladderError, match=r"run\.json is damaged \(not JSON: it is nested"):
        cl.Run(tmp_path)
    (tmp_path / FILE).write_text(text)
    (tmp_path / "run.json").write_text("{}")
    assert keep(cl.Run(tmp_path), "name", 1, lambda: "computed anew") == "computed anew"
    assert json.loads((tmp_path / FILE).read_text())["name"]["value"] == "computed anew"
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(cl.ConvladderError, match="nested"):
        cl.Comparison.load(tmp_path)
    model = onnx.load(run.path / "model.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
    with pytest.raises(cl.ConvladderError, match="nested"):
        cl.Classifier(tmp_path / "model.onnx")


def test_a_description_of_forty_megabytes_is_read(run: cl.Run, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(run.path / "model.onnx")
    (stored,) = model.metadata_props
    described = json.loads(stored.value) | {"rung": "a" * 20_000_000, "more": ["b" * 20_000_000]}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(described)})
    (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
    answers = cl.Classifier(tmp_path / "model.onnx").predict_probabilities(np.zeros((1, 28, 28, 1), np.uint8))
    assert answers.shape == (1, 10)


def test_what_is_large_and_sound_is_read() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    expected = decode_image(encoded(Image.fromarray(noise), "PNG"), (32, 32, 3))
    pieces = encoded(Image.fromarray(noise), "PNG")
    start, stop = pieces.index(b"IDAT") - 4, pieces.index(b"IEND") - 4
    packed = b"".join(pieces[place + 8 : place + 8 + length] for place, length in _chunks(pieces, start, stop))
    small = b"".join(png_chunk(b"IDAT", packed[place : place + 512]) for place in range(0, len(packed), 512))
    np.testing.assert_array_equal(decode_image(pieces[:start] + small + pieces[stop:], (32, 32, 3)), expected)
    for options in (
        {"progressive": True},
        {"progressive": False, "comment": b"a" * 60_000},
        {"icc_profile": bytes(900_000)},
    ):
        assert decode_image(encoded(Image.fromarray(noise), "JPEG", **options), (32, 32, 3)).shape == (32, 32, 3)
    tiles = encoded(Image.fromarray(noise), "TIFF", tiffinfo={278: 1})
    np.testing.assert_array_equal(decode_image(tiles, (32, 32, 3)), expected)


def _chunks(content: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        length = int.from_bytes(content[start : start + 4], "big")
        yield start, length
        start += 12 + length
