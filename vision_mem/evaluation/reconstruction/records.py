"""Sequences of the sets that depth, poses and points are scored on: files and truth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.depth import read_depth
from vision_mem.formats.sintel import read_dpt
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import is_rigid, made_rigid

Numbers = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneView:
    """One frame of a sequence.

    Attributes:
        name: stem of its result files; unique in the sequence.
        time_s: seconds; where a set has no times, the number of the frame.
        image: colour.
        depth: true depth, or None.
        sensor: what a depth camera would say, for models that want depth; or None.
        pose: ``(4, 4)`` true camera-to-world pose, OpenCV axes; None where it is not known.
        intrinsics: fx, fy, cx, cy of the depth map, pixels counted from their centres; or None.
        moving: picture of what moves (white), or None.
        number: place among all frames of the recording, from 0.
        scored: False for frames that are shown to a model and not compared.
    """

    name: str
    time_s: float
    image: Path
    depth: Path | None = None
    sensor: Path | None = None
    pose: NDArray[np.float64] | None = None
    intrinsics: Numbers | None = None
    moving: Path | None = None
    number: int = 0
    scored: bool = True


@dataclass(frozen=True)
class SceneSequence:
    """One sequence of a set.

    Attributes:
        name: fit for a file name, unique in the set.
        views: in order.
        unit: metres of one unit of whole-numbered depth maps.
        farthest: metres beyond which depth is not known; None for no limit.
        seed: of generated rooms, else None.
    """

    name: str
    views: tuple[SceneView, ...]
    unit: float
    farthest: float | None = None
    seed: int | None = None

    @property
    def scored(self) -> tuple[SceneView, ...]:
        """The views that are compared with the truth."""
        return tuple(view for view in self.views if view.scored)

    def depth(self, path: Path) -> NDArray[np.float32]:
        """A depth map of this sequence in metres, 0 where it is not known.

        Raises:
            SourceError: when it cannot be read.
        """
        stored = read_dpt(path) if path.suffix.lower() == ".dpt" else read_depth(path)
        whole = stored.dtype.kind in "ui"
        metres = stored.astype(np.float32) * np.float32(self.unit if whole else 1.0)
        metres[~(np.isfinite(metres) & (metres > 0))] = 0
        if whole:
            most = np.iinfo(np.dtype(stored.dtype.str)).max
            metres[stored == most] = 0
        if self.farthest is not None:
            metres[metres >= self.farthest] = 0
        return metres

    def camera(self, view: SceneView, size: tuple[int, int]) -> Pinhole:
        """The camera of a view's depth map of ``(height, width)``.

        Raises:
            InputError: when nothing says the intrinsics.
        """
        if view.intrinsics is None:
            raise InputError(
                f"{self.name}: nothing says the intrinsics of {view.image.name}; points need them"
            )
        return Pinhole.from_centres(*view.intrinsics, size[1], size[0])


@dataclass(frozen=True)
class SceneSet:
    """A set, opened for one task.

    Attributes:
        key: word for it on the command line, ``pose:sintel``.
        title: as papers write it.
        task: one of ``TASKS``.
        word: of the set alone, ``sintel``.
        sequences: in the order of the set.
        root: folder of the copy.
        kind: what the set is like, a ``SceneKind``; None of plain files.
        notes: what is odd in this copy, or to be known about the set.
    """

    key: str
    title: str
    task: str
    word: str
    root: Path
    sequences: tuple[SceneSequence, ...]
    kind: Any = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """Which frames of a recording are taken.

    Attributes:
        frames: at most so many; 0: as the set's published protocol has it.
        stride: every how many; 0: as the protocol has it.
        feed: frames between those that a model sees; 0: it sees only those that are compared.
    """

    frames: int = 0
    stride: int = 0
    feed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 0 or self.stride < 0 or self.feed < 0:
            raise InputError(
                f"frames={self.frames}, stride={self.stride}, feed={self.feed}; expected 0 or more"
            )

    @property
    def usual(self) -> bool:
        """Whether the protocol's own frames are wanted."""
        return not (self.frames or self.stride)

    def of(self, count: int, frames: int | None, stride: int, first: int = 0) -> list[int]:
        """Numbers of the frames to take from ``count``, with the protocol's own as arguments."""
        step = self.stride or stride
        most = self.frames or frames
        return list(range(first, count, step))[:most]


def safe_name(text: str) -> str:
    """A name of a sequence that is fit for a file name."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-") or "sequence"


def known_pose(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The pose, its rotation made exact; None when it is no rigid motion (a lost camera)."""
    return made_rigid(matrix) if is_rigid(matrix) else None
