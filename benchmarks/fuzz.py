"""Fuzz: a million hostile inputs, for everything that reads files and requests of others.

    python benchmarks/fuzz.py [--cases 1000000] [--minutes 600] [--run RUN] [--only picture] [--output docs/benchmarks]

`make fuzz` calls it. It goes on with the counts in fuzz.json, so it can run in parts. The targets of fuzz_targets.py
get inputs from atheris, which keeps those that reach new code and changes them further; a real `convladder serve` gets
requests that schemathesis makes from the server's own OpenAPI document. Cheap targets get more cases. An input that
ends in anything but an answer or a ConvladderError is a find, and is kept in the folder finds/.
"""

import argparse
import contextlib
import hashlib
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from output import prepare
from serving import processor, serve, trained

from convladder.errors import ConvladderError
from convladder.processors import count_processors

PAGE = Path(__file__).parents[1] / "docs" / "fuzzing.md"
BEGIN, END = "<!-- fuzz -->\n", "<!-- end of fuzz -->\n"
FINDS = Path("finds")
# Cases in a row, by target: those that cost little get more.
CASES = {
    **dict.fromkeys(("picture", "IDX", "form", "request"), 40_000),
    **dict.fromkeys(("npz", "CSV", "folder"), 15_000),
    **dict.fromkeys(("model", "description of a model"), 1_500),
    "run folder": 300,
}
SERVER = "server, from its OpenAPI document"
SERVER_CASES = 1_000
LONGEST = 60  # seconds of one case: one that hangs is a find
KEPT_EVERY = 500  # cases
LARGEST = 100_000  # bytes of an input


class Count:
    """What one target has had: cases, finds, and what the most expensive case cost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cases = self.finds = self.most_bytes = 0
        self.most_seconds = 0.0

    def take(self, case: bytes, seconds: float, grown: int, error: Exception | None = None) -> None:
        """Count a case; keep it if it is a find."""
        self.cases += 1
        self.most_seconds, self.most_bytes = max(self.most_seconds, seconds), max(self.most_bytes, grown)
        if error is not None:
            self.finds += 1
            kept = FINDS / hashlib.sha256(case).hexdigest()[:16]
            kept.write_bytes(case)
            kept.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        if self.cases % KEPT_EVERY == 0 or error is not None:
            self.keep()

    def keep(self) -> None:
        """Write the counts: the fuzzer ends without a word."""
        values = {key: value for key, value in vars(self).items() if key != "path"}
        self.path.write_text(json.dumps(values), encoding="utf-8")


def peak() -> int:
    """The most bytes that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fuzz_target(name: str, cases: int, seed: int, run: Path, folder: Path) -> None:
    """Fuzz one target with atheris. It ends the process."""
    import atheris

    with atheris.instrument_imports(include=["convladder"]):
        from fuzz_targets import targets

        import convladder as cl
    warnings.simplefilter("ignore")
    FINDS.mkdir(exist_ok=True)
    (folder / "files").mkdir()
    (folder / "corpus").mkdir()
    (target,) = (target for target in targets(folder / "files", cl.Run(run)) if target.name == name)
    for number, content in enumerate(target.seeds):
        (folder / "corpus" / str(number)).write_bytes(content)
        with contextlib.suppress(ConvladderError):
            target.run(content)  # what it imports is no cost of a case
    count = Count(folder / "count.json")

    def attempt(data: bytes) -> None:
        before, began = peak(), time.process_time()
        found = None
        try:
            target.run(data)
        except ConvladderError:
            pass
        except Exception as error:
            found = error
        count.take(data, time.process_time() - began, peak() - before, found)

    options = [f"-runs={cases}", f"-seed={seed % (1 << 31) or 1}", f"-max_len={LARGEST}", f"-timeout={LONGEST}"]
    options += ["-rss_limit_mb=4096", "-verbosity=0", "-print_final_stats=0", f"-artifact_prefix={FINDS.absolute()}/"]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], attempt)
    atheris.Fuzz()


def fuzz_server(cases: int, seed: int, run: Path, folder: Path) -> None:
    """Ask a real server what schemathesis makes from its document, right and wrong."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode

    FINDS.mkdir(exist_ok=True)
    count = Count(folder / "count.json")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with serve("convladder", run / "model.onnx", port):
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        checks = [
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.content_type_conformance,
            schemathesis.checks.response_schema_conformance,
        ]
        ways = [(operation, mode) for operation in operations for mode in GenerationMode]
        for operation, mode in ways:

            @seeded(seed)
            @settings(
                max_examples=max(1, cases // len(ways)),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                began = time.perf_counter()
                found = None
                try:
                    response = case.call(timeout=LONGEST)
                    case.validate_response(response, checks=checks)
                except Exception as error:
                    found = error
                count.take(repr(case).encode(), time.perf_counter() - began, 0, found)

            with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
                ask()
    count.keep()


def table(counts: dict[str, dict[str, Any]]) -> str:
    """The counts as Markdown."""
    rows = [
        [name, f"{one['cases']:,}", str(one["finds"]), f"{one['most_seconds']:.2f}", f"{one['most_bytes'] / 2**20:.0f}"]
        for name, one in counts.items()
    ]
    rows.append(["all", f"{total(counts, 'cases'):,}", str(total(counts, "finds")), "", ""])
    titles = ["target", "cases", "finds", "seconds of the slowest case", "MiB of the largest case"]
    return "".join(f"| {' | '.join(line)} |\n" for line in [titles, ["---"] * len(titles), *rows])


def total(counts: dict[str, dict[str, Any]], key: str) -> int:
    """The sum over all targets."""
    return sum(one[key] for one in counts.values())


def add(counts: dict[str, dict[str, Any]], name: str, path: Path, failed: bool) -> None:
    """Add what a process has counted."""
    new = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    one = counts.setdefault(name, {"cases": 0, "finds": 0, "most_seconds": 0.0, "most_bytes": 0})
    one["cases"] += new.get("cases", 0)
    one["finds"] += new.get("finds", 0) + failed
    for key in ("most_seconds", "most_bytes"):
        one[key] = max(one[key], new.get(key, 0))


def main() -> None:
    """Go on until there were so many cases, or the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=1_000_000, help="of all, with those of earlier calls")
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    parser.add_argument("--run", type=Path, help="a finished run; by default a small one is trained")
    parser.add_argument("--only", help="names of targets, with commas between them")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--target", help=argparse.SUPPRESS)  # of a process that fuzzes one
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.target:
        fuzz = fuzz_server if arguments.target == SERVER else fuzz_target
        extra = {} if arguments.target == SERVER else {"name": arguments.target}
        fuzz(**extra, cases=arguments.cases, seed=arguments.seed, run=arguments.run, folder=arguments.output)
        return
    if arguments.output:
        prepare(parser, arguments.output)
    kept = arguments.output / "fuzz.json" if arguments.output else None
    counts: dict[str, dict[str, Any]] = {}
    if kept and kept.exists():
        counts = json.loads(kept.read_text(encoding="utf-8"))["targets"]
    ends = time.monotonic() + 60 * arguments.minutes
    amounts = {**CASES, SERVER: SERVER_CASES}
    chosen = arguments.only.split(",") if arguments.only else list(amounts)
    with tempfile.TemporaryDirectory(prefix="convladder-fuzz-") as work:
        run = arguments.run or trained(work)
        while total(counts, "cases") < arguments.cases and time.monotonic() < ends:
            name = min(chosen, key=lambda name: counts.get(name, {"cases": 0})["cases"] / amounts[name])
            with tempfile.TemporaryDirectory(dir=work) as folder:
                done = subprocess.run(
                    [
                        *(sys.executable, __file__, "--target", name, "--cases", str(amounts[name])),
                        *("--seed", str(total(counts, "cases") + 1), "--run", run.absolute(), "--output", folder),
                    ],
                    capture_output=True,
                    encoding="utf-8",
                    errors="replace",
                    check=False,
                )
                if done.returncode:
                    print(done.stderr[-3000:], file=sys.stderr)
                add(counts, name, Path(folder) / "count.json", done.returncode != 0)
            print(f"{total(counts, 'cases'):,} of {arguments.cases:,}: {name}", file=sys.stderr)
            if kept:
                machine = {"processor": processor(), "cores": count_processors()}
                content = {"machine": machine, "cases": total(counts, "cases"), "targets": counts}
                kept.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(table(counts))
    if kept and PAGE.parent in kept.resolve().parents:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{table(counts)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.exit(1 if total(counts, "finds") else 0)


if __name__ == "__main__":
    main()
