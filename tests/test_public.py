"""The public names, and no others; importing them is cheap."""

import subprocess
import sys

import pytest

import convladder as cl

NAMES = {
    "ARTICLE",
    "DEFAULT",
    "MODELS",
    "Classifier",
    "Comparison",
    "ConvladderError",
    "Dataset",
    "Prediction",
    "Recipe",
    "Run",
    "Split",
    "build_model",
    "evaluate",
    "explain",
    "grad_cam",
    "compare",
    "load_dataset",
    "occlude",
    "train",
    "write_report",
}


def test_the_public_names_are_these() -> None:
    assert set(cl.__all__) == NAMES
    for name in NAMES:
        assert getattr(cl, name) is not None
    with pytest.raises(AttributeError):
        _ = cl.trian


def test_importing_the_package_and_asking_for_help_import_nothing_heavy() -> None:
    script = (
        "import sys, convladder.cli\n"
        "heavy = {'keras', 'tensorflow', 'sklearn', 'scipy', 'onnxruntime', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
