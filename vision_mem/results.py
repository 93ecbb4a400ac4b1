"""What drawings, progress and files need of a result, whichever system it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_mem.types import Event


class ShownObject(Protocol):
    """One object on one frame; see ``types.ObjectResult``."""

    @property
    def object_id(self) -> int:
        """Its id, for ever."""

    @property
    def name(self) -> str:
        """A word for people."""

    @property
    def present(self) -> bool:
        """Whether it is to be seen."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)`` at the frame's size."""

    @property
    def box(self) -> NDArray[np.float32]:
        """``(4,)`` pixels, right and bottom exclusive; zeros when absent."""

    @property
    def score(self) -> float:
        """Estimated IoU of the mask, in [0, 1]."""

    @property
    def state(self) -> str:
        """``sure``, ``unsure`` or ``lost``; of a track, what became of it."""

    @property
    def diary(self) -> Mapping[str, Any]:
        """Why it came out this way; JSON-ready."""


class ShownTrack(ShownObject, Protocol):
    """One track on one frame; see ``mots.TrackResult``."""

    @property
    def class_name(self) -> str:
        """The word for its class."""

    @property
    def state(self) -> str:
        """``tentative``, ``confirmed``, ``weak`` or ``lost``."""

    @property
    def detection(self) -> int | None:
        """Which detection of the frame it is; None when it was not detected."""


class Seen(Protocol):
    """What is said of one frame, whatever it is about."""

    @property
    def frame_index(self) -> int:
        """Number of the frame in its source."""

    @property
    def time_s(self) -> float:
        """Seconds."""

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frame."""

    @property
    def events(self) -> Sequence[Event]:
        """What happened on the frame."""


class Shown(Seen, Protocol):
    """What is said of the objects of one frame."""

    @property
    def objects(self) -> Sequence[ShownObject]:
        """Everything that is followed, to be seen or not."""


class ShownTracks(Shown, Protocol):
    """What is said of the tracks of one frame."""

    @property
    def objects(self) -> Sequence[ShownTrack]:
        """Every track that is followed, to be seen or not."""
