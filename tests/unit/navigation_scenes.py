"""A box room with named things, seen by a camera that walks in a circle; and a writer to kill."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.navigation import NavigationConfig, NavigationSession, Observation, Sighting
from vision_mem.navigation.config import OctreeConfig
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import Sight, Visit

LOW, HIGH = np.array([-3.0, -1.6, -1.0]), np.array([3.0, 1.0, 4.0])
THINGS = {"red door": (2.9, 0.0, 2.0), "blue box": (-1.0, 0.5, 3.0), "lamp": (0.0, -1.0, 3.8)}
LOOKS = dict(zip(THINGS, np.random.default_rng(0).standard_normal((3, 16)), strict=True))
ROUGH = NavigationConfig(octree=OctreeConfig(leaf=0.25, kernels="numpy"))


def pose(x=0.0, z=0.0, turn=0.0, y=0.0):
    """Camera axes: right, down, ahead; turned about the vertical, radians."""
    out = np.eye(4)
    c, s = np.cos(turn), np.sin(turn)
    out[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    out[:3, 3] = (x, y, z)
    return out


def scan(at, width=24, height=18):
    """Points of the room's walls in the camera's frame."""
    v, u = np.mgrid[:height, :width]
    rays = np.stack([(u + 0.5) / width * 2 - 1, (v + 0.5) / height * 2 - 1, np.ones(u.shape)], -1)
    rays = rays.reshape(-1, 3)
    ways, start = rays @ at[:3, :3].T, at[:3, 3]
    with np.errstate(divide="ignore"):
        reach = np.where(ways > 0, (HIGH - start) / ways, (LOW - start) / ways)
    return rays * np.where(ways == 0, np.inf, reach).min(axis=1)[:, None]


def sightings(at, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for name, position in THINGS.items():
        local = at[:3, :3].T @ (np.array(position) - at[:3, 3])
        look = LOOKS[name] + 0.2 * random.standard_normal(16)
        local = local + noise * random.standard_normal(3)
        if local[2] > 0:
            found.append(Sighting(local, name, 0.05, look, 0.9))
    return found


def moment(number, *, points=True, noise=0.02):
    """Observation ``number`` of a walk in a circle."""
    angle = 2 * np.pi * number / 40
    at = pose(1.2 * np.cos(angle), 1.5 + 1.2 * np.sin(angle), angle)
    return Observation(
        number / 10,
        at,
        points=scan(at) if points else None,
        sightings=sightings(at, noise, number),
        source=f"frame-{number}",
    )


def walk(session, numbers):
    return [session.step(moment(number)) for number in numbers]


def write_until_killed(path, pipe):
    """Runs in a process of its own: says which observation is in the file, again and again."""
    with NavigationSession(path) as session:
        while True:
            result = session.step(moment(session.state.frame))
            pipe.send(result.frame if result.committed else -1)


def write_streets_until_killed(path, pipe):
    """Runs in a process of its own: walks around a block of fifty places, again and again."""
    with LongMemory(path) as memory:
        memory.go_on()
        while True:
            number = memory.session.state.frame
            heading, back = 7.2 * (number % 50), (7.2 * ((number - 1) % 50) + 180.0) % 360.0
            radians = np.radians(heading)
            at = 80.0 * np.array([-np.cos(radians), np.sin(radians)])
            came = 7.2 * ((number - 1) % 50) if number else None
            seen = (Sight(LOOKS["lamp"], at + 5.0, "lamp"),) if number % 10 == 0 else ()
            result = memory.write(Visit(at, (heading, back), seen, came))
            pipe.send(result.frame if result.committed else -1)


def read_again_and_again(path, pipe, changes):
    """Runs in a process of its own: what readers see while somebody writes."""
    with NavigationSession(path, mode="r") as session:
        until, seen, rows = time.monotonic() + 20, set(), []
        while len(seen) < changes and time.monotonic() < until:
            session.where("red door")
            state = session.state
            known = all(hit.node in state.landmarks.by_id for hit in session.where("door"))
            counts = sum(1 for _ in session.recall("landmark:2"))
            seen.add(state.frame)
            rows.append((state.frame, state.octree.stats.frames, counts, known))
    pipe.send(rows)


def same(one, other):
    """All that two sessions hold."""
    for name in ("codes", "log_odds", "hits", "tick"):
        a, b = (getattr(s.state.octree.level(0), name) for s in (one, other))
        assert (a == b).all()
    for s, t in ((one.state, other.state), (other.state, one.state)):
        for node, landmark in s.landmarks.by_id.items():
            twin = t.landmarks.by_id[node]
            assert (landmark.position == twin.position).all() and landmark.votes == twin.votes
            assert landmark.last == twin.last and landmark.existence == twin.existence
            mean = s.landmarks.vectors.mean(landmark.row)
            assert (mean == t.landmarks.vectors.mean(twin.row)).all()
        assert s.topology.ways == t.topology.ways
        for place in s.topology.places:
            assert s.exits.headings(place) == t.exits.headings(place)
            assert s.exits.known(place) == t.exits.known(place)
        assert (s.origin, s.encoder) == (t.origin, t.encoder)
        assert s.frame == t.frame and s.next_id == t.next_id
        assert {e.node: (e.uses, e.step) for e in s.short.entries if e} == {
            e.node: (e.uses, e.step) for e in t.short.entries if e
        }


def said(call):
    with pytest.raises((InputError, ModelError, SinkError)) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
