"""What is remembered of streets: pooled landmarks, latest views, places, ways, and their map."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from navigation_scenes import same, write_streets_until_killed

from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.navigation import Key, NavigationSession
from vision_mem.vln.memory import LongMemory, RecentViews
from vision_mem.vln.observations import Sight, StreetLandmarks, Visit, word_vector, words_of


def sight(name: str, east: float = 0.0, north: float = 0.0) -> Sight:
    return Sight(word_vector(name), np.array([east, north]))


def visit(east: float, *sights: Sight, came_by: float | None = 90.0, exits=(90.0, 270.0)) -> Visit:
    return Visit(np.array([east, 0.0]), exits, tuple(sights), came_by)


def straight(places: int = 5) -> LongMemory:
    """A walk eastward, 10 m a step, with a pharmacy at 20 m."""
    memory = LongMemory()
    for step in range(places):
        seen = [sight("red pharmacy", 20, 8)] if step in (1, 2) else []
        memory.write(visit(10.0 * step, *seen, came_by=90.0 if step else None))
    return memory


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ("red pharmacy", "the Red pharmacies", 0.45, 0.75),  # plurals in "ies" are not known
        ("red pharmacy", "a red pharmacy", 0.999, 1.001),
        ("bank", "Banks", 0.999, 1.001),
        ("red pharmacy", "red bank", 0.2, 0.8),
        ("red pharmacy", "blue bank", -0.45, 0.45),
        ("red pharmacy", "", 0.0, 0.0),
    ],
)
def test_words_as_vectors(one: str, other: str, low: float, high: float) -> None:
    assert low <= float(word_vector(one) @ word_vector(other)) <= high
    assert words_of("The glass of a bus") == {"glass", "bus"}


def test_looks_at_one_landmark_are_pooled() -> None:
    rng = np.random.default_rng(0)
    truth, pooled = word_vector("red pharmacy"), StreetLandmarks()
    single = []
    for _ in range(30):
        noisy = truth + rng.standard_normal(64) * 0.11
        single.append(float(truth @ noisy / np.linalg.norm(noisy)))
        pooled.add(Sight(noisy, np.array([100.0, 50.0]) + rng.normal(0, 1.5, 2)))
    assert pooled.count == 1
    (hit,) = pooled.find(truth)
    assert hit.looks == 30
    assert hit.score > 0.97 > max(single)
    assert np.abs(hit.position - [100, 50]).max() < 1.5


@pytest.mark.parametrize(
    ("other", "landmarks"),
    [
        (sight("red pharmacy", 5), 1),
        (sight("red pharmacy", 8.5), 2),  # too far apart
        (sight("blue bank", 5), 2),  # too unlike
    ],
)
def test_what_is_another_landmark(other: Sight, landmarks: int) -> None:
    pooled = StreetLandmarks()
    pooled.add(sight("red pharmacy"))
    pooled.add(other)
    assert pooled.count == landmarks


@pytest.mark.parametrize("memory", [LongMemory(), RecentViews()])
def test_an_empty_memory_answers_with_nothing(memory) -> None:
    assert memory.find(word_vector("bank")) == []
    assert memory.find(word_vector("bank"), np.zeros(2), 10.0) == []


@pytest.mark.parametrize("memory", [LongMemory(), RecentViews()])
def test_what_cannot_be_remembered(memory) -> None:
    memory.write(visit(0.0, sight("red bank"), came_by=None))
    with pytest.raises(InputError, match="a query of 3 numbers; this memory holds vectors of 64"):
        memory.find(np.ones(3))
    for bad in (
        Sight(np.full(64, np.nan), np.zeros(2)),
        Sight(np.zeros(64), np.zeros(2)),
        Sight(np.ones(64), np.array([np.inf, 0])),
        Sight(np.ones(5), np.zeros(2)),
    ):
        with pytest.raises(InputError):
            memory.write(visit(10.0, bad))
            memory.find(word_vector("bank"))
        memory = type(memory)()
        memory.write(visit(0.0, sight("red bank"), came_by=None))


def test_short_memory_keeps_the_latest_views() -> None:
    memory = RecentViews(2)
    memory.write(visit(0.0, sight("red bank")))
    memory.write(visit(10.0, sight("blue cafe")))
    assert memory.find(word_vector("red bank"))[0].score == pytest.approx(1.0)
    memory.write(visit(20.0))
    assert len(memory) == 2
    assert memory.find(word_vector("red bank"))[0].score < 0.9
    memory.clear()
    assert memory.find(word_vector("blue cafe")) == []
    with pytest.raises(InputError, match="short memory of 0 views"):
        RecentViews(0)


def test_places_and_ways() -> None:
    memory = straight()
    assert (memory.places, memory.ways) == (5, 4)
    at = {
        round(float(memory.place_position(p)[0])): p for p in memory.session.state.topology.places
    }
    zero, one, two, three, four = (at[10 * n] for n in range(5))
    assert memory.place_at(np.array([21.0, 2.0])) == two
    assert memory.place_at(np.array([25.0, 0.0])) is None
    assert memory.places_near(np.array([21.0, 0.0]), 12.0) == [two, three, one]
    assert memory.ways_from(one) == [(90.0, two)]
    assert memory.exits_of(one) == (90.0, 270.0)
    assert memory.ahead(zero, 90.0) == [one, two, three, four]
    assert memory.ahead(zero, 90.0, limit=2) == [one, two]
    assert memory.ahead(zero, 270.0) == []
    assert memory.path(zero, [four]) == [zero, one, two, three, four]
    assert memory.path(zero, [four, one]) == [zero, one]
    assert memory.path(four, [zero]) == []  # walked one way only
    assert memory.path(zero, []) == []
    memory.write(visit(0.5, came_by=None))  # the first place again, after a jump
    assert (memory.places, memory.ways) == (5, 5 - 1)


def test_ways_are_not_made_up() -> None:
    memory = straight()
    memory.begin()
    memory.write(visit(100.0))  # came from somewhere, but not from the last place
    assert memory.ways == 4
    zero, _, two, three, four = sorted(memory.session.state.topology.places)[:1] + [
        memory.place_at(np.array([10.0 * n, 0.0])) for n in range(1, 5)
    ]
    assert memory.forget_way(two, three)
    assert not memory.forget_way(two, three)
    assert memory.path(zero, [four]) == []
    assert memory.ahead(zero, 90.0)[-1] == two
    with pytest.raises(InputError, match="without a finite position"):
        memory.write(visit(float("nan")))


def test_a_memory_survives_its_program(tmp_path: Path) -> None:
    path = tmp_path / "streets.map"
    with LongMemory(path) as memory:
        for step in range(5):
            seen = [sight("red pharmacy", 20, 8)] if step in (1, 2) else []
            memory.write(visit(10.0 * step, *seen, came_by=90.0 if step else None))
    with LongMemory(path) as again:
        one = straight()
        same(again.session, one.session)
        assert (
            len(
                again.path(
                    again.place_at(np.zeros(2)),
                    [
                        again.place_at(np.array([40.0, 0])),
                    ],
                )
            )
            == 5
        )
        for each in (one, again):  # and it goes on in the same way, after a jump or none
            each.go_on()
            each.write(visit(50.0, sight("red bank", 52, 8)))
        same(again.session, one.session)
        assert again.ways == 5


def test_streets_answer_as_any_map(tmp_path: Path) -> None:
    path = tmp_path / "streets.map"
    with LongMemory(path) as memory:
        for step in range(5):
            seen = [Sight(word_vector("red bank"), np.array([20.0, 8.0]), "red bank")]
            memory.write(
                visit(10.0 * step, *seen[: step in (1, 2)], came_by=90.0 if step else None)
            )
    with NavigationSession(path, mode="r") as session:
        (hit,) = session.where("bank")
        assert hit.position == pytest.approx([20, 8, 0]) and hit.count == 2
        history = session.recall(f"landmark:{hit.node}")
        assert [m.vector("float32") @ word_vector("red bank") for m in history] == pytest.approx(
            [1, 1]
        )
        assert session.recall(Key("landmark", hit.node), at=2.0)[0].seq == history[0].seq
        way = session.route("red bank", [0.0, 0.0, 0.0])
        assert (way.on, way.length) == ("places", pytest.approx(20.0))
        with pytest.raises(InputError, match="no known way leads"):
            session.route([0.0, 0.0, 0.0], "red bank")  # walked one way only
    with NavigationSession(path) as session:
        assert session.forget(landmark=hit.node)["memories"] == 2
    with LongMemory(path, mode="r") as memory:
        assert memory.find(word_vector("red bank")) == [] and memory.places == 5


def test_a_forgotten_place_is_no_longer_led_to() -> None:
    memory = straight()
    memory.session.forget(region=([15, -5, -5], [25, 5, 5]))
    one = memory.place_at(np.array([10.0, 0.0]))
    assert memory.places == 4 and memory.ways_from(one) == []
    assert memory.exits_of(one) == (90.0, 270.0)  # that a way leaves here is still known


def test_corrections_turn_the_ways_with_their_places() -> None:
    memory = straight()
    quarter = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    places = memory.session.state.topology.places
    memory.session.correct({i: quarter @ each.pose for i, each in places.items()})
    first = memory.place_at(np.zeros(2))
    ((heading, end),) = memory.ways_from(first)  # what led east leads north
    assert heading % 360 == pytest.approx(0.0) or heading == pytest.approx(360.0)
    assert memory.place_position(end) == pytest.approx([0, 10])


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vision_mem.vln.memory"])
    return context


def test_killed_at_any_moment_it_loses_one_visit_at_most(tmp_path, processes) -> None:
    path, total = tmp_path / "streets.map", 0
    LongMemory(path).close()
    random = np.random.default_rng(4)
    for _ in range(12):
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=write_streets_until_killed, args=(str(path), theirs))
        child.start()
        theirs.close()
        said = ours.recv() if ours.poll(30) else total
        child.join(float(random.uniform(0, 0.02)))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        try:
            while ours.poll(0):
                said = ours.recv()
        except (EOFError, OSError):
            pass
        with LongMemory(path) as memory:
            total = memory.session.state.frame
            assert said <= total <= said + 1
            places = min(total, 50)
            assert memory.places == places and memory.ways >= places - 1
            assert sum(len(memory.ways_from(p)) for p in memory.session.state.topology.places) == (
                memory.ways
            )
    assert total >= 12


def test_one_writer_and_readers_of_other_streets(tmp_path: Path) -> None:
    path = tmp_path / "streets.map"
    with LongMemory(path) as memory:
        memory.belong_to((40.0, -74.0))
        memory.write(visit(0.0, sight("red bank"), came_by=None))
        with pytest.raises(SinkError, match="is being written by process"):
            LongMemory(path)
        with LongMemory(path, mode="r") as reader:
            reader.belong_to((40.0, -74.0))
            assert reader.places == 1
            with pytest.raises(InputError, match="is of other streets than this graph"):
                reader.belong_to((40.1, -74.0))
            with pytest.raises(InputError, match="open for reading only"):
                reader.write(visit(10.0))
    rooms = tmp_path / "rooms.map"
    NavigationSession(rooms).close()
    with pytest.raises(InputError, match="is of rooms, not of streets"):
        LongMemory(rooms)
    LongMemory(tmp_path / "named.map", encoder="names#64").close()
    with pytest.raises(InputError, match="holds embeddings of 'names#64'"):
        LongMemory(tmp_path / "named.map", encoder="other")
    (tmp_path / "text.map").write_text("hello")
    with pytest.raises(ModelError, match="damaged or no map"):
        LongMemory(tmp_path / "text.map")


def test_shuffled_positions_are_a_copy() -> None:
    memory = straight()
    memory.write(visit(50.0, sight("blue bank", 50, 8)))
    other = memory.with_landmarks_moved(np.random.default_rng(3))

    def where(each: LongMemory, name: str) -> list[float]:
        return each.find(word_vector(name), k=1)[0].position.round(6).tolist()

    assert (where(memory, "red pharmacy"), where(memory, "blue bank")) == ([20, 8], [50, 8])
    assert (where(other, "red pharmacy"), where(other, "blue bank")) == ([50, 8], [20, 8])
    near = other.find(word_vector("blue bank"), np.array([20.0, 0.0]), 10.0)
    assert near[0].score == pytest.approx(1.0)
    assert other.ways == memory.ways
