"""What a run is judged by: a real session, asked about streams that training does not see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from miniature_pictures import Scene, make_scene
from miniature_pool import Pool, Reader, memory_config
from miniature_pupil import Pupil
from miniature_questions import (
    CHECK_SEEDS,
    GROUP_OF,
    REALTIME,
    SECONDS,
    Watch,
    choices_at,
    stream_of,
)
from training_loop import Table

from vision_mem.evaluation.videoqa.datasets.ovobench import GROUPS
from vision_mem.models.vlm.option_scores import ByLikelihood
from vision_mem.models.vlm.protocol import Question
from vision_mem.synthetic.qa_questions import CHOICES, StreamQuestion
from vision_mem.types import Frame
from vision_mem.videoqa import VideoMemorySession

GOAL = 0.9
"""Of the present-tense questions: from there on the weights may be shipped."""
BUDGET = 384
_MOMENTS = 2
_PASSES = 2
_BLANK = np.zeros((168, 224, 3), np.uint8)


def check_scenes(count: int) -> list[Scene]:
    """Grids that are the same in every run, for the vision tower."""
    return [make_scene(np.random.default_rng((76, n))) for n in range(count)]


def check_watches(count: int, first: int = 0) -> list[Watch]:
    """Streams that are the same in every run, all remembered by default.

    Args:
        count: how many.
        first: number of the first one; later ones are those that no check during a run has seen.
    """
    made = []
    for n in range(first, first + count):
        stream, rng = stream_of(CHECK_SEEDS + n), np.random.default_rng((77, n))
        quiet = [t for t in range(SECONDS // 4, SECONDS) if stream.is_quiet(t)]
        times = sorted(rng.choice(quiet, _MOMENTS, replace=False).tolist())
        moments = tuple(
            (t, choices_at(stream, t, rng, CHOICES, passes=_PASSES, most=99)) for t in times
        )
        made.append(Watch(n, 0, "default", BUDGET, moments))
    return made


@torch.no_grad()
def check(pupil: Pupil, watches: Sequence[Watch], pool: Pool) -> dict[str, float]:
    """Ask a real session.

    Args:
        pupil: answers.
        watches: from ``check_watches``.
        pool: of their streams.

    Returns:
        Shares of right answers, 0 to 1, means over tasks: ``present``, said in words, and each
        task of it; ``realtime`` and ``backward``, the likeliest option, and each task of them.
        ``commonest`` is what the commonest answer of each kind of question reaches in ``present``,
        ``guessing`` what guessing an option reaches in ``backward``.
    """
    right: dict[str, dict[str, list[float]]] = {}
    kinds: dict[tuple[str, str], Counter[str]] = {}

    def note(group: str, task: str, value: float) -> None:
        right.setdefault(group, {}).setdefault(task, []).append(value)

    for watch in watches:
        reader = Reader(pupil, pool.tokens(watch.stream), ByLikelihood(pupil))
        config = memory_config(watch.preset, watch.budget, choosy=True)
        session = VideoMemorySession(reader, config)  # type: ignore[arg-type]
        waiting = dict(watch.moments)
        for second in range(max(waiting) + 1):
            session.step(Frame(second, float(second), _BLANK))
            for one in waiting.get(second, ()):
                group, answer = GROUP_OF[one.task], one.options[one.right]
                chosen = session.ask(Question(one.text, one.options)).text
                note(group, one.task, float(chosen == "ABCD"[one.right]))
                if group == "backward":
                    note("guessing", one.task, 1 / len(one.options))
                else:
                    said = (session.ask(one.text).text or "").strip()
                    note("present", one.task, float(said == answer))
                    kinds.setdefault((one.task, _kind(one)), Counter())[answer] += 1
    for task in REALTIME:
        some = [counts for (other, _), counts in kinds.items() if other == task]
        if some:
            best = sum(max(counts.values()) for counts in some)
            note("commonest", task, best / sum(counts.total() for counts in some))
    found: dict[str, float] = {}
    for group in ("present", "commonest", "realtime", "backward", "guessing"):
        tasks = right.get(group, {})
        if tasks:
            found[group] = float(np.mean([np.mean(values) for values in tasks.values()]))
    for group in ("present", "backward"):
        for task in GROUPS["realtime" if group == "present" else group]:
            if task in right.get(group, {}):
                found[task] = float(np.mean(right[group][task]))
    return found


def _kind(one: StreamQuestion) -> str:
    """Questions of one template begin with the same two words."""
    return " ".join(one.text.split()[:2])


def draw_curve(out: Path, curve: Table, checks: Table) -> None:
    """``curve.png``: losses and what was read off tokens in training, and the checks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name in ("align", "answers", "place"):
        left.plot(*_points(curve, name), linewidth=0.8, label=name)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    left.legend()
    for name in ("see_kind", "present", "realtime", "backward"):
        right.plot(*_points(checks, name), marker="o", label=name)
    for name, line in (("commonest", ":"), ("guessing", "--")):
        right.plot(*_points(checks, name), color="grey", linestyle=line, label=name)
    right.axhline(GOAL, color="grey", linewidth=0.5)
    right.set(xlabel="step", ylim=(0, 1), title="right answers, streams not seen in training")
    right.legend()
    figure.tight_layout()
    figure.savefig(out / "curve.png", dpi=110)
    pyplot.close(figure)


def _points(table: Table, name: str) -> tuple[list[int], list[float]]:
    rows: list[dict[str, Any]] = [row for row in table.rows if row.get(name)]
    return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]
