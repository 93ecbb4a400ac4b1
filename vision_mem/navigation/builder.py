"""A recording into a map, frame by frame, and on where it was cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config, read_preset
from vision_mem.errors import InputError, SourceError
from vision_mem.navigation.config import NavigationConfig, changed
from vision_mem.navigation.export import last_taken, levels_of
from vision_mem.navigation.observer import (
    NamedThing,
    Observer,
    find_level,
    not_known,
    put_by_hand,
    turn_of,
)
from vision_mem.navigation.records import NavigationResult
from vision_mem.navigation.session import NavigationSession
from vision_mem.navigation.storage import discard_map
from vision_mem.runs.folder import RECORD
from vision_mem.runs.tally import count
from vision_mem.sources.posed import STDIN, PosedSource
from vision_mem.sources.posed_jsonl import PosedRow
from vision_mem.text import read_json, short

if TYPE_CHECKING:
    from vision_mem.models.detectors import Detector
    from vision_mem.models.vlm.word_search import WordEmbedder

log = logging.getLogger(__name__)


def recording_of(source: str) -> tuple[str, Path] | None:
    """The recording and the trajectory behind a results folder of ``reconstruct``; None for others.

    Raises:
        InputError: when the recording is not where it was.
    """
    folder = Path(source)
    try:
        record = read_json(folder / RECORD)
        recording = str(record["source"])
        (found,) = [folder / name for name in record["files"] if name.endswith(".tum.txt")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not found.is_file():
        return None
    if not Path(recording).is_dir():
        raise InputError(
            f"{source} was made from {recording}, which is no folder here; give the recording "
            f"itself, with --poses {found}"
        )
    return recording, found


def open_for_writing(
    path: Path,
    preset: str | None,
    changes: Sequence[str],
    up: str,
    feed: PosedSource,
    overwrite: bool,
    encoder: str = "",
) -> tuple[NavigationSession, NDArray[np.float64]]:
    """The map, made when there is none, and how recordings are turned so that up is an axis.

    ``up`` is the axis as recorded, or ``auto`` to find it and to make it exact.

    Returns:
        The map, and a rotation vector ``(3,)``.

    Raises:
        InputError: for settings that are not those of the map.
        ModelError: for a file that is no map of this version.
        SinkError: for a file that cannot be written, or that another process writes.
    """
    exists = path.is_file() and path.stat().st_size > 0
    changes = [*changes, *([] if up == "auto" else [f"planning.up={up}"])]
    if exists and overwrite:
        discard_map(path)
        exists = False
    if exists:
        session = NavigationSession(path, encoder=encoder)
        if session.state.frame:
            if preset is not None:
                session.close()
                raise InputError(
                    f"map {path} has its settings; leave out --preset, or begin anew with "
                    "--overwrite"
                )
            if changes:
                config = changed(session.config, changes)
                session.close()
                session = NavigationSession(path, config, encoder=encoder)
            return session, turn_of(session)
        session.close()  # made, and then cut off before its first frame
    said = {} if preset is None else read_preset(preset, "navigation").get("planning", {})
    turn = np.zeros(3)
    if "up" not in said and not any(each.startswith("planning.up=") for each in changes):
        axis, turn = find_level(feed)
        changes = [*changes, *([] if axis is None else [f"planning.up={axis}"])]
    config = load_config(NavigationConfig, preset, changes, folder="navigation")
    path.parent.mkdir(parents=True, exist_ok=True)
    return NavigationSession(path, config, encoder=encoder), turn


class MapBuild:
    """What is left of a recording goes into a map.

    ``whole`` is the source from its first frame on, for what was pointed out earlier; ``source``,
    ``start`` and ``options`` are as of ``PosedSource``, the others as of ``Observer``. A run that
    goes on begins after the last frame that the map has.

    Attributes:
        before: frames of this source that the map had.
        left: of the source, what is left to take in.
        left_out: frames that could not be used.
        dropped: landmarks that could not be placed.
    """

    def __init__(
        self,
        session: NavigationSession,
        whole: PosedSource,
        source: str,
        start: int,
        options: dict[str, Any],
        detector: Detector | None,
        things: Sequence[NamedThing],
        pixels: int | None,
        track_poses: bool,
        turn: NDArray[np.float64],
        strict: bool,
        embedder: WordEmbedder | None = None,
    ) -> None:
        self.session, self._strict, self._turn = session, strict, turn
        self._source, self._whole = source, whole
        self._limit = options.get("max_frames")
        self._last = None if whole.live else last_taken(session.path, whole.name)
        if self._last is not None and self._last[0] < start:
            self._last = None  # a later part than the map has
        # Nobody walked from the end of another recording to the beginning of this one.
        self._jump = self._last is None and session.state.frame > 0
        first = start if self._last is None else self._last[0]
        stride = int(options.get("stride", 1))
        self.before = 0 if self._last is None else (self._last[0] - start) // stride + 1
        self.left_out: list[str] = []
        self.dropped: list[str] = []
        # The last frame known is read once more, for its time.
        more = 0 if self._last is None else 1
        limit = None if self._limit is None else max(self._limit - self.before, 0) + more
        # Poses are found from the first frame on.
        options = {**options, "max_frames": self._limit if track_poses else limit}
        self._feed: PosedSource | None = None
        end, limit = options.get("end"), self._limit
        over = (limit is not None and limit <= self.before) or (end is not None and first >= end)
        if self._last is None or not over:
            begin = start if track_poses else first
            # ``whole`` said it all. A live source is there once.
            once = whole.live and source != STDIN
            self._feed = whole if once else PosedSource(source, begin, tell=False, **options)
        tracker = None
        if track_poses:
            from vision_mem.reconstruction import ReconstructionSession

            tracker = ReconstructionSession()
        done = replace(whole.info, frame_count=0)
        self.left = done if self._feed is None else self._feed.info
        self._observer = Observer(
            whole.name,
            detector,
            not_known(session, things),
            pixels,
            tracker,
            turn,
            self._drop,
            embedder,
        )

    def run(
        self,
        until: Callable[[Iterable[PosedRow | SourceError]], Iterator[PosedRow | SourceError]],
        tell: Callable[[int, NavigationResult], None],
    ) -> int:
        """Take in what is left, telling of each frame and what it changed; returns how many.

        ``until`` gives the frames as they come, until it is to end: ``StopSignals.until``.

        Raises:
            InputError: with ``strict``, for the first frame that cannot be used.
            SourceError: likewise; or when there is none that can.
        """
        done, shift = 0, None
        for row in until(self._feed or ()):
            if isinstance(row, SourceError):
                self._leave_out(str(row), row)
                continue
            if self._last is not None and row.index <= self._last[0]:
                self._observer.pose_of(row)  # a session that finds poses has to see it again
                shift = self._shift(row) if row.index == self._last[0] else None
                continue
            if shift is None:
                shift = self._shift(row)
            try:
                seen = self._observer.observe(row, shift)
                result = self.session.step(replace(seen, jump=self._jump))
            except InputError as error:
                self._leave_out(f"frame {row.index}: {error}", error)
                continue
            self._jump = False
            done += 1
            tell(row.index, result)
        if not done and not self.before and self.left_out:
            hint = ""
            if not self._whole.lines:
                hint = "; --poses FILE or --track-poses where poses are missing"
            raise SourceError(
                f"no frame of {self._whole.shown} could be used "
                f"({count(len(self.left_out), 'frame')}): {self.left_out[0]}{hint}"
            )
        return done

    def put_rest(self) -> None:
        """Remember what was pointed out in frames that had been taken in before."""
        if self._observer.things:
            put_by_hand(self.session, self._whole, self._observer.things, self._turn, self._drop)
            self._observer.things = []

    def lines(self) -> list[str]:
        """What came of it, in words."""
        session = self.session
        state, usage = session.state, session.usage()
        marks = {i: each for i, each in state.landmarks.by_id.items() if each.label}
        names = sorted({short(each.label) for each in marks.values()})
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        said = [
            f"{count(len(state.topology.places), 'place')}, "
            f"{count(len(state.landmarks), 'landmark')}{': ' if some else ''}{some}",
            f"{usage.memories} memories, file {usage.file_bytes / 1e6:.1f} MB",
        ]
        dropped = state.dropped + state.octree.stats.dropped
        if dropped:
            said.append(f"{dropped} points or things had no place in the map and were dropped")
        degrees = float(np.degrees(np.linalg.norm(self._turn)))
        if degrees:
            said.append(
                f"turned by {degrees:.1f} degrees, so that {session.config.planning.up} is up; "
                "positions are those of the turned map"
            )
        if any(len(each) for each in state.octree.leaves()):
            said += levels_of(session).words()
        if self.dropped:
            said.append(f"{count(len(self.dropped), 'landmark')} left out: {self.dropped[0]}")
        if self.left_out:
            said.append(f"{count(len(self.left_out), 'frame')} left out: {self.left_out[0]}")
        return said

    def _leave_out(self, why: str, error: Exception) -> None:
        if self._strict:
            raise error
        self.left_out.append(why)
        # The first one is news; their number is said in the end.
        log.log(logging.INFO if len(self.left_out) > 1 else logging.WARNING, "left out: %s", why)

    def _drop(self, error: InputError) -> None:
        """A thing pointed out that is nowhere: the frame and the others are as good without it."""
        if self._strict:
            raise error
        self.dropped.append(str(error))
        log.warning("left out: %s", error)

    def _shift(self, row: PosedRow) -> float:
        """Seconds to add, so that time goes on where a map ended."""
        if self._last is not None and row.index == self._last[0]:
            return self._last[1] - row.time_s
        state = self.session.state
        if state.frame and row.time_s <= state.now_s:
            return state.now_s + 1.0 / 30 - row.time_s
        return 0.0
