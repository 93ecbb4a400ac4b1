"""Recordings with depth as folders of 7-Scenes, which ``open_rgbd`` and others read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from vision_mem.errors import InputError
from vision_mem.io.lines import make_folder, write_file
from vision_mem.io.rgbdframe import RgbdFrame


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


def _text(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bytes:
    return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in matrix).encode()
