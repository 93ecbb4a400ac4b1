"""How questions of the sets are put to a model: the meaning of the official prompts, our words."""

from __future__ import annotations

from collections.abc import Sequence

from vision_mem.models.vlm.protocol import Question

LETTER_ONLY = "Reply with the letter of the best option and nothing else."
NUMBER_ONLY = (
    "Each completed action counts once, whoever performs it. Reply with one number and nothing "
    "else."
)
YES_OR_NO = "Reply with Yes or No and nothing else."
WORDS_ONLY = "The moment has come. Reply with the words that are to be said and nothing else."
_STEPS = "The video shows a task that is done in steps."
_NOT_ITSELF = "The question itself is not to be answered."


def choice(question: str, options: Sequence[str]) -> Question:
    """Which of the options is right?"""
    return Question(question, tuple(options), LETTER_ONLY)


def repetitions(activity: str) -> Question:
    """How often was something done so far? Task REC of OVO-Bench."""
    return Question(
        f"How many times in all, until now, did they {activity}?", instruction=NUMBER_ONLY
    )


def current_step(step: str) -> Question:
    """Is a step of a task being carried out right now? Task SSR of OVO-Bench."""
    return Question(
        f"Is this step being carried out right now: {step}", instruction=f"{_STEPS} {YES_OR_NO}"
    )


def enough_seen(question: str) -> Question:
    """Can a question be answered from what was seen so far? Task CRR of OVO-Bench."""
    return Question(
        f"Is what was seen so far, above all at the end, enough to answer this: {question}",
        instruction=f"{_NOT_ITSELF} {YES_OR_NO}",
    )


def moment_come(task: str, words: str) -> Question:
    """Is now the moment to say something? Proactive output of StreamingBench."""
    return Question(
        f'Task: {task} Has the moment come, right now, to say "{words}"?', instruction=YES_OR_NO
    )


def words_now(task: str) -> Question:
    """What is to be said, now that its moment has come?"""
    return Question(task, instruction=WORDS_ONLY)
