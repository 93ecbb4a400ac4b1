"""Questions at moments of videos, and what a model replied to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.models.vlm.protocol import Question

CHOICE, COUNT, YES_NO, OUTPUT = "choice", "count", "yes-no", "output"


@dataclass(frozen=True)
class Poll:
    """How words to be said at the right moment are asked for: each second, until it is yes.

    Attributes:
        until_s: the last second at which it is asked.
        then: what is asked once the moment is said to have come.
    """

    until_s: float
    then: Question


@dataclass(frozen=True)
class Query:
    """One question at one moment.

    Attributes:
        name: tells it from the others of the set: ``17``, or ``17_3`` for the fourth moment at
            which item 17 is asked.
        item: the entry of the set it belongs to.
        task: short word of the set for what is asked.
        group: of tasks.
        kind: ``choice``, ``count`` or ``yes-no``; ``output``: words to be said at the right moment.
        question: as it is put to a model, in our words.
        truth: ``B``, ``3`` or ``Yes``.
        video: path below the set's folder of videos.
        time_s: when it is asked, seconds from the video's beginning.
        start_s: what lies before is not part of the clip, seconds.
        place: number of the moment among those of the item, from 0; None for items with one.
        poll: of ``output``: how it is asked for; None for all others.
        source: the entry of the annotation file.
    """

    name: str
    item: str
    task: str
    group: str
    kind: str
    question: Question
    truth: str
    video: str
    time_s: float
    start_s: float = 0.0
    place: int | None = None
    poll: Poll | None = None
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def moments(self) -> list[float]:
        """When it is asked, seconds; what is polled, each second from the next one on."""
        if self.poll is None:
            return [self.time_s]
        return [self.time_s + n for n in range(1, int(self.poll.until_s - self.time_s) + 1)]


@dataclass(frozen=True)
class VideoQueries:
    """All questions about one video: what is run as one.

    Attributes:
        name: fit for a file name, unique in the set.
        video: path below the set's folder of videos.
        queries: in the order of their times.
    """

    name: str
    video: str
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Reply:
    """A question and what a model said, as they stand in a result file.

    Attributes:
        name, item, task, group, kind, truth: see ``Query``; the truth is the one stored there.
        response: None when the model failed.
        listed: the response was wrapped in a list.
        late_s: of ``output``: seconds from the right moment to the response.
    """

    name: str
    item: str
    task: str
    group: str
    kind: str
    truth: str
    response: str | None
    listed: bool = False
    late_s: float = 0.0


@dataclass(frozen=True)
class VideoQaBenchmark:
    """A set of questions about videos, or what of it is wanted.

    Attributes:
        key: word for it on the command line.
        title: as papers write it.
        queries: none when there are no annotations at hand; result files may do without.
        root: where annotations and videos are.
        tasks: those wanted; None for all.
        notes: what is odd in this copy.
    """

    key: str
    title: str
    queries: tuple[Query, ...] = ()
    root: Path | None = None
    tasks: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def videos(self) -> tuple[VideoQueries, ...]:
        """The questions by video, in the order of the set; those of one in that of their times."""
        grouped: dict[str, list[Query]] = {}
        for query in self.queries:
            grouped.setdefault(query.video, []).append(query)
        taken: set[str] = set()
        found = []
        for video, asked in grouped.items():
            stem = re.sub(r"[^\w.-]+", "_", video.rsplit(".", 1)[0]).strip("._") or "video"
            name, number = stem, 2
            while name.lower() in taken:  # some systems see no difference between a and A
                name, number = f"{stem}-{number}", number + 1
            taken.add(name.lower())
            ordered = tuple(sorted(asked, key=lambda query: query.time_s))
            found.append(VideoQueries(name, video, ordered))
        return tuple(found)

    def wants(self, task: str) -> bool:
        """Whether questions of a task count."""
        return self.tasks is None or task in self.tasks


def distinct(queries: Iterable[Query], where: str) -> tuple[Query, ...]:
    """The questions, once it is sure that no two have one name.

    Raises:
        InputError: when two have, or there is none.
    """
    found = tuple(queries)
    seen: set[str] = set()
    for query in found:
        if query.name in seen:
            raise InputError(f"{where}: two questions are called {query.name}; expected one each")
        seen.add(query.name)
    if not found:
        raise InputError(f"{where} holds no questions")
    return found
