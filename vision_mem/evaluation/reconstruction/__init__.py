"""Scores of camera paths and depth against the truth."""

from __future__ import annotations

from vision_mem.evaluation.reconstruction.depth import ALIGNMENTS, DepthErrors, depth_errors
from vision_mem.evaluation.reconstruction.trajectory import (
    PathErrors,
    associate,
    path_errors,
    score_path_files,
)

__all__ = [
    "ALIGNMENTS",
    "DepthErrors",
    "PathErrors",
    "associate",
    "depth_errors",
    "path_errors",
    "score_path_files",
]
