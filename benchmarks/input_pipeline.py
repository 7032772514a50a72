"""Images a second from files to the batches that a network takes, beside keras.utils.image_dataset_from_directory.

    python benchmarks/input_pipeline.py FOLDER [--image-size 32] [--photos 200] [--output docs/benchmarks]

FOLDER is a folder of classes, for instance CIFAR-10's training images as JPEG files. Beside it, so many photographs
of 12 megapixels are made. A pass is all batches of 256, without a network. Each contender is a fresh process, and the
files lie in the system's cache for all of them. Here the first pass decodes, start of the processes included, and
later ones do not; every pass of Keras decodes, and its faster one counts. `reload` is the first pass of a process
that finds the pictures decoded. `--memory` tells the peak memory of two passes over so many pictures, say 10000 and
200000.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from output import prepare
from PIL import Image

from convladder.processors import count_processors
from convladder.training.hardware import processor_name

PASSES = """
import resource, sys, time
from dataclasses import replace
from convladder.engine import import_engine
import_engine()
import convladder as cl
from convladder.training.fitting import training_batches
folder, side = sys.argv[1:]
times = [time.perf_counter()]
data = cl.load_dataset(folder, image_size=int(side), channels=3, validation=0)
steps = -(-len(data.train) // 256)
for _ in range(2):
    for _ in training_batches(data.train, data.num_classes, replace(cl.DEFAULT, batch_size=256), steps, 0):
        pass
    times.append(time.perf_counter())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(data.account.pictures, times[1] - times[0], (times[2] - times[1]) * data.account.pictures / len(data.train), peak)
"""

KERAS = """
import sys, time
from convladder.engine import import_engine
import_engine()
import keras
folder, side = sys.argv[1:]
times = [time.perf_counter()]
data = keras.utils.image_dataset_from_directory(
    folder, image_size=(int(side), int(side)), batch_size=256, crop_to_aspect_ratio=True, verbose=False
)
for _ in range(2):
    count = 0
    for images, _ in data:
        count += len(images)
    times.append(time.perf_counter())
print(count, times[1] - times[0], times[2] - times[1], 0)
"""


def run(script: str, folder: Path, side: int, cache: Path) -> tuple[int, float, float, float]:
    """The count of images, images a second of two passes in a fresh process, and its peak memory in MiB."""
    finished = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(side)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        check=True,
    )
    count, first, second, peak = (float(word) for word in finished.stdout.split()[-4:])
    return int(count), count / first, count / second, peak


def measure(name: str, folder: Path, side: int) -> dict[str, object]:
    """Images a second here and with Keras, which goes first and brings the files into the system's cache."""
    with tempfile.TemporaryDirectory() as cache:
        count, *keras_rates, _ = run(KERAS, folder, side, Path(cache))
        _, first, later, _ = run(PASSES, folder, side, Path(cache))
        _, reload, _, peak = run(PASSES, folder, side, Path(cache))
    keras_rate = max(keras_rates)
    row: dict[str, object] = {"data": name, "images": count, "image_size": side, "keras": round(keras_rate)}
    for title, rate in (("first", first), ("reload", reload), ("later", later)):
        row |= {title: round(rate), f"{title}_ratio": round(rate / keras_rate, 2)}
    row["peak_mib"] = round(peak)
    print(json.dumps(row), flush=True)
    return row


def make_photos(folder: Path, count: int) -> Path:
    """Smooth colours with some noise, 4,000×3,000, as a camera would store them; a few, linked many times over."""
    random = np.random.default_rng(0)
    for number in range(count):
        target = folder / str(number % 2) / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if number >= 8:
            os.link(folder / str(number % 2) / f"{number % 8}.jpg", target)
            continue
        coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels += random.integers(-8, 9, pixels.shape, dtype=np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(target, quality=90)
    return folder


def measure_memory(folder: Path, counts: list[int]) -> list[dict[str, object]]:
    """Peak memory of two passes, the first of which decodes; the pictures are links to those of the folder."""
    pictures = sorted(path for path in folder.rglob("*.jpg"))
    rows: list[dict[str, object]] = []
    for count in counts:
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            for number in range(count):
                target = Path(name) / "data" / str(number % 10) / f"{number}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(pictures[number % len(pictures)], target)
            *_, peak = run(PASSES, Path(name) / "data", 32, Path(name))
        rows.append({"images": count, "peak_mib": round(peak)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--memory", type=int, nargs="*", default=[], metavar="COUNT")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    rows = [measure(arguments.folder.name, arguments.folder, arguments.image_size)]
    if arguments.photos:
        with tempfile.TemporaryDirectory() as name:
            rows.append(measure("12-megapixel photos", make_photos(Path(name) / "photos", arguments.photos), 224))
    content = {
        "processor": processor_name(),
        "cores": count_processors(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
        "memory": measure_memory(arguments.folder, arguments.memory),
    }
    (arguments.output / "input_pipeline.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
