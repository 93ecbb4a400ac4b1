"""Record what a fixed list of commands says and writes, and compare two such records.

    python scripts/goldens/commands.py record OUT_DIR               # eight minutes on one core
    python scripts/goldens/commands.py record OUT_DIR --only mots   # again, those named so
    python scripts/goldens/commands.py compare A/record.json B/record.json

Made for changes that must change nothing: record before and after, on one machine, and compare. The
command line next to the running Python is what is recorded; nothing of the package is imported, so
the program does not change when modules move. Inputs are drawn here, or made by commands.

What is compared: exit codes; all words on standard output and error; every file a command leaves.
Video is compared by its decoded pictures and their times, SQLite by its rows, safetensors, NPZ and
ZIP by what they hold, everything else by its bytes. What is left out, and why:

* seconds, frames a second, bytes of resident memory, dates, process numbers, the machine and the
  versions of packages (``DROPPED``, ``SAYINGS``): they depend on the clock or the installation
* ``*_time.txt`` of the GOT-10k layout: seconds of each frame; only their lines are counted
* the folder of the record itself: its path is replaced by ``<out>`` wherever it stands, so that
  two records in different folders can be compared
* ``crc`` of the table ``memory`` of maps: a sum over a row that holds that path
* rows of reports of ``reconstruct`` that say how long its steps took
* lines that say how far a command is: one every few seconds
* ``*.lock``, ``*-wal``, ``*-shm``: a process number, and SQLite's own working files
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

DROPPED = frozenset(
    {
        # of the clock
        "started", "seconds", "tracking_seconds", "detecting_seconds", "opening_seconds",
        "frames_per_s", "frames_per_s_end_to_end", "stage_ms",
        # of the machine and what is installed
        "peak_rss_bytes", "versions", "platform", "program",
    }
)  # fmt: skip
"""Keys of JSON files that differ between two runs of one program, or between two machines."""

SAYINGS = (
    (re.compile(r"(frames? in )[\d.]+ s \([\d.]+ frames/s\)"), r"\1<time>"),
    (re.compile(r"(speed of a worker: ).*"), r"\1<time>"),
    (re.compile(r"process \d+ on \S+"), "<process>"),
    # How far it is, every few seconds.
    (re.compile(r"^(frame|sequence) \d+(/\d+)?, .*\n", re.MULTILINE), ""),
    # Rows of the report, the slowest step first.
    (re.compile(r"<tr><td>[^<]*</td><td>[\d.]+ (ms|frames/s)</td></tr>\n?"), ""),
    (re.compile(r"(tours saw \d+% of the places; )\d+ s"), r"\1<time>"),
)
"""Parts of lines that depend on the clock."""

TEXT_KEPT = 20_000
"""Characters of a text that are kept in the record itself, to show where it differs."""

BOX = "red=8,12,24,24"
SAM2 = ("--model", "random:sam2.1_hiera_t@128")
ONE = ("--threads", "1")
MOTS_SAVES = "video,kitti-mots,kitti-mots-png,mots-challenge,kitti,mot,rle,events,diary,tracks"
TRACK_SAVES = "video,lasot,otb,got10k,mot,rle,png,diary"
SCENE_SAVES = "trajectory,kitti,depth,depth-npz,dynamic,video,events,tracks,map,mesh,topdown,report"
BLOCKS, COLOURS = "inputs/blocks.mp4", "inputs/colours.mp4"
CITY = "out/city/city"
CROWDS = "sequences=2,frames=6,width=96,height=64,objects=3,moving_every=2"
STREAMS = "videos=2,seconds=16,width=120,height=90,fps=2,per_task=1"
ROOMS = "rooms=1,frames=10,width=64,height=48"


def commands() -> list[tuple[str, str]]:
    """Name and words of every command, in the order they are run; later ones use earlier ones."""
    sam2, one = " ".join(SAM2), " ".join(ONE)
    room = "navigate build out/nav-demo/room --set octree.kernels=numpy --pixels 2 --map"
    found = "--detect file:out/nav-demo/room.detections.jsonl"
    return [
        # -- track: models, policies, prompts, formats, going on
        (
            "track-all-formats",
            f"track {BLOCKS} --box {BOX} --save {TRACK_SAVES} {one} --out out/t1",
        ),
        (
            "track-official-points",
            f"track {BLOCKS} --box {BOX} --point blue=136,48 --not-point blue=60,10 "
            f"--box late=4,4,20,20@6 --preset samurai-official {sam2} {one} --max-frames 10 "
            f"--save {TRACK_SAVES} --out out/t2",
        ),
        (
            "track-sam2-masks",
            f"track {BLOCKS} --mask inputs/mask.png --preset sam2 {sam2} --attention folded {one} "
            "--max-frames 10 --save mot,rle,png,diary --decoder pyav --out out/t3",
        ),
        (
            "track-dam4sam-images",
            "track inputs/lasot/square/square-1/img --init inputs/lasot/square/square-1/"
            f"groundtruth.txt --preset dam4sam {one} --out out/t4",
        ),
        (
            "track-none-part",
            f"track {BLOCKS} --box {BOX}@4 --start 2 --end 30 --stride 2 --preset none {sam2} "
            f"{one} --set policy.max_prompts=3 --decoder opencv --save lasot,diary --out out/t6",
        ),
        (
            "track-prompts-file",
            f"track {BLOCKS} --init inputs/prompts.json {one} --max-frames 6 --save lasot,rle "
            "--out out/t7",
        ),
        (
            "track-cut",
            f"track {BLOCKS} --box {BOX} {sam2} {one} --save video,lasot,mot,rle,diary "
            "--max-frames 12 --snapshot-every 5 --out out/t8",
        ),
        ("track-resumed", f"track {BLOCKS} {sam2} {one} --resume --max-frames 20 --out out/t8"),
        # -- mots
        (
            "mots-motion-all-formats",
            f"mots {BLOCKS} --detect motion --classes moving=pedestrian --record {one} "
            f"--save {MOTS_SAVES} --out out/m1",
        ),
        (
            "mots-file-all-formats",
            f"mots {BLOCKS} --detect file:inputs/blocks.txt:kitti {one} --max-frames 20 "
            f"--save {MOTS_SAVES} --out out/m2",
        ),
        (
            "mots-official-sam2",
            f"mots {BLOCKS} --detect file:inputs/blocks.txt:kitti --preset official {sam2} {one} "
            "--max-frames 16 --save mot,events,tracks,diary,rle --out out/m3",
        ),
        (
            "mots-upright-region",
            f"mots {BLOCKS} --detect motion:upright --region 0,0,160,70 {one} --max-frames 24 "
            "--save mot,events,tracks,diary --out out/m4",
        ),
        (
            "mots-probabilistic-two-detectors",
            f"mots {BLOCKS} --detect motion:knn --detect file:out/m1/blocks.detections.jsonl "
            f"--preset probabilistic --every 2 {one} --max-frames 20 "
            "--save mot,events,tracks,diary --out out/m5",
        ),
        (
            "mots-cut",
            f"mots {BLOCKS} --detect file:inputs/blocks.txt:kitti {one} "
            "--save mot,events,tracks,rle --max-frames 14 --snapshot-every 5 --out out/m6",
        ),
        (
            "mots-resumed",
            f"mots {BLOCKS} --detect file:inputs/blocks.txt:kitti {one} --resume --max-frames 22 "
            "--out out/m6",
        ),
        # -- ask
        (
            "ask-fake",
            f"ask {COLOURS} blue? red? --at 9 --model fake --memory out/a1.vmem --end 80 --json "
            "--out out/a1",
        ),
        ("ask-goes-on", f"ask {COLOURS} --model fake --memory out/a1.vmem --out out/a2"),
        (
            "ask-memory",
            "ask out/a1.vmem green? red? --model fake --set memory.budget=5 --scope all "
            "--out out/a3",
        ),
        (
            "ask-words",
            f"ask {COLOURS} blue --model words --preset search {one} --json --out out/a4",
        ),
        (
            "ask-qwen-official",
            f"ask {COLOURS} blue? --model random:qwen2.5-vl-tiny --preset official {one} --fps 1 "
            "--memory out/a5.vmem --json --out out/a5",
        ),
        (
            "ask-miniature",
            f'ask {COLOURS} "What is the background now?" --model miniature {one} --json '
            "--out out/a6",
        ),
        *(
            (
                f"ask-{preset}",
                f"ask {COLOURS} blue? --model fake --preset {preset} --json --out out/a-{preset}",
            )
            for preset in ("uniform", "similarity-only")
        ),
        # -- reconstruct
        (
            "reconstruct-all-formats",
            f"reconstruct generated:3 --max-frames 5 --save {SCENE_SAVES} "
            "--save-memory out/r1.safetensors --out out/r1",
        ),
        (
            "reconstruct-cut",
            "reconstruct out/r1/recording --track-poses --preset dense --max-frames 3 "
            "--snapshot-every 2 --save trajectory,events,tracks,map --out out/r2",
        ),
        ("reconstruct-resumed", "reconstruct out/r1/recording --resume --out out/r2"),
        (
            "reconstruct-model",
            f"reconstruct {BLOCKS} --model random:nano-48 --max-frames 6 "
            "--save trajectory,depth,events,map --out out/r3",
        ),
        (
            "reconstruct-fuse-everything",
            "reconstruct out/r1/recording --preset fuse-everything --layout tum --stride 2 "
            "--save trajectory,map,mesh --out out/r4",
        ),
        # -- navigate: rooms
        ("navigate-demo", "navigate demo --frames 36 --out out/nav-demo"),
        (
            "navigate-build-indoor",
            f"{room} out/indoor.map {found} --every 2 --set landmark.radius=1.2 --max-frames 16 "
            "--json --picture out/indoor.png",
        ),
        (
            "navigate-build-paper",
            f'{room} out/paper.map --preset paper --landmark "red sofa=0.6,2.1,0.5" '
            "--landmark spot=80,60@3 --max-frames 8",
        ),
        ("navigate-where", 'navigate where "red sofa" --map out/nav-demo/room.map --json'),
        ("navigate-where-none", "navigate where zeppelin --map out/nav-demo/room.map"),
        (
            "navigate-route",
            'navigate route --map out/nav-demo/room.map --from "red sofa" --to fridge --json '
            "--picture out/route.png",
        ),
        ("navigate-recall", 'navigate recall "red sofa" --map out/nav-demo/room.map --json'),
        (
            "navigate-export",
            "navigate export --map out/nav-demo/room.map --ply out/x.ply --geojson out/x.geojson "
            "--graphml out/x.graphml --origin 48.1,11.5 --picture out/x.png",
        ),
        ("navigate-forget", 'navigate forget --map out/paper.map --landmark "red sofa" --json'),
        ("navigate-show", "navigate show --map out/paper.map --check --json"),
        # -- navigate: streets
        ("streets-demo", "navigate demo --streets --out out/city"),
        (
            "streets-build",
            f"navigate build {CITY} --map out/walk.map --sights {CITY}/sights.jsonl --tour 200 "
            "--seed 3",
        ),
        ("streets-where", 'navigate where "blue hotel" --map out/city/city.map --json -k 3'),
        ("streets-route", 'navigate route --map out/city/city.map --to "blue hotel"'),
        (
            "streets-follow",
            f"navigate follow --graph {CITY} --map out/walk.map --sights {CITY}/sights.jsonl "
            "--navigator velma",
        ),
        (
            "streets-table",
            "navigate eval --cities 1 --episodes 2 --seeds 1 --tour 60 --quiet "
            "--out out/table.json",
        ),
        (
            "eval-touchdown",
            f"eval touchdown --root {CITY} --out out/e-touchdown "
            f"--street agent=rules,memory=long,sights={CITY}/sights.jsonl,families=outdoor+paper",
        ),
        # -- eval, and score
        (
            "eval-lasot-cut",
            "eval lasot --root inputs/lasot --out out/e-lasot --limit 1 --devices cpu",
        ),
        ("eval-lasot", "eval lasot --root inputs/lasot --out out/e-lasot --devices cpu"),
        (
            "eval-lasot-none",
            f"eval lasot --root inputs/lasot --out out/e-none --preset none {sam2} --devices cpu",
        ),
        (
            "eval-got10k-test",
            f"eval got10k-test --root inputs/got10k --out out/e-got10k {sam2} --devices cpu",
        ),
        (
            "eval-folder-images",
            "eval folder --root inputs/folder --out out/e-folder --preset sam2 --devices cpu",
        ),
        (
            "eval-crowds",
            f"eval crowds --root out/crowds --out out/e-crowds --crowd {CROWDS} --devices cpu",
        ),
        (
            "eval-crowds-motion",
            "eval crowds --root out/crowds --out out/e-moving --detect motion --classes moving=car "
            "--limit 1 --devices cpu",
        ),
        (
            "eval-streams",
            "eval streams --root out/streams --out out/e-streams --model fake "
            f"--stream {STREAMS} --ask mode=stream",
        ),
        ("eval-pose", f"eval pose --root out/rooms --out out/e-pose --room {ROOMS} --devices cpu"),
        (
            "eval-depth-model",
            "eval video-depth --root out/rooms --out out/e-depth --model random:nano-48 "
            "--devices cpu",
        ),
        (
            "eval-reconstruction",
            "eval reconstruction --root out/rooms --out out/e-points --scene poses=given,stride=5 "
            "--devices cpu",
        ),
        (
            "score-lasot",
            "score lasot --root inputs/lasot --results out/e-lasot out/e-none --name ours "
            "--name none --out out/s-lasot",
        ),
        (
            "score-lasot-strict",
            "score lasot --root inputs/lasot --results out/e-lasot --strict --absent skip --json",
        ),
        ("score-crowds", "score crowds --root out/crowds --results out/e-crowds --json"),
        (
            "score-pose",
            "score pose:rooms --root out/rooms --results out/e-pose --scene align=scale --json",
        ),
        ("score-streams", "score streams --results out/e-streams --out out/s-streams"),
        # -- the rest
        ("demo", "demo --out out/demo --max-frames 10"),
        ("doctor-help", "doctor --help"),
        ("slip-preset", f"track {BLOCKS} --box {BOX} --preset samuri --out out/slip"),
        ("slip-benchmark", "eval lasto --root inputs/lasot"),
        ("slip-no-map", "navigate where sofa --map out/nowhere.map"),
    ]


# -- inputs ------------------------------------------------------------------------------------


def write_clip(path: Path, images: Iterator[np.ndarray], fps: int) -> None:
    """An MP4 that is the same on every run: one thread of the encoder."""
    with av.open(str(path), "w") as container:
        stream: Any = None
        for image in images:
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": "12"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def wall(seed: int, height: int, width: int) -> np.ndarray:
    """A still background of grey patches of 8 pixels."""
    random = np.random.default_rng(seed)
    small = random.integers(90, 140, (height // 8, width // 8, 3)).astype(np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


BLOCK_FRAMES = 36
BLOCK_COLOURS = ((220, 60, 40), (40, 90, 230), (240, 220, 60))


def block(number: int, t: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of a block: two cross the picture, a third comes later."""
    if number == 2:
        x = 160 - 8 * (t - 6)
        return (max(x, 0), 66, min(x + 24, 160), 90) if t >= 7 and x + 24 > 4 else None
    x = 8 + 3 * t if number == 0 else 124 - 3 * t
    return (x, 12 + 26 * number, x + 24, 36 + 26 * number)


def block_images() -> Iterator[np.ndarray]:
    """The clip of the blocks; the first frame shows two of them whole."""
    background = wall(3, 96, 160)
    for t in range(BLOCK_FRAMES):
        picture = background.copy()
        for number, colour in enumerate(BLOCK_COLOURS):
            if (box := block(number, t)) is not None:
                x1, y1, x2, y2 = box
                picture[y1:y2, x1:x2] = colour
                picture[y1 + 8 : y2 - 8, x1:x2] = np.array(colour) // 2
        yield picture


def colour_images() -> Iterator[np.ndarray]:
    """Twelve seconds at 8 frames a second: a coloured square for two seconds at a time."""
    grey = (115, 115, 115)
    for t in range(96):
        square = (grey, (220, 40, 40), grey, (40, 60, 220), grey, (40, 200, 60))[t // 16]
        picture = np.full((80, 120, 3), grey, np.uint8)
        picture[20:60, 40:80] = square
        yield picture


def square_images(number: int, folder: Path, pattern: str, count: int = 8) -> list[str]:
    """A bright square on a dark wall as JPEG files; gives its boxes x,y,w,h, counted from 0."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(number)
    small = random.integers(30, 110, (16, 24, 3)).astype(np.uint8)
    square = random.integers(150, 255, (4, 4, 3)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
    boxes = []
    for t in range(count):
        picture = small.repeat(4, 0).repeat(4, 1)
        x, y = 6 + 4 * number + 5 * t, 10 + 3 * number + 2 * t
        picture[y : y + 20, x : x + 20] = square
        cv2.imwrite(str(folder / pattern.format(t + 1)), picture[..., ::-1])
        boxes.append((x, y, 20, 20))
    return [",".join(map(str, box)) for box in boxes]


def text(path: Path, lines: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_inputs(place: Path) -> None:
    """Everything the commands read that no command makes."""
    place.mkdir(parents=True)
    write_clip(place / "blocks.mp4", block_images(), 24)
    write_clip(place / "colours.mp4", colour_images(), 8)
    found = [
        f"{t} {' '.join(map(str, box))} 0.9 {2 if number == 2 else 1}"
        for t in range(BLOCK_FRAMES)
        for number in range(3)
        if (box := block(number, t)) is not None
    ]
    text(place / "blocks.txt", found)
    mask = np.zeros((96, 160), np.uint8)
    for number in range(2):
        x1, y1, x2, y2 = block(number, 0) or (0, 0, 0, 0)
        mask[y1:y2, x1:x2] = number + 1
    cv2.imwrite(str(place / "mask.png"), mask)
    prompts = [
        {"frame": 0, "name": "red", "box": [8, 12, 32, 36]},
        {"frame": 3, "name": "blue", "box": [115, 38, 139, 62]},
    ]
    (place / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    names = [f"square-{number}" for number in (1, 2)]
    for number, name in enumerate(names):
        folder = place / "lasot" / "square" / name
        boxes = square_images(number, folder / "img", "{:08d}.jpg")
        moved = [[int(v) + (k < 2) for k, v in enumerate(box.split(","))] for box in boxes]
        text(folder / "groundtruth.txt", [",".join(map(str, box)) for box in moved])
        hidden = ["1" if number == 0 and t == 5 else "0" for t in range(8)]
        text(folder / "full_occlusion.txt", [",".join(hidden)])
        text(folder / "out_of_view.txt", [",".join(["0"] * 8)])
        plain = place / "folder" / name
        text(plain / "groundtruth.txt", square_images(number, plain / "img", "{}.jpg"))
        test = f"GOT-10k_Test_{number + 1:06d}"
        boxes = square_images(number, place / "got10k/test" / test, "{:08d}.jpg")
        text(place / "got10k/test" / test / "groundtruth.txt", boxes[:1])
    text(place / "lasot" / "testing_set.txt", names)
    text(place / "got10k/test/list.txt", [f"GOT-10k_Test_{k:06d}" for k in (1, 2)])


# -- what a file holds ---------------------------------------------------------------------------


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


class Reader:
    """Says what files hold, without what depends on the clock, the machine or the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path = str(root).encode()

    def bytes(self, data: bytes) -> bytes:
        return data.replace(self._path, b"<out>")

    def text(self, words: str) -> str:
        words = words.replace(str(self.root), "<out>")
        for pattern, instead in SAYINGS:
            words = pattern.sub(instead, words)
        return words

    def read(self, name: str, data: bytes) -> tuple[str, str | None]:
        """Digest, and as text what can be read; a text of one line an item for what cannot."""
        suffix = Path(name).suffix.lower()
        if name.endswith("_time.txt"):
            lines = data.count(b"\n")
            return f"{lines} lines of seconds", None
        ways: dict[str, Callable[[bytes], str]] = {
            ".mp4": self._video,
            ".map": self._database,
            ".vmem": self._database,
            ".safetensors": self._tensors,
            ".npz": self._arrays,
            ".zip": self._archive,
            ".json": self._json,
            ".jsonl": self._json_lines,
        }
        if suffix in ways:
            words = ways[suffix](data)
        elif suffix in (".txt", ".csv", ".html", ".geojson", ".graphml", ".yaml", ".val", ".md"):
            words = self.text(data.decode("utf-8"))
        else:
            return digest(self.bytes(data)), None
        return digest(words.encode()), words

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: self._value(v) for k, v in sorted(value.items()) if k not in DROPPED}
        if isinstance(value, list):
            return [self._value(each) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def _json(self, data: bytes) -> str:
        return json.dumps(self._value(json.loads(data)), indent=1) + "\n"

    def _json_lines(self, data: bytes) -> str:
        lines = data.decode("utf-8").splitlines()
        return "".join(json.dumps(self._value(json.loads(line))) + "\n" for line in lines if line)

    def _video(self, data: bytes) -> str:
        with av.open(io.BytesIO(data)) as container:
            return "".join(
                f"{frame.pts} {frame.width}x{frame.height} {digest(frame.to_ndarray().tobytes())}\n"
                for frame in container.decode(video=0)
            )

    def _database(self, data: bytes) -> str:
        """Rows of all tables, in order; binary values by their digest."""
        lines = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "copy"
            path.write_bytes(data)
            with sqlite3.connect(path) as sql:
                version = sql.execute("PRAGMA user_version").fetchone()[0]
                lines.append(f"version {version}")
                tables = sql.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
                for table, made in tables:
                    lines.append(f"{table}: {made}")
                    if made is None or not made.upper().startswith("CREATE TABLE"):
                        continue
                    rows = sql.execute(f'SELECT * FROM "{table}"')
                    columns = [each[0] for each in rows.description]
                    lines += sorted(
                        f"{table} " + " | ".join(map(self._cell, columns, row)) for row in rows
                    )
            sql.close()
        return "\n".join(lines) + "\n"

    def _cell(self, column: str, value: object) -> str:
        if column == "crc":
            return "crc"
        if isinstance(value, bytes):
            return f"{column} {len(value)} {digest(self.bytes(value))}"
        if isinstance(value, str):
            try:
                found = json.loads(value)
            except ValueError:
                return f"{column} {self.text(value)!r}"
            return f"{column} {json.dumps(self._value(found))}"
        return f"{column} {value!r}"

    def _tensors(self, data: bytes) -> str:
        (size,) = struct.unpack("<Q", data[:8])
        head = json.loads(data[8 : 8 + size])
        body = data[8 + size :]
        lines = []
        for name, about in sorted(head.items()):
            if name == "__metadata__":
                for key, value in sorted(about.items()):
                    lines.append(f"about {self._cell(key, value)}")
                continue
            first, last = about["data_offsets"]
            lines.append(f"{name} {about['dtype']} {about['shape']} {digest(body[first:last])}")
        return "\n".join(lines) + "\n"

    def _arrays(self, data: bytes) -> str:
        with np.load(io.BytesIO(data)) as arrays:
            return "".join(
                f"{name} {value.dtype} {value.shape} {digest(value.tobytes())}\n"
                for name, value in sorted(arrays.items())
            )

    def _archive(self, data: bytes) -> str:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(archive.namelist())
            return "".join(f"{name} {self.read(name, archive.read(name))[0]}\n" for name in names)


# -- recording -----------------------------------------------------------------------------------


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    """When each file below a folder was written, and its size."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.endswith((".lock", "-wal", "-shm")):
            about = path.stat()
            found[path.relative_to(root).as_posix()] = (about.st_mtime_ns, about.st_size)
    return found


def changed(root: Path, before: dict[str, tuple[int, int]], reader: Reader) -> dict[str, Any]:
    """What the files hold that were written since, and what is gone (``None``)."""
    now = stamps(root)
    files: dict[str, Any] = {name: None for name in before if name not in now}
    for name, stamp in now.items():
        if before.get(name) == stamp:
            continue
        path = root / name
        data = path.read_bytes()
        if path.suffix in (".map", ".vmem") and path.with_name(path.name + "-wal").exists():
            data = _with_journal(path)
        found, words = reader.read(name, data)
        files[name] = {"digest": found}
        if words is not None and len(words) <= TEXT_KEPT:
            files[name]["text"] = words
    return files


def _with_journal(path: Path) -> bytes:
    """A database together with what is in its journal only, left as it is itself."""
    with tempfile.TemporaryDirectory() as folder:
        for end in ("", "-wal"):
            shutil.copy(path.with_name(path.name + end), Path(folder) / f"copy{end}")
        sql = sqlite3.connect(Path(folder) / "copy")
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql.close()
        return (Path(folder) / "copy").read_bytes()


def record(root: Path, only: str) -> None:
    """Run everything, and write ``record.json``.

    With ``only``, the commands whose name holds it: inputs, and what they read of other commands,
    have to be there already.
    """
    program = Path(sys.executable).with_name("vision-mem")
    reader = Reader(root)
    if not only:
        if root.exists() and any(root.iterdir()):
            raise SystemExit(f"{root} is not empty; give another folder")
        (root / "out").mkdir(parents=True)
        make_inputs(root / "inputs")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
    }
    entries = [{"name": "inputs", "files": changed(root, {}, reader)}]
    path = root / ("record.json" if not only else f"record-{only}.json")
    began = time.monotonic()
    for name, line in commands():
        if only not in name:
            continue
        before, started = stamps(root), time.monotonic()
        done = subprocess.run(
            [str(program), *shlex.split(line)], cwd=root, env=environment, capture_output=True,
            text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        took = time.monotonic() - started
        said = {"stdout": reader.text(done.stdout), "stderr": reader.text(done.stderr)}
        entries.append(
            {"name": name, "words": line, "exit": done.returncode, "said": said,
             "files": changed(root, before, reader)}
        )  # fmt: skip
        last = (done.stderr.strip().splitlines() or [""])[-1][:90] if done.returncode else ""
        count = len(entries[-1]["files"])
        print(f"{took:6.1f} s  exit {done.returncode}  {count:4d} files  {name} {last}", flush=True)
        # After each: a record that was stopped can be looked at.
        path.write_text(json.dumps({"commands": entries}, indent=1) + "\n", encoding="utf-8")
    total = time.monotonic() - began
    print(f"{len(entries) - 1} commands, {sum(len(e['files']) for e in entries)} files, "
          f"{total:.0f} s: {path}")  # fmt: skip


# -- comparing -----------------------------------------------------------------------------------


def first_differences(one: str, other: str, most: int = 8) -> list[str]:
    """The first lines that differ."""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), "a", "b", "", "", 0, "")
    kept = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return [f"      {line[:200]}" for line in kept[:most]]


def compare(one: Path, other: Path) -> int:
    """Print what differs between two records; gives how many things do."""
    sides = []
    for path in (one, other):
        content = json.loads(path.read_text(encoding="utf-8"))["commands"]
        sides.append({entry["name"]: entry for entry in content})
    a, b = sides
    differences = 0

    def tell(name: str, what: str, details: Sequence[str] = ()) -> None:
        nonlocal differences
        differences += 1
        print(f"{name}: {what}", *details, sep="\n")

    for name in [*a, *(each for each in b if each not in a)]:
        if name not in a or name not in b:
            tell(name, f"only in {one if name in a else other}")
            continue
        for key in ("words", "exit"):
            if a[name].get(key) != b[name].get(key):
                tell(name, f"{key}: {a[name].get(key)!r}, then {b[name].get(key)!r}")
        for stream, words in a[name].get("said", {}).items():
            if words != (now := b[name]["said"][stream]):
                tell(name, stream, first_differences(words, now))
        files = a[name]["files"], b[name]["files"]
        for file in sorted({*files[0], *files[1]}):
            if file not in files[0] or file not in files[1]:
                tell(name, f"{file}: written in {one if file in files[0] else other} only")
                continue
            was, now = files[0][file] or {}, files[1][file] or {}
            if was.get("digest") != now.get("digest"):
                tell(name, file, first_differences(was.get("text", ""), now.get("text", "")))
    count = sum(len(entry["files"]) for entry in a.values())
    print(f"{differences} differences in {len(a) - 1} commands and {count} files"
          if differences else f"equal: {len(a) - 1} commands, {count} files")  # fmt: skip
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ways = parser.add_subparsers(dest="way", required=True)
    recording = ways.add_parser("record")
    recording.add_argument("out", type=Path)
    recording.add_argument("--only", default="", help="commands whose name has this, once more")
    comparing = ways.add_parser("compare")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    given = parser.parse_args()
    if given.way == "record":
        record(given.out.resolve(), given.only)
        return 0
    return int(compare(given.one, given.other) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
