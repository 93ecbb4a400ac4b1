"""How frames reach SAM 2, and what the adapter refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vision_mem.errors import InputError
from vision_mem.models import load_segmenter
from vision_mem.models.segmenters.protocol import MemoryEntry, MemoryRead
from vision_mem.models.segmenters.sam2.segmenter import square_picture
from vision_mem.types import Frame, Prompt

SIDE = 64


@pytest.fixture(scope="module")
def segmenter():
    torch.set_num_threads(1)
    return load_segmenter(f"random:sam2.1_hiera_t@{SIDE}", device="cpu")


def frame(height=90, width=120):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(0, 0.0, image)


def test_pillow_resize_is_the_one_of_sam2s_folder_loader(segmenter, tmp_path):
    from sam2.utils.misc import _load_img_as_tensor

    given = frame()
    Image.fromarray(given.image).save(tmp_path / "0.png")
    theirs, height, width = _load_img_as_tensor(tmp_path / "0.png", SIDE)
    square = square_picture(given, SIDE, segmenter.resize)
    ours = torch.from_numpy(square).permute(2, 0, 1).float() / 255.0
    assert (height, width) == given.size
    assert torch.equal(ours, theirs.float())


def test_decord_resize_takes_the_decoders_image(segmenter, monkeypatch):
    monkeypatch.setattr(segmenter, "resize", "decord")
    with pytest.raises(InputError, match="has none; open the source with it and that size"):
        segmenter.encode_image(frame())
    small = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert not square_picture(Frame(0, 0.0, frame().image, small), SIDE, "decord").any()
    wrong = Frame(0, 0.0, frame().image, small[:-1])
    with pytest.raises(InputError, match=r"one of shape \(63, 64, 3\)"):
        segmenter.encode_image(wrong)


@pytest.mark.parametrize("size", [(90, 120), (30, 40), (SIDE, SIDE)])
def test_cv2_resize(size):
    assert square_picture(frame(*size), SIDE, "cv2").shape == (SIDE, SIDE, 3)


def test_unequal_memories_come_back_in_the_order_asked_for(segmenter):
    features = segmenter.encode_image(frame())
    made = segmenter.decode_prompt(features, Prompt(box=(10, 10, 60, 60)))
    grid = segmenter.to_grid(made.logits, features)
    tensors = segmenter.encode_memory(features, grid, made.object_logit, from_prompt=True)[0]
    prompt = MemoryEntry(0, tensors, made.pointers[0, 0])
    reads = [
        MemoryRead([prompt], [(prompt, 7 - 1)] * extra, [(prompt.pointer, 3)], 3)
        for extra in (0, 1, 0, 2, 1)
    ]
    together = segmenter.decode(features, reads)
    for n, read in enumerate(reads):
        alone = segmenter.decode(features, [read])
        assert float((alone.logits[0] - together.logits[n]).abs().max()) < 1e-3
    assert float((together.logits[0] - together.logits[1]).abs().max()) > 1e-3


BOXES = [Prompt(box=box) for box in ((10, 10, 60, 60), (30, 20, 110, 80), (5, 40, 50, 85))]


def same(alone, together, row):
    for name in ("logits", "iou", "object_logit", "pointers"):
        one, many = getattr(alone, name)[0], getattr(together, name)[row]
        assert one.shape == many.shape
        assert float((one - many).abs().max()) < 1e-3


def test_boxes_together_equal_boxes_one_by_one(segmenter):
    features = segmenter.encode_image(frame())
    together = segmenter.decode_boxes(features, BOXES)
    for row, prompt in enumerate(BOXES):
        same(segmenter.decode_prompt(features, prompt), together, row)
    assert float((together.logits[0] - together.logits[1]).abs().max()) > 1e-3


def test_corrections_together_equal_corrections_one_by_one(segmenter):
    """Memories of two shapes, and the logits that tracking gave."""
    features = segmenter.encode_image(frame())
    made = segmenter.decode_prompt(features, BOXES[0])
    grid = segmenter.to_grid(made.logits, features)
    tensors = segmenter.encode_memory(features, grid, made.object_logit, from_prompt=True)[0]
    entry = MemoryEntry(0, tensors, made.pointers[0, 0])
    reads = [
        MemoryRead([entry], [(entry, 6)] * extra, [(entry.pointer, 3)], 3) for extra in (0, 1, 0)
    ]
    before = segmenter.decode(features, reads).logits[:, :1]
    together = segmenter.decode_boxes(features, BOXES, reads=reads, previous=before)
    for row, prompt in enumerate(BOXES):
        alone = segmenter.decode_prompt(
            features, prompt, read=reads[row], previous_logits=before[row : row + 1]
        )
        same(alone, together, row)


@pytest.mark.parametrize(
    "odd", [Prompt(mask=np.ones((90, 120), bool)), Prompt(points=[(20, 20)], labels=[1])]
)
def test_only_boxes_go_together(segmenter, odd):
    with pytest.raises(InputError, match="prompt the others one by one"):
        segmenter.decode_boxes(segmenter.encode_image(frame()), [BOXES[0], odd])


def test_thresholds_decide_absence(segmenter):
    features = segmenter.encode_image(frame())
    prompt = Prompt(box=(10, 10, 60, 60))
    high = segmenter.decode_prompt(features, prompt, appear_threshold=1e6)
    low = segmenter.decode_prompt(features, prompt, appear_threshold=-1e6)
    assert (high.logits == -1024).all() and (low.logits > -1024).all()
    grid = segmenter.to_grid(low.logits, features)
    marked, plain = (
        segmenter.encode_memory(
            features, grid, low.object_logit, from_prompt=False, no_object_threshold=threshold
        )[0]["map"]
        for threshold in (1e6, -1e6)
    )
    assert not torch.equal(marked, plain)
