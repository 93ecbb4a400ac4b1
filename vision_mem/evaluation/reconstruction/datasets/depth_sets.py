"""Readers of the sets whose depth maps are compared: Sintel, Bonn, KITTI.

Source: specs/mem4d.md section 3.1; the layouts that the preparing scripts of MonST3R leave.
"""

from __future__ import annotations

from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import first_folder, images_in, missing_note, place_in
from vision_mem.evaluation.reconstruction.datasets import DEPTH, POSE
from vision_mem.evaluation.reconstruction.records import (
    Cut,
    Numbers,
    SceneSequence,
    SceneView,
    safe_name,
)
from vision_mem.formats.sintel import read_cam

SINTEL = (
    "alley_2", "ambush_4", "ambush_5", "ambush_6", "cave_2", "cave_4", "market_2", "market_5",
    "market_6", "shaman_3", "sleeping_1", "sleeping_2", "temple_2", "temple_3",
)  # fmt: skip
"""The sequences that papers report on; the other nine have no camera that moves, or sky alone."""
BONN = ("balloon2", "crowd2", "crowd3", "person_tracking2", "synchronous")

_FARTHEST = 70.0
_BONN_FIRST, _BONN_FRAMES, _KITTI_FRAMES = 30, 110, 110
# As published with the recordings.
_BONN_CAMERA: Numbers = (542.822841, 542.576870, 315.593520, 237.756098)

Read = tuple[list[SceneSequence], list[str]]


def open_sintel(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """``training/{final,depth,camdata_left,dynamic_label_perfect}/SEQ``; the last is optional."""
    parts = ("camdata_left", "depth", "final")
    training = place_in(
        root, ("sintel/training", "training", "."),
        lambda place: first_folder(*(place / part for part in parts)),
        "Sintel; expected training/final, training/depth and training/camdata_left in it",
    )  # fmt: skip
    images = first_folder(training / "final", training / "clean")
    needed = {"depth": task != POSE, "camdata_left": task != DEPTH}
    for name, wanted in needed.items():
        if wanted and not (training / name).is_dir():
            raise InputError(f"{training} has no {name}/; it is a download of its own of Sintel")
    if need_frames and images is None:
        raise InputError(f"{training} has no final/; expected the images of Sintel there")
    truth = training / ("camdata_left" if needed["camdata_left"] else "depth")
    names = sorted(each.name for each in truth.iterdir() if each.is_dir())
    known = [name for name in SINTEL if name in names]
    chosen = known or names
    notes = missing_note(SINTEL, known, "sequences") if known else []
    found = [_sintel(training, images, name, task, cut, need_frames) for name in chosen]
    return found, notes


def _sintel(
    training: Path, images: Path | None, name: str, task: str, cut: Cut, need_frames: bool
) -> SceneSequence:
    shots = [] if images is None else images_in(images / name)
    cameras = training / "camdata_left" / name
    depths = training / "depth" / name
    moving = training / "dynamic_label_perfect" / name
    sensors = training / "sensor" / name
    suffix = ".cam" if task != DEPTH else ".dpt"
    stems = [each.stem for each in images_in(cameras if task != DEPTH else depths, (suffix,))]
    if not stems:
        raise InputError(f"{cameras if task != DEPTH else depths} has no {suffix} files")
    by_stem = {each.stem: each for each in shots}
    views = []
    fed = fed_frames(cut, cut.of(len(stems), None, 1))
    for number, scored in fed:
        stem = stems[number]
        camera, image = cameras / f"{stem}.cam", by_stem.get(stem)
        if need_frames and image is None:
            raise InputError(f"{images}/{name} has no image {stem}; expected one for each camera")
        matrix, pose = read_cam(camera) if camera.is_file() else (None, None)
        depth, sensor = depths / f"{stem}.dpt", sensors / f"{stem}.png"
        if task != POSE and scored and not depth.is_file():
            raise InputError(f"{depth} is missing; expected the true depth of each frame")
        numbers = None
        if matrix is not None:
            numbers = (
                float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])
            )  # fmt: skip
        true = depth if depth.is_file() else None
        label = moving / f"{stem}.png"
        views.append(SceneView(
            stem, float(number), image or Path(f"{stem}.png"), true,
            sensor if sensor.is_file() else true, pose, numbers,
            label if label.is_file() else None, number, scored,
        ))  # fmt: skip
    return SceneSequence(safe_name(name), tuple(views), 0.001, _FARTHEST)


def fed_frames(cut: Cut, chosen: list[int]) -> list[tuple[int, bool]]:
    """Numbers to go through, and whether each is compared."""
    if not cut.feed or not chosen:
        return [(number, True) for number in chosen]
    between = set(range(chosen[0], chosen[-1] + 1, cut.feed)) | set(chosen)
    compared = set(chosen)
    return [(number, number in compared) for number in sorted(between)]


def open_bonn(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """``rgbd_bonn_dataset/rgbd_bonn_NAME/{rgb_110,depth_110}``, or ``rgb`` and ``depth``."""
    place = place_in(
        root, ("bonn/rgbd_bonn_dataset", "rgbd_bonn_dataset", "."),
        lambda place: any(place.glob("rgbd_bonn_*")),
        "folders rgbd_bonn_*; expected rgbd_bonn_balloon2 and so on",
    )  # fmt: skip
    there = {each.name: each for each in sorted(place.glob("rgbd_bonn_*")) if each.is_dir()}
    known = [name for name in BONN if f"rgbd_bonn_{name}" in there]
    folders = [there[f"rgbd_bonn_{name}"] for name in known] or list(there.values())
    notes = missing_note(BONN, known, "sequences") if known else []
    return [_bonn(folder, cut, need_frames) for folder in folders], notes


def _bonn(folder: Path, cut: Cut, need_frames: bool) -> SceneSequence:
    prepared = cut.usual and (folder / "depth_110").is_dir()
    depths = images_in(folder / ("depth_110" if prepared else "depth"))
    images = images_in(folder / ("rgb_110" if prepared else "rgb"))
    if not depths:
        raise InputError(f"{folder} has no depth maps; expected depth_110/ or depth/")
    if need_frames and not images:
        raise InputError(f"{folder} has no images; expected rgb_110/ or rgb/")
    # Both lists are cut by place: the set's protocol does not look at the times.
    first = 0 if prepared else _BONN_FIRST
    count = min(len(depths), len(images)) if need_frames else len(depths)
    chosen = cut.of(count, _BONN_FRAMES, 1, first)
    if not chosen:
        raise InputError(f"{folder} has {count} frames; expected more than {first}")
    views = tuple(
        SceneView(
            f"{place:06d}", float(k), images[k] if k < len(images) else depths[k], depths[k],
            depths[k], None, _BONN_CAMERA, None, k,
        )
        for place, k in enumerate(chosen)
    )  # fmt: skip
    return SceneSequence(safe_name(folder.name), views, 1 / 5000, _FARTHEST)


def open_kitti(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """``val_selection_cropped/{image_gathered,groundtruth_depth_gathered}/DRIVE_02``."""
    truth = "groundtruth_depth_gathered"
    place = place_in(
        root, ("kitti/depth_selection/val_selection_cropped",
               "depth_selection/val_selection_cropped", "val_selection_cropped", "."),
        lambda place: (place / truth).is_dir(),
        f"{truth}/; expected depth_selection/val_selection_cropped with image_gathered/ and "
        f"{truth}/, a folder a drive",
    )  # fmt: skip
    folders = sorted(each for each in (place / truth).iterdir() if each.is_dir())
    if not folders:
        raise InputError(f"{place / truth} is empty; expected a folder for each drive")
    notes = [] if len(folders) == 13 else [f"{len(folders)} drives; published rows are of 13"]
    return [_kitti(place, folder, cut, need_frames) for folder in folders], notes


def _kitti(place: Path, folder: Path, cut: Cut, need_frames: bool) -> SceneSequence:
    depths = images_in(folder, (".png",))
    images = images_in(place / "image_gathered" / folder.name)
    if not depths:
        raise InputError(f"{folder} has no depth maps (.png)")
    if need_frames and len(images) != len(depths):
        raise InputError(
            f"{folder.name} has {len(images)} images and {len(depths)} depth maps; expected as many"
        )
    views = tuple(
        SceneView(f"{place:06d}", float(k), images[k] if images else depths[k], depths[k], number=k)
        for place, k in enumerate(cut.of(len(depths), _KITTI_FRAMES, 1))
    )
    return SceneSequence(safe_name(folder.name), views, 1 / 256, None)
