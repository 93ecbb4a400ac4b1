"""LLaVA-OneVision: one frame a grid, one position id for each token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vision_mem.errors import InputError
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.models.vlm.generation import Start, check_numbers
from vision_mem.models.vlm.network import ChatPrompt, NetworkVideoModel
from vision_mem.models.vlm.protocol import EncodedGrid, VideoModelTraits, VisualContext
from vision_mem.types import Frame

_SIGLIP = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PLACES = ("gaps", "compact")


class LlavaVideoModel(NetworkVideoModel):
    """LLaVA-OneVision behind the protocol ``VideoLanguageModel``.

    Frames are brought to a square and each becomes one grid (14 x 14 tokens in the released
    models). The row that ends a video is added once, behind all that is read.

    Args:
        network: ``LlavaOnevisionForConditionalGeneration``.
        tokenizer: its tokenizer.
        places: ``gaps``: tokens stand where they would if no token of the grids between the
            first and the last position id had been dropped; where the model has not so many
            ids, as with ``compact``: one after the other.
        normal: mean and spread of the colours that the vision tower was taught with.
        **words: as for ``NetworkVideoModel``.

    Source:
        specs/savemem.md 6.3.
    """

    _video_ends = "\n"

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        places: str = "gaps",
        normal: tuple[Sequence[float], Sequence[float]] | None = None,
        **words: Any,
    ) -> None:
        if places not in PLACES:
            raise InputError(f"places is {places!r}; expected one of {', '.join(PLACES)}")
        vision = network.config.vision_config
        self._places = places
        self._side = math.ceil(int(vision.image_size) // int(vision.patch_size) / 2)
        super().__init__(network, tokenizer, **words)
        ensure_torchvision()
        from transformers import LlavaOnevisionVideoProcessor

        mean, spread = normal or _SIGLIP
        self._processor = LlavaOnevisionVideoProcessor(
            size={"height": int(vision.image_size), "width": int(vision.image_size)},
            image_mean=list(mean),
            image_std=list(spread),
        )

    def _traits(self, model_id: str) -> VideoModelTraits:
        traits = super()._traits(model_id)
        most = traits.max_positions and max(1, traits.max_positions // self._side**2)
        return replace(traits, max_positions=most)

    @torch.no_grad()
    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        pixels = self._pixels(frames)
        given = self._processor(videos=[pixels], do_sample_frames=False, return_tensors="pt")
        seen = self._network.model.get_video_features(
            given["pixel_values_videos"].to(self.device, self._network.dtype)
        )
        tokens = seen.pooler_output[0, :-1]  # each call ends with the row that ends a video
        check_numbers(tokens)
        return EncodedGrid.full(tokens, self._side, self._side)

    def _start(self, context: VisualContext, prompt: ChatPrompt) -> Start:
        before, after = self._embedded(prompt.before), self._embedded(prompt.after)
        newline = self._network.model.image_newline[None].to(before)
        middle = torch.cat([context.tokens.to(before), newline])
        first = len(before)
        places, ends = self._video_places(context)
        last = first + ends + 1 + len(after)
        words = torch.arange(last, device=self.device)
        positions = torch.cat(
            [words[:first], places.to(self.device) + first, words[first + ends :]]
        )
        inputs = {"inputs_embeds": torch.cat([before, middle, after])[None]}
        return Start(inputs, positions[None], last)

    def _video_places(self, context: VisualContext) -> tuple[torch.Tensor, int]:
        """int64 ``(n,)`` ids of the video's tokens, from 0, and the id behind the video."""
        count, area = len(context.tokens), self._side**2
        time, row, col = context.positions
        ends = (int(time.max()) + 1) * area if count else 0
        limit = self._positions_for_video()
        if self._places == "compact" or (limit is not None and ends > limit):
            return torch.arange(count), count
        return time * area + row * self._side + col, ends
