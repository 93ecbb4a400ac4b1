"""Sinks of ``vision-mem reconstruct``: paths, depth, moving points, events, and a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.depth import write_depth
from vision_mem.formats.ply import write_ply
from vision_mem.formats.trajectory import TrajectoryFile
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.sinks.masks import JsonLines, NumberedFiles
from vision_mem.types import Event, Frame, SourceInfo
from vision_mem.visualization.scene_overlay import FoundScene, ScenePainter


class ShownPart(NamedTuple):
    """A moving object as progress speaks of it."""

    object_id: int
    name: str
    present: bool


@dataclass(frozen=True, eq=False)
class SceneFrame:
    """A frame with depth and what was found in it; what a run hands to its sinks.

    Attributes:
        frame: as the session saw it.
        found: what it said.
    """

    frame: RgbdFrame
    found: Any

    @property
    def frame_index(self) -> int:
        """Number of the frame in its source."""
        return self.frame.index

    @property
    def time_s(self) -> float:
        """Seconds."""
        return self.frame.time_s

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frame."""
        return self.frame.size

    @property
    def objects(self) -> list[ShownPart]:
        """Confirmed tracks."""
        return [
            ShownPart(t.track_id, f"object-{t.track_id}", bool(t.seen)) for t in self.found.tracks
        ]

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened."""
        return tuple(self.found.events)


class SceneDrawing:
    """``ScenePainter`` where a sink has an image and a result."""

    def __init__(self) -> None:
        self._painter = ScenePainter()

    def draw(self, image: NDArray[np.uint8], result: SceneFrame) -> NDArray[np.uint8]:
        """Draw one frame."""
        del image
        return self._painter.draw(result.frame, result.found)


class PathFile:
    """The camera's path; each line is on disk when ``write`` returns.

    Args:
        path: the file.
        form: ``tum``, which leaves out lost frames, or ``kitti``, which has a line a frame.
        append: go on after an interrupted run.
        rows: lines of it that stay.
    """

    def __init__(self, path: Path, form: str, *, append: bool = False, rows: int = 0) -> None:
        self._path, self._form, self._append, self._rows = path, form, append, rows
        self._file: TrajectoryFile | None = None

    def open(self, info: SourceInfo) -> None:
        """Make the file."""
        self._file = TrajectoryFile(self._path, self._form, append=self._append, rows=self._rows)

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Add a pose."""
        assert self._file is not None, "open() comes first"
        if self._form == "kitti" or not result.found.lost:
            self._file.write(result.found.pose, result.time_s)

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


class DepthFiles(NumberedFiles):
    """Depth maps in metres as the session was given them, holes 0."""

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Write one file."""
        write_depth(self._place(result.frame_index), result.frame.depth)


class MovingPly(NumberedFiles):
    """What moves, as points in the world."""

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Write one file."""
        found = result.found.moving_points
        write_ply(
            self._place(result.frame_index), found.points, colours=found.colours,
            track_ids=found.track_ids, comment=f"frame {result.frame_index}, {result.time_s:.6f} s",
        )  # fmt: skip


class SceneEvents(JsonLines[Any]):
    """What happened, one JSON line an event.

    ``{"frame", "time_s", "kind", "id", "name"}``; ``id`` is that of a track, with ``centre`` and
    ``extent`` in metres, or 0 for the camera and the structure. ``lost`` has its ``reason``.
    """

    def _entries(self, result: Any) -> list[dict[str, Any]]:
        found: FoundScene = result.found
        tracks = {track.track_id: track for track in found.tracks}
        entries = []
        for event in found.events:
            track = tracks.get(event.object_id)
            name = event.name or (f"object-{event.object_id}" if event.object_id else "")
            entry: dict[str, Any] = {"kind": event.kind, "id": event.object_id, "name": name}
            if track is not None:
                entry |= {"centre": np.round(track.centre, 4), "extent": np.round(track.extent, 4)}
            if event.kind == "lost":
                entry["reason"] = found.reason
            entries.append(entry)
        return entries
