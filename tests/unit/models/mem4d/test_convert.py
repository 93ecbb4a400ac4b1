"""Files that are no checkpoint of DUSt3R or CUT3R: one clear line each, and nothing is run."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mem4d_checkpoint_samples import builder, peer_state, pictures, write_peer
from omegaconf import OmegaConf
from peer_networks import Cut3r
from peer_shapes import MINI
from safetensors.torch import load_file, save_file

from vision_mem.errors import InputError, ModelError
from vision_mem.models.mem4d.convert import (
    COMMAND,
    DUST3R,
    convert,
    family_of,
    main,
    plan,
    read_builder,
    read_weight_file,
)
from vision_mem.models.mem4d.load import from_checkpoint


class Bomb:
    """Runs a command when it is read as pickles usually are."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Settings:
    """Stands for a library's settings: nested objects with the text of interest inside."""

    def __init__(self, **content):
        self._content = content

    def __reduce__(self):
        return Settings, (), {"_content": self._content}


def refused(path, *words, **options):
    with pytest.raises(ModelError) as caught:
        from_checkpoint(path, device="cpu", **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500 and str(path) in text, text
    for word in words:
        assert word in text, text


def without(state, pattern):
    return {k: v for k, v in state.items() if not re.search(pattern, k)}


# -- files that are damaged or of another kind -----------------------------------------------------


def test_missing_empty_text_cut_and_folder(tmp_path):
    refused(tmp_path / "no.pth", "missing")
    (tmp_path / "folder.pth").mkdir()
    refused(tmp_path / "folder.pth", "a folder")
    (tmp_path / "empty.pth").touch()
    refused(tmp_path / "empty.pth", "is empty")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    refused(tmp_path / "page.pth", "not a torch file", "web page")
    whole = write_peer(tmp_path / "whole.pth", peer_state()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.pth", "cut off")
    spoilt = bytearray(whole)
    at = spoilt.find(b"ctorch") if b"ctorch" in spoilt else 200
    spoilt[at : at + 200] = b"\xff" * 200
    (tmp_path / "spoilt.pth").write_bytes(bytes(spoilt))
    refused(tmp_path / "spoilt.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    refused(tmp_path / "cut.safetensors", "safetensors")
    with zipfile.ZipFile(tmp_path / "pictures.pth", "w") as archive:
        archive.writestr("cat.png", b"123")
    refused(tmp_path / "pictures.pth", "another kind of archive")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "old.pth", "before 2020")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "no tensors by name")
    torch.save({"epoch": 3, "weights": {}}, tmp_path / "mixed.pth")
    refused(tmp_path / "mixed.pth", "more than tensors")


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_one_line_or_none(tmp_path, whole_file, seed):
    """Bytes are changed at random; what still loads has no other effect than other numbers."""
    random = np.random.default_rng(seed)
    spoilt = bytearray(whole_file)
    near_end = len(spoilt) - 60_000 if seed % 2 else 0  # the archive's table lies there
    for at in random.integers(near_end, len(spoilt), 1 + seed * 5):
        spoilt[at] = random.integers(256)
    path = tmp_path / "spoilt.pth"
    path.write_bytes(bytes(spoilt))
    for read in (read_weight_file, lambda p: convert(p, tmp_path / "x.safetensors", trust=True)):
        try:
            read(path)
        except ModelError as error:
            assert "\n" not in str(error) and len(str(error)) < 500


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    state = dict(list(peer_state().items())[:60])
    return write_peer(tmp_path_factory.mktemp("whole") / "x.pth", state).read_bytes()


def test_scripts_are_no_checkpoints(tmp_path):
    with zipfile.ZipFile(tmp_path / "script.pth", "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    refused(tmp_path / "script.pth", "another kind of archive")


def test_other_networks(tmp_path):
    sam = {"image_encoder.trunk.pos_embed": torch.zeros(1), "no_mem_embed": torch.zeros(1, 1, 8)}
    torch.save({"model": sam}, tmp_path / "sam2.pt")
    refused(tmp_path / "sam2.pt", "not of DUSt3R or CUT3R", "image_encoder.trunk.pos_embed")
    croco = without(peer_state(family="dust3r"), "downstream|dec_blocks2")
    torch.save({"model": croco}, tmp_path / "croco.pth")
    refused(tmp_path / "croco.pth", "not of DUSt3R or CUT3R")
    mast3r = peer_state(family="dust3r")
    mast3r["downstream_head1.head_local_features.fc1.weight"] = torch.zeros(4, 4)
    write_peer(tmp_path / "mast3r.pth", mast3r, family="dust3r")
    refused(tmp_path / "mast3r.pth", "1 names that DUSt3R", "head_local_features", "strict=False")
    from_checkpoint(tmp_path / "mast3r.pth", device="cpu", strict=False)


SCRATCH = "downstream_head.dpt_self.scratch"
BROKEN = {
    "a tensor less": (lambda s: without(s, r"dec_blocks\.2\.norm3\.weight"), "1 tensors missing"),
    "a layer less": (lambda s: without(s, r"dec_blocks_state\.1\."), "psm.slots.blocks.1"),
    "last layer of one stack": (lambda s: without(s, r"dec_blocks_state\.3\."), "blocks.3"),
    "no slots": (lambda s: without(s, "register_tokens"), "register_tokens.weight is missing"),
    "no pose memory": (lambda s: without(s, r"retriever\.mem$"), "pose_retriever.mem is missing"),
    "no heads": (lambda s: without(s, "downstream_head"), "fc1.weight is missing"),
    "half a head": (lambda s: without(s, r"dpt_self\.head\.2"), "2 tensors missing"),
    "other width": (
        lambda s: s | {"enc_norm.weight": torch.zeros(32)},
        "1 of another shape (enc_norm.weight (32,) for (64,))",
    ),
    "flat patches": (
        lambda s: s | {"patch_embed.proj.weight": torch.zeros(64, 768)},
        "too few dimensions",
    ),
    "odd width": (
        lambda s: s | {"decoder_embed.weight": torch.zeros(50, 64)},
        "expected a width that is a multiple",
    ),
    "a gap in a stack": (lambda s: without(s, r"enc_blocks\.0\."), "enc_blocks.0 is missing"),
    "a layer far off": (
        lambda s: s | {"dec_blocks.99999.norm1.weight": torch.ones(48)},
        "dec_blocks.4 is missing",
    ),
    "whole numbers": (
        lambda s: s | {"pose_token": torch.ones(1, 1, 48, dtype=torch.int64)},
        "not of real numbers",
    ),
    "sparse": (
        lambda s: s | {"enc_norm.bias": torch.ones(64).to_sparse()},
        "not of real numbers",
    ),
    "terabytes": (
        lambda s: s | {"register_tokens.weight": torch.zeros(1).expand(10**10, 64)},
        "fewer of them than their shape says",
    ),
    "two values": (
        lambda s: s | {f"{SCRATCH}.layer_rn.0.weight": torch.ones(16, 6, 3, 3)},
        "two values for one tensor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_networks(tmp_path, case):
    change, word = BROKEN[case]
    path = write_peer(tmp_path / "broken.pth", change(peer_state()))
    refused(path, word)


def test_numbers_of_heads_that_cannot_be(tmp_path):
    state = peer_state()
    torch.save({"model": state}, tmp_path / "plain.pth")  # 16 heads of 3 channels
    refused(tmp_path / "plain.pth", "not a whole CUT3R network", "slots have")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ((b"state_pe='2d'", b"state_pe='1d'"), "no grid"),
        ((b"'RoPE100'", b"'cosine_'"), "positions are 'cosine_'"),
        ((b"dec_num_heads=4,", b"dec_num_heads=5,"), "48, 4 layers and 5 heads"),
    ],
)
def test_settings_that_make_another_network(tmp_path, change, word):
    path = tmp_path / "other.pth"
    text = builder(MINI).encode().replace(*change).decode()
    assert text != builder(MINI)
    torch.save({"model": peer_state(), "args": argparse.Namespace(model=text)}, path)
    refused(path, "not a whole CUT3R network", word)


def test_sizes_out_of_this_world_are_not_taken(tmp_path):
    path = tmp_path / "large.pth"
    text = builder(MINI).replace("img_size=(64, 64)", "img_size=(99999, 64)")
    torch.save({"model": peer_state(), "args": argparse.Namespace(model=text)}, path)
    assert from_checkpoint(path, device="cpu")[0].config.size == 512


# -- files that hold more than tensors -------------------------------------------------------------


def write_bomb(path, target, state):
    torch.save({"model": state, "args": Bomb(target)}, path)


def test_a_pickle_bomb_does_not_go_off(tmp_path):
    target, path = tmp_path / "touched", tmp_path / "cut3r.pth"
    write_bomb(path, target, peer_state())
    refused(path, "holds objects", COMMAND, "--trust")
    with pytest.raises(ModelError, match="holds objects"):
        convert(path)
    written, foreign = convert(path, trust=True)
    assert foreign == ["posix.system"] and written.suffix == ".safetensors"
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # the bomb is real
    assert target.exists()


def test_a_bomb_among_the_tensors(tmp_path):
    target, path = tmp_path / "touched", tmp_path / "cut3r.pth"
    state = OrderedDict(peer_state())
    state["pose_token"] = Bomb(target)
    torch.save({"model": state}, path)
    refused(path, "holds objects")
    with pytest.raises(ModelError, match="more than tensors"):
        convert(path, trust=True)
    assert not target.exists() and not path.with_suffix(".safetensors").exists()


def test_settings_of_omegaconf_are_understood(tmp_path):
    """Runs that hydra starts leave their settings so."""
    path = tmp_path / "hydra.pth"
    settings = OmegaConf.create({"model": builder(MINI), "lr": 2e-5, "data": {"sets": ["a", "b"]}})
    torch.save({"model": peer_state(), "args": settings}, path)
    refused(path, "holds objects", "--trust")
    written, foreign = convert(path, trust=True)
    assert any(name.startswith("omegaconf.") for name in foreign)
    assert read_weight_file(written).told["state_dec_num_heads"] == MINI.slot_heads


def test_a_converted_file_answers_as_the_first_one(tmp_path):
    """Settings as objects: numbers of heads are found all the same."""
    state, path = peer_state(), tmp_path / "objects.pth"
    settings = Settings(model=Settings(text=builder(MINI)), nodes=[1, {"lr": 2e-5}])
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "args": settings}, path)
    refused(path, "holds objects", str(path))
    written, foreign = convert(path, tmp_path / "made.safetensors", trust=True)
    assert [name.rpartition(".")[2] for name in foreign] == ["Settings"]
    network, report = from_checkpoint(written, device="cpu")
    assert network.config.persistent.slot_heads == MINI.slot_heads and not report.unknown
    image = pictures(1)[0]
    want = Cut3r(state, MINI).step(image)
    encoded = network.encode(image, torch.tensor([True]))
    reader = network.psm.slots.reader(network.psm.slots.start(1), torch.tensor([True]))
    readers = {"persistent": reader, "transient": network.read_transient(None, encoded, None)}
    motion = network.move(encoded, None, None)
    got = network.decode(encoded, motion, readers, [], network.pose.token, torch.eye(4)[None])
    torch.testing.assert_close(got.points_self, want["points"], rtol=1e-4, atol=1e-4)


def test_converting_keeps_what_is_there(tmp_path):
    state = {"a": torch.arange(6.0), "b": torch.eye(2)}
    state["twin"] = state["b"]
    torch.save(state, tmp_path / "small.pth")
    written, foreign = convert(tmp_path / "small.pth")
    assert not foreign and {k: v.tolist() for k, v in load_file(written).items()} == {
        k: v.tolist() for k, v in state.items()
    }
    with pytest.raises(InputError, match="exists"):
        convert(tmp_path / "small.pth")


def test_the_command(tmp_path, capsys):
    target, path = tmp_path / "touched", tmp_path / "cut3r.pth"
    write_bomb(path, target, {"a": torch.zeros(3)})
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: checkpoint") and "--trust" in said and said.count("\n") == 1
    assert main([str(path), "--trust"]) == 0
    out = capsys.readouterr().out
    assert "cut3r.safetensors" in out and "left out: posix.system" in out
    assert "non-commercial" in out
    assert main([str(path), "--trust"]) == 2  # there is a file already
    assert not target.exists()


@pytest.mark.parametrize("junk", [b"PK\x03\x04", b"\x80\x02."])
def test_junk_is_not_converted(tmp_path, junk):
    path = tmp_path / "junk.pth"
    path.write_bytes(junk + b"\0" * 50)
    with pytest.raises(ModelError) as caught:
        convert(path, trust=True)
    assert "\n" not in str(caught.value)


# -- what is read of settings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "AsymmetricCroCo3DStereo(dec_num_heads=12, img_size=(512, 512))",
            {"dec_num_heads": 12, "img_size": (512, 512)},
        ),
        (
            "ARCroco3DStereo(ARCroco3DStereoConfig(state_dec_num_heads=3, depth_mode=(-inf, 1)))",
            {"state_dec_num_heads": 3},
        ),
        ("ARCroco3DStereo(size=__import__('os').system('touch x'))", {}),
        ("ARCroco3DStereo(", {}),
        ("os.system('x')", {}),
        ("ARCroco3DStereo(" + "(" * 9000, {}),
    ],
)
def test_settings_are_read_and_never_run(text, told):
    assert read_builder(text) == told


@pytest.mark.parametrize("note", ["[1]", "{", "__import__('os')", "{'dec_num_heads': 'many'}"])
def test_notes_of_strangers(tmp_path, note):
    tensors = {k: v.clone() for k, v in peer_state().items()}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"told": note})
    file = read_weight_file(tmp_path / "x.safetensors")
    assert len(file.tensors) == len(tensors)
    refused(tmp_path / "x.safetensors", "slots have")  # 16 of 48 channels


def test_names_of_no_family():
    assert family_of(["a.b", "patch_embed.proj.weight"]) is None
    found = plan(
        ["dec_blocks.x.norm1.weight", "dec_blocks.0.norm9.weight", "enc_norm.bias"], DUST3R
    )
    assert found.taken == {"encoder.norm.bias": ["enc_norm.bias"]} and len(found.unknown) == 2
