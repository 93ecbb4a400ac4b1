"""The mask decoder: what it does untrained and trained, its file, and how it learns."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from random_scenes import Difficulty, random_scene
from safetensors.torch import load_file, save_file

from vision_mem.errors import ModelError
from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.embedded import mask_decoder
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.frame import PreparedFrame
from vision_mem.models.segmenters.embedded.label_propagation import VotingMemory, vote
from vision_mem.models.segmenters.embedded.mask_decoder import MaskDecoder
from vision_mem.models.segmenters.embedded.networks import EmbeddedNetworks
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.synthetic.clips import SyntheticClip
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt

EASY = Difficulty(camouflage=0, part=0, pillar=0, fence=0, small=0, twin=0)
SCRIPTS = ("embedded_lessons", "train_embedded", "nano_clips", "nano_pictures")


@pytest.fixture(scope="module")
def scripts():
    """The training scripts as modules."""
    root = Path(__file__).parents[5] / "scripts" / "train"
    sys.path.insert(0, str(root))
    try:
        yield {name: importlib.import_module(name) for name in SCRIPTS}
    finally:
        sys.path.remove(str(root))


@pytest.fixture(scope="module")
def pictures(scripts, tmp_path_factory):
    gather = scripts["nano_pictures"].gather
    return gather(scripts["nano_pictures"].Folders(), tmp_path_factory.mktemp("pictures"))


def inputs(seed=0, batch=2):
    random = torch.Generator().manual_seed(seed)
    shapes = (152, 8, 8), (24, 16, 16), (3, 32, 32), (4, 8, 8)
    made = [torch.rand(batch, *shape, generator=random) for shape in shapes]
    made[0] = torch.nn.functional.normalize(made[0], dim=1)
    return made


@torch.no_grad()
def test_untrained_it_gives_back_the_votes():
    given = inputs()
    logits = MaskDecoder()(*given)
    assert logits.shape == (2, 32, 32)
    said = torch.logit(given[3][:, :1], eps=1e-3)
    wanted = torch.nn.functional.interpolate(said, scale_factor=4, mode="bilinear")[:, 0]
    torch.testing.assert_close(logits, wanted)
    tokens = given[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(MaskDecoder().comparable(tokens), tokens)


def test_it_is_small_and_its_weights_are_in_the_package():
    decoder = MaskDecoder.load_packaged()
    assert sum(p.numel() for p in decoder.parameters()) < 120_000
    assert mask_decoder._FILE.stat().st_size < 300_000
    assert not any(p.requires_grad for p in decoder.parameters())
    assert decoder.fingerprint not in ("random", MaskDecoder().fingerprint)


def test_a_damaged_file_is_one_line(monkeypatch, tmp_path):
    content = load_file(mask_decoder._FILE)
    for name, write in {
        "missing": lambda path: None,
        "garbage": lambda path: path.write_bytes(b"no weights"),
        "less": lambda path: save_file(dict(list(content.items())[1:]), path),
        "other": lambda path: save_file({k: v[None] for k, v in content.items()}, path),
    }.items():
        path = tmp_path / f"{name}.safetensors"
        write(path)
        monkeypatch.setattr(mask_decoder, "_FILE", path)
        with pytest.raises(ModelError, match="reinstall") as caught:
            MaskDecoder.load_packaged()
        assert "\n" not in str(caught.value)


def test_what_is_learned_can_be_left_out():
    plain = EmbeddedSegmenter.load("cpu", config=EmbeddedConfig(decoder_share=0))
    learned = EmbeddedSegmenter.load("cpu")
    assert plain.traits.model_id != learned.traits.model_id
    clip = list(SyntheticClip(random_scene(3, Difficulty(), 4)))
    found = []
    for segmenter in (plain, learned):
        session = TrackingSession(segmenter, TrackingConfig())
        for index, shown in enumerate(clip):
            prompts = [Prompt(mask=shown.mask)] if index == 0 else []
            result = session.step(Frame(index, index / 30, shown.image), prompts)
        found.append(result.objects[0].mask)
    assert (found[0] != found[1]).any()


def test_masks_of_boxes_are_mended_inside_the_box():
    shown = next(iter(SyntheticClip(random_scene(11, EASY, 1))))
    frame, config = Frame(0, 0.0, shown.image), EmbeddedConfig()
    payload, _ = PreparedFrame.of(frame, config)
    x1, y1, x2, y2 = (int(value) for value in mask_to_box(shown.mask))
    box, whole = np.array([x1, y1, x2, y2], np.float32), np.zeros_like(shown.mask)
    whole[y1:y2, x1:x2] = True
    trunk = EfficientNetLite0.load_packaged()
    made = {}
    for name, decoder in {"learned": MaskDecoder.load_packaged(), "none": None}.items():
        networks = EmbeddedNetworks(trunk, decoder, torch.device("cpu"), torch.float32, config)
        made[name] = networks.mended(payload, whole, box)
        assert not networks.mended(payload, np.zeros_like(whole), box).any()
    assert (made["none"] == whole).all()
    assert made["learned"].any() and not made["learned"][~whole].any()
    overlap = [np.sum(m & shown.mask) / np.sum(m | shown.mask) for m in made.values()]
    assert overlap[0] > overlap[1] + 0.02


# -- learning ----------------------------------------------------------------------------------


def test_windows_hold_what_they_promise(scripts, pictures):
    store = scripts["nano_pictures"].Pictures(pictures)
    config = EmbeddedConfig(window=64)
    draw = scripts["embedded_lessons"].draw_windows
    one, again = (draw(store, np.random.default_rng(4), 3, 2, 128, config) for _ in range(2))
    assert one.pictures.shape == (3, 3, 64, 64, 3) and one.masks.shape == (3, 3, 32, 32)
    assert one.given.shape == (3, 8, 8) and one.given.max() > 0.5
    assert ((one.outside >= 0) & (one.outside <= 1)).all()
    assert all(torch.equal(getattr(one, name), getattr(again, name)) for name in vars(one))
    # The first window is around what was prompted.
    rows, columns = np.nonzero(one.given[0].numpy() > 0.5)
    assert 2 < rows.mean() < 5 and 2 < columns.mean() < 5


def test_it_learns_from_the_votes_that_tracking_makes(scripts):
    config = EmbeddedConfig(window=64)
    random = torch.Generator().manual_seed(0)

    def units():
        tokens = torch.randn(64, 152, generator=random)
        return torch.nn.functional.normalize(tokens + 2, dim=1)

    query, memory = units(), [(units(), torch.rand(64, generator=random)) for _ in range(3)]
    ones = torch.ones(1)
    batch = [(tokens[None], mask[None], ones, n == 0) for n, (tokens, mask) in enumerate(memory)]
    taught = scripts["embedded_lessons"].votes_of(query[None], batch, ones, config)[0]
    share = [config.prompt_share, *[(1 - config.prompt_share) / 2] * 2]
    entries = [
        VotingMemory(tokens, mask, s, n == 0)
        for n, ((tokens, mask), s) in enumerate(zip(memory, share, strict=True))
    ]
    np.testing.assert_allclose(taught, vote(query, entries, config), atol=1e-4)


def test_parts_of_things_are_things(scripts, pictures):
    store = scripts["nano_pictures"].Pictures(pictures)
    render = scripts["nano_clips"].render_clip
    for seed in range(6):
        clip = render(store, np.random.default_rng(seed), 3, 128, parts=1.0)
        ((part, whole),) = clip.parts.items()
        assert (clip.mask(whole) >= clip.mask(part)).all()
        if part in clip.targets:
            assert clip.mask(part)[0].sum() < clip.mask(whole)[0].sum()


def some_pictures(folder):
    """Cut-outs and photographs: discs and noise."""
    random = np.random.default_rng(0)
    for name in ("cutouts", "backgrounds"):
        (folder / name).mkdir()
    for n in range(6):
        picture = random.integers(0, 255, (60, 60, 4), dtype=np.uint8)
        cv2.circle(alpha := np.zeros((60, 60), np.uint8), (30, 30), 14 + n, 255, -1)
        picture[..., 3] = alpha
        cv2.imwrite(str(folder / "cutouts" / f"{n}.png"), picture)
        photo = cv2.resize(random.integers(0, 255, (90, 120, 3), dtype=np.uint8), (320, 240))
        cv2.imwrite(str(folder / "backgrounds" / f"{n}.jpg"), photo)
    return [f"--{name}={folder / name}" for name in ("cutouts", "backgrounds")]


def test_a_run_that_was_cut_in_two_is_the_same_run(scripts, tmp_path):
    train = scripts["train_embedded"]
    words = [*some_pictures(tmp_path), "--cache", str(tmp_path), "--device", "cpu"]
    words += ["--threads", "1", "--steps", "4", "--objects", "2", "--later", "2", "--side", "96"]
    words += ["--check-clips", "2", "--check-every", "0", "--report-every", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.main(["--out", str(whole), *words]) == 0
    assert train.main(["--out", str(parts), *words, "--minutes", "1e-6"]) == 0
    assert train.main(["--out", str(parts), *words, "--resume"]) == 0
    one, other = (load_file(out / "mask_decoder.safetensors") for out in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "checks.csv").read_text().startswith("step,loss,")
    init = str(whole / "mask_decoder.safetensors")
    assert train.main(["--out", str(tmp_path / "next"), *words, "--init", init]) == 0


def test_wrong_use_is_one_line(scripts, tmp_path, capsys, pictures):
    train = scripts["train_embedded"]
    words = ["--out", str(tmp_path), "--device", "cpu", "--threads", "1"]
    assert train.main([*words, "--cache", str(pictures.parent)]) == 2
    assert train.main([*words, *some_pictures(tmp_path), "--resume"]) == 2
    assert train.main([*words, "--pictures", str(tmp_path / "none.zip")]) == 2
    foreign = tmp_path / "foreign.safetensors"
    save_file({"other": torch.zeros(3)}, foreign)
    given = [f"--cutouts={tmp_path / 'cutouts'}", f"--backgrounds={tmp_path / 'backgrounds'}"]
    assert train.main([*words, *given, "--init", str(foreign)]) == ModelError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines)
