"""What a name, an id or a position means in a map, and what is said where that is not clear."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.geometry.poses import make_pose
from vision_mem.navigation import Key, NavigationSession, Observation, Sighting

HERE = make_pose(np.eye(3), (0.0, 0.0, 0.0))


@pytest.fixture
def session():
    """Two chairs, and things whose names look like keys, numbers and positions."""
    things = {
        (0.0, 0.0, 2.0): "chair", (4.0, 0.0, 2.0): "chair", (0.0, 4.0, 2.0): "12",
        (4.0, 4.0, 2.0): "shop:open", (8.0, 0.0, 2.0): "lamp", (8.0, 4.0, 2.0): "3",
    }  # fmt: skip
    with NavigationSession() as made:
        seen = [Sighting(at, name, 0.02) for at, name in things.items()]
        made.step(Observation(0.0, HERE, sightings=seen))
        yield made


def ids(session: NavigationSession, name: str) -> list[int]:
    return [i for i, each in session.state.landmarks.by_id.items() if each.label == name]


def test_keys_names_and_positions_become_one_kind_of_answer(session) -> None:
    (lamp,) = ids(session, "lamp")
    for what in ("lamp", f"landmark:{lamp}", Key("landmark", lamp)):
        found = session.resolve(what)
        assert found.key == Key("landmark", lamp)
        np.testing.assert_allclose(found.position, (8, 0, 2), atol=1e-6)
    for what in ("1,2,3", (1, 2, 3)):
        assert session.resolve(what).key is None
        np.testing.assert_array_equal(session.resolve(what).position, (1, 2, 3))
    current = Key("place", session.state.topology.current)
    assert session.resolve(None).key == session.resolve(str(current)).key == current


def test_a_name_with_a_colon_is_a_name(session) -> None:
    assert session.resolve("shop:open").key == Key("landmark", ids(session, "shop:open")[0])
    assert session.recall("shop:open")[0].label == "shop:open"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("piano", "goal 'piano' is not known here"),
        ("lampp", "near in spelling: lamp"),
        ("landmark:99", "goal landmark:99 is not in this map"),
        ("leaf:99", "goal leaf:99 is not in this map"),
        ("place:x", "expected leaf:CODE, place:ID or landmark:ID"),
        ("nan,0,0", "expected 3 finite numbers"),
        ((1, 2), "expected 3 finite numbers"),
    ],
)
def test_what_is_not_known_is_one_line(session, what, says) -> None:
    with pytest.raises(InputError) as error:
        session.resolve(what, "goal")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_where_a_landmark_was_seen_from_is_where_a_way_to_it_ends(session) -> None:
    place = session.state.topology.current
    assert session.plan("lamp").places == (place,)
    assert session.plan(Key("place", place)).places == (place,)


def test_two_things_of_one_name_are_listed_and_neither_is_forgotten(session) -> None:
    chairs = ids(session, "chair")
    with pytest.raises(InputError, match="2 landmarks may be meant by 'chair'") as error:
        session.forget(landmark="chair")
    assert all(f"landmark:{number} (chair)" in str(error.value) for number in chairs)
    assert "\n" not in str(error.value) and ids(session, "chair") == chairs
    assert session.forget(landmark=f"landmark:{chairs[0]}")["landmarks"] == 1
    assert session.forget(landmark="chair")["landmarks"] == 1  # now there is one


def test_a_name_that_is_the_number_of_another_is_not_guessed(session) -> None:
    (named,) = ids(session, "3")
    assert 3 in session.state.landmarks.by_id and named != 3
    with pytest.raises(InputError, match="may be meant by '3'") as error:
        session.forget(landmark="3")
    assert f"landmark:{named} (3)" in str(error.value) and "landmark:3 (" in str(error.value)
    assert session.forget(landmark=f"landmark:{named}")["landmarks"] == 1
    (twelve,) = ids(session, "12")
    assert session.forget(landmark="12")["landmarks"] == 1 and not ids(session, "12")
    assert twelve not in session.state.landmarks.by_id


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("lam", "no landmark is called 'lam' exactly"),
        ("99", "no landmark 99 in this map"),
        ("landmark:99", "no landmark 99 in this map"),
        (99, "no landmark 99 in this map"),
        ("place:1", "no landmark place:1 in this map"),
    ],
)
def test_what_is_forgotten_is_named_exactly(session, what, says) -> None:
    with pytest.raises(InputError, match=says):
        session.forget(landmark=what)


def test_a_position_has_no_history(session) -> None:
    with pytest.raises(InputError, match="is a position; expected"):
        session.recall("1,2,3")
