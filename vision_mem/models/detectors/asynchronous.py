"""A detector slower than its stream, in a thread of its own: it always sees the newest frame."""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import replace

from vision_mem.models.detectors.filters import Around, Guarded
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)


class _Post:
    """What the caller and the thread share. The thread holds only this and the detector."""

    def __init__(self) -> None:
        self.waiting: Frame | None = None
        self.answer: tuple[Detections, bool] | None = None
        self.error: BaseException | None = None
        self.round = 0  # answers of an earlier round, before a reset, are thrown away
        self.busy = False
        self.stopped = False
        self.changed = threading.Condition()

    def stop(self) -> None:
        with self.changed:
            self.stopped, self.waiting = True, None
            self.changed.notify_all()


def _work(post: _Post, detector: Detector) -> None:
    begun = 0
    while True:
        with post.changed:
            post.busy = False
            post.changed.notify_all()
            while post.waiting is None and not post.stopped:
                post.changed.wait()
            if post.stopped:
                return
            frame, post.waiting = post.waiting, None
            assert frame is not None
            post.busy, fresh = True, post.round != begun
            begun = post.round
        try:
            if fresh:
                detector.reset()
            found = detector.detect(frame)
        except BaseException as error:
            with post.changed:
                post.error, post.busy = error, False
                post.changed.notify_all()
            return
        if found is None:
            continue
        if found.frame_index is None:
            found = replace(found, frame_index=frame.index, time_s=frame.time_s)
        with post.changed:
            if post.round == begun:
                post.answer = (found, detector.reports_absence)


class LatestOnly(Around):
    """Never waits: hands a frame to its thread and returns what the thread has finished.

    An answer is given out once, on the first frame after it is there, with ``frame_index`` and
    ``time_s`` of the frame it was made from; other frames have no answer. A frame that is not
    taken up before the next one comes is never looked at.

    Errors are logged and counted as ``Guarded`` does; what it raises is raised by ``detect``.

    Args:
        detector: runs in the thread only, from now on.
    """

    def __init__(self, detector: Detector) -> None:
        guarded = detector if isinstance(detector, Guarded) else Guarded(detector)
        super().__init__(guarded)
        self.skipped = 0
        """Frames that were never looked at."""
        self._absence = detector.reports_absence
        self._post = _Post()
        self._thread: threading.Thread | None = None
        self._closed = False
        weakref.finalize(self, self._post.stop)

    @property
    def reports_absence(self) -> bool:
        return self._absence

    def detect(self, frame: Frame) -> Detections | None:
        post = self._post
        if self._thread is None and not self._closed:
            # Daemon: a network that hangs must not keep the program from ending.
            self._thread = threading.Thread(
                target=_work, args=(post, self.detector), name="vision-mem-detect", daemon=True
            )
            self._thread.start()
        with post.changed:
            if post.error is not None:
                raise post.error
            answer, post.answer = post.answer, None
            self.skipped += post.waiting is not None
            if not self._closed:
                post.waiting = frame
                post.changed.notify_all()
        if answer is None:
            return None
        found, self._absence = answer
        return found

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the frame handed over last has been looked at.

        Returns:
            False when ``timeout_s`` went by first.
        """
        with self._post.changed:
            return self._post.changed.wait_for(self._idle, timeout_s)

    def _idle(self) -> bool:
        post = self._post
        ended = post.stopped or post.error is not None
        return ended or (post.waiting is None and not post.busy)

    def reset(self) -> None:
        with self._post.changed:
            self._post.round += 1
            self._post.waiting = self._post.answer = None
        self.skipped = 0
        # The thread resets the detector itself, before its next frame.

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread, after the frame it is at, and close the detector.

        Args:
            timeout_s: seconds to wait for that frame; the detector is not closed after that.
        """
        if self._closed:
            return
        self._closed = True
        self._post.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("detector %s is still at work; its thread ends after that", self.name)
                return
        self.detector.close()


def skipped_frames(detector: Detector) -> int:
    """Frames that a detector in a thread was too slow for."""
    here = detector.skipped if isinstance(detector, LatestOnly) else 0
    inner = getattr(detector, "detector", None)
    return here + (skipped_frames(inner) if inner is not None else 0)
