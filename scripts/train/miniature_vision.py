"""The first lesson of the miniature: its vision tower alone, every token told what it shows.

Tokens are drawn to the words for what they show (``align``), for a memory that searches by likeness
needs words and pictures in one space, as large models have; and simple readers, which are thrown
away afterwards, must find each part in them. That is many answers a picture, and no language model
has to be passed through, so it is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from miniature_pictures import PARTS, UNKNOWN, Scene
from numpy.typing import NDArray
from torch import Tensor, nn

from vision_mem.models.vlm.miniature import NAME, miniature_tokenizer
from vision_mem.models.vlm.qwen import QwenVideoModel
from vision_mem.synthetic.qa_streams import BACKGROUNDS

_SHARP = 0.1  # temperature of ``align``
_LENGTH, _LENGTH_WEIGHT = 1.5, 0.02  # of visual tokens, about; words have 0.7 at first
_OBJECT_WORD = "things"  # what objects have in common; backgrounds are none
_NAMES = list(PARTS)


class Readers(nn.Module):
    """What is read off tokens while they are taught; no part of the model.

    Attributes:
        parts: from visual tokens to each part, see ``PARTS``.
        places: from what the language model makes of a token to its row and column.
    """

    def __init__(self, width: int, rows: int, columns: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.parts = nn.Linear(width, sum(len(words) for words in PARTS.values()))
            self.places = nn.Linear(width, rows + columns)
        self.rows = rows


class Eyes(QwenVideoModel):
    """The adapter around a network whose vision tower learns."""

    def __init__(self, network: Any, tokenizer: Any | None = None) -> None:
        super().__init__(network, tokenizer or miniature_tokenizer(), model_id=NAME)
        network.requires_grad_(True)
        cut = network.model.visual.patch_embed
        cut.forward = MethodType(_cut, cut)
        ids = [self._chat.ids(f" {word}") for word in spoken()]
        self._spoken = torch.tensor([first for first, *_ in ids], device=self.device)
        self._words = word_table().to(self.device)

    @property
    def network(self) -> Any:
        """It, with whatever it has learned."""
        return self._network

    @property
    def spoken_ids(self) -> Tensor:
        """Ids of the words that tokens are drawn to."""
        return self._spoken

    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """``(grids, tokens, D)`` of ``(grids, 2, H, W, 3)`` uint8 RGB, as ``encode_grid`` gives.

        All at once; sides must be multiples of 28 and need no resizing.
        """
        n, t, height, width, _ = images.shape
        patch, merge = 14, self._merge
        rows, columns = height // patch, width // patch
        mean, spread = (
            torch.tensor(v) for v in (self._processor.image_mean, self._processor.image_std)
        )
        values = (torch.from_numpy(images).float() / 255 - mean) / spread
        cut = (n, t, rows // merge, merge, patch, columns // merge, merge, patch, 3)
        order = (0, 2, 5, 3, 6, 8, 1, 4, 7)
        patches = values.reshape(cut).permute(order).reshape(n * rows * columns, -1)
        grid = torch.tensor([[1, rows, columns]] * n)
        seen = self._network.get_video_features(
            patches.to(self.device), grid.to(self.device)
        ).pooler_output
        return torch.stack(list(seen))

    def align_loss(self, tokens: Tensor, shown: Tensor) -> Tensor:
        """How far tokens are from the words for what they show.

        Args:
            tokens: ``(n, D)``.
            shown: ``(n, len(PARTS))`` numbers in the parts.
        """
        kinds, marks = shown[:, _NAMES.index("kind")], shown[:, _NAMES.index("mark")]
        known = kinds != UNKNOWN
        words = F.normalize(self._network.get_input_embeddings()(self._spoken).float(), dim=-1)
        likeness = F.normalize(tokens[known].float(), dim=-1) @ words.T / _SHARP
        wanted = self._words[kinds[known], marks[known]]
        loss = F.cross_entropy(likeness, wanted, reduction="none")
        return _evenly(loss, kinds[known])


def _cut(layer: Any, patches: Tensor) -> Tensor:
    """The tower's first layer: the library's convolution sees each patch once; this is quicker."""
    return F.linear(patches.to(layer.proj.weight.dtype), layer.proj.weight.flatten(1))


def see(eyes: Eyes, readers: Readers, scenes: Sequence[Scene]) -> tuple[Tensor, dict[str, float]]:
    """The loss of some scenes, and what it is made of.

    Returns:
        The loss; ``align``, and the share of tokens whose part was read right: of ``mark`` over
        objects, of the others evenly over objects and backgrounds.
    """
    tokens = eyes.encode(np.stack([scene.images for scene in scenes])).flatten(0, 1)
    shown = torch.from_numpy(np.concatenate([scene.shown for scene in scenes])).to(tokens.device)
    align = eyes.align_loss(tokens, shown)
    loss = align + _LENGTH_WEIGHT * (tokens.float().norm(dim=-1) - _LENGTH).square().mean()
    said = {"align": float(align.detach())}
    sizes = [len(words) for words in PARTS.values()]
    guesses = readers.parts(tokens).float().split(sizes, dim=-1)
    for number, (name, guess) in enumerate(zip(PARTS, guesses, strict=True)):
        truth = shown[:, number]
        known = truth != UNKNOWN
        kinds = shown[known, 0]
        wrong = F.cross_entropy(guess[known], truth[known], reduction="none")
        hits = (guess[known].argmax(-1) == truth[known]).float()
        loss = loss + _evenly(wrong, kinds)
        said[f"see_{name}"] = float(_evenly(hits, kinds))
    return loss, said


def _evenly(values: Tensor, kinds: Tensor) -> Tensor:
    """Mean of objects' tokens and mean of the others', half each: most tokens are background."""
    objects = (kinds >= 0) & (kinds < len(PARTS["kind"]) - len(BACKGROUNDS))
    parts = [values[some].mean() for some in (objects, ~objects) if bool(some.any())]
    return torch.stack(parts).mean() if parts else values.sum()


@lru_cache(maxsize=1)
def spoken() -> tuple[str, ...]:
    """Words that tokens are drawn to, once each."""
    words = [word for name in (*PARTS["kind"], *PARTS["mark"]) for word in name.split()]
    return tuple(dict.fromkeys([*words, _OBJECT_WORD]))


def word_table() -> Tensor:
    """``(kinds, marks + 1, words)`` shares of the words for a token; the last mark is none."""
    kinds, marks = PARTS["kind"], PARTS["mark"]
    table = torch.zeros(len(kinds), len(marks) + 1, len(spoken()))
    for number, kind in enumerate(kinds):
        for place in range(len(marks) + 1):
            words = kind.split()
            if number < len(kinds) - len(BACKGROUNDS):
                words = [kind, _OBJECT_WORD, *([marks[place]] if place < len(marks) else [])]
            for word in words:
                table[number, place, spoken().index(word)] = 1 / len(words)
    return table
