"""Curves of several trackers in one picture, the best first in the legend."""

from __future__ import annotations

import io
from collections.abc import Sequence

from vision_mem.evaluation.protocols import Curve

# Of each kind of curve: what is across, what is up, and what the number in the legend is.
_AXES = {
    "Success": ("overlap threshold", "share of frames above", "mean of the curve"),
    "Precision": ("centre error, pixels", "share of frames within", "at 20 pixels"),
    "Normalised precision": (
        "centre error, shares of the target's size", "share of frames within", "at 0.2",
    ),
    "Expected average overlap": ("length of the run, frames", "overlap", "EAO"),
}  # fmt: skip
_COLOURS = 10
_STYLES = ("-", "--", "-.", ":")
_MOST_IN_PLOT = 10  # trackers; the legend of more stands beside the plot


def draw_plot(kind: str, title: str, lines: Sequence[tuple[str, Curve]]) -> bytes:
    """Draw curves as a PNG picture.

    Args:
        kind: of the curves, as ``BenchmarkScore.curves`` calls it.
        title: above the plot.
        lines: names of the trackers and their curves, at least one.

    Returns:
        The file's content.
    """
    # Figure by itself: pyplot would keep state, and choose a backend for the whole program.
    from matplotlib.figure import Figure

    across, up, number_is = _AXES[kind]
    beside = len(lines) > _MOST_IN_PLOT
    figure = Figure(figsize=(9.6 if beside else 6.4, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    ordered = sorted(lines, key=lambda line: -line[1].score)
    for number, (name, curve) in enumerate(ordered):
        axes.plot(
            curve.x, curve.y,
            color=f"C{number % _COLOURS}", linestyle=_STYLES[number // _COLOURS % len(_STYLES)],
            linewidth=1.8, label=f"[{curve.score:.3f}] {_short(name)}",
        )  # fmt: skip
    first = ordered[0][1]
    axes.set(title=title, xlabel=across, ylabel=up, ylim=(0, 1))
    axes.set_xlim(float(first.x[0]), float(first.x[-1]))
    axes.set_yticks([step / 10 for step in range(11)])
    axes.grid(visible=True, linewidth=0.6, alpha=0.5)
    rising = "recision" in kind
    place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if beside else {
        "loc": "lower right" if rising else "lower left"
    }  # fmt: skip
    legend = axes.legend(fontsize="small", framealpha=0.9, title=number_is, **place)
    legend.get_title().set_fontsize("small")
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def _short(name: str) -> str:
    """A name that fits, and that matplotlib neither hides nor takes for a formula."""
    name = name if len(name) <= 32 else f"{name[:29]}..."
    return name.replace("$", r"\$")
