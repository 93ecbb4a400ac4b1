"""Whether ``vision-mem ask`` says "not seen" of what is not there, and still finds what is.

    python scripts/bench/refusals.py --data DIR        # DIR/clips/01_dog.mp4 ...
    python scripts/bench/refusals.py                   # generated streams alone

Public clips: the questions of ``search.py``, and as many about things that are in none of the
clips. Generated streams: things cut out of photographs come and go in front of photographs; asked
is for all of them and for what never comes. Printed is what the threshold of each question makes of
it, and risk against coverage: of the absent, the share that a fixed threshold would take for seen;
of the present, the share that it would find.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from search import QUESTIONS, Reel, first_spans

from vision_mem.config import load_config
from vision_mem.models import use_threads
from vision_mem.models.vlm.load import load_video_model
from vision_mem.synthetic.qa_streams import OBJECTS, GeneratedStream, StreamSettings
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

ABSENT = (
    "a penguin", "a submarine", "an umbrella", "a volcano", "a grand piano", "an elephant",
    "a snowman", "sailing ship", "a birthday cake", "a butterfly", "a violin", "an airliner",
    "a zebra", "ocean waves", "a bunch of bananas", "refrigerator", "a steam train", "goldfish",
    "a cobra", "an owl", "a laptop computer", "a castle", "a pizza", "a waterfall",
    "a chimpanzee", "a wedding dress", "mushrooms in a forest",
)  # fmt: skip
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Judged:
    """A question: its best score, whether it counted as seen, and how well it was placed in time.

    ``overlap`` is the intersection over union of found and true seconds; None of what is absent.
    """

    words: str
    score: float
    found: bool
    overlap: float | None = None


def overlap(found: Iterable[tuple[float, float]], truth: Iterable[tuple[float, float]]) -> float:
    """Intersection over union of two sets of intervals, in hundredths of a second."""
    one, other = (
        {t for start, end in spans for t in range(round(100 * start), round(100 * end))}
        for spans in (found, truth)
    )
    return len(one & other) / max(1, len(one | other))


def watched(model: object, config: VideoQaConfig, frames: Iterable[Frame]) -> VideoMemorySession:
    session = VideoMemorySession(model, config)  # type: ignore[arg-type]
    for frame in frames:
        session.step(frame)
    return session


def judged(
    session: VideoMemorySession, words: str, truth: Sequence[tuple[float, float]] | None
) -> Judged:
    answer = session.ask(words)
    score = answer.evidence[0].score if answer.evidence else 0.0
    spans = [(each.start_s, each.end_s) for each in answer.intervals]
    placed = None if truth is None else overlap(spans, truth)
    return Judged(words, score, bool(answer.found), placed)


def report(name: str, results: Sequence[Judged], verbose: bool) -> None:
    present = [each for each in results if each.overlap is not None]
    absent = [each for each in results if each.overlap is None]
    found = sum(each.found for each in present) / max(1, len(present))
    placed = sum((each.overlap or 0) >= 0.5 for each in present) / max(1, len(present))
    refused = sum(not each.found for each in absent) / max(1, len(absent))
    print(
        f"{name}: {len(present)} present, found {found:.2f}, with temporal IoU of .5 "
        f"{placed:.2f}; {len(absent)} absent, refused {refused:.2f}"
    )
    print(
        "| fixed threshold | risk: absent taken for seen | coverage: present found |\n|---|---|---|"
    )
    for level in LEVELS:
        risk = sum(each.score >= level for each in absent) / max(1, len(absent))
        coverage = sum(each.score >= level for each in present) / max(1, len(present))
        print(f"| {level} | {risk:.2f} | {coverage:.2f} |")
    if verbose:
        for each in results:
            print(f"  {each}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("-v", action="store_true", help="each question")
    args = parser.parse_args()
    use_threads(1)
    model = load_video_model("words")
    config = load_config(VideoQaConfig, "search", ["evidence=40", *args.set], folder="videoqa")
    if args.data is not None:
        reel = Reel(args.data / "clips")
        session = watched(model, config, reel)
        results, one, three = [], 0, 0
        for asked in QUESTIONS:
            begins = reel.begins
            truth = [(start + begins[clip], end + begins[clip]) for clip, start, end in asked.where]
            results.append(judged(session, asked.words, truth))
            right, spans = reel.right(asked), first_spans(session, asked.words)
            one, three = one + (spans[0] in right), three + bool(right & set(spans))
        results += [judged(session, words, None) for words in ABSENT]
        count = len(QUESTIONS)
        print(f"recall@1 {one / count:.2f}, recall@3 {three / count:.2f}")
        report("public clips", results, args.v)
    results = []
    for seed in range(args.seeds):
        settings = StreamSettings(
            seed=seed, seconds=args.seconds, objects=2, cards=False, width=640, height=480, fps=2.0
        )
        stream = GeneratedStream(settings)
        session = watched(model, config, stream)
        for kind in OBJECTS:
            visits = [(v.start_s, v.end_s) for v in stream.visits if v.kind == kind]
            results.append(judged(session, f"a {kind}", visits or None))
        results += [judged(session, words, None) for words in ABSENT]
    report(f"generated streams, {args.seeds} seeds", results, args.v)


if __name__ == "__main__":
    main()
