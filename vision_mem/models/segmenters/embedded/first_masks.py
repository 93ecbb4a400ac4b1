"""What a user points at, as masks: boxes, clicks, and clicks that correct a mask.

Each prompt is a look at a window, a cut on its tokens (``token_cut``), and the mask decoder's word
on the outline. A click is read in boxes of many sizes, and the readings vote on what was meant.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.frame import PreparedFrame
from vision_mem.models.segmenters.embedded.grabcut import mask_from_box
from vision_mem.models.segmenters.embedded.networks import EmbeddedNetworks, follow_edges
from vision_mem.models.segmenters.embedded.token_cut import (
    ClickReading,
    around_clicks,
    cut_tokens,
    grown,
    read_click,
    similarities,
    tokens_in,
    weigh_readings,
)
from vision_mem.models.segmenters.embedded.windows import Window
from vision_mem.types import Prompt

Mask = NDArray[np.bool_]
_FEWEST_PIXELS = 24  # of the shorter side of a box, below which features say less than colours
_SMALLEST = 0.08
"""Share of a box below which a mask cannot be what was drawn around."""


class FirstMasks:
    """Masks of prompts.

    Args:
        networks: tokens and outlines.
        config: constants.
    """

    def __init__(self, networks: EmbeddedNetworks, config: EmbeddedConfig) -> None:
        self._networks, self._config = networks, config

    def of(
        self, payload: PreparedFrame, prompt: Prompt, before: Mask | None
    ) -> tuple[list[Mask], list[float]]:
        """What a prompt may have meant, and the expected IoU of each reading.

        Args:
            payload: the frame.
            prompt: checked against it.
            before: ``(H, W)`` what the object was taken for, when clicks correct it.

        Returns:
            ``(H, W)`` masks, none empty: one, or of clicks on something new the whole, a part of
            it and a group that it belongs to, as far as there are such.
        """
        if prompt.mask is not None:
            return [prompt.mask], [1.0]
        if prompt.box is not None:
            return [self._of_box(payload, prompt, prompt.box)], [1.0]
        if before is not None and before.any():
            return [self._corrected(payload, prompt, before)], [1.0]
        return self._of_clicks(payload, prompt)

    def _alike(self, payload: PreparedFrame, window: Window) -> NDArray[np.float32]:
        return similarities(self._networks.tokens(payload, window).float().cpu().numpy())

    def _of_box(self, payload: PreparedFrame, prompt: Prompt, box: NDArray[np.floating]) -> Mask:
        """Cut out what fills a box."""
        window = Window.around((box[:2] + box[2:]) / 2, box[2:] - box[:2], self._config.reach)
        clicked = self._clicked(prompt, window)
        side = self._config.tokens
        known = tokens_in(window, _bounds(payload), side)
        inside = tokens_in(window, box, side)
        found, mask = None, None
        if min(box[2:] - box[:2]) >= _FEWEST_PIXELS:
            alike = self._alike(payload, window)
            found = cut_tokens(alike, inside, known, self._config.cut, clicked)
        if found is not None:
            mask = self._laid_out(payload, window, found.share, box)
        if mask is None or mask.sum() < _SMALLEST * float(np.prod(box[2:] - box[:2])):
            # Few pixels, the whole picture, a line, or what looks like all around it: colours, or
            # an ellipse.
            points, labels = prompt.points, prompt.labels
            mask = mask_from_box(payload.image, box.astype(np.float32), points, labels)
        return self._obeying(prompt, self._networks.mended(payload, mask, box))

    def _of_clicks(self, payload: PreparedFrame, prompt: Prompt) -> tuple[list[Mask], list[float]]:
        """Read clicks on something new at all scales."""
        readings = self._readings(payload, prompt)
        if not readings:
            return [self._spot(payload, prompt)], [self._config.doubtful]
        picture = payload.image.shape[0], payload.image.shape[1]
        own, agreed = weigh_readings(readings, picture, self._config.cut)
        whole = int(np.argmax(agreed))
        areas = np.array([one.area for one in readings]) / readings[whole].area
        chosen = [whole]
        for fits in (areas < self._config.cut.part, areas > self._config.cut.group):
            if fits.any():
                chosen.append(int(np.argmax(np.where(fits, own, -np.inf))))
        if prompt.part and len(chosen) > 1 and areas[chosen[1]] < 1:
            chosen = [chosen[1]]
        first = readings[chosen[0]]
        masks = [self._of_reading(payload, prompt, first)]
        scores = [float(np.clip(agreed[chosen[0]], self._config.doubtful, 0.99))]
        for number in chosen[1:]:
            one = readings[number]
            masks.append(
                self._obeying(prompt, self._laid_out(payload, one.window, one.share, None))
            )
            scores.append(min(float(np.clip(own[number], 0.01, 0.99)), 0.9 * scores[0]))
        return masks, scores

    def _readings(self, payload: PreparedFrame, prompt: Prompt) -> list[ClickReading]:
        assert prompt.points is not None and prompt.labels is not None
        config = self._config.cut
        height, width = payload.image.shape[:2]
        shown = prompt.points[prompt.labels == 1] if prompt.labels.any() else prompt.points
        centre, short = shown.mean(axis=0).astype(np.float64), min(height, width)
        spread = float(np.ptp(shown, axis=0).max())  # all clicks on the object are to be in a box
        sizes = [max(size * short, 1.3 * spread, 8.0) for size in config.click_sizes]
        pairs = list(dict.fromkeys(zip(sizes[::2], sizes[1::2], strict=True)))
        windows = [
            Window.around(centre, np.array([one[0]] * 2), self._config.reach) for one in pairs
        ]
        self._networks.prepare(payload, windows)
        readings = []
        for window, pair in zip(windows, pairs, strict=True):
            clicked = self._clicked(prompt, window)
            alike = self._alike(payload, window)
            assert clicked is not None
            for size in pair:
                for shape in config.click_shapes:
                    half = size * np.array(shape) / 2
                    box = np.concatenate([centre - half, centre + half])
                    readings += read_click(alike, window, box, (height, width), clicked, config)
        return readings

    def _of_reading(self, payload: PreparedFrame, prompt: Prompt, reading: ClickReading) -> Mask:
        """A reading at the object's own scale, as if its box had been drawn."""
        x1, y1, x2, y2 = reading.box
        height, width = payload.image.shape[:2]
        box = np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)
        window, side = reading.window, self._config.tokens
        clicked = self._clicked(prompt, window)
        known, inside = tokens_in(window, _bounds(payload), side), tokens_in(window, box, side)
        found = cut_tokens(self._alike(payload, window), inside, known, self._config.cut, clicked)
        share = reading.share
        if found is not None and clicked is not None:
            core = around_clicks(found.share > 0.5, clicked > 0)
            if core is not None:
                share = np.where(grown(core), found.share, np.float32(0))
        coarse = self._laid_out(payload, window, share, box)
        return self._obeying(prompt, self._networks.mended(payload, coarse, box))

    def _corrected(self, payload: PreparedFrame, prompt: Prompt, before: Mask) -> Mask:
        """Ask again, with the clicks as tokens of their own."""
        assert prompt.points is not None and prompt.labels is not None
        box = mask_to_box(before).astype(np.float64)
        shown = prompt.points[prompt.labels == 1]
        if len(shown):
            box[:2] = np.minimum(box[:2], shown.min(axis=0))
            box[2:] = np.maximum(box[2:], shown.max(axis=0))
        margin = 0.25 * (box[2:] - box[:2]) + 2
        box = np.concatenate([box[:2] - margin, box[2:] + margin])
        window = Window.around((box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 1.4, 2.2)
        side = self._config.tokens
        old = window.from_grid(before.astype(np.float32), side, 1.0) > 0.5
        known = tokens_in(window, _bounds(payload), side)
        found = cut_tokens(
            self._alike(payload, window), tokens_in(window, box, side), known, self._config.cut,
            self._clicked(prompt, window), old,
        )  # fmt: skip
        if found is None:
            return self._obeying(prompt, before)
        mask = self._laid_out(payload, window, found.share, box)
        return self._obeying(prompt, mask if mask.any() else before)

    def _clicked(self, prompt: Prompt, window: Window, coarser: int = 1) -> NDArray[np.int8] | None:
        """``(t, t)``: tokens at and around clicks, as ``cut_tokens`` takes them."""
        if prompt.points is None or prompt.labels is None:
            return None
        side = self._config.tokens
        marks = np.zeros((side, side), np.int8)
        step = window.side / side
        # "Not this" last: it is what a correction is about.
        for (x, y), label in sorted(
            zip(prompt.points, prompt.labels, strict=True), key=lambda one: -int(one[1])
        ):
            column, row = int((x - window.x) / step), int((y - window.y) / step)
            reach = 1 if len(prompt.points) > 1 else 0
            rows = slice(max(row - reach, 0), max(row + reach + 1, 0))
            marks[rows, max(column - reach, 0) : max(column + reach + 1, 0)] = 1 if label else -1
        return marks

    def _laid_out(
        self,
        payload: PreparedFrame,
        window: Window,
        share: NDArray[np.float32],
        box: NDArray[np.floating] | None,
    ) -> Mask:
        """Shares of tokens as a mask at the video's size that follows edges, inside a box."""
        config, picture = self._config, payload.windows[window].picture
        edges = follow_edges(share, picture, config.outline_radius, config.outline_smoothness)
        plain = cv2.resize(share, (config.window, config.window), interpolation=cv2.INTER_LINEAR)
        mixed = config.outline_share * edges + (1 - config.outline_share) * plain
        whole = np.empty(payload.image.shape[:2], np.float32)
        found = window.onto_grid(np.asarray(mixed, np.float32), whole, 1.0, 0.0) > 0.5
        if box is None:
            return found
        x1, y1, x2, y2 = (max(0, round(float(value))) for value in box)
        kept = np.zeros_like(found)
        kept[y1:y2, x1:x2] = found[y1:y2, x1:x2]
        return kept

    def _spot(self, payload: PreparedFrame, prompt: Prompt) -> Mask:
        """Where nothing stands out: a spot around the clicks."""
        assert prompt.points is not None
        mask = np.zeros(payload.image.shape[:2], np.uint8)
        radius = max(1, round(self._config.cut.click_sizes[0] / 2 * min(mask.shape)))
        for x, y in prompt.points[prompt.labels == 1]:
            cv2.circle(mask, (int(x), int(y)), radius, 1, -1)
        return self._obeying(prompt, mask > 0)

    @staticmethod
    def _obeying(prompt: Prompt, mask: Mask) -> Mask:
        """A mask that has all clicks on the right side, a pixel of it if need be."""
        if prompt.points is None or prompt.labels is None:
            return mask
        mask = mask.copy()
        reach = max(1, round(0.01 * min(mask.shape)))
        for (x, y), label in zip(prompt.points, prompt.labels, strict=True):
            if mask[int(y), int(x)] != bool(label):
                rows = slice(max(int(y) - reach, 0), int(y) + reach + 1)
                mask[rows, max(int(x) - reach, 0) : int(x) + reach + 1] = bool(label)
        if not mask.any():
            shown = prompt.points[prompt.labels == 1]
            spot = shown[0] if len(shown) else prompt.points[0]
            mask[int(spot[1]), int(spot[0])] = True
        return mask


def _bounds(payload: PreparedFrame) -> NDArray[np.float64]:
    height, width = payload.image.shape[:2]
    return np.array([0, 0, width, height], np.float64)
