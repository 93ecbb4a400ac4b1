"""Qwen3-VL: the time stands as text before each grid, and grids feed deeper layers too."""

from __future__ import annotations

from typing import Any

import torch

from vision_mem.errors import InputError
from vision_mem.models.vlm.chat import Prompt
from vision_mem.models.vlm.generation import Start
from vision_mem.models.vlm.protocol import VideoModelTraits, VisualContext
from vision_mem.models.vlm.qwen import QwenVideoModel

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
        config = self._network.config
        return VideoModelTraits(
            model_id,
            int(config.get_text_config().hidden_size),
            frames_per_grid=int(config.vision_config.temporal_patch_size),
            tokens_per_second=None,
            max_positions=None,
        )

    def _extras(self, seen: Any) -> dict[str, torch.Tensor]:
        layers = [grids[0] for grids in seen.deepstack_features]
        return {_DEEP: torch.stack(layers, dim=1)} if layers else {}

    def _start(self, context: VisualContext, prompt: Prompt) -> Start:
        video = int(self._network.config.video_token_id)
        ids: list[int] = list(prompt.before)
        places = [torch.arange(len(ids)).expand(3, -1)]
        at = len(ids)
        where = context.positions.cpu()
        for grid in context.grids:
            if grid.count == 0:
                continue
            middle = (grid.start_s + grid.end_s) / 2 - context.began_s
            words = self._chat.ids(f"<{middle:.1f} seconds>")
            words = [*words, *self._opening()]
            ids += [*words, *[video] * grid.count, *self._closing()]
            places.append(torch.arange(at, at + len(words)).expand(3, -1))
            at += len(words)
            own = where[:, grid.first : grid.first + grid.count].clone()
            own[0] = 0  # a grid is one moment
            places.append(own + at)
            at += max(grid.size)
            places.append(torch.arange(at, at + 1).expand(3, -1))
            at += 1
        ids += prompt.after
        places.append(torch.arange(at, at + len(prompt.after)).expand(3, -1))
        inputs: dict[str, Any] = {"input_ids": torch.tensor([ids], device=self.device)}
        if len(context.tokens):
            inputs["mm_encoder_outputs"] = {"video": self._seen(context)}
        positions = torch.cat(places, dim=1).to(self.device)
        return Start(inputs, positions[:, None], at + len(prompt.after))

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
