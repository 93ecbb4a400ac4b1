"""The joined session: one step, things in space, questions, what happens at the budget's end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.navigation import NavigationConfig, NavigationSession
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.stream_memory import Share, StreamMemory, fitted, split_budget
from vision_mem.synthetic.furnished_room import Room
from vision_mem.tracking import TrackingSession
from vision_mem.types import Detections, Frame, Prompt
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

WIDTH, HEIGHT = 80, 60
CAMERA = Pinhole.from_field_of_view(60, WIDTH, HEIGHT)


def deep(t: int, x: int = 10, pose: Any = "still") -> RgbdFrame:
    """A red cup 1.4 m away at column x, before a grey wall; ten frames a second."""
    image = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    image[::7] += 6
    depth = np.full((HEIGHT, WIDTH), 2.5, np.float32)
    image[20:35, x : x + 17] = (220, 40, 30)
    depth[20:35, x : x + 17] = 1.4
    return RgbdFrame(t, t / 10, image, depth, CAMERA, np.eye(4) if pose == "still" else pose)


def spot(x: int) -> np.ndarray:
    """Where the middle of the cup is, metres."""
    return CAMERA.unproject(np.full((HEIGHT, WIDTH), 1.4))[27, x + 8]


def cup(x: int = 10) -> Prompt:
    return Prompt(box=(x, 20, x + 17, 35), name="red cup")


def with_map(budget: str = "64MB", **more: Any) -> StreamMemory:
    shares = split_budget(budget, ["track", "reconstruct", "navigate"])
    return StreamMemory(
        objects=TrackingSession(FakeSegmenter()),
        reconstruct=ReconstructionSession(
            fitted(ReconstructionConfig(kernels="numpy"), shares["reconstruct"])
        ),
        navigate=NavigationSession(config=fitted(NavigationConfig(), shares["navigate"])),
        budget=budget, **more,
    )  # fmt: skip


def test_what_was_clicked_has_a_place_in_space_for_where_and_ask() -> None:
    shares = split_budget("64MB", ["track", "ask", "navigate"])
    memory = StreamMemory(
        objects=TrackingSession(FakeSegmenter()),
        ask=VideoMemorySession(FakeVideoModel(), VideoQaConfig(fps=None)),
        navigate=NavigationSession(config=fitted(NavigationConfig(), shares["navigate"])),
        budget="64MB",
    )
    for t in range(8):
        result = memory.step(deep(t), [cup()] if t == 0 else ())
    (hit,) = memory.where("cup")
    assert hit.label == "red cup" and np.linalg.norm(hit.position - spot(10)) < 0.1
    (entity,) = memory.entities
    assert entity.position == tuple(hit.position) and entity.frame_index == 7
    (told,) = memory.ask("Where is the red cup that I clicked?").notes["entities"]
    assert told["name"] == "red cup" and told["position"] == entity.position
    assert "entities" not in memory.ask("where is the door?").notes
    assert [each.name for each in result.objects] == ["red cup"] and result.held["navigate"] > 0


def test_what_moves_is_where_it_is_now_and_one_thing() -> None:
    memory = with_map()
    for t in range(30):
        x = 10 if t < 6 else min(10 + 2 * (t - 5), 50)
        memory.step(deep(t, x), [cup()] if t == 0 else ())
    (hit,) = memory.where("red cup")
    assert np.linalg.norm(hit.position - spot(50)) < 0.1
    assert len(memory.navigate.state.landmarks) == 1


def test_what_mots_follows_is_in_the_map_too() -> None:
    shares = split_budget("64MB", ["mots", "navigate"])
    memory = StreamMemory(
        objects=MotsSession(FakeSegmenter(), fitted(MotsConfig(), shares["mots"])),
        navigate=NavigationSession(config=fitted(NavigationConfig(), shares["navigate"])),
        budget="64MB",
    )
    found = Detections(np.array([[10, 20, 27, 35]], np.float32), names={0: "cup"})
    for t in range(16):
        memory.step(deep(t), detections=found)
    (hit,) = memory.where("cup")
    assert np.linalg.norm(hit.position - spot(10)) < 0.1


def test_a_map_without_poses_takes_those_of_the_scene() -> None:
    memory = with_map()
    room = Room(frames=300, width=WIDTH, height=HEIGHT)
    for frame, _ in room.film(0, 3):
        result = memory.step(frame.without_pose())
        assert result.mapped.frame == frame.index + 1
    few = fitted(NavigationConfig(), split_budget("64MB", ["navigate"])["navigate"])
    alone = StreamMemory(navigate=NavigationSession(config=few), budget="64MB")
    for t in range(3):
        assert alone.step(deep(t, pose=None)).mapped is None
    assert alone.remarks[0].startswith("3 frames left out of the map: ")


def test_a_budget_that_is_full_is_kept() -> None:
    def held(prompts: list[Prompt], frames: int = 12) -> int:
        memory = StreamMemory(objects=TrackingSession(FakeSegmenter()))
        for t in range(frames):
            result = memory.step(deep(t).image, prompts if t == 0 else ())
        return result.held["track"]

    wall = Prompt(box=(40, 5, 60, 18), name="wall")
    one, two = held([cup()]), held([cup(), wall])
    memory = StreamMemory(objects=TrackingSession(FakeSegmenter()))
    memory.shares["track"] = Share("track", (one + two) // 2)
    removed = []
    for t in range(12):
        result = memory.step(deep(t).image, [cup(), wall] if t == 0 else ())
        removed += [event.name for event in result.removed]
        assert result.held["track"] <= memory.shares["track"].bytes
    assert removed == ["wall"] and memory.remarks == ("budget: 1 object had to go",)
    memory.shares["track"] = Share("track", one // 2)
    with pytest.raises(InputError, match=r"track holds .* MB after frame 12, and its share"):
        memory.step(deep(12).image)


def test_a_full_map_takes_in_no_more_and_says_so() -> None:
    memory = with_map()
    memory.step(deep(0))
    held = memory.held()["navigate"]
    memory.shares["navigate"] = replace(memory.shares["navigate"], bytes=held // 2)
    results = [memory.step(deep(t)) for t in range(1, 4)]
    assert [result.mapped is None for result in results] == [False, True, True]
    assert memory.remarks == ("budget: the map is full since frame 1, and takes in no more",)
    assert memory.held()["navigate"] == results[0].held["navigate"]


def test_a_refused_frame_leaves_memories_that_do_not_fit_unsaved() -> None:
    memory = with_map()
    memory.step(deep(0), [cup()])
    before = memory.usage()
    with pytest.raises(InputError, match="frame 0 comes after frame 0"):
        memory.step(deep(0))
    with pytest.raises(InputError, match="has no depth"):
        memory.step(Frame(1, 0.1, deep(1).image))
    with pytest.raises(InputError):
        memory.step(deep(1), [Prompt(box=(500, 500, 510, 510), name="outside")])
    assert memory.usage() == before
    memory.state_dict()  # nothing has changed
    late = replace(deep(1), time_s=0.0)  # reconstruct wants time to rise, track does not care
    with pytest.raises(InputError):
        memory.step(late)
    with pytest.raises(InputError, match="refused by one memory and taken by others"):
        memory.state_dict()
    memory.step(deep(2))
    memory.state_dict()


def test_a_ledger_is_told_of_each_frame_and_the_places() -> None:
    told = []

    class Ledger:
        def write(self, frame: Frame, followed: Any, places: Any) -> None:
            told.append((frame.index, len(followed.objects), [p.name for p in places]))

    memory = with_map(ledger=Ledger())
    for t in range(7):
        memory.step(deep(t), [cup()] if t == 0 else ())
    assert [each[:2] for each in told] == [(t, 1) for t in range(7)]
    assert [t for t, _, places in told if places == ["red cup"]] == [0, 5]


@pytest.mark.parametrize("lacks", ["stream", "track", "navigate"])
def test_a_state_of_something_else_is_refused(lacks: str) -> None:
    memory = with_map()
    memory.step(deep(0), [cup()])
    state = memory.state_dict()
    del state[lacks]
    with pytest.raises(ModelError, match=f"no {lacks} memory"):
        with_map().load_state_dict(state)


def test_nothing_to_remember_is_said() -> None:
    with pytest.raises(InputError, match="nothing is to be remembered"):
        StreamMemory()
    with pytest.raises(InputError, match="nothing here can be asked"):
        with_map().ask("where?")
    only = StreamMemory(objects=TrackingSession(FakeSegmenter()))
    with pytest.raises(InputError, match="there is no map"):
        only.where("cup")


def test_a_place_that_was_corrected_is_in_the_file(tmp_path: Any) -> None:
    path = tmp_path / "room.map"
    config = fitted(NavigationConfig(), split_budget("64MB", ["navigate", "track"])["navigate"])
    with NavigationSession(path, config) as navigate:
        memory = StreamMemory(
            objects=TrackingSession(FakeSegmenter()), navigate=navigate, budget="64MB"
        )
        for t in range(16):
            memory.step(deep(t, 10 if t < 10 else 50), [cup()] if t in (0,) else ())
            if t == 10:
                memory.objects.step(Frame(10, 1.0, deep(10, 50).image), cup(50))
        here = memory.where("cup")[0].position
    assert np.linalg.norm(here - spot(50)) < 0.1
    with NavigationSession(path, mode="r") as again:
        assert np.array_equal(again.where("cup")[0].position, here)
        assert again.check() > 16
