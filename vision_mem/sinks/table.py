"""Tables of a run: a CSV line for everything that has ended, the tracks of a run, its numbers."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from vision_mem.formats.text import LineFile, csv_line
from vision_mem.results import ShownTrack, ShownTracks
from vision_mem.runs.tally import RunTally, count
from vision_mem.sinks.masks import FrameLines
from vision_mem.types import Frame, SourceInfo, ZoneCounts, ZoneEvent, ZoneVisit


class EndedTable:
    """CSV whose last column says how a row ended: ``<mark><frame>``, or another word.

    Args:
        path: the file.
        columns: its head.
        mark: what stands before the frame on which something ended.
        append: go on after an interrupted run: rows that ended on frames that come again are
            dropped, and those that had not ended when it stopped.
        after: the last frame that does not come again.

    Raises:
        SinkError: when it cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Sequence[str],
        mark: str,
        *,
        append: bool = False,
        after: int = -1,
    ) -> None:
        self._file = LineFile(Path(path), append=append)

        def stays(number: int, line: str) -> bool:
            # A row that has not ended has no number there, and does not stay either.
            return number == 0 or int(next(csv.reader([line]))[-1].removeprefix(mark)) <= after

        if not self._file.keep(stays):
            self.write([columns])

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows.

        Raises:
            SinkError: when they cannot be written.
        """
        if rows:
            self._file.write(*map(csv_line, rows))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


FOLLOWED = "followed"
"""What a table says of what was there when the run ended."""


@dataclass
class EndedTally(RunTally):
    """Counts over a run in which things come and go; those that are gone are in a table.

    Attributes:
        events: how often each kind happened.
        tracks: sums of those followed now, by id.
        table: where ended tracks go; None: nowhere.
    """

    events: dict[str, int] = field(default_factory=dict)
    tracks: dict[int, Any] = field(default_factory=dict)
    table: EndedTable | None = None

    sums: ClassVar[type]
    """What is kept of a track."""
    mark: ClassVar[str]
    """What the table says before the frame on which a track ended."""

    @classmethod
    def resumed(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` was made from."""
        tracks = {int(key): cls.sums(**sums) for key, sums in values["tracks"].items()}
        return cls(**{**values, "tracks": tracks})

    def count_events(self, events: Iterable[Any]) -> None:
        """Count what happened on a frame."""
        for event in events:
            self.events[event.kind] = self.events.get(event.kind, 0) + 1

    def end_all_but(self, followed: Collection[int]) -> None:
        """Write the tracks that are followed no more, and forget them."""
        ended = [key for key in self.tracks if key not in followed]
        self._list(ended, f"{self.mark}{self.last_index}")
        for key in ended:
            del self.tracks[key]

    def finish(self) -> None:
        """Write the tracks that are still followed, and close the table."""
        self._list(list(self.tracks), FOLLOWED)
        if self.table is not None:
            self.table.close()

    def _list(self, ids: Sequence[int], end: str) -> None:
        if self.table is not None:
            # What was never to be seen was a detector's slip.
            shown = [key for key in ids if self.tracks[key].frames]
            self.table.write([self.tracks[key].row(key, end) for key in shown])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        tracks = {str(key): asdict(sums) for key, sums in self.tracks.items()}
        return super().as_dict() | {"tracks": tracks}


ZONE_COLUMNS = (
    "frame", "time_s", "zone", "event", "id", "name", "class", "direction", "dwell_s", "seen",
    "inside", "entered", "left", "in", "out",
)  # fmt: skip


class ZoneTable(FrameLines):
    """CSV of what happened at zones and lines, a row an event; ``ZONE_COLUMNS`` are its head.

    The last five columns count from the beginning of the run to the end of the frame. When the run
    ends, each object that is still inside has a row with the event ``inside`` and its seconds.

    Args:
        path: the file.
        append: go on after an interrupted run: rows of frames that come again are dropped, and
            those of the end.
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        super().__init__(path, append=append)
        self._latest: Any = None

    def open(self, info: SourceInfo) -> None:
        """Make the file, with its head."""
        super().open(info)
        if self._file is not None and not self._file.keep(lambda *_: True):
            self._file.write(csv_line(ZONE_COLUMNS))

    def _frame_of(self, line: str) -> int:
        frame, _, _, event, *_ = next(csv.reader([line]))
        if frame == ZONE_COLUMNS[0]:
            return -1
        if event == _INSIDE:
            raise ValueError("written when a run ended, and it goes on")
        return int(frame)

    def write(self, frame: Frame, result: Any) -> None:
        """Add the rows of one frame.

        Raises:
            SinkError: when they cannot be written.
        """
        file = self._resume(result.frame_index)
        self._latest = result
        counts = {zone.name: zone for zone in result.zones}
        rows = [
            csv_line(_zone_row(result, counts[each.zone], each))
            for each in result.events
            if isinstance(each, ZoneEvent)
        ]
        if rows:
            file.write(*rows)

    def close(self) -> None:
        """Write who is still inside, and close the file."""
        latest, self._latest = self._latest, None
        try:
            if latest is not None and self._file is not None:
                rows = [
                    csv_line(_zone_row(latest, zone, _staying(latest, zone, visit)))
                    for zone in latest.zones
                    for visit in zone.visits
                ]
                if rows:
                    self._file.write(*rows)
        finally:
            super().close()


_INSIDE = "inside"


def _staying(result: Any, zone: ZoneCounts, visit: ZoneVisit) -> ZoneEvent:
    return ZoneEvent(
        _INSIDE, visit.object_id, result.frame_index, result.time_s, visit.name, zone.name,
        visit.class_name, dwell_s=visit.last_s - visit.time_s,
    )  # fmt: skip


def _zone_row(result: Any, zone: ZoneCounts, event: ZoneEvent) -> list[Any]:
    dwell = "" if event.dwell_s is None else round(event.dwell_s, 3)
    if zone.is_line:
        counts = ["", "", "", zone.total("in"), zone.total("out")]
    else:
        counts = [len(zone.visits), zone.total("entered"), zone.total("left"), "", ""]
    return [
        result.frame_index, round(result.time_s, 3), zone.name, event.kind, event.object_id,
        event.name, event.class_name, event.direction, dwell, int(event.seen), *counts,
    ]  # fmt: skip


COLUMNS = (
    "id", "name", "class", "first_frame", "last_frame", "first_s", "last_s", "frames_shown",
    "detected", "lost", "found", "mean_score", "mean_area", "path_px", "confirmed", "end",
)  # fmt: skip


@dataclass
class TrackSums:
    """One track so far.

    Attributes:
        name, class_name: words for people.
        first_frame, first_s: where it began.
        last_frame, last_s: where it was last to be seen.
        frames: on which it was to be seen.
        detected: of them, with a detection.
        lost, found: times.
        score: sum over frames.
        area: sum over frames, pixels.
        path: pixels that the centre of its box moved.
        centre: of its box on the latest of these frames.
        confirmed: whether it ever was.
    """

    name: str
    class_name: str
    first_frame: int
    first_s: float
    last_frame: int
    last_s: float
    frames: int = 0
    detected: int = 0
    lost: int = 0
    found: int = 0
    score: float = 0.0
    area: int = 0
    path: float = 0.0
    centre: tuple[float, float] | None = None
    confirmed: bool = False

    def see(self, each: ShownTrack, result: ShownTracks) -> None:
        """Count a frame on which the track is to be seen."""
        x1, y1, x2, y2 = (float(value) for value in each.box)
        here = (x1 + x2) / 2, (y1 + y2) / 2
        if self.centre is not None:
            self.path += ((here[0] - self.centre[0]) ** 2 + (here[1] - self.centre[1]) ** 2) ** 0.5
        self.centre = here
        self.name, self.class_name = each.name, each.class_name
        self.last_frame, self.last_s = result.frame_index, result.time_s
        self.frames += 1
        self.detected += each.detection is not None
        self.score += float(each.score)
        self.area += int(each.mask.sum())

    def row(self, object_id: int, end: str) -> list[Any]:
        """Its line of the table, see ``COLUMNS``."""
        shown = max(self.frames, 1)
        return [
            object_id, self.name, self.class_name, self.first_frame, self.last_frame,
            round(self.first_s, 3), round(self.last_s, 3), self.frames, self.detected, self.lost,
            self.found, round(self.score / shown, 4), round(self.area / shown), round(self.path, 1),
            int(self.confirmed), end,
        ]  # fmt: skip


@dataclass
class MotsTally(EndedTally):
    """Counts over a run of many objects.

    Attributes:
        classes: tracks that were confirmed, by class.
        most: tracks to be seen at once.
    """

    kept: ClassVar = ("frames", "last_index", "events", "classes", "most")
    sums: ClassVar = TrackSums
    mark: ClassVar = "removed at "

    classes: dict[str, int] = field(default_factory=dict)
    most: int = 0

    def add(self, result: ShownTracks) -> None:
        """Count one frame."""
        self.frames += 1
        self.last_index = result.frame_index
        for each in result.objects:
            if each.object_id not in self.tracks:
                now = result.frame_index, result.time_s
                self.tracks[each.object_id] = TrackSums(each.name, each.class_name, *now, *now)
        shown = [each for each in result.objects if each.present]
        for each in shown:
            self.tracks[each.object_id].see(each, result)
        self.most = max(self.most, len(shown))
        self.count_events(result.events)
        for event in result.events:
            sums = self.tracks.get(event.object_id)
            if sums is not None and event.kind in ("lost", "found"):
                setattr(sums, event.kind, getattr(sums, event.kind) + 1)
        for each in result.objects:
            sums = self.tracks[each.object_id]
            if each.state == "confirmed" and not sums.confirmed:
                sums.confirmed = True
                self.classes[each.class_name] = self.classes.get(each.class_name, 0) + 1
        self.end_all_but({each.object_id for each in result.objects})

    @property
    def objects(self) -> int:
        """Tracks there ever were."""
        return self.events.get("born", 0)

    def lines(self) -> list[str]:
        """The run in words."""
        kinds = ", ".join(f"{number} {word}" for word, number in sorted(self.classes.items()))
        confirmed = count(sum(self.classes.values()), "confirmed track")
        parts = [confirmed + (f" ({kinds})" if kinds else ""), f"at most {self.most} at once"]
        parts += [
            f"{self.events[word]} {word}" for word in ("lost", "found") if word in self.events
        ]
        return [self.pace(), ", ".join(parts)]


def track_table(path: str | Path, *, append: bool = False, after: int = -1) -> EndedTable:
    """CSV, one line a track that was to be seen, when it has ended; ``COLUMNS`` are its head.

    A track that comes back after it was removed, by its looks, has another line with its id.

    Args:
        path: the file.
        append: go on after an interrupted run, as ``EndedTable``.
        after: the last frame that does not come again.
    """
    return EndedTable(path, COLUMNS, MotsTally.mark, append=append, after=after)
