"""Sequences whose objects are given on the first frame: one object, or a few masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.engine.frames import Clock, sequence_frames
from vision_mem.evaluation.engine.runner import Advanced
from vision_mem.evaluation.sot.datasets.truth import read_labels
from vision_mem.evaluation.sot.records import SotSequence
from vision_mem.evaluation.sot.result_files import ResultRows, is_whole
from vision_mem.geometry.masks import mask_to_box
from vision_mem.tracking import TrackingSession
from vision_mem.types import Prompt, TrackingResult

INITS = ("auto", "box")
"""What a tracker may be started from, see ``first_prompts``."""

# A polygon that fills its bounds up to this share is an upright rectangle, drawn by hand or not.
_UPRIGHT_SHARE = 0.99
_VOID = 255
_FARTHEST = 1e5  # pixels; further out is no image's


def first_prompts(
    sequence: SotSequence, size: tuple[int, int], init: str = "auto"
) -> tuple[list[Prompt], str]:
    """Prompts for the first frame of ``size``, one an object, and what was shown.

    With ``init`` ``auto`` that is what the set gives: ``mask``, ``polygon`` (as a mask), else
    ``box``; upright polygons are boxes. ``box`` always shows the box around it. Ids are the values
    of the truth masks, 1 for sets of boxes.

    Raises:
        InputError: when the first truth shows no object, or its mask cannot be read.
    """
    if sequence.masks:
        prompts = _from_masks(sequence)
        if init == "auto":
            return prompts, "mask"
        boxes = [(mask_to_box(p.mask), p) for p in prompts if p.mask is not None]
        return [Prompt(p.object_id, box=box, name=p.name) for box, p in boxes], "box"
    if init == "auto" and sequence.polygons is not None and len(sequence.polygons):
        corners = sequence.polygons[0].reshape(-1, 2) - sequence.origin
        corners = corners[np.isfinite(corners).all(axis=1)]
        if len(corners) >= 3 and _area(corners) < _UPRIGHT_SHARE * np.ptp(corners, axis=0).prod():
            return [Prompt(1, mask=_draw(corners, size), name=sequence.name)], "polygon"
    return [Prompt(1, box=_first_box(sequence), name=sequence.name)], "box"


def _first_box(sequence: SotSequence) -> NDArray[np.float32]:
    if len(sequence.boxes) == 0:
        raise InputError("its truth is empty, so there is nothing to start from")
    x, y, width, height = (float(value) for value in sequence.boxes[0])
    near = max(abs(x), abs(y), width, height) < _FARTHEST  # not with NaN either
    if not (near and width > 0 and height > 0):
        raise InputError(
            f"its first truth box is {x:g},{y:g},{width:g},{height:g}; expected x,y,w,h with an "
            "area to start from"
        )
    x, y = x - sequence.origin, y - sequence.origin
    return np.array([x, y, x + width, y + height], np.float32)


def _from_masks(sequence: SotSequence) -> list[Prompt]:
    path = sequence.masks[0]
    if path is None:
        raise InputError("its first frame has no truth mask, so there is nothing to start from")
    labels = read_labels(path)
    if sequence.merge_objects:
        labels = (labels > 0).astype(np.uint8)
    values = [int(value) for value in np.unique(labels) if value != 0]
    if len(values) > 1 and values[-1] == _VOID:
        values = values[:-1]  # "not to be judged", unless it is all there is
    if not values:
        raise InputError(f"its first truth mask {path.name} marks nothing")
    return [Prompt(value, mask=labels == value, name=str(value)) for value in values]


def _area(corners: NDArray[np.float64]) -> float:
    x, y = corners.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def _draw(corners: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    import cv2

    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(corners.clip(-_FARTHEST, _FARTHEST)).astype(np.int32)], 1)
    if not mask.any():
        raise InputError("its first truth polygon lies outside the image")
    return mask.astype(bool)


# Time stamps only: the sets do not say how fast they were filmed, and no policy looks at them.
_FPS = 30.0


@dataclass(frozen=True)
class PromptedJob:
    """One sequence to run, see ``runner.Job``.

    Attributes:
        sequence: frames and first truth.
        layout: how its results are written, see ``result_files.LAYOUTS``.
        init: what to start from, see ``first_prompts``.
        strict: an unreadable image ends the sequence instead of counting as absence.
    """

    sequence: SotSequence
    layout: str
    init: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise InputError(f"--init is {self.init!r}; expected one of {', '.join(INITS)}")

    @property
    def name(self) -> str:
        """Of the sequence."""
        return self.sequence.name

    @property
    def length(self) -> int:
        """Frames."""
        return len(self.sequence.frames)

    def is_whole(self, results: Path, log: Path) -> bool:
        """Say whether there is one entry a frame; the log is not asked."""
        return is_whole(results, self.sequence, self.layout)

    def run(
        self, session: TrackingSession, tell: Callable[[Advanced], None], log: dict[str, Any]
    ) -> dict[str, bytes]:
        """Go through the sequence, see ``runner.Job``."""
        sequence = self.sequence
        if not sequence.frames:
            raise InputError("it has no images; only its truth was found")
        session.reset()
        rows = ResultRows(sequence, self.layout, inclusive=session.config.inclusive_box)
        clock = Clock(session.segmenter.device)
        events: list[dict[str, Any]] = []
        log["events"] = events
        for index, frame in sequence_frames(self, sequence.frames, _FPS, self.strict, tell, log):
            if frame is None:
                rows.add_absent()
                continue
            prompts: list[Prompt] = []
            if index == 0:
                prompts, log["init"] = first_prompts(sequence, frame.size, self.init)
                log["size"] = list(frame.size)
            with clock:
                result = session.step(frame, prompts)
            rows.add(result, clock.latest)
            events += _events(result)
        log |= clock.report(len(sequence.frames))
        return rows.files()


def _events(result: TrackingResult) -> list[dict[str, Any]]:
    return [
        {"frame": event.frame_index, "kind": event.kind, "object": event.object_id}
        for event in result.events
        if event.kind in ("lost", "found")
    ]
