"""Rebuild a moving scene from pictures alone: one ``step`` a frame, two memories, bounded.

A step encodes the frame, reads both memories in turn, and writes what it saw: everything into the
ring of recent frames, what stays into the persistent memory. Frames that cannot be believed are
read and not written.

Source: specs/mem4d.md sections 1, 2.8 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, ModelError
from vision_mem.formats.snapshot import load_session, save_snapshot
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.pointmaps import focal_of, weighted_rigid
from vision_mem.geometry.poses import made_rigid
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.models.mem4d.protocol import Decoded
from vision_mem.reconstruction.dynamic_objects import MovingPoints
from vision_mem.reconstruction.learned.network_input import Placing
from vision_mem.reconstruction.learned.stream import (
    LearnedState,
    Look,
    advance,
    stream_from_state,
    stream_state,
)
from vision_mem.reconstruction.learned.structure_bank import Bank
from vision_mem.reconstruction.records import (
    FIRST,
    GIVEN,
    LOST,
    MOVING,
    STATIC,
    UNKNOWN,
    ReconstructionResult,
    StageClock,
    check_order,
)
from vision_mem.reconstruction.voxel_grid import StaticMap
from vision_mem.reconstruction.working_size import thin_masks
from vision_mem.types import Event, Frame, MemoryUsage

HEAD, PROCRUSTES = "head", "procrustes"
"""Sources of poses besides those of every reconstruction."""


@dataclass(frozen=True, kw_only=True)
class LearnedResult(ReconstructionResult):
    """One frame as the network sees it.

    Maps are of the small picture that the network works on; ``labels`` are of the frame.

    Attributes:
        points_self: ``(h, w, 3)`` float32 in this frame's camera; z is depth.
        points_world: ``(h, w, 3)`` float32 in the world, where things are at this moment.
        conf_self, conf_world: ``(h, w)`` float32 >= 1.
        dynamic_prob: ``(h, w)`` float32 in [0, 1].
        camera: of the small picture: given, or found and steadied over frames.
        to_original: ``(2, 3)`` float64 affine from x, y of the small picture to the frame's.
        stats: bytes and tokens of both memories, attention to each, errors; plain numbers.
    """

    points_self: NDArray[np.float32]
    points_world: NDArray[np.float32]
    conf_self: NDArray[np.float32]
    conf_world: NDArray[np.float32]
    dynamic_prob: NDArray[np.float32]
    camera: Pinhole
    to_original: NDArray[np.float64]
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def depth(self) -> NDArray[np.float32]:
        """``(h, w)`` z of the points."""
        return self.points_self[..., 2]


POSES = ("auto", "head", "procrustes")
_FITS, _ENOUGH = 0.05, 0.5
"""Share of the depth within which a point fits a pose, and share of them that must."""
_REMEMBERED, _POOR, LOST_FRAMES = 30, 0.3, 10
"""Frames of the running medians; share of the usual confidence below which nothing is written;
such frames in a row that make the camera lost."""


@dataclass(frozen=True)
class LearnedConfig:
    """Settings of a session beside those of its network.

    Attributes:
        poses: ``head``, ``procrustes`` between the two point maps, or ``auto``: the latter where
            most points fit it.
        moving: probability from which on a pixel moves.
    """

    poses: str = "auto"
    moving: float = 0.5

    def __post_init__(self) -> None:
        if self.poses not in POSES:
            raise InputError(f"poses is {self.poses!r}; expected one of {', '.join(POSES)}")
        if not 0 < self.moving < 1:
            raise InputError(f"moving is {self.moving}; expected a number between 0 and 1")


class LearnedSession:
    """Rebuilds the scene of one stream with a network.

    Args:
        network: shared by any number of sessions; it is not changed.
        config: settings.
    """

    def __init__(self, network: Mem4DNetwork, config: LearnedConfig | None = None) -> None:
        self.network, self.config = network, config or LearnedConfig()
        self.reset()

    # -- the public face -----------------------------------------------------------------------

    def reset(self) -> None:
        """Forget everything; equal to a new session. The next frame defines the world."""
        self._state = LearnedState.start(self.network, 1)
        self._world = np.eye(4)
        self._index, self._time_s, self._steps = -1, -np.inf, 0
        self._focals: list[tuple[float, float]] = []
        self._usual: list[float] = []
        self._poor = 0

    @torch.no_grad()
    def step(
        self, frame: Frame | RgbdFrame, masks: ArrayLike | Iterable[ArrayLike] | None = None, *,
        camera: Pinhole | None = None, update: bool = True,
    ) -> LearnedResult:  # fmt: skip
        """Look at the next frame.

        Args:
            frame: colour; of an ``RgbdFrame`` also its intrinsics, and its pose if it has one.
                Depth is not used.
            masks: ``(H, W)`` or ``(n, H, W)`` bool: pixels that something else says move.
            camera: intrinsics of a plain frame, where they are known.
            update: False to look without remembering: the session is as before.

        Returns:
            Pose, points, labels and what moves.

        Raises:
            InputError: for a frame out of order, or masks or intrinsics of another size; the
                session is as before.
        """
        check_order(frame, self._index, self._time_s)
        clock = StageClock()
        placing = Placing.of(frame.size, self.network.config)
        known = frame.camera if isinstance(frame, RgbdFrame) else camera
        if known is not None and (known.height, known.width) != frame.size:
            raise InputError(
                f"intrinsics are of {known.width} x {known.height} pixels; frame {frame.index} has "
                f"{frame.size[1]} x {frame.size[0]}"
            )
        told = thin_masks(masks, frame.size, 1)
        world, pose = self._world, frame.pose if isinstance(frame, RgbdFrame) else None
        if pose is not None and self._steps == 0:
            world = pose
        look = Look(
            pose=None if pose is None else self._tensor(np.linalg.inv(world) @ pose)[None],
            moving=None if told is None else self._tensor(placing.small_mask(told)).bool()[None],
        )
        rays = None
        if known is not None:
            rays = self._tensor(placing.camera(known).rays()[..., :2])[None]
        images = self._tensor(placing.small(frame.image))[None]
        clock.lap("prepare")
        decoded, state = advance(self.network, self._state, images, rays, look=look)
        clock.lap("network")
        reason = self._doubt(decoded)
        local, source, fit = self._choose_pose(decoded, pose is not None)
        poor = self._poor + 1 if reason else 0
        if poor >= LOST_FRAMES or (reason and self._steps == 0):
            source = LOST
        if source == LOST or "finite" in reason:
            local = self._state.pose[0].cpu().double().numpy()
            source = LOST
        seen_camera, focals = self._camera(decoded, placing, known, bool(reason))
        result = self._result(
            frame, placing, decoded, state, world @ made_rigid(local), source, fit,
            seen_camera, known is not None, told, reason, clock,
        )  # fmt: skip
        if not update:
            return result
        self._steps, self._world = self._steps + 1, world
        self._index, self._time_s, self._poor = frame.index, frame.time_s, poor
        if not reason:
            self._state, self._focals = state, focals
            self._usual = [*self._usual[1 - _REMEMBERED :], _sureness(decoded)]
        return result

    def static_map(self) -> StaticMap:
        """Places of the persistent memory's tokens; empty for memories without places.

        Tokens have neither normals nor colours: they are 0 and grey.
        """
        store = self._state.store
        points = np.zeros((0, 3), np.float32)
        hits = np.zeros(0, np.int32)
        voxel = 0.0
        if isinstance(store, Bank):
            held = store.valid[0].cpu().numpy()
            points = store.centroids[0].detach().float().cpu().numpy()[held]
            points = (points @ self._world[:3, :3].T + self._world[:3, 3]).astype(np.float32)
            hits = store.hits[0].cpu().numpy()[held].astype(np.int32)
            rules = store.settings
            voxel = rules.voxel or rules.voxel_share * float(store.depth[0])
        grey = np.full(points.shape, 128, np.uint8)
        return StaticMap(points, np.zeros_like(points), grey, hits, voxel)

    def usage(self) -> MemoryUsage:
        """What is held between frames, to the byte; nothing before the first one."""
        if not self._steps:
            return MemoryUsage(0, 0)
        state = self._state
        features = state.features
        parts = {
            "persistent": 0 if state.store is None else state.store.nbytes,
            "transient": 0 if state.ring is None else state.ring.nbytes,
            "pose": state.pose_state.numel() * state.pose_state.element_size(),
            "last frame": 0 if features is None else features.numel() * features.element_size(),
        }
        memories: tuple[Any, ...] = (state.store, state.ring)
        entries = sum(part.count for part in memories if part is not None)
        return MemoryUsage(entries, sum(parts.values()), parts)

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole state, copied."""
        return {
            "steps": self._steps,
            "index": self._index,
            "time_s": self._time_s if self._steps else 0.0,
            "poor": self._poor,
            "world": torch.from_numpy(self._world.copy()),
            "focals": [list(pair) for pair in self._focals],
            "usual": list(self._usual),
            "stream": stream_state(self._state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ModelError: when the state is not one of such a session; nothing is changed.
        """
        try:
            stream = stream_from_state(state["stream"], self.network)
            steps, index, poor = int(state["steps"]), int(state["index"]), int(state["poor"])
            time_s = float(state["time_s"]) if steps else -np.inf
            world = made_rigid(np.asarray(state["world"], np.float64))
            focals = [(float(a), float(b)) for a, b in state["focals"]][-_REMEMBERED:]
            usual = [float(value) for value in state["usual"]][-_REMEMBERED:]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise ModelError(
                "this is not a whole state of a learned reconstruction "
                f"({type(error).__name__}: {' '.join(str(error).split())[:60]})"
            ) from error
        self._state, self._steps, self._index, self._time_s = stream, steps, index, time_s
        self._world, self._focals, self._usual, self._poor = world, focals, usual, poor

    def snapshot(self, path: str | Path) -> None:
        """Write both memories to one file, whole or not at all.

        Raises:
            SinkError: when it cannot be written.
        """
        header = {
            "kind": "reconstruct learned",
            "model_id": self.network.model_id,
            "config": {"poses": self.config.poses, "moving": self.config.moving},
        }
        save_snapshot(path, self.state_dict(), header)

    @classmethod
    def resume(cls, path: str | Path, network: Mem4DNetwork) -> LearnedSession:
        """Continue a session from its snapshot, bit for bit on the same machine.

        Raises:
            ModelError: for a damaged file, or one of another network; one line.
        """
        state, given = load_session(path, "reconstruct learned", network.model_id)
        try:
            config = LearnedConfig(str(given["poses"]), float(given["moving"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"snapshot {path} has settings this version cannot read") from error
        session = cls(network, config)
        try:
            session.load_state_dict(state)
        except ModelError as error:
            raise ModelError(f"snapshot {path}: {error}") from error
        return session

    # -- one frame -----------------------------------------------------------------------------

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.network.device)

    def _doubt(self, decoded: Decoded) -> str:
        """Why nothing of a frame is to be written; empty when it may be."""
        parts = (decoded.points_self, decoded.points_world, decoded.pose, decoded.tokens)
        if not all(bool(part.isfinite().all()) for part in parts):
            return "the network's answer is not finite"
        if len(self._usual) >= 5 and _sureness(decoded) < _POOR * float(np.median(self._usual)):
            return "confidence is far below what is usual for this stream"
        return ""

    def _choose_pose(self, decoded: Decoded, given: bool) -> tuple[NDArray[np.float64], str, float]:
        """The pose in the session's own world, where it comes from, and how well points fit."""
        head = decoded.pose[0].double().cpu().numpy()
        weights = (decoded.conf_self.log() * decoded.conf_world.log()).flatten(1)
        weights = weights * (1 - decoded.dynamic_logit.sigmoid().flatten(1))
        own, world = decoded.points_self.flatten(1, 2), decoded.points_world.flatten(1, 2)
        if given or not bool(own.isfinite().all() & world.isfinite().all()):
            return head, GIVEN if given else LOST, 1.0 if given else 0.0
        if self._steps == 0:
            return np.eye(4), FIRST, 1.0
        found = weighted_rigid(own, world, weights)
        gap = (own @ found[:, :3, :3].transpose(1, 2) + found[:, None, :3, 3] - world).norm(dim=-1)
        near = (gap < _FITS * own[..., 2].clamp(min=1e-3)).float()
        fit = float((near * weights).sum() / weights.sum().clamp(min=1e-8))
        wanted = self.config.poses
        if wanted == "procrustes" or (wanted == "auto" and fit > _ENOUGH):
            return found[0].double().cpu().numpy(), PROCRUSTES, fit
        return head, HEAD, fit

    def _camera(
        self, decoded: Decoded, placing: Placing, known: Pinhole | None, doubted: bool
    ) -> tuple[Pinhole, list[tuple[float, float]]]:
        """Intrinsics of the small picture; and the focal lengths to remember."""
        if known is not None:
            return placing.camera(known), self._focals
        height, width = placing.size
        focals = self._focals
        if not doubted:
            sure = decoded.conf_self.log()
            focal = float(focal_of(decoded.points_self, sure)[0])
            focals = [*focals[1 - _REMEMBERED :], (focal, float(sure.mean()) + 1e-6)]
        steady = _weighted_median(focals) if focals else float(max(placing.size))
        return Pinhole(steady, steady, width / 2, height / 2, width, height), focals

    def _result(
        self, frame: Frame | RgbdFrame, placing: Placing, decoded: Decoded, state: LearnedState,
        pose: NDArray[np.float64], source: str, fit: float, camera: Pinhole, given: bool,
        told: NDArray[np.bool_] | None, reason: str, clock: StageClock,
    ) -> LearnedResult:  # fmt: skip
        own, local, conf_self, conf_world = (
            part[0].float().cpu().numpy()
            for part in (decoded.points_self, decoded.points_world, decoded.conf_self,
                         decoded.conf_world)
        )  # fmt: skip
        dynamic = decoded.dynamic_logit[0].sigmoid().float().cpu().numpy()
        world = (local @ self._world[:3, :3].T + self._world[:3, 3]).astype(np.float32)
        moving = np.asarray(dynamic >= self.config.moving)
        small = np.where(moving, MOVING, STATIC).astype(np.uint8)
        labels = placing.original(small, UNKNOWN)
        if told is not None:
            labels[told] = MOVING
        if source == LOST:
            labels[:] = UNKNOWN
            moving = np.zeros_like(moving)
        colours = ((placing.small(frame.image).transpose(1, 2, 0) + 1) * 127.5).round()
        points = MovingPoints(
            frame.index, frame.time_s, world[moving], colours[moving].astype(np.uint8),
            np.zeros(int(moving.sum()), np.int32),
        )  # fmt: skip
        events: tuple[Event, ...] = ()
        if source == LOST and self._poor + 1 == LOST_FRAMES:
            events = (Event("lost", 0, frame.index, frame.time_s, reason),)
        elif not reason and self._poor >= LOST_FRAMES:
            events = (Event("found", 0, frame.index, frame.time_s, "camera"),)
        clock.lap("answer")
        return LearnedResult(
            frame.index, frame.time_s, frame.size, pose, source, fit, labels,
            np.zeros(frame.size, np.int32), (), points, events, reason, clock.laps,
            points_self=own, points_world=world, conf_self=conf_self, conf_world=conf_world,
            dynamic_prob=dynamic, camera=camera,
            to_original=placing.to_original, stats=_stats(decoded, state),
        )  # fmt: skip


def _stats(decoded: Decoded, state: LearnedState) -> dict[str, float]:
    """Bytes, tokens and attention of both memories."""
    told: dict[str, float] = {
        "persistent bytes": 0 if state.store is None else state.store.nbytes,
        "transient bytes": 0 if state.ring is None else state.ring.nbytes,
        "persistent tokens": 0 if state.store is None else state.store.count,
        "transient tokens": 0 if state.ring is None else state.ring.count,
    }
    for name, mass in decoded.mass.items():
        total = float(mass.sum())
        told[f"{name} attention"] = float(mass[:, 1:].sum()) / total if total else 0.0
    return {name: float(value) for name, value in told.items()}


def _sureness(decoded: Decoded) -> float:
    return float(decoded.conf_world.log().mean())


def _weighted_median(pairs: list[tuple[float, float]]) -> float:
    values = sorted(pairs)
    half, total = sum(weight for _, weight in values) / 2, 0.0
    for value, weight in values:
        total += weight
        if total >= half:
            return value
    return values[-1][0]
