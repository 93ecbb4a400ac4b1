"""What answers rest on: pictures of remembered grids, spans of moments, a log of answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.errors import InputError, ModelError
from vision_mem.formats.text import LineFile
from vision_mem.models.vlm.protocol import model_of
from vision_mem.session import FrameSource
from vision_mem.sinks.masks import strict_json
from vision_mem.text import short
from vision_mem.types import Frame, SourceInfo
from vision_mem.videoqa.config import VideoQaConfig
from vision_mem.videoqa.ledger import EntityLedger
from vision_mem.videoqa.records import real, whole
from vision_mem.videoqa.session import VideoMemorySession
from vision_mem.videoqa.store import MemoryFile
from vision_mem.visualization.contact_sheet import (
    evidence_sheet,
    framed,
    from_jpeg,
    shrink,
    to_jpeg,
)

if TYPE_CHECKING:
    from vision_mem.models.vlm.protocol import VideoLanguageModel
    from vision_mem.videoqa.ledger_questions import ThingAnswer
    from vision_mem.videoqa.records import Answer, Interval, Moment, WatchResult


_MOST_TILES = 8
"""Spans on a sheet of pictures."""
_AT_THAT_TIME_S = 1.0
"""How far the picture of a moment may be from it."""
_ALIKE = 0.9
"""A moment whose score is this share of its neighbour's belongs to it."""


@dataclass(frozen=True)
class ShownFile:
    """One of the files, cameras and streams that a memory was shown, one after the other.

    Attributes:
        source: as it was given, without secrets.
        begin_s: the memory's time of its first frame, seconds.
        first: the memory's number of its frame 0.
        live: whether its times are those of the clock on the wall.
    """

    source: str
    begin_s: float = 0.0
    first: int = 0
    live: bool = False

    def seconds(self, time_s: float) -> float:
        """A time of the memory as seconds since the first frame of this file."""
        return time_s if self.live or not self.begin_s else round(time_s - self.begin_s, 6)


def shown_files(about: Mapping[str, Any]) -> list[ShownFile]:
    """What a memory was shown, as its file says it belongs to.

    Raises:
        ModelError: when that is damaged.
    """
    if "files" not in about:
        return [ShownFile(str(about.get("source", "")))]
    try:
        files = [
            ShownFile(str(each["source"]), real(each["begin_s"]), whole(each["first"]),
                      bool(each["live"]))
            for each in about["files"]
        ]  # fmt: skip
        if not files:
            raise ValueError
    except (TypeError, KeyError, ValueError) as error:
        raise ModelError("a memory file has a damaged list of what it was shown") from error
    return files


class FileSequence:
    """Sources one after the other on the clock of a memory, which goes on where it ended.

    Of a file that the memory was shown last, frames that it has seen are left out. Numbers and
    times of another one go on after them; wall-clock times go on by themselves.

    Args:
        names: the sources as given, without secrets; one or more.
        first: the first of them, open.
        open_file: opens the source of a number; with True, just to look at its first frame.
        files: what the memory was shown before; grows.
        seen: number and time of the last frame of the memory; None for a new one.
        config: of the session: which frames are looked at.

    Raises:
        InputError: for a source whose frames cannot be spread, for it does not say its length.
    """

    def __init__(
        self,
        names: Sequence[str],
        first: FrameSource,
        open_file: Callable[[int, bool], FrameSource],
        files: list[ShownFile],
        seen: tuple[int, float] | None,
        config: VideoQaConfig | None = None,
    ) -> None:
        self._spread = config.fps if config is not None and config.frames == "spread" else None
        self._names, self._open, self.files, self.seen = names, open_file, files, seen
        self._source = first
        self.info = first.info if len(names) == 1 else replace(first.info, frame_count=None)
        if (chosen := self._chosen(first.info)) is not None and len(names) == 1:
            self.info = replace(self.info, frame_count=len(chosen))
        self.origin: ShownFile | None = None
        """The first of the sources, as the memory has it; None before its first frame came."""

    def __iter__(self) -> Iterator[Frame]:
        for number in range(len(self._names)):
            if number:
                self._source = self._open(number, False)
            yield from self._rest(number)
            self._source.close()

    def _rest(self, number: int) -> Iterator[Frame]:
        shift, chosen = None, self._chosen(self._source.info)
        for count, frame in enumerate(self._source):
            if chosen is not None and count not in chosen:
                continue
            if shift is None:
                file, shift = self._begun(number, frame)
                self.origin = self.origin or file
            if file.first or shift:
                frame = replace(frame, index=frame.index + file.first, time_s=frame.time_s + shift)
            if self.seen is None or frame.index > self.seen[0]:
                self.seen = frame.index, frame.time_s
                yield frame

    def _chosen(self, info: SourceInfo) -> set[int] | None:
        """Which frames of a source are looked at, counted as they come; None for all."""
        if self._spread is None:
            return None
        if info.live or info.frame_count is None:
            raise InputError(
                f"frames of {info.name} cannot be spread, for it does not say how long it is; give "
                "--set frames=raster"
            )
        from vision_mem.models.vlm.qwen import card_frames  # with torch

        return set(card_frames(info.frame_count, info.fps, self._spread))

    def _begun(self, number: int, frame: Frame) -> tuple[ShownFile, float]:
        """The file that begins with a frame, or goes on, and what its times are shifted by."""
        name, live = self._names[number], self._source.info.live
        origin = frame.time_s
        if frame.index and not live:  # its first frame was not asked for
            with closing(self._open(number, True)) as again:
                origin = next((first.time_s for first in again), origin)
        last = self.files[-1] if self.files else None
        if self.seen is None or (len(self.files) == 1 and last == ShownFile(name) and not live):
            self.files[:] = [ShownFile(name, origin, 0, live)]
            return self.files[0], 0.0
        if last is not None and last.source == name and not (live or last.live):
            return last, last.begin_s - origin if len(self.files) > 1 else 0.0
        index, time_s = self.seen
        shift = max(0.0, time_s + 1.0 / self._source.info.fps - frame.time_s)
        self.files.append(ShownFile(name, origin + shift, index + 1, live))
        return self.files[-1], shift

    @property
    def name(self) -> str:
        """The source, or how many there are."""
        return self._names[0] if len(self._names) == 1 else f"{len(self._names)} files together"

    @property
    def begin_s(self) -> float:
        """The memory's time of the first frame of the first source."""
        return 0.0 if self.origin is None else self.origin.begin_s

    @property
    def seconds(self) -> float:
        """From the first frame of the first source to the end of the latest one."""
        return 0.0 if self.seen is None else self.seen[1] - self.begin_s + 1.0 / self.info.fps

    def close(self) -> None:
        """Close the source that is open."""
        self._source.close()


@dataclass(frozen=True)
class Span:
    """Moments of an answer that follow each other.

    Attributes:
        file: what they are from.
        start_s, end_s: seconds since its first frame; by the clock on the wall where it is live.
        score: of the best of them.
        grid: number of the best of them.
        peak_s: time of the best of them.
        box: where in its picture it is, left, top, right, bottom as shares of the sides, or None.
        ends: numbers of the first and last grid.
        thing: name of the thing that was followed, of answers from the ledger; "" otherwise.
        entity: its number in the ledger; 0 otherwise.
    """

    file: str
    start_s: float
    end_s: float
    score: float
    grid: int
    peak_s: float
    box: tuple[float, float, float, float] | None = None
    ends: tuple[int, int] = (0, 0)
    thing: str = ""
    entity: int = 0


def spans_of(
    moments: Sequence[Moment], gap_s: float, files: Sequence[ShownFile] = (ShownFile(""),)
) -> list[Span]:
    """Join moments that follow each other and match about equally well, best first.

    Args:
        moments: of an answer.
        gap_s: seconds without a moment that still join.
        files: what the memory was shown; moments of two files are never joined.
    """
    joined: list[Span] = []
    for each in sorted(moments, key=lambda moment: moment.start_s):
        number = min(each.frames, default=0)
        file = _file_of(number, files)
        times = file.seconds(each.start_s), file.seconds(each.end_s)
        ends = (each.grid, each.grid)
        here = Span(file.source, *times, each.score, each.grid, times[0], each.box, ends)
        last = joined[-1] if joined and joined[-1].file == here.file else None
        if (
            last is not None
            and _ALIKE * max(here.score, last.score) <= min(here.score, last.score)
            and here.start_s - last.end_s <= gap_s
        ):
            joined.pop()
            best = max((last, here), key=lambda span: span.score)
            end_s = max(last.end_s, here.end_s)
            ends = (last.ends[0], here.ends[1])
            here = replace(best, start_s=last.start_s, end_s=end_s, ends=ends)
        joined.append(here)
    return sorted(joined, key=lambda span: -span.score)


def _file_of(frame: int, files: Sequence[ShownFile]) -> ShownFile:
    """The file that a frame of the memory is from."""
    return [files[0], *(other for other in files[1:] if other.first <= frame)][-1]


def spans_seen(intervals: Sequence[Interval], files: Sequence[ShownFile]) -> list[Span]:
    """Intervals of an answer as spans of their files, best first; one over two files is two."""
    found = []
    for interval in intervals:
        parts: list[tuple[ShownFile, list[Moment]]] = []
        for moment in interval.moments:
            file = _file_of(min(moment.frames, default=0), files)
            if not parts or parts[-1][0] != file:
                parts.append((file, []))
            parts[-1][1].append(moment)
        for number, (file, moments) in enumerate(parts):
            best = max(moments, key=lambda moment: moment.score)
            last = number + 1 == len(parts)
            end_s = interval.end_s if last else parts[number + 1][0].begin_s
            found.append(
                Span(
                    file.source, file.seconds(moments[0].start_s), file.seconds(end_s), best.score,
                    best.grid, file.seconds(best.start_s), best.box,
                    (moments[0].grid, moments[-1].grid),
                )
            )  # fmt: skip
    return sorted(found, key=lambda span: -span.score)


def answer_spans(answer: Answer, gap_s: float, files: Sequence[ShownFile]) -> list[Span]:
    """Spans that an answer names: when it was seen, or where it was not, the likeliest moment.

    From models that do not judge, the moments that match best, see ``spans_of``.
    """
    if answer.found is None:
        return spans_of(answer.evidence, gap_s, files)
    if not answer.found:
        return spans_of(answer.evidence[:1], gap_s, files)
    return spans_seen(answer.intervals, files)


class ThumbnailSession:
    """A session with a small picture of each grid it remembers, and its file if it has one.

    Args:
        session: new, or as the file has it.
        file: gets every change of the memory.
        open_followers: opens what follows things, sessions of track and mots, for each file that
            is shown; it is given the file and the number of its first frame to come.

    Attributes:
        files: what the memory was shown.
        ledger: the things that were followed.
    """

    def __init__(
        self,
        session: VideoMemorySession,
        file: MemoryFile | None = None,
        open_followers: Callable[[ShownFile, int], Sequence[Any]] | None = None,
    ) -> None:
        self.session, self.file = session, file
        self.ledger = EntityLedger(file)
        self._open_followers = open_followers
        self._followers: tuple[ShownFile, Sequence[Any]] | None = None
        self.files = shown_files({} if file is None else file.about)
        self._noted = list(self.files)
        self._pictures: dict[int, NDArray[np.uint8]] = {}
        self._recent = {frame.index: shrink(frame.image) for frame in session.waiting}

    def step(self, frame: Frame) -> WatchResult:
        """Look at the next frame; what enters memory is on disk when this returns."""
        if self.file is not None and self.files != self._noted:
            self._noted = list(self.files)
            if len(self.files) > 1 or self.files[0].begin_s:
                self.file.note(files=[asdict(each) for each in self.files])
        if self._open_followers is not None:
            self._follow(frame)
        result = self.session.step(frame)
        if not result.looked:
            return result
        self._recent[frame.index] = shrink(frame.image)
        if result.wrote:
            self._wrote(result.wrote)
        return result

    def _follow(self, frame: Frame) -> None:
        """Follow things on a frame, before the tokens are saved with what is found."""
        assert self._open_followers is not None
        file = self.files[-1]
        if self._followers is None or self._followers[0] != file:
            self.ledger.renew()
            self._followers = (file, self._open_followers(file, frame.index))
        for follower in self._followers[1]:
            self.ledger.write(frame, follower.step(frame))

    def tell(self, time_s: float, frame: int) -> str:
        """Words for a time of the memory: that of its file, which is named where there are more."""
        file = _file_of(frame, self.files)
        said = clock(file.seconds(time_s))
        return f"{Path(file.source).name} {said}" if len(self.files) > 1 else said

    def thing_spans(self, answer: ThingAnswer) -> list[Span]:
        """What an answer from the ledger rests on, in time order."""
        held = self.session.memory.read()
        spans = []
        for each in answer.spans:
            file = _file_of(each.frame, self.files)
            near = min(held, key=lambda e: abs(e.start_s - each.start_s), default=None)
            grid = -1
            if near is not None and abs(near.start_s - each.start_s) <= _AT_THAT_TIME_S:
                grid = near.index
            start_s, end_s = file.seconds(each.start_s), file.seconds(each.end_s)
            spans.append(
                Span(
                    file.source, start_s, end_s, 1.0, grid, start_s, each.box, (grid, grid),
                    each.name, each.number,
                )
            )  # fmt: skip
        return spans

    def crop(self, entity: int) -> NDArray[np.uint8] | None:
        """The picture of a thing that was followed, cut out; None when there is none."""
        content = self.ledger.picture(entity)
        return None if content is None else from_jpeg(content)

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
        self.ledger.finish()
        if self.file is not None:
            self.file.save(self.session.state_dict())

    def picture(self, grid: int) -> NDArray[np.uint8] | None:
        """``(h, w, 3)`` RGB of a grid, small; None when there is none."""
        if self.file is not None and (content := self.file.picture(grid)) is not None:
            try:
                return from_jpeg(content)
            except ModelError as error:
                raise InputError(f"{self.file.path}: {error}") from error
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

    @property
    def count(self) -> int:
        """Answers in the folder."""
        return self._number

    def add(self, question: str, answer: Answer, spans: Sequence[Span]) -> Mapping[str, Any]:
        """Write an answer.

        Returns:
            What was written: question, answer, evidence, and the name of the picture.
        """
        self._number += 1
        strip = answer.found is not None
        tiles = [tile for span in spans[:_MOST_TILES] for tile in self._tiles(span, strip)]
        sheet = None
        if tiles:
            sheet = self._folder / f"answer-{self._number:03d}.png"
            title = f"not seen: {question}" if answer.found is False else question
            evidence_sheet(sheet, title, tiles)
        entry = {
            "question": question,
            "at_s": answer.at_s,
            "answer": answer.text,
            "cut": answer.cut,
            "found": answer.found,
            "threshold": answer.threshold,
            "unknown": answer.unknown,
            "moments": [asdict(span) for span in spans],
            "evidence": [asdict(moment) for moment in answer.evidence],
            "scope": answer.scope,
            "tokens_read": answer.tokens_read,
            "grids_read": answer.grids_read,
            "notes": dict(answer.notes),
            "sheet": None if sheet is None else str(sheet),
        }
        self._file.write(json.dumps(strict_json(entry), allow_nan=False, ensure_ascii=False))
        return entry

    def _tiles(self, span: Span, strip: bool) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """The picture of a span, what is looked for framed; with ``strip`` its ends beside it."""
        if span.thing:
            yield from self._thing(span)
            return
        picture = self._watcher.picture(span.grid)
        if picture is None:
            return
        if span.box is not None:
            picture = framed(picture, span.box)
        yield picture, f"{clock(span.peak_s)}  {span.score:.2f}"
        ends = zip(("from", "to"), span.ends, (span.start_s, span.end_s), strict=True)
        for word, grid, time_s in ends if strip else ():
            end = self._watcher.picture(grid)
            if end is not None:
                yield end, f"{word} {clock(time_s)}"

    def _thing(self, span: Span) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """The picture of a thing, and that of the moment with the thing framed."""
        crop = self._watcher.crop(span.entity)
        if crop is not None:
            yield _bordered(crop), span.thing
        picture = self._watcher.picture(span.grid) if span.grid >= 0 else None
        if picture is not None:
            framed_picture = picture if span.box is None else framed(picture, span.box)
            yield framed_picture, f"{span.thing}  {clock(span.peak_s)}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _bordered(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of any shape in the middle of one of 16:9, for sheets whose tiles are alike."""
    height, width = crop.shape[:2]
    high, wide = max(height, -(-9 * width // 16)), max(width, -(-16 * height // 9))
    whole = np.full((high, wide, 3), 40, np.uint8)
    top, left = (high - height) // 2, (wide - width) // 2
    whole[top : top + height, left : left + width] = crop
    return whole


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
    brain = model_of(brain, str(made_with))
    if made_with != brain.traits.model_id:
        raise InputError(
            f"{file and file.path} was made with model {short(str(made_with), 80)!r} and cannot be "
            f"read with {brain.traits.model_id!r}; give that --model"
        )
    state = None if file is None else file.load()
    if file is None or state is None:
        chosen = preset or ("default" if brain.traits.speaks else "search")
        config = load_config(VideoQaConfig, chosen, changes, folder="videoqa")
        return VideoMemorySession(brain, config)
    try:
        given = dict(file.about.get("config", {}))
        settings = load_config(VideoQaConfig, None, given, folder="videoqa")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"memory file {file.path} has damaged settings; take an older copy, or begin a new one"
        ) from error
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


def clock(seconds: float) -> str:
    """``1:02:03.4``, or the date and time of wall-clock times."""
    if seconds > 1e8:
        from datetime import datetime, timezone

        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "seconds")
    minutes, rest = divmod(max(seconds, 0.0), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
