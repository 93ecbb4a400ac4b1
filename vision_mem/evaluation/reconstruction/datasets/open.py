"""The one way in: which sets there are for depth, poses and points, and opening a copy of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_mem.config import nearest
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.reconstruction.datasets import depth_sets, point_sets, pose_sets, rooms
from vision_mem.evaluation.reconstruction.records import (
    DEPTH,
    POINTS,
    POSE,
    TASKS,
    Cut,
    SceneSequence,
    SceneSet,
)


@dataclass(frozen=True)
class _Kind:
    """A set.

    Attributes:
        title: as papers write it.
        tasks: what is scored on it.
        read: finds its sequences.
        clip: see ``SceneSet``; of depth.
        grid, crop: see ``SceneSet``; of points.
        oracle: see ``SceneSet``.
    """

    title: str
    tasks: tuple[str, ...]
    read: Callable[[Path, str, Cut, bool], tuple[list[SceneSequence], list[str]]]
    clip: bool = False
    grid: tuple[int, int] | None = None
    oracle: bool = True


_CROP = (224 / 512, 224 / 384)

ROOMS = "rooms"
SCENE_SETS: Mapping[str, _Kind] = {
    "sintel": _Kind("Sintel", (DEPTH, POSE), depth_sets.open_sintel, clip=True),
    "bonn": _Kind("Bonn", (DEPTH,), depth_sets.open_bonn),
    "kitti": _Kind("KITTI depth selection", (DEPTH,), depth_sets.open_kitti),
    "tum": _Kind("TUM-dynamics", (POSE,), pose_sets.open_tum, oracle=False),
    "scannet": _Kind("ScanNet", (POSE,), pose_sets.open_scannet, oracle=False),
    "7scenes": _Kind("7-Scenes", (POINTS,), point_sets.open_seven_scenes, grid=(512, 384)),
    "nrgbd": _Kind("NRGBD", (POINTS,), point_sets.open_nrgbd, grid=(512, 384)),
    ROOMS: _Kind("generated rooms", TASKS, rooms.open_rooms, clip=True, oracle=False),
}
"""Sets by their word on the command line. The depth of a camera in a room (TUM, ScanNet) is no
truth of the path, and that of rooms has noise."""

SCENE_KEYS = tuple(
    f"{task}:{word}" for task in TASKS for word, kind in SCENE_SETS.items() if task in kind.tasks
)


def is_scene_key(key: str) -> bool:
    """Whether a word of the command line asks for depth, poses or points."""
    return key.partition(":")[0] in TASKS


def split_key(key: str, root: Path | None) -> tuple[str, str]:
    """Task and set of ``pose:sintel``; of ``pose`` alone the set that lies in ``root``.

    Raises:
        InputError: for a set that is not known or not scored so, or a root that is none.
    """
    task, colon, word = key.partition(":")
    fit = [name for name, kind in SCENE_SETS.items() if task in kind.tasks]
    if colon:
        if word not in fit:
            hint = nearest(word, fit)
            raise InputError(f"{task} has no set {word!r}; there are {', '.join(fit)}{hint}")
        return task, word
    if root is None:
        return task, ROOMS
    if not root.is_dir():
        raise InputError(f"--root {root} is no folder; expected a copy of a set")
    for name in [ROOMS, *(each for each in fit if each != ROOMS)]:
        try:
            SCENE_SETS[name].read(root, task, Cut(), False)
        except VisionMemError:
            continue
        return task, name
    raise InputError(
        f"{root} holds no set for {task}; expected one of {', '.join(fit)}: {task}:{fit[0]} says "
        "what is missing"
    )


def open_scene_set(
    key: str, root: str | Path, cut: Cut | None = None, *, need_frames: bool = True
) -> SceneSet:
    """Open a copy of a set: find its sequences, their files and true poses. Nothing is downloaded.

    Args:
        key: one of ``SCENE_KEYS``, or a task alone for whatever lies there.
        root: the copy's folder.
        cut: which frames; None for those of the published protocol.
        need_frames: False for scoring: the truth suffices, images may be absent.

    Raises:
        InputError: an unknown key; a root that lacks what the set needs: one line.
        SourceError: for a file that is damaged.
    """
    place = Path(root).expanduser()
    if not place.is_dir():
        raise InputError(f"--root {place} is no folder; expected a copy of the set")
    task, word = split_key(key, place)
    kind = SCENE_SETS[word]
    chosen = cut or Cut()
    try:
        sequences, notes = kind.read(place, task, chosen, need_frames)
    except OSError as error:
        if isinstance(error, VisionMemError):
            raise
        named: Any = error.filename or root
        raise InputError(f"{named} cannot be read: {error.strerror or error}") from None
    if not sequences:
        raise InputError(f"{place} has no sequence of {kind.title}")
    if task == POINTS:
        most = max(len(each.scored) for each in sequences)
        notes.append(f"up to {most} frames a sequence are compared{_how(chosen, sequences)}")
    titles = {DEPTH: "video depth", POSE: "camera pose", POINTS: "reconstruction"}
    return SceneSet(
        f"{task}:{word}", f"{kind.title} {titles[task]}", task, word, place, tuple(sequences),
        clip=kind.clip, grid=kind.grid if task == POINTS else None,
        crop=_CROP if task == POINTS else (1.0, 1.0), oracle=kind.oracle, notes=tuple(notes),
    )  # fmt: skip


def _how(cut: Cut, sequences: list[SceneSequence]) -> str:
    """The stride that was used: papers say different things about it."""
    views = max((each.scored for each in sequences), key=len)
    step = views[1].number - views[0].number if len(views) > 1 else 0
    return f", every {step}th" if step else ""
