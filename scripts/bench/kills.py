"""kill -9 at random moments of every command: does going on give what a straight run gives?

    python scripts/bench/kills.py                     # 60 kills over six commands
    python scripts/bench/kills.py --only ask --kills 3 --seed 7

Each command runs once undisturbed. Then it is started again and again, killed at a random moment
between its first file and its end (every third time in the last tenth, where results are closed
and records written), and told to go on. All files it leaves are then compared with those of the
straight run: text by its bytes, databases by their rows (as ``scripts/goldens/commands.py`` does;
times of the clock and how often a run was resumed left out), video by its number of frames, their
times, and pictures that differ by less than the encoder's own noise, nowhere by as much as a line
that is missing: it begins anew where a run goes on.
A kill that comes too late is tried again earlier. Ends with 1 if one of them differs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from scipy.ndimage import uniform_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))

from commands import DROPPED, Reader, _with_journal, make_inputs

NOISE, SPOT = 5.0, 13.0
"""Grey levels: on average over a picture, and over any 8 by 8 pixels of it."""

RECORD = DROPPED | {"resumed_at", "options", "snapshot_every"}
"""Keys of the record that tell how a run came about."""


class RunReader(Reader):
    """Leaves out what says that a run was resumed."""

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if k not in RECORD}
        return super()._value(value)


@dataclass(frozen=True)
class Killed:
    """A command to kill: how it begins, and how it goes on (the same again if empty)."""

    begin: str
    go_on: str = ""


CLIP = "inputs/blocks.mp4"
ROOM = "--max-frames 40 --snapshot-every 6 --save trajectory,events,tracks,map,video"
COMMANDS = {
    "track": Killed(
        f"track {CLIP} --box red=8,12,24,24 --threads 1 --snapshot-every 5 "
        "--save video,lasot,mot,rle,png,diary --out OUT",
        f"track {CLIP} --resume --out OUT",
    ),
    "mots": Killed(
        f"mots {CLIP} --detect file:inputs/blocks.txt:kitti --threads 1 --snapshot-every 5 "
        "--save video,mot,kitti-mots,events,tracks,rle --out OUT",
        f"mots {CLIP} --detect file:inputs/blocks.txt:kitti --resume --out OUT",
    ),
    "ask": Killed("ask inputs/colours.mp4 --model fake --memory OUT/colours.vmem --out OUT/run"),
    "reconstruct": Killed(
        f"reconstruct inputs/room {ROOM} --out OUT", "reconstruct inputs/room --resume --out OUT"
    ),
    "navigate": Killed(
        "navigate build inputs/room --set octree.kernels=numpy --pixels 2 --map OUT/room.map "
        "--quiet"
    ),
    "eval": Killed(
        "eval folder --root inputs/folder --out OUT --preset sam2 --devices cpu",
        "eval folder --root inputs/folder --out OUT --preset sam2 --devices cpu --resume",
    ),
}


def words(line: str, out: Path) -> list[str]:
    program = Path(sys.executable).with_name("vision-mem")
    return [str(program), *line.replace("OUT", str(out)).split()]


def run(line: str, out: Path, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(line, out), cwd=place, capture_output=True, text=True, timeout=600, check=False
    )


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    """Time and pixels of each frame of a video."""
    with av.open(str(path)) as container:
        return [
            (float(f.time or 0), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)
        ]


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures differ as two encodings of one do."""
    if one.shape != other.shape:
        return False
    apart = np.abs(one.astype(float) - other).mean(2)
    return bool(apart.mean() < NOISE and uniform_filter(apart, 8, mode="nearest").max() < SPOT)


def same(one: Any, other: Any) -> bool:
    """Whether two files hold the same."""
    if not isinstance(one, list) or not isinstance(other, list):
        return bool(one == other)
    return len(one) == len(other) and all(
        abs(t - s) < 1e-3 and alike(a, b) for (t, a), (s, b) in zip(one, other, strict=True)
    )


def contents(out: Path, place: Path) -> dict[str, Any]:
    """What each file below a folder holds."""
    reader, found = RunReader(out), {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not path.is_file() or name.endswith((".lock", "-wal", "-shm")) or "snapshot" in name:
            continue
        journal = path.suffix in (".map", ".vmem") and path.with_name(path.name + "-wal").exists()
        if path.suffix == ".mp4":
            found[name] = pictures(path)
            continue
        found[name] = reader.read(name, _with_journal(path) if journal else path.read_bytes())[0]
    return found


def killed_run(line: str, out: Path, place: Path, share: float, seconds: float) -> bool:
    """Start, kill after a share of the time between the first file and the end; False if late."""
    child = subprocess.Popen(
        words(line, out), cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    while child.poll() is None and not (out.exists() and any(out.iterdir())):
        time.sleep(0.002)
    time.sleep(share * seconds)
    child.send_signal(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def straight(killed: Killed, out: Path, place: Path) -> float:
    """Run undisturbed; seconds from the first file to the end."""
    child = subprocess.Popen(
        words(killed.begin, out), cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    while child.poll() is None and not (out.exists() and any(out.iterdir())):
        time.sleep(0.002)
    began = time.monotonic()
    said = child.communicate()[1]
    if child.returncode:
        raise SystemExit(f"{killed.begin} does not run: {said.strip()}")
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--only", choices=COMMANDS, action="append")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice, wrong, tried = random.Random(given.seed), 0, 0
    print("| command | kill | at, share of the run | result |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_inputs(place / "inputs")
        made = run(
            "reconstruct generated:3 --max-frames 40 --save trajectory --out OUT",
            place / "r",
            place,
        )
        shutil.move(place / "r" / "recording", place / "inputs" / "room")
        if made.returncode:
            raise SystemExit(made.stderr)
        for name in given.only or COMMANDS:
            killed = COMMANDS[name]
            # Always the same name: it stands in what is written.
            out = place / "out"
            seconds = straight(killed, out, place)
            expected = contents(out, place)
            for number in range(given.kills):
                share = dice.uniform(0.9, 1.0) if number % 3 == 2 else dice.random()
                while True:
                    shutil.rmtree(out)
                    if killed_run(killed.begin, out, place, share, seconds):
                        break
                    share *= 0.97
                done = run(killed.go_on or killed.begin, out, place)
                if done.returncode and not any(out.rglob("*.json")):  # nothing was begun
                    done = run(killed.begin, out, place)
                found = contents(out, place) if done.returncode == 0 else {}
                names = {*expected, *found}
                differ = sorted(n for n in names if not same(expected.get(n), found.get(n)))
                said = "equal"
                if done.returncode:
                    said = f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
                elif differ:
                    said = f"differ: {', '.join(differ)}"
                wrong, tried = wrong + (said != "equal"), tried + 1
                print(f"| {name} | {number + 1} | {share:.3f} | {said} |", flush=True)
            shutil.rmtree(out)
    print(f"{tried - wrong} of {tried} equal to the straight run")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
