"""What a run is judged by: a real session, asked about streams that training does not see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from miniature_learning import Pupil, frames_of, memory_config
from miniature_questions import CHECK_SEEDS, REALTIME, Asked, Clip, Wanted, make_clip
from nano_checks import Table

from vision_mem.evaluation.videoqa.ovobench import GROUPS
from vision_mem.videoqa import VideoMemorySession

GOAL = 0.9
"""Of the present-tense questions: from there on the weights may be shipped."""
_BUDGET = 256


def check_set(count: int, *, remembered: bool = True) -> list[Clip]:
    """Clips that are the same in every run: short ones, and half as many remembered streams.

    Args:
        count: of the short ones.
        remembered: whether there are any of the others.
    """
    short = Wanted(letters=0.7, asked=10)
    long = Wanted(remembered=True, asked=10, letters=1.0, budgets=(_BUDGET, _BUDGET))
    return [
        *(make_clip(CHECK_SEEDS + n, np.random.default_rng((77, n)), short) for n in range(count)),
        *(
            make_clip(CHECK_SEEDS + 100_000 + n, np.random.default_rng((78, n)), long)
            for n in range(count // 2 if remembered else 0)
        ),
    ]


@torch.no_grad()
def check(pupil: Pupil, clips: Sequence[Clip]) -> dict[str, float]:
    """Ask a real session.

    Args:
        pupil: answers.
        clips: from ``check_set``.

    Returns:
        Shares of right answers, 0 to 1, of those kinds that were asked: ``present``, letters
        about the last frame of a short clip, and in it each task; ``words``, the same without
        options, and each task; ``practice``; and of remembered streams ``realtime``,
        ``backward``, ``forward``. ``chance`` is what guessing would reach in ``present``.
    """
    right: dict[str, list[float]] = {}
    for clip in clips:
        session = VideoMemorySession(pupil, memory_config(clip.budget))
        waiting = dict(clip.moments)
        for count, frame in enumerate(frames_of(clip), 1):
            session.step(frame)
            for one in waiting.get(count, ()):
                said = (session.ask(one.question).text or "").strip()
                for name in _kinds(one, remembered=clip.budget is not None):
                    right.setdefault(name, []).append(float(said == one.answer))
                if one.form == "letter" and clip.budget is None and one.task in REALTIME:
                    right.setdefault("chance", []).append(1 / len(one.question.options))
    order = ["present", "chance", "words", "practice", *GROUPS, *REALTIME]
    order += [f"{task} words" for task in REALTIME]
    return {name: float(np.mean(right[name])) for name in order if name in right}


def _kinds(one: Asked, *, remembered: bool) -> list[str]:
    if one.task == "practice":
        return ["practice"]
    if remembered:
        return [next(group for group, tasks in GROUPS.items() if one.task in tasks)]
    return ["present", one.task] if one.form == "letter" else ["words", f"{one.task} words"]


def draw_curve(out: Path, curve: Table, checks: Table) -> None:
    """``curve.png``: loss, right answers in training, and the checks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name in ("answers", "align"):
        left.plot(*_points(curve, name), linewidth=0.8, label=name)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    left.legend()
    for name in ("present", "words", "realtime", "backward", "forward"):
        right.plot(*_points(checks, name), marker="o", label=name)
    right.plot(*_points(checks, "chance"), color="grey", linestyle=":", label="chance, present")
    right.axhline(GOAL, color="grey", linewidth=0.5)
    right.set(xlabel="step", ylim=(0, 1), title="right answers, streams not seen in training")
    right.legend()
    figure.tight_layout()
    figure.savefig(out / "curve.png", dpi=110)
    pyplot.close(figure)


def _points(table: Table, name: str) -> tuple[list[int], list[float]]:
    rows = [row for row in table.rows if row.get(name)]
    return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]
