"""The one way in: which sets of questions there are, and opening a copy of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.registry import Dataset, known_dataset
from vision_mem.evaluation.selection import matching
from vision_mem.evaluation.videoqa import answer_rules
from vision_mem.evaluation.videoqa.datasets import DATASETS, odvbench, ovobench, streamingbench
from vision_mem.evaluation.videoqa.records import Query, Reply, VideoQaBenchmark, distinct

_BELOW = ("", "data", "annotations", "StreamingBench", "src/data")
_VIDEOS = ("", "src_videos", "data/src_videos", "videos", "data/videos", "data")
_CHUNKS = ("chunked_videos", "data/chunked_videos", "clips")


class VideoQaSet(NamedTuple):
    """What sets of questions differ in.

    Attributes:
        dataset: its row in ``DATASETS``.
        annotations: names of its files; all that are there are read.
        read: questions of one of them, from its text and name.
        replies: what is in a result file, from its text and name, and the name of the model.
        official: whether the set's own scorer takes a reply as right; None: it does not count.
        result_file: what is written of the answers about one video: from its questions, and the
            answers by their names, None where the model failed; ``replies`` reads it.
        groups: tasks by group in the set's order; empty where the files say it.
        pooled: numbers of several tasks are shares of all their questions; else means of tasks.
        clip_names: ready-cut clips of a question, where there are any.

    Readers raise ``InputError`` for a file that is another one or damaged, with the entry.
    """

    dataset: Dataset
    annotations: tuple[str, ...]
    read: Callable[[str, str], tuple[Query, ...]]
    replies: Callable[[str, str, str], Iterable[Reply]]
    official: Callable[[Reply], bool | None]
    result_file: Callable[[Sequence[Query], Mapping[str, str | None]], Any]
    groups: Mapping[str, tuple[str, ...]]
    pooled: bool
    clip_names: Callable[[Query], list[str]] = lambda query: []

    @property
    def title(self) -> str:
        """As papers write it."""
        return self.dataset.title


_OVO = VideoQaSet(
    DATASETS["ovo-bench"],
    ovobench.ANNOTATIONS, ovobench.read_annotations,
    lambda text, where, model: ovobench.read_replies(text, where), answer_rules.ovo_official,
    ovobench.result_file, ovobench.GROUPS, False, ovobench.clip_names,
)  # fmt: skip

VIDEOQA_SETS: Mapping[str, VideoQaSet] = {
    "ovo-bench": _OVO,
    "streamingbench": VideoQaSet(
        DATASETS["streamingbench"],
        streamingbench.ANNOTATIONS, streamingbench.read_annotations, streamingbench.read_replies,
        answer_rules.streaming_official, streamingbench.result_file, streamingbench.GROUPS, True,
    ),
    "odv-bench": VideoQaSet(
        DATASETS["odv-bench"],
        odvbench.ANNOTATIONS, odvbench.read_annotations,
        lambda text, where, model: odvbench.read_replies(text, where), answer_rules.odv_official,
        odvbench.result_file, {}, True,
    ),
    "streams": _OVO._replace(dataset=DATASETS["streams"]),
}  # fmt: skip
"""The sets by their words on the command line."""


def set_of(key: str) -> VideoQaSet:
    """What a set is.

    Raises:
        InputError: when there is no such set.
    """
    known_dataset(DATASETS, key)
    return VIDEOQA_SETS[key]


def open_videoqa_benchmark(
    key: str, root: Path | None, *, tasks: str | None = None
) -> VideoQaBenchmark:
    """Open a copy of a set.

    Args:
        key: its word.
        root: its folder, or an annotation file; None for result files without annotations.
        tasks: words or patterns of tasks, comma-separated, as ``EPM,O*``; None for all.

    Raises:
        InputError: when there is no such set, no annotations are found, they are damaged, or no
            task fits.
    """
    kind = set_of(key)
    found: tuple[Query, ...] = ()
    if root is not None:
        files = [root] if root.is_file() else _annotations(root, kind)
        if not files:
            raise InputError(
                f"{root} has no annotations of {kind.title}; expected {kind.dataset.layout}, or "
                "the file itself"
            )
        merged = [query for file in files for query in kind.read(read_text(file), str(file))]
        found = distinct(merged, str(root))
        root = root.parent if root.is_file() else root
    benchmark = VideoQaBenchmark(key, kind.title, found, root)
    return benchmark if tasks is None else _only(benchmark, kind, tasks)


def _annotations(root: Path, kind: VideoQaSet) -> list[Path]:
    """The first folder that has some; JSON before CSV of the same questions."""
    for below in _BELOW:
        there = [root / below / name for name in kind.annotations]
        there = [path for path in there if path.is_file()]
        if there:
            if kind.pooled:
                kinds = {path.suffix for path in there}
                chosen = ".json" if ".json" in kinds else ".csv"
                return [path for path in there if path.suffix == chosen]
            return there[:1]
    return []


def _only(benchmark: VideoQaBenchmark, kind: VideoQaSet, tasks: str) -> VideoQaBenchmark:
    known = dict.fromkeys(query.task for query in benchmark.queries)
    known = known or dict.fromkeys(task for group in kind.groups.values() for task in group)
    if not known:
        raise InputError(f"{kind.title} has its tasks in its annotations; give --root")
    fit = matching(list(known), tasks)
    wanted = tuple(task for task in known if task in fit)
    queries = tuple(query for query in benchmark.queries if query.task in wanted)
    return replace(benchmark, queries=queries, tasks=wanted)


def video_of(root: Path, query: Query, key: str, *, cut: bool) -> Path | None:
    """The video file of a question; ``cut``: its ready-cut clip. None when it is not there."""
    names = set_of(key).clip_names(query) if cut else [query.video, *_shorter(query.video)]
    folders = _CHUNKS if cut else _VIDEOS
    places = (root / folder / name for folder in folders for name in names)
    return next((place for place in places if place.is_file()), None)


def _shorter(video: str) -> list[str]:
    """``sample_12/video.mp4`` also as ``sample_12.mp4``; ``videos/a.mp4`` also as ``a.mp4``."""
    parts = video.split("/")
    found = [f"{parts[-2]}.mp4"] if len(parts) > 1 and parts[-1] == "video.mp4" else []
    return found + (["/".join(parts[1:])] if len(parts) > 1 else [])
