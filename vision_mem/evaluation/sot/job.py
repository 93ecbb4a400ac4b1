"""Sequences whose objects are given on the first frame: one object, or a few masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError, SourceError
from vision_mem.evaluation.engine.frames import Clock, damage_note, images_of
from vision_mem.evaluation.engine.runner import Advanced
from vision_mem.evaluation.sot.first_frame import INITS, first_prompts
from vision_mem.evaluation.sot.records import Sequence
from vision_mem.evaluation.sot.result_files import ResultRows, is_whole
from vision_mem.tracking import TrackingSession
from vision_mem.types import Frame, Prompt, TrackingResult

# Time stamps only: the sets do not say how fast they were filmed, and no policy looks at them.
_FPS = 30.0


@dataclass(frozen=True)
class PromptedJob:
    """One sequence to run, see ``runner.Job``.

    Attributes:
        sequence: frames and first truth.
        layout: how its results are written, see ``resultfiles.LAYOUTS``.
        init: what to start from, see ``starting.first_prompts``.
        strict: an unreadable image ends the sequence instead of counting as absence.
    """

    sequence: Sequence
    layout: str
    init: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise InputError(f"--init is {self.init!r}; expected one of {', '.join(INITS)}")

    @property
    def name(self) -> str:
        """Of the sequence."""
        return self.sequence.name

    @property
    def length(self) -> int:
        """Frames."""
        return len(self.sequence.frames)

    def is_whole(self, results: Path, log: Path) -> bool:
        """Say whether there is one entry a frame; the log is not asked."""
        return is_whole(results, self.sequence, self.layout)

    def run(
        self,
        session: TrackingSession,
        tell: Callable[[Advanced], None],
        log: dict[str, Any],
    ) -> dict[str, bytes]:
        """Go through the sequence, see ``runner.Job``."""
        sequence = self.sequence
        if not sequence.frames:
            raise InputError("it has no images; only its truth was found")
        session.reset()
        rows = ResultRows(sequence, self.layout)
        clock = Clock(session.segmenter.device)
        events: list[dict[str, Any]] = []
        damaged: list[int] = []
        log |= {"frames": 0, "events": events, "damaged_frames": damaged}
        with images_of(sequence.frames) as images:
            for index, image in enumerate(images):
                if isinstance(image, SourceError):
                    if self.strict or index == 0:
                        raise image
                    damaged.append(index)
                    rows.add_absent()
                else:
                    frame = Frame(index, index / _FPS, image)
                    prompts: list[Prompt] = []
                    if index == 0:
                        prompts, log["init"] = first_prompts(sequence, frame.size, self.init)
                        log["size"] = list(frame.size)
                    with clock:
                        result = session.step(frame, prompts)
                    rows.add(result, clock.latest)
                    events += _events(result)
                log["frames"] = index + 1
                tell(Advanced(sequence.name, index + 1))
        log["warnings"] += damage_note(sequence.frames, damaged)
        log |= clock.report(len(sequence.frames))
        return rows.files()


def _events(result: TrackingResult) -> list[dict[str, Any]]:
    return [
        {"frame": event.frame_index, "kind": event.kind, "object": event.object_id}
        for event in result.events
        if event.kind in ("lost", "found")
    ]
