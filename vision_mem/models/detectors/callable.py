"""Any callable as a detector: a function, a model of Ultralytics, an object with ``detect``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.models.detectors.coercion import LeftOut, Vocabulary, coerce
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame


def as_detector(thing: Any) -> Detector:
    """Make a detector of anything that can serve as one.

    Args:
        thing: a ``Detector``, which is returned as it is; an object whose ``detect`` takes a
            ``Frame`` (its ``reset``, ``close``, ``name``, ``stateful`` and ``reports_absence`` are
            used where it has them); a model of Ultralytics; any callable that takes an image
            ``(H, W, 3)`` uint8 RGB. They return anything ``coerce`` takes.

    Raises:
        InputError: for anything else.
    """
    if isinstance(thing, Detector):
        return thing
    if callable(getattr(thing, "detect", None)):
        return CallableDetector(
            thing.detect,
            name=str(getattr(thing, "name", type(thing).__name__)),
            takes="frame",
            reports_absence=bool(getattr(thing, "reports_absence", True)),
            stateful=bool(getattr(thing, "stateful", False)),
            owner=thing,
        )
    if callable(thing):
        if type(thing).__module__.split(".")[0] == "ultralytics":
            # It takes arrays for BGR, as OpenCV reads them, and prints a line a frame.
            name = type(thing).__name__
            return CallableDetector(partial(thing, verbose=False), name=name, colours="bgr")
        return CallableDetector(thing)
    raise InputError(
        f"{type(thing).__name__} cannot detect; expected a function of an image, or an object "
        "whose detect(frame) returns detections"
    )


_GETS = {
    "image": "the picture, an array (height, width, 3) of RGB from 0 to 255; for the whole frame "
    "give an object with a method detect(frame)",
    "frame": "the frame: frame.image is the picture, frame.index its number, frame.time_s its time",
}


class CallableDetector:
    """A function, model or half a detector, made whole.

    Args:
        function: called with each frame; returns anything ``coerce`` takes.
        name: for messages; the function's own name when left out.
        takes: ``"image"`` for ``(H, W, 3)`` uint8, ``"frame"`` for a ``Frame``.
        colours: order of the image's channels, ``"rgb"`` or ``"bgr"``.
        names: class number to word; words that the function returns are added.
        reports_absence: see ``Detector``.
        stateful: see ``Detector``.
        strict: raise for boxes that cannot be used instead of leaving them out with a warning.
        owner: whose ``reset`` and ``close`` are called, where it has them.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        takes: str = "image",
        colours: str = "rgb",
        names: Mapping[int, str] | None = None,
        reports_absence: bool = True,
        stateful: bool = False,
        strict: bool = False,
        owner: Any = None,
    ) -> None:
        if takes not in _GETS:
            raise InputError(f"takes is {takes!r}; expected image or frame")
        if colours not in ("rgb", "bgr"):
            raise InputError(f"colours is {colours!r}; expected rgb or bgr")
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.reports_absence = reports_absence
        self.stateful = stateful
        self.dropped = LeftOut()
        self.gets = f". It gets {_GETS[takes]}"
        """What the function is called with, for messages."""
        self._function = function
        self._takes, self._colours, self._strict = takes, colours, strict
        self._names = dict(names or {})
        self._vocabulary = Vocabulary(self._names)
        self._owner = owner

    def detect(self, frame: Frame) -> Detections | None:
        given: Any = frame
        if self._takes == "image":
            given = frame.image
            if self._colours == "bgr":
                given = np.ascontiguousarray(given[:, :, ::-1])
        found = coerce(
            self._function(given),
            frame.size,
            vocabulary=self._vocabulary,
            strict=self._strict,
            dropped=self.dropped,
        )
        self.dropped.tell(self.name, frame.index)
        return found

    def reset(self) -> None:
        self._vocabulary = Vocabulary(self._names)
        self.dropped.clear()
        self._call("reset")

    def close(self) -> None:
        self._call("close")

    def _call(self, what: str) -> None:
        method = getattr(self._owner, what, None)
        if callable(method):
            method()
