"""Result files in the formats of the sets of questions, generated to given counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CHOICES = {
    "OCR": "realtime", "ACR": "realtime", "ATR": "realtime", "STU": "realtime", "FPD": "realtime",
    "OJR": "realtime", "EPM": "backward", "ASI": "backward", "HLD": "backward",
}  # fmt: skip
MOMENTS = {"REC": 82, "SSR": 42, "CRR": 48}
"""Items of the forward tasks."""
TYPES = {"SSR": 423, "CRR": 144}
"""Moments of type 1 ("yes")."""
# Ways in which real models say B; the official rule takes them all.
_RIGHT = ("{0}", "{0}.", "{0}. a red car", " {0}", "The answer is {0}", "({0})", "**{0}**")
_WRONG = ("{0}", "{0}.", "{0}. a blue cup", "none of them", "")
_YES = {"Yes": ("Yes", "Yes.", "Y", "Yes, they are"), "No": ("No", "No.", "N", "Not yet; No")}


def write_ovo_results(
    folder: Path, tasks: Mapping[str, Mapping[str, Any]], *, lists: bool = False, seed: int = 0
) -> None:
    """Write the files of one model.

    Args:
        folder: gets the files.
        tasks: by their words: ``correct``, ``total``, ``null_responses`` and ``files``.
        lists: wrap each answer in a list, as two of the published folders do.
        seed: which questions are right, and how answers are put.
    """
    random = np.random.default_rng(seed)
    files: dict[str, dict[str, list[Any]]] = {}
    first = 0
    for task, counts in tasks.items():
        group = CHOICES.get(task, "forward")
        lists_of = {"backward": [], "realtime": [], "forward": []}
        content = files.setdefault(counts["files"][0], lists_of)
        rows = _rows(task, counts, random)
        for row in rows if lists else ():
            row["response"] = [row["response"]]
        if group == "forward":
            content[group] += _items(task, rows, first, random)
        else:
            content[group] += [
                {"id": first + number, "video": f"set/{number}.mp4", "task": task,
                 "question": "What is it?", **row}
                for number, row in enumerate(rows)
            ]  # fmt: skip
        first += len(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=4))


def _rows(task: str, counts: Mapping[str, Any], random: np.random.Generator) -> list[Any]:
    """Responses with their truths, as many right and as many lacking as said."""
    total, correct, nulls = counts["total"], counts["correct"], counts["null_responses"]
    kinds = ["right"] * correct + ["null"] * nulls + ["wrong"] * (total - correct - nulls)
    types = [1] * TYPES.get(task, 0) + [0] * (total - TYPES.get(task, 0))
    random.shuffle(kinds), random.shuffle(types)
    rows = []
    for kind, type_ in zip(kinds, types, strict=True):
        row, right, wrong = _truth(task, type_, random)
        said = {"right": right, "wrong": wrong, "null": None}[kind]
        rows.append({"response": said, **row})
    return rows


def _truth(task: str, type_: int, random: np.random.Generator) -> tuple[dict[str, Any], str, str]:
    if task == "REC":
        number = int(random.integers(0, 12))
        right = str(random.choice([f"{number}", f"{number}.", f"They did it {number} times"]))
        wrong = str(random.choice([f"{number + 1}", f"{number} or {number + 1}", "none"]))
        return {"count": number}, right, wrong
    if task in TYPES:
        truth, other = ("Yes", "No") if type_ else ("No", "Yes")
        wrong = str(random.choice([*_YES[other][:3], truth.upper(), "unclear"]))
        return {"type": type_}, str(random.choice(_YES[truth])), wrong
    letters = "ABCDE"[: random.integers(2, 6)]
    truth = str(random.choice(list(letters)))
    others = [letter for letter in letters if letter != truth]
    right = str(random.choice(_RIGHT)).format(truth)
    wrong = str(random.choice(_WRONG)).format(random.choice(others))
    # "The" holds no capital but T, which is no letter of an option.
    return {"ground_truth": truth}, right, wrong


def _items(
    task: str, rows: list[Any], first: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    """Moments spread over the items of a forward task, each with one at least."""
    items = [
        {"id": first + number, "video": f"set/f{number}.mp4", "task": task, "test_info": []}
        for number in range(MOMENTS[task])
    ]
    for number, row in enumerate(rows):
        place = number if number < len(items) else int(random.integers(0, len(items)))
        moment = {"realtime": float(10 + number), **row}
        items[place]["test_info"].append(moment | ({"step": "stir"} if task == "SSR" else {}))
    return items
