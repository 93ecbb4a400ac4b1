"""Constants of the embedded segmenter, tried on generated clips and on nothing else.

    python scripts/bench/sweep.py                                   # the defaults
    python scripts/bench/sweep.py reach=1.9,2.5 present=0.4         # one change at a time
    python scripts/bench/sweep.py "reach=2.5 present=0.4"           # both changes together
    python scripts/bench/sweep.py --fit                             # weights of the IoU estimate
    python scripts/bench/sweep.py --first --clips 120 cut.seeds=0.3,0.5     # box to mask
    python scripts/bench/sweep.py --first --prompt click --clips 120           # click to mask

Each clip is started three ways: from its true mask, from its box, and from an ellipse in the box,
which stands for the poor first mask that real objects of little contrast get. The criterion is
the mean of J (true mask) and the success AUC of the two others; a change is shown against the
defaults with the standard error of the difference over clips. ``--first`` looks at first frames
only: the IoU of the mask made from the box, for whole targets, for targets in the colours of
their background, and for targets that are a part of something. Real sequences cannot be given:
what is chosen here may then be measured on them (``quality.py``), once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from quality import (  # and the way to tests/fixtures
    Clip,
    clip_of,
    follow,
    generated_clips,
    mean_jaccard,
    sequence_iou,
    success_auc,
    thickest_part,
)
from random_scenes import Difficulty, random_scene

from vision_mem.config import load_config
from vision_mem.geometry.masks import ellipse_in
from vision_mem.models.segmenters.embedded.candidates import candidate_evidence
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt


def score(clips: Iterable[Clip], config: EmbeddedConfig, preset: str) -> np.ndarray:
    """``(clips, 3)``: J from the true mask, AUC from the box, AUC from the ellipse."""
    segmenter = EmbeddedSegmenter.load(device="cpu", config=config)
    tracking = load_config(TrackingConfig, preset, folder="tracking")
    rows = []
    for clip in clips:
        assert clip.masks is not None
        session = TrackingSession(segmenter, tracking)
        _, masks = follow(clip, session, Prompt(mask=clip.masks[0]))
        row = [mean_jaccard(masks, clip.masks)]
        ellipse = ellipse_in(clip.boxes[0], clip.images[0].shape)
        for prompt in (Prompt(box=clip.boxes[0]), Prompt(mask=ellipse)):
            session.reset()
            boxes, _ = follow(clip, session, prompt)
            row.append(success_auc(sequence_iou(boxes, clip.boxes)))
        rows.append(row)
    return np.array(rows)


def score_first(clips: Iterable[Clip], config: EmbeddedConfig, prompt: str) -> np.ndarray:
    """``(clips,)``: IoU of the mask made from the first box, or from a click."""
    segmenter, found = EmbeddedSegmenter.load(device="cpu", config=config), []
    for clip in clips:
        assert clip.masks is not None
        asked = Prompt(box=clip.boxes[0])
        if prompt == "click":
            asked = Prompt(points=thickest_part(clip.masks[0])[None])
        features = segmenter.encode_image(Frame(0, 0.0, clip.images[0]))
        made = segmenter.decode_prompt(features, asked)
        best = int(made.iou[0].argmax())
        mask = (segmenter.to_video(made.logits[:, best : best + 1], features)[0, 0] > 0).numpy()
        shared = np.count_nonzero(mask & clip.masks[0])
        found.append(shared / np.count_nonzero(mask | clip.masks[0]))
    return np.array(found)


KINDS = {
    "whole": Difficulty(camouflage=0.0, part=0.0),
    "camouflaged": Difficulty(camouflage=1.0, part=0.0),
    "part of something": Difficulty(camouflage=0.0, part=1.0),
}


def compare_first(settings: dict[str, EmbeddedConfig], seeds: Iterable[int], prompt: str) -> None:
    """Table of ``score_first`` on three kinds of targets."""
    print("| setting | " + " | ".join(f"{kind} | against defaults" for kind in KINDS) + " |")
    print("|---|" + "---|---|" * len(KINDS))
    sets = [
        [clip_of(random_scene(seed, kind, frames=1)) for seed in seeds] for kind in KINDS.values()
    ]
    references: list[np.ndarray] = []
    for name, config in settings.items():
        cells = [name]
        for number, clips in enumerate(sets):
            each = score_first(clips, config, prompt)
            references += [each] if len(references) == number else []
            off = each - references[number]
            error = off.std(ddof=1) / np.sqrt(len(off))
            cells += [f"{each.mean():.3f}", f"{off.mean():+.3f} ± {error:.3f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def changed(config: Any, key: str, text: str) -> Any:
    """A copy of ``config`` with ``key`` (dots lead into its parts) set to ``text``."""
    name, _, rest = key.partition(".")
    if name not in {field.name for field in fields(config)}:
        raise SystemExit(f"no constant {name!r}; there are {[f.name for f in fields(config)]}")
    old = getattr(config, name)
    if rest and is_dataclass(old):
        return replace(config, **{name: changed(old, rest, text)})
    if isinstance(old, tuple):
        return replace(config, **{name: tuple(float(part) for part in text.split("/"))})
    return replace(config, **{name: type(old)(float(text))})


class _Recorder:
    """Writes down the evidence for each candidate beside its true IoU; stands before
    ``candidate_evidence``."""

    def __init__(self) -> None:
        self.truth = np.zeros((1, 1), bool)
        self.rows: list[np.ndarray] = []

    def __call__(self, logits, votes, first, expected, window, area, agreement):  # type: ignore[no-untyped-def]
        evidence = candidate_evidence(logits, votes, first, expected, window, area, agreement)
        if evidence is not None:
            on = logits > 0
            wanted = window.crop(self.truth.astype(np.uint8), logits.shape[0]) > 0
            shared = np.count_nonzero(wanted & on)
            # What lies outside the window is part of the truth too.
            total = self.truth.sum() / (window.side / logits.shape[0]) ** 2
            self.rows.append(np.r_[evidence, shared / max(on.sum() + total - shared, 1)])
        return evidence


def fit(clips: Iterable[Clip], config: EmbeddedConfig) -> None:
    """Logistic regression of the true IoU on the evidence; good and bad masks weigh the same."""
    segmenter, recorder = EmbeddedSegmenter.load(device="cpu", config=config), _Recorder()
    with patch("vision_mem.models.segmenters.embedded.candidates.candidate_evidence", recorder):
        for clip in clips:
            assert clip.masks is not None
            for preset in ("sam2", "none"):
                tracking = load_config(TrackingConfig, preset, folder="tracking")
                session = TrackingSession(segmenter, tracking)
                for index, image in enumerate(clip.images):
                    recorder.truth = clip.masks[index]
                    prompts = [Prompt(mask=clip.masks[0])] if index == 0 else []
                    session.step(Frame(index, index / 30, image), prompts)
    table = torch.from_numpy(np.array(recorder.rows))
    evidence, iou = table[:, :5], table[:, 5].clamp(0.02, 0.98)
    bad = (iou < 0.3).double()
    share = bad.mean()
    if not 0 < float(share) < 1:
        raise SystemExit(
            f"all of {len(table)} candidates are good, or all are bad; expected both: more --clips"
        )
    weight = bad * 0.5 / share + (1 - bad) * 0.5 / (1 - share)
    beta = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([beta], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        guess = evidence @ beta
        value = torch.nn.functional.binary_cross_entropy_with_logits(guess, iou, weight)
        value = value + 1e-4 * (beta**2).sum()
        value.backward()
        return value

    solver.step(loss)
    guess = torch.sigmoid(evidence @ beta).detach().numpy()
    now = 1 / (1 + np.exp(-evidence.numpy() @ np.array(config.weights)))
    print(f"{len(table)} candidates, {float(share):.0%} of them below IoU 0.3")
    print("weights " + "/".join(f"{b:.2f}" for b in beta.tolist()))
    for name, values in (("fitted", guess), ("config", now)):
        low, high = values[iou.numpy() < 0.2], values[iou.numpy() > 0.7]
        print(
            f"{name}: correlation {np.corrcoef(values, iou.numpy())[0, 1]:.3f}, "
            f"estimate of bad masks (median, 90 %) {np.percentile(low, [50, 90]).round(2)}, "
            f"of good ones (5 %, median) {np.percentile(high, [5, 50]).round(2)}"
        )


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("changes", nargs="*", help="key=value[,value...]; keys joined by spaces")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=36)
    parser.add_argument("--preset", default="samurai")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="first frames only: box to mask")
    parser.add_argument("--prompt", default="box", choices=("box", "click"), help="with --first")
    parser.add_argument("--fit", action="store_true", help="fit the IoU estimate instead")
    parser.add_argument("--each", action="store_true", help="print every clip too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    base = EmbeddedConfig()
    settings: dict[str, EmbeddedConfig] = {"defaults": base}
    for change in args.changes:
        words = change.split()
        key, _, values = words[-1].partition("=")
        for value in values.split(","):
            config = base
            for word in [*words[:-1], f"{key}={value}"]:
                config = changed(config, *word.split("=", 1))
            settings[" ".join([*words[:-1], f"{key}={value}"])] = config
    seeds = range(args.first_seed, args.first_seed + args.clips)
    if args.first:
        compare_first(settings, seeds, args.prompt)
        return
    clips = generated_clips(seeds, args.frames)
    if args.fit:
        fit(clips, list(settings.values())[-1])
        return
    print(
        "| setting | J mask | AUC box | AUC ellipse | criterion | against defaults | ms a frame |"
    )
    print("|---|---|---|---|---|---|---|")
    reference: np.ndarray | None = None
    for name, config in settings.items():
        begun = time.perf_counter()
        table = score(clips, config, args.preset)
        spent = (time.perf_counter() - begun) / (3 * args.frames * len(clips)) * 1e3
        each = table.mean(axis=1)
        reference = each if reference is None else reference
        off = each - reference
        error = off.std(ddof=1) / np.sqrt(len(off)) if len(off) > 1 else 0.0
        cells = [f"{v:.3f}" for v in (*table.mean(axis=0), each.mean())]
        print(
            f"| {name} | " + " | ".join(cells) + f" | {off.mean():+.3f} ± {error:.3f} "
            f"| {spent:.0f} |",
            flush=True,
        )
        if args.each:
            for clip, row in zip(clips, table, strict=True):
                print(f"    {clip.name}: " + " ".join(f"{v:.2f}" for v in row))


if __name__ == "__main__":
    main()
