"""What a bounded, streaming memory must not change: results, other objects, a continued run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from parity_inputs import BOX, Perturbation, config, frame, segmenter

from vision_mem.models.segmenters.protocol import MemoryRead
from vision_mem.tracking import TrackingSession, engine
from vision_mem.tracking.memory_bank import MaskMemory, Pointer, ScoredEntry
from vision_mem.tracking.policies.protocol import FrameRecord
from vision_mem.types import Prompt

BOXES = [BOX, (60, 60, 100, 100)]


@dataclass(frozen=True)
class KeepEverything(MaskMemory):
    """A literal reading of the reference's scan over everything that was ever stored."""

    def write(self, entry, record, *, anchor=False):
        new = ScoredEntry(entry, record)
        pointers = (*self.pointers, Pointer(entry.index, entry.pointer, True))
        return replace(self, recents=(*self.recents, new), pointers=pointers), None

    def read(self, index, *, hint=None, num_frames_hint=None):
        by_index = {held.entry.index: held for held in self.recents}
        found: list[int] = []
        for i in range(index - 1, 1, -1):
            record: FrameRecord = by_index[i].record
            overlap = record.motion_iou
            if record.iou > 0.5 and record.object_logit > 0 and (overlap is None or overlap > 0):
                found.insert(0, i)
            if len(found) == 15:
                break
        if index - 1 not in found:
            found.append(index - 1)
        chosen = [i for i in found[-6:] if i in by_index]
        prompt = self.prompts[0].entry
        pointers = [(prompt.pointer, index)]
        for back in range(1, 16):
            if index - back in by_index:
                pointers.append((by_index[index - back].entry.pointer, back))
        return MemoryRead(
            prompts=[prompt],
            recents=[(by_index[i].entry, 7 - len(chosen) + n) for n, i in enumerate(chosen)],
            pointers=pointers,
            index=index,
        )


def run(frames, boxes=(BOX,), preset="samurai-official", first=0, objects=None):
    """Logits by frame and object; ``objects`` says whose tables of scores are used."""
    seg = segmenter()
    session = TrackingSession(seg, config(preset))
    rows, sizes = [], []
    numbers = objects or range(len(boxes))
    with Perturbation(seg.network) as change:
        for t in range(first, first + frames):
            change.at(t - first + 7 * numbers[0])
            prompts = [Prompt(object_id=n + 1, box=boxes[n]) for n in range(len(boxes))]
            session.step(frame(t), prompts if t == first else ())
            rows.append([o.logits.clone() for o in session._outcomes.values()])
            sizes.append(session.usage())
    return rows, sizes


@pytest.fixture(scope="module")
def bounded():
    return run(40)


def test_bounded_memory_equals_one_that_keeps_everything(bounded, monkeypatch):
    monkeypatch.setattr(engine, "MaskMemory", KeepEverything)
    everything, sizes = run(40)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(bounded[0], everything, strict=True))
    assert sizes[-1].bytes > 2 * bounded[1][-1].bytes


def test_bytes_held_are_constant_from_frame_22_on(bounded):
    sizes = [usage.bytes for usage in bounded[1]]
    # A frame is dropped from the seven held, or not, as its scores say: never more than these.
    assert len({usage.bytes for usage in bounded[1][22:]}) <= 2
    assert max(sizes) == max(sizes[:22])


def test_two_objects_equal_two_single_runs():
    both, _ = run(10, BOXES)
    for n, box in enumerate(BOXES):
        alone, _ = run(10, [box], objects=[n])
        assert all(torch.equal(a[n], b[0]) for a, b in zip(both, alone, strict=True))


def test_prompt_at_frame_seven_equals_the_clip_cut_there():
    seg = segmenter()
    cut, _ = run(8, first=7)
    session = TrackingSession(seg, config("samurai-official"))
    with Perturbation(seg.network) as change:
        for t in range(15):
            change.at(t - 7)
            session.step(frame(t), [Prompt(box=BOX)] if t == 7 else ())
            if t >= 7:
                assert torch.equal(session._outcomes[1].logits, cut[t - 7][0])


@pytest.mark.parametrize("preset", ["sam2", "samurai"])
def test_objects_together_flip_no_pixel(preset):
    """SAMURAI's memories grow unequal, so some go together and some alone."""
    seg = segmenter()
    boxes = [*BOXES, (5, 80, 50, 120)]
    rows = {}
    for together in ("off", "on"):
        session = TrackingSession(seg, config(preset, batch_objects=together))
        rows[together] = []
        with Perturbation(seg.network) as change:
            change.same_for_all = True
            for t in range(12):
                change.at(t)
                prompts = [Prompt(box=box) for box in boxes] if t == 0 else ()
                result = session.step(frame(t), prompts)
                logits = torch.cat([o.logits for o in session._outcomes.values()])
                rows[together].append((logits, [o.mask for o in result.objects]))
    for (a, masks_a), (b, masks_b) in zip(rows["off"], rows["on"], strict=True):
        assert float((a - b).abs().max()) <= 1e-3
        assert all(np.array_equal(x, y) for x, y in zip(masks_a, masks_b, strict=True))


CHILD = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from parity_inputs import Perturbation, frame, segmenter
from vision_mem.tracking import TrackingSession
seg = segmenter()
session = TrackingSession.resume(sys.argv[2], seg)
rows = []
with Perturbation(seg.network) as change:
    for t in range(20, 30):
        change.at(t)
        session.step(frame(t))
        rows.append(session._outcomes[1].logits.clone())
torch.save(rows, sys.argv[3])
"""


def test_resumed_in_a_new_process_bit_for_bit(root, tmp_path):
    seg = segmenter()
    session = TrackingSession(seg, config("samurai"))
    rows = []
    with Perturbation(seg.network) as change:
        for t in range(30):
            if t == 20:
                session.snapshot(tmp_path / "at20.safetensors")
            change.at(t)
            session.step(frame(t), [Prompt(box=BOX)] if t == 0 else ())
            rows.append(session._outcomes[1].logits.clone())
    arguments = [root / "tests" / "fixtures", tmp_path / "at20.safetensors", tmp_path / "rows.pt"]
    subprocess.run([sys.executable, "-c", CHILD, *map(str, arguments)], check=True)
    resumed = torch.load(tmp_path / "rows.pt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(rows[20:], resumed, strict=True))
