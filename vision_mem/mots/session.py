"""Follow everything a detector finds, with identities that stay: one ``step`` a frame.

The session owns all that changes, as one value that is replaced at the very end of a step: a
step that raises loses nothing. Edits (``prompt``, ``split``, ``merge``, ``delete``, ``rename``)
may come between any two steps; they speak of the latest frame, and the next result reports them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.segmenters.protocol import Segmenter
from vision_mem.mots import edits
from vision_mem.mots.config import MotsConfig
from vision_mem.mots.eviction import usage_of, within_budget
from vision_mem.mots.records import MotsResult, MotsState, MotsUsage
from vision_mem.mots.rules import OwnRules
from vision_mem.mots.seg2track import OfficialRules
from vision_mem.mots.shared_gallery import SharedGallery, with_identities
from vision_mem.runs.tally import count
from vision_mem.sources.pixels import as_frame
from vision_mem.tracking.engine import Engine
from vision_mem.tracking.memory_bank import MaskMemory
from vision_mem.tracking.policies.protocol import MemoryPolicy
from vision_mem.tracking.session import SegmenterSession, check_grid
from vision_mem.types import Detections, Event, Frame, Prompt

_RULES: dict[str, type[OwnRules | OfficialRules]] = {"own": OwnRules, "official": OfficialRules}


class MotsSession(SegmenterSession):
    """Follows the objects that a detector finds in one stream.

    Args:
        segmenter: shared, never changed.
        config: settings; the defaults are the preset ``default``.
        threads: objects looked at at a time on a CPU, where the segmenter allows it; None for as
            many as leave each of torch's threads a core. Results do not depend on it.
        policy: what is remembered and read, in place of ``config.tracking.policy``.
    """

    kind, schema = "mots", MotsConfig

    def __init__(
        self,
        segmenter: Segmenter,
        config: MotsConfig | None = None,
        threads: int | None = None,
        *,
        policy: MemoryPolicy | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.config = config or MotsConfig()
        if policy is not None:
            tracking = replace(self.config.tracking, policy=policy)
            self.config = replace(self.config, tracking=tracking)
        self._engine = Engine(segmenter, self.config.tracking, threads)
        self._rules = _RULES[self.config.rules](self._engine, self.config)
        self._shared: tuple[SharedGallery, str] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything; equal to a new session."""
        self._state = MotsState()
        self._latest: edits.Latest | None = None
        if self._shared is not None:
            self._shared[0].release(self._shared[1])  # ids begin anew

    def share(self, gallery: SharedGallery, camera: str) -> None:
        """Recognise objects across cameras: results say who each track is, by one gallery.

        Snapshots do not hold the gallery: save it beside them, and share it again after a resume.

        Args:
            gallery: of all sessions.
            camera: the name of this stream in it.
        """
        if self._state.steps == 0:
            gallery.release(camera)
        self._shared = gallery, camera

    @property
    def track_ids(self) -> tuple[int, ...]:
        """Ids of the tracks followed now, lost ones too, in the order they were born."""
        return tuple(self._state.tracks)

    @torch.inference_mode()
    def step(
        self,
        frame: Frame | NDArray[Any],
        detections: Detections | None = None,
        *,
        reports_absence: bool = True,
    ) -> MotsResult:
        """Look at the next frame.

        Args:
            frame: the frame; or an image ``(H, W, 3)`` uint8 RGB (OpenCV's BGR as
                ``image[..., ::-1]``), 1/30 s after the one before.
            detections: on it, in its pixels; ``Detections()`` when nothing was seen, None when
                the detector gave no answer on this frame.
            reports_absence: the detector's word on whether not being detected says anything;
                False for motion detectors.

        Returns:
            Masks, boxes, states and events of all tracks.

        Raises:
            InputError: for a frame that cannot be used; the session is as before.
        """
        before = None if self._state.frame_index is None else self._state.time_s
        frame = as_frame(frame, self._state.frame_index, before)
        if self._state.frame_index == frame.index:
            raise InputError(
                f"frame {frame.index} comes twice in a row; number frames as they come, or call "
                "reset() before another stream"
            )
        # Let go of the previous frame's features first: they are the largest thing held.
        latest, self._latest = self._latest, None
        try:
            features = self.segmenter.encode_image(frame)
            check_grid(frame, features, self._state.grid_size if self._state.tracks else None)
            made, results = self._rules.step(
                self._state, frame, features, detections, reports_absence
            )
            state, result = made.finished(results)
            logits = {key: made.logits[key] for key in state.tracks if key in made.logits}
            state, logits = within_budget(self.config, state, logits)
        except BaseException:
            self._latest = latest
            raise
        # What the budget removed belongs to this frame.
        result = replace(result, events=(*result.events, *state.events))
        self._state = replace(state, events=())
        self._latest = edits.Latest(frame, features, logits)
        if self._shared is not None:
            result = with_identities(*self._shared, self._state, result)
        return result

    def usage(self, track_id: int | None = None) -> MotsUsage:
        """What is held between frames, to the byte.

        Args:
            track_id: of one track; None for all, and the gallery.

        Raises:
            InputError: when there is no such track.
        """
        logits = {} if self._latest is None else self._latest.logits
        if track_id is None:
            return usage_of(self._state, logits)
        track = edits.followed(self._state, track_id)
        alone = MotsState(tracks={track_id: track})
        return usage_of(alone, logits)

    @torch.inference_mode()
    def prompt(self, track_id: int | None, prompt: Prompt) -> int:
        """Point at an object on the latest frame.

        Args:
            track_id: the track to correct, or to bring back when it was removed and is still
                remembered; None for the track of the prompt's name, or a new one, which needs no
                detector to confirm it.
            prompt: box (x1, y1, x2, y2), points or mask in pixels of the latest frame. Its
                ``object_id`` is not looked at; a name renames the track.

        Returns:
            The id of the track.

        Raises:
            InputError: for a prompt outside the frame, an id that is not known, or when there is
                no frame yet; nothing is changed.
        """
        latest = self._need_frame()
        if track_id is None and prompt.name is not None:
            named = [k for k, one in self._state.tracks.items() if one.object.name == prompt.name]
            track_id = named[0] if len(named) == 1 else None
        self._state, new = edits.prompt(
            self._engine, self.config, self._state, latest, track_id, prompt
        )
        self._fit(latest)
        return new

    @torch.inference_mode()
    def split(self, track_id: int, part: ArrayLike, *, name: str | None = None) -> int:
        """Make a part of a track a track of its own, on the latest frame.

        Args:
            track_id: what is two objects.
            part: ``(H, W)`` mask or ``(4,)`` box of the one that becomes a new track; the other
                keeps the identity.
            name: of the new track.

        Returns:
            The id of the new track.

        Raises:
            InputError: when nothing of the track would be left, or as ``prompt``.
        """
        latest = self._need_frame()
        array = np.asarray(part)
        self._state, new = edits.split(
            self._engine, self.config, self._state, latest, track_id, array, name
        )
        self._fit(latest)
        return new

    def merge(self, keep: int, drop: int) -> None:
        """Say that two tracks are one object.

        Args:
            keep: the identity that stays; followed now, or removed and still remembered.
            drop: the one that ends. When ``keep`` is not in view, it goes on where ``drop`` is.

        Raises:
            InputError: when one of them is not known; nothing is changed.
        """
        self._state, moves = edits.merge(self._state, keep, drop)
        if self._latest is not None:
            mask = self._latest.logits.pop(drop, None)
            if moves and mask is not None:
                self._latest.logits[keep] = mask

    def delete(self, track_id: int) -> Event:
        """Stop following a track and forget it; its id is not given again.

        Returns:
            The event, which the next result reports too.

        Raises:
            InputError: when there is no such track.
        """
        self._state, event = edits.delete(self._state, track_id)
        if self._latest is not None:
            self._latest.logits.pop(track_id, None)
        return event

    def limit_tracks(self, most: int | None) -> None:
        """From now on no more new tracks than this; those that are there stay.

        Args:
            most: tracks at a time, >= 1; None for ``memory.max_tracks`` again.
        """
        usual = self.config.memory.max_tracks
        memory = replace(self.config.memory, max_tracks=min(most or usual, usual))
        config = replace(self.config, memory=memory)
        self._rules = _RULES[config.rules](self._engine, config)

    def rename(self, track_id: int, name: str) -> None:
        """Give a track another word for people.

        Raises:
            InputError: when there is no such track, or the name is empty.
        """
        self._state = edits.rename(self._state, track_id, name)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What happened often enough to be worth a word when all is done: one line a kind."""
        counts, limit = self._state.counts, self.config.memory
        most = f"memory.max_tracks allows {limit.max_tracks} tracks"
        budget = f"memory.budget_mb {limit.budget_mb:g}"
        lines: dict[str, Callable[[str], str]] = {
            "cut": lambda n: f"{n} reached over the picture's edge and counted as far as inside",
            "unusable": lambda n: f"{n} lay outside the picture or had no area",
            "refused": lambda n: f"{most}: {n} became no track",
            "replaced": lambda n: f"{most}: {n} took the place of an unconfirmed track",
        }
        said = [line(count(counts[k], "detection")) for k, line in lines.items() if k in counts]
        if "evicted" in counts:
            said.append(f"{budget}: {count(counts['evicted'], 'track')} had to go")
        return tuple(said)

    def state_dict(self) -> dict[str, Any]:
        """The whole state. Its tensors are never changed, so the state stays as it was taken."""
        return self._state.state_dict()

    def _restore(self, state: Mapping[str, Any]) -> None:
        blank = MaskMemory(self.config.tracking.policy, self._engine.limits)
        self._state = MotsState.from_state(state, blank, self.segmenter.device)
        self._latest = None

    def _need_frame(self) -> edits.Latest:
        if self._latest is None:
            raise InputError(
                "there is no frame yet that a prompt could speak of; step one first (a resumed "
                "session has none either)"
            )
        return self._latest

    def _fit(self, latest: edits.Latest) -> None:
        self._state, logits = within_budget(self.config, self._state, latest.logits)
        self._latest = replace(latest, logits=logits)


class DetectorSession:
    """A session of many objects with its detector: the detections ride along with their frames."""

    def __init__(self, session: MotsSession, detector: Detector) -> None:
        self.session, self.detector = session, detector
        self.snapshot = session.snapshot

    def step(self, frame: Frame) -> MotsResult:
        """Detect on the next frame, and follow."""
        found = self.detector.detect(frame)
        # Asked after the answer: it may hold for this one only.
        absence = self.detector.reports_absence
        return self.session.step(frame, found, reports_absence=absence)

    def usage(self) -> MotsUsage:
        """What is held now."""
        return self.session.usage()
