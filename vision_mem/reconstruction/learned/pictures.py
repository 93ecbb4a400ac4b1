"""A reconstruction of pictures alone: a network makes depth and poses, the rest is as ever."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.errors import InputError, ModelError, SourceError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.models.mem4d.load import load_network
from vision_mem.reconstruction.learned.network_input import Placing
from vision_mem.reconstruction.learned.segments import SegmentConfig, SegmentedSession
from vision_mem.reconstruction.learned.session import LearnedResult, LearnedSession
from vision_mem.reconstruction.records import LOST, MOVING, STATIC
from vision_mem.reconstruction.session import ReconstructionSession
from vision_mem.sinks.scene import SceneFrame
from vision_mem.sources.motion_masks import MovingMasks
from vision_mem.sources.open import open_source
from vision_mem.sources.rgbd import open_rgbd
from vision_mem.sources.rgbd_layouts import find_layout
from vision_mem.text import read_json
from vision_mem.types import Frame, MemoryUsage

_LEARNED, _CAMERA = "pictures.safetensors", "camera.json"
_SURE = 1.5
"""Confidence above which a point is worth keeping, as is the habit."""


class PictureSource:
    """Pictures in the place of a recording with depth.

    A recording gives its colour, and its poses and intrinsics where it has them; a video or a
    folder of images gives colour alone.

    Args:
        path: the source.
        network: that will look at it.
        given: start, end, stride, max_frames, strict; of a recording also layout, intrinsics,
            depth_scale, poses and how they are matched.
    """

    def __init__(self, path: str, network: Any, **given: Any) -> None:
        self._inner: Any
        if given["layout"] or _is_recording(Path(path)):
            self._inner = open_rgbd(path, **given)
            self.posed = self._inner.posed
        else:
            if given["poses"] is not None:
                raise InputError("--poses needs a recording with depth or times; leave it out")
            plain = ("start", "end", "stride", "max_frames", "strict")
            self._inner = open_source(path, **{name: given[name] for name in plain})
            self.posed = False
        self.doubts: list[str] = getattr(self._inner, "doubts", [])
        info = self._inner.info
        small = Placing.of((info.height, info.width), network.config).size
        self.info = replace(info, width=small[1], height=small[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def poses(self) -> Iterator[Any]:
        """Of a recording that has some."""
        return self._inner.poses() if self.posed else iter(())

    def close(self) -> None:
        """Close the source."""
        self._inner.close()


class PictureSession:
    """Two sessions in a row: pictures to depth and poses, and these to a map and what moves.

    The second one sees depth as a camera with fixed intrinsics would: those that are given, or
    those that the network found on the first frame. Where the network's memory must not take in
    what moves and the network does not say what does, the second session is asked: the network
    looks at each frame once more, and only then remembers it.

    Args:
        learned: the first.
        session: the second.
        masks: of what moves, or None.
        track_poses: do not show it the poses of the recording.
        intrinsics: fx, fy, cx, cy of the pictures, counted from pixel centres, or None.
    """

    def __init__(
        self, learned: LearnedSession | SegmentedSession, session: ReconstructionSession,
        masks: MovingMasks | None, track_poses: bool, intrinsics: Sequence[float] | None,
    ) -> None:  # fmt: skip
        self._learned, self._session, self._masks = learned, session, masks
        self._track, self._numbers = track_poses, intrinsics
        self._camera: Pinhole | None = None
        config = learned.network.config
        kept = config.persistent
        self._ask = kept.kind == "slots" and kept.slot_gate == "static" and not config.heads.mask

    def step(self, frame: Frame | RgbdFrame) -> SceneFrame:
        """Look at the next frame."""
        camera = None
        if isinstance(frame, RgbdFrame):
            frame = frame.without_pose() if self._track else frame
        elif self._numbers is not None:
            fx, fy, cx, cy = self._numbers
            camera = Pinhole.from_centres(fx, fy, cx, cy, frame.size[1], frame.size[0])
        masks = None if self._masks is None else self._masks.at(frame.index, frame.size)
        found = self._learned.step(frame, masks, camera=camera, update=not self._ask)
        seen = self._seen(frame, found)
        moving = found.dynamic_prob >= self._learned.config.moving
        scene = SceneFrame(seen, self._session.step(seen, moving if moving.any() else None))
        began = tuple(event for event in found.events if event.kind == "segment")
        if self._ask:
            placing = Placing.of(frame.size, self._learned.network.config)
            told = [] if masks is None else [masks]
            told.append(placing.original(scene.found.labels, STATIC) == MOVING)
            again = self._learned.step(frame, np.stack(told), camera=camera)
            began = tuple(event for event in again.events if event.kind == "segment")
        return replace(scene, found=replace(scene.found, events=(*scene.found.events, *began)))

    def _seen(self, frame: Frame | RgbdFrame, found: LearnedResult) -> RgbdFrame:
        """What a depth camera would have seen."""
        placing = Placing.of(frame.size, self._learned.network.config)
        small = (placing.small(frame.image).transpose(1, 2, 0) + 1) * 127.5
        camera = self._camera or found.camera
        depth = np.where(found.conf_self > _SURE, found.depth, 0).astype(np.float32)
        pose = None if found.pose_source == LOST else found.pose
        if pose is None:
            depth[:] = 0
        else:
            self._camera = camera
        image = small.round().astype(np.uint8)
        return RgbdFrame(frame.index, frame.time_s, image, depth, camera, pose)

    def usage(self) -> MemoryUsage:
        """What both hold now."""
        one, other = self._learned.usage(), self._session.usage()
        detail = {f"network {n}": size for n, size in one.detail.items()} | dict(other.detail)
        return MemoryUsage(one.entries + other.entries, one.bytes + other.bytes, detail)

    def snapshot(self, path: str | Path) -> None:
        """Write both to the folder of ``path``."""
        path = Path(path)
        self._session.snapshot(path)
        self._learned.snapshot(path.with_name(_LEARNED))
        c = self._camera
        numbers = None if c is None else [c.fx, c.fy, c.cx, c.cy, c.width, c.height]
        path.with_name(_CAMERA).write_text(json.dumps(numbers), encoding="utf-8")

    def resume(self, folder: Path) -> None:
        """Continue the first session from a snapshot's folder.

        Raises:
            ModelError: when it is damaged, or of another network.
        """
        learned = type(self._learned)
        self._learned = learned.resume(folder / _LEARNED, self._learned.network)
        try:
            numbers = read_json(folder / _CAMERA)
            self._camera = None if numbers is None else Pinhole(*numbers)
        except (ValueError, TypeError) as error:
            raise ModelError(f"snapshot {folder} is damaged: {_CAMERA}") from error


def _is_recording(path: Path) -> bool:
    try:
        return path.is_dir() and find_layout(path) is not None
    except SourceError:
        return False


def learned_session(
    model: str, gate: str | None, segment: int
) -> LearnedSession | SegmentedSession:
    """A session of a network, in segments of so many frames if any.

    Args:
        model: as ``load_network``.
        gate: as ``load_network``.
        segment: frames of one memory; 0 for one that never ends.

    Raises:
        InputError: for segments too short to share frames.
        ModelError: one line for a file that is none.
    """
    segments = SegmentConfig(frames=segment) if segment else None
    network = load_network(model, gate=gate)
    if segments is None:
        return LearnedSession(network)
    return SegmentedSession(network, segments=segments)
