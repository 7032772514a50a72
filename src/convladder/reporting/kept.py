"""What a report needs seconds to compute, kept in the run folder, so that the next report is quick."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from convladder.data.audit import Audit, Finding, audit
from convladder.data.csv_tables import is_table, list_csv
from convladder.data.dataset import Dataset
from convladder.data.features import FEATURES_VERSION, pool_features
from convladder.data.folders import list_folder
from convladder.data.loading import at_size, locate
from convladder.errors import ConvladderError
from convladder.files import read_json, write_json
from convladder.models.backbone import SIDE
from convladder.reporting.pictures import PICTURE_SIDE
from convladder.runs.run import Run
from convladder.training.learning_curve import ClassErrors, Doubling, LearningCurve, Point, measure_learning_curve

MOST_FILES = 5000  # of a data set: to look at more would take too long; `convladder audit` does it
FILE = "report.json"
VERSION = 1  # of how everything in it is computed

Say = Callable[[str], None]
Kept = TypeVar("Kept")


def keep(
    run: Run,
    name: str,
    depends_on: object,
    compute: Callable[[], Any],
    read: Callable[[Any], Kept] = lambda value: value,
) -> Kept:
    """What `read` makes of a JSON value from a run's report.json.

    It is computed and stored if it is missing, depends on other things, or is not what `read` expects. If the folder
    cannot be written, the next report computes it again.
    """
    basis = [VERSION, depends_on]
    stored: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        content = read_json(run.path / FILE)
        stored = content if isinstance(content, dict) else {}
    entry = stored.get(name)
    if isinstance(entry, dict) and entry.get("basis") == basis and "value" in entry:
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):  # somebody has changed it
            return read(entry["value"])
    value = compute()
    with contextlib.suppress(ConvladderError):
        write_json(run.path / FILE, stored | {name: {"basis": basis, "value": value}})
    return read(value)


def keep_maps(run: Run, numbers: list[int], draw: Callable[[], dict[str, str]], say: Say) -> dict[str, str]:
    """The occlusion maps of a run's worst errors, as `pictures.draw_maps` returns them."""

    def compute() -> dict[str, str]:
        if numbers:
            say(f"{run.path}: drawing what its worst errors depend on, once.")
        return draw()

    def read(value: Any) -> dict[str, str]:
        return {str(number): str(value[str(number)]) for number in value}

    return keep(run, "maps", [run.info["fingerprint"], PICTURE_SIDE, numbers], compute, read)


def keep_audit(run: Run, dataset: Dataset) -> Audit:
    """The audit of a data set's files."""
    source, columns = (dataset.source or {})["source"], (dataset.source or {}).get("columns")

    def read(stored: Any) -> Audit:
        findings = [Finding(one["check"], one["groups"]) for one in stored["findings"]]
        sizes = {"median_size": tuple(stored["median_size"]), "notes": tuple(stored["notes"])}
        return Audit(**stored | sizes | {"findings": findings})

    return keep(run, "audit", _state_of_files(source, columns), lambda: audit(source, columns).as_dict(), read)


def keep_learning_curve(run: Run, dataset: Dataset, say: Say) -> LearningCurve | None:
    """The gain from more pictures, from the cached features of `transfer`; None, and why, if it cannot be measured."""

    def measure() -> dict[str, Any] | str:
        say("Measuring the learning curve, once.")
        try:
            looked_at = at_size(dataset, SIDE)
            return measure_learning_curve(looked_at, *pool_features(looked_at)).as_dict()
        except ConvladderError as error:
            return str(error)

    def read(stored: Any) -> LearningCurve | str:
        return stored if isinstance(stored, str) else _curve_from(stored)

    curve = keep(run, "learning_curve", [dataset.content, FEATURES_VERSION], measure, read)
    if isinstance(curve, str):
        say(f"No learning curve: {curve}")
        return None
    return curve


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
