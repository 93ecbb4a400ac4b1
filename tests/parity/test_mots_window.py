"""The sliding window on SAM 2 itself (random weights): what is read, and what may be dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from parity_inputs import BOX, Perturbation, config, frame, segmenter

from vision_mem.config import load_config
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.tracking import TrackingSession
from vision_mem.types import Detections, Prompt

FRAMES = 24


def logits(window):
    settings = config("sam2")
    policy = replace(settings.policy, window=window)
    session = TrackingSession(segmenter(), replace(settings, policy=policy))
    rows, sizes = [], []
    with Perturbation(segmenter().network) as change:
        for t in range(FRAMES):
            change.at(t)
            session.step(frame(t), [Prompt(object_id=1, box=BOX)] if t == 0 else ())
            rows.append(session._outcomes[1].logits.clone())
            sizes.append(session.usage().bytes)
    return rows, sizes


@pytest.fixture(scope="module")
def unlimited():
    return logits(None)


@pytest.mark.parametrize(("window", "first"), [(16, None), (14, None), (13, 16), (4, 7)])
def test_a_window_of_14_or_more_changes_nothing(unlimited, window, first):
    """Frame 16 is the first that would have read the pointer of frame 1."""
    rows, sizes = logits(window)
    equal = [torch.equal(a, b) for a, b in zip(unlimited[0], rows, strict=True)]
    assert (equal.index(False) if not all(equal) else None) == first
    assert sizes[-1] <= unlimited[1][-1]


def test_small_windows_hold_less(unlimited):
    held = [logits(window)[1][-1] for window in (4, 2)]
    assert held[1] < held[0] < unlimited[1][-1]


def test_a_multi_object_session_on_sam2_saves_and_goes_on(tmp_path):
    """The whole chain on the real network: births, window, snapshot, bit for bit."""
    settings = load_config(MotsConfig, "default", {"tracking.policy.window": 8}, folder="mots")
    session = MotsSession(segmenter(), settings)
    boxes = Detections(np.array([BOX, (60, 60, 100, 100)], np.float32))

    def step(one, t):
        with Perturbation(segmenter().network) as change:
            change.at(t)
            result = one.step(frame(t), boxes if t % 3 == 0 else None)
        return [(o.object_id, o.state, o.mask.tobytes(), o.score) for o in result.tracks]

    for t in range(5):
        step(session, t)
    session.snapshot(tmp_path / "s.safetensors")
    resumed = MotsSession.resume(tmp_path / "s.safetensors", segmenter())
    for t in range(5, 9):
        assert step(session, t) == step(resumed, t)
    assert session.track_ids


def test_births_and_corrections_together_equal_those_one_by_one():
    """Within rounding: which boxes are accepted, and every mask."""
    boxes = Detections(np.array([BOX, (60, 60, 100, 100), (80, 10, 120, 40)], np.float32))
    rows = {}
    for together in ("on", "off"):
        changes = {"tracking.batch_objects": together, "reprompt.cooldown": 0}
        settings = load_config(MotsConfig, "default", changes, folder="mots")
        session = MotsSession(segmenter(), settings)
        rows[together] = []
        with Perturbation(segmenter().network) as change:
            change.same_for_all = True
            for t in range(4):
                change.at(t)
                result = session.step(frame(t), boxes)
                rows[together].append(
                    [(o.object_id, o.state, o.mask.tobytes(), o.detection) for o in result.tracks]
                )
    assert rows["on"] == rows["off"]
    assert len(rows["on"][0]) > 0
