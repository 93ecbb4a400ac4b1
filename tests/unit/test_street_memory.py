"""What is remembered of streets: pooled landmarks, latest views, places, ways, and their file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.navigation.sights import Landmarks, Sight, Visit
from vision_mem.navigation.streetmemory import LongMemory, ShortMemory
from vision_mem.navigation.words import word_vector, words_of


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
    truth, pooled = word_vector("red pharmacy"), Landmarks()
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
    pooled = Landmarks()
    pooled.add(sight("red pharmacy"))
    pooled.add(other)
    assert pooled.count == landmarks


@pytest.mark.parametrize("memory", [LongMemory(), ShortMemory()])
def test_an_empty_memory_answers_with_nothing(memory) -> None:
    assert memory.find(word_vector("bank")) == []
    assert memory.find(word_vector("bank"), np.zeros(2), 10.0) == []


@pytest.mark.parametrize("memory", [LongMemory(), ShortMemory()])
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
    memory = ShortMemory(2)
    memory.write(visit(0.0, sight("red bank")))
    memory.write(visit(10.0, sight("blue cafe")))
    assert memory.find(word_vector("red bank"))[0].score == pytest.approx(1.0)
    memory.write(visit(20.0))
    assert len(memory) == 2
    assert memory.find(word_vector("red bank"))[0].score < 0.9
    memory.clear()
    assert memory.find(word_vector("blue cafe")) == []
    with pytest.raises(InputError, match="short memory of 0 views"):
        ShortMemory(0)


def test_places_and_ways() -> None:
    memory = straight()
    assert (memory.places, memory.ways) == (5, 4)
    assert memory.place_at(np.array([21.0, 2.0])) == 2
    assert memory.place_at(np.array([25.0, 0.0])) is None
    assert memory.places_near(np.array([21.0, 0.0]), 12.0) == [2, 3, 1]
    assert memory.ways_from(1) == [(90.0, 2)]
    assert memory.exits_of(1) == (90.0, 270.0)
    assert memory.ahead(0, 90.0) == [1, 2, 3, 4]
    assert memory.ahead(0, 90.0, limit=2) == [1, 2]
    assert memory.ahead(0, 270.0) == []
    assert memory.path(0, [4]) == [0, 1, 2, 3, 4]
    assert memory.path(0, [4, 1]) == [0, 1]
    assert memory.path(4, [0]) == []  # walked one way only
    assert memory.path(0, []) == []
    memory.write(visit(0.5, came_by=None))  # the first place again, after a jump
    assert (memory.places, memory.ways) == (5, 5 - 1)


def test_ways_are_not_made_up() -> None:
    memory = straight()
    memory.begin()
    memory.write(visit(100.0))  # came from somewhere, but not from the last place
    assert memory.ways == 4
    assert memory.forget_way(2, 3)
    assert not memory.forget_way(2, 3)
    assert memory.path(0, [4]) == []
    assert memory.ahead(0, 90.0) == [1, 2]
    with pytest.raises(InputError, match="without a finite position"):
        memory.write(visit(float("nan")))


def test_a_memory_survives_its_program(tmp_path: Path) -> None:
    memory = straight()
    path = tmp_path / "deep" / "streets.npz"
    memory.save(path)
    again = LongMemory.load(path)
    for one, other in zip(memory.arrays().values(), again.arrays().values(), strict=True):
        assert np.array_equal(one, other)
    assert again.path(0, [4]) == [0, 1, 2, 3, 4]
    for each in (memory, again):  # and it goes on in the same way
        each.begin()
        each.write(visit(40.0, sight("red pharmacy", 21, 8), came_by=None))
        each.write(visit(50.0, sight("red bank", 52, 8)))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(memory.arrays().values(), again.arrays().values(), strict=True)
    )


def test_shuffled_positions_are_a_copy() -> None:
    memory = straight()
    memory.write(visit(50.0, sight("blue bank", 50, 8)))
    other = memory.with_landmarks_moved(np.random.default_rng(3))
    assert memory.landmarks.position[:2].tolist() == [[20, 8], [50, 8]]
    assert sorted(other.landmarks.position[:2].tolist()) == [[20, 8], [50, 8]]
    assert other.landmarks.position[:2].tolist() == [[50, 8], [20, 8]]
    assert other.ways == memory.ways


def damaged(tmp_path: Path, **changes: object) -> Path:
    arrays = {**straight().arrays(), **changes}
    path = tmp_path / "m.npz"
    np.savez(path, **{k: np.asarray(v) for k, v in arrays.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 9}, "street memory of version 9; this program reads version 1"),
        ({"version": None}, "not the content of a street memory"),
        ({"ways": [[0.0, 77.0, 90.0]]}, "not the content"),
        ({"ways": [[0.0, -1.0, 90.0]]}, "not the content"),
        ({"exits": [[0.5, 90.0]]}, "not the content"),
        ({"place": [[np.nan, 0.0]]}, "not the content"),
        ({"looks": [1, 2, 3]}, "not the content"),
        ({"landmark": [[1.0]]}, "not the content"),
        ({"total": "text"}, "not the content"),
    ],
)
def test_damaged_content_gets_one_line(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        LongMemory.load(damaged(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    straight().save(tmp_path / "good.npz")
    whole = (tmp_path / "good.npz").read_bytes()
    hostile = tmp_path / "hostile.npz"
    with zipfile.ZipFile(hostile, "w") as file:
        np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
        file.write(tmp_path / "o.npy", "version.npy")
    for name, content in {
        "cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "one": whole[:-1],
        "pickled": hostile.read_bytes(),
        "flipped": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=name):
            LongMemory.load(path)
    with pytest.raises(ModelError, match="No such file"):
        LongMemory.load(tmp_path / "absent.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be written"):
        straight().save(tmp_path / "file" / "m.npz")
