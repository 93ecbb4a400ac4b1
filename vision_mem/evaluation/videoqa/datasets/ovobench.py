"""OVO-Bench: its annotation file, its result files, its tasks.

Source: specs/savemem.md 4.1; layout of ``JoeLeelyf/OVO-Bench`` at c34093f.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from vision_mem.errors import InputError
from vision_mem.evaluation.videoqa.datasets import prompts
from vision_mem.evaluation.videoqa.datasets.json_fields import Fields, safe_path
from vision_mem.evaluation.videoqa.records import CHOICE, COUNT, YES_NO, Query, Reply, distinct
from vision_mem.models.vlm.protocol import Question
from vision_mem.text import parse_json

GROUPS: Mapping[str, tuple[str, ...]] = {
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "backward": ("EPM", "ASI", "HLD"),
    "forward": ("REC", "SSR", "CRR"),
}
ANNOTATIONS = ("ovo_bench_new.json", "ovo_bench.json")
_GROUP_OF = {task: group for group, tasks in GROUPS.items() for task in tasks}
_KINDS = {"REC": COUNT, "SSR": YES_NO, "CRR": YES_NO}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_annotations(text: str, where: str) -> tuple[Query, ...]:
    """The questions of ``ovo_bench_new.json``, see ``VideoQaSet``."""
    entries = parse_json(text, where, unique=False)
    if not isinstance(entries, list):
        raise InputError(f"{where} is no list; expected OVO-Bench's annotations: [{{'id': 0, ...")
    return queries_of(entries, where)


def queries_of(entries: Sequence[Any], where: str) -> tuple[Query, ...]:
    """The questions of entries as they stand in the annotation file; ``where`` is for messages.

    Raises:
        InputError: when one is none, with its number.
    """
    found: list[Query] = []
    for number, entry in enumerate(entries, 1):
        fields = Fields(entry, f"{where}, entry {number}")
        found += _choices(fields) if _group(fields) != "forward" else _moments(fields)
    return distinct(found, where)


def _group(fields: Fields) -> str:
    task = fields.text("task")
    if task not in _GROUP_OF:
        known = ", ".join(_GROUP_OF)
        raise InputError(f"{fields.where}: task is {task!r}; expected one of {known}")
    return _GROUP_OF[task]


def _choices(fields: Fields) -> list[Query]:
    options = fields.texts("options")
    right = fields.whole("gt")  # the text under "answer" differs from this one in many entries
    if not 2 <= len(options) <= len(_LETTERS) or not 0 <= right < len(options):
        raise InputError(
            f"{fields.where}: gt is {right} of {len(options)} options; expected the number of one "
            "of at least two"
        )
    name, task = fields.text("id"), fields.text("task")
    return [
        Query(
            name, name, task, _GROUP_OF[task], CHOICE,
            prompts.choice(fields.text("question"), options), _LETTERS[right],
            safe_path(fields.text("video"), fields.where), fields.seconds("realtime"),
            source=fields.values,
        )
    ]  # fmt: skip


def _moments(fields: Fields) -> list[Query]:
    name, task = fields.text("id"), fields.text("task")
    video = safe_path(fields.text("video"), fields.where)
    return [
        Query(
            f"{name}_{place}", name, task, "forward", _KINDS[task], _question(task, fields, moment),
            _truth(task, moment), video, moment.seconds("realtime"), place=place,
            source=fields.values,
        )
        for place, moment in enumerate(fields.objects("test_info"))
    ]  # fmt: skip


def _question(task: str, fields: Fields, moment: Fields) -> Question:
    if task == "REC":
        return prompts.repetitions(fields.text("activity"))
    if task == "SSR":
        return prompts.current_step(moment.text("step"))
    return prompts.enough_seen(fields.text("question"))


def _truth(task: str, moment: Fields) -> str:
    if task == "REC":
        return str(moment.whole("count"))
    return "No" if moment.whole("type") == 0 else "Yes"


def read_replies(text: str, where: str) -> Iterator[Reply]:
    """Lists ``backward``, ``realtime`` and ``forward`` of a result file, see ``VideoQaSet``."""
    top = parse_json(text, where, unique=False)
    if not isinstance(top, dict) or not any(group in top for group in GROUPS):
        raise InputError(
            f"{where} is no result file of OVO-Bench; expected an object with the lists "
            f"{', '.join(GROUPS)}"
        )
    fields = Fields(top, where)
    for group in GROUPS:
        for entry in fields.objects(group) if fields.has(group) else ():
            # A task belongs to the list that it stands in, as in the official script.
            if (_group(entry) == "forward") != (group == "forward"):
                raise InputError(f"{entry.where}: {entry.text('task')} is not a {group} task")
            yield from _stored(entry) if group == "forward" else [_stored_choice(entry, group)]


def _stored_choice(fields: Fields, group: str) -> Reply:
    name, task = fields.text("id"), fields.text("task")
    truth = fields.text("ground_truth")
    if len(truth) != 1 or truth not in _LETTERS:
        raise InputError(f"{fields.where}: ground_truth is {truth!r}; expected a letter")
    response, listed = fields.response("response")
    return Reply(name, name, task, group, CHOICE, truth, response, listed)


def _stored(fields: Fields) -> Iterator[Reply]:
    name, task = fields.text("id"), fields.text("task")
    for place, moment in enumerate(fields.objects("test_info")):
        response, listed = moment.response("response")
        yield Reply(
            f"{name}_{place}", name, task, "forward", _KINDS[task], _truth(task, moment),
            response, listed,
        )  # fmt: skip


def result_file(queries: Sequence[Query], said: Mapping[str, str | None]) -> dict[str, Any]:
    """A result file as the official code writes it, for its own script too; see ``VideoQaSet``."""
    found: dict[str, list[Any]] = {group: [] for group in ("backward", "realtime", "forward")}
    items: dict[str, dict[str, Any]] = {}
    for query in queries:
        source = query.source
        if query.place is None:
            found[query.group].append(
                {
                    "id": source["id"], "video": source["video"], "task": query.task,
                    "question": source["question"], "response": said[query.name],
                    "ground_truth": query.truth,
                }
            )  # fmt: skip
            continue
        if query.item not in items:
            items[query.item] = dict(deepcopy(source))
            found["forward"].append(items[query.item])
        items[query.item]["test_info"][query.place]["response"] = said[query.name]
    return found


def clip_names(query: Query) -> list[str]:
    """Names of the ready-cut clip of a question, in ``chunked_videos``."""
    return [f"{query.name}.mp4"]
