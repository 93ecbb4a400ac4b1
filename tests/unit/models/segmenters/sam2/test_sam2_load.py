"""SAM 2's checkpoints and configurations that are missing, damaged, hostile or of another model."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vision_mem.errors import InputError, ModelError
from vision_mem.models import load_segmenter
from vision_mem.models.checkpoint import fill_random, fingerprint
from vision_mem.models.segmenters.sam2.load import (
    PUBLISHED,
    build_network,
    builtin_names,
    guess_config,
    read_config,
)


@lru_cache(maxsize=1)
def tiny_state():
    torch.set_num_threads(1)
    network = build_network(read_config("sam2.1_hiera_t"))
    fill_random(network)
    return network.state_dict()


def one_line(caught, *words):
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600, text
    for word in words:
        assert word in text, text


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def write_bomb(path, target):
    torch.save({"model": {"a": torch.zeros(2), "b": Bomb(target)}}, path)


def write_plain_bomb(path, target):
    path.write_bytes(pickle.dumps(Bomb(target)))


@pytest.mark.parametrize("write", [write_bomb, write_plain_bomb])
def test_a_pickle_bomb_does_not_go_off(tmp_path, write):
    target, path = tmp_path / "touched", tmp_path / "sam2.1_hiera_tiny.pt"
    write(path, target)
    with pytest.raises(ModelError) as caught:
        load_segmenter(str(path), device="cpu")
    one_line(caught, str(path))
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # the bomb is real
    assert target.exists()


def test_missing_empty_text_cut_and_folder(tmp_path):
    def refused(path, *words):
        with pytest.raises(ModelError) as caught:
            load_segmenter(str(path), config="sam2.1_hiera_t", device="cpu")
        one_line(caught, str(path), *words)

    refused(tmp_path / "no.pt", "missing")
    (tmp_path / "folder.pt").mkdir()
    refused(tmp_path / "folder.pt", "a folder")
    (tmp_path / "empty.pt").touch()
    refused(tmp_path / "empty.pt", "is empty")
    (tmp_path / "page.pt").write_text("<html>404</html>")
    refused(tmp_path / "page.pt", "not a torch file", "web page")
    torch.save({"model": {"a": torch.zeros(50_000)}}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.pt", "cut off")
    elsewhere = struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 1)  # "my end is on another disk"
    (tmp_path / "disks.pt").write_bytes(whole[:-42] + elsewhere + whole[-22:])
    refused(tmp_path / "disks.pt", "cut off")
    spoilt = bytearray(whole)
    spoilt[40:80] = b"\xff" * 40
    (tmp_path / "spoilt.pt").write_bytes(bytes(spoilt))
    refused(tmp_path / "spoilt.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    refused(tmp_path / "cut.safetensors", "safetensors")
    torch.save([1, 2, 3], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "no tensors by name")
    torch.save({"epoch": 3, "weights": {}}, tmp_path / "mixed.pt")
    refused(tmp_path / "mixed.pt", "more than tensors")


def test_another_architecture_counts_and_names_keys(tmp_path):
    path = tmp_path / "resnet.pt"
    torch.save({"layer1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, path)
    with pytest.raises(ModelError) as caught:
        load_segmenter(str(path), device="cpu")
    one_line(caught, "does not look like", "fc.bias")
    with pytest.raises(ModelError) as caught:
        load_segmenter(str(path), config="sam2.1_hiera_t", device="cpu")
    one_line(caught, "471 missing", "2 unexpected (fc.bias, layer1.weight)")
    state = dict(tiny_state())
    state["no_obj_ptr"] = torch.zeros(1, 7)
    torch.save({"model": state}, path)
    with pytest.raises(ModelError) as caught:
        load_segmenter(str(path), device="cpu")
    one_line(caught, "0 missing", "1 of another shape (no_obj_ptr)")


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_whole_checkpoint_loads_and_its_configuration_is_guessed(tmp_path, kind):
    path = tmp_path / f"mine.{kind}"
    if kind == "pt":
        torch.save({"model": dict(tiny_state())}, path)
    else:
        save_file({k: v.contiguous() for k, v in tiny_state().items()}, path)
    loaded = load_segmenter(str(path), device="cpu")
    assert loaded.traits.image_size == 1024 and loaded.traits.model_id.startswith("mine#")
    assert loaded.traits.model_id.endswith(fingerprint(loaded.network))
    assert torch.equal(loaded.network.no_obj_ptr, tiny_state()["no_obj_ptr"])


def test_configurations_are_guessed_from_shapes_or_names():
    state = tiny_state()
    assert guess_config(state, Path("x.pt")) == "sam2.1_hiera_t"
    older = {k: v for k, v in state.items() if "obj_ptr_tpos_proj" not in k}
    assert guess_config(older, Path("x.pt")) == "sam2_hiera_t"
    assert guess_config({}, Path("sam2.1_hiera_base_plus.pt")) == "sam2.1_hiera_b+"
    assert {published.config for published in PUBLISHED.values()} == set(builtin_names())


def test_without_network_the_message_names_file_and_place(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(**_):
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ModelError) as caught:
        load_segmenter("facebook/sam2.1-hiera-tiny", device="cpu")
    address = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_tiny.pt"
    one_line(caught, address, "--model", "facebook/sam2.1-hiera-tiny")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("sam3", "no model 'sam3'; did you mean 'sam2.1-hiera-tiny'?"),
        ("embeded", "did you mean 'embedded'"),
        ("Embedded", "did you mean 'embedded'"),
        ("sam2.1-hiera-tinny", "did you mean 'sam2.1-hiera-tiny'"),
        ("facebook/sam2.1-hiera-larg", "did you mean 'sam2.1-hiera-large'"),
        ("sam2.1_hiera_tiny", "did you mean 'sam2.1-hiera-tiny'"),
        ("no/such/sam2.pt", "checkpoint no/such/sam2.pt is missing"),
    ],
)
def test_misspelt_models_are_one_line(model, says):
    with pytest.raises((InputError, ModelError)) as caught:
        load_segmenter(model, device="cpu")
    one_line(caught, says)


HOSTILE = """
model:
  _target_: sam2.modeling.sam2_base.SAM2Base
  image_encoder:
    _target_: {target}
    {key}: {value}
"""


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("os.system", "command"),
        ("builtins.eval", "_args_"),
        ("sam2.modeling.sam2_base.torch.save", "obj"),  # a harmless prefix, another package
        ("sam2.modeling.sam2_base.torch.hub.load", "repo_or_dir"),
        ("sam2.modeling.backbones.utils.window_partition", "x"),  # a function
        ("sam2.build_sam.build_sam2_hf", "model_id"),
        ("sam2.modeling.__builtins__.eval", "x"),
        ("sam2.modeling.backbones.image_encoder.nn.Module", "x"),
        ("sam2.modeling.nothing.Here", "x"),
        ("3", "x"),
    ],
)
def test_a_configuration_cannot_call_anything_else(tmp_path, target, key):
    touched, path = tmp_path / "touched", tmp_path / "net.yaml"
    path.write_text(HOSTILE.format(target=target, key=key, value=f"touch {touched}"))
    with pytest.raises(ModelError) as caught:
        build_network(read_config(path))
    one_line(caught, "network classes" if not key.startswith("_") else "")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: ${oc.env:HOME}", "interpolation"),
        ("a: &x [1]\nmodel: *x", "anchors"),
        ("a: [", "not valid YAML"),
        ("just words", "no 'model' part"),
        ("model: 3", "no 'model' part"),
        ("model:\n  _target_: os.system", "expected sam2.modeling"),
        ("model:\n  _target_: sam2.modeling.sam2_base.SAM2Base", "cannot be built|can be built"),
        ("model: {a: !!python/object/apply:os.system [ls]}", "not valid YAML"),
    ],
)
def test_odd_configurations(tmp_path, text, words):
    path = tmp_path / "net.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=words) as caught:
        build_network(read_config(path))
    one_line(caught)


def test_unknown_configurations_devices_and_options(tmp_path):
    with pytest.raises(ModelError, match="no configuration 'sam9'"):
        read_config("sam9")
    (tmp_path / "large.yaml").write_text("#" * 1_000_001)
    with pytest.raises(ModelError, match="larger than"):
        read_config(tmp_path / "large.yaml")
    for options in ({"device": "tpu9"}, {"precision": "int3"}, {"resize": "magic"}):
        with pytest.raises(InputError, match=r"expected|no device"):
            load_segmenter("random:sam2.1_hiera_t@64", **{"device": "cpu", **options})
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="not available"):
            load_segmenter("random:sam2.1_hiera_t@64", device="cuda")
    with pytest.raises(InputError, match="image side"):
        load_segmenter("random:sam2.1_hiera_t@big", device="cpu")


def test_hydras_process_wide_state_is_neither_needed_nor_changed(tmp_path):
    code = (
        "from hydra import initialize_config_dir\n"
        "from hydra.core.global_hydra import GlobalHydra\n"
        f"initialize_config_dir({str(tmp_path)!r}, version_base='1.2')\n"
        "mine = GlobalHydra.instance().hydra\n"
        "from vision_mem.models.segmenters.sam2.load import build_network, read_config\n"
        "build_network(read_config('sam2.1_hiera_t'), 64)\n"
        "assert GlobalHydra.instance().hydra is mine\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_smaller_network_of_the_same_shape(tmp_path):
    """Sizes are read from the network: a YAML of other sizes works end to end."""
    import numpy as np

    from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter
    from vision_mem.tracking import TrackingSession
    from vision_mem.types import Frame, Prompt

    name, model = read_config("sam2.1_hiera_t")
    trunk, neck = model["image_encoder"]["trunk"], model["image_encoder"]["neck"]
    trunk |= {"embed_dim": 32, "stages": [1, 1, 2, 1], "global_att_blocks": [3]}
    neck |= {"d_model": 128, "backbone_channel_list": [256, 128, 64, 32]}
    neck["position_encoding"]["num_pos_feats"] = 128
    attention = model["memory_attention"]
    attention |= {"d_model": 128, "num_layers": 2}
    attention["layer"] |= {"d_model": 128, "dim_feedforward": 256}
    attention["layer"]["self_attention"] |= {"embedding_dim": 128}
    attention["layer"]["cross_attention"] |= {"embedding_dim": 128, "kv_in_dim": 32}
    memory = model["memory_encoder"]
    memory |= {"out_dim": 32, "in_dim": 128}
    memory["position_encoding"]["num_pos_feats"] = 32
    memory["mask_downsampler"]["embed_dim"] = 128
    memory["fuser"]["layer"]["dim"] = 128
    model |= {"num_maskmem": 4, "max_obj_ptrs_in_encoder": 6, "image_size": 192}
    network = build_network((name, model))
    fill_random(network)
    segmenter = Sam2Segmenter(network, model_id="small", device=torch.device("cpu"))
    assert (segmenter.traits.num_maskmem, segmenter.traits.max_pointers) == (4, 6)
    session = TrackingSession(segmenter)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    for t in range(9):
        prompts = [Prompt(box=(10, 10, 40, 40))] if t == 0 else ()
        result = session.step(Frame(t, t / 30, image), prompts)
    read = result[1].diary["read"]
    assert len(read["pointers"]) == 6 and len(read["recents"]) <= 3
    assert result[1].mask.shape == (60, 80)
