"""Small scenes of a depth camera, written down by hand."""

from __future__ import annotations

import numpy as np

from vision_mem.geometry.camera import Pinhole
from vision_mem.sources.rgbd_frame import RgbdFrame

CAMERA = Pinhole.from_field_of_view(60, 96, 72)


def room(t, boxes=(), *, camera=CAMERA, pose=None, time_step=0.1, noise=0.0, colour=None):
    """A back wall at 3 m with a floor; boxes are (x, y, half size, z) that face the camera."""
    pose = np.eye(4) if pose is None else pose
    rays = camera.rays() @ pose[:3, :3].T
    origin = pose[:3, 3]
    depth = (3.0 - origin[2]) / rays[..., 2]
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] > 0, (1.0 - origin[1]) / rays[..., 1], np.inf)
        side = np.where(rays[..., 0] > 0, (1.6 - origin[0]) / rays[..., 0], np.inf)
    depth = np.minimum(depth, np.minimum(floor, side))
    painted = np.zeros(depth.shape, bool)
    for x, y, half, z in boxes:
        at = (z - origin[2]) / rays[..., 2]
        place = origin + rays * at[..., None]
        inside = (np.abs(place[..., 0] - x) < half) & (np.abs(place[..., 1] - y) < half)
        nearer = inside & (at > 0) & (at < depth)
        depth = np.where(nearer, at, depth)
        painted |= nearer
    place = origin + rays * depth[..., None]
    image = (128 + 90 * np.sin(place * (5.0, 7.0, 6.0))).astype(np.uint8)
    image[painted] = (220, 40, 40) if colour is None else colour
    random = np.random.default_rng(t)
    depth = depth * (1 + noise * random.standard_normal(depth.shape))
    return (
        RgbdFrame(t, t * time_step, image, depth.astype(np.float32), camera, pose),
        painted,
    )
