"""Fits the score that people see, and says how honest it is.

    python scripts/bench/calibration.py --fit --clips 60 --first-seed 3000     # weights
    python scripts/bench/calibration.py --clips 40 --first-seed 4000           # how good they are
    python scripts/bench/calibration.py --data DIR                             # on real sequences

Clips are generated, as ``sweep.py`` has them; each is followed from its true mask, from its box
and from a click at its thickest part. ``--fit`` gives a logistic regression of "IoU with the truth
above 0.5" on the signs of the chosen candidate (``candidates.signs_of``), to be put into
``EmbeddedConfig.trust``. Without it, the figures: AUROC of the score against IoU above 0.5,
expected calibration error (ten bins), and of the frames with IoU under 0.3 the share called sure.
Frames on which the object is in truth not to be seen count with IoU 0; what is called lost has
score 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from quality import Clip, generated_clips, read_clips, thickest_part

from vision_mem.config import load_config
from vision_mem.geometry.boxes import box_iou
from vision_mem.models.segmenters.embedded import candidates
from vision_mem.models.segmenters.embedded import segmenter as module
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import SURE, Frame, Prompt


@dataclass
class Followed:
    """Tracked frames of some runs.

    Attributes:
        ious: with the truth.
        scores: that people see, 0 where the object is called lost.
        sure: whether it was called sure.
        signs: of the chosen candidate; zeros where there is none.
    """

    ious: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    signs: list[np.ndarray] = field(default_factory=list)


def auroc(scores: np.ndarray, good: np.ndarray) -> float:
    """Chance that a good frame has the higher score; ties count half."""
    order = np.unique(scores, return_inverse=True)[1]
    counts = np.bincount(order)
    ranks = (counts.cumsum() - (counts - 1) / 2)[order]
    n = np.count_nonzero(good)
    rest = len(good) - n
    return float((ranks[good].sum() - n * (n + 1) / 2) / max(n * rest, 1))


def calibration_error(scores: np.ndarray, good: np.ndarray, bins: int = 10) -> float:
    """Mean distance of score and share of good frames, over bins of equal width."""
    number = np.minimum((scores * bins).astype(int), bins - 1)
    error = 0.0
    for n in np.unique(number):
        here = number == n
        error += here.mean() * abs(float(scores[here].mean()) - float(good[here].mean()))
    return error


def fit_logistic(signs: np.ndarray, good: np.ndarray, ridge: float = 10.0) -> np.ndarray:
    """Weights ``(k,)`` of a logistic regression, by Newton's method; the first sign is 1."""
    spread = signs.std(axis=0)
    mean = np.where(spread > 0, signs.mean(axis=0), 0)
    spread = np.where(spread > 0, spread, 1)
    scaled, weights = (signs - mean) / spread, np.zeros(signs.shape[1])
    penalty = np.full(len(weights), ridge)
    penalty[0] = 0
    scaled[:, 0] = 1
    for _ in range(30):
        p = 1 / (1 + np.exp(-scaled @ weights))
        slope = scaled.T @ (good - p) - penalty * weights
        curve = (scaled * (p * (1 - p))[:, None]).T @ scaled + np.diag(penalty + 1e-9)
        weights = weights + np.linalg.solve(curve, slope)
    plain = weights / spread
    plain[0] = weights[0] - float((weights * mean / spread)[1:].sum())
    return plain


def follow(clip: Clip, session: TrackingSession, prompt: Prompt, into: Followed) -> None:
    """Follow one clip and write down each frame but the first."""
    seen: dict[float, np.ndarray] = {}
    before = candidates.calibrated

    def noted(one: candidates.Candidate, weights: Sequence[float]) -> float:
        score = before(one, weights)
        if (signs := candidates.told_signs(one)) is not None:
            seen[float(np.float32(score))] = signs
        return score

    module.calibrated = noted
    try:
        for index, image in enumerate(clip.images):
            seen.clear()
            prompts = [prompt] if index == 0 else []
            found = session.step(Frame(index, index / 30, image), prompts).objects[0]
            if index == 0:
                continue
            into.ious.append(_iou(clip, index, found))
            into.scores.append(found.score if found.present else 0.0)
            into.sure.append(found.state == SURE)
            signs = seen.get(float(np.float32(found.score))) if found.present else None
            into.signs.append(np.zeros(11) if signs is None else signs)
    finally:
        module.calibrated = before


def _iou(clip: Clip, index: int, found: object) -> float:
    mask, box = found.mask, found.box  # type: ignore[attr-defined]
    if clip.masks is None:
        return float(box_iou(box, clip.boxes[index]))
    union = np.count_nonzero(mask | clip.masks[index])
    return np.count_nonzero(mask & clip.masks[index]) / union if union else 0.0


def figures(runs: Followed) -> str:
    """A row of a table."""
    ious, scores = np.array(runs.ious), np.array(runs.scores)
    good, wrong = ious > 0.5, ious < 0.3
    sure = np.array(runs.sure)
    parts = [
        f"{len(ious)}", f"{good.mean():.3f}", f"{auroc(scores, good):.3f}",
        f"{calibration_error(scores, good):.3f}",
        f"{(wrong & sure).sum() / max(wrong.sum(), 1):.3f}",
        f"{(good & sure).sum() / max(good.sum(), 1):.3f}",
    ]  # fmt: skip
    return " | ".join(parts)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=0, help="generated clips")
    parser.add_argument("--first-seed", type=int, default=4000)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--data", type=Path, help="folder with OTB and DAVIS sequences")
    parser.add_argument("--preset", default="samurai")
    parser.add_argument("--fit", action="store_true", help="print weights for EmbeddedConfig.trust")
    args = parser.parse_args()
    if not args.clips and not args.data:
        parser.error("give --clips N or --data DIR")
    seeds = range(args.first_seed, args.first_seed + args.clips)
    clips = generated_clips(seeds, args.frames) + (read_clips(args.data) if args.data else [])
    tracking = load_config(TrackingConfig, args.preset, [], folder="tracking")
    embedded = EmbeddedSegmenter.load(device="cpu")
    runs: dict[str, Followed] = {}
    for clip in clips:
        prompts = {"box": Prompt(box=clip.boxes[0])}
        if clip.masks is not None:
            prompts["mask"] = Prompt(mask=clip.masks[0])
            prompts["click"] = Prompt(points=thickest_part(clip.masks[0])[None])
        for name, prompt in prompts.items():
            session = TrackingSession(embedded, tracking)
            follow(clip, session, prompt, runs.setdefault(name, Followed()))
    every = Followed(
        *(list(chain(*(vars(one)[key] for one in runs.values()))) for key in vars(Followed()))
    )
    print(
        "| prompt | frames | IoU > 0.5 | AUROC | calibration error "
        "| wrong but sure | good and sure |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, one in (*runs.items(), ("all", every)):
        print(f"| {name} | {figures(one)} |")
    if args.fit:
        signs = np.array(every.signs)
        known = signs[:, 0] == 1
        weights = fit_logistic(signs[known], np.array(every.ious)[known] > 0.5)
        print("trust =", tuple(round(float(value), 2) for value in weights))
        good = np.array(every.ious)[known] > 0.5
        fitted = 1 / (1 + np.exp(-signs[known] @ weights))
        print(
            f"fitted: AUROC {auroc(fitted, good):.3f}, error {calibration_error(fitted, good):.3f}"
        )


if __name__ == "__main__":
    main()
