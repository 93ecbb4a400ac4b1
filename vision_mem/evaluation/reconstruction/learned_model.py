"""The learned session behind ``SceneModel``: pictures alone, no depth and no intrinsics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.evaluation.reconstruction.scene_models import SceneInput, SceneOutput, Traits
from vision_mem.reconstruction.learned import LearnedConfig, LearnedResult, LearnedSession
from vision_mem.types import Frame


class LearnedModel:
    """A network with its two memories.

    Args:
        network: as ``LearnedSession`` takes it; it is not changed.
        config: settings of the session.
        name: for tables; the network's own ``model_id`` when left out.
    """

    def __init__(
        self, network: Any, config: LearnedConfig | None = None, name: str | None = None
    ) -> None:
        self._session = LearnedSession(network, config)
        self.traits = Traits(name or str(getattr(network, "model_id", "learned")))
        self.device: torch.device = next(network.parameters()).device
        self.wants_depth = False

    def reset(self) -> None:
        """Forget everything."""
        self._session.reset()

    def step(self, frame: SceneInput) -> SceneOutput:
        """Look at the next frame; intrinsics are found, as in the published tables."""
        found = self._session.step(Frame(frame.index, frame.time_s, frame.image))
        size, corner = _whole(found)
        points = _placed(found.points_world, size, corner, np.nan)
        depth = _placed(found.depth, size, corner, np.nan)
        moving = found.dynamic_prob > self._session.config.moving
        return SceneOutput(
            None if found.lost else found.pose, depth, points, _placed(moving, size, corner, False)
        )

    def map_points(self) -> NDArray[np.float32] | None:
        """Places of the persistent tokens; None for memories without places."""
        points = self._session.static_map().points
        return points if len(points) else None

    def held_bytes(self) -> int:
        """Of both memories."""
        return self._session.usage().bytes


def _whole(found: LearnedResult) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of the whole picture as the network saw it before it was cropped, and the crop's place.

    A crop stands for what is in it: what lies outside is not known.
    """
    across, down = found.to_original[0, 0], found.to_original[1, 1]
    height, width = found.dynamic_prob.shape
    corner = (
        max(0, round(float(found.to_original[1, 2] / down))),
        max(0, round(float(found.to_original[0, 2] / across))),
    )
    size = (
        max(round(found.size[0] / down), corner[0] + height),
        max(round(found.size[1] / across), corner[1] + width),
    )
    return size, corner


def _placed(part: Any, size: tuple[int, int], corner: tuple[int, int], rest: Any) -> Any:
    whole = np.full((*size, *part.shape[2:]), rest, part.dtype)
    height, width = part.shape[:2]
    whole[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = part
    return whole
