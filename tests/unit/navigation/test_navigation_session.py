"""One map: exact recall, summaries, input that cannot be used, corrections, forgetting."""

from __future__ import annotations

import numpy as np
import pytest
from navigation_scenes import (
    LOOKS,
    ROUGH,
    THINGS,
    moment,
    pose,
    said,
    same,
    scan,
    walk,
)

from vision_mem.config import load_config, preset_names, read_preset
from vision_mem.errors import InputError
from vision_mem.navigation import (
    Key,
    NavigationConfig,
    NavigationSession,
    Observation,
    Sighting,
)
from vision_mem.navigation.config import OctreeConfig, StoreConfig
from vision_mem.navigation.graph.path_planning import directions
from vision_mem.navigation.mean_directions import row_dots
from vision_mem.navigation.space.octree import OCCUPIED
from vision_mem.navigation.spatial_hash import Nearby


@pytest.fixture
def path(tmp_path):
    return tmp_path / "room.vmem"


# -- remembering -----------------------------------------------------------------------------


def test_things_are_found_where_they_are():
    with NavigationSession(config=ROUGH) as session:
        walk(session, range(40))
        for name, position in THINGS.items():
            (hit, *_) = session.where(name)
            assert hit.label == name
            assert np.linalg.norm(hit.position - position) < 0.03 and hit.sigma < 0.05
            assert session.where(LOOKS[name])[0].node == hit.node
            memories = session.memories(hit.seqs)
            assert [m.landmark for m in memories] == [hit.node] * len(hit.seqs)
        assert len(session.state.landmarks) == len(THINGS)


def test_every_observation_comes_back_byte_for_byte(path):
    given = {}
    with NavigationSession(path, ROUGH) as session:
        for number in range(20):
            seen = moment(number)
            result = session.step(seen)
            for landmark, sighting in zip(result.landmarks, seen.sightings, strict=True):
                given.setdefault(landmark, []).append((seen, sighting))
    with NavigationSession(path, mode="r") as session:
        for landmark, rows in given.items():
            found = session.recall(f"landmark:{landmark}")
            assert len(found) == len(rows)
            for memory, (seen, sighting) in zip(found, rows, strict=True):
                assert memory.time_s == seen.time_s and memory.source == seen.source
                assert memory.pose.tobytes() == seen.pose.tobytes()
                assert memory.position[:3].tobytes() == sighting.position.tobytes()
                assert memory.embedding == sighting.embedding.tobytes()
            then = session.recall(Key("landmark", landmark), at=0.75)
            assert [m.time_s for m in then] == [s.time_s for s, _ in rows if s.time_s <= 0.75]
            last = session.recall(f"landmark:{landmark}", limit=2)
            assert [m.seq for m in last] == [m.seq for m in found[-2:]]
        places = session.recall("place:1")
        assert {m.place for m in places} == {1} and len(places) > len(session.recall("leaf:1"))
        leaf = found[-1].leaf
        assert found[-1].seq in [m.seq for m in session.recall(f"leaf:{leaf}")]


def test_the_past_is_answered_as_it_was():
    with NavigationSession(config=ROUGH) as session:
        for t, x in ((0.0, 1.0), (1.0, 1.2), (2.0, 1.4)):
            session.step(Observation(t, pose(), sightings=[Sighting((x, 0, 2), "cup", 0.1)]))
        now, then = session.where("cup")[0], session.where("cup", at=0.5)[0]
        assert now.position == pytest.approx([1.2, 0, 2]) and now.count == 3
        assert then.position == pytest.approx([1.0, 0, 2]) and then.count == 1
        assert then.age_s == 0.5 and session.where("cup", at=-1.0) == []


def test_an_empty_map_answers_with_empty_lists(path):
    with NavigationSession(path, ROUGH) as session:
        assert session.where("door") == [] and session.where(np.ones(4)) == []
        assert session.where(near=(0, 0, 0)) == [] and session.where("door", at=3.0) == []
        assert session.recall("place:1") == [] and session.nearest_words("door") == []
        for ask in (session.plan, session.route):
            with pytest.raises(InputError, match="not known"):
                ask("door")
            with pytest.raises(InputError, match="no places yet"):
                ask((1, 2, 3))
        assert session.usage().entries == 0 and session.usage().memories == 0


def test_summaries_are_rebuilt_from_the_journal():
    with NavigationSession(config=ROUGH) as session:
        walk(session, range(25))
        before = {i: (e.position, e.count, e.last, e.votes,
                      session.state.landmarks.vectors.sums[e.row].copy())
                  for i, e in session.state.landmarks.by_id.items()}  # fmt: skip
        assert session.rebuild() == len(before)
        for node, (position, count, last, votes, sums) in before.items():
            made = session.state.landmarks.by_id[node]
            assert made.position == pytest.approx(position, abs=1e-12)
            assert (made.count, made.last, made.votes) == (count, last, votes)
            assert (session.state.landmarks.vectors.sums[made.row] == sums).all()


def test_what_is_gone_is_said_to_be_gone():
    behind = pose()
    with NavigationSession(config=ROUGH) as session:
        cup = Sighting((0.05, 0.05, 2.0), "cup", 0.02)
        session.step(Observation(0.0, behind, points=scan(behind), sightings=[cup]))
        results = [
            session.step(Observation(float(t), behind, points=scan(behind), sightings=[]))
            for t in range(1, 7)
        ]
        assert [r.gone for r in results].count((1 + 1,)) == 1
        (hit,) = session.where("cup")
        assert hit.gone and hit.age_s == 6.0 and len(session.recall("landmark:2")) == 1
        # Nobody looked for anything: that says nothing.
        session.step(Observation(9.0, behind, points=scan(behind), sightings=[cup]))
        alive = session.where("cup")[0].existence
        session.step(Observation(9.5, behind, points=scan(behind)))
        assert session.where("cup")[0].existence == alive


# -- input that cannot be used ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Observation(0.0, None), "has no pose"),
        (lambda: Observation(0.0, np.full((4, 4), np.nan)), "not finite or no rigid motion"),
        (lambda: Observation(0.0, np.diag([1, 1, 2, 1.0])), "no rigid motion"),
        (lambda: Observation(np.nan, np.eye(4)), "time nan"),
        (lambda: Observation(0.0, np.eye(4), sightings=[Sighting((0, 0, 1), track="a")] * 2),
         "two sightings of 'a'"),
        (lambda: Sighting((0, 0, np.inf)), "3 finite numbers"),
        (lambda: Sighting((0, 0, 1), sigma=-np.eye(3)), "covariance"),
        (lambda: Sighting((0, 0, 1), score=1.5), "0 to 1"),
        (lambda: Sighting((0, 0, 1), embedding=[0.0, 0.0]), "no direction"),
        (lambda: Key.parse("door:3"), "expected one of"),
        (lambda: Key.parse("leaf:-3"), "expected leaf:CODE"),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_in_one_line(make, words):
    assert words in said(make)


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (Observation(0.0, pose(1e9)), "beyond the map's range"),
        (Observation(0.0, pose(), points=np.zeros((3, 2))), r"expected (n, 3)"),
        (Observation(0.0, pose(), sightings=[Sighting((0, 0, 1), embedding=np.ones(5))]),
         "do not compare"),
        (Observation(0.0, pose(), sightings=[Sighting((0, 0, 1), embedding=np.ones(n))
                                             for n in (16, 17)]), "do not compare"),
    ],
)  # fmt: skip
def test_a_refused_observation_changes_nothing(observation, words):
    with NavigationSession(config=ROUGH) as session, NavigationSession(config=ROUGH) as straight:
        walk(session, range(3))
        assert words in said(lambda: session.step(observation))
        walk(session, range(3, 6))
        walk(straight, range(6))
        same(session, straight)


def test_positions_beyond_the_range_are_dropped_and_counted():
    with NavigationSession(config=ROUGH) as session:
        far = Sighting((0, 0, 1e9), "star")
        points = [(0, 0, 1e9), (np.nan, 0, 0), (0, 0, 2.0)]
        config = session.state.octree.config
        assert config.max_range == 10.0
        result = session.step(
            Observation(0.0, pose(), points=points, sightings=[far, Sighting((0, 0, 2), "cup")])
        )
        assert result.landmarks[0] is None and result.landmarks[1] is not None
        assert result.dropped == 2 and session.where("star") == []


def test_settings_of_a_map_stay(path):
    NavigationSession(path, ROUGH, encoder="toy").close()
    other = NavigationConfig(octree=OctreeConfig(leaf=0.5))
    assert "octree.leaf=0.25" in said(lambda: NavigationSession(path, other))
    half = NavigationConfig(octree=ROUGH.octree, store=StoreConfig(dtype="float16"))
    assert "store.dtype=float32" in said(lambda: NavigationSession(path, half))
    assert "'toy', not of 'other'" in said(lambda: NavigationSession(path, encoder="other"))
    NavigationSession(path, encoder="toy").close()


# -- corrections and forgetting ----------------------------------------------------------------


def test_a_correction_moves_everything_with_it(path):
    motion = pose(0.5, 0.25, np.pi / 2, y=0.25)
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(40))
        places = {i: motion @ place.pose for i, place in session.state.topology.places.items()}
        before = {hit.label: hit.position for name in THINGS for hit in session.where(name)[:1]}
        entries = {e.node: e.position.copy() for e in session.state.short.entries if e}
        space = session.state.octree.level(0)
        assert session.correct({min(places): places[min(places)]}) == len(places)  # others follow
        for name, position in before.items():
            moved = motion[:3, :3] @ position + motion[:3, 3]
            assert session.where(name)[0].position == pytest.approx(moved, abs=1e-9)
        for entry in filter(None, session.state.short.entries):
            moved = motion[:3, :3] @ entries[entry.node] + motion[:3, 3]
            assert entry.position == pytest.approx(moved, abs=1e-9)
        # A quarter turn by whole leaves: every leaf finds its place, to the last one.
        there = space.centres @ motion[:3, :3].T + motion[:3, 3]
        assert len(session.state.octree.level(0)) == len(space)
        assert (session.state.octree.log_odds(there) == space.log_odds).all()
        held = session.where("lamp")[0].position
    with NavigationSession(path) as session:
        assert session.where("lamp")[0].position == pytest.approx(held, abs=1e-12)
        assert (session.state.octree.log_odds(there) == space.log_odds).all()
        assert "no rigid motion" in said(lambda: session.correct({1: np.zeros((4, 4))}))
        assert "no place 77" in said(lambda: session.correct({77: np.eye(4)}))


@pytest.mark.parametrize("what", ["landmark", "region", "before"])
def test_what_is_forgotten_is_nowhere_any_more(path, what):
    with NavigationSession(path, ROUGH) as session:
        walk(session, range(20))
        node = session.where("red door")[0].node
        assert session.forget(**{
            "landmark": {"landmark": node},
            "region": {"region": ((2.5, -0.5, 1.5), (3.5, 0.5, 2.5))},
            "before": {"before": 99.0},
        }[what])["memories"] > 0  # fmt: skip
        assert session.where("red door") == [] and session.recall(Key("landmark", node)) == []
        kept = what != "before"
        assert bool(session.where("lamp")) == kept
        if what == "region":
            assert len(session.state.octree.box((2.5, -0.5, 1.5), (3.5, 0.5, 2.5))) == 0
        walk(session, range(20, 22))  # goes on
    if what == "landmark":
        with NavigationSession(path) as session:
            found = [hit.node for hit in session.where("red door")]
            assert node not in found
        return
    with NavigationSession(path) as session:
        assert session.check() == session.usage().memories


def test_forgotten_bytes_leave_the_file(path):
    with NavigationSession(path, ROUGH) as session:
        session.step(Observation(0.0, pose(), sightings=[Sighting((0, 0, 2), "very secret word")]))
        session.step(Observation(1.0, pose(), sightings=[Sighting((1, 0, 2), "cup")]))
        session.commit(fold=True)
        session.forget(landmark=session.where("secret")[0].node)
        files = [file for file in path.parent.iterdir() if file.suffix != ".lock"]
        assert all(b"very secret word" not in file.read_bytes() for file in files)
        assert session.where("cup")


def test_forgetting_a_place_keeps_what_was_seen_from_it():
    with NavigationSession(config=ROUGH) as session:
        cup = (0.0, 0.0, 6.0)
        for number, z in enumerate((0.0, 2.0, 4.0)):
            local = np.array(cup) - (0, 0, z)
            session.step(Observation(float(number), pose(0, z), sightings=[Sighting(local, "cup")]))
        before = session.where("cup")[0]
        assert session.forget(region=((-1, -1, 1), (1, 1, 3)))["places"] == 1
        after = session.where("cup")[0]
        assert after.position == pytest.approx(before.position) and after.count == 3
        session.correct({1: pose(1.0) @ session.state.topology.places[1].pose})
        assert "no known way" in said(lambda: session.plan("place:1"))


# -- ways --------------------------------------------------------------------------------------


def wall_room():
    """A floor at y = 1 with a wall across it that leaves a gap at its right."""
    session = NavigationSession(config=NavigationConfig(octree=OctreeConfig(leaf=0.1)))
    x, z = np.meshgrid(np.arange(-2, 2, 0.05), np.arange(-0.5, 4, 0.05))
    floor = np.stack([x, np.full_like(x, 1.02), z], -1).reshape(-1, 3)
    u, y = np.meshgrid(np.arange(-2, 1.0, 0.05), np.arange(-0.5, 1.0, 0.05))
    wall = np.stack([u, y, np.full_like(u, 2.0)], -1).reshape(-1, 3)
    for at, seen in ((pose(), floor[floor[:, 2] < 1.9]), (pose(0, 3.5), floor[floor[:, 2] > 2.1]),
                     (pose(1.5, 2.0), floor[floor[:, 0] > 1.1]), (pose(), wall)):  # fmt: skip
        local = (seen - at[:3, 3]) @ at[:3, :3]
        cups = [Sighting((0.0, 0.9, 0.0), "goal", 0.01)] if at[2, 3] == 3.5 else []
        session.step(Observation(session.state.frame * 1.0, at, points=local, sightings=cups))
    return session


def test_routes_keep_clear_of_what_stands_there():
    with wall_room() as session:
        assert session.state.octree.state([(0, 0.5, 2.0)])[0] == OCCUPIED
        route = session.route("goal", start=(0, 0, 0.2))
        assert route.on == "floor" and 4.0 < route.length < 6.0
        steps = np.linspace(route.points[:-1], route.points[1:], 200).reshape(-1, 3)
        for height in np.arange(-0.5, 0.9, 0.1):
            along = steps.copy()
            along[:, 1] = height
            assert (session.state.octree.state(along) != OCCUPIED).all()
        assert np.abs(steps[np.abs(steps[:, 2] - 2.0) < 0.05][:, 0] - 1.0).min() >= 0.15
        assert any("turn" in line or "bear" in line for line in route.directions)
        assert "leads to" in said(lambda: session.route((0, 0, 30.0)))
        plan = session.plan("goal", start="place:1")
        assert plan.on == "places" and len(plan.places) >= 2


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names("navigation"))
def test_presets_load_and_repeat_no_default(name):
    config = load_config(NavigationConfig, name, folder="navigation")
    values = read_preset(name, "navigation")
    for part, settings in values.items():
        for key, value in settings.items():
            assert getattr(getattr(NavigationConfig(), part), key) != value
            assert getattr(getattr(config, part), key) == value


def test_growth_is_in_the_file_not_in_memory():
    with NavigationSession(config=ROUGH) as session:
        walk(session, range(80))
        early = session.usage()
        walk(session, range(80, 160))
        late = session.usage()
    assert late.memories == 2 * early.memories
    assert late.bytes <= 1.05 * early.bytes and late.bytes == sum(late.detail.values())


@pytest.mark.parametrize(
    ("points", "said", "ends"),
    [
        ([(0, 0)], ["stay where you are"], [0]),
        ([(0, 0), (1, 0), (2, 0.1), (4, 0.1)], ["go 4.0 m"], [3]),  # a little bend is none
        ([(0, 0), (3, 0), (3, 2), (3, 4)], ["go 3.0 m", "turn left and go 4.0 m"], [1, 3]),
        ([(0, 0), (3, 0), (5, -1)], ["go 3.0 m", "bear right and go 2.2 m"], [1, 2]),
        ([(0, 0), (3, 0), (0, 0)], ["go 3.0 m", "turn around and go 3.0 m"], [1, 2]),
        # A long curve is told, though each of its bends is small.
        ([(np.sin(a), 1 - np.cos(a)) for a in np.radians(np.arange(0, 91, 15))],
         ["go 0.8 m", "bear left and go 0.8 m"], [3, 6]),
    ],
)  # fmt: skip
def test_directions_turn_by_turn(points, said, ends):
    flat = np.array([(x, y, 0.0) for x, y in points])
    assert directions(flat, (2, 1)) == (tuple(said), tuple(ends))
    mirrored = directions(flat * (1, -1, 1), (2, -1))  # seen from below, and mirrored
    assert mirrored == (tuple(said), tuple(ends))


def test_what_lies_near_is_told_at_once_and_equal_to_one_by_one():
    rng = np.random.default_rng(0)
    near, where = Nearby(0.5), {}
    for node in rng.permutation(400).tolist():
        where[node] = rng.uniform(-3, 3, 3)
        near.put(node, where[node])
    for node in rng.permutation(400)[:150].tolist():
        if node % 3:
            near.drop(node)
            del where[node]
        else:
            where[node] = rng.uniform(-3, 3, 3)
            near.put(node, where[node])
    for radius in (0.2, 1.0, 40.0, np.inf):
        here = rng.uniform(-3, 3, 3)
        apart = {i: float(np.linalg.norm(at - here)) for i, at in where.items()}
        wanted = sorted((d, i) for i, d in apart.items() if d <= radius)
        ids, metres, at = near.within(here, radius)
        assert list(zip(metres.tolist(), ids.tolist(), strict=True)) == wanted
        np.testing.assert_array_equal(at, np.array([where[i] for i in ids.tolist()]).reshape(-1, 3))
    vectors = rng.standard_normal((50, 384)).astype(np.float32)
    assert row_dots(vectors, vectors[0]).tolist() == [float(each @ vectors[0]) for each in vectors]
