"""A sparse model as COLMAP writes it in text: for Gaussian splats and photogrammetry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import inverse, quaternion_from


def write_colmap(
    folder: str | Path,
    camera: Pinhole,
    images: Iterable[tuple[str, NDArray[np.float64]]],
    points: ArrayLike,
    colours: ArrayLike,
) -> int:
    """Write ``cameras.txt``, ``images.txt`` and ``points3D.txt``.

    COLMAP counts pixels from the image's corner, as ``Pinhole`` does, and poses as world-to-camera.
    No point has a track of observations: they begin a splat, and do not bundle.

    Args:
        folder: made when it is not there; files of these names are replaced.
        camera: of all images.
        images: names of their files and poses ``(4, 4)`` camera-to-world.
        points: ``(N, 3)`` metres.
        colours: ``(N, 3)`` uint8 RGB.

    Returns:
        How many images there are.

    Raises:
        InputError: for a name with a space in it, which the format cannot hold.
        SinkError: when it cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    c = camera
    numbers = " ".join(f"{n:.10g}" for n in (c.fx, c.fy, c.cx, c.cy))
    rows = [f"1 PINHOLE {c.width} {c.height} {numbers}"]
    _write(folder / "cameras.txt", "CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy", rows)
    rows = []
    for number, (name, pose) in enumerate(images, start=1):
        if " " in name or not name:
            raise InputError(f"image {name!r}: COLMAP's text has no room for spaces in names")
        seen = inverse(pose)
        place = [*quaternion_from(seen[:3, :3]).tolist(), *seen[:3, 3].tolist()]
        # The second line of an image lists points seen in it: none.
        rows += [f"{number} {' '.join(f'{n:.10g}' for n in place)} 1 {name}", ""]
    _write(folder / "images.txt", "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, POINTS2D", rows)
    count = len(rows) // 2
    where, paint = np.asarray(points, np.float64), np.asarray(colours, np.uint8)
    rows = [
        f"{k} {x:.6g} {y:.6g} {z:.6g} {r} {g} {b} 0"
        for k, ((x, y, z), (r, g, b)) in enumerate(
            zip(where.reshape(-1, 3).tolist(), paint.reshape(-1, 3).tolist(), strict=True), start=1
        )
    ]
    _write(folder / "points3D.txt", "POINT3D_ID X Y Z R G B ERROR TRACK[]", rows)
    return count


def _write(path: Path, columns: str, rows: Sequence[str]) -> None:
    write_file(path, "".join(f"{line}\n" for line in [f"# {columns}", *rows]).encode())
