"""What the embedded segmenter's networks make of windows: tokens to compare, and outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.frame import EncodedFrame, SeenWindow
from vision_mem.models.segmenters.embedded.label_propagation import Remembered, unit_tokens, vote
from vision_mem.models.segmenters.embedded.mask_decoder import MaskDecoder
from vision_mem.models.segmenters.embedded.object_state import ObjectState
from vision_mem.models.segmenters.embedded.outline import follow_edges
from vision_mem.models.segmenters.embedded.windows import Window, to_logit

_AT_ONCE = {"cpu": 4, "cuda": 32}
"""Windows in one pass of the trunk. In bf16 on a CPU four take a seventh less time than one by
one, and give the same to the bit; in float32 they take longer."""


class EmbeddedNetworks:
    """The frozen trunk, and the mask decoder where it has a say.

    Args:
        trunk: the frozen network.
        decoder: what was learned on generated clips; None leaves it out.
        device: where both run.
        dtype: of both, and of tokens.
        config: constants.

    Attributes:
        at_once: windows in one pass of the trunk.
        fingerprint: of all weights that tokens and outlines depend on.
    """

    def __init__(
        self,
        trunk: EfficientNetLite0,
        decoder: MaskDecoder | None,
        device: torch.device,
        dtype: torch.dtype,
        config: EmbeddedConfig,
    ) -> None:
        self._device, self._dtype, self._config = device, dtype, config
        self.at_once = _AT_ONCE.get(device.type, 1)
        if device.type == "cpu" and dtype == torch.float32:
            self.at_once = 1
        self.fingerprint = trunk.fingerprint
        self._trunk = trunk.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._decoder = decoder if config.decoder_share > 0 else None
        if self._decoder is not None:
            self.fingerprint += f"-{self._decoder.fingerprint}"
            self._decoder = self._decoder.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def tokens(self, payload: EncodedFrame, window: Window) -> Tensor:
        """``(N, C)`` unit tokens of a window."""
        self.prepare(payload, [window])
        return payload.windows[window].tokens

    def prepare(self, payload: EncodedFrame, windows: Sequence[Window]) -> None:
        """Look at windows, a few in one pass of the trunk; what was looked at is kept."""
        missing = [one for one in dict.fromkeys(windows) if one not in payload.windows]
        for first in range(0, len(missing), self.at_once):
            some = missing[first : first + self.at_once]
            side = self._config.window
            pictures = [np.asarray(one.crop(payload.image, side), np.uint8) for one in some]
            payload.windows.update(zip(some, self.look_at(pictures), strict=True))

    @torch.inference_mode()
    def look_at(self, pictures: Sequence[NDArray[Any]]) -> list[SeenWindow]:
        """Run the trunk on ``(h, w, 3)`` uint8 RGB pictures of equal size."""
        pixels = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2)
        pixels = pixels.to(self._dtype if self._dtype == torch.float32 else torch.float32)
        pixels = ((pixels - 127) / 128).to(self._dtype, memory_format=torch.channels_last)
        maps = self._trunk(pixels)
        made = []
        for n, picture in enumerate(pictures):
            tokens = unit_tokens({stride: part[n : n + 1] for stride, part in maps.items()})
            if self._decoder is None:
                made.append(SeenWindow(picture, tokens))
                continue
            plain = tokens.T.unflatten(1, maps[8].shape[-2:])[None]
            small = F.avg_pool2d(pixels[n : n + 1], 2)
            tokens = self._decoder.comparable(tokens)
            made.append(SeenWindow(picture, tokens, (plain, maps[4][n : n + 1], small)))
        return made

    def mended(
        self, payload: EncodedFrame, mask: NDArray[np.bool_], box: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """A mask that was made of a box, as the decoder would have it.

        Args:
            payload: the frame.
            mask: ``(H, W)`` at the video's size.
            box: ``(4,)`` x1, y1, x2, y2 pixels; nothing outside it belongs to the object.
        """
        if self._decoder is None or not mask.any():
            return mask
        window = ObjectState.of_mask(mask, self._config.reach, payload.scale).window
        tokens = self.tokens(payload, window)
        part = window.from_grid(mask.astype(np.float32), self._config.tokens, 1.0).reshape(-1)
        shown = torch.from_numpy(part).to(self._device)
        memory = [Remembered(tokens, shown, 1.0, prompted=True, exact=False)]
        logits = self.outline(payload, window, vote(tokens, memory, self._config))
        whole = window.onto_grid(logits, np.empty(mask.shape, np.float32), 1.0, outside=-1.0)
        found = np.zeros_like(mask)
        x1, y1, x2, y2 = (max(0, round(float(value))) for value in box)
        found[y1:y2, x1:x2] = whole[y1:y2, x1:x2] > 0
        return found if found.any() else mask

    @torch.inference_mode()
    def outline(
        self, payload: EncodedFrame, window: Window, said: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Where the object is in a window that was prepared.

        Args:
            payload: the frame.
            window: where it is looked for.
            said: ``(4, t, t)`` what ``voting.vote`` gave.

        Returns:
            ``(s, s)`` float32 logits, a mixture of votes, votes that follow the picture's edges,
            and what the decoder makes of them.
        """
        config, seen = self._config, payload.windows[window]
        plain = _enlarged(said[0], config.window)
        edges = follow_edges(
            said[0], seen.picture, config.outline_radius, config.outline_smoothness
        )
        mixed = config.outline_share * edges + (1 - config.outline_share) * plain
        if self._decoder is not None and seen.maps is not None:
            votes = torch.from_numpy(said)[None].to(self._device, self._dtype)
            logits = self._decoder(*seen.maps, votes)
            learned = torch.sigmoid(logits[0]).cpu().numpy()
            mixed += config.decoder_share * (_enlarged(learned, config.window) - mixed)
        return to_logit(mixed)


def _enlarged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)
