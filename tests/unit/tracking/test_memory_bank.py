"""The bounded memory of one object, written with small tensors."""

from __future__ import annotations

import pytest
import torch

from vision_mem.models.segmenters.protocol import MemoryEntry
from vision_mem.tracking.memory_bank import MaskMemory, count_usage
from vision_mem.tracking.policies.distractor import DistractorFrames
from vision_mem.tracking.policies.protocol import FrameRecord, MemoryLimits
from vision_mem.tracking.policies.recent import PromptsOnly, RecentFrames
from vision_mem.tracking.policies.scored import ScoredFrames

LIMITS = MemoryLimits(slots=6, pointers=15, prompts=2)
POLICIES = {
    "scored": ScoredFrames(),
    "recent": RecentFrames(),
    "distractor": DistractorFrames(pointer_gate=True),
    "prompt": PromptsOnly(),
}


def entry(index):
    return MemoryEntry(index, {"map": torch.full((4, 4), float(index))}, torch.full((3,), index))


def record(index, iou=0.9, area=10, prompted=False):
    return FrameRecord(index, iou, 5.0, None, area, prompted)


def filled(kind, frames, **changes):
    memory = MaskMemory(POLICIES[kind], LIMITS)
    memory = memory.write_prompt(entry(0), record(0, prompted=True))
    for t in range(1, frames):
        anchor = kind == "distractor" and t in (10, 20, 30, 40, 50)
        memory, _ = memory.write(entry(t), record(t, **changes), anchor=anchor)
    return memory


@pytest.mark.parametrize("kind", POLICIES)
def test_bounded_and_restored(kind):
    sizes = [filled(kind, frames).usage().bytes for frames in (60, 61, 90, 200)]
    assert max(sizes) <= sizes[0] + 5 * 64 + 5 * 24
    memory = filled(kind, 60)
    limit = 1 + 6 + 15 + (4 if kind == "distractor" else 0)
    assert memory.usage().entries <= limit
    again = MaskMemory(POLICIES[kind], LIMITS).filled(memory.state_dict(), torch.device("cpu"))
    assert again.usage() == memory.usage()
    one, two = memory.read(60), again.read(60)
    assert [e.index for e in one.prompts] == [e.index for e in two.prompts]
    assert [(e.index, t) for e, t in one.recents] == [(e.index, t) for e, t in two.recents]
    assert [p for _, p in one.pointers] == [p for _, p in two.pointers]


def test_writing_leaves_the_old_memory_as_it_was():
    memory = filled("scored", 30)
    before = [held.entry.index for held in memory.recents]
    later, why = memory.write(entry(30), record(30, iou=0.2))
    assert [held.entry.index for held in memory.recents] == before
    assert why is not None and "IoU" in why
    assert later.recents[-1].entry.index == 30


def test_pointers_follow_time_and_the_prompt_comes_first():
    read = filled("scored", 40).read(40)
    assert [position for _, position in read.pointers] == [40, *range(1, 16)]
    assert [int(vector[0]) for vector, _ in read.pointers] == [0, *range(39, 24, -1)]
    short = filled("scored", 6).read(6, num_frames_hint=5)
    assert [position for _, position in short.pointers] == [6, 1, 2, 3, 4]
    assert short.num_frames_hint == 5
    assert filled("scored", 6).read(6, num_frames_hint=16).num_frames_hint is None


def test_prompt_policy_reads_the_prompt_only():
    read = filled("prompt", 20).read(20)
    assert [e.index for e in read.prompts] == [0]
    assert not read.recents and [p for _, p in read.pointers] == [20]


def test_pointer_gate_leaves_empty_frames_out():
    memory = filled("distractor", 5)
    memory, _ = memory.write(entry(5), record(5, area=0))
    assert 1 not in [position for _, position in memory.read(6).pointers[1:]]


def test_anchors_are_read_beside_the_prompt_without_temporal_code():
    read = filled("distractor", 60).read(60)
    assert [e.index for e in read.prompts] == [0, 30, 40, 50]
    assert not read.timed_prompts
    assert [(e.index, t_pos) for e, t_pos in read.recents] == [(50, 4), (55, 5), (59, 6)]
    assert [e.index for e in filled("distractor", 51).read(51).prompts] == [0, 20, 30, 40]


def test_surplus_prompts_are_read_as_tracked_frames_while_they_are_recent():
    memory = filled("recent", 4)
    memory = memory.write_prompt(entry(4), record(4, prompted=True))
    memory = memory.write_prompt(entry(5), record(5, prompted=True))
    read = memory.read(6)
    assert [e.index for e in read.prompts] == [4, 5]
    # Frame 0 was a prompt; at distance 6 it is still within reach of a tracked frame.
    assert [(e.index, t_pos) for e, t_pos in read.recents] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [position for _, position in read.pointers] == [2, 1, 3, 4, 5, 6]


def test_usage_counts_shared_storage_once_and_views_whole():
    base = torch.zeros(10, 10)
    shared = [("maps", base[0]), ("maps", base[1]), ("other", torch.zeros(2))]
    usage = count_usage(shared, 3)
    assert usage.bytes == 400 + 8 and usage.detail == {"maps": 400, "other": 8}
