"""DUSt3R's and CUT3R's checkpoints: every tensor has its place, and the answers are theirs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mem4d_checkpoint_samples import SIDE, peer_state, pictures, write_peer
from peer_networks import Cut3r, decoder_block, dust3r_pair
from peer_shapes import MINI, MINI_LINEAR, REAL, cut3r_shapes, dust3r_shapes, meta_state
from safetensors.torch import save_file

from vision_mem.errors import InputError, ModelError
from vision_mem.models.mem4d.config import config_to_text, named_config
from vision_mem.models.mem4d.convert import WeightFile
from vision_mem.models.mem4d.heads import ConditionBlock, DptHead, points_and_confidence
from vision_mem.models.mem4d.layers import grid_positions
from vision_mem.models.mem4d.load import (
    MEMORIES,
    SETTINGS,
    fill,
    from_checkpoint,
    inspect,
    load_network,
)
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.models.mem4d.protocol import BankEntry, Read
from vision_mem.models.mem4d.state_tokens import slot_positions
from vision_mem.reconstruction.learned.recurrent_state import SlotStore, gate

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
EYE = torch.eye(4)[None]

# What of published files a network of ours has no use for: hidden patches, views that are rays,
# and convolutions that are saved and never computed.
UNNEEDED = re.compile(
    r"(mask_token|masked_(img|ray_map)_token|patch_embed_ray_map\..*|enc_(blocks|norm)_ray_map\..*"
    r"|.*\.scratch\.refinenet4\.resConfUnit1\..*)"
)


class Follower:
    """A network with slots on one stream: the seams called by hand, in order."""

    def __init__(self, network):
        self.network, self.frames = network, 0
        self.store = SlotStore.empty(network.config, 1, "cpu", torch.float32, network)
        self.rows = network.pose.memory.start(1)

    def step(self, image, moving=None):
        n, first = self.network, torch.tensor([self.frames == 0])
        encoded = n.encode(image, first)
        motion = n.move(encoded, None, None)
        reader = self.store.reader(n, encoded)
        readers = {"persistent": reader, "transient": n.read_transient(None, encoded, EYE)}
        token = n.pose.token if not self.frames else n.pose.memory.ask(self.rows, encoded)
        decoded = n.decode(encoded, motion, readers, [], token, EYE)
        entry = n.entries(encoded, motion, decoded)["transient"]
        entry = entry if moving is None else replace(entry, dynamic=moving)
        self.store = self.store.write(entry, decoded, reader)
        self.rows = n.pose.memory.write(self.rows, encoded, decoded.pose_token)
        self.frames += 1
        return decoded


def load(tmp_path, sizes=MINI, family="cut3r", **options):
    state = peer_state(sizes, family)
    path = write_peer(tmp_path / "theirs.pth", state, sizes, family)
    network, report = from_checkpoint(path, device="cpu", **options)
    return state, network, report


# -- names and shapes of the published networks ----------------------------------------------------


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("head", ["dpt", "linear"])
@pytest.mark.parametrize(("shapes", "family"), [(cut3r_shapes, "CUT3R"), (dust3r_shapes, "DUSt3R")])
def test_every_tensor_of_the_published_networks_has_its_place(shapes, family, head, memory):
    state = meta_state(shapes(replace(REAL, head=head)))
    config, found = inspect(WeightFile(state), Path("x.pth"), memory=memory, rgb=True)
    with torch.device("meta"):
        network = Mem4DNetwork(config)
    report = fill(network, state, found, Path("x.pth"))  # checks every shape
    assert report.family == family and not report.unknown
    used = {key for name in report.loaded for key in found.taken[name]}
    assert used | set(report.unneeded) == set(state) and not used & set(report.unneeded)
    twin = r"|dec_blocks2\..*" if family == "DUSt3R" else r"|dec_(blocks|norm)_state\..*"
    slots = r"|decoder_embed_state\..*|register_tokens\.weight"
    bank = re.compile(UNNEEDED.pattern + twin + slots)
    allowed = UNNEEDED if memory == "slots" else bank
    assert [key for key in report.unneeded if not allowed.fullmatch(key)] == []
    new = {name.split(".")[0] for name in report.new}
    theirs = {"pose", "heads"} | ({"psm"} if memory == "slots" else set())
    expected = {"motion", "tdm", "heads", "decoder"} | ({"psm"} if memory == "bank" else set())
    assert new == (expected | theirs if family == "DUSt3R" else expected)
    assert (config.encoder.heads, config.decoder.heads) == (16, 12)
    assert config.persistent.slot_heads == (16 if family == "CUT3R" else 12)
    assert config.persistent.capacity == (768 if memory == "slots" else 4096)
    assert config.size == (512 if head == "dpt" else 224)


def test_the_published_sizes_are_met():
    """571 million parameters are told of DUSt3R's DPT network, 793 of CUT3R's."""

    def millions(shapes):
        once = {k: v for k, v in shapes.items() if ".scratch.layer_rn." not in k}
        return sum(torch.Size(shape).numel() for shape in once.values()) / 1e6

    assert millions(dust3r_shapes()) == pytest.approx(571, abs=1)
    assert millions(cut3r_shapes()) == pytest.approx(793, abs=7)


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("gating", ["one", "attention", "static"])
@pytest.mark.parametrize("sizes", [MINI, MINI_LINEAR], ids=["dpt", "linear"])
def test_a_stream_is_answered_as_cut3r_answers_it(tmp_path, sizes, gating):
    state, network, report = load(tmp_path, sizes, gate=gating, mask=False)
    assert network.config.transient.frames == 0 and network.config.size == SIDE
    assert report.family == "CUT3R" and not [n for n in report.new if "heads" in n]
    mine, theirs = Follower(network), Cut3r(state, sizes, gating)
    patches = (48 // sizes.patch) * (64 // sizes.patch)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for image in pictures(6):
            moving = torch.rand(1, patches, generator=generator)
            told = moving if gating == "static" else None
            got, want = mine.step(image, told), theirs.step(image, told)
            torch.testing.assert_close(got.points_self, want["points"], **CLOSE)
            torch.testing.assert_close(got.conf_self, want["confidence"], **CLOSE)
            torch.testing.assert_close(got.points_world, want["world"], **CLOSE)
            torch.testing.assert_close(got.conf_world, want["world_confidence"], **CLOSE)
            torch.testing.assert_close(got.pose[:, :3, 3], want["pose"][:, :3], **CLOSE)
            torch.testing.assert_close(got.pose[:, :3, :3], turned(want["pose"][:, 3:]), **CLOSE)
            torch.testing.assert_close(mine.store.slots, theirs.slots, **CLOSE)
            torch.testing.assert_close(mine.rows, theirs.memory, **CLOSE)


def turned(quaternion):
    """Rotation matrices of ``(B, 4)`` quaternions, real part first: v to q v q*."""
    w, v = quaternion[:, :1, None], quaternion[:, 1:]
    axes = torch.eye(3).expand(len(v), 3, 3)  # row i is where axis i starts
    v = v[:, None].expand_as(axes)
    cross = torch.cross(v, axes, dim=-1)
    moved = axes + 2 * w * cross + 2 * torch.cross(v, cross, dim=-1)
    return moved.transpose(1, 2)


def test_the_gates_differ(tmp_path):
    ends = []
    for gating in ("one", "attention"):
        _, network, _ = load(tmp_path, gate=gating)
        mine = Follower(network)
        with torch.no_grad():
            for image in pictures(3):
                mine.step(image)
        ends.append(mine.store.slots)
    assert (ends[0] - ends[1]).abs().max() > 0.1


@pytest.mark.parametrize("sizes", [MINI, MINI_LINEAR], ids=["dpt", "linear"])
def test_every_loaded_parameter_counts(tmp_path, sizes):
    """Two frames, and each parameter that came from the file has a gradient."""
    _, network, report = load(tmp_path, sizes, rgb=True)
    network.requires_grad_(True)
    mine = Follower(network)
    seen = [mine.step(image) for image in pictures(2)]
    total = sum((d.points_self + d.points_world + d.rgb).sum() + d.pose.sum() for d in seen)
    (total + sum((d.conf_self + d.conf_world).sum() for d in seen)).backward()
    idle = {
        name
        for name, parameter in network.named_parameters()
        if name in report.loaded and (parameter.grad is None or not parameter.grad.any())
    }
    # Rows of the pose memory look at one token: with one there is nothing to choose.
    choice = re.compile(r"pose\.memory\.write_blocks\.\d\.(norm2|cross\.[qk])\.(weight|bias)")
    # A key's bias moves all scores of a query alike, which the softmax takes back; rounding
    # decides whether anything is left of it.
    alike = re.compile(r".*\.cross\.k\.bias")
    assert [n for n in idle if not choice.fullmatch(n) and not alike.fullmatch(n)] == []


@pytest.mark.parametrize("sizes", [MINI, MINI_LINEAR], ids=["dpt", "linear"])
def test_dust3rs_parts_answer_a_pair_as_it_does(tmp_path, sizes):
    state, network, report = load(tmp_path, sizes, "dust3r")
    assert report.family == "DUSt3R" and network.config.init == "dust3r"
    first, second = pictures(2)
    want = dust3r_pair(state, sizes, first, second)
    yes = torch.tensor([True])
    one, other = network.encode(first, yes), network.encode(second, yes)
    at = grid_positions(one.grid)
    a, b, levels = one.tokens, other.tokens, [[one.features], [other.features]]
    for i in range(sizes.decoder_layers):
        after, _ = network.decoder.blocks[i](a, [Read(b, b, at)], at)
        b, _ = network.psm.slots.blocks[i](b, [Read(a, a, at)], at)
        a = after
        if i + 1 in (2, 3):
            levels[0].append(a)
            levels[1].append(b)
    for number, (head, last) in enumerate((("self", a), ("world", b))):
        levels[number].append(network.decoder.norm(last))
        raw = network.heads[head](levels[number], network.pose.token, one.grid)
        points, confidence = points_and_confidence(raw, network.config.heads, ahead=False)
        torch.testing.assert_close(points, want[f"points{number + 1}"], **CLOSE)
        torch.testing.assert_close(confidence, want[f"confidence{number + 1}"], **CLOSE)


@pytest.mark.parametrize("family", ["cut3r", "dust3r"])
def test_with_a_ring_and_a_bank_it_starts_as_it_was_and_runs(tmp_path, family):
    """Motion counts for nothing until it is trained, and nothing is added to tokens."""
    _, network, report = load(tmp_path, family=family, memory="bank", frames=3)
    assert network.config.heads.mask and network.config.decoder.mode == "alternate"
    assert {"psm.bank.null", "tdm.null", "motion.weight"} <= set(report.new)
    assert not network.motion.weight.any() and not network.decoder.first.any()
    encoded = network.encode(pictures(1)[0], torch.tensor([True]))
    plain = network.decoder.embed(encoded.features)
    assert torch.equal(encoded.tokens, plain)
    assert network.move(encoded, encoded.features, torch.tensor([True])).shape == plain.shape


# -- what files may look like ----------------------------------------------------------------------


def test_all_ways_of_saving_are_one(tmp_path):
    state, network, _ = load(tmp_path)
    first = {k: v for k, v in state.items() if ".scratch.layer_rn." not in k}
    second = {k: v for k, v in state.items() if not re.search(r"\.scratch\.layer\d_rn\.", k)}
    assert len(first) == len(second) < len(state)
    ways = {
        "parallel": {f"module.{k}": v for k, v in state.items()},
        "one-spelling": first,
        "other-spelling": second,
    }
    want = network.state_dict()
    for name, tensors in ways.items():
        path = write_peer(tmp_path / f"{name}.pth", tensors)
        got = from_checkpoint(path, device="cpu")[0].state_dict()
        assert differing(got, want) == []
    for name in ("one-spelling", "other-spelling"):
        save_file(ways[name], tmp_path / f"{name}.safetensors", metadata=heads_note())
        got = from_checkpoint(tmp_path / f"{name}.safetensors", device="cpu")[0].state_dict()
        assert differing(got, want) == []


def heads_note():
    told = {"enc_num_heads": 4, "dec_num_heads": 4, "state_dec_num_heads": 3}
    return {"told": repr(told)}


def differing(got, want):
    """Names whose values are not equal; parts that are new in both need not be."""
    fresh = ("motion.", "tdm.")
    return [n for n in want if not n.startswith(fresh) and not torch.equal(got[n], want[n])]


def test_new_parts_of_half_precision_files_are_not_half(tmp_path):
    state = {k: v.half() for k, v in peer_state().items()}
    network, _ = from_checkpoint(write_peer(tmp_path / "half.pth", state), device="cpu")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    got = network.encoder.norm.weight
    assert torch.equal(got, state["enc_norm.weight"].float())


def test_unknown_names_are_left_out_when_asked_and_told(tmp_path):
    state = peer_state() | {"downstream_head.dpt_depth.head.0.bias": torch.zeros(3)}
    path = write_peer(tmp_path / "more.pth", state)
    _, report = from_checkpoint(path, device="cpu", strict=False)
    assert report.unknown == ("downstream_head.dpt_depth.head.0.bias",)
    assert "1 unknown (downstream_head.dpt_depth.head.0.bias)" in str(report)


def test_whatever_a_user_names_is_opened(tmp_path):
    theirs = write_peer(tmp_path / "theirs.pth", peer_state())
    assert load_network(str(theirs), device="cpu").config.init == "cut3r"
    config = named_config("nano-48")
    ours, told = tmp_path / "ours.safetensors", {SETTINGS: config_to_text(config)}
    save_file(Mem4DNetwork(config).state_dict(), ours, metadata=told)
    assert load_network(str(ours), device="cpu").config == config
    assert load_network("random:nano-48", device="cpu").config == config
    with pytest.raises(InputError, match="no slots"):
        load_network(str(ours), gate="one", device="cpu")
    ours.write_bytes(ours.read_bytes()[:500])
    with pytest.raises(ModelError, match="whole safetensors"):
        load_network(str(ours), device="cpu")


@pytest.mark.parametrize("options", [{"memory": "heap"}, {"gate": "wide"}, {"device": "abacus"}])
def test_unknown_options(tmp_path, options):
    with pytest.raises(InputError):
        from_checkpoint(tmp_path / "x.pth", **({"device": "cpu"} | options))


# -- parts -----------------------------------------------------------------------------------------


def test_a_gate_lets_nothing_in_of_what_moves():
    generator = torch.Generator().manual_seed(0)
    heard = torch.randn(2, 5, 9, generator=generator)
    still, moving = torch.ones(2, 8), torch.zeros(2, 8)
    torch.testing.assert_close(gate(heard, still), gate(heard))
    assert not gate(heard, moving).any()
    half = gate(heard, torch.cat([torch.ones(2, 4), torch.zeros(2, 4)], dim=1))
    only = gate(heard[..., :5])  # the pose token and the patches that stay
    torch.testing.assert_close(half, 0.5 * only)


def test_streams_of_one_batch_begin_apart(tmp_path):
    _, network, _ = load(tmp_path, gate="attention")
    start = network.psm.slots.start(1)
    held = torch.randn(2, *start.shape[1:], generator=torch.Generator().manual_seed(2))
    reader = network.psm.slots.reader(held, torch.tensor([True, False]))
    assert torch.equal(reader.before[0], start[0]) and torch.equal(reader.before[1], held[1])
    tokens = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(4))
    with pytest.raises(AssertionError, match="0 layers of 4"):
        assert reader.proposal is None
    for layer in range(4):
        reader.read(layer, tokens, torch.zeros(1, 5, 2))
    entry = BankEntry(*[tokens] * 6, torch.zeros(2, 4), torch.ones(2, 4), (2, 2))
    store = SlotStore(network.config.persistent, held).write(entry, None, reader)
    assert torch.equal(store.slots[0], reader.proposal[0])  # followed all the way
    assert not torch.allclose(store.slots[1], reader.proposal[1], atol=1e-2)


def test_slots_stand_on_a_grid_of_even_width():
    at = slot_positions(768)[0]
    assert at[-1].tolist() == [27, 11] and at[28].tolist() == [1, 0]
    assert slot_positions(10)[0, 4:6].tolist() == [[1, 0], [1, 1]]


def test_heads_take_odd_grids_and_conditions_begin_as_nothing(tmp_path):
    _, network, _ = load(tmp_path)
    config, grid = network.config, (3, 5)
    levels = [torch.randn(1, 15, w) for w in (64, 48, 48, 48)]
    assert DptHead(config, 2)(levels, levels[1][:, :1], grid).shape == (1, 2, 48, 80)
    block = ConditionBlock(48, 4, 100.0)
    assert torch.equal(block(levels[1], levels[1][:, :1], grid_positions(grid)), levels[1])


def test_the_second_writing_is_not_blind():
    """A swap of two tensors changes what it computes."""
    state = peer_state()
    x, y = (torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    before, _ = decoder_block(state, "dec_blocks.0", x, y, 4)
    name = "dec_blocks.0.cross_attn.projq.weight"
    state[name] = state["dec_blocks.1.cross_attn.projq.weight"]
    after, _ = decoder_block(state, "dec_blocks.0", x, y, 4)
    assert (before - after).abs().max() > 1e-2
