"""`reproduce` on a small part of MNIST: every table is made, every claim has a verdict; the measures by hand."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import convladder as cl
from convladder.comparing.article import (
    ARTICLE_FIGURES,
    FAILS,
    HOLDS,
    UNDECIDED,
    arithmetic_claims,
    reproduce,
    shift_images,
)
from convladder.training import fitting
from sharing import take_first


@pytest.mark.long
def test_all_tables(small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "STEPS_PER_LOOK", 4)  # else steps are timed for longer than a test should take
    result = reproduce(small, epochs=2, directory=tmp_path)
    assert [row["name"] for row in result["networks"]] == ["dense", "conv", "pool"]
    for row in result["networks"]:
        assert row["parameters"] == row["article_parameters"]
        assert row["article_test_accuracy"] == ARTICLE_FIGURES[row["name"]].test_accuracy
        assert 0 < row["test_accuracy"] <= 1
        assert row["seconds_per_epoch"] > 0
    assert len(result["claims"]) == 12
    assert {claim["verdict"] for claim in result["claims"]} <= {HOLDS, FAILS, UNDECIDED}
    assert all(claim["measured"] for claim in result["claims"])
    for name, accuracies in result["shifts"].items():
        assert len(accuracies) == 9, name
    run = cl.Run(tmp_path / "pool-1")
    assert result["shifts"]["pool"][0] == pytest.approx(run.info["test_accuracy"], abs=0.002)


@pytest.mark.long
def test_one_table(small: cl.Dataset, tmp_path: Path) -> None:
    result = reproduce(small, epochs=0.2, seeds=2, tables=["networks"], directory=tmp_path)
    assert set(result) == {"networks"}
    assert len(list(tmp_path.iterdir())) == 6
    (tmp_path / "pool-1" / "run.json").unlink()
    again = reproduce(small, epochs=0.2, seeds=2, tables=["networks"], directory=tmp_path, resume=True)
    assert len(list(tmp_path.iterdir())) == 7  # only what was missing was trained
    assert [row["test_accuracy"] for row in again["networks"]] == [
        pytest.approx(row["test_accuracy"], abs=0.01) for row in result["networks"]
    ]


@pytest.mark.long
def test_resume_takes_neither_an_ensemble_nor_what_was_trained_otherwise(small: cl.Dataset, tmp_path: Path) -> None:
    few = take_first(small, 300, 100, 100)
    reproduce(few, epochs=0.2, tables=["networks"], directory=tmp_path)
    for name, other in (("dense", {"ensemble": 3}), ("pool", {"precision": "bfloat16"}), ("conv", {})):
        path = tmp_path / f"{name}-1" / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | other), encoding="utf-8")
    reproduce(few, epochs=0.2, tables=["networks"], directory=tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conv-1", "dense-1", "dense-2", "pool-1", "pool-2"]


@pytest.mark.long
def test_the_claims_that_are_counted_hold() -> None:
    claims = arithmetic_claims()
    assert [claim.verdict for claim in claims] == [HOLDS] * 5
    assert "823,338 to 70,698: 11.6 times" in claims[4].measured


@pytest.mark.parametrize("shift", [0, 1, 8])
def test_a_quarter_of_the_images_is_shifted_each_way(shift: int) -> None:
    images = np.zeros((4, 28, 28, 1), np.uint8)
    images[:, 14, 14] = 255
    rows, columns = np.nonzero(shift_images(images, shift)[..., 0])[1:]
    assert columns.tolist() == [14 + shift, 14 - shift, 14, 14]
    assert rows.tolist() == [14, 14, 14 + shift, 14 - shift]


@pytest.mark.long
def test_the_article_s_program_runs_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(Path(__file__).parents[1] / "examples" / "article.py")
    monkeypatch.setattr("sys.argv", [script, "dense", "1"])
    runpy.run_path(script, run_name="__main__")
    assert "dense: 26,506 parameters, test accuracy 0." in capsys.readouterr().out.splitlines()[-1]
