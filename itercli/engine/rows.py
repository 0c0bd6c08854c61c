"""Row artifacts as Parquet: one column per field, token ids as lists of int32, nested values as JSON text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from itercli.engine.encode import encode
from itercli.engine.files import explain_full_disk, sync
from itercli.records import Generated, Record

R = TypeVar("R", bound=Record)
BATCH = 4096


def _column(annotation: Any) -> str:
    """Arrow type name of a field: a scalar, tokens, or "json"."""
    if get_origin(annotation) in (Union, UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return _column(inner[0]) if len(inner) == 1 else "json"
    if get_origin(annotation) is Literal:
        return "string"
    if annotation is Generated:
        return "tokens"
    if get_origin(annotation) in (list, tuple) and all(
        a is Ellipsis or _column(a) == "tokens" for a in get_args(annotation)
    ):
        return "list of tokens"
    return {str: "string", int: "int64", float: "double", bool: "bool"}.get(annotation, "json")


def write_rows(path: Path, record: type[Record], rows: Iterable[Record]) -> int:
    """Write rows atomically; equal rows in equal order give equal bytes.

    Returns:
        The number of rows.

    Raises:
        RowError: A row holds something that JSON can't, such as NaN.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: _column(info.annotation) for name, info in record.model_fields.items()}
    tokens = pa.struct(
        [
            pa.field("ids", pa.list_(pa.int32())),
            pa.field("ended", pa.bool_()),
            pa.field("text", pa.string()),
            pa.field("vocabulary", pa.string()),
            pa.field("reencodes", pa.bool_()),
            pa.field("logprobs", pa.list_(pa.float64())),
        ]
    )
    arrow = {
        "tokens": tokens,
        "list of tokens": pa.list_(tokens),
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "json": pa.string(),
    }
    schema = pa.schema([pa.field(name, arrow[kind]) for name, kind in columns.items()])
    scratch = path.with_name(f".{path.name}.tmp")
    count = 0
    try:
        with open(scratch, "wb") as sink:
            with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
                batch: list[dict[str, Any]] = []
                for row in rows:
                    encode(row)  # Parquet takes NaN, and half a surrogate pair fails without a word of where
                    batch.append(_encode(row, columns))
                    count += 1
                    if len(batch) == BATCH:
                        writer.write_table(pa.Table.from_pylist(batch, schema))
                        batch = []
                writer.write_table(pa.Table.from_pylist(batch, schema))
            sink.flush()
            os.fsync(sink.fileno())
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise explain_full_disk(error, path) from error
    os.replace(scratch, path)
    sync(path.parent)
    return count


def read_rows(path: Path, record: type[R]) -> Iterator[R]:
    """Rows of a Parquet file written by `write_rows`."""
    columns = {name: _column(info.annotation) for name, info in record.model_fields.items()}
    for raw in read_table(path):
        yield record.model_validate(
            {k: json.loads(v) if columns.get(k) == "json" and v is not None else v for k, v in raw.items()}
        )


def read_table(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Raw column values, for readers that don't know the record type, or need only some columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=None if columns is None else list(columns)):
            yield from batch.to_pylist()


def _encode(row: Record, columns: dict[str, str]) -> dict[str, Any]:
    values = row.model_dump(mode="json")
    return {
        name: json.dumps(values[name], ensure_ascii=False, sort_keys=True)
        if kind == "json" and values[name] is not None
        else values[name]
        for name, kind in columns.items()
    }
