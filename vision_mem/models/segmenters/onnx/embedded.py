"""The embedded segmenter as graphs.

Four networks and votes are graphs: a window is looked at, its tokens ask memory, the decoder draws
the outline, and a whole picture is searched. Optical flow, parts and the geometry of windows stay
what they are. There is no memory encoder: what is remembered of a frame are a window's tokens and
the object's share of each, so the state that grows is an input of ``memory_attention`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.frame import SeenWindow
from vision_mem.models.segmenters.embedded.label_propagation import (
    FEATURES,
    VotingMemory,
    nearness,
)
from vision_mem.models.segmenters.embedded.mask_decoder import VOTES, MaskDecoder
from vision_mem.models.segmenters.embedded.networks import EmbeddedNetworks
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.models.segmenters.onnx.graphs import ExportManifest, Seam, SeamGraphs

_LOOK, _VOTE, _DECODE, _SEARCH = "image_encoder", "memory_attention", "mask_decoder", "search"
_ROWS = 128
"""Tokens of a window that ask at a time: their answers stay in a core's cache."""


class _WindowTokens(nn.Module):
    """Pictures to tokens, and to what the decoder looks at."""

    def __init__(self, trunk: EfficientNetLite0, decoder: MaskDecoder) -> None:
        super().__init__()
        self.trunk, self.decoder = trunk, decoder

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels = (pictures.permute(0, 3, 1, 2).float() - 127) / 128
        maps = self.trunk(pixels)
        fine, coarse = (F.normalize(maps[stride], dim=1) for stride in (8, 16))
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        plain = F.normalize(torch.cat([fine, coarse], dim=1) / 2**0.5, dim=1)
        tokens = self.decoder.comparable(plain.flatten(2).transpose(1, 2))
        return tokens, plain, maps[4], F.avg_pool2d(pixels, 2)


class _Votes(nn.Module):
    """``label_propagation.vote`` for several objects, a constant number of rows at a time."""

    recent_asked: Tensor
    recent_known: Tensor
    prompt_asked: Tensor
    prompt_known: Tensor

    def __init__(self, config: EmbeddedConfig) -> None:
        super().__init__()
        self.config = config
        for name, weight in {"recent": 1.0, "prompt": config.prompt_locality}.items():
            places = nearness(
                config.tokens, config.locality * weight, 1 / config.temperature,
                torch.float32, torch.device("cpu"),
            )  # fmt: skip
            self.register_buffer(f"{name}_asked", places[0])
            self.register_buffer(f"{name}_known", places[1])

    def forward(
        self, query: Tensor, tokens: Tensor, mask: Tensor, share: Tensor, prompted: Tensor,
        exact: Tensor,
    ) -> Tensor:  # fmt: skip
        config = self.config
        kind = prompted[..., None, None]  # (B, M, 1, 1)
        known = torch.where(kind, self.prompt_known, self.recent_known)
        keys = torch.cat([tokens, known], dim=3).transpose(2, 3)
        values = torch.stack([mask, torch.ones_like(mask)], dim=3)
        scaled, parts = query / config.temperature, []
        for first in range(0, query.shape[1], _ROWS):
            rows = slice(first, first + _ROWS)
            asked = torch.where(kind, self.prompt_asked[rows], self.recent_asked[rows])
            looks = scaled[:, None, rows].expand(-1, tokens.shape[1], -1, -1)
            alike = torch.exp(torch.cat([looks, asked], dim=3) @ keys)
            parts.append(alike @ values)
        inside, evidence = torch.cat(parts, dim=2).unbind(dim=3)  # (B, M, N)
        evidence = evidence + 1e-12
        weight = share[..., None] * evidence**config.evidence
        weighed, first_of = weight * inside / evidence, prompted[..., None].float()
        everyone = weighed.sum(dim=1) / weight.sum(dim=1)
        alone = (weighed * first_of).sum(dim=1) / (weight * first_of).sum(dim=1)
        alike = ((share[..., None] * evidence).sum(dim=1).log() / 6).clamp(-2, 2)
        told = (prompted & exact).float().sum(dim=1) / prompted.float().sum(dim=1).clamp(min=1)
        maps = torch.stack([everyone, alone, alike, told[:, None].expand_as(alike)], dim=1)
        return maps.reshape(-1, VOTES, config.tokens, config.tokens)


class _Outlines(nn.Module):
    """Votes to an outline, [0, 1]."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, plain: Tensor, fine: Tensor, picture: Tensor, votes: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(plain, fine, picture, votes))


class _SceneSearch(nn.Module):
    """``label_propagation.find_again``."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, scene: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        alike = torch.exp((scene @ tokens.transpose(1, 2) - 1) / self.temperature)
        inside, evidence = (alike @ torch.stack([mask, torch.ones_like(mask)], dim=2)).unbind(dim=2)
        return (inside / (evidence + 1e-12)).mean(dim=0)


def embedded_seams(segmenter: EmbeddedSegmenter) -> tuple[dict[str, Any], list[Seam]]:
    """What code between the seams must know, and the seams.

    Raises:
        InputError: for a segmenter without a mask decoder.
    """
    config, networks = segmenter.config, segmenter.networks
    if networks.decoder is None:
        raise InputError("the embedded segmenter without its mask decoder cannot be exported")
    random = torch.Generator().manual_seed(0)
    size, side, count = config.tokens**2, config.window, 3
    pictures = torch.randint(0, 255, (1, side, side, 3), generator=random, dtype=torch.uint8)
    look = _WindowTokens(networks.trunk, networks.decoder)
    with torch.no_grad():
        tokens, plain, fine, small = look(pictures)
    mask = torch.rand(1, count, size, generator=random)
    noise = torch.randn(1, count, size, FEATURES, generator=random)
    memory = F.normalize(tokens[:, None] + 0.02 * noise, dim=3)
    prompted = torch.tensor([[True, False, True]])
    votes = torch.rand(1, VOTES, config.tokens, config.tokens, generator=random)
    several, remembered = {0: "objects"}, {0: "objects", 1: "memories"}
    seams = [
        Seam(
            _LOOK, "pictures of windows, or of a whole scene, to tokens and the decoder's maps",
            look, {"pictures": pictures}, ("tokens", "plain", "fine", "small"),
            {
                "pictures": {0: "windows", 1: "height", 2: "width"},
                "tokens": {0: "windows", 1: "places"},
                **{
                    name: {0: "windows", 2: f"{name}_height", 3: f"{name}_width"}
                    for name in ("plain", "fine", "small")
                },
            },
        ),
        Seam(
            _VOTE, "a window's tokens ask the memories of their objects; each memory is the "
            "tokens of a window, the object's share of each, and its weight",
            _Votes(config),
            {
                "query": tokens, "tokens": memory, "mask": mask,
                "share": torch.tensor([[0.4, 0.2, 0.4]]), "prompted": prompted,
                "exact": torch.tensor([[True, True, False]]),
            },
            ("votes",),
            {
                "query": several, "votes": several,
                **{k: remembered for k in ("tokens", "mask", "share", "prompted", "exact")},
            },
        ),
        Seam(
            _DECODE, "votes and a window's maps to the object's outline, [0, 1]",
            _Outlines(networks.decoder),
            {"plain": plain, "fine": fine, "small": small, "votes": votes}, ("outline",),
            {name: several for name in ("plain", "fine", "small", "votes", "outline")},
        ),
        Seam(
            _SEARCH, "tokens of a whole picture ask prompted memories, wherever they lie",
            _SceneSearch(config.temperature),
            {"scene": tokens[0], "tokens": memory[0], "mask": mask[0]}, ("found",),
            {
                "scene": {0: "places"}, "found": {0: "places"},
                "tokens": {0: "memories"}, "mask": {0: "memories"},
            },
        ),
    ]  # fmt: skip
    constants = {
        "fingerprint": networks.fingerprint,
        "config": asdict(config),
        "config_fingerprint": config.fingerprint,
    }
    return constants, seams


class GraphNetworks(EmbeddedNetworks):
    """The embedded segmenter's networks, in ONNX Runtime.

    Args:
        graphs: of the folder.
        fingerprint: of the weights in them.
        config: constants.
    """

    def __init__(self, graphs: SeamGraphs, fingerprint: str, config: EmbeddedConfig) -> None:
        self._graphs, self._config = graphs, config
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.at_once, self.learned = 1, True
        self.fingerprint = f"{fingerprint}-onnx"  # equal within rounding is not equal

    def look_at(self, pictures: Sequence[NDArray[Any]]) -> list[SeenWindow]:
        """Look at ``(h, w, 3)`` uint8 RGB pictures of equal size."""
        made = self._graphs.run(_LOOK, {"pictures": torch.from_numpy(np.stack(pictures))})
        tokens, plain, fine, small = (one.split(1) for one in made)
        return [
            SeenWindow(*parts[:2], maps=parts[2:])
            for parts in zip(pictures, (one[0] for one in tokens), plain, fine, small, strict=True)
        ]

    def vote(self, query: Tensor, memory: Sequence[VotingMemory]) -> NDArray[np.float32]:
        """What memory says of a window, see ``label_propagation.vote``."""
        told = {
            "share": torch.tensor([[entry.share for entry in memory]]),
            "prompted": torch.tensor([[entry.prompted for entry in memory]]),
            "exact": torch.tensor([[entry.exact for entry in memory]]),
        }
        tokens = torch.stack([entry.tokens for entry in memory])[None]
        mask = torch.stack([entry.mask for entry in memory])[None]
        given = {"query": query[None], "tokens": tokens, "mask": mask, **told}
        return np.asarray(self._graphs.run(_VOTE, given)[0][0].numpy(), np.float32)

    def find_again(
        self, scene: Tensor, shape: tuple[int, int], memory: Sequence[VotingMemory]
    ) -> NDArray[np.float32]:
        """Where in a whole picture an object might be, see ``label_propagation.find_again``."""
        tokens, mask = (
            torch.stack([getattr(entry, name) for entry in memory]) for name in ("tokens", "mask")
        )
        found = self._graphs.run(_SEARCH, {"scene": scene, "tokens": tokens, "mask": mask})[0]
        return np.asarray(found.reshape(shape).numpy(), np.float32)

    def decoded(
        self, maps: tuple[Tensor, Tensor, Tensor], said: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What the decoder makes of votes ``(4, t, t)``: ``(4t, 4t)`` in [0, 1]."""
        given = dict(zip(("plain", "fine", "small"), maps, strict=True))
        votes = torch.from_numpy(said)[None]
        return np.asarray(self._graphs.run(_DECODE, {**given, "votes": votes})[0][0].numpy())


def open_embedded(folder: Path, manifest: ExportManifest, device: str) -> EmbeddedSegmenter:
    """The embedded segmenter of an exported folder.

    Raises:
        InputError: for a folder that was exported with other constants, and as ``SeamGraphs``.
    """
    told = manifest.constants
    try:
        config = load_config(EmbeddedConfig, None, told["config"], folder="tracking")
        same = config.fingerprint == told["config_fingerprint"]
    except (InputError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise InputError(
            f"{folder} was exported with other constants than this version of vision-mem has; "
            "export it anew: vision-mem export embedded --format onnx --out DIR"
        )
    graphs = SeamGraphs(folder, manifest, device, (_LOOK, _VOTE, _DECODE, _SEARCH))
    networks = GraphNetworks(graphs, str(told.get("fingerprint")), config)
    return EmbeddedSegmenter(networks, config)
