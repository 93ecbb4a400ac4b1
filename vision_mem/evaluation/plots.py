"""Curves of several trackers in one picture, the best first in the legend."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vision_mem.evaluation.sot.scoring import Curve

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
    """Draw curves as a PNG picture.

    Args:
        title: above the plot, or above all of them.
        rows: names of curves as ``BenchmarkScore.pictures`` has them, one plot each; all rows of
            one length.
        trackers: their names and curves, at least one; who lacks a curve is left out of its plot.

    Returns:
        The file's content.
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
