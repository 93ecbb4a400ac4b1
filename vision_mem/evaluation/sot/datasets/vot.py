"""Sequences as VOT workspaces hold them: rectangles, polygons or masks as truth.

Pixels count from 0 as far as is known: the toolkit takes regions as they stand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.file_tree import FileTree, read_text
from vision_mem.evaluation.number_rows import read_rows
from vision_mem.evaluation.sot.datasets.truth import (
    bounds,
    check_first,
    compare_counts,
    corners_of,
    read_flags,
)
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.evaluation.sot.vot_regions import mask_bounds, unroll

_EXPECTED = "list.txt and NAME/ with color/00000001.jpg, ... and groundtruth.txt"
_MOST_CORNERS = 64
# A special region (1 number), a rectangle (4), a polygon (3 corners or more).
_WIDTHS = (1, 4, *range(6, 2 * _MOST_CORNERS + 1, 2))


def open_vot(root: Path, *, need_frames: bool) -> Benchmark:
    """The sequences of ``list.txt``, in a workspace or in its ``sequences`` folder."""
    place = root / "sequences" if (root / "sequences").is_dir() else root
    if not place.is_dir():
        raise dataset_files.no_sequences(root, _EXPECTED)
    notes: list[str] = []
    found = dataset_files.listed_folders(
        place, [place / "list.txt", root / "list.txt"], _EXPECTED, notes
    )
    sequences = tuple(_sequence(*each, need_frames, notes) for each in found.items())
    return Benchmark("vot", "VOT", "vot", "vot", sequences, tuple(notes))


def _sequence(name: str, folder: Path, need_frames: bool, notes: list[str]) -> SotSequence:
    truth = folder / "groundtruth.txt"
    boxes, polygons, masks = read_regions(read_text(truth), truth)
    check_first(boxes, truth)
    if masks:
        notes.append(f"{name}: {masks} masks in the truth; the boxes around them are taken")
    frames = dataset_files.frames_of(folder)
    if need_frames and not frames:
        raise InputError(f"{folder / 'color'} holds no images; expected {_EXPECTED}")
    compare_counts(name, len(frames), len(boxes), notes)
    size, attributes = _size(folder / "sequence"), _attributes(folder)
    return SotSequence(name, frames, boxes, polygons=polygons, size=size, attributes=attributes)


def _attributes(folder: Path) -> tuple[str, ...]:
    """Names of the per-frame attributes that any frame of the sequence has."""
    files = FileTree(folder)
    names = [n for suffix in (".tag", ".label") for n in files.names(suffix=suffix)]
    found = [n for n in names if read_flags(files.text(n), files.where(n)).any()]
    return tuple(dataset_files.natural(dict.fromkeys(name.rpartition(".")[0] for name in found)))


def _size(path: Path) -> tuple[int, int] | None:
    """``(height, width)`` from the ``key=value`` lines of a ``sequence`` file."""
    pairs = dataset_files.read_pairs(path, "=")
    height, width = pairs.get("height", ""), pairs.get("width", "")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def read_regions(
    text: str, where: str | Path
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, int]:
    """Regions as the VOT toolkit writes them, one a line.

    A line is ``x,y,width,height``; a polygon ``x1,y1,x2,y2,...``; a mask ``mx,y,width,height,n0,
    n1,...`` (runs of pixels outside and inside in turn, row by row, within that rectangle); or a
    single number or NaN, which is a frame without object.

    Args:
        text: what the file holds.
        where: the file, for messages.

    Returns:
        ``(T, 4)`` boxes around the regions, NaN for frames without object; ``(T, 2 n)`` corners
        when there is a polygon, else None (polygons with fewer corners repeat their last one);
        and how many lines were masks.

    Raises:
        InputError: an empty file or a bad line.

    Source:
        vot-toolkit, ``vot/region/io.py``.
    """
    masks = 0
    lines = text.removeprefix("\ufeff").splitlines()
    for index, line in enumerate(lines):
        if line.lstrip().startswith("m"):
            lines[index] = _bounds_of_mask(line.strip()[1:], f"{where}, line {index + 1}")
            masks += 1
    rows = read_rows("\n".join(lines), where, _WIDTHS)
    if not len(rows):
        raise InputError(f"{where} is empty; expected a region a line")
    if rows.shape[1] <= 4:
        boxes = np.full((len(rows), 4), np.nan)
        boxes[:, : rows.shape[1]] = rows
        # A special region stands in the first column alone.
        boxes[np.isnan(boxes).any(axis=1)] = np.nan
        return boxes, None, masks
    corners = _filled(rows)
    return bounds(corners), corners, masks


def _filled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of different length as polygons with equally many corners."""
    corners = np.full_like(rows, np.nan)
    counts = (~np.isnan(rows)).sum(axis=1)
    for count in np.unique(counts):
        these = counts == count
        if count < 4:
            continue  # special regions, or parts of them missing
        found = corners_of(rows[these, :4]) if count == 4 else rows[these, :count]
        spare = (rows.shape[1] - found.shape[1]) // 2
        if spare < 0:  # only triangles beside rectangles: a rectangle needs four corners
            return _filled(np.pad(rows, ((0, 0), (0, -2 * spare)), constant_values=np.nan))
        corners[these] = np.hstack([found, np.tile(found[:, -2:], spare)])
    return corners


def _bounds_of_mask(code: str, where: str) -> str:
    """The box around a run-length mask, as the line that a rectangle would have."""
    expected = "expected a mask: m, then x,y,width,height and lengths of runs"
    try:
        x, y, width, height, *runs = (int(part) for part in code.split(",") if part.strip())
    except ValueError:
        raise InputError(f"{where}: too few or no whole numbers; {expected}") from None
    inside = unroll(runs, width, height, where)
    if not inside.any():
        return "nan"
    left, top, right, bottom = mask_bounds(inside)
    return f"{x + left},{y + top},{right - left + 1},{bottom - top + 1}"
