"""A generated benchmark of questions about videos on disk, in the files of OVO-Bench."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.synthetic.qa_questions import StreamMoments, StreamQuestion, ask_stream
from vision_mem.synthetic.qa_streams import GeneratedStream, StreamSettings
from vision_mem.synthetic.set_folder import prepare_set
from vision_mem.visualization.contact_sheet import write_video

ANNOTATIONS = "data/ovo_bench_new.json"
VIDEOS = "data/src_videos"
RECORD = "streams.json"
"""Says what ``prepare_streams`` made a set of."""

_FOLDER = "generated"


@dataclass(frozen=True)
class StreamSeries:
    """A set of generated streams in a few numbers.

    Attributes:
        videos: how many.
        seconds, beat_s, objects, scene_beats, width, height, fps: of each, see ``StreamSettings``.
        seed: of the first; the others count on.
        per_task: see ``ask_stream``.
    """

    videos: int = 4
    seconds: int = 64
    beat_s: int = 4
    objects: int = 3
    scene_beats: int = 6
    width: int = 224
    height: int = 168
    fps: float = 4.0
    seed: int = 1
    per_task: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.videos <= 10_000 and self.per_task >= 1):
            raise InputError(
                f"{self.videos} streams with {self.per_task} questions a task cannot be made; "
                "expected videos=1 or more and per_task=1 or more"
            )
        self.settings()

    def settings(self) -> list[StreamSettings]:
        """Those of each stream."""
        shared = ("seconds", "beat_s", "objects", "scene_beats", "width", "height", "fps")
        each = {name: getattr(self, name) for name in shared}
        return [StreamSettings(seed=self.seed + n, **each) for n in range(self.videos)]


def prepare_streams(
    root: str | Path,
    series: StreamSeries | None = None,
    *,
    on_stream: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Write a set where there is none yet; several programs may do so at a time.

    The folder appears when all of it is there.

    Args:
        root: the set's folder; see ``write_streams`` for what it gets.
        series: what to make; None: whatever is there, or the defaults.
        on_stream: see ``write_streams``.

    Returns:
        What the set is made of, JSON-ready.

    Raises:
        InputError: when the folder holds other things, or a set of another ``series``.
        SinkError: when it cannot be written.
    """
    return prepare_set(
        root, series, StreamSeries(),
        lambda place, some: write_streams(
            place, some.settings(), per_task=some.per_task, on_stream=on_stream
        ),
        what="streams", record=RECORD, option="--stream",
    )  # fmt: skip


def write_streams(
    root: str | Path,
    settings: Sequence[StreamSettings],
    *,
    per_task: int = 2,
    tasks: Sequence[str] | None = None,
    on_stream: Callable[[str], None] = lambda name: None,
) -> int:
    """Write videos and questions: ``data/ovo_bench_new.json``, ``data/src_videos/generated/*.mp4``.

    The files are those of OVO-Bench: ``vision-mem eval ovo-bench`` and ``vision-mem score
    ovo-bench`` open them.

    Args:
        root: a folder; files of these names are replaced.
        settings: one for each video; no two alike.
        per_task: see ``ask_stream``.
        tasks: see ``ask_stream``.
        on_stream: called with the name of each video when it is written.

    Returns:
        How many questions there are, each moment of the forward ones counted.

    Raises:
        InputError: when there is nothing to write.
        SinkError: when something cannot be written.
    """
    root = Path(root)
    entries: list[dict[str, Any]] = []
    number = 0
    for place, chosen in enumerate(settings):
        stream = GeneratedStream(chosen, f"{place:04d}")
        asked = ask_stream(stream, per_task=per_task, tasks=tasks)
        entries += entries_of(asked, f"{_FOLDER}/{stream.name}.mp4", first=len(entries))
        number += sum(len(q.moments) if isinstance(q, StreamMoments) else 1 for q in asked)
        video = root / VIDEOS / _FOLDER / f"{stream.name}.mp4"
        write_video(video, (frame.image for frame in stream), chosen.fps)
        on_stream(stream.name)
    if not entries:
        raise InputError("there is nothing to ask about these streams; make more or longer ones")
    path = root / ANNOTATIONS
    make_folder(path.parent)
    write_file(path, (json.dumps(entries, indent=1) + "\n").encode())
    return number


def entries_of(
    asked: Iterable[StreamQuestion | StreamMoments], video: str, *, first: int = 0
) -> list[dict[str, Any]]:
    """Entries of OVO-Bench's annotation file; its reader makes them the questions a model gets.

    Args:
        asked: about one stream.
        video: its path below the folder of videos.
        first: number of the first entry.
    """
    return [
        {"id": first + number, "task": question.task, "video": video, **_fields(question)}
        for number, question in enumerate(asked)
    ]


def _fields(asked: StreamQuestion | StreamMoments) -> dict[str, Any]:
    if isinstance(asked, StreamQuestion):
        return {
            "question": asked.text, "options": list(asked.options),
            "answer": asked.options[asked.right], "gt": asked.right, "realtime": asked.time_s,
        }  # fmt: skip
    if asked.task == "REC":
        counts = [{"realtime": t, "count": count} for t, count in asked.moments]
        return {"activity": asked.subject, "test_info": counts}
    if asked.task == "SSR":
        steps = zip(asked.moments, asked.steps, strict=True)
        shown = [{"realtime": t, "step": step, "type": yes} for (t, yes), step in steps]
        every = list(dict.fromkeys(asked.steps))
        return {"tutorial": asked.subject, "all_steps": every, "test_info": shown}
    moments = [{"realtime": t, "type": yes} for t, yes in asked.moments]
    return {
        "question": asked.subject, "answer": asked.answer,
        "ask_time": asked.moments[0][0], "clue_time": asked.clue_s, "test_info": moments,
    }  # fmt: skip
