"""A generated room with furniture, filmed by a depth camera that is carried around in it.

For the demonstration and for tests: the truth about every thing is known. Surfaces are flat and
evenly coloured, readings have a little noise; real rooms are harder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.rgbd_folders import write_seven_scenes
from vision_mem.formats.text import LineFile, make_folder
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import make_pose
from vision_mem.types import Detections


@dataclass(frozen=True)
class Furniture:
    """A box that stands somewhere.

    Attributes:
        name: what it is.
        low, high: ``(3,)`` metres: its corners; z is up, 0 the floor.
        colour: RGB.
    """

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: tuple[int, int, int]

    @property
    def middle(self) -> NDArray[np.float64]:
        """``(3,)`` metres."""
        return np.asarray((np.array(self.low) + np.array(self.high)) / 2, np.float64)


FURNITURE = (
    Furniture("red sofa", (0.2, 1.2, 0.0), (1.0, 3.0, 0.7), (190, 50, 45)),
    Furniture("dining table", (2.6, 2.0, 0.0), (3.8, 3.0, 0.75), (150, 105, 60)),
    Furniture("bookshelf", (2.0, 4.65, 0.0), (3.4, 4.95, 1.9), (95, 65, 45)),
    Furniture("fridge", (5.25, 4.1, 0.0), (5.9, 4.8, 1.7), (225, 228, 232)),
    Furniture("blue armchair", (4.9, 0.3, 0.0), (5.7, 1.1, 0.8), (50, 80, 180)),
    Furniture("plant", (0.2, 4.3, 0.0), (0.6, 4.7, 1.2), (50, 140, 60)),
)


_SLAB, _STAIRS, _PLASTER = 0.2, (4.9, 1.6, 5.9, 3.4), (205, 200, 190)
"""Metres between storeys; where the stairs are, x, y, x, y; the colour of walls and floors."""


@dataclass(frozen=True)
class Room:
    """The room and how it is filmed.

    Attributes:
        size: ``(3,)`` metres: length, width, height of a storey; a corner of the floor is at 0, 0,
            0.
        furniture: what stands in it.
        frames: of one round.
        width, height: pixels.
        noise_m: standard deviation of a reading one metre away; it grows with the distance.
        missed: chance that a thing in view is not detected.
        seed: of the noise.
        storeys: one above the other, with a hole for stairs between them; the camera goes around
            on the lowest, then on the next.
    """

    size: tuple[float, float, float] = (6.0, 5.0, 2.6)
    furniture: tuple[Furniture, ...] = FURNITURE
    frames: int = 72
    width: int = 160
    height: int = 120
    noise_m: float = 0.004
    missed: float = 0.3
    seed: int = 0
    storeys: int = 1
    camera: Pinhole = field(init=False)

    def __post_init__(self) -> None:
        camera = Pinhole.from_field_of_view(75.0, self.width, self.height)
        object.__setattr__(self, "camera", camera)

    def floor(self, storey: int) -> float:
        """Height of a storey's floor, metres."""
        return storey * (self.size[2] + _SLAB)

    @property
    def slabs(self) -> tuple[Furniture, ...]:
        """What lies between storeys, around the stairs."""
        (length, width, _), (left, near, right, far) = self.size, _STAIRS
        sides = ((0, 0, left, width), (right, 0, length, width), (left, 0, right, near),
                 (left, far, right, width))  # fmt: skip
        return tuple(
            Furniture("", (x, y, self.floor(k) - _SLAB), (to_x, to_y, self.floor(k)), _PLASTER)
            for k in range(1, self.storeys)
            for x, y, to_x, to_y in sides
        )

    def pose(self, number: int) -> NDArray[np.float64]:
        """``(4, 4)`` camera-to-world of a frame: around the table, looking to both sides."""
        angle = 2 * np.pi * number / self.frames
        height = self.floor(number // self.frames % self.storeys) + 1.4
        at = np.array([3.2 + 1.6 * np.cos(angle), 2.5 + 1.35 * np.sin(angle), height])
        # Along the way, now to the table, now to the walls, and a little down.
        heading = angle + np.pi / 2 + 1.1 * np.sin(3 * angle) - 0.5
        ahead = np.array([np.cos(heading), np.sin(heading), -0.25])
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return make_pose(np.stack([right, np.cross(ahead, right), ahead], axis=1), at)

    def film(
        self, first: int = 0, count: int | None = None
    ) -> Iterator[tuple[RgbdFrame, Detections]]:
        """Frames ten a second, each with what an imperfect detector finds on it.

        Args:
            first: number of the first frame; a second round goes on after ``frames``.
            count: how many; one round when left out.
        """
        rays = self.camera.rays()
        for number in range(first, first + (self.frames if count is None else count)):
            rng = np.random.default_rng([self.seed, number])
            pose = self.pose(number)
            z, which, side = self._cast(pose[:3, 3], rays @ pose[:3, :3].T)
            noisy = z + self.noise_m * z**2 * rng.standard_normal(z.shape)
            depth = np.where(z < 8.0, noisy, 0.0).astype(np.float32)
            image = self._paint(which, side, rng)
            frame = RgbdFrame(number, number / 10, image, depth, self.camera, pose)
            yield frame, self._detect(which, rng)

    def _cast(
        self, start: NDArray[np.float64], ways: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Range along each ray, what it ends at (-1 for the room), and on which axis' side."""
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.array([*self.size[:2], self.floor(self.storeys) - _SLAB])
            walls = np.where(ways > 0, (whole - start) / ways, -start / ways)
        reach, side = walls.min(axis=-1), walls.argmin(axis=-1)
        which = np.full(reach.shape, -1)
        for number, box in enumerate((*self.furniture, *self.slabs)):
            with np.errstate(divide="ignore", invalid="ignore"):
                a, b = (np.array(box.low) - start) / ways, (np.array(box.high) - start) / ways
            near, far = np.minimum(a, b), np.maximum(a, b)
            entry = near.max(axis=-1)
            hit = (entry <= far.min(axis=-1)) & (entry > 0) & (entry < reach)
            reach = np.where(hit, entry, reach)
            which, side = np.where(hit, number, which), np.where(hit, near.argmax(axis=-1), side)
        return reach, which, side

    def _paint(
        self, which: NDArray[np.int64], side: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        solid = (*self.furniture, *self.slabs)
        colours = np.array([box.colour for box in solid] + [_PLASTER], np.float64)
        shade = np.array([0.85, 0.95, 1.0])[side]
        picture = colours[which] * shade[..., None] + rng.normal(0.0, 4.0, (*which.shape, 1))
        return np.asarray(np.clip(picture, 0, 255), np.uint8)

    def _detect(self, which: NDArray[np.int64], rng: np.random.Generator) -> Detections:
        boxes, scores, labels = [], [], []
        for number in range(len(self.furniture)):
            seen, luck = np.argwhere(which == number), rng.random()
            if len(seen) < 0.01 * which.size or luck < self.missed:
                continue
            (top, left), (bottom, right) = seen.min(axis=0), seen.max(axis=0) + 1
            edges = np.array([left, top, right, bottom]) + rng.normal(0.0, 1.0, 4)
            if edges[2] > edges[0] + 2 and edges[3] > edges[1] + 2:
                boxes.append(edges)
                scores.append(rng.uniform(0.5, 0.99))
                labels.append(number)
        names = {number: box.name for number, box in enumerate(self.furniture)}
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(scores), np.array(labels),
            names=names,
        )  # fmt: skip


def film_room(out: Path, frames: int, seed: int) -> tuple[Room, Path]:
    """Film a generated room to ``out/room``, its detections beside it; returns room and file."""
    room = Room(frames=frames, seed=seed)
    folder, path = out / "room", out / "room.detections.jsonl"
    make_folder(folder)
    for old in folder.glob("frame-*"):  # of a longer recording
        old.unlink()
    lines = LineFile(path)
    filmed = []
    for frame, found in room.film():
        filmed.append(frame)
        names = {str(key): word for key, word in found.names.items()}
        lines.write(json.dumps({
            "frame": frame.index, "time_s": frame.time_s, "boxes": found.boxes.tolist(),
            "scores": found.scores.tolist(), "labels": found.labels.tolist(), "names": names,
        }))  # fmt: skip
    lines.close()
    write_seven_scenes(folder, filmed)
    return room, path
