"""What an answer takes: the Classifier beside bare ONNX Runtime, and beside Keras's `model.predict`.

    python benchmarks/predicting.py RUN [RUN...] [--rounds 5] [--output docs/benchmarks]

A RUN is a folder that train wrote on MNIST. Every measurement is a fresh process, the contenders in alternation, and a
figure is the median of the rounds, with its range.

* Bare ONNX Runtime runs Keras's plain export, which gives probabilities alone, on an array that lies ready as float32;
  the Classifier is handed pixels as they are decoded, uint8. One image at a time, and 128 together.
* The folder holds MNIST's 10,000 test images as PNG files, in the system's cache for all. It is listed, decoded and
  answered for: by the Classifier; by one `model.predict` over `keras.utils.image_dataset_from_directory`, whose first
  call traces the network and whose second does not; by a loop of `model.predict` over images that are decoded already,
  measured on 50 and scaled to all. Imports and the loading of the model are apart. The first run alone does this.
* The command is `convladder predict RUN IMAGE`, from its start to its line, imports and all.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from output import prepare

IMAGES_A_BATCH = 128
LOOPED = 50


def microseconds_an_image(answer: Callable[[Any], Any], images: Any, repeats: int) -> float:
    """Of so many calls, the median of five."""
    answer(images)
    measured = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(repeats):
            answer(images)
        measured.append((time.perf_counter() - began) / repeats / len(images) * 1e6)
    return statistics.median(measured)


def answer_arrays(answer: Callable[[Any], Any], dtype: type) -> dict[str, float]:
    images: Any = np.random.default_rng(0).integers(0, 256, (IMAGES_A_BATCH, 28, 28, 1), dtype=np.uint8).astype(dtype)
    return {
        "one": microseconds_an_image(answer, images[:1], 500),
        "batch": microseconds_an_image(answer, images, 20),
    }


def measure_bare(plain: str) -> dict[str, float]:
    import onnxruntime

    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return answer_arrays(lambda images: session.run(None, {name: images}), np.float32)


def measure_classifier(run: str) -> dict[str, float]:
    from convladder.inference.classifier import Classifier

    return answer_arrays(Classifier(run).predict_probabilities, np.uint8)


def measure_folder(run: str, folder: str) -> dict[str, float]:
    from convladder.data.folders import list_pictures
    from convladder.inference.classifier import Classifier

    classifier = Classifier(run)
    began = time.perf_counter()
    answers = classifier.predict(list_pictures(Path(folder)).paths)
    next(answers)
    first = time.perf_counter() - began
    count = 1 + sum(1 for _ in answers)
    return {"seconds": time.perf_counter() - began, "first": first, "images": count}


def measure_keras(run: str, folder: str) -> dict[str, float]:
    from convladder.engine import import_engine

    import_engine()
    import keras

    from convladder.runs.run import Run

    model = Run(run).load_model()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        data = keras.utils.image_dataset_from_directory(
            folder, labels=None, color_mode="grayscale", image_size=(28, 28), batch_size=IMAGES_A_BATCH,
            shuffle=False, verbose=False,
        )  # fmt: skip
        count = len(model.predict(data, verbose=0))
        seconds.append(time.perf_counter() - began)
    images = np.random.default_rng(0).integers(0, 256, (LOOPED, 1, 28, 28, 1), dtype=np.uint8)
    model.predict(images[0], verbose=0)
    began = time.perf_counter()
    for image in images:
        model.predict(image, verbose=0)
    return {"first": seconds[0], "second": seconds[1], "loop": (time.perf_counter() - began) / LOOPED * count}


def measure_command(run: str, image: str) -> dict[str, float]:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "convladder", "predict", run, image], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return {"seconds": time.perf_counter() - began}


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "bare": measure_bare,
    "classifier": measure_classifier,
    "folder": measure_folder,
    "keras": measure_keras,
}


def alternate(rounds: int, contenders: dict[str, Sequence[str]]) -> dict[str, dict[str, list[float]]]:
    """Each contender's figures, a fresh process a round; a round goes through all of them."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    for _ in range(rounds):
        for name, arguments in contenders.items():
            finished = subprocess.run(
                [sys.executable, __file__, "--measure", name, *arguments],
                stdout=subprocess.PIPE,
                encoding="utf-8",
                check=True,
            )
            for key, value in json.loads(finished.stdout.splitlines()[-1]).items():
                figures[name].setdefault(key, []).append(value)
    return figures


def summary(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    low, middle, high = min(values), statistics.median(values), max(values)
    return {"median": round(middle, digits), "low": round(low, digits), "high": round(high, digits)}


def write_folder(folder: Path) -> Path:
    from PIL import Image

    from convladder.data.loading import load_dataset

    test = load_dataset("mnist").test
    for number, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / str(label) / f"{number:05}.png")
    return folder


def export_plainly(run: Path, path: Path) -> str:
    """Keras's own export, and no more."""
    import keras

    from convladder.runs.run import Run

    model = Run(run).load_model()
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    keras.Model.export(model, path, format="onnx", verbose=False)
    return str(path)


def measure_all(runs: Sequence[Path], rounds: int, scratch: Path) -> dict[str, Any]:
    from convladder.runs.run import Run

    rows = []
    for number, run in enumerate(runs):
        plain = export_plainly(run, scratch / f"{number}.onnx")
        figures = alternate(rounds, {"bare": [plain], "classifier": [str(run)]})
        row: dict[str, Any] = {"rung": Run(run).info["rung"]}
        for key in ("one", "batch"):
            bare, ours = figures["bare"][key], figures["classifier"][key]
            row[key] = {"bare_microseconds": summary(bare), "classifier_microseconds": summary(ours)}
            row[key]["ratio"] = round(statistics.median(ours) / statistics.median(bare), 3)
        rows.append(row)
    folder, first = write_folder(scratch / "digits"), str(runs[0])
    figures = alternate(rounds, {"folder": [first, str(folder)], "keras": [first, str(folder)]})
    seconds = statistics.median(figures["folder"]["seconds"])
    image = str(next(folder.rglob("*.png")))
    return {
        "arrays": rows,
        "folder": {
            "rung": rows[0]["rung"],
            "images": int(figures["folder"]["images"][0]),
            "classifier_seconds": summary(figures["folder"]["seconds"], 3),
            "classifier_seconds_to_first": summary(figures["folder"]["first"], 4),
        }
        | {
            f"keras_{key}": {
                "seconds": summary(figures["keras"][key], 3),
                "times_as_long": round(statistics.median(figures["keras"][key]) / seconds, 2),
            }
            for key in ("first", "second", "loop")
        },
        "command_seconds": summary([measure_command(first, image)["seconds"] for _ in range(2 * rounds)][1:], 3),
    }


def print_tables(content: dict[str, Any]) -> None:
    print("| rung | images | bare, µs an image | Classifier, µs an image | ratio |\n| --- | --- | --- | --- | --- |")
    for row in content["arrays"]:
        for key, images in (("one", 1), ("batch", IMAGES_A_BATCH)):
            bare, ours = (row[key][f"{who}_microseconds"] for who in ("bare", "classifier"))
            shown = [f"{value['median']:.1f} ({value['low']:.1f} to {value['high']:.1f})" for value in (bare, ours)]
            print(f"| {row['rung']} | {images} | {shown[0]} | {shown[1]} | {row[key]['ratio']:.2f} |")
    folder = content["folder"]
    ours = folder["classifier_seconds"]
    print(f"\n| {folder['images']:,} PNG files, {folder['rung']} | seconds | times as long |\n| --- | --- | --- |")
    print(f"| Classifier | {ours['median']:.2f} ({ours['low']:.2f} to {ours['high']:.2f}) | 1 |")
    for key, name in (("first", "model.predict, first call"), ("second", "second call"), ("loop", "a loop of them")):
        seconds, ratio = folder[f"keras_{key}"]["seconds"], folder[f"keras_{key}"]["times_as_long"]
        print(f"| {name} | {seconds['median']:.2f} ({seconds['low']:.2f} to {seconds['high']:.2f}) | {ratio:g} |")
    print(f"\nfirst answer after {folder['classifier_seconds_to_first']['median'] * 1000:.1f} ms; the command "
          f"`convladder predict` after {content['command_seconds']['median']:.2f} s")  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(MEASURES[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    from convladder.engine import import_engine

    import_engine()
    from convladder.processors import count_processors
    from convladder.training.hardware import processor_name

    with tempfile.TemporaryDirectory() as scratch:
        content = measure_all(arguments.runs, arguments.rounds, Path(scratch))
    print_tables(content)
    about = {"processor": processor_name(), "cores": count_processors(), "date": time.strftime("%Y-%m-%d")}
    (arguments.output / "predicting.json").write_text(json.dumps(about | content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
