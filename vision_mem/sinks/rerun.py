"""Recordings for the viewer of rerun (https://rerun.io): a moving scene, or a map that stays.

Needs rerun-sdk, the extra ``[viewer]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vision_mem.errors import MissingExtra, SinkError
from vision_mem.formats.text import make_folder
from vision_mem.types import SourceInfo


def _needs_rerun(instead: str) -> None:
    if find_spec("rerun") is None:
        raise MissingExtra(
            f"rerun files need rerun: pip install 'vision-mem[viewer]', or {instead}"
        )


def _opened(path: Path, name: str, recording: str | None = None) -> Any:
    """A stream into a new file; files of one ``recording`` are shown as one.

    Raises:
        SinkError: when the file cannot be written.
    """
    import rerun as rr

    make_folder(path.parent)
    try:
        stream = rr.RecordingStream(name, recording_id=recording)
        stream.save(str(path))
    except (OSError, RuntimeError) as error:
        raise SinkError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
    return stream


class RerunScene:
    """Camera, picture and moving points on a time line; ``add_map`` puts in what stays.

    Args:
        path: the ``.rrd``.
        append: go on after an interrupted run, in ``<stem>.part2.rrd`` and so on: rerun files have
            an index at their end, so that none can grow. The viewer shows all parts as one.

    Raises:
        MissingExtra: when rerun is not installed.
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        _needs_rerun("leave rerun out of --save")
        self.path = Path(path)
        self._append = append
        self._stream: Any = None
        self._trail: list[list[float]] = []

    def open(self, info: SourceInfo) -> None:
        """Make the file."""
        import rerun as rr

        base, number = self.path, 1
        while self._append and self.path.exists():
            number += 1
            self.path = base.with_name(f"{base.stem}.part{number}{base.suffix}")
        recording = f"{base.parent.name}/{base.stem}"  # the same for all parts
        self._stream = _opened(self.path, "vision-mem-scene", recording)
        self._stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)

    def write(self, frame: Any, result: Any) -> None:
        """Add one frame."""
        import rerun as rr

        found, camera = result.found, result.frame.camera
        stream = self._stream
        stream.set_time("frame", sequence=result.frame_index)
        stream.set_time("time", duration=result.time_s)
        points = found.moving_points
        stream.log("world/moving", rr.Points3D(points.points, colors=points.colours))
        if found.lost:
            return
        turn, place = found.pose[:3, :3], found.pose[:3, 3]
        stream.log("world/camera", rr.Transform3D(translation=place, mat3x3=turn))
        focal, middle = (camera.fx, camera.fy), (camera.cx, camera.cy)
        size = [camera.width, camera.height]
        stream.log(
            "world/camera",
            rr.Pinhole(focal_length=focal, principal_point=middle, resolution=size),
        )
        stream.log("world/camera/colour", rr.Image(result.frame.image).compress(jpeg_quality=80))
        for track in found.tracks:
            if track.seen:
                box = rr.Boxes3D(
                    centers=[track.centre], sizes=[track.extent], labels=[f"{track.track_id}"]
                )
                stream.log(f"world/objects/{track.track_id}", box)

    def add_map(self, found: Any, path: Any) -> None:
        """Put in what stays, for all times.

        Args:
            found: points, normals, colours and voxel.
            path: ``(n, 3)`` the camera's places.
        """
        import rerun as rr

        if self._stream is None:
            return
        points = rr.Points3D(found.points, colors=found.colours, radii=max(found.voxel, 0.005) / 2)
        self._stream.log("world/map", points, static=True)
        line = np.asarray(path, np.float32).reshape(-1, 3)
        self._stream.log("world/path", rr.LineStrips3D([line]), static=True)

    def close(self) -> None:
        """Finish the file; safe to call twice."""
        if self._stream is not None:
            self._stream.flush()
            self._stream.disconnect()
            self._stream = None


def write_rerun(
    path: str | Path,
    points: ArrayLike,
    colours: ArrayLike,
    *,
    size: float,
    names: Sequence[str],
    things: ArrayLike,
    places: ArrayLike,
    lines: Sequence[ArrayLike] = (),
) -> None:
    """Write a map as an ``.rrd`` file.

    Args:
        path: the file.
        points: ``(n, 3)`` metres, middles of occupied cells.
        colours: ``(n, 3)`` uint8 RGB.
        size: edge of a cell, metres.
        names: of the things.
        things: ``(k, 3)`` metres.
        places: ``(p, 3)`` metres.
        lines: ``(m, 3)`` each: ways.

    Raises:
        MissingExtra: when rerun is not installed.
        SinkError: when the file cannot be written.
    """
    _needs_rerun("export PLY or GeoJSON")
    import rerun as rr

    stream = _opened(Path(path), "vision-mem-map")
    stream.log("map/space", rr.Points3D(points, colors=colours, radii=size / 2), static=True)
    stream.log("map/places", rr.Points3D(places, radii=size / 2), static=True)
    stream.log("map/ways", rr.LineStrips3D(list(lines)), static=True)
    stream.log("map/things", rr.Points3D(things, labels=list(names), radii=size), static=True)
    stream.flush()
    stream.disconnect()
