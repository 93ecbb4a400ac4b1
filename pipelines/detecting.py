"""The detector of a run: words of the command line, what is around it, and its background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from vision_mem.errors import InputError
from vision_mem.models.detectors import (
    Chosen,
    Detector,
    EveryNth,
    LatestOnly,
    MotionDetector,
    Within,
    open_detector,
)
from vision_mem.types import Frame

if TYPE_CHECKING:
    from vision_mem.mots import MotsResult, MotsSession, MotsUsage

WARM_UP = 100
"""Frames that a motion detector learns the background of a file from before the first answer."""

REPLAY = 3000
"""Frames before a continued run that a motion detector is shown again; its memory fades."""


class Detecting:
    """A session of many objects with its detector: the detections ride along with their frames."""

    def __init__(self, session: MotsSession, detector: Detector) -> None:
        self.session, self.detector = session, detector
        self.snapshot = session.snapshot

    def step(self, frame: Frame) -> MotsResult:
        """Detect on the next frame, and follow."""
        found = self.detector.detect(frame)
        # Asked after the answer: it may hold for this one only.
        absence = self.detector.reports_absence
        return self.session.step(frame, found, reports_absence=absence)

    def usage(self) -> MotsUsage:
        """What is held now."""
        return self.session.usage()


def is_motion(words: Sequence[str]) -> bool:
    """Whether all that is asked for is background subtraction."""
    return all(word.strip().partition(":")[0] == "motion" for word in words)


def usual_preset(words: Sequence[str]) -> str:
    """The rules that go with detectors when nobody says which."""
    if not is_motion(words):
        return "default"
    upright = all(word.strip() == "motion:upright" for word in words)
    return "upright" if upright else "motion"


def make_detector(
    words: Sequence[str],
    *,
    every: int = 1,
    looked: int | None = None,
    min_score: float = 0.0,
    only: Sequence[str] = (),
    region: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    frame_count: int | None = None,
    size: tuple[int, int] | None = None,
    live: bool = False,
) -> Detector:
    """Open a detector and put around it what the command line asks for.

    Args:
        words: as ``open_detector`` takes them; several are a union.
        every: look at every so manieth frame only.
        looked: the frame last looked at, in a run that is continued; see ``looked_at``.
        min_score: lower scores are left out.
        only: classes to keep; all when empty.
        region: ``x,y,w,h``, or corners ``x1,y1,x2,y2,x3,y3,...``; objects elsewhere are left out.
        device: as ``open_detector``.
        precision: as ``open_detector``.
        frame_count: as ``open_detector``.
        size: as ``open_detector``.
        live: a detector slower than the stream must not hold it up: networks run in a thread.

    Raises:
        VisionMemError: for what cannot be opened or understood.
    """
    detector = open_detector(
        list(words), device=device, precision=precision, frame_count=frame_count, size=size
    )
    if live and any(_is_network(word) for word in words):
        detector = LatestOnly(detector)
    if min_score > 0 or only:
        detector = Chosen(detector, min_score=min_score, classes=only or None)
    if region is not None:
        detector = Within(detector, _region(region))
    if every != 1:
        detector = EveryNth(detector, every, last=looked)
    return detector


def looked_at(indices: Iterable[int], every: int) -> list[int]:
    """The frames that a detector with ``every`` looks at, of those that come by."""
    seen: list[int] = []
    for index in indices:
        if not seen or index - seen[-1] >= every:
            seen.append(index)
    return seen


def learn_background(
    detector: Detector,
    frames: Callable[[int, int], Iterable[Frame]],
    start: int,
    again: Sequence[int],
) -> None:
    """Show motion detectors the background before they are asked; others need nothing.

    Args:
        detector: with all that is around it.
        frames: gives the frames from one number to another (exclusive) of the source.
        start: first frame of the run.
        again: frames that were looked at before, in a run that is continued; they are shown
            again, so that the detector is as it was.
    """
    again = again[-REPLAY:]
    for part in parts_of(detector):
        if isinstance(part, MotionDetector):
            part.learn(frames(start, start + WARM_UP))
            wanted = set(again)
            for frame in frames(again[0], again[-1] + 1) if again else ():
                if frame.index in wanted:
                    part.detect(frame)


def parts_of(detector: Detector) -> Iterator[Detector]:
    """The detectors that really look, below combinations of them."""
    inner = getattr(detector, "detector", None)
    several = getattr(detector, "detectors", (inner,) if inner is not None else ())
    if not several:
        yield detector
    for each in several:
        yield from parts_of(each)


def skipped_frames(detector: Detector) -> int:
    """Frames that a detector in a thread was too slow for."""
    here = detector.skipped if isinstance(detector, LatestOnly) else 0
    inner = getattr(detector, "detector", None)
    return here + (skipped_frames(inner) if inner is not None else 0)


def _is_network(word: str) -> bool:
    return word.strip().partition(":")[0] not in ("motion", "file")


def _region(text: str) -> list[list[float]] | list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 4:
        x, y, w, h = values
        return [x, y, x + w, y + h]
    if len(values) < 6 or len(values) % 2:
        raise InputError(
            f"--region {text!r}: expected x,y,w,h or three or more corners x1,y1,x2,y2,x3,y3"
        )
    return [values[at : at + 2] for at in range(0, len(values), 2)]
