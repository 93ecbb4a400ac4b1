"""What a learned session says of a frame, beyond what every reconstruction says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.camera import Pinhole
from vision_mem.reconstruction.records import ReconstructionResult

HEAD, PROCRUSTES = "head", "procrustes"
"""Sources of poses besides those of every reconstruction."""


@dataclass(frozen=True, kw_only=True)
class LearnedResult(ReconstructionResult):
    """One frame as the network sees it.

    Maps are of the small picture that the network works on; ``labels`` are of the frame.

    Attributes:
        points_self: ``(h, w, 3)`` float32 in this frame's camera; z is depth.
        points_world: ``(h, w, 3)`` float32 in the world, where things are at this moment.
        conf_self, conf_world: ``(h, w)`` float32 >= 1.
        dynamic_prob: ``(h, w)`` float32 in [0, 1].
        camera: of the small picture: given, or found and steadied over frames.
        camera_given: whether it was.
        to_original: ``(2, 3)`` float64 affine from x, y of the small picture to the frame's.
        stats: bytes and tokens of both memories, attention to each, errors; plain numbers.
    """

    points_self: NDArray[np.float32]
    points_world: NDArray[np.float32]
    conf_self: NDArray[np.float32]
    conf_world: NDArray[np.float32]
    dynamic_prob: NDArray[np.float32]
    camera: Pinhole
    camera_given: bool
    to_original: NDArray[np.float64]
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def depth(self) -> NDArray[np.float32]:
        """``(h, w)`` z of the points."""
        return self.points_self[..., 2]

    @property
    def sure(self) -> NDArray[np.bool_]:
        """``(h, w)`` points that are worth keeping: confidence above 1.5, as is the habit."""
        return np.asarray(self.conf_world > 1.5)
