"""Run a model on a set for depth, poses or points. One job is one sequence.

Work is done by the runner of all evaluations (``evaluation.engine.runner``); the result files are
those that ``results`` reads, so that a run and any program's files are scored alike.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, SourceError
from vision_mem.evaluation.engine.frames import Clock
from vision_mem.evaluation.engine.runner import Advanced
from vision_mem.evaluation.reconstruction.datasets import DEPTH, POSE
from vision_mem.evaluation.reconstruction.records import SceneSequence, SceneView
from vision_mem.evaluation.reconstruction.results import MAP
from vision_mem.evaluation.reconstruction.scene_models import (
    SceneInput,
    SceneModel,
    SceneOutput,
    SceneWorker,
)
from vision_mem.formats.ply import write_ply
from vision_mem.formats.text import scratch_prefix
from vision_mem.formats.trajectory import pose_line
from vision_mem.geometry.poses import transform
from vision_mem.sources.images import read_image
from vision_mem.text import read_json

_FPS = 30.0


@dataclass(frozen=True)
class SceneJob:
    """One sequence to run, see ``runner.Job``.

    Attributes:
        sequence: its frames.
        task: what is asked, one of ``TASKS``.
        given: the model is shown the true poses.
    """

    sequence: SceneSequence
    task: str
    given: bool = False

    @property
    def name(self) -> str:
        """Of the sequence."""
        return self.sequence.name

    @property
    def length(self) -> int:
        """Frames to look at."""
        return len(self.sequence.views)

    def is_whole(self, results: Path, log: Path) -> bool:
        """Say whether the result files are those that the log speaks of."""
        try:
            wanted = read_json(log, nan=True)["files"]
            return bool(wanted) and all(
                hashlib.sha256((results / name).read_bytes()).hexdigest() == digest
                for name, digest in wanted.items()
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False

    def run(
        self, session: SceneWorker, tell: Callable[[Advanced], None], log: dict[str, Any]
    ) -> dict[str, bytes]:
        """Go through the sequence, see ``runner.Job``.

        Raises:
            InputError: when the set lacks what the model needs.
            SourceError: when a file cannot be read.
        """
        model = session.model
        model.reset()
        clock = Clock(model.device)
        made = _Products(self.sequence, self.task)
        log |= {"frames": 0, "lost": [], "poses": "given" if self.given else "found"}
        held, before = 0, -np.inf
        for index, view in enumerate(self.sequence.views):
            # Times of some sets stand still or are missing; models want them to rise.
            before = max(view.time_s, before + 1e-3)
            shown = self._shown(model, view, index, before)
            with clock:
                found = model.step(shown)
            held = max(held, model.held_bytes())
            if found.pose is None:
                log["lost"].append(view.name)
            if view.scored:
                made.add(view, shown, found)
            log["frames"] = index + 1
            tell(Advanced(self.name, index + 1))
        files = made.files(model.map_points() if self.task not in (DEPTH, POSE) else None)
        if log["lost"]:
            lost = len(log["lost"])
            log["warnings"].append(f"the camera was lost on {lost} of {self.length} frames")
        log["held_bytes"] = held
        log["files"] = {
            name: hashlib.sha256(content).hexdigest() for name, content in files.items()
        }
        log |= clock.report(self.length)
        return files

    def _shown(self, model: SceneModel, view: SceneView, index: int, time_s: float) -> SceneInput:
        image = read_image(view.image)
        depth = None
        if model.wants_depth and view.sensor is not None:
            depth = self.sequence.depth(view.sensor)
        camera = None
        if view.intrinsics is not None:
            size = image.shape[:2] if depth is None else depth.shape
            camera = self.sequence.camera(view, (int(size[0]), int(size[1])))
        pose = view.pose if self.given else None
        if self.given and pose is None:
            raise InputError(f"{self.name}: {view.name} has no true pose; leave out poses=given")
        return SceneInput(index, time_s, image, depth, camera, pose)


class _Products:
    """Result files of one sequence, made frame by frame."""

    def __init__(self, sequence: SceneSequence, task: str) -> None:
        self._sequence, self._task = sequence, task
        self._files: dict[str, bytes] = {}
        self._lines: list[str] = []
        self._maps: list[NDArray[np.float32]] = []

    def add(self, view: SceneView, shown: SceneInput, found: SceneOutput) -> None:
        """Take what was found on a frame."""
        if self._task == DEPTH:
            arrays: dict[str, Any] = {"depth": found.depth.astype(np.float32)}
            if found.moving is not None:
                arrays["moving"] = found.moving
            self._files[f"{self._sequence.name}/{view.name}.npz"] = _packed(arrays)
        elif self._task == POSE:
            if found.pose is not None:
                self._lines.append(pose_line(found.pose, view.time_s, "tum") + "\n")
        else:
            self._maps.append(self._points(view, shown, found))

    def files(self, kept: NDArray[np.float32] | None) -> dict[str, bytes]:
        """Path below the results folder to content."""
        name = self._sequence.name
        if self._task == DEPTH:
            return self._files
        if self._task == POSE:
            if not self._lines:
                raise InputError("the camera was lost on every frame; there is no path")
            return {f"{name}.txt": "".join(self._lines).encode()}
        if len({each.shape for each in self._maps}) != 1:
            raise SourceError("the depth maps have several sizes; expected one for all frames")
        files = {} if kept is None else {f"{name}.{MAP}": _ply(kept)}
        return {**files, f"{name}.npz": _packed({"points": np.stack(self._maps)})}

    def _points(
        self, view: SceneView, shown: SceneInput, found: SceneOutput
    ) -> NDArray[np.float32]:
        if found.points is not None:
            return np.asarray(found.points, np.float32)
        if found.pose is None:
            return np.full((*found.depth.shape, 3), np.nan, np.float32)
        if shown.camera is None:
            raise InputError("the model gives depth and no points, and nothing says the intrinsics")
        height, width = found.depth.shape
        camera = shown.camera.resized(width, height)
        points = transform(found.pose, camera.unproject(found.depth))
        points[~(np.isfinite(found.depth) & (found.depth > 0))] = np.nan
        return points.astype(np.float32)


def _packed(arrays: dict[str, Any]) -> bytes:
    """An npz that is the same bytes for the same numbers, whenever it is made."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            held = io.BytesIO()
            np.lib.format.write_array(held, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), held.getvalue(),
                             zipfile.ZIP_DEFLATED)  # fmt: skip
    return stream.getvalue()


def _ply(points: NDArray[np.float32]) -> bytes:
    with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as folder:
        path = Path(folder) / MAP
        write_ply(path, points, comment="what stays, metres, axes of the first camera")
        return path.read_bytes()
