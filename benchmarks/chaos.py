"""Chaos: long commands are killed at random moments, and the same command must go on to the same result.

    python benchmarks/chaos.py [--kills 1000] [--minutes 60] [--seed 0] [--only train] [--output docs/benchmarks]

`make chaos` calls it. It goes on with the counts in chaos.json, so it can run in parts. Most processes are killed with
SIGKILL; some get SIGTERM, some a disk that is full after a random number of bytes (RLIMIT_FSIZE), and between two
attempts some lose a file. Then the same command goes on, perhaps to be killed again, until it is done. What it wrote
must equal, bit for bit, what an undisturbed command wrote, and nothing may be left behind. It ends with status 1 where
something was wrong.

TensorFlow is imported once; each attempt is a fork of that process, so that the moments fall into the work.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from output import prepare
from PIL import Image
from serving import processor

from convladder.engine import import_engine
from convladder.processors import count_processors

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos -->\n", "<!-- end of chaos -->\n"
LONGEST = 600.0  # seconds of an attempt: one that hangs is a failure
ENDS = {"kill": 0.78, "term": 0.08, "full": 0.08, "vanish": 0.06}  # how attempts end, and how often
COUNTED = ("attempts", "kill", "term", "full", "vanish", "goals", "refused", "wrong", "left_behind")


@dataclass
class Case:
    """A command, what to call when it was ended, and what its result is.

    Attributes:
        name: In the table.
        command: From a folder to the arguments, as they are first or when something is there already.
        result: From the folder to a digest of what the command wrote, once it is done.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    result: Callable[[Path], str]


def digest_arrays(path: Path) -> str:
    """SHA-256 over the arrays of an .npz file: the zip itself holds times."""
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as archive:
        for name in sorted(archive.files):
            digest.update(name.encode() + archive[name].tobytes())
    return digest.hexdigest()


def digest_weights(path: Path) -> str:
    """SHA-256 over the weights in a .keras file, read without Keras: this process must not start TensorFlow."""
    import h5py

    digest = hashlib.sha256()

    def take(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(item[()].tobytes())

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(take)
    return digest.hexdigest()


def digest_runs(folder: Path) -> str:
    """Of all finished runs: weights and answers."""
    finished = []
    for path in sorted(folder.glob("runs/*/run.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        if info["status"] == "finished":
            seen = digest_weights(path.parent / "model.keras"), digest_arrays(path.parent / "predictions.npz")
            finished.append((info["rung"], info["seed"], *seen))
    return hashlib.sha256(repr(sorted(finished)).encode()).hexdigest()


def digest_files(folder: Path) -> str:
    """Of a folder's files; of Keras's archives the members, because they hold times."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        if path.suffix == ".onnx":
            digest.update(path.read_bytes())
        elif path.suffix != ".pb":  # TensorFlow writes these with names that count on
            digest.update(str(path.stat().st_size > 0).encode())
    return digest.hexdigest()


def train(*arguments: str) -> Callable[[Path], Sequence[str]]:
    """`train`, or where it has begun `train --resume`."""

    def command(folder: Path) -> Sequence[str]:
        begun = sorted(path.parent for path in folder.glob("runs/*/run.json"))
        if begun:
            return ["train", "--resume", str(begun[0])]
        return ["train", *arguments, "--deterministic", "--runs", str(folder / "runs")]

    return command


def cases(data: Path) -> list[Case]:
    """All long commands."""
    small, model = data / "small.npz", data / "runs" / "fast-1"
    brief = ("--data", str(small), "--epochs", "12", "--seed", "3")
    return [
        Case("train", train("--model", "batchnorm", "--augment", "digits", *brief), digest_runs),
        Case("train, ensemble", train("--model", "dense", "--ensemble", "3", *brief), digest_runs),
        Case(
            "finetune",
            train("--model", "finetune", "--data", "clothes", "--image-size", "64", "--epochs", "1", "--seed", "3"),
            digest_runs,
        ),
        Case(
            "compare",
            lambda folder: [
                *("compare", "--models", "dense,fast", "--deterministic", *brief[:4], "--runs", str(folder / "runs")),
            ],
            digest_runs,
        ),
        Case(
            "predict",
            lambda folder: [
                *("predict", str(model), str(data / "pictures"), "--csv", "--output", str(folder / "answers.csv")),
            ],
            lambda folder: hashlib.sha256((folder / "answers.csv").read_bytes()).hexdigest(),
        ),
        Case(
            "export",
            lambda folder: ["export", str(model), "--format", "savedmodel", "--output", str(folder / "saved")],
            lambda folder: digest_files(folder / "saved"),
        ),
        Case(
            "cache",
            lambda folder: ["cache", str(data / "pictures"), str(folder / "fingerprint")],
            lambda folder: (folder / "fingerprint").read_text(encoding="utf-8"),
        ),
    ]


def prepare_data(folder: Path) -> None:
    """Data and a run for the commands, once."""
    import convladder as cl

    mnist = cl.load_dataset("mnist")
    np.savez(
        folder / "small.npz",
        x_train=mnist.train.images[:1500, ..., 0],
        y_train=mnist.train.labels[:1500],
        x_test=mnist.test.images[:300, ..., 0],
        y_test=mnist.test.labels[:300],
    )
    for number in range(400):
        path = folder / "pictures" / f"digit {number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            digit = Image.fromarray(mnist.train.images[number, ..., 0]).resize((400, 400))
            Image.merge("RGB", [digit] * 3).save(path, compress_level=1)


def carry_out(arguments: Sequence[str]) -> None:
    """In a fork: what the command line does, and the cache, for which no command does nothing else."""
    if arguments[0] == "cache":
        import convladder as cl
        from convladder.files import whole_file

        fingerprint = cl.load_dataset(arguments[1]).fingerprint
        with whole_file(Path(arguments[2])) as temporary:
            temporary.write_text(fingerprint, encoding="utf-8")
        return
    from convladder.cli import main

    sys.argv = ["convladder", *arguments]
    main()


def start(arguments: Sequence[str], folder: Path, told: Path, most_bytes: int | None) -> int:
    """Fork a process for a command; give back its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()  # so that it is killed with all that it starts
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        carry_out(arguments)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, seconds: float) -> int | None:
    """The exit status of a process; None if it has not ended by then."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def left_behind(folder: Path) -> list[str]:
    """What a command that is done should have removed."""
    forbidden = ("**/.convladder-*", "**/.*.former", "**/*.part", "**/*.new", "**/checkpoint.npz", "**/journal")
    return [str(path) for pattern in forbidden for path in folder.glob(pattern)]


class Chaos:
    """Cases, and what became of them so far."""

    def __init__(self, seed: int, counts: dict[str, dict[str, Any]], work: Path) -> None:
        self.counts, self.seed, self.work = counts, seed, work
        self.failures: list[str] = []

    @property
    def kills(self) -> int:
        return sum(counts[end] for counts in self.counts.values() for end in ENDS)

    def measure(self, case: Case) -> tuple[str, float]:
        """The result of the undisturbed command, and its seconds."""
        with self._folder() as folder:
            began = time.monotonic()
            told = folder / "told"
            status = wait(child := start(case.command(folder), folder, told, None), LONGEST)
            if status != 0:
                os.killpg(child, signal.SIGKILL)
                raise RuntimeError(f"{case.name} ended with {status}: {told.read_text(encoding='utf-8')[-2000:]}")
            return case.result(folder), time.monotonic() - began

    def disturb(self, case: Case, expected: str, seconds: float) -> None:
        """Start the command again and again until it is done."""
        counts = self.counts.setdefault(case.name, dict.fromkeys(COUNTED, 0))
        rng = random.Random(f"{self.seed} {case.name} {counts['attempts']}")
        with self._folder() as folder:
            told = folder / "told"
            undisturbed = lost = False
            while True:
                counts["attempts"] += 1
                end = rng.choices(list(ENDS), list(ENDS.values()))[0]
                most = int(10 ** rng.uniform(3, 6.5)) if end == "full" and not undisturbed else None
                moment = LONGEST if undisturbed or end == "full" else rng.uniform(0, 1.05 * seconds)
                child = start(case.command(folder), folder, told, most)
                status = wait(child, moment)
                if status is None:
                    if moment == LONGEST:
                        self._fail(case, "hung", told)
                        counts["wrong"] += 1
                    counts[end] += 1
                    self._end(child, signal.SIGTERM if end == "term" else signal.SIGKILL)
                elif end == "full" and not undisturbed:
                    counts[end] += 1
                said = told.read_text(encoding="utf-8", errors="replace")
                if "Traceback" in said or "This is a bug" in said:
                    counts["wrong"] += 1
                    self._fail(case, f"a traceback after {end}", told)
                if status == 0:
                    break
                if status is not None and status > 0 and end != "full":  # it said why it did not go on
                    counts["refused"] += 1
                    if not lost:
                        counts["wrong"] += 1
                        self._fail(case, f"refused, with status {status}", told)
                    if undisturbed:
                        break
                    undisturbed = True  # as a user would: remove what is damaged, and start anew
                    shutil.rmtree(folder / "runs", ignore_errors=True)
                if end == "vanish":
                    self._remove_one(folder, rng)
                    lost = True
            counts["goals"] += 1
            left = left_behind(folder)
            if left:
                counts["left_behind"] += 1
                self._fail(case, f"left {left}", told)
            if (result := case.result(folder)) != expected:
                counts["wrong"] += 1
                self._fail(case, f"another result, {result[:8]}", told)

    def _end(self, child: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)
        if wait(child, 60) is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _remove_one(self, folder: Path, rng: random.Random) -> None:
        finished = {
            path.parent
            for path in folder.glob("runs/*/run.json")
            if '"status": "finished"' in path.read_text(encoding="utf-8")
        }
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent not in finished]
        gone = rng.choice([path for path in files if path.name != "told"] or [folder / "nothing"])
        gone.unlink(missing_ok=True)
        if gone.name == "run.json":  # without it nothing says what the folder is
            shutil.rmtree(gone.parent)

    def _fail(self, case: Case, what: str, told: Path) -> None:
        self.failures.append(f"{case.name}: {what}")
        print(f"{case.name}: {what}\n{told.read_text(encoding='utf-8', errors='replace')[-3000:]}", file=sys.stderr)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            yield Path(folder)


def table(counts: dict[str, dict[str, Any]]) -> str:
    """The counts as Markdown."""
    titles = (
        "command",
        "killed",
        "SIGTERM",
        "disk full",
        "file lost",
        "refused to go on",
        "done",
        "wrong",
        "left over",
    )
    keys = ("kill", "term", "full", "vanish", "refused", "goals", "wrong", "left_behind")
    rows = [[name, *(f"{count[key]:,}" for key in keys)] for name, count in counts.items()]
    rows.append(["all", *(f"{sum(count[key] for count in counts.values()):,}" for key in keys)])
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Go on until there were so many kills, or the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=1000, help="of all, with those of earlier calls")
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of commands, with commas between them")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.output:
        prepare(parser, arguments.output)
    kept = arguments.output / "chaos.json" if arguments.output else None
    before = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.exists() else {"counts": {}}
    ends = time.monotonic() + 60 * arguments.minutes
    import_engine()
    import convladder.training.train  # noqa: F401 (before the forks)

    with tempfile.TemporaryDirectory(prefix="convladder-chaos-") as work:
        chaos = Chaos(arguments.seed, before["counts"], Path(work))
        data = Path(work) / "data"
        data.mkdir()
        prepare_data(data)
        child = start(
            [
                "train",
                "--model",
                "fast",
                "--data",
                str(data / "pictures"),
                "--epochs",
                "1",
                "--runs",
                str(data / "runs"),
            ],
            data,
            data / "told",
            None,
        )
        if wait(child, LONGEST) != 0:
            parser.exit(1, (data / "told").read_text(encoding="utf-8"))
        chosen = [case for case in cases(data) if not arguments.only or case.name in arguments.only.split(",")]
        references: dict[str, tuple[str, float]] = {}
        while chaos.kills < arguments.kills and time.monotonic() < ends:
            case = min(chosen, key=lambda case: sum(chaos.counts.get(case.name, {}).get(end, 0) for end in ENDS))
            if case.name not in references:
                references[case.name] = chaos.measure(case)
            chaos.disturb(case, *references[case.name])
            print(f"{chaos.kills} of {arguments.kills}: {case.name}", file=sys.stderr)
            if kept:
                machine = {"processor": processor(), "cores": count_processors()}
                content = {"machine": machine, "seed": arguments.seed, "kills": chaos.kills, "counts": chaos.counts}
                kept.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(table(chaos.counts))
    if kept and PAGE.parent in kept.resolve().parents:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n{table(chaos.counts)}\n{END}{tail}", encoding="utf-8")
    sys.exit(1 if chaos.failures else 0)


if __name__ == "__main__":
    main()
