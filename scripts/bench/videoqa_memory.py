"""What a video memory costs for as long as a stream runs: tokens, bytes and milliseconds a grid.

    python scripts/bench/videoqa_memory.py                                   # 100,000 small grids
    python scripts/bench/videoqa_memory.py --grids 300 --rows 16 --cols 30 --width 3584 --dtype bf16
    python scripts/bench/videoqa_memory.py --presets default,fifo,uniform --out memory.json

No network runs: tokens are made up, drift, and now and then all change, so that pruning, merging,
selection and budget have their full work. All presets have the same budget and take turns grid
by grid, so that all meet the same machine. Times are processor time of this process; the time of a
question is that of scoring and choosing, without an answer.

A row is the stretch of the stream up to that grid: tokens and bytes at its end and at most, the
median and the 99th percentile of milliseconds a grid in it, the process's resident memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from vision_mem.config import load_config
from vision_mem.models.vlm.protocol import EncodedGrid
from vision_mem.videoqa import GridEntry, TokenMemory, VideoQaConfig
from vision_mem.videoqa.compression import unit
from vision_mem.videoqa.retrieval import retrieve

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
POOL_BYTES = 2**28
MIB = 2**20


def make_pool(arguments: argparse.Namespace) -> list[torch.Tensor]:
    """Grids that are shown over and over: as many as fit in 256 MiB, 600 at most."""
    random = torch.Generator().manual_seed(7)
    n, width = arguments.rows * arguments.cols, arguments.width
    count = max(8, min(600, POOL_BYTES // (n * width * 4)))
    tokens, pool = torch.randn(n, width, generator=random), []
    for index in range(count):
        moving = torch.rand(n, 1, generator=random) < 0.3
        tokens = torch.where(moving, tokens + 0.8 * torch.randn(n, width, generator=random), tokens)
        if index % 23 == 22:
            tokens = torch.randn(n, width, generator=random)
        tokens = unit(tokens) * width**0.5
        pool.append(tokens.to(DTYPES[arguments.dtype]))
    return pool


def start(preset: str, arguments: argparse.Namespace) -> tuple[VideoQaConfig, TokenMemory]:
    changes = {"memory.budget": arguments.budget}
    config = load_config(VideoQaConfig, preset, changes, folder="videoqa")
    bank = None
    if config.salience.enabled and config.memory.rules == "tiers":
        random = torch.Generator().manual_seed(11)
        bank = unit(torch.randn(45, arguments.width, generator=random))
    return config, TokenMemory(config.memory, 2, bank)


def ask_ms(config: VideoQaConfig, memory: TokenMemory, width: int) -> float:
    query = unit(torch.randn(12, width, generator=torch.Generator().manual_seed(13)))
    began = time.process_time()
    retrieve(memory.short, (*memory.long, *memory.mid), query, config.retrieval)
    return (time.process_time() - began) * 1000


def measure(arguments: argparse.Namespace) -> list[dict[str, float | int | str]]:
    pool, presets = make_pool(arguments), arguments.presets.split(",")
    settings = {preset: start(preset, arguments) for preset in presets}
    memories = {preset: memory for preset, (_, memory) in settings.items()}
    times: dict[str, list[float]] = {preset: [] for preset in presets}
    most: dict[str, list[int]] = {preset: [0, 0] for preset in presets}
    marks = sorted({arguments.grids, *np.geomspace(100, arguments.grids, 10).astype(int).tolist()})
    rows, process = [], psutil.Process()
    for index in range(arguments.grids):
        encoded = EncodedGrid.full(pool[index % len(pool)], arguments.rows, arguments.cols)
        for preset in presets:
            entry = GridEntry.new(
                encoded,
                index=index,
                frames=(2 * index, 2 * index + 1),
                start_s=2.0 * index,
                end_s=2.0 * index + 1,
            )
            began = time.process_time()
            memories[preset] = memories[preset].write(entry)
            times[preset].append((time.process_time() - began) * 1000)
            if index % 50 == 49 or index + 1 in marks:
                usage = memories[preset].usage()
                held = [sum(usage.tokens.values()), usage.bytes]
                most[preset] = [max(pair) for pair in zip(most[preset], held, strict=True)]
        if index + 1 not in marks:
            continue
        for preset in presets:
            memory, usage = memories[preset], memories[preset].usage()
            row = {
                "preset": preset,
                "grids": index + 1,
                "tokens": sum(usage.tokens.values()),
                "most_tokens": most[preset][0],
                **{f"{tier}_tokens": count for tier, count in usage.tokens.items()},
                "entries": usage.entries,
                "kib": round(usage.bytes / 1024, 1),
                "most_kib": round(most[preset][1] / 1024, 1),
                "ms": round(float(np.median(times[preset])), 3),
                "p99_ms": round(float(np.percentile(times[preset], 99)), 3),
                "ask_ms": round(ask_ms(settings[preset][0], memory, arguments.width), 2),
                "oldest_grid": memory.read()[0].index,
                "rss_mib": round(process.memory_info().rss / MIB, 1),
            }
            rows.append(row)
            if len(rows) == 1:
                print(" ".join(f"{name:>15}" for name in row))
            print(" ".join(f"{value!s:>15}" for value in row.values()), flush=True)
            times[preset] = []
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--cols", type=int, default=8)
    parser.add_argument("--width", type=int, default=64, help="numbers in a token")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--presets", default="default", help="names of configs/videoqa, by commas")
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows = measure(arguments)
    if arguments.out is not None:
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        named = {k: v for k, v in vars(arguments).items() if k != "out"}
        content = {"arguments": named, "machine": platform.machine(), **versions, "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
