"""All figures of docs/benchmarks.md on the code that is checked out, one after the other: hours.

    python benchmarks/figures.py [NAME...] [--list] [--cifar10 FOLDER]          # `make figures` makes all

It says first how long each takes. Each writes its files in docs/benchmarks/, and what it was made with (commit, date,
processor, command, seconds) goes to figures.json; then the page's tables are written anew from all files. What was made
of the code as it is now is left, so that the same command goes on after an end. Nothing else may run on the machine.
FOLDER is CIFAR-10's, as pictures; without it, what needs it is left out.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tables import RESULTS, ROOT, write_page

from convladder.training.hardware import processor_name

MADE = RESULTS / "figures.json"
WORK = Path("benchmark")  # in ROOT, where all commands run; git ignores it, and no file may name this machine's folders
CODE = ("src", "benchmarks", "pyproject.toml")  # what figures depend on
NOT_CODE = ":!src/convladder/serving/web/learn/*.json"  # which are made of figures


@dataclass(frozen=True)
class Figure:
    """Some figures that are measured together.

    Attributes:
        command: As a shell takes it; {cifar10} and {runs} stand for folders.
        file: What it writes in docs/benchmarks, the first of several.
        minutes: About how long, on two cores without bfloat16.
        prints: Whether the file is what the command prints.
        script: The files in benchmarks/ whose code matters; all of src does.
    """

    command: str
    file: str
    minutes: int
    prints: bool = False
    script: str = ""


def _accuracy(target: str, minutes: int) -> Figure:
    return Figure(f"python benchmarks/accuracy.py {target}", f"accuracy-{target}.json", minutes, script="accuracy.py")


def _own(script: str, file: str, minutes: int, more: str = "") -> Figure:
    command = " ".join(["python", f"benchmarks/{script}", *more.split(), "--output docs/benchmarks"])
    return Figure(command, file, minutes, script=script)


FIGURES: Mapping[str, Figure] = {
    "parity": _own("parity.py", "parity.json", 5),
    "time": _own("time_to_accuracy.py", "time_to_accuracy.json", 75, "--seeds 5"),
    "accuracy-article": _accuracy("article", 2),
    "accuracy-990": _accuracy("990", 2),
    "accuracy-995": _accuracy("995", 3),
    "accuracy-997": _accuracy("997", 12),
    "accuracy-tiny": _accuracy("tiny", 8),
    "accuracy-ensemble": _accuracy("ensemble", 60),
    "ladder": Figure("convladder compare --seeds 5 --json --runs {runs}", "comparison.json", 50, prints=True),
    "reproduce": Figure("convladder reproduce --seeds 3 --json --runs {runs}", "reproduce.json", 90, prints=True),
    "cifar10": Figure(
        "convladder train --data {cifar10} --model strong --json --runs {runs}", "cifar10.json", 35, prints=True
    ),
    "input": _own("input_pipeline.py", "input_pipeline.json", 5, "{cifar10}/train --photos 200"),
    "predicting": _own(
        "predicting.py", "predicting.json", 20, "{runs}/fast-1 {runs}/pool-1 {runs}/residual-1 --rounds 3"
    ),
    "serving": _own("serving.py", "serving.json", 3, "--rounds 4 --seconds 2"),
    "load": _own("load.py", "load.json", 8),
    "scaling": _own("scaling.py", "scaling.json", 15),
}


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True
    ).stdout.strip()


def made() -> dict[str, dict[str, Any]]:
    """What each figure was made with, by its name."""
    content: dict[str, dict[str, Any]] = json.loads(MADE.read_text(encoding="utf-8"))
    return content


def is_new(name: str) -> bool:
    """Whether a figure was made of the code as it is now."""
    entry, script = made().get(name), FIGURES[name].script
    depends_on = ["src", NOT_CODE, *([f"benchmarks/{script}"] if script else [])]
    return entry is not None and not git("diff", "--name-only", entry["commit"], "--", *depends_on)


def make(name: str, places: Mapping[str, str]) -> None:
    """Measure a figure, and note what it was made with."""
    figure = FIGURES[name]
    command = figure.command.format(**places)
    words = shlex.split(command)
    words = [sys.executable, *(["-m", words[0]] if words[0] == "convladder" else []), *words[1:]]
    commit, began = git("rev-parse", "--short", "HEAD"), time.monotonic()
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE if figure.prints else None,
        encoding="utf-8",
        check=True,
    )
    if figure.prints:
        (RESULTS / figure.file).write_text(done.stdout, encoding="utf-8")
    entry = {
        "command": figure.command,
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor_name(),
        "seconds": round(time.monotonic() - began),
    }
    content = made() | {name: entry}
    MADE.write_text(json.dumps({key: content[key] for key in FIGURES if key in content}, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; by default all")
    parser.add_argument("--list", action="store_true", help="say what was made of which commit, and measure nothing")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10, as pictures")
    given = parser.parse_args()
    if unknown := set(given.names) - set(FIGURES):
        parser.error(f"there is no figure {min(unknown)}. Expected: {', '.join(FIGURES)}.")
    chosen = given.names or [name for name in FIGURES if not is_new(name)]
    if given.cifar10 is None:
        left_out = [name for name in chosen if "{cifar10}" in FIGURES[name].command]
        chosen = [name for name in chosen if name not in left_out]
        if left_out:
            print(f"Left out without --cifar10: {', '.join(left_out)}.", flush=True)
    elif not (given.cifar10 / "train").is_dir():
        parser.error(f"{given.cifar10} has no folder train. Expected CIFAR-10 as folders of pictures.")
    if given.list:
        for name, figure in FIGURES.items():
            state = "made of this code" if is_new(name) else f"of {made().get(name, {}).get('commit', 'no')} commit"
            print(f"{name:18} {figure.minutes:4} minutes   {state}   {figure.command}")
        return
    if changed := git("status", "--porcelain", "--", *CODE):
        parser.error(f"there are changes that no commit has ({changed.split()[-1]}). Expected none: commit them.")
    print(f"{', '.join(chosen)}: about {sum(FIGURES[name].minutes for name in chosen)} minutes.", flush=True)
    (ROOT / WORK).mkdir(exist_ok=True)
    places = {"cifar10": str(given.cifar10), "runs": str(WORK / "runs")}
    for name in chosen:
        print(f"{name}: about {FIGURES[name].minutes} minutes", flush=True)
        make(name, places)
        write_page()


if __name__ == "__main__":
    main()
