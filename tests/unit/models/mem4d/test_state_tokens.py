"""Long streams with slots: CUT3R's answers, constant memory, saved and continued, unharmed."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mem4d_checkpoint_samples import peer_state, pictures, write_peer
from peer_networks import Cut3r
from peer_shapes import MINI, MINI_LINEAR
from torch import Tensor

from vision_mem.errors import ModelError
from vision_mem.formats.snapshot import pack_state, unpack_state
from vision_mem.models.mem4d.load import from_checkpoint
from vision_mem.reconstruction.learned import LearnedSession
from vision_mem.reconstruction.learned.recurrent_state import SlotStore
from vision_mem.reconstruction.learned.stream import LearnedState, Look, advance
from vision_mem.types import Frame

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
FLAT = replace(MINI_LINEAR, encoder_layers=1, decoder_layers=2)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def network(folder: Path, sizes=MINI):
    return from_checkpoint(write_peer(folder / "x.pth", peer_state(sizes), sizes), device="cpu")[0]


@pytest.fixture(scope="module")
def cut3r(tmp_path_factory):
    return network(tmp_path_factory.mktemp("mini"))


def tensors(value) -> list[Tensor]:
    """All tensors of a state, however deep."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        return [t for f in fields(value) for t in tensors(getattr(value, f.name))]
    return []


def nbytes(state: LearnedState) -> int:
    """Bytes of memory that stay alive because of a state."""
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(state)}
    return sum(held.values())


def same(one: LearnedState, other: LearnedState) -> bool:
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def run(net, images, state=None):
    state = state or LearnedState.start(net, len(images[0]))
    seen = []
    for image in images:
        decoded, state = advance(net, state, image)
        seen.append(decoded)
    return seen, state


def test_a_long_stream_stays_cut3rs_and_does_not_grow(tmp_path):
    """What is held is the same from the second frame to the 300th."""
    flat = network(tmp_path, FLAT)
    state, theirs = LearnedState.start(flat, 1), Cut3r(peer_state(FLAT), FLAT)
    held, generator = [], torch.Generator().manual_seed(6)
    for frame in range(300):
        image = 2 * torch.rand(1, 3, 16, 24, generator=generator) - 1
        got, state = advance(flat, state, image)
        held.append(nbytes(state))
        if frame < 80:
            want = theirs.step(image)
        if frame == 79:
            torch.testing.assert_close(got.points_world, want["world"], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(state.store.slots, theirs.slots, rtol=1e-3, atol=1e-3)
    assert len(set(held[1:])) == 1 and held[-1] < 100_000
    assert got.points_world.isfinite().all()
    assert state.store.nbytes == state.store.slots.nbytes == 10 * 48 * 4


@pytest.mark.parametrize("at", [1, 3])
def test_saved_and_loaded_it_continues_identically(cut3r, at):
    images = pictures(6)
    want, end = run(cut3r, images)
    _, state = run(cut3r, images[:at])
    parts = {f.name: getattr(state, f.name) for f in fields(state)}
    parts |= {"store": state.store.state(), "grid": list(state.grid)}
    back = unpack_state(pack_state(parts), "a test")
    store = SlotStore.from_state(back["store"], cut3r.config)
    loaded = LearnedState(**(back | {"store": store, "grid": tuple(back["grid"])}))
    got, last = run(cut3r, images[at:], loaded)
    assert same(last, end)
    for a, b in zip(got, want[at:], strict=True):
        assert torch.equal(a.points_world, b.points_world) and torch.equal(a.pose, b.pose)


def test_a_look_without_update_leaves_no_trace(cut3r):
    images = pictures(4)
    _, state = run(cut3r, images[:2])
    before = [t.clone() for t in tensors(state)]
    seen, after = advance(cut3r, state, images[2], look=Look(update=False))
    assert after is state and all(map(torch.equal, tensors(after), before))
    told, _ = advance(cut3r, state, images[2])
    assert torch.equal(seen.points_world, told.points_world)


def test_streams_of_a_batch_do_not_meet(cut3r):
    one, other = pictures(4), pictures(4, seed=8)
    seen, _ = run(cut3r, [torch.cat(pair) for pair in zip(one, other, strict=True)])
    for row, pictures_of_it in enumerate((one, other)):
        alone, _ = run(cut3r, pictures_of_it)
        for k in range(4):
            both = seen[k].points_world[row : row + 1]
            torch.testing.assert_close(both, alone[k].points_world, **CLOSE)


def test_a_broken_frame_writes_nothing(cut3r):
    images = pictures(4)
    _, state = run(cut3r, images[:2])
    _, after = advance(cut3r, state, torch.full_like(images[2], torch.nan))
    assert torch.equal(after.store.slots, state.store.slots)
    assert torch.equal(after.pose_state, state.pose_state) and torch.equal(after.pose, state.pose)
    seen, _ = advance(cut3r, after, images[3])
    assert seen.points_world.isfinite().all()


def test_another_size_mid_stream(cut3r):
    _, state = run(cut3r, pictures(2))
    seen, state = advance(cut3r, state, pictures(1, 64, 32)[0])
    assert seen.points_world.shape == (1, 64, 32, 3) and state.grid == (4, 2)


def test_slots_of_other_settings_are_refused(cut3r):
    _, state = run(cut3r, pictures(1))
    with pytest.raises(ValueError, match=r"expected \(B, 12, 48\)"):
        settings = replace(cut3r.config.persistent, capacity=12)
        SlotStore.from_state(state.store.state(), replace(cut3r.config, persistent=settings))


# -- the session ----------------------------------------------------------------------------------


def frames(count):
    random = np.random.default_rng(4)
    pictures = random.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)
    return [Frame(k, k / 10, picture) for k, picture in enumerate(pictures)]


def test_a_session_hands_on_what_cut3r_answers(cut3r):
    session, theirs = LearnedSession(cut3r), Cut3r(peer_state(), MINI)
    for frame in frames(5):
        found = session.step(frame)
        image = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 127.5 - 1
        want = theirs.step(image)
        assert not found.reason and not found.dynamic.any()
        for mine, name in (
            (found.points_self, "points"), (found.points_world, "world"),
            (found.conf_self, "confidence"), (found.conf_world, "world_confidence"),
        ):  # fmt: skip
            np.testing.assert_allclose(mine, want[name][0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.pose[:3, 3], want["pose"][0, :3], atol=1e-4)  # by the head


def test_a_session_is_constant_and_continues_from_its_file(cut3r, tmp_path):
    session, seen = LearnedSession(cut3r), frames(12)
    held = []
    for frame in seen[:6]:
        session.step(frame)
        held.append(session.usage().bytes)
    assert len(set(held[1:])) == 1
    session.snapshot(tmp_path / "there.safetensors")
    other = LearnedSession.resume(tmp_path / "there.safetensors", cut3r)
    for frame in seen[6:]:
        one, two = session.step(frame), other.step(frame)
        assert np.array_equal(one.points_world, two.points_world)
        assert np.array_equal(one.pose, two.pose)
    assert same(session._state, other._state)


def test_a_snapshot_of_another_checkpoint_is_refused(cut3r, tmp_path):
    session = LearnedSession(cut3r)
    session.step(frames(1)[0])
    session.snapshot(tmp_path / "there.safetensors")
    changed = peer_state(seed=1)
    another = from_checkpoint(write_peer(tmp_path / "x.pth", changed), device="cpu")[0]
    with pytest.raises(ModelError, match="x-") as caught:
        LearnedSession.resume(tmp_path / "there.safetensors", another)
    assert "\n" not in str(caught.value)
