"""Memory and choice rules as tables; no network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vision_mem.tracking import kalman
from vision_mem.tracking.mask_selection import (
    CandidateScores,
    ChoiceState,
    MaskSelectionConfig,
    choose_candidate,
    choose_prompted,
)
from vision_mem.tracking.policies.distractor import DistractorFrames
from vision_mem.tracking.policies.protocol import (
    AnchorState,
    FrameRecord,
    HeldFrames,
    MemoryLimits,
)
from vision_mem.tracking.policies.recent import PromptsOnly, RecentFrames
from vision_mem.tracking.policies.scored import ScoredFrames

SCORED = ScoredFrames()
OURS = MaskSelectionConfig()
OFFICIAL = MaskSelectionConfig(motion_update_on_empty=True, motion_on_prompt="clicks")
LIMITS = MemoryLimits(slots=6, pointers=15, prompts=4)
BOX = (10, 10, 30, 40)


def record(index, iou=0.9, logit=5.0, overlap=None, area=50, prompted=False):
    return FrameRecord(index, iou, logit, overlap, area, prompted)


@pytest.mark.parametrize(
    ("given", "policy", "why"),
    [
        (record(2), SCORED, None),
        (record(1), SCORED, None),
        (record(1), ScoredFrames(first_memory_index=2), "before the first"),
        (record(5, iou=0.5), SCORED, "estimated IoU 0.500"),
        (record(5, iou=np.nextafter(np.float32(0.5), np.float32(1))), SCORED, None),
        (record(5, logit=0.0), SCORED, "object logit"),
        (record(5, overlap=0.0), SCORED, "motion IoU"),
        (record(5, overlap=0.0), replace(SCORED, memory_motion_gate=False), None),
        (record(5, iou=0.1, logit=-9, prompted=True), SCORED, None),
    ],
)
def test_refusal(given, policy, why):
    found = policy.admit(given)
    assert found is None if why is None else why in found


def streamed(policy, records, limits=LIMITS):
    held = []
    for one in records:
        held.append(one)
        held = [held[n] for n in policy.keep(held, limits)[-limits.slots :]]
    return held


def read_slots(policy, limits, held, index, anchors=0):
    """What is read of tracked frames, beside so many prompts."""
    prompts = [record(0, prompted=True)] * anchors
    return policy.read(HeldFrames(prompts, held), index, limits).recents


def test_scored_slots_skip_bad_frames_but_never_the_newest():
    bad = {4, 5, 9}
    held = streamed(SCORED, [record(i, iou=0.2 if i in bad else 0.9) for i in range(1, 10)])
    assert [one.index for one in held] == [3, 6, 7, 8, 9] or [one.index for one in held] == [
        2,
        3,
        6,
        7,
        8,
        9,
    ]
    reads = read_slots(SCORED, LIMITS, held, 10)
    assert [t_pos for _, t_pos in reads] == [1, 2, 3, 4, 5, 6]
    held = streamed(SCORED, [*held, record(10)])
    assert [one.index for one in held] == [2, 3, 6, 7, 8, 10]


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_recent_slots_equal_a_literal_reading(stride):
    policy = RecentFrames()
    limits = replace(LIMITS, stride=stride)
    held = []
    for t in range(1, 40):
        reads = [(held[n].index, t_pos) for n, t_pos in read_slots(policy, limits, held, t)]
        expected = []
        for t_pos in range(1, 7):
            back = 7 - t_pos
            index = t - 1 if back == 1 else ((t - 2) // stride) * stride - (back - 2) * stride
            if 1 <= index < t:
                expected.append((index, t_pos))
        assert reads == expected, t
        held = streamed(policy, [*held, record(t)], limits)
        assert len(held) <= 6


def test_prompt_memory_keeps_nothing():
    policy = PromptsOnly()
    assert streamed(policy, [record(1), record(2)]) == []


def test_distractor_slots_are_the_newest_and_seen_multiples_of_five():
    policy = DistractorFrames()
    frames = [record(i, area=0 if i in (10, 15) else 9) for i in range(1, 33)]
    held = streamed(policy, frames)
    assert [one.index for one in held] == [5, 20, 25, 30, 32]
    assert [t_pos for _, t_pos in read_slots(policy, LIMITS, held, 33, anchors=1)] == [
        2,
        3,
        4,
        5,
        6,
    ]
    reads = read_slots(policy, LIMITS, held, 33, anchors=4)
    assert [(held[n].index, t_pos) for n, t_pos in reads] == [(25, 4), (30, 5), (32, 6)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record(20, iou=0.81, area=100), True),
        (record(20, iou=0.8, area=100), False),
        (record(20, area=121), False),
        (record(20, area=80), True),
        (record(20, area=0), False),
        (record(15, area=100), False),  # the last one is 5 frames old
        (record(16, area=100), True),
        (record(400, area=100), False),  # no area seen for 300 frames
    ],
)
def test_anchor_conditions(given, expected):
    policy = DistractorFrames()
    state = AnchorState(tuple((i, 100) for i in range(4, 14)), last=10)
    assert policy.anchor(given, state, lambda: [0.9, 0.7]) is expected
    assert not policy.anchor(given, state, lambda: [0.9, 0.71])


def test_anchor_state_is_bounded_and_reads_leave_the_previous_frame_out():
    state = AnchorState()
    for i in range(50):
        state = state.after(record(i, area=i % 3), anchored=i == 40)
    assert len(state.areas) == 10 and state.last == 40
    policy = DistractorFrames()
    held = HeldFrames(anchors=[record(i) for i in (6, 12, 18, 30)])
    assert policy.read(held, 31, LIMITS).anchors == [0, 1, 2]
    assert policy.read(held, 32, LIMITS).anchors == [1, 2, 3]


def scores(ious, boxes=None, areas=None, logit=3.0):
    boxes = [BOX] * len(ious) if boxes is None else boxes
    boxes = np.array(boxes, dtype=np.float64)
    areas = (boxes.any(axis=1) * 100) if areas is None else np.array(areas)
    return CandidateScores(np.array(ious, np.float32), logit, boxes, areas)


def warmed(policy, frames=15):
    state = ChoiceState()
    for _ in range(frames):
        state = choose_candidate(policy, state, scores([0.9, 0.5, 0.4])).after
    return state


def test_states_follow_the_counter():
    state, seen = ChoiceState(), []
    for _ in range(18):
        choice = choose_candidate(OURS, state, scores([0.4, 0.9, 0.5]))
        seen.append(choice.state)
        state = choice.after
    assert seen == ["A", *"B" * 14, *"C" * 3] and state.stable == 15


@pytest.mark.parametrize(("frames", "passes"), [(5, False), (15, True)])
def test_equal_to_the_threshold_fails_warming_up_and_passes_when_steady(frames, passes):
    state = warmed(OURS, frames)
    at = float(np.float32(0.3))
    after = choose_candidate(OURS, state, scores([at, 0.1, 0.1])).after
    assert (after.stable > 0) is passes
    above = float(np.nextafter(np.float32(0.3), np.float32(1)))
    assert choose_candidate(OURS, state, scores([above, 0.1, 0.1])).after.stable > 0


def test_motion_overrules_a_slightly_better_estimate():
    far = (70, 70, 90, 95)
    choice = choose_candidate(OURS, warmed(OURS), scores([0.80, 0.78, 0.2], [far, BOX, far]))
    assert choice.chosen == 1 and choice.motion_iou > 0.9
    plain = MaskSelectionConfig(choice="iou")
    assert choose_candidate(plain, ChoiceState(), scores([0.80, 0.78, 0.2])).chosen == 0


def test_empty_masks_coast_or_count_as_a_box_at_the_origin():
    none = scores([0.9, 0.8, 0.7], [(0, 0, 0, 0)] * 3)
    ours = choose_candidate(OURS, warmed(OURS), none).after
    official = choose_candidate(OFFICIAL, warmed(OFFICIAL), none).after
    assert ours.coast == 1 and ours.stable == 15
    assert ours.motion.mean[0] == pytest.approx(20, abs=0.1)
    assert official.motion.mean[0] < 15
    for _ in range(30):
        ours = choose_candidate(OURS, ours, none).after
    assert ours.stable == 0 and not ours.steady
    assert choose_candidate(OURS, ours, none).after.stable == 0
    back = choose_candidate(OURS, ours, scores([0.9, 0.1, 0.1]))
    assert back.state == "A" and back.after.steady


def test_prompts_and_the_filter():
    one, three = scores([0.9]), scores([0.2, 0.9, 0.3])
    assert choose_prompted(OURS, ChoiceState(), one).after.stable == 1
    assert choose_prompted(OFFICIAL, ChoiceState(), one).after.motion is None
    clicked = choose_prompted(OFFICIAL, ChoiceState(), three)
    assert clicked.chosen == 1 and clicked.state == "A" and clicked.after.stable == 1
    moved = ChoiceState(kalman.start((50, 50, 60, 60)), stable=15)
    corrected = choose_prompted(OURS, moved, one).after
    assert corrected.stable == 1 and corrected.motion.box[0] == 10
    nothing = scores([0.9], [(0, 0, 0, 0)])
    assert choose_prompted(OURS, moved, nothing).after is moved
