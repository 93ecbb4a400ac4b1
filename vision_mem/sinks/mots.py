"""Sinks of ``vision-mem mots``: results of many objects as videos, benchmark files, JSON lines."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.formats.class_names import ClassNumbers
from vision_mem.formats.mots import KITTI_MOTS, MOTS_CHALLENGE
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.results import Shown, ShownObject, ShownTracks
from vision_mem.sinks.masks import JsonLines, MaskRle
from vision_mem.sinks.tracks import KITTI_TYPES, KittiLabels, MotsPng, MotsText, MotText
from vision_mem.sinks.video import AnnotatedVideo, WriteBehind
from vision_mem.sinks.window import LiveWindow
from vision_mem.types import Frame, SourceInfo
from vision_mem.visualization.draw import Painter

# What each name writes below the output folder; <name> is SourceInfo.name.
MOTS_SINKS: dict[str, str] = {
    "video": "<name>_tracked.mp4: H.264 video with masks, identity colours and trails",
    "kitti-mots": "kitti-mots/<name>.txt: KITTI MOTS text, frames from 0",
    "kitti-mots-png": "kitti-mots-png/<name>/000000.png ...: the same as 16-bit PNG",
    "mots-challenge": "mots-challenge/<name>.txt: MOTS Challenge text, frames from 1",
    "kitti": "kitti/<name>.txt: KITTI tracking labels",
    "mot": "mot/<name>.txt: MOTChallenge lines, all classes",
    "rle": "<name>.masks.jsonl: COCO run lengths, one JSON line a frame",
    "events": "<name>.events.jsonl: born, confirmed, lost, found, removed ..., one JSON line each",
    "diary": "<name>.diary.jsonl: states, scores and decisions, one JSON line a frame",
    "tracks": "<name>.tracks.csv: one line a track: when, where, how long, how often lost",
    "window": "nothing: shows the run in a window",
}

TRAIL = 60
"""Positions in the trails of videos."""


def check_names(names: Sequence[str]) -> list[str]:
    """The names of outputs, each once.

    Raises:
        InputError: for one that is not in ``MOTS_SINKS``.
    """
    for name in names:
        if name not in MOTS_SINKS:
            near = difflib.get_close_matches(name, MOTS_SINKS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"no output is called {name!r}; expected {', '.join(MOTS_SINKS)}{hint}"
            )
    return list(dict.fromkeys(names))


def make_mots_sinks(
    out_dir: str | Path,
    names: Sequence[str],
    info: SourceInfo,
    *,
    append: bool = False,
    classes: Mapping[str, str] | None = None,
    painter: Painter | None = None,
) -> list[Any]:
    """Make sinks from their names; they are opened by ``session.run``.

    Args:
        out_dir: folder for all files; made when the sinks open.
        names: keys of ``MOTS_SINKS``. ``tracks`` is no sink of frames, see ``tracktable``.
        info: the source; its name becomes part of file names.
        append: go on after an interrupted run, as ``make_sinks``.
        classes: words of the detector to classes of the benchmarks' files.
        painter: what videos and windows show.

    Returns:
        One sink a name but ``tracks``, in the order given.

    Raises:
        InputError: for a name that is not known, or classes that a format does not have.
    """
    out, stem = Path(out_dir), info.name
    made: list[Any] = []
    for name in check_names(names):
        if name == "video":
            video = AnnotatedVideo(
                out / f"{stem}_tracked.mp4", painter=painter or _painter(), append=append
            )
            made.append(WriteBehind(video))
        elif name == "window":
            made.append(LiveWindow(painter=painter or _painter()))
        elif name == "rle":
            made.append(TrackRle(out / f"{stem}.masks.jsonl", append=append))
        elif name == "events":
            made.append(EventLines(out / f"{stem}.events.jsonl", append=append))
        elif name == "diary":
            made.append(TrackDiary(out / f"{stem}.diary.jsonl", append=append))
        elif name != "tracks":
            made.append(_benchmark_file(name, out, stem, append, classes or {}))
    return made


def _painter() -> Painter:
    # Of many objects some are always out of sight; who left is in the events.
    return Painter(scores=False, lost=False, trail=TRAIL)


def _benchmark_file(
    name: str, out: Path, stem: str, append: bool, classes: Mapping[str, str]
) -> TrackFile:
    path = out / name / f"{stem}.txt"
    if name == "mot":
        return TrackFile(MotText(path, append=append), lambda word: 1)
    if name == "kitti":
        numbers = ClassNumbers(KITTI_TYPES, classes, "KITTI labels")
        return TrackFile(KittiLabels(path, append=append), numbers.number)
    layout = MOTS_CHALLENGE if name == "mots-challenge" else KITTI_MOTS
    numbers = ClassNumbers(layout.classes, classes, layout.title)
    if name == "kitti-mots-png":
        return TrackFile(MotsPng(out / name / stem, layout, append=append), numbers.number)
    return TrackFile(MotsText(path, layout, append=append), numbers.number)


class TrackFile:
    """The tracks that are to be seen, as records of a benchmark's file.

    Args:
        writer: one of ``tracksinks``.
        number: word of a class to its number in the file; None leaves the track out.
    """

    def __init__(self, writer: Any, number: Callable[[str], int | None]) -> None:
        self.writer = writer
        self._number = number

    def open(self, info: SourceInfo) -> None:
        """Make the file."""
        self.writer.open(info)

    def write(self, frame: Frame, result: ShownTracks) -> None:
        """Add one frame.

        Raises:
            InputError: for what the format cannot say.
            SinkError: when it cannot be written.
        """
        records = [
            TrackRecord(each.object_id, number, each.score, each.box, each.mask)
            for each in result.objects
            if each.present and (number := self._number(each.class_name)) is not None
        ]
        self.writer.write(result.frame_index, records)

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()


class TrackRle(MaskRle):
    """``MaskRle`` with ``"class"`` and ``"state"`` of each object."""

    def _words(self, each: ShownObject) -> dict[str, Any]:
        return super()._words(each) | _kind(each)


class TrackDiary(JsonLines[ShownTracks]):
    """What became of each track and why, one JSON line a frame.

    ``{"frame", "time_s", "objects": [{"id", "name", "class", "state", "present", "score", "box",
    "detection", "diary"}], "events": [{"kind", "id", "name"}]}``; ``detection`` is the position of
    the track's detection among those of the frame, or null.
    """

    def _entries(self, result: ShownTracks) -> list[dict[str, Any]]:
        objects = [
            {
                "id": each.object_id,
                "name": each.name,
                **_kind(each),
                "present": bool(each.present),
                "score": each.score,
                "box": each.box,
                "detection": each.detection,
                "diary": each.diary,
            }
            for each in result.objects
        ]
        return [{"objects": objects, "events": _events(result)}]


class EventLines(JsonLines[Shown]):
    """What happened, one JSON line an event: ``{"frame", "time_s", "kind", "id", "name"}``."""

    def _entries(self, result: Shown) -> list[dict[str, Any]]:
        return _events(result)


def _kind(each: Any) -> dict[str, Any]:
    return {"class": each.class_name, "state": each.state}


def _events(result: Shown) -> list[dict[str, Any]]:
    return [{"kind": each.kind, "id": each.object_id, "name": each.name} for each in result.events]
