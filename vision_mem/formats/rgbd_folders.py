"""Recordings with depth as folders of 7-Scenes and TUM, which ``open_rgbd`` and others read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from vision_mem.errors import InputError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.formats.trajectory import pose_line
from vision_mem.geometry.camera import RgbdFrame


def write_seven_scenes(folder: str | Path, frames: Iterable[RgbdFrame]) -> int:
    """Write colour, depth in millimetres, and pose of each frame; returns how many.

    Args:
        folder: made when it is not there; files of the same names are replaced.
        frames: of one camera. Unknown poses become NaN, as the data set has them.

    Raises:
        SinkError: when it cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    count = 0
    for frame in frames:
        stem = folder / f"frame-{frame.index:06d}"
        camera, known = frame.camera, np.nan_to_num(frame.depth, posinf=0.0, neginf=0.0)
        millimetres = np.clip(np.rint(known * 1000.0), 0, 65534).astype(np.uint16)
        if not count:
            # The data set counts pixels from their centres.
            matrix = camera.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            write_file(folder / "camera-intrinsics.txt", _text(matrix))
        for name, picture in (("color", frame.image[..., ::-1]), ("depth", millimetres)):
            good, packed = cv2.imencode(".png", picture)
            if not good:
                raise InputError(f"frame {frame.index} cannot be encoded as PNG")
            write_file(folder / f"{stem.name}.{name}.png", packed.tobytes())
        pose = np.full((4, 4), np.nan) if frame.pose is None else frame.pose
        write_file(folder / f"{stem.name}.pose.txt", _text(pose))
        count += 1
    return count


def write_tum(folder: str | Path, frames: Iterable[RgbdFrame]) -> int:
    """Write a folder as TUM RGB-D has them; returns how many frames.

    ``rgb.txt`` and ``depth.txt`` list the pictures by time, depth in 1/5000 m;
    ``groundtruth.txt`` has the poses that are known; ``camera-intrinsics.txt`` is beside them.

    Args:
        folder: made when it is not there; files of the same names are replaced.
        frames: of one camera.

    Raises:
        SinkError: when it cannot be written.
    """
    folder = Path(folder)
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for name in ("rgb", "depth"):
        make_folder(folder / name)
    count = 0
    for frame in frames:
        known = np.nan_to_num(frame.depth, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
        units = np.rint(np.clip(known, 0, None) * 5000.0)
        units[units > 65535] = 0
        if not count:
            matrix = frame.camera.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            write_file(folder / "camera-intrinsics.txt", _text(matrix))
        for name, picture in (("rgb", frame.image[..., ::-1]), ("depth", units.astype(np.uint16))):
            good, packed = cv2.imencode(".png", picture)
            if not good:
                raise InputError(f"frame {frame.index} cannot be encoded as PNG")
            file = f"{name}/{frame.index:06d}.png"
            write_file(folder / file, packed.tobytes())
            lists[name].append(f"{frame.time_s:.6f} {file}")
        if frame.pose is not None:
            lists["groundtruth"].append(pose_line(frame.pose, frame.time_s, "tum"))
        count += 1
    for name, lines in lists.items():
        if lines or name != "groundtruth":
            write_file(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines).encode())
    return count


def _text(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bytes:
    return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in matrix).encode()
