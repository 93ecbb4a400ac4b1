"""Our streaming session beside SAM 2's own video predictor, on the same weights and frames.

The predictor holds the whole clip and everything it ever computed; the session holds one frame
and a bounded memory. They run the same network calls, so results are equal to the bit where the
machine's kernels are; 1e-3 is allowed for machines on which they are not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity_inputs import (
    BOX,
    Perturbation,
    config,
    frame,
    predictor,
    predictor_state,
    segmenter,
)

from vision_mem.tracking import TrackingSession
from vision_mem.types import Prompt

LOGITS = 1e-3
MASK = np.zeros((128, 128), dtype=bool)
MASK[26:57, 14:47] = True
PROMPTS = {
    "box": Prompt(object_id=1, box=BOX),
    "click": Prompt(object_id=1, points=[(30, 40)]),
    "clicks": Prompt(object_id=1, points=[(30, 40), (90, 20), (35, 45)], labels=[1, 0, 1]),
    "box and click": Prompt(object_id=1, box=BOX, points=[(30, 40)], labels=[1]),
    "mask": Prompt(object_id=1, mask=MASK),
}


def give(state, t, prompt):
    """Hand one of our prompts to SAM 2's predictor; returns its logits at the video's size."""
    if prompt.mask is not None:
        _, _, made = predictor().add_new_mask(state, t, prompt.object_id, prompt.mask)
        return made
    points, labels = prompt.points, prompt.labels
    _, _, made = predictor().add_new_points_or_box(
        state, t, prompt.object_id, points=points, labels=labels, box=prompt.box
    )
    return made


def compare(frames, prompts, *, clip=None, **changes):
    """Run both; returns the largest difference of logits after checking every pixel.

    ``prompts`` maps a frame number to prompts: on first use they add, later they correct.
    ``clip`` is the length SAM 2 believes in; from 16 on it makes no difference.
    """
    seg, theirs = segmenter(), predictor()
    session = TrackingSession(seg, config("sam2", **changes))
    ours = []
    with Perturbation(seg.network) as change:
        for t in range(frames):
            change.at(t)
            session.step(frame(t), prompts.get(t, ()))
            ours.append({i: o.logits.clone() for i, o in session._outcomes.items()})
    worst = 0.0
    state = predictor_state(clip or max(frames, 16))
    with Perturbation(theirs) as change:
        change.at(0)
        expected = {}
        for prompt in prompts[0]:
            give(state, 0, prompt)
        t = 0
        while t < frames:
            # Run to the next correction, give it there, and go on behind it, as a user would.
            stop = min([n for n in prompts if n > t], default=frames)
            for index, ids, logits in walk(theirs, state, t, stop, change):
                expected[index] = dict(zip(ids, logits, strict=True))
            if stop < frames:
                change.at(stop)
                run_to(theirs, state, stop)
                for prompt in prompts[stop]:
                    made = give(state, stop, prompt)
                expected[stop] = dict(zip(state["obj_ids"], made, strict=True))
                theirs.propagate_in_video_preflight(state)
            t = stop + 1 if stop < frames else frames
    for t in range(frames):
        for object_id, logits in ours[t].items():
            video = seg.to_video(logits, FakeFeatures)[0]
            difference = float((video - expected[t][object_id]).abs().max())
            assert difference <= LOGITS, f"frame {t}, object {object_id}: {difference}"
            assert torch.equal(video > 0, expected[t][object_id] > 0), f"frame {t}"
            worst = max(worst, difference)
    return worst


class FakeFeatures:
    video_size = (128, 128)


def walk(theirs, state, first, stop, change):
    """Propagate over frames first .. stop - 1."""
    if first >= stop:
        return
    steps = theirs.propagate_in_video(
        state, start_frame_idx=first, max_frame_num_to_track=stop - 1 - first
    )
    for t in range(first, stop):
        if t > 0:
            change.at(t)
        yield next(steps)


def run_to(theirs, state, t):
    for _ in theirs.propagate_in_video(state, start_frame_idx=t, max_frame_num_to_track=0):
        pass


def test_one_object_over_sixty_frames():
    assert compare(60, {0: [PROMPTS["box"]]}) == 0.0


def test_three_objects_over_sixty_frames():
    boxes = [BOX, (60, 60, 100, 100), (5, 80, 50, 120)]
    prompts = [Prompt(object_id=n + 1, box=box) for n, box in enumerate(boxes)]
    assert compare(60, {0: prompts}) == 0.0


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompt_kinds(kind):
    assert compare(8, {0: [PROMPTS[kind]]}) == 0.0


def test_second_click_on_the_first_frame():
    more = Prompt(object_id=1, points=[(30, 40), (60, 60)], labels=[1, 0])
    assert compare(5, {0: [PROMPTS["click"], more]}) == 0.0


@pytest.mark.parametrize("kind", ["click", "clicks", "mask"])
def test_correction_of_a_tracked_frame(kind):
    assert compare(14, {0: [PROMPTS["box"]], 5: [PROMPTS[kind]]}) == 0.0


def test_short_clip_with_known_length():
    assert compare(6, {0: [PROMPTS["box"]]}, clip=6, num_frames_hint=6) == 0.0


def test_short_clip_differs_without_its_length():
    with pytest.raises(AssertionError, match="frame"):
        compare(6, {0: [PROMPTS["box"]]}, clip=6)


@pytest.mark.parametrize("stride", [2, 3])
def test_temporal_stride(stride, monkeypatch):
    for network in (segmenter().network, predictor()):
        monkeypatch.setattr(network, "memory_temporal_stride_for_eval", stride)
    from dataclasses import replace

    monkeypatch.setattr(segmenter(), "traits", replace(segmenter().traits, memory_stride=stride))
    assert compare(20, {0: [PROMPTS["box"]]}) == 0.0


@pytest.mark.parametrize("limit", [-1, 2])
def test_corrections_kept_as_prompts(limit, monkeypatch):
    from dataclasses import replace

    for network in (segmenter().network, predictor()):
        monkeypatch.setattr(network, "max_cond_frames_in_attn", limit)
    monkeypatch.setattr(predictor(), "add_all_frames_to_correct_as_cond", True)
    limits = replace(segmenter().traits, max_prompts=None if limit < 0 else limit)
    monkeypatch.setattr(segmenter(), "traits", limits)
    prompts = {0: [PROMPTS["box"]], 3: [PROMPTS["clicks"]], 5: [PROMPTS["mask"]]}
    worst = compare(16, prompts, **{"corrections_are_prompts": True})
    # SAM 2 reads limited prompts nearest first, we in time order: sums differ in the last digits.
    assert worst == 0.0 if limit < 0 else worst < LOGITS
