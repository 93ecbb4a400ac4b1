"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: grids of two frames, and ids for time, row and column.

Sizes of pictures and the choice of frames are those of the model cards, by qwen-vl-utils.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from vision_mem.errors import InputError, MissingExtra
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.models.vlm.generation import Start, check_numbers
from vision_mem.models.vlm.network import ChatPrompt, NetworkVideoModel
from vision_mem.models.vlm.protocol import EncodedGrid, VideoModelTraits, VisualContext
from vision_mem.types import Frame

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def card_frames(total: int, rate: float, fps: float) -> list[int]:
    """Frames of a clip that the model cards' recipe looks at, in order.

    Args:
        total: frames of the clip, 1 or more.
        rate: of the clip, frames a second.
        fps: frames a second that are wanted.

    Returns:
        An even number of them, 4 to 768 where there are so many, from the first to the last; the
        only one of a clip of one.

    Raises:
        MissingExtra: without qwen-vl-utils.
    """
    if total == 1:
        return [0]
    wanted = {"fps": min(fps, rate)}  # more than there are would be taken down, with a warning
    number = _recipe().smart_nframes(wanted, total_frames=total, video_fps=rate)
    return [int(n) for n in torch.linspace(0, total - 1, number).round().long()]


def _recipe() -> Any:
    """The model cards' own code.

    Raises:
        MissingExtra: when it is not installed.
    """
    ensure_torchvision()  # else it finds half a torchvision
    try:
        from qwen_vl_utils import vision_process
    except ImportError as error:
        raise MissingExtra(
            "frames=spread needs qwen-vl-utils; run: pip install 'vision-mem[vlm]'"
        ) from error
    return vision_process


class QwenVideoModel(NetworkVideoModel):
    """Qwen2-VL or Qwen2.5-VL behind the protocol ``VideoLanguageModel``.

    Each grid goes through the vision tower alone, at a size that depends on nothing but the size
    of its frames: between ``min_tokens`` and ``max_tokens``, the aspect kept.

    Args:
        network: ``Qwen2VLForConditionalGeneration`` or ``Qwen2_5_VLForConditionalGeneration``.
        tokenizer: its tokenizer.
        min_tokens: of a grid, about.
        max_tokens: of a grid, at most.
        normal: mean and spread of the colours that the vision tower was taught with.
        **words: as for ``NetworkVideoModel``.

    Source:
        specs/savemem.md 1.2 (sizes), 1.8 (positions), 6.1.
    """

    _normal = _CLIP

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        min_tokens: int = 16,
        max_tokens: int = 512,
        normal: tuple[Sequence[float], Sequence[float]] | None = None,
        **words: Any,
    ) -> None:
        if not 1 <= min_tokens <= max_tokens:
            raise InputError(
                f"min_tokens is {min_tokens} and max_tokens {max_tokens}; expected 1 or more, "
                "the smaller one first"
            )
        super().__init__(network, tokenizer, **words)
        vision = network.config.vision_config
        self._merge = int(vision.spatial_merge_size)
        self._side = int(vision.patch_size) * self._merge
        area = self._side**2
        mean, spread = normal or self._normal
        ensure_torchvision()
        from transformers import Qwen2VLVideoProcessor

        self._processor = Qwen2VLVideoProcessor(
            size={"shortest_edge": min_tokens * area, "longest_edge": max_tokens * area},
            patch_size=int(vision.patch_size),
            merge_size=self._merge,
            temporal_patch_size=int(vision.temporal_patch_size),
            image_mean=list(mean),
            image_std=list(spread),
            cap_pixels_per_frame=False,  # with it a frame's size would depend on how many come
        )
        self._size: Callable[[int, int], tuple[int, int]] | None = None
        if find_spec("qwen_vl_utils") is not None:  # else by the processor's own rule, the same
            least, most = min_tokens * area, max_tokens * area
            rule = _recipe().smart_resize
            self._size = partial(rule, factor=self._side, min_pixels=least, max_pixels=most)
        self._opening = (self._chat.marker("<|vision_start|>"),)
        self._closing = (self._chat.marker("<|vision_end|>"),)

    @torch.no_grad()
    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        pixels = self._pixels(frames)
        try:
            given = self._processor(
                videos=[self.fitted(pixels)], do_sample_frames=False, return_tensors="pt",
                do_resize=self._size is None,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(
                f"a frame of {frames[0].size[1]} x {frames[0].size[0]} pixels cannot be used; "
                "expected sides that differ by a factor of at most 200"
            ) from error
        grid = given["video_grid_thw"]
        seen = self._network.get_video_features(
            given["pixel_values_videos"].to(self.device, self._network.dtype),
            grid.to(self.device),
        )
        (tokens,) = seen.pooler_output
        check_numbers(tokens)
        _, height, width = grid[0].tolist()
        extras = self._extras(seen)
        return EncodedGrid.full(tokens, height // self._merge, width // self._merge, extras)

    def fitted(self, pixels: torch.Tensor) -> torch.Tensor:
        """Frames ``(T, 3, H, W)`` uint8 at the size that the network is shown.

        Raises:
            ValueError: for sides that differ too much.
        """
        if self._size is None:
            return pixels
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize

        # A narrow strip would be left without a row of its own.
        size = [max(self._side, side) for side in self._size(*pixels.shape[-2:])]
        return resize(pixels, size, interpolation=InterpolationMode.BICUBIC, antialias=True)

    def _extras(self, seen: Any) -> dict[str, torch.Tensor]:
        return {}

    def _start(self, context: VisualContext, prompt: ChatPrompt) -> Start:
        before = self._embedded((*prompt.before, *self._opening))
        after = self._embedded((*self._closing, *prompt.after))
        middle = context.tokens.to(before)
        first, text = len(before), len(before) + context.text_start
        last = text + len(after)
        own = context.positions.to(self.device) + first
        positions = torch.cat([self._row(0, first), own, self._row(text, last)], dim=1)
        inputs = {"inputs_embeds": torch.cat([before, middle, after])[None]}
        return Start(inputs, positions[:, None], last)

    def _row(self, first: int, last: int) -> torch.Tensor:
        """Position ids of words: the same on all three axes, ``(3, last - first)``."""
        return torch.arange(first, last, device=self.device).expand(3, -1)


_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DEEP = "deepstack"


class Qwen3VideoModel(QwenVideoModel):
    """Qwen3-VL behind the protocol ``VideoLanguageModel``.

    Each grid is written as its time in seconds (the mean of its first and last frame) and its
    tokens between markers of their own. Rows and columns stand where they stood; a grid takes as
    many position ids as its longer side. Time is in the words, so temporal ids of the context are
    not used, and grids without tokens leave nothing.

    Extras: ``deepstack`` ``(n, layers, D)``, what is added behind the first decoder layers.

    Args:
        network: ``Qwen3VLForConditionalGeneration``.
        tokenizer: its tokenizer.
        **settings: as for ``QwenVideoModel``.

    Source:
        specs/savemem.md 6.3.
    """

    _normal = _HALVES

    def _traits(self, model_id: str) -> VideoModelTraits:
        return replace(super()._traits(model_id), tokens_per_second=None, max_positions=None)

    def _extras(self, seen: Any) -> dict[str, torch.Tensor]:
        layers = [grids[0] for grids in seen.deepstack_features]
        return {_DEEP: torch.stack(layers, dim=1)} if layers else {}

    def _start(self, context: VisualContext, prompt: ChatPrompt) -> Start:
        video = int(self._network.config.video_token_id)
        ids: list[int] = list(prompt.before)
        at = len(ids)
        places = [self._row(0, at)]
        for grid in context.grids:
            if grid.count == 0:
                continue
            middle = (grid.start_s + grid.end_s) / 2 - context.began_s
            words = [*self._chat.ids(f"<{middle:.1f} seconds>"), *self._opening]
            ids += [*words, *[video] * grid.count, *self._closing]
            own = context.positions[:, grid.first : grid.first + grid.count].to(
                self.device, copy=True
            )
            own[0] = 0  # a grid is one moment
            begin = at + len(words)
            end = begin + max(grid.size)
            places += [self._row(at, begin), own + begin, self._row(end, end + 1)]
            at = end + 1
        ids += prompt.after
        places.append(self._row(at, at + len(prompt.after)))
        inputs: dict[str, Any] = {"input_ids": torch.tensor([ids], device=self.device)}
        if len(context.tokens):
            inputs["mm_encoder_outputs"] = {"video": self._seen(context)}
        return Start(inputs, torch.cat(places, dim=1)[:, None], at + len(prompt.after))

    def _seen(self, context: VisualContext) -> Any:
        """The kept tokens in the shape in which the library's own vision tower gives them."""
        from transformers.models.qwen3_vl.modeling_qwen3_vl import (
            BaseModelOutputWithDeepstackFeatures,
        )

        layers = len(self._network.config.vision_config.deepstack_visual_indexes)
        shape = (len(context.tokens), layers, self.traits.width)
        deep = context.extras.get(_DEEP) if layers else context.tokens.new_empty(shape)
        if deep is None or tuple(deep.shape) != shape:
            found = "none" if deep is None else str(tuple(deep.shape))
            raise InputError(
                f"a context has extra {_DEEP!r} of shape {found}; expected {shape}, as the model "
                "gave it with its grids"
            )
        output: Any = BaseModelOutputWithDeepstackFeatures  # it is declared for one video
        return output(
            pooler_output=(context.tokens.to(self.device),),
            deepstack_features=[(layer.to(self.device),) for layer in deep.unbind(dim=1)],
        )
