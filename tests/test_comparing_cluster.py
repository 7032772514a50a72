"""Scaling, on a real Ray cluster of two nodes on this machine: `make test-long`, for it takes a minute or more."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.comparing.cluster import in_memory
from convladder.urls import open_url
from test_training_train import FILES

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]  # one cluster at a time

COMMAND = [sys.executable, "-m", "convladder", "compare", "--models", "dense,fast", "--deterministic", "--json"]
SAME = ("name", "seeds", "test_accuracy", "low", "high", "validation_accuracy", "parameters", "macs")


def rows(output: str) -> list[dict[str, Any]]:
    return [{key: row[key] for key in SAME} for row in json.loads(output)["models"]]


def start_endless(cluster: Any, data: Path, folder: Path) -> "subprocess.Popen[str]":
    """A comparison of two runs that do not end by themselves."""
    return subprocess.Popen(
        [*COMMAND, "--ray", cluster.address, "--data", str(data), "--epochs", "100000"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_runs(process: "subprocess.Popen[str]", folder: Path, count: int) -> int:
    """Wait until so many runs have begun; give back how many have."""
    while (begun := len(list((folder / "runs").glob("*/run.json")))) < count:
        assert process.poll() is None
        time.sleep(0.1)
    return begun


def test_a_lost_node_changes_nothing_in_the_table(cluster: Any, small_npz: Path, tmp_path: Path) -> None:
    given = ["--data", str(small_npz), "--epochs", "40", "--seeds", "3"]
    alone = subprocess.run(
        [*COMMAND, *given, "--runs", "alone"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    process = subprocess.Popen(
        [*COMMAND, *given, "--runs", "shared", "--ray", cluster.address],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any('"finished"' in path.read_text() for path in (tmp_path / "shared").glob("*/run.json")):
        assert process.poll() is None
        time.sleep(0.1)  # until it is half-way
    cluster.remove_node(cluster.second, allow_graceful=False)
    output, told = process.communicate()
    assert process.returncode == 0, told
    assert "A node was lost" in told
    assert "started again" in told
    assert rows(output) == rows(alone.stdout)


def test_runs_come_back_through_a_storage(cluster: Any, small_npz: Path, tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            *COMMAND,
            "--data",
            str(small_npz),
            "--epochs",
            "1",
            "--ray",
            cluster.address,
            "--storage",
            f"file://{tmp_path}/kept",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [row["runs"] for row in json.loads(finished.stdout)["models"]] == [["runs/dense-1"], ["runs/fast-1"]]
    run = cl.Run(tmp_path / "runs" / "fast-1")
    assert run.metrics["costs"]["latency_seconds"] > 0
    assert {path.name.partition("-")[0] for path in (tmp_path / "kept").iterdir()} == {"dense", "fast"}
    assert {path.name for path in run.path.iterdir()} - {"report.json"} == FILES


def test_nodes_leave_their_runs_in_s3(s3: str, cluster: Any, small_npz: Path, tmp_path: Path) -> None:
    url = f"{s3}/cluster"
    given = ["--data", str(small_npz), "--epochs", "1", "--ray", cluster.address, "--runs", url]
    finished = subprocess.run(
        [*COMMAND, *given],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(rows(finished.stdout)) == 2
    system, root = open_url(url)
    kept = {path.rpartition("/")[2] for path in system.ls(root)}
    assert {name.partition("-")[0] for name in kept} == {"dense", "fast"}
    assert len(kept) == 2  # what the nodes sent is not sent again
    copies = sorted((tmp_path / "cache" / "convladder" / "runs").glob("*/*/run.json"))
    assert [path.parent.name for path in copies] == ["dense-1", "fast-1"]


def test_a_node_that_joins_takes_runs(cluster: Any, small_npz: Path, tmp_path: Path) -> None:
    cluster.remove_node(cluster.second)
    process = start_endless(cluster, small_npz, tmp_path)
    assert wait_for_runs(process, tmp_path, 1) == 1  # the other waits for two cores
    cluster.add_node(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
    wait_for_runs(process, tmp_path, 2)
    process.terminate()
    process.communicate()
    assert process.returncode == 143


def test_minutes_end_the_runs_on_the_cluster(cluster: Any, small_npz: Path, tmp_path: Path) -> None:
    given = ["--data", str(small_npz), "--epochs", "20", "--seeds", "90", "--minutes", "2"]
    began = time.monotonic()
    ended = subprocess.run(
        [*COMMAND, "--ray", cluster.address, *given],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 180, ended.stderr  # all 180 runs would take several minutes
    finished = sum(row["seeds"] for row in rows(ended.stdout))
    assert 0 < finished < 180


def test_a_cluster_of_this_machine_is_started_where_none_is_named(small_npz: Path, tmp_path: Path) -> None:
    finished = subprocess.run(
        [*COMMAND, "--ray", "--cores", "1", "--data", str(small_npz), "--epochs", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(rows(finished.stdout)) == 2


@pytest.mark.parametrize(
    ("signal_", "status", "said"), [(signal.SIGTERM, 143, "Stopped by SIGTERM"), (signal.SIGINT, 130, "Interrupted")]
)
def test_a_signal_interrupts_the_runs_on_the_cluster(
    cluster: Any, small_npz: Path, tmp_path: Path, signal_: signal.Signals, status: int, said: str
) -> None:
    process = start_endless(cluster, small_npz, tmp_path)
    wait_for_runs(process, tmp_path, 2)
    process.send_signal(signal_)
    _, told = process.communicate()
    assert process.returncode == status
    assert told.splitlines()[-1].startswith(f"Error: {said}. 0 of 2 runs are finished, in runs")
    for name in ("dense-1", "fast-1"):
        run = cl.Run(tmp_path / "runs" / name)
        assert run.info["status"] == "interrupted"
        assert run.load_model().count_params() == run.info["parameters"]


def test_a_run_that_no_node_has_the_cores_for_is_refused(cluster: Any, small_npz: Path, tmp_path: Path) -> None:
    refused = subprocess.run(
        [*COMMAND, "--ray", cluster.address, "--cores", "64", "--data", str(small_npz)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "Expected --cores of at most 2" in refused.stderr


def test_what_is_sent_to_nodes_is_in_memory(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 6 * number).save(path)
    data = cl.load_dataset(tmp_path / "data", cache=False)
    sent = in_memory(data)
    for split, mapped in zip(sent.splits, data.splits, strict=True):
        assert type(split.images) is np.ndarray
        np.testing.assert_array_equal(split.images, mapped.images)
        np.testing.assert_array_equal(split.labels, mapped.labels)
    assert type(data.test.images) is np.memmap
