"""Machines: with which versions and on which processors runs were made and measured, and in what they differ."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from convladder.comparing.settings import name_all
from convladder.runs.run import Run

Machine = Mapping[str, Any]
# By what differs, as "numpy" or "processor": each value, with the folders of its runs.
Unlike = dict[str, dict[str, list[str]]]

UNKNOWN = "not recorded"
FOLDERS_SHOWN = 3  # per value, in a sentence


def trained_on(run: Run) -> list[Machine]:
    """What a run was trained with and on; several if it was resumed elsewhere."""
    infos = [run.info, *run.info.get("continued_on", [])]
    return [{**info.get("versions", {}), **info.get("hardware", {})} for info in infos]


def measured_on(run: Run) -> list[Machine]:
    """What the latency of a run was measured with and on; empty if it was not measured."""
    return [run.metrics["costs"].get("machine", {})] if "costs" in run.metrics else []


def unlike(runs: Sequence[Run], machines_of: Callable[[Run], Iterable[Machine]]) -> Unlike:
    """What is not the same for all runs. A value that one of them lacks is `UNKNOWN`."""
    several = len({run.path.parent for run in runs}) > 1
    folders = ["/".join(run.path.parts[-2:]) if several else run.path.name for run in runs]
    machines = [(folder, machine) for folder, run in zip(folders, runs, strict=True) for machine in machines_of(run)]
    found: Unlike = {}
    for name in dict.fromkeys(name for _, machine in machines for name in machine):
        for folder, machine in machines:
            found.setdefault(name, {}).setdefault(str(machine.get(name, UNKNOWN)), []).append(folder)
    return {name: values for name, values in found.items() if len(values) > 1}


def describe_unlike(differing: Unlike) -> str:
    """Differences in words: numpy 2.3.5 (`dense-1`) and 2.4.6 (`dense-2`, `fast-1`)."""
    return "; ".join(
        f"{name} {name_all(f'{value} ({_shorten(folders)})' for value, folders in values.items())}"
        for name, values in differing.items()
    )


def _shorten(folders: Sequence[str]) -> str:
    more = len(folders) - FOLDERS_SHOWN
    return ", ".join(f"`{folder}`" for folder in folders[:FOLDERS_SHOWN]) + (f" and {more} more" if more > 0 else "")
