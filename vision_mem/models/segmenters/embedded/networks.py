"""What the embedded segmenter's networks make of windows: tokens, votes, outlines."""

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
from vision_mem.models.joined_passes import JoinedPasses
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.frame import PreparedFrame, SeenWindow
from vision_mem.models.segmenters.embedded.label_propagation import (
    VotingMemory,
    find_again,
    unit_tokens,
    vote,
)
from vision_mem.models.segmenters.embedded.mask_decoder import MaskDecoder
from vision_mem.models.segmenters.embedded.object_state import ObjectState
from vision_mem.models.segmenters.embedded.windows import Window, to_logit

_SHRINK = 2
"""How much smaller than the window the picture is on which the functions are fitted."""


def follow_edges(
    votes: NDArray[np.float32], picture: NDArray[np.uint8], radius: int, smoothness: float
) -> NDArray[np.float32]:
    """Bring votes to the picture's size, along its edges.

    Args:
        votes: ``(t, t)`` in [0, 1].
        picture: ``(s, s, 3)`` uint8, s even.
        radius: of the neighbourhood in which votes are a function of colour, in pixels of the
            picture at half its size.
        smoothness: colour variance (channels in [0, 1]) below which there is no edge.

    Returns:
        ``(s, s)`` float32 in [0, 1].
    """
    side = picture.shape[0]
    small = (side // _SHRINK, side // _SHRINK)

    def mean(plane: NDArray[np.floating]) -> NDArray[np.float32]:
        width = (2 * radius + 1, 2 * radius + 1)
        return np.asarray(cv2.blur(plane, width, borderType=cv2.BORDER_REFLECT_101), np.float32)

    # Planes, not pixels: each fits a core's cache, and the arithmetic runs at full width.
    # Differences to grey: what is small has more digits.
    guide = cv2.resize(picture, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    scaled = (guide - 128) * np.float32(1 / 255)
    r, g, b = (np.asarray(plane, np.float32) for plane in cv2.split(scaled))
    vote = np.asarray(cv2.resize(votes, small, interpolation=cv2.INTER_LINEAR), np.float32)
    mr, mg, mb, mv = mean(r), mean(g), mean(b), mean(vote)
    # Covariance of the colours, symmetric: only the six parts that differ.
    rr, rg, rb = mean(r * r) - mr * mr + smoothness, mean(r * g) - mr * mg, mean(r * b) - mr * mb
    gg, gb, bb = mean(g * g) - mg * mg + smoothness, mean(g * b) - mg * mb, mean(b * b) - mb * mb
    bb += smoothness
    vr, vg, vb = mean(r * vote) - mr * mv, mean(g * vote) - mg * mv, mean(b * vote) - mb * mv
    # Slopes by Cholesky's decomposition without roots. The colours of a grey picture are all but
    # dependent, which determinants in single precision do not survive and pivots do.
    low = np.float32(smoothness / 2)
    one = np.maximum(rr, low)
    lg, lb = rg / one, rb / one
    two = np.maximum(gg - lg * rg, low)
    gb -= lg * rb
    lgb = gb / two
    three = np.maximum(bb - lb * rb - lgb * gb, low)
    vg -= lg * vr
    sb = (vb - lb * vr - lgb * vg) / three
    sg = vg / two - lgb * sb
    sr = vr / one - lg * sg - lb * sb
    rest = mean(mv - sr * mr - sg * mg - sb * mb)

    slopes = [mean(slope) * np.float32(1 / 255) for slope in (sr, sg, sb)]
    said = _enlarged(rest - 128 * (slopes[0] + slopes[1] + slopes[2]), side)
    for slope, plane in zip(slopes, cv2.split(picture), strict=True):
        said += _enlarged(slope, side) * plane
    return np.asarray(np.clip(said, 0, 1, out=said), np.float32)


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
        device, dtype: as given.
        at_once: windows in one pass of the trunk.
        fingerprint: of all weights that tokens and outlines depend on.
        trunk: the frozen network.
        decoder: what was learned, or None.
        learned: whether it has a say.
    """

    _joined: JoinedPasses[NDArray[Any], SeenWindow] | None = None

    def __init__(
        self,
        trunk: EfficientNetLite0,
        decoder: MaskDecoder | None,
        device: torch.device,
        dtype: torch.dtype,
        config: EmbeddedConfig,
    ) -> None:
        self.device, self.dtype, self._config = device, dtype, config
        self.at_once = _AT_ONCE.get(device.type, 1)
        if device.type == "cpu" and dtype == torch.float32:
            self.at_once = 1
        self.fingerprint = trunk.fingerprint
        self.trunk = trunk.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.decoder = decoder if config.decoder_share > 0 else None
        self.learned = self.decoder is not None
        if self.decoder is not None:
            self.fingerprint += f"-{self.decoder.fingerprint}"
            self.decoder = self.decoder.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def join_passes(self) -> None:
        """From now on, windows that several threads want seen go through the trunk together.

        Results do not depend on it. On a CPU, where each thread has a core of its own, they do not.
        """
        if self.device.type != "cpu":
            self._joined = JoinedPasses(self.look_at, self.at_once)

    def tokens(self, payload: PreparedFrame, window: Window) -> Tensor:
        """``(N, C)`` unit tokens of a window."""
        self.prepare(payload, [window])
        return payload.windows[window].tokens

    def prepare(self, payload: PreparedFrame, windows: Sequence[Window]) -> None:
        """Look at windows, a few in one pass of the trunk; what was looked at is kept."""
        look = self._joined or self.look_at
        missing = [one for one in dict.fromkeys(windows) if one not in payload.windows]
        for first in range(0, len(missing), self.at_once):
            some = missing[first : first + self.at_once]
            side = self._config.window
            pictures = [np.asarray(one.crop(payload.image, side), np.uint8) for one in some]
            payload.windows.update(zip(some, look(pictures), strict=True))

    @torch.inference_mode()
    def look_at(self, pictures: Sequence[NDArray[Any]]) -> list[SeenWindow]:
        """Run the trunk on ``(h, w, 3)`` uint8 RGB pictures of equal size."""
        pixels = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2)
        pixels = pixels.to(self.dtype if self.dtype == torch.float32 else torch.float32)
        pixels = ((pixels - 127) / 128).to(self.dtype, memory_format=torch.channels_last)
        maps = self.trunk(pixels)
        made = []
        for n, picture in enumerate(pictures):
            tokens = unit_tokens({stride: part[n : n + 1] for stride, part in maps.items()})
            if self.decoder is None:
                made.append(SeenWindow(picture, tokens))
                continue
            plain = tokens.T.unflatten(1, maps[8].shape[-2:])[None]
            small = F.avg_pool2d(pixels[n : n + 1], 2)
            tokens = self.decoder.comparable(tokens)
            made.append(SeenWindow(picture, tokens, (plain, maps[4][n : n + 1], small)))
        return made

    def vote(self, query: Tensor, memory: Sequence[VotingMemory]) -> NDArray[np.float32]:
        """What memory says of a window, see ``label_propagation.vote``."""
        return vote(query, memory, self._config)

    def find_again(
        self, scene: Tensor, shape: tuple[int, int], memory: Sequence[VotingMemory]
    ) -> NDArray[np.float32]:
        """Where in a whole picture an object might be, see ``label_propagation.find_again``."""
        return find_again(scene, shape, memory, self._config.temperature)

    def mended(
        self, payload: PreparedFrame, mask: NDArray[np.bool_], box: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """A mask that was made of a box, as the decoder would have it.

        Args:
            payload: the frame.
            mask: ``(H, W)`` at the video's size.
            box: ``(4,)`` x1, y1, x2, y2 pixels; nothing outside it belongs to the object.
        """
        if not self.learned or not mask.any():
            return mask
        window = ObjectState.of_mask(mask, self._config.reach, payload.scale).window
        tokens = self.tokens(payload, window)
        part = window.from_grid(mask.astype(np.float32), self._config.tokens, 1.0).reshape(-1)
        shown = torch.from_numpy(part).to(self.device)
        memory = [VotingMemory(tokens, shown, 1.0, prompted=True, exact=False)]
        logits = self.outline(payload, window, self.vote(tokens, memory))
        whole = window.onto_grid(logits, np.empty(mask.shape, np.float32), 1.0, outside=-1.0)
        found = np.zeros_like(mask)
        x1, y1, x2, y2 = (max(0, round(float(value))) for value in box)
        found[y1:y2, x1:x2] = whole[y1:y2, x1:x2] > 0
        return found if found.any() else mask

    @torch.inference_mode()
    def outline(
        self, payload: PreparedFrame, window: Window, said: NDArray[np.float32]
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
        how = config.outline_radius, config.outline_smoothness
        edges = follow_edges(said[0], seen.picture, *how)
        mixed = config.outline_share * edges + (1 - config.outline_share) * plain
        if seen.maps is not None:
            learned = self.decoded(seen.maps, said)
            mixed += config.decoder_share * (_enlarged(learned, config.window) - mixed)
        return to_logit(mixed)

    def decoded(
        self, maps: tuple[Tensor, Tensor, Tensor], said: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What the decoder makes of votes ``(4, t, t)``: ``(4t, 4t)`` in [0, 1]."""
        assert self.decoder is not None  # else there are no maps
        votes = torch.from_numpy(said)[None].to(self.device, self.dtype)
        return np.asarray(torch.sigmoid(self.decoder(*maps, votes)[0]).cpu().numpy())


def _enlarged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)
