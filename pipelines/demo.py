"""Generate a clip, follow an object through it, and say how well that went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vision_mem.geometry.boxes import box_iou, box_to_xywh, xywh_to_box
from vision_mem.runs.folder import RECORD
from vision_mem.sources.open import open_source
from vision_mem.synthetic.clip_scenes import demo_clip
from vision_mem.visualization.contact_sheet import contact_sheet, write_video

from .options import DemoFolder, Quiet
from .track import main as track


def main(
    out: DemoFolder = Path("runs/demo"),
    model: Annotated[str, typer.Option(help="As for track.")] = "embedded",
    preset: Annotated[str, typer.Option(help="As for track.")] = "samurai",
    max_frames: Annotated[
        int | None, typer.Option(min=2, help="Frames of the clip, at most.")
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Generate a clip from photographs, follow an object through it, compare with the truth.

    The object passes behind a pillar and meets its double. No download, no training; the same
    steps as `vision-mem track clip.mp4 --box ...`. Results of an earlier demo are replaced.
    """
    clip = demo_clip()
    count = min(len(clip), max_frames or len(clip))
    rendered = [clip.render(t) for t in range(count)]
    truth = np.stack([frame.box for frame in rendered])
    name = clip.info.name
    video = out / f"{name}.mp4"
    write_video(video, (frame.image for frame in rendered), clip.info.fps)

    results = out / "results"
    box = ",".join(f"{value:g}" for value in box_to_xywh(truth[0]))
    code = track(
        str(video),
        box=[f"{name}={box}"],
        model=model,
        preset=preset,
        out=results,
        overwrite=(results / RECORD).exists(),
        quiet=quiet,
    )
    if code:
        return code

    boxes = xywh_to_box(np.loadtxt(results / "lasot" / f"{name}.txt", delimiter=",", ndmin=2))
    iou = box_iou(boxes, truth)
    visible = np.asarray(truth.any(axis=1))
    present = np.asarray(boxes.any(axis=1))
    score = {
        "frames": count,
        "visible": int(visible.sum()),
        "mean_iou_where_visible": round(float(iou[visible].mean()), 4),
        "share_above_half": round(float((iou[visible] > 0.5).mean()), 4),
        "hidden": int((~visible).sum()),
        "said_absent_where_hidden": int((~present[~visible]).sum()),
        "last_iou": round(float(iou[visible][-1]), 4),
    }
    (out / "score.json").write_text(json.dumps(score, indent=2) + "\n", encoding="utf-8")
    annotated = results / f"{name}_tracked.mp4"
    with open_source(str(annotated)) as frames:
        wanted = set(np.linspace(0, count - 1, 12).round().astype(int).tolist())
        contact_sheet(out / "contact-sheet.png", [f.image for f in frames if f.index in wanted])
    if quiet:
        return 0
    print(
        f"against the truth: mean IoU {score['mean_iou_where_visible']:.2f} over the "
        f"{score['visible']} frames where the {name} is to be seen, above 0.5 on "
        f"{score['share_above_half']:.0%} of them"
    )
    print(f"look at the video:    {annotated}")
    print(f"or the contact sheet: {out / 'contact-sheet.png'}")
    print(f"boxes:                {results / 'lasot' / f'{name}.txt'}")
    return 0
