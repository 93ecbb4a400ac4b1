"""What a detector is: something that looks at one frame and says which objects it sees."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vision_mem.types import Detections, Frame


@runtime_checkable
class Detector(Protocol):
    """Finds objects on single frames. Given frames in order, from one thread."""

    @property
    def name(self) -> str:
        """A short word for messages."""

    @property
    def stateful(self) -> bool:
        """Whether answers depend on earlier frames, as those of motion detectors do.

        Such a detector is not shared between streams, and its state is not saved: a run that is
        resumed shows it the frames before again.
        """

    @property
    def reports_absence(self) -> bool:
        """Whether an object missing from the newest answer was looked for and not seen.

        False for motion detectors, which do not see what stands still: then a track must not
        suffer from not being detected. It may change from answer to answer; ask after ``detect``.
        """

    def detect(self, frame: Frame) -> Detections | None:
        """Look at a frame.

        Args:
            frame: the next frame of the stream.

        Returns:
            What is seen on it, in pixels of ``frame.image``. None says "no answer": it did not
            look, or it failed; that is not the same as having seen nothing.
        """

    def reset(self) -> None:
        """Forget all frames; the next one begins another stream."""

    def close(self) -> None:
        """Free what is held; safe to call twice."""
