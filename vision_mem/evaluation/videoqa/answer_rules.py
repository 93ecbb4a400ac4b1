"""What counts as a right answer: the rules of the official scorers, and stricter ones.

Pure functions from what a model said to right or wrong. ``None`` stands for "does not count": the
official scorers of StreamingBench and ODV-Bench leave questions without an answer out.
"""

from __future__ import annotations

import re

from vision_mem.evaluation.videoqa.records import CHOICE, COUNT, OUTPUT, Reply

_LATE_S = 2.0
_LETTER = re.compile(r"(?<![^\W_])([A-Z])(?![^\W_])")
_YES_NO = re.compile(r"(?<![^\W_])(yes|no|y|n)(?![^\W_])", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
# ODV-Bench's parser: a letter with a dot in front, else the first that stands alone.
_LEADING = re.compile(r"\s*([A-E])\.\s*\S", re.IGNORECASE)
_ALONE = re.compile(r"\b([A-E])\b", re.IGNORECASE)
_MARKS = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`,?!.]""")


def ovo_official(reply: Reply) -> bool:
    """Whether OVO-Bench's own script takes an answer as right; none at all is wrong.

    Choices: the letter occurs anywhere in the answer, case-sensitive. Counts: all digits of the
    answer in a row are the number. Yes and no: the answer is ``Y`` or ``N``, or the word occurs
    anywhere in it, case-sensitive.

    Source: specs/savemem.md 4.1.
    """
    said = reply.response
    if said is None:
        return False
    if reply.kind == CHOICE:
        return reply.truth in said
    if reply.kind == COUNT:
        return "".join(_NUMBER.findall(said)) == reply.truth
    return said == reply.truth[0] or reply.truth in said


def streaming_official(reply: Reply) -> bool | None:
    """Whether StreamingBench's own script takes an answer as right.

    Choices: the first character of the answer is the letter. Output: the last thing said holds the
    expected words, at most 2 s off the right moment. No answer does not count.

    Source: specs/savemem.md 4.2.
    """
    if reply.kind == OUTPUT:
        return None if reply.response is None else is_in_time(reply) and _says(reply)
    return None if not reply.response else reply.response[0] == reply.truth


def is_in_time(reply: Reply) -> bool:
    """Whether words were said at most 2 s off the right moment."""
    return abs(reply.late_s) <= _LATE_S


def _says(reply: Reply) -> bool:
    return reply.truth in (reply.response or "")


def odv_official(reply: Reply) -> bool | None:
    """Whether ODV-Bench's own scorer takes an answer as right.

    A leading ``B.`` with text after it; else the first letter A to E that stands alone once
    punctuation is gone. Empty answers do not count.

    Source: specs/savemem.md 4.3.
    """
    said = reply.response
    if not said:
        return None
    found = _LEADING.match(said) or _ALONE.search(_MARKS.sub(" ", said))
    return found is not None and found[1].upper() == reply.truth


def strict(reply: Reply) -> bool:
    """Whether an answer is right, by one rule for all sets.

    Choices: the first capital letter that stands alone. Counts: the only number in the answer.
    Yes and no: the first such word, in any case. No answer is wrong.
    """
    said = reply.response or ""
    if reply.kind == OUTPUT:
        return is_in_time(reply) and _says(reply)
    if reply.kind == CHOICE:
        letter = _LETTER.search(said)
        return letter is not None and letter[1] == reply.truth
    if reply.kind == COUNT:
        numbers = _NUMBER.findall(said)
        # As texts: nobody counts to a number of so many digits, and int() refuses thousands.
        return len(numbers) == 1 and (numbers[0].lstrip("0") or "0") == reply.truth
    word = _YES_NO.search(said)
    return word is not None and word[1][0].upper() == reply.truth[0]
