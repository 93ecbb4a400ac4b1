"""Models behind the seam: frames in; depth, poses and points out."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import scene_samples as samples
import torch

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.datasets import TASKS, open_scene_set
from vision_mem.evaluation.reconstruction.grids import nearest_grid, resized_depth
from vision_mem.evaluation.reconstruction.job import SceneJob
from vision_mem.evaluation.reconstruction.records import Cut
from vision_mem.evaluation.reconstruction.results import SceneResults
from vision_mem.evaluation.reconstruction.scene_models import (
    GeometricModel,
    SceneInput,
    SceneOutput,
    SceneWorker,
    Traits,
)
from vision_mem.evaluation.reconstruction.scores import score_scenes
from vision_mem.evaluation.reconstruction.sequence_scores import SceneRules
from vision_mem.geometry.poses import inverse


class Knowing:
    """Knows the path and the walls; in its own scale, as networks do."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.traits, self.device, self.wants_depth = Traits("knowing"), torch.device("cpu"), False

    def reset(self) -> None:
        self.seen = 0

    def step(self, frame: SceneInput) -> SceneOutput:
        assert frame.depth is None and frame.pose is None  # it was shown neither
        path = samples.poses(10)
        pose = inverse(path[0]) @ path[frame.index]
        pose[:3, 3] *= self.scale
        self.seen += 1
        return SceneOutput(pose, self.scale * samples.depth_of(path[frame.index]))

    def map_points(self) -> None:
        return None

    def held_bytes(self) -> int:
        return 7


def run(model, key: str, root: Path, out: Path, cut: Cut | None = None, **options):
    """Run a job as an evaluation does, and score what it leaves."""
    found = open_scene_set(key, root, cut)
    sequence = found.sequences[0]
    told: list = []
    log: dict = {"warnings": []}
    job = SceneJob(sequence, found.task, **options)
    for name, content in job.run(SceneWorker(model), told.append, log).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert [each.frames for each in told] == list(range(1, job.length + 1))
    score = score_scenes(found, SceneResults(out, found), SceneRules())
    return score.summary(), log


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_a_model_of_ones_own_is_right_up_to_its_scale(tmp_path, scale) -> None:
    samples.write_sintel(tmp_path, ("alley_2",), 10)
    model = Knowing(scale)
    depth, log = run(model, "video-depth:sintel", tmp_path, tmp_path / "depth")
    assert depth["abs_rel"] < 1e-5 and depth["delta"] == 1 and log["held_bytes"] == 7
    pose, _ = run(model, "pose:sintel", tmp_path, tmp_path / "pose")
    assert pose["ate"] < 1e-5 and pose["scale"] == pytest.approx(1 / scale, rel=1e-4)


def test_a_learned_network_runs_through_all_three(tmp_path) -> None:
    from vision_mem.models.mem4d.config import named_config
    from vision_mem.models.mem4d.network import Mem4DNetwork

    network = Mem4DNetwork(named_config("nano-48"))
    from vision_mem.evaluation.reconstruction.datasets.rooms import RoomSeries, prepare_rooms
    from vision_mem.evaluation.reconstruction.scene_models import LearnedModel

    prepare_rooms(tmp_path / "rooms", RoomSeries(rooms=1, frames=5, width=64, height=48))
    model = LearnedModel(network.eval(), name="untrained")
    for task in TASKS:
        out = tmp_path / task
        cut = Cut(stride=2) if task == "reconstruction" else None
        try:
            numbers, log = run(model, f"{task}:rooms", tmp_path / "rooms", out, cut)
        except InputError as error:
            assert "lost" in str(error)  # an untrained network may not believe itself
            continue
        assert log["held_bytes"] > 0 and next(iter(numbers.values())) >= 0
    stored = np.load(io.BytesIO((tmp_path / "video-depth/room_0000/frame_0001.npz").read_bytes()))
    # Of 48 x 64 pixels it saw the square in the middle; the rest is not known.
    assert stored["depth"].shape == (48, 64) and stored["moving"].dtype == bool
    seen = np.isfinite(stored["depth"]).all(axis=0)
    assert seen[8:56].all() and not seen[:8].any() and not seen[56:].any()


def test_the_geometric_mode_says_what_it_needs() -> None:
    model = GeometricModel()
    with pytest.raises(InputError, match="this sequence lacks depth"):
        model.step(SceneInput(0, 0.0, samples.image_of(0)))
    with pytest.raises(InputError, match="this sequence lacks intrinsics"):
        model.step(SceneInput(0, 0.0, samples.image_of(0), np.ones((24, 32), np.float32)))


def test_its_world_is_the_first_camera_also_with_given_poses() -> None:
    model = GeometricModel()
    path = samples.poses(4)
    for given in (True, False):
        model.reset()
        for k, pose in enumerate(path):
            found = model.step(SceneInput(
                k, k / 10, samples.image_of(k), samples.depth_of(pose), samples.CAMERA,
                pose if given else None,
            ))  # fmt: skip
            if given:
                assert np.allclose(found.pose, inverse(path[0]) @ pose, atol=1e-6)
            elif k == 0:
                assert np.allclose(found.pose, np.eye(4))
        assert model.map_points().shape[1] == 3


def test_depth_at_another_size() -> None:
    depth = np.arange(48, dtype=np.float32).reshape(6, 8) + 1
    assert resized_depth(depth, (6, 8)) is depth
    large = resized_depth(depth, (12, 16))
    assert large.shape == (12, 16) and np.isfinite(large).all()
    step = np.where(np.arange(8) < 4, 1.0, 9.0).astype(np.float32) * np.ones((6, 1), np.float32)
    cubic, linear = resized_depth(step, (12, 16)), resized_depth(step, (12, 16), strict=True)
    assert cubic.max() > 9.1 and linear.max() <= 9.0  # the peers' overshoot
    depth[2, 3] = np.nan
    holes = resized_depth(depth, (12, 16))
    assert np.isnan(holes).sum() == 4 and np.isnan(holes[4:6, 6:8]).all()


def test_a_smaller_grid_is_opencv_s_and_strictly_the_nearest() -> None:
    depth = np.random.default_rng(0).uniform(1, 9, (48, 64)).astype(np.float32)
    for size in ((24, 32), (38, 51), (20, 64), (96, 128)):
        theirs = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
        assert (nearest_grid(depth, size, strict=False) == theirs).all()
    # Of five pixels made one, the strict rule takes the one in the middle.
    row = np.arange(15, dtype=np.float32)[None]
    assert nearest_grid(row, (1, 3), strict=True).tolist() == [[2, 7, 12]]
    assert nearest_grid(row, (1, 3), strict=False).tolist() == [[0, 5, 10]]
