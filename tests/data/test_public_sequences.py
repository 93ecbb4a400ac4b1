"""The embedded segmenter on the beginnings of annotated public sequences."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest

from vision_mem.config import load_config
from vision_mem.models import load_segmenter
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Prompt

pytestmark = pytest.mark.data

SEQUENCES = ("otb_crossing", "otb_man", "davis_car-shadow", "davis_libby")
FRAMES = 40
AUC_FLOOR, JACCARD_FLOOR = 0.45, 0.4


@pytest.fixture(scope="module")
def bench(root):
    """``scripts/bench/quality.py``, whose readers are used here."""
    path = root / "scripts" / "bench" / "quality.py"
    spec = importlib.util.spec_from_file_location("bench_quality", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def session():
    config = load_config(TrackingConfig, "samurai", folder="tracking")
    return TrackingSession(load_segmenter("embedded", device="cpu"), config)


@pytest.fixture(params=SEQUENCES)
def clip(request, bench, data):
    folder = next((found for found in data.rglob(request.param) if found.is_dir()), None)
    if folder is None:
        pytest.skip(f"sequence {request.param} not found in {data}")
    (whole,) = bench.read_clips(folder)
    masks = None if whole.masks is None else whole.masks[:FRAMES]
    return replace(whole, images=whole.images[:FRAMES], boxes=whole.boxes[:FRAMES], masks=masks)


def test_follows_a_box(clip, bench, session):
    session.reset()
    boxes, _ = bench.follow(clip, session, Prompt(box=clip.boxes[0]))
    still = np.repeat(clip.boxes[:1], len(boxes), axis=0)
    auc, baseline = (
        bench.success_auc(bench.sequence_iou(some, clip.boxes)) for some in (boxes, still)
    )
    print(f"{clip.name}: AUC {auc:.3f}, nothing moves {baseline:.3f}")
    assert auc > AUC_FLOOR
    assert auc > baseline


@pytest.mark.parametrize("clip", SEQUENCES[2:], indirect=True)  # those that have masks
def test_follows_a_mask(clip, bench, session):
    session.reset()
    _, masks = bench.follow(clip, session, Prompt(mask=clip.masks[0]))
    still = [clip.masks[0]] * len(masks)
    jaccard, baseline = (bench.mean_jaccard(some, clip.masks) for some in (masks, still))
    print(f"{clip.name}: J {jaccard:.3f}, nothing moves {baseline:.3f}")
    assert jaccard > JACCARD_FLOOR
    assert jaccard > baseline
