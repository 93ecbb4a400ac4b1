"""Who was here before, so that a returning object gets its identity back.

Looks are described by colours of the mask: a soft histogram of its upper and one of its lower
half. Pointers of SAM 2 would do too, but only with its weights; those of the embedded segmenter
say where it looked, not what it saw. Colours mean the same with every segmenter, cost no network,
and tell a shirt from trousers. Where the detector gives embeddings, these are compared instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import check_range
from vision_mem.mots.regions import Region

if TYPE_CHECKING:
    import torch

BINS = 6
"""Steps of each colour channel."""


@dataclass(frozen=True)
class GalleryConfig:
    """How somebody is recognised.

    Attributes:
        enabled: whether anybody is.
        size: removed tracks remembered at most; the oldest is forgotten first.
        min_similarity: alikeness needed, [0, 1].
        margin: by how much the best must beat the second best.
        max_age_s: seconds since an object was last seen; 0 for ever.
        max_resize: factor between its size then and now, on area.
        reach: how far from where it was last seen an object may turn up, in its own sizes, at
            once; 0 for anywhere.
        speed: how much further for each second since, in its own sizes.
        edge_anywhere: whether one that left over the picture's edge may come back anywhere.
        decide_frames: frames of its life in which a newcomer may turn out to be somebody known,
            when it is first seen well.
        hold_frames: frames for which a newcomer that may yet be somebody known is not shown,
            unless it is confirmed before; 0 shows all at once.
        slip_similarity: a mask less alike to its track has slipped onto something else: it has no
            say in matching, and a lost track is not found by it; 0 trusts all masks.
    """

    enabled: bool = True
    size: int = 256
    min_similarity: float = 0.86
    margin: float = 0.03
    max_age_s: float = 60.0
    max_resize: float = 4.0
    reach: float = 1.5
    speed: float = 1.5
    edge_anywhere: bool = True
    decide_frames: int = 15
    hold_frames: int = 6
    slip_similarity: float = 0.5

    def __post_init__(self) -> None:
        check_range(self, ("size",), 0)
        check_range(self, ("min_similarity",), 0, 1)


@dataclass(frozen=True)
class Looks:
    """What something looks like.

    Attributes:
        colours: float32 ``(2 * BINS**3,)`` of length 1, or empty when nothing was to be seen.
        embedding: float32 ``(d,)`` of length 1 from the detector; empty when it gave none.
    """

    colours: torch.Tensor
    embedding: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """Both tensors."""
        return [self.colours, self.embedding]


@dataclass(frozen=True)
class Known:
    """Somebody who was here: a removed or lost track.

    Attributes:
        object_id: its id.
        name: a word for people.
        label: class number.
        class_name: its word.
        looks: what it looked like.
        box: ``(x1, y1, x2, y2)`` pixels where it was last seen.
        area: pixels it covered then.
        size: ``(height, width)`` of that frame.
        frame_index, time_s: when that was.
    """

    object_id: int
    name: str
    label: int
    class_name: str
    looks: Looks
    box: tuple[float, float, float, float]
    area: float
    size: tuple[int, int]
    frame_index: int
    time_s: float

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        plain = {k: v for k, v in vars(self).items() if k != "looks"}
        return {**plain, "colours": self.looks.colours, "embedding": self.looks.embedding}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Known:
        """Rebuild from ``state_dict``."""
        kinds: dict[str, Any] = {"object_id": int, "name": str, "label": int, "class_name": str}
        kinds |= {"area": float, "frame_index": int, "time_s": float}
        x1, y1, x2, y2 = (float(value) for value in state["box"])
        height, width = (int(value) for value in state["size"])
        return cls(
            looks=Looks(state["colours"].cpu(), state["embedding"].cpu()),
            box=(x1, y1, x2, y2),
            size=(height, width),
            **{name: kind(state[name]) for name, kind in kinds.items()},
        )


def looks_of(
    image: NDArray[np.uint8], region: Region, embedding: NDArray[np.float32] | None = None
) -> Looks:
    """Describe a region of an image ``(H, W, 3)`` RGB; ``embedding`` ``(d,)`` is the detector's."""
    import torch  # seconds to load; the settings above are read without it

    halves = np.zeros((2, BINS**3), np.float32)
    rows, columns = region.window
    middle = (rows.start + rows.stop + 1) // 2
    for half, some in enumerate((slice(rows.start, middle), slice(middle, rows.stop))):
        pixels = image[some, columns]
        pixels = (
            pixels.reshape(-1, 3) if region.mask is None else pixels[region.mask[some, columns]]
        )
        if len(pixels):
            halves[half] = _histogram(pixels) / len(pixels)
    # Roots: the product of two is the Bhattacharyya coefficient.
    colours = np.sqrt(halves.ravel() / max(float(halves.sum()), 1e-12))
    return Looks(
        torch.from_numpy(colours if region.area else np.zeros(0, np.float32)),
        _unit(np.zeros(0, np.float32) if embedding is None else embedding),
    )


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(BINS**3,)`` counts; each pixel is shared among the bins around it."""
    place = pixels.astype(np.float32) * ((BINS - 1) / 255.0)
    low = np.minimum(place.astype(np.int64), BINS - 2)
    part = place - low
    first = low @ np.array([BINS * BINS, BINS, 1])
    (r1, g1, b1), (r0, g0, b0) = part.T, (1 - part).T
    counts = np.zeros(BINS**3, np.float64)
    for red, over in ((r0, 0), (r1, BINS * BINS)):
        for red_green, along in ((red * g0, over), (red * g1, over + BINS)):
            for weight, step in ((red_green * b0, along), (red_green * b1, along + 1)):
                counts += np.bincount(first + step, weights=weight, minlength=BINS**3)
    return counts.astype(np.float32)


def _unit(vector: NDArray[np.float32]) -> torch.Tensor:
    import torch

    length = float(np.linalg.norm(vector))
    return torch.from_numpy(np.array(vector / length if length else vector, np.float32))


def alike(first: Looks, second: Looks) -> float:
    """How alike two things look, in [0, 1]; 0 when one was never seen."""
    if first.embedding.numel() and first.embedding.shape == second.embedding.shape:
        return float(np.clip(float(first.embedding @ second.embedding), 0.0, 1.0))
    if not first.colours.numel() or not second.colours.numel():
        return 0.0
    return float(np.clip(float(first.colours @ second.colours), 0.0, 1.0))


def blended(old: Looks | None, new: Looks, weight: float = 0.1) -> Looks:
    """Running mean of looks; ``weight`` is that of the new ones."""
    if old is None:
        return new
    import torch

    def mean(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        if before.shape != after.shape or not before.numel():
            return after if after.numel() else before
        mixed = torch.lerp(before, after, weight)
        return torch.nn.functional.normalize(mixed, dim=0)

    return Looks(mean(old.colours, new.colours), mean(old.embedding, new.embedding))


def plausible(
    config: GalleryConfig, known: Known, box: NDArray[np.float32], area: float, time_s: float
) -> bool:
    """Whether somebody could be here by now: not too long ago, nor too far, nor too large.

    Here is ``box`` ``(4,)`` and ``area``, both in pixels.
    """
    gap = max(time_s - known.time_s, 0.0)
    if 0 < config.max_age_s < gap:
        return False
    before, now = max(known.area, 1.0), max(area, 1.0)
    if now / before > config.max_resize or before / now > config.max_resize:
        return False
    if config.reach == 0:
        return True
    x1, y1, x2, y2 = known.box
    height, width = known.size
    over = x1 <= 1 or y1 <= 1 or x2 >= width - 1 or y2 >= height - 1
    if config.edge_anywhere and over and gap > 1.0:
        return True
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    distance = float(np.linalg.norm((box[:2] + box[2:]) / 2 - middle))
    return distance <= max(x2 - x1, y2 - y1) * (config.reach + config.speed * gap)


def recognise(config: GalleryConfig, similarities: Sequence[float]) -> int | None:
    """The position of the most alike, [0, 1], when it is good enough and clearly ahead."""
    if not similarities:
        return None
    order = sorted(range(len(similarities)), key=lambda n: -similarities[n])
    best = similarities[order[0]]
    if best < config.min_similarity:
        return None
    if len(order) > 1 and best - similarities[order[1]] < config.margin:
        return None
    return order[0]


def remembered(config: GalleryConfig, gallery: Sequence[Known], one: Known) -> tuple[Known, ...]:
    """The gallery with one more, newest last, the oldest forgotten when it is full."""
    if not config.enabled or config.size == 0:
        return ()
    others = [known for known in gallery if known.object_id != one.object_id]
    return tuple([*others, one][-config.size :])
