"""Route instructions: written from steps, and read back into steps.

What ``write_instruction`` writes, ``read_instruction`` reads exactly. Text by people is read as
far as plain rules go: turns, counted junctions, landmarks at corners, where to stop. The words
are those of Touchdown and Map2Seq. Source: mem4nav specification, section 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vision_mem.errors import InputError

ACTIONS = ("left", "right", "straight", "around", "stop", "find")


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        action: ``left``, ``right``, ``straight``, ``around`` at a junction; ``stop``; or ``find``:
            get to a landmark by any way.
        landmark: words that name what is at the corner, or where to stop; empty when not said.
        count: the junction at which to act, counted from the step before: 1 is the next one; 0
            when the text does not count. For ``stop``: junctions to cross before.
    """

    action: str
    landmark: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise InputError(f"no step {self.action!r}; there are {', '.join(ACTIONS)}")
        if self.count < 0:
            raise InputError(f"step counts {self.count} junctions; expected 0 or more")


_ORDINALS = {
    "next": 1, "first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3,
    "fourth": 4, "4th": 4, "fifth": 5, "5th": 5, "sixth": 6, "6th": 6,
}  # fmt: skip
_BY_NUMBER = dict(enumerate(("first", "second", "third", "fourth", "fifth", "sixth"), 1))
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_TURNS = {
    "left": "Turn left", "right": "Turn right", "straight": "Go straight", "around": "Turn around",
}  # fmt: skip


def write_instruction(steps: Sequence[Step]) -> str:
    """Steps as English sentences; landmarks are words without punctuation.

    Raises:
        InputError: for a step that the grammar has no sentence for.
    """
    return " ".join(_sentence(step) for step in steps)


def _sentence(step: Step) -> str:
    if re.search(r"[^\w' -]", step.landmark) or step.count > 6:
        raise InputError(f"no sentence for {step}; expected plain words and at most six junctions")
    if step.action == "find":
        return f"Find the {step.landmark}."
    if step.action == "stop":
        crossed = f" after the {_BY_NUMBER[step.count]} light" if step.count else ""
        place = f" at the {step.landmark}" if step.landmark else ""
        return f"Stop{place}{crossed}."
    which = f"{_BY_NUMBER[step.count]} light" if step.count else "light"
    corner = f" with the {step.landmark} on the corner" if step.landmark else ""
    return f"{_TURNS[step.action]} at the {which}{corner}."


_LONGEST = 4_000  # characters of an instruction that are read
_JUNCTION = r"(?:lights?|intersections?|junctions?|corners?|streets?|crossings?|stop signs?)"
_EXACT = [
    (re.compile(r"find the ([\w' -]+)"), "find"),
    (re.compile(r"stop(?: at the ([\w' -]+?))?(?: after the (\w+) light)?"), "stop"),
    (
        re.compile(
            r"(turn left|turn right|go straight|turn around) at the (?:(\w+) )?light"
            r"(?: with the ([\w' -]+) on the corner)?"
        ),
        "turn",
    ),
]
_FACING = re.compile(
    r"\b(?:turn|orient|align|position|stand|rotate|face)\b[^.]*?"
    r"\b(?:so|yourself|to face|such|until)\b"
)
_TURN = re.compile(
    r"\b(?:turn|turning|take|taking|make|making|go|going|hang|bear|veer|head)\b"
    r"(?:(?!\bon (?:your|the)\b|\bto (?:your|the)\b|\bpast\b|\bthrough\b)[^.;])*?"
    r"\b(left|right)\b"
)
_AROUND = re.compile(r"\b(?:turn around|u-turn|make a u turn|turn back)\b")
_THROUGH = re.compile(r"\b(?:through|past|pass|passing|cross|crossing|straight at|ignore)\b")
_COUNTED = re.compile(
    rf"\b(?:(next|first|1st|second|2nd|third|3rd|fourth|4th|fifth|5th|sixth|6th|the|a|an|another)\s+)?"
    rf"(?:(one|two|three|four|five|six|\d)(?![- ]way)\s+)?(?:sets? of\s+)?(?:\w+\s+)?{_JUNCTION}\b"
)
_CORNER = re.compile(r"\bwith (?:the |a |an )?([\w' -]+?) (?:on|at|to) (?:the|your)\b")
_STOP_AT = re.compile(
    r"\bstop\b[^.;]*?\b(?:at|by|near|next to|in front of|past|before|after) "
    r"(?:the |a |an )?([\w' -]+)"
)


def read_instruction(text: str) -> list[Step]:
    """Steps of an instruction, from ``write_instruction`` or in free English.

    Free text always ends with a ``stop`` or ``find``.
    """
    sentences = [part.strip() for part in re.split(r"[.!?]+(?:\s|$)", text) if part.strip()]
    steps: list[Step] = []
    for sentence in sentences:
        step = _exact(sentence.lower())
        if step is None:
            return _read_free(text)
        steps.append(step)
    return steps or [Step("stop")]


def _exact(sentence: str) -> Step | None:
    for pattern, kind in _EXACT:
        found = pattern.fullmatch(sentence)
        if found is None:
            continue
        if kind == "find":
            return Step("find", found[1])
        if kind == "stop":
            if found[2] is not None and found[2] not in _ORDINALS:
                return None
            return Step("stop", found[1] or "", _ORDINALS.get(found[2] or "", 0))
        if found[2] is not None and found[2] not in _ORDINALS:
            return None
        return Step(found[1].split()[1], found[3] or "", _ORDINALS.get(found[2] or "", 0))
    return None


def _read_free(text: str) -> list[Step]:
    """Clause by clause: junctions crossed add up until a turn uses them."""
    steps: list[Step] = []
    crossed = reached = 0
    stop = ""
    clauses = re.split(r"[.;,!?]+\s*|\band then\b|\bthen\b|\band\b", text[:_LONGEST].lower())
    for clause in clauses:
        number = _junctions_in(clause)
        if _AROUND.search(clause):
            steps.append(Step("around", "", crossed + reached))
            crossed = reached = 0
            continue
        turn = None if _FACING.search(clause) else _TURN.search(clause)
        if turn is not None:
            corner = _CORNER.search(clause)
            at = number or reached or 1
            steps.append(Step(turn[1], corner[1] if corner else "", crossed + at))
            crossed = reached = 0
            continue
        if number and not _FACING.search(clause):
            if _THROUGH.search(clause):
                crossed, reached = crossed + number, 0
            else:
                reached = number
        place = _STOP_AT.search(clause)
        if place is not None:
            stop = place[1].strip()
    return [*steps, Step("stop", stop, crossed)]


def _junctions_in(clause: str) -> int:
    """Which junction, or how many, a clause speaks of; 0 for none."""
    found = _COUNTED.search(clause)
    if found is None:
        return 0
    if found[2]:
        return _NUMBERS.get(found[2], 0) or int(found[2]) if found[2] != "0" else 0
    return _ORDINALS.get(found[1] or "", 1)
