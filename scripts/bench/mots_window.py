"""What the sliding window of memory costs and saves: W = none, 16, 8, 4.

    python scripts/bench/mots_window.py sizes                 # bytes of a track, SAM 2's own shapes
    python scripts/bench/mots_window.py FOLDER crowd          # accuracy, true boxes, embedded

``sizes`` follows one object with random weights until its memory is full, and sets our bytes beside
those of Seg2Track-SAM2's rule on the same tensors: W + 1 entries of map, pointer and low-resolution
logits (float32), and the prompted one. Bytes are measured at ``--image-size`` and brought to 1024,
where maps have (1024 / size) squared as many places.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from mots_clips import Crowd, Folder, detections_of
from mots_cost import Cells
from mots_rules import scored

from vision_mem.config import load_config
from vision_mem.models import load_segmenter, use_threads
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.types import Prompt

WINDOWS = ("none", "16", "8", "4")
SHOWN = ("HOTA", "AssA", "IDF1", "MOTA", "IDS")
KIB = 2**10


def settings(window: str, *changes: str) -> MotsConfig:
    value = "null" if window == "none" else window
    return load_config(
        MotsConfig, "default", [f"tracking.policy.window={value}", *changes], folder="mots"
    )


def sizes(side: int, frames: int) -> None:
    segmenter = load_segmenter(f"random:sam2.1_hiera_t@{side}", device="cpu")
    always = (
        "lifecycle.lose=false",
        "memory.gate=false",
        "tracking.appear_threshold=-1000000",
        "gallery.enabled=false",
    )
    more = (1024 / side) ** 2
    print("| W | maps held | ours, KiB a track at 1024 | official rule | saved by ours | W saves |")
    print("|---|---|---|---|---|---|")
    first = None
    for window in WINDOWS:
        session = MotsSession(segmenter, settings(window, *always))
        clip = Cells(1)
        frame, found = clip(0)
        session.step(frame, None)
        session.prompt(None, Prompt(box=found.boxes[0]))
        for t in range(1, frames):
            session.step(clip(t)[0], None)
        (track,) = session._state.tracks.values()
        held: dict[str, int] = {}
        for kind, tensor in track.object.memory.tensors():
            held[kind] = held.get(kind, 0) + tensor.untyped_storage().nbytes()
        maps = len(track.object.memory.prompts) + len(track.object.memory.recents)
        one = held["memory maps"] / maps
        logits = (1024 // 4) ** 2 * 4
        pointer = track.object.memory.pointers[-1].vector.untyped_storage().nbytes()
        # Ours keeps the logits of the latest frame alone, for corrections.
        ours = held["memory maps"] * more + held["pointers"] + logits
        kept = frames - 1 if window == "none" else int(window) + 1
        official = (kept + 1) * (one * more + pointer + logits)
        first = ours if window == "16" else first
        saved = "" if first is None else f"{1 - ours / first:.0%}"
        print(
            f"| {window} | {maps} | {ours / KIB:.0f} | {official / KIB:.0f}"
            f"{' and growing' if window == 'none' else ''} | {1 - ours / official:.0%} | {saved} |"
        )


def accuracy(clips: list[Any], model: str, detector: str) -> None:
    segmenter = load_segmenter(model)
    print("\n| W | " + " | ".join(SHOWN) + " | KiB a track |\n|---" + "|---" * 6 + "|")
    for window in WINDOWS:
        total, held = None, []
        for number, clip in enumerate(clips):
            session = MotsSession(segmenter, settings(window))
            counts, _ = scored(clip, detections_of(clip, detector, number), session)
            total = counts if total is None else total + counts
            followed = [t for t in session._state.tracks.values() if t.life.frames > 20]
            held += [session.usage(t.object_id).bytes for t in followed]
        values = total.measures()
        cells = " | ".join(
            f"{float(values[m]):.3f}" if m != "IDS" else f"{values[m]:g}" for m in SHOWN
        )
        print(f"| {window} | {cells} | {np.mean(held) / KIB:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", nargs="+", help="sizes, crowd, or MOTChallenge folders")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--detector", default="truth")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--frames", type=int, default=80)
    args = parser.parse_args()
    use_threads(1)
    for name in args.clips:
        if name == "sizes":
            sizes(args.image_size, 30)
        elif name == "crowd":
            print(f"\ncrowds {args.seeds}")
            accuracy(
                [Crowd(s, args.frames, objects=4) for s in args.seeds], args.model, args.detector
            )
        else:
            print(f"\n{Path(name).name}")
            accuracy([Folder(Path(name))], args.model, args.detector)


if __name__ == "__main__":
    main()
