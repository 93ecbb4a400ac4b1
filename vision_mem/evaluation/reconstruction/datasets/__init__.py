"""The one way in: which sets there are for depth, poses and points, and opening a copy of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.config import nearest
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.registry import look_up, open_copy

if TYPE_CHECKING:
    from vision_mem.evaluation.reconstruction.records import Cut, SceneSet

DEPTH, POSE, POINTS = "video-depth", "pose", "reconstruction"
TASKS = (DEPTH, POSE, POINTS)
"""What can be evaluated, by its word on the command line."""


@dataclass(frozen=True)
class SceneKind:
    """A set.

    Attributes:
        title: as papers write it.
        tasks: what is scored on it.
        read: finds its sequences: a function, or its ``module:name``, called as ``read(root,
            task, cut, need_frames)``; returns them (``SceneSequence``) and notes, or raises
            ``InputError`` for a folder without them, ``SourceError`` for a damaged file.
        clip: whether aligned depth is cut off at ``farthest`` before it is compared.
        grid: ``(width, height)`` at which points are compared; None for the depth map's own.
        oracle: the depth of ``SceneView.sensor`` is the truth itself.
    """

    title: str
    tasks: tuple[str, ...]
    read: str | Callable[..., Any]
    clip: bool = False
    grid: tuple[int, int] | None = None
    oracle: bool = True


CROP = (224 / 512, 224 / 384)
"""Share of the width and height around the middle whose points are compared."""

ROOMS = "rooms"
SCENE_SETS: dict[str, SceneKind] = {
    word: SceneKind(title, tasks, f"{__name__}.{read}", clip, grid, oracle)
    for word, title, tasks, read, clip, grid, oracle in (
        ("sintel", "Sintel", (DEPTH, POSE), "depth_sets:open_sintel", True, None, True),
        ("bonn", "Bonn", (DEPTH,), "depth_sets:open_bonn", False, None, True),
        ("kitti", "KITTI depth selection", (DEPTH,), "depth_sets:open_kitti", False, None, True),
        ("tum", "TUM-dynamics", (POSE,), "pose_sets:open_tum", False, None, False),
        ("scannet", "ScanNet", (POSE,), "pose_sets:open_scannet", False, None, False),
        ("7scenes", "7-Scenes", (POINTS,), "point_sets:open_seven_scenes", False, (512, 384), True),
        ("nrgbd", "NRGBD", (POINTS,), "point_sets:open_nrgbd", False, (512, 384), True),
        (ROOMS, "generated rooms", TASKS, "rooms:open_rooms", True, None, False),
    )
}
"""Sets by their word on the command line. The depth of a camera in a room (TUM, ScanNet) is no
truth of the path, and that of rooms has noise."""


def _read(word: str, root: Path, task: str, cut: Cut, need_frames: bool) -> tuple[Any, list[str]]:
    function = look_up(SCENE_SETS[word].read)
    found: tuple[Any, list[str]] = open_copy(
        lambda place: function(place, task, cut, need_frames), root
    )
    return found


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
    from vision_mem.evaluation.reconstruction.records import Cut

    for name in [ROOMS, *(each for each in fit if each != ROOMS)]:
        try:
            _read(name, root, task, Cut(), False)
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
        key: task and set, as ``pose:sintel``, or a task alone for whatever lies there.
        root: the copy's folder.
        cut: which frames; None for those of the published protocol.
        need_frames: False for scoring: the truth suffices, images may be absent.

    Raises:
        InputError: an unknown key; a root that lacks what the set needs: one line.
        SourceError: for a file that is damaged.
    """
    from vision_mem.evaluation.reconstruction.records import Cut, SceneSet

    place = Path(root).expanduser()
    if not place.is_dir():
        raise InputError(f"--root {place} is no folder; expected a copy of the set")
    task, word = split_key(key, place)
    kind = SCENE_SETS[word]
    chosen = cut or Cut()
    sequences, notes = _read(word, place, task, chosen, need_frames)
    if not sequences:
        raise InputError(f"{place} has no sequence of {kind.title}")
    if task == POINTS:
        most = max(len(each.scored) for each in sequences)
        notes.append(f"up to {most} frames a sequence are compared{_how(chosen, sequences)}")
    titles = {DEPTH: "video depth", POSE: "camera pose", POINTS: "reconstruction"}
    return SceneSet(
        f"{task}:{word}", f"{kind.title} {titles[task]}", task, word, place, tuple(sequences),
        kind, tuple(notes),
    )  # fmt: skip


def _how(cut: Cut, sequences: Any) -> str:
    """The stride that was used: papers say different things about it."""
    views = max((each.scored for each in sequences), key=len)
    step = views[1].number - views[0].number if len(views) > 1 else 0
    return f", every {step}th" if step else ""
