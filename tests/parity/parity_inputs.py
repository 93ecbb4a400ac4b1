"""Inputs of the recorded runs, rebuilt from their description (tests/goldens/samurai).

The numbers were made once with the reference codes: SAMURAI at 76ba195, SAM 2 at 2b90b9f, torch
2.13 on the CPU in fp32 with one thread. Hole filling was off in those runs.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vision_mem.config import load_config
from vision_mem.models import load_segmenter
from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter
from vision_mem.tracking import TrackingConfig
from vision_mem.types import Frame

GOLDENS = Path(__file__).parents[1] / "goldens" / "samurai"
SIDE = 128
BOX = (14.0, 26.0, 46.0, 56.0)


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / name) as stored:
        return {key: stored[key] for key in stored.files}


def image(t: int) -> np.ndarray:
    """A disc that moves over a moving texture, 128 x 128 RGB."""
    y, x, c = np.meshgrid(np.arange(SIDE), np.arange(SIDE), np.arange(3), indexing="ij")
    texture = x * (3 + c) + y * (5 - c) + 2 * t * (c + 1)
    texture = (texture + 40 * ((x // 8 + y // 8) % 2) + (x * y) // 64) % 256
    dx, dy = 30 + (3 * t) // 2, 40 + t
    disc = np.clip(200 - 60 * c + 3 * ((x - dx) + 2 * (y - dy)), 0, 255)
    return np.where((x - dx) ** 2 + (y - dy) ** 2 <= 225, disc, texture).astype(np.uint8)


def frame(t: int) -> Frame:
    return Frame(index=t, time_s=t / 30.0, image=image(t))


def config(preset: str, **changes: Any) -> TrackingConfig:
    settings = {"fill_hole_area": 0, "batch_objects": "off", **changes}
    return load_config(TrackingConfig, preset, settings, folder="tracking")


@lru_cache(maxsize=1)
def segmenter() -> Sam2Segmenter:
    torch.set_num_threads(1)
    loaded = load_segmenter("random:sam2.1_hiera_t@128", device="cpu")
    assert isinstance(loaded, Sam2Segmenter)
    return loaded


class Perturbation:
    """Replaces what the mask decoder predicts, so that all branches of the policies are taken.

    Random weights alone never give useful masks or scores. Call n on frame t uses the tables of
    frame t + 7 n, so that several objects see different things; ``at`` says which frame it is.
    Without it, each call is a frame of its own, as in the recorded runs.
    """

    def __init__(self, *networks: Any) -> None:
        self.tables = golden("model.npz")
        self.networks = networks
        self.frame: int | None = None
        self.calls = 0
        self.same_for_all = False
        self.raw_iou: list[np.ndarray] = []
        self.raw_obj: list[float] = []

    def at(self, t: int) -> None:
        self.frame, self.calls = t, 0

    def __enter__(self) -> Perturbation:
        for network in self.networks:
            decoder = network.sam_mask_decoder
            decoder.predict_masks = partial(self.predict_masks, decoder.predict_masks)
        return self

    def __exit__(self, *_: object) -> None:
        for network in self.networks:
            # The instance attribute hid the class's method; removing it brings that one back.
            del network.sam_mask_decoder.predict_masks

    def predict_masks(self, original: Any, **arguments: Any) -> tuple[torch.Tensor, ...]:
        masks, iou, tokens, logit = original(**arguments)
        rows = []
        for row in range(len(masks)):
            t = self.calls if self.frame is None else self.frame + 7 * self.calls
            self.calls += not self.same_for_all
            self.raw_iou.append(iou[row].numpy().copy())
            self.raw_obj.append(float(logit[row, 0]))
            rows.append(self._change(t % 40, masks[row : row + 1], logit[row : row + 1]))
        masks, iou, logit = (torch.cat(part) for part in zip(*rows, strict=True))
        return masks, iou, tokens, logit

    def _change(self, t: int, masks: torch.Tensor, logit: torch.Tensor) -> tuple[torch.Tensor, ...]:
        g = self.tables
        y, x = np.meshgrid(np.arange(32.0), np.arange(32.0), indexing="ij")
        bumps = []
        for j in range(4):
            distance = np.sqrt((x - g["in_cx"][t, j]) ** 2 + (y - g["in_cy"][t, j]) ** 2)
            bumps.append(g["in_slope"][t, j] * (g["in_rad"][t, j] - distance))
        bump = torch.from_numpy(np.stack(bumps).astype(np.float32))
        masks = 0.6 * (masks - masks.mean(dim=(-2, -1), keepdim=True)) + bump
        iou = torch.from_numpy(g["in_iou"][t].copy()).unsqueeze(0)
        return masks, iou, torch.full_like(logit, float(g["in_obj"][t]))


@lru_cache(maxsize=1)
def predictor() -> Any:
    """SAM 2's own video predictor with the same weights."""
    own = segmenter().network
    from sam2.build_sam import build_sam2_video_predictor

    made = build_sam2_video_predictor(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        device="cpu",
        hydra_overrides_extra=[f"++model.image_size={SIDE}"],
    )
    made.load_state_dict(own.state_dict())
    made.fill_hole_area = 0  # its compiled extension is not there, so it would only warn
    return made


def predictor_state(frames: int, size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, Any]:
    """An inference state over the first frames, without files."""
    from unittest import mock

    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    clip = np.stack([image(t) for t in range(frames)]) / 255.0
    images = torch.from_numpy(clip).permute(0, 3, 1, 2).to(torch.float32)
    images = (images - mean) / std
    with mock.patch("sam2.sam2_video_predictor.load_video_frames") as load:
        load.return_value = (images, *size)
        return predictor().init_state("unused")
