"""Follow objects through a stream: one session a stream, one ``step`` a frame.

Each object is numbered from its own first prompt and never touches another one. On a frame:
encode the image once; every object looks into its memory and gets candidates; all their scores
come to the host in one transfer; the policy chooses; prompts add or correct; the chosen masks
become memories. New state replaces the old at the very end, so a step that raises loses nothing.

A prompt for an object that is tracked already corrects it: the frame is tracked first, and the
resulting logits are shown to the network together with the prompt, as SAM 2's predictor does when
a user clicks on a tracked frame. Stepping the *same* frame (same index) again with prompts adds
or corrects after the fact; the other objects stay as they were.

When the frame size changes mid-stream, memory stays: it lives on the network's own square grid.
A segmenter whose grid follows the frame cannot do that, which is one clear error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.errors import InputError, ModelError
from vision_mem.formats.prompts import PromptPlan
from vision_mem.formats.snapshot import load_session, save_snapshot
from vision_mem.models.segmenters.protocol import ImageFeatures, Segmenter
from vision_mem.sources.pixels import as_frame
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.engine import Draft, Engine
from vision_mem.tracking.memory_bank import MaskMemory, count_usage
from vision_mem.tracking.objects import Outcome, UsedIds
from vision_mem.tracking.policies import check_recorded
from vision_mem.tracking.policies.protocol import MemoryPolicy
from vision_mem.tracking.prompts import SoughtObjects, check_prompt
from vision_mem.types import Event, Frame, MemoryUsage, Prompt, TrackingResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PromptedSession", "TrackingConfig", "TrackingSession"]


class SegmenterSession(ABC):
    """What sessions over a segmenter have in common: how they are kept, and gone on with."""

    kind: ClassVar[str]
    """What snapshots and the folder of presets call it."""
    schema: ClassVar[type]
    """Dataclass of its settings."""

    segmenter: Segmenter
    config: Any

    @property
    def model(self) -> Segmenter:
        """The segmenter, as runners ask for it."""
        return self.segmenter

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The whole state. Its tensors are never changed, so the state stays as it was taken."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take a state over, all or nothing; a damaged one may raise any usual error."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ModelError: when the state is not one of such a session; nothing is changed.
        """
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            session = {"mots": "multi-object"}.get(self.kind, self.kind)
            raise ModelError(
                f"this is not a whole state of a {session} session ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:60]})"
            ) from error

    def snapshot(self, path: str | Path) -> None:
        """Write the state to one file, whole or not at all.

        Args:
            path: file name, ``.safetensors`` by custom.

        Raises:
            SinkError: when it cannot be written.
        """
        header = {"kind": self.kind, "model_id": self.segmenter.traits.model_id}
        save_snapshot(path, self.state_dict(), header | {"config": asdict(self.config)})

    @classmethod
    def resume(
        cls,
        path: str | Path,
        segmenter: Segmenter,
        *options: Any,
        policy: MemoryPolicy | None = None,
    ) -> Self:
        """Continue a session from its snapshot, bit for bit on the same machine.

        Args:
            path: what ``snapshot`` wrote.
            segmenter: the same model as then.
            options: what a new session takes after its settings.
            policy: the memory policy, where it is one of the user's own.

        Returns:
            The session, with the settings it had.

        Raises:
            ModelError: for a damaged file, one of another model, or one whose policy is one of
                the user's own and was not given; one line.
        """
        state, given = load_session(path, cls.kind, segmenter.traits.model_id)
        try:
            settings = dict(given)
            tracking = settings
            if cls.kind != "tracking":
                tracking = settings["tracking"] = dict(given.get("tracking", {}))
            if policy is not None:
                tracking.pop("policy", None)
            check_recorded(tracking.get("policy"), path)
            config: Any = load_config(cls.schema, None, settings, folder=cls.kind)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"snapshot {path} has settings this version cannot read") from error
        session = cls(segmenter, config, *options, policy=policy)  # type: ignore[call-arg]
        try:
            session.load_state_dict(state)
        except ModelError as error:
            raise ModelError(f"snapshot {path}: {error}") from error
        return session


def check_grid(frame: Frame, features: ImageFeatures, before: tuple[int, int] | None) -> None:
    """Refuse a frame that objects cannot be followed to.

    Raises:
        InputError: when the segmenter's grid follows the frame and is another one than before.
    """
    if before not in (None, features.grid_size):
        raise InputError(
            f"frame {frame.index} has size {frame.size[1]} x {frame.size[0]}, unlike those "
            "before, and this segmenter's memory follows the frame's shape; resize the "
            "source or start a new session"
        )


class TrackingSession(SegmenterSession):
    """Follows any number of objects through one stream.

    Args:
        segmenter: shared, never changed.
        config: settings; the defaults are the motion-aware policy.
        policy: what is remembered and read, in place of ``config.policy``.
    """

    kind, schema = "tracking", TrackingConfig

    def __init__(
        self,
        segmenter: Segmenter,
        config: TrackingConfig | None = None,
        *,
        policy: MemoryPolicy | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.config = config or TrackingConfig()
        if policy is not None:
            self.config = replace(self.config, policy=policy)
        self._engine = Engine(segmenter, self.config)
        self.reset()

    def reset(self) -> None:
        """Forget everything; equal to a new session."""
        self._outcomes: dict[int, Outcome] = {}
        self._ids = UsedIds()
        self._grid_size: tuple[int, int] | None = None
        self._frame_index: int | None = None
        self._time_s = 0.0
        self._events: tuple[Event, ...] = ()
        self._seen: tuple[Frame, ImageFeatures] | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects followed now, in the order they were added."""
        return tuple(self._outcomes)

    @torch.inference_mode()
    def step(
        self, frame: Frame | NDArray[Any], prompts: Sequence[Prompt] | Prompt = ()
    ) -> TrackingResult:
        """Look at the next frame, or once more at the latest one.

        Args:
            frame: the frame; an index equal to the latest one means that frame again. Or an image
                ``(H, W, 3)`` uint8 RGB (OpenCV's BGR as ``image[..., ::-1]``), which is the next
                frame, 1/30 s after the one before.
            prompts: what the user points at on this frame; applied in order. One with an
                ``object_id`` or a name that is followed corrects that object; others are new.

        Returns:
            Masks, boxes and events of all objects.

        Raises:
            InputError: for a prompt or frame that cannot be used, and an ``object_id`` beyond
                the next free one, where no name says that it is new; the session is as before.
        """
        before = None if self._frame_index is None else self._time_s
        frame = as_frame(frame, self._frame_index, before)
        prompts = [prompts] if isinstance(prompts, Prompt) else list(prompts)
        checked = self._check(frame, prompts)
        again = self._is_again(frame)
        features = self._encode(frame, again)
        check_grid(frame, features, self._grid_size if self._outcomes else None)
        outcomes = dict(self._outcomes)
        drafts = {} if again else self._engine.track(features, [o.after for o in outcomes.values()])
        events, ids = list(self._events), self._ids
        for object_id, prompt, notes in checked:
            draft = drafts.get(object_id)
            known = draft or outcomes.get(object_id)
            ids = ids.add(object_id)
            drafts[object_id] = self._engine.apply_prompt(features, prompt, notes, object_id, known)
            kind = "added" if known is None else "corrected"
            name = drafts[object_id].after.name
            events.append(Event(kind, object_id, frame.index, frame.time_s, name))
        done = self._engine.remember(features, drafts)
        # In the order of their first prompts, whatever the order of this frame's prompts.
        outcomes = {key: done.get(key, outcomes.get(key)) for key in {**outcomes, **done}}  # type: ignore[misc]
        objects, outcomes = self._engine.render(features, outcomes)
        events += self._changes(frame, outcomes, drafts)

        self._outcomes, self._ids, self._grid_size = outcomes, ids, features.grid_size
        self._frame_index, self._time_s = frame.index, frame.time_s
        self._events, self._seen = (), (frame, features)
        done_events = tuple(events)
        return TrackingResult(
            frame.index, frame.time_s, frame.size, objects, done_events, frame.image
        )

    def remove(self, object_id: int) -> Event:
        """Stop following an object. Its id is not given again.

        Args:
            object_id: one of ``object_ids``.

        Returns:
            The event, which the next result reports too.

        Raises:
            InputError: when there is no such object.
        """
        if object_id not in self._outcomes:
            raise InputError(
                f"no object {object_id} to remove; followed now: {list(self._outcomes) or 'none'}"
            )
        name = self._outcomes.pop(object_id).after.name
        event = Event("removed", object_id, self._frame_index or 0, self._time_s, name)
        self._events = (*self._events, event)
        return event

    def usage(self) -> MemoryUsage:
        """What is held between frames: memories, and what a correction of this frame needs."""
        held = [o for outcome in self._outcomes.values() for o in (outcome.after, outcome.before)]
        objects = [one for one in held if one is not None]

        def tensors() -> Iterator[tuple[str, torch.Tensor]]:
            for one in objects:
                yield from one.memory.tensors()
            for outcome in self._outcomes.values():
                yield "latest masks", outcome.logits

        entries = sum(outcome.after.memory.usage().entries for outcome in self._outcomes.values())
        return count_usage(tensors(), entries)

    def state_dict(self) -> dict[str, Any]:
        """The whole state. Its tensors are never changed, so the state stays as it was taken."""
        return {
            "frame_index": self._frame_index,
            "time_s": self._time_s,
            "grid_size": None if self._grid_size is None else list(self._grid_size),
            "used_ids": [list(span) for span in self._ids.ranges],
            "events": [asdict(event) for event in self._events],
            "outcomes": [outcome.state_dict() for outcome in self._outcomes.values()],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        blank, device = MaskMemory(self.config.policy, self._engine.limits), self.segmenter.device
        made = [Outcome.from_state(outcome, blank, device) for outcome in state["outcomes"]]
        index, time_s = state["frame_index"], float(state["time_s"])
        grid = state["grid_size"]
        grid = None if grid is None else (int(grid[0]), int(grid[1]))
        ids, events = UsedIds.of(state["used_ids"]), tuple(Event(**one) for one in state["events"])
        self._frame_index, self._seen = None if index is None else int(index), None
        self._outcomes = {outcome.after.object_id: outcome for outcome in made}
        self._ids, self._grid_size, self._events, self._time_s = ids, grid, events, time_s

    def _check(
        self, frame: Frame, prompts: Sequence[Prompt]
    ) -> list[tuple[int, Prompt, list[str]]]:
        """The object that each prompt speaks of, the prompt, and remarks for the diary."""
        checked, ids = [], self._ids
        called: dict[int, str] = {key: one.after.name for key, one in self._outcomes.items()}
        pointed: set[int] = set()
        for given in prompts:
            prompt, notes = check_prompt(given, frame)
            object_id = self._object_of(prompt, called, ids)
            whole = prompt.mask is not None or prompt.box is not None
            if whole and prompt.object_id is None and object_id in pointed:
                raise InputError(
                    f"{prompt.name!r} has two boxes or masks on frame {frame.index}; give each "
                    "object a name of its own, or another frame"
                )
            pointed |= {object_id} if whole else set()
            ids = ids.add(object_id)
            called[object_id] = prompt.name or called.get(object_id, f"object-{object_id}")
            checked.append((object_id, prompt, notes))
        return checked

    def _object_of(self, prompt: Prompt, called: Mapping[int, str], ids: UsedIds) -> int:
        """The id of what a prompt speaks of: what is followed, or something new."""
        wanted = prompt.object_id
        if wanted is None:
            same = [key for key, name in called.items() if name == prompt.name]
            if len(same) > 1:
                raise InputError(
                    f"{len(same)} objects are called {prompt.name!r}: {', '.join(map(str, same))}; "
                    "say which one with object_id"
                )
            return same[0] if same else ids.next()
        if wanted < 0:
            raise InputError(f"object id {wanted} is negative; expected 0 or more")
        if wanted in called:
            return int(wanted)
        if wanted in ids:
            raise InputError(
                f"object {wanted} was removed and ids are never given twice; leave "
                "the id out to start a new object"
            )
        new = not self._ids.ranges or wanted <= ids.next()
        if not new and prompt.name is None:
            known = ", ".join(f"{key} ({name})" for key, name in called.items()) or "none"
            raise InputError(
                f"there is no object {wanted}; followed now: {known}. Leave object_id out, or give "
                "a name, to start a new object"
            )
        return int(wanted)

    def _is_again(self, frame: Frame) -> bool:
        if self._frame_index != frame.index:
            return False
        if self._seen is not None and not np.array_equal(self._seen[0].image, frame.image):
            raise InputError(
                f"two different images in a row have frame index {frame.index}; number frames as "
                "they come, or call reset() before another stream"
            )
        return True

    def _encode(self, frame: Frame, again: bool) -> ImageFeatures:
        if again and self._seen is not None:
            return self._seen[1]
        # Let go of the previous frame's features first: they are the largest thing held.
        self._seen = None
        return self.segmenter.encode_image(frame)

    def _changes(
        self, frame: Frame, outcomes: Mapping[int, Outcome], touched: Mapping[int, Draft]
    ) -> list[Event]:
        """Lost and found, compared with what was reported last."""
        events = []
        for object_id in touched:
            if object_id not in self._outcomes:
                continue
            was, now = self._outcomes[object_id].after.present, outcomes[object_id].after
            if was != now.present:
                kind = "found" if now.present else "lost"
                events.append(Event(kind, object_id, frame.index, frame.time_s, now.name))
        return events


class PromptedSession:
    """A tracking session whose prompts ride along with their frames.

    Args:
        session: the session.
        plan: which prompts go with which frame.
        previous: number of the last frame it has seen; None before the first.
        sought: words whose objects are followed once a detector has found them.
    """

    def __init__(
        self,
        session: TrackingSession,
        plan: PromptPlan,
        previous: int | None,
        sought: Sequence[SoughtObjects] = (),
    ) -> None:
        self._session, self._plan, self._previous = session, plan, previous
        self._sought = tuple(sought)
        self.usage, self.snapshot = session.usage, session.snapshot

    def step(self, frame: Frame) -> TrackingResult:
        """Look at the next frame, with its prompts."""
        prompts = [*self._plan.at(frame.index, self._previous)]
        known = {outcome.after.name for outcome in self._session._outcomes.values()}
        known |= {prompt.name for prompt in prompts if prompt.name}
        for each in self._sought:
            prompts += each.prompts(frame, known)
        result = self._session.step(frame, prompts)
        self._previous = frame.index
        return result
