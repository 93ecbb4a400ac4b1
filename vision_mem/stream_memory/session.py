"""All memories of one stream: one ``step`` a frame feeds what follows, asks, rebuilds and maps.

The memories do not know of each other: each says of a frame exactly what it says alone. What is
joined is what they found. With depth, whoever is followed gets a place in the map, under the name
that it has there: its mask, the depth behind it and the camera's pose are a sighting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, ModelError
from vision_mem.formats.prompts import PromptPlan
from vision_mem.formats.snapshot import load_session, save_snapshot
from vision_mem.formats.sqlite import copy_database
from vision_mem.formats.text import write_file
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.geometry.poses import transform
from vision_mem.models.detectors.protocol import Detector
from vision_mem.mots.session import MotsSession
from vision_mem.navigation.backprojection import lift
from vision_mem.navigation.landmarks import words
from vision_mem.navigation.observer import Observer
from vision_mem.navigation.records import Observation, Sighting
from vision_mem.navigation.retrieval import Hit
from vision_mem.navigation.session import NavigationSession
from vision_mem.navigation.storage import MEMORY
from vision_mem.reconstruction.session import ReconstructionSession
from vision_mem.runs.tally import count
from vision_mem.sources.pixels import as_frame
from vision_mem.sources.posed_jsonl import PosedRow
from vision_mem.stream_memory.budget import (
    ASK,
    MOTS,
    NAVIGATE,
    RECONSTRUCT,
    TRACK,
    Share,
    check_fits,
    split_budget,
)
from vision_mem.tracking.session import TrackingSession
from vision_mem.types import Detections, Event, Frame, MemoryUsage, Prompt
from vision_mem.videoqa.evidence import ThumbnailSession
from vision_mem.videoqa.records import Answer
from vision_mem.videoqa.session import VideoMemorySession, steady_time

_KIND, _MODEL_ID = "stream", "joined"
_MOST_ENTITIES = 256
"""Followed things that are remembered; who was seen longest ago goes first."""
_PLACE_EVERY_S = 0.5
"""Seconds between two sightings of the same things that go into the map."""
_MOVED_M, _MOVED_SIGMAS = 0.15, 3.0
"""From where on a thing has moved: metres from where it was, and standard deviations."""
_UNSURE = frozenset({"unsure", "lost", "tentative", "weak"})
"""States of objects that are not put into the map."""


class EntityLog(Protocol):
    """What keeps a history of followed things beside a memory, such as a ledger in its file."""

    def write(self, frame: Frame, followed: Any, places: Sequence[EntityPlace]) -> None:
        """Take in a frame: what track or mots said of it, and where things are in space."""


@dataclass(frozen=True)
class EntityPlace:
    """Where a followed thing was last seen.

    Attributes:
        name: its name.
        object_id: its number in what follows it.
        frame_index, time_s: of the frame.
        box: ``(x1, y1, x2, y2)`` pixels of that frame.
        position: ``(x, y, z)`` metres in the map's frame, the latest that is known; None where
            there is no depth, or nothing was sure enough.
        landmark: number of its landmark in the map, or None.
    """

    name: str
    object_id: int
    frame_index: int
    time_s: float
    box: tuple[float, float, float, float]
    position: tuple[float, float, float] | None = None
    landmark: int | None = None


@dataclass(frozen=True, eq=False)
class StreamResult:
    """What all memories say of one frame.

    Attributes:
        frame_index, time_s: those of the frame.
        size: ``(height, width)`` of the frame.
        followed: of track, ``TrackingResult``, or of mots, ``MotsResult``; None without.
        looked: of ask, ``WatchResult``; None without.
        scene: of reconstruct, ``ReconstructionResult``; None without.
        mapped: of navigate, ``NavigationResult``; None without, and for a frame left out.
        placed: followed things that went into the map with this frame.
        held: bytes of each memory after the frame.
        removed: what had to go to keep the budget.
    """

    frame_index: int
    time_s: float
    size: tuple[int, int]
    followed: Any = None
    looked: Any = None
    scene: Any = None
    mapped: Any = None
    placed: tuple[EntityPlace, ...] = ()
    held: Mapping[str, int] = field(default_factory=dict)
    removed: tuple[Event, ...] = ()

    @property
    def objects(self) -> tuple[Any, ...]:
        """Those that are followed."""
        return () if self.followed is None else tuple(self.followed.objects)

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened to them, to the scene, and for the budget's sake."""
        of_scene = () if self.scene is None else tuple(self.scene.events)
        followed = () if self.followed is None else tuple(self.followed.events)
        return (*followed, *of_scene, *self.removed)


@dataclass
class _Found:
    """A pose that is there already, where one is asked to find it."""

    result: Any = None

    def step(self, frame: RgbdFrame) -> Any:
        return self.result


class StreamMemory:
    """Everything that is remembered of one stream, under one budget.

    Args:
        objects: what follows: objects pointed at (``TrackingSession``), or all (``MotsSession``).
        ask: what can be asked; a ``VideoMemorySession``, or one with its pictures and file.
        reconstruct: what rebuilds the scene; needs frames with depth.
        navigate: the map; needs frames with depth, and poses, theirs or those of ``reconstruct``.
        budget: bytes that all may hold together between frames, or as ``1GB``; see
            ``split_budget``. Their settings have to keep to it: ``fitted``.
        plan: prompts of frames to come, for ``track``.
        detector: finds what is followed, for ``mots``.
        track_poses: find all poses, also where frames have one.
        name: of the stream in the map.
        turn: rotation vector ``(3,)`` by which the stream's world is turned in the map.
        ledger: keeps a history of what is followed; None for none.

    Attributes:
        shares: by memory.
        remarks: what happened for the budget's sake, or could not be used, one line a kind.

    Raises:
        InputError: when nothing is to remember, or settings allow more than a share.
    """

    def __init__(
        self,
        *,
        objects: TrackingSession | MotsSession | None = None,
        ask: VideoMemorySession | ThumbnailSession | None = None,
        reconstruct: ReconstructionSession | None = None,
        navigate: NavigationSession | None = None,
        budget: str | int = "1GB",
        plan: PromptPlan | None = None,
        detector: Detector | None = None,
        track_poses: bool = False,
        name: str = "stream",
        turn: Any = (0.0, 0.0, 0.0),
        ledger: EntityLog | None = None,
    ) -> None:
        self.objects, self.reconstruct, self.navigate = objects, reconstruct, navigate
        self.watcher = ask
        self.asked = ask.session if isinstance(ask, ThumbnailSession) else ask
        self._plan, self._detector, self._track_poses = plan, detector, track_poses
        self.ledger = ledger
        self._turn = np.asarray(turn, np.float64)
        self.following = MOTS if isinstance(objects, MotsSession) else TRACK
        parts: dict[str, Any] = {
            self.following: objects, ASK: self.asked, RECONSTRUCT: reconstruct, NAVIGATE: navigate
        }  # fmt: skip
        self.parts = {part: one for part, one in parts.items() if one is not None}
        if not self.parts:
            raise InputError("nothing is to be remembered; give objects, ask or reconstruct")
        self.shares: dict[str, Share] = split_budget(budget, list(self.parts))
        for part, one in self.parts.items():
            check_fits(part, one.config, self.shares[part])
        self._found = _Found()
        trackers = (self._found if reconstruct is not None else None, None)
        tracked, given = (
            Observer(name, None, [], None, each, self._turn, lambda error: None)  # type: ignore[arg-type]
            for each in trackers
        )
        self._observers = {True: tracked, False: given}
        self._clear()

    def _clear(self) -> None:
        self._index: int | None = None
        self._time_s: float | None = None
        self._due_s = -math.inf
        self._entities: dict[str, EntityPlace] = {}
        self._counts: dict[str, int] = {}
        self._why = ""  # the first frame was left out of the map
        self._whole = True  # all memories have seen the same frames

    # -- the stream ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget everything; equal to a new one."""
        for one in self.parts.values():
            one.reset()
        self._clear()

    def step(
        self,
        frame: Frame | RgbdFrame | NDArray[Any],
        prompts: Sequence[Prompt] | Prompt = (),
        detections: Detections | None = None,
    ) -> StreamResult:
        """Look at the next frame with all memories.

        Args:
            frame: colour, with depth for ``reconstruct`` and ``navigate``; or an image
                ``(H, W, 3)`` uint8 RGB, 1/30 s after the one before.
            prompts: for ``track``: what the user points at on this frame, beside those planned.
            detections: for ``mots`` without a detector: what was found on this frame.

        Returns:
            What each said.

        Raises:
            InputError: for a frame out of order or without the depth that is needed, and for what
                a memory refuses; what follows looks first, so that nothing has changed when a
                prompt is refused.
        """
        picture = self._checked(frame)
        deep = frame if isinstance(frame, RgbdFrame) else None
        followed = self._follow(picture, prompts, detections)
        self._whole = False
        scene = mapped = looked = None
        if deep is not None and self.reconstruct is not None:
            scene = self.reconstruct.step(deep.without_pose() if self._track_poses else deep)
        placed: tuple[EntityPlace, ...] = ()
        if followed is not None:
            self._see(picture, followed)
        if deep is not None and self.navigate is not None:
            mapped, placed = self._map(deep, scene, followed)
        if self.watcher is not None:
            looked = self.watcher.step(picture)
        if self.ledger is not None and followed is not None:
            self.ledger.write(picture, followed, placed)
        removed = self._keep_budget(picture)
        self._index, self._time_s, self._whole = picture.index, picture.time_s, True
        return StreamResult(
            picture.index, picture.time_s, picture.size, followed, looked, scene, mapped, placed,
            self.held(), removed,
        )  # fmt: skip

    def _checked(self, frame: Frame | RgbdFrame | NDArray[Any]) -> Frame:
        """The picture of a frame that all memories can take."""
        if isinstance(frame, RgbdFrame):
            picture = Frame(frame.index, frame.time_s, frame.image)
        else:
            picture = as_frame(frame, self._index, self._time_s)
            if self.reconstruct is not None or self.navigate is not None:
                raise InputError(
                    f"frame {picture.index} has no depth, which a scene and a map are made of; "
                    "give an RgbdFrame, or leave out reconstruct and navigate"
                )
        if self._index is not None and picture.index <= self._index:
            raise InputError(
                f"frame {picture.index} comes after frame {self._index}; number frames as they "
                "come, or call reset() before another stream"
            )
        steady_time(picture, self._time_s)
        return picture

    def _follow(
        self, frame: Frame, prompts: Sequence[Prompt] | Prompt, detections: Detections | None
    ) -> Any:
        given = [prompts] if isinstance(prompts, Prompt) else list(prompts)
        if isinstance(self.objects, MotsSession):
            if given:
                raise InputError("prompts are for track; of mots call objects.prompt")
            absence = True
            if self._detector is not None:
                detections = self._detector.detect(frame)
                absence = self._detector.reports_absence
            return self.objects.step(frame, detections, reports_absence=absence)
        if self.objects is None:
            return None
        planned = [] if self._plan is None else self._plan.at(frame.index, self._index)
        return self.objects.step(frame, [*planned, *given])

    def _see(self, frame: Frame, followed: Any) -> None:
        """Remember where in the picture things were."""
        for each in followed.objects:
            if not each.present:
                continue
            old = self._entities.pop(each.name, None)  # the latest comes last
            x1, y1, x2, y2 = (float(value) for value in each.box)
            new = EntityPlace(
                each.name, each.object_id, frame.index, frame.time_s, (x1, y1, x2, y2)
            )
            if old is not None and old.object_id == each.object_id:
                new = replace(new, position=old.position, landmark=old.landmark)
            self._entities[each.name] = new
        while len(self._entities) > _MOST_ENTITIES:
            del self._entities[next(iter(self._entities))]

    def _map(self, frame: RgbdFrame, scene: Any, followed: Any) -> tuple[Any, tuple[Any, ...]]:
        """Take a frame into the map, with what is followed where that is due."""
        assert self.navigate is not None
        if NAVIGATE in self._counts:  # full
            return None, ()
        find = (self._track_poses or frame.pose is None) and scene is not None
        self._found.result = scene
        row = PosedRow(
            frame.index, frame.time_s, frame.pose, None, frame.image, frame.depth, frame.camera
        )
        try:
            seen: Observation = self._observers[find].observe(row, 0.0)
            things = self._sightings(frame, followed)
            before = list(seen.sightings or ())
            if things:
                seen = replace(seen, sightings=[*before, *things])
            result = self.navigate.step(seen)
        except InputError as error:
            self._counts["left out"] = self._counts.get("left out", 0) + 1
            self._why = self._why or str(error)
            return None, ()
        return result, self._placed(seen, things, result.landmarks[len(before) :])

    def _sightings(self, frame: RgbdFrame, followed: Any) -> list[Sighting]:
        """Things that are followed, where their surfaces are; none before it is time again."""
        if followed is None or frame.time_s < self._due_s:
            return []
        sure = [each for each in followed.objects if each.present and each.state not in _UNSURE]
        if not sure:
            return []
        self._due_s = frame.time_s + _PLACE_EVERY_S
        found = Detections(
            np.stack([each.box for each in sure]).astype(np.float32),
            np.array([float(np.clip(each.score, 0, 1)) for each in sure], np.float32),
            np.arange(len(sure)), masks=np.stack([each.mask for each in sure]),
            names={number: f"#{number}" for number in range(len(sure))},
        )  # fmt: skip
        things = []
        for sighting in lift(found, frame.depth, frame.camera):
            each = sure[int(sighting.label[1:])]
            track = f"{self.following}:{each.object_id}"
            things.append(replace(sighting, label=each.name, track=track))
        return things

    def _placed(
        self, seen: Observation, things: Sequence[Sighting], landmarks: Sequence[int | None]
    ) -> tuple[EntityPlace, ...]:
        """What the map says of where things are; who was elsewhere before has moved."""
        assert self.navigate is not None
        marks, placed = self.navigate.state.landmarks.by_id, []
        pose = np.asarray(seen.pose, np.float64)
        for sighting, number in zip(things, landmarks, strict=True):
            entity = self._entities.get(sighting.label)
            if number is None or entity is None:
                continue
            here = transform(pose, np.asarray(sighting.position, np.float64))
            away = float(np.linalg.norm(here - marks[number].position))
            spread = float(np.sqrt(np.linalg.eigvalsh(np.asarray(sighting.sigma))[-1]))
            if away > max(_MOVED_M, _MOVED_SIGMAS * spread):
                self.navigate.relocate(number, sighting, pose)
            x, y, z = (float(value) for value in marks[number].position)
            place = replace(entity, position=(x, y, z), landmark=number)
            self._entities[sighting.label] = place
            placed.append(place)
        return tuple(placed)

    @property
    def latest(self) -> int | None:
        """Number of the latest frame; None before the first."""
        return self._index

    # -- the budget ----------------------------------------------------------------------------

    def held(self) -> dict[str, int]:
        """Bytes of each memory between frames."""
        return {part: sum(detail.values()) for part, (_, detail) in self._details().items()}

    def _details(self) -> dict[str, tuple[int, Mapping[str, int]]]:
        found: dict[str, tuple[int, Mapping[str, int]]] = {}
        for part, one in self.parts.items():
            if part == NAVIGATE:  # its own usage counts the rows of its file too, which takes long
                state = one.state
                entries = len(state.landmarks) + len(state.topology.places) + len(state.short)
                found[part] = entries, state.detail()
                continue
            usage = one.usage()
            found[part] = usage.entries, usage.detail
        return found

    def usage(self) -> MemoryUsage:
        """What is held between frames by all memories, to the byte, by memory and kind."""
        details = self._details()
        detail = {
            f"{part}: {kind}": size
            for part, (_, kinds) in details.items() for kind, size in kinds.items()
        }  # fmt: skip
        return MemoryUsage(
            sum(entries for entries, _ in details.values()), sum(detail.values()), detail
        )

    def _keep_budget(self, frame: Frame) -> tuple[Event, ...]:
        """See to it that each memory is inside its share after a frame."""
        removed: list[Event] = []
        if isinstance(self.objects, TrackingSession):
            while self._over(TRACK):
                ids = self.objects.object_ids
                if len(ids) <= 1:
                    break
                lost = [k for k in ids if not self.objects._outcomes[k].after.present]
                event = self.objects.remove(lost[0] if lost else ids[-1])
                self._counts["removed"] = self._counts.get("removed", 0) + 1
                removed.append(event)
        if NAVIGATE in self.parts and NAVIGATE not in self._counts and self._over(NAVIGATE):
            assert self.navigate is not None
            self.navigate.commit(fold=True)
            if self._over(NAVIGATE):
                self._counts[NAVIGATE] = frame.index
        for part in self.parts:
            if part != NAVIGATE and (over := self._over(part)):
                raise InputError(
                    f"{part} holds {over / 1e6:.1f} MB after frame {frame.index}, and its share of "
                    f"the budget is {self.shares[part].bytes / 1e6:.1f} MB; give a larger budget"
                )
        return tuple(removed)

    def _over(self, part: str) -> int:
        """Bytes that a memory holds, where it is more than its share; else 0."""
        if part == NAVIGATE:
            assert self.navigate is not None
            size = sum(self.navigate.state.detail().values())
        else:
            size = self.parts[part].usage().bytes
        return size if size > self.shares[part].bytes else 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What did not go as asked, one line a kind."""
        said = []
        if removed := self._counts.get("removed"):
            said.append(f"budget: {count(removed, 'object')} had to go")
        if (full := self._counts.get(NAVIGATE)) is not None:
            said.append(f"budget: the map is full since frame {full}, and takes in no more")
        if number := self._counts.get("left out"):
            said.append(f"{count(number, 'frame')} left out of the map: {self._why}")
        return tuple(said)

    # -- questions -----------------------------------------------------------------------------

    @property
    def entities(self) -> tuple[EntityPlace, ...]:
        """Followed things, and where each was last seen; who was seen latest comes first."""
        return tuple(reversed(self._entities.values()))

    def where(self, name: str, k: int = 5) -> list[Hit]:
        """Where in space something is: what ``navigate where`` says of the map.

        Raises:
            InputError: when there is no map.
        """
        if self.navigate is None:
            raise InputError("there is no map, which needs depth; entities says when and in which "
                             "part of the picture things were seen")  # fmt: skip
        return self.navigate.where(name, k=k)

    def ask(self, question: str, **options: Any) -> Answer:
        """Answer from memory; of followed things that are named, ``notes`` says where they are.

        Args:
            question: in words.
            options: as ``VideoMemorySession.ask``.

        Returns:
            The answer. ``notes["entities"]`` are the places of what the question names, as dicts;
            positions are those that ``where`` gives.

        Raises:
            InputError: as ``VideoMemorySession.ask``, and when ask is left out.
        """
        if self.asked is None:
            raise InputError("nothing here can be asked; give ask, a VideoMemorySession")
        answer = self.asked.ask(question, **options)
        said = words(question)
        named = [asdict(each) for each in self.entities if _named(words(each.name), said)]
        if not named:
            return answer
        return replace(answer, notes={**answer.notes, "entities": named})

    # -- keeping -------------------------------------------------------------------------------

    def _own_state(self) -> dict[str, Any]:
        return {
            "index": self._index, "time_s": self._time_s,
            "due_s": None if self._due_s == -math.inf else self._due_s,
            "entities": [asdict(each) for each in self._entities.values()],
            "counts": dict(self._counts), "why": self._why,
        }  # fmt: skip

    def _take_own(self, state: Mapping[str, Any]) -> None:
        def numbers(values: Any, count: int) -> Any:
            made = tuple(float(value) for value in values)
            if len(made) != count:
                raise ValueError(f"{len(made)} numbers")
            return made

        entities = [
            EntityPlace(
                str(each["name"]), int(each["object_id"]), int(each["frame_index"]),
                float(each["time_s"]), numbers(each["box"], 4),
                None if each["position"] is None else numbers(each["position"], 3),
                None if each["landmark"] is None else int(each["landmark"]),
            )
            for each in state["entities"]
        ]  # fmt: skip
        index, time_s, due = state["index"], state["time_s"], state["due_s"]
        counts = {str(key): int(value) for key, value in state["counts"].items()}
        self._index = None if index is None else int(index)
        self._time_s = None if time_s is None else float(time_s)
        self._due_s = -math.inf if due is None else float(due)
        self._entities = {each.name: each for each in entities}
        self._counts, self._why = counts, str(state["why"])

    def state_dict(self) -> dict[str, Any]:
        """The whole state, all memories together.

        Raises:
            InputError: right after a frame that one of them refused, and others took.
        """
        self._must_be_whole()
        return {
            "stream": self._own_state(),
            **{part: one.state_dict() for part, one in self.parts.items()},
        }

    def _must_be_whole(self) -> None:
        if not self._whole:
            raise InputError(
                "the latest frame was refused by one memory and taken by others; step the next "
                "frame, or load an earlier state, before this one is kept"
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ModelError: when the state is not one of the same memories.
        """
        lacks = [part for part in self.parts if part not in state]
        if lacks or "stream" not in state:
            raise ModelError(f"this state has no {(lacks or ['stream'])[0]} memory")
        for part, one in self.parts.items():
            one.load_state_dict(state[part])
        self._load_own(state["stream"])

    def _load_own(self, state: Any) -> None:
        try:
            self._take_own(state)
            self._whole = True
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError("this is not a whole state of a stream's memories") from error

    def snapshot(self, path: str | Path) -> None:
        """Write all memories into the folder of a file: one each, and what joins them.

        Memory and map files are copied as they are now, whatever their programs write later.

        Args:
            path: of the file that joins them, ``.safetensors`` by custom.

        Raises:
            SinkError: when something cannot be written.
            InputError: as ``state_dict``.
        """
        self._must_be_whole()
        path = Path(path)
        for part in (self.following, RECONSTRUCT):
            if part in self.parts:
                self.parts[part].snapshot(state_file(path, part))
        if isinstance(self.watcher, ThumbnailSession) and self.watcher.file is not None:
            self.watcher.finish()
            copy_database(self.watcher.file.path, state_file(path, ASK))
        elif self.asked is not None:
            self.asked.snapshot(state_file(path, ASK))
        if self.navigate is not None:
            self.navigate.commit()
            if str(self.navigate.path) == MEMORY:
                write_file(state_file(path, NAVIGATE), self.navigate.content())
            else:
                copy_database(self.navigate.path, state_file(path, NAVIGATE))
        save_snapshot(path, self._own_state(), {"kind": _KIND, "model_id": _MODEL_ID})

    def resume(self, path: str | Path) -> None:
        """Go on with what joined the memories; they themselves are those given, resumed before.

        Args:
            path: as ``snapshot``.

        Raises:
            ModelError: for a damaged file, or another one.
        """
        self._load_own(load_session(path, _KIND, _MODEL_ID)[0])


def state_file(path: Path, part: str) -> Path:
    """Where the snapshot of one memory lies, beside the file that joins them."""
    ending = {ASK: ".vmem", NAVIGATE: ".map"}.get(part, ".safetensors")
    return path.with_name(f"{part}{ending}")


def _named(name: Sequence[str], said: Sequence[str]) -> bool:
    """Whether a name is among the words of a question, in order and without a gap."""
    length = len(name)
    return bool(name) and any(
        list(said[at : at + length]) == list(name) for at in range(len(said) - length + 1)
    )
