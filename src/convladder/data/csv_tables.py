"""Tables of pictures: CSV or TSV files with one row per picture: its file, its class and optionally its split.

Columns are found by their header, or the user names them. The column of paths is also found by the files that exist.
The column of labels is never guessed.
"""

import csv
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from convladder.data.candidates import NOT_READ, READ
from convladder.data.checks import too_many_classes
from convladder.data.folders import Listing
from convladder.data.splits import recognize_split, resolve_evaluation, tokenize, word_set
from convladder.errors import ConvladderError
from convladder.files import regular
from convladder.markup import printable

TABLE_ENDINGS = (".csv", ".tsv")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
COLUMNS = ("path", "label", "split")
NONE = "none"  # instead of a split column
LOOKED_AT = 20  # rows whose cells are checked for existing files, to find the column of paths
SPLIT_ON = 1000  # rows that tell the separator
MOST_COLUMNS = 4096  # a table of pixels has thousands, and no path
MOST_SHOWN = 78  # characters of a cell

# Known headers, in lower case and without spaces and underscores.
PATHS = word_set(
    "path paths file files filename filenames filepath filepaths image images picture photo img imagename imagefile "
    "imagefilename imagepath imageid imageindex imgname imgfile imgpath imgid fname photopath photofile picturepath "
    "relativepath relpath id idcode name"
)
LABELS = word_set(
    "label labels labelname labelid class classes classname classid classlabel category categories categoryname "
    "categoryid target targets targetname y"
)
PARTITIONS = word_set(
    "split splits set subset partition fold dataset datasplit usage phase stage traintest trainorvalid train test "
    "istrain istraining istest isval isvalid isvalidation istrainingimage"
)
MOST_SEVERAL = 0.1  # share of the files that may have several labels before the table is refused


class _Table(NamedTuple):
    """Rows, the header (empty if there is none), and the indices of the columns."""

    rows: list[list[str]]
    header: list[str]
    path: int
    label: int
    split: int | None

    def name(self, column: int) -> str:
        return self.header[column] if column < len(self.header) else f"column {column + 1}"


def is_table(path: Path) -> bool:
    """Whether a path leads to a table of pictures."""
    return path.suffix.lower() in TABLE_ENDINGS and not path.is_dir()


def list_csv(path: Path, columns: Mapping[str, str] | None = None) -> Listing:
    """List the pictures of a table, with or without a header. Paths in it are relative to its folder.

    Args:
        path: A file whose columns are separated by commas, semicolons, tabs or bars.
        columns: For "path", "label" and "split", the header or the number (1, 2, …) of the column.

    Raises:
        ConvladderError: It cannot be read, the columns are unclear, or no row has a path and a label.
    """
    rows, empty = _read_rows(path)
    table = _find_columns(path, rows, columns or {})
    splits = _read_splits(path, table)
    listing = Listing()
    if empty:
        listing.ignored["empty row"] = empty
    labels: dict[str, list[str]] = {}
    for row in table.rows:
        name, label = _cell(row, table.path), _cell(row, table.label)
        split = "" if table.split is None else splits.get(_cell(row, table.split), "")
        picture = _locate(path, name)
        if not name or not label:
            listing.left_out.append((",".join(row), "a row without path or label"))
        elif table.split is not None and not split:
            listing.left_out.append((",".join(row), "a row without split"))
        elif not os.path.isfile(picture):
            listing.left_out.append((picture, "no such file"))
        elif label in labels.setdefault(picture, []):
            listing.ignored["row that repeats another"] += 1
        else:
            labels[picture].append(label)
            listing.add(picture, printable(label), split)
    _check(path, table, listing, labels)
    if table.split is not None:
        used = ", ".join(f"{value} is {split}" for value, split in splits.items() if value != split)
        listing.notes.append(f"Splits are those of {table.name(table.split)}{f': {used}' if used else ''}.")
    return listing


def _read_rows(path: Path) -> tuple[list[list[str]], int]:
    """All rows that are not empty, and the number of those that are.

    They are split at the separator that gives several columns, existing files, and equally long rows.
    """
    try:
        beginnings = {one: list(itertools.islice(filter(_is_filled, _rows(path, one)), SPLIT_ON)) for one in SEPARATORS}

        def suits(separator: str) -> tuple[bool, bool, bool]:
            rows = beginnings[separator]
            files = any(os.path.isfile(_locate(path, cell)) for row in rows[:LOOKED_AT] for cell in row if cell.strip())
            several = bool(rows) and len(rows[0]) > 1
            return several, several and files, len({len(row) for row in rows}) == 1

        best = max(SEPARATORS, key=suits)
        if beginnings[best] and not suits(best)[0]:
            raise ConvladderError(
                f"{path} has one column, {printable(beginnings[best][0][0][:MOST_SHOWN])!r}. Expected at least two, "
                f"path and label, separated by {', '.join(SEPARATORS.values())}."
            )
        filled: list[list[str]] = []
        empty = 0
        for row in _rows(path, best):
            if _is_filled(row):
                filled.append(row)
            else:
                empty += 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConvladderError(
            f"Could not read {path} ({reason}). Expected a CSV file with path and label, encoded as UTF-8."
        ) from error
    return filled, empty


def _is_filled(row: Sequence[str]) -> bool:
    return any(cell.strip() for cell in row)


def _rows(path: Path, separator: str) -> Iterator[list[str]]:
    """The rows of a file, one after the other, so that only those that are kept take memory."""
    with open(path, encoding="utf-8-sig", newline="", opener=regular) as file:
        for row in csv.reader(file, delimiter=separator):
            if len(row) > MOST_COLUMNS:
                raise ConvladderError(
                    f"{path} has a row of {len(row):,} columns. Expected at most {MOST_COLUMNS:,}: a row a picture, "
                    "with its path and its label."
                )
            yield row


def _find_columns(path: Path, rows: list[list[str]], named: Mapping[str, str]) -> _Table:
    """Find the columns by the user's names, by the header, and for paths by the files that exist."""
    first = [cell.strip() for cell in rows[0]] if rows else []
    is_header = not any(cell.lower().endswith(READ + NOT_READ) or os.path.isfile(_locate(path, cell)) for cell in first)
    header = first if is_header else []
    rows = rows[1:] if header else rows
    count = max((len(row) for row in [first, *rows[:LOOKED_AT]]), default=0)
    header += [f"column {number + 1}" for number in range(len(header), count) if header]
    given = {key: _find_named(path, key, name, header, count) for key, name in named.items() if name != NONE}
    known = ["".join(tokenize(name)) for name in header]

    def among(names: frozenset[str], *taken: int | None) -> list[int]:
        return [column for column, name in enumerate(known) if name in names and column not in taken]

    paths = given.get("path")
    if paths is None:
        candidates = [*among(PATHS), *range(count)]
        there = (
            column
            for column in candidates
            if any(os.path.isfile(_locate(path, _cell(row, column))) for row in rows[:LOOKED_AT])
        )
        paths = next(there, candidates[0] if candidates else 0)
    split = given.get("split")
    if split is None and named.get("split") != NONE:
        split = _find_split(
            path, rows, header, among(PARTITIONS, paths, given.get("label")), (paths, given.get("label"))
        )
    label = given.get("label")
    if label is None:
        candidates = among(LABELS, paths, split)
        if not header and count == 2:
            candidates = [1 - paths]
        label = _choose(rows, candidates)
        if label is None and rows:
            _ask(path, "label", header or first, [header[column] for column in candidates] if header else [])
    return _Table(rows, header, paths, 1 if label is None else label, split)


def _find_named(path: Path, key: str, name: str, header: Sequence[str], count: int) -> int:
    lower = [cell.lower() for cell in header]
    if lower.count(name.strip().lower()) == 1:
        return lower.index(name.strip().lower())
    if name.strip().isascii() and name.strip().isdecimal() and 1 <= int(name) <= count:
        return int(name) - 1
    _ask(path, key, header or [str(number) for number in range(1, count + 1)], (), f"{name!r} is not one of them. ")


def _find_split(
    path: Path, rows: Sequence[Sequence[str]], header: Sequence[str], known: list[int], taken: Sequence[int | None]
) -> int | None:
    """The column whose header names a split, or whose values are all names of splits."""
    by_values = [
        column
        for column in range(max(map(len, rows), default=0))
        if column not in taken and _are_splits({_cell(row, column) for row in rows} - {""})
    ]
    candidates = by_values or known
    column = _choose(rows, candidates)
    if column is None and candidates:
        _ask(path, "split", header, [header[column] for column in candidates] if header else [])
    return column


def _are_splits(values: set[str]) -> bool:
    found = {recognized.split for value in values if (recognized := recognize_split(value))}
    return len(values) <= 5 and len(found) > 1 and all(map(recognize_split, values))


def _choose(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> int | None:
    """Choose one of several columns, if all divide the rows alike: names before numbers."""
    if len(columns) < 2:
        return columns[0] if columns else None
    values = [{_cell(row, column) for row in rows} for column in columns]
    together = {tuple(_cell(row, column) for column in columns) for row in rows}
    if any(len(found) != len(together) for found in values):
        return None
    numbers = [all(value.isdecimal() for value in found) for found in values]
    return columns[numbers.index(False)] if False in numbers else columns[0]


def _ask(path: Path, key: str, header: Sequence[str], several: Sequence[str], why: str = "") -> NoReturn:
    why = why or (f"{' and '.join(several)} may be the {key}s. " if several else f"None is known as the {key}. ")
    raise ConvladderError(
        printable(
            f"{path} has the columns {', '.join(header)}. {why}Expected one {key} column: name it with "
            f"--{key}-column or, in Python, columns={{'{key}': ...}}, by its header or its number (1, 2, …)."
            + (" none ignores them." if key == "split" else "")
        )
    )


def _read_splits(path: Path, table: _Table) -> dict[str, str]:
    """The split that each value of the split column means."""
    if table.split is None:
        return {}
    values = sorted({_cell(row, table.split) for row in table.rows} - {""})
    known = {value: recognized for value in values if (recognized := recognize_split(value))}
    if len(known) < len(values) or len({recognized.rest for recognized in known.values()}) > 1:
        shown = ", ".join(values[:5]) + (", …" if values[5:] else "")
        raise ConvladderError(
            printable(
                f"{table.name(table.split)} of {path} holds {shown}. Expected train, validation and test, or similar "
                f"names: write those, or name another column with --split-column, or {NONE} to ignore it."
            )
        )
    resolved = resolve_evaluation(recognized.split for recognized in known.values())
    return {value: resolved[recognized.split] for value, recognized in known.items()}


def _check(path: Path, table: _Table, listing: Listing, labels: Mapping[str, Sequence[str]]) -> None:
    """Refuse a table that does not give each picture one class."""
    column, files = table.name(table.label), sum(map(bool, labels.values()))
    if not files:
        missing = next((name for name, reason in listing.left_out if reason == "no such file"), "")
        raise ConvladderError(
            f"{path} names no file that exists ({len(table.rows):,} rows{f', first {missing}' * bool(missing)}). "
            f"Expected rows of path,label, with paths relative to {path.parent}."
        )
    several = sum(len(found) > 1 for found in labels.values())
    if several > MOST_SEVERAL * files:
        raise ConvladderError(
            f"{several:,} of the {files:,} files of {path} have several labels in {column}. Expected one class per "
            "picture: cut out the objects, or name another column with --label-column."
        )
    if too_many_classes(len(listing.classes), files):
        raise ConvladderError(
            f"{column} of {path} has {len(listing.classes):,} values for {files:,} pictures. Expected classes with "
            "several pictures each: name another column with --label-column."
        )
    trained = {label for label, split in zip(listing.labels, listing.splits, strict=True) if split in ("", "train")}
    untrained = sorted(set(listing.labels) - trained)
    if untrained:
        raise ConvladderError(
            f"{path} has no training row for {', '.join(untrained[:3])}. Expected training rows for every class: "
            "correct the labels or the splits."
        )


def _locate(table: Path, name: str) -> str:
    """The file that a cell names. Backslashes separate folders, as on Windows, unless a file has them in its name."""
    path = os.path.join(table.parent, name.strip())
    if "\\" in name and not os.path.isfile(path):
        return os.path.join(table.parent, name.strip().replace("\\", "/"))
    return path


def _cell(row: Sequence[str], column: int) -> str:
    return row[column].strip() if column < len(row) else ""
