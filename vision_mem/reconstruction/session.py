"""Rebuild a moving scene from depth: one ``step`` a frame, two memories, bounded.

A step finds the camera, takes the frame apart into what stays and what moves, and writes each
part into its memory. Nothing is written on a frame whose pose is not believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.config import load_config
from vision_mem.errors import ModelError
from vision_mem.formats.snapshot import load_session, save_snapshot
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.geometry.poses import inverse
from vision_mem.reconstruction import dynamic_objects
from vision_mem.reconstruction.camera_tracking import Location, Locator
from vision_mem.reconstruction.config import ReconstructionConfig
from vision_mem.reconstruction.dynamic_objects import (
    Component,
    DynamicsConfig,
    DynamicsState,
    MovingPoints,
    MovingTrack,
    find_components,
)
from vision_mem.reconstruction.kernels.dispatch import choose
from vision_mem.reconstruction.meshing import Mesh, mesh_of, smoothed_map
from vision_mem.reconstruction.motion_segmentation import (
    Emptiness,
    KeyFrames,
    grown,
    nearest_depth,
    where_seen,
)
from vision_mem.reconstruction.records import (
    LOST,
    MAYBE,
    MOVING,
    PARKED,
    STATIC,
    UNKNOWN,
    ReconstructionResult,
    StageClock,
    check_order,
)
from vision_mem.reconstruction.surfel_map import StructureMemory
from vision_mem.reconstruction.voxel_grid import StaticMap
from vision_mem.reconstruction.working_size import WorkingFrame, smoothed, thin, thin_masks
from vision_mem.types import Event, MemoryUsage

_MODEL_ID = "geometric"
_TOLD, _FADE = 25, 0.8
"""Trusted voxels that must die within about five frames for it to be an event."""


class ReconstructionSession:
    """Rebuilds the scene of one stream.

    Args:
        config: settings; the defaults are the preset ``default``.

    Raises:
        MissingExtra: when the settings ask for numba and it is not installed.
    """

    def __init__(self, config: ReconstructionConfig | None = None) -> None:
        self.config = config or ReconstructionConfig()
        self._kernels = choose(self.config.kernels)
        self.reset()

    # -- the public face -----------------------------------------------------------------------

    def reset(self) -> None:
        """Forget everything; equal to a new session."""
        self._structure: StructureMemory | None = None
        self._keys: KeyFrames | None = None
        self._dynamics = DynamicsState()
        self._locator = Locator(self._kernels, self.config.odometry, self.config.most_places)
        self._steps = 0
        self._time_s = -np.inf
        self._index = -1
        self._demoted = 0.0

    def step(
        self, frame: RgbdFrame, masks: ArrayLike | Iterable[ArrayLike] | None = None
    ) -> ReconstructionResult:
        """Look at the next frame.

        Args:
            frame: colour, depth and, where it is known, the pose. Known poses are used as they
                are; the others are found against the structure.
            masks: ``(H, W)`` or ``(n, H, W)`` bool: pixels that something else says move, such as
                the objects of ``track`` or ``mots``; they are believed.

        Returns:
            Pose, labels, tracks and events.

        Raises:
            InputError: for a frame out of order, or masks of another size; the session is as
                before.
        """
        check_order(frame, self._index, self._time_s)
        clock = StageClock()
        small = thin(frame, self.config)
        told = thin_masks(masks, frame.size, small.stride)
        points, normals = self._surface(small)
        clock.lap("surface")
        structure = self._room_for(small)
        keys = self._keys_for(small)
        at = self._locator.locate(frame, small, points, normals, structure, told)
        clock.lap("pose")
        view = np.ascontiguousarray(inverse(at.pose)[:3])
        if at.source == LOST:
            result = self._lost(frame, at, clock)
            self._commit(frame, structure, keys)
            return result
        world = _moved(points, at.pose)
        world[small.depth <= 0] = np.nan
        nearest = nearest_depth(small.depth)
        surface = np.asarray(normals.any(axis=-1))
        seen = keys.judge(world, surface)
        moving = cv2.medianBlur(seen.empty.astype(np.uint8), 3).astype(bool) & (small.depth > 0)
        if told is not None:
            moving |= told & (small.depth > 0)
        seconds = min(frame.time_s - self._time_s, 1.0) if self._steps else 0.0
        awaited = dynamic_objects.expected_points(self._dynamics, seconds, self.config.dynamics)
        expected = where_seen(awaited, small, view, self.config.evidence)
        moving = grown(moving, expected, surface, small.depth, self.config.evidence)
        clock.lap("evidence")
        labels, ids, events = self._take_apart(frame, seconds, small, moving, world, seen, told)
        which = labels >= MOVING  # also what may move
        moving_points = MovingPoints(
            frame.index, frame.time_s, world[which], small.image[which], ids[which]
        )
        self._dynamics = dynamic_objects.remember(
            self._dynamics, moving_points, self.config.dynamics
        )
        self._locator.learn(small, at, which)
        clock.lap("dynamics")
        sight = (view, small.camera.numbers, small.size)
        self._write_static(structure, small, world, normals, labels, at, sight)
        clock.lap("fuse")
        rules = self.config.evidence
        _, demoted = structure.carve(nearest, sight, rules.base, rules.slope)
        clock.lap("carve")
        keys.write(small.depth, nearest, view, frame.time_s)
        self._commit(frame, structure, keys)
        self._demoted = _FADE * self._demoted + demoted
        if self._demoted >= _TOLD:
            voxels = f"{self._demoted:.0f} voxels"
            events.append(Event("demoted", 0, frame.index, frame.time_s, voxels))
            self._demoted = 0.0
        if at.found_again:
            events.insert(0, Event("found", 0, frame.index, frame.time_s, "camera"))
        known = frame.depth > 0
        maps = small.enlarged(labels) * known, small.enlarged(ids) * known
        return self._result(frame, at, maps, moving_points.where(labels[which] != MAYBE), events,
                            clock)  # fmt: skip

    def static_map(self, *, smooth: bool = True) -> StaticMap:
        """Trusted structure as points with normals and colours; empty before the first frame.

        Args:
            smooth: move the points onto the surface that neighbours agree on; memory stays.
        """
        if self._structure is None:
            nothing = np.zeros((0, 3), np.float32)
            none = np.zeros(0, np.int32)
            return StaticMap(nothing, nothing, nothing.astype(np.uint8), none, 0.0)
        found = self._structure.read()
        return smoothed_map(found) if smooth else found

    def mesh(self) -> Mesh:
        """Triangles through the smoothed static map."""
        return mesh_of(self.static_map())

    def usage(self) -> MemoryUsage:
        """What is held between frames, to the byte."""
        parts = {
            "structure": self._structure.nbytes if self._structure else 0,
            "key frames": self._keys.nbytes if self._keys else 0,
            "moving points": self._dynamics.nbytes,
            "last frame": self._locator.nbytes,
            "places": self._locator.places.nbytes,
        }
        entries = (self._structure.count if self._structure else 0) + len(self._dynamics.tracks)
        return MemoryUsage(entries, sum(parts.values()), parts)

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole state, copied: what comes later does not change it."""
        return {
            "steps": self._steps,
            "index": self._index,
            "demoted": self._demoted,
            "time_s": self._time_s if self._steps else 0.0,
            "structure": None if self._structure is None else self._structure.state_dict(),
            "key_frames": None if self._keys is None else self._keys.state_dict(),
            "dynamics": self._dynamics.state_dict(),
            "locator": self._locator.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ModelError: when the state is not one of a reconstruction session; nothing is changed.
        """
        kernels, config = self._kernels, self.config
        try:
            held, keys = state["structure"], state["key_frames"]
            structure = held and StructureMemory.from_state(held, kernels, config.structure)
            key_frames = keys and KeyFrames.from_state(keys, kernels, config.evidence)
            moving = DynamicsState.from_state(state["dynamics"])
            locator = Locator.from_state(
                state["locator"], kernels, config.odometry, config.most_places
            )
            steps, index = int(state["steps"]), int(state["index"])
            seconds = float(state["time_s"]) if steps else -np.inf
            demoted = float(state["demoted"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ModelError(
                f"this is not a whole state of a reconstruction session ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:60]})"
            ) from error
        self._structure, self._keys, self._dynamics = structure, key_frames, moving
        self._locator, self._steps, self._index, self._time_s = locator, steps, index, seconds
        self._demoted = demoted

    def snapshot(self, path: str | Path) -> None:
        """Write both memories to one file, whole or not at all.

        Args:
            path: file name, ``.safetensors`` by custom.

        Raises:
            SinkError: when it cannot be written.
        """
        header = {"kind": "reconstruct", "model_id": _MODEL_ID, "config": asdict(self.config)}
        save_snapshot(path, self.state_dict(), header)

    @classmethod
    def resume(cls, path: str | Path) -> ReconstructionSession:
        """Continue a session from its snapshot, bit for bit on the same machine.

        Raises:
            ModelError: for a damaged file, or one of another kind; one line.
        """
        state, given = load_session(path, "reconstruct", _MODEL_ID)
        try:
            config = load_config(ReconstructionConfig, None, dict(given), folder="reconstruction")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"snapshot {path} has settings this version cannot read") from error
        session = cls(config)
        try:
            session.load_state_dict(state)
        except ModelError as error:
            raise ModelError(f"snapshot {path}: {error}") from error
        return session

    # -- one frame -----------------------------------------------------------------------------

    def _surface(self, small: WorkingFrame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        points = np.empty((*small.depth.shape, 3), np.float32)
        normals = np.empty_like(points)
        smooth = smoothed(small.depth)
        jump = self.config.evidence.jump
        camera = small.camera.numbers
        self._kernels.surface(small.depth, smooth, camera, jump, points, normals)
        return points, normals

    def _room_for(self, small: WorkingFrame) -> StructureMemory:
        if self._structure is not None:
            return self._structure
        voxel = self.config.structure.voxel
        if voxel == 0:
            known = small.depth[small.depth > 0]
            middle = float(np.median(known)) if len(known) else 2.0
            voxel = float(np.clip(2 * middle / small.camera.fx, 0.02, 0.08))
        capacity = self.config.voxels_for(small.depth.size)
        return StructureMemory(self._kernels, self.config.structure, voxel, capacity)

    def _keys_for(self, small: WorkingFrame) -> KeyFrames:
        keys, size = self._keys, small.size
        if keys is not None and keys.fits(small.camera.numbers, size):
            return keys
        return KeyFrames(self._kernels, self.config.evidence, small.camera.numbers, size)

    def _take_apart(
        self,
        frame: RgbdFrame,
        seconds: float,
        small: WorkingFrame,
        moving: NDArray[np.bool_],
        world: NDArray[np.float32],
        seen: Emptiness,
        told: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32], list[Event]]:
        """Labels and track ids of all pixels, and what happened to the tracks."""
        config = self.config.dynamics
        components = find_components(moving, world, small.depth, seen.agreed, seen.sure, config)
        if told is not None:
            components = [
                replace(c, told=bool(told.ravel()[c.pixels].mean() > 0.5)) for c in components
            ]
        self._dynamics, ids, happened = dynamic_objects.follow(
            self._dynamics, components, frame.index, seconds, config
        )
        labels = np.where(small.depth > 0, STATIC, UNKNOWN).astype(np.uint8)
        numbers = np.zeros(labels.shape, np.int32)
        tracks = {t.track_id: t for t in self._dynamics.tracks}
        for component, track_id in zip(components, ids, strict=True):
            labels.ravel()[component.pixels] = _label(component, tracks.get(track_id), config)
            numbers.ravel()[component.pixels] = max(track_id, 0)
        if told is not None:
            labels[told & (small.depth > 0)] = MOVING
        events = [
            Event(word, track.track_id, frame.index, frame.time_s) for word, track in happened
        ]
        return labels, numbers, events

    def _write_static(
        self,
        structure: StructureMemory,
        small: WorkingFrame,
        world: NDArray[np.float32],
        normals: NDArray[np.float32],
        labels: NDArray[np.uint8],
        at: Location,
        sight: Any,
    ) -> None:
        held = (labels != STATIC).astype(np.uint8) * (small.depth > 0)
        if self.config.evidence.grow and held.any():
            side = 2 * self.config.evidence.grow + 1
            held = cv2.dilate(held, np.ones((side, side), np.uint8))
        # At edges of depth a reading is often a mix of two surfaces.
        fit = (labels == STATIC) & (held == 0) & normals.any(axis=-1)
        turned = normals[fit] @ at.pose[:3, :3].T.astype(np.float32)
        weights = np.minimum(1.0, (1.5 / small.depth[fit]) ** 2).astype(np.float32)
        structure.write(self._steps, world[fit], turned, small.image[fit], weights, sight)

    def _lost(self, frame: RgbdFrame, at: Location, clock: StageClock) -> ReconstructionResult:
        none = np.zeros((0, 3), np.float32)
        nothing = MovingPoints(
            frame.index, frame.time_s, none, none.astype(np.uint8), np.zeros(0, np.int32)
        )
        events = [Event("lost", 0, frame.index, frame.time_s, "camera")] if at.just_lost else []
        maps = np.zeros(frame.size, np.uint8), np.zeros(frame.size, np.int32)
        return self._result(frame, at, maps, nothing, events, clock)

    def _result(
        self, frame: RgbdFrame, at: Location, maps: tuple[NDArray[np.uint8], NDArray[np.int32]],
        moving_points: MovingPoints, events: list[Event], clock: StageClock,
    ) -> ReconstructionResult:  # fmt: skip
        """An answer from labels and track ids of all pixels."""
        return ReconstructionResult(
            frame.index, frame.time_s, frame.size, at.pose, at.source, at.inliers, *maps,
            tuple(t for t in self._dynamics.tracks if t.sure), moving_points, tuple(events),
            at.reason, clock.laps,
            tuple(t for t in self._dynamics.tracks if t.confirmed and not t.sure),
            at.open, at.deviation,
        )  # fmt: skip

    def _commit(self, frame: RgbdFrame, structure: StructureMemory, keys: KeyFrames) -> None:
        self._structure, self._keys = structure, keys
        self._steps += 1
        self._index, self._time_s = frame.index, frame.time_s


def _label(found: Component, track: MovingTrack | None, config: DynamicsConfig) -> int:
    """What is said of a component's pixels."""
    sure = track is not None and track.sure
    if track is not None and track.state == dynamic_objects.PARKED:
        return PARKED if sure else MAYBE
    if sure and track is not None and track.unsure <= config.patience:
        return MOVING
    return MOVING if dynamic_objects.surely_moves(found, config) else MAYBE


def _moved(points: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float32]:
    turn, shift = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
    return (points.reshape(-1, 3) @ turn.T + shift).reshape(points.shape)
