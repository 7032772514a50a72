"""Runs at a URL, on a real S3 server of this machine: sent, fetched, shared by machines, and refused."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import convladder as cl
from convladder.files import TEMPORARY, write_json
from convladder.runs.storage import Storage, download, upload
from convladder.urls import open_url
from test_training_train import FILES

TRAIN = ("train", "--model", "dense", "--epochs", "1")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Be another machine: one with an empty cache."""
    count = 0

    def move() -> None:
        nonlocal count
        count += 1
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache {count}"))

    move()
    return move


def names(url: str) -> list[str]:
    system, root = open_url(url)
    system.invalidate_cache()
    return sorted(path.rpartition("/")[2] for path in system.ls(root))


@pytest.mark.long
def test_a_run_is_sent_to_s3_and_reported_from_there(
    convladder: Any, s3: str, small_npz: Path, elsewhere: Any, tmp_path: Path
) -> None:
    url = f"{s3}/one"
    trained = convladder(*TRAIN, "--data", small_npz, "--runs", url)
    assert trained.status == 0, trained.err
    (name,) = names(url)
    assert name.startswith("dense-0-")
    assert f"Kept as {name} in {url}." in trained.err
    elsewhere()
    reported = convladder("report", url)
    assert reported.status == 0, reported.err
    assert "dense" in (tmp_path / "report.html").read_text(encoding="utf-8")
    storage = Storage(url)
    assert {path.name for path in (storage.folder / name).iterdir()} - {"report.json"} == FILES
    assert cl.Run(storage.folder / name).classifier().class_names


@pytest.mark.long
def test_a_comparison_goes_on_with_what_another_machine_has_trained(
    convladder: Any, s3: str, small_npz: Path, elsewhere: Any
) -> None:
    url = f"{s3}/two"
    given = ("compare", "--epochs", "1", "--data", small_npz, "--runs", url, "--json")
    first = convladder(*given, "--models", "dense")
    assert first.status == 0, first.err
    before = names(url)
    elsewhere()
    second = convladder(*given, "--models", "dense,linear_head")
    assert second.status == 0, second.err
    dense, _ = json.loads(second.out)["models"]
    assert dense["test_accuracy"] == json.loads(first.out)["models"][0]["test_accuracy"]
    assert set(before) < set(names(url))
    assert len(names(url)) == 2  # dense was not trained again


def test_runs_that_could_not_be_sent_are_sent_by_the_next_command(s3: str, run: cl.Run, elsewhere: Any) -> None:
    storage = Storage(f"{s3}/three")
    shutil.copytree(run.path, storage.folder / "fast-1")
    unfinished = shutil.copytree(run.path, storage.folder / "fast-2") / "run.json"
    write_json(unfinished, dict(run.info) | {"status": "interrupted"})
    assert [name.rpartition("-")[0] for name in storage.send()] == [f"fast-{run.info['seed']}"]
    assert Storage(f"{s3}/three").send() == []
    storage.fetch()
    assert sorted(path.name for path in storage.folder.iterdir()) == ["fast-1", "fast-2"]


def test_what_was_sent_again_under_its_name_is_fetched_again(s3: str, run: cl.Run, elsewhere: Any) -> None:
    storage, (system, root) = Storage(f"{s3}/again"), open_url(f"{s3}/again")
    upload(run.path, system, f"{root}/fast-0-000000000000")
    storage.fetch()
    content = dict(run.info) | {"fit_seconds": 1.5}
    system.pipe_file(f"{root}/fast-0-000000000000/run.json", json.dumps(content).encode())
    Storage(f"{s3}/again").fetch()
    (copy,) = storage.folder.iterdir()
    assert cl.Run(copy).info["fit_seconds"] == 1.5


def test_several_commands_of_a_machine_fetch_at_once(
    s3: str, run: cl.Run, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, root = open_url(f"{s3}/many")
    for number in range(5):
        copy = shutil.copytree(run.path, tmp_path / str(number))
        write_json(copy / "run.json", dict(run.info) | {"fit_seconds": number})
        upload(copy, system, f"{root}/fast-0-{number:012}")
    fetched = []

    def note(*given: Any) -> Path:
        fetched.append(given)
        return download(*given)

    monkeypatch.setattr("convladder.runs.storage.download", note)
    with ThreadPoolExecutor() as pool:  # in place of processes, because these would not begin at the same time
        list(pool.map(lambda _: Storage(f"{s3}/many").fetch(), range(4)))
    assert len(fetched) == len(list(Storage(f"{s3}/many").folder.iterdir())) == 5


def test_what_another_process_is_writing_into_a_run_is_not_sent(s3: str, run: cl.Run, elsewhere: Any) -> None:
    storage = Storage(f"{s3}/whole")
    copy = shutil.copytree(run.path, storage.folder / "fast-1")
    (copy / f"{TEMPORARY}1.json").touch()
    (copy / f"{TEMPORARY}2").mkdir()
    (copy / f"{TEMPORARY}2" / "half").touch()
    (name,) = storage.send()
    assert set(names(f"{s3}/whole/{name}")) == {path.name for path in run.path.iterdir()}


def test_a_folder_without_its_run_json_is_not_fetched(s3: str, run: cl.Run, elsewhere: Any) -> None:
    system, root = open_url(f"{s3}/four")
    system.pipe_file(f"{root}/fast-0-000000000000/model.onnx", b"half")
    storage = Storage(f"{s3}/four")
    storage.fetch()
    assert list(storage.folder.iterdir()) == []


def test_a_damaged_run_json_is_refused(s3: str, elsewhere: Any) -> None:
    system, root = open_url(f"{s3}/damaged")
    system.pipe_file(f"{root}/fast-0-000000000000/run.json", b"half of {")
    storage = Storage(f"{s3}/damaged")
    with pytest.raises(cl.ConvladderError, match=r"run\.json"):
        storage.fetch()
    assert list(storage.folder.iterdir()) == []


def test_without_a_folder_for_copies_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convladder.runs.storage.cache_folder", lambda: None)
    with pytest.raises(cl.ConvladderError, match=r"no folder for a copy of s3://b/runs: .* Set XDG_CACHE_HOME"):
        Storage("s3://b/runs")


@pytest.mark.parametrize("name", ["../../evil", "a/../../evil", "..\\evil"])
def test_a_name_that_leads_out_of_the_folder_is_refused(s3: str, elsewhere: Any, name: str) -> None:
    url = f"{s3}/five-{len(name)}"
    system, root = open_url(url)
    system.pipe_file(f"{root}/x/run.json", b"{}")
    system.pipe_file(f"{root}/x/{name}", b"evil")
    storage = Storage(url)
    with pytest.raises(cl.ConvladderError, match="leads elsewhere"):
        storage.fetch()
    with pytest.raises(cl.ConvladderError, match="leads elsewhere"):  # nor does the run's own name
        download(system, f"{root}/x/..", storage.folder / "run")
    assert not list(storage.folder.parent.rglob("*evil*"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s4://bucket/runs", "a URL that fsspec knows"),
        ("s3://no-such-bucket/runs", "Could not reach"),
        ("http://user:secret@127.0.0.1:9/runs", "Could not reach"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(
    convladder: Any, s3: str, small_npz: Path, elsewhere: Any, url: str, words: str
) -> None:
    refused = convladder(*TRAIN, "--data", small_npz, "--runs", url)
    assert refused.status in (1, 2)
    assert words in refused.err
    assert "secret" not in refused.err
    assert len(refused.err.splitlines()) == 1
