"""Model images resized inside decord's decoder, as the official SAM 2 and SAMURAI read videos.

Its filter scales in YUV; no other resize gives the same pixels, so comparing with the official
code on MP4 files needs decord itself.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.sources.video import display_matrix, mirrored, upright

log = logging.getLogger(__name__)


class DecordResize:
    """A second reader of the same file that gives images of ``size`` x ``size``.

    decord stops at damaged packets, cannot open files that were cut off, and has no wheels for
    some machines. From there on FFmpeg's
    bilinear scaler takes over (mean difference about 0.2 grey levels), with one warning.

    Args:
        path: the video file.
        size: width and height to ask of decord, pixels.
        complete: whether the file has all its bytes; decord is not tried otherwise.
        hidden: whether the file holds pictures that are never shown (an edit list); decord counts
            them, and would give the network pictures that come later than those shown.
    """

    def __init__(self, path: str, size: int, complete: bool, hidden: bool) -> None:
        self._path = path
        self._size = size
        self._reader: Any = None
        self._times: NDArray[np.float64] = np.zeros(0)
        self._position = 0
        self._tolerance = 0.0
        if not complete:
            self._give_up("the file is cut off")
            return
        if hidden:
            self._give_up("the file was trimmed and decord counts what is hidden")
            return
        try:
            import decord
        except ImportError:  # no wheels for this machine
            self._give_up("it is not installed; run: pip install decord")
            return
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(path, width=size, height=size, num_threads=1)
            stamps = self._reader.get_frame_timestamp(range(len(self._reader)))
            self._times = np.asarray(stamps, dtype=np.float64)[:, 0]
            # decord's stamps are float32: after hours they are good to a few milliseconds only.
            self._tolerance = 0.4 / max(float(self._reader.get_avg_fps()), 1.0)
        except (decord.DECORDError, RuntimeError, IndexError):
            self._give_up("it cannot open the file")

    def at(self, time_s: float, decoded: Any) -> NDArray[np.uint8]:
        """The model image of one frame.

        Args:
            time_s: presentation time; ascending from call to call.
            decoded: the PyAV frame of that moment, for when decord cannot help.

        Returns:
            ``(size, size, 3)`` uint8 RGB, upright.
        """
        if self._reader is not None:
            image = self._from_decord(time_s)
            if image is not None:
                return mirrored(image, display_matrix(decoded))
        scaled = decoded.reformat(
            width=self._size, height=self._size, format="rgb24", interpolation="BILINEAR"
        ).to_ndarray()
        return upright(scaled, display_matrix(decoded))

    def _from_decord(self, time_s: float) -> NDArray[np.uint8] | None:
        import decord

        wanted = int(np.searchsorted(self._times, time_s))
        near = [i for i in (wanted - 1, wanted) if 0 <= i < len(self._times)]
        wanted = min(near, key=lambda i: abs(float(self._times[i]) - time_s))
        if abs(float(self._times[wanted]) - time_s) > self._tolerance or wanted < self._position:
            return None  # decord does not count this frame
        try:
            if wanted - self._position > 128:
                self._reader.seek_accurate(wanted)
            elif wanted > self._position:
                self._reader.skip_frames(wanted - self._position)
            image: NDArray[np.uint8] = self._reader.next().asnumpy()
        except (decord.DECORDError, RuntimeError, StopIteration):
            self._give_up("damaged data")
            return None
        self._position = wanted + 1
        return image

    def _give_up(self, reason: str) -> None:
        self._reader = None
        log.warning(
            "%s: decord cannot go on (%s); images for the model are resized by FFmpeg from here on",
            self._path,
            reason,
        )

    def close(self) -> None:
        """Let go of decord's reader."""
        self._reader = None
