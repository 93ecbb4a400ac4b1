"""Forty frames of a depth camera in a kitchen: map against depth, path against truth."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.geometry.poses import aligned, inverse, transform
from vision_mem.reconstruction import ReconstructionSession
from vision_mem.sources.rgbd import open_rgbd

pytestmark = pytest.mark.data

MAP_ERROR_M, PATH_ERROR_M = 0.015, 0.05


@pytest.fixture(scope="module")
def frames(data):
    folder = data / "rgbd" / "7scenes_redkitchen"
    if not folder.is_dir():
        pytest.skip(f"the kitchen was not found in {folder}")
    frames = list(open_rgbd(folder))
    assert len(frames) == 40
    assert all(frame.pose is not None for frame in frames)
    return frames


def map_errors(found, frames, poses):
    """Metres between the nearest map point of each pixel block and the reading there."""
    errors = []
    for frame, pose in zip(frames, poses, strict=True):
        step = frame.camera.width // 160
        camera = frame.camera.every(step)
        depth = frame.depth[step // 2 :: step, step // 2 :: step]
        pixels, z = camera.project(transform(inverse(pose), found.points))
        with np.errstate(invalid="ignore"):
            inside = (pixels >= 0).all(axis=1) & (pixels < (camera.width, camera.height)).all(
                axis=1
            )
        u, v = np.floor(pixels[inside]).astype(int).T
        nearest = np.full(depth.shape, np.inf)
        np.minimum.at(nearest, (v, u), z[inside])
        both = np.isfinite(nearest) & (depth > 0)
        assert both.mean() > 0.5
        errors.append(np.abs(nearest - depth)[both])
    return np.concatenate(errors)


def test_known_poses_give_a_map_that_fits(frames):
    session = ReconstructionSession()
    results = [session.step(frame) for frame in frames]
    error = np.median(map_errors(session.static_map(), frames, [f.pose for f in frames]))
    moving = np.mean([r.dynamic.mean() for r in results])
    print(f"median error {1e3 * error:.1f} mm, {moving:.1%} of the pixels said to move")
    assert error < MAP_ERROR_M
    assert moving < 0.05  # nothing does


def test_unknown_poses_are_found(frames):
    session = ReconstructionSession()
    results = [session.step(frame.without_pose()) for frame in frames]
    assert not any(result.lost for result in results)
    path = np.stack([r.pose[:3, 3] for r in results])
    truth = np.stack([f.pose[:3, 3] for f in frames])
    _, motion = aligned(path, truth)
    error = np.sqrt(((transform(motion, path) - truth) ** 2).sum(axis=1).mean())
    print(f"absolute error of the path {100 * error:.1f} cm")
    assert error < PATH_ERROR_M
