"""A segmenter in torch beside its ONNX graphs: are results the same, and what do they cost.

    python scripts/bench/graphs.py                                        # embedded, 200 frames
    python scripts/bench/graphs.py --model random:sam2.1_hiera_t@128 --preset sam2

Both sides take turns frame by frame in one process, on the clip of the demo, forth and back; the
first object is prompted by its box, the second by a click. Processor time of one thread does not
count other programs. Everything is in fp32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vision_mem.config import load_config
from vision_mem.models import load_segmenter
from vision_mem.models.segmenters.onnx.export import export_onnx
from vision_mem.models.segmenters.onnx.graphs import read_manifest
from vision_mem.synthetic.clips import demo_clip
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt


def recorded(segmenter: Any, seen: list[torch.Tensor]) -> Any:
    """The segmenter; logits of what it decodes go into ``seen``."""
    inner = segmenter.decode

    def decode(*given: Any, **more: Any) -> Any:
        made = inner(*given, **more)
        seen.append(made.logits)
        return made

    segmenter.decode = decode
    return segmenter


def compare(model: str, graphs: Path, preset: str, frames: int) -> dict[str, Any]:
    """Run both over a clip."""
    seen: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    both = [
        recorded(load_segmenter(model, device="cpu", precision="fp32"), seen[0]),
        recorded(load_segmenter(str(graphs), device="cpu"), seen[1]),
    ]
    config = load_config(TrackingConfig, preset, folder="tracking")
    sessions = [TrackingSession(one, config) for one in both]
    clip, spent = demo_clip(), [0.0, 0.0]
    worst = {"mask_iou": 1.0, "logit": 0.0, "score": 0.0}
    flipped = 0
    for t in range(frames):
        place = t % (2 * len(clip) - 2)
        shown = clip.render(min(place, 2 * len(clip) - 2 - place))
        frame = Frame(t, t / 30, shown.image)
        height, width = frame.size
        prompts = [Prompt(box=shown.box), Prompt(points=[(0.7 * width, 0.7 * height)])]
        results = []
        for n, session in enumerate(sessions):
            start = time.process_time()
            results.append(session.step(frame, prompts if t == 0 else ()))
            spent[n] += (time.process_time() - start) * (t > 0)
        for one, other in zip(results[0].objects, results[1].objects, strict=True):
            union = int((one.mask | other.mask).sum())
            iou = int((one.mask & other.mask).sum()) / union if union else 1.0
            worst["mask_iou"] = min(worst["mask_iou"], iou)
            worst["score"] = max(worst["score"], abs(one.score - other.score))
            flipped += int((one.mask != other.mask).sum())
        for a, b in zip(*seen, strict=True):
            worst["logit"] = max(worst["logit"], float((a - b).abs().max()))
        for some in seen:
            some.clear()
        if t % 50 == 49:
            times = [round(1e3 * each / t, 1) for each in spent]
            print(f"{t + 1} frames: {worst}, {flipped} pixels, {times} ms", file=sys.stderr)
    held = [session.usage().bytes for session in sessions]
    times = [1e3 * each / (frames - 1) for each in spent]
    return {
        "model": model, "preset": preset, "frames": frames, **worst, "pixels_flipped": flipped,
        "torch_ms": round(times[0], 1), "onnx_ms": round(times[1], 1),
        "ratio": round(times[0] / times[1], 2), "torch_bytes": held[0], "onnx_bytes": held[1],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--preset", default="samurai")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--graphs", type=Path, help="folder of this model's export, if there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        graphs = args.graphs or Path(folder)
        manifest = read_manifest(graphs) if args.graphs else export_onnx(args.model, graphs)
        found = compare(args.model, graphs, args.preset, args.frames)
    found["graph_bytes"] = {name: seam.bytes for name, seam in manifest.seams.items()}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
