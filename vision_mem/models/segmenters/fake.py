"""A tiny segmenter without weights: follows colours. For tests, and to try pipelines out.

It is deterministic, runs thousands of frames a second, and uses each seam as a real network
does: what it finds depends on what it is given to read, so a memory that is kept or restored
wrongly shows in its masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from vision_mem.models.segmenters.protocol import (
    Candidates,
    ImageFeatures,
    MemoryRead,
    SegmenterTraits,
)
from vision_mem.types import Frame, Prompt

LOW, GRID = 32, 128
_REACH = (0.10, 0.16, 0.24)  # colour distance, of 1, that still belongs: one for each candidate
_STEEPNESS = 60.0
_ABSENT = -1024.0


class FakeSegmenter:
    """Follows regions of like colour near where they were.

    Args:
        model_id: what snapshots record.
    """

    def __init__(self, model_id: str = "fake") -> None:
        self.traits = SegmenterTraits(model_id=model_id, image_size=GRID, max_prompts=4)
        self.device = torch.device("cpu")

    def encode_image(self, frame: Frame) -> ImageFeatures:
        small = cv2.resize(frame.image, (LOW, LOW), interpolation=cv2.INTER_AREA)
        colours = torch.from_numpy(small.astype(np.float32) / 255.0).permute(2, 0, 1)
        return ImageFeatures(frame.size, (GRID, GRID), colours)

    def decode_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        *,
        read: MemoryRead | None = None,
        previous_logits: torch.Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        height, width = features.video_size
        colours: torch.Tensor = features.payload
        if prompt.mask is not None:
            on = torch.from_numpy(prompt.mask.astype(np.float32))[None, None]
            logits = F.interpolate(on, size=(LOW, LOW), mode="area") * 20.0 - 10.0
            return self._candidates(logits, colours, appear_threshold)
        area = torch.ones(LOW, LOW, dtype=torch.bool)
        if prompt.box is not None:
            scale = np.array([LOW / width, LOW / height] * 2)
            x1, y1, x2, y2 = np.round(prompt.box * scale).astype(int)
            area = torch.zeros(LOW, LOW, dtype=torch.bool)
            area[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
        logits = torch.where(area, 5.0, -10.0)
        if prompt.points is not None and prompt.labels is not None:
            places = (prompt.points * np.array([LOW / width, LOW / height])).astype(int)
            for (x, y), label in zip(places, prompt.labels, strict=True):
                distance = (colours - colours[:, y, x, None, None]).norm(dim=0)
                alike = (_REACH[1] - distance) * _STEEPNESS
                logits = torch.minimum(logits, alike if label else -alike)
        if previous_logits is not None:
            logits = logits + 0.1 * previous_logits[0, 0].clamp(-5.0, 5.0)
        if read is not None:
            logits = logits + 0.1 * self._expected(read).clamp(-5.0, 5.0)
        return self._candidates(logits[None, None], colours, appear_threshold)

    def decode(
        self,
        features: ImageFeatures,
        reads: Sequence[MemoryRead],
        *,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        colours: torch.Tensor = features.payload
        made = []
        for read in reads:
            known = [pointer for pointer, _ in read.pointers]
            wanted = torch.stack(known).mean(dim=0) if known else torch.zeros(3)
            distance = (colours - wanted[:, None, None]).norm(dim=0)
            expected = self._expected(read)
            logits = torch.stack([(reach - distance) * _STEEPNESS for reach in _REACH])
            logits = torch.minimum(logits, expected)
            made.append(self._candidates(logits[None], colours, appear_threshold))
        return Candidates.joined(made)

    def to_grid(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        return F.interpolate(logits, size=features.grid_size, mode="bilinear")

    def to_video(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        return F.interpolate(logits, size=features.video_size, mode="bilinear")

    def encode_memory(
        self,
        features: ImageFeatures,
        grid_logits: torch.Tensor,
        object_logit: torch.Tensor,
        *,
        from_prompt: bool,
        no_object_threshold: float = 0.0,
        pointers: torch.Tensor | None = None,
    ) -> list[dict[str, torch.Tensor]]:
        small = F.interpolate(grid_logits, size=(LOW, LOW), mode="area").clamp(-8.0, 8.0)
        if from_prompt:
            small = torch.where(small > 0, 8.0, -8.0)
        seen = (object_logit > no_object_threshold).to(small.dtype)
        maps = (small * seen[:, None, None, None]).to(torch.bfloat16)
        return [{"map": one.clone()} for one in maps.split(1)]

    def _expected(self, read: MemoryRead) -> torch.Tensor:
        """Where memory leaves room for the object: ``(h, w)`` logits, wide around the newest."""
        entries = [*read.prompts, *(entry for entry, _ in read.recents)]
        newest = max(entries, key=lambda entry: entry.index)
        weights = torch.linspace(0.5, 1.0, len(entries))
        maps = [w * e.tensors["map"].float() for w, e in zip(weights, entries, strict=True)]
        together = torch.cat(maps).mean(dim=0, keepdim=True) + newest.tensors["map"].float()
        return F.max_pool2d(together, kernel_size=9, stride=1, padding=4)[0, 0]

    def _candidates(
        self, logits: torch.Tensor, colours: torch.Tensor, appear_threshold: float
    ) -> Candidates:
        on = (logits[0] > 0).float()  # (M, h, w)
        area = on.sum(dim=(-2, -1))
        pointers = (on[:, None] * colours).sum(dim=(-2, -1)) / area.clamp(min=1.0)[:, None]
        sure = (logits[0].clamp(0.0, 5.0) * on).sum(dim=(-2, -1)) / area.clamp(min=1.0) / 5.0
        object_logit = torch.where(area.max() > 0, 4.0, -4.0).view(1)
        appears = object_logit > appear_threshold
        logits = torch.where(appears.view(1, 1, 1, 1), logits, _ABSENT)
        iou = (0.3 + 0.65 * sure).unsqueeze(0)
        return Candidates(logits.float(), iou, object_logit, pointers.unsqueeze(0))
