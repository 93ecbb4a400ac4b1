"""Result files of a model on a set for depth, poses or points: ours, or any program's.

Depth: ``NAME/STEM.npz`` (array ``depth``, and ``moving`` where the model says it), or ``.npy``, or
16-bit ``.png``; also in the order of their names, one a frame. Poses: ``NAME.txt``, TUM or KITTI.
Points: ``NAME.npz`` with ``points (F, H, W, 3)``, or a cloud: ``(N, 3)``, or ``NAME.ply``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.evaluation.dataset_files import images_in
from vision_mem.evaluation.file_tree import tracker_name
from vision_mem.evaluation.reconstruction.datasets import DEPTH, POSE
from vision_mem.evaluation.reconstruction.records import SceneSequence, SceneSet, SceneView
from vision_mem.formats.depth import read_depth
from vision_mem.formats.ply import read_arrays, read_points
from vision_mem.formats.trajectory import Trajectory, read_numbers, read_trajectory
from vision_mem.geometry.poses import make_pose, rotation_of
from vision_mem.geometry.trajectory_errors import MOST_APART_S, PathErrors, associate, path_errors
from vision_mem.sources.images import read_image

log = logging.getLogger(__name__)

MAP = "map.ply"
"""Behind the name of a sequence: what a model keeps of what stays."""

QUATERNIONS = ("xyzw", "wxyz")
_INSIDE = ("", "results", "data")
_PREFIXES = ("rgbd_bonn_", "rgbd_dataset_")
_KINDS = ((".npz",), (".npy",), (".tif", ".tiff", ".png", ".pgm"))
_MASK = ".mask.png"


@dataclass(frozen=True)
class FoundPoints:
    """Points of a sequence in the axes of the first camera, or of the set's world.

    Attributes:
        maps: ``(F, H, W, 3)``, NaN where not known: a point for each pixel; or None.
        cloud: ``(N, 3)`` where there are no pixels; or None.
    """

    maps: NDArray[np.float32] | None = None
    cloud: NDArray[np.float32] | None = None


class SceneResults:
    """The result files of one model; each is read when it is asked for.

    Args:
        path: a folder with results of each sequence, also below ``results/`` or ``data/``.
        found: the set they belong to.
        name: of the model, for tables; that of the folder when left out.
        unit: metres of one unit of whole-numbered depth maps.
        apart: seconds by which times of poses may differ from those of the truth.
        offset: seconds that are added to times of poses.
        quaternion: order of TUM files, of ``QUATERNIONS``; CUT3R writes the real part first.

    Raises:
        InputError: when there is no such folder, or for another order.
    """

    def __init__(
        self,
        path: str | Path,
        found: SceneSet,
        name: str | None = None,
        *,
        unit: float = 0.001,
        quaternion: str = "xyzw",
        apart: float = MOST_APART_S,
        offset: float = 0.0,
    ) -> None:
        self.path = Path(path).expanduser()
        self._apart, self._offset = apart, offset
        # One file of poses is that of the only sequence.
        self._single = self.path.is_file() and found.task == POSE and len(found.sequences) == 1
        if found.kind is None and not self.path.exists():
            raise InputError(f"{self.path}: no such file; expected poses, TUM or KITTI")
        if not self.path.is_dir() and not self._single:
            raise InputError(
                f"{self.path} is no folder; expected one with {expected(found, 'NAME')} for each "
                "sequence (unpack archives)"
            )
        self.name = name or tracker_name(self.path.resolve())
        self._set, self._unit, self._quaternion = found, unit, quaternion
        if quaternion not in QUATERNIONS:
            raise InputError(
                f"quaternion is {quaternion!r}; expected one of {', '.join(QUATERNIONS)}"
            )

    def __enter__(self) -> SceneResults:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing stays open."""

    def holds(self, sequence: SceneSequence) -> bool:
        """Whether there are results of a sequence."""
        return self._place(sequence) is not None

    def depth_files(self, sequence: SceneSequence) -> dict[str, Path]:
        """A depth map for each scored view, by the view's name; views without one are left out.

        Raises:
            InputError: when neither names nor numbers of files fit.
        """
        folder = self._needed(sequence)
        files = _depth_maps(folder)
        views = sequence.scored
        by_stem = {each.stem: each for each in files}
        named = {view.name: by_stem[view.name] for view in views if view.name in by_stem}
        if len(named) == len(views):
            return named
        # Names that fit in part may be others counted from 0: then the order decides.
        if len(files) == len(views):
            return {view.name: each for view, each in zip(views, files, strict=True)}
        if len(named) == len(files):
            return named
        raise InputError(
            f"{folder} has {len(files)} depth maps for {len(views)} frames, under other names "
            f"than {views[0].name}; expected one for each frame"
        )

    def depth(self, path: Path) -> NDArray[np.float32]:
        """A predicted depth map; NaN where it has none.

        Raises:
            SourceError: when it cannot be read.
        """
        stored = read_depth(path)
        if stored.dtype.kind in "ui":
            metres = stored.astype(np.float32) * np.float32(self._unit)
            metres[stored == 0] = np.nan  # "no reading" in files of whole numbers
            return metres
        with np.errstate(over="ignore"):
            return stored.astype(np.float32)

    def moving(self, path: Path) -> NDArray[np.bool_] | None:
        """What is said to move on the frame of a depth map; None when nothing says it.

        Raises:
            SourceError: when it cannot be read.
        """
        mask = path.with_name(path.stem + _MASK)
        if mask.is_file():
            return np.asarray(read_image(mask)[..., 0] > 127)
        if path.suffix.lower() != ".npz":
            return None
        found = read_arrays(path).get("moving")
        return None if found is None or found.ndim != 2 else np.asarray(found > 0)

    def poses(
        self, sequence: SceneSequence, notes: list[str]
    ) -> tuple[list[NDArray[np.float64] | None], list[NDArray[np.float64] | None]]:
        """Found and true pose of each scored view; None where one is not there.

        They belong together by their times; by their rows where the set or the file has no times,
        or no time fits, which ``notes`` is told.

        Raises:
            SourceError: when the file cannot be read.
            InputError: when its times are not those of the sequence.
        """
        path = self._needed(sequence)
        known = read_trajectory(path) if self._quaternion == QUATERNIONS[0] else _real_first(path)
        views = sequence.scored
        found: list[NDArray[np.float64] | None] = [None] * len(views)
        times = [view.time_s for view in views]
        # Sets without times number their frames, which says nothing of seconds; nor do files that
        # number theirs.
        numbered = _whole(times) and not _whole(known.times)
        numbered |= np.array_equal(known.times, np.arange(len(known))) and known.total in (
            None, len(views)
        )  # fmt: skip
        pairs = (
            associate(times, known.times + self._offset, self._apart)
            if known.timed and not numbered
            else []
        )
        for k, m in pairs:
            found[k] = known.poses[m]
        if not pairs:
            rows = known.by_row(len(views))
            if rows is None:
                raise InputError(
                    f"{path} has {known.total or len(known)} poses for {len(views)} frames, "
                    f"and none at their times (from {times[0]:.9g} s, there from "
                    f"{known.times[0]:.9g}); expected one for each frame, or their times in "
                    "seconds: --scene offset=S shifts them, apart=S lets them differ more"
                )
            if known.timed and not numbered:
                notes.append(
                    f"{sequence.name}: no time of {path.name} is one of the truth (from "
                    f"{known.times[0]:.9g} s, there from {times[0]:.9g}); poses are taken by row"
                )
            found = rows
        return found, [view.pose for view in views]

    def points(self, sequence: SceneSequence) -> FoundPoints:
        """Points of a sequence.

        Raises:
            SourceError: when the file cannot be read.
            InputError: when it holds no points.
        """
        path = self._needed(sequence)
        if path.suffix.lower() == ".ply":
            return FoundPoints(cloud=_finite(path, read_points(path)))
        arrays = read_arrays(path)
        array: Any = arrays.get("points", next(iter(arrays.values()), None))
        if array is None or array.ndim not in (2, 4) or array.shape[-1] != 3:
            shape = None if array is None else array.shape
            raise InputError(
                f"{path} has points of shape {shape}; expected (F, H, W, 3), a point for each "
                "pixel, or (N, 3)"
            )
        if array.ndim == 2:
            return FoundPoints(cloud=_finite(path, array.astype(np.float32)))
        wanted = len(sequence.scored)
        if len(array) != wanted:
            raise InputError(
                f"{path} has points of {len(array)} frames; {wanted} of {sequence.name} are "
                "compared: expected one for each"
            )
        return FoundPoints(maps=array.astype(np.float32))

    def map_points(self, sequence: SceneSequence) -> NDArray[np.float32] | None:
        """What the model keeps of what stays, in the axes of the first camera; None without one.

        Raises:
            SourceError: when the file cannot be read.
        """
        for inside in _INSIDE:
            path = self.path / inside / f"{sequence.name}.{MAP}"
            if path.is_file():
                return read_points(path)
        return None

    def _needed(self, sequence: SceneSequence) -> Path:
        place = self._place(sequence)
        if place is None:
            raise InputError(
                f"{self.path} has no results of {sequence.name}; expected "
                f"{expected(self._set, sequence.name)}"
            )
        return place

    def _place(self, sequence: SceneSequence) -> Path | None:
        if self._single:
            return self.path
        for inside in _INSIDE:
            for name in _all_names(self._set.task, sequence.name):
                place = self.path / inside / name
                if place.is_dir() if self._set.task == DEPTH else place.is_file():
                    return place
        return None


def expected(found: SceneSet, name: str) -> str:
    """Where results of a sequence are looked for, as messages say it."""
    if found.task == DEPTH:
        return f"{name}/ with a depth map for each frame (.npz, .npy, .png)"
    return " or ".join(_names(found.task, name))


def _all_names(task: str, name: str) -> list[str]:
    """Those of a sequence, and of its short name in the peers' code."""
    stems = [name, *(name.removeprefix(each) for each in _PREFIXES if name.startswith(each))]
    return [each for stem in stems for each in _names(task, stem)]


def _names(task: str, name: str) -> tuple[str, ...]:
    if task == DEPTH:
        return (name, f"{name}_pred_depth")
    if task == POSE:
        return (f"{name}.txt", f"{name}.tum.txt", f"{name}/pred_traj.txt")
    return (f"{name}.npz", f"{name}.ply")


def _depth_maps(folder: Path) -> list[Path]:
    """Files of depth, of the richest kind that is there: pictures beside them are to look at."""
    for suffixes in _KINDS:
        files = [each for each in images_in(folder, suffixes) if not each.name.endswith(_MASK)]
        if files:
            return files
    return []


def _real_first(path: Path) -> Trajectory:
    """A TUM file whose quaternions have their real part first."""
    rows = read_numbers(path, 8)
    try:
        poses = [make_pose(rotation_of(row[4:]), row[1:4]) for _, row in rows]
    except ValueError as error:
        raise SourceError(f"{path}: {error}") from None
    if not poses:
        raise SourceError(f"{path} holds no poses; expected one a line")
    return Trajectory(np.array([row[0] for _, row in rows]), np.stack(poses))


def _whole(times: ArrayLike) -> bool:
    return bool(np.equal(times, np.rint(times)).all())


def _finite(path: Path, cloud: NDArray[np.float32]) -> NDArray[np.float32]:
    good = cloud[np.isfinite(cloud).all(axis=1)]
    if not len(good):
        raise InputError(f"{path} holds no points")
    return good


def path_set(key: str, truth: Path) -> SceneSet:
    """A set of one path, from a file of poses, TUM or KITTI.

    Raises:
        InputError: when there is no such file.
        SourceError: when it cannot be read.
    """
    if not truth.is_file():
        raise InputError(f"--truth {truth}: no such file; expected poses, TUM or KITTI")
    known = read_trajectory(truth)
    views = tuple(
        SceneView(str(k), time, truth, pose=pose, number=k)
        for k, (time, pose) in enumerate(zip(known.times.tolist(), known.poses, strict=True))
    )
    sequence = SceneSequence(truth.stem, views, 1.0)
    return SceneSet(key, f"path {truth.name}", POSE, "", truth.parent, (sequence,))


def true_moving(view: SceneView) -> NDArray[np.bool_] | None:
    """What really moves on a frame; None where the set does not say.

    Raises:
        SourceError: when the picture cannot be read.
    """
    if view.moving is None:
        return None
    picture = read_image(view.moving)
    if picture.ndim != 3:
        raise SourceError(f"{view.moving} is no picture of what moves")
    return np.asarray(picture[..., 0] > 127)


def score_path_files(
    found: str | Path,
    true: str | Path,
    *,
    align: str = "sim3",
    delta: int = 1,
    most_apart: float = MOST_APART_S,
) -> PathErrors:
    """Compare two files of poses, TUM (matched by time) or KITTI (by row); see ``path_errors``.

    Raises:
        SourceError: for a file that cannot be read.
        InputError: for files that share fewer than 3 moments, ``most_apart`` seconds apart.
    """
    ours, truth = read_trajectory(found), read_trajectory(true)
    pairs = associate(ours.times, truth.times, most_apart)
    if len(pairs) < 3:
        raise InputError(
            f"{found} and {true} share {len(pairs)} moments within {most_apart:g} s; expected 3 or "
            "more: are their times on one clock?"
        )
    chosen = np.array(pairs)
    return path_errors(
        ours.poses[chosen[:, 0]], truth.poses[chosen[:, 1]], align=align, delta=delta
    )
