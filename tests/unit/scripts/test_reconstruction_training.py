"""Losses of the learned reconstruction, its clips, and its training script."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mem4d_samples import perfect, small_config, small_network
from reconstruction_losses import (
    clip_loss,
    mask_loss,
    match_loss,
    relative,
    scale_of,
    still_loss,
)
from safetensors.torch import save_file

from vision_mem.geometry.pointmaps import moved
from vision_mem.models.checkpoint import read_checkpoint
from vision_mem.models.mem4d.config import LossConfig, named_config
from vision_mem.models.mem4d.load import load_mem4d
from vision_mem.models.mem4d.protocol import Decoded


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scripts(root):
    """The modules of the training script."""
    sys.path.insert(0, str(root / "scripts" / "train"))
    try:
        import reconstruction_clips
        import reconstruction_lessons
        import train_reconstruction

        modules = (reconstruction_clips, reconstruction_lessons, train_reconstruction)
        yield {module.__name__: module for module in modules}
    finally:
        sys.path.remove(str(root / "scripts" / "train"))


@pytest.fixture(scope="module")
def clips(scripts):
    kind = scripts["reconstruction_clips"].Kind("test", 4, (1, 2), (0.3, 0.4), "tour", 32)
    return scripts["reconstruction_clips"].make_clips(kind, [5, 6])


@pytest.fixture(scope="module")
def truth(clips):
    return clips.truth()


def agreement(clips) -> float:
    """Share of the static points of each frame that the frame before has at their depth."""
    truth, near = clips.truth(), []
    h, w = truth.valid.shape[2:]
    for t in range(1, truth.pose.shape[1]):
        for b in range(len(clips)):
            seen = moved(
                truth.points_world[b, t][None], torch.linalg.inv(truth.pose[b, t - 1])[None]
            )
            fx, fy, cx, cy = clips.intrinsics[b].tolist()
            x = (seen[0, ..., 0] / seen[0, ..., 2] * fx + cx).floor().long()
            y = (seen[0, ..., 1] / seen[0, ..., 2] * fy + cy).floor().long()
            here = (x >= 0) & (x < w) & (y >= 0) & (y < h) & ~truth.dynamic[b, t]
            depth = truth.points_self[b, t - 1, ..., 2][y[here], x[here]]
            near.append(((depth - seen[0, ..., 2][here]).abs() < 0.1 * depth).float())
    return float(torch.cat(near).mean())


class TestLosses:
    settings = LossConfig(metric=True, relative=1.0, mask=1.0, still=1.0, rotation="matrix")

    def test_no_error_no_loss(self, truth):
        _, parts = clip_loss(perfect(truth), truth, self.settings, 8, 0.35)
        for name in ("own", "world", "shift", "turn", "step shift", "step turn", "mask"):
            assert parts[name] == pytest.approx(0, abs=2e-3), name
        assert parts["still"] < 0.05

    @pytest.mark.parametrize(
        ("change", "part", "value"),
        [
            (lambda d: replace(d, points_self=d.points_self + 0.3), "own", 0.3 * 3**0.5),
            (lambda d: replace(d, points_world=d.points_world + 0.1), "world", 0.1 * 3**0.5),
            (lambda d: replace(d, dynamic_logit=torch.zeros_like(d.dynamic_logit)), "mask", None),
        ],
        ids=["points", "world", "mask"],
    )
    def test_errors_are_seen(self, truth, change, part, value):
        found = [change(d) for d in perfect(truth)]
        _, parts = clip_loss(found, truth, self.settings, 8, 0.35)
        assert parts[part] > 0.05
        assert value is None or parts[part] == pytest.approx(value, rel=0.01)

    def test_a_shifted_world_keeps_its_steps(self, truth):
        def shift(d):
            pose = d.pose.clone()
            pose[:, 0, 3] += 0.5
            return replace(d, pose=pose)

        _, parts = clip_loss([shift(d) for d in perfect(truth)], truth, self.settings, 8, 0.35)
        assert parts["shift"] == pytest.approx(0.5, rel=0.01)

    def test_scale_does_not_matter_where_it_is_unknown(self, truth):
        def scaled(d):
            pose = d.pose.clone()
            pose[:, :3, 3] *= 3
            return replace(d, points_self=3 * d.points_self, points_world=3 * d.points_world,
                           pose=pose)  # fmt: skip

        found = [scaled(d) for d in perfect(truth)]
        free = replace(self.settings, metric=False)
        assert clip_loss(found, truth, free, 8, 0.35)[1]["own"] == pytest.approx(0, abs=1e-3)
        assert clip_loss(found, truth, self.settings, 8, 0.35)[1]["own"] > 1

    def test_invalid_pixels_do_not_count(self, truth):
        valid = truth.valid.clone()
        valid[:, :, :10] = False
        found = perfect(truth)
        wrong = found[0].points_self.clone()
        wrong[:, :10] = torch.nan
        found[0] = replace(found[0], points_self=wrong)
        loss, parts = clip_loss(found, replace(truth, valid=valid), self.settings, 8, 0.35)
        assert np.isfinite(parts["own"])
        assert loss.isfinite()

    def test_confidence_pays_where_it_is_right(self, truth):
        def loss(error, sure):
            found = [
                replace(d, points_self=d.points_self + error,
                        conf_self=torch.full_like(d.conf_self, sure))
                for d in perfect(truth)
            ]  # fmt: skip
            return clip_loss(found, truth, self.settings, 8, 0.35)[1]["own conf"]

        assert loss(0.001, 5.0) < loss(0.001, 1.1)
        assert loss(0.5, 1.1) < loss(0.5, 5.0)

    def test_a_rare_motion_counts_more(self, truth):
        rare = torch.zeros_like(truth.dynamic)
        rare[:, :, :2, :2] = True
        missed = mask_loss(torch.full_like(rare, -3.0, dtype=torch.float32),
                           replace(truth, dynamic=rare))  # fmt: skip
        invented = mask_loss(torch.where(rare, 3.0, -3.0).roll(4, dims=2),
                             replace(truth, dynamic=rare))  # fmt: skip
        assert missed > 1.3 * invented * 0.5
        assert missed > mask_loss(torch.where(rare, 3.0, -3.0), replace(truth, dynamic=rare))

    def test_matching_wants_the_nearest_token(self):
        places = torch.tensor([[[0.0, 0, 0], [5, 0, 0]]])
        held = torch.tensor([[[0.1, 0, 0], [0.3, 0, 0], [9, 0, 0]]])
        none = torch.zeros(1, 1, 1)

        def loss(logits):
            frame = replace(Decoded(*[none] * 9), match_centroids=held,
                            match_logits=torch.tensor([logits]))  # fmt: skip
            value, right = match_loss(frame, places, torch.ones(1, 2, dtype=torch.bool), 0.35)
            return float(value), float(right)

        assert loss([[9.0, 0, 0], [0, 0, 9]]) == (pytest.approx(0, abs=1e-2), 1.0)
        assert loss([[0.0, 9, 0], [0, 0, 0]])[0] > 5  # near enough, but not the nearest
        assert loss([[0.0, 0, 9], [0, 0, 0]])[1] == 0.0

    def test_still_points_must_stay(self, truth):
        world = truth.points_world.clone()
        steady = still_loss(world, truth)
        world[:, 1] += 0.5
        assert still_loss(world, truth) > 4 * steady

    def test_steps(self, truth):
        steps = relative(truth.pose, torch.ones(2))
        want = torch.linalg.inv(truth.pose[:, 1]) @ truth.pose[:, 2]
        assert torch.allclose(steps[:, 1], want, atol=1e-5)

    def test_scale(self):
        points = torch.full((1, 1, 2, 2, 3), 3**-0.5)
        assert float(scale_of([points, 3 * points], torch.ones(1, 1, 2, 2) > 0)) == pytest.approx(2)


class TestClips:
    def test_the_truth_is_true(self, clips, truth):
        """A point of a later frame lies on what the first frame saw of it."""
        assert torch.allclose(truth.pose[:, 0], torch.eye(4).expand(2, 4, 4), atol=1e-5)
        there = moved(truth.points_self[:, 2], truth.pose[:, 2])
        assert torch.allclose(there, truth.points_world[:, 2], atol=1e-4)

    def test_variations_stay_true(self, scripts, clips):
        """What stays is where the frame before saw it, mirrored and with time turned around."""
        module = scripts["reconstruction_clips"]
        for seed in range(6):
            other = module.varied(clips, np.random.default_rng(seed))
            assert agreement(other) > 0.85
            assert (other.depth.float().sum() - clips.depth.float().sum()).abs() < 1

    def test_a_wrong_mirror_would_be_seen(self, clips):
        wrong = replace(clips, images=clips.images.flip(3), depth=clips.depth.flip(3),
                        dynamic=clips.dynamic.flip(3))  # fmt: skip
        assert agreement(wrong) < 0.8

    def test_shelves_keep_what_they_make(self, scripts, tmp_path, monkeypatch):
        module = scripts["reconstruction_clips"]
        monkeypatch.setattr(module, "SHARD", 2)
        kind = module.Kind("t", 2, side=16)
        shelf = module.Shelf(tmp_path, kind, 4, "train")
        one = shelf.take([1, 2])
        assert one.seeds.tolist() == [1, 2]
        files = sorted(tmp_path.iterdir())
        assert len(files) == 2
        files[0].write_bytes(b"cut off")
        again = module.Shelf(tmp_path, kind, 4, "train").take([1, 2])
        assert torch.equal(one.images, again.images)
        held_out = module.Shelf(tmp_path, kind, 4, "check").take([0])
        assert held_out.seeds.tolist() == [1_000_000]


class TestStages:
    def test_the_plan_of_the_spec(self, scripts):
        stage = scripts["reconstruction_lessons"].stage_at
        parts = (100, 200, 100)
        told = [(s.name, s.frames, s.taught, s.vary)
                for s in (stage(n, parts, 48) for n in (0, 30, 99, 100, 250, 300))]  # fmt: skip
        assert [t[:2] for t in told] == [
            ("A", 2), ("A", 3), ("A", 4), ("B", 8), ("B", 12), ("C", 24),
        ]  # fmt: skip
        assert [t[2] for t in told] == [1.0, *[pytest.approx(x, abs=0.01) for x in
                                               (0.82, 0.406, 0.4, 0.2)], 0.0]  # fmt: skip
        assert [t[3] for t in told] == [False] * 5 + [True]
        assert stage(0, parts, 48).kind.bodies == (0, 0)

    def test_memories_of_drawn_sizes(self, scripts):
        sized = scripts["reconstruction_lessons"].sized
        config = named_config("nano-48")
        assert sized(config, 0.3, 0.5).transient.frames == 1
        assert sized(config, 0.3, 0.5).persistent.capacity == 27
        assert sized(config, 1.0, 1.0) == config


class TestLearning:
    def test_gradients_reach_every_weight(self, scripts, clips):
        learning = scripts["reconstruction_lessons"]
        network = small_network().train()
        stage = learning.stage_at(0, (10, 0, 0), 32)
        stage = replace(stage, taught=0.5)
        lesson = learning.draw_lesson(clips, stage, np.random.default_rng(2))
        lesson.forget[:] = False
        lesson.given = torch.tensor([True, False])
        loss, parts = learning.lesson_loss(network, lesson)
        loss.backward()
        silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not silent
        assert all(np.isfinite(v) for v in parts.values())

    def test_half_precision_is_for_features_alone(self, scripts, clips):
        """As on a GPU: poses and places stay exact, and gradients finite."""
        learning = scripts["reconstruction_lessons"]
        network = small_network().train()
        stage = learning.stage_at(0, (10, 0, 0), 32)
        lesson = learning.draw_lesson(clips, stage, np.random.default_rng(2))
        torch.manual_seed(0)
        exact, _ = learning.lesson_loss(network, lesson)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = learning.lesson_loss(network, lesson)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), rel=0.1)
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)

    def test_a_few_steps_on_one_clip_lower_the_loss(self, scripts, clips):
        learning, training = scripts["reconstruction_lessons"], scripts["train_reconstruction"]
        torch.manual_seed(0)
        network = small_network(small_config(), seed=3).train()
        plan = training.Plan(warm_up=1, lr=2e-3, steps_a=40, steps_b=0, steps_c=0)
        learner = training.Learner(
            plan, network, training.Average(network, 0.9), training.make_optimizer(network, plan)
        )
        stage = replace(learning.stage_at(0, (10, 0, 0), 32), taught=1.0)
        lesson = learning.draw_lesson(clips, stage, np.random.default_rng(2))
        losses = [training.learn(learner, lesson, step, False)["loss"] for step in range(12)]
        assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])

    def test_checks_know_a_perfect_camera(self, scripts, truth):
        scores = scripts["reconstruction_lessons"]._scores(small_network(), perfect(truth), truth)
        assert float(scores["position"].max()) < 1e-6
        assert float(scores["turn"].max()) < 0.1
        assert float(scores["abs rel"].max()) < 1e-6
        assert float(scores["still position"].mean()) > 0.01

    def test_interrupted_runs_go_on_the_same(self, scripts, tmp_path, monkeypatch):
        training, made = scripts["train_reconstruction"], scripts["reconstruction_clips"]
        monkeypatch.setattr(made, "SHARD", 4)
        monkeypatch.setattr(training, "named_config", lambda name: small_config())
        monkeypatch.setitem(training.KINDS, "A", lambda side: made.Kind("a", 4, side=side))
        flags = ["--steps-a", "4", "--steps-b", "0", "--steps-c", "0", "--clips-a", "4",
                 "--batch", "2", "--check-clips", "0", "--device", "cpu", "--threads", "1",
                 "--cache", str(tmp_path / "clips"), "--warm-up", "1"]  # fmt: skip
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        assert training.main(["--out", str(whole), *flags]) == 0
        assert training.main(["--out", str(parts), *flags, "--minutes", "0.00001"]) == 0
        assert training.load(parts)["step"] == 1
        assert training.main(["--out", str(parts), *flags, "--resume"]) == 0
        one, other = training.load(whole), training.load(parts)
        assert all(torch.equal(v, other["network"][k]) for k, v in one["network"].items())
        assert all(torch.equal(v, other["average"][k]) for k, v in one["average"].items())
        assert training.main(["--out", str(parts), *flags, "--resume", "--lr", "1"]) == 2
        exported = tmp_path / "w.safetensors"
        assert training.main(["--out", str(whole), *flags, "--export", str(exported)]) == 0
        assert exported.stat().st_size > 10_000

    def test_seeds_begin_at_other_clips(self, scripts, tmp_path, monkeypatch):
        training, made = scripts["train_reconstruction"], scripts["reconstruction_clips"]
        monkeypatch.setattr(training, "SHARD", 4)
        monkeypatch.setattr(made, "SHARD", 4)
        monkeypatch.setitem(training.KINDS, "A", lambda side: made.Kind("a", 4, side=side))
        first = []
        for seed in range(3):
            plan = training.Plan(steps_a=6, steps_b=0, steps_c=0, clips_a=24, batch=4, seed=seed)
            lessons = training.Lessons(plan, tmp_path, 16)
            seen = [s for step in range(6) for s in lessons[step].clips.seeds.tolist()]
            assert sorted(seen) == list(range(24))
            first.append(seen[0])
        assert len(set(first)) == 3

    def test_all_rows_learn_and_each_can_start_from_them(
        self, scripts, tmp_path, monkeypatch, capsys
    ):
        """One run under all memories; then a row with its own tensors, and one that lacks some."""
        training, made = scripts["train_reconstruction"], scripts["reconstruction_clips"]
        monkeypatch.setattr(made, "SHARD", 4)
        monkeypatch.setattr(training, "named_config", lambda name: small_config())
        monkeypatch.setitem(training.KINDS, "A", lambda side: made.Kind("a", 4, side=side))
        flags = ["--steps-b", "0", "--steps-c", "0", "--clips-a", "4", "--batch", "1",
                 "--device", "cpu", "--threads", "1", "--cache", str(tmp_path / "clips"),
                 "--warm-up", "1", "--past-gate"]  # fmt: skip
        alike, shared = tmp_path / "rows", tmp_path / "rows" / "shared.safetensors"
        told = [*flags, "--out", str(alike), "--variant", "all", "--steps-a", "20"]
        assert training.main([*told, "--check-clips", "2", "--minutes", "0.00001"]) == 0
        assert training.main([*told, "--check-clips", "2", "--resume"]) == 0
        assert (alike / "checks.csv").is_file()
        before = read_checkpoint(shared)
        trained = training.make_network(training.Plan(variant="all", seed=0)).tensors()
        assert before.keys() == trained.keys()
        assert all(not torch.equal(before[n], trained[n]) for n in before
                   if n.endswith("qkv.weight"))  # fmt: skip
        load_mem4d(alike / "mem4d.safetensors")  # as dual
        for row in ("slots", "no motion", "dual"):
            network = training.make_network(training.Plan(variant=row, init=str(shared), seed=5))
            assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items()), row
        flags += ["--steps-a", "1", "--check-clips", "0"]
        init = ["--init", str(alike / "mem4d.safetensors")]
        capsys.readouterr()
        assert (
            training.main([*flags, *init, "--out", str(tmp_path / "s"), "--variant", "slots"]) == 0
        )
        assert "begin at random (psm.slots)" in capsys.readouterr().out

    def test_weights_of_another_model(self, scripts, tmp_path, capsys):
        training = scripts["train_reconstruction"]
        flags = ["--out", str(tmp_path / "run"), "--init"]
        assert training.main([*flags, str(tmp_path / "none.safetensors")]) != 0
        assert "missing" in capsys.readouterr().err
        save_file({"pose.token": torch.zeros(1, 1, 7)}, tmp_path / "shape.safetensors")
        assert training.main([*flags, str(tmp_path / "shape.safetensors")]) == 2
        assert "pose.token has another shape" in capsys.readouterr().err
        save_file({f"other.{n}": torch.zeros(1) for n in range(9)}, tmp_path / "x.safetensors")
        assert training.main([*flags, str(tmp_path / "x.safetensors")]) == 2
        assert "0 of" in capsys.readouterr().err
        assert not (tmp_path / "run" / "checkpoint.pt").exists()

    def test_the_gate_closes(self, scripts, tmp_path, monkeypatch, capsys):
        training, made = scripts["train_reconstruction"], scripts["reconstruction_clips"]
        monkeypatch.setattr(made, "SHARD", 2)
        monkeypatch.setattr(training, "named_config", lambda name: small_config())
        flags = ["--steps-a", "1", "--steps-b", "3", "--steps-c", "0", "--clips-a", "2",
                 "--batch", "1", "--check-clips", "2", "--device", "cpu", "--threads", "1",
                 "--cache", str(tmp_path / "clips"), "--out", str(tmp_path / "run")]  # fmt: skip
        assert training.main(flags) == 1
        assert "stopped at the gate" in capsys.readouterr().err
        assert training.load(tmp_path / "run")["step"] == 1
        assert (tmp_path / "run" / "curve.png").is_file()
        assert training.main([*flags, "--resume"]) == 1
        assert training.load(tmp_path / "run")["step"] == 1
        monkeypatch.setitem(training.KINDS, "B", lambda side: made.Kind("b", 12, (1, 1), side=side))
        assert training.main([*flags, "--resume", "--past-gate", "--clips-b", "8192"]) == 2
        assert training.main([*flags, "--resume", "--past-gate"]) == 0
        assert training.load(tmp_path / "run")["step"] == 4
