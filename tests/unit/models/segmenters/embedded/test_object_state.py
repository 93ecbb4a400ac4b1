"""What the embedded segmenter knows of one object, and which memories have a say in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.object_state import ObjectState, remembered
from vision_mem.models.segmenters.embedded.windows import Window
from vision_mem.models.segmenters.protocol import MemoryEntry, MemoryRead

STATE = ObjectState(
    Window(-3, 7, 64), np.array([20.0, 10.0]), 150.0, 2, 0.75, np.array([1.0, 2, 21, 12]), 0.5
)


def test_array_and_back():
    values = STATE.to_array()
    assert values.shape == (13,) and values.dtype == np.float32
    back = ObjectState.from_array(values)
    np.testing.assert_array_equal(back.to_array(), values)
    assert back.window == STATE.window and back.missing == 2


def test_another_video_size():
    there = STATE.at(0.25)  # twice the pixels a side
    assert there.window == Window(-6, 14, 128) and there.area == 600
    np.testing.assert_allclose(there.size, [40, 20])
    np.testing.assert_allclose(there.box, [2, 4, 42, 24])
    assert STATE.at(0.5).window == STATE.window


def test_grows_quickly_and_shrinks_slowly():
    config = EmbeddedConfig(grow=0.4, shrink=0.1, area_rate=0.5)
    mask = np.zeros((40, 40), bool)
    mask[10:15, 2:22] = True  # 40 x 10 video pixels after 20 x 10
    after = STATE.seen(mask, config, from_prompt=False)
    np.testing.assert_allclose(after.size, [20 * 0.7 + 40 * 0.3, 10])
    assert after.area == pytest.approx(0.5 * 150 + 0.5 * 400) and after.missing == 0
    np.testing.assert_allclose(after.box, [4, 20, 44, 30])
    mask[:, 6:] = False  # 8 x 10
    slower = STATE.seen(mask, config, from_prompt=False)
    np.testing.assert_allclose(slower.size, [20 - 12 * 0.075, 10])


def test_a_users_mask_is_believed_at_once():
    mask = np.zeros((40, 40), bool)
    mask[10:15, 2:4] = True
    after = STATE.seen(mask, EmbeddedConfig(), from_prompt=True)
    np.testing.assert_allclose(after.size, [4, 10])
    assert after.area == 40
    assert after.lost().missing == 1


def test_shares_of_the_vote():
    entries = [
        MemoryEntry(
            n,
            {
                "tokens": torch.zeros(1),
                "mask": torch.zeros(1),
                "seen": torch.tensor([float(n != 2)]),
            },
            torch.zeros(13),
        )
        for n in range(4)
    ]
    config = EmbeddedConfig(prompt_share=0.6)
    read = MemoryRead(entries[:1], [(e, n) for n, e in enumerate(entries[1:])], [], 4)
    assert [m.share for m in remembered(read, config)] == pytest.approx([0.6, 0.2, 0.2])
    alone = MemoryRead(entries[:2], [(entries[2], 1)], [], 4)
    assert [m.share for m in remembered(alone, config)] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("among", "voting"), [(1, 5), (4, 5), (5, 3), (64, 3)])
def test_each_of_many_asks_its_newest_memories(among, voting):
    tensors = {"tokens": torch.zeros(4, 152), "mask": torch.zeros(4), "seen": torch.ones(1)}
    entries = [
        MemoryEntry(n, {**tensors, "mask": torch.full((4,), n / 8)}, torch.zeros(0))
        for n in range(5)
    ]
    read = MemoryRead(entries[:1], [(e, 1) for e in entries[1:]], [], 5, among=among)
    found = remembered(read, EmbeddedConfig())
    assert len(found) == voting and found[-1].mask[0] == 0.5
    assert sum(one.share for one in found) == pytest.approx(1)
