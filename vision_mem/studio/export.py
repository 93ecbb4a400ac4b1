"""Take home: a ZIP of the formats of ``track --save``, made from what the stream has found."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vision_mem.errors import InputError
from vision_mem.sinks.registry import SINKS, check_names, make_sinks
from vision_mem.sources.open import open_source
from vision_mem.studio.frames import decode_jpeg
from vision_mem.studio.stream import LOG, StreamActor
from vision_mem.types import Frame, SourceInfo

FORMATS = tuple(name for name in SINKS if name != "window")
_AT_ONCE = 5000
"""Frames of weeks are not held at a time."""


def export(
    actor: StreamActor, names: Sequence[str], path: Path, spec: str | None = None,
    convention: str = "true",
) -> None:  # fmt: skip
    """Write results as files, as ``track`` would have, and the log of commands, into a ZIP.

    Of live streams a video holds the frames that memory still reaches.

    Args:
        actor: of the stream; waits until it has caught up.
        names: of ``FORMATS``.
        path: the ZIP.
        spec: of the file that is followed; None for live streams.
        convention: as ``make_sinks``.

    Raises:
        InputError: for a name that is not known, or when nothing is followed.
    """
    for name in names:
        if name not in FORMATS:
            check_names([name], {key: SINKS[key] for key in FORMATS})
            raise InputError(f"no format {name!r}; expected {', '.join(FORMATS)}")
    plan = actor.history.plan
    if not plan.objects:
        raise InputError("nothing is followed yet: click on something first")
    if not actor.wait_until_caught_up():
        raise InputError(actor.problem or "the stream is still computing; try again")
    last = actor.status["head"] or 0
    info = replace(actor.frames.info, frame_count=None)
    if not info.width:
        height, width = actor.store.size
        info = replace(info, width=width, height=height)
    with tempfile.TemporaryDirectory(prefix="vision-mem-export-") as scratch:
        folder = Path(scratch) / info.name
        _write(actor, [n for n in names if n != "video"], folder, info, spec, last, convention)
        if "video" in names:
            _write(actor, ["video"], folder, info, spec, last, convention)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for found in sorted(folder.rglob("*")):
                if found.is_file():
                    file.write(found, found.relative_to(folder.parent))
            file.write(actor.folder / LOG, f"{info.name}/{LOG}")


def _write(
    actor: StreamActor, names: Sequence[str], folder: Path, info: SourceInfo, spec: str | None,
    last: int, convention: str,
) -> None:  # fmt: skip
    if not names:
        return
    sinks = make_sinks(folder, names, info, convention=convention)
    previous, plan = None, actor.history.plan
    try:
        for sink in sinks:
            sink.open(info)
        for frame in _frames(actor, spec, last, "video" in names):
            result = actor.store.result(frame.index, frame.time_s, plan, previous)
            previous = frame.index
            for sink in sinks:
                sink.write(frame, replace(result, size=frame.size))
    finally:
        for sink in sinks:
            sink.close()


def _frames(actor: StreamActor, spec: str | None, last: int, pictures: bool) -> Iterator[Frame]:
    if spec is not None:
        with open_source(spec, end=last + 1) as source:
            yield from source
        return
    height, width = actor.store.size
    blank = np.zeros((height, width, 3), np.uint8)
    some = actor.store.frames(0, last, _AT_ONCE)
    while some:
        for index, time_s in some:
            if not pictures:
                yield Frame(index, time_s, blank)
            elif (content := actor.ring.jpeg(index)) is not None:
                yield Frame(index, time_s, decode_jpeg(content))
        some = actor.store.frames(some[-1][0] + 1, last, _AT_ONCE)
