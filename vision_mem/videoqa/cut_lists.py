"""When things were seen, for other programs: JSON, CSV, edit lists, chapters, clips."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vision_mem.formats.text import csv_line, write_file
from vision_mem.sinks.video import copy_part
from vision_mem.text import one_line
from vision_mem.videoqa.config import FORMS
from vision_mem.videoqa.evidence import Span

_USUAL_FPS = 25.0
_COLUMNS = ("question", "file", "start_s", "end_s", "peak_s", "score")
_NO_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question and when what it asks for was seen.

    Attributes:
        question: as asked.
        found: whether it was seen; None from models that do not judge that.
        spans: when, best first; empty when it was not seen.
    """

    question: str
    found: bool | None
    spans: tuple[Span, ...]

    @property
    def total_s(self) -> float:
        """Seconds of all spans."""
        return sum(span.end_s - span.start_s for span in self.spans)


def write_cut_lists(
    folder: Path, forms: Sequence[str], answered: Sequence[AnsweredQuestion], fps: float | None
) -> list[Path]:
    """Write answers in some forms.

    Args:
        folder: where.
        forms: of ``videoqa.config.FORMS``.
        answered: in the order they were asked.
        fps: frames a second that edit lists count in; None for 25.

    Returns:
        The files.

    Raises:
        SinkError: when one cannot be written.
    """
    written = []
    for form in forms:
        for name, text in _WRITERS[form](answered, fps or _USUAL_FPS):
            write_file(folder / name, text.encode())
            written.append(folder / name)
    return written


_Texts = list[tuple[str, str]]


def _json(answered: Sequence[AnsweredQuestion], fps: float) -> _Texts:
    rows = [
        {
            "question": each.question, "found": each.found, "count": len(each.spans),
            "total_s": round(each.total_s, 3), "intervals": [asdict(s) for s in _in_time(each)],
        }
        for each in answered
    ]  # fmt: skip
    return [("intervals.json", json.dumps(rows, indent=2, ensure_ascii=False) + "\n")]


def _csv(answered: Sequence[AnsweredQuestion], fps: float) -> _Texts:
    lines = [csv_line(_COLUMNS)]
    for each in answered:
        for s in _in_time(each):
            times = (round(value, 3) for value in (s.start_s, s.end_s, s.peak_s))
            lines.append(csv_line([each.question, s.file, *times, round(s.score, 3)]))
    return [("intervals.csv", "".join(f"{line.rstrip()}\n" for line in lines))]


def _edl(answered: Sequence[AnsweredQuestion], fps: float) -> _Texts:
    """CMX 3600: each interval a cut, one after the other."""
    base = max(1, round(fps))
    lines = ["TITLE: vision-mem ask", "FCM: NON-DROP FRAME", ""]
    number, at = 0, 0
    for each in answered:
        for s in _in_time(each):
            start, end = round(s.start_s * base), round(s.end_s * base)
            end = max(end, start + 1)
            times = (start, end, at, at + end - start)
            number, at = number + 1, at + end - start
            codes = " ".join(_timecode(time, base) for time in times)
            lines += [
                f"{number:03d}  AX       V     C        {codes}",
                f"* FROM CLIP NAME: {one_line(Path(s.file).name)}",
                f"* COMMENT: {one_line(each.question)}",
                "",
            ]
    lines.append(f"* {base} FRAMES A SECOND")
    return [("intervals.edl", "\n".join(lines) + "\n")]


def _timecode(frames: int, base: int) -> str:
    seconds, rest = divmod(frames, base)
    hours = seconds // 3600 % 24
    return f"{hours:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"


def _chapters(answered: Sequence[AnsweredQuestion], fps: float) -> _Texts:
    """Chapters as ffmpeg reads them (``-i FILE -map_metadata 1``), a file for each video."""
    marks: dict[str, list[tuple[int, int, str]]] = {}
    for each in answered:
        for s in each.spans:
            times = round(1000 * s.start_s), max(round(1000 * s.end_s), round(1000 * s.start_s) + 1)
            marks.setdefault(s.file, []).append((*times, each.question))
    texts: dict[str, str] = {}
    for file, chapters in marks.items():
        name = _NO_NAME.sub("_", Path(file).name).strip("_") or "stream"
        while f"{name}.chapters.txt" in texts:
            name += "_"
        lines = [";FFMETADATA1"]
        for start, end, words in sorted(chapters):
            title = re.sub(r"([=;#\\])", r"\\\1", one_line(words))
            lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}",
                      f"title={title}"]  # fmt: skip
        texts[f"{name}.chapters.txt"] = "\n".join(lines) + "\n"
    return list(texts.items())


def _in_time(answered: AnsweredQuestion) -> list[Span]:
    """Spans as they follow each other in their files."""
    order = list(dict.fromkeys(span.file for span in sorted(answered.spans, key=lambda s: s.ends)))
    return sorted(answered.spans, key=lambda span: (order.index(span.file), span.start_s))


_WRITERS: dict[str, Callable[[Sequence[AnsweredQuestion], float], _Texts]] = dict(
    zip(FORMS, (_json, _csv, _edl, _chapters), strict=True)
)


def cut_clips(folder: Path, number: int, answered: AnsweredQuestion) -> list[Path]:
    """Cut intervals out of their videos, without encoding anything anew.

    Args:
        folder: where; clips are called ``clip-NUMBER-1.mp4`` and so on, best first.
        number: of the answer.
        answered: its spans; those that are of no video file are left out.

    Returns:
        The files.

    Raises:
        SinkError: when one cannot be written or its video cannot be read.
    """
    return [
        copy_part(span.file, span.start_s, span.end_s, folder / f"clip-{number:03d}-{place}.mp4")
        for place, span in enumerate(answered.spans, start=1)
        if Path(span.file).is_file()
    ]
