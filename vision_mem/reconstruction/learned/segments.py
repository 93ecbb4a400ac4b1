"""Long streams in segments: a new memory every so many frames, brought into one world.

Networks of this kind are trained on tens of frames and drift after a hundred or so. So a second
session starts a few frames before the first one ends; both look at these frames, and what stays
in them says how the second one's world lies in the first one's: a rotation, a shift and a scale.
A camera that stays lost, as after a cut, begins a segment too, from where it was last.

Source: specs/mem4d.md section 5 (``segments``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, ModelError
from vision_mem.formats.snapshot import load_session, save_snapshot
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import aligned, made_rigid
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.reconstruction.learned.session import (
    LOST_FRAMES,
    LearnedConfig,
    LearnedResult,
    LearnedSession,
)
from vision_mem.reconstruction.voxel_grid import StaticMap
from vision_mem.types import Event, Frame, MemoryUsage

_FITS = 0.05  # share of the depth within which a point agrees with a seam
_PAIRS, _TRIES = 1500, 128  # points of a frame, and guesses of three points each
_AGREE = 0.25  # share of the points that must agree
_LEAST, _MOST = 0.1, 10.0  # scale


@dataclass(frozen=True)
class SegmentConfig:
    """When a new segment begins.

    Attributes:
        frames: looked at by one memory, more than twice ``overlap``.
        overlap: of these, looked at by the next one too, 1 or more.
        maps: static maps of earlier segments that are kept, the newest.
    """

    frames: int = 100
    overlap: int = 4
    maps: int = 64

    def __post_init__(self) -> None:
        if self.overlap < 1 or self.frames <= 2 * self.overlap or self.maps < 0:
            raise InputError(
                f"segments of {self.frames} frames, {self.overlap} of them shared, and {self.maps} "
                "maps kept cannot be; expected overlap=1 or more, frames above twice that, maps=0 "
                "or more"
            )


@dataclass(frozen=True)
class Placement:
    """Where a segment's world lies: ``pose @ (scale * point)``.

    Attributes:
        scale: above 0.
        pose: ``(4, 4)`` float64.
    """

    scale: float
    pose: NDArray[np.float64]

    def points(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Points ``(..., 3)`` of the segment in the stream's world."""
        turned = (self.scale * points) @ self.pose[:3, :3].T + self.pose[:3, 3]
        return np.asarray(turned, np.float32)

    def camera(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """A pose of the segment in the stream's world."""
        scaled = pose.copy()
        scaled[:3, 3] *= self.scale
        return made_rigid(self.pose @ scaled)

    def result(self, found: LearnedResult) -> LearnedResult:
        """A frame of the segment in the stream's world; to the bit where both are one."""
        if self.scale == 1 and np.array_equal(self.pose, HERE.pose):
            return found
        moved = replace(found.moving_points, points=self.points(found.moving_points.points))
        return replace(
            found, pose=self.camera(found.pose), points_world=self.points(found.points_world),
            points_self=(self.scale * found.points_self).astype(np.float32), moving_points=moved,
        )  # fmt: skip

    def map(self, found: StaticMap) -> StaticMap:
        """A static map of the segment in the stream's world."""
        return replace(found, points=self.points(found.points), voxel=found.voxel * self.scale)


HERE = Placement(1.0, np.eye(4))


def find_seam(
    source: NDArray[Any], target: NDArray[Any], depth: NDArray[Any], seed: int
) -> tuple[Placement, float]:
    """How one world lies in another, by points known in both; wrong ones are outvoted.

    Args:
        source: ``(N, 3)``.
        target: ``(N, 3)`` the same points in the other world.
        depth: ``(N,)`` distances from the camera there: how exact points are to agree.
        seed: of the guesses.

    Returns:
        The placement, and the share of points that agree with it; ``HERE`` and 0 where fewer than
        a quarter do, or the scale is beyond 0.1 to 10.
    """
    good = np.isfinite(source).all(1) & np.isfinite(target).all(1) & (depth > 0)
    source, target, depth = source[good], target[good], depth[good]
    if len(source) < 3:
        return HERE, 0.0
    random = np.random.default_rng(seed)
    best = np.zeros(len(source), bool)
    for _ in range(_TRIES):
        three = random.choice(len(source), 3, replace=False)
        near = _agree(source, target, depth, aligned(source[three], target[three], with_scale=True))
        best = near if near.sum() > best.sum() else best
    for _ in range(3):
        if best.sum() < max(3, _AGREE * len(source)):
            return HERE, 0.0
        found = aligned(source[best], target[best], with_scale=True)
        best = _agree(source, target, depth, found)
    if not (_LEAST < found[0] < _MOST and np.isfinite(found[1]).all()):
        return HERE, 0.0
    return Placement(found[0], found[1]), float(best.mean())


def _agree(
    source: NDArray[Any], target: NDArray[Any], depth: NDArray[Any],
    found: tuple[float, NDArray[np.float64]],
) -> NDArray[np.bool_]:  # fmt: skip
    gap = np.linalg.norm(Placement(*found).points(source) - target, axis=1)
    return np.asarray(gap < _FITS * depth)


class SegmentedSession:
    """A ``LearnedSession`` without an end: segments of it, in the world of the first frame.

    Args:
        network: shared by any number of sessions.
        config: settings of each segment.
        segments: when they begin.
    """

    def __init__(
        self, network: Mem4DNetwork, config: LearnedConfig | None = None,
        segments: SegmentConfig | None = None,
    ) -> None:  # fmt: skip
        self.network, self.config = network, config or LearnedConfig()
        self.segments = segments or SegmentConfig()
        self.reset()

    def reset(self) -> None:
        """Forget everything; equal to a new session."""
        self._now = LearnedSession(self.network, self.config)
        self._next: LearnedSession | None = None
        self._place, self._count, self._lost = HERE, 0, 0
        self._pairs: list[NDArray[np.float32]] = []
        self._maps: list[StaticMap] = []

    def step(
        self, frame: Frame | RgbdFrame, masks: ArrayLike | Iterable[ArrayLike] | None = None, *,
        camera: Pinhole | None = None, update: bool = True,
    ) -> LearnedResult:  # fmt: skip
        """Look at the next frame; see ``LearnedSession.step``.

        On the last frame of a segment, and where a lost camera begins anew, there is an event
        ``segment`` that says how well both worlds agree; 0: not at all, and the new one goes on
        from the last pose.
        """
        told = None if masks is None else [np.asarray(one) for one in _each(masks)]
        found = self._now.step(frame, told, camera=camera, update=update)
        placed = self._place.result(found)
        if not update:
            return placed
        self._count += 1
        self._lost = self._lost + 1 if found.reason else 0
        if self._lost >= 2 * LOST_FRAMES:
            return self._turned(placed, LearnedSession(self.network, self.config), HERE, 0.0)
        if self._count <= self.segments.frames - self.segments.overlap:
            return placed
        if self._next is None:
            self._next = LearnedSession(self.network, self.config)
        other = self._next.step(frame, told, camera=camera)
        self._pairs.append(_pairs(found, other, self.config.moving))
        if self._count < self.segments.frames:
            return placed
        pairs = np.concatenate(self._pairs)
        seam, share = find_seam(pairs[:, :3], pairs[:, 3:6], pairs[:, 6], frame.index)
        if not share:  # the cameras at least are the same
            seam = Placement(1.0, found.pose @ np.linalg.inv(other.pose))
        return self._turned(placed, self._next, seam, share)

    def _turned(
        self, last: LearnedResult, following: LearnedSession, seam: Placement, share: float
    ) -> LearnedResult:
        """The next segment begins after this frame."""
        kept = self.segments.maps
        maps = [*self._maps, self._place.map(self._now.static_map())]
        self._maps = maps[max(0, len(maps) - kept) :] if kept else []
        if following is self._next:
            self._place = Placement(self._place.scale * seam.scale, self._place.camera(seam.pose))
            self._count = self.segments.overlap
        else:
            self._place, self._count = Placement(self._place.scale, last.pose), 0
        self._now, self._next, self._pairs, self._lost = following, None, [], 0
        text = f"{share:.2f} of the points agree, scale {self._place.scale:.3f}"
        event = Event("segment", 0, last.frame_index, last.time_s, text)
        return replace(last, events=(*last.events, event))

    def static_map(self) -> StaticMap:
        """What stays, of all segments that are kept."""
        maps = [*self._maps, self._place.map(self._now.static_map())]
        joined = {name: np.concatenate([getattr(one, name) for one in maps]) for name in _ARRAYS}
        return StaticMap(**joined, voxel=maps[-1].voxel)

    def usage(self) -> MemoryUsage:
        """What is held between frames, to the byte."""
        parts = [one.usage() for one in (self._now, self._next) if one is not None]
        detail: dict[str, int] = {}
        for part in parts:
            for name, size in part.detail.items():
                detail[name] = detail.get(name, 0) + size
        arrays = [getattr(one, name) for one in self._maps for name in _ARRAYS]
        detail["earlier maps"] = sum(array.nbytes for array in arrays)
        detail["seam"] = sum(array.nbytes for array in self._pairs)
        entries = sum(part.entries for part in parts) + sum(len(one.points) for one in self._maps)
        return MemoryUsage(entries, sum(detail.values()), detail)

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole state, copied."""
        return {
            "now": self._now.state_dict(),
            "next": None if self._next is None else self._next.state_dict(),
            "scale": self._place.scale, "pose": torch.from_numpy(self._place.pose.copy()),
            "count": self._count, "lost": self._lost,
            "pairs": [torch.from_numpy(pairs.copy()) for pairs in self._pairs],
            "maps": [
                {name: torch.from_numpy(getattr(one, name).copy()) for name in _ARRAYS}
                | {"voxel": one.voxel}
                for one in self._maps
            ],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ModelError: when the state is not one of such a session; nothing is changed.
        """
        fresh = SegmentedSession(self.network, self.config, self.segments)
        try:
            fresh._now.load_state_dict(state["now"])
            if state["next"] is not None:
                fresh._next = LearnedSession(self.network, self.config)
                fresh._next.load_state_dict(state["next"])
            pose = np.asarray(state["pose"], np.float64)  # to the bit, so not made rigid again
            if not np.allclose(pose, made_rigid(pose), atol=1e-6):
                raise ValueError("a placement that is not rigid")
            fresh._place = Placement(float(state["scale"]), pose)
            fresh._count, fresh._lost = int(state["count"]), int(state["lost"])
            fresh._pairs = [np.asarray(one, np.float32).reshape(-1, 7) for one in state["pairs"]]
            fresh._maps = [
                StaticMap(**{n: np.asarray(one[n]) for n in _ARRAYS}, voxel=float(one["voxel"]))
                for one in state["maps"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                "this is not a whole state of a reconstruction in segments "
                f"({type(error).__name__}: {' '.join(str(error).split())[:60]})"
            ) from error
        vars(self).update(vars(fresh))

    def snapshot(self, path: str | Path) -> None:
        """Write all memories to one file, whole or not at all.

        Raises:
            SinkError: when it cannot be written.
        """
        header = {
            "kind": _KIND,
            "model_id": self.network.model_id,
            "config": {
                "poses": self.config.poses, "moving": self.config.moving,
                "segments": vars(self.segments),
            },
        }  # fmt: skip
        save_snapshot(path, self.state_dict(), header)

    @classmethod
    def resume(cls, path: str | Path, network: Mem4DNetwork) -> SegmentedSession:
        """Continue a session from its snapshot, bit for bit on the same machine.

        Raises:
            ModelError: for a damaged file, or one of another network or kind; one line.
        """
        state, given = load_session(path, _KIND, network.model_id)
        try:
            config = LearnedConfig(str(given["poses"]), float(given["moving"]))
            segments = SegmentConfig(**{n: int(v) for n, v in given["segments"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"snapshot {path} has settings this version cannot read") from error
        session = cls(network, config, segments)
        try:
            session.load_state_dict(state)
        except ModelError as error:
            raise ModelError(f"snapshot {path}: {error}") from error
        return session


_KIND = "reconstruct in segments"
_ARRAYS = ("points", "normals", "colours", "hits")


def _each(masks: ArrayLike | Iterable[ArrayLike]) -> Iterable[ArrayLike]:
    """Masks as a list, so that two sessions can read them."""
    whole = masks if isinstance(masks, np.ndarray) else list(masks)  # type: ignore[arg-type]
    stacked = np.asarray(whole)
    return [stacked] if stacked.ndim == 2 else list(stacked)


def _pairs(found: LearnedResult, other: LearnedResult, moving: float) -> NDArray[np.float32]:
    """``(n, 7)`` points that stay: in the next world, in this one, and how far away they are.

    The surer half of what both believe.
    """
    sure = np.log(found.conf_world * other.conf_world)
    sure = np.where((found.dynamic_prob < moving) & (other.dynamic_prob < moving), sure, -1.0)
    if found.reason or other.reason:
        sure[:] = -1.0
    every = np.flatnonzero(sure.ravel() >= 0)
    order = every[np.argsort(-sure.ravel()[every], kind="stable")][: max(1, len(every) // 2)]
    order = order[:: max(1, len(order) // _PAIRS)]
    columns = (other.points_world, found.points_world, found.points_self[..., 2:])
    return np.concatenate(
        [part.reshape(-1, part.shape[-1])[order] for part in columns], axis=1
    ).astype(np.float32)
