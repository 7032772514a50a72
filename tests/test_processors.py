"""Processors are those that the process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import convladder as cl
from convladder.processors import count_processors, count_threads
from convladder.training.recipes import resolve_precision

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root with proc/self/cgroup and what a kernel shows under sys/fs/cgroup."""
    for name, content in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}),
        ("0::/\n", {"cpu.max": "20000 100000\n"}),
        ("0::/system.slice/job.service\n", {"system.slice/job.service/cpu.max": "50000 100000\n"}),
        ("0::/slice/job\n", {"slice/cpu.max": "100000 100000\n", "slice/job/cpu.max": "max 100000\n"}),
        ("0::/docker/abc\n", {"cpu.max": "100000 100000\n"}),
        (
            "5:memory:/\n4:cpu,cpuacct:/docker/abc\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        ),
        (
            "2:cpuacct:/\n1:cpu:/job\n0::/\n",
            {"cpu/job/cpu.cfs_quota_us": "25000\n", "cpu/job/cpu.cfs_period_us": "50000\n"},
        ),
        ("1:name=systemd:/\n0::/job\n", {"unified/job/cpu.max": "90000 100000\n"}),
    ],
    ids=["v2", "fraction", "service", "parent", "namespace", "v1", "v1-nested", "hybrid"],
)
def test_a_quota_of_one_processor_is_one_processor(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    root = system(tmp_path, groups, files)
    assert count_processors(root) == 1
    assert count_threads(root) == (None if os.cpu_count() == 1 else 1)


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("", {}),
        ("0::/\n", {"cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}),
        ("0::/\n", {"cpu.max": "\n"}),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000\n"}),
    ],
    ids=["none", "max", "more than there are", "empty", "v1 without limit", "v1 without period"],
)
def test_without_a_quota_affinity_counts(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    assert count_processors(system(tmp_path, groups, files)) == ALL


def test_a_part_of_a_processor_counts_as_one(tmp_path: Path) -> None:
    assert count_processors(system(tmp_path, "0::/\n", {"cpu.max": "110000 100000\n"})) == min(2, ALL)


@pytest.mark.skipif(ALL < 2, reason="of one processor none can be taken away")
def test_onnxruntime_tensorflow_and_decoding_keep_to_the_affinity(run: cl.Run) -> None:
    script = (
        "import os, sys\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import convladder as cl\n"
        "classifier = cl.Classifier(sys.argv[1])\n"
        "assert classifier._session.get_session_options().intra_op_num_threads == 1\n"
        "from convladder.processors import count_processors\n"
        "print(count_processors(), os.environ['TF_NUM_INTRAOP_THREADS'], os.environ['TF_NUM_INTEROP_THREADS'])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, str(run.path)], capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert printed == "1 1 1\n"


@pytest.mark.parametrize(
    ("machine", "name", "flags", "gpu", "reason"),
    [
        ("aarch64", "Linux", set(), False, "this is aarch64"),
        ("arm64", "Darwin", set(), False, "this is arm64"),
        ("x86_64", "Darwin", set(), False, "Darwin does not say"),
        ("x86_64", "Linux", {"avx2"}, False, "no bfloat16 in hardware"),
        ("x86_64", "Linux", {"avx2"}, True, "a GPU trains"),
        ("x86_64", "Linux", {"amx_bf16"}, True, "a GPU trains"),
        ("aarch64", "Linux", set(), True, "a GPU trains"),
    ],
)
def test_the_reason_for_float32_is_true(
    monkeypatch: pytest.MonkeyPatch, machine: str, name: str, flags: set[str], gpu: bool, reason: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.system", lambda: name)
    monkeypatch.setattr("convladder.training.recipes.processor_flags", lambda: flags)
    monkeypatch.setattr("convladder.training.recipes.has_gpu", lambda: gpu)
    precision, told = resolve_precision(cl.DEFAULT)
    assert precision == "float32"
    assert reason in told
    assert ("in hardware" in told) == (machine == "x86_64" and not gpu)
