"""What users do to the objects of a stream, as values, and what all of it amounts to.

An object is a pure function of the frames and of its ``ObjectPlan``: which prompts it got on which
frames, and where it ends. So a prompt that comes late, a correction of the past and an undone
command are one thing: a plan that differs from the one before from some frame on. The log of
commands says the plan of a whole stream, and nothing else does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.formats.prompts import PromptPlan
from vision_mem.formats.text import json_rows
from vision_mem.text import short
from vision_mem.types import Prompt

EDITS = ("prompt", "remove", "rename", "merge")
NO_EDITS = ("undo", "redo", "pause", "play", "seek", "ask", "detect")
LONGEST_NAME = 80
_MOST_POINTS = 64
_LAST_ID, _LAST_FRAME = 10**6, 2**53
_KEYS = {
    "prompt": {"frame", "object", "name", "box", "points", "labels", "mask", "direction"},
    "remove": {"frame", "object"},
    "rename": {"object", "name"},
    "merge": {"object", "other"},
    "undo": {"object"},
    "seek": {"frame"},
    "ask": {"question"},
    "detect": {"on", "detector", "classes"},
}
_ANY = {"command", "by", "time_s", "stream"}


@dataclass(frozen=True)
class StudioCommand:
    """One thing a user, or a detector in a user's name, did.

    Attributes:
        kind: of ``EDITS`` or ``NO_EDITS``.
        frame: the frame the user saw.
        object_id: whom it is about; None on a prompt for a new object.
        name: of the object.
        prompt: what was pointed at.
        other: the object that is merged into this one.
        both: whether the object is followed backwards from its first prompt too.
        by: ``user``, or ``detector``: such commands are not undone one by one.
        said: what else was given, for commands that edit nothing.
    """

    kind: str
    frame: int | None = None
    object_id: int | None = None
    name: str | None = None
    prompt: Prompt | None = None
    other: int | None = None
    both: bool = False
    by: str = "user"
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectPlan:
    """What was said of one object.

    Attributes:
        object_id: for ever.
        name: a word for people.
        prompts: with their frames, in order.
        end: the first frame on which it is no longer followed; None for never.
        both: as ``StudioCommand``.
    """

    object_id: int
    name: str
    prompts: tuple[tuple[int, Prompt], ...]
    end: int | None = None
    both: bool = False

    @property
    def first(self) -> int:
        """Frame of the first prompt."""
        return self.prompts[0][0]

    def at(self, frame: int, previous: int | None) -> list[Prompt]:
        """Prompts due on a frame; those of frames in between, which were left out, too."""
        low = self.first - 1 if previous is None else previous
        return [prompt for n, prompt in self.prompts if low < n <= frame]

    def follows(self, frame: int) -> bool:
        """Whether the object is followed on a frame, forwards."""
        return self.first <= frame and (self.end is None or frame < self.end)


@dataclass(frozen=True)
class EditPlan:
    """Every object of a stream.

    Attributes:
        objects: by id.
        next_id: the next object's.
    """

    objects: Mapping[int, ObjectPlan] = field(default_factory=dict)
    next_id: int = 1

    def prompts(self) -> PromptPlan:
        """All prompts by their frames."""
        by_frame: dict[int, tuple[Prompt, ...]] = {}
        for one in self.objects.values():
            for frame, prompt in one.prompts:
                by_frame[frame] = (*by_frame.get(frame, ()), prompt)
        return PromptPlan(by_frame)

    def after(self, command: StudioCommand) -> EditPlan:
        """The plan with one more command.

        Raises:
            InputError: when the object is not there.
        """
        if command.kind == "prompt":
            return self._prompted(command)
        one = self._object(command.object_id)
        objects = dict(self.objects)
        if command.kind == "rename":
            objects[one.object_id] = replace(one, name=command.name or one.name)
        elif command.kind == "merge":
            other = self._object(command.other)
            if other is one:
                raise InputError("an object cannot be merged with itself; name two of them")
            prompts = sorted((*one.prompts, *other.prompts), key=lambda pair: pair[0])
            prompts = [(n, replace(p, object_id=one.object_id)) for n, p in prompts]
            del objects[other.object_id]
            objects[one.object_id] = replace(one, prompts=tuple(prompts), end=other.end)
        elif command.frame is None or (command.frame <= one.first and not one.both):
            del objects[one.object_id]
        else:
            kept = tuple(pair for pair in one.prompts if pair[0] < command.frame)
            if not kept:  # what was followed backwards only is nothing without its prompt
                del objects[one.object_id]
            else:
                objects[one.object_id] = replace(one, prompts=kept, end=command.frame)
        return EditPlan(objects, self.next_id)

    def _object(self, object_id: int | None) -> ObjectPlan:
        if object_id is None or object_id not in self.objects:
            known = ", ".join(map(str, self.objects)) or "none"
            raise InputError(f"there is no object {object_id}; followed now: {known}")
        return self.objects[object_id]

    def _prompted(self, command: StudioCommand) -> EditPlan:
        prompt, frame = command.prompt, command.frame
        assert prompt is not None and frame is not None
        object_id = self.next_id if command.object_id is None else command.object_id
        known = self.objects.get(object_id)
        only_off = prompt.labels is not None and not prompt.labels.any() and prompt.box is None
        if known is None and only_off:
            raise InputError("a new object needs a point that is on it, not only ones beside it")
        name = command.name or (known.name if known else f"object-{object_id}")
        before = known.prompts if known else ()
        pair = (frame, replace(prompt, object_id=object_id, name=None))
        prompts = tuple(sorted((*before, pair), key=lambda item: item[0]))
        end = known.end if known else None
        if end is not None and frame >= end:
            end = None  # pointed at again: followed again
        both = command.both or (known is not None and known.both)
        made = ObjectPlan(object_id, name, prompts, end, both)
        objects = {**self.objects, object_id: made}
        ordered = dict(sorted(objects.items()))
        return EditPlan(ordered, max(self.next_id, object_id + 1))


def plan_of(prompts: PromptPlan, first: int, both: bool = False) -> EditPlan:
    """The plan of prompts as the command line takes them.

    Args:
        prompts: with numbers of objects.
        first: number of the first frame of the run.
        both: follow every object backwards from its first prompt too.
    """
    plan = EditPlan()
    for frame, some in sorted(prompts.by_frame.items()):
        for prompt in some:
            at = max(frame, first)
            said = StudioCommand("prompt", at, prompt.object_id, prompt.name, prompt, both=both)
            plan = plan.after(said)
    return plan


class History:
    """Commands in their order, what they amount to, and which of them can be undone."""

    def __init__(self) -> None:
        self.plan = EditPlan()
        self._edits: list[StudioCommand] = []
        self._undone: list[tuple[int, StudioCommand]] = []

    def __len__(self) -> int:
        return len(self._edits)

    def after(self, command: StudioCommand) -> EditPlan:
        """What the plan would be.

        Raises:
            InputError: when the command makes no sense now.
        """
        if command.kind == "undo":
            place = self._latest(command.object_id)
            return fold(self._edits[:place] + self._edits[place + 1 :])
        if command.kind == "redo":
            if not self._undone:
                raise InputError("there is nothing to redo")
            place, again = self._undone[-1]
            return fold([*self._edits[:place], again, *self._edits[place:]])
        return self.plan.after(command)

    def apply(self, command: StudioCommand) -> StudioCommand:
        """Take a command in.

        Returns:
            The command as it is to be logged: the object's id is in it.
        """
        plan = self.after(command)
        if command.kind == "undo":
            place = self._latest(command.object_id)
            self._undone.append((place, self._edits.pop(place)))
        elif command.kind == "redo":
            place, again = self._undone.pop()
            self._edits.insert(place, again)
        else:
            if command.kind == "prompt" and command.object_id is None:
                command = replace(command, object_id=self.plan.next_id)
            self._edits.append(command)
            if command.by == "user":
                self._undone.clear()
        # Ids are never given twice, not even those of objects that were undone.
        self.plan = replace(plan, next_id=max(plan.next_id, self.plan.next_id))
        return command

    def can(self) -> dict[str, bool]:
        """Whether there is something to undo, and to redo."""
        return {"undo": any(c.by == "user" for c in self._edits), "redo": bool(self._undone)}

    def _latest(self, object_id: int | None = None) -> int:
        """Place of what is undone next: the user's latest, or whosever latest of an object."""
        for place in range(len(self._edits) - 1, -1, -1):
            one = self._edits[place]
            if one.by == "user" if object_id is None else object_id in (one.object_id, one.other):
                return place
        of = "" if object_id is None else f" of object {object_id}"
        raise InputError(f"there is nothing{of} to undo")


def fold(commands: Iterable[StudioCommand]) -> EditPlan:
    """What commands amount to; those whose object is gone by an undone one count for nothing."""
    plan = EditPlan()
    for command in commands:
        try:
            plan = plan.after(command)
        except InputError:
            continue
    return plan


def changed_from(old: ObjectPlan | None, new: ObjectPlan) -> int | None:
    """The first frame on which an object may come out otherwise; None when nothing differs."""
    if old is None:
        return new.first
    one, other = list(old.prompts), list(new.prompts)
    while one and other and _same(one[0], other[0]):
        one.pop(0)
        other.pop(0)
    places = [pair[0] for rest in (one, other) for pair in rest[:1]]
    if old.end != new.end:
        places.append(min(end for end in (old.end, new.end) if end is not None))
    return min(places, default=None)


def _same(one: tuple[int, Prompt], other: tuple[int, Prompt]) -> bool:
    return one[0] == other[0] and prompt_json(one[1]) == prompt_json(other[1])


# -- as JSON -------------------------------------------------------------------------------------


def prompt_json(prompt: Prompt) -> dict[str, Any]:
    """A prompt as JSON; a box is left, top, width, height, a mask COCO run lengths."""
    said: dict[str, Any] = {}
    if prompt.box is not None:
        x1, y1, x2, y2 = (float(v) for v in prompt.box)
        said["box"] = [x1, y1, x2 - x1, y2 - y1]
    if prompt.points is not None and prompt.labels is not None:
        said |= {"points": prompt.points.tolist(), "labels": prompt.labels.tolist()}
    if prompt.mask is not None:
        from vision_mem.formats.rle import encode_mask

        said["mask"] = {"size": list(prompt.mask.shape), "counts": encode_mask(prompt.mask)}
    return said


def command_json(command: StudioCommand) -> dict[str, Any]:
    """A command as one JSON object; ``parse_command`` reads it back."""
    said: dict[str, Any] = {"command": command.kind}
    for key, value in (
        ("frame", command.frame), ("object", command.object_id), ("name", command.name),
        ("other", command.other), ("direction", "both" if command.both else None),
        ("by", None if command.by == "user" else command.by),
    ):  # fmt: skip
        if value is not None:
            said[key] = value
    prompt = {} if command.prompt is None else prompt_json(command.prompt)
    return {**said, **prompt, **command.said}


def parse_command(said: Any, where: str = "the command") -> StudioCommand:
    """Read a command without trust.

    Args:
        said: JSON: ``{"command": "prompt", "frame": 12, "points": [[x, y]], "labels": [1]}``.
        where: what it was read from, for messages.

    Raises:
        InputError: in one line.
    """
    if not isinstance(said, dict):
        raise InputError(f"{where} is no JSON object; expected one with a key 'command'")
    kind = said.get("command")
    if kind not in (*EDITS, *NO_EDITS):
        given = short(str(kind), 30)
        raise InputError(f"{where}: no command {given!r}; expected {', '.join(EDITS + NO_EDITS)}")
    allowed = _KEYS.get(kind, set())
    for key in said:
        if key not in allowed | _ANY:
            expected = ", ".join(sorted(allowed)) or "nothing more"
            raise InputError(
                f"{where}: {kind} takes no {short(str(key), 30)!r}; expected {expected}"
            )
    frame = _whole(said, "frame", where, _LAST_FRAME)
    object_id = _whole(said, "object", where, _LAST_ID)
    other = _whole(said, "other", where, _LAST_ID)
    name = _name(said.get("name"), where)
    by = "detector" if said.get("by") == "detector" else "user"
    if kind not in EDITS:
        extra = {key: said[key] for key in allowed & set(said) - {"frame"}}
        if kind == "ask":
            _name(said.get("question"), where, "question", 500)
        return StudioCommand(kind, frame, object_id if kind == "undo" else None, said=extra)
    if kind != "prompt" and object_id is None:
        raise InputError(f"{where}: {kind} needs 'object', the number of one")
    if kind == "merge" and other is None:
        raise InputError(f"{where}: merge needs 'other', the object that is to become part")
    if kind == "rename" and name is None:
        raise InputError(f"{where}: rename needs 'name'")
    prompt = None
    if kind == "prompt":
        if frame is None:
            raise InputError(f"{where}: a prompt needs 'frame', the number of the frame you saw")
        prompt = _prompt(said, where)
    direction = said.get("direction", "forward")
    if direction not in ("forward", "both"):
        raise InputError(f"{where}: direction is {short(str(direction))!r}; expected forward, both")
    return StudioCommand(kind, frame, object_id, name, prompt, other, direction == "both", by)


def _whole(said: Mapping[str, Any], key: str, where: str, most: int) -> int | None:
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InputError(f"{where}: {key} is {short(repr(value), 30)}; expected a number from 0")
    return value


def _name(value: Any, where: str, what: str = "name", longest: int = LONGEST_NAME) -> str | None:
    if value is None and what == "name":
        return None
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > longest or not text.isprintable():
        raise InputError(f"{where}: {what} must be text of 1 to {longest} letters on one line")
    return text


def _prompt(said: Mapping[str, Any], where: str) -> Prompt:
    try:
        box = said.get("box")
        if box is not None:
            x, y, width, height = _numbers(box, 4)
            if not (width > 0 and height > 0):
                raise InputError("a box is x, y, width, height, with width and height above 0")
            box = np.array([x, y, x + width, y + height], np.float32)
        points = said.get("points")
        if points is not None:
            if isinstance(points, str) or not 0 < len(points) <= _MOST_POINTS:
                raise InputError(f"points: expected 1 to {_MOST_POINTS} of [x, y]")
            points = np.array([_numbers(point, 2) for point in points], np.float32)
        mask = said.get("mask")
        if mask is not None:
            from vision_mem.formats.rle import read_mask  # with torch, which help does not need

            height, width = (int(v) for v in _numbers(mask["size"], 2))
            if not (0 < height <= 16384 and 0 < width <= 16384):
                raise InputError("mask: its size is out of all bounds")
            mask = read_mask(str(mask["counts"]), (height, width)).mask(0)
        labels = said.get("labels")
        if labels is not None and not all(label in (0, 1) for label in labels):
            raise InputError("labels: expected 1 (this) or 0 (not this) for each point")
        return Prompt(box=box, points=points, labels=labels, mask=mask)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        why = str(error) if isinstance(error, InputError) else "box, points or mask cannot be read"
        raise InputError(f"{where}: {short(why, 200)}") from None


def _numbers(values: Any, count: int) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise InputError(f"{short(repr(values), 30)} is not {count} numbers")
    numbers = [float(value) for value in values]
    if not all(abs(value) < 1e7 for value in numbers):
        raise InputError("a number is out of all bounds")
    return numbers


def read_log(path: Path) -> History:
    """The commands of a run, taken in one after the other.

    Raises:
        InputError: for a damaged line, or a command that makes no sense where it stands.
    """
    history = History()
    for number, said in json_rows(path):
        where = f"{path} line {number}"
        command = parse_command(said, where)
        try:
            if command.kind in (*EDITS, "undo", "redo"):
                history.apply(command)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return history


def log_line(command: StudioCommand, time_s: float) -> str:
    """A line of ``commands.jsonl``."""
    return json.dumps(command_json(command) | {"time_s": round(time_s, 3)}, ensure_ascii=False)
