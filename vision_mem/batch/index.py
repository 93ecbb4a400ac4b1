"""What came out of many videos, in two tables: a row a video, and a row an object and frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vision_mem.formats.parquet import arrow
from vision_mem.formats.text import csv_line, whole_file, write_file
from vision_mem.types import state_of

INDEX, SUMMARY = "index.parquet", "summary.csv"
_COLUMNS = {
    "file": "string", "object_id": "int64", "name": "string", "class": "string",
    "frame": "int64", "time_s": "float64", "x1": "float32", "y1": "float32", "x2": "float32",
    "y2": "float32", "score": "float32", "state": "string",
}  # fmt: skip


def write_summary(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``summary.csv``: the rows, under the keys of the first.

    Raises:
        SinkError: when it cannot be written.
    """
    lines = [csv_line(rows[0]), *(csv_line(row.values()) for row in rows)]
    write_file(folder / SUMMARY, "".join(f"{line}\n" for line in lines).encode())


def write_index(folder: Path, results: Iterable[tuple[str, Path]]) -> int:
    """Write ``index.parquet``: a row for each object on each frame on which it is to be seen.

    Columns: ``file``, ``object_id``, ``name``, ``class``, ``frame``, ``time_s``, ``x1``, ``y1``,
    ``x2``, ``y2`` (pixels), ``score``, ``state`` (sure or unsure). One row group a batch of rows
    is held in memory; the same results give the same bytes.

    Args:
        folder: of the batch.
        results: of each video its name and its folder, in the order of the rows.

    Returns:
        The number of rows.

    Raises:
        MissingExtra: without pyarrow.
        SinkError: when it cannot be written.
    """
    pyarrow = arrow()
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in _COLUMNS.items()])
    kept = [name for name in _COLUMNS if name not in ("file", "state")]
    count = 0
    with (
        whole_file(folder / INDEX) as place,
        pyarrow.parquet.ParquetWriter(str(place), schema) as writer,
    ):
        for name, results_folder in results:
            for path in sorted(results_folder.glob("parquet/*.parquet")):
                table = pyarrow.parquet.ParquetFile(str(path))
                for batch in table.iter_batches(columns=kept):
                    rows = batch.to_pylist()
                    for row in rows:
                        row |= {"file": name, "state": state_of(True, row["score"])}
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                    count += len(rows)
    return count
