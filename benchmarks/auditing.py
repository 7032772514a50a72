"""What `audit --labels` finds of what was planted: precision and recall.

    python benchmarks/auditing.py [--data clothes] [--output docs/benchmarks]

Into copies of a set of photographs it plants, one kind at a time: labels exchanged for another (5 %), crops to 70 % of
both sides from anywhere (5 %), the same picture with brightness and contrast times 0.6 or 1.5 (5 %), MNIST's digits and
noise (3 % each, spread over the classes), and pictures of the last class, which is taken out for it, spread over the
others (3 %). A finding that was not planted counts as false, though it may be right: in a set that was not chosen by
eye, some labels are wrong. Prints a table, and writes auditing-NAME.json.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from output import prepare
from PIL import Image, ImageEnhance, ImageOps

import convladder as cl
from convladder.data.audit import Finding
from convladder.data.dataset import Split
from convladder.data.features import Features, pool_features
from convladder.models.backbone import SIDE
from convladder.training.visual_audit import find_altered_copies, find_outliers, judge_labels

SHARE, SHARE_OF_OTHERS = 0.05, 0.03
CROP = 0.7  # of both sides
OTHERS = ("digits", "noise")  # classes of the prepared folder that are none of the set's


class Bench:
    """A set, what may be planted into it, and the features of all of them, computed once."""

    def __init__(self, source: str, folder: Path) -> None:
        self.random = np.random.default_rng(0)
        original = cl.load_dataset(source, photograph_size=SIDE)
        assert original.account
        self.names = original.class_names
        known = np.concatenate([s.labels for s in (original.train, original.validation, original.test)])
        share = range(round(SHARE * len(known)))
        chosen = set(self.random.permutation(len(known))[: len(share)].tolist())
        for row, (path, label) in enumerate(zip(original.account.paths, known, strict=True)):
            target = folder / self.names[label]
            target.mkdir(exist_ok=True)
            shutil.copy(path, target / f"{row:05}{Path(path).suffix}")
            if row in chosen:
                self._alter(Path(path), target, row)
        digits = cl.load_dataset("mnist").train.images[..., 0]
        for number in range(max(1, round(SHARE_OF_OTHERS * len(known)))):
            noise = self.random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            for name, image in zip(OTHERS, (digits[number], noise), strict=True):
                (folder / f"~{name}").mkdir(exist_ok=True)
                Image.fromarray(image).resize((SIDE, SIDE)).save(folder / f"~{name}" / f"{name}-{number}.png")
        self.data = cl.load_dataset(folder, image_size=SIDE, channels=3)
        assert self.data.account
        self.paths = np.array(self.data.account.paths)
        self.features, self.labels = pool_features(self.data)
        self.kinds = np.array([kind_of(path) for path in self.paths])

    def _alter(self, path: Path, target: Path, row: int) -> None:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
        width, height = round(CROP * upright.width), round(CROP * upright.height)
        left, top = (int(self.random.integers(0, n + 1)) for n in (upright.width - width, upright.height - height))
        upright.crop((left, top, left + width, top + height)).save(target / f"crop-{row:05}.jpg", quality=90)
        brighter, stronger = self.random.choice([0.6, 1.5], 2)
        light = ImageEnhance.Contrast(ImageEnhance.Brightness(upright).enhance(brighter)).enhance(stronger)
        light.save(target / f"light-{row:05}.jpg", quality=90)

    def take(self, rows: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> tuple[cl.Dataset, Features, Any]:
        """A data set of these rows, with these labels."""
        assert self.data.account
        none = Split(self.data.test.images[:0], self.data.test.labels[:0])
        paths = tuple(self.paths[rows].tolist())
        part = Split(np.empty((len(rows), 1, 1, 3), np.uint8), labels)
        classes = self.names[: 1 + int(labels.max())]
        account = replace(self.data.account, paths=paths)
        data = replace(self.data, class_names=classes, train=part, validation=none, test=none, account=account)
        return data, self.features[:, rows], labels

    def measure(self) -> list[dict[str, Any]]:
        """A row for each kind that is planted, and one for each check where nothing is."""
        own = np.flatnonzero(self.kinds == "own")
        count, names = len(own), len(self.names)
        labels = self.labels[own]
        result = [
            row("nothing", judge_labels(*self.take(own, labels)), []),
            row("nothing", find_altered(*self.take(own, labels)), []),
            row("nothing", find_outliers(*self.take(own, labels), set()), []),
        ]
        wrong = self.random.permutation(count)[: round(SHARE * count)]
        exchanged = labels.copy()
        exchanged[wrong] = (labels[wrong] + self.random.integers(1, names, len(wrong))) % names
        result.append(row("exchanged labels", judge_labels(*self.take(own, exchanged)), self.paths[own][wrong]))
        for kind, what in (("crop", "crops to 70 %"), ("light", "other light")):
            planted = np.flatnonzero(self.kinds == kind)
            rows = np.concatenate([own, planted])
            result.append(row(what, find_altered(*self.take(rows, self.labels[rows])), self.paths[planted]))
        last = np.flatnonzero((self.kinds == "own") & (self.labels == names - 1))
        foreign = {what: np.flatnonzero(self.kinds == what) for what in OTHERS}
        foreign["the last class"] = last[: max(1, round(SHARE_OF_OTHERS * count))]
        for what, planted in foreign.items():
            kept = own if what in OTHERS else np.setdiff1d(own, last)
            spread = np.arange(len(planted)) % (1 + int(self.labels[kept].max()))
            known = np.concatenate([self.labels[kept], spread])
            part = self.take(np.concatenate([kept, planted]), known)
            result.append(row(what, find_outliers(*part, set()), self.paths[planted]))
        return result


def kind_of(path: str) -> str:
    """How a prepared file came to be: "own", "crop", "light", "digits" or "noise"."""
    beginning = Path(path).name.partition("-")[0]
    return beginning if beginning in ("crop", "light", *OTHERS) else "own"


def find_altered(data: cl.Dataset, features: Features, labels: npt.NDArray[np.int64]) -> Finding:
    """Altered copies of one class; those that are planted are."""
    return find_altered_copies(data, features, labels, {})[0]


def row(planted: str, finding: Finding, paths: Iterable[str]) -> dict[str, Any]:
    """How many of what was planted are in a finding, and what else is."""
    expected = set(map(str, paths))
    hits = {path for group in finding.groups for path in group} & expected
    false = sum(not expected & set(group) for group in finding.groups)
    return {
        "check": finding.check,
        "planted": planted,
        "pictures": len(expected),
        "found": len(hits),
        "false_alarms": false,
        "recall": len(hits) / len(expected) if expected else None,
        "precision": len(hits) / (len(hits) + false) if hits else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="clothes", help="a folder of photographs")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.data, Path(folder))
        began = time.perf_counter()
        rows = bench.measure()
    pictures, seconds = int((bench.kinds == "own").sum()), time.perf_counter() - began
    print("| check | planted | found | false alarms | recall | precision |\n| --- | --- | --- | --- | --- | --- |")
    for one in rows:
        shares = (("" if one[key] is None else f"{one[key]:.2f}") for key in ("recall", "precision"))
        found = f"{one['found']} of {one['pictures']}" if one["pictures"] else ""
        print(f"| {one['check']} | {one['planted']} | {found} | {one['false_alarms']} | {' | '.join(shares)} |")
    content = {"pictures": pictures, "seconds_with_features_kept": round(seconds, 1), "rows": rows}
    name = f"auditing-{Path(arguments.data).name}.json"
    (arguments.output / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
