"""ODV-Bench: questions about driving videos.

Source: specs/savemem.md 4.3; layout as StreamForest's evaluation reads and logs it. No copy of the
set was at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from vision_mem.errors import InputError
from vision_mem.evaluation.videoqa.datasets import prompts
from vision_mem.evaluation.videoqa.datasets.json_fields import Fields, parse_rows, safe_path
from vision_mem.evaluation.videoqa.records import CHOICE, Query, Reply, distinct

ANNOTATIONS = ("odv_bench.json", "odvbench.json", "ODV-Bench.json")
_LETTERS = "ABCDEFGHIJ"
_RESPONSES = ("response", "pred_answer", "prediction", "pred", "output")
_LOGGED = "odvbench_accuracy"  # what the evaluation's own logs keep of a question


def read_annotations(text: str, where: str) -> tuple[Query, ...]:
    """The questions of one list of entries, see ``VideoQaSet``."""
    found = []
    names = _Names()
    for value, place in parse_rows(text, where):
        fields = Fields(value, place)
        name, video = names.of(fields), safe_path(fields.text("video"), place)
        options, letter = fields.texts("candidates"), _letter(fields)
        found.append(
            Query(
                name, name, _task(fields), fields.text("task"), CHOICE,
                prompts.choice(fields.text("question"), options), letter, video,
                fields.seconds("end"),
                fields.seconds("start") if fields.has("start") else 0.0, source=fields.values,
            )
        )  # fmt: skip
    return distinct(found, where)


class _Names:
    """Names for entries that have none: video and end, counted where several are alike."""

    def __init__(self) -> None:
        self._met: Counter[str] = Counter()

    def of(self, fields: Fields) -> str:
        end = fields.seconds("end") if fields.has("end") else 0.0
        name = f"{fields.text('video').rsplit('.', 1)[0]}@{end:g}"
        self._met[name] += 1
        return name if self._met[name] == 1 else f"{name}#{self._met[name]}"


def _task(fields: Fields) -> str:
    """``subtask`` where there is one."""
    return fields.text("subtask") if fields.values.get("subtask") else fields.text("task")


def _letter(fields: Fields) -> str:
    options, right = fields.texts("candidates"), fields.text("answer")
    if right not in options or not 2 <= len(options) <= len(_LETTERS):
        raise InputError(
            f"{fields.where}: the answer {right!r} is none of {len(options)} candidates"
        )
    return _LETTERS[options.index(right)]


def read_replies(text: str, where: str) -> Iterator[Reply]:
    """Entries of the set with an answer each, a list or one a line, or the evaluation's log.

    See ``VideoQaSet``.
    """
    names = _Names()
    for number, (value, place) in enumerate(parse_rows(text, where), 1):
        fields = Fields(value, place)
        if fields.has(_LOGGED):
            logged = Fields(fields.values[_LOGGED], place)
            name, truth = str(number), logged.values.get("gt_answer") or "none"
            document = fields.values.get("doc")
            if isinstance(document, dict) and "video" in document:
                name = names.of(Fields(document, place))
            fields = logged
        else:
            name, truth = names.of(fields), _letter(fields)
        key = next((each for each in _RESPONSES if fields.has(each)), _RESPONSES[0])
        response, listed = fields.response(key)
        group = fields.text("task")
        yield Reply(name, name, _task(fields), group, CHOICE, str(truth), response, listed)


def result_file(queries: Sequence[Query], said: Mapping[str, str | None]) -> list[Any]:
    """A result file, see ``VideoQaSet``; the answers stand under ``response``."""
    return [{**deepcopy(query.source), "response": said[query.name]} for query in queries]
