"""Readers of the sets whose camera paths are compared: TUM-dynamics and ScanNet.

Source: specs/mem4d.md section 3.2; the layouts that the preparing scripts of MonST3R leave.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import (
    first_file,
    folders_that,
    images_in,
    missing_note,
    place_in,
)
from vision_mem.evaluation.reconstruction.records import (
    Cut,
    Numbers,
    SceneSequence,
    SceneView,
    known_pose,
    safe_name,
)
from vision_mem.formats.rgbd_folders import find_intrinsics, listed_rows, read_matrix
from vision_mem.formats.trajectory import read_numbers, read_trajectory
from vision_mem.geometry.trajectory_errors import MOST_APART_S, associate

TUM = tuple(
    f"rgbd_dataset_freiburg3_{who}_{how}"
    for who in ("sitting", "walking")
    for how in ("static", "xyz", "halfsphere", "rpy")
)
_FRAMES, _STRIDE = 90, 3
_TUM_CAMERA: Numbers = (535.4, 539.2, 320.1, 247.6)

Read = tuple[list[SceneSequence], list[str]]


def open_tum(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """Folders of TUM RGB-D: ``rgb_90`` with ``groundtruth_90.txt``, or whole recordings."""
    place = place_in(
        root, ("tum", "."), lambda place: folders_that(place, _is_tum),
        "recordings of TUM RGB-D; expected folders with rgb_90/ and groundtruth_90.txt, or with "
        "rgb.txt and groundtruth.txt",
    )  # fmt: skip
    folders = folders_that(place, _is_tum)
    known = [each for each in folders if each.name in TUM]
    notes = missing_note(TUM, [each.name for each in known], "sequences") if known else []
    return [_tum(folder, cut, need_frames) for folder in known or folders], notes


def _is_tum(folder: Path) -> bool:
    return bool(first_file(folder / "groundtruth_90.txt", folder / "groundtruth.txt"))


def _tum(folder: Path, cut: Cut, need_frames: bool) -> SceneSequence:
    listed = (folder / "rgb.txt").is_file() and (folder / "groundtruth.txt").is_file()
    prepared = cut.usual and (folder / "groundtruth_90.txt").is_file()
    if not prepared and not listed:
        raise InputError(
            f"{folder} lacks rgb.txt or groundtruth.txt; other frames than the 90 prepared ones "
            "need the whole recording"
        )
    known = read_trajectory(folder / ("groundtruth_90.txt" if prepared else "groundtruth.txt"))
    if prepared:
        images = list(images_in(folder / "rgb_90"))
        if need_frames and len(images) != len(known):
            raise InputError(
                f"{folder} has {len(images)} images in rgb_90/ and {len(known)} poses in "
                "groundtruth_90.txt; expected as many"
            )
        # Image k belongs to pose k: that is how the 90 were prepared.
        pairs = [(k, k) for k in range(len(known))]
        times = [_stamp(image, known.times[k]) for k, image in enumerate(images)]
        times = times or known.times.tolist()
    else:
        rows = listed_rows(folder / "rgb.txt")
        times, images = [t for t, _ in rows], [path for _, path in rows]
        every = associate(times, known.times)
        pairs = [every[k] for k in cut.of(len(every), _FRAMES, _STRIDE)]
    if not pairs:
        raise InputError(f"{folder}: no image has a pose within {MOST_APART_S} s")
    sensors = _near(folder, [times[k] for k, _ in pairs])
    numbers = find_intrinsics(folder) or _TUM_CAMERA
    views = tuple(
        SceneView(
            f"{place:06d}", float(times[k]), images[k] if images else folder / f"{k}.png",
            sensors[place], sensors[place], known.poses[m], numbers, None, k,
        )
        for place, (k, m) in enumerate(pairs)
    )  # fmt: skip
    return SceneSequence(safe_name(folder.name), views, 1 / 5000)


def _stamp(image: Path, otherwise: float) -> float:
    """Seconds in the name of an image of TUM RGB-D."""
    try:
        return float(image.stem)
    except ValueError:
        return float(otherwise)


def _near(folder: Path, times: list[float]) -> list[Path | None]:
    """Depth maps of the same moments, None where there is none."""
    if (folder / "depth.txt").is_file():
        rows = sorted(listed_rows(folder / "depth.txt"))
    else:
        inside = next((n for n in ("depth_90", "depth") if (folder / n).is_dir()), "depth")
        rows = [(_stamp(each, np.nan), each) for each in images_in(folder / inside, (".png",))]
        rows = [row for row in rows if np.isfinite(row[0])]
    found: list[Path | None] = [None] * len(times)
    order = np.argsort(times, kind="stable")
    for k, m in associate([times[i] for i in order], [t for t, _ in rows]):
        found[int(order[k])] = rows[m][1]
    return found


def open_scannet(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """``scene0707_00/{color_90,pose_90.txt}``, or ``color``, ``depth`` and ``pose``."""
    place = place_in(
        root, ("scannetv2", "scannet", "."), lambda place: folders_that(place, _is_scan),
        "scenes of ScanNet; expected folders with color_90/ and pose_90.txt, or with color/ and "
        "pose/",
    )  # fmt: skip
    return [_scannet(each, cut, need_frames) for each in folders_that(place, _is_scan)], []


def _is_scan(folder: Path) -> bool:
    return (folder / "pose_90.txt").is_file() or (folder / "pose").is_dir()


def _scannet(folder: Path, cut: Cut, need_frames: bool) -> SceneSequence:
    prepared = cut.usual and (folder / "pose_90.txt").is_file()
    mark = "_90" if prepared else ""
    images = list(images_in(folder / f"color{mark}"))
    depths = {each.stem: each for each in images_in(folder / f"depth{mark}", (".png",))}
    if prepared:
        rows = [np.array(row) for _, row in read_numbers(folder / "pose_90.txt", 16)]
        matrices = [row.reshape(4, 4) for row in rows]
        if need_frames and len(images) != len(matrices):
            raise InputError(
                f"{folder} has {len(images)} images in color_90/ and {len(matrices)} poses in "
                "pose_90.txt; expected as many"
            )
        chosen = list(range(len(matrices)))
    else:
        files = list(images_in(folder / "pose", (".txt",)))
        if need_frames and not images:
            raise InputError(f"{folder} has no color/ or color_90/ with images")
        by_stem = {each.stem: each for each in images}
        files = [each for each in files if each.stem in by_stem or not need_frames]
        images = [by_stem.get(each.stem, each) for each in files]
        chosen = cut.of(len(files), _FRAMES, _STRIDE)
        matrices = [read_matrix(files[k], [(4, 4)]) for k in chosen]
        images = [images[k] for k in chosen]
    if not matrices:
        raise InputError(f"{folder} has no frame with a pose")
    numbers = find_intrinsics(folder)
    views = tuple(
        _scan_view(place, k, images, matrices, depths, numbers)
        for place, k in enumerate(chosen)
    )  # fmt: skip
    return SceneSequence(safe_name(folder.name), views, 0.001)


def _scan_view(
    place: int,
    number: int,
    images: list[Path],
    matrices: list[NDArray[np.float64]],
    depths: dict[str, Path],
    numbers: Numbers | None,
) -> SceneView:
    image = images[place] if place < len(images) else Path(f"{number}.jpg")
    depth = depths.get(image.stem)
    # ScanNet writes poses of -inf where its own tracking was lost.
    pose = known_pose(matrices[place])
    return SceneView(
        f"{place:06d}", float(number), image, depth, depth, pose, numbers, None, number
    )
