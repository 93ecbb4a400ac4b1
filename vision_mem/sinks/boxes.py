"""Boxes as the text files that benchmarks and their tools read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import LineFile
from vision_mem.geometry.boxes import box_to_xywh
from vision_mem.sources.selection import file_name
from vision_mem.types import Frame, ObjectResult, SourceInfo, TrackingResult

CONVENTIONS = ("true", "samurai")


def _is_entry(entry: Any) -> bool:
    """Whether this is a line of our index; it names files, so it must not point elsewhere."""
    if "frame" in entry:
        return isinstance(entry["frame"], int)
    return isinstance(entry["object"], int) and Path(entry["file"]).name == entry["file"]


def counts_pixels(convention: str) -> bool:
    """Whether widths of a convention count pixels, see ``box_to_xywh``.

    Raises:
        InputError: for one that is not in ``CONVENTIONS``.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"convention is {convention!r}; expected one of {', '.join(CONVENTIONS)}")
    return convention == "true"


def short_number(value: float) -> str:
    """Whole numbers without a point, others with up to three decimals."""
    text = f"{float(value):.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class SingleObjectBoxes:
    """One file an object, one ``x,y,w,h`` line a frame: LaSOT, OTB, GOT-10k.

    Line n belongs to the n-th frame the run processed. With a stride, or frames dropped by a live
    source, ``<name>.frames.jsonl`` beside the files says which frame that was, and which file
    belongs to which object. Lines are ``0,0,0,0`` where the object is absent, and also before it
    was added and after it was removed, so that all files have equally many lines. Pixels count
    from 0; the benchmarks' own files count from 1 but are compared as they stand.

    Files in ``folder``: ``lasot`` and ``otb``: ``<name>.txt`` for the first object, then
    ``<name>-<object id>.txt``; ``got10k``: ``<name>/<name>_001.txt`` and ``<name>/<name>_time.txt``
    (seconds a frame took), then ``<name>-<object id>/...``. An object that was given a name has it
    after its id: ``<name>-2-cup.txt``.

    Args:
        folder: where to write.
        layout: ``"lasot"``, ``"otb"`` or ``"got10k"``.
        convention: ``"true"`` writes widths in pixels; ``"samurai"`` writes ``xmax - xmin`` as the
            official SAMURAI script does, one less.
        append: go on after an interrupted run: lines of frames that come again are dropped.
    """

    def __init__(
        self,
        folder: str | Path,
        layout: str = "lasot",
        *,
        convention: str = "true",
        append: bool = False,
    ) -> None:
        self._inclusive = counts_pixels(convention)
        if layout not in ("lasot", "otb", "got10k"):
            raise InputError(f"layout is {layout!r}; expected lasot, otb or got10k")
        self._folder = Path(folder)
        self._layout = layout
        self._append = append
        self._index: LineFile | None = None
        self._boxes: dict[int, LineFile] = {}
        self._times: dict[int, LineFile] = {}
        self._labels: dict[int, str] = {}
        self._lines = 0
        self._last_clock = 0.0

    def open(self, info: SourceInfo) -> None:
        """Make the folder and the index file; object files come with their objects."""
        self._name = info.name
        self._index = LineFile(self._folder / f"{info.name}.frames.jsonl", append=True)
        if not self._append:
            # The index knows the files of an earlier run; stale ones must not survive beside ours.
            self._drop_from(frame_index=-1)
        self._last_clock = time.perf_counter()

    def write(self, frame: Frame, result: TrackingResult) -> None:
        """Add one line to the file of each object."""
        assert self._index is not None, "open() comes first"
        if self._append:
            self._append = False
            self._drop_from(result.frame_index)
        clock = time.perf_counter()
        seconds, self._last_clock = clock - self._last_clock, clock
        found = {each.object_id: each for each in result.objects}
        for each in result.objects:
            if each.object_id not in self._boxes:
                self._add(each)
        for object_id, file in self._boxes.items():
            now = found.get(object_id)
            file.write(self._xywh(now.box) if now is not None and now.present else "0,0,0,0")
            if object_id in self._times:
                self._times[object_id].write(f"{seconds:.6f}")
        # Last, so that a frame listed here has its line in every file.
        self._index.write(json.dumps({"frame": result.frame_index}))
        self._lines += 1

    def _xywh(self, box: NDArray[np.float32]) -> str:
        return ",".join(short_number(v) for v in box_to_xywh(box, inclusive=self._inclusive))

    def _add(self, new: ObjectResult) -> None:
        assert self._index is not None
        label = self._name
        if self._labels:
            label = f"{self._name}-{new.object_id}"
            if new.name != f"object-{new.object_id}":
                label = file_name(f"{label}-{new.name}")
        entry = {"object": new.object_id, "name": new.name, "file": label}
        self._index.write(json.dumps(entry))
        self._open_object(new.object_id, label, lines=0)
        for files, absent in ((self._boxes, "0,0,0,0"), (self._times, "0.000000")):
            if self._lines and new.object_id in files:
                files[new.object_id].write(*[absent] * self._lines)

    def _paths(self, label: str) -> tuple[Path, ...]:
        """Of boxes, and of times where the layout has them."""
        if self._layout == "got10k":
            folder = self._folder / label
            return folder / f"{label}_001.txt", folder / f"{label}_time.txt"
        return (self._folder / f"{label}.txt",)

    def _open_object(self, object_id: int, label: str, lines: int) -> None:
        """Open an object's files and keep their first ``lines`` lines."""
        self._labels[object_id] = label
        for files, path in zip((self._boxes, self._times), self._paths(label), strict=False):
            files[object_id] = LineFile(path, append=lines > 0)
            files[object_id].keep(lambda number, line: number < lines)

    def _drop_from(self, frame_index: int) -> None:
        """Forget all frames from ``frame_index`` on, and objects that were added there."""
        assert self._index is not None
        everything = self._index.keep(lambda number, line: _is_entry(json.loads(line)))
        frames_end = 0  # lines of the index up to the last frame kept
        for number, line in enumerate(everything):
            entry = json.loads(line)
            if "frame" in entry:
                if entry["frame"] >= frame_index or frame_index < 0:
                    break
                frames_end = number + 1
        kept = [json.loads(line) for line in everything[:frames_end]]
        self._lines = sum("frame" in entry for entry in kept)
        known = {entry["file"] for entry in kept if "object" in entry}
        for entry in map(json.loads, everything[frames_end:]):
            if "object" in entry and entry["file"] not in known:
                for path in self._paths(entry["file"]):
                    path.unlink(missing_ok=True)
        self._index.keep(lambda number, line: number < frames_end)
        for entry in kept:
            if "object" in entry:
                self._open_object(entry["object"], entry["file"], self._lines)

    def close(self) -> None:
        """Close the files."""
        for file in (*self._boxes.values(), *self._times.values(), self._index):
            if file is not None:
                file.close()
