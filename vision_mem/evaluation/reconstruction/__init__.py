"""Depth, camera paths and points: sets, what is run on them, and scores against the truth."""

from __future__ import annotations

from vision_mem.evaluation.reconstruction.datasets.open import SCENE_KEYS, open_scene_set
from vision_mem.evaluation.reconstruction.metrics.depth import ALIGNMENTS, DepthErrors, depth_errors
from vision_mem.evaluation.reconstruction.metrics.points import (
    CloudErrors,
    cloud_errors,
    fit_points,
    settle,
)
from vision_mem.evaluation.reconstruction.results import score_path_files
from vision_mem.geometry.trajectory_errors import PathErrors, associate, path_errors

__all__ = [
    "ALIGNMENTS",
    "SCENE_KEYS",
    "CloudErrors",
    "DepthErrors",
    "PathErrors",
    "associate",
    "cloud_errors",
    "depth_errors",
    "fit_points",
    "open_scene_set",
    "path_errors",
    "score_path_files",
    "settle",
]
