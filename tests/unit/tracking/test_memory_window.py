"""Windows, pins, withheld frames and thinning of one object's memory, with small tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.segmenters.protocol import MemoryEntry
from vision_mem.tracking import TrackingConfig
from vision_mem.tracking.engine import Engine
from vision_mem.tracking.memory_bank import MaskMemory
from vision_mem.tracking.policies.protocol import FrameRecord, MemoryLimits
from vision_mem.tracking.policies.recent import RecentFrames
from vision_mem.tracking.policies.scored import ScoredFrames
from vision_mem.types import Frame, Prompt

LIMITS = MemoryLimits(slots=6, pointers=15, prompts=2)
RECENT = RecentFrames()


def entry(index):
    return MemoryEntry(index, {"map": torch.full((4, 4), float(index))}, torch.full((3,), index))


def record(index, prompted=False):
    return FrameRecord(index, 0.9, 5.0, None, 10, prompted)


def filled(policy, indices):
    memory = MaskMemory(policy, LIMITS).write_prompt(entry(0), record(0, prompted=True))
    for t in indices:
        memory, _ = memory.write(entry(t), record(t))
    return memory


def held(memory):
    recents = [one.entry.index for one in memory.recents]
    return recents, [pointer.index for pointer in memory.pointers]


@pytest.mark.parametrize(
    ("window", "recents", "pointers"),
    [(None, 6, 15), (16, 6, 15), (14, 6, 15), (13, 6, 14), (8, 6, 9), (4, 5, 5), (1, 2, 2)],
)
def test_a_window_keeps_the_newest_and_as_many_before_it(window, recents, pointers):
    memory = filled(replace(RECENT, window=window), range(1, 40))
    assert held(memory) == (list(range(40 - recents, 40)), list(range(40 - pointers, 40)))


def test_a_window_counts_what_was_remembered_so_that_a_gap_erases_nothing():
    scored = ScoredFrames(window=4)
    memory = filled(scored, [*range(1, 10), 13, 14])
    assert held(memory) == ([7, 8, 9, 13, 14], [7, 8, 9, 13, 14])
    assert [e.index for e, _ in memory.read(15).recents] == [7, 8, 9, 13, 14]


def test_the_first_prompt_can_be_pinned():
    for pin, kept in ((False, [20, 30]), (True, [0, 30])):
        memory = filled(replace(RECENT, pin_first_prompt=pin), range(1, 10))
        for t in (20, 30):
            memory = memory.write_prompt(entry(t), record(t, prompted=True))
        assert [one.entry.index for one in memory.prompts] == kept


def test_without_a_frame_and_thinned_out():
    memory = filled(RECENT, range(1, 10))
    assert held(memory.without(9)) == (list(range(4, 9)), list(range(1, 9)))
    assert not memory.without(0).prompts
    sizes = []
    while memory is not None:
        sizes.append(len(memory.recents))
        last, memory = memory, memory.thinned()
    assert sizes == [6, 5, 4, 3, 2, 1]
    assert [one.entry.index for one in last.prompts] == [0] and held(last)[0] == [9]


def test_windows_are_checked():
    with pytest.raises(InputError, match="window is 0"):
        ScoredFrames(window=0)


def test_a_withheld_frame_leaves_memory_as_it_was_while_time_goes_on():
    segmenter = FakeSegmenter()
    engine = Engine(segmenter, TrackingConfig())
    features = segmenter.encode_image(red_square(0))
    born = engine.apply_prompt(features, Prompt(box=(10, 10, 40, 40)), [], 1, None)
    one = engine.remember(features, {1: born})[1].after
    drafts = engine.track(features, [one])
    kept = engine.remember(features, drafts, {1: "it is covered"})[1]
    assert kept.after.memory is one.memory and kept.after.age == 1
    assert kept.diary["memory"] == {"kept": False, "why": "it is covered"}
    assert held(engine.remember(features, drafts)[1].after.memory) == ([1], [1])
    waited = one.skipped(max_coast=2).skipped(2).skipped(2)
    assert waited.age == 3 and waited.missing == 3
    assert one.choice.stable and waited.choice.stable == 0  # the filter means nothing any more


def red_square(t):
    image = np.full((60, 80, 3), 110, np.uint8)
    image[10:40, 10:40] = (200, 40, 40)
    return Frame(t, t / 10, image)
