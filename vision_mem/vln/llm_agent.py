"""Let a language model drive: what is seen goes into a prompt, an action comes out of the answer.

The way of VELMA and FLAME: the instruction, then one numbered line an action with what was seen,
then the question for the next action. What the memory knows of the landmarks that the instruction
names is written in, with distance and side. Any function from text to text is a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, ModelError
from vision_mem.vln.action_spaces import AROUND, FORWARD, LEFT, RIGHT, STOP
from vision_mem.vln.environment import StreetTask, StreetView
from vision_mem.vln.graph import bearing_of, turn_between
from vision_mem.vln.instructions import read_instruction
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import LandmarkHit, Sight, StreetMemory, word_vector

Complete = Callable[[str], str]
_HEAD = """You walk through a city and follow an instruction, one action at a time.
Actions: {actions}.
Instruction: {text}
"""
_ASKED = "Next action:"
_ORDINARY = {3: "three", 4: "four", 5: "five", 6: "six"}


@dataclass(frozen=True)
class LanguageConfig:
    """What goes into the prompt.

    Attributes:
        lines: latest steps that are written out; older ones are counted only.
        threshold: least cosine with a landmark's name for a sight without a word.
        memory_m: remembered landmarks within so many metres are mentioned.
        memories: of each landmark named, so many at most (the paper: 3).
        learn: write what is seen into the memory too.
    """

    lines: int = 60
    threshold: float = 0.62
    memory_m: float = 60.0
    memories: int = 3
    learn: bool = True

    def __post_init__(self) -> None:
        if self.lines < 1 or self.memories < 0 or not self.memory_m >= 0:
            raise InputError("expected lines 1 or more, memories and memory_m 0 or more")


class LanguageAgent:
    """Asks a language model for each action, and takes the first one that its answer names.

    Attributes:
        prompt: the latest one.
        unread: answers of this task in which no action could be read; forward was taken.
    """

    def __init__(
        self,
        complete: Complete,
        config: LanguageConfig | None = None,
        memory: StreetMemory | None = None,
        *,
        encode: Callable[[str], NDArray[np.float32]] = word_vector,
    ) -> None:
        self._complete, self.config = complete, config or LanguageConfig()
        self._memory, self._encode = memory, encode
        self.begin(StreetTask("", ""))

    def begin(self, task: StreetTask) -> None:
        """A new prompt."""
        named = [step.landmark for step in read_instruction(task.text) if step.landmark]
        self._named = list(dict.fromkeys([*task.landmarks, *named]))
        self._text = " ".join(task.text.split())
        self._log: list[str] = []
        self._seen = ""
        self._begun = False
        self._memory_words = ""
        self.prompt, self.unread = "", 0
        if isinstance(self._memory, LongMemory):
            self._memory.begin()

    def act(self, view: StreetView) -> str:
        """Ask, read the answer.

        Raises:
            ModelError: when the model fails; one line.
        """
        if not self._begun or view.came_by is not None:
            self._begun = True
            if self.config.learn and self._memory is not None:
                self._memory.write(view.visit())
        self._seen = self._describe(view)
        self.prompt = self._write_prompt(view)
        try:
            answer = self._complete(self.prompt)
        except Exception as error:  # whatever a user's function does
            reason = " ".join(str(error).split())[:120] or "no reason given"
            raise ModelError(
                f"the language model failed ({type(error).__name__}): {reason}"
            ) from error
        action = read_action(answer, view.actions)
        if action is None:
            self.unread += 1
            action = FORWARD
        self._log.append(f"{len(self._log) + 1}. {self._seen}{action}")
        return action

    def _write_prompt(self, view: StreetView) -> str:
        head = _HEAD.format(actions=", ".join(view.actions), text=self._text)
        older = len(self._log) - self.config.lines
        if older > 0:
            head += f"({older} earlier steps)\n"
        lines = [*self._log[max(older, 0) :], f"{len(self._log) + 1}. {self._seen}{_ASKED}"]
        return head + "\n".join(lines)

    def _describe(self, view: StreetView) -> str:
        parts = []
        if len(view.exits) > 2 and view.came_by is not None:
            ways = _ORDINARY.get(len(view.exits), str(len(view.exits)))
            parts.append(f"There is a {ways}-way intersection.")
        elif len(view.exits) == 1:
            parts.append("The street ends here.")
        for sight in view.sights:
            word = self._word_of(sight)
            if word:
                parts.append(f"There is {word} {_side(view, sight.position)}.")
        parts += self._remembered(view)
        return " ".join([*dict.fromkeys(parts), ""])

    def _word_of(self, sight: Sight) -> str:
        if sight.word:
            return sight.word
        likeness = {name: float(self._encode(name) @ sight.vector) for name in self._named}
        best = max(likeness, key=lambda name: likeness[name], default="")
        return best if best and likeness[best] >= self.config.threshold else ""

    def _remembered(self, view: StreetView) -> list[str]:
        if self._memory is None or self.config.memories == 0:
            return []
        found = []
        for name in self._named:
            hits: list[LandmarkHit] = self._memory.find(
                self._encode(name), view.position, self.config.memory_m, self.config.memories
            )
            for hit in hits:
                if hit.score >= self.config.threshold:
                    far = float(np.hypot(*(hit.position - view.position)))
                    found.append(
                        f"You remember {name} {_side(view, hit.position)}, {far:.0f} metres away."
                    )
        return found


def read_action(answer: str, actions: tuple[str, ...]) -> str | None:
    """The first action named in an answer, such as ``Turn left.`` or ``turn_around``; or None."""
    text = answer.lower().replace("-", "_").replace("turn around", AROUND)
    text = text.replace("turnaround", AROUND)
    known = {FORWARD, LEFT, RIGHT, STOP, AROUND} & set(actions)
    return next((word for word in re.findall(r"[a-z_]+", text) if word in known), None)


def _side(view: StreetView, position: NDArray[np.float64]) -> str:
    heading = view.heading if view.came_by is None else view.came_by
    turn = turn_between(heading, bearing_of(position - view.position))
    if abs(turn) <= 30.0:
        return "ahead"
    if abs(turn) >= 150.0:
        return "behind you"
    behind = " slightly behind you" if abs(turn) > 100.0 else ""
    return f"on your {'right' if turn > 0 else 'left'}{behind}"
