"""Readers of the sets whose points are compared: 7-Scenes and NRGBD.

Source: specs/mem4d.md section 3.3; the frames that the code of Spann3R and CUT3R takes.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import folders_that, images_in, place_in
from vision_mem.evaluation.reconstruction.datasets.depth_sets import fed_frames
from vision_mem.evaluation.reconstruction.records import (
    Cut,
    Numbers,
    SceneSequence,
    SceneView,
    known_pose,
    safe_name,
)
from vision_mem.formats.rgbd_folders import find_intrinsics, read_matrix
from vision_mem.text import read_text

SEVEN_SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
NRGBD = (
    "breakfast_room", "complete_kitchen", "green_room", "grey_white_room", "kitchen",
    "morning_apartment", "staircase", "thin_geometry", "whiteroom",
)  # fmt: skip
_SEVEN_STRIDE, _NRGBD_STRIDE = 200, 500
_FARTHEST = 10.0
_REGISTERED: Numbers = (525.0, 525.0, 320.0, 240.0)
_RAW: Numbers = (585.0, 585.0, 320.0, 240.0)
_NRGBD_CAMERA: Numbers = (554.2562584220408, 554.2562584220408, 320.0, 240.0)

Read = tuple[list[SceneSequence], list[str]]


def open_seven_scenes(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """``SCENE/seq-XX/frame-000000.{color,depth.proj}.png`` and ``.pose.txt``; the test split."""
    notes: list[str] = []
    place = root / "7scenes" if (root / "7scenes").is_dir() else root
    folders: list[tuple[str, Path]] = []
    for scene in folders_that(place, lambda folder: any(folder.glob("seq-*"))):
        split = scene / "TestSplit.txt"
        if split.is_file():
            text = split.read_text(encoding="utf-8", errors="replace")
            numbers = [int(n) for n in re.findall(r"(\d+)", text)]
            folders += [(scene.name, scene / f"seq-{n:02d}") for n in numbers]
        else:
            notes.append(f"{scene.name} has no TestSplit.txt; all its sequences are taken")
            folders += [(scene.name, each) for each in sorted(scene.glob("seq-*")) if each.is_dir()]
    if not folders:
        raise InputError(
            f"{root} has no scene of 7-Scenes; expected SCENE/seq-01/frame-000000.color.png"
        )
    missing = [f"{scene}/{each.name}" for scene, each in folders if not each.is_dir()]
    if missing:
        notes.append(f"{len(missing)} sequences of the test split are not here: {missing[0]}, ...")
    folders = [(scene, each) for scene, each in folders if each.is_dir()]
    if not folders:
        raise InputError(f"{root} has no sequence of the test split; unpack its seq-*.zip")
    found = [_seven(scene, each, cut, need_frames, notes) for scene, each in folders]
    scenes = {scene.lower() for scene, _ in folders}
    if len(scenes) < len(SEVEN_SCENES):
        notes.append(f"{len(scenes)} of {len(SEVEN_SCENES)} scenes are here")
    return found, list(dict.fromkeys(notes))


def _seven(
    scene: str, folder: Path, cut: Cut, need_frames: bool, notes: list[str]
) -> SceneSequence:
    names = {each.name for each in folder.iterdir()}
    registered = any(name.endswith(".depth.proj.png") for name in names)
    ending = ".depth.proj.png" if registered else ".depth.png"
    if not registered:
        notes.append(
            "depth maps are not registered to colour (no .depth.proj.png): another focal length is "
            "taken, and numbers do not compare with published ones"
        )
    stems = sorted(name.removesuffix(ending) for name in names if name.endswith(ending))
    if not stems:
        raise InputError(f"{folder} has no depth maps; expected frame-000000{ending}")
    numbers = find_intrinsics(folder) or (_REGISTERED if registered else _RAW)
    views = []
    for number, scored in fed_frames(cut, cut.of(len(stems), None, _SEVEN_STRIDE)):
        stem = stems[number]
        pose = folder / f"{stem}.pose.txt"
        shots = [f"{stem}.color{each}" for each in (".png", ".jpg", ".jpeg")]
        image = folder / next((each for each in shots if each in names), shots[0])
        if need_frames and image.name not in names:
            raise InputError(f"{image} is missing; expected one for each depth map")
        if scored and pose.name not in names:
            raise InputError(f"{pose} is missing; expected the true pose of each frame")
        matrix = read_matrix(pose, [(4, 4)]) if pose.name in names else np.full((4, 4), np.nan)
        depth = folder / f"{stem}{ending}"
        views.append(SceneView(
            stem, float(number) / 30.0, image, depth, depth, known_pose(matrix),
            numbers, None, number, scored,
        ))  # fmt: skip
    name = safe_name(f"{scene}-{folder.name}")
    return SceneSequence(name, tuple(views), 0.001, _FARTHEST)


def open_nrgbd(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """``SCENE/{images/img0.png,depth/depth0.png,poses.txt}``, poses with the axes of OpenGL."""
    place = place_in(
        root, ("neural_rgbd", "neural_rgbd_data", "."), _nrgbd_scenes,
        "scene of NRGBD; expected SCENE with images/, depth/ and poses.txt",
    )  # fmt: skip
    scenes = _nrgbd_scenes(place)
    notes = []
    if len(scenes) < len(NRGBD):
        notes.append(f"{len(scenes)} of {len(NRGBD)} scenes are here")
    return [_nrgbd(scene, cut, need_frames) for scene in scenes], notes


def _nrgbd_scenes(place: Path) -> list[Path]:
    return folders_that(place, lambda folder: (folder / "poses.txt").is_file())


def _nrgbd(scene: Path, cut: Cut, need_frames: bool) -> SceneSequence:
    poses = read_gl_poses(scene / "poses.txt")
    depths = images_in(scene / "depth", (".png",))
    images = images_in(scene / "images")
    if not depths:
        raise InputError(f"{scene} has no depth/ with depth0.png and so on")
    count = len(images) if need_frames else len(depths)
    if count != len(depths) or count > len(poses):
        raise InputError(
            f"{scene} has {len(images)} images, {len(depths)} depth maps and {len(poses)} poses; "
            "expected as many"
        )
    stride = max(1, min(_NRGBD_STRIDE, count // 2))
    views = []
    for number, scored in fed_frames(cut, cut.of(count, None, stride)):
        image = images[number] if images else scene / f"img{number}.png"
        views.append(SceneView(
            f"{number:06d}", float(number) / 30.0, image, depths[number], depths[number],
            poses[number], _NRGBD_CAMERA, None, number, scored,
        ))  # fmt: skip
    return SceneSequence(safe_name(scene.name), tuple(views), 0.001, _FARTHEST)


def read_gl_poses(path: Path) -> list[NDArray[np.float64] | None]:
    """Poses of NRGBD: four rows each, ``nan`` where the camera is not known.

    Returns:
        ``(4, 4)`` camera-to-world with the axes of OpenCV: y and z of the file point the other
        way.

    Raises:
        InputError: for rows that are no matrices.
    """
    try:
        words = read_text(path).split()
        values = np.array([float(word) for word in words])
    except ValueError:
        raise InputError(f"{path} cannot be read; expected four rows of numbers a pose") from None
    if not len(values) or len(values) % 16:
        raise InputError(f"{path} holds {len(values)} numbers; expected 16 for each pose")
    matrices = values.reshape(-1, 4, 4)
    return [known_pose(matrix * np.array([1.0, -1.0, -1.0, 1.0])) for matrix in matrices]
