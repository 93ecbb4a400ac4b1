"""Ways through remembered space: a floor plan from the octree, and the shortest path on it.

A floor cell is open when floor was seen there or close by, free space above it, and nothing stands
there at the height of the traveller; what was never looked at is closed, unless one is optimistic
(specification 5.3). Where no surface can be told to be the floor, nothing is open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from vision_mem.errors import InputError
from vision_mem.navigation.gravity import Levels, find_levels
from vision_mem.navigation.space.octree import Octree

AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
_GREATEST = 16_000_000
_STOREY = 2.3
"""Metres above a floor up to which who looks from there stands on it."""
_STEPS = 2.0
"""Metres between two places that were walked in one go."""
_TALL = 1.4
"""Metres above the floor from which on what stands there is drawn as a wall."""
_STRAIGHT = 20.0
"""Degrees; who turns less goes straight on."""


@dataclass(frozen=True)
class PlanningConfig:
    """Who travels, and over which floor.

    Attributes:
        up: which way is up in the map's frame; ``-y`` where the first camera's axes are the
            map's, ``+z`` for most surveyed maps.
        floor: height of the floor along ``up``, metres; None to find it, see ``find_levels``.
        lowest, highest: metres above the floor between which something is an obstacle.
        radius: metres kept clear around the traveller.
        snap: metres from a start or goal within which an open cell is taken instead: goals are
            things, and nobody stands in them.
        optimistic: whether what was never looked at is open.
        below: metres that the floor lies below the observers at least, when it has to be found.
        gap: metres of floor not seen that may lie between what was; also around where somebody
            walked.
    """

    up: str = "-y"
    floor: float | None = None
    lowest: float = 0.1
    highest: float = 1.8
    radius: float = 0.2
    snap: float = 1.5
    optimistic: bool = False
    below: float = 0.15
    gap: float = 0.5

    @property
    def upward(self) -> tuple[int, int]:
        """The axis that is up, and 1 or -1 for its direction."""
        return "xyz".index(self.up[1]), 1 if self.up[0] == "+" else -1

    def __post_init__(self) -> None:
        if self.up not in AXES:
            raise InputError(f"up is {self.up!r}; expected one of {', '.join(AXES)}")
        if not (self.lowest < self.highest and self.radius >= 0 and self.snap >= 0):
            raise InputError("planning: lowest < highest, and radius and snap of 0 or more")
        if not self.gap >= 0 or (self.floor is not None and not math.isfinite(self.floor)):
            raise InputError("planning: gap of 0 or more, floor a number of metres")


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """A map from above.

    Attributes:
        open: bool ``(n, m)``: where the traveller's middle can be.
        obstacle: bool ``(n, m)``: where something stands.
        seen: bool ``(n, m)``: where free space or an obstacle was seen.
        low: ``(2,)`` metres along ``axes``: corner of cell (0, 0).
        size: edge of a cell, metres.
        axes: the two axes of the map's frame that lie in the plan.
        up: the axis that is up, and 1 or -1 for its direction.
        floor: height along ``up``, metres; where none is known, that of the lowest level surface,
            for a picture.
        carries: bool ``(n, m)``: where floor was seen, or somebody walked.
        levels: floors and other level surfaces.
        tall: bool ``(n, m)``: where what stands is as high as a person: walls, cupboards.
    """

    open: NDArray[np.bool_]
    obstacle: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    low: NDArray[np.float64]
    size: float
    axes: tuple[int, int]
    up: tuple[int, int]
    floor: float
    carries: NDArray[np.bool_]
    levels: Levels
    tall: NDArray[np.bool_]

    def cell(self, position: NDArray[np.float64]) -> NDArray[np.int64]:
        """``(2,)`` cell of a position; it may lie outside the plan."""
        flat = np.asarray(position)[list(self.axes)]
        return np.floor((flat - self.low) / self.size).astype(np.int64)

    def position(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(n, 3)`` positions on the floor, metres in the map's frame, of ``(n, 2)`` cells."""
        out = np.empty((len(cells), 3))
        out[:, list(self.axes)] = (cells + 0.5) * self.size + self.low
        out[:, self.up[0]] = self.floor * self.up[1]
        return out


def floor_plan(
    octree: Octree,
    config: PlanningConfig,
    observers: NDArray[np.float64],
    at: NDArray[np.float64] | None = None,
) -> FloorPlan | None:
    """Draw the plan of a storey of a map; None when nothing is known.

    Where one looked from, ``observers`` ``(n, 3)`` metres, tells where the floor cannot be. The
    storey is that of the position ``at`` ``(3,)``, or of the latest observer.

    Raises:
        InputError: for a map too wide for one plan.
    """
    axis, sign = config.upward
    axes = (0, 1) if axis == 2 else (0, 2) if axis == 1 else (1, 2)
    size = octree.config.leaf
    # What was hit twice and is not carved to the end stands in the way: rays pass by thin things.
    least = octree.config.lowest + 0.05
    parts = [
        (each.centres, each.occupied, (each.hits > 1) & (each.log_odds > least))
        for each in octree.leaves()
    ]
    if not parts:
        return None
    centres = np.concatenate([part[0] for part in parts])
    occupied = np.concatenate([part[1] for part in parts])
    doubtful = np.concatenate([part[2] for part in parts])
    height = centres[:, axis] * sign
    flat = centres[:, axes]
    low = flat.min(axis=0) - size / 2
    cells = np.rint((flat - low) / size - 0.5).astype(np.int64)
    shape = tuple((cells.max(axis=0) + 1).tolist())
    if shape[0] * shape[1] > _GREATEST:
        raise InputError(
            f"the map's plan would have {shape[0]} x {shape[1]} cells; plan on places instead"
        )
    bottom = float(height.min()) - size / 2
    layers = np.rint((height - bottom) / size - 0.5).astype(np.int64)
    solid = np.column_stack([cells, layers])
    eyes = observers[:, axis] * sign
    levels = find_levels(solid, occupied, eyes, size, bottom, config.below)
    levels = replace(levels, given=config.floor)
    asked = float(at[axis] * sign) if at is not None else float(eyes[-1]) if len(eyes) else math.inf
    chosen = levels.under(asked)
    lowest = levels.surfaces[0].height if levels.surfaces else bottom
    floor = lowest if chosen is None else chosen.height
    band = (height > floor + config.lowest) & (height < floor + config.highest)
    obstacle, free = np.zeros(shape, bool), np.zeros(shape, bool)
    obstacle[tuple(cells[band & (occupied | doubtful)].T)] = True
    free[tuple(cells[band & ~occupied].T)] = True
    tall = np.zeros(shape, bool)
    tall[tuple(cells[occupied & (height > floor + _TALL)].T)] = True
    carries = _carrying(cells, height, occupied, floor, size, shape)
    here = observers[(eyes > floor + config.lowest) & (eyes < floor + _STOREY)]
    walked = np.floor((_walked(here[:, axes], size) - low) / size).astype(np.int64)
    walked = walked[((walked >= 0) & (walked < shape)).all(axis=1)]
    carries[tuple(walked.T)] = True
    passable = ~obstacle & (free | config.optimistic)
    if chosen is None:
        passable[:] = False
    elif not config.optimistic and config.lowest >= 0 and (config.floor is None or chosen.area):
        # Who flies, or gives a height at which nothing was seen, asks for free space only.
        # A step down, or nothing that was ever seen to carry: no floor.
        near = distance_transform_edt(~carries) * size if carries.any() else np.full(shape, np.inf)
        passable &= near <= config.gap
    hole = np.zeros(shape, bool)
    hole[tuple(cells[~occupied & (height < floor - 2 * size)].T)] = True
    passable &= ~hole | carries
    if config.radius:
        # A cell's middle keeps the radius from every obstacle's edge.
        away = distance_transform_edt(~obstacle) if obstacle.any() else np.full(shape, np.inf)
        passable &= (away - 0.5) * size >= config.radius
    return FloorPlan(
        passable, obstacle, obstacle | free | carries, low, size, axes, (axis, sign), float(floor),
        carries, levels, tall & obstacle,
    )  # fmt: skip


def _walked(spots: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """Spots ``(n, 2)`` that one looked from, and what lies between those a few steps apart."""
    found = [spots]
    for start, end in pairwise(spots):
        away = float(np.linalg.norm(end - start))
        if size < away <= _STEPS:
            share = np.linspace(0.0, 1.0, math.ceil(2 * away / size))[:, None]
            found.append(start + share * (end - start))
    return np.concatenate(found)


def _carrying(
    cells: NDArray[np.int64],
    height: NDArray[np.float64],
    occupied: NDArray[np.bool_],
    floor: float,
    size: float,
    shape: tuple[int, ...],
) -> NDArray[np.bool_]:
    """``(n, m)`` where something was seen at the height of the floor, and no body inside it."""
    carries = np.zeros(shape, bool)
    level = occupied & (height < floor + size) & (height > floor - 2.5 * size)
    carries[tuple(cells[level].T)] = True
    return carries


def shortest_walk(
    plan: FloorPlan, start: NDArray[np.float64], goal: NDArray[np.float64], snap: float
) -> NDArray[np.float64] | None:
    """The shortest walk over open cells, in straight pieces: ``(n, 3)`` metres, or None.

    An open cell within ``snap`` metres stands for the start or goal, ``(3,)`` metres each: the
    nearest ones that a way joins, for the nearest of all may lie inside a cupboard.
    """
    number = np.full(plan.open.shape, -1, np.int64)
    cells = np.argwhere(plan.open)
    if not len(cells):
        return None
    number[plan.open] = np.arange(len(cells))
    rows, columns, costs = [], [], []
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        ends = cells + (dx, dy)
        inside = ((ends >= 0) & (ends < plan.open.shape)).all(axis=1)
        begins, ends = cells[inside], ends[inside]
        good = plan.open[ends[:, 0], ends[:, 1]]
        if dx and dy:  # no cutting of corners
            good &= plan.open[begins[:, 0], ends[:, 1]] & plan.open[ends[:, 0], begins[:, 1]]
        begins, ends = begins[good], ends[good]
        rows.append(number[begins[:, 0], begins[:, 1]])
        columns.append(number[ends[:, 0], ends[:, 1]])
        costs.append(np.full(len(begins), math.hypot(dx, dy)))
    index = (np.concatenate(rows), np.concatenate(columns))
    graph = csr_array((np.concatenate(costs), index), shape=(len(cells), len(cells)))
    reach = max(snap, plan.size)
    chosen = _joined(graph, [_metres(plan, cells, each) for each in (start, goal)], reach)
    if chosen is None:
        return None
    first, last = chosen
    _, before = dijkstra(graph, directed=False, indices=first, return_predecessors=True)
    way = [last]
    while way[-1] != first:
        way.append(int(before[way[-1]]))
        if way[-1] < 0:
            return None
    return plan.position(_straightened(plan, cells[way[::-1]]))


def _joined(
    graph: csr_array, away: Sequence[NDArray[np.float64]], reach: float
) -> tuple[int, int] | None:
    """Two cells within reach of start and goal that a way joins, as near as they can be."""
    count, part = connected_components(graph, directed=False)
    best, least = None, math.inf
    for number in range(count) if count < len(part) else ():
        own = np.flatnonzero(part == number)
        near = [own[int(metres[own].argmin())] for metres in away]
        far = [float(metres[k]) for metres, k in zip(away, near, strict=True)]
        if max(far) <= reach and sum(far) < least:
            best, least = (int(near[0]), int(near[1])), sum(far)
    return best


def nearest_open(plan: FloorPlan, position: NDArray[np.float64]) -> float:
    """Metres over the floor from a position ``(3,)`` to the nearest open cell."""
    cells = np.argwhere(plan.open)
    return _nearest(plan, cells, position)[1] if len(cells) else math.inf


def _nearest(
    plan: FloorPlan, cells: NDArray[np.int64], position: NDArray[np.float64]
) -> tuple[int, float]:
    """Which open cell is nearest, and how many metres it is away."""
    away = _metres(plan, cells, position)
    best = int(away.argmin())
    return best, float(away[best])


def _metres(
    plan: FloorPlan, cells: NDArray[np.int64], position: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(n,)`` metres from each cell to a position."""
    away = ((cells - plan.cell(position)) ** 2).sum(axis=1)
    return np.asarray(np.sqrt(away) * plan.size, np.float64)


def _straightened(plan: FloorPlan, way: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out what lies on straight open lines, looking ahead as far as they go."""
    kept = [0]
    while kept[-1] < len(way) - 1:
        here, step = kept[-1], 1
        # Twice as far as long as it is open, then back by halves.
        while here + 2 * step < len(way) and _clear(plan, way[here], way[here + 2 * step]):
            step *= 2
        reach = step
        while step:
            if here + reach + step < len(way) and _clear(plan, way[here], way[here + reach + step]):
                reach += step
            else:
                step //= 2
        kept.append(here + reach)
    return way[kept]


def _clear(plan: FloorPlan, start: NDArray[np.int64], end: NDArray[np.int64]) -> bool:
    count = 4 * int(np.abs(end - start).max()) + 1
    line = start + np.linspace(0.0, 1.0, count)[:, None] * (end - start)
    cells = np.floor(line + 0.5).astype(np.int64)
    return bool(plan.open[cells[:, 0], cells[:, 1]].all())


def directions(
    points: NDArray[np.float64], up: tuple[int, int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """A way ``(n, 3)`` metres turn by turn, in words; one that only bends a little is one leg.

    Returns:
        Words of each leg, and the index of the point at which it ends.
    """
    if len(points) < 2:
        return ("stay where you are",), (0,)
    normal = np.zeros(3)
    normal[up[0]] = up[1]
    legs = np.diff(points, axis=0)
    said, ends = [], []
    turn, metres, bent = "go", 0.0, 0.0
    for number, leg in enumerate(legs):
        angle = 0.0
        if number:
            before = legs[number - 1]
            side = float(normal @ np.cross(before, leg))
            angle = math.degrees(math.atan2(side, float(before @ leg)))
        bent += angle
        sharp = abs(angle) >= _STRAIGHT
        if sharp or abs(bent) >= 2 * _STRAIGHT:
            said.append(f"{turn} {metres:.1f} m")
            ends.append(number)
            turn, metres, bent = _turn(angle if sharp else bent), 0.0, 0.0
        metres += float(np.linalg.norm(leg))
    return (*said, f"{turn} {metres:.1f} m"), (*ends, len(legs))


def _turn(angle: float) -> str:
    side = "left" if angle > 0 else "right"
    if abs(angle) < 60:
        return f"bear {side} and go"
    if abs(angle) < 135:
        return f"turn {side} and go"
    return "turn around and go"
