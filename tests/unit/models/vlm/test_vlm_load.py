"""Opening video models: names, folders, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch

from vision_mem.errors import InputError, MissingExtra, ModelError
from vision_mem.models.vlm import load
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.models.vlm.load import load_video_model
from vision_mem.models.vlm.random import random_network


@pytest.fixture(scope="module")
def library():
    from vision_mem.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    return pytest.importorskip("transformers", reason="needs the transformers library")


@pytest.fixture(scope="module")
def folders(library, tmp_path_factory):
    from videoqa_backbone_samples import KINDS, tiny

    places = {}
    for kind in KINDS:
        places[kind] = tmp_path_factory.mktemp("models") / kind
        tiny(kind)._network.save_pretrained(places[kind])
        tiny(kind)._tokenizer.save_pretrained(places[kind])
    return places


@pytest.fixture(autouse=True)
def _no_other_words(capfd):
    """The library writes nothing of its own."""
    yield
    assert capfd.readouterr().err == ""


def refused(model, **settings):
    """The message, when it is one line that a user can act on."""
    with pytest.raises((ModelError, InputError, MissingExtra)) as caught:
        load_video_model(str(model), device="cpu", **settings)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700, text
    return text


@pytest.mark.parametrize("kind", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl", "llava-onevision"])
def test_a_saved_folder_answers_as_before(kind, folders) -> None:
    from videoqa_backbone_samples import QUESTION, clip, context, said, tiny

    model, made = load_video_model(str(folders[kind]), device="cpu"), tiny(kind)
    assert type(model) is type(made)
    assert model.traits.model_id.startswith(f"{kind}#")
    assert model.traits.width == 64
    given = context(model, clip())
    assert torch.equal(given.tokens, context(made, clip()).tokens)
    answers = [said(m.answer(given, QUESTION, max_tokens=8)) for m in (model, made)]
    assert answers[0] == answers[1]


def test_a_folder_in_the_published_form(folders, tmp_path) -> None:
    """Flat configuration, old names of weights, one table for words in and words out."""
    from safetensors.torch import load_file, save_file
    from videoqa_backbone_samples import QUESTION, clip, context, said, tiny

    place = tmp_path / "published"
    shutil.copytree(folders["qwen2.5-vl"], place)
    config = json.loads((place / "config.json").read_text())
    text, vision = config.pop("text_config"), config.pop("vision_config")
    known = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    known += ("num_key_value_heads", "vocab_size", "bos_token_id", "eos_token_id", "hidden_act")
    known += ("max_position_embeddings", "rms_norm_eps")
    flat = {name: text[name] for name in known}
    flat |= {name: value for name, value in config.items() if name.endswith("_token_id")}
    seen = ("depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size")
    seen += ("fullatt_block_indexes", "tokens_per_second", "hidden_act", "window_size")
    flat |= {
        "model_type": "qwen2_5_vl",
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vision_config": {name: vision[name] for name in seen},
    }
    (place / "config.json").write_text(json.dumps(flat))
    state = load_file(place / "model.safetensors")
    old = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value
        for name, value in state.items()
        if name != "lm_head.weight"
    }
    assert {name.split(".")[0] for name in old} == {"model", "visual"}
    save_file(old, place / "model.safetensors", metadata={"format": "pt"})
    model, made = load_video_model(str(place), device="cpu"), tiny("qwen2.5-vl")
    assert model.traits.tokens_per_second == 2.0
    given = context(model, clip())
    assert torch.equal(given.tokens, context(made, clip()).tokens)
    network = model._network
    assert network.lm_head.weight is network.get_input_embeddings().weight
    assert network.dtype == torch.float32
    assert said(model.answer(given, QUESTION, max_tokens=4))[0] is not None
    # Tied or not is the only difference to the network that was saved.
    network.lm_head.weight = made._network.lm_head.weight
    assert said(model.answer(given, QUESTION)) == said(made.answer(given, QUESTION))


def test_names(library) -> None:
    assert isinstance(load_video_model("fake"), FakeVideoModel)
    one = load_video_model("random:qwen2-vl-tiny", device="cpu").traits.model_id
    assert load_video_model("random:qwen2-vl-tiny", device="cpu").traits.model_id == one
    other = load_video_model("random:qwen2-vl-tiny@7", device="cpu").traits.model_id
    assert other.split("#")[1] != one.split("#")[1]
    # The weights are drawn by numpy: the same everywhere.
    assert one == "random:qwen2-vl-tiny#d0a5c23e"


def test_the_large_random_model_has_the_published_shape(library) -> None:
    network = random_network("qwen2.5-vl-3b", torch.device("meta"), torch.bfloat16, None)
    assert sum(weight.numel() for weight in network.parameters()) == 3_754_622_976
    assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("qwen", ("no video model 'qwen'", "did you mean 'qwen3-vl-2b'?")),
        ("/nowhere/model", ("no video model", "a folder with config.json")),
        ("a/b/c", ("no video model",)),
        ("random:qwen9", ("no random model 'qwen9'", "qwen2.5-vl-tiny")),
        ("random:qwen2-vl-tiny@x", ("'x' is not a seed",)),
        ("random:qwen2-vl-tiny@99999999999", ("is not a seed",)),
    ],
)
def test_unknown_names(model, words) -> None:
    text = refused(model)
    assert all(word in text for word in words), text


def test_a_file_is_no_model(tmp_path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    assert "no video model" in refused(tmp_path / "model.pt")
    assert "not a folder of a video model" in refused(tmp_path)


def test_without_network_the_message_says_what_to_fetch(library, monkeypatch) -> None:
    import huggingface_hub

    def offline(*args, **options):
        if options.get("local_files_only"):
            raise FileNotFoundError("not in the cache")
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    for model, name in (
        ("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("someone/something", "someone/something"),
    ):
        text = refused(model)
        assert f"https://huggingface.co/{name} " in text and "give its path" in text


def test_without_the_library_the_message_names_the_command(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for model in ("qwen2.5-vl-3b", "random:qwen2-vl-tiny", tmp_path):
        with pytest.raises(MissingExtra, match=r'pip install "vision-mem\[vlm\]"'):
            load_video_model(str(model), device="cpu")


def _cut(name, keep):
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:keep])


def _config(**changes):
    def change(place):
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _pickle(place):
    torch.save({"x": torch.zeros(1)}, place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()


def _thinner(place):
    from safetensors.torch import load_file, save_file

    state = load_file(place / "model.safetensors")
    (name,) = (name for name in state if name.endswith("visual.merger.ln_q.weight"))
    del state[name]
    save_file(state, place / "model.safetensors", metadata={"format": "pt"})


def _other_shape(place):
    _config(vision_config={"depth": 4, "hidden_size": 32, "num_heads": 2})(place)


def _vast(place):
    config = json.loads((place / "config.json").read_text())
    _config(text_config={**config["text_config"], "hidden_size": 10**7})(place)


def _plain_words(place):
    text = (place / "tokenizer.json").read_text()
    (place / "tokenizer.json").write_text(text.replace("<|im_start|>", "<|begin|>"))


def _colours(place):
    given = {"image_mean": [0.5, "x", 0.5], "image_std": [1, 1, 1]}
    (place / "preprocessor_config.json").write_text(json.dumps(given))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_cut("model.safetensors", 1000), "cannot be loaded"),
        (_cut("model.safetensors", 0), "cannot be loaded"),
        (_cut("config.json", 40), "not JSON"),
        (lambda place: (place / "config.json").write_text("[1]"), "not JSON"),
        (lambda place: (place / "config.json").write_text("[" * 100_000), "not JSON"),
        (lambda place: (place / "config.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda place: (place / "config.json").unlink(), "not a folder of a video model"),
        (_config(model_type="bert"), "network of kind 'bert'; expected one of qwen2_vl"),
        (_config(model_type=["x"]), "network of kind"),
        (_config(text_config={"hidden_size": "wide"}), "cannot be loaded"),
        (_config(model_type="qwen3_vl"), ""),
        (_other_shape, "other shapes than its config.json says"),
        (_vast, "other shapes"),
        (_pickle, "no whole set of .safetensors"),
        (_thinner, "lacks 1 of its network's weights (first: model.visual.merger.ln_q"),
        (_cut("tokenizer.json", 100), "cannot be loaded"),
        (lambda place: (place / "tokenizer.json").unlink(), ""),
        (_plain_words, "no token <|im_start|>"),
        (_colours, "not three numbers"),
    ],
)
def test_damaged_folders(change, word, folders, tmp_path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(folders["qwen2.5-vl"], place)
    change(place)
    assert word in refused(place)


def test_code_that_comes_with_weights_is_not_run(folders, tmp_path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(folders["qwen2.5-vl"], place)
    touched = tmp_path / "touched"
    (place / "mine.py").write_text(f"open({str(touched)!r}, 'w')\n")
    mapped = {"AutoConfig": "mine.Mine", "AutoTokenizer": ["mine.Mine", None]}
    _config(model_type="mine", auto_map=mapped)(place)
    assert "network of kind 'mine'" in refused(place)
    _config(model_type="qwen2_5_vl", auto_map=mapped)(place)
    load_video_model(str(place), device="cpu")
    assert not touched.exists()


def test_settings(folders, tmp_path) -> None:
    from videoqa_backbone_samples import clip

    place = str(folders["qwen2.5-vl"])
    small = load_video_model(place, device="cpu", min_tokens=1, max_tokens=6)
    assert len(small.encode_grid(clip(2)).tokens) <= 6
    assert "min_tokens is 9" in refused(place, min_tokens=9, max_tokens=6)
    assert "cannot take the settings ['places']" in refused(place, places="gaps")
    assert "places is 'x'" in refused(folders["llava-onevision"], places="x")
    with pytest.raises(InputError, match="no device 'toaster'"):
        load_video_model(place, device="toaster")
    # Colours of the folder's own processor are taken.
    other = tmp_path / "copy"
    shutil.copytree(place, other)
    given = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}
    (other / "preprocessor_config.json").write_text(json.dumps(given))
    tinted = load_video_model(str(other), device="cpu").encode_grid(clip(2)).tokens
    assert not torch.equal(
        tinted, load_video_model(place, device="cpu").encode_grid(clip(2)).tokens
    )


def test_other_weights_have_another_name(folders, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    place = tmp_path / "copy"
    shutil.copytree(folders["qwen2.5-vl"], place)
    same = load._folder_hash(place)
    assert same == load._folder_hash(folders["qwen2.5-vl"])
    state = load_file(place / "model.safetensors")
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    save_file(state, place / "model.safetensors", metadata={"format": "pt"})
    assert load._folder_hash(place) != same
