"""Model files of strangers under any name: each command refuses them in one line, and no code of theirs runs."""

import ast
import bz2
import gzip
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import convladder as cl

SOURCE = Path(cl.__file__).parent


class Evil:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def torch_file(evil: Evil) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(evil))
        archive.writestr("model/version", "3")
    return content.getvalue()


def object_array(evil: Evil) -> bytes:
    content = io.BytesIO()
    np.savez(content, weights=np.array([evil], object))
    return content.getvalue()


def legacy_keras(evil: Evil) -> bytes:
    """Keras's .h5 with a layer of Python code: no safe mode holds there (CVE-2025-9905)."""
    call = eval(f"lambda x: (open({str(evil.marker)!r}, 'w').close(), x)[1]")
    network = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(call, output_shape=(4,))])
    evil.marker.unlink(missing_ok=True)
    path = evil.marker.with_suffix(".h5")
    network.save(path)
    return path.read_bytes()


FILES: dict[str, tuple[Callable[[Evil], bytes], str]] = {
    "pickle": (pickle.dumps, "a pickle, which can run code"),
    "pickle of protocol 0": (lambda evil: pickle.dumps(evil, 0), "a pickle, which can run code"),
    "pickle of protocol 2": (lambda evil: pickle.dumps(evil, 2), "a pickle, which can run code"),
    "joblib, gzip": (lambda evil: gzip.compress(pickle.dumps(evil)), "a compressed file, as joblib writes"),
    "joblib, bz2": (lambda evil: bz2.compress(pickle.dumps(evil)), "a compressed file, as joblib writes"),
    "torch": (torch_file, "a PyTorch file, which holds a pickle"),
    "npz of objects": (object_array, "an archive of NumPy arrays"),
    "h5": (legacy_keras, "an HDF5 file, as Keras's .h5, which can run code"),
    "h5 behind a block": (lambda evil: bytes(512) + legacy_keras(evil), "an HDF5 file"),
}


NAMES = {
    "model.onnx": (["predict", "picture.png"], ["serve"]),
    "model.h5": (["explain", "picture.png"], ["evaluate"]),
    "model.keras": (["export"], ["watch"]),
    "model.pt": (["predict", "picture.png"], ["evaluate"]),
    "model": (["serve"], ["export"]),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_is_refused_under_any_name(
    run: cl.Run,
    tmp_path: Path,
    convladder: Any,
    kind: str,
) -> None:
    marker = tmp_path / "marker"
    make, said = FILES[kind]
    content = make(Evil(marker))
    marker.unlink(missing_ok=True)
    Image.new("L", (28, 28)).save("picture.png")
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    (folder / "model.onnx").write_bytes(content)
    for name, commands in NAMES.items():
        Path(name).write_bytes(content)
        for command, *more in commands:
            result = convladder(command, name, *more)
            assert (result.status, len(result.err.splitlines())) == (2, 1)
            assert command == "watch" or said in result.err
    for arguments in (["evaluate", folder, "--robustness"], ["export", folder], ["serve", folder]):
        result = convladder(*arguments)
        assert result.status == 2
        assert said in result.err
    assert not marker.exists()
    if kind == "pickle":
        pickle.loads(content)
        assert marker.exists()  # the code is real


def test_training_takes_no_file_for_a_network(small: cl.Dataset, tmp_path: Path, convladder: Any) -> None:
    marker = tmp_path / "marker"
    Path("model.h5").write_bytes(pickle.dumps(Evil(marker)))
    for model in ("model.h5", Path("model.h5")):
        with pytest.raises(cl.ConvladderError, match="Expected"):
            cl.train(model, small)
    options = ["--data", "clothes", "--image-size", 32, "--model", "transfer", "--backbone", "MobileNetV2"]
    for arguments in (["--model", "model.h5"], [*options, "--weights", "model.h5"]):
        result = convladder("train", *arguments)
        assert (result.status, "Expected" in result.err.splitlines()[-1]) == (2, True)
    assert not marker.exists()


def test_a_folder_of_another_kind_is_refused(run: cl.Run, tmp_path: Path, convladder: Any) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "saved_model.pb").write_bytes(b"\x08\x01")
    for command in (["predict", saved, "x.png"], ["serve", saved], ["explain", saved, "x.png"], ["evaluate", saved]):
        result = convladder(*command)
        assert (result.status, len(result.err.splitlines())) == (2, 1)
        assert "a TensorFlow SavedModel, which can run code" in result.err
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "model.onnx").unlink()
    saved.rename(tmp_path / "run" / "model.onnx")
    assert "SavedModel" in convladder("predict", "run", "x.png").err


@pytest.mark.parametrize("name", ["examples.npz", "film.npz", "predictions.npz", "learned.npz", "familiarity.npz"])
def test_arrays_of_objects_in_a_run_folder_are_not_unpickled(
    run: cl.Run,
    tmp_path: Path,
    convladder: Any,
    name: str,
) -> None:
    marker = tmp_path / "marker"
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    with np.load(run.path / name) as archive:
        keys = archive.files
    np.savez(folder / name, **{key: np.array([Evil(marker)], object) for key in keys})  # type: ignore[arg-type]
    for command in (["evaluate", folder], ["report", folder, "--output", "report.html"], ["export", folder]):
        assert convladder(*command).status in (0, 1, 2)
    assert not marker.exists()


def test_no_module_of_the_package_unpickles_or_runs_what_a_file_holds() -> None:
    """Pickles go between processes of one program, in workers.py. Arrays are read with allow_pickle=False."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [alias.name for alias in part.names] if isinstance(part, ast.Import | ast.ImportFrom) else []
            if isinstance(part, ast.ImportFrom):
                named.append(part.module or "")
            function = part.func if isinstance(part, ast.Call) else None
            called = getattr(function, "attr", getattr(function, "id", ""))  # the last part of its name
            if called == "load" and isinstance(part, ast.Call) and ast.unparse(part.func) in ("np.load", "numpy.load"):
                options = {key.arg: ast.unparse(key.value) for key in part.keywords}
                if options.get("allow_pickle") != "False":
                    found.append(f"{path.name}: {called} without allow_pickle=False")
            if called in ("eval", "exec", "__import__") or (
                called == "load_model" and isinstance(function, ast.Attribute) and "keras" in ast.unparse(function)
            ):
                found.append(f"{path.name}: {called}")
            if {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"} & set(named):
                found.append(f"{path.name}: imports {', '.join(named)}")
    assert found == ["workers.py: imports pickle"]
