"""Inputs of the samples in ``tests/goldens/before``, and the commands that made them.

    python tests/parity/before_inputs.py DIR     # makes inputs, half done runs, and whole ones

The samples were written by the package before its modules were laid out anew; the tests open and
continue them. Inputs are drawn here, without the package and without losses, so that the frames of
a run that goes on are the same to the bit.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

FRAMES = 10
SAM2 = "--model random:sam2.1_hiera_t@128 --threads 1"
TRACK = f"track inputs/blocks {SAM2} --box red=6,8,20,20 --save lasot,mot,rle,diary"
MOTS = (
    f"mots inputs/blocks {SAM2} --detect file:inputs/blocks.txt:kitti --save mot,events,tracks,rle"
)
SCENE = (
    "reconstruct inputs/room --save trajectory,events,tracks,map --set kernels=numpy "
    "--set structure.voxel=0.1 --set evidence.key_frames=2"
)
ASK = "ask inputs/colours --model fake --set fps=1"
ROOM = "navigate build inputs/room --set octree.kernels=numpy --pixels 3 --landmark box=0.3,0,1.2"
STREETS = "navigate build inputs/streets --sights inputs/streets/sights.jsonl"
EVAL = f"eval folder --root inputs/folder --devices cpu --preset none {SAM2.split(' --')[0]}"

PARTS = {
    "track": f"{TRACK} --max-frames 5 --snapshot-every 2 --out track",
    "mots": f"{MOTS} --max-frames 5 --snapshot-every 2 --out mots",
    "reconstruct": f"{SCENE} --max-frames 4 --snapshot-every 2 --out reconstruct",
    "ask": f"{ASK} --end 180 --memory day.vmem --out ask",
    "map": f"{ROOM} --up +z --max-frames 4 --map room.map --quiet",
    "streets": f"{STREETS} --map streets.map --tour 30 --seed 1 --quiet",
    "eval": f"{EVAL} --limit 1 --out eval",
}
"""What made the samples: every one stops half way."""

REST = {
    "track": "track inputs/blocks --resume --out track",
    "mots": "mots inputs/blocks --resume --out mots",
    "reconstruct": "reconstruct inputs/room --resume --out reconstruct",
    "ask": f"{ASK} red? --memory day.vmem --json --out ask",
    "map": f"{ROOM} --up +z --map room.map --quiet",
    "streets": f"{STREETS} --map streets.map --tour 60 --seed 1 --quiet",
    "eval": f"{EVAL} --out eval",
}
"""What goes on from there."""

WHOLE = {
    "track": f"{TRACK} --out whole/track",
    "mots": f"{MOTS} --out whole/mots",
    "reconstruct": f"{SCENE} --out whole/reconstruct",
    "ask": f"{ASK} red? --memory whole/day.vmem --json --out whole/ask",
    "map": f"{ROOM} --up +z --map whole/room.map --quiet",
    "streets": f"{STREETS} --map whole/streets.map --tour 60 --seed 1 --quiet",
    "eval": f"{EVAL} --out whole/eval",
}
"""The same, not interrupted."""


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def _text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _wall(seed: int, height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    small = random.integers(90, 140, (height // 8, width // 8, 3)).astype(np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


def _blocks(place: Path) -> None:
    """Two blocks that cross before a wall, 96x72, and where they are."""
    background, found = _wall(3, 72, 96), []
    for t in range(FRAMES):
        picture = background.copy()
        for kind, (x, y), colour in (
            (1, (6 + 4 * t, 8), (40, 60, 220)),
            (2, (68 - 4 * t, 42), (230, 90, 40)),
        ):
            picture[y : y + 20, x : x + 20] = colour
            picture[y + 6 : y + 14, x : x + 20] = np.array(colour) // 2
            found.append(f"{t} {x} {y} {x + 20} {y + 20} 0.9 {kind}")
        _save(place / "blocks" / f"{t:06d}.png", picture)
    _text(place / "blocks.txt", found)


def _colours(place: Path) -> None:
    """A grey wall; a red square on it in the second quarter, a blue one in the last."""
    for t in range(300):
        picture = np.full((48, 64, 3), 115, np.uint8)
        picture[12:36, 20:44] = ((115, 115, 115), (40, 40, 220), (115, 115, 115), (220, 60, 40))[
            t // 75
        ]
        _save(place / "colours" / f"{t:06d}.png", picture)


def _room(place: Path) -> None:
    """A wall two metres off and a box before it; the camera goes to the right. TUM's layout."""
    height, width, focal = 48, 64, 60.0
    random = np.random.default_rng(5)
    # Colours by the place on the wall, 5 cm each, so that they stay where they are.
    paint = random.integers(40, 220, (80, 120, 3)).astype(np.uint8)
    rows, columns = np.mgrid[0:height, 0:width]
    across, down = (columns - (width - 1) / 2) / focal, (rows - (height - 1) / 2) / focal
    names = {"rgb": [], "depth": []}
    poses = []
    for t in range(8):
        x = 0.04 * t
        depth = np.full((height, width), 2.0)
        near = (abs(across * 1.2 + x - 0.3) < 0.2) & (abs(down * 1.2) < 0.25)
        depth[near] = 1.2
        u = ((across * depth + x + 3) / 0.05).astype(int)
        v = ((down * depth + 2) / 0.05).astype(int)
        picture = paint[v, u]
        picture[near] //= 2
        for kind, image in (("rgb", picture), ("depth", (depth * 5000).astype(np.uint16))):
            _save(place / "room" / kind / f"{t:06d}.png", image)
            names[kind].append(f"{t / 10:.6f} {kind}/{t:06d}.png")
        poses.append(f"{t / 10:.6f} {x:.6f} 0 0 0 0 0 1")
    for kind, lines in names.items():
        _text(place / "room" / f"{kind}.txt", lines)
    _text(place / "room" / "groundtruth.txt", poses)
    middle = f"{focal} 0 {(width - 1) / 2}", f"0 {focal} {(height - 1) / 2}", "0 0 1"
    _text(place / "room" / "camera-intrinsics.txt", list(middle))


def _streets(place: Path) -> None:
    """Five streets each way, 10 m from one panorama to the next, and a thing at each crossing."""
    side, lines, links, sights = 9, [], [], []
    for row in range(side):
        for column in range(side):
            if row % 2 and column % 2:
                continue
            name = f"p{row}{column}"
            north, east = 40.0 + 10 * row / 111_195, -74.0 + 10 * column / 85_180
            lines.append(f"{name},0,{north:.7f},{east:.7f}")
            for heading, (r, c) in ((0, (1, 0)), (90, (0, 1)), (180, (-1, 0)), (270, (0, -1))):
                there = row + r, column + c
                if min(there) >= 0 and max(there) < side and not (there[0] % 2 and there[1] % 2):
                    links.append(f"{name},{heading},p{there[0]}{there[1]}")
            if not row % 2 and not column % 2:
                word = f"{('red', 'blue', 'green')[row // 2 % 3]} shop{column}"
                seen = [{"word": word, "bearing": 45.0, "range": 8.0}]
                sights.append(json.dumps({"panorama": name, "sights": seen}))
    _text(place / "streets" / "graph" / "nodes.txt", lines)
    _text(place / "streets" / "graph" / "links.txt", links)
    _text(place / "streets" / "sights.jsonl", sights)


def _folder(place: Path) -> None:
    """Two sequences of a benchmark in plain folders."""
    for number, name in enumerate(("one", "two")):
        background, boxes = _wall(7 + number, 64, 96), []
        for t in range(6):
            picture = background.copy()
            x, y = 6 + 4 * number + 5 * t, 10 + 2 * t
            picture[y : y + 20, x : x + 20] = (30, 200, 240)
            boxes.append(f"{x},{y},20,20")
            _save(place / "folder" / name / "img" / f"{t + 1:06d}.png", picture)
        _text(place / "folder" / name / "groundtruth.txt", boxes)


def make_inputs(place: Path) -> None:
    """Everything the commands read."""
    for make in (_blocks, _colours, _room, _streets, _folder):
        make(place)


def main(place: Path) -> None:
    program = Path(sys.executable).with_name("vision-mem")
    make_inputs(place / "inputs")
    (place / "whole").mkdir()
    for name in PARTS:
        for line in (PARTS[name], WHOLE[name]):
            done = subprocess.run([program, *shlex.split(line)], cwd=place, check=False)
            print(f"exit {done.returncode}: {line}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
