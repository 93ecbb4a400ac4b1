"""Folders of depth cameras and data sets: which file belongs to which moment."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import near_file
from vision_mem.errors import InputError, NotThere, NotUsable, SourceError
from vision_mem.formats.depth import DEPTH_SUFFIXES
from vision_mem.formats.rgbd_folders import (
    StoredCamera,
    find_camera,
    listed_rows,
    read_matrix,
)
from vision_mem.formats.trajectory import Trajectory, read_numbers, read_trajectory
from vision_mem.geometry.poses import is_rigid
from vision_mem.sources.images import IMAGE_SUFFIXES

LAYOUTS = ("tum", "7scenes", "scannet", "folder")
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
MOST_APART_S = 0.02
"""Seconds by which colour, depth and pose of one moment may differ (TUM's own tool)."""

_VGA = (640, 480)
# Focal lengths and principal points of TUM's three cameras, as published with the data.
_TUM = {
    "1": (517.3, 516.5, 318.6, 255.3),
    "2": (520.9, 521.0, 325.1, 249.7),
    "3": (535.4, 539.2, 320.1, 247.6),
}


@dataclass(frozen=True)
class FrameFiles:
    """Files of one frame.

    Attributes:
        time_s: seconds.
        colour: image; None where colour comes from a video, in order.
        depth: depth map.
        pose: file with a 4x4 matrix, the matrix, or None.
    """

    time_s: float
    colour: Path | None
    depth: Path
    pose: Path | NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Layout:
    """A recording on disk.

    Attributes:
        name: of the layout.
        moments: in the order of their files; ``with_poses`` puts them in order of time.
        scale: metres of one unit of whole-numbered depth maps; floats are metres.
        camera: its intrinsics; None when nothing says them.
        video: where colour comes from, when it is a video.
        notes: what was odd, one line each.
        doubts: what may make results wrong, one line each.
    """

    name: str
    moments: Sequence[FrameFiles]
    scale: float
    camera: StoredCamera | None
    video: Path | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def check_layout(path: Path, name: str | None = None) -> None:
    """Refuse what cannot be, without looking into the folder; raises as ``find_layout``."""
    if name is not None and name not in LAYOUTS:
        raise InputError(f"layout is {name!r}; expected one of {', '.join(LAYOUTS)}")
    if path.is_dir():
        return
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        raise NotUsable(
            f"{path} is a video without depth; expected a folder with it beside depth/ (a map for "
            "each frame), or reconstruct --model, which makes depth of pictures alone"
        )
    if path.exists():
        raise NotUsable(f"{path} is no folder; expected one with colour and depth frames")
    near = near_file(path)
    meant = f"did you mean {near!r}?" if near else "expected one with colour and depth frames"
    raise NotThere(f"{path} is no folder; {meant}")


def has_depth(path: Path) -> bool:
    """Whether a path is a folder that looks like a recording with depth, by its names alone."""
    return path.is_dir() and _guess(path, _names(path)) is not None


def find_layout(path: Path, name: str | None = None) -> Layout:
    """Look at a folder and list its frames.

    Args:
        path: the folder.
        name: one of ``LAYOUTS``; None to find out.

    Raises:
        SourceError: one line for a folder that is missing, empty, or of no known layout.
        InputError: for an unknown name.
    """
    check_layout(path, name)
    entries = sorted(e.name for e in path.iterdir() if not e.name.startswith("."))
    if not entries:
        raise SourceError(f"{path} is empty; expected colour and depth frames")
    kind = name or _guess(path, entries)
    if kind is None:
        inner = [e for e in entries if (path / e).is_dir() and _guess(path / e, _names(path / e))]
        hint = f"; open one of its folders: {', '.join(inner[:4])}" if inner else ""
        if not inner and any(Path(e).suffix.lower() in IMAGE_SUFFIXES for e in entries):
            hint = "; reconstruct --model makes depth of pictures alone"
        raise SourceError(
            f"{path} has no known layout; expected rgb.txt and depth.txt (TUM), "
            "frame-000000.depth.png (7-Scenes), color/ depth/ pose/ (ScanNet), or a video or "
            f"color/ beside depth/{hint}"
        )
    readers = {"tum": _tum, "7scenes": _seven, "scannet": _scannet, "folder": _folder}
    found = readers[kind](path)
    if not found.moments:
        raise SourceError(f"{path} ({kind}) has no moment with both colour and depth")
    return found


def _names(path: Path) -> list[str]:
    return sorted(e.name for e in path.iterdir() if not e.name.startswith("."))


def _guess(path: Path, entries: Sequence[str]) -> str | None:
    if "rgb.txt" in entries and "depth.txt" in entries:
        return "tum"
    if any(re.fullmatch(r"frame-\d+\.depth(\.proj)?\.png", e) for e in entries):
        return "7scenes"
    if {"depth", "pose"} <= set(entries) and _subfolder(path, _COLOUR):
        return "scannet"
    if _subfolder(path, _DEPTH) and (_subfolder(path, _COLOUR) or _video(path)):
        return "folder"
    return None


_COLOUR = ("color", "colour", "rgb", "image", "images")
_DEPTH = ("depth", "depths", "aligned_depth")


def _subfolder(path: Path, names: Sequence[str]) -> Path | None:
    return next((path / n for n in names if (path / n).is_dir()), None)


def _video(path: Path) -> Path | None:
    found = [e for e in sorted(path.iterdir()) if e.suffix.lower() in VIDEO_SUFFIXES]
    preferred = [e for e in found if "depth" not in e.stem.lower()]
    return preferred[0] if preferred else None


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    from natsort import natsorted

    names = [e.name for e in folder.iterdir() if e.suffix.lower() in suffixes]
    return [folder / n for n in natsorted(n for n in names if not n.startswith("."))]


def _number(path: Path) -> int | None:
    digits = re.findall(r"\d+", path.name)
    return int(digits[0]) if digits else None


# -- TUM RGB-D ---------------------------------------------------------------------------------


def _tum(path: Path) -> Layout:
    notes: list[str] = []
    colour, depth = _listed(path / "rgb.txt", notes), _listed(path / "depth.txt", notes)
    moments = []
    times = np.array([t for t, _ in depth])
    for stamp, image in colour:
        nearest = int(np.argmin(np.abs(times - stamp))) if len(times) else 0
        if len(times) and abs(times[nearest] - stamp) <= MOST_APART_S:
            moments.append(FrameFiles(stamp, image, depth[nearest][1]))
    apart = len(colour) - len(moments)
    if apart:
        notes.append(
            f"{path}: {apart} of {len(colour)} colour frames have no depth within "
            f"{MOST_APART_S} s ({len(depth)} depth frames); they are left out"
        )
    known = re.search(r"freiburg([123])", str(path.resolve()))
    numbers = _TUM[known.group(1)] if known else (525.0, 525.0, 319.5, 239.5)
    whose = f"TUM's of freiburg{known.group(1)}" if known else "TUM's usual ones"
    camera = find_camera(path) or StoredCamera(numbers, whose, _VGA, built_in=True)
    return Layout("tum", moments, 1 / 5000, camera, notes=tuple(notes))


def _listed(path: Path, notes: list[str]) -> list[tuple[float, Path]]:
    """Rows ``time file`` of a list, by time, each time once."""
    rows = listed_rows(path)
    ordered = sorted(rows, key=lambda row: row[0])
    if ordered != rows:
        notes.append(f"{path}: time stamps are out of order; sorted")
    kept = [row for k, row in enumerate(ordered) if k == 0 or row[0] > ordered[k - 1][0]]
    if len(kept) < len(ordered):
        notes.append(f"{path}: {len(ordered) - len(kept)} time stamps come twice; first ones kept")
    return kept


# -- 7-Scenes ----------------------------------------------------------------------------------


def _seven(path: Path) -> Layout:
    names = set(_names(path))
    registered = any(n.endswith(".depth.proj.png") for n in names)
    ending = ".depth.proj.png" if registered else ".depth.png"
    moments, alone = [], 0
    for name in sorted(n for n in names if n.endswith(ending)):
        stem = name.removesuffix(ending)
        colour = next((s for s in (".png", ".jpg", ".jpeg") if f"{stem}.color{s}" in names), None)
        number = _number(Path(stem))
        if colour is None or number is None:
            alone += 1
            continue
        pose = path / f"{stem}.pose.txt"
        moments.append(
            FrameFiles(
                number / 30.0,
                path / f"{stem}.color{colour}",
                path / name,
                pose if pose.name in names else None,
            )
        )
    colours = sum(bool(re.fullmatch(r"frame-\d+\.color\.\w+", n)) for n in names)
    notes = _unpaired(path, colours, len(moments) + alone, len(moments))
    focal = 525.0 if registered else 585.0
    usual = StoredCamera((focal, focal, 320.0, 240.0), "7-Scenes'", _VGA, built_in=True)
    return Layout("7scenes", moments, 0.001, find_camera(path) or usual, notes=notes)


def _unpaired(path: Path, colours: int, depths: int, both: int) -> tuple[str, ...]:
    if colours == depths == both:
        return ()
    return (
        f"{path}: {colours} colour and {depths} depth frames, {both} moments with both; the "
        "others are left out",
    )


# -- ScanNet and the like ----------------------------------------------------------------------


def _scannet(path: Path) -> Layout:
    colour_folder, depth_folder = _subfolder(path, _COLOUR), path / "depth"
    if colour_folder is None or not depth_folder.is_dir():
        raise SourceError(f"{path} lacks color/ or depth/; expected ScanNet's folders")
    colours = {_number(p): p for p in _files(colour_folder, IMAGE_SUFFIXES)}
    depths = {_number(p): p for p in _files(depth_folder, DEPTH_SUFFIXES)}
    poses = (
        {_number(p): p for p in (path / "pose").glob("*.txt")} if (path / "pose").is_dir() else {}
    )
    both = sorted(n for n in colours if n in depths and n is not None)
    moments = [FrameFiles(n / 30.0, colours[n], depths[n], poses.get(n)) for n in both]
    notes = _unpaired(path, len(colours), len(depths), len(both))
    return Layout("scannet", moments, 0.001, find_camera(path), notes=notes)


# -- a video or images beside depth maps -------------------------------------------------------


def _folder(path: Path) -> Layout:
    depth_folder = _subfolder(path, _DEPTH)
    if depth_folder is None:
        raise SourceError(f"{path} has no folder depth/; expected depth maps there")
    depths = _files(depth_folder, DEPTH_SUFFIXES)
    if not depths:
        raise SourceError(f"{depth_folder} is empty; expected depth maps (.png or .npz)")
    images_folder, video = _subfolder(path, _COLOUR), _video(path)
    images = _files(images_folder, IMAGE_SUFFIXES) if images_folder else []
    if images and len(images) != len(depths):
        raise SourceError(
            f"{path}: {len(images)} colour and {len(depths)} depth frames; expected one depth map "
            "for each image, in the same order: remove what has no partner"
        )
    if not images and video is None:
        raise SourceError(f"{path} has no colour; expected a video or a folder color/")
    times = _times(path, len(depths))
    moments = [
        FrameFiles(times[k], images[k] if images else None, depth) for k, depth in enumerate(depths)
    ]
    notes = []
    if (np.diff(times) <= 0).any():
        if not images:
            raise SourceError(
                f"{path}/timestamps.txt is out of order; expected rising seconds, one a frame"
            )
        notes.append(f"{path}: time stamps are out of order; sorted")
    return Layout(
        "folder", moments, 0.001, find_camera(path), None if images else video, tuple(notes)
    )


def _times(path: Path, count: int) -> list[float]:
    listed = path / "timestamps.txt"
    if not listed.is_file():
        return [k / 30.0 for k in range(count)]
    rows = read_numbers(listed, 1)
    if len(rows) != count:
        raise SourceError(f"{listed} has {len(rows)} rows for {count} frames; expected one each")
    return [values[0] for _, values in rows]


_time = operator.attrgetter("time_s")
_PATHS = {
    "tum": ("groundtruth.txt",),
    "folder": ("trajectory.txt", "poses.txt", "groundtruth.txt", "pose.txt"),
}


def with_poses(
    layout: Layout, folder: Path, given: Path | None, tolerance: float, offset: float
) -> Layout:
    """In order of time, with the poses of a trajectory: by time, or by row where no stamp fits.

    Args:
        layout: whose frames get them.
        folder: of the recording, which may have a trajectory itself.
        given: a trajectory that replaces the recording's; None for that one.
        tolerance: seconds by which a pose may be away from its frame.
        offset: seconds to add to the trajectory's times.

    Raises:
        SourceError: when a trajectory that was given fits neither way.
    """
    own = (folder / name for name in _PATHS.get(layout.name, ()))
    path = given or next((each for each in own if each.is_file()), None)
    if path is None:
        return replace(layout, moments=sorted(layout.moments, key=_time))
    known = read_trajectory(path, "tum" if given is None and layout.name == "tum" else None)
    times, stamps = np.array([m.time_s for m in layout.moments]), known.times + offset
    found: list[NDArray[np.float64] | None] = [None] * len(times)
    if known.timed:
        found = _by_time(known, stamps, times, tolerance)
    doubts, why = [], f"{path} has no times"
    fitting = sum(pose is not None for pose in found)
    if known.timed:
        why = (
            f"no pose of {path} is within {tolerance:g} s of a frame (from {stamps[0]:.2f} s on, "
            f"frames from {times[0]:.2f} s)"
        )
    if known.timed and 2 * fitting < len(known) and _are_numbers(stamps, len(times)):
        found = [None] * len(times)
        for stamp, pose in zip(stamps, known.poses, strict=True):
            found[int(stamp)] = pose
        doubts.append(f"the times of {path} are taken for numbers of frames: none has a fraction")
    elif not fitting:
        rows = known.by_row(len(times))
        if rows is None and given is not None:
            raise SourceError(
                f"{why}, and there are {known.total} poses for {len(times)} frames; expected one "
                "for each, or times on one clock (--pose-offset, --pose-tolerance)"
            )
        if rows is None:
            doubts.append(f"{why}, and there are {known.total} for {len(times)} frames: none used")
        elif known.timed:
            doubts.append(
                f"{why}; poses are taken row by row, as there are as many: is there a shift "
                "(--pose-offset)?"
            )
        found = rows or found
    moments = [replace(m, pose=p) for m, p in zip(layout.moments, found, strict=True)]
    doubts = [*layout.doubts, *doubts]
    return replace(layout, moments=sorted(moments, key=_time), doubts=tuple(doubts))


def _by_time(
    known: Trajectory, stamps: NDArray[np.float64], times: NDArray[np.float64], tolerance: float
) -> list[NDArray[np.float64] | None]:
    after = np.searchsorted(stamps, times).clip(1, max(len(stamps) - 1, 1))
    before = after - 1
    after = after.clip(max=len(stamps) - 1)
    nearest = np.where(
        np.abs(stamps[after] - times) < np.abs(stamps[before] - times), after, before
    )
    close = np.abs(stamps[nearest] - times) <= tolerance + 1e-9
    return [known.poses[k] if near else None for k, near in zip(nearest, close, strict=True)]


def _are_numbers(stamps: NDArray[np.float64], frames: int) -> bool:
    return bool((stamps == np.rint(stamps)).all() and stamps[0] >= 0 and stamps[-1] < frames)


def read_pose(path: Path) -> NDArray[np.float64] | None:
    """``(4, 4)`` of a file; None where the file says that the pose is not known.

    Raises:
        SourceError: for a file that holds no matrix.
    """
    matrix = read_matrix(path, [(4, 4), (3, 4)])
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, (0, 0, 0, 1)])
    return matrix if is_rigid(matrix) else None
