"""How well a run tells pictures that are unlike its training pictures, and what that costs.

    python benchmarks/unlikeness.py RUN... --cifar10 FOLDER [--output docs/benchmarks]

For each run and kind of strange pictures: the area under the ROC curve against its test pictures, by familiarity and by
the largest probability; the share of strange pictures that is let through where 95 % of the test pictures are; and
the share that is called unlike. Then seconds with and without the familiarity, in turn. FOLDER is CIFAR-10's, as
pictures. Letters, drawings and text are drawn with the fonts of matplotlib. Prints a table, and writes unlikeness.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from convladder.engine import import_engine

import_engine()

import matplotlib as mpl  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import onnxruntime  # noqa: E402
from output import prepare  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from sklearn.datasets import load_sample_image  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

import convladder as cl  # noqa: E402
from convladder.data.dataset import slices  # noqa: E402
from convladder.inference.artifact import read_artifact  # noqa: E402
from convladder.inference.classifier import UNLIKE, Answers, join_answers  # noqa: E402

COUNT = 500  # strange pictures of a kind, at most
TESTED = 2000
ROUNDS = 15
LETTERS = "ABCDEFGHJKLMNPQRTUVWXYabdefghkmnpqrtwxy"  # those that look like no digit

Images = npt.NDArray[np.uint8]


def fit(picture: Image.Image, shape: tuple[int, ...]) -> Images:
    """The pixels of a picture at a network's size."""
    height, width, channels = shape
    pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L").resize((width, height)))
    return pixels.reshape(shape)


def letters(rng: np.random.Generator) -> Iterator[Image.Image]:
    fonts = sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    while True:
        font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(18, 24)))
        picture = Image.new("L", (28, 28))
        ImageDraw.Draw(picture).text((14, 14), LETTERS[rng.integers(len(LETTERS))], 255, font, "mm")
        yield picture.rotate(rng.uniform(-15, 15))


def text(rng: np.random.Generator) -> Iterator[Image.Image]:
    font = ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 14)
    while True:
        picture = Image.new("RGB", (224, 224), (int(rng.integers(180, 256)),) * 3)
        words = ("".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(60))
        lines = "\n".join(" ".join(next(words) for _ in range(5)) for _ in range(12))
        ImageDraw.Draw(picture).multiline_text((5, 5), lines, (int(rng.integers(0, 80)),) * 3, font)
        yield picture


def drawings(rng: np.random.Generator) -> Iterator[Image.Image]:
    while True:
        picture = Image.new("RGB", (224, 224), "white")
        draw = ImageDraw.Draw(picture)
        for _ in range(rng.integers(3, 9)):
            points = rng.integers(10, 214, (rng.integers(2, 5), 2))
            if rng.random() < 0.6:
                draw.line([tuple(point) for point in points.tolist()], "black", int(rng.integers(2, 6)))
            else:
                draw.ellipse([*points[:2].min(axis=0).tolist(), *points[:2].max(axis=0).tolist()], None, "black", 3)
        yield picture


def photographs(rng: np.random.Generator) -> Iterator[Image.Image]:
    """Pieces of the photographs that scikit-learn and matplotlib come with."""
    grace = Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg")
    whole = [*(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")), Image.open(grace)]
    while True:
        picture = whole[rng.integers(len(whole))]
        side = int(rng.integers(150, min(picture.size)))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        yield picture.crop((left, top, left + side, top + side))


def strange(test: Images, cifar10: Path, mnist: bool) -> dict[str, Images]:
    """Pictures of each kind, of the shape of the test pictures."""
    rng = np.random.default_rng(0)
    shape, some = test.shape[1:], test[:COUNT]
    files = sorted(cifar10.glob("test/*/*"))
    noise = rng.integers(0, 256, (COUNT, *shape)).astype(np.uint8)
    blank = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, *shape)).copy()
    cifar = np.stack([fit(Image.open(file), shape) for file in files[:: max(1, len(files) // COUNT)][:COUNT]])
    common = {"noise": noise, "blank": blank, "CIFAR-10": cifar}
    if mnist:
        drawn = letters(rng)
        rotated = np.rot90(some, axes=(1, 2)).copy()
        return common | {
            "inverted": 255 - some,
            "rotated by 90°": rotated,
            "letters": np.stack([fit(next(drawn), shape) for _ in range(COUNT)]),
        }
    kinds = {"other photographs": photographs(rng), "drawings": drawings(rng), "text": text(rng)}
    return common | {name: np.stack([fit(next(kind), shape) for _ in range(200)]) for name, kind in kinds.items()}


def judge(test: Answers, other: Answers) -> dict[str, float]:
    """How well the two kinds of answers tell pictures apart."""
    assert test.familiarity is not None
    assert other.familiarity is not None
    known = np.r_[np.ones(len(test.familiarity)), np.zeros(len(other.familiarity))]
    bound = np.quantile(test.familiarity, 0.05)
    sure = [answers.probabilities.max(axis=1) for answers in (test, other)]
    return {
        "auroc": float(roc_auc_score(known, np.r_[test.familiarity, other.familiarity])),
        "auroc_of_probability": float(roc_auc_score(known, np.r_[sure[0], sure[1]])),
        "let_through": float((other.familiarity >= bound).mean()),
        "called_unlike": float((other.familiarity < UNLIKE).mean()),
    }


def cost(run: cl.Run, images: Images) -> list[float]:
    """Seconds with the familiarity as a share of those without, of a batch, in turn."""
    content = read_artifact(run.path / "model.onnx").answers_alone
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    import onnx

    graph = onnx.ModelProto.FromString(content)
    del graph.graph.output[1:]
    kept = onnx.utils.Extractor(graph).extract_model([graph.graph.input[0].name], [graph.graph.output[0].name])
    plain = onnxruntime.InferenceSession(kept.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {session.get_inputs()[0].name: images.astype(np.float32)}
    calls: list[Callable[[], object]] = [partial(one.run, None, fed) for one in (session, plain)]
    repeats = max(1, round(0.1 / max(1e-6, min(timed(call) for call in calls * 2))))
    shares = []
    for _ in range(ROUNDS):
        with_it, without = (sum(timed(call) for _ in range(repeats)) for call in calls)
        shares.append(with_it / without)
    return shares


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--cifar10", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    print("| run | strange pictures | AUROC | of the largest probability | let through at 95 % | called unlike |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for path in arguments.runs:
        run = cl.Run(path)
        rung = run.info["rung"]
        classifier, data = run.classifier(), run.load_dataset()

        def answer(images: Images, classifier: cl.Classifier = classifier) -> Answers:
            return join_answers([classifier.answer(part) for part in slices(images)])

        test = answer(data.test.images[:TESTED])
        assert test.familiarity is not None
        judged = {
            kind: judge(test, answer(images))
            for kind, images in strange(data.test.images, arguments.cifar10, run.info["dataset"] == "mnist").items()
        }
        for kind, row in judged.items():
            print(
                f"| {run.info['rung']} | {kind} | {' | '.join(f'{value:.3f}' for value in row.values())} |", flush=True
            )
        shares = {count: cost(run, data.test.images[:count]) for count in (1, 64)}
        alike = float((test.familiarity < UNLIKE).mean())
        print(f"| {rung} | none: its test pictures | | | | {alike:.3f} |")
        for count, ratios in shares.items():
            low, high = min(ratios), max(ratios)
            print(f"{rung}: {count} at a time {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}) of the seconds")
        rows.append(
            {
                "rung": rung,
                "data": run.info["dataset"],
                "tests": len(test.familiarity),
                "tests_called_unlike": alike,
                "strange": judged,
                "seconds": {str(count): statistics.median(ratios) for count, ratios in shares.items()},
            }
        )
    (arguments.output / "unlikeness.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
