"""A run of ``vision-mem watch``: its counts, its sinks, and its memory files after a stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from vision_mem.formats.sqlite import put_back
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.runs.progress import megabytes
from vision_mem.runs.tally import RunTally, Tally
from vision_mem.sinks.scene import SceneFrame
from vision_mem.sinks.scene_table import SceneTally
from vision_mem.sinks.table import MotsTally
from vision_mem.stream_memory.budget import MOTS, RECONSTRUCT, TRACK, Share
from vision_mem.stream_memory.session import StreamMemory, StreamResult, state_file
from vision_mem.types import Frame, MemoryUsage, SourceInfo
from vision_mem.videoqa.evidence import ThumbnailSession

_TALLIES: Mapping[str, type[RunTally]] = {TRACK: Tally, MOTS: MotsTally, RECONSTRUCT: SceneTally}


@dataclass
class StreamTally(RunTally):
    """Counts over a run: those of each system, and how much each memory held at most.

    Attributes:
        parts: counts by system, of those that have some.
        most: bytes that each memory held at most, after any frame.
        shares: what each may hold, for the summary.
        last: says how things stand with the memories, in lines; None for nothing.
    """

    kept: ClassVar = ("frames", "last_index", "seconds", "most")

    parts: dict[str, Any] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    memory: StreamMemory | None = None

    @classmethod
    def begun(cls, names: Sequence[str], before: Mapping[str, Any]) -> StreamTally:
        """Counts of a run, or of one that is continued.

        Args:
            names: of the memories.
            before: what ``as_dict`` gave; empty for a new run.
        """
        parts: dict[str, Any] = {}
        held = before.get("parts", {})
        for name in names:
            if (kind := _TALLIES.get(name)) is None:
                continue
            if name not in held:
                parts[name] = kind()
            elif name == TRACK:
                parts[name] = kind(**held[name])
            else:
                parts[name] = kind.resumed(held[name])  # type: ignore[attr-defined]
        values = {name: before[name] for name in cls.kept if name in before}
        return cls(**values, parts=parts)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        counts = {name: tally.as_dict() for name, tally in self.parts.items()}
        return super().as_dict() | {"parts": counts}

    def add(self, result: StreamResult) -> None:
        """Count one frame."""
        self.frames += 1
        self.last_index = result.frame_index
        for name, size in result.held.items():
            self.most[name] = max(self.most.get(name, 0), size)
        for name, tally in self.parts.items():
            found = _of(name, result)
            if found is not None:
                tally.add(found)

    def lines(self) -> list[str]:
        """The run in words."""
        said = [self.pace()]
        for name, tally in self.parts.items():
            tally.seconds = self.seconds
            said += [f"{name}: {line}" for line in tally.lines()[1:]]
        if self.memory is not None:
            said += memory_lines(self.memory)
            said += [f"note: {line}" for line in self.memory.remarks]
        for name, share in self.shares.items():
            most = megabytes(self.most.get(name, 0))
            said.append(f"{name} held {most} at most, of a share of {megabytes(share.bytes)}")
        return said


def memory_lines(memory: StreamMemory) -> list[str]:
    """What can be asked and looked up now."""
    said = []
    if memory.asked is not None:
        usage = memory.asked.usage()
        tiers = ", ".join(f"{number} {tier}" for tier, number in usage.tokens.items())
        said.append(f"ask: {tiers} tokens")
    if memory.navigate is not None:
        state = memory.navigate.state
        names = [each.name for each in memory.entities if each.landmark is not None]
        some = f", among them {', '.join(names[:6])}" if names else ""
        said.append(
            f"navigate: {len(state.topology.places)} places, {len(state.landmarks)} landmarks{some}"
        )
    return said


@dataclass(frozen=True)
class _Scene:
    """A result of reconstruct for its counts, which know it by this name."""

    found: Any


def _of(name: str, result: StreamResult) -> Any:
    """What a system said of a frame; None where it did not look."""
    if name == RECONSTRUCT:
        return None if result.scene is None else _Scene(result.scene)
    return result.followed


class PartSink:
    """A sink of one system where results of all are written.

    Args:
        sink: of that system.
        part: the system.
    """

    def __init__(self, sink: Any, part: str) -> None:
        self._sink, self._part = sink, part

    def open(self, info: SourceInfo) -> None:
        """As the sink's own."""
        self._sink.open(info)

    def write(self, frame: Frame | RgbdFrame, result: StreamResult) -> None:
        """Write what the system said of a frame."""
        picture: Any = frame
        if isinstance(frame, RgbdFrame):
            picture = Frame(frame.index, frame.time_s, frame.image)
        if self._part == RECONSTRUCT:
            if result.scene is not None and isinstance(frame, RgbdFrame):
                self._sink.write(picture, SceneFrame(frame, result.scene))
        elif result.followed is not None:
            self._sink.write(picture, result.followed)

    def flush(self) -> None:
        """As the sink's own, where it has one."""
        getattr(self._sink, "flush", lambda: None)()

    def keep(self, place: Path) -> None:
        """As the sink's own, where it has one."""
        getattr(self._sink, "keep", lambda place: None)(place)

    def recall(self, place: Path) -> None:
        """As the sink's own, where it has one."""
        getattr(self._sink, "recall", lambda place: None)(place)

    def close(self) -> None:
        """As the sink's own."""
        self._sink.close()


class SteppedStream:
    """A stream's memories as a run drives them; what is held is counted once a frame.

    Args:
        memory: of the stream.
        live: whether its times are those of the clock on the wall.
        own_clock: whether they may begin at another time than 0, as those of recordings do.
    """

    def __init__(
        self, memory: StreamMemory, *, live: bool = False, own_clock: bool = False
    ) -> None:
        self.memory, self._live, self._own_clock = memory, live, live or own_clock
        self.snapshot = memory.snapshot
        self._usage = memory.usage()

    def step(self, frame: Any) -> StreamResult:
        """Look at the next frame."""
        watcher = self.memory.watcher
        if isinstance(watcher, ThumbnailSession) and watcher.session.seen is None:
            begin_s = frame.time_s if self._own_clock or frame.index == 0 else 0.0
            watcher.files[:] = [replace(watcher.files[0], begin_s=begin_s, live=self._live)]
        result = self.memory.step(frame)
        self._usage = MemoryUsage(0, sum(result.held.values()), dict(result.held))
        return result

    def usage(self) -> MemoryUsage:
        """What was held after the latest frame, by memory."""
        return self._usage


def restore_files(snapshot: Path, session: str, files: Mapping[str, Path]) -> None:
    """Make memory and map files what they were when a snapshot was taken.

    Args:
        snapshot: its folder.
        session: name of the file there that joins the memories.
        files: by memory, where they are.

    Raises:
        SinkError: when one cannot be written.
    """
    for part, place in files.items():
        put_back(state_file(snapshot / session, part), place)
