"""Places, landmarks, short memory, search: the rules, each on its own."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest
from navigation_scenes import pose

from vision_mem.errors import InputError
from vision_mem.navigation.ann_index import Neighbours
from vision_mem.navigation.graph.topology import Topology, TopologyConfig
from vision_mem.navigation.landmarks import LandmarkConfig, Landmarks, LandmarkView
from vision_mem.navigation.mean_directions import UnitSums, unit
from vision_mem.navigation.retrieval import MapQuery, RecallConfig, Retriever, fuse
from vision_mem.navigation.working_memory import ShortConfig, WorkingMemory, keep_score

# -- places ------------------------------------------------------------------------------------


def visited(*where, looks=None, **settings):
    graph = Topology(TopologyConfig(**settings))
    places = []
    for number, (x, z) in enumerate(where):
        look = None if looks is None else unit(looks[number])
        places.append(graph.visit(pose(x, z), float(number), 100 + number, look)[0].place_id)
    return graph, places


@pytest.mark.parametrize(
    ("where", "looks", "places"),
    [
        ([(0, 0), (0.9, 0), (1.1, 0)], None, [100, 100, 102]),  # by distance to the first pose
        ([(0, 0), (0.9, 0), (1.8, 0)], None, [100, 100, 102]),  # it does not drift along
        ([(0, 0), (2, 0), (0.2, 0)], None, [100, 101, 100]),
        ([(0, 0), (1.0, 0)], None, [100, 100]),  # exactly the radius
        ([(0, 0), (0.1, 0)], [(1, 0), (0, 1)], [100, 101]),  # here it looks different
        ([(0, 0), (9, 0)], [(1, 0), (1, 0)], [100, 101]),  # alike, but elsewhere
    ],
)
def test_when_somewhere_is_a_new_place(where, looks, places):
    assert visited(*where, looks=looks)[1] == places


def test_ways_have_lengths_and_counts():
    graph, _ = visited((0, 0), (3, 0), (3, 4), (3, 0), (0, 0))
    assert graph.length(100, 101) == 3.0
    assert graph.ways[100, 101].traversed == 1 and graph.ways[101, 100].traversed == 1
    assert graph.path(100, 102) == [100, 101, 102]
    assert graph.distances(100) == pytest.approx({100: 0.0, 101: 3.0, 102: 7.0})
    graph.block(101, 102)
    assert graph.path(100, 102) is None and graph.path(102, 100) == [102, 101, 100]
    graph.visit(pose(3, 0), 9.0, 900)
    graph.visit(pose(3, 4), 10.0, 901)  # gone after all: open again
    assert graph.path(100, 102) == [100, 101, 102]
    with pytest.raises(InputError, match="no way from place 100 to place 102"):
        graph.block(100, 102)
    with pytest.raises(InputError, match="no place 7"):
        graph.path(7, 100)


def test_paths_are_the_shortest():
    random = np.random.default_rng(0)
    graph, _ = visited(*random.uniform(0, 12, (300, 2)), place_radius=1.5)
    ids = sorted(graph.places)
    cost = {i: {} for i in ids}
    for a, b in graph.ways:
        cost[a][b] = graph.length(a, b)
    best, left = {i: np.inf for i in ids} | {ids[0]: 0.0}, set(ids)
    while left:  # Dijkstra by hand
        here = min(left, key=best.get)
        left.remove(here)
        for there, metres in cost[here].items():
            best[there] = min(best[there], best[here] + metres)
    assert graph.distances(ids[0]) == pytest.approx(best)
    way = graph.path(ids[0], ids[-1])
    length = sum(graph.length(a, b) for a, b in itertools.pairwise(way))
    assert length == pytest.approx(best[ids[-1]])


def test_a_closed_loop_spreads_its_error():
    graph, places = visited((0, 0), (4, 0), (4, 4), (0, 4), (0.0, 1.2))
    measured = np.linalg.inv(pose(0, 0)) @ pose(-0.4, 0.8)  # drifted by (0.4, 0.4)
    poses = graph.close_loop(places[0], places[-1], measured)
    motions = graph.correct(poses)
    assert graph.places[places[-1]].position == pytest.approx([-0.4, 0, 0.8])
    assert graph.places[places[0]].position == pytest.approx([0, 0, 0])
    shifts = [float(np.linalg.norm(motions.get(p, np.eye(4))[:3, 3])) for p in places]
    assert shifts == sorted(shifts) and 0 < shifts[1] < shifts[-1]


# -- landmarks ---------------------------------------------------------------------------------


def seen(x, y=0.0, z=0.0, label="", look=None, sigma=0.1, score=1.0, track=""):
    at, spread = np.array([x, y, z], float), np.eye(3) * sigma**2
    look = None if look is None else unit(look)
    return LandmarkView(at, spread, at.copy(), spread.copy(), look, label, score, track)


@pytest.fixture
def ground():
    graph = Topology()
    graph.visit(np.eye(4), 0.0, 1)
    return graph


def remembered(ground, *things, **settings):
    marks = Landmarks(LandmarkConfig(**settings))
    for number, thing in enumerate(things):
        marks.add(10 + number, thing, number + 1, float(number), 1, ground)
    return marks


@pytest.mark.parametrize(
    ("known", "found", "same"),
    [
        (seen(0, label="cup"), seen(0.4, label="cup"), True),
        (seen(0, label="cup"), seen(0.6, label="cup"), False),
        (seen(0, label="cup", sigma=1.0), seen(1.2, label="cup", sigma=1.0), True),  # unsure
        (seen(0, label="cup"), seen(0.1, label="jar"), False),
        (seen(0, look=(1, 0)), seen(0.1, look=(1, 1)), True),
        (seen(0, look=(1, 0)), seen(0.1, look=(0, 1)), False),
        (seen(0, label="cup", look=(1, 0)), seen(0.1, label="mug", look=(1, 0.1)), True),
        (seen(0, label="cup", track="a"), seen(9, label="jar", track="a"), True),
        (seen(0, label="cup", track="a"), seen(0, label="cup", track="b"), False),
        (seen(0), seen(0), False),  # nothing speaks for it
    ],
)
def test_when_two_sightings_are_of_one_thing(ground, known, found, same):
    assert remembered(ground, known).associate([found]) == [10 if same else None]


def test_a_landmark_takes_one_sighting_a_moment(ground):
    marks = remembered(ground, seen(0, label="cup"), seen(0.3, label="cup"))
    assert marks.associate([seen(0.31, label="cup"), seen(0.32, label="cup")]) == [11, 10]
    assert marks.associate([seen(0.0, label="cup")] * 3) == [10, 11, None]


def test_position_is_the_weighted_mean_and_gets_surer(ground):
    marks = remembered(ground, seen(0, label="cup", sigma=0.1), least_sigma=1e-9)
    marks.add(10, seen(0.3, label="cup", sigma=0.2), 2, 1.0, 1, ground)
    cup = marks.by_id[10]
    assert cup.position == pytest.approx([0.06, 0, 0])
    assert cup.covariance == pytest.approx(np.eye(3) / (100 + 25))
    assert cup.count == 2 and cup.last == (1, 2) and cup.views[1].count == 2


def test_a_landmark_moves_with_the_places_that_saw_it():
    graph = Topology()
    marks = Landmarks(LandmarkConfig(least_sigma=1e-9))
    for number, x in enumerate((0.0, 5.0)):
        graph.visit(pose(x), 0.0, number + 1)
        thing = seen(2.0, label="cup")
        thing.local[:] = (2.0 - x, 0, 0)
        marks.add(10, thing, number, 0.0, number + 1, graph)
    motions = graph.correct({1: pose(0.0, 0.4), 2: pose(5.0)})
    marks.refuse(graph, motions)
    assert marks.by_id[10].position == pytest.approx([2, 0, 0.2])


# -- short memory ------------------------------------------------------------------------------


def filled(policy="own", capacity=3, **more):
    return WorkingMemory(ShortConfig(capacity=capacity, policy=policy, **more))


def put(memory, node, x=0.0, look=None, label="", time_s=0.0):
    look = None if look is None else unit(look)
    return memory.insert(node, np.array([x, 0, 0.0]), 1, look, label, time_s)


@pytest.mark.parametrize(
    ("policy", "uses", "age", "most", "score"),
    [
        ("paper", 3, 4, 9, 0.5 * 3 - 0.5 * 4),
        ("paper", 1, 0, 1, 0.5),
        ("own", 3, 4, 9, 0.5 * np.log(4) / np.log(10) - 0.5 * 4 / 128),
        ("own", 9, 0, 9, 0.5),
    ],
)
def test_scores_follow_their_formulas(policy, uses, age, most, score):
    assert keep_score(ShortConfig(policy=policy), uses, age, most) == pytest.approx(score)


@pytest.mark.parametrize(
    ("policy", "gone"),
    # 1 was put in often, long ago; 2 seldom and long ago; 3 just now.
    [("paper", 2), ("own", 2)],
)
def test_what_makes_room(policy, gone):
    memory = filled(policy)
    for step, node in enumerate((1, 1, 1, 2, 3)):
        memory.advance(float(step))
        put(memory, node)
    memory.advance(9.0)
    assert put(memory, 4) == gone
    assert len(memory) == 3 and memory.step == 6


def test_ties_make_room_by_age_then_by_number():
    memory = filled()
    memory.advance(0.0)
    for node in (7, 5, 6):
        put(memory, node)
    assert put(memory, 9) == 5


def test_being_found_counts_as_use_only_when_asked_to():
    memory = filled()
    memory.advance(0.0)
    for node in (1, 2, 3):
        put(memory, node, x=node)
    before = [vars(e).copy() for e in memory.entries]
    memory.search(None, np.zeros(3), 1, write=False)
    assert all((a[k] == b[k]) is not False for a, b in zip(before, map(vars, memory.entries),
               strict=True) for k in ("uses", "step"))  # fmt: skip
    memory.advance(1.0)
    assert memory.search(None, np.zeros(3), 1) == [(1, 0.0, 1.0)]
    assert {e.node: e.uses for e in memory.entries} == {1: 2, 2: 1, 3: 1}
    assert put(memory, 4) == 2


def test_search_is_by_likeness_within_reach():
    memory = filled(capacity=9)
    put(memory, 1, 0.5, (1, 0))
    put(memory, 2, 1.0, (1, 1))
    put(memory, 3, 3.5, (1, 0))  # out of reach
    put(memory, 4, 0.1)  # without looks
    found = memory.search(unit((1, 0)), np.zeros(3), 5)
    assert [node for node, _, _ in found] == [1, 2] and found[0][1] == pytest.approx(1.0)
    assert memory.search(unit((1, 0, 0)), np.zeros(3), 5) == []
    assert memory.relative(2, pose(1.0, 2.0, np.pi / 2)) == pytest.approx([2, 0, 0], abs=1e-12)


def test_people_do_not_stay():
    memory = filled()
    put(memory, 1, label="person", time_s=0.0)
    put(memory, 2, label="table", time_s=0.0)
    assert memory.advance(5.0) == [] and memory.advance(5.1) == [1] and len(memory) == 1


# -- search ------------------------------------------------------------------------------------


def test_ranks_are_merged_by_their_reciprocals():
    found = fuse({"text": [(1, 0.9), (2, 0.8)], "semantic": [(2, 0.5), (3, 0.4)]})
    assert [node for node, _ in found] == [2, 1, 3]
    assert found[0][1] == pytest.approx(1 / 62 + 1 / 61)
    assert fuse({}) == [] and [n for n, _ in fuse({"a": [(5, 1)], "b": [(4, 1)]})] == [4, 5]


@pytest.fixture
def retriever(ground):
    marks = remembered(
        ground,
        seen(0, label="red door", look=(1, 0, 0)),
        seen(5, label="blue door", look=(0.8, 0.6, 0)),
        seen(9, label="lamp", look=(0, 0, 1)),
        seen(9.6, label="red lamp on the table", look=(0, 0.3, 1)),
    )
    short = WorkingMemory()
    for node, mark in marks.by_id.items():
        look = marks.vectors.mean(mark.row)
        short.insert(node, mark.position, 1, look, mark.label, mark.last_s)
    return Retriever(marks, short, RecallConfig(radius=6.0))


@pytest.mark.parametrize(
    ("query", "nodes", "channels"),
    [
        (MapQuery(text="red door"), [10, 11, 13], {"text"}),
        (MapQuery(text="Lamp!"), [12, 13], {"text"}),
        (MapQuery(text="sofa"), [], set()),
        (MapQuery(text="the"), [13], {"text"}),
        (MapQuery(embedding=unit((1, 0, 0))), [10, 11], {"semantic"}),
        (MapQuery(embedding=unit((-1, 0, 0))), [], set()),
        (MapQuery(embedding=unit((1, 0, 0)), position=np.zeros(3)), [10], {"short"}),  # sure
        (MapQuery(embedding=unit((0, 1, 0)), position=np.array([5.0, 0, 0])), [11, 13],
         {"short", "spatial", "semantic"}),
        (MapQuery(position=np.array([4.0, 0, 0])), [11, 10, 12, 13], {"short", "spatial"}),
        (MapQuery(text="door", position=np.array([5.0, 0, 0])), [11, 10], {"text", "spatial"}),
        (MapQuery(), [], set()),
        (MapQuery(text="?!"), [], set()),
    ],
)  # fmt: skip
def test_questions_find_what_they_mean(retriever, query, nodes, channels):
    hits = retriever.search(query, 9, 20.0)
    assert [hit.node for hit in hits] == nodes
    if hits:
        assert set(hits[0].channels) == channels
        assert hits[0].age_s == 20.0 - (hits[0].node - 10) and hits[0].seqs and hits[0].sigma > 0


def test_a_question_of_another_width_is_refused(retriever):
    with pytest.raises(InputError, match="use the encoder"):
        retriever.search(MapQuery(embedding=unit((1, 0))), 3, 0.0)


def store_of(count, width=16, spread=0.3):
    random = np.random.default_rng(0)
    vectors = random.standard_normal((50, width))[random.integers(50, size=count)]
    vectors = vectors + spread * random.standard_normal((count, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = UnitSums()
    store.add(store.new(count, width), vectors.astype(np.float32))
    return store


def by_hand(store, query, k):
    means = np.array([store.mean(row) for row in range(1, store.used)])
    return [int(i) + 1 for i in np.argsort(-(means @ query), kind="stable")[:k]]


def test_exact_search_is_exact_and_skips_empty_rows():
    store = store_of(500)
    query = unit(np.random.default_rng(1).standard_normal(16))
    best = by_hand(store, query, 5)
    assert [row for row, _ in Neighbours(store).search(query, 5)] == best
    store.clear(np.array(best[:2]))
    assert [row for row, _ in Neighbours(store).search(query, 3)] == best[2:]
    assert Neighbours(UnitSums()).search(query, 3) == []


@pytest.mark.parametrize("engine", ["faiss", "usearch"])
def test_approximate_search_is_used_only_when_it_is_good(engine):
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"needs {engine}: the extra [nav]")
    store = store_of(3000)
    index = Neighbours(store, exact_up_to=100, engine=engine)
    query = unit(store.sums[7])
    found = index.search(query, 5)
    assert index.used == engine and index.recall >= 0.95
    assert len({row for row, _ in found} & set(by_hand(store, query, 5))) >= 4
    # What came after the index was built is found all the same.
    late = store.new(1, 16)
    store.add(late, query[None])
    rows = dict(index.search(query, 5))
    assert index.used == engine and int(late[0]) in rows and rows[int(late[0])] > 0.999


def test_a_bad_index_is_not_used(monkeypatch):
    monkeypatch.setattr("vision_mem.navigation.ann_index.LEAST_RECALL", 1.1)
    store = store_of(400)
    index = Neighbours(store, exact_up_to=100)
    query = unit(store.sums[7])
    assert [row for row, _ in index.search(query, 5)] == by_hand(store, query, 5)
    assert index.used == "exact"
