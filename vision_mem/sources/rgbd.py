"""One door for recordings with depth: data sets, folders, depth maps beside a video."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.formats.depth import read_depth
from vision_mem.formats.rgbd_folders import StoredCamera
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.pose_checks import jumps, misread
from vision_mem.sources.images import read_image
from vision_mem.sources.pixels import to_rgb
from vision_mem.sources.rgbd_layouts import (
    LAYOUTS,
    MOST_APART_S,
    FrameFiles,
    Layout,
    StoredPicture,
    find_layout,
    is_robot_log,
    read_pose,
    with_poses,
)
from vision_mem.sources.rgbd_live import (
    LOOK_EVERY_S,
    PATIENCE_S,
    LiveRgbd,
    Patience,
    is_whole,
    rgbd_frames,
)
from vision_mem.sources.robot_logs import log_layout
from vision_mem.sources.selection import Selection, file_name, named_by_user, sequence_name
from vision_mem.types import SourceInfo

__all__ = ["LAYOUTS", "RgbdFrame", "RgbdSource", "open_rgbd", "rgbd_frames"]

log = logging.getLogger(__name__)

_FARTHEST, _NEAREST = 80.0, 0.02
"""Metres between which the median of a depth map lies when its scale is right."""

_NEAR_TUM, _MIDDLE_TUM = 0.3, 0.6
"""Metres that TUM's cameras do not see so near: nearest readings, and their median."""

_OFF, _ON = 0.12, 0.06
"""Share of an image by which its principal point is far from the middle, and near it."""

_SPARSE, _BETWEEN = 0.7, 0.4
"""Share of a depth map with readings below which it may be sparse, and the share of the rest that
then lies between readings: holes of glass and shadows do not."""

_STRETCH = 1.03
"""Ratio of proportions from which on two images do not show the same."""


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
        tell_unposed: warn where some frames have no pose, as one who tracks them wants to know.
        tell: look for what is odd and say it, a line each; False where the same recording is
            opened once more.

    Attributes:
        info: size of the depth maps, rate and length.
        camera: of all frames.
        posed: whether some frames have a pose.
        doubts: what may make results wrong, a line each; all of it has been said.

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
        tell_unposed: bool = True,
        tell: bool = True,
    ) -> None:
        self._path, self._layout, self._selection = path, layout, selection
        self._scale, self._strict, self._tell = depth_scale, strict, tell
        selection.check(str(path), len(layout.moments))
        stored = layout.camera
        if intrinsics is not None:
            fx, fy, cx, cy = (float(n) for n in intrinsics)
            stored = StoredCamera((fx, fy, cx, cy), "those given")
        if stored is None:
            raise SourceError(
                f"{path} has no file of intrinsics; put camera-intrinsics.txt (3x3) beside the "
                "frames, or give fx, fy, cx, cy"
            )
        self._told: set[str] = set()
        self.doubts: list[str] = []
        for note in layout.notes if tell else ():
            log.warning("%s", note)
        for doubt in layout.doubts:
            self._doubt(doubt)
        wanted = self._wanted()
        depth = self._depth(wanted[0][1])
        size, colour = (depth.shape[1], depth.shape[0]), self._colour_size()
        self.camera = self._camera(stored, size, colour)
        self._check_shapes(size if layout.fit else colour or size, size)
        self._poses = self._read_poses(wanted)
        times = [m.time_s for m in layout.moments]
        gap = float(np.median(np.diff(times))) if len(times) > 1 else 1 / 30
        height, width = depth.shape
        self.info = SourceInfo(
            sequence_name(path), width, height, 1 / gap if gap > 0 else 30.0, len(self._wanted())
        )
        missing = sum(m.pose is None for m in layout.moments)
        self.posed = bool(self._poses)
        if self.posed and missing and tell_unposed and tell:
            log.warning(
                "%s: %d of %d frames have no pose; they are tracked", path, missing, len(times)
            )
        if tell and len(self._poses) > 1:
            self._check_poses(dict(wanted))

    def __iter__(self) -> Iterator[RgbdFrame]:
        if self._layout.video is not None:
            yield from self._beside_video(self._layout.video)
            return
        for index, moment in self._wanted():
            yield from self._readable(index, moment)

    def poses(self) -> Iterator[tuple[int, float, NDArray[np.float64]]]:
        """Number, time and ``(4, 4)`` pose of each wanted frame whose pose the recording has."""
        for index, moment in self._wanted():
            if index in self._poses:
                yield index, moment.time_s, self._poses[index]

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
                    yield from self._readable(frame.index, wanted[frame.index], frame.image)
                if frame.index >= last:
                    return
        if count != len(moments):
            self._mismatch(count)

    def _mismatch(self, count: int) -> None:
        raise SourceError(
            f"{self._path}: {count} colour frames in {self._layout.video} and "
            f"{len(self._layout.moments)} depth frames; expected one depth map for each frame"
        )

    def _readable(
        self, index: int, moment: FrameFiles, image: NDArray[np.uint8] | None = None
    ) -> Iterator[RgbdFrame]:
        """The frame, or nothing where it cannot be read."""
        try:
            if image is None:
                assert moment.colour is not None
                image = _colour(moment.colour)
            made = self._frame(index, moment, image)
        except SourceError as error:
            if self._strict:
                raise
            log.warning("frame %d skipped: %s", index, error)
            return
        yield made

    def _doubt(self, text: str, about: str = "") -> None:
        """Say what may make results wrong, once."""
        if (about or text) not in self._told:
            self._told.add(about or text)
            self.doubts.append(text)
            if self._tell:
                log.warning("%s", text)

    def _colour_size(self) -> tuple[int, int] | None:
        """``(width, height)`` of the first colour image; None where it cannot be read."""
        moment = self._wanted()[0][1]
        try:
            height, width = _colour(moment.colour).shape[:2] if moment.colour else (0, 0)
        except SourceError:
            return None
        return (width, height) if width else None

    def _camera(
        self, stored: StoredCamera, size: tuple[int, int], colour: tuple[int, int] | None
    ) -> Pinhole:
        """Intrinsics of the depth maps, from those of an image of their size or another."""
        name, of = stored.source, stored.size or size
        if stored.built_in:
            numbers = ", ".join(f"{n:g}" for n in stored.numbers)
            self._doubt(
                f"{self._path} has no file of intrinsics: {name}, {numbers} of {of[0]} x {of[1]}, "
                "are used"
            )
        try:
            camera = Pinhole.from_centres(*stored.numbers, *of)
        except InputError as error:
            raise SourceError(f"{self._path}: {error}") from None
        where = f"{camera.cx:g}, {camera.cy:g}"
        if stored.size is None and colour and colour != size and _off(camera) > _OFF:
            other = Pinhole.from_centres(*stored.numbers, *colour)
            if _off(other) < _ON:
                self._doubt(
                    f"{name}: the middle {where} is that of the colour's {colour[0]} x "
                    f"{colour[1]}, not of the depth's {size[0]} x {size[1]}; scaled", "camera",
                )  # fmt: skip
                return other.resized(*size)
        if of != size:
            text = f"{name} is of {of[0]} x {of[1]}, the depth of {size[0]} x {size[1]}; scaled"
            if _stretch(of, size) > _STRETCH:
                self._doubt(f"{text}, though the proportions differ: is one of them cut?", "camera")
            elif not stored.built_in and self._tell:
                log.warning("%s", text)
        if _off(camera) > _OFF:
            self._doubt(
                f"{self._path}: the principal point {where} ({name}) is far from the middle of "
                f"{of[0]} x {of[1]}; are fx, fy, cx, cy of another image size?", "camera",
            )  # fmt: skip
        return camera.resized(*size)

    def _check_shapes(self, colour: tuple[int, int], depth: tuple[int, int]) -> None:
        if _stretch(colour, depth) > _STRETCH:
            self._doubt(
                f"{self._path}: colour of {colour[0]} x {colour[1]} is stretched to the depth's "
                f"{depth[0]} x {depth[1]}, of other proportions; do both show the same?", "shape",
            )  # fmt: skip

    def _read_poses(
        self, wanted: Sequence[tuple[int, FrameFiles]]
    ) -> dict[int, NDArray[np.float64]]:
        """Poses by number of frame, without those that are none."""
        found, odd = {}, []
        for index, moment in wanted:
            try:
                pose = read_pose(moment.pose) if isinstance(moment.pose, Path) else moment.pose
            except SourceError:
                if self._strict:
                    raise
                pose = None
            if pose is not None:
                found[index] = pose
            elif moment.pose is not None:
                odd.append(index)
        if odd and self._tell:
            log.warning(
                "%s: %d of %d poses are no rigid motion (frame %d is the first); those frames have "
                "none", self._path, len(odd), len(wanted), odd[0],
            )  # fmt: skip
        return found

    def _check_poses(self, wanted: dict[int, FrameFiles]) -> None:
        """Doubt poses that jump, and those that the depth contradicts."""
        numbers = list(self._poses)
        poses = np.stack(list(self._poses.values()))
        if leaps := jumps(poses, [wanted[k].time_s for k in numbers]):
            at, shift = leaps[0], np.diff(poses[:, :3, 3], axis=0)
            self._doubt(
                f"{self._path}: the camera jumps by {np.linalg.norm(shift[at - 1]):.1f} m before "
                f"frame {numbers[at]} ({len(leaps)} jumps in all); are poses and frames in order?"
            )
        if self._told & {"scale", "camera"}:
            return  # what is wrong with depth is told, and depth proves nothing
        pairs = []
        for spot, gap in ((0.1, 5), (0.1, 15), (0.5, 5), (0.5, 15), (0.8, 5), (0.8, 15)):
            last = len(numbers) - 1
            one = min(int(spot * len(numbers)), max(last - 1, 0))
            views = [(numbers[k], poses[k]) for k in (one, min(one + gap, last))]
            try:
                both = [(self._depth(wanted[k]), pose) for k, pose in views]
            except SourceError:
                continue
            size = (self.camera.height, self.camera.width)
            if all(depth.shape == size for depth, _ in both):
                pairs.append((both[0], both[1]))
        if (found := misread(pairs, self.camera)) is not None:
            share, way, then = found
            advice = (
                f"read as {way}, {then:.0%} would" if way else "are order, axes and times right?"
            )
            self._doubt(
                f"{self._path}: under its poses only {share:.0%} of the depth agrees between "
                f"frames; {advice}"
            )

    def _depth(self, moment: FrameFiles) -> NDArray[np.float32]:
        place = moment.depth
        stored = read_depth(place) if isinstance(place, Path) else place.read()
        whole = stored.dtype.kind in "ui"
        scale = self._scale or (self._layout.scale if whole else 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            depth = stored.astype(np.float64) * scale
            depth[~(np.isfinite(depth) & (depth > 0) & (depth < 1e6))] = 0
        if whole:
            most = np.iinfo(np.dtype(stored.dtype.str)).max
            depth[stored == most] = 0  # "no reading" of 7-Scenes and others
        self._check_scale(moment.depth, depth, stored.dtype)
        return depth.astype(np.float32)

    def _check_scale(
        self, path: Path | StoredPicture, depth: NDArray[np.float64], kind: np.dtype[Any]
    ) -> None:
        known = depth[depth > 0]
        middle = float(np.median(known)) if len(known) else 1.0
        if kind == np.uint8 and self._scale is None:
            self._doubt(
                f"{path} has 8 bits: a picture for people, not millimetres? Such depth has steps; "
                "set depth_scale (metres of one unit) if it is meant", "scale",
            )  # fmt: skip
        elif not _NEAREST <= middle <= _FARTHEST:
            guess = "millimetres read as metres" if middle > _FARTHEST else "metres scaled down"
            self._doubt(
                f"{path}: the median depth is {middle:g} m; is it {guess}? Set depth_scale (metres "
                "of one unit)", "scale",
            )  # fmt: skip
        elif self._layout.name == "tum" and self._scale is None and kind.kind in "ui" and (
            middle < _MIDDLE_TUM or (len(known) and np.percentile(known, 1) < _NEAR_TUM)
        ):  # fmt: skip
            self._doubt(
                f"{path}: as TUM's 1/5000 m the nearest depth is {np.percentile(known, 1):.2f} m "
                f"and the median {middle:.2f} m; are they millimetres? Then set depth_scale to "
                "0.001", "scale",
            )  # fmt: skip
        self._check_holes(path, depth > 0)
        if not len(known) and "holes" not in self._told:
            self._told.add("holes")
            log.warning("%s has no reading at all; such frames tell nothing", path)

    def _check_holes(self, path: Path | StoredPicture, known: NDArray[np.bool_]) -> None:
        share = float(known.mean())
        if "sparse" in self._told or not 0 < share < _SPARSE:
            return
        closed = cv2.morphologyEx(
            known.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)
        )
        if closed.mean() - share >= _BETWEEN * (1 - share):
            self._doubt(
                f"{path}: depth is sparse, {share:.0%} of it measured; holes between readings are "
                "filled where that is needed", "sparse",
            )  # fmt: skip

    def _frame(self, index: int, moment: FrameFiles, image: NDArray[np.uint8]) -> RgbdFrame:
        depth = self._depth(moment)
        size = (depth.shape[1], depth.shape[0])
        camera = self.camera
        if (camera.height, camera.width) != depth.shape:
            raise SourceError(
                f"{moment.depth} has {size[0]} x {size[1]} pixels, unlike the first depth map"
            )
        if self._layout.fit is not None:
            image = self._layout.fit(image, depth, camera)
        if image.shape[:2] != depth.shape:
            # The intrinsics are those of the depth map; colour has another resolution (ScanNet).
            self._check_shapes((image.shape[1], image.shape[0]), size)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        return RgbdFrame(index, moment.time_s, image, depth, camera, self._poses.get(index))


class FollowedRgbd(RgbdSource):
    """A folder that another program still fills; new frames are waited for.

    A frame is handed out when its pictures have been written to their ends, and its pose is
    there, where frames before it had one. What is not whole after two seconds, while others came
    after it, is left out with a warning.

    Args:
        look: looks at the folder and lists its frames, as they are now.
        wait_s: seconds without news after which the recording is at its end.
        path, selection, options: as of ``RgbdSource``.

    Raises:
        SourceError: when no whole frame was there after ``wait_s`` seconds.
    """

    def __init__(
        self,
        path: Path,
        look: Callable[[], Layout],
        selection: Selection,
        wait_s: float,
        **options: Any,
    ) -> None:
        self._look, self._wait, self._pause = look, wait_s, LOOK_EVERY_S
        begun = replace(selection, start=0, max_frames=None, end=None)
        patience = Patience(wait_s)
        while True:
            try:
                # What has no partner yet may get one.
                found = replace(look(), notes=())
                if not all(map(_is_there, found.moments[: begun.stride])):
                    raise SourceError(f"{path}: its first frame is not whole after {wait_s:g} s")
                super().__init__(path, found, begun, **options)
                break
            except SourceError:
                if patience.ends():
                    raise
        self._selection = selection
        self.info = replace(self.info, frame_count=None, live=True)

    def __iter__(self) -> Iterator[RgbdFrame]:
        patience, index, last, count = Patience(self._wait), 0, -np.inf, 0
        stuck = None
        while True:
            moments = self._news(last)
            for at, moment in enumerate(moments):
                chosen = self._selection.wants(index)
                if self._selection.past(index) or count == self._selection.max_frames:
                    return
                if chosen and not self._complete(moment):
                    now = time.monotonic()
                    stuck = stuck if stuck is not None and stuck[0] == index else (index, now)
                    late = now - stuck[1] > min(PATIENCE_S, self._wait / 2)
                    if not late or (at == len(moments) - 1 and not _is_there(moment)):
                        break
                patience.renew()
                last = moment.time_s
                if chosen:
                    for frame in self._made(index, moment):
                        count += 1
                        yield frame
                    patience.renew()
                index += 1
            if patience.ends(self._pause):
                if stuck is not None and stuck[0] == index:
                    log.warning("frame %d left out: it was never written to its end", index)
                return

    def _news(self, last: float) -> Sequence[FrameFiles]:
        """Frames after a time, by a new look at the folder."""
        began = time.monotonic()
        try:
            self._layout = self._look()
        except SourceError as error:  # a list whose last row is being written
            log.debug("%s", error)
            return ()
        finally:
            # Listing a long folder takes a while, and is not to take all of the time.
            self._pause = max(LOOK_EVERY_S, 4 * (time.monotonic() - began))
        return [moment for moment in self._layout.moments if moment.time_s > last]

    def _complete(self, moment: FrameFiles) -> bool:
        return _is_there(moment) and (moment.pose is not None or not self.posed)

    def _made(self, index: int, moment: FrameFiles) -> Iterator[RgbdFrame]:
        self._poses |= self._read_poses([(index, moment)])
        yield from self._readable(index, moment)

    def poses(self) -> Iterator[tuple[int, float, NDArray[np.float64]]]:
        """As of ``RgbdSource``, of the frames so far."""
        times = [moment.time_s for moment in self._layout.moments]
        for index, pose in sorted(self._poses.items()):
            yield index, times[index] if index < len(times) else 0.0, pose


def _colour(place: Path | StoredPicture) -> NDArray[np.uint8]:
    return read_image(place) if isinstance(place, Path) else to_rgb(place.read())


def _is_there(moment: FrameFiles) -> bool:
    """Whether all files of a frame are whole."""
    return all(
        is_whole(each)
        for each in (moment.colour, moment.depth, moment.pose)
        if isinstance(each, Path)
    )


def _off(camera: Pinhole) -> float:
    """Share of the image by which the principal point is away from the middle."""
    return max(abs(camera.cx / camera.width - 0.5), abs(camera.cy / camera.height - 0.5))


def _stretch(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Ratio of the proportions of two sizes, 1 or more."""
    ratio = one[0] * other[1] / (one[1] * other[0])
    return max(ratio, 1 / ratio)


def open_rgbd(
    path: str | os.PathLike[str] | Iterable[Any],
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
    pose_tolerance: float = MOST_APART_S,
    pose_offset: float = 0.0,
    tell_unposed: bool = True,
    tell: bool = True,
    follow_for: float | None = None,
    topics: Sequence[str] = (),
    name: str = "stream",
) -> RgbdSource | LiveRgbd:
    """Open a recording with depth, or a live source.

    Args:
        path: a folder of TUM RGB-D (``rgb.txt``, ``depth.txt``), 7-Scenes
            (``frame-000000.color.png``), ScanNet (``color/ depth/ pose/``), or any folder with a
            video or ``color/`` beside ``depth/`` (16-bit PNG, npz, npy); a robot's log (``.bag``,
            ``.mcap``, a folder with ``metadata.yaml``); or frames as ``rgbd_frames`` takes them,
            from any iterator: a live camera.
        layout: one of ``LAYOUTS``; found out when left out.
        start: first frame, from 0.
        end: first frame no longer wanted.
        stride: every how many frames.
        max_frames: frames to hand out at most.
        intrinsics: fx, fy, cx, cy of the depth map in pixels counted from their centres; for
            folders that do not say them.
        depth_scale: metres of one unit of a depth map; by default 1/5000 for TUM, 0.001 for
            other whole numbers and 1 for floats.
        poses: a trajectory (TUM, KITTI, EuRoC) that replaces the poses of the recording: with the
            times of frames, or as many as there are frames.
        strict: stop at a frame that cannot be read instead of leaving it out.
        pose_tolerance: seconds by which a pose of a trajectory may be away from its frame.
        pose_offset: seconds to add to the times of a trajectory.
        tell_unposed: as ``RgbdSource``.
        tell: as ``RgbdSource``.
        follow_for: wait for frames that another program still writes into the folder, until none
            came for so many seconds; None takes what is there.
        topics: of a robot's log, to take in place of those that would be chosen.
        name: of a live source, for files of results.

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
    if not (np.isfinite(pose_offset) and pose_tolerance >= 0):
        raise InputError(
            f"pose_tolerance is {pose_tolerance} and pose_offset {pose_offset}; expected seconds, "
            "the tolerance 0 or more"
        )
    if not isinstance(path, (str, os.PathLike)):
        if poses is not None:
            raise InputError("poses of a live source come with its frames; leave out the file")
        frames = rgbd_frames(path, intrinsics=intrinsics, depth_scale=depth_scale)
        return LiveRgbd(frames, selection, file_name(name))
    folder = Path(path).expanduser()
    given = None if poses is None else Path(poses)
    options: dict[str, Any] = {
        "intrinsics": intrinsics, "depth_scale": depth_scale, "strict": strict,
        "tell_unposed": tell_unposed, "tell": tell,
    }  # fmt: skip

    def look() -> Layout:
        if is_robot_log(folder):
            found = log_layout(folder, topics)
            return with_poses(found, folder, given, pose_tolerance, pose_offset)
        found = find_layout(folder, layout, growing=follow_for is not None)
        return with_poses(found, folder, given, pose_tolerance, pose_offset)

    logged = is_robot_log(folder)
    if topics and not logged:
        raise InputError(f"topics are those of a robot's log, and {folder} is none; leave them out")
    if logged and follow_for is not None:
        raise InputError(
            f"{folder} is a robot's log, which can be read once it is closed; what grows may be a "
            "folder of pictures, or JSON lines"
        )
    with named_by_user():
        if follow_for is not None:
            return FollowedRgbd(folder, look, selection, follow_for, **options)
        return RgbdSource(folder, look(), selection, **options)
