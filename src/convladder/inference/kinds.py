"""Kinds: what a file or folder that is no .onnx file seems to be, told by its content and not by its name."""

import contextlib
import io
import re
import zipfile
from pathlib import Path

HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_PLACES = (0, 512, 1024, 2048)  # a file may begin with something else, of a power of two of bytes
RUNS_CODE = "which can run code when it is loaded"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "a compressed file, as joblib writes pickles"),
    (b"BZh", "a compressed file, as joblib writes pickles"),
    (b"\xfd7zXZ", "a compressed file, as joblib writes pickles"),
    (b"\x04\x22\x4d\x18", "a compressed file, as joblib writes pickles"),
    (b"x\x01", "a compressed file, as joblib writes pickles"),
    (b"x\x9c", "a compressed file, as joblib writes pickles"),
    (b"x\xda", "a compressed file, as joblib writes pickles"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(?c[\w.]+\n[\w.]+\n|\([dl]p\d|\(i[\w.]+\n")  # protocols 2 to 5; 0 and 1


def name_kind(content: bytes) -> str:
    """What the bytes of a file are, such as "a pickle, which can run code when it is loaded"; empty if unknown."""
    if any(content[place : place + len(HDF5)] == HDF5 for place in HDF5_PLACES):
        return f"an HDF5 file, as Keras's .h5, {RUNS_CODE}"
    if content.startswith(b"PK\x03\x04"):
        return _name_archive(content)
    if _PICKLE.match(content):
        return f"a pickle, {RUNS_CODE}"
    if content[4:8] == b"TFL3":
        return "a LiteRT model"
    return next((kind for signature, kind in _SIGNATURES if content.startswith(signature)), "")


def name_file(path: Path) -> str:
    """What a file or folder is; empty if unknown or unreadable."""
    with contextlib.suppress(OSError):
        return name_kind(path.read_bytes()) if path.is_file() else name_folder(path)
    return ""


def name_folder(path: Path) -> str:
    """What a folder is; empty if unknown."""
    if (path / "saved_model.pb").exists():
        return f"a TensorFlow SavedModel, {RUNS_CODE}"
    return "an unpacked Keras model" if (path / "config.json").exists() else ""


def _name_archive(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "a damaged zip archive"
    if any(name.endswith(".pkl") for name in names):
        return f"a PyTorch file, which holds a pickle, {RUNS_CODE}"
    if "config.json" in names:
        return "a Keras model"
    return "an archive of NumPy arrays" if names and all(name.endswith(".npy") for name in names) else "a zip archive"
