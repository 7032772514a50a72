"""Mutation testing: code is changed in one place, and a test that runs this place must fail.

    python benchmarks/mutants.py [--mutants 400] [--minutes 60] [--seed 0] [--again] [--output docs/benchmarks]

`make mutants` calls it after `make coverage`, whose data say which tests run which line. The changes are mutmut's, made
to one file at a time in a copy of the project, so that processes that a test starts run them too. The sample is random,
with the same share of every module; the counts in mutation.json add up over calls. --again tries the survivors once
more, after tests were written. TensorFlow is imported once: each mutant is tested in a fork of that process.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from coverage import CoverageData
from mutations import PACKAGES, Mutant, change_everything, in_order, where_used
from output import fill, prepare
from scipy.stats import binomtest
from serving import processor

from convladder.processors import count_processors

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"
MOST_TESTS = 100  # of a mutant: those that run the least other code
SECONDS = 240.0  # after these no further test of a mutant begins
HUNG = 150.0  # seconds of a test; a mutant may loop without end
MEMORY = 8 << 30
PYTEST = ("-x", "-m", "", f"--timeout={HUNG}", "-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "xdist.plugin")
TRAINED = "tests/test_runs_run.py::test_a_run_reads_its_files"
# Imported once, before the forks.
BEFORE = (
    "keras",
    "onnx",
    "onnxruntime",
    "sklearn.metrics",
    "sklearn.model_selection",
    "scipy.stats",
    "matplotlib.pyplot",
)
ALIVE = ("survived", "not run")
CONTEXT = re.compile(r"(.+?)(?:@[^@\]]+)?\|\w+")  # a test, perhaps the group that pytest-xdist gives it, and its phase


class Tests:
    """Which tests run a line, from the data of `make coverage`."""

    def __init__(self, file: Path) -> None:
        data = CoverageData(str(file))
        data.read()
        self._lines: dict[str, dict[int, set[str]]] = {}
        self._executed: dict[str, set[int]] = {}
        self._size: Counter[str] = Counter()
        for path in data.measured_files():
            module = ".".join(Path(path).with_suffix("").parts).rpartition("convladder.")[2]
            contexts = data.contexts_by_lineno(path)
            self._lines[module] = {
                line: {found[1] for name in names if (found := CONTEXT.fullmatch(name))}
                for line, names in contexts.items()
            }
            self._executed[module] = set(data.lines(path) or ())
            self._size.update(name for names in self._lines[module].values() for name in names)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that run the statement, those first that run the least; none where no test does."""
        lines = self._lines.get(mutant.module, {})
        statement = set(range(mutant.first, mutant.line + 1))
        if not statement & self._executed.get(mutant.module, set()):
            return []

        def running(numbers: Iterable[int]) -> set[str]:
            return set().union(*(lines.get(number, set()) for number in numbers))

        # The latter two for what is run by an import, or in a process that a test started.
        found = running(statement) or running(where_used(mutant)) or running(lines)
        return sorted(found, key=lambda name: (self._size[name], name))[:MOST_TESTS]


class Watch:
    """A pytest plugin: runs tests in this order until one fails or the seconds are over, and notes which failed.

    The run that most tests look at is trained once, by the unchanged code, and kept.
    """

    def __init__(self, tests: Sequence[str], kept: Path) -> None:
        self._rank = {name: rank for rank, name in enumerate(tests)}
        self._kept = kept
        self._ends = time.monotonic() + SECONDS
        self.failed: str | None = None
        self.hung = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self._rank.get(item.nodeid, 0))

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> object:
        if fixturedef.argname != "run" or fixturedef.scope != "session" or not self._kept.exists():
            return None
        import convladder

        folder = request.getfixturevalue("tmp_path_factory").mktemp("runs") / "fast-1"
        run = convladder.Run(shutil.copytree(self._kept, folder))
        fixturedef.cached_result = (run, fixturedef.cache_key(request), None)
        return run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if time.monotonic() > self._ends:
            pytest.skip("the seconds are over")

    def pytest_runtest_teardown(self, item: pytest.Function) -> None:
        run: Any = item.funcargs.get("run")
        if run and not self._kept.exists():
            shutil.copytree(run.path, self._kept)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} is collected"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed, self.hung = report.nodeid, "Timeout (>" in report.longreprtext


def tested(tests: Sequence[str], folder: Path) -> tuple[str, str | None]:
    """Run tests in a fork: "killed", "timeout" or "survived", and which failed, if it is known."""
    told = folder / "told.json"
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        status = 70
        try:
            os.setsid()  # so that it is ended with all that it starts
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            watch = Watch(tests, folder / "run")
            status = pytest.main([*PYTEST, *tests], plugins=[watch])
            told.write_text(json.dumps([watch.failed, watch.hung]), encoding="utf-8")
        finally:
            os._exit(status)
    ends = time.monotonic() + SECONDS + 2 * HUNG
    ended = status = 0
    while not ended and time.monotonic() < ends:
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
        return "timeout", None
    failed, hung = json.loads(told.read_text(encoding="utf-8")) if told.exists() else (None, False)
    if hung:
        return "timeout", failed
    return "killed" if failed or status else "survived", failed


class Trials:
    """Mutants put into a copy of the project and tested there."""

    def __init__(self, tests: Tests, folder: Path) -> None:
        self._tests, self._folder = tests, folder
        self._fit: set[str | None] = set()  # tests that passed without a mutant
        self._unfit: set[str] = set()
        self._time = int(time.time()) + 10**6
        tested([TRAINED], folder)  # keeps its run

    def outcome(self, mutant: Mutant) -> str:
        """What becomes of it: "killed", "timeout", "survived", or "not run" where no test runs its line."""
        chosen = [name for name in self._tests.of(mutant) if name not in self._unfit]
        if not chosen:
            return "not run"
        path = self._folder / "convladder" / "src" / "convladder" / Path(*mutant.module.split(".")).with_suffix(".py")
        kept = path.with_suffix(".kept")
        shutil.copy2(path, kept)
        try:
            path.write_text(mutant.write(), encoding="utf-8")
            self._time += 1
            os.utime(path, (self._time, self._time))  # two mutants within a second would be taken for one
            what, failed = tested(chosen, self._folder)
        finally:
            os.replace(kept, path)
        if what == "survived" or failed in self._fit:
            return what
        sound, failed_too = tested([failed] if failed in chosen else chosen, self._folder)
        if sound == "survived":
            self._fit.add(failed)
            return what
        if not failed_too:
            raise RuntimeError((self._folder / "log.txt").read_text(encoding="utf-8")[-3000:])
        self._unfit.add(failed_too)  # it fails in any case, so it says nothing about a mutant
        print(f"left out, because it fails without a mutant: {failed_too}", file=sys.stderr)
        return self.outcome(mutant)


def table(content: dict[str, Any]) -> str:
    """The counts by package as Markdown, and the shares with their intervals."""
    rows = [["package", "mutants", "tried", "killed", "timeout", "survived", "not run"]]
    total: Counter[str] = Counter()
    for package in PACKAGES:
        modules = [name for name in content["modules"] if name.partition(".")[0] == package]
        counts = Counter(first for name in modules for first in content["tried"].get(name, {}).values())
        counts["mutants"] = sum(content["modules"][name] for name in modules)
        counts["tried"] = sum(len(content["tried"].get(name, {})) for name in modules)
        total.update(counts)
        rows.append([package, *(f"{counts[key]:,}" for key in rows[0][1:])])
    rows.append(["all", *(f"{total[key]:,}" for key in rows[0][1:])])
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    found = total["killed"] + total["timeout"]
    since = sum(one["now"] in ("killed", "timeout") for one in content["survivors"].values())
    equivalent = sum("equivalent" in one for one in content["survivors"].values())
    tried = total["tried"] - sum(one["now"] == "gone" for one in content["survivors"].values())
    return (
        f"{text}\nKilled at first sight, timeouts among them: {share(found, total['tried'])}. With the tests that were "
        f"written for survivors since: {share(found + since, tried)}; without the {equivalent} equivalent "
        f"mutants: {share(found + since, tried - equivalent)}.\n"
    )


def share(part: int, whole: int) -> str:
    """A share with its 95 % interval."""
    if not whole:
        return "none tried"
    low, high = binomtest(part, whole).proportion_ci(method="wilson")
    return f"{part / whole:.1%} of {whole} (95 % interval {low:.1%} to {high:.1%})".replace("%", " %").replace(
        "  ", " "
    )


def copy_project(folder: Path) -> Path:
    """Make a copy, from which this process and all that it starts import the package; give back the folder."""
    left = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "_build", ".coverage*")
    shutil.copytree(ROOT, folder / "convladder", ignore=left)
    if (ROOT.parent / "shared").exists():  # the data of tests
        (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    sys.path.insert(0, str(folder / "convladder" / "src"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "convladder"]:
        del sys.modules[name]
    os.environ["PYTHONPATH"] = sys.path[0]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(folder / "convladder")
    from convladder.engine import import_engine

    import_engine()
    for name in BEFORE:
        import_module(name)
    return folder


def choose(content: dict[str, Any], arguments: argparse.Namespace) -> list[Mutant]:
    """The mutants to try; survivors whose code is there no more are noted."""
    groups = change_everything()
    content["modules"] = {group[0].module: len(group) for group in groups}
    order = in_order(groups, arguments.seed)
    survivors, tried = content["survivors"], content["tried"]
    for key in survivors.keys() - {mutant.key for mutant in order}:
        survivors[key]["now"] = "gone"
    if arguments.again:
        alive = {key for key, one in survivors.items() if one["now"] in ALIVE and "equivalent" not in one}
        chosen = [mutant for mutant in order if mutant.key in alive]
    else:
        chosen = [mutant for mutant in order[: arguments.mutants] if mutant.key not in tried.get(mutant.module, {})]
    if arguments.only:
        chosen = [mutant for mutant in chosen if mutant.module.partition(".")[0] in arguments.only.split(",")]
    return chosen


def main() -> None:
    """Go on until so many mutants were tried, or the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=400, help="of all, with those of earlier calls")
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of packages, with commas between them")
    parser.add_argument("--again", action="store_true", help="the survivors that are not equivalent")
    parser.add_argument("--data", type=Path, default=ROOT / ".coverage", help="of make coverage")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    if not arguments.data.exists():
        parser.error(f"--data {arguments.data} is not there. make coverage writes it.")
    ends = time.monotonic() + 60 * arguments.minutes
    kept = arguments.output.resolve() / "mutation.json"
    content: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    machine = {"processor": processor(), "cores": count_processors()}
    content = {"machine": machine, "seed": arguments.seed, "tried": {}, "survivors": {}} | content
    if content["seed"] != arguments.seed:
        parser.error(f"--seed {arguments.seed} is not that of {kept}, {content['seed']}. Expected the same to go on.")
    chosen, tests = choose(content, arguments), Tests(arguments.data.resolve())
    with tempfile.TemporaryDirectory(prefix="convladder-mutants-") as work:
        trials = Trials(tests, copy_project(Path(work)))
        for mutant in chosen:
            if time.monotonic() > ends:
                break
            outcome = trials.outcome(mutant)
            first = content["tried"].setdefault(mutant.module, {}).setdefault(mutant.key, outcome)
            if first in ALIVE:
                place = {"module": mutant.module, "line": mutant.line, "was": mutant.was, "changed": mutant.now}
                content["survivors"][mutant.key] = place | {"now": outcome}
            print(f"{mutant.module}:{mutant.line} {mutant.was!r} → {mutant.now!r}: {outcome}", file=sys.stderr)
            kept.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    kept.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(content))
    if kept.parent == PAGE.parent / "benchmarks":
        fill(PAGE, "mutation", table(content))


if __name__ == "__main__":
    main()
