"""A segmenter in torch beside its ONNX graphs: are results the same, and what do they cost.

    python scripts/bench/graphs.py                                        # embedded, 200 frames
    python scripts/bench/graphs.py --model random:sam2.1_hiera_t@128 --preset sam2
    python scripts/bench/graphs.py --tiny edgetam --preset sam2        # of transformers, random

Both sides take turns frame by frame in one process, on the clip of the demo, forth and back; the
first object is prompted by its box, the second by a click. With ``--corrections`` the first is
corrected by two clicks on frame 4, and a third comes in as a mask on frame 5. Processor time of
one thread does not count other programs. Everything is in fp32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
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


def prompts_of(t: int, shown: Any, size: tuple[int, int], corrections: bool) -> list[Prompt]:
    """What is prompted on a frame; ``shown``: the clip's own frame."""
    height, width = size
    if t == 0:
        points = [(0.7 * width, 0.7 * height)]
        return [Prompt(object_id=1, box=shown.box), Prompt(object_id=2, points=points)]
    x1, y1, x2, y2 = (float(each) for each in shown.box)
    if t == 4 and corrections:
        on, off = ((x1 + x2) / 2, (y1 + y2) / 2), (0.1 * width, 0.9 * height)
        return [Prompt(object_id=1, points=[on, off], labels=[1, 0])]
    if t == 5 and corrections:
        mask = np.zeros(size, bool)
        mask[height // 8 : height // 3, width // 8 : width // 4] = True
        return [Prompt(object_id=3, mask=mask)]
    return []


def save_tiny(kind: str, folder: Path) -> None:
    """A network of transformers with random weights, as the tests have them."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "fixtures"))
    import hf_segmenters

    hf_segmenters.network(kind).save_pretrained(folder)


def compare(
    model: str, graphs: Path, preset: str, frames: int, corrections: bool
) -> dict[str, Any]:
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
        prompts = prompts_of(t, shown, frame.size, corrections)
        results = []
        for n, session in enumerate(sessions):
            start = time.process_time()
            results.append(session.step(frame, prompts))
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
    parser.add_argument("--tiny", help="sam2, edgetam or sam3: of transformers, random weights")
    parser.add_argument("--corrections", action="store_true", help="also clicks and a mask later")
    parser.add_argument("--graphs", type=Path, help="folder of this model's export, if there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.tiny:
            args.model = str(Path(folder, "network"))
            save_tiny(args.tiny, Path(args.model))
        graphs = args.graphs or Path(folder, "graphs")
        manifest = read_manifest(graphs) if args.graphs else export_onnx(args.model, graphs)
        found = compare(args.model, graphs, args.preset, args.frames, args.corrections)
    found["model"] = args.tiny or args.model
    found["graph_bytes"] = {name: seam.bytes for name, seam in manifest.seams.items()}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
