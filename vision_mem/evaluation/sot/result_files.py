"""Result files as the benchmarks' own tools read them: their content, and whether one is whole.

Three layouts. ``boxes``: ``<sequence>.txt``, one ``x,y,w,h`` row a frame. ``got10k``:
``<sequence>/<sequence>_001.txt`` with such rows and ``<sequence>/<sequence>_time.txt`` with the
seconds each frame took. ``masks``: ``<sequence>/<frame>.png``, indexed, in the DAVIS colours.
Rows are in the pixels of the set (its origin added back), the first one is the box the tracker
was given, and ``0,0,0,0`` says absent.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.engine.folder import write_zip
from vision_mem.evaluation.file_tree import check_file_name
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.geometry.boxes import box_to_xywh
from vision_mem.sinks.masks import label_image
from vision_mem.text import read_text
from vision_mem.types import TrackingResult
from vision_mem.visualization.draw import davis_palette

LAYOUTS = ("boxes", "got10k", "masks")
_ABSENT = "0,0,0,0"


def layout_of(benchmark: Benchmark, sequence: SotSequence) -> str:
    """Which of ``LAYOUTS`` a sequence's results have."""
    if sequence.masks:
        return "masks"
    return "got10k" if benchmark.key.startswith("got10k") else "boxes"


def result_path(sequence: SotSequence, layout: str) -> Path:
    """What says that a sequence is done, below the results folder: a file, or a folder of masks.

    Raises:
        InputError: for a name that would lead out of the folder.
    """
    name = sequence.name
    check_file_name(name)
    if layout == "boxes":
        return Path(f"{name}.txt")
    return Path(name, f"{name}_001.txt") if layout == "got10k" else Path(name)


def is_whole(folder: Path, sequence: SotSequence, layout: str) -> bool:
    """Whether a sequence's results are there with one entry a frame."""
    path = folder / result_path(sequence, layout)
    if layout == "masks":
        return all(_has_content(path / name) for name in _mask_names(sequence))
    if layout == "got10k":
        times = path.with_name(f"{sequence.name}_time.txt")
        if _count_rows(times, 1) != len(sequence.frames):
            return False
    return _count_rows(path, 4) == len(sequence.frames)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _count_rows(path: Path, fields: int) -> int:
    """Rows of so many finite numbers; -1 when there is any other row, or no such file."""
    try:
        lines = read_text(path).splitlines()
        rows = [[float(value) for value in line.split(",")] for line in lines]
    except ValueError:
        return -1
    good = all(len(row) == fields and all(map(math.isfinite, row)) for row in rows)
    return len(rows) if good else -1


def _mask_names(sequence: SotSequence) -> list[str]:
    names = [f"{path.stem}.png" for path in sequence.frames]
    if len(set(names)) < len(names):
        raise InputError(
            "two of its images have one name, so that their masks cannot be told apart"
        )
    return names


class ResultRows:
    """Collects what a tracker says of a sequence, frame by frame.

    Args:
        sequence: what is tracked.
        layout: one of ``LAYOUTS``.
        inclusive: how widths are counted, see ``box_to_xywh``.

    Raises:
        InputError: for names that cannot be those of result files.
    """

    def __init__(self, sequence: SotSequence, layout: str, *, inclusive: bool = True) -> None:
        self._sequence, self._layout, self._inclusive = sequence, layout, inclusive
        self._path = result_path(sequence, layout)
        self._rows: list[str] = []
        self._times: list[str] = []
        self._pictures: list[bytes] = []
        self._names = _mask_names(sequence) if layout == "masks" else []
        self._size: tuple[int, int] = (0, 0)

    def add(self, result: TrackingResult, seconds: float) -> None:
        """Add a frame, and the seconds it took the tracker."""
        if self._layout == "masks":
            self._size = result.size
            # Where objects overlap, the one the model is surer of is on top.
            ordered = sorted(result.objects, key=lambda each: each.score)
            labels = label_image(replace(result, objects=tuple(ordered)))
            self._pictures.append(_png(labels))
            return
        self._times.append(f"{seconds:.6f}")
        if not self._rows:
            self._rows.append(",".join(map(_number, self._sequence.boxes[0])))
            return
        found = result.objects[0]
        if not found.present:
            self._rows.append(_ABSENT)
            return
        x, y, width, height = (
            float(value) for value in box_to_xywh(found.box, inclusive=self._inclusive)
        )
        origin = self._sequence.origin
        self._rows.append(",".join(map(_number, (x + origin, y + origin, width, height))))

    def add_absent(self) -> None:
        """Add a frame nobody could look at."""
        self._rows.append(_ABSENT)
        self._times.append(f"{0:.6f}")
        if self._layout == "masks":
            self._pictures.append(_png(np.zeros(self._size, np.uint8)))

    def files(self) -> dict[str, bytes]:
        """Path below the results folder to content; the one that says "done" is the last."""
        if self._layout == "masks":
            paths = [(self._path / name).as_posix() for name in self._names]
            return dict(zip(paths, self._pictures, strict=True))
        files = {}
        if self._layout == "got10k":
            times = self._path.with_name(f"{self._sequence.name}_time.txt")
            files[times.as_posix()] = _lines(self._times)
        return files | {self._path.as_posix(): _lines(self._rows)}


def _lines(rows: list[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def _number(value: float) -> str:
    """Whole numbers without a point, others with up to four decimals, as GOT-10k's truth."""
    text = f"{float(value):.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _png(labels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette(davis_palette().reshape(-1).tolist())
    held = io.BytesIO()
    image.save(held, format="PNG", compress_level=3)
    return held.getvalue()


SERVERS = {
    "got10k-test": ("http://got-10k.aitestunion.com", 180),
    "trackingnet": ("the server named at https://tracking-net.org", 511),
}
"""Benchmark key to where results are sent in, and how many sequences the server expects."""


def write_submission(benchmark: Benchmark, results: Path, path: Path) -> list[str]:
    """Pack all results of a set as its server takes them, and say what to know before it is sent.

    GOT-10k: ``<sequence>/<sequence>_001.txt`` and ``<sequence>/<sequence>_time.txt``;
    TrackingNet: ``<sequence>.txt``. Nothing else, and no folder above.

    The set must be one of ``SERVERS``, and no results ``missing_results``.

    Raises:
        SinkError: when it cannot be written.
    """
    write_zip(path, results, _names(benchmark))
    server, expected = SERVERS[benchmark.key]
    notes = [f"send it in at {server}"]
    if len(benchmark.sequences) != expected:
        notes.append(
            f"this copy of the set has {len(benchmark.sequences)} sequences but the server "
            f"expects {expected}"
        )
    return notes


def missing_results(benchmark: Benchmark, results: Path) -> list[str]:
    """Names of sequences without whole results."""
    return [
        sequence.name
        for sequence in benchmark.sequences
        if not is_whole(results, sequence, layout_of(benchmark, sequence))
    ]


def _names(benchmark: Benchmark) -> list[str]:
    names = []
    for sequence in benchmark.sequences:
        path = result_path(sequence, layout_of(benchmark, sequence))
        names.append(path.as_posix())
        if layout_of(benchmark, sequence) == "got10k":
            names.append(path.with_name(f"{sequence.name}_time.txt").as_posix())
    return names
