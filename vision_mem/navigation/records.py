"""What goes into a spatial memory and what comes out of a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.poses import is_rigid
from vision_mem.navigation.mean_directions import unit
from vision_mem.types import MemoryUsage


@dataclass(frozen=True, eq=False)
class Sighting:
    """A thing that was seen.

    Attributes:
        position: ``(3,)`` metres in the camera's frame: right, down, ahead.
        label: a name, or "".
        sigma: metres: standard deviation of the position along each axis, or ``(3, 3)`` its
            covariance in the camera's frame.
        embedding: ``(d,)`` of any length above 0, or None.
        score: how sure the detector is, in [0, 1].
        track: an outer identity such as ``mots:12``: sightings with the same one are of the same
            thing, whatever they look like; "" for none.
        note: anything more, as JSON (a box, a mask's file), or "".
    """

    position: ArrayLike
    label: str = ""
    sigma: ArrayLike = 0.05
    embedding: ArrayLike | None = None
    score: float = 1.0
    track: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        position = np.asarray(self.position, np.float64)
        if position.shape != (3,) or not np.isfinite(position).all():
            raise InputError(
                f"sighting {self.label!r} is at {position.tolist()}; expected 3 finite numbers, "
                "metres in the camera's frame"
            )
        sigma = np.asarray(self.sigma, np.float64)
        spread = sigma**2 * np.eye(3) if sigma.ndim == 0 else sigma
        good = spread.shape == (3, 3) and np.isfinite(spread).all()
        if not good or np.abs(spread - spread.T).max() > 1e-9 or np.linalg.eigvalsh(spread)[0] < 0:
            raise InputError(
                f"sighting {self.label!r} has sigma {sigma.tolist()}; expected metres from 0, or a "
                "(3, 3) covariance"
            )
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"sighting {self.label!r} has score {self.score}; expected 0 to 1")
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "sigma", spread)
        if self.embedding is not None:
            object.__setattr__(self, "embedding", unit(self.embedding))


@dataclass(frozen=True, eq=False)
class Observation:
    """One moment: where the observer was and what there was to see.

    Attributes:
        time_s: seconds.
        pose: ``(4, 4)`` camera-to-world, metres.
        points: ``(n, 3)`` metres in the camera's frame, or None; rows that are not finite count
            as dropped.
        colours: ``(n, 3)`` uint8 of the points, or None.
        labels: ``(n,)`` 1 to 65535, 0 for none, or None.
        embeddings: ``(m, d)`` vectors of segments, or None.
        embedding_of: ``(n,)`` row in ``embeddings`` of each point, -1 for none.
        descriptor: ``(d,)`` what the whole view looks like, or None.
        sightings: things that were seen; None when nobody looked for any, which is not the same
            as having looked and found none.
        source: where the frame is to be found, or "".
        note: anything more, as JSON, or "".
        jump: whether the observer was put here, so that no way leads here from the place before.
        exits: headings of the ways that leave here, degrees clockwise from the map's second axis
            (north on streets); None where nobody looked for ways.
        came_by: heading of the way walked from the place before, or None.

    Raises:
        InputError: for a pose that is missing or no rigid motion, a time or heading that is not
            finite, or an outer identity that is given twice.
    """

    time_s: float
    pose: ArrayLike | None
    points: ArrayLike | None = None
    colours: ArrayLike | None = None
    labels: ArrayLike | None = None
    embeddings: ArrayLike | None = None
    embedding_of: ArrayLike | None = None
    descriptor: ArrayLike | None = None
    sightings: Sequence[Sighting] | None = None
    source: str = ""
    note: str = ""
    jump: bool = False
    exits: Sequence[float] | None = None
    came_by: float | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.time_s):
            raise InputError(f"an observation has time {self.time_s}; expected seconds")
        headings = [*(self.exits or ()), 0.0 if self.came_by is None else self.came_by]
        if not np.isfinite(headings).all():
            raise InputError("an observation has ways at headings that are not finite; in degrees")
        what = f"observation at {self.time_s:g} s"
        if self.pose is None:
            raise InputError(f"{what} has no pose; find one first, or leave the observation out")
        pose = np.asarray(self.pose, np.float64)
        if not is_rigid(pose):
            raise InputError(
                f"{what} has a pose that is not finite or no rigid motion; expected a (4, 4) "
                "camera-to-world matrix"
            )
        object.__setattr__(self, "pose", pose)
        if self.descriptor is not None:
            object.__setattr__(self, "descriptor", unit(self.descriptor))
        tracks = Counter(each.track for each in self.sightings or () if each.track)
        twice = sorted(track for track, times in tracks.items() if times > 1)
        if twice:
            raise InputError(f"{what} has two sightings of {twice[0]!r}; an identity is one thing")


@dataclass(frozen=True)
class NavigationResult:
    """What a step did.

    Attributes:
        frame: number of the observation, from 1.
        time_s: seconds.
        place: where the observer is.
        new_place: whether that place is new.
        landmarks: for each sighting the landmark it is of; None where its position is beyond the
            range of keys.
        new_landmarks: those of them that are new.
        gone: landmarks that are believed gone since this step.
        evicted: nodes that left short memory.
        memories: journal ids written, first and last.
        dropped: points and sightings without a place in the grid.
        committed: whether all so far is in the file.
    """

    frame: int
    time_s: float
    place: int
    new_place: bool
    landmarks: tuple[int | None, ...]
    new_landmarks: tuple[int, ...]
    gone: tuple[int, ...]
    evicted: tuple[int, ...]
    memories: tuple[int, int]
    dropped: int
    committed: bool


@dataclass(frozen=True)
class NavigationUsage(MemoryUsage):
    """What a spatial memory holds.

    Attributes:
        entries: landmarks, places, and entries of short memory.
        bytes: in memory; the file is counted apart.
        detail: the same by kind.
        file_bytes: on disk, the log folded in.
        memories: rows of the journal.
    """

    file_bytes: int = 0
    memories: int = 0


@dataclass(frozen=True, eq=False)
class Route:
    """A way to somewhere.

    Attributes:
        points: float64 ``(n, 3)`` metres in the map's frame, start and end included.
        length: metres.
        places: ids along the way when it was planned on places, else empty.
        directions: turn by turn, in words, a leg each.
        ends: index in ``points`` at which each leg ends.
        on: ``floor`` or ``places``.
        beside: metres over the floor from the start to where the way begins, and from where it
            ends to the goal: things stand on no open floor.
    """

    points: NDArray[np.float64]
    length: float
    places: tuple[int, ...] = ()
    directions: tuple[str, ...] = field(default_factory=tuple)
    ends: tuple[int, ...] = field(default_factory=tuple)
    on: str = "places"
    beside: tuple[float, float] = (0.0, 0.0)
