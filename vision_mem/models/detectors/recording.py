"""Answers of a detector as JSON lines, and back without the loss of a bit.

One line a frame: ``{"frame", "time_s", "boxes": [[x1, y1, x2, y2]], "scores", "labels", ...}``,
or ``{"frame", "time_s", "answer": null}`` where the detector gave none. Masks are COCO run lengths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.formats.rle import MaskRuns, encode_mask, read_mask
from vision_mem.formats.text import LineFile
from vision_mem.models.detectors.filters import Around
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame


class Recorder(Around):
    """Writes each answer of a detector to a file, which ``FileDetector`` plays back.

    Args:
        detector: whose answers are written and handed on.
        path: the file.
        append: go on after an interrupted run: lines of frames that come again are dropped.

    Raises:
        SinkError: when the file cannot be written.
    """

    def __init__(self, detector: Detector, path: str | Path, *, append: bool = False) -> None:
        super().__init__(detector)
        self._file = LineFile(Path(path), append=append)
        self._resuming = append
        self._names: Mapping[int, str] = {}

    def detect(self, frame: Frame) -> Detections | None:
        found = self.detector.detect(frame)
        if self._resuming:
            self._resuming = False
            kept = self._file.keep(lambda _, line: json.loads(line)["frame"] < frame.index)
            for entry in map(json.loads, reversed(kept)):
                if "names" in entry:  # what those lines have said is not said again
                    self._names = {int(key): word for key, word in entry["names"].items()}
                    break
        line = {"frame": frame.index, "time_s": frame.time_s}
        line |= as_line(found, self.reports_absence, self._names)
        self._names = self._names if found is None else found.names
        self._file.write(json.dumps(line, ensure_ascii=False))
        return found

    def close(self) -> None:
        super().close()
        self._file.close()


def as_line(
    found: Detections | None, reports_absence: bool, known: Mapping[int, str]
) -> dict[str, Any]:
    """What a recording says of an answer, besides its frame's number and time.

    Names that lines before have said (``known``) are written only when they change.
    """
    if found is None:
        return {"answer": None}
    # float() of a float32 is exact, and so is its shortest decimal.
    line: dict[str, Any] = {
        "boxes": found.boxes.astype(float).tolist(),
        "scores": found.scores.astype(float).tolist(),
        "labels": found.labels.tolist(),
    }
    if not reports_absence:
        line["absence"] = False
    if dict(found.names) != dict(known):
        line["names"] = {str(number): word for number, word in found.names.items()}
    if found.masks is not None:
        line["size"] = list(found.masks.shape[1:])
        line["masks"] = [encode_mask(mask) for mask in found.masks]
    if found.embeddings is not None:
        line["width"] = found.embeddings.shape[1]
        line["embeddings"] = found.embeddings.astype(float).tolist()
    if found.frame_index is not None or found.time_s is not None:
        line["seen"] = [found.frame_index, found.time_s]
    return line


@dataclass(frozen=True)
class Recorded:
    """One line of a recording.

    Attributes:
        found: the answer, its masks left out; None where there was none.
        runs: its masks, or None.
        size: ``(height, width)`` of the masks.
        reports_absence: see ``Detector``.
    """

    found: Detections | None
    runs: tuple[MaskRuns, ...] | None = None
    size: tuple[int, int] = (0, 0)
    reports_absence: bool = True

    def answer(self) -> Detections | None:
        """The answer as it was given."""
        if self.found is None or self.runs is None:
            return self.found
        masks = np.zeros((len(self.runs), *self.size), bool)
        for mask, runs in zip(masks, self.runs, strict=True):
            mask[:] = runs.mask(0)
        return replace(self.found, masks=masks)


def from_line(line: Mapping[str, Any], known: Mapping[int, str]) -> Recorded:
    """Read what ``as_line`` made; ``known`` are the names that lines before have said.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: when it is not such a line.
    """
    if "boxes" not in line:
        return Recorded(None)
    runs, size = None, (0, 0)
    if "masks" in line:
        height, width = line["size"]
        size = (int(height), int(width))
        runs = tuple(read_mask(counts, size) for counts in line["masks"])
        if len(runs) != len(line["boxes"]):
            raise ValueError(f"{len(runs)} masks for {len(line['boxes'])} boxes")
    embeddings, names = None, dict(known)
    if "embeddings" in line:
        shape = len(line["boxes"]), int(line["width"])
        embeddings = np.array(line["embeddings"], np.float32).reshape(shape)
    if "names" in line:
        names = {int(number): str(word) for number, word in line["names"].items()}
    index, time_s = line.get("seen", (None, None))
    found = Detections(
        np.array(line["boxes"], np.float32).reshape(-1, 4),
        np.array(line["scores"], np.float32),
        np.array(line["labels"], np.int64),
        embeddings=embeddings,
        names=names,
        frame_index=None if index is None else int(index),
        time_s=None if time_s is None else float(time_s),
    )
    return Recorded(found, runs, size, bool(line.get("absence", True)))
