"""One actor of `predict --ray` beside `predict`, and what both hold in memory.

    python benchmarks/scaling_predictions.py RUN RUN [--rounds 3] [--pictures 20000]

The first RUN is a folder that train wrote on MNIST, whose test images are the pictures, over and over, as PNG files;
the second one of the photographs of clothes, which are repeated likewise. It prints JSON; scaling.py calls it.

* **predict** answers for the files by all cores of this machine, in a fresh process without its imports, and writes
  lines of JSON. **One actor** does so too, and has as many cores, on a cluster of this machine; its seconds are those
  between its first part and its last, because starting Ray takes the same for any number of pictures. The two
  alternate.
* **Memory** is the most that the calling process and the largest actor hold, for the pictures once and ten times over,
  as rows of bytes in Parquet.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serving import digits

import convladder as cl
from convladder.predicting.answers import describe

CLOTHES = Path(cl.__file__).parent / "data" / "clothes"
TIMES = 15  # that the photographs are repeated
EVERY = 0.2  # seconds between two looks at the memory


def write_rows(path: Path, pictures: list[bytes], times: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"image": pictures})
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(times):
            writer.write_table(table, row_group_size=1000)


def measure_plain(run: str, folder: str) -> dict[str, float]:
    paths = sorted(map(str, Path(folder).iterdir()))
    classifier = cl.Classifier(run)
    with tempfile.TemporaryFile("w", encoding="utf-8") as file:
        began = time.perf_counter()
        for path, answer in zip(paths, classifier.predict(paths), strict=True):
            file.write(json.dumps(describe(path, answer)) + "\n")
        return {"pictures_per_second": len(paths) / (time.perf_counter() - began)}


def measure_actor(run: str, source: str, answers: str) -> dict[str, float]:
    """Pictures a second of one actor with all cores, and the most memory of the caller and of the actor."""
    import psutil

    from convladder.processors import count_processors

    moments: list[tuple[float, int]] = []
    most = {"caller_bytes": 0, "actor_bytes": 0}
    ended = threading.Event()

    def look() -> None:
        this = psutil.Process()
        while not ended.wait(EVERY):
            most["caller_bytes"] = max(most["caller_bytes"], this.memory_info().rss)
            for process in this.children(recursive=True):
                try:
                    if "MapWorker" in " ".join(process.cmdline()):
                        most["actor_bytes"] = max(most["actor_bytes"], process.memory_info().rss)
                except psutil.Error:  # it has ended
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    with tempfile.TemporaryDirectory() as output:
        cl.predict_on_cluster(
            run,
            source,
            output,
            format=answers,
            cores=count_processors(),
            say=lambda _: None,
            show=lambda done, _: moments.append((time.perf_counter(), done)),
        )
    ended.set()
    looking.join()
    (first, before), (last, after) = moments[1], moments[-1]
    return {"pictures_per_second": (after - before) / (last - first), **most}


def measure(what: str, *given: str) -> dict[str, float]:
    """The figures of a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--measure", what, *given], stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(run: str, folder: Path, rounds: int) -> dict[str, float]:
    """Pictures a second of `predict` and of one actor, medians of so many rounds, and the median of their ratios."""
    pairs = [
        (
            measure("plain", run, str(folder))["pictures_per_second"],
            measure("actor", run, str(folder), "json")["pictures_per_second"],
        )
        for _ in range(rounds)
    ]
    return {
        "predict": statistics.median(plain for plain, _ in pairs),
        "one_actor": statistics.median(actor for _, actor in pairs),
        "share": statistics.median(actor / plain for plain, actor in pairs),
    }


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measures: dict[str, Callable[..., dict[str, float]]] = {"plain": measure_plain, "actor": measure_actor}
        print(json.dumps(measures[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("photographs", metavar="RUN")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=20_000)
    given = parser.parse_args()
    encoded = digits(given.pictures)
    pictures = [encoded[number % len(encoded)] for number in range(given.pictures)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "pictures")
        folder.mkdir()
        for number, picture in enumerate(pictures):
            (folder / f"{number:07}.png").write_bytes(picture)
        compared = {"digits": compare(given.run, folder, given.rounds)}
        photographs = Path(scratch, "photographs")
        photographs.mkdir()
        for number, path in enumerate(TIMES * sorted(CLOTHES.rglob("*.jpg"))):
            shutil.copy(path, photographs / f"{number:04}.jpg")
        compared["photographs"] = compare(given.photographs, photographs, given.rounds)
        memory = {}
        for times in (1, 10):
            rows = Path(scratch, f"{times}.parquet")
            write_rows(rows, pictures, times)
            figures = measure("actor", given.run, str(rows), "parquet")
            memory[times * given.pictures] = {name: figures[name] for name in ("caller_bytes", "actor_bytes")}
    print(json.dumps(compared | {"memory": memory}))


if __name__ == "__main__":
    main()
