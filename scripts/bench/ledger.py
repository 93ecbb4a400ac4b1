"""Whether questions about things that were followed are answered as the generator knows them.

    python scripts/bench/ledger.py                         # true boxes: crowds and rooms
    python scripts/bench/ledger.py --found --seeds 1       # what mots --detect motion found instead

Crowds are those of ``synthetic.crowds``. In a room a table stands, cups and boxes are carried in,
put down, moved, hidden for a while by somebody who walks by, and carried away; of moves that begin
while a thing is hidden either count is right. Truth comes from the
generators' pixels and plans, never from the ledger: times may be off by a quarter of a second
(half a second for where something was moved), counts and names have to be equal.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.mots.records import MotsResult, TrackResult
from vision_mem.synthetic.crowds import CROWD_CLASSES, CrowdClip, CrowdSettings
from vision_mem.types import Frame
from vision_mem.videoqa.ledger import GAP_S, LEAST_STEPS, EntityLedger
from vision_mem.videoqa.ledger_questions import ThingAnswer, answer_thing

Boxes = dict[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Scene:
    """A filmed plan: boxes of each frame, and what is true of it.

    Attributes:
        name: of the clip.
        fps: frames a second.
        size: height and width.
        frames: images with true boxes by number.
        names: words of a class by number of the thing.
        moves: times at which each was moved, from the plan; None where that is not asked.
        base: number of the table; 0 without one.
    """

    name: str
    fps: float
    size: tuple[int, int]
    frames: Callable[[], Iterator[tuple[NDArray[np.uint8], Boxes]]]
    names: dict[int, str]
    moves: dict[int, list[float]] | None = None
    base: int = 0


# Scenes -----------------------------------------------------------------------------------------


def crowd(seed: int, frames: int) -> Scene:
    """A crowd of cars and people."""
    clip = CrowdClip(CrowdSettings(seed=seed, frames=frames, objects=4))
    classes: dict[int, str] = {}

    def film() -> Iterator[tuple[NDArray[np.uint8], Boxes]]:
        for frame in clip:
            records = frame.records()
            classes.update({r.object_id: CROWD_CLASSES[r.class_id] for r in records})
            yield frame.image, {r.object_id: np.asarray(r.box, np.float32) for r in records}

    return Scene(f"crowd {seed}", clip.settings.fps, (240, 416), film, classes)


def room(seed: int, frames: int) -> Scene:
    """A table, and things that are carried to it, about it and away."""
    random = np.random.default_rng(seed)
    fps, (height, width) = 10.0, (240, 416)
    table = np.array([90, 130, 330, 220], np.float32)
    kinds = ["cup", "cup", "box", "bottle"]
    names = {1: "table"} | {n + 2: kind for n, kind in enumerate(kinds)} | {9: "person"}
    colours = {1: (120, 80, 40), 2: (210, 30, 30), 3: (30, 60, 210), 4: (200, 170, 60),
               5: (40, 160, 60), 9: (90, 90, 100)}  # fmt: skip
    paths: dict[int, list[tuple[float, float] | None]] = {}
    moves: dict[int, list[float]] = {n: [] for n in names}
    for n in range(2, 6):
        at: list[tuple[float, float] | None] = []
        spots = [(110.0 + 55 * k, 122.0) for k in range(4)] + [(40.0, 200.0), (375.0, 200.0)]
        if n % 2 == 0:
            here: tuple[float, float] | None = spots[int(random.integers(6))]
        else:
            here = None
        while len(at) < frames:
            if here is None:
                at += [None] * int(random.integers(25, 60))
                side = -10.0 if random.random() < 0.5 else width + 10.0
                goal = spots[int(random.integers(6))]
                at += _way((side, 180.0), goal, 12)
                here = goal
                at += [here] * int(random.integers(15, 50))
                continue
            at += [here] * int(random.integers(15, 60))
            if len(at) >= frames - 40:
                at += [here] * frames
                break
            moves[n].append(len(at) / fps)
            if random.random() < 0.3:
                side = -30.0 if here[0] < width / 2 else width + 30.0
                at += _way(here, (side, 180.0), 12)
                here = None
            else:
                far = [s for s in spots if abs(s[0] - here[0]) > 40]
                goal = far[int(random.integers(len(far)))]
                at += _way(here, goal, int(random.integers(8, 16)))
                here = goal
                at += [here] * 12  # longer than a stop on the way
        paths[n] = at[:frames]
    walks = [int(f) for f in random.integers(20, max(21, frames - 60), max(1, frames // 200))]

    def film() -> Iterator[tuple[NDArray[np.uint8], Boxes]]:
        jitter = np.random.default_rng(seed + 1000)
        for t in range(frames):
            image = np.full((height, width, 3), 150, np.uint8)
            boxes: Boxes = {}
            parts: list[tuple[int, NDArray[np.float32]]] = [(1, table)]
            for n in range(2, 6):
                here = paths[n][t]
                if here is not None:
                    x, y = here
                    parts.append((n, np.array([x - 12, y - 14, x + 12, y + 14], np.float32)))
            for begin in walks:
                if begin <= t < begin + 50:
                    x = -40 + 10 * (t - begin)
                    parts.append((9, np.array([x - 30, 20, x + 30, 235], np.float32)))
            owner = np.zeros((height, width), np.uint8)
            for n, box in parts:
                x1, y1, x2, y2 = np.clip(box, 0, [width, height, width, height]).astype(int)
                image[y1:y2, x1:x2] = colours[n]
                owner[y1:y2, x1:x2] = n
            for n, box in parts:
                ys, xs = np.nonzero(owner == n)
                whole = max(1.0, float(np.prod(box[2:] - box[:2])))
                if len(xs) > (0.3 * whole if n != 1 else 12):
                    noise = jitter.uniform(-1, 1, 4) * (n != 1)
                    around = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) + noise
                    boxes[n] = around.astype(np.float32)
            yield image, boxes

    return Scene(f"room {seed}", fps, (height, width), film, names, moves, base=1)


def _way(
    start: tuple[float, float], end: tuple[float, float], steps: int
) -> list[tuple[float, float] | None]:
    shares = np.linspace(0, 1, steps, endpoint=False)[1:]
    return [
        (start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1]) - 25 * s * (1 - s))
        for s in shares
    ]


# Truth ------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What is true of a scene, by the name that the ledger has."""

    scene: Scene
    boxes: list[Boxes]
    called: dict[int, str]
    stays: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fps = self.scene.fps
        for n in self.called:
            there = [t for t, boxes in enumerate(self.boxes) if n in boxes]
            spans: list[tuple[float, float]] = []
            for t in there:
                if spans and t / fps - spans[-1][1] <= GAP_S + 1e-6:
                    spans[-1] = (spans[-1][0], (t + 1) / fps)
                else:
                    spans.append((t / fps, (t + 1) / fps))
            if len(there) >= LEAST_STEPS:
                self.stays[n] = spans

    @property
    def end_s(self) -> float:
        return len(self.boxes) / self.scene.fps

    def comings(self, n: int) -> list[float]:
        return [start for start, _ in self.stays[n]]

    def leavings(self, n: int) -> list[float]:
        last = (len(self.boxes) - 1) / self.scene.fps
        return [end for _, end in self.stays[n] if last - end > GAP_S + 1e-6]

    def at(self, time_s: float) -> set[str]:
        return {
            self.called[n]
            for n, spans in self.stays.items()
            if any(start <= time_s <= end for start, end in spans)
        }

    def on_table(self, t: int) -> tuple[set[str], set[str]]:
        """What has to be named, and what may be: things that are carried by are doubtful."""
        base, sure, may = self.scene.base, set(), set()
        x1, y1, x2, y2 = self.boxes[t][base]
        for n, box in self.boxes[t].items():
            if n in (base, 9) or n not in self.stays:
                continue
            x, foot = (box[0] + box[2]) / 2, box[3]
            if x1 + 3 < x < x2 - 3 and y1 - 4 < foot < y2 - 6:
                (sure if self._still(n, t) else may).add(self.called[n])
            elif not self._still(n, t):
                may.add(self.called[n])
        may |= {self.called[n] for n in self.stays if n not in self.boxes[t] or n == 9}
        return sure, may

    def moves(self, n: int) -> tuple[list[float], list[float]]:
        """When a thing was moved; and when while it was hidden, which nobody can count."""
        sure, hidden = [], []
        for time_s in (self.scene.moves or {}).get(n, []):
            t = round(time_s * self.scene.fps)
            seen = sum(n in boxes for boxes in self.boxes[max(0, t - 8) : t + 3])
            (sure if seen >= 9 else hidden).append(time_s)
        return sure, hidden

    def _still(self, n: int, t: int) -> bool:
        around = [b[n] for b in self.boxes[max(0, t - 4) : t + 5] if n in b]
        return len(around) > 7 and float(np.ptp(np.stack(around), axis=0).max()) < 5


@dataclass(frozen=True)
class Item:
    """A question with what is right."""

    kind: str
    text: str
    right: Callable[[ThingAnswer], bool]


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def _edge(
    times: dict[int, list[float]], names: dict[int, str], pick: Callable[..., float]
) -> set[str]:
    best = pick(t for some in times.values() for t in some)
    return {names[n] for n, some in times.items() if best in some}


def _same(truth: set[str]) -> Callable[[ThingAnswer], bool]:
    return lambda answer: set(answer.value) == truth


def _moved(
    found: Sequence[tuple[float, float]], sure: Sequence[float], hidden: Sequence[float]
) -> bool:
    starts = [start for start, _ in found]
    named = all(any(abs(start - t) <= 0.5 for start in starts) for t in sure)
    return named and all(
        any(abs(start - t) <= 0.5 for t in sure) or any(-0.5 <= start - t <= 4 for t in hidden)
        for start in starts
    )


def _near(found: Sequence[Any], truth: Sequence[float], slack: float = 0.25) -> bool:
    starts = [each[0] if isinstance(each, (tuple, list)) else each for each in found]
    return len(starts) == len(truth) and all(
        abs(a - b) <= slack for a, b in zip(sorted(starts), sorted(truth), strict=True)
    )


def questions(truth: Truth, random: np.random.Generator) -> Iterator[Item]:
    """Questions of each kind with their answers."""
    known = sorted(truth.stays)
    names = truth.called
    people = [n for n in known if truth.scene.names[n] in ("person", "pedestrian")] or known

    def asked() -> tuple[str, list[int]]:
        return ("who", people) if random.random() < 0.5 else ("what", known)

    for n in known:
        name, stays = names[n], truth.stays[n]
        total = sum(end - start for start, end in stays)
        come, leave = truth.comings(n), truth.leavings(n)
        yield Item("when", f"when did {name} come?", lambda a, t=come: _near(a.value, t))
        yield Item("when", f"when did the {name} leave?", lambda a, t=leave: _near(a.value, t))
        yield Item("when", f"When was {name} last seen?",
                   lambda a, t=stays: _near([a.value[-1][1]], [t[-1][1]]))  # fmt: skip
        yield Item("how often", f"how often was {name} seen?", lambda a, t=stays: a.value == len(t))
        yield Item("how long", f"how long was {name} there?",
                   lambda a, t=total, s=stays: abs(a.value - t) <= 0.25 * len(s))  # fmt: skip
        last = max(t for t, boxes in enumerate(truth.boxes) if n in boxes)
        yield Item("where", f"where did I see {name} last?",
                   lambda a, t=last, n=n: _overlap(a, truth, n, t) > 0.5)  # fmt: skip
        word, group = asked()
        before = {names[m] for m in group if truth.comings(m)[0] < come[0] - 1e-6}
        yield Item("before", f"{word} came before {name}?", lambda a, t=before: set(a.value) == t)
        after = {names[m] for m in known if truth.comings(m)[0] > come[0] + 1e-6}
        yield Item("after", f"what came after {name} came?", lambda a, t=after: set(a.value) == t)
        company = {
            names[m] for m in group if m != n
            and any(min(e, f) - max(s, b) > 1e-6 for s, e in stays for b, f in truth.stays[m])
        }  # fmt: skip
        yield Item("together", f"{word} was together with {name}?",
                   lambda a, t=company: set(a.value) == t)  # fmt: skip
        if truth.scene.moves is not None and n not in (truth.scene.base, 9):
            sure, hidden = truth.moves(n)
            counts = range(len(sure), len(sure) + len(hidden) + 1)
            yield Item("moved", f"how often was {name} moved?", lambda a, c=counts: a.value in c)
            yield Item("moved", f"when was the {name} moved?",
                       lambda a, t=sure, h=hidden: _moved(a.value, t, h))  # fmt: skip
    firsts = {n: truth.comings(n)[0] for n in known}
    for word, group in (("who", people), ("what", known)):
        begins = {n: truth.comings(n) for n in group}
        ends = {n: truth.leavings(n) for n in group if truth.leavings(n)}
        yield Item("first", f"{word} came first?", _same(_edge(begins, names, min)))
        yield Item("last", f"{word.title()} came last?", _same(_edge(begins, names, max)))
        if ends:
            yield Item("first", f"{word} was the first to leave?", _same(_edge(ends, names, min)))
            yield Item("last", f"{word} left last?", _same(_edge(ends, names, max)))
    for t in random.integers(0, len(truth.boxes), 6):
        time_s = (int(t) + 0.5) / truth.scene.fps
        word, group = asked()
        some = {names[n] for n in group}
        right = [truth.at(float(_clock(time_s)[2:]) + d) & some for d in (-0.06, 0.0, 0.06)]
        yield Item("at a time", f"{word} was there at {_clock(time_s)}?",
                   lambda a, t=right: set(a.value) in t)  # fmt: skip
        base = truth.scene.base
        if base and base in truth.boxes[int(t)]:
            sure, may = truth.on_table(int(t))
            yield Item("on", f"what was on the table at {_clock(int(t) / truth.scene.fps)}?",
                       lambda a, s=sure, m=may: s <= set(a.value) <= s | m)  # fmt: skip
    for pair in random.choice(known, (4, 2)) if len(known) > 1 else ():
        a, b = int(pair[0]), int(pair[1])
        if a == b:
            continue
        common = [
            (max(s, u), min(e, v))
            for s, e in truth.stays[a] for u, v in truth.stays[b] if min(e, v) - max(s, u) > 1e-6
        ]  # fmt: skip
        yield Item("together", f"how long were {names[a]} and {names[b]} together?",
                   lambda x, t=common: abs(x.value - sum(e - s for s, e in t))
                   <= 0.25 * max(1, len(t)))  # fmt: skip
        order = firsts[a] < firsts[b]
        yield Item("before", f"did {names[a]} come before {names[b]}?",
                   lambda x, t=order: x.value is t)  # fmt: skip
    for word in ("lorry", "giraffe"):
        yield Item("unknown", f"when did the {word} leave?",
                   lambda a: a.found is None and "followed" in a.text)  # fmt: skip


def _overlap(answer: ThingAnswer, truth: Truth, number: int, t: int) -> float:
    name, box = truth.called[number], truth.boxes[t][number]
    if name not in (answer.value or {}):
        return 0.0
    height, width = truth.scene.size
    one = np.array(answer.value[name]) * [width, height, width, height]
    box = box.clip(0, [width, height, width, height])
    low, high = np.maximum(one[:2], box[:2]), np.minimum(one[2:], box[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(box[2:] - box[:2]))
    return common / max(areas - common, 1e-6)


# Ledgers ----------------------------------------------------------------------------------------


def watch(scene: Scene) -> tuple[EntityLedger, Truth]:
    """A ledger of the true boxes."""
    ledger, seen = EntityLedger(), []
    for t, (image, boxes) in enumerate(scene.frames()):
        empty = np.zeros((0, 0), bool)
        tracks = tuple(
            TrackResult(n, f"object-{n}", 0, scene.names[n], "confirmed", True, empty, box, 1.0)
            for n, box in boxes.items()
        )
        ledger.write(
            Frame(t, t / scene.fps, image), MotsResult(t, t / scene.fps, scene.size, tracks)
        )
        seen.append(boxes)
    ledger.finish()
    called = {n: f"{word}-{n}" for n, word in scene.names.items()}
    return ledger, Truth(scene, seen, called)


def watch_found(scene: Scene) -> tuple[EntityLedger, Truth]:
    """A ledger of what mots finds by motion; true things by the found name that covers most."""
    from vision_mem.config import load_config
    from vision_mem.geometry.boxes import box_iou
    from vision_mem.models import detectors, load_segmenter
    from vision_mem.mots.config import MotsConfig
    from vision_mem.mots.session import DetectorSession, MotsSession

    height, width = scene.size
    detector = detectors.make_detector(["motion"], size=(height, width))
    session = MotsSession(
        load_segmenter("embedded"), load_config(MotsConfig, "motion", [], folder="mots")
    )
    follower = DetectorSession(session, detector)
    ledger, seen = EntityLedger(), []
    votes: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for t, (image, boxes) in enumerate(scene.frames()):
        frame = Frame(t, t / scene.fps, image)
        result = follower.step(frame)
        ledger.write(frame, result)
        seen.append(boxes)
        for n, box in boxes.items():
            for track in result.shown:
                if float(box_iou(box, track.box[None])[0]) >= 0.5:
                    votes[n][track.object_id] += 1
    ledger.finish()
    by_origin = {e.name.rsplit("-", 1)[-1]: e.name for e in ledger.entities()}
    called = {}
    for n in scene.names:
        best = max(votes[n], key=lambda k: votes[n][k], default=None) if votes[n] else None
        called[n] = by_origin.get(str(best), f"{scene.names[n]}-{n}")
    return ledger, Truth(scene, seen, called)


def judge(ledger: EntityLedger, truth: Truth, seed: int, show: bool) -> dict[str, list[bool]]:
    """Ask everything; right or wrong, by kind."""
    judged: dict[str, list[bool]] = defaultdict(list)
    now = (len(truth.boxes) - 1) / truth.scene.fps
    for item in questions(truth, np.random.default_rng(seed)):
        answer = answer_thing(item.text, ledger, now, lambda time_s, frame: _clock(time_s))
        try:
            right = answer is not None and bool(item.right(answer))
        except (TypeError, IndexError, KeyError):  # nothing to compare
            right = False
        judged[item.kind].append(right)
        if show and not right:
            said = "not understood" if answer is None else f"{answer.text}  {answer.value}"
            print(f"  {truth.scene.name}: {item.text}  ->  {said}")
    return judged


def main() -> None:
    """Print a table of the share of right answers by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--found", action="store_true", help="what mots finds, not true boxes")
    parser.add_argument("--show", action="store_true", help="print what was answered wrongly")
    args = parser.parse_args()
    total: dict[str, list[bool]] = defaultdict(list)
    began = time.perf_counter()
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for made in (crowd, room):
            scene = made(seed, args.frames)
            ledger, truth = (watch_found if args.found else watch)(scene)
            for kind, rights in judge(ledger, truth, seed, args.show).items():
                total[kind] += rights
    print("| kind | questions | right |\n|---|---|---|")
    for kind, rights in sorted(total.items()):
        print(f"| {kind} | {len(rights)} | {np.mean(rights):.3f} |")
    everything = [right for rights in total.values() for right in rights]
    print(f"| all | {len(everything)} | {np.mean(everything):.3f} |")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
