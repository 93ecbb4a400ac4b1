"""Sequences whose objects a detector finds: many of them, with identities."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vision_mem.errors import InputError, SourceError
from vision_mem.evaluation.engine.frames import Clock, images_of, sequence_frames
from vision_mem.evaluation.engine.runner import Advanced
from vision_mem.evaluation.file_tree import check_file_name
from vision_mem.evaluation.mots.detections import NUMBERS, TRUTH, TruthDetections
from vision_mem.evaluation.mots.records import MotRules, MotSequence
from vision_mem.formats.class_names import ClassNumbers
from vision_mem.formats.mots import MotsLayout
from vision_mem.formats.text import scratch_prefix
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.segmenters.protocol import Segmenter
from vision_mem.mots import MotsResult, MotsSession
from vision_mem.sinks.tracks import KittiLabels, MotsText, MotText
from vision_mem.text import read_json
from vision_mem.types import Detections, Frame, SourceInfo

MOVING = "moving"
"""What motion detectors call everything."""

FramesOf = Callable[[int, int], Iterable[Frame]]


OpenDetector = Callable[..., Detector]
"""Opens a detector for one sequence, or takes one that is open already, as before its first frame:
``(word, frame_count=..., size=..., frames=...)``, with the frames of the sequence (None where its
images are a part of them), ``(height, width)`` where known, and frames from one number to another
(exclusive) to learn the background from. Whoever opened it closes it."""


@dataclass(frozen=True)
class MotsWorker:
    """What sequences with many objects run on.

    Attributes:
        session: around the model; is reset for each sequence.
        open_detector: how detectors are opened.
    """

    session: MotsSession
    open_detector: OpenDetector

    @property
    def model(self) -> Segmenter:
        """The segmenter."""
        return self.session.segmenter


@dataclass(frozen=True)
class DetectedJob:
    """One sequence to run, see ``runner.Job``.

    Attributes:
        sequence: its images; the truth is looked at for the detector ``truth`` only.
        rules: of the set, which say how results are written.
        title: of the set, for messages.
        detect: word for the detector, see ``detections.detector_word``.
        classes: words of the detector and the set's classes they are, in pairs.
        strict: an unreadable image ends the sequence instead of counting as absence.
    """

    sequence: MotSequence
    rules: MotRules
    title: str
    detect: str
    classes: tuple[tuple[str, str], ...] = ()
    strict: bool = False

    def __post_init__(self) -> None:
        check_file_name(self.sequence.name)
        moving = self.detect.partition(":")[0] == "motion"
        if moving and len(self.rules.classes) > 1 and MOVING not in dict(self.classes):
            several = " or ".join(self.rules.classes)
            raise InputError(
                f"--detect {self.detect} tells no {several} apart: say what everything that moves "
                f"is meant to be, as in --classes {MOVING}={next(iter(self.rules.classes))}"
            )
        self._class_numbers()

    @property
    def name(self) -> str:
        """Of the sequence."""
        return self.sequence.name

    @property
    def length(self) -> int:
        """Frames that have images; a list that says fewer is right."""
        sequence = self.sequence
        return min(len(sequence.frames), sequence.length or len(sequence.frames))

    @property
    def file(self) -> str:
        """The result file's name."""
        return f"{self.name}.txt"

    def is_whole(self, results: Path, log: Path) -> bool:
        """Say whether the result file is the one the log speaks of.

        A frame without objects has no line, so that the number of lines says nothing.
        """
        try:
            said = read_json(log, nan=True)
            return bool(said["sha256"] == _digest((results / self.file).read_bytes()))
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def run(
        self, session: MotsWorker, tell: Callable[[Advanced], None], log: dict[str, Any]
    ) -> dict[str, bytes]:
        """Go through the sequence, see ``runner.Job``."""
        if not self.length:
            raise InputError("it has no images; only its truth was found")
        paths = self.sequence.frames[: self.length]
        with TemporaryDirectory(prefix=scratch_prefix()) as folder:
            path = Path(folder, self.file)
            sink = self._sink(path)
            started = time.perf_counter()
            detector = self._detector(session)
            try:
                log["opening_seconds"] = round(time.perf_counter() - started, 3)
                log |= {"detector": detector.name, "oracle": self.detect == TRUTH}
                self._track(session.session, detector, paths, sink, tell, log)
            finally:
                sink.close()
            content = path.read_bytes()
        log["sha256"] = _digest(content)
        return {self.file: content}

    def _track(
        self,
        session: MotsSession,
        detector: Detector,
        paths: tuple[Path, ...],
        sink: Any,
        tell: Callable[[Advanced], None],
        log: dict[str, Any],
    ) -> None:
        session.reset()
        numbers = self._class_numbers()
        clock = Clock(session.segmenter.device)
        counts, events = Counter[str](), Counter[str]()
        seen: set[int] = set()
        detecting = 0.0
        for index, frame in sequence_frames(self, paths, self.sequence.fps, self.strict, tell, log):
            if frame is None:
                continue
            if index == 0:
                height, width = frame.size
                log["size"] = [height, width]
                sink.open(SourceInfo(self.name, width, height, self.sequence.fps))
            started = time.perf_counter()
            found = detector.detect(frame)
            detecting += time.perf_counter() - started
            # Asked after the answer: it may hold for this one only.
            absence = detector.reports_absence
            counts["frames_without_answer"] += found is None
            found = None if found is None else of_the_set(found, numbers)
            counts["detections"] += 0 if found is None else len(found)
            with clock:
                result = session.step(frame, found, reports_absence=absence)
            records = self._records(result)
            sink.write(index, records)
            seen.update(each.object_id for each in records)
            events.update(event.kind for event in result.events)
        log |= {"tracks": len(seen), "events": dict(events), **counts}
        log["classes_left_out"] = dict(numbers.left_out)
        log |= clock.report(len(paths)) | {"detecting_seconds": round(detecting, 3)}

    def _detector(self, worker: MotsWorker) -> Detector:
        if self.detect == TRUTH:
            return TruthDetections(self.sequence, self.rules)
        return worker.open_detector(
            self.detect, size=self.sequence.size, frames=self._frames,
            # Of a copy with fewer images files speak of all frames.
            frame_count=self.length if self.length >= self.sequence.length else None,
        )  # fmt: skip

    def _frames(self, start: int, stop: int) -> Iterator[Frame]:
        with images_of(self.sequence.frames[start : min(stop, self.length)]) as images:
            for index, image in enumerate(images, start):
                if not isinstance(image, SourceError):
                    yield Frame(index, index / self.sequence.fps, image)

    def _sink(self, path: Path) -> Any:
        rules = self.rules
        if isinstance(rules.layout, MotsLayout):
            return MotsText(path, rules.layout)
        if rules.files == "kitti":
            types = {number: word.capitalize() for word, number in rules.classes.items()}
            return KittiLabels(path, types)
        return MotText(path)

    def _class_numbers(self) -> ClassNumbers:
        given = dict(self.classes)
        if len(self.rules.classes) == 1:
            given.setdefault(MOVING, next(iter(self.rules.classes)))
        classes = {NUMBERS[word]: word for word in self.rules.classes}
        return ClassNumbers(classes, given, self.title)

    def _records(self, result: MotsResult) -> list[TrackRecord]:
        return [
            TrackRecord(
                track.object_id, self.rules.classes[track.class_name], track.score, track.box,
                track.mask,
            )
            for track in result.shown
        ]  # fmt: skip


def of_the_set(found: Detections, numbers: ClassNumbers) -> Detections:
    """Detections of the set's classes, under its words; others are left out and counted."""
    given = [numbers.number(found.name_of(index)) for index in range(len(found))]
    kept = np.array([number is not None for number in given], bool)
    labels = np.array([number for number in given if number is not None], np.int64)
    words = {number: word for word, number in NUMBERS.items()}
    some = found.take(kept)
    return Detections(
        some.boxes, some.scores, labels, some.masks, some.embeddings, words,
        some.frame_index, some.time_s,
    )  # fmt: skip


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
