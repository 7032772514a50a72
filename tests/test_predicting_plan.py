"""The plan of a job on a cluster: what its sources stand for, its parts, and that it goes on. Without Ray."""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import convladder as cl
from convladder.predicting.answers import count_errors, write_answers
from convladder.predicting.places import Place
from convladder.predicting.plan import INPUTS, PLAN, make_plan, read_part
from convladder.predicting.sources import Input, list_inputs, list_pictures

WORK = {"model": "a digest", "top": None}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def memory() -> Iterator[Any]:
    """Files at memory://, which is empty at first."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, "png")
    return file.getvalue()


def make_pictures(folder: str, *names: str) -> None:
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())


def listed(*sources: str, **options: Any) -> list[Input]:
    return list(list_inputs(sources, print, **options))


def write_table(path: str, columns: dict[str, Any], **options: Any) -> str:
    parquet.write_table(pa.table(columns), path, **options)
    return path


def test_a_folder_a_pattern_and_a_list_give_what_predict_gives(capsys: pytest.CaptureFixture[str]) -> None:
    make_pictures("photos", "b.png", "a/c.png", "a/d.txt.png")
    Path("photos/notes.txt").write_text("not a picture")
    Path("list.txt").write_bytes(b"photos/b.png\r\n\nphotos/caf\xe9.png\n")
    assert listed("photos") == ["photos/a/c.png", "photos/a/d.txt.png", "photos/b.png"]
    assert "1 no picture by name and content, skipped" in capsys.readouterr().out
    assert listed("photos/*.png", "nothing.png") == ["photos/b.png", "nothing.png"]
    assert listed("list.txt") == ["photos/b.png", "photos/caf\udce9.png"]
    assert listed(f"file://{Path.cwd()}/photos/a") == [
        f"{Path.cwd()}/photos/a/{name}" for name in ("c.png", "d.txt.png")
    ]


def test_urls_are_listed_by_their_names(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.png", "a/c.JPG", "a/notes.md", "a/.hidden.png"):
        memory.pipe_file(f"/photos/{name}", png())
    memory.pipe_file("/list.txt", b"memory://photos/b.png\nphotos/local.png\n")
    assert listed("memory://photos") == ["memory:///photos/a/c.JPG", "memory:///photos/b.png"]
    assert capsys.readouterr().out == "memory://photos: 1 files with other extensions, skipped.\n"
    assert listed("memory://photos/*.png") == ["memory:///photos/b.png"]
    assert listed("memory://photos/b.png") == ["memory://photos/b.png"]
    assert listed("memory://list.txt") == ["memory://photos/b.png", "photos/local.png"]


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [png(1), png(2), None], "label": ["a", "b", "c"]},
        {"image": [{"bytes": png(1), "path": "x"}, {"bytes": png(2), "path": "y"}, None], "label": [1, 2, 3]},
    ],
    ids=["binary", "hugging face"],
)
def test_rows_of_a_parquet_file_are_pictures(columns: dict[str, Any]) -> None:
    write_table("rows.parquet", columns, row_group_size=2)
    first, second = listed("rows.parquet")
    assert list(list_pictures([first], 0, 2)) == [("rows.parquet#0", png(1)), ("rows.parquet#1", png(2))]
    assert list(list_pictures([first], 1, 1)) == [("rows.parquet#1", png(2))]
    assert list(list_pictures([second], 0, 1)) == [("rows.parquet#2", None)]


def test_paths_in_a_parquet_file_are_relative_to_it(memory: Any) -> None:
    Path("data").mkdir()
    columns = {"path": ["a.png", "/b.png", "s3://bucket/c.png", None], "label": ["a", "b", "c", "d"]}
    write_table("data/rows.parquet", columns)
    names = ["data/a.png", "/b.png", "s3://bucket/c.png", "data/rows.parquet#3"]
    (group,) = listed("data")
    assert [name for name, _ in list_pictures([group], 0, 4)] == names
    memory.pipe_file("/far/rows.parquet", Path("data/rows.parquet").read_bytes())
    (group,) = listed("memory://far")
    assert next(list_pictures([group], 0, 1)) == ("memory:///far/a.png", "memory:///far/a.png")


def make_both(folder: str) -> None:
    make_pictures(folder, "a.png")
    write_table(f"{folder}/a.parquet", {"image": [b""]})


REFUSED: dict[str, tuple[Callable[[], object], list[str], str]] = {
    "empty folder": (lambda: Path("empty").mkdir(), ["empty"], "empty holds no pictures"),
    "empty list": (lambda: Path("list.txt").touch(), ["list.txt"], "list.txt is empty. Expected a path on each line."),
    "no match": (lambda: None, ["photos/*.jpg"], "matches no file"),
    "no url": (lambda: None, ["memory://nowhere/*.png"], "matches no file"),
    "scheme": (lambda: None, ["nonsense://bucket/a.png"], "Could not open nonsense://bucket/a.png"),
    "missing package": (lambda: None, ["gs://bucket/photos"], "Install gcsfs|needs another package"),
    "no parquet": (lambda: Path("a.parquet").write_bytes(b"PAR0"), ["a.parquet"], "Expected a Parquet file"),
    "missing parquet": (lambda: None, ["a.parquet"], "Could not read a.parquet"),
    "no column": (lambda: write_table("a.parquet", {"x": [1]}), ["a.parquet"], r"no column of pictures: x \(int64\)"),
    "two columns": (
        lambda: write_table("a.parquet", {"image": [b""], "mask": [b""]}),
        ["a.parquet"],
        "several columns that may hold pictures: image, mask. Name one by --column",
    ),
    "two kinds": (
        lambda: make_both("mixed"),
        ["mixed"],
        "1 Parquet files and 1 pictures",
    ),
    "no rows": (lambda: write_table("a.parquet", {"image": pa.array([], pa.binary())}), ["a.parquet"], "no pictures"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_sources_that_cannot_be_used_are_refused(what: str, memory: Any) -> None:
    make, sources, message = REFUSED[what]
    make()
    with pytest.raises(cl.ConvladderError, match=message) as refused:
        make_plan(Place("out"), list_inputs(sources, print), WORK, ".jsonl")
    assert refused.value.exit_status == 2
    assert "\n" not in str(refused.value)
    assert not Path("out").exists()


def test_a_column_is_taken_by_its_name() -> None:
    write_table("a.parquet", {"image": [png()], "mask": [{"bytes": b"", "path": ""}], "text": ["a.png"], "x": [1]})
    for name, holds_bytes in {"image": True, "mask": True, "text": False}.items():
        (group,) = listed("a.parquet", column=name)
        assert isinstance(group, dict)
        assert group["bytes"] == holds_bytes
    with pytest.raises(cl.ConvladderError, match=r"no column 'x' .* Expected one of: image, mask, text"):
        listed("a.parquet", column="x")


def answer(place: Place, plan: Any, ending: str) -> None:
    """Write the parts of a plan, each picture's name for its answer; every tenth is an error."""
    for part in plan.parts:
        inputs = read_part(place.read(INPUTS, part.offset, part.offset + part.length))
        rows = [
            {"source": name} | ({"error": "bad"} if name.endswith("0.png") else {"label": "a"})
            for name, _ in list_pictures(inputs, part.start, part.pictures)
        ]
        place.write(part.name(ending), write_answers(rows, ending)[0])


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", ["out", "memory://out"])
def test_every_input_is_in_one_part_and_finished_parts_are_left(name: str, ending: str, memory: Any) -> None:
    place, paths = Place(name), [f"photos/{number}.png" for number in range(400)]
    plan = make_plan(place, paths, WORK, ending)
    assert [part.pictures for part in plan.parts] == [128, 128, 128, 16]
    assert (plan.pictures, plan.done, plan.unreadable) == (400, 0, 0)
    answer(place, plan, ending)
    names = sorted(place.names())
    assert names == [INPUTS, PLAN, *(f"part-{number:06}{ending}" for number in range(4))]
    again = make_plan(place, iter(paths), WORK, ending)
    assert (list(again.parts), again.done, again.unreadable) == ([], 400, 40)
    place.write(f"part-000001{ending}", b"damaged")
    again = make_plan(place, paths, WORK, ending)
    assert list(again.parts) == [plan.parts[1]]
    assert again.done == 272
    if ending == ".jsonl":
        answer(place, again, ending)
        lines = b"".join(place.read(name) for name in names[2:]).splitlines()
        assert [json.loads(line)["source"] for line in lines] == paths


def test_a_large_row_group_is_cut_into_few_parts() -> None:
    write_table("rows.parquet", {"path": [f"{number}.png" for number in range(5000)]})
    inputs = [*listed("rows.parquet"), "photos/a.png", "photos/b.png"]
    place = Place("out")
    plan = make_plan(place, inputs, WORK, ".jsonl")
    assert [part.pictures for part in plan.parts] == [625] * 8 + [2]
    answer(place, plan, ".jsonl")
    lines = b"".join(place.read(part.name(".jsonl")) for part in plan.parts).splitlines()
    sources = [f"{number}.png" for number in range(5000)] + ["photos/a.png", "photos/b.png"]
    assert [json.loads(line)["source"] for line in lines] == sources


@pytest.mark.parametrize("name", ["out", "memory://out"])
def test_an_output_of_another_job_is_refused_and_left_as_it_is(
    name: str, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(name)
    answer(place, make_plan(place, ["a.png", "b.png"], WORK, ".jsonl"), ".jsonl")
    names = place.names()
    others: list[tuple[list[str], dict[str, Any], str]] = [
        (["a.png"], WORK, "other pictures"),
        (["a.png", "b.png"], WORK | {"model": "another"}, "another model"),
        (["a.png", "b.png"], WORK | {"top": 3}, r"other options \(top\)"),
    ]
    for paths, work, message in others:
        with pytest.raises(cl.ConvladderError, match=f"{name} was begun with {message}. Expected the same"):
            make_plan(place, paths, work, ".jsonl")
    absolute = Place(name) if "://" in name else Place(str(tmp_path / name))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(cl.ConvladderError, match="pictures below another folder"):
        make_plan(absolute, ["a.png", "b.png"], WORK, ".jsonl")
    assert absolute.names() == names


@pytest.mark.parametrize("what", ["file", "pipe", "others", "damaged"])
def test_an_output_that_is_something_else_is_refused(what: str) -> None:
    if what == "file":
        Path("out").write_text("mine")
    elif what == "pipe":
        os.mkfifo("out")
    else:
        Path("out").mkdir()
        Path("out", PLAN if what == "damaged" else "thesis.doc").write_text("[]")
    before = sorted(Path().rglob("*"))
    with pytest.raises(cl.ConvladderError, match=r"out.*Expected") as refused:
        make_plan(Place("out"), ["a.png"], WORK, ".jsonl")
    assert refused.value.exit_status == 2
    assert sorted(Path().rglob("*")) == before


def test_a_kill_before_the_plan_was_written_leaves_an_output_that_can_be_used() -> None:
    place = Place("out")
    place.create()
    place.write(INPUTS, b"half")
    assert make_plan(place, ["a.png"], WORK, ".jsonl").pictures == 1


def test_parquet_holds_the_answers_that_json_holds() -> None:
    told: dict[str, Any] = {"abstained": False, "familiarity": 0.25, "unlike_training": False}
    answers: list[dict[str, Any]] = [
        {"source": "a.png", "label": "7", "probability": 0.75, "top": [("7", 0.75), ("1", 0.25)], **told},
        {"source": "caf\udce9.png", "error": "Could not read caf\udce9.png (no)."},
    ] * 100
    content, errors = write_answers(answers, ".parquet")
    assert errors == 100
    assert count_errors(content, ".parquet") == (200, 100)
    table: list[dict[str, Any]] = parquet.read_table(io.BytesIO(content)).to_pylist()
    assert len(table) == 200
    top = [{"label": "7", "probability": 0.75}, {"label": "1", "probability": 0.25}]
    assert table[0] == answers[0] | {"top": top, "error": None}
    assert table[1]["source"] == r"caf\udce9.png"
    assert table[1]["label"] is table[1]["top"] is table[1]["abstained"] is None
