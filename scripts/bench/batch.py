"""Many videos at once: do processes, a cluster, killed workers and a killed node change anything?

    python scripts/bench/batch.py                 # 60 generated clips
    python scripts/bench/batch.py --clips 8 --only one two killed
    python scripts/bench/batch.py --clips 2 --only one ray-bare ray-other

Each way writes the results of ``vision-mem batch track`` on the same clips; result files and the
index are compared with those of one process, byte by byte. ``ray`` is a cluster of two nodes on
this machine. ``ray-bare`` and ``ray-other`` have a node without the package, or with another
version of it: one line says so, and the same command on a whole cluster goes on. Ends with 1 if
one of them differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

RESULTS = ("*.txt", "*.csv", "*.parquet", "*.jsonl")


def make_clips(folder: Path, count: int) -> None:
    """Clips of a red square that wanders over noise, of 12 to 31 frames."""
    folder.mkdir()
    for number in range(count):
        dice = np.random.default_rng(number)
        ground = dice.integers(60, 120, (48, 64, 3)).astype(np.uint8)
        with av.open(str(folder / f"clip{number}.mp4"), "w") as file:
            stream = file.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for t in range(12 + number % 20):
                image = ground.copy()
                left = 8 + (t + number) % 30
                image[16:32, left : left + 16] = (220, 30, 30)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            file.mux(stream.encode())


def line(clips: Path, out: Path, *more: str) -> list[str]:
    program = Path(sys.executable).with_name("vision-mem")
    return [
        str(program), "batch", "track", str(clips), "--box", "red=8,16,16,16", "--threads", "1",
        "--save", "lasot,mot", "--snapshot-every", "4", "--out", str(out), "--quiet", *more,
    ]  # fmt: skip


def run(words: list[str], meanwhile: Callable[[int], None] = lambda done: None) -> str:
    """Run to the end; ``meanwhile`` is told the number of videos begun, twice a second."""
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    folder = Path(words[words.index("--out") + 1]) / "runs"
    while child.poll() is None:
        time.sleep(0.5)
        meanwhile(len(list(folder.iterdir())) if folder.is_dir() else 0)
    said = child.communicate()[1].strip()
    return f"exit {child.returncode}: {said}" if child.returncode else ""


class Killer:
    """Kills something once, when enough videos are begun."""

    def __init__(self, after: int, kill: Callable[[], bool]) -> None:
        self._after, self._kill, self.done = after, kill, False

    def __call__(self, begun: int) -> None:
        """Look how far it is."""
        if not self.done and begun >= self._after:
            self.done = self._kill()


def kill_process(mark: str) -> bool:
    """Kill one process by what its command line begins with or holds."""
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if mark in words and process.pid != psutil.Process().pid:
            process.kill()
            return True
    return False


@contextmanager
def cluster(**environment: str) -> Iterator[tuple[Any, Any]]:
    """A Ray cluster of two nodes on this machine; the second one, with its environment."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        yield made, made.add_node(num_cpus=1, env_vars=environment)
    finally:
        made.shutdown()


def on_ray(clips: Path, out: Path, count: int) -> str:
    with cluster() as (nodes, _):
        return run(line(clips, out, "--ray", nodes.address))


def on_ray_killed(clips: Path, out: Path, count: int) -> str:
    with cluster() as (nodes, second):

        def kill_node() -> bool:
            nodes.remove_node(second, allow_graceful=False)
            return True

        worker = Killer(count // 4, lambda: kill_process("ray::_Actor"))
        node = Killer(count // 2, kill_node)

        def meanwhile(begun: int) -> None:
            worker(begun)
            node(begun)

        said = run(line(clips, out, "--ray", nodes.address), meanwhile)
        return said or ("" if worker.done and node.done else "nothing was killed")


def killed(clips: Path, out: Path, count: int) -> str:
    killer = Killer(count // 3, lambda: kill_process("multiprocessing.spawn"))
    said = run(line(clips, out, "--workers", "2"), killer)
    return said or ("" if killer.done else "nothing was killed")


_ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vision_mem":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
_OTHER = "import vision_mem._version\nvision_mem._version.__version__ = '9.9'\n"


def refused(site: str, line_of_it: str) -> Callable[[Path, Path, int], str]:
    """A node that runs ``site`` when Python starts is told of in a line; nothing is lost."""

    def way(clips: Path, out: Path, count: int) -> str:
        place = out.with_suffix(".site")
        place.mkdir()
        (place / "sitecustomize.py").write_text(site)
        with cluster(PYTHONPATH=str(place)) as (nodes, _):
            said = run(line(clips, out, "--ray", nodes.address))
        if line_of_it not in said or said.count("\n"):
            return said or "exit 0: not told"
        return on_ray(clips, out, count)

    return way


WAYS: dict[str, tuple[str, Callable[[Path, Path, int], str]]] = {
    "one": ("one process", lambda clips, out, count: run(line(clips, out))),
    "two": ("two", lambda clips, out, count: run(line(clips, out, "--workers", "2"))),
    "killed": ("two, one killed", killed),
    "ray": ("Ray, two nodes", on_ray),
    "ray-killed": ("Ray, a worker and a node killed", on_ray_killed),
    "ray-bare": ("Ray, a node without the package", refused(_ABSENT, "lacks vision-mem; install")),
    "ray-other": ("Ray, a node of another version", refused(_OTHER, "has vision-mem 9.9, here")),
}


def contents(out: Path) -> dict[str, bytes]:
    """The result files and the index."""
    found = [path for pattern in RESULTS for path in (out / "runs").rglob(pattern)]
    names = [path for path in found if "snapshot" not in str(path)]
    return {
        str(path.relative_to(out)): path.read_bytes() for path in [*names, out / "index.parquet"]
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--only", choices=WAYS, nargs="*")
    given = parser.parse_args()
    print("| way | seconds | files | result |")
    print("|---|---|---|---|")
    wrong, expected = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_clips(place / "clips", given.clips)
        for name in given.only or WAYS:
            title, way = WAYS[name]
            began = time.monotonic()
            out = place / name
            said = way(place / "clips", out, given.clips)
            seconds = time.monotonic() - began
            found = {} if said.startswith("exit") else contents(out)
            expected = expected or found
            if not said:
                differ = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
                said = f"differ: {', '.join(sorted(differ)[:3])}" if differ else "equal"
            wrong += said != "equal"
            print(f"| {title} | {seconds:.0f} | {len(found)} | {said} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
