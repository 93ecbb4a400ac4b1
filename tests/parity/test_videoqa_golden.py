"""The official class on 24 grids without randomness: kept tokens, merges, gate and spread.

The numbers were recorded by running SAVEMem's released class (wuhang03/savemem at commit 3b6beed)
on a CPU in float32. Counts, choices and the hashes of all kept positions are exact; averages and
spreads agree to the digits that were printed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import videoqa_samples as samples

from vision_mem.config import load_config
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.models.vlm.protocol import EncodedGrid, PromptTokens, VideoModelTraits
from vision_mem.types import Frame
from vision_mem.videoqa import GateHistory, VideoMemorySession, VideoQaConfig
from vision_mem.videoqa.compression import unit
from vision_mem.videoqa.retrieval import retrieve

PLACE = Path(__file__).parents[1] / "goldens" / "videoqa" / "official.json"
CASES = {case["name"]: case for case in json.loads(PLACE.read_text())["cases"]}
# 1.10 was recorded with 4 short frames, as on OVO-Bench; its first nine rows without stage 2.
OFFICIAL = replace(
    load_config(VideoQaConfig, "official", ["memory.short_frames=4"], folder="videoqa"), fps=None
)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def settings(case):
    rules = {"enabled": case["retrieval"] is not None, **(case["retrieval"] or {})}
    return replace(
        OFFICIAL,
        memory=replace(OFFICIAL.memory, **case["memory"]),
        retrieval=replace(OFFICIAL.retrieval, **rules),
        salience=replace(OFFICIAL.salience, enabled=case["bank"]),
    )


def test_memory_and_retrieval_equal_the_released_class(case):
    config = settings(case)
    bank = samples.golden_bank() if case["bank"] else None
    memory = samples.remember(samples.golden_clip(), config.memory, bank)
    found = retrieve(
        memory.short,
        (*memory.long, *memory.mid),
        unit(samples.golden_text()),
        config.retrieval,
        carried=case["average_before"],
    )
    assert samples.kept_per_grid(found.entries) == case["kept"]
    assert sum(map(len, found.entries)) == case["total"]
    assert samples.fingerprint(found.entries) == case["hash"]
    assert memory.counts.rewritten == case["rewritten"]
    printed = {"average": found.gate.carried, "spread": found.spread}
    for name, number in case["numbers"].items():
        digits = len(str(number).partition(".")[2])
        assert round(printed[name], digits) == number


class GoldenModel(FakeVideoModel):
    """Gives the golden clip's grids and texts, whatever the frames show."""

    def __init__(self):
        super().__init__()
        self.traits = VideoModelTraits("golden", samples.WIDTH)
        self.clip, self.seen = samples.golden_clip(), []

    def encode_grid(self, frames):
        grid = frames[0].index // 2
        return EncodedGrid.full(self.clip[grid], samples.ROWS, samples.COLS)

    def embed_text(self, text):
        return samples.golden_bank()[["a", "b"].index(text) * 3 :][:3]

    def embed_question(self, question):
        vectors = samples.golden_text()
        return PromptTokens(vectors, torch.arange(len(vectors)) > 5)

    def answer(self, context, question, *, history=(), max_tokens=128):
        self.seen.append(context)
        return None


def test_a_session_with_the_official_preset_equals_the_released_class(case):
    config = settings(case)
    config = replace(config, salience=replace(config.salience, questions=("a", "b")))
    model, history = GoldenModel(), GateHistory(case["average_before"])
    session = VideoMemorySession(model, config, history)
    blank = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    for t in range(2 * samples.GRIDS):
        session.step(Frame(t, float(t), blank))
    answer = session.ask("what?")
    (context,) = model.seen
    assert len(context.tokens) == answer.tokens_read == case["total"]
    kept = dict.fromkeys(range(samples.GRIDS), 0) | {g.index: g.count for g in context.grids}
    assert list(kept.values()) == case["kept"]
    assert answer.scope == ("recent" if case["total"] == 96 else "all")
    # Grids lie two seconds and so four temporal ids apart, and keep their places in the video.
    assert context.positions[0].tolist() == [
        4 * g.index for g in context.grids for _ in range(g.count)
    ]
    assert context.text_start == 1 + 4 * (samples.GRIDS - 1)
    if "average" in case["numbers"]:
        assert history.average == pytest.approx(case["numbers"]["average"], abs=5e-6)
