"""Scores for people and programs: tables, CSV, JSON, plots of curves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.evaluation.scores import BenchmarkScore, Curve, Rules
from vision_mem.formats.text import csv_line, make_folder, write_file
from vision_mem.runs.tally import count
from vision_mem.sinks.masks import strict_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Of each kind of curve: what is across, what is up, and what the number in the legend is.
_AXES = {
    "Success": ("overlap threshold", "share of frames above", "mean of the curve"),
    "Precision": ("centre error, pixels", "share of frames within", "at 20 pixels"),
    "Normalised precision": (
        "centre error, shares of the target's size", "share of frames within", "at 0.2",
    ),
    "Expected average overlap": ("length of the run, frames", "overlap", "EAO"),
    "HOTA": ("localisation threshold alpha", "HOTA", "mean of the curve"),
    "DetA": ("localisation threshold alpha", "DetA: objects found", "mean of the curve"),
    "AssA": ("localisation threshold alpha", "AssA: identities kept", "mean of the curve"),
    "Accuracy": (
        "seconds of video before the question", "share right, of those asked then or later",
        "all questions",
    ),
    "Depth within a factor": ("factor", "share of pixels right up to it", "at 1.25"),
    "Positions within": ("metres", "share of positions off by less", "at 5 cm"),
    "Points within": ("metres", "share of points nearer to true ones", "at 5 cm"),
    "True points within": ("metres", "share of true points nearer to found ones", "at 5 cm"),
}  # fmt: skip
_COLOURS = 10
_STYLES = ("-", "--", "-.", ":")
_MOST_IN_PLOT = 10  # trackers; the legend of more stands beside the plot
_ALONE = (6.4, 4.8)  # inches
_PANEL = (4.2, 3.5)
_BESIDE = 3.2  # inches across for a legend beside the plots


def draw_plot(
    title: str, rows: Sequence[Sequence[str]], trackers: Sequence[tuple[str, Mapping[str, Curve]]]
) -> bytes:
    """Draw curves as a PNG picture, and give its content.

    Args:
        title: above the plot, or above all of them.
        rows: names of curves as ``BenchmarkScore.pictures`` has them, one plot each; all rows of
            one length.
        trackers: their names and curves, at least one; who lacks a curve is left out of its plot.
    """
    # Figure by itself: pyplot would keep state, and choose a backend for the whole program.
    from matplotlib.figure import Figure

    first = rows[0][0]
    drawn = [(name, curves) for name, curves in trackers if first in curves]
    ordered = sorted(drawn, key=lambda tracker: -tracker[1][first].score)
    alone = len(rows) == len(rows[0]) == 1
    beside = len(ordered) > _MOST_IN_PLOT
    width, height = _ALONE if alone else (_PANEL[0] * len(rows[0]), _PANEL[1] * len(rows))
    width += _BESIDE if beside else 0
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    for places, names in zip(figure.subplots(len(rows), len(rows[0]), squeeze=False), rows,
                             strict=True):  # fmt: skip
        for axes, name in zip(places, names, strict=True):
            _draw(axes, name, ordered)
            axes.set_title(title if alone else name, fontsize=None if alone else "medium")
            if not beside:
                _legend(axes, name, small=not alone)
    if not alone:
        figure.suptitle(title)
    if beside:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        said = _number_is(first) if alone else f"{first}: {_number_is(first)}"
        legend = figure.legend(
            handles, labels, loc="outside right center", fontsize="small", title=said
        )
        legend.get_title().set_fontsize("small")
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def _draw(axes: Axes, name: str, ordered: Sequence[tuple[str, Mapping[str, Curve]]]) -> None:
    """One plot; a tracker has its colour, whatever its place in this one."""
    for number, (tracker, curves) in enumerate(ordered):
        if name not in curves:
            continue
        curve = curves[name]
        axes.plot(
            curve.x, curve.y,
            color=f"C{number % _COLOURS}", linestyle=_STYLES[number // _COLOURS % len(_STYLES)],
            linewidth=1.8, label=f"[{curve.score:.3f}] {_short(tracker)}",
        )  # fmt: skip
        axes.set_xlim(float(curve.x[0]), float(curve.x[-1]))
    across, up, _ = _AXES[_kind(name)]
    axes.set(xlabel=across, ylabel=up, ylim=(0, 1))
    axes.set_yticks([step / 10 for step in range(11)])
    axes.grid(visible=True, linewidth=0.6, alpha=0.5)


def _legend(axes: Axes, name: str, *, small: bool) -> None:
    handles, labels = axes.get_legend_handles_labels()
    # The number stands in front, with as many digits in each.
    best = sorted(zip(labels, handles, strict=True), key=lambda each: each[0][:7], reverse=True)
    size = "x-small" if small else "small"
    legend = axes.legend(
        [handle for _, handle in best], [label for label, _ in best],
        loc="lower right" if "recision" in name or "within" in name else "lower left",
        fontsize=size, framealpha=0.9, title=_number_is(name),
    )  # fmt: skip
    legend.get_title().set_fontsize(size)


def _kind(name: str) -> str:
    """``HOTA`` of ``HOTA, car``."""
    return name.partition(",")[0]


def _number_is(name: str) -> str:
    return _AXES[_kind(name)][2]


def _short(name: str) -> str:
    """A name that fits, and that matplotlib neither hides nor takes for a formula."""
    name = name if len(name) <= 32 else f"{name[:29]}..."
    return name.replace("$", r"\$")


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
    """Trackers side by side on one benchmark, one a line, the best first."""
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
        values = [
            next(iter(each[name][1].values())) if name in each else float("nan") for each in grouped
        ]
        rows.append([name, *values, max(each[name][0] for each in grouped if name in each)])
    return _aligned(rows)


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
    """What the reader of the numbers should know, one line each; see ``write_report``."""
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
    """Everything as JSON-ready values, see ``write_report``; unknown numbers are null."""
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
    folder: Path, scores: Sequence[BenchmarkScore], rules: Rules, of_benchmark: Sequence[str] = ()
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
    return "".join(f"{csv_line(row)}\n" for row in rows).encode()
