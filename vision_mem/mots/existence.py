"""How likely it is that a track is something real: one number, moved by hits and misses.

Our own reading of "probabilistic track validation with a Bernoulli filter" in the abstract of
Seg2Track++ (arXiv 2606.03875); its formulas and constants are not known to us.
"""

from __future__ import annotations

from dataclasses import dataclass

from vision_mem.errors import InputError


@dataclass(frozen=True)
class ExistenceConfig:
    """Constants of the filter.

    Attributes:
        survive: probability that what was there is there a frame later.
        detect: probability that what is there and to be seen is detected.
        clutter: weight of false alarms against the detector's doubt.
        birth: existence of a new track whose detection is sure.
        confirm: existence above which a track is confirmed.
        delete: existence below which it is removed, or lost when it was confirmed.
    """

    survive: float = 0.99
    detect: float = 0.9
    clutter: float = 0.1
    birth: float = 0.5
    confirm: float = 0.8
    delete: float = 0.05

    def __post_init__(self) -> None:
        for name in ("survive", "detect", "birth", "confirm", "delete"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1")


def survived(config: ExistenceConfig, existence: float) -> float:
    """Existence when a frame has gone by."""
    return config.survive * existence


def after_hit(config: ExistenceConfig, existence: float, score: float) -> float:
    """Existence after a detection with a score in [0, 1]."""
    ratio = config.detect * score / (config.clutter * (1.0 - score) + 1e-6)
    return existence * ratio / (1.0 - existence + existence * ratio)


def after_miss(config: ExistenceConfig, existence: float, visible: float) -> float:
    """Existence after an answer without it.

    Args:
        config: constants.
        existence: before, [0, 1].
        visible: share of the object that nothing hides, [0, 1]: what is hidden cannot be missed.
    """
    detect = config.detect * visible
    return existence * (1.0 - detect) / (1.0 - existence * detect)
