"""The images of a sequence, read ahead, and what going through them costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.errors import SourceError
from vision_mem.evaluation.engine.runner import Advanced, Job
from vision_mem.sources.images import read_image
from vision_mem.sources.prefetch import Prefetch
from vision_mem.types import Frame

Picture = NDArray[np.uint8]

_READ_AHEAD = 4


@contextmanager
def images_of(paths: Sequence[Path]) -> Iterator[Iterator[Picture | SourceError]]:
    """Images in order, a few read ahead; one that cannot be read comes as its error."""

    def read() -> Iterator[Picture | SourceError]:
        for path in paths:
            try:
                yield read_image(path)
            except SourceError as error:
                yield error

    images = Prefetch(read, _READ_AHEAD)
    try:
        yield iter(images)
    finally:
        images.close()


def sequence_frames(
    job: Job, paths: Sequence[Path], fps: float, strict: bool,
    tell: Callable[[Advanced], None], log: dict[str, Any],
) -> Iterator[tuple[int, Frame | None]]:  # fmt: skip
    """Frames of a sequence with their numbers; None for images that cannot be read.

    The log and whoever listens hear of each when it is done.

    Raises:
        SourceError: for such an image when it is the first one, or ``strict``.
    """
    damaged: list[int] = []
    log |= {"frames": 0, "damaged_frames": damaged}
    with images_of(paths) as images:
        for index, image in enumerate(images):
            if isinstance(image, SourceError):
                if strict or index == 0:
                    raise image
                damaged.append(index)
                yield index, None
            else:
                yield index, Frame(index, index / fps, image)
            log["frames"] = index + 1
            tell(Advanced(job.name, index + 1))
    if damaged:
        log["warnings"].append(
            f"{len(damaged)} of {len(paths)} images cannot be read and count as absent, "
            f"the first is {paths[damaged[0]]}"
        )


class Clock:
    """Counts the tracker's own time, and what memory it takes, frame by frame.

    A context: what happens within is the tracker's time.

    Args:
        device: it computes on.
    """

    def __init__(self, device: torch.device) -> None:
        import psutil

        self._device = device
        self._process = psutil.Process()
        self._begin = time.perf_counter()
        self._tracking = 0.0
        self._peak = 0
        self.latest = 0.0
        """Seconds of the newest time within."""
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        # Masks have come to the host by now, so that nothing is left running on a GPU.
        self.latest = time.perf_counter() - self._entered
        self._tracking += self.latest
        self._peak = max(self._peak, self._process.memory_info().rss)

    def report(self, frames: int) -> dict[str, Any]:
        """Speed without reading files, as the field counts it, and end to end; memory."""
        whole = time.perf_counter() - self._begin
        values: dict[str, Any] = {
            "seconds": round(whole, 3),
            "tracking_seconds": round(self._tracking, 3),
            "frames_per_s": round(frames / max(self._tracking, 1e-9), 2),
            "frames_per_s_end_to_end": round(frames / max(whole, 1e-9), 2),
            "peak_rss_bytes": self._peak,
        }
        if self._device.type == "cuda":
            values["peak_device_bytes"] = torch.cuda.max_memory_allocated(self._device)
        return values
