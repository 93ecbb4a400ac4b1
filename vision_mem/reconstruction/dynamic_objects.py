"""Transient dynamics: what moves, as components with identities, for the last few frames.

A track is sure when it has been where space was surely empty, on several frames, and has travelled
as a whole: both ends of it, the same way. Until then it may move, and is kept apart.

Source: specs/mem4d.md section 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vision_mem.errors import InputError
from vision_mem.geometry.assignment import assign

MOVING, PARKED = "moving", "parked"


@dataclass(frozen=True)
class DynamicsConfig:
    """What is a moving thing, and for how long it is remembered.

    Attributes:
        least_pixels: share of the image that a component must have.
        gap: metres, and share of the depth, by which neighbouring pixels of one component may
            differ.
        confirm: frames that make a component a track.
        sure_share: share of a component that must surely be where space was empty.
        sure_frames: frames with such a component that make a track sure, if it travelled.
        travel: metres that both ends of a track must have moved the same way.
        patience: frames that a track is remembered unseen.
        reach: metres that a component may be from where its track is expected, besides its size.
        frames: frames whose moving points are kept.
        most_points: points kept of each frame.
        most_tracks: tracks at a time.
        still_share: share of a component's points that must be where the scene was before for it
            to stand still.
        park_s: seconds that a track must stand still to be parked.
        settle_s: seconds that a track is parked before it becomes structure.
    """

    least_pixels: float = 0.001
    gap: float = 0.03
    confirm: int = 3
    sure_share: float = 0.3
    sure_frames: int = 3
    travel: float = 0.12
    patience: int = 10
    reach: float = 0.35
    frames: int = 5
    most_points: int = 20_000
    most_tracks: int = 64
    still_share: float = 0.95
    park_s: float = 0.25
    settle_s: float = 3.0

    def __post_init__(self) -> None:
        for name in (
            "confirm", "patience", "frames", "most_points", "most_tracks", "sure_frames"
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more")


@dataclass(frozen=True)
class Component:
    """Moving pixels that hang together on one frame.

    Attributes:
        pixels: ``(n,)`` places in the flattened image.
        centre: ``(3,)`` metres in the world, middle of its bounds.
        extent: ``(3,)`` metres, its bounds.
        still: share of its points that are where the scene was before, of those that say
            anything; 0 when none does.
        sure: share of them that surely move.
        told: whether somebody says that it moves, who is believed.
    """

    pixels: NDArray[np.int64]
    centre: NDArray[np.float64]
    extent: NDArray[np.float64]
    still: float
    sure: float = 0.0
    told: bool = False

    @property
    def bounds(self) -> NDArray[np.float64]:
        """``(2, 3)`` metres in the world."""
        return np.stack([self.centre - self.extent / 2, self.centre + self.extent / 2])


@dataclass(frozen=True)
class MovingTrack:
    """A moving thing.

    Attributes:
        track_id: for ever.
        state: ``moving`` or ``parked``.
        confirmed: whether it was seen often enough to be spoken of.
        seen: whether it was seen on this frame.
        centre, velocity: ``(3,)`` metres and metres a second in the world, filtered.
        extent: ``(3,)`` metres of its bounds, as last seen.
        hits, missing: frames seen in all; frames since.
        still_s: seconds that it has stood still.
        first_frame: it was born on.
        covariance: ``(6, 6)`` of centre and velocity.
        sure: whether it surely moves, or did.
        sure_hits, unsure: frames with sure evidence in all; frames since.
        start: ``(2, 3)`` metres, its bounds when it first had sure evidence.
    """

    track_id: int
    state: str
    confirmed: bool
    seen: bool
    centre: NDArray[np.float64]
    velocity: NDArray[np.float64]
    extent: NDArray[np.float64]
    hits: int
    missing: int
    still_s: float
    first_frame: int
    covariance: NDArray[np.float64]
    sure: bool = False
    sure_hits: int = 0
    unsure: int = 0
    start: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 3)))

    @property
    def speed(self) -> float:
        """Metres a second."""
        return float(np.linalg.norm(self.velocity))

    @property
    def speed_error(self) -> float:
        """Standard deviation of the speed along its direction, metres a second."""
        spread = self.covariance[3:, 3:]
        if self.speed < 1e-9:
            return float(np.sqrt(np.trace(spread) / 3))
        along = self.velocity / self.speed
        return float(np.sqrt(max(float(along @ spread @ along), 0.0)))


@dataclass(frozen=True)
class MovingPoints:
    """The moving points of one frame, as the transient memory holds them.

    Attributes:
        frame_index, time_s: of the frame.
        points: ``(n, 3)`` float32 in the world, at that time.
        colours: ``(n, 3)`` uint8.
        track_ids: ``(n,)`` int32; -1 where there is no track.
    """

    frame_index: int
    time_s: float
    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    track_ids: NDArray[np.int32]

    def where(self, kept: NDArray[np.bool_]) -> MovingPoints:
        """Some of them, by ``(n,)`` bool."""
        if kept.all():
            return self
        return replace(
            self, points=self.points[kept], colours=self.colours[kept],
            track_ids=self.track_ids[kept],
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.points.nbytes + self.colours.nbytes + self.track_ids.nbytes


@dataclass(frozen=True)
class DynamicsState:
    """All that the transient memory holds; replaced, never changed."""

    tracks: tuple[MovingTrack, ...] = ()
    next_id: int = 1
    recent: tuple[MovingPoints, ...] = field(default=())

    @property
    def nbytes(self) -> int:
        """Bytes of points and filters."""
        return sum(r.nbytes for r in self.recent) + len(self.tracks) * 8 * (36 + 9 + 6)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        import torch  # only here: settings and moving objects need none

        tracks = [
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(t).items()}
            for t in self.tracks
        ]
        recent = [
            {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in vars(r).items()}
            for r in self.recent
        ]
        return {"tracks": tracks, "next_id": self.next_id, "recent": recent}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DynamicsState:
        """What ``state_dict`` gave."""
        # Tracks of before there was a difference were all spoken of.
        old = {"sure": True}
        tracks = tuple(
            MovingTrack(**_arrays((old if "sure" not in t else {}) | dict(t)))
            for t in state["tracks"]
        )
        recent = tuple(MovingPoints(**_arrays(r)) for r in state["recent"])
        return cls(tracks, int(state["next_id"]), recent)


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists and tensors as arrays again."""
    import torch

    def array(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.numpy()
        return np.array(value) if isinstance(value, list) else value

    return {name: array(value) for name, value in values.items()}


def find_components(
    moving: NDArray[np.bool_],
    points: NDArray[np.float32],
    depth: NDArray[np.float32],
    agreed: NDArray[np.int8],
    sure: NDArray[np.bool_],
    config: DynamicsConfig,
) -> list[Component]:
    """Split moving pixels into things.

    Args:
        moving: ``(H, W)`` bool.
        points: ``(H, W, 3)`` in the world.
        depth: ``(H, W)`` metres.
        agreed: ``(H, W)`` 1 where the scene was there before, -1 where it was not, else 0.
        sure: ``(H, W)`` pixels that surely move.
        config: settings.

    Returns:
        Components, from the top left of the image on.
    """
    flat = np.flatnonzero(moving)
    if not len(flat):
        return []
    number = np.full(moving.shape, -1, np.int64)
    number.ravel()[flat] = np.arange(len(flat))
    pairs = []
    for here, there, a, b in (
        (number[:, :-1], number[:, 1:], depth[:, :-1], depth[:, 1:]),
        (number[:-1], number[1:], depth[:-1], depth[1:]),
    ):
        linked = (here >= 0) & (there >= 0)
        linked &= np.abs(a - b) < config.gap + config.gap * np.minimum(a, b)
        pairs.append(np.stack([here[linked], there[linked]]))
    one, other = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(one), np.int8), (one, other)), shape=(len(flat), len(flat)))
    count, label = connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=count)
    least = max(4, round(config.least_pixels * moving.size))
    first = np.full(count, len(flat))
    np.minimum.at(first, label, np.arange(len(flat)))
    found = []
    for which in sorted(np.flatnonzero(sizes >= least), key=lambda c: int(first[c])):
        pixels = flat[label == which]
        cloud = points.reshape(-1, 3)[pixels].astype(np.float64)
        # Bounds without the outermost pixels, which often mix two surfaces.
        low, high = np.percentile(cloud, [5, 95], axis=0)
        says = agreed.ravel()[pixels]
        same, other_place = int((says > 0).sum()), int((says < 0).sum())
        still = same / (same + other_place) if same + other_place else 0.0
        surely = float(sure.ravel()[pixels].mean())
        found.append(Component(pixels, (low + high) / 2, high - low, still, surely))
    return found


def follow(
    state: DynamicsState,
    components: Sequence[Component],
    frame_index: int,
    seconds: float,
    config: DynamicsConfig,
) -> tuple[DynamicsState, list[int], list[tuple[str, MovingTrack]]]:
    """Carry tracks on to a frame.

    Args:
        state: before; not changed.
        components: of this frame.
        frame_index: its number.
        seconds: since the frame before.
        config: settings.

    Returns:
        The state, each component's track id, and what happened to sure tracks: ``appeared``,
        ``parked``, ``moved again``, ``left``, with the track.
    """
    expected = [_predicted(t, seconds) for t in state.tracks]
    cost = np.full((len(expected), len(components)), np.inf)
    for i, track in enumerate(expected):
        for j, component in enumerate(components):
            apart = float(np.linalg.norm(track.centre - component.centre))
            size = 0.5 * float(np.linalg.norm(np.maximum(track.extent, component.extent)))
            if apart <= config.reach + size:
                cost[i, j] = apart
    pairs = dict(assign(cost))
    ids, tracks, happened = [-1] * len(components), [], []
    for i, track in enumerate(expected):
        if i in pairs:
            updated, word = _updated(track, components[pairs[i]], seconds, config)
            ids[pairs[i]] = updated.track_id
            tracks.append(updated)
            if word:
                happened.append((word, updated))
            continue
        missed = replace(
            track, seen=False, missing=track.missing + 1, velocity=track.velocity * 0.8
        )
        if missed.missing <= (config.patience if track.confirmed else 1):
            tracks.append(missed)
        elif track.sure:
            happened.append(("left", missed))
    next_id = state.next_id
    for j, component in enumerate(components):
        if ids[j] < 0 and len(tracks) < config.most_tracks:
            tracks.append(_born(next_id, component, frame_index, config))
            ids[j], next_id = next_id, next_id + 1
    return replace(state, tracks=tuple(tracks), next_id=next_id), ids, happened


def _predicted(track: MovingTrack, seconds: float) -> MovingTrack:
    step = np.eye(6)
    step[:3, 3:] = seconds * np.eye(3)
    jerk = 2.0**2  # metres a second squared, standard deviation of what hands and feet do
    blocks = np.array([[seconds**4 / 4, seconds**3 / 2], [seconds**3 / 2, seconds**2]]) * jerk
    covariance = step @ track.covariance @ step.T + np.kron(blocks, np.eye(3))
    return replace(track, centre=track.centre + seconds * track.velocity, covariance=covariance)


def _updated(
    track: MovingTrack, found: Component, seconds: float, config: DynamicsConfig
) -> tuple[MovingTrack, str]:
    measure = 0.04**2 * np.eye(3)
    gain = track.covariance[:, :3] @ np.linalg.inv(track.covariance[:3, :3] + measure)
    state = np.concatenate([track.centre, track.velocity])
    state = state + gain @ (found.centre - track.centre)
    covariance = track.covariance - gain @ track.covariance[:3, :]
    still_s = track.still_s + seconds if found.still >= config.still_share else 0.0
    parked = still_s >= config.park_s or (still_s > 0 and track.state == PARKED)
    hits = track.hits + 1
    confirmed = track.confirmed or hits >= config.confirm
    surely = surely_moves(found, config)
    sure_hits = track.sure_hits + surely
    start = track.start if track.sure_hits else found.bounds
    travels = sure_hits >= config.sure_frames
    travels = travels and travelled(start, found.bounds) >= config.travel
    sure = track.sure or (confirmed and (found.told or travels))
    word = ""
    if sure and not track.sure:
        word = "appeared"
    elif sure and parked != (track.state == PARKED):
        word = "parked" if parked else "moved again"
    after = replace(
        track, state=PARKED if parked else MOVING, confirmed=confirmed, seen=True,
        centre=state[:3], velocity=state[3:] * (not parked), extent=found.extent, hits=hits,
        missing=0, still_s=still_s, covariance=(covariance + covariance.T) / 2, sure=sure,
        sure_hits=sure_hits, unsure=0 if surely else track.unsure + 1, start=start,
    )  # fmt: skip
    return after, word


def surely_moves(found: Component, config: DynamicsConfig) -> bool:
    """Whether a component moves on this frame by itself, whatever was there before."""
    return found.sure >= config.sure_share and found.still < config.still_share


def travelled(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Metres that bounds ``(2, 3)`` moved as a whole.

    Where one end stays, or both go apart, more or less of the same thing is seen, that is all.
    """
    low, high = after - before
    shift = np.where(low * high > 0, np.minimum(np.abs(low), np.abs(high)), 0.0)
    return float(np.linalg.norm(shift))


def _born(track_id: int, found: Component, frame_index: int, config: DynamicsConfig) -> MovingTrack:
    # What stands still when it comes into view moved while nobody looked.
    state = PARKED if found.still >= config.still_share else MOVING
    return MovingTrack(
        track_id, state, confirmed=False, seen=True, centre=found.centre, velocity=np.zeros(3),
        extent=found.extent, hits=1, missing=0, still_s=0.0, first_frame=frame_index,
        covariance=np.diag([0.05**2] * 3 + [1.0] * 3),
        sure_hits=int(surely_moves(found, config)), start=found.bounds,
    )  # fmt: skip


def expected_points(
    state: DynamicsState, seconds: float, config: DynamicsConfig
) -> NDArray[np.float32]:
    """Where the points of the last frame's confirmed tracks should be now.

    Args:
        state: the memory.
        seconds: since the last frame.
        config: settings; tracks that have settled are left out.

    Returns:
        ``(n, 3)`` float32 in the world.
    """
    found = [np.zeros((0, 3), np.float32)]
    if state.recent:
        last = state.recent[-1]
        for track in state.tracks:
            if track.confirmed and track.seen and track.still_s < config.settle_s:
                shift = (track.velocity * seconds).astype(np.float32)
                found.append(last.points[last.track_ids == track.track_id] + shift)
    return np.concatenate(found)


def remember(state: DynamicsState, points: MovingPoints, config: DynamicsConfig) -> DynamicsState:
    """Keep a frame's moving points and let go of the oldest."""
    if len(points.points) > config.most_points:
        some = np.linspace(0, len(points.points) - 1, config.most_points).astype(np.int64)
        parts = {name: getattr(points, name)[some] for name in ("points", "colours", "track_ids")}
        points = replace(points, **parts)
    return replace(state, recent=(*state.recent, points)[-config.frames :])
