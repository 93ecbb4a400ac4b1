"""Tables of Parquet: one row an object and frame, for pandas, polars, DuckDB and Spark."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError, MissingExtra
from vision_mem.formats.annotation_rows import AnnotationRow, Frames

_TOGETHER = 20_000
"""Rows of a group: what is held in memory."""
_KINDS = {
    "frame": "int64", "time_s": "float64", "object_id": "int64", "name": "string",
    "class": "string", "score": "float32", "x1": "float32", "y1": "float32", "x2": "float32",
    "y2": "float32", "area": "int64", "height": "int32", "width": "int32", "mask": "string",
}  # fmt: skip


def arrow() -> Any:
    """The package pyarrow, with its ``parquet``.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise MissingExtra(
            "parquet needs pyarrow, which is not installed: pip install 'vision-mem[interop]'"
        ) from None


def write_parquet(path: Path, frames: Frames) -> None:
    """Write a table, a group of rows after the other.

    Columns: ``frame``, ``time_s``, ``object_id``, ``name``, ``class``, ``score``, ``x1``, ``y1``,
    ``x2``, ``y2`` (pixels), ``area``, ``height``, ``width``, ``mask`` (COCO's compressed counts).
    """
    pyarrow = arrow()
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in _KINDS.items()])
    with pyarrow.parquet.ParquetWriter(str(path), schema) as writer:
        held: list[dict[str, Any]] = []
        for _, rows in frames():
            held += map(_record, rows)
            if len(held) >= _TOGETHER:
                writer.write_table(pyarrow.Table.from_pylist(held, schema))
                held = []
        writer.write_table(pyarrow.Table.from_pylist(held, schema))


def _record(row: AnnotationRow) -> dict[str, Any]:
    values = {
        "frame": row.frame, "time_s": row.time_s, "object_id": row.object_id, "name": row.name,
        "class": row.word, "score": row.score, "area": row.area, "height": row.size[0],
        "width": row.size[1], "mask": row.counts,
    }  # fmt: skip
    return values | dict(zip(("x1", "y1", "x2", "y2"), row.box, strict=True))


def read_parquet(path: Path) -> Iterator[AnnotationRow]:
    """Rows of a table that ``write_parquet`` wrote, or one with its columns.

    Raises:
        InputError: for a damaged file, or one of other columns.
        MissingExtra: without pyarrow.
    """
    pyarrow = arrow()
    try:
        file = pyarrow.parquet.ParquetFile(str(path))
        for batch in file.iter_batches():
            for each in batch.to_pylist():
                box = each["x1"], each["y1"], each["x2"], each["y2"]
                size = int(each.get("height") or 0), int(each.get("width") or 0)
                word = str(each.get("class") or each.get("name") or "object")
                yield AnnotationRow(
                    int(each["frame"]), int(each["object_id"]), word,
                    str(each.get("name") or word), box, float(each.get("time_s") or 0.0),
                    float(each.get("score", 1.0)), int(each.get("area") or 0), each.get("mask"),
                    size,
                )  # fmt: skip
    except KeyError as error:
        raise InputError(f"{path} has no column {error}; expected {', '.join(_KINDS)}") from None
    except (pyarrow.ArrowException, OSError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{path} is no table of Parquet that can be read: {said}") from None
