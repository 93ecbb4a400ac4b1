"""Frames with poses, from a recording or from JSON lines: one kind of row for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vision_mem.config import is_object_name, load_object
from vision_mem.errors import InputError, SourceError
from vision_mem.sources.posed_jsonl import PosedRow, count_lines, read_posed_lines
from vision_mem.sources.rgbd import RgbdFrame, RgbdSource, open_rgbd
from vision_mem.sources.rgbd_live import LiveRgbd
from vision_mem.types import SourceInfo

STDIN = "-"


class PosedSource:
    """Frames with poses, from a folder or from JSON lines; an iterable of rows.

    Args:
        source: a folder, a robot's log, a ``.jsonl`` file, ``-`` for standard input, or
            ``module:function``, which gives frames as ``rgbd_frames`` takes them.
        start: first frame, from 0.
        options: as ``open_rgbd``, for folders.

    Attributes:
        name: of the recording, for what is remembered of it.
        lines: whether it is JSON lines.
        live: whether it can be gone through once only: standard input, or a function.
        shown: the source in messages.
        info: size and length, as far as they are known.
    """

    def __init__(self, source: str, start: int, **options: Any) -> None:
        self._source, self._start, self._options = source, start, options
        self.lines = source == STDIN or source.lower().endswith((".jsonl", ".ndjson"))
        called = is_object_name(source) and not Path(source).exists()
        self.live = source == STDIN or called
        self.shown = "standard input" if source == STDIN else source
        self._folder: RgbdSource | LiveRgbd | None = None
        self.name = "stdin" if source == STDIN else str(Path(source).expanduser().resolve())
        if called:
            self.name = source
            self._folder = open_rgbd(load_object(source, "camera")(), start=start, **options)
            self.info = self._folder.info
            return
        if not self.lines:
            # Those without a pose are left out by whoever reads rows, and counted there.
            self._folder = open_rgbd(source, start=start, tell_unposed=False, **options)
            self.info = self._folder.info
            return
        if source != STDIN and not Path(source).is_file():
            raise InputError(f"no file {source}; expected a folder, JSON lines, or - to read stdin")
        endless = source == STDIN or options.get("follow_for") is not None
        total = None if endless else len(range(start, count_lines(Path(source))))
        self.info = SourceInfo(Path(source).stem or "stdin", 1, 1, 30.0, total)

    def __iter__(self) -> Iterator[PosedRow | SourceError]:
        if self._folder is None:
            end, stride = self._options.get("end"), self._options.get("stride", 1)
            left = self._options.get("max_frames")
            lines = read_posed_lines(self._source, self._start, self._options.get("follow_for"))
            for number, row in enumerate(lines):
                index = self._start + number
                if (end is not None and index >= end) or left == 0:
                    return
                if number % stride == 0:
                    left = None if left is None else left - 1
                    yield row
            return
        for frame in self._folder:
            yield _row(frame)

    def at(self, index: int) -> PosedRow:
        """One frame by its number.

        Raises:
            InputError: when there is none, or it cannot be read.
        """
        options = {**self._options, "max_frames": 1, "stride": 1, "end": None, "tell": False}
        options["follow_for"] = None
        if self.live and self._source != STDIN:
            raise InputError(f"{self._source} is live: its frame {index} cannot be seen again")
        try:
            for row in PosedSource(self._source, index, **options):
                if isinstance(row, PosedRow) and row.index == index:
                    return row
        except SourceError as error:
            raise InputError(f"frame {index} of {self._source}: {error}") from None
        raise InputError(f"there is no frame {index} in {self._source}")

    def excerpt(self, count: int) -> Iterator[PosedRow]:
        """About so many frames from all over the recording; none of standard input."""
        if self._source == STDIN:
            return
        if isinstance(self._folder, LiveRgbd):
            yield from () if self._folder.first is None else (_row(self._folder.first),)
            return
        # Of all of it, whatever part is wanted, so that each part sees the same.
        options = {**self._options, "stride": 1, "max_frames": None, "end": None, "tell": False}
        options["follow_for"] = None
        total = PosedSource(self._source, 0, **options).info.frame_count or count
        for row in PosedSource(self._source, 0, **{**options, "stride": max(1, total // count)}):
            if isinstance(row, PosedRow):
                yield row

    def close(self) -> None:
        """Nothing stays open between frames."""


def _row(frame: RgbdFrame) -> PosedRow:
    return PosedRow(
        frame.index, frame.time_s, frame.pose, None, frame.image, frame.depth, frame.camera
    )
