"""What one observation does to a map: space, place, landmarks, short memory, journal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.journal import Memory
from vision_mem.navigation.landmarks import LandmarkView
from vision_mem.navigation.records import NavigationResult, Observation, Sighting
from vision_mem.navigation.space.kernels import MISS
from vision_mem.navigation.space.morton import HALF, encode, quantise
from vision_mem.navigation.space.raycasting import LEAVES, FrameUpdate
from vision_mem.navigation.state import SpatialState


def observe(state: SpatialState, observation: Observation) -> NavigationResult:
    """Change a map by one observation.

    Whatever can be wrong with it is found before anything changes.

    Raises:
        InputError: for an observation that cannot be used; the map is as before.
    """
    if not hasattr(observation, "pose"):
        raise InputError(
            f"an observation is a {type(observation).__name__}; expected vision_mem.navigation."
            "Observation: an image alone does not say where it was taken"
        )
    pose = np.asarray(observation.pose, np.float64)
    (leaf,) = _leaves(state, [pose[:3, 3]])
    if leaf is None:
        reach = HALF * state.config.octree.leaf / 1000
        raise InputError(
            f"observer at {pose[:3, 3].tolist()} is beyond the map's range of {reach:.0f} km each "
            "way; use larger leaves, or another corner"
        )
    update = _space(state, observation, pose)
    sightings = list(observation.sightings or ())
    _same_width(state, observation, update)
    vectors = [_stored(state, each) for each in sightings]
    if update is not None:
        state.octree.bricks.find(update.bricks)  # reads those that are away, while that may fail

    # From here on nothing can fail.
    state.frame += 1
    time_s = state.now_s = float(observation.time_s)
    evicted = state.short.advance(time_s)
    descriptor = None if observation.descriptor is None else np.asarray(observation.descriptor)
    new_id = state.next_id
    before = None if observation.jump else state.topology.current
    place, new_place = state.topology.visit(pose, time_s, new_id, descriptor, jump=observation.jump)
    if new_place:
        state.next_id += 1
    state.exits.see(place.place_id, observation.exits or ())
    if observation.came_by is not None and before not in (None, place.place_id):
        state.exits.lead(before, observation.came_by, place.place_id)
    relative = np.linalg.inv(place.pose) @ pose
    dropped = 0
    if update is not None:
        state.octree.apply(update, place.place_id)
        state.looks.append((state.octree.stats.frames, place.place_id, update.to_bytes()))
        dropped += update.dropped

    seen: list[LandmarkView | None] = []
    for sighting, vector in zip(sightings, vectors, strict=True):
        each = to_seen(
            place.pose, relative, np.asarray(sighting.position), np.asarray(sighting.sigma), vector,
            sighting.label, sighting.score, sighting.track,
        )  # fmt: skip
        seen.append(each)
    leaves = _leaves(state, [each.position for each in seen if each is not None])
    seen = [None if leaf is None else each for leaf, each in zip(leaves, seen, strict=True)]
    lost = sum(each is None for each in seen)
    state.dropped += lost
    found = iter(state.landmarks.associate([each for each in seen if each is not None]))

    first = state.journal.give(1 + len(seen) - lost)
    look = Memory(
        time_s, state.frame, place.place_id, None, leaf, pose, relative,
        embedding=state.journal.pack(descriptor), source=observation.source, note=observation.note,
        seq=first,
    )  # fmt: skip
    state.memories.append(look)
    seq = first
    landmarks: list[int | None] = []
    new: list[int] = []
    for number, thing in enumerate(seen):
        if thing is None:
            landmarks.append(None)
            continue
        landmark_id = next(found)
        if landmark_id is None:
            landmark_id = state.new_id()
            new.append(landmark_id)
        seq += 1
        sighting = sightings[number]
        landmark = state.landmarks.add(
            landmark_id, thing, seq, time_s, place.place_id, state.topology
        )
        spot = np.concatenate([np.asarray(sighting.position), np.asarray(sighting.sigma).ravel()])
        packed = state.journal.pack(vectors[number])
        state.memories.append(replace(
            look, landmark=landmark_id, leaf=leaves[number], position=spot, embedding=packed,
            label=sighting.label, score=sighting.score, track=sighting.track, note=sighting.note,
            seq=seq,
        ))  # fmt: skip
        out = state.short.insert(
            landmark_id, landmark.position, place.place_id, thing.embedding, landmark.label, time_s
        )
        evicted += [] if out is None else [out]
        landmarks.append(landmark_id)
    looked = update is not None and observation.sightings is not None
    gone = _missed(state, update, set(landmarks), pose) if looked and update else []
    for landmark_id in gone:
        state.events.append((time_s, "gone", {"landmark": landmark_id}))
        state.short.drop(landmark_id)
    return NavigationResult(
        state.frame, time_s, place.place_id, new_place, tuple(landmarks), tuple(new), tuple(gone),
        tuple(evicted), memories=(first, seq), dropped=dropped + lost, committed=False,
    )  # fmt: skip


def to_seen(
    place_pose: NDArray[np.float64],
    relative: NDArray[np.float64],
    position: NDArray[np.float64],
    covariance: NDArray[np.float64],
    embedding: NDArray[np.float32] | None,
    label: str,
    score: float,
    track: str,
) -> LandmarkView:
    """Carry a sighting from the camera's frame to those of its place and of the map.

    ``place_pose`` ``(4, 4)`` is place-to-world as it is now, ``relative`` camera-to-place; position
    ``(3,)`` metres and covariance ``(3, 3)`` are in the camera's frame.
    """
    turn = relative[:3, :3]
    local = turn @ position + relative[:3, 3]
    local_covariance = turn @ covariance @ turn.T
    up = place_pose[:3, :3]
    world = up @ local + place_pose[:3, 3]
    spread = up @ local_covariance @ up.T
    return LandmarkView(local, local_covariance, world, spread, embedding, label, score, track)


def _leaves(state: SpatialState, positions: list[NDArray[np.float64]]) -> list[int | None]:
    where = np.array(positions, np.float64).reshape(-1, 3)
    cells, inside = quantise(where, state.config.octree.leaf, state.octree.corner)
    codes = encode(cells).tolist()
    return [code if good else None for code, good in zip(codes, inside.tolist(), strict=True)]


def _space(
    state: SpatialState, observation: Observation, pose: NDArray[np.float64]
) -> FrameUpdate | None:
    if observation.points is None:
        return None
    points = np.asarray(observation.points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points have shape {points.shape}; expected (n, 3) metres")
    with np.errstate(invalid="ignore", over="ignore"):
        world = points @ pose[:3, :3].T + pose[:3, 3]
    return state.octree.look(
        pose[:3, 3], world, colours=observation.colours, labels=observation.labels,
        embeddings=observation.embeddings, embedding_of=observation.embedding_of,
    )  # fmt: skip


def _stored(state: SpatialState, sighting: Sighting) -> NDArray[np.float32] | None:
    """An embedding as the journal will give it back, so that sums can be rebuilt exactly."""
    if sighting.embedding is None:
        return None
    packed = state.journal.pack(np.asarray(sighting.embedding, np.float32))
    assert packed is not None
    kind = np.dtype(state.journal.dtype).newbyteorder("<")
    return np.frombuffer(packed, kind).astype(np.float32)


def _same_width(state: SpatialState, observation: Observation, update: FrameUpdate | None) -> None:
    seen = observation.sightings or ()
    of_things = {np.size(each.embedding) for each in seen if each.embedding is not None}
    vectors = None if update is None else update.embeddings
    of_space = set() if vectors is None else {vectors.shape[1]}
    for store, widths in ((state.landmarks.vectors, of_things), (state.octree.vectors, of_space)):
        widths |= {store.sums.shape[1]} if store.used > 1 else set()
        if len(widths) > 1:
            raise InputError(
                f"embeddings of {min(widths)} and {max(widths)} numbers do not compare; use one "
                "encoder for one map"
            )
    if observation.descriptor is not None:
        places = state.topology.places.values()
        known = next((each.descriptor for each in places if each.descriptor is not None), None)
        if known is not None and len(known) != np.size(observation.descriptor):
            raise InputError(
                f"the descriptor has {np.size(observation.descriptor)} numbers, those of this map "
                f"have {len(known)}: use one encoder for one map"
            )


def _missed(
    state: SpatialState, update: FrameUpdate, seen: set[int | None], pose: NDArray[np.float64]
) -> list[int]:
    """Landmarks through whose place the observer looked without seeing them; those gone now."""
    reach = state.config.octree.max_range or np.inf
    ids, _, where = state.landmarks.around(pose[:3, 3], reach)
    cells, inside = quantise(where, state.config.octree.leaf, state.octree.corner)
    inside &= ~np.isin(ids, [each for each in seen if each is not None])
    ids, codes = ids[inside], encode(cells[inside])
    rows = np.searchsorted(update.bricks, codes >> np.uint64(9))
    known = rows < len(update.bricks)
    known[known] = update.bricks[rows[known]] == codes[known] >> np.uint64(9)
    slots = (codes[known] & np.uint64(LEAVES - 1)).astype(np.int64)
    looked_through = ids[known][update.state[rows[known], slots] == MISS]
    return [number for number in looked_through.tolist() if state.landmarks.miss(number)]
