"""What is evaluated: frames in; depth, poses and points out. The geometric mode is one of them.

Any program that can be called frame by frame fits behind ``SceneModel``: wrap it, and hand it to
``SceneWorker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.geometry.poses import inverse, transform
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.reconstruction.learned import LearnedConfig, LearnedResult, LearnedSession
from vision_mem.types import Frame

GEOMETRIC = "geometric"


@dataclass(frozen=True)
class SceneInput:
    """One frame as a model gets it.

    Attributes:
        index: place in the sequence, from 0; gaps say that frames were left out.
        time_s: seconds; rises from frame to frame.
        image: ``(h, w, 3)`` uint8 RGB.
        depth: ``(H, W)`` float32 metres of a depth camera, 0 for no reading; only for models that
            ask for it.
        camera: of the depth map, or of the image where there is none; None where nothing says it.
        pose: ``(4, 4)`` camera-to-world where poses are given, else None.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    camera: Pinhole | None = None
    pose: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SceneOutput:
    """What a model says of a frame. The world is the camera of the first frame.

    Attributes:
        pose: ``(4, 4)`` camera-to-world, OpenCV axes; None where the camera is lost.
        depth: ``(H, W)`` z, of any size: it stands for the whole image; NaN where not known.
        points: ``(H, W, 3)`` in the world, NaN where not known; None: depth, pose and the set's
            intrinsics say it.
        moving: ``(H, W)`` bool: what moves now; None where the model does not say.
    """

    pose: NDArray[np.float64] | None
    depth: NDArray[np.float32]
    points: NDArray[np.float32] | None = None
    moving: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Traits:
    """How results are labelled.

    Attributes:
        model_id: for logs and tables.
        extra: a ``precision`` where there is one.
    """

    model_id: str = GEOMETRIC
    extra: Mapping[str, Any] = field(default_factory=dict)


class SceneModel(Protocol):
    """A model that looks at frames one after the other."""

    @property
    def traits(self) -> Traits:
        """How results are labelled."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def wants_depth(self) -> bool:
        """Whether it is shown the depth of a camera."""

    def reset(self) -> None:
        """Forget everything."""

    def step(self, frame: SceneInput) -> SceneOutput:
        """Look at the next frame."""

    def map_points(self) -> NDArray[np.float32] | None:
        """``(N, 3)`` what it keeps of what stays, in the world; None when it keeps no map."""

    def held_bytes(self) -> int:
        """What it holds between frames."""


@dataclass(frozen=True)
class SceneWorker:
    """What jobs run on.

    Attributes:
        model: looks at frames.
    """

    model: SceneModel


class GeometricModel:
    """The geometric mode behind ``SceneModel``: a depth camera is its eye.

    Its depth is the camera's. What it adds is the path, what moves, and a map of what stays.

    Args:
        config: settings of the session.
    """

    def __init__(self, config: ReconstructionConfig | None = None) -> None:
        self._session = ReconstructionSession(config)
        self.traits = Traits()
        self.device = torch.device("cpu")
        self.wants_depth = True
        self._first: NDArray[np.float64] | None = None

    def reset(self) -> None:
        """Forget everything."""
        self._session.reset()
        self._first = None

    def step(self, frame: SceneInput) -> SceneOutput:
        """Look at the next frame.

        Raises:
            InputError: for a frame without depth or intrinsics.
        """
        if frame.depth is None or frame.camera is None:
            raise InputError(
                "the geometric mode needs depth and intrinsics, and this sequence lacks "
                f"{'depth' if frame.depth is None else 'intrinsics'}; give another --model, or "
                "score the results of another program"
            )
        image = frame.image
        if image.shape[:2] != frame.depth.shape:
            import cv2

            size = (frame.depth.shape[1], frame.depth.shape[0])
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        shown = RgbdFrame(frame.index, frame.time_s, image, frame.depth, frame.camera, frame.pose)
        found = self._session.step(shown)
        if self._first is None and not found.lost:
            self._first = found.pose
        depth = np.where(frame.depth > 0, frame.depth, np.nan).astype(np.float32)
        pose = None if found.lost or self._first is None else inverse(self._first) @ found.pose
        return SceneOutput(pose, depth, None, found.dynamic)

    def map_points(self) -> NDArray[np.float32] | None:
        """The static map, in the axes of the first camera."""
        points = self._session.static_map().points
        if self._first is None:
            return points
        return transform(inverse(self._first), points).astype(np.float32)

    def held_bytes(self) -> int:
        """Of both memories."""
        return self._session.usage().bytes


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
