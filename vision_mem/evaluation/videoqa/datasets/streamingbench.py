"""StreamingBench: its JSON and CSV annotations, its result files, its tasks.

Source: specs/savemem.md 4.2; layout of ``THUNLP-MT/StreamingBench`` and of its data set.
"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from vision_mem.errors import InputError
from vision_mem.evaluation.videoqa.datasets import prompts
from vision_mem.evaluation.videoqa.datasets.json_fields import Fields, parse_rows, safe_path
from vision_mem.evaluation.videoqa.records import CHOICE, OUTPUT, Poll, Query, Reply, distinct

GROUPS: Mapping[str, tuple[str, ...]] = {
    "realtime": (
        "Object Recognition", "Object Perception", "Action Recognition", "Action Perception",
        "Text-Rich Understanding", "Clips Summarize", "Clips Summarization",
        "Attribute Recognition", "Attribute Perception", "Spatial Understanding", "Counting",
        "Event Understanding", "Causal Reasoning", "Prospective Reasoning",
    ),
    "omni": (
        "Emotion Recognition", "Scene Understanding", "Source Discrimination",
        "Multimodal Alignment",
    ),
    "contextual": (
        "Anomaly Context Understanding", "Misleading Context Understanding",
        "Misleading Context Recognition", "Anomaly Context Recognition",
        "Sequential Question Answering", "Proactive Output",
    ),
}  # fmt: skip
ANNOTATIONS = (
    "questions_real.json", "questions_omni.json", "questions_sqa.json",
    "questions_proactive.json", "Proactive_Output.csv",
    "Real_Time_Visual_Understanding.csv",
    "Omni_Source_Understanding.csv", "Contextual_Understanding.csv",
    "Sequential_Question_Answering.csv",
)  # fmt: skip
_GROUP_OF = {task.lower(): group for group, tasks in GROUPS.items() for task in tasks}
_OTHER = "other"
_LETTERS = "ABCDEFGH"
_LETTERED = re.compile(r"\s*\(?([A-H])\s*[.):]\s*")
_CSV_FIELDS = {"question_id", "task_type", "question", "time_stamp"}
_CHOICE_FIELDS = {"answer", "options"}
_OUTPUT_FIELDS = {"ground_truth_time_stamp", "ground_truth_output"}
_POLLED_S = 4
"""Seconds after the right moment until which it is asked whether it has come."""
# What a question has in the set itself; the answers stand under the name of the model.
_OF_THE_SET = {
    "task_type", "question", "time_stamp", "answer", "options", "required_ability", "audio_path",
    "ground_truth_time_stamp", "ground_truth_output", "question_id", "video_path", "video",
    "results", "frames_required", "temporal_clue_type", "video_categories", "time", "cost", "id",
}  # fmt: skip
_USUAL = ("response", "model_answer", "prediction", "pred")


def group_of(task: str) -> str:
    """The group of a task; ``other`` for one that is not known."""
    return _GROUP_OF.get(task.lower(), _OTHER)


def read_annotations(text: str, where: str) -> tuple[Query, ...]:
    """The questions of a ``questions_*.json`` or of a CSV, see ``VideoQaSet``.

    Those with neither options nor a moment are left out.
    """
    rows = _csv_rows(text, where) if where.lower().endswith(".csv") else _json_rows(text, where)
    found = []
    for name, video, fields in rows:
        if all(fields.has(key) for key in _OUTPUT_FIELDS):
            found.append(_output_query(name, video, fields))
            continue
        if not fields.has("options"):
            continue
        options, letter = _options(fields), fields.text("answer").strip()
        if letter not in _LETTERS[: len(options)]:
            raise InputError(
                f"{fields.where}: answer is {letter!r} of {len(options)} options; expected a letter"
            )
        task = fields.text("task_type")
        found.append(
            Query(
                name, name, task, group_of(task), CHOICE,
                prompts.choice(fields.text("question"), options), letter, video,
                fields.seconds("time_stamp"), source=fields.values,
            )
        )  # fmt: skip
    return distinct(found, where)


def _output_query(name: str, video: str, fields: Fields) -> Query:
    """Words that are to be said when something happens."""
    task, words = fields.text("question"), fields.text("ground_truth_output")
    kind, asked = fields.text("task_type"), fields.seconds("time_stamp")
    until = fields.seconds("ground_truth_time_stamp") + _POLLED_S
    if until < asked + 1:
        raise InputError(
            f"{fields.where}: asked at {asked:g} s, long after the moment "
            f"{until - _POLLED_S:g} s; expected it before"
        )
    return Query(
        name, name, kind, group_of(kind), OUTPUT, prompts.moment_come(task, words), words, video,
        asked, poll=Poll(until, prompts.words_now(task)), source=fields.values,
    )  # fmt: skip


def _options(fields: Fields) -> list[str]:
    """The options without their letters."""
    given = fields.values["options"]
    if isinstance(given, str):
        try:
            listed = ast.literal_eval(given)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            listed = None
        fields = Fields({"options": listed}, fields.where)
    options = fields.texts("options")
    if not 2 <= len(options) <= len(_LETTERS):
        raise InputError(f"{fields.where}: {len(options)} options; expected 2 to {len(_LETTERS)}")
    return [_LETTERED.sub("", option, count=1) or option for option in options]


def _csv_rows(text: str, where: str) -> Iterator[tuple[str, str, Fields]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        given = set(reader.fieldnames or ())
        needed = _CSV_FIELDS | (_OUTPUT_FIELDS if given & _OUTPUT_FIELDS else _CHOICE_FIELDS)
        if not given >= needed:
            lacking = ", ".join(sorted(needed - given))
            raise InputError(f"{where} has no column {lacking}; is it a CSV of StreamingBench?")
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{where} is no CSV: {error}") from None
    for number, row in enumerate(rows, 2):
        fields = Fields({k: v for k, v in row.items() if k is not None}, f"{where}, row {number}")
        name = fields.text("question_id")
        yield name, _csv_video(name, fields.where), fields


def _csv_video(name: str, where: str) -> str:
    """``sample_12/video.mp4`` of ``Real-Time Visual Understanding_sample_12_3``."""
    parts = name.rsplit("_", 2)
    if len(parts) < 3 or not parts[1].isdigit():
        raise InputError(f"{where}: question_id is {name!r}; expected ..._sample_12_3")
    return f"sample_{parts[1]}/video.mp4"


def _json_rows(text: str, where: str) -> Iterator[tuple[str, str, Fields]]:
    """Questions with a name and video each, from entries with lists of them or one by one."""
    met: Counter[str] = Counter()
    for value, place in _flat(text, where):
        entry = Fields(value, place)
        if entry.has("question_id") and not entry.has("questions"):
            name = entry.text("question_id")
            known = entry.has("video_path") or entry.has("video")
            yield name, _video(entry) if known else _csv_video(name, place), entry
            continue
        video = _video(entry)
        for question in entry.objects("questions") if entry.has("questions") else [entry]:
            name = f"{video.removesuffix('.mp4')}@{question.text('time_stamp')}"
            met[name] += 1
            yield name if met[name] == 1 else f"{name}#{met[name]}", video, question


def _flat(text: str, where: str) -> Iterator[tuple[Any, str]]:
    """Entries, also of lists of them: questions that follow from each other lie in one list."""
    for value, place in parse_rows(text, where):
        if isinstance(value, list):
            yield from ((each, f"{place}, {number}") for number, each in enumerate(value, 1))
        else:
            yield value, place


def _video(entry: Fields) -> str:
    name = "video_path" if entry.has("video_path") or not entry.has("video") else "video"
    return safe_path(entry.text(name), entry.where)


def read_replies(text: str, where: str, model: str) -> Iterator[Reply]:
    """Annotations with the answers added to each question, see ``VideoQaSet``."""
    key = None
    for name, _, fields in _json_rows(text, where):
        key = key or _answers_under(fields, model)
        if fields.has("ground_truth_time_stamp"):
            yield _output(name, fields, key)
            continue
        task, letter = fields.text("task_type"), fields.text("answer").strip()
        response, listed = None, False
        if key is not None and fields.has(key):
            response, listed = fields.response(key)
        yield Reply(name, name, task, group_of(task), CHOICE, letter, response, listed)


def _output(name: str, fields: Fields, key: str | None) -> Reply:
    """What was said last of a dialogue, and when."""
    task, words = fields.text("task_type"), fields.text("ground_truth_output")
    known = fields.values.get(key) if key is not None else None
    if known is None:
        return Reply(name, name, task, group_of(task), OUTPUT, words, None)
    said = Fields(known, f"{fields.where}, {key}").objects("dialog_history")
    if not said:
        return Reply(name, name, task, group_of(task), OUTPUT, words, None)
    late = said[-1].seconds("time") - fields.seconds("ground_truth_time_stamp")
    content, _ = said[-1].response("content")
    return Reply(name, name, task, group_of(task), OUTPUT, words, content, late_s=late)


def _answers_under(fields: Fields, model: str) -> str | None:
    """The field of the answers; None where this question has none."""
    for name in (model, *_USUAL):
        if fields.has(name):
            return name
    found = [name for name in fields.values if name not in _OF_THE_SET]
    if len(found) > 1:
        raise InputError(f"{fields.where} has answers of {', '.join(found)}; say which with --name")
    return found[0] if found else None


def result_file(queries: Sequence[Query], said: Mapping[str, Any]) -> list[Any]:
    """A result file, see ``VideoQaSet``; the answers stand under ``response``.

    Of outputs they are the dialogue: objects with ``role``, ``content`` and ``time`` in seconds.
    """
    rows = [{**deepcopy(query.source), "response": _stored(said[query.name])} for query in queries]
    if all("question_id" in row for row in rows):
        return rows
    # Two questions of one moment are told apart by their order in the set.
    return [{"video_path": queries[0].video, "questions": rows}]


def _stored(said: Any) -> Any:
    return {"dialog_history": said} if isinstance(said, list) else said
