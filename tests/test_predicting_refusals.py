"""`predict --ray` refuses in one line what it cannot do, before it starts or asks a cluster."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import convladder as cl


@pytest.fixture
def here(tmp_path: Path, convladder: Any) -> Any:
    Image.new("L", (28, 28)).save("a.png")
    Path("empty").mkdir()
    Path("file").write_text("mine")
    return convladder


REFUSED = {
    "no output": (["a.png", "--ray"], "--ray was given with no --output. Expected --output DIR|URL"),
    "csv": (["a.png", "--ray", "--output", "out", "--csv"], "--ray was given with --csv"),
    "cores alone": (["a.png", "--cores", "2"], "--cores, --gpus and --column are for a cluster. Expected --ray"),
    "GPUs alone": (["a.png", "--gpus", "1"], "--cores, --gpus and --column are for a cluster. Expected --ray"),
    "one and a half GPUs": (
        ["a.png", "--ray", "--output", "out", "--gpus", "1.5"],
        "A classifier cannot have 1.5 GPUs. Expected a share of one, or a whole number.",
    ),
    "column alone": (["a.png", "--column", "image"], "--cores, --gpus and --column are for a cluster. Expected --ray"),
    "empty folder": (["empty", "--ray", "--output", "out"], "empty holds no pictures"),
    "file": (["a.png", "--ray", "--output", "file"], "The output file is a file. Expected a folder"),
    "others": (["a.png", "--ray", "--output", "."], ". holds 'a.png', and no answers of `predict --ray`"),
    "scheme": (["a.png", "--ray", "--output", "nonsense://out"], "Could not open nonsense://out"),
    "package": (["gs://bucket/photos", "--ray", "--output", "out"], "gs://bucket/photos needs another package"),
    "memory": (["a.png", "--ray", "--output", "memory://out"], "memory://out is memory of one process"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_predict_on_a_cluster_refuses_before_it_connects(what: str, run: cl.Run, here: Any) -> None:
    given, message = REFUSED[what]
    status, out, told = here("predict", run.path, *given)
    assert (status, out) == (2, "")
    assert told.startswith(f"Error: {message}")
    assert len(told.splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "empty", "file"]
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_refused_at_once(address: str, run: cl.Run, here: Any) -> None:
    status, out, told = here("predict", run.path, "a.png", "--output", "out", "--ray", address)
    assert (status, out) == (1, "")
    assert told.startswith(f"Error: There is no Ray cluster at {address} (")
    assert len(told.splitlines()) == 1


MISSING = """
import sys
missing = sys.argv[1]
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from convladder import cli
sys.argv = ["convladder", *sys.argv[2:]]
cli.main()
"""


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_a_missing_extra_is_named(missing: str, run: cl.Run, here: Any) -> None:
    given = ["predict", str(run.path), "a.png", "--ray", "--output", "out"]
    done = subprocess.run([sys.executable, "-c", MISSING, missing, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"Error: {missing} is not installed. Run: pip install 'convladder[ray]'"]
    assert not Path("out").exists()
