"""A model of a fleet: what so many streams cost, and how a device with fair turns serves them.

    python scripts/bench/fleet_model.py                # the tables of docs/scale.md
    python scripts/bench/fleet_model.py --measure      # its constants, measured here, and compared

The model has a few constants (``Costs``). ``simulate`` plays a device frame by frame: cameras send,
streams wait for a turn and take the newest frame, a frame costs processor time in its turn and
some outside of it (reading, writing), and the cores are shared by all that runs. ``--measure``
takes the constants from one stream at full speed, and holds what the model says of 2, 4 and 8
streams, played as cameras, against fleets that run. Both are told how many cores they got.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet import STREAMS, Watch, camera, fleet, look, write_list

from vision_mem.sources.open import open_source

GB = 1e9


@dataclass(frozen=True)
class Costs:
    """What a stream costs.

    Attributes:
        step_s: processor seconds of a frame within its turn, with one object.
        rest_s: processor seconds of a frame outside of it: reading, drawing, writing.
        frame_s: processor seconds of a frame that comes, followed or not: decoding, 1080p.
        process: bytes of a process with one copy of the weights, and of the owner.
        stream: bytes of a stream, beside its objects.
        object: bytes of an object in memory.
        result: bytes a second that a stream's results are, at 25 frames/s.
        network: bits a second of a camera.
    """

    step_s: float = 0.100
    rest_s: float = 0.011
    frame_s: float = 0.012
    process: float = 0.39e9
    stream: float = 53e6
    object: float = 5.0e6
    result: float = 3e3
    network: float = 4e6

    def per_frame(self, objects: int = 1) -> float:
        """Processor seconds of a followed frame; objects cost a step each: assumed."""
        return self.step_s * objects + self.rest_s


@dataclass(frozen=True)
class Served:
    """How a stream was served.

    Attributes:
        fps: frames followed a second.
        delay_s: the largest, from a frame's arrival to its results.
        busy_s: seconds of turns that it had.
    """

    fps: float
    delay_s: float
    busy_s: float


@dataclass
class _Stream:
    """Where a stream is: waiting for a turn, in it, or writing."""

    state: str = "queued"
    left: float = 0.0
    clock: float = 0.0
    arrived: float = 0.0
    frames: int = 0
    taken: int = -1
    worst: float = 0.0
    busy: float = 0.0


def simulate(
    streams: int, fps: float, costs: Costs, *, cores: float = 2, slots: int = 2,
    seconds: float = 120.0, objects: int = 1,
) -> list[Served]:  # fmt: skip
    """Play a device for so many seconds.

    All that runs shares the cores: ``n`` of them go at ``cores / n`` of full speed, at most at
    full speed. Decoding frames that are left out takes its part of the cores first.
    """
    some = [_Stream(arrived=n / fps / streams) for n in range(streams)]
    spare = max(cores - streams * fps * costs.frame_s, 0.1)
    step, now = 0.001, 0.0
    work = costs.step_s * objects
    while now < seconds:
        for n, one in enumerate(some):  # cameras send at their own beat
            newest = int((now - n / fps / streams) * fps)
            if one.state == "waiting" and newest > one.taken:
                one.state = "queued"
        free = slots - sum(one.state == "turn" for one in some)
        queue = sorted((one for one in some if one.state == "queued"), key=lambda one: one.clock)
        for one in queue[: max(free, 0)]:
            n = some.index(one)
            one.taken = int((now - n / fps / streams) * fps)
            one.arrived = one.taken / fps + n / fps / streams
            one.state, one.left = "turn", work
        running = [one for one in some if one.state in ("turn", "writing")]
        pace = min(1.0, spare / len(running)) if running else 1.0
        for one in running:
            one.left -= step * pace
            if one.state == "turn":
                one.clock += step
                one.busy += step
            if one.left <= 0 and one.state == "turn":
                one.state, one.left = "writing", costs.rest_s
            elif one.left <= 0:
                one.state, one.frames = "waiting", one.frames + 1
                one.worst = max(one.worst, now - one.arrived)
        now += step
    return [Served(one.frames / seconds, one.worst, one.busy) for one in some]


def tables(costs: Costs) -> Iterator[str]:
    """The tables of docs/scale.md."""
    yield "| cameras | cores | memory | network in | results a day |"
    yield "|---|---|---|---|---|"
    for count in (10, 100, 1000):
        yield "| " + " | ".join(camera_row(count, costs)) + " |"
    yield ""
    yield "| 100,000 hours of video | core hours | on 1,000 cores | results |"
    yield "|---|---|---|---|"
    for every in (1, 5, 25):
        frames = 1e5 * 3600 * 25 / every
        hours = (frames * costs.per_frame() + 1e5 * 3600 * 25 * costs.frame_s) / 3600
        size = frames / 25 * costs.result / GB
        yield (
            f"| every {every}. frame, one object | {hours:,.0f} | {hours / 1000 / 24:,.1f} days | "
            f"{size:,.0f} GB |"
        )


def camera_row(count: int, costs: Costs, fps: float = 5.0, objects: int = 2) -> list[str]:
    """A row of the table: cameras that send 25 frames/s, of which ``fps`` are followed."""
    used = count * (fps * costs.per_frame(objects) + 25 * costs.frame_s)
    cores = used / 0.8  # a fifth is left for what comes unevenly
    processes = max(1, round(cores / 16))
    memory = processes * costs.process + count * (costs.stream + objects * costs.object)
    return [
        f"{count:,}", f"{cores:,.0f}", f"{memory / GB:,.1f} GB",
        f"{count * costs.network / 1e9:,.2f} Gbit/s",
        f"{count * costs.result * fps / 25 * 86400 / GB:,.1f} GB",
    ]  # fmt: skip


# -- measured ------------------------------------------------------------------------------------


def run_fleet(place: Path, model: str, count: int, seconds: float, *, paced: bool) -> Watch:
    path = place / f"m{count}{paced}.yaml"
    fields = {"paced": True, "delay_ms": 5000, "min_fps": 0.01} if paced else {}
    write_list(path, model, {f"s{n}": camera(f"s{n}", n, **fields) for n in range(count)})
    with fleet(path, place / path.stem) as (child, address):
        return look(child, address, seconds)


@dataclass(frozen=True)
class Seen:
    """What was seen of a fleet.

    Attributes:
        fps: frames a second in all.
        turn: part of the time of a frame that is in its turn.
        delay_s: the largest of the second half.
        cores: processors that it got.
        memory: resident bytes, with the owner's process.
    """

    fps: float
    turn: float
    delay_s: float
    cores: float
    memory: float

    @classmethod
    def of(cls, watch: Watch) -> Seen:
        begin, end = watch.views[0][0], watch.views[-1][0]
        last = watch.views[-1][1]["cameras"]
        half = [view for at, view in watch.views if at > (begin + end) / 2]
        late = max((one["worst_s"] or 0.0 for view in half for one in view["cameras"]), default=0.0)
        fps = sum(watch.frames(begin, end).values())
        turn = min(1.0, sum(one["step_s"] for one in last) / len(last) * fps)
        cores = (watch.cpu[-1] - watch.cpu[0]) / (end - begin)
        return cls(fps, turn, late, cores, max(watch.memory))


def frame_cost(count: int = 300) -> float:
    """Processor seconds of a frame of the generated streams, through a source that reads ahead."""
    scope: dict[str, Any] = {}
    exec(STREAMS, scope)
    begin = time.process_time()
    with open_source(scope["frames"](0, count)) as frames:
        for _ in frames:
            pass
    return (time.process_time() - begin) / count


def compare(model: str, seconds: float) -> Costs:
    """Take the constants from one stream, and print what the model says beside what is seen.

    A machine that others use gives less than its cores: the model is told how many the fleet got.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        module = [f"def s{n}():\n    return frames({n})\n" for n in range(8)]
        (place / "streams.py").write_text("\n".join([STREAMS, *module]))
        watch = run_fleet(place, model, 1, seconds, paced=False)
        one, held = Seen.of(watch), watch.views[-1][1]["cameras"][0]["bytes"]
        work = one.cores / one.fps
        costs = Costs(
            step_s=work * one.turn, rest_s=work * (1 - one.turn), frame_s=frame_cost(), object=held
        )
        print(f"one stream: {one.fps:.2f} frames/s on {one.cores:.2f} cores, {work * 1e3:.0f} ms "
              f"of a core a frame, {held / 1e6:.2f} MB an object")  # fmt: skip
        print("| streams | cores it got | frames/s: model | seen | largest delay: model | seen |")
        print("|---|---|---|---|---|---|", flush=True)
        for count in (2, 4, 8):
            seen = Seen.of(run_fleet(place, model, count, seconds, paced=True))
            served = simulate(count, 30.0, costs, cores=seen.cores)
            said = sum(each.fps for each in served)
            late = max(each.delay_s for each in served)
            print(f"| {count} | {seen.cores:.2f} | {said:.1f} | {seen.fps:.1f} | {late:.2f} s | "
                  f"{seen.delay_s:.2f} s |", flush=True)  # fmt: skip
            stream = (seen.memory - one.memory) / (count - 1) - held
            costs = replace(costs, process=one.memory - held - stream, stream=stream)
        print(f"{costs}")
    return costs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seconds", type=float, default=30, help="of each fleet")
    given = parser.parse_args()
    costs = compare(given.model, given.seconds) if given.measure else Costs()
    print("\n".join(tables(costs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
