"""What a run of training is judged by: checks through our own session, tables, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nano_clips import Clip, render_clip
from nano_pictures import Pictures
from training_loop import Table

from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter
from vision_mem.tracking import TrackingSession
from vision_mem.types import Frame, Prompt

CHECK_FRAMES = 12


def check_set(pictures: Path, count: int, side: int) -> list[Clip]:
    """Clips that are the same in every run, of pictures that training does not see."""
    held_out = Pictures(pictures, "check")
    made = [render_clip(held_out, np.random.default_rng((77, n)), CHECK_FRAMES, side)
            for n in range(count)]  # fmt: skip
    return [clip for clip in made if clip.targets]


def check(network: Any, clips: Sequence[Clip], device: torch.device) -> dict[str, float]:
    """Track through our own session, as users do.

    Returns:
        Mean IoU of masks over the frames after the first, started from the box (``box``) and
        from the mask (``mask``), and on the first frame from the box (``first``). A frame
        without the object scores 1 when nothing is found.
    """
    segmenter = Sam2Segmenter(network, model_id="nano", device=device)
    scores: dict[str, list[float]] = {"first": [], "box": [], "mask": []}
    for clip in clips:
        truth = clip.ids == clip.targets[0]
        box = mask_to_box(truth[0])
        for kind, prompt in (("box", Prompt(box=box)), ("mask", Prompt(mask=truth[0]))):
            session = TrackingSession(segmenter)
            for t, image in enumerate(clip.images):
                result = session.step(Frame(t, t / 30, image), [prompt] if t == 0 else ())
                found = result.objects[0].mask
                union = np.count_nonzero(found | truth[t])
                score = np.count_nonzero(found & truth[t]) / union if union else 1.0
                if t > 0:
                    scores[kind].append(score)
                elif kind == "box":
                    scores["first"].append(score)
    return {name: float(np.mean(values)) for name, values in scores.items()}


def draw_curve(out: Path, curve: Table, checks: Table) -> None:
    """``curve.png``: loss, IoU in training, and the checks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    steps = [int(row["step"]) for row in curve.rows]
    left.plot(steps, [float(row["loss"]) for row in curve.rows], linewidth=0.8)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    right.plot(steps, [float(row["hit"]) for row in curve.rows], linewidth=0.5, label="training")
    for name, label in (("first", "first frame, box"), ("box", "tracked, box"),
                        ("mask", "tracked, mask")):  # fmt: skip
        points = [(int(row["step"]), float(row[name])) for row in checks.rows]
        right.plot(*zip(*points, strict=True), marker="o", label=label) if points else None
    right.set(xlabel="step", ylabel="IoU", ylim=(0, 1), title="mean IoU")
    right.legend()
    figure.tight_layout()
    figure.savefig(out / "curve.png", dpi=110)
    pyplot.close(figure)
