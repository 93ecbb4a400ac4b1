"""Segments of a long stream: seams between worlds, what is kept, and that it resumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mem4d_samples import frames, small_network

from vision_mem.errors import InputError, ModelError
from vision_mem.geometry.poses import made_rigid
from vision_mem.reconstruction.learned import LearnedSession, SegmentConfig, SegmentedSession
from vision_mem.reconstruction.learned.segments import HERE, Placement, find_seam
from vision_mem.reconstruction.learned.session import LOST_FRAMES
from vision_mem.types import Frame

SHORT = SegmentConfig(frames=7, overlap=2, maps=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    return small_network()


def somewhere(seed: int, scale: float) -> Placement:
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn * np.sign(np.linalg.det(turn)), random.normal(size=3)
    return Placement(scale, made_rigid(pose))


class TestSeams:
    @pytest.mark.parametrize(("wrong", "scale"), [(0.0, 1.0), (0.3, 0.5), (0.6, 2.5)])
    def test_one_world_is_found_in_another(self, wrong, scale):
        random = np.random.default_rng(3)
        truth, source = somewhere(1, scale), random.uniform(-2, 2, (400, 3)) + [0, 0, 4]
        target = truth.points(source) + random.normal(0, 0.005, (400, 3)).astype(np.float32)
        odd = random.random(400) < wrong
        target[odd] += random.normal(0, 2, (odd.sum(), 3)).astype(np.float32)
        found, share = find_seam(source, target, np.full(400, 4 * scale), 7)
        assert found.scale == pytest.approx(scale, rel=0.01)
        np.testing.assert_allclose(found.pose, truth.pose, atol=0.02)
        assert share == pytest.approx(1 - wrong, abs=0.07)
        again, _ = find_seam(source, target, np.full(400, 4 * scale), 7)
        assert np.array_equal(found.pose, again.pose)

    @pytest.mark.parametrize("what", ["few", "noise", "not finite", "collapsed"])
    def test_nonsense_is_no_seam(self, what):
        random = np.random.default_rng(5)
        source, target = random.normal(size=(2, 300, 3))
        if what == "few":
            source, target = source[:2], target[:2]
        elif what == "not finite":
            target[:] = np.nan
        elif what == "collapsed":
            target = source * 1e-3
        assert find_seam(source, target, np.ones(len(source)), 0) == (HERE, 0.0)

    def test_results_move_as_a_whole(self, network):
        """What a camera sees lies where its pose says, in the world of the stream too."""
        found, place = LearnedSession(network).step(frames(1)[0]), somewhere(4, 1.7)
        moved = place.result(found)
        np.testing.assert_allclose(moved.depth, 1.7 * found.depth, rtol=1e-5)
        inside = found.points_self @ found.pose[:3, :3].T + found.pose[:3, 3]
        there = moved.points_self @ moved.pose[:3, :3].T + moved.pose[:3, 3]
        np.testing.assert_allclose(there, place.points(inside), atol=1e-4)
        gap = moved.points_world - there
        before = found.points_world - inside
        np.testing.assert_allclose(
            np.linalg.norm(gap, axis=-1), 1.7 * np.linalg.norm(before, axis=-1), atol=1e-4
        )


class TestStreams:
    def test_the_first_segment_is_a_session(self, network):
        one, other = LearnedSession(network), SegmentedSession(network, segments=SHORT)
        for frame in frames(7):
            a, b = one.step(frame), other.step(frame)
            assert np.array_equal(a.points_world, b.points_world) and np.array_equal(a.pose, b.pose)
        assert [event.kind for event in b.events] == ["segment"]
        assert "points agree" in b.events[0].name

    def test_the_second_one_began_on_the_shared_frames(self, network):
        session, later = SegmentedSession(network, segments=SHORT), LearnedSession(network)
        every = frames(9)
        for k, frame in enumerate(every):
            found = session.step(frame)
            if k >= 5:
                alone = later.step(frame)
        np.testing.assert_allclose(
            found.depth, session._place.scale * alone.depth, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(session._place.camera(alone.pose), found.pose, atol=1e-6)

    def test_cameras_meet_where_points_do_not(self, network, monkeypatch):
        """A seam that nothing agrees with joins the poses of the last frame that both saw."""
        from vision_mem.reconstruction.learned import segments

        monkeypatch.setattr(segments, "find_seam", lambda *given: (HERE, 0.0))
        session, later = SegmentedSession(network, segments=SHORT), LearnedSession(network)
        for k, frame in enumerate(frames(7)):
            found = session.step(frame)
            alone = later.step(frame) if k >= 5 else None
        assert found.events[0].name.startswith("0.00 of the points")
        np.testing.assert_allclose(session._place.camera(alone.pose), found.pose, atol=1e-5)

    def test_a_lost_camera_begins_anew_where_it_was(self, network):
        session = SegmentedSession(network, segments=SegmentConfig(frames=1000))
        every = frames(8)
        for frame in every:
            last = session.step(frame)
        session._now._usual = [1e6] * 10  # all that comes is far less sure than usual
        kinds = []
        for k in range(2 * LOST_FRAMES):
            frame = Frame(100 + k, 100.0 + k, every[k % 8].image)
            kinds += [event.kind for event in session.step(frame).events]
        assert kinds == ["lost", "segment"]
        found = session.step(Frame(200, 200.0, every[0].image))
        assert not found.reason
        np.testing.assert_allclose(found.pose, last.pose, atol=1e-6)

    def test_memory_and_maps_are_bounded_and_counted(self, network):
        session, alone = SegmentedSession(network, segments=SHORT), LearnedSession(network)
        for frame in frames(7):
            alone.step(frame)
        tokens = network.config.persistent.capacity
        pixels = network.config.size**2
        most = 2 * alone.usage().bytes + 2 * tokens * 31 + 2 * pixels * 7 * 4
        for frame in frames(60):
            session.step(frame)
            usage = session.usage()
            assert usage.bytes == sum(usage.detail.values()) <= most
            points = len(session.static_map().points)
            assert points <= 3 * tokens and (points > tokens or frame.index < 14)
            assert usage.detail["earlier maps"] % 31 == 0

    @pytest.mark.parametrize("cut", [3, 6, 7, 16])
    def test_it_goes_on_from_a_file(self, network, tmp_path, cut):
        whole, session = (SegmentedSession(network, segments=SHORT) for _ in range(2))
        for frame in frames(20):
            wanted = whole.step(frame)
            if frame.index == cut:
                session.snapshot(tmp_path / "s.safetensors")
                session = SegmentedSession.resume(tmp_path / "s.safetensors", network)
                assert session.segments == SHORT
            found = session.step(frame)
            assert np.array_equal(found.points_world, wanted.points_world)
            assert np.array_equal(found.pose, wanted.pose)
        assert session.usage() == whole.usage()
        with pytest.raises(ModelError):
            LearnedSession.resume(tmp_path / "s.safetensors", network)
        with pytest.raises(ModelError, match="not a whole state"):
            session.load_state_dict({"now": {}})

    def test_masks_from_a_generator_reach_both(self, network):
        session = SegmentedSession(network, segments=SHORT)
        for frame in frames(8):
            mask = np.zeros(frame.size, bool)
            mask[:4] = True
            found = session.step(frame, (one for one in [mask]))
            assert found.dynamic[:4].all()

    def test_looking_changes_nothing(self, network):
        session = SegmentedSession(network, segments=SHORT)
        for frame in frames(12):
            before = session.usage()
            looked = session.step(frame, update=False)
            assert session.usage() == before
            assert np.array_equal(session.step(frame).pose, looked.pose)

    @pytest.mark.parametrize("given", [(8, 4), (5, 0), (0, 1)])
    def test_segments_that_cannot_be(self, given):
        with pytest.raises(InputError, match="expected overlap"):
            SegmentConfig(*given)
