"""COLMAP's text: as its definition has it, and as its own reader understands it."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.formats.colmap import write_colmap
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import exponential, rotation_of

CAMERA = Pinhole(60.5, 61.0, 32.25, 24.0, 64, 48)
POSES = [exponential([0.1 * k, -0.2, 0.3 * k, 0.2 * k, 0.1, -0.3]) for k in range(3)]
POINTS = np.array([[0.1, 0.2, 3.0], [-1.0, 0.5, 2.0]])
COLOURS = np.array([[255, 0, 7], [1, 2, 3]], np.uint8)


@pytest.fixture
def model(tmp_path):
    images = [(f"{k:06d}.jpg", pose) for k, pose in enumerate(POSES)]
    assert write_colmap(tmp_path / "sparse/0", CAMERA, images, POINTS, COLOURS) == 3
    return tmp_path / "sparse/0"


def rows(path):
    return [line for line in path.read_text().split("\n") if not line.startswith("#")]


def test_by_its_definition(model):
    assert rows(model / "cameras.txt")[0] == "1 PINHOLE 64 48 60.5 61 32.25 24"
    found = rows(model / "images.txt")
    assert len(found) == 7 and not any(found[1::2])  # each image has a line of its points
    for number, (line, pose) in enumerate(zip(found[::2], POSES, strict=False), start=1):
        words = line.split()
        assert words[0] == str(number) and words[8:] == ["1", f"{number - 1:06d}.jpg"]
        turn, place = rotation_of([float(w) for w in words[1:5]]), np.array(words[5:8], float)
        # World to camera: the camera's own place becomes nothing.
        np.testing.assert_allclose(turn @ pose[:3, 3] + place, 0, atol=1e-8)
        np.testing.assert_allclose(turn @ pose[:3, :3], np.eye(3), atol=1e-8)
    assert rows(model / "points3D.txt")[0] == "1 0.1 0.2 3 255 0 7 0"


def test_by_its_own_reader(model):
    pycolmap = pytest.importorskip("pycolmap", reason="needs pycolmap")
    read = pycolmap.Reconstruction(model)
    assert (len(read.cameras), len(read.images), len(read.points3D)) == (1, 3, 2)
    image, pose = read.images[2], POSES[1]
    np.testing.assert_allclose(image.projection_center(), pose[:3, 3], atol=1e-6)
    # A point is seen where we see it.
    seen = image.project_point(np.array([0.1, 0.2, 3.0]))
    local = pose[:3, :3].T @ (np.array([0.1, 0.2, 3.0]) - pose[:3, 3])
    np.testing.assert_allclose(seen, CAMERA.project(local)[0], atol=1e-4)


def test_a_name_with_a_space_is_refused(tmp_path):
    with pytest.raises(InputError, match="no room for spaces"):
        write_colmap(tmp_path, CAMERA, [("a b.jpg", POSES[0])], POINTS, COLOURS)
