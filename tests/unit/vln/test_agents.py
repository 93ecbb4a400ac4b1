"""Agents on streets: instructions, the follower by rules, planning, a language model's place."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from street_samples import cross, graph_of, walk
from street_town import GOAL, PLACES, SIGHTS, TEXT, go, names, toured, town

from vision_mem.errors import InputError
from vision_mem.vln.action_spaces import make_navigator
from vision_mem.vln.baselines import ForwardAgent, RandomAgent
from vision_mem.vln.environment import StreetTask, WordWorld, run_episode
from vision_mem.vln.graph import StreetGraph
from vision_mem.vln.instructions import Step, read_instruction, write_instruction
from vision_mem.vln.llm_agent import LanguageConfig
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import LandmarkHit, Visit
from vision_mem.vln.rule_agent import FollowerConfig, RuleFollower

STEPS = [
    Step("left", "red pharmacy"), Step("right", "blue bank", 2), Step("straight", "", 1),
    Step("around"), Step("stop", "green cafe"), Step("stop", "", 3), Step("find", "white hotel"),
]  # fmt: skip


def test_what_is_written_is_read_back() -> None:
    assert read_instruction(write_instruction(STEPS)) == STEPS
    for step in STEPS:
        assert read_instruction(write_instruction([step])) == [step]
    text = write_instruction([Step("left", "red pharmacy"), Step("stop", "blue bank")])
    assert text == (
        "Turn left at the light with the red pharmacy on the corner. Stop at the blue bank."
    )


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Turn so the trees are on your left. At the first intersection, turn left and stop.",
         [Step("left", "", 1), Step("stop")]),
        ("Go through the next two lights and go right at the third.",
         [Step("right", "", 3), Step("stop")]),
        ("Head to the 2nd set of lights and make a left.", [Step("left", "", 2), Step("stop")]),
        ("Go straight past one light; take the second right.",
         [Step("right", "", 2), Step("stop")]),
        ("Turn right at the corner with Project Cozy on the corner. Stop in front of the tree.",
         [Step("right", "project cozy", 1), Step("stop", "tree")]),
        ("Make a u-turn.", [Step("around"), Step("stop")]),
        ("Cross the 3 way intersection and turn left.", [Step("left", "", 2), Step("stop")]),
        ("The bank will be on your left.", [Step("stop")]),
        ("", [Step("stop")]),
    ],
)  # fmt: skip
def test_text_by_people(text: str, steps: list[Step]) -> None:
    assert read_instruction(text) == steps


def test_hostile_text_is_read_in_a_moment() -> None:
    for text in ("turn " * 100_000, "a" * 1_000_000, "go left " * 50_000, "with " * 50_000):
        assert read_instruction(text)[-1].action == "stop"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step("fly"), "no step 'fly'"),
        (lambda: Step("left", "", -1), "step counts -1 junctions"),
        (lambda: write_instruction([Step("stop", "a. b")]), "no sentence for"),
        (lambda: write_instruction([Step("left", "", 7)]), "no sentence for"),
        (lambda: FollowerConfig(threshold=2.0), "expected a cosine"),
        (lambda: RuleFollower(FollowerConfig(plan=True)), "plan and learn need a long memory"),
        (lambda: LanguageConfig(lines=0), "expected lines 1 or more"),
    ],
)
def test_wrong_settings(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("navigator", ["touchdown", "velma"])
@pytest.mark.parametrize("views", [1, 6])
def test_the_follower_follows_what_it_sees(navigator: str, views: int) -> None:
    episode = go(RuleFollower(FollowerConfig(short_views=views)), navigator=navigator)
    assert names(episode) == GOAL
    assert episode.stopped


def test_without_the_landmark_in_view_it_walks_past() -> None:
    episode = go(RuleFollower(), {})
    assert names(episode).startswith("w1 A a b c B e1 e2")


def test_short_memory_helps_where_the_corner_was_seen_before() -> None:
    world = {"c": [("red pharmacy", 40.0, 20.0)], "m3": SIGHTS["m3"]}
    assert names(go(RuleFollower(FollowerConfig(short_views=6)), world)) == GOAL
    assert names(go(RuleFollower(FollowerConfig(short_views=1)), world)) != GOAL


@pytest.mark.parametrize("plan", [False, True])
def test_long_memory_helps_where_nothing_is_seen_now(plan: bool) -> None:
    memory = toured("e2 e1 B m1 m2 m3 m4")
    follower = RuleFollower(FollowerConfig(plan=plan), memory)
    assert names(go(follower, {})) == GOAL
    assert names(go(follower, {})) == GOAL  # nothing of the first walk is left over


def test_one_slip_is_not_believed() -> None:
    memory = toured("e2 e1 B m1 m2 m3 m4", looks=1)
    assert names(go(RuleFollower(FollowerConfig(), memory), {})) != GOAL


def test_counted_junctions_and_streets_that_end() -> None:
    counted = write_instruction([Step("left", "", 2), Step("stop")])
    assert names(go(RuleFollower(), {}, counted)).startswith("w1 A a b c B m1 m2")
    first = write_instruction([Step("right", "", 1), Step("stop")])
    assert names(go(RuleFollower(), {}, first)).startswith("w1 A s1")
    graph = graph_of(
        {"a": (0, 0), "b": (10, 0), "j": (20, 0), "l": (20, 10), "l2": (20, 20), "l3": (20, 30),
         "r": (20, -10), "r2": (20, -20)},
        [("a", "b"), ("b", "j"), ("j", "l"), ("l", "l2"), ("l2", "l3"), ("j", "r"), ("r", "r2")],
    )  # fmt: skip
    episode = run_episode(
        RuleFollower(), make_navigator("touchdown", graph), StreetTask("t", TEXT),
        (0, 90.0), WordWorld(graph),
    )  # fmt: skip
    # The street ends before the landmark is seen: left, as told.
    assert [graph.ids[place] for place in episode.trajectory][:4] == ["a", "b", "j", "l"]


FIND = "Find the blue bank."
WAY = "w1 A a b c B m1 m2 m3 m4"


def test_planning_uses_remembered_ways_only() -> None:
    """The straight way A to B is there in the streets; unless it was walked it is not used."""
    agent = RuleFollower(FollowerConfig(plan=True), toured(WAY))
    assert names(go(agent, {}, FIND)) == "w1 A a b c B m1 m2 m3"
    # Its walk past B and back is all that is known of how to get there from w1.
    memory = toured("w1 A a b c B e1 B m1 m2 m3 m4")
    assert memory.forget_way(near(memory, "B"), near(memory, "m1"))
    assert memory.path(near(memory, "w1"), [near(memory, "m3")]) == []


def offset() -> np.ndarray:
    """A graph's origin is the mean of its places."""
    return np.array(list(PLACES.values()), float).mean(axis=0)


def near(memory: LongMemory, name: str) -> int:
    place = memory.place_at(np.array(PLACES[name], float) - offset())
    assert place is not None
    return place


def test_no_leak_of_the_true_graph() -> None:
    """With a way taken out of memory, and out of memory only, plans go around it or are none."""
    ring = graph_of(
        {"a": (0, 0), "b": (20, 0), "c": (40, 0), "d": (20, 30), "z": (-20, 0), "y": (60, 0)},
        [("z", "a"), ("a", "b"), ("b", "c"), ("c", "y"), ("a", "d"), ("d", "c")],
    )
    world = WordWorld(ring, {"c": [("blue bank", 0.0, 9.0)]})
    memory = LongMemory()
    for route in ("z a b c y c b a z", "z a d c y c d a z"):
        memory.begin()
        path = walk(ring, route)
        for number, place in enumerate(path):
            came = ring.heading_between(path[number - 1], place) if number else None
            exits = tuple(heading for heading, _ in ring.exits[place])
            memory.write(Visit(ring.position[place], exits, world.sights(place, 0, 0.0), came))

    def found() -> list[str]:
        episode = run_episode(
            RuleFollower(FollowerConfig(plan=True), memory), make_navigator("touchdown", ring),
            StreetTask("t", FIND), (ring.number("a"), 90.0), WordWorld(ring),
        )  # fmt: skip
        return [ring.ids[place] for place in episode.trajectory]

    assert found() == ["a", "b", "c"]
    a, b, c, d = (memory.place_at(ring.position[ring.number(n)]) for n in "abcd")
    assert memory.forget_way(b, c)
    assert memory.path(a, [c]) == [a, d, c]
    assert found() == ["a", "d", "c"]
    assert memory.forget_way(d, c)
    assert memory.path(a, [c]) == []


def test_a_remembered_way_that_is_closed_now_is_given_up() -> None:
    memory = toured(WAY)
    graph = town()
    cut = graph.number("c"), graph.number("B")
    files = graph.files
    kept = ~(np.isin(files.start, cut) & np.isin(files.end, cut))
    closed = StreetGraph(
        replace(files, start=files.start[kept], heading=files.heading[kept], end=files.end[kept])
    )
    for text in (TEXT, FIND):
        episode = run_episode(
            RuleFollower(FollowerConfig(plan=True), memory), make_navigator("touchdown", closed),
            StreetTask("t", text), (closed.number("w1"), 90.0), WordWorld(closed), limit=60,
        )  # fmt: skip
        assert len(episode.actions) <= 60
        assert closed.number("B") not in episode.trajectory


def test_learning_in_one_task_helps_in_the_next() -> None:
    memory = LongMemory()
    agent = RuleFollower(FollowerConfig(learn=True, plan=True), memory)
    assert names(go(agent, {}, start="w1")) != GOAL
    for _ in range(2):
        go(agent, SIGHTS)
    assert names(go(agent, {})) == GOAL


def test_kept_across_a_restart_the_walk_is_the_same(tmp_path) -> None:
    memory = toured("e2 e1 B m1 m2 m3 m4")
    (tmp_path / "m.map").write_bytes(memory.session.content())
    walks = []
    for each in (memory, LongMemory(tmp_path / "m.map", mode="r")):
        agent = RuleFollower(FollowerConfig(plan=True), each)
        walks.append(hashlib.sha256(repr(go(agent, {})).encode()).hexdigest())
        assert each.places == 7
    assert walks[0] == walks[1]


def test_forward_and_chance() -> None:
    assert names(go(ForwardAgent(3))) == "w1 A a b"
    one, other = (go(RandomAgent(seed)) for seed in (1, 2))
    assert one == go(RandomAgent(1))
    assert one.actions != other.actions
    with pytest.raises(InputError, match="limit is 0"):
        graph = cross()
        run_episode(
            ForwardAgent(), make_navigator("velma", graph), StreetTask("t", ""), (0, 0.0),
            WordWorld(graph), limit=0,
        )  # fmt: skip


def test_each_step_can_be_watched_with_its_reason() -> None:
    graph = town()
    agent = RuleFollower(FollowerConfig(plan=False), toured("e2 e1 B m1 m2 m3 m4"))
    told: list[tuple] = []
    episode = run_episode(
        agent, make_navigator("touchdown", graph), StreetTask("t", TEXT),
        (graph.number("w1"), 90.0), WordWorld(graph, {"m3": SIGHTS["m3"]}),
        watch=lambda n, state, action: told.append(
            (n, graph.ids[state.place], action, dict(agent.reason))
        ),
    )  # fmt: skip
    assert [action for _, _, action, _ in told] == list(episode.actions)
    assert [n for n, *_ in told] == list(range(len(episode.actions)))
    reasons = {place: reason for _, place, _, reason in told}
    assert reasons["A"] == {"step": "left", "landmark": "red pharmacy", "planned": False}
    at_corner = next(reason for _, place, _, reason in told if place == "B")
    assert at_corner["memory"] == "long"
    assert at_corner["looks"] == 2
    assert reasons["m3"]["landmark"] == "blue bank"


@pytest.mark.parametrize(
    ("score", "looks", "meant"),
    [(0.62, 1, True), (0.61, 1, False), (0.62, 5, False), (0.78, 5, True), (0.83, 1000, False),
     (0.84, 1000, True)],
)  # fmt: skip
def test_of_more_looks_more_is_asked(score: float, looks: int, meant: bool) -> None:
    hit = LandmarkHit(score, np.zeros(2), looks)
    assert FollowerConfig().means(hit) is meant
    assert FollowerConfig(threshold=0.6, likeness=1.0).means(hit)


def test_map2seq_begins_with_a_forced_step() -> None:
    graph = town()
    episode = run_episode(
        ForwardAgent(1), make_navigator("velma", graph), StreetTask("t", ""),
        (graph.number("w1"), 90.0), WordWorld(graph), first_forward=True,
    )  # fmt: skip
    assert (names(episode), episode.actions) == ("w1 A a", ("forward", "forward", "stop"))
