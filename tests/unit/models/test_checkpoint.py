"""What is read of any checkpoint, and the digits that name weights."""

from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file

from vision_mem.errors import ModelError
from vision_mem.models.checkpoint import (
    few,
    fingerprint,
    fit_weights,
    named_tensors,
    read_checkpoint,
    read_content,
)


@pytest.fixture
def network():
    made = torch.nn.Linear(3, 2).requires_grad_(False)
    made.weight.copy_(torch.arange(6.0).view(2, 3))
    made.bias.copy_(torch.tensor([1.0, -1.0]))
    return made


def test_fingerprints_are_those_in_files_written_before(network):
    assert fingerprint(network) == "f815be40"
    assert fingerprint(network, ["bias"]) == "9c3e76c2"
    assert fingerprint(network, whole=True) == "818afc76"
    network.register_buffer("gain", torch.tensor(0.5))  # single numbers count too
    assert fingerprint(network, whole=True) == "614c1bd1"


def test_a_fingerprint_is_of_values_alone(network):
    before = fingerprint(network)
    network.weight.data = network.weight.data.t().contiguous().t()  # another layout
    assert fingerprint(network) == before
    network.bias[1] = 0.0
    assert fingerprint(network) != before


def test_bare_state_dicts_and_those_under_model(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "bare.pt")
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "under.pth")
    for name in ("bare.pt", "under.pth"):
        assert sorted(read_checkpoint(tmp_path / name)) == ["bias", "weight"]


@pytest.mark.parametrize(
    "keys", [(), ("state_dict",), ("model_state_dict",), ("model", "state_dict")]
)
@pytest.mark.parametrize("before", ["module.", "_orig_mod.module.", "module._orig_mod."])
def test_checkpoints_as_training_leaves_them(tmp_path, network, keys, before):
    content = {f"{before}{name}": value for name, value in network.state_dict().items()}
    for key in keys:
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "a.pt")
    assert sorted(read_checkpoint(tmp_path / "a.pt")) == ["bias", "weight"]


def test_a_header_is_read_and_allowed_classes_are_made(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"told": "{}"})
    content, note = read_content(tmp_path / "a.safetensors")
    assert note == {"told": "{}"} and named_tensors(content, tmp_path)["a"].tolist() == [1, 1]
    path = tmp_path / "args.pt"
    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(size=3)}, path)
    content, note = read_content(path, allowed=[argparse.Namespace], mapped=True)
    assert content["args"].size == 3 and not note
    with pytest.raises(ModelError, match=r"holds objects .* Ask its author for a \.safetensors"):
        read_content(path)
    with pytest.raises(ModelError, match=r"holds objects .* Convert it"):
        read_content(path, advice="Convert it")


def test_weights_fit_all_or_nothing(network):
    before = fingerprint(network)
    with pytest.raises(ModelError, match=r"1 missing \(bias\), 1 unexpected \(a\), 1 of another"):
        fit_weights(network, {"a": torch.ones(1), "weight": torch.ones(1)}, "x.pt", "small")
    assert fingerprint(network) == before
    fit_weights(network, {k: v + 1 for k, v in network.state_dict().items()}, "x.pt", "small")
    assert fingerprint(network) != before
    assert (few([]), few(["a"]), few(["a", "b", "c"])) == ("", " (a)", " (a, b, ...)")
