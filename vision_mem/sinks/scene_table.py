"""A run of ``vision-mem reconstruct`` in numbers, and the tables of what moved, and may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from vision_mem.runs.tally import count
from vision_mem.sinks.table import FOLLOWED, EndedTable, EndedTally
from vision_mem.visualization.scene_overlay import FoundScene

COLUMNS = (
    "id", "first_frame", "last_frame", "first_s", "last_s", "frames_shown", "frames_parked",
    "path_m", "fastest_m_s", "width_m", "height_m", "depth_m", "x", "y", "z",
    "speed_error_m_s", "end",
)  # fmt: skip
_MOST_PLACES = 1024


@dataclass
class MovingSums:
    """One moving object so far; lengths in metres, places in the world.

    Attributes:
        first_frame, first_s: where it was confirmed.
        last_frame, last_s: where it was last to be seen.
        frames, parked: on which it was to be seen; of them, standing still.
        path: that its middle moved.
        fastest: metres a second.
        error: standard deviation of that speed.
        extent: of its bounds, the largest.
        centre: when it was last to be seen.
    """

    first_frame: int
    first_s: float
    last_frame: int
    last_s: float
    frames: int = 0
    parked: int = 0
    path: float = 0.0
    fastest: float = 0.0
    error: float = 0.0
    extent: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    centre: list[float] | None = None

    def see(self, track: Any, found: FoundScene) -> None:
        """Count a frame on which the object is to be seen."""
        here = [float(v) for v in track.centre]
        if self.centre is not None:
            self.path += float(np.linalg.norm(np.subtract(here, self.centre)))
        self.centre = here
        self.last_frame, self.last_s = found.frame_index, found.time_s
        self.frames += 1
        self.parked += track.state == "parked"
        speed = float(np.linalg.norm(track.velocity))
        if speed >= self.fastest:
            self.fastest, self.error = speed, float(track.speed_error)
        self.extent = [max(a, float(b)) for a, b in zip(self.extent, track.extent, strict=True)]

    def row(self, track_id: int, end: str) -> list[Any]:
        """Its line of the table, see ``COLUMNS``."""
        metres = [self.path, self.fastest, *self.extent, *(self.centre or [0.0, 0.0, 0.0])]
        metres.append(self.error)
        return [
            track_id, self.first_frame, self.last_frame, round(self.first_s, 3),
            round(self.last_s, 3), self.frames, self.parked, *(round(m, 3) for m in metres), end,
        ]  # fmt: skip


@dataclass
class SceneTally(EndedTally):
    """Counts over a run.

    Attributes:
        lost: frames whose pose is not believed.
        path_m: metres that the camera went.
        objects: that surely moved, ever.
        doubtful: that may have moved, ever; those that later surely did are not among them.
        uncertain: sums of those that may move, by id.
        maybe: the table of them; None: nowhere.
        places: ``[frame, x, y, z, then the camera's axes x, y, z]`` of believed poses, every
            ``spacing`` frames; at most a fixed number.
        spacing: see ``places``.
        stage_ms: sums by stage.
        truth: sums of a comparison with the truth, where there is one.
    """

    kept: ClassVar = (
        "frames", "last_index", "lost", "path_m", "events", "objects", "doubtful", "places",
        "spacing", "last_place", "stage_ms", "truth",
    )  # fmt: skip
    sums: ClassVar = MovingSums
    mark: ClassVar = "gone at "

    lost: int = 0
    path_m: float = 0.0
    objects: int = 0
    doubtful: int = 0
    uncertain: dict[int, MovingSums] = field(default_factory=dict)
    maybe: EndedTable | None = None
    places: list[list[float]] = field(default_factory=list)
    spacing: int = 1
    last_place: list[float] | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)
    truth: dict[str, float] = field(default_factory=dict)

    @classmethod
    def resumed(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` was made from."""
        made = super().resumed({**values, "uncertain": {}})
        held = values.get("uncertain", {})  # runs of before have none
        made.uncertain = {int(key): cls.sums(**sums) for key, sums in held.items()}
        return made

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        held = {str(key): asdict(sums) for key, sums in self.uncertain.items()}
        return super().as_dict() | {"uncertain": held}

    def add(self, result: Any) -> None:
        """Count one frame, a ``Scene``."""
        found = result.found
        for name, value in found.stage_ms.items():
            self.stage_ms[name] = self.stage_ms.get(name, 0.0) + float(value)
        self.count_events(found.events)
        if found.lost:
            self.lost += 1
        else:
            self._go(found)
        self.frames += 1
        self.last_index = found.frame_index
        for track in found.tracks:  # what may have moved before, and surely does now
            if self.uncertain.pop(track.track_id, None) is not None:
                self.doubtful -= 1
        self.objects += _count(self.tracks, found.tracks, found)
        self.doubtful += _count(self.uncertain, found.uncertain, found)
        self.end_all_but({track.track_id for track in found.tracks})
        followed = {track.track_id for track in found.uncertain}
        gone = [key for key in self.uncertain if key not in followed]
        self._list_uncertain(gone, f"{self.mark}{self.last_index}")
        for key in gone:
            del self.uncertain[key]

    def finish(self) -> None:
        """Write what is still followed, and close the tables."""
        super().finish()
        self._list_uncertain(list(self.uncertain), FOLLOWED)
        if self.maybe is not None:
            self.maybe.close()

    def _list(self, ids: Sequence[int], end: str) -> None:
        if self.table is not None:  # also what was confirmed and never seen
            self.table.write([self.tracks[key].row(key, end) for key in ids])

    def _list_uncertain(self, ids: Sequence[int], end: str) -> None:
        if self.maybe is not None:
            self.maybe.write([self.uncertain[key].row(key, end) for key in ids])

    def _go(self, found: FoundScene) -> None:
        here = [float(v) for v in found.pose[:3, 3]]
        if self.last_place is not None:
            self.path_m += float(np.linalg.norm(np.subtract(here, self.last_place)))
        self.last_place = here
        if self.frames % self.spacing == 0:
            axes = [float(v) for v in found.pose[:3, :3].T.ravel()]
            self.places.append([float(found.frame_index), *here, *axes])
        if len(self.places) > _MOST_PLACES:
            self.places, self.spacing = self.places[::2], self.spacing * 2

    def lines(self) -> list[str]:
        """The run in words."""
        parts = [f"camera path {self.path_m:.2f} m"]
        parts += [f"lost on {count(self.lost, 'frame')}"] if self.lost else ["never lost"]
        moved = [count(self.objects, "moving object")]
        moved += [
            f"{self.events[word]} {word}"
            for word in ("parked", "moved again", "left")
            if word in self.events
        ]
        if self.doubtful:
            moved.append(f"{self.doubtful} more may have moved, which is not sure")
        return [self.pace(), ", ".join(parts), ", ".join(moved)]


def _count(sums: dict[int, MovingSums], tracks: Iterable[Any], found: FoundScene) -> int:
    """Add a frame to the sums of tracks; how many of them are new."""
    before, now = len(sums), (found.frame_index, found.time_s)
    for track in tracks:
        own = sums.setdefault(track.track_id, MovingSums(*now, *now))
        if track.seen and not found.lost:
            own.see(track, found)
    return len(sums) - before


def moving_table(path: str | Path, *, append: bool = False, after: int = -1) -> EndedTable:
    """CSV, a line an object that moved, or may have, when it has gone; ``COLUMNS`` are its head.

    Args:
        path: the file.
        append: go on after an interrupted run, as ``EndedTable``.
        after: the last frame that does not come again.
    """
    return EndedTable(path, COLUMNS, SceneTally.mark, append=append, after=after)
