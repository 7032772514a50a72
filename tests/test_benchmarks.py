"""The programs of benchmarks/: where they write to is seen to before they measure."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WITH_OUTPUT = sorted(path.name for path in BENCHMARKS.glob("*.py") if '("--output"' in path.read_text())


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_a_benchmark_checks_its_output_before_it_measures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    output = tmp_path / "file" / "new"
    absent = str(tmp_path / "absent")
    takes = {"input_pipeline.py": [absent], "predicting.py": [absent], "unlikeness.py": [absent, "--cifar10", absent]}
    needed = takes.get(name, [])
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [name, *needed, "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    assert ended.value.code == 2
    assert f"--output {output} cannot be written to" in capsys.readouterr().err.splitlines()[-1]


def test_a_benchmark_makes_a_new_output_folder_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    output = tmp_path / "new" / "folder"
    monkeypatch.setattr(sys, "argv", ["predicting.py", str(tmp_path / "absent"), "--output", str(output)])
    with pytest.raises(Exception, match="absent"):
        runpy.run_path(str(BENCHMARKS / "predicting.py"), run_name="__main__")
    assert list(output.iterdir()) == []
