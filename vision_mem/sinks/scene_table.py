"""A run of ``vision-mem reconstruct`` in numbers, and the table of what moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vision_mem.runs.tally import count
from vision_mem.sinks.table import EndedTable, EndedTally
from vision_mem.visualization.scene_overlay import FoundScene

COLUMNS = (
    "id", "first_frame", "last_frame", "first_s", "last_s", "frames_shown", "frames_parked",
    "path_m", "fastest_m_s", "width_m", "height_m", "depth_m", "x", "y", "z", "end",
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
        self.fastest = max(self.fastest, float(np.linalg.norm(track.velocity)))
        self.extent = [max(a, float(b)) for a, b in zip(self.extent, track.extent, strict=True)]

    def row(self, track_id: int, end: str) -> list[Any]:
        """Its line of the table, see ``COLUMNS``."""
        metres = [self.path, self.fastest, *self.extent, *(self.centre or [0.0, 0.0, 0.0])]
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
        objects: there ever were.
        places: ``[frame, x, y, z, then the camera's axes x, y, z]`` of believed poses, every
            ``spacing`` frames; at most a fixed number.
        spacing: see ``places``.
        stage_ms: sums by stage.
        truth: sums of a comparison with the truth, where there is one.
    """

    kept: ClassVar = (
        "frames", "last_index", "lost", "path_m", "events", "objects", "places", "spacing",
        "last_place", "stage_ms", "truth",
    )  # fmt: skip
    sums: ClassVar = MovingSums
    mark: ClassVar = "gone at "

    lost: int = 0
    path_m: float = 0.0
    objects: int = 0
    places: list[list[float]] = field(default_factory=list)
    spacing: int = 1
    last_place: list[float] | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)
    truth: dict[str, float] = field(default_factory=dict)

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
        for track in found.tracks:
            if track.track_id not in self.tracks:
                self.objects += 1
                now = found.frame_index, found.time_s
                self.tracks[track.track_id] = MovingSums(*now, *now)
            if track.seen and not found.lost:
                self.tracks[track.track_id].see(track, found)
        self.end_all_but({track.track_id for track in found.tracks})

    def _list(self, ids: Sequence[int], end: str) -> None:
        if self.table is not None:  # also what was confirmed and never seen
            self.table.write([self.tracks[key].row(key, end) for key in ids])

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
        return [self.pace(), ", ".join(parts), ", ".join(moved)]


def moving_table(path: str | Path, *, append: bool = False, after: int = -1) -> EndedTable:
    """CSV, one line an object that moved, when it has gone; ``COLUMNS`` are its head.

    Args:
        path: the file.
        append: go on after an interrupted run, as ``EndedTable``.
        after: the last frame that does not come again.
    """
    return EndedTable(path, COLUMNS, SceneTally.mark, append=append, after=after)
