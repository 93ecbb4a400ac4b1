"""Quality of single-object tracking on annotated clips, policies side by side.

    python scripts/bench/quality.py --data DIR                    # public sequences
    python scripts/bench/quality.py --generated 32                # generated clips
    python scripts/bench/quality.py --data DIR --model sam2.1-hiera-tiny

``--data`` is searched for folders with ``groundtruth_rect.txt`` (OTB: x, y, width, height from
1, comma or tab) and for DAVIS folders (``JPEGImages`` and ``Annotations``). Boxes are started
from the first box of the truth; AUC is the success AUC over all frames, the box of a frame that
is declared absent being the previous one, as the benchmarks' toolkits do. J is the mean IoU of
masks started from the first mask, first and last frame left out. "click AUC" is the success AUC
from one click, at the middle of the thickest part of the first mask. TrackerMIL, TrackerNano and
TrackerVit are OpenCV's; the networks of the last two are never fetched. How honest scores are:
``calibration.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_mem.config import load_config
from vision_mem.evaluation.sot.metrics.success import SUCCESS_THRESHOLDS
from vision_mem.geometry.boxes import box_iou
from vision_mem.geometry.masks import mask_to_box
from vision_mem.models import load_segmenter
from vision_mem.synthetic.clips import ClipScene, SyntheticClip
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "fixtures"))
from random_scenes import random_scene


@dataclass
class Clip:
    """Frames with truth; masks only where the set has them."""

    name: str
    images: list[np.ndarray]
    boxes: np.ndarray
    masks: list[np.ndarray] | None = None


def sequence_iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU frame by frame.

    Args:
        predicted: ``(T, 4)`` xyxy boxes, zeros where the tracker says absent.
        truth: ``(T, 4)`` xyxy boxes.

    Returns:
        ``(T,)`` IoU in [0, 1]; NaN where the truth has no area.
    """
    scores = np.array([float(box_iou(p, t)) for p, t in zip(predicted, truth, strict=True)])
    empty = (truth[:, 2] <= truth[:, 0]) | (truth[:, 3] <= truth[:, 1])
    scores[empty] = np.nan
    return scores


def success_auc(iou: np.ndarray) -> float:
    """Area under the success plot: mean over thresholds of the share of frames above (strictly).

    Args:
        iou: ``(T,)``; NaN frames are left out.
    """
    known = iou[~np.isnan(iou)]
    return float(np.mean([(known > threshold).mean() for threshold in SUCCESS_THRESHOLDS]))


def mean_jaccard(predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Mean IoU of masks, first and last frame left out (DAVIS 2016); 1 where both are empty."""
    scores = []
    for mask, wanted in list(zip(predicted, truth, strict=True))[1:-1]:
        union = np.count_nonzero(mask | wanted)
        scores.append(np.count_nonzero(mask & wanted) / union if union else 1.0)
    return float(np.mean(scores))


def read_clips(root: Path) -> list[Clip]:
    """Find OTB and DAVIS folders below ``root``."""
    clips = []
    for truth in sorted(root.rglob("groundtruth_rect.txt")):
        images = [_read(p) for p in sorted((truth.parent / "img").glob("*.jpg"))]
        rows = [line.replace("\t", ",").split(",") for line in truth.read_text().splitlines()]
        boxes = np.array(rows, np.float32)[: len(images)]
        boxes[:, :2] -= 1
        boxes[:, 2:] += boxes[:, :2]
        clips.append(Clip(truth.parent.name, images, boxes))
    for folder in sorted(root.rglob("Annotations")):
        frames = sorted((folder.parent / "JPEGImages").glob("*.jpg"))
        labels = sorted(folder.glob("*.png"))
        if not frames or len(frames) != len(labels):
            continue
        masks = [_read(p)[..., 0] > 127 for p in labels]
        boxes = np.stack([mask_to_box(mask) for mask in masks])
        clips.append(Clip(folder.parent.name, [_read(p) for p in frames], boxes, masks))
    return clips


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path} cannot be read")
    return np.ascontiguousarray(image[..., ::-1])


def generated_clips(seeds: Sequence[int], frames: int) -> list[Clip]:
    """Render random scenes."""
    return [clip_of(random_scene(seed, frames=frames)) for seed in seeds]


def clip_of(scene: ClipScene) -> Clip:
    """Render a scene."""
    rendered = list(SyntheticClip(scene))
    boxes = np.stack([r.box for r in rendered])
    return Clip(scene.name, [r.image for r in rendered], boxes, [r.mask for r in rendered])


def follow(clip: Clip, session: TrackingSession, prompt: Prompt) -> tuple[np.ndarray, list]:
    """Boxes (absent: the previous one) and masks of one run."""
    boxes, masks = [], []
    for index, image in enumerate(clip.images):
        result = session.step(Frame(index, index / 30, image), [prompt] if index == 0 else [])
        found = result.objects[0]
        boxes.append(found.box if found.present or not boxes else boxes[-1])
        masks.append(found.mask)
    boxes[0] = clip.boxes[0]
    return np.stack(boxes), masks


def thickest_part(mask: np.ndarray) -> np.ndarray:
    """``(2,)`` x and y of the middle of the thickest part of a mask: where one clicks."""
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return np.array([column, row], np.float32)


def peers(args: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Trackers of OpenCV to compare with, by name; networks only where their files are given."""
    made: dict[str, Callable[[], Any]] = {}
    if not args.no_mil:
        made["TrackerMIL"] = cv2.TrackerMIL.create
    if args.nano:
        nano = cv2.TrackerNano.Params()
        for name, key in (("backbone", "backbone"), ("neckhead", "head")):
            files = sorted(args.nano.glob(f"*{key}*.onnx"))
            if len(files) != 1:
                raise SystemExit(f"--nano {args.nano}: expected one *{key}*.onnx, not {len(files)}")
            setattr(nano, name, str(files[0]))
        made["TrackerNano"] = lambda: cv2.TrackerNano.create(nano)
    if args.vit:
        if not args.vit.is_file():
            raise SystemExit(f"--vit {args.vit} is not there; expected the ONNX file of TrackerVit")
        vit = cv2.TrackerVit.Params()
        vit.net = str(args.vit)
        made["TrackerVit"] = lambda: cv2.TrackerVit.create(vit)
    return made


def follow_peer(clip: Clip, make: Callable[[], Any]) -> np.ndarray:
    """The same with a tracker of OpenCV."""
    cv2.setRNGSeed(0)
    tracker = make()
    x1, y1, x2, y2 = (round(float(v)) for v in clip.boxes[0])
    tracker.init(clip.images[0][..., ::-1].copy(), (x1, y1, x2 - x1, y2 - y1))
    boxes = [clip.boxes[0]]
    for image in clip.images[1:]:
        found, (x, y, w, h) = tracker.update(image[..., ::-1].copy())
        boxes.append(np.array([x, y, x + w, y + h]) if found else boxes[-1])
    return np.stack(boxes)


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with OTB and DAVIS sequences")
    parser.add_argument("--generated", type=int, default=0, help="number of generated clips")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=40, help="length of generated clips")
    parser.add_argument("--policies", default="sam2,samurai,dam4sam,none")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--only", default="", help="comma-separated clip names")
    parser.add_argument("--no-mil", action="store_true", help="leave TrackerMIL out")
    parser.add_argument("--prompts", default="box,mask,click", help="of box, mask, click")
    parser.add_argument("--nano", type=Path, help="folder with the ONNX files of TrackerNano")
    parser.add_argument("--vit", type=Path, help="ONNX file of TrackerVit")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    args = parser.parse_args()
    if not args.data and not args.generated:
        parser.error("give --data DIR or --generated N")
    clips = read_clips(args.data) if args.data else []
    clips += generated_clips(range(args.first_seed, args.first_seed + args.generated), args.frames)
    wanted = {name for name in args.only.split(",") if name}
    clips = [clip for clip in clips if not wanted or clip.name in wanted]
    if not clips:
        parser.error(f"no annotated sequence found below {args.data}")
    prompts = set(args.prompts.split(","))
    if odd := prompts - {"box", "mask", "click"}:
        parser.error(f"no prompt {min(odd)!r}; expected box, mask, click")
    segmenter = load_segmenter(args.model)
    columns: dict[str, dict[str, float]] = {}
    for policy in args.policies.split(","):
        config = load_config(TrackingConfig, policy, [], folder="tracking")
        column = columns.setdefault(policy, {})
        begun, frames = time.perf_counter(), 0
        for clip in clips:
            session = TrackingSession(segmenter, config)
            if "box" in prompts:
                boxes, _ = follow(clip, session, Prompt(box=clip.boxes[0]))
                column[f"{clip.name} AUC"] = success_auc(sequence_iou(boxes, clip.boxes))
                frames += len(clip.images)
            if clip.masks is not None and "click" in prompts:
                session.reset()
                click = Prompt(points=thickest_part(clip.masks[0])[None])
                boxes, _ = follow(clip, session, click)
                column[f"{clip.name} click AUC"] = success_auc(sequence_iou(boxes, clip.boxes))
                frames += len(clip.images)
            if clip.masks is not None and "mask" in prompts:
                session.reset()
                _, masks = follow(clip, session, Prompt(mask=clip.masks[0]))
                column[f"{clip.name} J"] = mean_jaccard(masks, clip.masks)
                frames += len(clip.images)
        spent = time.perf_counter() - begun
        _add_means(column)
        column["frames/s"] = frames / spent
    for name, make in peers(args).items():
        column = columns.setdefault(name, {})
        begun = time.perf_counter()
        for clip in clips:
            column[f"{clip.name} AUC"] = success_auc(
                sequence_iou(follow_peer(clip, make), clip.boxes)
            )
        _add_means(column)
        column["frames/s"] = sum(len(c.images) for c in clips) / (time.perf_counter() - begun)
    rows = list(columns[args.policies.split(",")[0]])
    print(f"| {args.model} | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for row in rows:
        cells = [f"{c[row]:.3f}" if row in c else "-" for c in columns.values()]
        print(f"| {row} | " + " | ".join(cells) + " |")
    if args.json:
        args.json.write_text(json.dumps(columns, indent=1))


def _add_means(column: dict[str, float]) -> None:
    for kind in ("AUC", "click AUC", "J"):
        values = [
            value for key, value in column.items()
            if key.endswith(f" {kind}") and (kind != "AUC" or not key.endswith(" click AUC"))
        ]  # fmt: skip
        if values:
            column[f"mean {kind}"] = float(np.mean(values))


if __name__ == "__main__":
    main()
