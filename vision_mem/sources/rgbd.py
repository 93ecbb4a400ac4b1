"""One door for recordings with depth: data sets, folders, depth maps beside a video."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.depth import read_depth
from vision_mem.formats.trajectory import read_trajectory
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import is_rigid
from vision_mem.sources.images import read_image
from vision_mem.sources.rgbd_layouts import (
    LAYOUTS,
    FrameFiles,
    Layout,
    find_layout,
    pose_at,
    read_pose,
)
from vision_mem.sources.selection import Selection, sequence_name
from vision_mem.types import SourceInfo

__all__ = ["LAYOUTS", "RgbdFrame", "RgbdSource", "open_rgbd"]

log = logging.getLogger(__name__)

_FARTHEST, _NEAREST = 80.0, 0.02
"""Metres between which the median of a depth map lies when its scale is right."""


class RgbdSource:
    """Frames of a recording with depth; an iterable that can be gone through again.

    A frame that cannot be read is left out with a warning.

    Args:
        path: the folder, for messages.
        layout: its frames.
        selection: which of them.
        intrinsics: fx, fy, cx, cy counted from pixel centres; None for those of the layout.
        depth_scale: metres of one unit of a depth map; None for the layout's, and 1 for floats.
        strict: stop at a frame that cannot be read.

    Raises:
        SourceError: when the first frame cannot be read, or nothing says the intrinsics.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        selection: Selection,
        *,
        intrinsics: Sequence[float] | None = None,
        depth_scale: float | None = None,
        strict: bool = False,
    ) -> None:
        self._path, self._layout, self._selection = path, layout, selection
        self._scale, self._strict = depth_scale, strict
        selection.check(str(path), len(layout.moments))
        numbers = intrinsics or layout.intrinsics
        if numbers is None:
            raise SourceError(
                f"{path} has no file of intrinsics; put camera-intrinsics.txt (3x3) beside the "
                "frames, or give fx, fy, cx, cy"
            )
        self._numbers = tuple(float(n) for n in numbers)
        self._told: set[str] = set()
        for note in layout.notes:
            log.warning("%s", note)
        depth = self._depth(self._wanted()[0][1])
        self.camera = self._camera(depth.shape)
        times = [m.time_s for m in layout.moments]
        gap = float(np.median(np.diff(times))) if len(times) > 1 else 1 / 30
        height, width = depth.shape
        self.info = SourceInfo(
            sequence_name(path), width, height, 1 / gap if gap > 0 else 30.0, len(self._wanted())
        )
        missing = sum(m.pose is None for m in layout.moments)
        self.posed = missing < len(layout.moments)
        if self.posed and missing:
            log.warning(
                "%s: %d of %d frames have no pose; they are tracked", path, missing, len(times)
            )

    def __iter__(self) -> Iterator[RgbdFrame]:
        if self._layout.video is not None:
            yield from self._beside_video(self._layout.video)
            return
        for index, moment in self._wanted():
            assert moment.colour is not None
            try:
                frame = self._frame(index, moment, read_image(moment.colour))
            except SourceError as error:
                self._skipped(index, error)
                continue
            yield frame

    def poses(self) -> Iterator[tuple[int, float, NDArray[np.float64]]]:
        """Number, time and ``(4, 4)`` pose of each wanted frame whose pose the recording has."""
        for index, moment in self._wanted():
            pose = read_pose(moment.pose) if isinstance(moment.pose, Path) else moment.pose
            if pose is not None and is_rigid(pose):
                yield index, moment.time_s, pose

    def close(self) -> None:
        """Nothing stays open between frames."""

    def __enter__(self) -> RgbdSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _wanted(self) -> list[tuple[int, FrameFiles]]:
        chosen = [(k, m) for k, m in enumerate(self._layout.moments) if self._selection.wants(k)]
        return chosen[: self._selection.max_frames]

    def _beside_video(self, video: Path) -> Iterator[RgbdFrame]:
        from vision_mem.sources.open import open_source

        moments = self._layout.moments
        wanted, count = dict(self._wanted()), 0
        last = max(wanted)
        with open_source(video) as source:
            total = source.info.frame_count
            if total is not None and total != len(moments):
                self._mismatch(total)
            for frame in source:
                count = frame.index + 1
                if frame.index in wanted:
                    try:
                        made = self._frame(frame.index, wanted[frame.index], frame.image)
                    except SourceError as error:
                        self._skipped(frame.index, error)
                        continue
                    yield made
                if frame.index >= last:
                    return
        if count != len(moments):
            self._mismatch(count)

    def _mismatch(self, count: int) -> None:
        raise SourceError(
            f"{self._path}: {count} colour frames in {self._layout.video} and "
            f"{len(self._layout.moments)} depth frames; expected one depth map for each frame"
        )

    def _skipped(self, index: int, error: SourceError) -> None:
        if self._strict:
            raise error
        log.warning("frame %d skipped: %s", index, error)

    def _camera(self, size: tuple[int, ...]) -> Pinhole:
        fx, fy, cx, cy = self._numbers
        try:
            return Pinhole.from_centres(fx, fy, cx, cy, size[1], size[0])
        except InputError as error:
            raise SourceError(f"{self._path}: {error}") from None

    def _depth(self, moment: FrameFiles) -> NDArray[np.float32]:
        stored = read_depth(moment.depth)
        whole = stored.dtype.kind in "ui"
        scale = self._scale or (self._layout.scale if whole else 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            depth = stored.astype(np.float64) * scale
            depth[~(np.isfinite(depth) & (depth > 0) & (depth < 1e6))] = 0
        if whole:
            most = np.iinfo(np.dtype(stored.dtype.str)).max
            depth[stored == most] = 0  # "no reading" of 7-Scenes and others
        self._check_scale(moment.depth, depth)
        return depth.astype(np.float32)

    def _check_scale(self, path: Path, depth: NDArray[np.float64]) -> None:
        known = depth[depth > 0]
        middle = float(np.median(known)) if len(known) else 1.0
        if not _NEAREST <= middle <= _FARTHEST and "scale" not in self._told:
            self._told.add("scale")
            guess = "millimetres read as metres" if middle > _FARTHEST else "metres scaled down"
            log.warning(
                "%s: the median depth is %g m; is it %s? Set depth_scale (metres of one unit)",
                path,
                middle,
                guess,
            )
        if not len(known) and "holes" not in self._told:
            self._told.add("holes")
            log.warning("%s has no reading at all; such frames tell nothing", path)

    def _frame(self, index: int, moment: FrameFiles, image: NDArray[np.uint8]) -> RgbdFrame:
        depth = self._depth(moment)
        size = (depth.shape[1], depth.shape[0])
        if image.shape[:2] != depth.shape:
            # The intrinsics are those of the depth map; colour has another resolution (ScanNet).
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        camera = self.camera
        if (camera.height, camera.width) != depth.shape:
            raise SourceError(
                f"{moment.depth} has {size[0]} x {size[1]} pixels, unlike the first depth map"
            )
        return RgbdFrame(index, moment.time_s, image, depth, camera, self._pose(moment))

    def _pose(self, moment: FrameFiles) -> Any:
        pose = read_pose(moment.pose) if isinstance(moment.pose, Path) else moment.pose
        if pose is None or not is_rigid(pose):
            if moment.pose is not None and "pose" not in self._told:
                self._told.add("pose")
                log.warning(
                    "%s: the pose is no rigid motion (the recording lost track); such frames are "
                    "tracked",
                    moment.pose if isinstance(moment.pose, Path) else self._path,
                )
            return None
        return pose


def open_rgbd(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    intrinsics: Sequence[float] | None = None,
    depth_scale: float | None = None,
    poses: str | os.PathLike[str] | None = None,
    strict: bool = False,
) -> RgbdSource:
    """Open a recording with depth.

    Args:
        path: a folder of TUM RGB-D (``rgb.txt``, ``depth.txt``), 7-Scenes
            (``frame-000000.color.png``), ScanNet (``color/ depth/ pose/``), or any folder with a
            video or ``color/`` beside ``depth/`` (16-bit PNG, npz, npy).
        layout: one of ``LAYOUTS``; found out when left out.
        start: first frame, from 0.
        end: first frame no longer wanted.
        stride: every how many frames.
        max_frames: frames to hand out at most.
        intrinsics: fx, fy, cx, cy of the depth map in pixels counted from their centres; for
            folders that do not say them.
        depth_scale: metres of one unit of a depth map; by default 1/5000 for TUM, 0.001 for
            other whole numbers and 1 for floats.
        poses: a trajectory (TUM or KITTI) that replaces the poses of the recording: as many as
            there are frames, or with their times.
        strict: stop at a frame that cannot be read instead of leaving it out.

    Returns:
        The frames, an iterable of ``RgbdFrame``.

    Raises:
        SourceError: one line for what cannot be read.
        InputError: for options that make no sense.
    """
    selection = Selection(start, end, stride, max_frames)
    if intrinsics is not None and len(intrinsics) != 4:
        raise InputError(f"intrinsics are {list(intrinsics)}; expected fx, fy, cx, cy")
    if depth_scale is not None and not (np.isfinite(depth_scale) and depth_scale > 0):
        raise InputError(f"depth_scale is {depth_scale}; expected metres above 0")
    folder = Path(path).expanduser()
    found = find_layout(folder, layout)
    if poses is not None:
        found = _with_poses(found, Path(poses))
    return RgbdSource(
        folder, found, selection, intrinsics=intrinsics, depth_scale=depth_scale, strict=strict
    )


def _with_poses(layout: Layout, path: Path) -> Layout:
    from dataclasses import replace

    known = read_trajectory(path)
    if len(known) == len(layout.moments):
        given: list[Any] = list(known.poses)
    else:
        given = [pose_at(known, m.time_s) for m in layout.moments]
        if all(pose is None for pose in given):
            raise SourceError(
                f"{path} has {len(known)} poses for {len(layout.moments)} frames and none at their "
                "times; expected one for each"
            )
    moments = [replace(m, pose=p) for m, p in zip(layout.moments, given, strict=True)]
    return replace(layout, moments=moments)
