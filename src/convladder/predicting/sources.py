"""From SOURCEs to inputs: paths and URLs of pictures, and row groups of Parquet files that hold pictures or paths.

An input is a text, or for a row group a dictionary. Both are kept as lines of JSON, so that any number costs no memory.
"""

import glob
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from convladder.data.candidates import READ, is_hidden
from convladder.data.csv_tables import PATHS
from convladder.data.sources import expand
from convladder.errors import ConvladderError
from convladder.predicting.places import without_file_scheme
from convladder.urls import is_url, open_url, reaching

PARQUET, LIST = ".parquet", ".txt"
NAMES_OF_PATHS = PATHS | {"url", "uri", "source"}

ROWS_AT_ONCE = 64  # of a Parquet file, in memory

Input: TypeAlias = str | dict[str, Any]
# The name of a picture in its answer, and what it is: a path, a URL, its bytes; None, or why it cannot be read.
Picture: TypeAlias = tuple[str, str | bytes | ConvladderError | None]


def list_inputs(
    sources: Iterable[str], say: Callable[[str], object], *, column: str | None = None, null: bool = False
) -> Iterator[Input]:
    """The inputs of all sources, in order.

    Args:
        sources: Pictures, folders, patterns, .txt files with a path on each line, - for standard input, Parquet files
            and folders of them; also as URLs.
        say: Takes a line on what is skipped.
        column: The column of a Parquet file that holds the pictures or their paths. By default the only one that can.
        null: Whether paths on standard input end in NUL.

    Yields:
        A path or URL; or a row group: the `parquet` file, its number (`group`), the number of its `first` row in the
        file, its `rows`, the `column`, and whether this holds the `bytes` of pictures.

    Raises:
        ConvladderError: There is nothing in a source, or a Parquet file lacks a usable column.
    """
    for source in map(without_file_scheme, sources):
        for path in _expand(source, say, null):
            if path.lower().endswith(PARQUET):
                yield from _row_groups(path, column)
            else:
                yield path


def _expand(source: str, say: Callable[[str], object], null: bool) -> Iterable[str]:
    if is_url(source):
        return _expand_url(source, say)
    if source.lower().endswith(LIST) and os.path.isfile(source):
        return _read_list(source)
    if os.path.isdir(source):
        return _expand_folder(source, say)
    return filter(None, expand(source, say, null))


def _read_list(source: str) -> Iterator[str]:
    with reaching(source), open(source, "rb") as file:
        yield from _lines(file, source)


def _lines(file: Iterable[bytes], source: str) -> Iterator[str]:
    count = 0
    for line in file:
        if path := line.rstrip(b"\r\n"):
            count += 1
            yield without_file_scheme(os.fsdecode(path))
    if not count:
        raise ConvladderError(f"{source} is empty. Expected a path on each line.")


def _expand_folder(source: str, say: Callable[[str], object]) -> Iterable[str]:
    """The pictures of a folder, or its Parquet files."""
    tables = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(source)
        for name in names
        if name.lower().endswith(PARQUET) and not is_hidden(name)
    )
    if not tables:
        return filter(None, expand(source, say))
    pictures: list[str] = []
    try:
        pictures = [path for path in expand(source, lambda _: None) if path]
    except ConvladderError:
        return tables
    raise ConvladderError(
        f"{source} holds {len(tables):,} Parquet files and {len(pictures):,} pictures. Expected one kind: give a "
        f"pattern such as '{os.path.join(source, '**', '*.parquet')}'."
    )


def _expand_url(url: str, say: Callable[[str], object]) -> Iterable[str]:
    """As `expand`, at a URL. There the name tells what is a picture, because reading would cost a request each."""
    system, path = open_url(url)
    name = path.lower()
    with reaching(url):
        if glob.has_magic(path):
            found = sorted(system.glob(path))
            if not found:
                raise ConvladderError(f"{url} matches no file. Expected a pattern for images, such as '{url}*.jpg'.")
            return map(system.unstrip_protocol, found)
        if name.endswith(LIST):
            with system.open(path, "rb") as file:
                return list(_lines(file, url))
        if name.endswith((*READ, PARQUET)) or not system.isdir(path):
            return [url]
        names = sorted(name for name in system.find(path) if not is_hidden(name.rpartition("/")[2]))
    tables = [name for name in names if name.lower().endswith(PARQUET)]
    pictures = [name for name in names if name.lower().endswith(READ)]
    if tables and pictures:
        raise ConvladderError(
            f"{url} holds {len(tables):,} Parquet files and {len(pictures):,} pictures. Expected one kind: give a "
            f"pattern such as '{url.rstrip('/')}/**/*.parquet'."
        )
    chosen = tables or pictures
    if not chosen:
        raise ConvladderError(f"{url} holds no pictures. Expected {', '.join(READ)} or {PARQUET} in it.")
    if len(chosen) < len(names):
        say(f"{url}: {len(names) - len(chosen):,} files with other extensions, skipped.")
    return map(system.unstrip_protocol, chosen)


def _row_groups(path: str, column: str | None) -> Iterator[Input]:
    with open_parquet(path) as file:
        name, holds_bytes = _choose_column(file.schema_arrow, path, column)
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if rows:
                where = {"parquet": path, "group": group, "first": first, "rows": rows}
                yield where | {"column": name, "bytes": holds_bytes}
            first += rows


def list_pictures(inputs: Sequence[Input], start: int, count: int) -> Iterator[Picture]:
    """The pictures of paths, or so many rows of a row group from a certain one on, read as they are taken.

    Raises:
        ConvladderError: The Parquet file cannot be read.
    """
    group = inputs[0]
    if not isinstance(group, dict):
        yield from ((path, path) for path in inputs if isinstance(path, str))
        return
    path = group["parquet"]
    beside = path.rpartition("/")[0]
    with reaching(path):
        for row, value in itertools.islice(enumerate(_values(path, group)), start, start + count):
            name = f"{path}#{group['first'] + row}"
            if group["bytes"] or value is None:
                yield name, value
            else:
                whole = value if is_url(value) or os.path.isabs(value) or not beside else f"{beside}/{value}"
                yield whole, whole


def _values(path: str, group: dict[str, Any]) -> Iterator[Any]:
    from pyarrow import types

    with open_parquet(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group["group"]], columns=[group["column"]]):
            values = batch.column(0)
            yield from (value.as_py() for value in (values.field("bytes") if types.is_struct(values.type) else values))


def open_parquet(path: str) -> Any:
    """A Parquet file at a path or URL, open to read a part of it.

    Raises:
        ConvladderError: It cannot be read, or is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        if is_url(path):
            system, inner = open_url(path)
            return parquet.ParquetFile(system.open(inner, "rb"), buffer_size=1 << 20)
        return parquet.ParquetFile(path, buffer_size=1 << 20)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ConvladderError(f"Could not read {path} ({reason:.200}). Expected a Parquet file.") from error


def _choose_column(schema: Any, path: str, wanted: str | None) -> tuple[str, bool]:
    """The column with pictures or paths, and whether it holds the pictures' bytes."""
    holds_bytes = {name for field in schema for name in [_name_of_bytes(field)] if name}
    texts = {field.name for field in schema if _is_text(field.type)}
    usable = {name.removesuffix(".bytes"): name for name in sorted(holds_bytes)} | {name: name for name in texts}
    if wanted is not None:
        if wanted in usable or wanted in usable.values():
            name = usable.get(wanted, wanted)
            return name, name in holds_bytes
        told = ", ".join(sorted(usable)) or "none that can"
        raise ConvladderError(f"{path} has no column {wanted!r} of bytes or texts. Expected one of: {told}.")
    named_paths = {name for name in texts if re.sub("[ _]", "", name.lower()) in NAMES_OF_PATHS}
    for candidates in (holds_bytes, named_paths, texts):
        if len(candidates) == 1:
            (name,) = candidates
            return name, candidates is holds_bytes
        if candidates:
            told = ", ".join(sorted(name.removesuffix(".bytes") for name in candidates))
            raise ConvladderError(f"{path} has several columns that may hold pictures: {told}. Name one by --column.")
    told = ", ".join(f"{field.name} ({field.type})" for field in schema) or "no columns"
    raise ConvladderError(
        f"{path} has no column of pictures: {told:.200}. Expected one of bytes (binary) or of paths (string)."
    )


def _name_of_bytes(field: Any) -> str:
    """The name of a column of bytes, also within {bytes, path} as the data sets of Hugging Face have it; else empty."""
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    if is_bytes(field.type):
        return str(field.name)
    if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
        return f"{field.name}.bytes" if is_bytes(field.type.field("bytes").type) else ""
    return ""


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))
