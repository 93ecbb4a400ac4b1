"""What the embedded segmenter knows of an object besides features: where it is, and how large.

Pointers and the ``state`` of a memory entry share one layout of float32 numbers. A pointer says
where its candidate was looked for; the state says what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.label_propagation import VotingMemory
from vision_mem.models.segmenters.embedded.windows import Window
from vision_mem.models.segmenters.protocol import MemoryRead


@dataclass(frozen=True)
class ObjectState:
    """Place and size of an object, video pixels.

    Attributes:
        window: where it was looked for.
        size: float64 ``(2,)`` width and height, smoothed over time.
        area: pixels of its mask, smoothed over time.
        missing: frames since it was seen.
        score: estimated IoU of the candidate.
        box: float64 ``(4,)`` ``(x1, y1, x2, y2)`` where it was seen last.
        scale: grid / video of the frame these numbers belong to.
    """

    window: Window
    size: NDArray[np.float64]
    area: float
    missing: int
    score: float
    box: NDArray[np.float64]
    scale: float

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_], reach: float, scale: float) -> ObjectState:
        """State of an object that a prompt has shown: ``(H, W)`` at the video's size, or empty."""
        box = mask_to_box(mask).astype(np.float64)
        size = np.maximum(box[2:] - box[:2], 1)
        window = Window.around((box[:2] + box[2:]) / 2, size, reach)
        return cls(window, size, float(np.count_nonzero(mask)), 0, 1.0, box, scale)

    @classmethod
    def from_array(cls, values: NDArray[np.float32]) -> ObjectState:
        """Read what ``to_array`` wrote."""
        x, y, side = (int(value) for value in values[:3])
        wide = values.astype(np.float64)
        area, missing, score, scale = (float(wide[n]) for n in (5, 6, 7, 12))
        return cls(Window(x, y, side), wide[3:5], area, int(missing), score, wide[8:12], scale)

    def to_array(self) -> NDArray[np.float32]:
        """``(13,)`` float32; whole numbers are exact."""
        window = [self.window.x, self.window.y, self.window.side]
        numbers = [self.area, self.missing, self.score, *self.box, self.scale]
        return np.array([*window, *self.size, *numbers], np.float32)

    @property
    def centre(self) -> NDArray[np.float64]:
        """Middle of the last box."""
        return (self.box[:2] + self.box[2:]) / 2

    def at(self, scale: float) -> ObjectState:
        """The same in pixels of a video of another size, given its grid / video."""
        if np.float32(scale) == np.float32(self.scale):
            return replace(self, scale=scale)  # the array has rounded it
        k = self.scale / scale
        window = Window(*(round(v * k) for v in (self.window.x, self.window.y, self.window.side)))
        size, area, box = self.size * k, self.area * k**2, self.box * k
        return replace(self, window=window, size=size, area=area, box=box, scale=scale)

    def lost(self) -> ObjectState:
        """After a frame on which the object was not seen."""
        return replace(self, missing=self.missing + 1)

    def seen(
        self, mask: NDArray[np.bool_], config: EmbeddedConfig, *, from_prompt: bool
    ) -> ObjectState:
        """After a frame on which the object was seen: ``(gh, gw)`` on the grid, not empty.

        A user's mask is believed at once.
        """
        box = (mask_to_box(mask) / self.scale).astype(np.float64)
        size, area = box[2:] - box[:2], float(mask.sum()) / self.scale**2
        if not from_prompt:
            rate = np.where(size > self.size, config.grow, config.shrink) * self.score
            size = self.size * (1 - rate) + size * rate
            area = self.area * (1 - config.area_rate) + area * config.area_rate
        return replace(self, size=size, area=area, missing=0, box=box)


def remembered(read: MemoryRead, config: EmbeddedConfig) -> list[VotingMemory]:
    """Entries that vote, and the weight of each; frames without the object have no say."""
    recents = [entry for entry, _ in read.recents if float(entry.tensors["seen"]) > 0]
    if read.among >= config.crowd:
        recents = recents[-config.crowd_memories :]
    share = config.prompt_share if recents else 1.0
    memory = [
        VotingMemory(e.tensors["tokens"], e.tensors["mask"], share / len(read.prompts), True)
        for e in read.prompts
    ]
    return memory + [
        VotingMemory(e.tensors["tokens"], e.tensors["mask"], (1 - share) / len(recents), False)
        for e in recents
    ]
