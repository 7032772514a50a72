"""Chaos: long commands are ended at random moments, and the same command must go on to the same result.

    python benchmarks/chaos.py [--kills 1000] [--minutes 60] [--seed 0] [--only train] [--output docs/benchmarks]

`make chaos` calls it. It goes on with the counts in chaos.json, so it can run in parts. Most processes are killed with
SIGKILL, sometimes a process that works for the command instead of the command itself; some get SIGTERM, some a disk
that is full after a random number of bytes, and between two attempts some lose a file. Then the same command goes on,
perhaps to be ended again, until it is done. What it wrote must equal, bit for bit, what an undisturbed command wrote,
and neither files nor processes may be left behind. It ends with status 1 where something was wrong.

The full disk is a tmpfs whose size changes, if this user may mount one; else a limit on the size of files. TensorFlow
is imported once; each attempt is a fork of that process, so that the moments fall into the work.
"""

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from chaos_cases import Case, carry_out, cases, prepare_data
from output import prepare
from serving import processor

from convladder.engine import import_engine
from convladder.errors import ConvladderError
from convladder.files import write_json
from convladder.processors import count_processors

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos -->\n", "<!-- end of chaos -->\n"
LONGEST = 600.0  # seconds of an attempt: one that hangs is a failure
SECONDS_TO_STOP = 60.0  # after SIGTERM, and for what worked for a command that was killed
ROOM = 4 << 30  # bytes of the disk when it is not full
ENDS = {"kill": 0.74, "term": 0.08, "full": 0.1, "vanish": 0.08}  # how attempts end, and how often
OF_WORKERS = 0.2  # of the kills: they meet a process that works for the command, if there is one
COUNTED = ("attempts", *ENDS, "goals", "refused", "wrong", "left_behind", "seconds")
IMPORTED = (  # before the forks, what the commands import
    *("h5py", "onnx", "onnxruntime", "scipy.stats", "sklearn.metrics", "tf2onnx"),
    *("convladder.cli", "convladder.comparing.compare", "convladder.exporting.formats", "convladder.training.train"),
    *("convladder.reporting.report", "convladder.reporting.plots"),
)


def start(arguments: Sequence[str], folder: Path, most_bytes: int | None = None) -> int:
    """Fork a process for a command; give back its number. What it says goes to the file `told` in the folder."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()  # all that works for it is of this session
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        (folder / "tmp").mkdir(exist_ok=True)
        descriptor = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        carry_out(arguments)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    except ConvladderError as error:  # as the command line tells it
        print(f"Error: {error}")
        status = error.exit_status
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # on a full disk
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


def session_of(leader: int) -> list[int]:
    """The processes of the session that a process leads or led, without those that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text(encoding="latin-1").rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found


def left_behind(folder: Path) -> list[str]:
    """What a command that is done should have removed. Of a few hundred bytes, TensorFlow's own files stay in tmp."""
    names = (".convladder-*", ".*.former", "*.part", "*.new", "checkpoint.npz", "journal")
    found = [path for name in names for path in folder.glob(f"**/{name}")]
    found += [path for path in folder.glob("tmp/*") if not path.name.startswith("__autograph_generated_file")]
    return [str(path) for path in found]


class Disk:
    """A file system whose size can change, seen by this process and its forks alone, so that nothing of it stays.

    Attributes:
        folder: Where it is mounted.
        mounted: Whether it could be; the system's administrator may.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        new_namespace = 0x00020000  # CLONE_NEWNS; os.unshare needs Python 3.12
        private = ctypes.CDLL(None).unshare(new_namespace) == 0 and self._mount("--make-rprivate", "/")
        self.mounted = private and self._mount("-t", "tmpfs", "-o", f"size={ROOM}", "chaos", str(folder))

    @contextlib.contextmanager
    def with_room(self, most_bytes: int | None) -> Iterator[None]:
        """So many bytes are free in this context."""
        if most_bytes is None or not self.mounted:
            yield
            return
        status = os.statvfs(self.folder)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        self._mount("-o", f"remount,size={used + most_bytes}", str(self.folder))
        try:
            yield
        finally:
            self._mount("-o", f"remount,size={ROOM}", str(self.folder))

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)

    def _mount(self, *arguments: str) -> bool:
        return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


class Chaos:
    """Cases, and what became of them so far."""

    def __init__(self, seed: int, before: dict[str, Any], disk: Disk) -> None:
        self.seed, self.disk = seed, disk
        self.counts: dict[str, dict[str, float]] = before["counts"]
        self.found: list[str] = before.get("found", [])
        self.failed = False
        self.references: dict[str, tuple[str, float]] = {}

    @property
    def kills(self) -> int:
        return sum(self.kills_of(name) for name in self.counts)

    def kills_of(self, name: str) -> int:
        return sum(int(self.counts[name][end]) for end in ENDS)

    def next_of(self, chosen: Sequence[Case]) -> Case:
        """The case with the fewest kills; one that takes four times as long gets half as many."""

        def weight(case: Case) -> float:
            counts = self.counts.get(case.name, {})
            if not counts.get("attempts"):
                return 0.0
            return self.kills_of(case.name) * float(np.sqrt(counts["seconds"] / counts["attempts"]))

        return min(chosen, key=weight)

    def measure(self, case: Case) -> tuple[str, float]:
        """The result of the undisturbed command, and its seconds; known ones are not measured again."""
        if case.name not in self.references:
            with self._folder() as folder:
                began = time.monotonic()
                child = start(case.command(folder), folder)
                try:
                    status = wait(child, LONGEST)
                finally:
                    self._end_all([child])
                if status != 0:
                    told = (folder / "told").read_text(encoding="utf-8")
                    raise RuntimeError(f"{case.name} ended with {status}: {told[-2000:]}")
                self.references[case.name] = case.result(folder), time.monotonic() - began
        return self.references[case.name]

    def disturb(self, case: Case) -> None:
        """Start the command again and again until it is done."""
        expected, _ = self.measure(case)
        counts = self.counts[case.name] = dict.fromkeys(COUNTED, 0.0) | self.counts.get(case.name, {})
        rng = random.Random(f"{self.seed} {case.name} {counts['attempts']:.0f}")
        began = time.monotonic()
        started: list[int] = []
        with self._folder() as folder:
            undisturbed = lost = False
            try:
                while True:
                    counts["attempts"] += 1
                    end = "" if undisturbed else rng.choices(list(ENDS), list(ENDS.values()))[0]
                    status, right = self._attempt(case, folder, end, rng, started)
                    if status not in right and status > 0 and end != "full":  # it said why it did not go on
                        counts["refused"] += 1
                        if not lost:
                            self._fail(case, f"refused, with status {status}", folder)
                        if undisturbed:
                            break
                        undisturbed = True  # as a user would: remove what is damaged, and start anew
                        shutil.rmtree(folder / "runs", ignore_errors=True)
                    elif status not in right:
                        self._fail(case, f"ended with {status} after {end or 'nothing'}", folder)
                    said = (folder / "told").read_text(encoding="utf-8", errors="replace")
                    if "Traceback" in said or "This is a bug" in said:
                        self._fail(case, f"a traceback after {end or 'nothing'}", folder)
                    if status == 0:
                        break
                    if end == "vanish":
                        self._remove_one(folder, rng)
                        lost = True
                counts["goals"] += 1
                ends = time.monotonic() + SECONDS_TO_STOP
                while (running := [pid for child in started for pid in session_of(child)]) and time.monotonic() < ends:
                    time.sleep(0.1)
                if running:
                    self._fail(case, f"{len(running)} processes were left running", folder)
                if left := left_behind(folder):
                    counts["left_behind"] += 1
                    self._fail(case, f"left {[path.removeprefix(str(folder)) for path in left]}", folder, wrong=0)
                if (result := case.result(folder)) != expected:
                    self._fail(case, f"another result, {result[:8]}", folder)
            finally:
                self._end_all(started)
        counts["seconds"] = round(counts["seconds"] + time.monotonic() - began, 1)

    def _attempt(
        self, case: Case, folder: Path, end: str, rng: random.Random, started: list[int]
    ) -> tuple[int, tuple[int, ...]]:
        """Start the command and end it. Gives back its status, and those that are right after this end."""
        counts, (expected, seconds) = self.counts[case.name], self.references[case.name]
        room = int(10 ** rng.uniform(3, 6.5)) if end == "full" else None
        with self.disk.with_room(room):
            child = start(case.command(folder), folder, None if self.disk.mounted else room)
            started.append(child)
            if end in ("", "full"):
                status = self._wait_long(case, child, folder)
                counts["full"] += bool(end and status)
                return status, (0, 1) if end else (0,)
            began = time.monotonic()
            early = wait(child, rng.uniform(0, 1.05 * seconds))
            if early is not None:
                if len(started) == 1:  # the machine is not always as fast
                    self.references[case.name] = expected, (seconds + time.monotonic() - began) / 2
                return early, (0,)
            counts[end] += 1
            if end == "term":
                os.kill(child, signal.SIGTERM)
                return self._wait_long(case, child, folder, SECONDS_TO_STOP), (0, 128 + signal.SIGTERM, -signal.SIGTERM)
            workers = [process for process in session_of(child) if process != child]
            if workers and rng.random() < OF_WORKERS:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(workers), signal.SIGKILL)
                return self._wait_long(case, child, folder), (0, 1)
            os.kill(child, signal.SIGKILL)
            return self._wait_long(case, child, folder), (0, -signal.SIGKILL)

    def _wait_long(self, case: Case, child: int, folder: Path, seconds: float = LONGEST) -> int:
        status = wait(child, seconds)
        if status is None:
            self._fail(case, "hung", folder)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return -signal.SIGKILL if status is None else status

    def _end_all(self, started: Sequence[int]) -> None:
        for process in [process for child in started for process in session_of(child)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

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

    def _fail(self, case: Case, what: str, folder: Path, wrong: int = 1) -> None:
        self.failed = True
        self.counts[case.name]["wrong"] += wrong
        self.found.append(f"{case.name}: {what}")
        said = (folder / "told").read_text(encoding="utf-8", errors="replace")
        print(f"{case.name}: {what}\n{said[-3000:]}", file=sys.stderr)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.disk.folder) as folder:
            yield Path(folder)


def table(counts: dict[str, dict[str, float]]) -> str:
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
    rows = [[name, *(f"{count[key]:,.0f}" for key in keys)] for name, count in counts.items()]
    rows.append(["all", *(f"{sum(count[key] for count in counts.values()):,.0f}" for key in keys)])
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ends = time.monotonic() + 60 * arguments.minutes
    import_engine()
    for name in IMPORTED:
        import_module(name)

    with contextlib.ExitStack() as stack:
        disk = Disk(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="convladder-chaos-"))))
        stack.callback(disk.unmount)
        chaos = Chaos(arguments.seed, before, disk)
        data = disk.folder / "data"
        data.mkdir()
        prepare_data(data)
        fast = ["train", "--model", "fast", "--data", str(data / "pictures"), "--image-size", "28", "--epochs", "1"]
        if wait(start([*fast, "--runs", str(data / "runs")], data), LONGEST) != 0:
            parser.exit(1, (data / "told").read_text(encoding="utf-8"))
        chosen = [case for case in cases(data) if not arguments.only or case.name in arguments.only.split(",")]
        while chaos.kills < arguments.kills and time.monotonic() < ends:
            case = chaos.next_of(chosen)
            chaos.disturb(case)
            print(f"{chaos.kills} of {arguments.kills}: {case.name}", file=sys.stderr)
            if kept:
                machine = {"processor": processor(), "cores": count_processors()}
                content = {"machine": machine, "seed": arguments.seed, "kills": chaos.kills, "counts": chaos.counts}
                write_json(kept, content | {"found": chaos.found})
    print(table(chaos.counts))
    if kept and PAGE.parent in kept.resolve().parents:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n{table(chaos.counts)}\n{END}{tail}", encoding="utf-8")
    sys.exit(1 if chaos.failed else 0)


if __name__ == "__main__":
    main()
