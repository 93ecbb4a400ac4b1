"""The run of ``navigate build``: a feed into a map, frame by frame, and on where it was cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config, read_preset
from vision_mem.errors import InputError, SourceError
from vision_mem.navigation import NavigationConfig, NavigationResult, NavigationSession
from vision_mem.navigation.export import last_taken
from vision_mem.navigation.storage import discard_map
from vision_mem.runs.tally import count
from vision_mem.sources.posed_jsonl import PosedRow

from .feeding import STDIN, Feed
from .navigating import (
    MapProgress,
    NamedThing,
    Observer,
    find_level,
    not_known,
    put_by_hand,
    turn_of,
)

if TYPE_CHECKING:
    from vision_mem.models.detectors import Detector
    from vision_mem.synthetic.furnished_room import Room

    from .looks import WordLooks

log = logging.getLogger(__name__)


def changed(config: NavigationConfig, changes: Sequence[str]) -> NavigationConfig:
    """Settings with ``key=value`` changes.

    Raises:
        InputError: for a key that does not exist or a value that cannot be.
    """
    return load_config(
        NavigationConfig, None, [*_as_changes(asdict(config)), *changes], folder="navigation"
    )


def _as_changes(values: dict[str, Any], before: str = "") -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _as_changes(value, f"{before}{name}.")
        else:
            found.append(f"{before}{name}={json.dumps(value)}")
    return found


def open_for_writing(
    path: Path,
    preset: str | None,
    changes: Sequence[str],
    up: str,
    feed: Feed,
    overwrite: bool,
    encoder: str = "",
) -> tuple[NavigationSession, NDArray[np.float64]]:
    """The map, made when there is none, and how recordings are turned so that up is an axis.

    Args:
        path: the map file.
        preset: of a new map.
        changes: settings, ``key=value``.
        up: the map's axis that is up, as recorded; ``auto`` to find it, and to make it exact.
        feed: what is going to be taken in.
        overwrite: forget what the map holds.
        encoder: of the embeddings to come, "" for none.

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


class Build:
    """One run.

    Args:
        session: the map.
        whole: the source from its first frame on, for what was pointed out earlier.
        source: as ``Feed``.
        start: first frame; a run that goes on begins after the last frame that the map has.
        options: as ``Feed``.
        detector: finds things; None for none.
        things: pointed out by hand.
        pixels: from one point to the next; None to choose.
        find_poses: find the poses that frames lack.
        turn: rotation vector by which the recording's world is turned.
        strict: stop at a frame that cannot be used.
        looks: embeds names and looks; None for no embeddings.

    Attributes:
        before: frames of this source that the map had.
        left_out: frames that could not be used.
    """

    def __init__(
        self,
        session: NavigationSession,
        whole: Feed,
        source: str,
        start: int,
        options: dict[str, Any],
        detector: Detector | None,
        things: Sequence[NamedThing],
        pixels: int | None,
        find_poses: bool,
        turn: NDArray[np.float64],
        strict: bool,
        looks: WordLooks | None = None,
    ) -> None:
        self._session, self._strict, self._turn = session, strict, turn
        self._stride = int(options.get("stride", 1))
        self._limit = options.get("max_frames")
        name = whole.name
        path = session.path
        self._last = None if source == STDIN else last_taken(path, name)
        if self._last is not None and self._last[0] < start:
            self._last = None  # a later part than the map has
        # Nobody walked from the end of another recording to the beginning of this one.
        self._jump = self._last is None and session.state.frame > 0
        first = start if self._last is None else self._last[0]
        self.before = 0 if self._last is None else (self._last[0] - start) // self._stride + 1
        self.left_out: list[str] = []
        # The last frame known is read once more, for its time.
        more = 0 if self._last is None else 1
        limit = None if self._limit is None else max(self._limit - self.before, 0) + more
        # Poses are found from the first frame on.
        options = {**options, "max_frames": self._limit if find_poses else limit}
        self._feed: Feed | None = None
        self._whole = whole
        if not self._nothing_left(first, options.get("end")):
            self._feed = Feed(source, start if find_poses else first, **options)
        poses = None
        if find_poses:
            from vision_mem.reconstruction import ReconstructionSession

            poses = ReconstructionSession()
        self._observer = Observer(
            name, detector, not_known(session, things), pixels, poses, turn, looks
        )

    def _nothing_left(self, first: int, end: int | None) -> bool:
        if self._last is None:
            return False
        if self._limit is not None and self._limit <= self.before:
            return True
        return end is not None and first >= end

    def run(
        self, should_stop: Callable[[], bool], say: Callable[[str], None] | None, *, show: bool
    ) -> int:
        """Take in what is left.

        Args:
            should_stop: asked between frames.
            say: told a line of JSON for each frame, when given.
            show: progress on standard error.

        Returns:
            Frames taken in.
        """
        if self._feed is None:
            return 0
        done, shift = 0, None
        bar = MapProgress(self._feed.info, show=show and say is None, done=self.before)
        bar.session = self._session
        with bar:
            usage = self._session.usage()
            for row in self._feed:
                if should_stop():
                    break
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
                    result = self._session.step(replace(seen, jump=self._jump))
                except InputError as error:
                    self._leave_out(f"frame {row.index}: {error}", error)
                    continue
                self._jump = False
                done += 1
                if done % 20 == 0:
                    usage = self._session.usage()
                bar.update(result, usage)
                if say is not None:
                    say(json.dumps(_record(result, row)))
        return done

    def put_rest(self) -> None:
        """Remember what was pointed out in frames that had been taken in before."""
        if self._observer.waiting:
            put_by_hand(self._session, self._whole, self._observer.waiting, self._turn)
            self._observer.waiting = []

    def lines(self) -> list[str]:
        """What came of it, in words."""
        session = self._session
        state, usage = session.state, session.usage()
        marks = {i: each for i, each in state.landmarks.by_id.items() if each.label}
        names = sorted({each.label for each in marks.values()})
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
        if self.left_out:
            said.append(f"{count(len(self.left_out), 'frame')} left out: {self.left_out[0]}")
        return said

    def _leave_out(self, why: str, error: Exception) -> None:
        if self._strict:
            raise error
        self.left_out.append(why)
        # The first one is news; their number is said in the end.
        log.log(logging.INFO if len(self.left_out) > 1 else logging.WARNING, "left out: %s", why)

    def _shift(self, row: PosedRow) -> float:
        """Seconds to add, so that time goes on where a map ended."""
        if self._last is not None and row.index == self._last[0]:
            return self._last[1] - row.time_s
        state = self._session.state
        if state.frame and row.time_s <= state.now_s:
            return state.now_s + 1.0 / 30 - row.time_s
        return 0.0


def _record(result: NavigationResult, row: PosedRow) -> dict[str, Any]:
    return {"index": row.index, **asdict(result)}


def film_room(out: Path, frames: int, seed: int) -> tuple[Room, Path]:
    """Film a generated room to ``out/room``, its detections beside it; returns room and file."""
    from vision_mem.formats.rgbd_folders import write_seven_scenes
    from vision_mem.formats.text import LineFile, make_folder
    from vision_mem.synthetic.furnished_room import Room

    room = Room(frames=frames, seed=seed)
    folder, path = out / "room", out / "room.detections.jsonl"
    make_folder(folder)
    for old in folder.glob("frame-*"):  # of a longer recording
        old.unlink()
    lines = LineFile(path)
    filmed = []
    for frame, found in room.film():
        filmed.append(frame)
        names = {str(key): word for key, word in found.names.items()}
        lines.write(json.dumps({
            "frame": frame.index, "time_s": frame.time_s, "boxes": found.boxes.tolist(),
            "scores": found.scores.tolist(), "labels": found.labels.tolist(), "names": names,
        }))  # fmt: skip
    lines.close()
    write_seven_scenes(folder, filmed)
    return room, path
