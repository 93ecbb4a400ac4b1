"""What an answer costs: peak memory and seconds, for the plain backbone and for bounded memories.

    python scripts/bench/videoqa_backbones.py                         # tiny random model, CPU
    python scripts/bench/videoqa_backbones.py --model /path/to/folder
    python scripts/bench/videoqa_backbones.py --device cuda           # shape of Qwen2.5-VL-3B, bf16

Rows: ``plain``, the library's own way: the clip is encoded at once and ``generate`` is given its
pixels; ``streamed, all``: our adapter, grid by grid, with every token kept; ``streamed, bounded``:
the same with the memory's preset (``--preset``, ``--budget``). All are asked the same question
about the same frames and made to say ``--tokens`` tokens.

Columns: visual tokens that were read; what the loaded model holds (on a CPU: the whole process);
peak memory above that, over everything (watching and answering) and of the answer alone, in MiB;
seconds to watch the clip, to the first token of the answer, and to its last one. The plain
backbone keeps nothing between questions: it watches again for each, so its watching is part of its
answer. On a CPU each row is a process of its own, memory is what the system counts, and seconds
are processor time (wall time with more than one thread); on a GPU memory is what torch allocates,
and seconds are wall time. Weights are random unless a folder is given: times and bytes mean
something, words do not.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from vision_mem.config import load_config
from vision_mem.models.vlm.load import load_video_model
from vision_mem.models.vlm.option_scores import ByLikelihood
from vision_mem.models.vlm.protocol import Question
from vision_mem.types import Frame
from vision_mem.videoqa.config import VideoQaConfig
from vision_mem.videoqa.session import VideoMemorySession

MIB = 2**20
WAYS = ("plain", "streamed, all", "streamed, bounded")
HEAD = (
    "frames  way                   read held MiB  peak MiB  answer MiB  watch s  first s  answer s"
)
QUESTION = Question("Where is the cup?", ("left", "right"), "Answer with the letter.")


class Peak:
    """The most memory in use since ``begin``, above what was in use when this was made."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.idle = 0.0
        self.begin()
        self.idle = self.mib()

    def begin(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew

    def mib(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() / MIB - self.idle
        (line,) = (r for r in Path("/proc/self/status").read_text().split("\n") if "VmHWM" in r)
        return max(0.0, int(line.split()[1]) / 1024 - self.idle)


def clip(frames: int, size: tuple[int, int], scene: int = 16) -> Iterator[Frame]:
    """A second apart: a textured ground that changes each ``scene`` frames, and a moving patch."""
    height, width = size
    for k in range(frames):
        ground = np.random.default_rng(k // scene).integers(0, 200, (8, 12, 3))
        image = np.kron(ground, np.ones((-(-height // 8), -(-width // 12), 1)))[:height, :width]
        left = (k * 11) % (width - width // 6)
        image[height // 3 : height // 2, left : left + width // 6] = (230, 40, 40)
        image += np.random.default_rng(1000 + k).integers(0, 12, image.shape)
        yield Frame(k, float(k), image.astype(np.uint8))


class FirstToken:
    """Notes when ``generate`` gives its first token."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.puts, self.first = now, 0, 0.0

    def put(self, value: Any) -> None:
        self.puts += 1
        if self.puts == 2:  # the first one is the prompt
            self.first = self.now()

    def end(self) -> None:
        pass


def plain(model: Any, frames: int, args: argparse.Namespace, peak: Peak) -> dict[str, float]:
    begun = args.now()
    video = np.stack([frame.image for frame in clip(frames, args.size)]).transpose(0, 3, 1, 2)
    given = model._processor(
        videos=[torch.from_numpy(video)], do_sample_frames=False, return_tensors="pt"
    ).to(model.device)
    prompt, merge = model._chat.prompt(QUESTION), model._merge**2
    count = int(given["video_grid_thw"].prod()) // merge
    pad = model._chat.marker("<|video_pad|>")
    opening, closing = model._opening, model._closing
    ids = torch.tensor(
        [[*prompt.before, *opening, *[pad] * count, *closing, *prompt.after]], device=model.device
    )
    note = FirstToken(args.now)
    with torch.inference_mode():
        model._network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == pad).int() * 2,
            pixel_values_videos=given["pixel_values_videos"],
            video_grid_thw=given["video_grid_thw"],
            second_per_grid_ts=[2.0],
            do_sample=False,
            min_new_tokens=args.tokens,
            max_new_tokens=args.tokens,
            streamer=note,
        )
    ended = args.now()
    return {
        "read": count,
        "peak": peak.mib(),
        "answer_peak": peak.mib(),
        "watch_s": 0.0,
        "first_s": note.first - begun,
        "answer_s": ended - begun,
    }


def streamed(
    model: Any, frames: int, args: argparse.Namespace, peak: Peak, preset: str
) -> dict[str, float]:
    changes = {} if preset == "full" else {"memory": {"budget": args.budget}}
    config = load_config(VideoQaConfig, preset, changes, folder="videoqa")
    session = VideoMemorySession(model, config)
    begun = args.now()
    for frame in clip(frames, args.size):
        session.step(frame)
    if peak.cuda:
        torch.cuda.synchronize()
    watched, watching = args.now() - begun, peak.mib()
    peak.begin()
    begun, first = args.now(), 0.0
    stream = session.ask_stream(QUESTION, scope="all")
    for _ in stream:
        first = first or args.now() - begun
    ended = args.now() - begun
    return {
        "read": stream.answer.tokens_read,
        "peak": max(watching, peak.mib()),
        "answer_peak": peak.mib(),
        "watch_s": watched,
        "first_s": first,
        "answer_s": ended,
    }


def measured(model: Any, way: str, frames: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    peak = Peak(args.device)
    try:
        if way == "plain":
            row = plain(model, frames, args, peak)
        else:
            preset = "full" if way == "streamed, all" else args.preset
            row = streamed(model, frames, args, peak, preset)
    except Exception as error:
        if "memory" not in str(error):
            raise
        row = {"failed": "not enough memory"}
    return {"way": way, "frames": frames, "held": peak.idle, **row}


def opened(args: argparse.Namespace) -> Any:
    torch.set_num_threads(args.threads)
    model: Any = load_video_model(args.model, device=args.device, precision=args.precision)
    model = model.model if isinstance(model, ByLikelihood) else model  # nothing is chosen here
    if type(model).__name__ != "QwenVideoModel":
        sys.exit("this bench knows the plain way of Qwen2-VL and Qwen2.5-VL only")
    model._stops = frozenset()  # all say the same number of tokens
    for way in WAYS[:2]:  # what is made once is not part of any row
        measured(model, way, 4, args)
    return model


def alone(way: str, frames: int, args: argparse.Namespace) -> dict[str, Any]:
    """The row, from a process of its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--one", way, str(frames)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = "not enough memory" if done.returncode < 0 else done.stderr.strip()[-200:]
        return {"way": way, "frames": frames, "failed": reason}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def shown(row: dict[str, Any]) -> str:
    head = f"{row['frames']:6d}  {row['way']:18s}"
    if "failed" in row:
        return f"{head} {row['failed']}"
    return (
        f"{head} {row['read']:7d} {row['held']:8.0f} {row['peak']:9.1f} {row['answer_peak']:11.1f} "
        f"{row['watch_s']:8.2f} {row['first_s']:8.2f} {row['answer_s']:9.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="default: a tiny random one, on a GPU the 3B shape")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 128, 512])
    parser.add_argument("--size", type=int, nargs=2, help="height and width of a frame")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="JSON file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    # On one thread of a CPU the time of other programs does not count.
    args.now = time.perf_counter if cuda or args.threads > 1 else time.process_time
    args.model = args.model or ("random:qwen2.5-vl-3b" if cuda else "random:qwen2.5-vl-tiny")
    args.size = tuple(args.size or ((448, 840) if cuda else (168, 280)))
    if args.one:
        print(json.dumps(measured(opened(args), args.one[0], int(args.one[1]), args)))
        return
    model = opened(args) if cuda else None
    print(HEAD)
    rows = []
    for frames in args.frames:
        for way in WAYS:
            row = measured(model, way, frames, args) if cuda else alone(way, frames, args)
            rows.append(row)
            print(shown(row), flush=True)
    machine = {
        "model": args.model,
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "threads": args.threads,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "size": args.size,
        "preset": args.preset,
        "budget": args.budget,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(machine))
    if args.out:
        Path(args.out).write_text(json.dumps({"rows": rows, **machine}, indent=1))


if __name__ == "__main__":
    main()
