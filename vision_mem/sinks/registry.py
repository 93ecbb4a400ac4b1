"""Sinks by name: what ``--save`` on the command line makes, and where it goes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.sinks.boxes import MotBoxes, SingleObjectBoxes
from vision_mem.sinks.masks import Diary, MaskPng, MaskRle
from vision_mem.sinks.video import AnnotatedVideo, WriteBehind
from vision_mem.sinks.window import LiveWindow
from vision_mem.types import SourceInfo
from vision_mem.visualization.draw import Painter

TrackingSink = (
    AnnotatedVideo
    | WriteBehind
    | SingleObjectBoxes
    | MotBoxes
    | MaskRle
    | MaskPng
    | Diary
    | LiveWindow
)

# What each name writes below the output folder; <name> is SourceInfo.name.
SINKS: dict[str, str] = {
    "video": "<name>_tracked.mp4: annotated H.264 video",
    "lasot": "lasot/<name>.txt: x,y,w,h a frame, one file an object",
    "otb": "otb/<name>.txt: the same in OTB's place",
    "got10k": "got10k/<name>/<name>_001.txt and <name>_time.txt",
    "mot": "mot/<name>.txt: MOTChallenge lines, all objects",
    "rle": "<name>.masks.jsonl: COCO run lengths, one JSON line a frame",
    "png": "masks/<name>/00000.png ...: indexed PNG in DAVIS colours",
    "diary": "<name>.diary.jsonl: scores, decisions and events, one JSON line a frame",
    "window": "nothing: shows the run in a window",
}


def make_sinks(
    out_dir: str | Path,
    names: Sequence[str],
    info: SourceInfo,
    *,
    append: bool = False,
    convention: str = "true",
    painter: Painter | None = None,
) -> list[TrackingSink]:
    """Make sinks from their names; they are opened by ``session.run``.

    Args:
        out_dir: folder for all files; made when the sinks open.
        names: keys of ``SINKS``; a name given twice counts once.
        info: the source; its name becomes part of file names.
        append: go on after an interrupted run. Text and JSON files lose the lines of frames that
            come again and grow from there; the video goes on in ``<name>_tracked.part2.mp4``.
        convention: ``"true"`` or ``"samurai"``, how box files count widths.
        painter: what videos and windows show.

    Returns:
        One sink a name, in the order given.

    Raises:
        InputError: for a name that is not known.
    """
    for name in names:
        if name not in SINKS:
            near = difflib.get_close_matches(name, SINKS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"no output is called {name!r}; expected {', '.join(SINKS)}{hint}")
    out = Path(out_dir)
    return [
        _make(name, out, info.name, append, convention, painter) for name in dict.fromkeys(names)
    ]


def _make(
    kind: str, out: Path, name: str, append: bool, convention: str, painter: Painter | None
) -> TrackingSink:
    if kind == "video":
        video = AnnotatedVideo(out / f"{name}_tracked.mp4", painter=painter, append=append)
        # Drawing and encoding take a fifth of a frame's time. A painter of the caller's may be
        # in use elsewhere, and it remembers trails.
        return video if painter is not None else WriteBehind(video)
    if kind in ("lasot", "otb", "got10k"):
        return SingleObjectBoxes(out / kind, kind, convention=convention, append=append)
    if kind == "mot":
        return MotBoxes(out / "mot" / f"{name}.txt", convention=convention, append=append)
    if kind == "rle":
        return MaskRle(out / f"{name}.masks.jsonl", append=append)
    if kind == "png":
        return MaskPng(out / "masks" / name, append=append)
    if kind == "diary":
        return Diary(out / f"{name}.diary.jsonl", append=append)
    return LiveWindow(painter=painter)
