"""All settings of a spatial memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.errors import DamagedFileError, InputError
from vision_mem.navigation.graph.path_planning import PlanningConfig
from vision_mem.navigation.graph.topology import TopologyConfig
from vision_mem.navigation.journal import DTYPES
from vision_mem.navigation.landmarks import LandmarkConfig
from vision_mem.navigation.retrieval import RecallConfig
from vision_mem.navigation.space.octree import OctreeConfig
from vision_mem.navigation.storage import BROKEN
from vision_mem.navigation.working_memory import ShortConfig
from vision_mem.text import parse_json, short


@dataclass(frozen=True)
class StoreConfig:
    """How the map is written.

    Attributes:
        commit_every: observations in one transaction; a crash loses what is not committed yet.
        fold_every: observations whose changes of space are kept one by one before they are folded
            into the stored bricks.
        durable: whether a commit also outlives a power cut.
        dtype: number format of embeddings in the journal: ``float32`` or ``float16``.
        ram: megabytes of space in memory at most, while writing; what was used longest ago is
            read from the file again when it is needed. 0 for no limit.
    """

    commit_every: int = 1
    fold_every: int = 64
    durable: bool = False
    dtype: str = "float32"
    ram: float = 0.0

    def __post_init__(self) -> None:
        if self.commit_every < 1 or self.fold_every < 1 or self.dtype not in DTYPES:
            raise InputError(
                "store settings: commit_every and fold_every must be 1 or more, dtype one of "
                f"{', '.join(DTYPES)}"
            )
        if not 0 <= self.ram < np.inf:
            raise InputError(f"store.ram is {self.ram}; expected megabytes, or 0 for no limit")


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
    retrieval: RecallConfig = RecallConfig()
    planning: PlanningConfig = PlanningConfig()
    store: StoreConfig = StoreConfig()


_FIXED = ("octree.leaf", "store.dtype")


def changed(config: NavigationConfig, changes: Sequence[str]) -> NavigationConfig:
    """Settings with ``key=value`` changes.

    Raises:
        InputError: for a key that does not exist or a value that cannot be.
    """
    return load_config(
        NavigationConfig, None, [*_as_changes(asdict(config)), *changes], folder="navigation"
    )


def _as_changes(values: dict[str, Any], before: str = "") -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _as_changes(value, f"{before}{name}.")
        else:
            found.append(f"{before}{name}={json.dumps(value)}")
    return found


def settings(
    meta: Mapping[str, str], config: NavigationConfig | None, path: Path
) -> NavigationConfig:
    """Settings with which a map is opened: those asked for, else those that its file has.

    Raises:
        InputError: for a setting that is fixed when a map is made, and is another one.
        ModelError: for stored settings that are damaged.
    """
    if "config" not in meta:
        return config or NavigationConfig()
    stored = stored_config(meta["config"])
    for name in _FIXED:
        old, new = (attrgetter(name)(each) for each in (stored, config or stored))
        if new != old:
            raise InputError(
                f"map {path} was made with {name}={old} and cannot go on with {new}; leave the "
                "setting out, or build a new map"
            )
    return config or stored


def stored_config(text: str) -> NavigationConfig:
    """Settings as a map file holds them: JSON of all fields.

    Raises:
        ModelError: for text that is damaged.
    """
    default = NavigationConfig()
    try:
        values = parse_json(text, "the map")
        parts: dict[str, Any] = {}
        for part in fields(NavigationConfig):
            usual = getattr(default, part.name)
            for name, value in values[part.name].items():
                if not _of_kind(value, getattr(usual, name)):
                    raise InputError(f"{part.name}.{short(name)} is {short(str(value))}")
            parts[part.name] = type(usual)(**values[part.name])
        return NavigationConfig(**parts)
    except (*BROKEN, InputError) as error:
        said = f": {error}" if isinstance(error, InputError) else "; it is damaged"
        raise DamagedFileError(f"the settings stored in the map cannot be used{said}") from error


def _of_kind(value: Any, usual: Any) -> bool:
    """Whether a stored setting is of the same kind as the usual one; None stands for a number."""
    if isinstance(usual, dict):
        return isinstance(value, dict) and all(_of_kind(each, 0.0) for each in value.values())
    if isinstance(usual, (bool, str)):
        return type(value) is type(usual)
    if usual is None or type(usual) is float:
        number = type(value) in (int, float) and abs(value) < 1e300
        return number or (usual is None and value is None)
    return type(value) is int and abs(value) < 1 << 53


def stored_corner(text: str) -> NDArray[np.float64]:
    """Corner of leaf (0, 0, 0) as a map file holds it: JSON of 3 numbers, metres.

    Raises:
        ModelError: for text that is damaged.
    """
    try:
        corner = np.array(parse_json(text, "the map"), np.float64)
        if corner.shape != (3,) or not np.isfinite(corner).all():
            raise ValueError("expected 3 finite numbers")
    except BROKEN as error:
        raise DamagedFileError(
            "the corner stored in the map cannot be used; it is damaged"
        ) from error
    return corner
