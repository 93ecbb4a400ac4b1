"""Generated clips with exact truth: colour, depth, poses, masks, instances, flow.

Rays are cast analytically against the room, boxes and spheres of a ``Scenery``, for many frames
of many scenes at once, with torch, on the CPU or a GPU.

Source: specs/mem4d.md section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.rgbd_folders import write_tum
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import inverse, transform
from vision_mem.sinks.scene import SceneFrame
from vision_mem.sinks.scene_table import SceneTally
from vision_mem.synthetic.rgbd_bodies import (
    SPHERE,
    STILL_SPEED,
    Scenery,
    SceneryConfig,
    make_scenery,
)
from vision_mem.types import Frame, SourceInfo

AMPLITUDES = (0.5, 0.4, 0.3, 0.2)
"""Of the four waves of a paint; the later, the finer."""
_CONTRAST = 0.28
_LIGHT = (0.35, -0.8, 0.45)


@dataclass(frozen=True)
class Rendered:
    """Frames of ``B`` scenes, as tensors on one device.

    Attributes:
        image: ``(B, T, H, W, 3)`` float32 RGB in [0, 1].
        depth: ``(B, T, H, W)`` float32 z in metres, exact.
        pose: ``(B, T, 4, 4)`` float32 camera-to-world.
        intrinsics: ``(B, 4)`` float32 fx, fy, cx, cy; pixels from the image's corner.
        instance: ``(B, T, H, W)`` int16: 0 room, then furniture, then bodies.
        dynamic: ``(B, T, H, W)`` bool: the surface moves on this very frame.
        ever_moves: ``(B, T, H, W)`` bool: it moves on some frame of the scene.
        scene_flow: ``(B, T, H, W, 3)`` float32 metres in the world to the next frame; 0 on the
            last one of the scene.
        flow: ``(B, T, H, W, 2)`` float32 pixels to the next frame; NaN where the point is then
            behind the camera.
    """

    image: torch.Tensor
    depth: torch.Tensor
    pose: torch.Tensor
    intrinsics: torch.Tensor
    instance: torch.Tensor
    dynamic: torch.Tensor
    ever_moves: torch.Tensor
    scene_flow: torch.Tensor
    flow: torch.Tensor


def render(
    scenes: Sequence[Scenery],
    width: int,
    height: int,
    *,
    frames: slice = slice(None),
    device: str | torch.device = "cpu",
) -> Rendered:
    """Film scenes.

    Args:
        scenes: of the same number of frames.
        width: pixels.
        height: pixels.
        frames: which moments.
        device: where to compute.

    Returns:
        Frames and truth.

    Raises:
        InputError: when there is no scene, or their lengths differ.
    """
    lengths = {len(scene.times) for scene in scenes}
    if len(lengths) != 1:
        raise InputError(f"scenes have {sorted(lengths)} frames; expected one length for all")
    cast = _Casting(scenes, width, height, frames, torch.device(device))
    return cast.finish()


class _Casting:
    """Nearest hits of all rays, one surface after the other."""

    def __init__(
        self,
        scenes: Sequence[Scenery],
        width: int,
        height: int,
        frames: slice,
        device: torch.device,
    ) -> None:
        self.scenes, self.device = scenes, device
        self.chosen = range(len(scenes[0].times))[frames]
        last = len(scenes[0].times) - 1
        self.following = [min(t + 1, last) for t in self.chosen]
        cameras = [Pinhole.from_field_of_view(s.field_of_view, width, height) for s in scenes]
        self.intrinsics = self._tensor([c.numbers for c in cameras])
        self.pose = self._tensor([s.poses[list(self.chosen)] for s in scenes])  # (B, T, 4, 4)
        self.next_pose = self._tensor([s.poses[self.following] for s in scenes])
        rays = self._tensor([c.rays().reshape(-1, 3) for c in cameras])  # (B, P, 3)
        self.size = (height, width)
        # (B, T, P, 3) in the world; their length is such that the ray parameter is z.
        self.direction = torch.einsum("btij,bpj->btpi", self.pose[..., :3, :3], rays)
        self.origin = self.pose[..., None, :3, 3]
        self.z = self.direction.new_full(self.direction.shape[:3], torch.inf)
        self.instance = torch.zeros(self.z.shape, dtype=torch.int16, device=device)
        self.normal = torch.zeros_like(self.direction)
        self.local = torch.zeros_like(self.direction)
        self.moved = torch.zeros_like(self.direction)  # world shift to the next frame
        self._room()
        for number in range(max(len(s.parts) for s in scenes)):
            self._part(number)

    def _tensor(self, arrays: Sequence[NDArray[np.float64]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays).astype(np.float32)).to(self.device)

    def _room(self) -> None:
        half = self._tensor([s.room for s in self.scenes])[:, None, None]
        far = (torch.sign(self.direction) * half - self.origin) / self.direction
        far = torch.where(self.direction == 0, torch.inf, far)
        z, axis = far.min(dim=-1)
        self.z = z
        one = torch.nn.functional.one_hot(axis, 3).to(z.dtype)
        self.normal = -one * torch.sign(self.direction)
        self.local = self.origin + z[..., None] * self.direction

    def _part(self, number: int) -> None:
        """Instance ``number + 1`` of each scene that has one."""
        there = [number < len(s.parts) for s in self.scenes]
        parts = [s.parts[min(number, len(s.parts) - 1)] for s in self.scenes]
        index, later = list(self.chosen), self.following
        place = self._tensor([p.position[index] for p in parts])[:, :, None]
        next_place = self._tensor([p.position[later] for p in parts])[:, :, None]
        heading = self._tensor([p.heading[index] for p in parts])[:, :, None]
        next_heading = self._tensor([p.heading[later] for p in parts])[:, :, None]
        half = self._tensor([p.half for p in parts])[:, None, None]
        round_ = torch.tensor([p.kind == SPHERE for p in parts], device=self.device)[:, None, None]
        start = _turned(self.origin - place, heading)
        way = _turned(self.direction, heading)
        z_box, normal_box = _hit_box(start, way, half)
        z_ball, normal_ball = _hit_ball(start, way, half[..., :1])
        z = torch.where(round_, z_ball, z_box)
        normal = torch.where(round_[..., None], normal_ball, normal_box)
        exists = torch.tensor(there, device=self.device)[:, None, None]
        nearer = exists & (z > 1e-3) & (z < self.z)
        self.z = torch.where(nearer, z, self.z)
        self.instance = torch.where(nearer, number + 1, self.instance).to(torch.int16)
        pick = nearer[..., None]
        local = start + z[..., None].nan_to_num(0, 0, 0) * way
        shift = _turned(local, -next_heading) + next_place - _turned(local, -heading) - place
        self.normal = torch.where(pick, _turned(normal, -heading), self.normal)
        self.local = torch.where(pick, local, self.local)
        self.moved = torch.where(pick, shift, self.moved)

    def finish(self) -> Rendered:
        """Colours, masks and flows of the hits."""
        speeds, ever = self._motion_tables()
        which = self.instance.long()
        dynamic = torch.gather(speeds, 2, which)
        moving = torch.gather(ever, 1, which.flatten(1)).view(which.shape)
        world = self.origin + self.z[..., None] * self.direction
        image = self._colours()
        shape = (*self.z.shape[:2], *self.size)
        return Rendered(
            image.view(*shape, 3),
            self.z.view(shape),
            self.pose,
            self.intrinsics,
            self.instance.view(shape),
            dynamic.view(shape),
            moving.view(shape),
            self.moved.view(*shape, 3),
            self._flow(world + self.moved).view(*shape, 2),
        )

    def _motion_tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        most = 1 + max(len(s.parts) for s in self.scenes)
        now = np.zeros((len(self.scenes), len(self.chosen), most), bool)
        ever = np.zeros((len(self.scenes), most), bool)
        for b, scene in enumerate(self.scenes):
            for n, part in enumerate(scene.parts, start=1):
                now[b, :, n] = part.speed[list(self.chosen)] > STILL_SPEED
                ever[b, n] = part.moves
        return torch.from_numpy(now).to(self.device), torch.from_numpy(ever).to(self.device)

    def _colours(self) -> torch.Tensor:
        most = 1 + max(len(s.parts) for s in self.scenes)
        paint = np.zeros((len(self.scenes), most, 3, 4, 4))
        base = np.zeros((len(self.scenes), most, 3))
        for b, scene in enumerate(self.scenes):
            paint[b, 0], base[b, 0] = scene.room_paint, scene.room_colour
            for n, part in enumerate(scene.parts, start=1):
                paint[b, n], base[b, n] = part.paint, part.colour
        waves, means = self._tensor(list(paint)), self._tensor(list(base))
        batch = torch.arange(len(self.scenes), device=self.device)[:, None, None]
        which = self.instance.long()
        colour = means[batch, which]
        footprint = self.z / self.intrinsics[:, :1, None]  # metres that a pixel covers
        for band, amplitude in enumerate(AMPLITUDES):
            wave = waves[:, :, :, band][batch, which]  # (B, T, P, 3, 4)
            angle = (wave[..., :3] * self.local[..., None, :]).sum(-1) + wave[..., 3]
            # What is finer than a pixel is seen as its mean.
            blur = torch.exp(-0.5 * (wave[..., :3].norm(dim=-1) * footprint[..., None]) ** 2)
            colour = colour + _CONTRAST * amplitude * blur * torch.sin(angle)
        light = torch.tensor(_LIGHT, device=self.device)
        shade = 0.65 + 0.35 * (self.normal @ (light / light.norm())).clamp(-1, 1)
        exposure = self._tensor([s.exposure[list(self.chosen)] for s in self.scenes])
        image = colour * shade[..., None] * exposure[..., None, None]
        noise = [self._noise(s, image.shape[2:]) for s in self.scenes]
        return torch.as_tensor((image + torch.stack(noise)).clamp(0, 1))

    def _noise(self, scene: Scenery, shape: torch.Size) -> torch.Tensor:
        """The same for a frame however the frames are cut into pieces."""
        if not scene.noise:
            return torch.zeros(len(self.chosen), *shape, device=self.device)
        rows = [
            np.random.default_rng((scene.seed, t)).standard_normal(tuple(shape), np.float32)
            for t in self.chosen
        ]
        return torch.from_numpy(np.stack(rows)).to(self.device) * scene.noise

    def _flow(self, there: torch.Tensor) -> torch.Tensor:
        turn, shift = self.next_pose[..., :3, :3], self.next_pose[..., None, :3, 3]
        seen = torch.einsum("btji,btpj->btpi", turn, there - shift)
        z = torch.where(seen[..., 2:] > 1e-6, seen[..., 2:], torch.nan)
        focal, middle = self.intrinsics[:, None, None, :2], self.intrinsics[:, None, None, 2:]
        height, width = self.size
        y, x = torch.meshgrid(
            torch.arange(height, device=self.device) + 0.5,
            torch.arange(width, device=self.device) + 0.5,
            indexing="ij",
        )
        pixels = torch.stack([x, y], -1).view(-1, 2)
        return torch.as_tensor(seen[..., :2] / z * focal + middle - pixels)


def _turned(vectors: torch.Tensor, heading: torch.Tensor) -> torch.Tensor:
    """World to local axes for a body turned by ``heading`` about y; minus it turns back."""
    c, s = torch.cos(heading), torch.sin(heading)
    x, y, z = vectors.unbind(-1)
    return torch.stack([c * x - s * z, y.expand_as(c * x), s * x + c * z], dim=-1)


def _hit_box(
    start: torch.Tensor, way: torch.Tensor, half: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    safe = torch.where(way.abs() < 1e-9, 1e-9, way)
    one, other = (-half - start) / safe, (half - start) / safe
    enter, axis = torch.minimum(one, other).max(dim=-1)
    leave = torch.maximum(one, other).amin(dim=-1)
    hot = torch.nn.functional.one_hot(axis, 3).to(way.dtype)
    return torch.where(enter <= leave, enter, torch.inf), -hot * torch.sign(way)


def _hit_ball(
    start: torch.Tensor, way: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = (way * way).sum(-1), (start * way).sum(-1)
    c = (start * start).sum(-1) - radius[..., 0] ** 2
    inside = b * b - a * c
    z = (-b - inside.clamp(min=0).sqrt()) / a
    z = torch.where(inside >= 0, z, torch.inf)
    return z, (start + z.nan_to_num(0, 0, 0)[..., None] * way) / radius


@dataclass(frozen=True)
class TrueFrame:
    """A generated frame and the truth about it.

    Attributes:
        frame: what a depth camera would give.
        depth: ``(H, W)`` float32 metres, without noise.
        instance: ``(H, W)`` int16, see ``Rendered``.
        dynamic, ever_moves: ``(H, W)`` bool, see ``Rendered``.
    """

    frame: RgbdFrame
    depth: NDArray[np.float32]
    instance: NDArray[np.int16]
    dynamic: NDArray[np.bool_]
    ever_moves: NDArray[np.bool_]


class SyntheticStream:
    """A generated scene as an iterable of ``TrueFrame``; a few frames are in memory at a time.

    Args:
        seed: of the scene, see ``make_scenery``.
        frames: how many.
        width, height: pixels.
        depth_noise: standard deviation of the depth, as a share of it.
        holes: share of the pixels without a depth reading.
        config: what scenes are like.
    """

    def __init__(
        self,
        seed: int,
        frames: int = 40,
        width: int = 96,
        height: int = 72,
        *,
        depth_noise: float = 0.005,
        holes: float = 0.0,
        config: SceneryConfig | None = None,
    ) -> None:
        if depth_noise < 0 or not 0 <= holes < 1:
            raise InputError(
                f"depth_noise is {depth_noise} and holes is {holes}; expected 0 or more, and a "
                "share below 1"
            )
        self.scenery = make_scenery(seed, frames, config)
        self.camera = Pinhole.from_field_of_view(self.scenery.field_of_view, width, height)
        self.depth_noise, self.holes = depth_noise, holes

    def __len__(self) -> int:
        return len(self.scenery.times)

    def __iter__(self) -> Iterator[TrueFrame]:
        for first in range(0, len(self), 8):
            yield from self._some(slice(first, min(first + 8, len(self))))

    def _some(self, frames: slice) -> Iterator[TrueFrame]:
        made = render([self.scenery], self.camera.width, self.camera.height, frames=frames)
        images = (made.image[0] * 255).round().to(torch.uint8).numpy()
        for k, t in enumerate(range(frames.start, frames.stop)):
            exact = made.depth[0, k].numpy()
            frame = RgbdFrame(
                t,
                float(self.scenery.times[t]),
                images[k],
                self._measured(exact, t),
                self.camera,
                self.scenery.poses[t],
            )
            yield TrueFrame(
                frame,
                exact,
                made.instance[0, k].numpy(),
                made.dynamic[0, k].numpy(),
                made.ever_moves[0, k].numpy(),
            )

    def _measured(self, exact: NDArray[np.float32], t: int) -> NDArray[np.float32]:
        random = np.random.default_rng((self.scenery.seed, t, 1))
        noise = random.standard_normal(exact.shape, np.float32) * np.float32(self.depth_noise)
        depth = exact * (1 + noise)
        if self.holes:
            depth[random.random(exact.shape) < self.holes] = 0
        return depth


_FRAMES, _WIDTH, _HEIGHT = 72, 160, 120
_GHOST_M = 0.1


class RoomTruth:
    """A generated room: writes the recording, and compares what was found with the truth.

    Args:
        seed: of the room.

    Attributes:
        tally: of the run; gets the sums of moving pixels.
    """

    def __init__(self, seed: int) -> None:
        self.stream = SyntheticStream(seed, _FRAMES, _WIDTH, _HEIGHT)
        self.tally = SceneTally()
        self._frames: Iterator[Any] = iter(())

    def record(self, folder: Path, frames: int | None = None) -> None:
        """Write it, or its first frames, as a folder of TUM RGB-D."""
        write_tum(folder, (true.frame for true in islice(self.stream, frames)))

    def open(self, info: SourceInfo) -> None:
        """Start filming once more."""
        self._frames = iter(self.stream)

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Count right and wrong pixels of one frame."""
        for true in self._frames:
            if true.frame.index == result.frame_index:
                found, sums = result.found.dynamic, self.tally.truth
                for name, count in (
                    ("hit", found & true.dynamic), ("wrong", found & ~true.dynamic),
                    ("missed", ~found & true.dynamic),
                ):  # fmt: skip
                    sums[name] = sums.get(name, 0) + int(count.sum())
                return

    def close(self) -> None:
        """Nothing stays open."""

    def lines(self, tally: SceneTally, points: Any) -> list[str]:
        """How far the result is from the truth, in words."""
        scenery, last = self.stream.scenery, tally.last_index
        sums = {name: tally.truth.get(name, 0) for name in ("hit", "wrong", "missed")}
        precision = sums["hit"] / max(sums["hit"] + sums["wrong"], 1)
        recall = sums["hit"] / max(sums["hit"] + sums["missed"], 1)
        recorded = scenery.poses
        said = [f"moving pixels against the truth: precision {precision:.3f}, recall {recall:.3f}"]
        if not tally.places:
            return said
        # When poses were found, the world is that of the first camera.
        first, pose = tally.places[0], np.eye(4)
        pose[:3, 3], pose[:3, :3] = first[1:4], np.reshape(first[4:], (3, 3)).T
        motion = recorded[int(first[0])] @ inverse(pose)
        away = scenery.distance(transform(motion, points), resting_at=last)
        ghosts = 100 * float((away > _GHOST_M).mean()) if len(points) else 0.0
        tally.truth["ghosts_percent"] = ghosts
        return [
            *said,
            f"points of the map farther than 10 cm from what stands there: {ghosts:.2f} %",
        ]
