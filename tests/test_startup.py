"""Nothing is imported from where one stands; a user may have no home; Windows is refused."""

import ast
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder import cli
from convladder.workers import map_files, start_interpreter

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("convladder"))
MODEL = ROOT / "tests" / "data" / "before-familiarity.onnx"
MODULE = [sys.executable, "-m", "convladder"]
# A home that cannot be written to, not even by root.
READ_ONLY = "/proc"
NO_USER = ["unshare", "--user", "--map-user=12345", "--map-group=12345", "env", "-u", "HOME"]
WARNING = "Decoded pictures are not cached"
LOAD = """
import sys, warnings, convladder as cl
warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
print(len(cl.load_dataset(sys.argv[1], cache=sys.argv[2] == "cache").train))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many that processes are started to decode them."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(150):
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def trapped(pictures: Path) -> Path:
    """The pictures beside a file named as each module that the command may import; each says that it was imported."""
    trap = f"open({str(pictures / 'sprung')!r}, 'a').write(__name__ + chr(10)); raise ImportError(__name__)\n"
    for name in {*sys.stdlib_module_names, "numpy", "PIL", "onnxruntime", "rich", "typer", "convladder", "torch"}:
        (pictures / f"{name}.py").write_text(trap, encoding="utf-8")
    (pictures / "sprung").unlink(missing_ok=True)
    return pictures


def remove_what_python_reads(folder: Path) -> None:
    """Remove what Python looks for before the first line of the package is run, and the package itself."""
    script = "import re, runpy, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    names = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True).stdout
    for name in {*names.split(), "sitecustomize", "usercustomize", "convladder"}:
        (folder / f"{name}.py").unlink(missing_ok=True)


def sprung(folder: Path) -> str:
    log = folder / "sprung"
    return log.read_text(encoding="utf-8") if log.exists() else ""


def audit(folder: Path, *command: str, **environment: str) -> None:
    finished = subprocess.run(
        [*command, "audit", "."],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert not sprung(folder)
    assert finished.returncode == 0, finished.stderr
    assert "300 pictures" in finished.stdout


@pytest.mark.long
def test_the_command_imports_nothing_from_a_folder_of_data(trapped: Path) -> None:
    audit(trapped, COMMAND)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "path"),
    [
        ([COMMAND], ":/nowhere"),
        ([COMMAND], "/nowhere::/neither"),
        ([COMMAND], "."),
        (MODULE, ""),
        (MODULE, "/nowhere:"),
    ],
)
def test_neither_an_empty_entry_nor_python_m_brings_the_folder_back(
    trapped: Path, command: list[str], path: str
) -> None:
    remove_what_python_reads(trapped)
    audit(trapped, *command, PYTHONPATH=path)


@pytest.mark.parametrize("entry", ["", ".", "here"])
def test_processes_import_nothing_from_where_their_caller_stands(
    trapped: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.chdir(trapped)
    monkeypatch.setattr(sys, "path", [str(trapped) if entry == "here" else entry, *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    assert list(map_files(abs, list(range(300)))) == list(range(300))
    with start_interpreter("import sys, numpy, PIL, pickle; pickle.dump(sys.path, sys.stdout.buffer)") as process:
        assert process.stdout
        found = pickle.load(process.stdout)
    assert not sprung(trapped)
    assert not {"", ".", str(trapped)} & set(found)


@pytest.mark.long
def test_workers_of_the_server_import_nothing_from_where_it_was_started(trapped: Path) -> None:
    """uvicorn starts them, by multiprocessing, which hands on the search path and reads the caller's script again."""
    remove_what_python_reads(trapped)
    for name in ("uvicorn", "uvloop", "starlette", "httptools", "prometheus_client"):
        shutil.copy(trapped / "rich.py", trapped / f"{name}.py")
    command = [COMMAND, "serve", str(MODEL), "--port", "0", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep}
    with subprocess.Popen(command, cwd=trapped, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr
        line = process.stderr.readline()  # both are ready
        process.terminate()
    assert "(2 workers)" in line
    assert not sprung(trapped)


def test_no_module_but_one_starts_python() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import multiprocessing" not in text
        assert "sys.executable," not in text or file.name == "workers.py"


def test_a_script_keeps_modules_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("answer = 42\n", encoding="utf-8")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import convladder\n", encoding="utf-8")
    (tmp_path / "package" / "__main__.py").write_text("import mine; print(mine.answer)\n", encoding="utf-8")
    (tmp_path / "script.py").write_text("import convladder, mine; print(mine.answer)\n", encoding="utf-8")
    for arguments in (["script.py"], ["-m", "script"], ["-m", "package"], ["-c", "import convladder, mine; print(42)"]):
        printed = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
        ).stdout
        assert printed == "42\n"


def load(pictures: Path, cache: str, *start: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    return subprocess.run(
        [*start, sys.executable, "-c", LOAD, str(pictures), cache],
        env=kept | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


@pytest.mark.long
@pytest.mark.parametrize("home", ["/nonexistent", READ_ONLY, None])
def test_without_a_home_pictures_are_decoded_and_not_kept(pictures: Path, home: str | None) -> None:
    start = [] if home else no_user()
    environment = {"HOME": home} if home else {}
    kept = load(pictures, "cache", *start, **environment)
    assert kept.returncode == 0, kept.stderr
    assert kept.stderr.startswith(WARNING)
    assert kept.stderr.count("\n") == 1
    unkept = load(pictures, "no-cache", *start, **environment)
    assert (unkept.returncode, unkept.stdout, unkept.stderr) == (0, kept.stdout, "")


def no_user() -> list[str]:
    """Start a command as a user who is not in /etc/passwd and has no HOME, where the system lets one do so."""
    if subprocess.run([*NO_USER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no other user can be taken on here")
    return NO_USER


@pytest.mark.long
@pytest.mark.parametrize("home", [READ_ONLY, None])
def test_without_a_home_a_network_is_trained_and_tracked(pictures: Path, tmp_path: Path, home: str | None) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "MPLCONFIGDIR")}
    environment = kept | {"TMPDIR": str(tmp_path)} | ({"HOME": home} if home else {})
    words = ["train", "--data", str(pictures), "--model", "dense", "--epochs", "0.1", "--mlflow"]
    finished = subprocess.run(
        [*([] if home else no_user()), COMMAND, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count(WARNING) == 1
    assert "Traceback" not in finished.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "mlflow.db", "mlruns"}


def test_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr(sys, "argv", ["convladder", "models"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "Windows" in printed.err
    assert "Linux or macOS" in printed.err
    with pytest.raises(cl.ConvladderError, match="Linux or macOS"):
        _ = cl.train


def test_text_is_utf8_wherever_the_package_runs() -> None:
    """Each opening of a text file, and of a pipe of text, names its encoding; another is the locale's."""
    unnamed = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for folder in ("src", "benchmarks", "examples")
        for file in (ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and is_locales(call)
    ]
    assert not unnamed


def is_locales(call: ast.Call) -> bool:
    """Whether a call opens text in the encoding of the locale."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    if name in ("run", "Popen", "check_output"):
        return {"text", "universal_newlines"} & keywords.keys() != set()
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return len(call.args) < 2
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if owner in ("Image", "tarfile", "zipfile", "os") and name == "open":
        return False
    values = [*call.args, keywords.get("mode")]
    modes = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return not any("b" in mode for mode in modes if set(mode) <= set("rwaxbt+"))
