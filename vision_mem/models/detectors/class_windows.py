"""Words without a download: windows whose sums of ImageNet's classes answer a word.

The classifier is that of ``ask`` (``models/vlm/window_search.py``): the trunk's features are
averaged over windows of many places, sizes and shapes, and classified; a word is a weight for each
class, by meaning. The windows that say most of a word are laid side by side, a click on the
hottest place of each gives its mask, and what moves there by itself gives a better one.

It is coarse. Windows know what is in them and not how far it reaches, several things beside each
other are one window, what is smaller than an eighth of the picture's height is not seen, and what
ImageNet has no class for is not known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.config import check_range
from vision_mem.errors import InputError
from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.detectors.motion import MotionDetector
from vision_mem.models.segmenters.load import load_segmenter
from vision_mem.models.vlm.window_search import WindowSearch
from vision_mem.text import short
from vision_mem.types import Detections, Frame, Prompt

log = logging.getLogger(__name__)

_SHAPES = ((1.0, 1.0), (1.45, 0.7), (0.7, 1.45))  # width and height, times a size
_LARGER = 0.15  # what a window as large as the picture has ahead of a tiny one


@dataclass(frozen=True)
class WordWindowsConfig:
    """How words become boxes.

    Attributes:
        every: looks at a frame when so many have gone by since it last did.
        min_score: sum of a word's classes that a window needs, [0, 1].
        sizes: of windows, shares of the picture's short side.
        objects: of a word on a frame at most.
        overlap: share of the smaller one of two windows of a word that they may have in common.
        inside: share of a mask that must lie in its window, grown by a third.
        least, most: area of a mask, as a share of its window's.
    """

    every: int = 5
    min_score: float = 0.3
    sizes: tuple[float, ...] = (0.25, 0.35, 0.5, 0.7, 0.95)
    objects: int = 6
    overlap: float = 0.3
    inside: float = 0.7
    least: float = 0.05
    most: float = 1.5

    def __post_init__(self) -> None:
        check_range(self, ("every", "objects"), 1)
        check_range(self, ("min_score", "overlap", "inside", "least"), 0, 1)


class WordWindows:
    """Finds what words name, coarsely, with what comes along; see the module.

    Args:
        words: what to look for, in English; each one a class.
        device: torch device.
        config: settings.
        segmenter: whose clicks make masks; the embedded one when left out.
        motion: what moves by itself, to be joined; None for ``MotionDetector``'s usual.

    Raises:
        InputError: for words that name nothing the classifier knows; with near ones.
        MissingExtra: when extra ``[offline]`` is not installed.
    """

    stateful = True
    reports_absence = False

    def __init__(
        self,
        words: Sequence[str],
        *,
        device: str = "cpu",
        config: WordWindowsConfig | None = None,
        segmenter: Any = None,
        motion: Any = None,
    ) -> None:
        self.config = config or WordWindowsConfig()
        self.words = list(dict.fromkeys(word.strip() for word in words if word.strip()))
        self._search = WindowSearch(device=device)
        self._weights = torch.cat([self._weights_of(word) for word in self.words])  # (m, 1000)
        self.classes = dict(enumerate(self.words))
        self.name = short(f"words {', '.join(self.words)}", 60)
        self._segmenter = segmenter or load_segmenter("embedded", device=device)
        self.detector = motion or MotionDetector()  # so that it is shown the background
        self._last: int | None = None
        self._told = False

    def detect(self, frame: Frame) -> Detections | None:
        moving = self.detector.detect(frame)
        if self._last is not None and frame.index - self._last < self.config.every:
            return None
        self._last = frame.index
        if not self._told:
            self._told = True
            log.warning(
                "words are looked for by the classes of parts of the picture: coarse; small "
                "things and neighbours are missed (better: dfine, onnx:FILE, or "
                'words:"..."@grounding-dino)'
            )
        boxes, scores, labels, spots = self._windows(frame)
        if not len(boxes):
            return Detections(names=self.classes)
        masks = self._masks(frame, boxes, spots, moving)
        found = np.stack([mask_to_box(mask) for mask in masks])
        kept = _apart(masks, scores)
        return Detections(
            np.asarray(found[kept], np.float32), scores=scores[kept], labels=labels[kept],
            masks=masks[kept], names=self.classes,
        )  # fmt: skip

    def reset(self) -> None:
        self.detector.reset()
        self._last = None

    def close(self) -> None:
        self.detector.close()

    def _weights_of(self, word: str) -> torch.Tensor:
        near = self._search.nearest(word)
        found = self._search.known(word)
        if found is None:
            raise InputError(
                f"{short(word)!r} is nothing the class windows know; near are {', '.join(near)} "
                f'(other words: "{short(word)}@grounding-dino", which is downloaded)'
            )
        return found

    def heat(
        self, frame: Frame
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What windows say of each word.

        Returns:
            Windows ``(n, 4)`` in pixels of the frame, their sums ``(n, words)``, and sums by
            place, ``(words, h, w)``: the mean over windows around it, smaller ones counting more.
        """
        features = self._search.features(frame.image)  # (c, h, w)
        high, wide = features.shape[1:]
        sides = np.array(_layout(high, wide, self.config.sizes))  # (n, 4) cells
        sums = torch.zeros(features.shape[0], high + 1, wide + 1, device=features.device)
        sums[:, 1:, 1:] = features.cumsum(1).cumsum(2)
        x1, y1, x2, y2 = torch.from_numpy(sides).T
        area = ((x2 - x1) * (y2 - y1)).to(features)
        means = sums[:, y2, x2] - sums[:, y1, x2] - sums[:, y2, x1] + sums[:, y1, x1]
        shares = self._search.shares((means / area).T)  # (n, 1000)
        scores = (shares @ self._weights.T).float().cpu().numpy()
        places = np.zeros((len(self.words), high, wide), np.float32)
        total = np.zeros((high, wide), np.float32)
        for (left, top, right, bottom), row in zip(sides, scores, strict=True):
            weight = 1.0 / ((right - left) * (bottom - top))
            places[:, top:bottom, left:right] += weight * row[:, None, None]
            total[top:bottom, left:right] += weight
        scale = np.array([frame.size[1] / wide, frame.size[0] / high] * 2)
        mean = np.asarray(places / np.maximum(total, 1e-9), np.float32)
        return (sides * scale).astype(np.float32), np.asarray(scores, np.float32), mean

    def _windows(
        self, frame: Frame
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """The best windows of each word: boxes, scores, labels, and the hottest spot in each."""
        config = self.config
        windows, sums, places = self.heat(frame)
        height, width = frame.size
        high, wide = places.shape[1:]
        cell = np.array([width / wide, height / high] * 2)
        # Of windows that say as much the larger one: a thing nearby fills many small ones.
        larger = _LARGER * np.sqrt(
            np.prod(windows[:, 2:] - windows[:, :2], axis=1) / height / width
        )
        chosen: list[tuple[NDArray[np.float32], float, int, tuple[float, float]]] = []
        for label in range(len(self.words)):
            order = np.argsort(-(sums[:, label] + larger), kind="stable")
            own: list[NDArray[np.float32]] = []
            for n in order:
                if len(own) == config.objects:
                    break
                if sums[n, label] < config.min_score:
                    continue
                box = windows[n]
                if any(_common(box, other) > config.overlap for other in own):
                    continue
                own.append(box)
                x1, y1, x2, y2 = (int(v) for v in (box / cell).round())
                part = places[label, y1:y2, x1:x2]
                row, column = np.unravel_index(int(part.argmax()), part.shape)
                spot = (x1 + column + 0.5) * width / wide, (y1 + row + 0.5) * height / high
                chosen.append((box, float(sums[n, label]), label, spot))
        return (
            np.array([one[0] for one in chosen], np.float32).reshape(-1, 4),
            np.array([one[1] for one in chosen], np.float32),
            np.array([one[2] for one in chosen], np.int64),
            np.array([one[3] for one in chosen], np.float32).reshape(-1, 2),
        )

    def _masks(
        self,
        frame: Frame,
        boxes: NDArray[np.float32],
        spots: NDArray[np.float32],
        moving: Detections | None,
    ) -> NDArray[np.bool_]:
        """``(n, H, W)``: what moves in a window, else what a click on its spot means."""
        features = None
        masks = []
        for box, spot in zip(boxes, spots, strict=True):
            mask = None if moving is None else self._moving(frame, box, moving)
            if mask is None:
                features = features or self._segmenter.encode_image(frame)
                clicked = Prompt(points=spot[None], labels=np.ones(1, np.int32))
                mask = self._made(features, clicked)
                if not self._fits(mask, box):
                    mask = self._made(features, Prompt(box=box))
            if not mask.any():
                x1, y1, x2, y2 = box.astype(int)
                mask[y1:y2, x1:x2] = True
            masks.append(mask)
        return np.stack(masks)

    def _moving(
        self, frame: Frame, box: NDArray[np.float32], moving: Detections
    ) -> NDArray[np.bool_] | None:
        """What moves by itself in a window, where that is much of it."""
        joined = np.zeros(frame.size, bool)
        for n, other in enumerate(moving.boxes):
            if _common(box, other, of=other) >= self.config.inside:
                if moving.masks is not None:
                    joined |= moving.masks[n]
                else:
                    x1, y1, x2, y2 = other.astype(int)
                    joined[y1:y2, x1:x2] = True
        return joined if 4 * self.config.least * _area(box) <= joined.sum() else None

    def _made(self, features: Any, prompt: Prompt) -> NDArray[np.bool_]:
        found = self._segmenter.decode_prompt(features, prompt)
        best = int(found.iou[0].argmax())
        logits = self._segmenter.to_video(found.logits[:, best : best + 1], features)
        return _largest_part(np.asarray((logits[0, 0] > 0).cpu().numpy()))

    def _fits(self, mask: NDArray[np.bool_], box: NDArray[np.float32]) -> bool:
        """Whether a mask is of what a window saw."""
        area = float(mask.sum())
        x1, y1, x2, y2 = box
        more = (x2 - x1) / 6, (y2 - y1) / 6
        height, width = mask.shape
        left, right = int(max(x1 - more[0], 0)), int(min(x2 + more[0], width))
        top, bottom = int(max(y1 - more[1], 0)), int(min(y2 + more[1], height))
        inside = float(mask[top:bottom, left:right].sum())
        share = area / max(_area(box), 1.0)
        return (
            self.config.least <= share <= self.config.most and inside >= self.config.inside * area
        )


def _layout(high: int, wide: int, sizes: Sequence[float]) -> list[tuple[int, int, int, int]]:
    """Windows on a map of cells: left, top, right, bottom; each once."""
    found: dict[tuple[int, int, int, int], None] = {}
    least = min(high, wide)
    for size in sizes:
        for across, down in _SHAPES:
            w = min(max(round(size * across * least), 2), wide)
            h = min(max(round(size * down * least), 2), high)
            step = max(1, min(w, h) // 4)
            for top in range(0, high - h + 1, step):
                for left in range(0, wide - w + 1, step):
                    found[left, top, left + w, top + h] = None
    return list(found)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without what does not hang together with most of it: clicks gather what looks alike."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    if count <= 2:
        return mask
    return np.asarray(parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _area(box: NDArray[np.float32]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _common(
    one: NDArray[np.float32], other: NDArray[np.float32], of: NDArray[np.float32] | None = None
) -> float:
    """Share of the smaller of two boxes, or of a given one, that both have in common."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    least = min(_area(one), _area(other)) if of is None else _area(of)
    return common / max(least, 1e-9)


def _apart(masks: NDArray[np.bool_], scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which masks stay when of two that are mostly one the weaker goes."""
    kept: list[int] = []
    for n in np.argsort(-scores, kind="stable"):
        area = int(masks[n].sum())
        if all(
            int((masks[n] & masks[k]).sum()) < 0.5 * min(area, int(masks[k].sum())) for k in kept
        ):
            kept.append(int(n))
    return np.array(sorted(kept), np.intp)
