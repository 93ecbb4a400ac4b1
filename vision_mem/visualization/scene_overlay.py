"""Frames of a moving scene for people: what moves tinted on the colour, the depth beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.geometry.camera import RgbdFrame
from vision_mem.results import Seen
from vision_mem.visualization.draw import colour_of, draw_tag

_MOVING, _PARKED, _MAYBE = 2, 3, 4  # values of labels, as in reconstruction.records
_NEAR, _FAR = 0.3, 8.0
"""Metres of the two ends of the colours of depth; the same on every frame."""
_ALPHA, _SMALLEST = 0.5, 360
_NO_TRACK = (235, 235, 235)


class FoundScene(Seen, Protocol):
    """What is said of one frame; see ``reconstruction.ReconstructionResult``."""

    @property
    def pose(self) -> NDArray[np.float64]:
        """``(4, 4)`` camera-to-world."""

    @property
    def lost(self) -> bool:
        """Whether the pose is not to be believed."""

    @property
    def reason(self) -> str:
        """Why it is lost."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """``(H, W)``: unknown, static, moving, parked, perhaps moving."""

    @property
    def track_ids(self) -> NDArray[np.int32]:
        """``(H, W)`` of tracks, 0 for none."""

    @property
    def tracks(self) -> Sequence[Any]:
        """Sure tracks: ``track_id, state, seen, centre, velocity, extent, hits``."""

    @property
    def uncertain(self) -> Sequence[Any]:
        """Tracks of what may move, likewise."""

    @property
    def moving_points(self) -> Any:
        """``points, colours, track_ids`` of what moves, in the world."""


class ScenePainter:
    """Draws a frame and what was found in it: two pictures side by side."""

    def draw(self, frame: RgbdFrame, found: FoundScene) -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            frame: colour and depth.
            found: of this frame.

        Returns:
            ``(h, 2 * w + 4, 3)`` uint8 RGB; small frames are enlarged by a whole number.
        """
        times = max(1, round(_SMALLEST / frame.size[0]))
        colour = self._tinted(frame.image, found)
        depth = coloured_depth(frame.depth)
        pictures = [_enlarged(each, times) for each in (colour, depth)]
        for track in found.tracks:
            mask = found.track_ids == track.track_id
            if not (track.seen and mask.any()):
                continue
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            hue = colour_of(track.track_id)
            corner, far = (x * times, y * times), ((x + w) * times - 1, (y + h) * times - 1)
            cv2.rectangle(pictures[0], corner, far, hue, 1)
            speed = float(np.linalg.norm(track.velocity))
            word = "parked" if track.state == "parked" else f"{speed:.1f} m/s"
            draw_tag(pictures[0], f"{track.track_id} {word}", corner, above=True)
        bottom = pictures[0].shape[0]
        draw_tag(pictures[0], f"{found.frame_index}  {found.time_s:.2f} s", (0, bottom), above=True)
        if found.lost:
            draw_tag(pictures[0], f"camera lost: {found.reason}", (0, 0), above=False)
        draw_tag(pictures[1], f"depth {_NEAR:g} to {_FAR:g} m", (0, bottom), above=True)
        gap = np.full((bottom, 4, 3), 255, np.uint8)
        return np.ascontiguousarray(np.hstack([pictures[0], gap, pictures[1]]))

    @staticmethod
    def _tinted(image: NDArray[np.uint8], found: FoundScene) -> NDArray[np.uint8]:
        moving = found.labels >= _MOVING
        if not moving.any():
            return image
        canvas = image.copy()
        # What may move is grey, and no object.
        shown = np.where(found.labels == _MAYBE, 0, found.track_ids)
        for track_id in np.unique(shown[moving]).tolist():
            own = moving & (shown == track_id)
            hue = np.array(colour_of(track_id) if track_id > 0 else _NO_TRACK, np.float32)
            # What stands still is paler than what moves.
            pale = np.isin(found.labels[own], (_PARKED, _MAYBE))
            share = np.where(pale, _ALPHA / 2, _ALPHA)[:, None]
            canvas[own] = (canvas[own] * (1 - share) + hue * share).astype(np.uint8)
        return canvas


def object_picture(frame: RgbdFrame, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What lies about a mask, the rest paler: a picture of one object.

    Args:
        frame: colour.
        mask: ``(H, W)``, not empty.

    Returns:
        ``(h, w, 3)`` uint8 RGB, at least 200 pixels wide or high.
    """
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    rim = max(w, h) // 2 + 4
    rows, columns = slice(max(y - rim, 0), y + h + rim), slice(max(x - rim, 0), x + w + rim)
    cut, own = frame.image[rows, columns].astype(np.float32), mask[rows, columns]
    cut[~own] = 0.55 * cut[~own] + 0.45 * 255
    times = max(1, round(200 / max(own.shape)))
    return _enlarged(cut.astype(np.uint8), times)


def coloured_depth(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Depth as colours, near ones warm, holes black.

    Args:
        depth: ``(H, W)`` metres; what is not above 0 is a hole.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    known = np.isfinite(depth) & (depth > 0)
    share = (1 / np.where(known, depth, 1.0) - 1 / _FAR) / (1 / _NEAR - 1 / _FAR)
    # The square root gives the far half of a room as many colours as the near one.
    level = (np.sqrt(np.clip(share, 0, 1)) * 255).astype(np.uint8)
    picture = np.asarray(cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1], np.uint8)
    return np.where(known[..., None], picture, np.uint8(0))


def _enlarged(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    if times == 1:
        return np.array(image)
    return np.ascontiguousarray(image.repeat(times, axis=0).repeat(times, axis=1))
