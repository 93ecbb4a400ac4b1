"""All settings of a spatial memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, ModelError
from vision_mem.navigation.landmarks import LandmarkConfig
from vision_mem.navigation.longterm import DTYPES
from vision_mem.navigation.octree import OctreeConfig
from vision_mem.navigation.planning import PlanningConfig
from vision_mem.navigation.retrieval import RetrievalConfig
from vision_mem.navigation.shortterm import ShortConfig
from vision_mem.navigation.topology import TopologyConfig


@dataclass(frozen=True)
class StoreConfig:
    """How the map is written.

    Attributes:
        commit_every: observations in one transaction; a crash loses what is not committed yet.
        fold_every: observations whose changes of space are kept one by one before they are folded
            into the stored bricks.
        durable: whether a commit also outlives a power cut.
        dtype: number format of embeddings in the journal: ``float32`` or ``float16``.
    """

    commit_every: int = 1
    fold_every: int = 64
    durable: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.commit_every < 1 or self.fold_every < 1 or self.dtype not in DTYPES:
            raise InputError(
                "store settings: commit_every and fold_every must be 1 or more, dtype one of "
                f"{', '.join(DTYPES)}"
            )


@dataclass(frozen=True)
class NavigationConfig:
    """Settings of a spatial memory; the defaults are for rooms.

    Attributes:
        octree: space. ``octree.leaf`` is fixed when a map is made.
        topology: places.
        landmark: things that can be named.
        short: short memory.
        retrieval: how memory is asked.
        planning: routes over the floor.
        store: the map file. ``store.dtype`` is fixed when a map is made.
    """

    octree: OctreeConfig = OctreeConfig()
    topology: TopologyConfig = TopologyConfig()
    landmark: LandmarkConfig = LandmarkConfig()
    short: ShortConfig = field(default_factory=ShortConfig)
    retrieval: RetrievalConfig = RetrievalConfig()
    planning: PlanningConfig = PlanningConfig()
    store: StoreConfig = StoreConfig()


def stored_config(text: str) -> NavigationConfig:
    """Settings as a map file holds them: JSON of all fields.

    Raises:
        ModelError: for text that is damaged.
    """
    try:
        values, default = json.loads(text), NavigationConfig()
        parts = {
            part.name: type(getattr(default, part.name))(**values[part.name])
            for part in fields(NavigationConfig)
        }
        return NavigationConfig(**parts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"the settings stored in the map cannot be used: {said}") from error


def stored_corner(text: str) -> NDArray[np.float64]:
    """Corner of leaf (0, 0, 0) as a map file holds it: JSON of 3 numbers, metres.

    Raises:
        ModelError: for text that is damaged.
    """
    try:
        corner = np.array(json.loads(text), np.float64)
        if corner.shape != (3,) or not np.isfinite(corner).all():
            raise ValueError("expected 3 finite numbers")
    except (ValueError, TypeError) as error:
        raise ModelError("the corner stored in the map cannot be used; it is damaged") from error
    return corner
