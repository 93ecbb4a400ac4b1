"""Tiny video models, clips, and the same question put the library's own way, with pixels."""

from __future__ import annotations

import functools

import numpy as np
import torch

from vision_mem.models.vlm.load import load_video_model
from vision_mem.models.vlm.network import SYSTEM
from vision_mem.models.vlm.protocol import GridSpan, Question, VisualContext
from vision_mem.types import Frame
from vision_mem.videoqa.mrope import ids_by_index, text_start

KINDS = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl", "llava-onevision")
QUESTION = Question("Where is the cup?", ("left", "right"), "Answer with the letter.")
ASKED = "Where is the cup?\nA. left\nB. right\nAnswer with the letter."
SIZE = (112, 160)


@functools.cache
def tiny(kind, **settings):
    torch.set_num_threads(1)
    return load_video_model(f"random:{kind}-tiny", device="cpu", **settings)


def clip(count=8, size=SIZE, seed=0):
    """Frames a second apart: noise over a gradient that moves."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 155, size[1])[None, :, None]
    return [
        Frame(
            k, float(k), (np.roll(ramp, 9 * k, 1) + rng.integers(0, 100, (*size, 3))).astype("u1")
        )
        for k in range(count)
    ]


def grids_of(model, frames):
    step = model.traits.frames_per_grid
    return [model.encode_grid(frames[k : k + step]) for k in range(0, len(frames), step)]


def context(model, frames, *, rule="transformers", keep=None):
    """What a memory would read: all tokens, or those that ``keep`` (bool ``(n,)``) marks."""
    traits = model.traits
    step, grids = traits.frames_per_grid, grids_of(model, frames)
    times = ids_by_index(range(len(grids)), float(step), traits.tokens_per_second)
    rows, cols = (int(getattr(grids[0], name).max()) + 1 for name in ("rows", "cols"))
    counts = [len(grid.tokens) for grid in grids]
    keep = torch.ones(sum(counts), dtype=torch.bool) if keep is None else keep
    spans, first = [], 0
    for k, mine in enumerate(keep.split(counts)):
        seen = frames[k * step : (k + 1) * step]
        kept = int(mine.sum())
        span = (float(seen[0].time_s), float(seen[-1].time_s), (rows, cols), first, kept)
        spans.append(GridSpan(k, 0, *span))
        first += kept
    ids = [
        torch.stack([torch.full_like(g.rows, t), g.rows, g.cols])
        for g, t in zip(grids, times, strict=True)
    ]
    extras = {
        name: torch.cat([grid.extras[name] for grid in grids])[keep] for name in grids[0].extras
    }
    return VisualContext(
        tokens=torch.cat([grid.tokens for grid in grids])[keep],
        positions=torch.cat(ids, dim=1)[:, keep],
        text_start=text_start(times[-1], rows, cols, rule),
        grids=tuple(spans),
        extras=extras,
    )


def library_inputs(kind, model, frames):
    """The library's own processor on the whole clip and the prompt as one text."""
    import transformers as t

    video = torch.from_numpy(np.stack([f.image for f in frames]).transpose(0, 3, 1, 2).copy())
    marks = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    given = {"videos_kwargs": {"do_sample_frames": False, "return_metadata": True}}
    about = t.video_utils.VideoMetadata(
        total_num_frames=len(frames), fps=1.0, frames_indices=list(range(len(frames)))
    )
    tokenizer, shown = model._tokenizer, "<|vision_start|><|video_pad|><|vision_end|>"
    if kind == "llava-onevision":
        processor = t.LlavaOnevisionProcessor(
            t.LlavaOnevisionImageProcessor(),
            tokenizer,
            t.LlavaOnevisionVideoProcessor(
                size={"height": 98, "width": 98}, image_mean=[0.5] * 3, image_std=[0.5] * 3
            ),
            num_image_tokens=49,
            vision_feature_select_strategy="full",
            **marks,
        )
        shown = "<|video_pad|>\n"
    elif kind == "qwen3-vl":
        area = 32 * 32
        sees = t.Qwen3VLVideoProcessor(
            size={"shortest_edge": area, "longest_edge": 4096 * area}, cap_pixels_per_frame=False
        )
        processor = t.Qwen3VLProcessor(t.Qwen2VLImageProcessor(patch_size=16), tokenizer, sees)
        shown = "<|video_pad|>"  # each grid comes with markers of its own
    else:
        sees = t.Qwen2VLVideoProcessor(
            size={"shortest_edge": 16 * 784, "longest_edge": 512 * 784}, cap_pixels_per_frame=False
        )
        name = "Qwen2_5_VLProcessor" if kind == "qwen2.5-vl" else "Qwen2VLProcessor"
        processor = getattr(t, name)(t.Qwen2VLImageProcessor(), tokenizer, sees)
    text = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{shown}{ASKED}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    found = processor(
        text=[text], videos=[video], video_metadata=[about], return_tensors="pt", **given
    )
    known = ("input_ids", "attention_mask", "pixel_values_videos", "video_grid_thw")
    known += ("mm_token_type_ids", "second_per_grid_ts")
    return {name: value for name, value in found.items() if name in known}


def visual(inputs, model):
    """bool ``(L,)``: the places of visual tokens in the library's prompt."""
    return inputs["input_ids"][0] == model._chat.marker("<|video_pad|>")


def said(pieces):
    pieces = list(pieces)
    assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    return "".join(piece.text for piece in pieces), pieces[-1].finish


@torch.inference_mode()
def logits(model, start):
    """``(vocabulary,)`` of the first token of an answer."""
    mask = torch.ones(1, start.positions.shape[-1], dtype=torch.long)
    found = model._network(
        **start.inputs, position_ids=start.positions, attention_mask=mask, logits_to_keep=1
    )
    return found.logits[0, -1]
