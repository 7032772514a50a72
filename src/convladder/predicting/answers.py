"""The answers of a part as a file: Parquet, or the lines of JSON that `predict --json` prints."""

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from convladder.errors import ConvladderError

if TYPE_CHECKING:
    from convladder.inference.classifier import Prediction

PARQUET, JSON = ".parquet", ".jsonl"
AT_ONCE = 128  # answers that stand in memory as objects of Python


def describe(source: str, answer: "Prediction | ConvladderError") -> dict[str, Any]:
    """An answer as `predict --json` prints it."""
    return {"source": source, "error": str(answer)} if isinstance(answer, ConvladderError) else dict(vars(answer))


def write_answers(answers: Iterable[dict[str, Any]], ending: str) -> tuple[bytes, int]:
    """The bytes of a file with these answers, and how many of them are errors."""
    return _write_lines(answers) if ending == JSON else _write_parquet(answers)


def _write_lines(answers: Iterable[dict[str, Any]]) -> tuple[bytes, int]:
    file, errors = io.BytesIO(), 0
    for answer in answers:
        errors += "error" in answer
        file.write(json.dumps(answer).encode() + b"\n")
    return file.getvalue(), errors


def _write_parquet(answers: Iterable[dict[str, Any]]) -> tuple[bytes, int]:
    import pyarrow
    from pyarrow import parquet

    schema = _schema()
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    batches, errors = [], 0

    def move() -> None:
        arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
        batches.append(pyarrow.RecordBatch.from_arrays(arrays, schema=schema))
        for values in columns.values():
            values.clear()

    for answer in answers:
        errors += "error" in answer
        for name in schema.names:
            value = answer.get(name)
            if name == "top" and value is not None:
                value = [{"label": label, "probability": probability} for label, probability in value]
            columns[name].append(_as_text(value) if isinstance(value, str) else value)
        if len(columns["source"]) == AT_ONCE:
            move()
    move()
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_batches(batches, schema), file)
    return file.getvalue(), errors


def _schema() -> Any:
    import pyarrow as pa

    top = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
    return pa.schema(
        [
            ("source", pa.string()),
            ("label", pa.string()),
            ("probability", pa.float64()),
            ("top", top),
            ("abstained", pa.bool_()),
            ("familiarity", pa.float64()),
            ("unlike_training", pa.bool_()),
            ("error", pa.string()),
        ]
    )


def _as_text(text: str) -> str:
    """The same, with an escape for each byte of a name that is not UTF-8, because Parquet cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


def count_errors(content: bytes, ending: str) -> tuple[int, int]:
    """How many answers a file holds, and how many of them are errors; 0 and 0 if it is damaged."""
    try:
        if ending == JSON:
            answers = [json.loads(line) for line in content.splitlines()]
            return len(answers), sum("error" in answer for answer in answers)
        from pyarrow import parquet

        errors = parquet.read_table(io.BytesIO(content), columns=["error"])["error"]
        return len(errors), len(errors) - errors.null_count
    except Exception:  # pyarrow raises many classes of errors for damaged files
        return 0, 0
