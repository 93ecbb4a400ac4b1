"""Prompts are checked against the frames they point at, before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vision_mem.errors import InputError
from vision_mem.formats.prompts import PromptPlan
from vision_mem.geometry.boxes import clip_box, is_empty
from vision_mem.types import Detections, Frame, Prompt, SourceInfo

if TYPE_CHECKING:
    from vision_mem.models.detectors.protocol import Detector

log = logging.getLogger(__name__)


def check_prompt(prompt: Prompt, frame: Frame) -> tuple[Prompt, list[str]]:
    """Make sure that a prompt points into a frame.

    Args:
        prompt: what the user gave.
        frame: the frame it speaks of.

    Returns:
        The prompt, its box cut at the frame's borders, and remarks for the diary.

    Raises:
        InputError: for a box without area or outside the frame, a point outside, a mask of
            another size or without pixels.
    """
    prompt, notes = fit_prompt(prompt, frame.size)
    for note in notes:
        log.warning("frame %d: %s", frame.index, note)
    return prompt, notes


def fit_prompt(prompt: Prompt, frame_size: tuple[int, int]) -> tuple[Prompt, list[str]]:
    """``check_prompt`` for a frame of which just the ``(height, width)`` is known; logs nothing."""
    height, width = frame_size
    who = f" of {prompt.name}" if prompt.name else ""
    size = f"the frame is {width} x {height} (width x height)"
    notes: list[str] = []
    if prompt.box is not None:
        box = prompt.box
        if is_empty(box):
            raise InputError(
                f"box {_text(box)}{who} has no area; expected x1 < x2 and y1 < y2: give two "
                "corners, not a corner and a size"
            )
        inside = clip_box(box, height, width)
        if is_empty(inside):
            raise InputError(
                f"box {_sized(box)}{who} lies outside the frame; {size}: give pixels of this frame"
            )
        if not np.array_equal(inside, box):
            notes.append(f"box {_sized(box)}{who} cut at the frame's borders to {_sized(inside)}")
            prompt = replace(prompt, box=inside)
    if prompt.points is not None:
        x, y = prompt.points[:, 0], prompt.points[:, 1]
        outside = (x < 0) | (y < 0) | (x >= width) | (y >= height)
        if outside.any():
            raise InputError(
                f"point {_text(prompt.points[outside][0])}{who} lies outside the frame; {size}: "
                "give pixels of this frame"
            )
    if prompt.mask is not None:
        if prompt.mask.shape != frame_size:
            raise InputError(
                f"mask{who} is {prompt.mask.shape[1]} x {prompt.mask.shape[0]} but {size}; give a "
                "mask of the frame's size"
            )
        if not prompt.mask.any():
            raise InputError(f"mask{who} marks no pixel; expected at least one: mark the object")
    return prompt, notes


def check_plan(
    plan: PromptPlan,
    info: SourceInfo,
    first: int,
    stride: int,
    *,
    resumed: bool = False,
    fixed: bool = False,
) -> None:
    """Refuse prompts that will fail later, as far as that is known beforehand.

    Args:
        plan: the prompts.
        info: of the source.
        first: number of the first frame to come.
        stride: every how many frames.
        resumed: earlier prompts were given by the run that is continued.
        fixed: all frames are known to have one size.

    Raises:
        InputError: for a prompt on a frame before the first, after the last, or left out; and as
            ``check_prompt`` for frames whose size is known.
    """
    last = None if info.frame_count is None else first + (info.frame_count - 1) * stride
    for frame in plan.frames:
        if frame < first and not resumed:
            raise InputError(f"a prompt is for frame {frame}, but the first frame is {first}")
        if last is not None and frame > last:
            raise InputError(f"a prompt is for frame {frame}, but the last frame is {last}")
        if not info.live and frame > first and (frame - first) % stride:
            raise InputError(f"a prompt is for frame {frame}, which --stride {stride} leaves out")
    for frame, text, (x, y, w, h) in plan.typed if not resumed else ():
        leaves = x + w > info.width or y + h > info.height
        corners = x < w <= info.width and y < h <= info.height
        if leaves and corners and (fixed or frame <= first):
            log.warning(
                "box %s leaves the frame (%d x %d): its numbers are x,y,w,h; if %g,%g is its right "
                "lower corner, say xyxy:%s", text, info.width, info.height, w, h,
                ",".join(f"{value:g}" for value in (x, y, w, h)),
            )  # fmt: skip
    for frame, prompts in plan.by_frame.items():
        if not resumed and (fixed or frame <= first):
            for prompt in prompts:
                fit_prompt(prompt, (info.height, info.width))


def describe_prompt(prompt: Prompt) -> str:
    """``box``, ``points``, ``box+points`` or ``mask``."""
    given = [kind for kind in ("box", "points", "mask") if getattr(prompt, kind) is not None]
    return "+".join(given)


def _sized(box: np.ndarray) -> str:
    """A box as people type it: left, top, width and height."""
    x, y, right, bottom = box.tolist()
    return f"x,y,w,h {x:g},{y:g},{right - x:g},{bottom - y:g}"


def _text(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.tolist()) + ")"


class SoughtObjects:
    """Words that become objects on the frame on which a detector first finds them.

    Of several finds of a word the surest is meant. A word that was found is not looked for again.

    Args:
        detector: its classes are the words.
        words: as the detector names its classes.
        min_score: finds below are none.
    """

    def __init__(self, detector: Detector, words: Sequence[str], min_score: float) -> None:
        self._detector, self._min_score = detector, min_score
        self.missing = tuple(dict.fromkeys(words))

    def prompts(self, frame: Frame, known: Collection[str]) -> tuple[Prompt, ...]:
        """Prompts for what is found on a frame.

        Args:
            frame: the next one.
            known: names of the objects that are there.

        Returns:
            A mask a word where the detector gives masks, else a box; named as the word.
        """
        self.missing = tuple(word for word in self.missing if word not in known)
        found = self._detector.detect(frame) if self.missing else None
        if found is None:
            return ()
        made = []
        for row in np.argsort(-found.scores, kind="stable"):
            name = found.names.get(int(found.labels[row]))
            if name is None or name not in self.missing:
                continue
            if found.scores[row] < self._min_score:
                break  # in order of scores: all others are lower
            prompt = _prompt_of(found, int(row), name, frame.size)
            if prompt is not None:
                made.append(prompt)
                self.missing = tuple(word for word in self.missing if word != name)
        return tuple(made)


def _prompt_of(
    found: Detections, row: int, name: str, frame_size: tuple[int, int]
) -> Prompt | None:
    """One detection as a prompt; None for one outside the frame."""
    mask = None if found.masks is None else found.masks[row]
    if mask is not None and mask.any():
        return Prompt(mask=mask, name=name)
    box = clip_box(found.boxes[row], *frame_size)
    return None if is_empty(box) else Prompt(box=box, name=name)
