"""Scores for people and programs: tables, CSV, JSON, plots."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision_mem.evaluation.plots import draw_plot
from vision_mem.evaluation.scores import BenchmarkScore
from vision_mem.evaluation.sot.scoring import Rules
from vision_mem.formats.text import make_folder, write_file
from vision_mem.runs.tally import count
from vision_mem.sinks.masks import strict_json

_MOST_ATTRIBUTES = 30  # more than this are kept in the CSV only (GOT-10k has hundreds of classes)

Cell = str | float | int


def ranked(scores: Sequence[BenchmarkScore]) -> list[BenchmarkScore]:
    """Trackers by the set's main measure, the best first."""
    return sorted(scores, key=_rank)


def _rank(score: BenchmarkScore) -> float:
    value = next(iter(score.summary().values()))
    if value != value:
        return float("inf")  # NaN goes last
    return value if score.falling else -value


def table(scores: Sequence[BenchmarkScore]) -> str:
    """Trackers side by side, one a line, the best first.

    Args:
        scores: on one benchmark.
    """
    measures = _measures(scores)
    rows: list[list[Cell]] = [[scores[0].entrant, *measures, f"{scores[0].unit}s"]]
    for score in ranked(scores):
        summary = score.summary()
        counted = sum(each.part is not None for each in score.sequences)
        values = [summary.get(measure, float("nan")) for measure in measures]
        rows.append([score.tracker, *values, counted])
    return _aligned(rows)


def attribute_table(scores: Sequence[BenchmarkScore]) -> str:
    """The main measure by attribute, trackers in columns; empty for sets without attributes."""
    if not scores:
        return ""
    ordered = ranked(scores)
    grouped = [score.by_attribute() for score in ordered]
    names = list(dict.fromkeys(name for each in grouped for name in each))
    if not 0 < len(names) <= _MOST_ATTRIBUTES:
        return ""
    first = ordered[0]
    head = f"{first.main} by {first.trait}"
    rows: list[list[Cell]] = [[head, *(score.tracker for score in ordered), f"{first.unit}s"]]
    for name in names:
        values = [_main(each[name][1]) if name in each else float("nan") for each in grouped]
        rows.append([name, *values, max(each[name][0] for each in grouped if name in each)])
    return _aligned(rows)


def _main(measures: Mapping[str, float]) -> float:
    return next(iter(measures.values()))


def _measures(scores: Sequence[BenchmarkScore]) -> list[str]:
    return list(dict.fromkeys(measure for score in scores for measure in score.summary()))


def _aligned(rows: list[list[Cell]]) -> str:
    """Plain columns that read the same on a terminal, in a file and in a mail."""
    cells = [[_shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.4f}" if cell == cell else "-"
    return str(cell)


def notes(scores: Sequence[BenchmarkScore], of_benchmark: Sequence[str] = ()) -> list[str]:
    """What the reader of the numbers should know, one line each.

    Args:
        scores: on one benchmark, at least one.
        of_benchmark: what was odd in the copy of the set.
    """
    shared = [note for note in scores[0].notes if all(note in each.notes for each in scores)]
    lines = [*of_benchmark, *shared]
    for score in scores:
        prefix = f"{score.tracker}: " if len(scores) > 1 else ""
        lines += [prefix + note for note in score.notes if note not in shared]
        if score.missing:
            lines.append(f"{prefix}no results of {count(len(score.missing), score.unit)}")
        runs = {each.runs for each in score.sequences if each.runs}
        if runs - {1}:
            lines.append(f"{prefix}up to {max(runs)} runs a sequence, averaged")
    if len({tuple(each.name for each in score.sequences) for score in scores}) > 1:
        who, what = f"{scores[0].entrant}s", f"{scores[0].unit}s"
        lines.append(f"the {who} are not scored on the same {what}: numbers do not compare")
    return lines


def record(
    scores: Sequence[BenchmarkScore], rules: Rules, of_benchmark: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything as JSON-ready values; numbers that are not known are null.

    Args:
        scores: on one benchmark, at least one.
        rules: they were scored by.
        of_benchmark: what was odd in the copy of the set.
    """
    first = scores[0]
    return {
        "benchmark": first.benchmark,
        "title": first.title,
        "protocol": first.protocol,
        "rules": strict_json(vars(rules)),
        "notes": notes(scores, of_benchmark),
        "trackers": [_tracker(score) for score in ranked(scores)],
    }


def _tracker(score: BenchmarkScore) -> dict[str, Any]:
    groups = score.by_attribute()
    curves = score.curves()
    found = {
        "name": score.tracker,
        "summary": score.summary(),
        "attributes": {name: {"sequences": n, **values} for name, (n, values) in groups.items()},
        "sequences": {each.name: dict(each.values) for each in score.sequences},
        "curves": {name: {"x": c.x, "y": c.y, "score": c.score} for name, c in curves.items()},
        "missing": list(score.missing),
    }
    return dict(strict_json(found))


def write_report(
    folder: Path,
    scores: Sequence[BenchmarkScore],
    rules: Rules,
    of_benchmark: Sequence[str] = (),
) -> list[Path]:
    """Write ``summary.csv``, ``sequences.csv``, ``attributes.csv``, ``scores.json`` and plots.

    Args:
        folder: made when it is not there; files of these names are replaced.
        scores: on one benchmark, at least one.
        rules: they were scored by.
        of_benchmark: what was odd in the copy of the set.

    Returns:
        The files, each there whole.

    Raises:
        SinkError: when one cannot be written.
    """
    ordered = ranked(scores)
    measures = _measures(scores)
    summary: list[list[Cell]] = [["tracker", *measures, "sequences", "missing"]]
    sequences: list[list[Cell]] = [["tracker", "sequence", *measures]]
    attributes: list[list[Cell]] = [["tracker", "attribute", *measures, "sequences"]]
    for score in ordered:
        head = score.tracker
        summary.append(
            [head, *_row(score.summary(), measures), len(score.sequences), len(score.missing)]
        )
        sequences += [[head, s.name, *_row(s.values, measures)] for s in score.sequences]
        for name, (number, values) in score.by_attribute().items():
            attributes.append([head, name, *_row(values, measures), number])
    content = {"summary.csv": _csv(summary), "sequences.csv": _csv(sequences)}
    if len(attributes) > 1:
        content["attributes.csv"] = _csv(attributes)
    text = json.dumps(record(scores, rules, of_benchmark), indent=1, allow_nan=False)
    content["scores.json"] = f"{text}\n".encode()
    curves = [(score.tracker, score.curves()) for score in ordered]
    pictures = {name: rows for score in ordered for name, rows in score.pictures().items()}
    for name, rows in pictures.items():
        file = name.lower().replace(" ", "_") + ".png"
        title = (
            f"{name} on {ordered[0].title} ({count(len(ordered[0].sequences), ordered[0].unit)})"
        )
        content[file] = draw_plot(title, rows, curves)
    make_folder(folder)
    for name, data in content.items():
        write_file(folder / name, data)
    return [folder / name for name in content]


def _row(values: Mapping[str, float], measures: Sequence[str]) -> list[Cell]:
    found = [values.get(measure, float("nan")) for measure in measures]
    return [f"{value:.6f}" if value == value else "" for value in found]


def _csv(rows: Sequence[Sequence[Cell]]) -> bytes:
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows(rows)
    return held.getvalue().encode()
