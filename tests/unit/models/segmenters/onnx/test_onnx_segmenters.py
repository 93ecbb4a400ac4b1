"""Segmenters as graphs: what is written, what is refused, and that results stay those of torch."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hf_segmenters
import numpy as np
import pytest
import torch

from vision_mem import cli
from vision_mem.config import load_config
from vision_mem.errors import InputError, VisionMemError
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.label_propagation import VotingMemory, find_again, vote
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.models.segmenters.load import check_model, load_segmenter
from vision_mem.models.segmenters.onnx.graphs import FORMAT, MANIFEST, VERSION, SeamGraphs
from vision_mem.models.segmenters.onnx.graphs import read_manifest as read
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt

SMALL = EmbeddedConfig(window=96, scene_side=96)
FRAMES, FULL = 48, 32
"""Of long runs, and when memories are full; ``scripts/bench/graphs.py`` takes 200."""


# -- folders that cannot be used ---------------------------------------------------------------


def _manifest(**changes: Any) -> dict[str, Any]:
    seam = {
        "file": "image_encoder.onnx", "sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5,
        "about": "", "inputs": {}, "outputs": {}, "difference": {},
    }  # fmt: skip
    config = {"config": {}, "config_fingerprint": EmbeddedConfig().fingerprint, "fingerprint": "0"}
    return {
        "format": FORMAT, "version": VERSION, "kind": "embedded", "model": "embedded",
        "model_id": "embedded#0", "constants": config, "seams": {"image_encoder": seam},
        "versions": {}, **changes,
    }  # fmt: skip


def _seam(**changes: Any) -> dict[str, Any]:
    whole = _manifest()["seams"]["image_encoder"]
    return {"image_encoder": {**whole, **changes}}


REFUSED = {
    "no manifest": (None, "holds no exported model"),
    "no JSON": ("{", "is not JSON"),
    "a list": ([], "of another program"),
    "another program": (_manifest(format="other"), "of another program"),
    "a later version": (_manifest(version=2), "is of version 2; expected version 1"),
    "no seams": (_manifest(seams=None), "is damaged; export it anew"),
    "a seam without file": ({**_manifest(), "seams": {"a": {}}}, "is damaged"),
    "a file elsewhere": (_manifest(seams=_seam(file="../a.onnx")), "is damaged"),
    "a number for a name": (_manifest(model_id=3), "is damaged"),
    "a graph that is gone": (_manifest(seams=_seam(file="gone.onnx")), "gone.onnx is missing"),
    "a changed graph": (_manifest(seams=_seam(sha256="0" * 64)), "its checksum differs"),
    "another kind": (_manifest(kind="sam9"), "of the kind 'sam9'"),
    "other constants": (
        _manifest(constants={"config": {"memories": 5}, "config_fingerprint": "0"}),
        "exported with other constants",
    ),
    "unknown constants": (_manifest(constants={"config": {"a": 5}}), "other constants"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name):
    content, words = REFUSED[name]
    (tmp_path / "image_encoder.onnx").write_bytes(b"graph")
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(VisionMemError) as caught:
        load_segmenter(str(tmp_path), device="cpu")
    said = str(caught.value)
    assert words in said and caught.value.exit_code == 2
    assert "\n" not in said and "None" not in said and len(said) < 300


def test_a_folder_without_manifest_is_told_before_torch(tmp_path):
    with pytest.raises(VisionMemError, match="holds no exported model"):
        check_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    check_model(str(tmp_path))  # of another program, which others may know


def test_a_folder_does_not_hide_a_name(tmp_path, monkeypatch):
    (tmp_path / "embedded").mkdir()
    monkeypatch.chdir(tmp_path)
    check_model("embedded")
    assert load_segmenter("embedded", device="cpu").traits.model_id.startswith("embedded#")


def test_without_the_runtime(tmp_path, monkeypatch):
    (tmp_path / "image_encoder.onnx").write_bytes(b"graph")
    (tmp_path / MANIFEST).write_text(json.dumps(_manifest()))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'vision-mem\[onnx\]'"):
        load_segmenter(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"precision": "bf16"}, "--precision bf16"),
        ({"compile": True}, "--compile"),
        ({"attention": "folded"}, "--attention folded"),
    ],
)
def test_options_of_torch_are_refused(tmp_path, options, word):
    (tmp_path / "image_encoder.onnx").write_bytes(b"graph")
    (tmp_path / MANIFEST).write_text(json.dumps(_manifest()))
    with pytest.raises(InputError, match=word):
        load_segmenter(str(tmp_path), device="cpu", **options)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["embedded", "--format", "coreml"], "no format 'coreml'; expected onnx"),
        (["embeded"], "did you mean 'embedded'"),
        (["gone.pt"], "checkpoint gone.pt is missing"),
        (["embedded", "--out", "FILE"], "is a file; expected a folder"),
        (["embedded", "--out", "."], "holds other files"),
        (["embedded", "--out", "done"], "holds graphs already; give --overwrite"),
        (["done"], "is exported already"),
    ],
)
def test_slips_of_typing(tmp_path, monkeypatch, capsys, words, says):
    (tmp_path / "FILE").write_text("")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / MANIFEST).write_text(json.dumps(_manifest(seams={})))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", *words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_export_without_its_packages(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", "embedded", "--out", str(tmp_path / "a")]) == 2
    assert "pip install 'vision-mem[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_model_that_has_no_graphs(tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    words = ["export", "vision_mem.models.segmenters.fake:FakeSegmenter"]
    assert cli.main([*words, "--out", str(tmp_path / "a")]) == 2
    assert "cannot be exported; expected embedded, a SAM 2" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


# -- beside torch ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One model in torch, and the folder that was made of it."""

    plain: Any
    folder: Path

    @property
    def graphs(self) -> Any:
        return load_segmenter(str(self.folder), device="cpu")


def _pair(folder: Path, segmenter: Any, name: str) -> Pair:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from vision_mem.models.segmenters.onnx.export import write_graphs

    torch.set_num_threads(1)
    write_graphs(segmenter, name, folder)
    return Pair(segmenter, folder)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    made = EmbeddedSegmenter.load("cpu", "fp32", SMALL)
    return _pair(tmp_path_factory.mktemp("embedded"), made, "embedded")


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    made = load_segmenter("random:sam2.1_hiera_t@64", device="cpu", precision="fp32")
    return _pair(tmp_path_factory.mktemp("sam2"), made, "random:sam2.1_hiera_t@64")


@pytest.fixture(scope="module", params=hf_segmenters.KINDS)
def of_transformers(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    place = tmp_path_factory.mktemp(request.param)
    hf_segmenters.network(request.param).save_pretrained(place / "network")
    made = load_segmenter(str(place / "network"), device="cpu", precision="fp32")
    return _pair(place / "graphs", made, request.param)


def _frame(t: int) -> Frame:
    """A red and a blue square on a texture; the red one is away on some frames."""
    y, x = np.mgrid[:96, :160]
    texture = (x * 3 + y * 5 + 20 * ((x // 8 + y // 8) % 2)) % 120 + 60
    image = np.repeat(texture[..., None], 3, axis=2).astype(np.uint8)
    left, up = 10 + (3 * t) % 90, 10 + t % 30
    image[up : up + 28, 125:150] = (30, 60, 220)
    if not 18 <= t % 60 < 24:
        image[50:80, left : left + 30] = (220, 40, 30)
    return Frame(t, t / 25.0, image)


def _prompts(t: int) -> list[Prompt]:
    mask = np.zeros((96, 160), bool)
    mask[54:76, 22:40] = True
    return {
        0: [Prompt(object_id=1, box=(10, 50, 40, 80))],
        2: [Prompt(object_id=2, points=[(135, 25)])],
        4: [Prompt(object_id=1, points=[(30, 60), (80, 20)], labels=[1, 0])],
        5: [Prompt(object_id=3, mask=mask)],
    }.get(t, [])


@dataclass
class Deviation:
    """What was largest over a run: of low-resolution logits, of scores; the worst mask IoU."""

    logit: float = 0.0
    score: float = 0.0
    iou: float = 1.0
    bytes: tuple[int, ...] = ()


def _logits(segmenter: Any, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the segmenter decodes from now on."""
    seen: list[torch.Tensor] = []
    for name in ("decode", "decode_prompt"):
        inner = getattr(segmenter, name)

        def told(*given: Any, _inner: Any = inner, **more: Any) -> Any:
            made = _inner(*given, **more)
            seen.append(made.logits)
            return made

        monkeypatch.setattr(segmenter, name, told)
    return seen


def _deviation(pair: Pair, preset: str, frames: int, monkeypatch: Any) -> Deviation:
    config = load_config(TrackingConfig, preset, folder="tracking")
    both = [pair.plain, pair.graphs]
    seen = [_logits(one, monkeypatch) for one in both]
    sessions = [TrackingSession(one, config) for one in both]
    worst = Deviation()
    for t in range(frames):
        one, other = (session.step(_frame(t), _prompts(t)) for session in sessions)
        for a, b in zip(one.objects, other.objects, strict=True):
            union = int((a.mask | b.mask).sum())
            iou = int((a.mask & b.mask).sum()) / union if union else 1.0
            worst.iou, worst.score = min(worst.iou, iou), max(worst.score, abs(a.score - b.score))
        for a, b in zip(*seen, strict=True):
            assert ((a > -1000) == (b > -1000)).all()
            worst.logit = max(worst.logit, float((a - b).abs().max()))
        [some.clear() for some in seen]
        worst.bytes += (sessions[1].usage().bytes,)
        assert worst.bytes[-1] == sessions[0].usage().bytes
    return worst


def test_the_manifest_says_what_is_there(embedded):
    manifest = read(embedded.folder)
    assert set(manifest.seams) == {"image_encoder", "memory_attention", "mask_decoder", "search"}
    votes = manifest.seams["memory_attention"]
    assert votes.inputs["tokens"] == {
        "dtype": "float32", "shape": ["objects", "memories", 144, 152],
    }  # fmt: skip
    assert votes.outputs["votes"]["shape"] == ["objects", 4, 12, 12]
    assert manifest.constants["config"]["window"] == 96
    assert {"vision-mem", "torch", "onnx", "opset"} <= set(manifest.versions)
    for each in manifest.seams.values():
        content = (embedded.folder / each.file).read_bytes()
        assert each.bytes == len(content) and each.sha256 == hashlib.sha256(content).hexdigest()
        assert all(value < 1e-3 for value in each.difference.values())


@pytest.mark.parametrize("memories", [1, 2, 7])
def test_votes_of_any_number_of_memories(embedded, memories):
    random = torch.Generator().manual_seed(memories)
    size = SMALL.tokens**2
    tokens = torch.nn.functional.normalize(torch.randn(memories + 2, size, 152, generator=random))
    masks = torch.rand(memories, size, generator=random)
    entries = [
        VotingMemory(tokens[n], masks[n], 0.5 / (n + 1), n % 2 == 0, n % 3 == 0)
        for n in range(memories)
    ]
    networks = embedded.graphs.networks
    for query in tokens[-2:]:
        np.testing.assert_allclose(
            networks.vote(query, entries), vote(query, entries, SMALL), atol=1e-4
        )
        np.testing.assert_allclose(
            networks.find_again(query, (12, 12), entries),
            find_again(query, (12, 12), entries, SMALL.temperature), atol=1e-4,
        )  # fmt: skip
    # Two objects in one call are as one by one.
    graphs = SeamGraphs(embedded.folder, read(embedded.folder), "cpu", ("memory_attention",))
    told = {
        "tokens": tokens[:memories].expand(2, -1, -1, -1), "mask": masks.expand(2, -1, -1),
        "share": torch.tensor([[entry.share for entry in entries]] * 2),
        "prompted": torch.tensor([[entry.prompted for entry in entries]] * 2),
        "exact": torch.tensor([[entry.exact for entry in entries]] * 2),
    }  # fmt: skip
    found = graphs.run("memory_attention", {"query": tokens[-2:], **told})[0]
    for query, votes in zip(tokens[-2:], found, strict=True):
        np.testing.assert_allclose(votes, networks.vote(query, entries), atol=1e-5)


def test_a_snapshot_goes_on_as_the_run_would_have(embedded, tmp_path):
    model = embedded.graphs
    straight, halves = (TrackingSession(model, TrackingConfig()) for _ in range(2))
    wanted = [straight.step(_frame(t), _prompts(t)) for t in range(5)]
    for t in range(3):
        halves.step(_frame(t), _prompts(t))
    halves.snapshot(tmp_path / "half")
    again = TrackingSession.resume(tmp_path / "half", embedded.graphs)
    for t in range(3, 5):
        result = again.step(_frame(t), _prompts(t))
        for one, other in zip(result.objects, wanted[t].objects, strict=True):
            assert (one.mask == other.mask).all() and one.score == other.score
    with pytest.raises(VisionMemError, match="-onnx"):
        TrackingSession.resume(tmp_path / "half", embedded.plain)


def test_a_graph_with_other_inputs_is_refused(embedded, tmp_path):
    for path in embedded.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    seams = manifest["seams"]
    seams["mask_decoder"] = {**seams["search"], "inputs": seams["mask_decoder"]["inputs"]}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has other inputs than"):
        load_segmenter(str(tmp_path), device="cpu")
    seams["mask_decoder"] = {**seams["search"], "sha256": hashlib.sha256(b"?").hexdigest()}
    seams["mask_decoder"]["file"] = "bad.onnx"
    (tmp_path / "bad.onnx").write_bytes(b"?")
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(VisionMemError, match="no ONNX file"):
        load_segmenter(str(tmp_path), device="cpu")


def test_the_loop_beside_torch(embedded, monkeypatch):
    worst = _deviation(embedded, "samurai", 6, monkeypatch)
    assert worst.iou >= 0.99 and worst.logit < 0.01 and worst.score < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["samurai", "dam4sam"])
def test_many_frames_of_the_embedded_one(embedded, preset, monkeypatch):
    worst = _deviation(embedded, preset, FRAMES, monkeypatch)
    assert worst.iou >= 0.99 and worst.logit < 0.05 and worst.score < 1e-3
    # Memory has its size: what varies is how many parts of a mask are kept, by a kilobyte or so.
    if preset == "samurai":  # that of dam4sam fills more slowly, see the script
        assert max(worst.bytes[FULL:]) <= 1.02 * max(worst.bytes[:FULL])


@pytest.mark.slow
def test_many_frames_of_sam2(sam2, monkeypatch):
    worst = _deviation(sam2, "samurai", FRAMES, monkeypatch)
    # Untrained networks give masks of few pixels, some of them as good as on the border.
    assert worst.iou >= 0.9 and worst.logit < 0.05 and worst.score < 1e-3
    assert max(worst.bytes[FULL:]) <= max(worst.bytes[:FULL])


@pytest.mark.slow
def test_networks_of_transformers_beside_torch(of_transformers, monkeypatch):
    worst = _deviation(of_transformers, "samurai", 12, monkeypatch)
    assert worst.iou >= 0.99 and worst.logit < 1e-3 and worst.score < 1e-4
    assert of_transformers.graphs.traits.max_prompts == of_transformers.plain.traits.max_prompts


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", [{"fine": None}, {"memory_type": "int3"}, {"context_size": [8]}, {"preparation": {}}]
)
def test_constants_of_transformers_that_are_damaged(of_transformers, tmp_path, wrong):
    for path in of_transformers.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["constants"] |= wrong
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest.json is damaged; export the model anew"):
        load_segmenter(str(tmp_path), device="cpu")


@pytest.mark.slow
def test_networks_of_transformers_go_on_from_a_snapshot(of_transformers, tmp_path, monkeypatch):
    def gone(*given: Any) -> None:
        raise AssertionError("the library is not needed to run graphs")

    monkeypatch.setattr("vision_mem.models.segmenters.transformers.transformers_library", gone)
    _goes_on_from_a_snapshot(of_transformers, tmp_path)


@pytest.mark.slow
def test_sam2_goes_on_from_a_snapshot_and_takes_objects_together(sam2, tmp_path):
    _goes_on_from_a_snapshot(sam2, tmp_path)


def _goes_on_from_a_snapshot(sam2: Pair, tmp_path: Path) -> None:
    config = load_config(TrackingConfig, "sam2", {"batch_objects": "on"}, folder="tracking")
    model = sam2.graphs
    assert model.traits.model_id.endswith("-onnx")
    straight, halves, plain = (TrackingSession(one, config) for one in (model, model, sam2.plain))
    wanted = []
    for t in range(12):
        wanted.append(straight.step(_frame(t), _prompts(t)))
        torch_too = plain.step(_frame(t), _prompts(t))
        for one, other in zip(wanted[-1].objects, torch_too.objects, strict=True):
            assert (one.mask != other.mask).mean() < 1e-3
        if t < 7:
            halves.step(_frame(t), _prompts(t))
    halves.snapshot(tmp_path / "half")
    again = TrackingSession.resume(tmp_path / "half", sam2.graphs)
    for t in range(7, 12):
        result = again.step(_frame(t), _prompts(t))
        for one, other in zip(result.objects, wanted[t].objects, strict=True):
            assert (one.mask == other.mask).all() and one.score == other.score


@pytest.mark.slow
def test_the_command(tmp_path, small_clip, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "graphs"
    assert cli.main(["export", "embedded", "--format", "onnx", "--out", str(out)]) == 0
    assert f"--model {out}" in capsys.readouterr().out
    words = ["track", str(small_clip), "--box", "30,28,40,40", "--save", "lasot", "--quiet"]
    words += ["--max-frames", "6"]
    for name, model in {"torch": "embedded", "onnx": str(out)}.items():
        run = [*words, "--model", model, "--out", str(tmp_path / name)]
        assert cli.main([*run, *["--precision", "fp32"] * (name == "torch")]) == 0
    boxes = [
        np.loadtxt(next((tmp_path / name / "lasot").glob("*.txt")), delimiter=",")
        for name in ("torch", "onnx")
    ]
    np.testing.assert_allclose(*boxes, atol=1)
    assert cli.main(["export", "embedded", "--out", str(out), "--overwrite", "--quiet"]) == 0
