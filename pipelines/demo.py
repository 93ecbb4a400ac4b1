"""Generate a clip, follow an object through it, and say how well that went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vision_mem.runs.folder import RunFolder, number_folder
from vision_mem.sources.open import open_source

from .options import Overwrite, Quiet, preset_option
from .track import TrackModel, TrackOutput, TrackPrompts
from .track import main as track


def main(
    out: Annotated[Path | None, typer.Option(help="Folder for everything [runs/demo].")] = None,
    model: Annotated[str, typer.Option(help="As for track.")] = "embedded",
    preset: Annotated[str, preset_option("tracking", "samurai")] = "samurai",
    max_frames: Annotated[
        int | None, typer.Option(min=2, help="Frames of the clip, at most.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> int:
    """Generate a clip from photographs, follow an object through it, compare with the truth.

    The object passes behind a pillar and meets its double. No download, no training; the same
    steps as `vision-mem track clip.mp4 --box ...`.
    """
    place = out or (Path("runs/demo") if overwrite else number_folder(Path("runs/demo")))
    results = RunFolder(place / "results", overwrite=overwrite).path
    # OpenCV and the photographs take a moment; slips are told before.
    import numpy as np

    from vision_mem.geometry.boxes import box_to_xywh, xywh_to_box
    from vision_mem.synthetic.clips import demo_clip, score_boxes
    from vision_mem.visualization.contact_sheet import contact_sheet, write_video

    clip = demo_clip()
    count = min(len(clip), max_frames or len(clip))
    rendered = [clip.render(t) for t in range(count)]
    truth = np.stack([frame.box for frame in rendered])
    name = clip.info.name
    video = place / f"{name}.mp4"
    write_video(video, (frame.image for frame in rendered), clip.info.fps)

    box = ",".join(f"{value:g}" for value in box_to_xywh(truth[0]))
    code = track(
        str(video),
        TrackPrompts(box=[f"{name}={box}"]),
        output=TrackOutput(out=results, overwrite=overwrite, quiet=quiet),
        model=TrackModel(model=model, preset=preset),
    )
    if code:
        return code

    boxes = xywh_to_box(np.loadtxt(results / "lasot" / f"{name}.txt", delimiter=",", ndmin=2))
    score = score_boxes(boxes, truth)
    (place / "score.json").write_text(json.dumps(score, indent=2) + "\n", encoding="utf-8")
    annotated = results / f"{name}_tracked.mp4"
    with open_source(str(annotated)) as frames:
        wanted = set(np.linspace(0, count - 1, 12).round().astype(int).tolist())
        contact_sheet(place / "contact-sheet.png", [f.image for f in frames if f.index in wanted])
    if quiet:
        return 0
    print(
        f"against the truth: mean IoU {score['mean_iou_where_visible']:.2f} over the "
        f"{score['visible']} frames where the {name} is to be seen, above 0.5 on "
        f"{score['share_above_half']:.0%} of them"
    )
    print(f"look at the video:    {annotated}")
    print(f"or the contact sheet: {place / 'contact-sheet.png'}")
    print(f"boxes:                {results / 'lasot' / f'{name}.txt'}")
    return 0
