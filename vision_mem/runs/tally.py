"""What a tracking run did: counts while it runs, words and a record afterwards."""

from __future__ import annotations

import importlib.metadata as metadata
import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vision_mem._version import __version__
from vision_mem.types import UNSURE, TrackingResult, ZoneCounts

_PACKAGES = ("torch", "torchvision", "sam2", "numpy", "opencv-python-headless", "av", "decord")

_MOST_LINES = 10
"""Objects that the summary speaks of."""


@dataclass
class RunTally(ABC):
    """What is counted in every run; survives being cut off through ``as_dict``.

    Attributes:
        frames: frames done.
        last_index: number of the last frame in its source; -1 before the first.
        seconds: time taken by all parts of the run so far.
    """

    frames: int = 0
    last_index: int = -1
    seconds: float = 0.0

    kept: ClassVar[tuple[str, ...]]
    """Names of what ``as_dict`` gives."""

    @abstractmethod
    def add(self, result: Any) -> None:
        """Count one frame."""

    @abstractmethod
    def lines(self) -> list[str]:
        """The run in words."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = {name: getattr(self, name) for name in self.kept}
        return values | {"seconds": round(self.seconds, 3)}

    def pace(self) -> str:
        """How many frames, and how fast."""
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        return f"{count(self.frames, 'frame')} in {self.seconds:.1f} s ({rate:.1f} frames/s)"


@dataclass
class Tally(RunTally):
    """Counts over a run that follows objects; ``Tally(**values)`` goes on.

    Attributes:
        objects: name to ``{"present": frames, "lost": times, "found": times, "unsure": frames}``.
        doubts: name to the time, in seconds, at which it was first unsure.
    """

    kept: ClassVar = ("frames", "last_index", "seconds", "objects", "doubts")

    objects: dict[str, dict[str, int]] = field(default_factory=dict)
    doubts: dict[str, float] = field(default_factory=dict)

    def add(self, result: TrackingResult) -> None:
        """Count one frame."""
        self.frames += 1
        self.last_index = result.frame_index
        for found in result.objects:
            counts = self.objects.setdefault(found.name, {"present": 0, "lost": 0, "found": 0})
            counts["present"] += bool(found.present)
            if found.state == UNSURE:
                counts["unsure"] = counts.get("unsure", 0) + 1  # runs of before have none
                self.doubts.setdefault(found.name, round(result.time_s, 3))
        for event in result.events:
            if event.kind in ("lost", "found") and event.name in self.objects:
                self.objects[event.name][event.kind] += 1

    def lines(self) -> list[str]:
        """The run in words, one line for it and one an object."""
        lines = [self.pace()]
        for name, counts in list(self.objects.items())[:_MOST_LINES]:
            lines.append(
                f"{name}: to be seen in {counts['present']} of them, lost "
                f"{count(counts['lost'], 'time')}, found {count(counts['found'], 'time')}"
                f"{self._doubt(name)}"
            )
        if (more := len(self.objects) - _MOST_LINES) > 0:
            lines.append(f"and {more} more; all of them are in run.json")
        if any(2 * c.get("unsure", 0) > max(c["present"], 2) for c in self.objects.values()):
            lines.append(
                "mostly unsure: a --box, a --mask or a --not-point says more than one click"
            )
        return lines

    def _doubt(self, name: str) -> str:
        unsure = self.objects[name].get("unsure", 0)
        if not unsure:
            return ""
        return f", unsure on {count(unsure, 'frame')}, first at {_moment(self.doubts[name])}"


def _moment(time_s: float) -> str:
    """Minutes and seconds, ``0:12.4``."""
    minutes, tenths = divmod(round(max(time_s, 0.0) * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def zone_line(zone: ZoneCounts) -> str:
    """What happened at a zone or a line, for the summary."""
    if zone.is_line:
        return f"{zone.name}: {zone.words()}"
    left, inside = zone.total("left"), len(zone.visits)
    parts = [f"{zone.total('entered')} entered", f"{left} left", f"{inside} inside at the end"]
    if left:
        parts.append(f"stayed {zone.mean_dwell_s:.1f} s on average")
    if left or inside:
        parts.append(f"{zone.longest_s:.1f} s at most")
    return f"{zone.name}: {', '.join(parts)}"


def count(number: int, thing: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def machine() -> Mapping[str, Any]:
    """Versions and platform, for the record beside the results."""
    versions = {"vision-mem": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "platform": platform.platform(), "program": sys.argv[0]}
