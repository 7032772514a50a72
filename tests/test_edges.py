"""The command line at its edges: odd names, odd terminals, odd numbers, and streams that nobody reads or can write."""

import csv
import inspect
import io
import json
import os
import select
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image
from rich.box import ASCII
from rich.table import Table

import convladder as cl
from convladder import cli
from convladder import workers as parallel
from convladder.cli.streams import PlainConsole
from convladder.models.ladder import MODELS, rung_choices
from convladder.training.progress import ProgressBar

# What a name may hold: bytes that are not UTF-8, what breaks a line, commands a terminal, or means something to a
# library that shows it; and what encodings lack.
NAMES = [
    b"caf\xe9.png",
    b"new\nline.png",
    b"tab\tstop.png",
    b"carriage\rreturn.png",
    b"escape\x1b[31m.png",
    "bidi\u202egnp.png".encode(),
    "separator\u2028.png".encode(),
    b"[bold]brackets[ red].png",
    b"[red]y[bold].png",
    b":cat:.png",
    b"$a$ $b_{.png",
    b"<b>&amp;.png",
    "größe × 猫.png".encode(),
]
BAD = b"[bad]\n:x:\xff.png"
CLASSES = [b"cl\xe9", b"[bold]", b"new\nline", b":dog:", b"$x$ $y_{", b"<b>"]
SECONDS = 100  # after which a process that should have answered is given up


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `pictures`, one a name and a bad one, and `data`, twelve pictures a class."""
    folder = tmp_path_factory.mktemp("odd")
    for name in NAMES:
        write_picture(os.fsencode(folder) + b"/pictures/" + name)
    for path in (b"/pictures/", b"/data/" + CLASSES[0] + b"/"):
        write_picture(os.fsencode(folder) + path + BAD, b"no picture")
    for name in CLASSES:
        for number in range(12):
            write_picture(b"%s/data/%s/%d-%s" % (os.fsencode(folder), name, number, NAMES[number]))
    return folder


def write_picture(path: bytes, content: bytes | None = None) -> None:
    """Write noise, another one for each path."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = io.BytesIO()
    noise = np.random.default_rng(list(path)).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    Path(os.fsdecode(path)).write_bytes(file.getvalue() if content is None else content)


def start(*arguments: str | bytes | Path, folder: Path, **options: Any) -> "subprocess.Popen[Any]":
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    environment = os.environ | options.pop("environment", {})
    command = [sys.executable, "-m", "convladder", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, **options)


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(given, timeout=SECONDS)
    assert b"Traceback" not in (err or b"")
    return process.returncode, out, err


def lines(output: bytes, encoding: str = "utf-8") -> list[str]:
    """What a terminal of that encoding would show; nothing in it moves the cursor or changes colours."""
    text = output.decode(encoding)
    assert not set(text) & {chr(code) for code in (*range(9), *range(11, 32), 0x202E, 0x2028)}
    return text.split("\n")[:-1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "encoding"), [("--json", "utf-8"), ("--top=2", "latin-1"), ("--csv", "ascii"), ("--top=1", "utf-8")]
)
def test_predict_gives_one_line_for_one_file_whatever_its_name(
    run: cl.Run, pictures: Path, form: str, encoding: str
) -> None:
    process = start(
        "predict", run.path, "pictures", form, folder=pictures, environment={"PYTHONIOENCODING": f"{encoding}:strict"}
    )
    status, out, err = finish(process)
    shown, said = lines(out, encoding), lines(err, encoding)
    assert status == 2
    assert len(shown) + len(said) == len(NAMES) + 1 + (form == "--csv")
    if form == "--json":  # a program gets the names themselves
        sources = {os.fsencode(json.loads(line)["source"]) for line in shown}
        assert sources == {b"pictures/" + name for name in (*NAMES, BAD)}
    elif form == "--csv":
        rows = list(csv.DictReader(shown))
        assert {len(row) for row in rows} == {7}
        assert [row["source"] for row in rows if row["error"]] == [r"pictures/[bad]\n:x:\udcff.png"]
    else:
        assert {len(line.split("\t")) for line in shown} <= {
            more + 2 * int(form[-1]) for more in (1, 2, 3)
        }  # with remarks
        assert len(said) == 1
        assert r"pictures/caf\udce9.png" in {line.split("\t")[0] for line in shown}
        assert "pictures/[red]y[bold].png" in {line.split("\t")[0] for line in shown}


@pytest.mark.long
def test_audit_shows_odd_names_and_its_json_and_page_find_the_files(pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ascii_terminal = {"PYTHONIOENCODING": "ascii:strict"}
    status, out, _ = finish(start("audit", "data", folder=pictures, environment=ascii_terminal))
    table = "\n".join(lines(out, "ascii"))
    assert status == 0
    for name in (r"cl\udce9", "[bold]", r"new\nline", ":dog:", "$x$ $y_{", "<b>", r"[bad]\n:x:\udcff.png"):
        assert f" {name} " in table
    status, out, _ = finish(start("audit", "data", "--json", "--html", page, folder=pictures))
    (bad,) = (found["groups"] for found in json.loads(out)["findings"] if found["check"] == "no picture")
    assert os.fsencode(bad[0][0]) == b"data/" + CLASSES[0] + b"/" + BAD
    shown = page.read_text(encoding="utf-8")
    assert "<td>&lt;b&gt;</td>" in shown
    assert r"cl\udce9/[bad]\n:x:\udcff.png" in shown


@pytest.mark.long
def test_runs_of_odd_classes_in_an_odd_folder_are_trained_shown_and_drawn(
    convladder: Any, pictures: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"r\xe9[bold]\n$a$ $b_{")
    trained = convladder("train", "--model", "dense", "--data", pictures / "data", "--epochs", 1, "--runs", odd)
    assert trained.status == 0
    assert r"r\udce9[bold]\n$a$ $b_{/dense-1: test accuracy" in lines(trained.out.encode())[0]
    told = json.loads((tmp_path / odd / "dense-1/run.json").read_bytes().decode())
    assert told["class_names"] == sorted([r"cl\udce9", "[bold]", r"new\nline", ":dog:", "$x$ $y_{", "<b>"])
    run = f"{odd}/dense-1"
    evaluated = convladder("evaluate", run).out
    assert all(name in evaluated for name in told["class_names"])
    drawn = [name for name in NAMES if "猫".encode() not in name]  # of which matplotlib's font has no glyph
    files = [pictures / "pictures" / os.fsdecode(name) for name in drawn]
    explained = convladder("explain", run, *files, "--figure", f"{odd}/figure.svg")
    assert (explained.status, len(lines(explained.out.encode()))) == (0, len(drawn))
    assert "$a$ $b_{.png" in (tmp_path / odd / "figure.svg").read_text(encoding="utf-8")
    reported = convladder("report", odd)
    assert reported.out == "report.html\n"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page.replace("<b>Fig", "")
    assert r"[bad]\n:x:\udcff.png" in page
    for form in ("litert", "savedmodel"):  # their writers take no such name
        refused = convladder("export", run, "--format", form)
        assert (refused.status, len(lines(refused.err.encode()))) == (2, 1)
        assert "is not UTF-8" in refused.err


def test_a_model_of_an_odd_name_is_served(run: cl.Run, tmp_path: Path) -> None:
    import httpx

    import served

    odd = tmp_path / os.fsdecode(b"caf\xe9 [bold]\n.onnx")
    odd.write_bytes((run.path / "model.onnx").read_bytes())
    with served.started(str(odd)) as (_, url, _):
        (model,) = httpx.get(f"{url}/models.json", timeout=SECONDS).json()["models"]
    assert model["name"] == r"caf\udce9 [bold]\n"


def test_tables_and_lines_never_read_markup() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=100)
    table = Table("[red]head", box=ASCII)
    table.add_row("[bold]x[ red] :cat: \x1b[31m\n")
    console.print(table)
    console.print("[/red] :dog: [link=x]")
    assert "[red]head" in file.getvalue()
    assert r"[bold]x[ red] :cat: \x1b[31m\n" in file.getvalue()
    assert "[/red] :dog: [link=x]\n" in file.getvalue()


def test_a_bar_never_reads_markup() -> None:
    file = io.StringIO()
    bar = ProgressBar("[/bold] :cat:\n", 8, PlainConsole(file=file, force_terminal=True, width=160))
    bar.set_params({"steps": 2, "epochs": 1})
    bar.on_train_begin()
    bar.on_train_batch_end(0)
    bar.on_train_end()
    assert r"[/bold] :cat:\n" in file.getvalue()


@pytest.mark.long
def test_data_of_an_odd_name_get_one_that_can_be_stored(pictures: Path, small_npz: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"d\xe9[x]\n")
    (tmp_path / odd).mkdir()
    for kind in ("train", "test"):
        (tmp_path / odd / kind).symlink_to(pictures / "data")
    (tmp_path / f"{odd}.npz").symlink_to(small_npz)
    assert cl.load_dataset(tmp_path / odd, image_size=9, cache=False, keep_leaks=True).name == r"d\udce9[x]\n"
    assert cl.load_dataset(tmp_path / f"{odd}.npz").name == r"d\udce9[x]\n"


@pytest.mark.long
def test_a_comparison_whose_table_nobody_reads_still_leaves_its_report(small_npz: Path, tmp_path: Path) -> None:
    with pipe_that_nobody_reads() as unread:
        process = start(
            *("compare", "--models", "dense", "--epochs", "0.5", "--data", small_npz), folder=tmp_path, stdout=unread
        )
    assert finish(process)[0] == 141
    assert (tmp_path / "runs/report.html").exists()


def numbers() -> Iterator[tuple[str, str]]:
    """Every numeric option of every command."""
    for command in cli.app.registered_commands:
        assert command.callback is not None
        for name, parameter in inspect.signature(command.callback).parameters.items():
            kind = next(iter(typing.get_args(parameter.annotation)), None)  # the context has none
            if {int, float} & {kind, *typing.get_args(kind)}:
                yield command.callback.__name__, f"--{name.replace('_', '-')}"


ARGUMENTS = {
    "summary": ["pool"],
    "audit": ["nowhere"],
    "predict": ["nowhere", "nowhere.png"],
    "serve": ["nowhere"],
    "export": ["nowhere"],
    "report": ["nowhere"],
    "evaluate": ["nowhere"],
    "explain": ["nowhere", "nowhere.png"],
}


@pytest.mark.long
@pytest.mark.parametrize(("command", "option"), list(numbers()))
def test_a_number_that_cannot_be_is_one_line_before_anything_is_done(
    convladder: Any, tmp_path: Path, command: str, option: str
) -> None:
    arguments = ARGUMENTS.get(command, [])
    choice = option.removeprefix("--").replace("-", "_")
    if choice in cli.CHOICES:
        rung = next(rung for rung in MODELS if choice in rung_choices(rung))
        several = {name: ["--models", rung] for name in ("compare", "tune")}
        arguments = ({"summary": [rung]} | several).get(command, ["--model", rung])
    for number in ("nan", "inf", "-inf", "1e400", "-1", "1" + 30 * "0", "1" + 400 * "0"):
        result = convladder(command, *arguments, option, number)
        assert (result.status, result.out) == (2, ""), (number, result.err)
        assert len(result.err.splitlines()) == 1
        assert choice.replace("_", " ") in result.err.replace("-", " ").replace("_", " "), result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limits", ["seconds=inf", "seconds=nan", "seconds=1e9", "body=-1", "connections=1" + 12 * "0"])
def test_a_limit_that_cannot_be_is_one_line(convladder: Any, limits: str) -> None:
    result = convladder("serve", "nowhere", "--limits", limits)
    assert (result.status, len(result.err.splitlines())) == (2, 1)
    assert limits.partition("=")[0] in result.err


def test_a_size_of_the_cache_that_is_no_number_is_refused(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLADDER_CACHE_GB", "nan")
    with pytest.raises(cl.ConvladderError, match="CONVLADDER_CACHE_GB nan is out of range"):
        cl.load_dataset(pictures / "data", image_size=9)


def pipe_that_nobody_reads() -> IO[bytes]:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["audit", "data"],
        ["audit", "data", "--json"],
        *(["predict", "RUN", "pictures", form] for form in ("--top=1", "--json", "--csv")),
    ],
    ids=" ".join,
)
def test_an_output_that_cannot_be_written_is_no_traceback(run: cl.Run, pictures: Path, arguments: list[str]) -> None:
    arguments = [str(run.path) if word == "RUN" else word for word in arguments]
    with pipe_that_nobody_reads() as unread, open("/dev/full", "wb") as full:
        both = [start(*arguments, folder=pictures, stdout=stdout) for stdout in (unread, full)]
    gone, no_room = (finish(process) for process in both)
    assert gone[0] == 141
    assert b"Error" not in gone[2].replace(b"Error: pictures/[bad]", b"")
    assert no_room[0] == 1
    assert lines(no_room[2])[-1].startswith("Error: Could not write to standard output (No space left on device)")


@pytest.mark.parametrize(("closed", "status"), [("1", 1), ("2", 0), ("0", 0)])
def test_a_closed_stream_is_no_traceback_and_no_other_file(
    run: cl.Run, pictures: Path, closed: str, status: int
) -> None:
    process = subprocess.run(
        ["sh", "-c", f'"$@" {closed}>&-', "sh", sys.executable, "-m", "convladder", "predict", run.path, ":cat:.png"],
        cwd=pictures / "pictures",
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == status
    assert b"Traceback" not in process.stderr
    assert process.stdout.startswith(b":cat:.png") == (closed != "1")
    assert (b"Could not write to standard output (Bad file descriptor)" in process.stderr) == (closed == "1")


def test_remarks_that_cannot_be_written_change_no_answer(run: cl.Run, pictures: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start("predict", run.path, "pictures", folder=pictures, stderr=full)
    status, out, _ = finish(process)
    assert (status, len(lines(out))) == (2, len(NAMES))


@pytest.mark.parametrize(
    "error",
    [RecursionError("too deep\nby far"), OSError(5, "Input/output error", "x"), MemoryError(), KeyError("[bold]")],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_foresaw_is_one_line_and_status_1(
    convladder: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("convladder.data.audit.audit", fail)
    result = convladder("audit", ".")
    assert (result.status, len(lines(result.err.encode()))) == (1, 1)
    with pytest.raises(type(error)):
        convladder("--debug", "audit", ".")


def read_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    """So many lines, as soon as they are there; fewer, and the test fails, after a while."""
    assert process.stdout is not None
    read = b""
    while read.count(b"\n") < count:
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        assert ready, f"{count} answers were not given before more was asked for: {read!r}"
        read += os.read(process.stdout.fileno(), 65536)
    return lines(read)


def test_predict_answers_a_burst_before_the_next_path_comes(run: cl.Run, pictures: Path) -> None:
    process = start("predict", run.path, "-", folder=pictures / "pictures", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for burst in ([":cat:.png"], ["$a$ $b_{.png"] * 3, [":cat:.png"] * 12):
        process.stdin.write("".join(f"{path}\n" for path in burst).encode())
        process.stdin.flush()
        assert [line.split("\t")[0] for line in read_lines(process, len(burst))] == burst
    assert finish(process)[0] == 0


@pytest.mark.long
def test_a_list_of_paths_may_hold_blank_lines_carriage_returns_and_any_bytes(run: cl.Run, pictures: Path) -> None:
    folder = pictures / "pictures"
    process = start("predict", run.path, "-", "--json", folder=folder, stdin=subprocess.PIPE)
    _, out, _ = finish(process, b":cat:.png\r\n\n  \r\ncaf\xe9.png\nescape\x1b[31m.png")  # the last without its end
    sources = [os.fsencode(json.loads(line)["source"]) for line in lines(out)]
    assert sources == [b":cat:.png", b"caf\xe9.png", b"escape\x1b[31m.png"]
    process = start("predict", run.path, "-", "--null", "--json", folder=folder, stdin=subprocess.PIPE)
    status, out, _ = finish(process, b"\0".join(NAMES) + b"\0")
    assert status == 0
    assert [os.fsencode(json.loads(line)["source"]) for line in lines(out)] == NAMES


def test_a_list_that_is_none_is_one_line_after_the_answers(run: cl.Run, pictures: Path) -> None:
    process = start("predict", run.path, "-", folder=pictures / "pictures", stdin=subprocess.PIPE)
    status, out, err = finish(process, b":cat:.png\n" + bytes(200_000))
    assert (status, len(lines(out)), len(lines(err))) == (2, 1, 1)
    assert b"not a list of paths" in err


def test_processes_give_all_that_came_before_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SECONDS_TO_JUDGE", 0)  # processes start at once
    monkeypatch.setattr(parallel, "SECONDS_A_START", 0)
    given: list[int] = []

    def items() -> Iterator[int | None]:
        for start in (0, 3, 300):
            yield from range(start, start + 300)
            yield None
            assert given[-1] == start + 299  # what asks on has given all results before

    expected = [number for start in (0, 3, 300) for number in range(start, start + 300)]
    for item, result in parallel.stream_files(abs, items()):
        if item is not None:
            assert result == item
            given.append(item)
    assert given == expected
