"""`predict --ray` on a real Ray cluster of two nodes on this machine: `make test-long`, it takes minutes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import convladder as cl

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]  # one cluster at a time

COMMAND = [sys.executable, "-m", "convladder", "predict"]
MANY = 20_000


@pytest.fixture(scope="module")
def pictures(mnist: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 small pictures; one is damaged."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        path = folder / "pictures" / f"{number // 1000:02}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mnist.train.images[number, ..., 0]).save(path)
    (folder / "pictures" / "11" / "11011.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def alone(pictures: Path, run: cl.Run) -> str:
    """What `predict --json` prints for them."""
    command = [*COMMAND, str(run.path), "pictures", "--json"]
    done = subprocess.run(command, cwd=pictures, capture_output=True, text=True, check=False)
    assert done.returncode == 2  # because of the damaged one
    return done.stdout


def start(run: cl.Run, cluster: Any, folder: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [*COMMAND, str(run.path), "pictures", "--ray", cluster.address, "--output", str(output), *more]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_parts(process: subprocess.Popen[str], output: Path, count: int) -> list[Path]:
    while len(parts := list(output.glob("part-*"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)  # until it is so far
    return parts


def printed(output: Path) -> str:
    return "".join(path.read_text() for path in sorted(output.glob("part-*.jsonl")))


def test_no_row_is_missing_or_double_after_a_lost_node_and_after_a_killed_driver(
    run: cl.Run, cluster: Any, pictures: Path, alone: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = start(run, cluster, pictures, output, "--json")
    before = {path: path.stat().st_mtime_ns for path in wait_for_parts(first, output, 10)}
    first.kill()
    first.communicate()
    second = start(run, cluster, pictures, output, "--json")
    wait_for_parts(second, output, 30)
    cluster.remove_node(cluster.second, allow_graceful=False)
    out, told = second.communicate()
    assert (second.returncode, out) == (2, ""), told
    assert "answers are there already" in told
    assert "A node was lost" in told
    assert re.search(r"^Error: 1 of these 20,000 answers is an error", told, re.MULTILINE)
    assert printed(output) == alone
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not predicted twice
    assert not [name for name in os.listdir(output) if name.startswith(".")]
    third = start(run, cluster, pictures, output, "--json")
    out, told = third.communicate()
    assert third.returncode == 2
    assert "20,000 answers in" in told


def test_ctrl_c_says_how_to_go_on_and_leaves_nothing_half_written(
    run: cl.Run, cluster: Any, pictures: Path, alone: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = start(run, cluster, pictures, output, "--json")
    wait_for_parts(process, output, 5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(
        r"Error: Interrupted. .* holds [\d,]+ answers; the same command goes on .*", told.splitlines()[-1]
    )
    process = start(run, cluster, pictures, output, "--json")
    _, told = process.communicate()
    assert process.returncode == 2, told
    assert printed(output) == alone


def test_parquet_and_urls_and_rows_of_bytes_get_the_same_answers(
    run: cl.Run, cluster: Any, pictures: Path, alone: str, tmp_path: Path
) -> None:
    expected = [json.loads(line) for line in alone.splitlines()[:3000]]
    paths = [pictures / answer["source"] for answer in expected]
    columns = {"image": [path.read_bytes() for path in paths], "number": list(range(len(paths)))}
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=1000)
    (tmp_path / "list.txt").write_text("".join(f"file://{path}\n" for path in paths))
    output = f"file://{tmp_path}/out"
    counts = cl.predict_on_cluster(
        run.path, tmp_path / "rows.parquet", output, address=cluster.address, cores=2, column="image"
    )
    assert counts == (3000, 0)
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["source"] for row in rows] == [f"{tmp_path}/rows.parquet#{number}" for number in range(3000)]
    for row, answer in zip(rows, expected, strict=True):
        top = [[each["label"], each["probability"]] for each in row["top"]]
        assert row | {"top": top, "source": ""} == answer | {"source": "", "error": None}
    counts = cl.predict_on_cluster(run.path, tmp_path / "list.txt", tmp_path / "two", top=1, address=cluster.address)
    assert counts == (3000, 0)
    assert [row["label"] for row in parquet.read_table(tmp_path / "two").to_pylist()] == [a["label"] for a in expected]


def test_pictures_and_answers_are_in_a_bucket(
    s3: str, run: cl.Run, cluster: Any, pictures: Path, alone: str, tmp_path: Path
) -> None:
    system = fsspec.filesystem("s3")
    system.put(str(pictures / "pictures" / "11"), f"{s3}/many/", recursive=True)  # the damaged one among them
    expected = [json.loads(line) for line in alone.splitlines()[11_000:12_000]]
    rows = {"image": [(pictures / answer["source"]).read_bytes() for answer in expected]}
    parquet.write_table(pa.table(rows), tmp_path / "rows.parquet", row_group_size=400)
    system.put(str(tmp_path / "rows.parquet"), f"{s3}/rows.parquet")
    for source, output in ((f"{s3}/many/11/*.png", f"{s3}/one"), (f"{s3}/rows.parquet", f"{s3}/two")):
        command = [*COMMAND, str(run.path), source, "--ray", cluster.address, "--json", "--output", output]
        for _ in ("new", "all there"):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert "1 of these 1,000 answers is an error" in done.stderr
        found = [json.loads(line) for path in sorted(system.glob(f"{output}/part-*")) for line in system.open(path)]
        for answer, right in zip(found, expected, strict=True):
            if "error" in right:
                assert answer["error"].startswith(f"{answer['source']} is not a picture. ")
            else:
                assert answer | {"source": ""} == right | {"source": ""}
    assert found[-1]["source"] == f"{s3}/rows.parquet#999"


def test_a_classifier_gets_a_gpu_or_says_why_not(run: cl.Run, cluster: Any, pictures: Path, tmp_path: Path) -> None:
    def ask(gpus: str) -> str:
        command = [*COMMAND, str(run.path), "pictures/00/00000.png", "--ray", cluster.address]
        command += ["--gpus", gpus, "--output", str(tmp_path / "out")]
        done = subprocess.run(command, cwd=pictures, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        return done.stderr.splitlines()[-1]

    assert "has 1 GPUs for an actor. Expected a cluster with GPUs, or no --gpus." in ask("1")
    cluster.add_node(num_cpus=1, num_gpus=1, include_dashboard=False)  # which Ray believes
    assert "ONNX Runtime cannot compute on a GPU here (it is built for processors alone)" in ask("0.5")
    assert "has 2 GPUs for an actor. Expected --gpus of at most 1." in ask("2")


def test_a_cluster_of_this_machine_is_started_and_stopped(run: cl.Run, pictures: Path, tmp_path: Path) -> None:
    few = ["pictures/00/*.png", "pictures/11/11011.png", "missing.png", "--top", "1"]
    command = [*COMMAND, str(run.path), *few, "--json", "--output", str(tmp_path / "out"), "--ray"]
    done = subprocess.run(command, cwd=pictures, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        f"1,002 answers in {tmp_path}/out",
        "Error: 2 of these 1,002 answers are errors, which say why.",
    ]
    plain = subprocess.run(
        [*COMMAND, str(run.path), *few, "--json"], cwd=pictures, capture_output=True, text=True, check=False
    )
    assert printed(tmp_path / "out") == plain.stdout


def test_a_fault_of_a_node_ends_the_job_with_one_line(
    run: cl.Run, cluster: Any, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = start(run, cluster, pictures, output)
    wait_for_parts(process, output, 2)
    (output / "_inputs.jsonl").unlink()
    _, told = process.communicate()
    assert process.returncode == 1
    assert "Could not reach" in told.splitlines()[-1]
    assert "Traceback" not in told


def test_no_thread_that_could_ask_ray_is_left_after_a_job_that_ends_early(
    run: cl.Run, cluster: Any, pictures: Path, tmp_path: Path
) -> None:
    connected: set[threading.Thread] = set()

    def show(done: int, of: int) -> None:
        if not done:
            connected.update(threading.enumerate())
        elif set(threading.enumerate()) - connected:  # of the job
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cl.predict_on_cluster(run.path, pictures / "pictures", tmp_path / "out", address=cluster.address, show=show)
    assert {thread.name for thread in set(threading.enumerate()) - connected} <= {"Prefetcher"}
