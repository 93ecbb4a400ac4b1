"""The learned reconstruction as a stream: sessions, batches of streams, pictures in and out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mem4d_samples import SIDE, frames, small_config, small_network
from reconstruction_lessons import prepare

from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.models.mem4d.config import (
    DecoderConfig,
    FrameMotionConfig,
    PersistentConfig,
    TransientConfig,
)
from vision_mem.reconstruction.learned import LearnedConfig, LearnedSession
from vision_mem.reconstruction.learned.network_input import Placing
from vision_mem.reconstruction.learned.stream import LearnedState, advance
from vision_mem.reconstruction.records import LOST, MOVING, UNKNOWN
from vision_mem.types import Frame


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    return small_network()


MODES = {
    "nothing": {"transient": TransientConfig(frames=0), "persistent": PersistentConfig("none")},
    "ring alone": {
        "transient": TransientConfig(frames=3),
        "persistent": PersistentConfig("none"),
        "decoder": DecoderConfig(32, 2, 2, mode="single"),
    },
    "bank alone": {
        "transient": TransientConfig(frames=0),
        "decoder": DecoderConfig(32, 2, 2, mode="single"),
    },
    "both": {},
    "transient first": {"decoder": DecoderConfig(32, 2, 2, order="transient_first")},
    "parallel": {"decoder": DecoderConfig(32, 2, 2, mode="parallel", coordinates=True)},
    "concat": {"decoder": DecoderConfig(32, 2, 2, mode="concat", coordinates=True)},
    "no motion": {"motion": FrameMotionConfig(kind="none")},
    "difference": {"motion": FrameMotionConfig(kind="difference")},
    "slots": {"persistent": PersistentConfig("slots", capacity=8, slot_heads=2)},
}


class TestStream:
    @pytest.mark.parametrize("name", MODES)
    def test_each_choice_of_memories_streams(self, name):
        network = small_network(small_config(**MODES[name]))
        session = LearnedSession(network)
        results = [session.step(frame) for frame in frames(5)]
        assert all(np.isfinite(r.points_world).all() for r in results)
        held = session.usage().detail
        assert (held["transient"] > 0) == (network.config.transient.frames > 0)
        assert (held["persistent"] > 0) == (network.config.persistent.kind != "none")

    @pytest.mark.parametrize("name", ["both", "bank alone", "ring alone"])
    def test_what_was_seen_before_matters(self, name):
        network = small_network(small_config(**MODES[name]))
        shown, other = LearnedSession(network), LearnedSession(network)
        for frame in frames(3):
            shown.step(frame)
        for frame in frames(3, seed=5):
            other.step(frame)
        last = replace(frames(4)[3])
        one, two = (s.step(last, update=False) for s in (shown, other))
        assert np.abs(one.points_world - two.points_world).max() > 1e-4

    def test_places_in_the_bank_have_no_order(self, network):
        state = LearnedState.start(network, 1)
        pictures = [torch.from_numpy(Placing.of(f.size, network.config).small(f.image))[None]
                    for f in frames(4)]  # fmt: skip
        with torch.no_grad():
            for picture in pictures[:3]:
                _, state = advance(network, state, picture)
            order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
            bank = state.store
            shuffled = {k: v[:, order] for k, v in bank.state().items() if v.ndim > 1}
            mixed = replace(state, store=replace(bank, **shuffled))
            one, _ = advance(network, state, pictures[3])
            other, _ = advance(network, mixed, pictures[3])
        assert torch.allclose(one.points_world, other.points_world, atol=1e-4)
        assert torch.allclose(one.pose, other.pose, atol=1e-4)

    def test_streams_in_a_batch_are_those_alone(self, network):
        batch = torch.stack([
            torch.stack([torch.from_numpy(Placing.of(f.size, network.config).small(f.image))
                         for f in frames(4, seed=seed)])
            for seed in (0, 1)
        ])  # fmt: skip
        with torch.no_grad():
            both, state = [], LearnedState.start(network, 2)
            for t in range(4):
                decoded, state = advance(network, state, batch[:, t])
                both.append(decoded)
            for row in (0, 1):
                alone = LearnedState.start(network, 1)
                for t in range(4):
                    decoded, alone = advance(network, alone, batch[row : row + 1, t])
                    # Where untrained weights match nothing, rounding moves the camera most.
                    assert torch.allclose(
                        decoded.points_world[0], both[t].points_world[row], atol=1e-3
                    )

    def test_whole_clips_at_once_are_the_same(self, network):
        images = torch.rand(2, 3, 3, SIDE, SIDE) * 2 - 1
        rays = torch.rand(2, SIDE, SIDE, 2) - 0.5
        given = torch.tensor([True, False])
        with torch.no_grad():
            ready = prepare(network, images, rays, given)
            one = other = LearnedState.start(network, 2)
            for t in range(3):
                a, one = advance(network, one, images[:, t], rays, given)
                b, other = advance(network, other, images[:, t], prepared=ready[t])
                assert torch.allclose(a.points_world, b.points_world, atol=1e-5)


class TestSession:
    def test_first_frame_defines_the_world(self, network):
        result = LearnedSession(network).step(frames(1)[0])
        assert result.pose_source == "first"
        assert np.allclose(result.pose, np.eye(4))
        assert result.labels.shape == (SIDE, SIDE)
        assert result.depth.min() > 0
        assert result.camera.fx > 0

    def test_reading_only_changes_nothing(self, network):
        session = LearnedSession(network)
        for frame in frames(3):
            session.step(frame)
        before = session.state_dict()
        session.step(frames(4)[3], update=False)
        after = session.state_dict()
        assert same(before, after)

    def test_save_load_and_go_on(self, network, tmp_path):
        session = LearnedSession(network, LearnedConfig(poses="head"))
        stream = frames(8)
        for frame in stream[:4]:
            session.step(frame)
        session.snapshot(tmp_path / "s.safetensors")
        again = LearnedSession.resume(tmp_path / "s.safetensors", network)
        for frame in stream[4:]:
            one, other = session.step(frame), again.step(frame)
            assert np.array_equal(one.points_world, other.points_world)
            assert np.array_equal(one.pose, other.pose)
        assert same(session.state_dict(), again.state_dict())

    def test_a_snapshot_of_another_network_is_refused(self, network, tmp_path):
        session = LearnedSession(network)
        session.step(frames(1)[0])
        session.snapshot(tmp_path / "s.safetensors")
        other = small_network(small_config(transient=TransientConfig(frames=3)))
        with pytest.raises(ModelError, match="cannot continue"):
            LearnedSession.resume(tmp_path / "s.safetensors", other)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda s: s.pop("stream"),
            lambda s: s["stream"]["store"].pop("keys"),
            lambda s: s["stream"].update(pose=torch.eye(3)[None]),
            lambda s: s["stream"]["store"].update(keys=torch.zeros(1, 12, 7)),
            lambda s: s["stream"]["ring"].update(grid=[9, 9]),
            lambda s: s["stream"]["ring"].update(written=torch.zeros(1, 2)),
            lambda s: s["stream"]["ring"].update(values=torch.zeros(1, 2, 16, 5)),
            lambda s: s["stream"]["store"].update(valid=torch.zeros(1, 12)),
            lambda s: s["stream"]["store"].update(centroids=torch.zeros(1, 12, 2)),
            lambda s: s["stream"]["store"].update(match=torch.zeros(1, 12, 3)),
            lambda s: s["stream"].update(frame=torch.zeros(2, dtype=torch.int64)),
            lambda s: s["stream"].update(features=torch.zeros(1, 3, 32)),
            lambda s: s.update(focals=[1, 2]),
            lambda s: s.update(world="here"),
        ],
    )
    def test_damaged_states_are_refused_and_change_nothing(self, network, spoil):
        session = LearnedSession(network)
        for frame in frames(3):
            session.step(frame)
        state, before = session.state_dict(), session.state_dict()
        spoil(state)
        with pytest.raises(ModelError, match="not a whole state"):
            session.load_state_dict(state)
        assert same(before, session.state_dict())

    def test_memory_does_not_grow(self, network):
        session = LearnedSession(network)
        sizes = []
        for frame in frames(30):
            session.step(frame)
            sizes.append(session.usage().bytes)
        assert len(set(sizes)) == 1
        assert session.usage().detail["persistent"] == session._state.store.nbytes

    def test_known_poses_are_used_as_they_are(self, network):
        session = LearnedSession(network)
        camera = Pinhole.from_field_of_view(60, SIDE, SIDE)
        depth = np.zeros((SIDE, SIDE), np.float32)
        for t, frame in enumerate(frames(3)):
            pose = np.eye(4)
            pose[:3, 3] = (1 + 0.1 * t, 2, 3)
            result = session.step(RgbdFrame(t, t / 10, frame.image, depth, camera, pose))
            assert result.pose_source == "given"
            assert np.allclose(result.pose, pose, atol=1e-6)
            want = result.points_self @ pose[:3, :3].T + pose[:3, 3]
            assert t == 0 or np.allclose(result.points_world, want, atol=1e-4)

    def test_masks_are_believed(self, network):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[:16, :16] = True
        session = LearnedSession(network)
        result = session.step(frames(1)[0], masks=mask)
        assert (result.labels[mask] == MOVING).all()
        assert (result.dynamic_prob[:16, :16] > 0.99).all()
        with pytest.raises(InputError, match="masks"):
            session.step(frames(2)[1], masks=mask[:5])

    def test_all_moves_writes_nothing_that_stays(self, network):
        session = LearnedSession(network)
        for frame in frames(2):
            session.step(frame, masks=np.ones((SIDE, SIDE), bool))
        assert session._state.store.count == 0
        assert len(session.static_map().points) == 0

    def test_frames_of_any_size(self, network):
        session = LearnedSession(network)
        sizes = [(48, 64), (64, 48), (20, 90), (300, 200)]
        for t, size in enumerate(sizes):
            frame = frames(1, size)[0]
            result = session.step(Frame(t, float(t), frame.image))
            assert result.labels.shape == size
            assert (result.labels == UNKNOWN).any() == (size[0] != size[1])

    def test_another_resolution_clears_the_ring_alone(self):
        config = replace(small_config(), square=False)
        session = LearnedSession(small_network(config))
        session.step(Frame(0, 0.0, frames(1, (32, 32))[0].image))
        held = session._state.store.count
        session.step(Frame(1, 1.0, frames(1, (32, 16))[0].image))
        assert session._state.ring.grid == (4, 2)
        assert session._state.store.count >= held

    def test_order(self, network):
        session = LearnedSession(network)
        one, two = frames(2)
        session.step(two)
        with pytest.raises(InputError, match="number frames"):
            session.step(one)
        with pytest.raises(InputError, match="sort the frames"):
            session.step(Frame(5, 0.0, one.image))
        session.reset()
        session.step(one)

    def test_answers_that_are_not_finite_are_not_written(self, network):
        spoiled = small_network()
        session = LearnedSession(spoiled)
        stream = frames(6)
        for frame in stream[:3]:
            session.step(frame)
        before = session.state_dict()["stream"]
        keep = spoiled.decoder.norm.weight.clone()
        with torch.no_grad():
            spoiled.decoder.norm.weight.fill_(torch.nan)
        result = session.step(stream[3])
        assert result.pose_source == LOST
        assert "finite" in result.reason
        assert np.isfinite(result.pose).all()
        assert (result.labels == UNKNOWN).all()
        assert same(before, session.state_dict()["stream"])
        with torch.no_grad():
            spoiled.decoder.norm.weight.copy_(keep)
        assert session.step(stream[4]).pose_source != LOST

    def test_doubtful_frames_are_read_only_and_ten_make_it_lost(self):
        network = small_network()
        session = LearnedSession(network)
        stream = frames(22)
        for frame in stream[:6]:
            session.step(frame)
        bias = network.heads["world"].proj.bias
        keep = bias.detach().clone()
        with torch.no_grad():
            bias.unflatten(0, (4, -1))[3] -= 8  # confidence near 1: its logarithm near 0
        before = session.state_dict()["stream"]
        results = [session.step(frame) for frame in stream[6:17]]
        assert all(r.reason for r in results)
        assert [r.pose_source == LOST for r in results] == [False] * 9 + [True] * 2
        assert [e.kind for r in results for e in r.events] == ["lost"]
        assert same(before, session.state_dict()["stream"])
        with torch.no_grad():
            bias.copy_(keep)
        assert [e.kind for e in session.step(stream[17]).events] == ["found"]

    def test_intrinsics_of_another_size(self, network):
        with pytest.raises(InputError, match="intrinsics are of"):
            LearnedSession(network).step(
                frames(1)[0], camera=Pinhole.from_field_of_view(60, 64, 48)
            )


class TestPlacing:
    @pytest.mark.parametrize(
        ("size", "square", "small"),
        [
            ((48, 64), True, (32, 32)),
            ((48, 64), False, (24, 32)),
            ((200, 30), False, None),
            ((480, 640), False, (24, 32)),
        ],
    )
    def test_sizes(self, size, square, small):
        config = replace(small_config(), square=square)
        if small is None:
            with pytest.raises(InputError, match="too long and thin"):
                Placing.of(size, config)
            return
        assert Placing.of(size, config).size == small

    def test_intrinsics_follow_the_crop(self):
        placing = Placing.of((60, 90), small_config())
        camera = Pinhole.from_field_of_view(60, 90, 60)
        small = placing.camera(camera)
        way = placing.to_original
        pixel = np.array([5.0, 9.0, 1.0])
        x, y = way @ pixel
        assert (pixel[0] - small.cx) / small.fx == pytest.approx((x - camera.cx) / camera.fx)
        assert (pixel[1] - small.cy) / small.fy == pytest.approx((y - camera.cy) / camera.fy)


def same(one, other) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other
