"""Frames, sizes and grids as the Qwen family's model cards prepare them, from generated clips."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from videoqa_backbone_samples import tiny

import vision_mem
from vision_mem.errors import InputError, ModelError
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.models.vlm.generation import check_numbers
from vision_mem.models.vlm.qwen import card_frames
from vision_mem.sources.open import open_source
from vision_mem.visualization.contact_sheet import write_video

SIZES = {"min_tokens": 128, "max_tokens": 768}  # those of the cards for videos


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    pytest.importorskip("transformers", reason="extra [vlm] is not installed")
    pytest.importorskip("decord")
    ensure_torchvision()
    found = pytest.importorskip("qwen_vl_utils", reason="extra [vlm] is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(found.vision_process, "FORCE_QWENVL_VIDEO_READER", "decord")
        found.vision_process.get_video_reader_backend.cache_clear()
        yield found


@cache
def _clip(folder: Path, width: int, height: int, rate: float, count: int) -> Path:
    path = folder / f"{width}-{height}-{rate}-{count}.mp4"
    if not path.exists():
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (height, width + count, 3), np.uint8)
        write_video(path, (noise[:, t : t + width] for t in range(count)), rate)
    return path


CLIPS = pytest.mark.parametrize(
    ("width", "height", "rate", "count"),
    [
        (64, 48, 10.0, 7),
        (160, 96, 25.0, 60),
        (200, 352, 30000 / 1001, 45),
        (480, 40, 5.0, 12),
        (32, 32, 1.0, 5),
        (96, 64, 60.0, 301),
        (640, 360, 15.0, 20),
        (64, 64, 2.0, 3),
    ],
)


@CLIPS
@pytest.mark.parametrize("kind", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"])
def test_frames_sizes_and_pixels_are_those_of_the_cards(
    recipe: Any, tmp_path_factory: pytest.TempPathFactory, kind: str,
    width: int, height: int, rate: float, count: int,
) -> None:  # fmt: skip
    path = _clip(tmp_path_factory.getbasetemp(), width, height, rate, count)
    model = tiny(kind, **SIZES)
    patch = int(model._network.config.vision_config.patch_size)
    said = [{"role": "user", "content": [{"type": "video", "video": str(path), "fps": 2.0}]}]
    _, ((theirs, about),), _ = recipe.process_vision_info(
        said, return_video_kwargs=True, return_video_metadata=True, image_patch_size=patch
    )
    with open_source(path, decoder="decord") as source:
        numbers = card_frames(source.info.frame_count, source.info.fps, 2.0)
        images = [frame.image for frame in source if frame.index in numbers]
    assert numbers == list(about["frames_indices"]) and len(images) == len(theirs)
    ours = model.fitted(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()))
    assert ours.shape == theirs.shape and torch.equal(ours.float(), theirs)


def test_grids_are_those_of_the_cards(
    recipe: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _clip(tmp_path_factory.getbasetemp(), 160, 96, 25.0, 60)
    model = tiny("qwen2.5-vl", **SIZES)
    said = [{"role": "user", "content": [{"type": "video", "video": str(path)}]}]
    _, (theirs,) = recipe.process_vision_info(said)
    given = model._processor(
        videos=[theirs.byte()], do_resize=False, do_sample_frames=False, return_tensors="pt"
    )
    with torch.no_grad():
        seen = model._network.get_video_features(
            given["pixel_values_videos"], given["video_grid_thw"]
        )
    with open_source(path, decoder="decord") as source:
        numbers = card_frames(source.info.frame_count, source.info.fps, 2.0)
        frames = [frame for frame in source if frame.index in numbers]
    grids = [model.encode_grid(frames[k : k + 2]) for k in range(0, len(frames), 2)]
    tokens = torch.cat([grid.tokens for grid in grids])
    assert torch.allclose(tokens, seen.pooler_output[0], atol=1e-5)


def test_a_session_looks_at_the_frames_of_the_cards(
    recipe: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _clip(tmp_path_factory.getbasetemp(), 160, 96, 25.0, 60)
    model = tiny("qwen2.5-vl", max_tokens=32)
    (answer,) = vision_mem.ask(
        path, "what?", model=model, preset="card", settings=["max_answer_tokens=1", "evidence=9"]
    )
    seen = sorted(number for moment in answer.evidence for number in moment.frames)
    assert seen == card_frames(60, 25.0, 2.0) and answer.grids_read == len(seen) // 2
    one = iter([np.zeros((32, 32, 3), np.uint8)])
    with pytest.raises(InputError, match="give --set frames=raster"):
        vision_mem.ask(one, "what?", model=model, preset="card", stream=True)


@pytest.mark.parametrize("size", [(112, 160), (30, 700), (900, 50), (28, 28), (64, 48)])
def test_without_the_package_sizes_are_the_same(recipe: Any, size: tuple[int, int]) -> None:
    """And pixels within two grey levels: the library rounds twice while it resizes.

    On a smooth picture; it also cuts off what overshoots beside hard edges, up to 19 levels.
    """
    model = tiny("qwen2.5-vl")
    ramp = torch.linspace(60, 120, size[0])[:, None] + torch.linspace(0, 60, size[1])[None]
    pixels = ramp.round().to(torch.uint8).expand(2, 3, -1, -1)
    how = {"do_sample_frames": False, "return_tensors": "pt"}
    ours = model._processor(videos=[model.fitted(pixels)], do_resize=False, **how)
    theirs = model._processor(videos=[pixels], **how)
    assert torch.equal(ours["video_grid_thw"], theirs["video_grid_thw"])
    level = 1 / 255 / min(model._processor.image_std)
    away = (ours["pixel_values_videos"] - theirs["pixel_values_videos"]).abs().max()
    assert away <= 2.001 * level


def test_a_strip_is_shown_too(recipe: Any) -> None:
    strip = torch.zeros((2, 3, 2, 380), dtype=torch.uint8)
    small = tiny("qwen2.5-vl", min_tokens=1, max_tokens=2)
    assert min(small.fitted(strip).shape[-2:]) == 28


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (torch.float16, "leave the range of fp16; give --precision bf16 or fp32"),
        (torch.bfloat16, "no numbers in bf16: its weights are damaged"),
        (torch.float32, "no numbers in fp32: its weights are damaged"),
    ],
)
def test_too_little_range_is_told(kind: torch.dtype, said: str) -> None:
    check_numbers(torch.tensor([1.0, torch.inf], dtype=kind))
    with pytest.raises(ModelError, match=said):
        check_numbers(torch.tensor([1.0, torch.nan], dtype=kind))


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3-vl", "llava-onevision"])
def test_a_model_without_numbers_does_not_answer(kind: str) -> None:
    pytest.importorskip("transformers", reason="extra [vlm] is not installed")
    model = tiny.__wrapped__(kind)
    for weight in model._network.parameters():
        weight.fill_(torch.nan)
    frames = [vision_mem.Frame(k, float(k), np.full((56, 56, 3), 99, np.uint8)) for k in range(2)]
    with pytest.raises(ModelError, match="no numbers in fp32"):
        model.encode_grid(frames[: model.traits.frames_per_grid])
