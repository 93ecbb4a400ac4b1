"""A small generated room as a recording, and the command that rebuilds it."""

from __future__ import annotations

import functools
from pathlib import Path

from vision_mem.cli import main
from vision_mem.synthetic.rgbd_scene import SyntheticStream, TrueFrame

FRAMES = 60


@functools.cache
def film() -> list[TrueFrame]:
    """Frames of the room and their truth."""
    return list(SyntheticStream(2_000_104, FRAMES, 96, 72))


def reconstruct(source: Path, out: Path, *words: str) -> int:
    """Run the command; gives its exit code."""
    return main(["reconstruct", str(source), "--out", str(out), "--quiet", *words])


def lines(path: Path) -> list[str]:
    """Lines of a text file."""
    return path.read_text(encoding="utf-8").splitlines()


def ply(path: Path) -> tuple[list[str], int]:
    """Lines of the header of a PLY, and bytes behind it."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    return head.decode().splitlines(), len(body)
