"""The tutorial: its notebook runs and prints what it says, its pictures are drawn from the data, its figures are those
that were measured."""

import doctest
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pictures
import pytest
import tutorial_notebook

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "tutorial.md").read_text()
WORDS = " ".join(PAGE.split())


def test_the_notebook_is_that_of_the_page() -> None:
    assert (DOCS / "tutorial.ipynb").read_text() == tutorial_notebook.convert(PAGE), "make pictures writes it anew"


@pytest.mark.long
@pytest.mark.parametrize("part", ["until it trains", pytest.param("whole", marks=pytest.mark.long)])
def test_the_notebook_prints_what_it_says(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))  # not the user's
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")  # where its commands are found
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    install, *notebook.cells = notebook.cells
    assert '%pip install --quiet "convladder[train]"' in install.source
    if part != "whole":
        code = [cell.cell_type == "code" and "cl.train(" in cell.source for cell in notebook.cells]
        del notebook.cells[code.index(True) :]
    said = [cell.copy() for cell in notebook.cells]
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    wrong = []
    for before, after in zip(said, notebook.cells, strict=True):
        if before.cell_type == "code":
            expected, printed = (shown(cell.outputs) for cell in (before, after))
            if not doctest.OutputChecker().check_output(expected, printed, FLAGS):
                wrong.append(f"{before.source}\nprinted\n{printed}\nexpected\n{expected}")
    assert not wrong, "\n\n".join(wrong)


def shown(outputs: list[Any]) -> str:
    """What stands under a cell: what it prints, and its value. Standard error has TensorFlow's own lines."""
    texts = [
        output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
        for output in outputs
        if output.get("name") != "stderr"
    ]
    plain = re.sub(r"\x1b\[[\d;]*m", "", "".join(texts))  # Jupyter asks for colours
    return plain.strip() + "\n"


def test_the_notebook_opens_alone() -> None:
    """Its pictures are inside, its answers are folded within one cell, and no link leads to a file beside it."""
    for cell in nbformat.read(DOCS / "tutorial.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            assert cell.source.count("<details>") == cell.source.count("</details>")
            assert re.findall(r"\]\((?!data:)", cell.source) == []


def test_the_tutorial_shows_every_picture() -> None:
    names = re.findall(r"!\[[^\]]{20,}\]\(tutorial/(\w+)\.svg\)", PAGE)  # each with a description
    assert sorted(names) == sorted(pictures.PICTURES) == sorted(path.stem for path in (DOCS / "tutorial").iterdir())


def pinned(package: str) -> str:
    """The version that the documentation is made with."""
    (found,) = re.findall(rf"^{package}==(\S+)", (DOCS.parent / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    return str(found)


@pytest.mark.skipif(version("matplotlib") != pinned("matplotlib"), reason="another Matplotlib places words elsewhere")
@pytest.mark.long
@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_picture_is_that_of_the_data(name: str) -> None:
    kept, drawn = (taken_apart(text) for text in ((DOCS / f"tutorial/{name}.svg").read_text(), draw(name)))
    assert kept[0] == drawn[0], "make pictures draws it anew"
    np.testing.assert_allclose(kept[1], drawn[1], atol=0.01)  # another processor may round differently


def draw(name: str) -> str:
    return pictures.svg(pictures.PICTURES[name])


def taken_apart(svg: str) -> tuple[list[str], list[float]]:
    """Words and numbers; pictures of pixels inside, names and colours count as words."""
    number = r"(?<![#\w])-?\d+\.\d+"
    return re.split(number, re.sub(r'"data:[^"]*"', "", svg)), [float(found) for found in re.findall(number, svg)]


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_words_of_a_picture_can_be_read_on_a_dark_page(name: str) -> None:
    """Each colour of the words has its dark one; those on a picture of pixels stay."""
    for words in re.findall(r"<text [^>]*>", (DOCS / f"tutorial/{name}.svg").read_text()):
        (colour,) = re.findall(r"fill: (#[0-9a-f]{6})", words) or ["#000000"]
        assert colour in pictures.DARK or name == "digit", words


def comparison() -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in pictures.read("comparison")["models"]}


def test_the_ladder_of_the_tutorial_is_the_measured_one() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (0\.\d{4}) \| ([\d,]+) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [
        (name, f"{model['test_accuracy']:.4f}", f"{model['parameters']:,}") for name, model in comparison().items()
    ]


def test_the_shifts_of_the_tutorial_are_the_measured_ones() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|\d]+ \| ([\d.]+) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(name, f"{of['right']:.1f}") for name, of in pictures.read("tutorial")["shifts"]["rungs"].items()]


def sentences() -> list[str]:
    """What the page must say, from the files that hold the measurements."""
    measured = pictures.read("tutorial")
    lesson = {name: experiment["curves"] for name, experiment in measured["curves"].items()}
    pairs = {pair["upper"]: pair["words"] for pair in pictures.read("comparison")["pairs"]}
    claims = {claim["claim"]: claim["measured"] for claim in pictures.read("reproduce")["claims"]}
    gaps = re.findall(r"0\.\d\d", claims["Dropout, L1 and L2 narrow the gap between training and test"])
    times = re.findall(
        r"(\S+) times",
        claims["The inception module with dimension reduction costs less than the naive one at comparable accuracy"],
    )
    shifted = {name: f"{accuracy[4]:.3f}" for name, accuracy in pictures.read("reproduce")["shifts"].items()}
    right = {name: f"{of['right']:.1f}" for name, of in measured["shifts"]["rungs"].items()}
    rates = [f"{of['val_accuracy'][-1]:.4f} with {rate}" for rate, of in lesson["rates"].items()]
    fast = lesson["rates"]["0.01"]
    best = int(np.argmin(fast["val_loss"]))
    few = {name: f"{of['val_accuracy'][-1]:.4f}" for name, of in lesson["regularized"].items()}
    trained = {name: f"{of['accuracy'][-1]:.4f}" for name, of in lesson["regularized"].items()}
    norm = {name: [f"{value:.4f}" for value in of["val_accuracy"]] for name, of in lesson["normalized"].items()}
    relu = {name: f"{measured['activation'][name]:.4f}" for name in ("with", "without")}
    return [
        *(pairs[rung] for rung in ("conv", "pool", "regularized", "batchnorm", "linear_head", "inception", "residual")),
        f"a test accuracy of {relu['with']} with ReLU and {relu['without']} without it",
        f"its validation accuracy is {', '.join(rates[:-1])} and {rates[-1]}",
        f"The validation loss is lowest after epoch {best + 1}: {fast['val_loss'][best]:.2f}. After 16 epochs it is "
        f"{fast['val_loss'][-1]:.2f}, while the training loss went down from {fast['loss'][best]:.2f} to "
        f"{fast['loss'][-1]:.2f}.",
        f"After epoch {best + 1}, where the validation loss is lowest",
        f"At 4 pixels the accuracy is {shifted['dense']} for `dense`, {shifted['conv']} for `conv` "
        f"and {shifted['pool']} for `pool`",
        f"{few['none']} without regularization, {few['dropout']} with dropout, {few['L1']} with L1 "
        f"and {few['L2']} with L2",
        f"The training accuracy is {trained['none']} without regularization and {trained['dropout']} with dropout",
        f"{gaps[0]} points without regularization, {gaps[1]} with dropout, {gaps[2]} with L1 and {gaps[3]} with L2",
        f"after two epochs the validation accuracy is {norm['with'][1]} with and {norm['without'][1]} without batch "
        f"normalization, after 16 epochs {norm['with'][-1]} and {norm['without'][-1]}",
        f"at a shift of 4 pixels is {shifted['pool']} for `pool` and {shifted['no hidden layers']} without its hidden",
        f"it was right at {right['linear_head']} of 81 shifts",
        f"{right['inception']} of 81 shifts",
        f"{times[1]} times the MACs, and {times[0]} times the seconds per step",
        f"{shifted['no hidden layers']} without hidden layers, {shifted['naive inception']} for the naive module",
        f"and {shifted['reduced inception']} for the reduced one",
        f"at 4 pixels the accuracy is {shifted['deep']} without and {shifted['residual']} with shortcuts",
    ]


@pytest.mark.parametrize("sentence", sentences())
def test_the_figures_of_the_tutorial_are_the_measured_ones(sentence: str) -> None:
    assert sentence in WORDS
