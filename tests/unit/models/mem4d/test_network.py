"""The learned reconstruction: sizes, parts of the network, and its session."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from mem4d_samples import SIDE, frames, small_config, small_network
from reconstruction_losses import matrix_to_quaternion
from safetensors.torch import save_file

from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.pointmaps import (
    assemble,
    focal_of,
    moved,
    quaternion_to_matrix,
    rigid_inverse,
    weighted_resection,
    weighted_rigid,
)
from vision_mem.models.mem4d.config import (
    DecoderConfig,
    FrameMotionConfig,
    Mem4DConfig,
    PersistentConfig,
    config_to_text,
    named_config,
)
from vision_mem.models.mem4d.encoder import MotionEncoder
from vision_mem.models.mem4d.layers import grid_positions, rotate
from vision_mem.models.mem4d.load import SETTINGS, load_mem4d
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.reconstruction.learned import LearnedSession
from vision_mem.reconstruction.learned.stream import LearnedState, Look, advance


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    return small_network()


def random_pose(seed: int, count: int = 2) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    turn = quaternion_to_matrix(torch.randn(count, 4, generator=random))
    return assemble(turn, torch.randn(count, 3, generator=random))


class TestClosedForms:
    @pytest.mark.parametrize("seed", range(4))
    def test_a_known_motion_is_found(self, seed):
        pose = random_pose(seed)
        points = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(seed))
        weights = torch.rand(2, 9) + 0.1
        found = weighted_rigid(points, moved(points, pose), weights)
        assert torch.allclose(found, pose, atol=2e-4)
        assert torch.allclose(rigid_inverse(found) @ found, torch.eye(4).expand(2, 4, 4), atol=1e-5)

    def test_weights_leave_out_what_is_wrong(self):
        pose, points = random_pose(9), torch.randn(2, 12, 3)
        targets = moved(points, pose)
        targets[:, :4] += 3
        weights = torch.ones(2, 12)
        weights[:, :4] = 0
        assert torch.allclose(weighted_rigid(points, targets, weights), pose, atol=2e-4)

    @pytest.mark.parametrize(
        "points",
        [torch.zeros(1, 5, 3), torch.arange(5.0)[None, :, None].expand(1, 5, 3),
         torch.randn(1, 5, 3) * torch.tensor([1.0, 1, 0])],
        ids=["one point", "a line", "a plane"],
    )  # fmt: skip
    def test_degenerate_points_give_finite_gradients(self, points):
        points = points.clone().requires_grad_(True)
        pose = weighted_rigid(points, points.detach() + 0.1, torch.ones(1, 5))
        pose.sum().backward()
        assert points.grad.isfinite().all()
        assert torch.linalg.det(pose[0, :3, :3].detach()) == pytest.approx(1, abs=1e-4)

    def test_gradients_are_those_of_the_optimum(self):
        torch.manual_seed(1)
        points, targets = torch.randn(1, 8, 3).double(), torch.randn(1, 8, 3).double()
        targets = targets * 0.01 + points  # little noise: Gauss-Newton is exact to first order
        weights = torch.ones(1, 8).double()
        step = torch.zeros_like(points)
        step[0, 2, 1] = 1e-5
        there = weighted_rigid(points + step, targets, weights)
        back = weighted_rigid(points - step, targets, weights)
        by_hand = (there - back)[0, 0, 2] / 2e-5
        points.requires_grad_(True)
        weighted_rigid(points, targets, weights)[0, 0, 2].backward()
        assert float(points.grad[0, 2, 1]) == pytest.approx(float(by_hand), rel=0.03)

    @pytest.mark.parametrize("odd", [0, 8])
    def test_a_camera_is_found_by_what_it_sees_where(self, odd):
        """Also among wrong matches, from 30 degrees and half a metre away; and no depth is told."""
        random = torch.Generator().manual_seed(odd)
        places = torch.rand(6, 36, 3, generator=random) * torch.tensor([6.0, 4.0, 4.0])
        places += torch.tensor([-3.0, -2.0, 2.0])
        axis = torch.randn(6, 3, generator=random)
        axis = 0.26 * axis / axis.norm(dim=1, keepdim=True)
        turn = quaternion_to_matrix(torch.cat([torch.full((6, 1), 0.966), axis], dim=1))
        pose = assemble(turn, 0.3 * torch.randn(6, 3, generator=random))
        seen = moved(places, rigid_inverse(pose))
        ahead = seen[..., 2] > 0.3
        assert (ahead.sum(dim=1) > 20).all()
        rays = seen[..., :2] / seen[..., 2:]
        rays[:, :odd] += 0.5
        start, weights = torch.eye(4).expand(6, 4, 4), ahead.float()
        found = weighted_resection(places, rays, weights, start, torch.tensor(1e-6), steps=25)
        # What is wrong counts little, but it counts.
        assert torch.allclose(found, pose, atol=5e-3 if not odd else 0.03)
        told = torch.where(torch.arange(36) < odd, 0.0, weights)
        found = weighted_resection(places, rays, told, start, torch.tensor(1e-6), steps=25)
        assert torch.allclose(found, pose, atol=5e-3)
        # A pull keeps it where it was, and it still turns the right way.
        held = weighted_resection(places, rays, told, start, torch.tensor(1e3))
        assert held[:, :3, 3].norm(dim=1).max() < 1e-3
        none = weighted_resection(places, rays, 0 * weights, start, torch.tensor(1e-2))
        assert torch.equal(none, start)

    @pytest.mark.parametrize("what", ["places", "rays", "weights", "pull"])
    def test_gradients_of_a_resection_are_those_of_its_optimum(self, what):
        random = torch.Generator().manual_seed(5)
        places = torch.rand(1, 12, 3, generator=random).double() * 3 + torch.tensor([-1.5, -1.5, 2])
        given = {
            "places": places,
            "rays": places[..., :2] / places[..., 2:]
            + 0.003 * torch.randn(1, 12, 2, generator=random).double(),
            "weights": torch.rand(1, 12, generator=random).double() + 0.2,
            "start": assemble(torch.eye(3)[None].double(), torch.full((1, 3), 0.02).double()),
            "pull": torch.tensor(0.05).double(),
        }

        def shift(**changed):
            return weighted_resection(*{**given, **changed}.values(), steps=30)[0, 0, 3]

        step = torch.zeros_like(given[what])
        step.view(-1)[step.numel() // 2] = 1e-5
        by_hand = float(shift(**{what: given[what] + step}) - shift(**{what: given[what] - step}))
        value = given[what].clone().requires_grad_(True)
        shift(**{what: value}).backward()
        found = float(value.grad.view(-1)[step.numel() // 2])
        assert found == pytest.approx(by_hand / 2e-5, rel=0.05, abs=1e-6)
        assert abs(by_hand) > 1e-9

    def test_a_resection_of_nonsense_is_finite(self):
        places = torch.zeros(3, 5, 3)
        places[1, :, 2] = -1.0
        places[2, :, 2] = 2.0
        value = places.clone().requires_grad_(True)
        pose = weighted_resection(
            value, torch.zeros(3, 5, 2), torch.ones(3, 5), torch.eye(4).expand(3, 4, 4),
            torch.tensor(1e-3),
        )  # fmt: skip
        pose.sum().backward()
        assert pose.isfinite().all() and value.grad.isfinite().all()

    @pytest.mark.parametrize("seed", range(3))
    def test_quaternions_there_and_back(self, seed):
        turn = random_pose(seed)[:, :3, :3]
        quaternion = matrix_to_quaternion(turn)
        assert (quaternion[:, 0] >= 0).all()
        assert torch.allclose(quaternion_to_matrix(quaternion), turn, atol=1e-5)

    @pytest.mark.parametrize("axis", range(3))
    def test_half_turns(self, axis):
        turn = -torch.eye(3)
        turn[axis, axis] = 1
        found = quaternion_to_matrix(matrix_to_quaternion(turn[None]))[0]
        assert torch.allclose(found, turn, atol=1e-6)

    @pytest.mark.parametrize("focal", [40.0, 90.0, 200.0])
    def test_the_focal_length_of_exact_points(self, focal):
        camera = Pinhole(focal, focal, 32, 24, 64, 48)
        depth = np.random.default_rng(0).uniform(1, 5, (48, 64))
        points = torch.from_numpy(camera.unproject(depth))[None].float()
        assert float(focal_of(points)[0]) == pytest.approx(focal, rel=1e-3)

    def test_a_third_of_wrong_points_does_not_move_the_focal_length(self):
        camera = Pinhole(60.0, 60.0, 32, 24, 64, 48)
        points = torch.from_numpy(camera.unproject(np.full((48, 64), 2.0)))[None].float()
        points[:, ::3, :, :2] *= 1.3
        assert float(focal_of(points)[0]) == pytest.approx(60, rel=0.02)


class TestConfig:
    @pytest.mark.parametrize(
        ("name", "millions"), [("nano-48", 1.4), ("nano-64", 6.9), ("nano-224", 16.7)]
    )
    def test_sizes(self, name, millions):
        with torch.device("meta"):
            made = Mem4DNetwork(named_config(name))
        count = sum(p.numel() for p in made.parameters())
        assert count / 1e6 == pytest.approx(millions, rel=0.03)
        assert name != "nano-64" or 2 * count < 14e6  # what may come with the package

    def test_an_unknown_size(self):
        with pytest.raises(InputError, match="nano-48"):
            named_config("nano-49")

    @pytest.mark.parametrize(
        ("make", "word"),
        [
            (lambda: FrameMotionConfig(kind="flow"), "correlation"),
            (lambda: PersistentConfig(kind="slot"), "slots"),
            (lambda: PersistentConfig(merge="mean"), "average"),
            (lambda: DecoderConfig(order="tdm_first"), "transient_first"),
            (lambda: DecoderConfig(mode="both"), "parallel"),
            (lambda: Mem4DConfig(size=100, square=True), "whole patches"),
            (lambda: Mem4DConfig(decoder=DecoderConfig(width=100)), "multiple"),
            (lambda: Mem4DConfig(init="vggt"), "cut3r"),
        ],
    )
    def test_wrong_settings_say_what_is_right(self, make, word):
        with pytest.raises(InputError, match=word):
            make()

    def test_the_fingerprint_is_that_of_the_network(self):
        one = small_config()
        assert one.fingerprint == replace(one, loss=named_config("full-512").loss).fingerprint
        assert one.fingerprint != small_config(motion=FrameMotionConfig(kind="none")).fingerprint


class TestParts:
    def test_rotation_makes_scores_depend_on_distance_alone(self):
        q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

        def score(a, b):
            at = [torch.tensor([[p]], dtype=torch.float32) for p in (a, b)]
            return float((rotate(q, at[0], 100.0) * rotate(k, at[1], 100.0)).sum())

        assert score((1, 2), (4, 3)) == pytest.approx(score((-1, 7), (2, 8)), abs=1e-4)
        assert score((1, 2), (4, 3)) != pytest.approx(score((1, 2), (3, 4)), abs=1e-3)

    def test_motion_finds_a_shifted_picture(self):
        torch.manual_seed(0)
        encoder = MotionEncoder(replace(small_config(), size=64))
        encoder.temperature.data.fill_(-6.0)  # nearly the best alone
        grid = (8, 8)
        wide = torch.randn(1, 32, 8, 10)
        before, now = wide[..., :8], wide[..., 2:]  # what was at x is now at x - 2
        flat = [m.flatten(2).transpose(1, 2) for m in (now, before)]
        project = [torch.nn.functional.normalize(encoder.project(f), dim=-1) for f in flat]
        maps = project[1].transpose(1, 2).unflatten(2, grid)
        _, shift = encoder._correlate(project[0], maps, grid, 1)
        inner = shift.unflatten(1, grid)[0, :, :6]  # the rest was not in the picture
        assert torch.allclose(inner, torch.tensor([2.0, 0.0]).expand_as(inner), atol=0.05)

    def test_given_flow_replaces_what_is_found(self, network):
        images = torch.rand(1, 3, SIDE, SIDE)
        state = LearnedState.start(network, 1)
        _, state = advance(network, state, images)
        flows = [torch.zeros(1, 16, 2), torch.full((1, 16, 2), 1.5)]
        with torch.no_grad():
            one, other = (advance(network, state, images, look=Look(flow=f))[0] for f in flows)
        assert not torch.equal(one.tokens, other.tokens)

    @pytest.mark.parametrize(
        ("mode", "order", "want"),
        [
            ("alternate", "persistent_first", [("persistent",), ("transient",)] * 2),
            ("alternate", "transient_first", [("transient",), ("persistent",)] * 2),
            ("parallel", "persistent_first", [("persistent", "transient")] * 4),
            ("single", "persistent_first", [("persistent",)] * 4),
        ],
        ids=str,
    )
    def test_who_reads_what(self, mode, order, want):
        config = small_config(decoder=DecoderConfig(32, 4, 2, order=order, mode=mode))
        decoder = Mem4DNetwork(config).decoder
        assert [decoder.memories(layer) for layer in range(4)] == want

    def test_names_are_those_that_checkpoints_are_mapped_to(self, network):
        names = set(network.state_dict())
        for name in (
            "encoder.patch_embed.proj.weight", "encoder.blocks.0.attn.qkv.weight",
            "encoder.norm.bias", "decoder.embed.weight", "decoder.blocks.1.cross.out.bias",
            "decoder.blocks.0.norm_mem.weight", "decoder.blocks.0.norm3.weight",
            "decoder.blocks.0.mlp.fc2.bias", "decoder.norm.weight", "pose.token",
            "heads.self.proj.weight", "heads.world.proj.bias", "heads.pose.fc1.weight",
        ):  # fmt: skip
            assert name in names


def test_positions_are_rows_and_columns():
    assert grid_positions((2, 3))[0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


class TestLoading:
    @pytest.fixture
    def weights(self, tmp_path, network):
        path = tmp_path / "w.safetensors"
        told = {SETTINGS: config_to_text(network.config)}
        save_file({k: v.half() for k, v in network.state_dict().items()}, path, metadata=told)
        return path

    def test_weights_open_as_they_were(self, weights, network):
        opened = load_mem4d(weights, "cpu")
        assert opened.config == network.config
        frame = frames(1)[0]
        one, other = (LearnedSession(n).step(frame).depth for n in (opened, network))
        assert np.allclose(one, other, rtol=0.02)
        assert opened.model_id == load_mem4d(weights, "cpu").model_id

    def test_random_weights_of_a_size(self):
        assert load_mem4d("random:nano-48", "cpu").config == named_config("nano-48")
        with pytest.raises(InputError, match="nano-64"):
            load_mem4d("random:nano", "cpu")

    @pytest.mark.parametrize(
        ("settings", "word"),
        [
            (None, "does not say what it is"),
            ("[]", "not settings"),
            ('{"size": 32}', "not settings"),
            ("{" * 2000, "not settings"),
        ],
    )
    def test_files_of_something_else(self, tmp_path, settings, word):
        path = tmp_path / "w.safetensors"
        save_file({"a": torch.zeros(2)}, path, metadata=settings and {SETTINGS: settings})
        with pytest.raises(ModelError, match=word):
            load_mem4d(path, "cpu")

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda d: d.update(size="32"), "not settings"),
            (lambda d: d["decoder"].update(width=1.5), "not settings"),
            (lambda d: d["decoder"].update(speed=3), "not settings"),
            (lambda d: d["encoder"].update(layers=10**7), "sensible"),
            (lambda d: d["decoder"].update(width=64), "w.safetensors"),
        ],
    )
    def test_hostile_settings(self, tmp_path, network, change, word):
        told = json.loads(config_to_text(network.config))
        change(told)
        path = tmp_path / "w.safetensors"
        save_file(network.state_dict(), path, metadata={SETTINGS: json.dumps(told)})
        with pytest.raises(ModelError, match=word):
            load_mem4d(path, "cpu")

    def test_a_cut_file(self, weights):
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ModelError):
            load_mem4d(weights, "cpu")
