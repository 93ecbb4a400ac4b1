"""Our streaming session beside SAM 2's own video predictor: speed, memory, and growth.

    python scripts/bench/tracking.py                      # the table, random weights, no download
    python scripts/bench/tracking.py --model sam2.1-hiera-tiny --image-size 0
    python scripts/bench/tracking.py --long               # 10,000 frames: does anything grow?
    python scripts/bench/tracking.py --transformers edgetam  # bytes held, beside its own session

Both sides get the same weights and the same generated clip. Speed: all sides take turns frame by
frame in one process, so that they meet the same machine; processor time does not count other
programs. Memory: each side in a process of its own. Random weights cost as much time as trained
ones; their masks mean nothing.

First prediction (fp32 on a CPU): one object as fast as SAM 2's predictor within 5 %, sixteen 5 to
10 % faster one by one and 1.2 times together. Measured then: 1.00 to 1.01 times one by one, and
0.92 together for sixteen: matrix products and attention are nearly all of the time.

So work that no object changes was taken out of the loop over objects (``models/sam2_image.py``,
``models/sam2_memory.py``), to the bit. Predicted and measured savings, side 256, one thread:

    learned and sine positions of the image, once a model      15 ms a frame     14 ms
    first self-attention and its queries, once a frame;
    rotations in place, codes kept, memory projection of
    the frame shared, empty prompt encoded once                6.7 ms an object  5.5 ms
    all of it, sixteen objects, beside SAM 2's predictor       1.15 times        1.09 times

``folded`` (``models/sam2_folded.py``) averages narrow memory tokens before it widens them:
predicted 8 ms an object, measured 8 ms. Its logits differed by at most 2e-4 over 30 frames; the
parity tests hold it to 1e-3 and to equal masks over 24.

Measured (side 256, one thread, 30 frames, milliseconds of processor time a frame):

    objects   sam2 predictor   one by one     folded         together
    1         253              234 (1.08x)    226 (1.12x)    235 (1.08x)
    4         547              502 (1.09x)    468 (1.17x)    463 (1.18x)
    16        1444             1326 (1.09x)   1193 (1.21x)   1266 (1.14x)

Folded and together, sixteen objects: 1141 ms beside 1309 one by one. At side 1024, one object: 7950
ms exact, 6638 folded. Together needs 200 MiB more at the peak with sixteen objects, so it stays off
on CPUs by default. Left out on estimates alone: keeping projected keys and values of memories (some
6 ms an object, for 32 times the memory each), choosing before upsampling (1 %).

Memory: once its slots and pointers are full (frame 22), a further frame adds nothing to ours; SAM
2's predictor adds 0.048 MiB an object and frame at side 256, and holds the clip besides.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import torch

from vision_mem.config import load_config
from vision_mem.models import load_segmenter
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt

SIDES = ("sam2 predictor", "ours, one by one", "ours, folded", "ours, together")
MIB = 2**20
FULL = 22
"""Frames after which map slots, the pointer ring and the state before the latest frame are full."""


def picture(t: int, height: int = 360, width: int = 640) -> np.ndarray:
    """A bright square that wanders over a moving texture, RGB."""
    y, x = np.mgrid[:height, :width]
    texture = (3 * x + 5 * y + 2 * t + 40 * ((x // 16 + y // 16) % 2)) % 200
    image = np.repeat(texture[..., None], 3, axis=2).astype(np.uint8)
    left, top = 60 + (3 * t) % (width - 160), 80 + t % (height - 180)
    image[top : top + 90, left : left + 90] = (240, 60, 30)
    return image


def boxes(objects: int) -> list[np.ndarray]:
    random = np.random.default_rng(7)
    corners = random.uniform((20, 20), (480, 240), size=(objects, 2))
    return [np.array([x, y, x + 100, y + 90], dtype=np.float32) for x, y in corners]


def rss() -> int:
    return psutil.Process().memory_info().rss


def peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def ours(args: argparse.Namespace, side: str) -> Iterator[tuple[np.ndarray, int]]:
    """Time and bytes held of each frame."""
    attention = "folded" if side == "ours, folded" else "exact"
    segmenter = load_segmenter(
        model_name(args),
        device=args.device,
        resize="cv2",
        attention=attention,
        precision=args.precision,
    )
    together = "on" if side == "ours, together" else "off"
    changes = {"batch_objects": together, "fill_hole_area": 0}
    config = load_config(TrackingConfig, args.preset, changes, folder="tracking")
    session = TrackingSession(segmenter, config)
    prompts = [Prompt(box=box) for box in boxes(args.object_count)]
    for t in range(args.frames):
        frame = Frame(t, t / 30.0, picture(t))
        start = clocks()
        session.step(frame, prompts if t == 0 else ())
        yield clocks() - start, session.usage().bytes


def theirs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, int]]:
    """The same of SAM 2's video predictor; decoding and resizing counted evenly."""
    segmenter: Any = load_segmenter(model_name(args), device=args.device)
    half = None if args.precision == "fp32" else torch.bfloat16
    running = functools.partial(
        torch.autocast, segmenter.device.type, dtype=half, enabled=half is not None
    )
    from unittest import mock

    from sam2.sam2_video_predictor import SAM2VideoPredictor

    network = segmenter.network
    network.__class__ = SAM2VideoPredictor  # same weights, its own loop; nothing else differs
    network.fill_hole_area, network.non_overlap_masks = 0, False
    network.clear_non_cond_mem_around_input = False
    network.add_all_frames_to_correct_as_cond = False
    side = network.image_size
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    images = torch.zeros(args.frames, 3, side, side)
    start = clocks()
    for t in range(args.frames):
        small = cv2.resize(picture(t), (side, side))
        image = torch.from_numpy(small).permute(2, 0, 1).float() / 255.0
        images[t] = (image - mean) / std
    loading = (clocks() - start) / args.frames
    with mock.patch("sam2.sam2_video_predictor.load_video_frames") as load:
        load.return_value = (images.to(args.device), 360, 640)
        state = network.init_state("unused")
    for number, box in enumerate(boxes(args.object_count)):
        with running():
            network.add_new_points_or_box(state, 0, number, box=box)
    steps = iter(network.propagate_in_video(state))
    for _ in range(args.frames):
        start = clocks()
        with running():
            _, _, logits = next(steps)
        (logits > 0).cpu().numpy()
        taken = clocks() - start + loading
        yield taken, images.nbytes + held(state["output_dict_per_obj"])


def frames_of(args: argparse.Namespace, side: str) -> Iterator[tuple[np.ndarray, int]]:
    if side == SIDES[0]:
        return theirs(args)
    return ours(args, side)


def sides_of(args: argparse.Namespace) -> list[str]:
    """Folded attention needs float32."""
    return [side for side in SIDES if args.precision == "fp32" or side != "ours, folded"]


def alternate(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All sides in turn, frame by frame in one process, so that all meet the same machine."""
    sides = sides_of(args)
    runs = {side: frames_of(args, side) for side in sides}
    times: dict[str, list[np.ndarray]] = {side: [] for side in sides}
    for _ in range(args.frames):
        for side, run in runs.items():
            times[side].append(next(run)[0])
    return {side: speed(values) for side, values in times.items()}


def held(node: Any) -> int:
    """Bytes of the tensors in nested dicts."""
    if isinstance(node, torch.Tensor):
        return node.untyped_storage().nbytes()
    if isinstance(node, dict):
        return sum(held(value) for key, value in node.items() if key != "maskmem_pos_enc")
    return 0


def storages(node: Any) -> dict[int, int]:
    """Bytes of what lies behind the tensors in nested values, by place: views count once."""
    if isinstance(node, torch.Tensor):
        storage = node.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return {place: size for part in parts for place, size in storages(part).items()}


def clocks() -> np.ndarray:
    """Wall and processor seconds; the latter do not count other programs on the machine."""
    return np.array([time.perf_counter(), time.process_time()])


def speed(times: list[np.ndarray]) -> dict[str, float]:
    # The first frames are prompts and warm-up; all memories are read from frame 16 on.
    wall, processor = np.median(np.stack(times[min(FULL - 6, len(times) // 2) :]), axis=0)
    return {"fps": 1.0 / float(wall), "cpu_ms": 1e3 * float(processor)}


def memory(args: argparse.Namespace) -> dict[str, float]:
    """One side in a process of its own."""
    sizes = [size for _, size in frames_of(args, args.side)]
    start = min(FULL, len(sizes) - 2)  # before that, ours grows too: it is being filled
    growth = (sizes[-1] - sizes[start]) / (len(sizes) - 1 - start)
    return {"peak_mib": peak() / MIB, "held_mib": sizes[-1] / MIB, "growth_mib": growth / MIB}


def child(args: argparse.Namespace, objects: int, side: str) -> Any:
    command = [sys.executable, str(Path(__file__)), "--side", side]
    for name in ("model", "image_size", "frames", "device", "preset", "threads", "precision"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    command += ["--object-count", str(objects)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout)


def model_name(args: argparse.Namespace) -> str:
    if args.model == "random":
        return f"random:sam2.1_hiera_t@{args.image_size or 1024}"
    return str(args.model)


def table(args: argparse.Namespace) -> None:
    rows = []
    for objects in args.objects:
        speeds = child(args, objects, "all")
        for side in sides_of(args):
            row = {"objects": objects, "side": side, **speeds[side], **child(args, objects, side)}
            ratio = speeds[SIDES[0]]["cpu_ms"] / row["cpu_ms"]
            rows.append(row)
            print(
                f"{objects:3d} objects  {side:16s} {row['fps']:6.2f} frames/s  "
                f"{row['cpu_ms']:6.0f} ms processor ({ratio:4.2f}x)  "
                f"peak {row['peak_mib']:5.0f} MiB  held {row['held_mib']:6.1f} MiB  "
                f"a further frame {row['growth_mib']:6.3f} MiB",
                flush=True,
            )
    machine = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": args.threads,
        "precision": args.precision,
        "model": model_name(args),
        "frames": args.frames,
    }
    print(json.dumps(machine))
    if args.out:
        Path(args.out).write_text(json.dumps({"rows": rows, **machine}, indent=1))


def long_run(args: argparse.Namespace) -> None:
    if args.model == "fake":
        from vision_mem.models.segmenters.fake import FakeSegmenter

        segmenter: Any = FakeSegmenter()
    elif args.model == "random":
        segmenter = load_segmenter(f"random:sam2.1_hiera_t@{args.image_size or 128}", device="cpu")
    else:
        segmenter = load_segmenter(args.model, device=args.device)
    config = load_config(TrackingConfig, args.preset, folder="tracking")
    session = TrackingSession(segmenter, config)
    frames = args.frames
    begin = None
    times, sizes = [], []
    clip = [picture(t, 240, 320) for t in range(100)]
    for t in range(frames):
        frame = Frame(t, t / 30.0, clip[t % 100])
        prompts = [Prompt(box=(60, 80, 150, 170))] if t == 0 else ()
        start = time.perf_counter()
        session.step(frame, prompts)
        times.append(time.perf_counter() - start)
        sizes.append(session.usage().bytes)
        if t == 200:
            begin = rss()
    part = min(1000, frames // 4)
    grown = "-" if begin is None else f"{(rss() - begin) / MIB:.1f} MiB"
    print(f"{frames} frames, {segmenter.traits.model_id}, preset {args.preset}")
    print(f"bytes held: at most {max(sizes[: frames // 2]):,} in the first half,")
    print(f"            at most {max(sizes[frames // 2 :]):,} in the second half")
    print(f"resident memory grown since frame 200: {grown}")
    first, last = np.mean(times[:part]) * 1e3, np.mean(times[-part:]) * 1e3
    print(f"first {part} frames {first:.2f} ms each, last {part} frames {last:.2f} ms each")


def beside_transformers(args: argparse.Namespace) -> None:
    """Bytes held by our session and by that of transformers, which gets the frames one by one."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        if args.transformers in ("sam2", "edgetam", "sam3"):
            sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "fixtures"))
            import hf_segmenters

            place = Path(folder, args.transformers)
            hf_segmenters.network(args.transformers).save_pretrained(place)
            args.transformers = str(place)
        segmenter: Any = load_segmenter(args.transformers, device=args.device)
    network, side = segmenter.network, segmenter.traits.image_size
    given = {"size": {"height": side, "width": side}}
    tools = transformers.Sam2VideoProcessor(
        transformers.Sam2ImageProcessor(**given), transformers.Sam2VideoVideoProcessor(**given)
    )
    print(f"{segmenter.traits.model_id}, {type(network).__name__}, bytes held after so many frames")
    marks = [n for n in (1, 10, 22, 30, 60, 120, args.frames) if n <= args.frames]
    print("objects  session       " + "".join(f"{n:>12d}" for n in sorted(set(marks))))
    for objects in args.objects:
        session = TrackingSession(
            segmenter, load_config(TrackingConfig, args.preset, folder="tracking")
        )
        state = tools.init_video_session(inference_device=args.device)
        rows: dict[str, list[int]] = {"ours": [], "transformers": []}
        some = [Prompt(object_id=n + 1, box=box) for n, box in enumerate(boxes(objects))]
        for t in range(args.frames):
            image = picture(t)
            session.step(Frame(t, t / 30.0, image), some if t == 0 else ())
            made = tools(images=image, device=args.device, return_tensors="pt")
            if t == 0:
                size = made.original_sizes[0]
                corners = [[list(map(float, prompt.box)) for prompt in some]]
                ids = [prompt.object_id for prompt in some]
                tools.add_inputs_to_inference_session(
                    state, 0, ids, input_boxes=corners, original_size=size
                )
            network(inference_session=state, frame=made.pixel_values[0])
            rows["ours"].append(session.usage().bytes)
            rows["transformers"].append(sum(storages(vars(state)).values()))
        for name, sizes in rows.items():
            shown = "".join(f"{sizes[n - 1]:12,d}" for n in sorted(set(marks)))
            print(f"{objects:7d}  {name:13s} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="random", help="random, fake, or a segmenter's name")
    parser.add_argument("--image-size", type=int, default=256, help="0: the model's own")
    parser.add_argument("--frames", type=int, default=0, help="32, or 10,000 with --long")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--preset", default="sam2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of both sides"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", help="write the numbers to a JSON file")
    parser.add_argument("--long", action="store_true", help="one long run instead of the table")
    parser.add_argument(
        "--transformers",
        help="a folder or id, or sam2, edgetam, sam3 for a tiny network with random weights: bytes "
        "held, beside its session",
    )
    parser.add_argument("--side", choices=("all", *SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--object-count", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.frames = args.frames or (10_000 if args.long else 32)
    torch.set_num_threads(args.threads)
    if args.transformers:
        beside_transformers(args)
    elif args.long:
        long_run(args)
    elif args.side is None:
        table(args)
    else:
        print(json.dumps(alternate(args) if args.side == "all" else memory(args)))


if __name__ == "__main__":
    main()
