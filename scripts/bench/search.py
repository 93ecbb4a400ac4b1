"""How well ``vision-mem ask`` finds moments by words, on five public clips, one after the other.

    python scripts/bench/search.py --data DIR        # DIR/clips/01_dog.mp4 ...

The questions and their answers were written by looking at the frames. A question is answered when
one of the first three spans of two seconds is right. Beside it: three spans drawn at random (the
expectation), three spread evenly, and the same model on other memories of the same budget.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vision_mem.config import load_config
from vision_mem.models import use_threads
from vision_mem.models.vlm.load import load_video_model
from vision_mem.sources.open import open_source
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

CLIPS = ("01_dog", "02_cups", "06_pingpong", "08_driving", "21_biker")
SPAN = 2.0


@dataclass(frozen=True)
class Asked:
    """A question, and where its answer is: clip, from and to in seconds of that clip."""

    words: str
    where: tuple[tuple[str, float, float], ...]


def _asked(words: str, *where: tuple[str, float, float]) -> Asked:
    return Asked(words, where)


DOG, CUPS, PING, DRIVE, BIKE = CLIPS
QUESTIONS = (
    _asked("when is there a dog?", (DOG, 0, 2.6), (DOG, 4, 9.7)),
    _asked("a dog jumping in the air", (DOG, 5.8, 8.2)),
    _asked("pet", (DOG, 0, 2.6), (DOG, 4, 9.7)),
    _asked("a woman wearing jeans", (DOG, 0, 9.7)),
    _asked("leash", (DOG, 0, 9.7)),
    _asked("tunnel", (DOG, 0, 9.7)),
    _asked("red plastic cups on a table", (CUPS, 0, 10)),
    _asked("drinking cup", (CUPS, 0, 10)),
    _asked("when do hands move the cups?", (CUPS, 0, 10)),
    _asked("knitted orange sweater", (CUPS, 0, 10)),
    _asked("a man playing ping pong", (PING, 0, 9.6)),
    _asked("table tennis", (PING, 0, 9.6)),
    _asked("wooden door", (PING, 0, 9.6)),
    _asked("a racket", (PING, 0, 9.6)),
    _asked("sports game with a ball", (PING, 0, 9.6)),
    _asked("cars on a highway", (DRIVE, 0, 5.2)),
    _asked("a white jeep", (DRIVE, 1, 5.2)),
    _asked("traffic", (DRIVE, 0, 5.2)),
    _asked("clouds in the blue sky", (DRIVE, 0, 5.2)),
    _asked("street lamps", (DRIVE, 0, 5.2)),
    _asked("motorcycle", (BIKE, 0, 8.2)),
    _asked("motocross stunt", (BIKE, 0, 8.2)),
    _asked("bike rider in the air", (BIKE, 0, 8.2)),
    _asked("sunset", (BIKE, 0, 9.6)),
    _asked("a dark hill with trees at dusk", (BIKE, 6, 9.6)),
    _asked("vehicle", (DRIVE, 0, 5.2), (BIKE, 0, 8.2)),
    _asked("a garden with plants", (DOG, 0, 9.7), (CUPS, 0, 10)),
)


class Reel:
    """The clips one after the other, each beginning on a span of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.begins: dict[str, float] = {}
        self.spans: set[int] = set()

    def __iter__(self) -> Iterator[Frame]:
        begin, count = 0.0, 0
        for name in CLIPS:
            self.begins[name] = begin
            time_s = begin
            with open_source(str(self._folder / f"{name}.mp4")) as frames:
                for frame in frames:
                    time_s = begin + frame.time_s
                    self.spans.add(int(time_s / SPAN))
                    yield replace(frame, index=count, time_s=time_s)
                    count += 1
            begin = SPAN * math.ceil((time_s + 1e-3) / SPAN)

    def right(self, asked: Asked) -> set[int]:
        """Spans of two seconds that hold at least half a second of the answer."""
        found = set()
        for name, start, end in asked.where:
            start, end = start + self.begins[name], end + self.begins[name]
            for span in self.spans:
                if min(end, SPAN * (span + 1)) - max(start, SPAN * span) >= 0.5:
                    found.add(span)
        return found


def first_spans(session: VideoMemorySession, words: str, count: int = 3) -> list[int]:
    """The first spans of an answer, best first, each once."""
    spans: list[int] = []
    for moment in session.ask(words).evidence:
        span = int(moment.start_s / SPAN)
        if span not in spans:
            spans.append(span)
    return spans[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("-v", action="store_true", help="each question")
    args = parser.parse_args()
    use_threads(1)
    model = load_video_model("words")
    many = ["evidence=40", *args.set]
    base = load_config(VideoQaConfig, "search", many, folder="videoqa")
    rows = {"search": base}
    for rule in ("uniform", "fifo", "recent"):
        rows[rule] = replace(base, memory=replace(base.memory, rules=rule))
    tight = replace(base, memory=replace(base.memory, budget=2048))
    rows["search, 2048 tokens"] = tight
    rows["uniform, 2048 tokens"] = replace(tight, memory=replace(tight.memory, rules="uniform"))
    reel = Reel(args.data / "clips")
    sessions = {name: VideoMemorySession(model, config) for name, config in rows.items()}
    for frame in reel:
        for session in sessions.values():
            session.step(frame)
    total = len(reel.spans)
    chance, even = [], []
    spread = [sorted(reel.spans)[round((n + 0.5) * total / 3 - 0.5)] for n in range(3)]
    for asked in QUESTIONS:
        right = reel.right(asked)
        chance.append(1 - math.comb(total - len(right), 3) / math.comb(total, 3))
        even.append(bool(right & set(spread)))
    print(f"{len(QUESTIONS)} questions, {total} spans of {SPAN:g} s")
    print("| memory | tokens held | recall@1 | recall@3 |\n|---|---|---|---|")
    print(f"| three spans at random | - | - | {sum(chance) / len(chance):.2f} |")
    print(f"| three spans spread evenly | - | - | {sum(even) / len(even):.2f} |")
    for name, session in sessions.items():
        one = three = 0
        for asked in QUESTIONS:
            right, found = reel.right(asked), first_spans(session, asked.words)
            one += found[0] in right
            three += bool(right & set(found))
            if args.v:
                mark = "right" if right & set(found) else "wrong"
                print(f"  {name}: {asked.words}: {mark} {[SPAN * span for span in found]}")
        held = session.memory.tokens
        print(f"| {name} | {held} | {one / len(QUESTIONS):.2f} | {three / len(QUESTIONS):.2f} |")


if __name__ == "__main__":
    main()
