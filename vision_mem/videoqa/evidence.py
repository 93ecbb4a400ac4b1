"""What answers rest on: pictures of remembered grids, spans of moments, a log of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.formats.text import LineFile
from vision_mem.sinks.masks import strict_json
from vision_mem.types import Frame
from vision_mem.videoqa.config import VideoQaConfig
from vision_mem.videoqa.session import VideoMemorySession
from vision_mem.videoqa.store import MemoryFile
from vision_mem.visualization.contact_sheet import evidence_sheet, from_jpeg, shrink, to_jpeg

if TYPE_CHECKING:
    from vision_mem.models.vlm.protocol import VideoLanguageModel
    from vision_mem.videoqa.records import Answer, Moment, WatchResult


_ALIKE = 0.9
"""A moment whose score is this share of its neighbour's belongs to it."""


@dataclass(frozen=True)
class Span:
    """Moments of an answer that follow each other.

    Attributes:
        start_s, end_s: seconds.
        score: of the best of them.
        grid: number of the best of them.
    """

    start_s: float
    end_s: float
    score: float
    grid: int


def spans_of(moments: Sequence[Moment], gap_s: float) -> list[Span]:
    """Join moments that follow each other and match about equally well, best first.

    Args:
        moments: of an answer.
        gap_s: seconds without a moment that still join.
    """
    joined: list[Span] = []
    for each in sorted(moments, key=lambda moment: moment.start_s):
        here = Span(each.start_s, each.end_s, each.score, each.grid)
        alike = joined and _ALIKE * max(here.score, joined[-1].score) <= min(
            here.score, joined[-1].score
        )
        if alike and here.start_s - joined[-1].end_s <= gap_s:
            last = joined.pop()
            best = max((last, here), key=lambda span: span.score)
            here = Span(last.start_s, max(last.end_s, here.end_s), best.score, best.grid)
        joined.append(here)
    return sorted(joined, key=lambda span: -span.score)


class ThumbnailSession:
    """A session with a small picture of each grid it remembers, and its file if it has one.

    Args:
        session: new, or as the file has it.
        file: gets every change of the memory.
    """

    def __init__(self, session: VideoMemorySession, file: MemoryFile | None = None) -> None:
        self.session, self.file = session, file
        self._pictures: dict[int, NDArray[np.uint8]] = {}
        self._recent: dict[int, NDArray[np.uint8]] = {}

    def step(self, frame: Frame) -> WatchResult:
        """Look at the next frame; what enters memory is on disk when this returns."""
        result = self.session.step(frame)
        if not result.looked:
            return result
        self._recent[frame.index] = shrink(frame.image)
        if result.wrote:
            self._wrote(result.wrote)
        return result

    def _wrote(self, numbers: Sequence[int]) -> None:
        held = {entry.index: entry for entry in self.session.memory.read()}
        new = {}
        for number in numbers:
            entry = held.get(number)
            picture = None if entry is None else self._recent.get(entry.frames[0])
            if picture is not None:
                new[number] = picture
        if self.file is not None:
            jpegs = {number: to_jpeg(picture) for number, picture in new.items()}
            self.file.save(self.session.state_dict(), jpegs)
        else:
            # With a file they are read from there: memory of long streams stays small.
            self._pictures = {k: v for k, v in (self._pictures | new).items() if k in held}
        self._recent = dict(list(self._recent.items())[-1:])

    def finish(self) -> None:
        """Save what still waits for a partner."""
        if self.file is not None:
            self.file.save(self.session.state_dict())

    def picture(self, grid: int) -> NDArray[np.uint8] | None:
        """``(h, w, 3)`` RGB of a grid, small; None when there is none."""
        if self.file is not None and (content := self.file.picture(grid)) is not None:
            return from_jpeg(content)
        if grid in self._pictures:
            return self._pictures[grid]
        waiting = list(self._recent.values())
        return waiting[-1] if waiting else None


class AnswerLog:
    """The answers of a run: JSON lines, and a sheet of pictures for each.

    Args:
        folder: where to write.
        watcher: has the pictures.
        append: go on after the answers that are there.
    """

    def __init__(self, folder: Path, watcher: ThumbnailSession, *, append: bool = True) -> None:
        self._watcher = watcher
        self._folder = folder
        self._file = LineFile(folder / "answers.jsonl", append=append)
        self._number = len(self._file.keep(lambda number, line: bool(json.loads(line))))

    def add(self, question: str, answer: Answer, spans: Sequence[Span]) -> Mapping[str, Any]:
        """Write an answer.

        Returns:
            What was written: question, answer, evidence, and the name of the picture.
        """
        self._number += 1
        tiles = [
            (picture, f"{clock(span.start_s)}  {span.score:.2f}")
            for span in spans
            if (picture := self._watcher.picture(span.grid)) is not None
        ]
        sheet = None
        if tiles:
            sheet = self._folder / f"answer-{self._number:03d}.png"
            evidence_sheet(sheet, question, tiles)
        entry = record_of(question, answer, spans) | {
            "sheet": None if sheet is None else str(sheet)
        }
        self._file.write(json.dumps(strict_json(entry), allow_nan=False, ensure_ascii=False))
        return entry

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_session(
    brain: VideoLanguageModel,
    preset: str | None,
    changes: Sequence[str],
    file: MemoryFile | None = None,
) -> VideoMemorySession:
    """A session as a memory file has it, or a new one.

    Args:
        brain: the model.
        preset: of the settings; None for ``default``, or ``search`` when the model does not talk,
            or those of the file.
        changes: ``key=value`` to the settings.
        file: holds a memory; None, or one in which nothing was saved yet, for a new session.

    Raises:
        InputError: when the memory was made with another model, or kept with other settings.
    """
    made_with = brain.traits.model_id if file is None else file.about.get("model_id")
    if made_with != brain.traits.model_id:
        raise InputError(
            f"{file and file.path} was made with model {made_with!r} and cannot be read with "
            f"{brain.traits.model_id!r}; give that --model"
        )
    state = None if file is None else file.load()
    if file is None or state is None:
        chosen = preset or ("default" if brain.traits.speaks else "search")
        config = load_config(VideoQaConfig, chosen, changes, folder="videoqa")
        return VideoMemorySession(brain, config)
    settings = load_config(VideoQaConfig, None, file.about.get("config", {}), folder="videoqa")
    if preset is not None or changes:
        asked = load_config(VideoQaConfig, preset or "default", changes, folder="videoqa")
        # How a memory is kept is settled; how it is read may change from question to question.
        if preset is not None and asked.memory != settings.memory:
            raise InputError(
                f"{file.path} was kept with other memory settings than preset {preset}; leave out "
                "--preset, or begin another file"
            )
        settings = replace(asked, memory=settings.memory, salience=settings.salience)
    session = VideoMemorySession(brain, settings)
    session.load_state_dict(state)
    file.adopt(session.state_dict())
    return session


def record_of(question: str, answer: Answer, spans: Sequence[Span]) -> dict[str, Any]:
    """An answer as JSON-ready values."""
    return {
        "question": question,
        "at_s": answer.at_s,
        "answer": answer.text,
        "cut": answer.cut,
        "moments": [asdict(span) for span in spans],
        "evidence": [asdict(moment) for moment in answer.evidence],
        "scope": answer.scope,
        "tokens_read": answer.tokens_read,
        "grids_read": answer.grids_read,
        "notes": dict(answer.notes),
    }


def clock(seconds: float) -> str:
    """``1:02:03.4``, or the date and time of wall-clock times."""
    if seconds > 1e8:
        from datetime import datetime, timezone

        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "seconds")
    minutes, rest = divmod(max(seconds, 0.0), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
