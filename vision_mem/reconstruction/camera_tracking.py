"""Which pose a frame gets: the given one, the first one, or one that is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.geometry.camera import RgbdFrame
from vision_mem.geometry.poses import exponential, inverse, logarithm, transform
from vision_mem.reconstruction.icp import Alignment, OdometryConfig, align
from vision_mem.reconstruction.kernels.dispatch import VoxelKernels
from vision_mem.reconstruction.photometric import left_over, likeness
from vision_mem.reconstruction.records import FIRST, GIVEN, ICP, LOST
from vision_mem.reconstruction.relocalization import Places, distance
from vision_mem.reconstruction.surfel_map import StructureMemory
from vision_mem.reconstruction.visual_odometry import NOTHING_SEEN, ImageMotion, see
from vision_mem.reconstruction.working_size import WorkingFrame

Matrix = NDArray[np.float64]

_GOOD = 0.5
"""Inliers from which on no second opinion is asked for, and a place is worth keeping."""

_FOLLOWED = 15
"""Lost frames over which motion is added up at most; later it means nothing."""

_DOUBT = 2
"""Frames of unsure motion after which it is not known any more where a lost camera went."""

_AGAINST, _BETTER = 1.5, 0.7
"""How many times worse images may fit the structure's pose than their own; and the part of it that
may be left when leaving out what moves has helped."""

_QUARREL, _ANEW = 3, 8
"""Frames in a row on which images and structure differ, whatever is left out, after which images
are heard on every eighth frame only."""

_LAST = 0.25
"""How far the last place before a camera is lost must be from others (``places.distance``)."""

_CORNERS = 2
"""Directions that structure may leave open to followed corners alone."""

_ALIKE = 0.75
"""Correlation of colours below which a place is taken for another."""

_AGREES = 1.0
"""How far the structure may move a camera that was recognized (see ``places.distance``)."""


_MATRICES = ("pose", "anchor", "guess")
_KEPT = (*_MATRICES, "velocity", "time_s", "lost_frames", "doubt", "quarrel", "grey", "depth")


@dataclass(frozen=True)
class Location:
    """Where a frame is.

    Attributes:
        pose: ``(4, 4)`` camera-to-world.
        source: ``given``, ``first``, ``icp`` or ``lost``.
        inliers: share of the visible structure that fits, [0, 1].
        reason: why it is lost.
        just_lost, found_again: whether this is the first lost frame, or the first after some.
        open, deviation: see ``icp.Alignment``; of poses that are found.
    """

    pose: Matrix
    source: str
    inliers: float
    reason: str = ""
    just_lost: bool = False
    found_again: bool = False
    open: tuple[str, ...] = ()
    deviation: Matrix | None = None


@dataclass(frozen=True)
class _View:
    """A frame, and the structure that it is compared with; see ``Locator.locate``."""

    frame: RgbdFrame
    small: WorkingFrame
    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    structure: StructureMemory


class Locator:
    """Gives each frame its pose, and remembers what that takes.

    Given poses define the world. When the first ones are missing, the first frame does, and the
    given ones are carried over to it.

    Args:
        kernels: loops.
        config: settings.
        most_places: places remembered for finding a lost camera again.
    """

    def __init__(self, kernels: VoxelKernels, config: OdometryConfig, most_places: int) -> None:
        self.kernels, self.config = kernels, config
        self._few_open = min(config.most_open, _CORNERS)
        self.places = Places(most_places)
        self.pose: Matrix | None = None
        self.guess: Matrix = np.eye(4)
        self.velocity = np.zeros(6)
        self.time_s = 0.0
        self.lost_frames = 0
        self.doubt = 0
        self.quarrel = 0
        self.anchor: Matrix | None = None
        self.grey = np.zeros((0, 0), np.uint8)
        self.depth = np.zeros((0, 0), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the last frame."""
        return self.grey.nbytes + self.depth.nbytes

    def locate(
        self,
        frame: RgbdFrame,
        small: WorkingFrame,
        points: NDArray[np.float32],
        normals: NDArray[np.float32],
        structure: StructureMemory,
        told: NDArray[np.bool_] | None,
    ) -> Location:
        """Find the pose of a frame.

        Args:
            frame: the frame.
            small: how it is worked on.
            points: ``(h, w, 3)`` in the camera.
            normals: ``(h, w, 3)`` in the camera.
            structure: what is known.
            told: ``(h, w)`` pixels that are known to move, or None.
        """
        if frame.pose is not None and self.pose is None:
            self.anchor = np.eye(4)
        if frame.pose is not None and self.anchor is not None:
            return self._accept(frame, small, self.anchor @ frame.pose, GIVEN, 1.0)
        if structure.count == 0:
            # Nothing to compare with: the world begins here.
            start = np.eye(4) if self.pose is None else self.pose
            if frame.pose is not None:
                self.anchor = start @ inverse(frame.pose)
            return self._accept(frame, small, start, FIRST, 1.0)
        if told is not None:
            points = points.copy()
            points[told] = 0
        view = _View(frame, small, points, normals, structure)
        seen, most_open = NOTHING_SEEN, 0
        if self.config.colour and self.doubt <= _DOUBT:
            seen = self._motion(view)
            # A world of one plane must not be drifted along: nothing would ever mend it.
            many = seen.sure and not structure.is_flat()
            most_open = self.config.most_open if many else self._few_open
        found = self._found(view, seen, most_open)
        found, view = self._heard(view, seen, found, most_open)
        jumped = False
        if found.lost:
            if not self.lost_frames:
                # What was seen last is the most likely to be seen again.
                self._note(small, least=_LAST)
            again = self._recognized(view)
            found, jumped = again or found, again is not None
        if self.config.colour and not found.lost and not seen.same:
            # Rooms have much the same corners: where the images do not say how the camera came
            # here, what is known of the place has to look like what is seen.
            found = self._compared(view, found)
        if found.lost:
            # Images may lead back to where structure is known; nothing is claimed meanwhile.
            assert self.pose is not None
            self.lost_frames += 1
            self.velocity = np.zeros(6)
            same = seen.same and self.lost_frames <= _FOLLOWED
            self.doubt = self.doubt + (not seen.sure) if same else _DOUBT + 1
            if self.doubt > _DOUBT:
                self.guess = self.pose
            elif seen.motion is not None:
                self.guess = self.guess @ seen.motion
            self._keep(frame, small)
            just = self.lost_frames == 1
            return Location(
                self.pose, LOST, found.inliers, found.reason, just_lost=just, open=found.open
            )
        if frame.pose is not None:
            # The first given pose after missing ones says how its world lies in this one.
            self.anchor = found.pose @ inverse(frame.pose)
            return self._accept(frame, small, found.pose, GIVEN, found.inliers, jumped)
        at = self._accept(frame, small, found.pose, ICP, found.inliers, jumped)
        return replace(at, open=found.open, deviation=found.deviation)

    def _accept(
        self,
        frame: RgbdFrame,
        small: WorkingFrame,
        pose: Matrix,
        source: str,
        inliers: float,
        jumped: bool = False,
    ) -> Location:
        again = self.lost_frames > 0
        seconds = frame.time_s - self.time_s
        if self.pose is not None and not again and not jumped and seconds > 0:
            self.velocity = logarithm(inverse(self.pose) @ pose) / seconds
        else:
            self.velocity = np.zeros(6)
        self.pose, self.guess, self.lost_frames, self.doubt = pose, pose, 0, 0
        self._keep(frame, small)
        return Location(pose, source, inliers, found_again=again)

    def _keep(self, frame: RgbdFrame, small: WorkingFrame) -> None:
        self.time_s = frame.time_s
        if self.config.colour:
            self.grey, self.depth = small.grey, small.depth

    def _found(self, view: _View, seen: ImageMotion, most_open: int) -> Alignment:
        def attempt(prior: Matrix, most_open: int = 0, held: float | None = None) -> Alignment:
            held = self.config.conditioning if held is None else held
            return self._attempt(view, prior, most_open, held)

        tried = []
        if seen.motion is not None:
            tried.append(attempt(self.guess @ seen.motion, most_open, self.config.leaning))
        if not tried or tried[0].lost or tried[0].inliers < _GOOD:
            seconds = min(view.frame.time_s - self.time_s, 1.0)
            tried.append(attempt(self.guess @ exponential(self.velocity * seconds)))
        if all(one.lost for one in tried) and self.velocity.any():
            tried.append(attempt(self.guess))
        return max(tried, key=lambda one: (not one.lost, one.inliers))

    def _heard(
        self, view: _View, seen: ImageMotion, found: Alignment, most_open: int
    ) -> tuple[Alignment, _View]:
        """What images have to say against what the structure says, and what of the frame counts."""
        if self.quarrel >= _QUARREL and self.quarrel % _ANEW:
            self.quarrel += 1
            return found, view
        against = self._against(seen, found)
        if against <= _AGAINST:
            self.quarrel = 0
            return found, view
        # Something moves, and holds the camera where a wall does not: leave it out.
        assert seen.motion is not None
        images, depths = (self.grey, view.small.grey), (self.depth, view.small.depth)
        odd = left_over(*images, depths, view.small.camera.numbers, seen.motion)
        still = replace(view, points=np.where(odd[..., None], np.float32(0), view.points))
        other = self._found(still, seen, most_open)
        if self._against(seen, other) < max(_AGAINST, _BETTER * against):
            self.quarrel = 0
            return other, still
        # Depth and colour of this camera may not lie on each other: then images are never content.
        self.quarrel += 1
        return (found, view) if self.quarrel > _QUARREL else (other, still)

    def _against(self, seen: ImageMotion, found: Alignment) -> float:
        """How many times worse images fit what the structure says than what they say themselves."""
        if seen.brightness is None or found.lost:
            return 0.0
        return seen.brightness.against(inverse(self.guess) @ found.pose)

    def _motion(self, view: _View) -> ImageMotion:
        """How the camera moved since the last frame, as the images have it."""
        starts = [np.eye(4)]
        if self.velocity.any():
            seconds = min(view.frame.time_s - self.time_s, 1.0)
            starts.append(exponential(self.velocity * seconds))
        return see(self.grey, view.small.grey, self.depth, view.small.camera.numbers, starts)

    def _attempt(
        self, view: _View, prior: Matrix, most_open: int, conditioning: float
    ) -> Alignment:
        """Align with what is in view from ``prior``."""
        camera, size = view.small.camera.numbers, view.small.size
        back = np.ascontiguousarray(inverse(prior)[:3])
        model = view.structure.read_view((back, camera, size), self.config.model_points)
        return align(
            self.kernels, self.config, model, view.points, view.normals, camera, prior,
            conditioning=conditioning, most_open=most_open,
        )  # fmt: skip

    def _compared(self, view: _View, found: Alignment) -> Alignment:
        """``found``, lost when the colours there are others."""
        small, back = view.small, inverse(found.pose)
        place = np.ascontiguousarray(back[:3]), small.camera.numbers, small.size
        points, colours = view.structure.read_colours(place, 2_000)
        here = transform(back, points).astype(np.float32)
        if likeness(here, colours, small.image, small.depth, small.camera.numbers) >= _ALIKE:
            return found
        reason = "what is seen does not look like what is known there"
        return replace(found, lost=True, reason=reason)

    def _recognized(self, view: _View) -> Alignment | None:
        """The pose of a frame that shows a known place, if the structure there says the same."""
        if not self.config.colour:
            return None
        prior = self.places.recall(view.small.grey, view.small.camera)
        if prior is None:
            return None
        found = self._attempt(view, prior, self._few_open, self.config.leaning)
        return None if found.lost or distance(prior, found.pose) > _AGREES else found

    def learn(self, small: WorkingFrame, at: Location, moving: NDArray[np.bool_]) -> None:
        """Take in a frame just accepted, once it is known what in it moves.

        Args:
            small: the frame.
            at: what ``locate`` said of it.
            moving: ``(h, w)`` pixels that tell nothing of the camera.
        """
        if not self.config.colour:
            return
        if moving.any():
            self.depth = np.where(moving, np.float32(0), self.depth)
        # Recordings with poses need no places, and pay for none.
        if at.source != GIVEN and at.inliers >= _GOOD:
            self._note(small)

    def _note(self, small: WorkingFrame, least: float | None = None) -> None:
        """Keep the frame last seen as a place; frames of another size than now say too little."""
        if self.pose is not None and self.grey.shape == small.size:
            self.places.consider(self.grey, self.depth, small.camera, self.pose, least=least)

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        held = {name: getattr(self, name) for name in _KEPT}
        made = {
            name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in held.items()
        }
        return made | {"places": self.places.state_dict()}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        kernels: VoxelKernels,
        config: OdometryConfig,
        most_places: int,
    ) -> Locator:
        """What ``state_dict`` gave.

        Raises:
            ValueError, KeyError, AttributeError: for a state that is not whole.
        """
        made = cls(kernels, config, most_places)
        for name in (*_MATRICES, "velocity", "grey", "depth"):
            if state[name] is not None or name not in _MATRICES:
                array = state[name].numpy().copy()
                if name in _MATRICES and array.shape != (4, 4):
                    raise ValueError(f"{name} has shape {array.shape}")
                setattr(made, name, array)
        made.time_s, made.lost_frames = float(state["time_s"]), int(state["lost_frames"])
        if "places" in state:  # not in snapshots of before there were any
            made.doubt, made.quarrel = int(state["doubt"]), int(state.get("quarrel", 0))
            made.places = Places.from_state(state["places"], most_places)
        return made
