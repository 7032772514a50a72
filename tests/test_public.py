"""The public names, and no others; importing them is cheap."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import convladder as cl
from convladder.errors import EXTRAS, name_extra

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
    "predict_on_cluster",
    "train",
    "tune",
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


def test_dir_and_completion_show_the_public_names() -> None:
    assert set(dir(cl)) >= NAMES | {"__version__"}
    script = (
        "import rlcompleter, sys, convladder\n"
        "completer = rlcompleter.Completer({'convladder': convladder})\n"
        "print([completer.complete('convladder.Cl', n) for n in range(2)], 'keras' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith("['convladder.Classifier(")
    assert said.rstrip().endswith("None] False")


ABSENT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import convladder as cl
try:
    cl.train
except ImportError as error:
    print(error)
"""


def test_python_is_told_the_extra_that_is_missing() -> None:
    for module in ("keras", "tensorflow"):
        said = subprocess.run([sys.executable, "-c", ABSENT, module], capture_output=True, text=True, check=True).stdout
        assert said.strip() == f"{module} is not installed. Run: pip install 'convladder[train]'"
    other = name_extra(ModuleNotFoundError(name="jax.numpy"))
    assert other.startswith("jax.numpy is not installed, and no extra of convladder has it.")


def test_every_optional_dependency_has_its_extra() -> None:
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    modules = {"scikit-learn": "sklearn", "mlflow-skinny": "mlflow", "tensorflow-cpu": "tensorflow"}
    for extra in ("train", "ray", "tensorboard", "mlflow", "openvino", "litert", "s3", "tune"):
        for requirement in extras[extra]:
            name = requirement.partition(">")[0].partition("[")[0]
            assert name == "fsspec" or EXTRAS[modules.get(name, name.replace("-", "_"))] == extra


def test_another_backend_of_keras_is_told_and_not_what_is_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convladder", "summary", "dense"]
    environment = {"PATH": "", "HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "Keras is set to run on 'jax'" in line
    assert "KERAS_BACKEND=tensorflow" in line
    assert "pip install" not in line


@pytest.mark.long
def test_another_backend_in_keras_s_own_settings_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps({"backend": "torch"}))
    script = "import convladder as cl; print(cl.build_model('dense', (28, 28, 1), 10).count_params())"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}
    )
    assert ended.stdout.split() == ["26506"]
