"""A segmenter that plays a script: which mask and score each object has on each frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from vision_mem.models.segmenters.protocol import Candidates, ImageFeatures, SegmenterTraits
from vision_mem.types import Detections, Frame

SIZE = (48, 96)
SURE = 0.9


def frame(t: int) -> Frame:
    return Frame(t, t / 10, np.full((*SIZE, 3), 7, np.uint8))


def detections(*rows) -> Detections:
    """Rows of ``(box, score, class)``."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores), labels)


@dataclass
class Script:
    """What an object does.

    Attributes:
        birth: the box whose prompt it answers.
        place: its box on each frame; where there is none, the latest one before; () for no mask.
        score: its estimated IoU likewise; 0.9 at first.
        corrected: its box when it is prompted again on a frame.
    """

    birth: tuple
    place: dict = field(default_factory=dict)
    score: dict = field(default_factory=dict)
    corrected: dict = field(default_factory=dict)

    def at(self, t):
        places = {-1: self.birth, **self.place}
        scores = {-1: SURE, **self.score}
        return places[max(k for k in places if k <= t)], scores[max(k for k in scores if k <= t)]


class ScriptedSegmenter:
    """Objects are told apart by the box of their first prompt; memory holds their number."""

    def __init__(self, *scripts: Script) -> None:
        self.traits = SegmenterTraits(model_id="script", image_size=None)
        self.device = torch.device("cpu")
        self.scripts = scripts
        self.log: list[tuple] = []

    def encode_image(self, given):
        return ImageFeatures(given.size, given.size, given.index)

    def decode_prompt(self, features, prompt, *, read=None, previous_logits=None, **_):
        t, box = features.payload, tuple(prompt.box.tolist())
        if read is None:
            self.log.append((t, "prompt", box))
            who = [n for n, one in enumerate(self.scripts) if one.birth == box]
            return self.answer(who[0] if who else -1, box, SURE)
        who = int(read.prompts[0].pointer[0])
        self.log.append((t, "again", who, box))
        assert previous_logits is not None, "the original shows the mask of the frame too"
        return self.answer(who, self.scripts[who].corrected.get(t, box), SURE)

    def decode(self, features, reads, **_):
        made = []
        for read in reads:
            who = int(read.prompts[0].pointer[0])
            self.log.append((features.payload, "track", who))
            box, score = ((), SURE) if who < 0 else self.scripts[who].at(features.payload)
            made.append(self.answer(who, box, score))
        names = ("logits", "iou", "object_logit", "pointers")
        return Candidates(*(torch.cat([getattr(one, name) for one in made]) for name in names))

    def answer(self, who, box, score):
        logits = torch.full((1, 1, *SIZE), -5.0)
        if box:
            x1, y1, x2, y2 = (int(v) for v in box)
            logits[:, :, y1:y2, x1:x2] = 5.0
        return Candidates(
            logits, torch.tensor([[score]]), torch.tensor([4.0]), torch.tensor([[[float(who)]]])
        )

    def to_grid(self, logits, features):
        return logits

    def to_video(self, logits, features):
        return logits

    def encode_memory(self, features, grid_logits, object_logit, *, pointers=None, **_):
        return [{"map": one.clone()} for one in (grid_logits > 0).split(1)]
