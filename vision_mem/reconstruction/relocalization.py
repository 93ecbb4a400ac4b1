"""Places that a lost camera would know again: features of some frames with their points.

Following a camera from frame to frame ends when the lens is covered, frames are missing or the
camera jumps. Then features of the image are compared with those of places that were seen while
the camera was followed well, and the pose comes from points that both show. It is a proposal:
the structure has to agree (``Locator``).

Source: specs/mem4d.md section 4.4, item 1, leaves open how a lost camera is found; places, their
choice and their number are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import rotation_angle
from vision_mem.reconstruction.visual_odometry import pose_from_points

Matrix = NDArray[np.float64]

FEATURES, _LOOKED_UP = 200, 400
"""At most, of a place, and of a frame that is looked up."""

BYTES_A_PLACE = FEATURES * (32 + 12) + 128
"""Descriptors, points and pose."""

SHIFT, TURN = 0.2, 10.0
"""Metres and degrees by which a new place differs from all others."""

_SPREADS = 1.25
"""By how much places are farther apart each time there is no room."""

_LEAST_FEATURES = 30
_REST = 3
"""Frames without a new place after one was looked for: features cost time."""

_GLANCE, _CANDIDATES = 64, 3
"""Features of a place by which it is chosen, and how many are then looked at closely."""

_RATIO = 0.8
_LEAST_AGREEING = 10
_CELL = 40
"""Pixels of the squares over which features are spread."""


@dataclass(frozen=True)
class KnownView:
    """What is kept of a frame.

    Attributes:
        pose: ``(4, 4)`` camera-to-world.
        points: ``(n, 3)`` float32 in the world.
        descriptors: ``(n, 32)`` uint8 of the points.
    """

    pose: Matrix
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.pose.nbytes + self.points.nbytes + self.descriptors.nbytes


class Places:
    """A bounded number of places, spread over where the camera has been.

    Args:
        most: places kept; 0 for none.

    Attributes:
        held: places, the oldest first.
        spread: how far apart they are (see ``distance``), at least.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: tuple[KnownView, ...] = ()
        self.spread = 1.0
        self._rest = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all places."""
        return sum(place.nbytes for place in self.held)

    def consider(
        self,
        grey: NDArray[np.uint8],
        depth: NDArray[np.float32],
        camera: Pinhole,
        pose: Matrix,
        *,
        least: float | None = None,
    ) -> bool:
        """Keep a frame when it shows a new place.

        When there is no room, places thin out evenly, and new ones have to be farther apart from
        then on: ``spread`` grows. Only a place with ``least`` set takes the room of the most
        redundant other.

        Args:
            grey: ``(h, w)`` uint8.
            depth: ``(h, w)`` metres, 0 where there is no reading or something moves.
            camera: of the image.
            pose: ``(4, 4)`` camera-to-world, believed.
            least: ``distance`` from all others from which on this place is wanted in any case;
                without it, ``spread``, and not where one was looked for a moment ago.

        Returns:
            Whether it is kept.
        """
        self._rest = max(0, self._rest - 1)
        if self.most < 1 or (least is None and self._rest > 0):
            return False
        away = min((distance(pose, place.pose) for place in self.held), default=np.inf)
        if away < (self.spread if least is None else least):
            return False
        self._rest = _REST
        pixels, descriptors = features(grey, FEATURES)
        x, y = np.floor(pixels).astype(np.int64).T
        z = depth[y, x]
        known = z > 0
        if known.sum() < _LEAST_FEATURES:
            return False
        seen = np.column_stack([(pixels[known] - camera.numbers[2:]) / camera.numbers[:2]])
        points = np.column_stack([seen, np.ones(len(seen))]) * z[known][:, None]
        world = (points @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        if len(self.held) >= self.most:
            self._make_room(one=least is not None)
        self.held = (*self.held, KnownView(pose.copy(), world, descriptors[known]))
        return True

    def _make_room(self, one: bool) -> None:
        """Give up the most redundant place, or thin out all until there is room."""
        if one or self.most == 1:
            goes = redundant([place.pose for place in self.held])
            self.held = tuple(place for k, place in enumerate(self.held) if k != goes)
        while len(self.held) >= self.most:
            self.spread *= _SPREADS
            kept: list[KnownView] = []
            for place in self.held:
                if all(distance(place.pose, other.pose) >= self.spread for other in kept):
                    kept.append(place)
            self.held = tuple(kept)

    def recall(self, grey: NDArray[np.uint8], camera: Pinhole) -> Matrix | None:
        """Pose from which a frame may have been seen.

        Points of the places that look most familiar are taken together: a frame often shows parts
        of several.

        Args:
            grey: ``(h, w)`` uint8.
            camera: of the image.

        Returns:
            ``(4, 4)`` camera-to-world; None when nothing looks familiar. Equal input gives equal
            answers.
        """
        if not self.held:
            return None
        corners, descriptors = features(grey, _LOOKED_UP)
        if len(corners) < _LEAST_AGREEING:
            return None
        alike = [len(_matches(p.descriptors[:_GLANCE], descriptors)) for p in self.held]
        close = np.argsort(alike, kind="stable")[::-1][:_CANDIDATES]
        points, pixels = [], []
        for place in (self.held[k] for k in close):
            pairs = _matches(place.descriptors, descriptors)
            points.append(place.points[pairs[:, 0]].astype(np.float64))
            pixels.append(corners[pairs[:, 1]])
        several, seen = np.concatenate(points), np.concatenate(pixels)
        if len(several) < _LEAST_AGREEING:
            return None
        solved = pose_from_points(
            several, seen, camera.numbers, 3.0, method=cv2.SOLVEPNP_AP3P, tries=300
        )
        if solved is None or len(np.unique(seen[solved[1]], axis=0)) < _LEAST_AGREEING:
            return None
        return solved[0]

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything held."""
        import torch  # only here: places need none

        held = self.held
        none, nothing = np.zeros((0, 3), np.float32), np.zeros((0, 32), np.uint8)
        arrays: dict[str, NDArray[Any]] = {
            "counts": np.array([len(place.points) for place in held], np.int64),
            "poses": np.array([place.pose for place in held], np.float64).reshape(-1, 4, 4),
            "points": np.concatenate([none, *(place.points for place in held)]),
            "descriptors": np.concatenate([nothing, *(place.descriptors for place in held)]),
        }
        made: dict[str, Any] = {k: torch.from_numpy(v) for k, v in arrays.items()}
        return made | {"spread": self.spread, "rest": self._rest}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], most: int) -> Places:
        """What ``state_dict`` gave.

        Raises:
            ValueError, KeyError, AttributeError: for a state that is not whole.
        """
        names = ("counts", "poses", "points", "descriptors")
        counts, poses, points, descriptors = (state[name].numpy() for name in names)
        if not len(counts) == len(poses) <= most or (counts < 1).any():
            raise ValueError(f"{len(counts)} places with {len(poses)} poses, at most {most}")
        if poses.shape[1:] != (4, 4) or points.shape != (counts.sum(), 3):
            raise ValueError(f"places have poses {poses.shape} and points {points.shape}")
        if descriptors.shape != (len(points), 32) or descriptors.dtype != np.uint8:
            raise ValueError(f"places have descriptors {descriptors.shape}")
        made = cls(most)
        ends = np.cumsum(counts)
        made.held = tuple(
            KnownView(pose.copy(), points[end - n : end].copy(), descriptors[end - n : end].copy())
            for pose, n, end in zip(poses, counts, ends, strict=True)
        )
        made.spread, made._rest = float(state["spread"]), int(state["rest"])
        return made


def distance(one: Matrix, other: Matrix) -> float:
    """How far two cameras ``(4, 4)`` are apart: 1 for ``SHIFT`` alone, or ``TURN`` alone."""
    turn = np.degrees(rotation_angle(one[:3, :3].T @ other[:3, :3]))
    return float(np.hypot(np.linalg.norm(one[:3, 3] - other[:3, 3]) / SHIFT, turn / TURN))


def redundant(poses: list[Matrix]) -> int:
    """Which camera is missed least: of the two nearest, the one whose next neighbour is nearer."""
    if len(poses) < 2:
        return 0
    away = np.full((len(poses), len(poses)), np.inf)
    for i, one in enumerate(poses):
        for j in range(i):
            away[i, j] = away[j, i] = distance(one, poses[j])
    nearest = np.sort(away, axis=1)[:, :2]
    return int(np.lexsort((nearest[:, 1], nearest[:, 0]))[0])


def features(grey: NDArray[np.uint8], most: int) -> tuple[Matrix, NDArray[np.uint8]]:
    """Corners of an image, spread over it: the strongest of each square come first.

    Args:
        grey: ``(h, w)`` uint8.
        most: how many.

    Returns:
        Pixels ``(n, 2)`` x, y, 0.5 the middle of the first one, and descriptors ``(n, 32)``
        uint8, the strongest first; at most ``most``, none where the image is too small or plain.
    """
    nothing = np.zeros((0, 2)), np.zeros((0, 32), np.uint8)
    if min(grey.shape) < 32:
        return nothing
    # Small images leave no room for the usual border of 31 pixels.
    detector = cv2.ORB_create(  # type: ignore[attr-defined]
        nfeatures=2 * most, edgeThreshold=12, patchSize=31, fastThreshold=7
    )
    corners, descriptors = detector.detectAndCompute(grey, None)
    if descriptors is None or not corners:
        return nothing
    pixels = np.array([c.pt for c in corners], np.float64) + 0.5
    strength = np.array([c.response for c in corners])
    cells = (pixels // _CELL) @ (1, 10_000)
    order = np.lexsort((-strength, cells))
    _, first, inverse_of = np.unique(cells[order], return_index=True, return_inverse=True)
    rank = np.arange(len(order)) - first[inverse_of.ravel()]
    chosen = order[np.lexsort((-strength[order], rank))][:most]
    inside = np.clip(pixels[chosen], 0, np.array(grey.shape[::-1]) - 1e-6)
    return inside, np.ascontiguousarray(descriptors[chosen])


def _matches(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> NDArray[np.int64]:
    """``(n, 2)`` rows of two lists of descriptors that are alike, and like no other."""
    best = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(here, there, k=2)
    sure = [p[0] for p in best if len(p) == 2 and p[0].distance < _RATIO * p[1].distance]
    return np.array([(m.queryIdx, m.trainIdx) for m in sure], np.int64).reshape(-1, 2)
