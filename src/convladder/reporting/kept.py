"""What a report needs seconds to compute, kept in the run folder, so that the next report is quick."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from convladder.data.audit import Audit, Finding, audit
from convladder.data.csv_tables import is_table, list_csv
from convladder.data.dataset import Dataset
from convladder.data.features import FEATURES_VERSION, pool_features
from convladder.data.folders import list_folder
from convladder.data.loading import at_size, locate
from convladder.errors import ConvladderError
from convladder.files import write_json
from convladder.models.backbone import SIDE
from convladder.reporting.pictures import PICTURE_SIDE
from convladder.runs.run import Run
from convladder.training.learning_curve import ClassErrors, Doubling, LearningCurve, Point, measure_learning_curve

MOST_FILES = 5000  # of a data set: to look at more would take too long; `convladder audit` does it
FILE = "report.json"
VERSION = 1  # of how everything in it is computed

Say = Callable[[str], None]


def keep(run: Run, name: str, depends_on: object, compute: Callable[[], Any]) -> Any:
    """A JSON value from a run's report.json; it is computed and stored if it is missing or depends on other things.

    If the folder cannot be written, the next report computes it again.
    """
    basis = [VERSION, depends_on]
    stored: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        read = json.loads((run.path / FILE).read_text(encoding="utf-8"))
        stored = read if isinstance(read, dict) else {}
    entry = stored.get(name)
    if isinstance(entry, dict) and entry.get("basis") == basis and "value" in entry:
        return entry["value"]
    value = compute()
    with contextlib.suppress(ConvladderError):
        write_json(run.path / FILE, stored | {name: {"basis": basis, "value": value}})
    return value


def keep_maps(run: Run, numbers: list[int], draw: Callable[[], dict[str, str]], say: Say) -> dict[str, str]:
    """The occlusion maps of a run's worst errors, as `pictures.draw_maps` returns them."""

    def compute() -> dict[str, str]:
        if numbers:
            say(f"{run.path}: drawing what its worst errors depend on, once.")
        return draw()

    maps: dict[str, str] = keep(run, "maps", [run.info["fingerprint"], PICTURE_SIDE, numbers], compute)
    return maps


def keep_audit(run: Run, dataset: Dataset) -> Audit:
    """The audit of a data set's files."""
    source, columns = (dataset.source or {})["source"], (dataset.source or {}).get("columns")
    stored = keep(run, "audit", _state_of_files(source, columns), lambda: audit(source, columns).as_dict())
    findings = [Finding(one["check"], one["groups"]) for one in stored["findings"]]
    sizes = {"median_size": tuple(stored["median_size"]), "notes": tuple(stored["notes"])}
    return Audit(**stored | sizes | {"findings": findings})


def keep_learning_curve(run: Run, dataset: Dataset, say: Say) -> LearningCurve | None:
    """The gain from more pictures, from the cached features of `transfer`; None, and why, if it cannot be measured."""

    def measure() -> dict[str, Any] | str:
        say("Measuring the learning curve, once.")
        try:
            looked_at = at_size(dataset, SIDE)
            return measure_learning_curve(looked_at, *pool_features(looked_at)).as_dict()
        except ConvladderError as error:
            return str(error)

    stored = keep(run, "learning_curve", [dataset.content, FEATURES_VERSION], measure)
    if isinstance(stored, str):
        say(f"No learning curve: {stored}")
        return None
    return _curve_from(stored)


def _curve_from(stored: Mapping[str, Any]) -> LearningCurve:
    rest = {key: stored[key] for key in ("pictures", "pictures_a_class", "tested", "reason", "commonest")}
    return LearningCurve(
        points=tuple(Point(**one) for one in stored["points"]),
        doubling=None if stored["doubling"] is None else Doubling(**stored["doubling"]),
        classes=tuple(ClassErrors(**one) for one in stored["classes"]),
        left_out=tuple(stored["left_out"]),
        **rest,
    )


def _state_of_files(source: str, columns: Mapping[str, str] | None) -> str:
    """A hash over the names, sizes and times of change of all files, and what else the listing says."""
    path = locate(source)
    listing = list_csv(path, columns) if is_table(path) else list_folder(path)
    facts = [listing.labels, listing.splits, sorted(listing.classes), listing.left_out, sorted(listing.ignored.items())]
    digest = hashlib.sha256(repr(facts).encode())
    for file in listing.paths:
        digest.update(os.fsencode(f"\0{file}"))
        with contextlib.suppress(OSError):  # deleted since it was listed
            status = os.stat(file)
            digest.update(f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
    return digest.hexdigest()
