"""Sinks of ``vision-mem reconstruct``: paths, depth, moving points, events, and a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.colmap import write_colmap
from vision_mem.formats.depth import write_depth
from vision_mem.formats.ply import write_ply
from vision_mem.formats.text import write_file
from vision_mem.formats.trajectory import TrajectoryFile
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.sinks.masks import JsonLines, NumberedFiles
from vision_mem.types import Event, Frame, SourceInfo
from vision_mem.visualization.scene_overlay import FoundScene, ScenePainter

_COLMAP, _FINE = "colmap.npz", (cv2.IMWRITE_JPEG_QUALITY, 95)


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


class ColmapModel(NumberedFiles):
    """Images and poses for COLMAP and what reads its models; points come when the run ends.

    Args:
        folder: gets ``images/`` and ``sparse/0/``.
        append: keep the images of frames before the first one written now.
    """

    def __init__(self, folder: Path, append: bool = False) -> None:
        super().__init__(folder / "images", ".jpg", append)
        self._model = folder / "sparse" / "0"
        self._poses: list[tuple[int, NDArray[np.float64]]] = []
        self._camera: Pinhole | None = None

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Write an image and remember its pose; frames on which the camera was lost are left out.

        Raises:
            SinkError: when it cannot be written.
        """
        place = self._place(result.frame_index)  # also drops what an earlier run left behind
        self._camera = result.frame.camera
        if not result.found.lost:
            good, packed = cv2.imencode(".jpg", result.frame.image[..., ::-1], _FINE)
            if good:
                write_file(place, packed.tobytes())
                self._poses.append((result.frame_index, np.asarray(result.found.pose)))

    def keep(self, snapshot: Path) -> None:
        """Remember what there is beside a snapshot."""
        numbers = [k for k, _ in self._poses]
        poses = np.array([pose for _, pose in self._poses]).reshape(-1, 4, 4)
        np.savez(snapshot / _COLMAP, numbers=numbers, poses=poses)

    def recall(self, snapshot: Path) -> None:
        """Go on with what was remembered."""
        if (snapshot / _COLMAP).is_file():
            with np.load(snapshot / _COLMAP) as held:
                self._poses = list(zip(held["numbers"].tolist(), held["poses"], strict=True))

    def finish(self, points: NDArray[np.float32], colours: NDArray[np.uint8]) -> None:
        """Write the model.

        Args:
            points: ``(N, 3)`` metres: what stays.
            colours: ``(N, 3)`` RGB.
        """
        if self._camera is not None:
            images = ((f"{k:06d}.jpg", pose) for k, pose in self._poses)
            write_colmap(self._model, self._camera, images, points, colours)


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
