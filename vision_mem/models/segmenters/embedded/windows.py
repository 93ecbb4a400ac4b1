"""Windows, places and parts: the geometry of the embedded segmenter.

Windows move and grow with the object; tokens in them vote (``voting``) on where it is.
Everything here is a pure function of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

TOKEN_STRIDE = 8


@dataclass(frozen=True)
class PropagationConfig:
    """Constants of the embedded segmenter, chosen on generated clips (docs/embedded.md).

    Attributes:
        window: side of the looked-at window in trunk pixels; a multiple of 16.
        reach: side of the window in video pixels, as a multiple of the object's mean size.
        temperature: of the softmax over cosine similarities.
        locality: weight of squared distance (in tokens of a 24-token window) in the softmax.
        prompt_locality: the same for prompted entries, as a factor on ``locality``.
        prompt_share: part of the vote that prompted entries have when there are others.
        evidence: exponent on an entry's total similarity: 0 gives every entry its share of the
            vote at every token, 1 lets the best matching entry decide alone.
    """

    window: int = 256
    reach: float = 2.2
    temperature: float = 0.04
    locality: float = 0.05
    prompt_locality: float = 0.3
    prompt_share: float = 0.6
    evidence: float = 0.5

    @property
    def tokens(self) -> int:
        """Tokens along a side of the window."""
        return self.window // TOKEN_STRIDE


@dataclass(frozen=True)
class Window:
    """A square of the video that the trunk looks at; may reach outside the picture.

    Attributes:
        x, y: top left corner, whole video pixels.
        side: whole video pixels.
    """

    x: int
    y: int
    side: int

    @classmethod
    def around(
        cls, centre: NDArray[np.floating], size: NDArray[np.floating], reach: float
    ) -> Window:
        """The window for an object of ``size`` (w, h) at ``centre`` (x, y), video pixels."""
        width, height = float(size[0]), float(size[1])
        side = max(round(max(reach * np.sqrt(width * height), 1.4 * max(width, height))), 16)
        return cls(round(float(centre[0]) - side / 2), round(float(centre[1]) - side / 2), side)

    def crop(self, image: NDArray[np.generic], side: int) -> NDArray[np.generic]:
        """Cut the window out of ``image`` and bring it to ``side`` pixels; edges are repeated."""
        height, width = image.shape[:2]
        left, top = max(0, self.x), max(0, self.y)
        right, bottom = min(width, self.x + self.side), min(height, self.y + self.side)
        if right <= left or bottom <= top:
            return np.zeros((side, side, *image.shape[2:]), image.dtype)
        part = image[top:bottom, left:right]
        if part.shape[:2] != (self.side, self.side):
            below, beside = self.y + self.side - bottom, self.x + self.side - right
            around = top - self.y, below, left - self.x, beside
            part = cv2.copyMakeBorder(part, *around, cv2.BORDER_REPLICATE)
        how = cv2.INTER_AREA if self.side > side else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(part, (side, side), interpolation=how))

    def onto_grid(
        self, values: NDArray[np.float32], grid: NDArray[np.float32], scale: float, outside: float
    ) -> NDArray[np.float32]:
        """Lay ``values`` of the window onto ``(h, w)`` ``grid``, which is ``scale`` x video.

        All of ``grid`` is written, and it is what is returned.
        """
        step_x, step_y = (self.side / values.shape[k] * scale for k in (1, 0))
        to_grid = np.array([[step_x, 0, self.x * scale], [0, step_y, self.y * scale]])
        # Pixel centres, not corners, are what bilinear sampling counts in.
        to_grid[:, 2] += 0.5 * (to_grid[0, 0] - 1)
        grid[:] = outside
        size = grid.shape
        x1, y1 = max(0, int(self.x * scale)), max(0, int(self.y * scale))
        x2 = min(size[1], int(np.ceil((self.x + self.side) * scale)))
        y2 = min(size[0], int(np.ceil((self.y + self.side) * scale)))
        if x2 > x1 and y2 > y1:
            to_grid[:, 2] -= (x1, y1)
            grid[y1:y2, x1:x2] = cv2.warpAffine(
                values, to_grid, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT, borderValue=outside,
            )  # fmt: skip
        return grid

    def from_grid(
        self, grid: NDArray[np.float32], side: int, scale: float, outside: float = 0.0
    ) -> NDArray[np.float32]:
        """Sample the window out of a grid that is ``scale`` x video, to ``side`` pixels."""
        # Sample as finely as the grid is, then average: thin parts must not fall between samples.
        finer = max(1, round(self.side / side * scale))
        step = self.side / (side * finer) * scale
        to_window = np.array([[step, 0, self.x * scale], [0, step, self.y * scale]])
        to_window[:, 2] += 0.5 * (step - 1)
        sampled = cv2.warpAffine(
            grid, to_window, (side * finer, side * finer),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT, borderValue=outside,
        )  # fmt: skip
        if finer > 1:
            sampled = cv2.resize(sampled, (side, side), interpolation=cv2.INTER_AREA)
        return np.asarray(sampled, np.float32)


def likely_place(
    found: NDArray[np.float32],
    picture: tuple[int, int],
    size: NDArray[np.floating],
    centre: NDArray[np.floating],
    spread: float,
) -> tuple[NDArray[np.float64], float]:
    """Where in a searched picture an object most likely is.

    Looks count, and so does the way there: a look-alike across the picture must not win the
    moment the object goes behind something.

    Args:
        found: ``(h, w)``, from ``find_again``.
        picture: ``(H, W)`` of the picture, pixels.
        size: ``(2,)`` width and height of the object, pixels.
        centre: ``(2,)`` where it was last, pixels.
        spread: standard deviation of how far it got since then, pixels.

    Returns:
        ``(x, y)`` middle of that place, and how plausible the way there is, in [0, 1].
    """
    step = np.array([picture[1] / found.shape[1], picture[0] / found.shape[0]])
    reach = np.maximum(1, (size / step).astype(int))
    smooth = cv2.boxFilter(found, -1, reach.tolist(), borderType=cv2.BORDER_CONSTANT)
    rows, columns = np.indices(smooth.shape)
    far = ((columns + 0.5) * step[0] - centre[0]) ** 2 + ((rows + 0.5) * step[1] - centre[1]) ** 2
    near = np.exp(-far / (2 * max(spread, 1.0) ** 2))
    row, column = np.unravel_index(int((smooth * near).argmax()), smooth.shape)
    return (np.array([column, row]) + 0.5) * step, float(near[row, column])


def to_logit(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of probabilities, kept within +-6.9."""
    clipped = np.clip(probability, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)


def keep_parts(
    logits: NDArray[np.float32],
    prior: NDArray[np.float32] | None,
    extent: float,
    overlap: float = 0.3,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tell the object's parts from look-alikes in the same window.

    Args:
        logits: ``(s, s)`` of the window.
        prior: ``(s, s)`` in [0, 1], where the object should be after moving with the optical
            flow; None when nobody knows.
        extent: half the object's expected size as a share of the window's side: parts whose
            middle lies that close to the window's centre may belong to the object though its
            previous mask does not touch them (they come out from behind something).
        overlap: parts covered by ``prior`` at least this much belong to the object.

    Returns:
        Logits with other parts set to -2, and logits with all but the best part set to -2.
    """
    count, labels, stats, centres = cv2.connectedComponentsWithStats((logits > 0).astype(np.uint8))
    if count <= 2:
        return logits, logits
    side = logits.shape[0]
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    offsets = np.abs(centres[1:] - (side - 1) / 2)
    if prior is not None and prior.sum() > 1:
        cover = np.bincount(labels.ravel(), weights=prior.ravel(), minlength=count)[1:]
        belongs = cover > overlap * areas
    else:
        cover = areas * np.exp(-(offsets**2).sum(axis=1) / (2 * (side / 4) ** 2))
        belongs = np.zeros(count - 1, bool)
    best = int(np.argmax(cover))
    belongs |= (offsets < extent * side).all(axis=1)
    belongs[best] = True
    kept = np.concatenate([[True], belongs])[labels]
    alone = (labels == 0) | (labels == best + 1)
    return np.where(kept, logits, np.float32(-2)), np.where(alone, logits, np.float32(-2))
