"""Panoramas of a generated city, painted, and a matcher that reads landmarks from them.

A landmark is a façade in its colour with a sign that tells its kind; nearer ones cover farther
ones. The matcher looks for façades by colour, reads the sign, and takes the range from the height.
It knows this painter's pictures and no others. Source: mem4nav specification, section 5.1 (c).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.synthetic.city import COLOURS, KINDS, City
from vision_mem.vln.graph import turn_between
from vision_mem.vln.observations import Sight, word_vector

WIDTH, HEIGHT = 512, 128  # pixels
_DEGREE = WIDTH / 360.0  # pixels a degree, in both directions
_HORIZON = HEIGHT // 2
_TALL_M, _WIDE_M = 6.0, 7.0  # of a façade, above the horizon and across
_ZERO = 22.5  # Touchdown's panoramas: degrees from the first column to the yaw
_PALETTE = np.array(
    [
        [205, 40, 40], [40, 70, 205], [40, 150, 60], [235, 205, 40],
        [245, 245, 245], [20, 20, 20], [240, 130, 30], [130, 50, 150],
    ],
    np.float64,
)  # fmt: skip
_SKY, _GROUND = (150, 195, 225), (110, 108, 104)
_INK, _PAPER = (0, 255, 255), (255, 0, 255)  # of signs; far from all façades
_GRID = 4  # dots along a side of a sign


def _signs() -> NDArray[np.bool_]:
    """``(kinds, 4, 4)``: patterns, each pair unlike in at least six of sixteen dots."""
    rng = np.random.default_rng(2)
    found: list[NDArray[np.bool_]] = []
    while len(found) < len(KINDS):
        one = rng.random((_GRID, _GRID)) < 0.5
        if all((one != other).sum() >= 6 for other in found):
            found.append(one)
    return np.array(found)


_SIGNS = _signs()


@dataclass(frozen=True)
class Seen:
    """A landmark read from a panorama.

    Attributes:
        name: colour and kind.
        bearing: degrees clockwise from north.
        range_m: metres.
    """

    name: str
    bearing: float
    range_m: float


def paint_panorama(
    city: City, place: int, *, reach_m: float = 25.0, noise: float = 0.0, seed: int = 0
) -> NDArray[np.uint8]:
    """Paint what surrounds a place.

    Args:
        city: the city.
        place: place number.
        reach_m: farther landmarks are not painted.
        noise: standard deviation of each pixel's noise, of 255.
        seed: of the noise.

    Returns:
        ``(128, 512, 3)`` uint8 RGB, 360 degrees, oriented as Touchdown's panoramas are.
    """
    picture = np.empty((HEIGHT, WIDTH, 3), np.float64)
    picture[:_HORIZON], picture[_HORIZON:] = _SKY, _GROUND
    at = city.graph.position[place]
    for mark in reversed(city.near(at, reach_m)):  # far ones first
        offset = mark.position - at
        far = max(float(np.hypot(*offset)), 1.0)
        bearing = float(np.degrees(np.arctan2(offset[0], offset[1])))
        _paint(picture, mark.name, bearing - float(city.graph.yaw[place]), far)
    if noise:
        picture += np.random.default_rng(seed).normal(0.0, noise, picture.shape)
    return np.clip(picture.round(), 0, 255).astype(np.uint8)


def _paint(picture: NDArray[np.float64], name: str, turn: float, far: float) -> None:
    colour, kind = name.split()
    half = max(4, round(np.degrees(np.arctan2(_WIDE_M / 2, far)) * _DEGREE))
    tall = max(8, round(np.degrees(np.arctan2(_TALL_M, far)) * _DEGREE))
    middle = round((_ZERO + turn) * _DEGREE)
    columns = np.arange(middle - half, middle + half) % WIDTH
    top = max(_HORIZON - tall, 0)
    picture[top:_HORIZON, columns] = _PALETTE[COLOURS.index(colour)]
    # The sign: paper with dots of ink, in the upper middle, as large as fits.
    dot = max(1, min(half, tall // 2) // (_GRID + 1))
    side = dot * _GRID
    rows = np.arange(top + dot, top + dot + side)
    across = np.arange(middle - side // 2, middle - side // 2 + side) % WIDTH
    pattern = np.kron(_SIGNS[KINDS.index(kind)], np.ones((dot, dot), bool))
    picture[np.ix_(rows, across)] = np.where(pattern[..., None], _INK, _PAPER)


def read_panorama(picture: NDArray[np.uint8], yaw: float = 0.0) -> list[Seen]:
    """Find landmarks in a painted panorama.

    Args:
        picture: ``(128, 512, 3)`` uint8 RGB.
        yaw: of the panorama, degrees.

    Returns:
        What could be read whole; façades that others cover in part may be missing.

    Raises:
        InputError: for a picture of another shape.
    """
    if picture.shape != (HEIGHT, WIDTH, 3) or picture.dtype != np.uint8:
        raise InputError(
            f"panorama is {picture.shape} {picture.dtype}; expected ({HEIGHT}, {WIDTH}, 3) uint8"
        )
    classes = _classify(picture[:_HORIZON])
    found = []
    for first, last in _runs(classes):
        columns = np.arange(first, last) % WIDTH
        seen = _read(classes[:, columns], first, yaw)
        if seen is not None:
            found.append(seen)
    return found


def _classify(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """``(H, W)``: nearest colour: façades 0 to 7, then ink, paper, sky, ground."""
    colours = np.vstack([_PALETTE, [_INK, _PAPER, _SKY, _GROUND]]).astype(np.float32)
    # |x - c|^2 less |x|^2, which is the same for all colours.
    apart = (colours**2).sum(axis=1) - 2.0 * (picture.astype(np.float32) @ colours.T)
    return np.asarray(apart.argmin(axis=2))


def _runs(classes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Columns ``(first, one past the last)`` of each façade, by its foot; around the seam too."""
    foot = classes[_HORIZON - 4 : _HORIZON]
    colour = np.array([np.bincount(one, minlength=12).argmax() for one in foot.T])
    colour[colour >= len(COLOURS)] = -1
    changes = np.flatnonzero(colour != np.roll(colour, 1))
    if not len(changes):
        return []
    ends = [*changes[1:].tolist(), int(changes[0]) + WIDTH]
    return [(int(a), b) for a, b in zip(changes, ends, strict=True) if colour[a] >= 0 and b - a > 6]


def _read(classes: NDArray[np.int64], first: int, yaw: float) -> Seen | None:
    """Name, bearing and range of one façade's columns."""
    ink, paper = len(COLOURS), len(COLOURS) + 1
    colour = int(np.bincount(classes[_HORIZON - 1], minlength=12)[: len(COLOURS)].argmax())
    own = (classes == colour) | (classes == ink) | (classes == paper)
    width = classes.shape[1]
    tall = int(np.count_nonzero(own[:_HORIZON].mean(axis=1) > 0.7))
    sign = (classes[:_HORIZON] == ink) | (classes[:_HORIZON] == paper)
    rows, columns = np.flatnonzero(sign.mean(axis=1) > 0.12), np.flatnonzero(sign.any(axis=0))
    if tall < 8 or len(rows) < _GRID or len(columns) < _GRID:
        return None
    dot = max(1, min(width // 2, tall // 2) // (_GRID + 1))
    top, left = int(rows[0]), width // 2 - dot * _GRID // 2
    patch = classes[top : top + dot * _GRID, left : left + dot * _GRID]
    if patch.shape != (dot * _GRID, dot * _GRID):
        return None
    dots = (patch == ink).reshape(_GRID, dot, _GRID, dot).mean(axis=(1, 3)) > 0.5
    unlike = (dots != _SIGNS).sum(axis=(1, 2))
    # Patterns differ in six dots, so up to two wrong ones leave no doubt.
    if unlike.min() > 2:
        return None
    far = _TALL_M / np.tan(np.radians(max(tall, 1) / _DEGREE))
    bearing = ((first + width / 2.0) / _DEGREE - _ZERO + yaw) % 360.0
    return Seen(f"{COLOURS[colour]} {KINDS[int(unlike.argmin())]}", float(bearing), float(far))


class PictureWorld:
    """What an agent sees in a city when it looks at painted panoramas.

    Args:
        city: where.
        seed: of the pixels' noise.
        noise: its standard deviation, of 255.
        field: degrees that are looked at, half of them to each side of the heading.
        reach_m: farther landmarks are not painted.
    """

    def __init__(
        self,
        city: City,
        seed: int = 0,
        *,
        noise: float = 20.0,
        field: float = 240.0,
        reach_m: float = 25.0,
    ) -> None:
        self._city, self._seed, self._noise = city, seed, noise
        self._field, self._reach = field, reach_m

    def sights(self, place: int, visit: int, heading: float) -> tuple[Sight, ...]:
        """What is read in the panorama of a place, within the field of view."""
        seed = (self._seed * 1_000_003 + visit) * 1_000_003 + place
        picture = paint_panorama(
            self._city, place, reach_m=self._reach, noise=self._noise, seed=seed
        )
        at = self._city.graph.position[place]
        found = []
        for seen in read_panorama(picture, float(self._city.graph.yaw[place])):
            if abs(turn_between(heading, seen.bearing)) <= self._field / 2.0:
                radians = np.radians(seen.bearing)
                offset = seen.range_m * np.array([np.sin(radians), np.cos(radians)])
                found.append(Sight(word_vector(seen.name), at + offset, seen.name))
        return tuple(found)
