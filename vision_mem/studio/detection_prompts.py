"""Follow everything: what a detector finds and nobody follows yet becomes an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.boxes import box_iou
from vision_mem.studio.commands import LONGEST_NAME, StudioCommand
from vision_mem.studio.results_store import Row
from vision_mem.types import Detections, Frame, Prompt

_LEAST_SCORE, _LEAST_SIDE = 0.5, 8.0
_COVERED = 0.5
"""Part of a detection's box in that of an object, from which on it is that object."""
_SAME = 0.4
"""IoU of a detection with one of the look before, from which on it was seen twice."""
_MOST = 12
_PATIENCE = 150
"""Frames after which an object that a detector found and that is lost is let go."""


def uncovered(found: Detections, boxes: NDArray[np.float32]) -> list[int]:
    """Detections that are sure enough, large enough and nobody's yet, the best first.

    Args:
        found: of one frame.
        boxes: ``(n, 4)`` of the objects that are to be seen.
    """
    free: list[int] = []
    taken = [box for box in boxes]
    for place in np.argsort(-found.scores, kind="stable"):
        box = found.boxes[place]
        sides = box[2:] - box[:2]
        if found.scores[place] < _LEAST_SCORE or sides.min() < _LEAST_SIDE:
            continue
        if all(_overlap(box, other) < _COVERED for other in taken):
            free.append(int(place))
            taken.append(box)
    return free


def _overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two boxes' smaller one, the part in the other."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return common / max(min(areas), 1e-6)


class Births:
    """A detector, and what it made of a stream so far.

    Args:
        detector: see ``models.detectors.Detector``.
        word: its name for people.
    """

    def __init__(self, detector: Any, word: str) -> None:
        self.word, self._detector = word, detector
        self._before: NDArray[np.float32] = np.empty((0, 4), np.float32)
        self._mine: dict[int, int] = {}  # object to the frame on which it was seen last
        self._count = 0

    def look(self, frame: Frame, rows: Mapping[int, Row]) -> list[StudioCommand]:
        """Commands that add what is new, and let go of what has been lost for long.

        Args:
            frame: the next frame.
            rows: what was found of the objects on the frame before.
        """
        commands = []
        for object_id in list(self._mine):
            row = rows.get(object_id)
            if row is not None and row.present:
                self._mine[object_id] = frame.index
            elif frame.index - self._mine[object_id] > _PATIENCE:
                commands.append(StudioCommand("remove", frame.index, object_id, by="detector"))
        found = self._detector.detect(frame)
        if found is None or not len(found):
            return commands
        boxes = np.array([row.box for row in rows.values() if row.present], np.float32)
        new = []
        for place in uncovered(found, boxes.reshape(-1, 4)):
            box = found.boxes[place]
            new.append(box)
            seen = len(self._before) and box_iou(box[None], self._before).max() >= _SAME
            if seen and len(self._mine) + len(commands) < _MOST:
                self._count += 1
                name = f"{found.name_of(place)[: LONGEST_NAME - 8]} {self._count}"
                prompt = Prompt(box=box)
                commands.append(
                    StudioCommand("prompt", frame.index, name=name, prompt=prompt, by="detector")
                )
        self._before = np.array(new, np.float32).reshape(-1, 4)
        return commands

    def applied(self, command: StudioCommand) -> None:
        """A command of ours was taken in."""
        if command.object_id is None:
            return
        if command.kind == "prompt":
            self._mine[command.object_id] = command.frame or 0
        else:
            self._mine.pop(command.object_id, None)

    def close(self) -> None:
        """Let go of the detector."""
        self._detector.close()
