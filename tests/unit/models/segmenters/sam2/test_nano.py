"""``nano``: its size, that SAM 2's own package runs it, that ours does, and that it learns."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from vision_mem.config import load_config
from vision_mem.errors import InputError, ModelError
from vision_mem.models import load_segmenter
from vision_mem.models.checkpoint import fill_random, fingerprint
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.sam2 import load as sam2_load
from vision_mem.models.segmenters.sam2.load import build_network, guess_config, read_config
from vision_mem.models.segmenters.sam2.nano_trunk import NanoTrunk
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    made = build_network(read_config("nano"))
    fill_random(made)
    return sees_it(made)


def sees_it(network):
    """Random weights with a bias: with none, they may say that nothing is ever there."""
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(9.0)
    return network


@pytest.fixture(scope="module")
def scripts(root):
    """The modules of the training script."""
    sys.path.insert(0, str(root / "scripts" / "train"))
    try:
        import nano_clips
        import nano_lessons
        import nano_pack
        import nano_pictures
        import nano_pseudo
        import train_nano

        modules = (nano_clips, nano_lessons, nano_pack, nano_pictures, nano_pseudo, train_nano)
        yield {module.__name__: module for module in modules}
    finally:
        sys.path.remove(str(root / "scripts" / "train"))


@pytest.fixture(scope="module")
def pictures(scripts, tmp_path_factory):
    """The packaged pictures, decoded."""
    made = scripts["nano_pictures"]
    return made.gather(made.Folders(), tmp_path_factory.mktemp("pictures"))


def frames(count, height=96, width=128):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [Frame(t, t / 30, np.roll(image, 3 * t, axis=1)) for t in range(count)]


# -- the network -------------------------------------------------------------------------------


def test_it_is_small(network):
    assert sum(p.numel() for p in network.parameters()) <= 8_000_000
    assert sum(v.numel() for v in network.state_dict().values()) * 2 <= 16 * 1024 * 1024


def test_it_has_the_memory_of_sam_2_1():
    _, ours = read_config("nano")
    _, theirs = read_config("sam2.1_hiera_t")
    settled = {k: v for k, v in theirs.items() if not isinstance(v, dict) and k != "image_size"}
    assert {k: ours[k] for k in settled} == settled


def test_the_trunk_is_efficientnet_with_two_stages_more():
    trunk, known = NanoTrunk.load_packaged(), EfficientNetLite0.load_packaged()
    rgb = torch.rand(2, 3, 64, 96)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    maps = trunk((rgb - mean) / deviation)
    wanted = known((rgb * 255 - 127) / 128)
    for got, stride in zip(maps, (4, 8, 16), strict=False):
        torch.testing.assert_close(got, wanted[stride], atol=1e-3, rtol=1e-4)
    assert [m.shape[1:] for m in maps[::-1]] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(trunk.channel_list, (32, 16, 8, 4), strict=True)
    ]
    assert float(maps[3].std()) > 0.1  # the deepest stages have weights too


# Its own process, because hydra keeps state for the whole of one.
THEIRS = """
import sys, torch, numpy as np
from vision_mem.models.torchvision_shim import ensure_torchvision
torch.set_num_threads(1)
ensure_torchvision()
from hydra.core.global_hydra import GlobalHydra
from hydra import initialize_config_module
from sam2.build_sam import build_sam2_video_predictor
GlobalHydra.instance().clear()
initialize_config_module("vision_mem.configs", version_base="1.2")
predictor = build_sam2_video_predictor("models/nano", sys.argv[1], device="cpu")
state = predictor.init_state(sys.argv[2])
predictor.add_new_points_or_box(state, 0, 1, box=np.array([10, 10, 60, 60], np.float32))
logits = torch.cat([m for _, _, m in predictor.propagate_in_video(state)])
np.save(sys.argv[3], logits.numpy())
print(type(predictor).__name__, type(predictor.image_encoder.trunk).__module__)
"""


def test_sam_2s_own_predictor_runs_it_with_the_same_result(network, scripts, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    shown = []
    for frame in frames(5):
        cv2.imwrite(str(images / f"{frame.index:05d}.jpg"), frame.image)
        shown.append(cv2.imread(str(images / f"{frame.index:05d}.jpg"))[..., ::-1].copy())
    scripts["train_nano"].export(network, tmp_path / "nano.pt")
    words = [str(tmp_path / "nano.pt"), str(images), str(tmp_path / "logits.npy")]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", THEIRS, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == [
        "SAM2VideoPredictor",
        "vision_mem.models.segmenters.sam2.nano_trunk",
    ]
    theirs = np.load(tmp_path / "logits.npy")
    assert theirs.shape == (5, 1, 96, 128)
    segmenter = load_segmenter(words[0], device="cpu")
    changes = {"fill_hole_area": 0, "num_frames_hint": 5}
    session = TrackingSession(
        segmenter, load_config(TrackingConfig, "sam2", changes, folder="tracking")
    )
    for t, image in enumerate(shown):
        prompts = [Prompt(box=(10, 10, 60, 60))] if t == 0 else ()
        mask = session.step(Frame(t, t / 30, image), prompts).objects[0].mask
        # Random weights leave logits near 0 everywhere, and processors round sums differently.
        unlike = mask != (theirs[t, 0] > 0)
        assert np.abs(theirs[t, 0][unlike]).max(initial=0.0) < 1e-3, f"frame {t}"
        assert unlike.mean() < 0.01, f"frame {t}"
        assert 0.01 < mask.mean() < 0.99


def test_our_engine_runs_it_by_name():
    segmenter = load_segmenter("random:nano", device="cpu")
    assert segmenter.traits.image_size == 256 and segmenter.traits.num_maskmem == 7
    assert segmenter.traits.model_id == f"random:nano#{fingerprint(segmenter.network)}"
    session = TrackingSession(segmenter)
    prompts = [Prompt(box=(10, 10, 60, 60)), Prompt(points=[(90, 40)])]
    for frame in frames(4):
        result = session.step(frame, prompts if frame.index == 0 else ())
    assert [one.mask.shape for one in result.objects] == [(96, 128)] * 2


# -- its weights -------------------------------------------------------------------------------


def test_without_shipped_weights_one_line_says_how_to_get_some(monkeypatch, tmp_path):
    monkeypatch.setattr(sam2_load, "NANO_FILE", tmp_path / "nano.safetensors")
    with pytest.raises(ModelError, match=r"no weights.*train_nano\.py.*--model") as caught:
        load_segmenter("nano", device="cpu")
    assert "\n" not in str(caught.value)


def test_exported_weights_come_back(network, scripts, monkeypatch, tmp_path):
    path = tmp_path / "mine.safetensors"
    scripts["train_nano"].export(network, path)
    assert path.stat().st_size <= 16 * 1024 * 1024
    loaded = load_segmenter(str(path), config="nano", device="cpu")
    assert loaded.network.no_obj_ptr.dtype == torch.float32
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value.half().float())
    assert guess_config(network.state_dict(), path) == "nano"
    monkeypatch.setattr(sam2_load, "NANO_FILE", path)  # as if it came with the package
    assert load_segmenter("nano", device="cpu").traits.model_id.startswith("nano#")


def test_what_is_too_large_for_the_package_is_not_exported(scripts, tmp_path):
    large = torch.nn.Linear(4000, 2100)
    with pytest.raises(InputError, match="too many"):
        scripts["train_nano"].export(large, tmp_path / "large.safetensors")
    assert not list(tmp_path.iterdir())


# -- its clips ---------------------------------------------------------------------------------


def test_a_number_is_a_clip(scripts, pictures):
    clips, store = scripts["nano_clips"], scripts["nano_pictures"].Pictures(pictures)
    first, again, other = (
        clips.render_clip(store, np.random.default_rng(seed), 4) for seed in (5, 5, 6)
    )
    assert np.array_equal(first.images, again.images) and np.array_equal(first.ids, again.ids)
    assert not np.array_equal(first.images, other.images)
    assert first.images.shape == (4, 256, 256, 3) and first.ids.shape == (4, 256, 256)


def test_clips_hold_what_they_promise(scripts, pictures):
    clips, store = scripts["nano_clips"], scripts["nano_pictures"].Pictures(pictures)
    made = [clips.render_clip(store, np.random.default_rng((1, n)), 6, 128) for n in range(60)]
    visible = [[int((frame == c.targets[0]).sum()) for frame in c.ids] for c in made]
    assert all(areas[0] >= clips.SMALLEST for areas in visible)
    assert any(0 in areas and areas[-1] > 0 for areas in visible)  # gone and back
    assert any(areas[0] < 150 for areas in visible) and any(areas[0] > 2000 for areas in visible)
    assert any(len(c.targets) > 1 for c in made)
    assert np.mean([c.images.std() for c in made]) > 20


@pytest.mark.parametrize("kind", ["mask", "box", "loose box", "point", "points"])
def test_prompts_point_at_the_object(scripts, kind):
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:26] = True
    rng = np.random.default_rng(0)
    for _ in range(20):
        places, labels = scripts["nano_lessons"].draw_prompt(mask, kind, rng)
        assert len(places) == len(labels)
        for (x, y), label in zip(places, labels, strict=True):
            if label in (0, 1):
                assert mask[int(y), int(x)] == (label == 1)
        if kind == "box":
            assert places.tolist() == [[10, 20], [26, 40]] and labels.tolist() == [2, 3]
        if kind == "loose box":
            assert np.abs(places - [[10, 20], [26, 40]]).max() <= 4


CUTOUTS = {
    "a disc": (lambda a: cv2.circle(a, (50, 50), 30, 255, -1), True),
    "nothing": (lambda a: a, False),
    "everything": (lambda a: np.full_like(a, 255), False),
    "two pieces": (
        lambda a: cv2.circle(cv2.circle(a, (20, 50), 14, 255, -1), (80, 50), 14, 255, -1),
        False,
    ),
    "a line drawing": (lambda a: cv2.circle(a, (50, 50), 40, 255, 2), False),
}


@pytest.mark.parametrize("name", CUTOUTS)
def test_only_solid_objects_are_cut_out(scripts, name):
    draw, usable = CUTOUTS[name]
    opacity = draw(np.zeros((100, 100), np.uint8))
    made = scripts["nano_pictures"].fit_cutout(np.dstack([np.full((100, 100, 3), 200), opacity]))
    assert (made is not None) == usable


def test_pictures_travel_in_a_small_file(scripts, pictures, tmp_path):
    made, store = scripts["nano_pack"], scripts["nano_pictures"].Pictures
    made.pack(pictures, tmp_path / "pictures.zip")
    whole = (pictures / "pictures.bin").stat().st_size
    assert (tmp_path / "pictures.zip").stat().st_size < whole / 4
    folder = made.unpack(tmp_path / "pictures.zip", tmp_path)
    assert made.unpack(tmp_path / "pictures.zip", tmp_path) == folder
    for seed in range(4):
        one, two = (store(f).cutout(np.random.default_rng(seed)) for f in (pictures, folder))
        assert one.shape == two.shape
        assert np.abs(one.astype(int) - two).mean() < 8
        assert (two[..., :3].max(axis=2) <= two[..., 3]).all()
    (tmp_path / "cut.zip").write_bytes((tmp_path / "pictures.zip").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.zip is no pack"):
        made.unpack(tmp_path / "cut.zip", tmp_path)


def test_sequences_with_masks_are_clips_too(scripts, tmp_path):
    images, masks = tmp_path / "JPEGImages" / "disc", tmp_path / "Annotations" / "disc"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t in range(6):
        mask = cv2.circle(np.zeros((90, 120), np.uint8), (60, 45), 30 + t, 3, -1)
        cv2.imwrite(str(images / f"{t:05d}.jpg"), np.dstack([mask * 80] * 3))
        cv2.imwrite(str(masks / f"{t:05d}.png"), mask)
    clips = scripts["nano_pseudo"].PseudoClips(tmp_path)
    clip = clips.draw(np.random.default_rng(0), 4, 64)
    assert clip.images.shape == (4, 64, 64, 3) and clip.targets == [3]
    inside = clip.ids[0] == 3
    assert clip.images[0][inside].mean() > 200 and clip.images[0][~inside].mean() < 40
    with pytest.raises(InputError, match="Annotations"):
        scripts["nano_pseudo"].PseudoClips(tmp_path / "Annotations")


# -- its training ------------------------------------------------------------------------------


def small_plan(train, **changes):
    return train.Plan(**{"steps": 40, "frames": 4, "objects": 2, "warm_up": 1, **changes})


@pytest.mark.parametrize("image_share", [1.0, 0.0])  # single frames; a clip with memory
def test_a_few_steps_on_one_clip_lower_the_loss(scripts, pictures, image_share):
    train = scripts["train_nano"]
    plan = small_plan(train, image_share=image_share, lr=1e-3)
    network = train.make_network(plan)
    optimizer = train.make_optimizer(network, plan)
    batch = train.Stream(plan, pictures, None, 256)[3]
    losses = [
        train.learn(network, optimizer, batch, plan, step, False)["loss"] for step in range(4)
    ]
    assert losses[-1] < 0.95 * losses[0], losses


def test_gradients_flow_through_memory_and_not_into_the_trunk(scripts, pictures):
    train, learning = scripts["train_nano"], scripts["nano_lessons"]
    plan = small_plan(train, image_share=0.0)
    network = train.make_network(plan)
    batch = train.Stream(plan, pictures, None, 256)[3]
    guesses = learning.run_clip(network, batch)
    # Only the last frame's loss: what reaches the memory encoder came through the memory.
    loss, _ = learning.clip_loss([*[None] * 3, guesses[3]], batch.masks)
    loss.backward()
    assert float(network.memory_encoder.pix_feat_proj.weight.grad.abs().max()) > 0
    assert float(network.maskmem_tpos_enc.grad.abs().max()) > 0
    assert float(network.memory_attention.layers[0].cross_attn_image.k_proj.weight.grad.std()) > 0
    assert all(p.grad is None for p in network.image_encoder.trunk.parameters())


def test_learning_sees_what_tracking_sees(scripts):
    """The differentiable pass gives the masks that the engine gives, frame by frame."""
    learning = scripts["nano_lessons"]
    segmenter = load_segmenter("random:nano", device="cpu")
    sees_it(segmenter.network)
    shown = frames(3, 256, 256)
    mask = np.zeros((256, 256), bool)
    mask[60:140, 50:120] = True
    batch = learning.Batch(
        torch.from_numpy(np.stack([f.image for f in shown]))[None],
        torch.from_numpy(np.stack([mask] * 3).astype(np.uint8))[None],
        torch.tensor([0]),
        torch.zeros(1, 0, 2),
        torch.zeros(1, 0, dtype=torch.int32),
        hard=True,
    )
    with torch.no_grad():
        guesses = learning.run_clip(segmenter.network, batch)
    changes = {"fill_hole_area": 0}
    session = TrackingSession(
        segmenter, load_config(TrackingConfig, "sam2", changes, folder="tracking")
    )
    for t, frame in enumerate(shown):
        session.step(frame, [Prompt(mask=mask)] if t == 0 else ())
        if t > 0:
            outcome = session._outcomes[1]
            best = guesses[t].logits[0, guesses[t].iou[0].argmax()]
            agree = ((best > 0) == (outcome.logits[0, 0] > 0)).float().mean()
            assert bool(guesses[t].present > 0) and float(agree) > 0.99


def test_a_run_that_was_cut_in_two_is_the_same_run(scripts, tmp_path, pictures):
    train = scripts["train_nano"]
    words = ["--cache", str(pictures.parent), "--device", "cpu", "--threads", "1"]
    words += ["--check-clips", "0", "--steps", "3", "--image-share", "0.5", "--long-share", "0"]
    words += ["--frames", "4", "--objects", "1", "--report-every", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.main(["--out", str(whole), *words]) == 0
    assert train.main(["--out", str(parts), *words, "--minutes", "1e-6"]) == 0
    assert train.load(parts)["step"] == 1
    assert train.main(["--out", str(parts), *words, "--resume"]) == 0
    one, two = train.load(whole), train.load(parts)
    assert one["step"] == two["step"] == 3
    for name, value in one["average"].items():
        assert torch.equal(value, two["average"][name]), name
    assert (parts / "curve.csv").read_text().count("\n") == 4
    assert (parts / "curve.png").stat().st_size > 1000
    assert train.main(["--out", str(parts), "--export", str(tmp_path / "nano.pt")]) == 0
    assert load_segmenter(str(tmp_path / "nano.pt"), device="cpu").traits.image_size == 256


def test_wrong_use_is_one_line(scripts, tmp_path, capsys, pictures):
    train = scripts["train_nano"]
    empty = ["--out", str(tmp_path), "--cache", str(pictures.parent), "--device", "cpu"]
    assert train.main([*empty, "--resume"]) == 2
    assert train.main([*empty, "--cutouts", str(tmp_path / "none")]) == 2
    assert train.main([*empty, "--config", "nona"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
