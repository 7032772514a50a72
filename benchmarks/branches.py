"""Branch coverage by package, from the data that `make coverage` has pytest write.

    python benchmarks/branches.py [--data .coverage] [--output docs/benchmarks]

Prints a table with the total at its end, and writes branch_coverage.json. It ends with status 1 below 92 % of branches.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from coverage import Coverage
from output import fill, prepare

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"
GOAL = 0.92  # of branches
COUNTED = ("num_statements", "covered_lines", "num_branches", "covered_branches")

Counts = dict[str, int]


def measure(data: Path) -> dict[str, Counts]:
    """Statements and branches by package, covered and in all; what lies in none is convladder itself."""
    coverage = Coverage(data_file=data, config_file=ROOT / "pyproject.toml")
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        coverage.json_report(outfile=str(Path(folder, "report.json")))
        report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    packages: dict[str, Counts] = defaultdict(lambda: dict.fromkeys(COUNTED, 0))
    for name, file in report["files"].items():
        parts = Path(name).parts
        parts = parts[len(parts) - parts[::-1].index("convladder") : -1]
        for key in COUNTED:
            packages[".".join(["convladder", *parts])][key] += file["summary"][key]
    return dict(sorted(packages.items()))


def sum_up(packages: dict[str, Counts]) -> Counts:
    """All packages together."""
    return {key: sum(counts[key] for counts in packages.values()) for key in COUNTED}


def table(packages: dict[str, Counts]) -> str:
    """The shares as Markdown."""
    lines = ["| package | statements | covered | branches | covered |\n", "| --- | --- | --- | --- | --- |\n"]
    for name, counts in {**packages, "all": sum_up(packages)}.items():
        statements, lines_run, branches, taken = (counts[key] for key in COUNTED)
        shares = f"{lines_run / max(statements, 1):.1%}", f"{taken / branches:.1%}" if branches else "–"
        shown = name, f"{statements:,}", shares[0], f"{branches:,}", shares[1]
        lines.append(f"| {' | '.join(shown)} |\n".replace("%", " %"))
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / ".coverage")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    if not arguments.data.exists():
        parser.error(f"--data {arguments.data} is not there. make coverage writes it.")
    packages = measure(arguments.data)
    print(table(packages), end="")
    content = json.dumps({"packages": packages}, indent=1) + "\n"
    (arguments.output / "branch_coverage.json").write_text(content, encoding="utf-8")
    if arguments.output.resolve() == PAGE.parent / "benchmarks":
        fill(PAGE, "coverage", table(packages))
    total = sum_up(packages)
    sys.exit(total["covered_branches"] < GOAL * total["num_branches"])


if __name__ == "__main__":
    main()
