"""One budget for all memories of a stream: who gets how much, and which settings keep to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.text import short
from vision_mem.types import Frame

if TYPE_CHECKING:
    from vision_mem.models.vlm.protocol import VideoLanguageModel

TRACK, MOTS, ASK, RECONSTRUCT, NAVIGATE = "track", "mots", "ask", "reconstruct", "navigate"
"""The memories, called as their own commands are."""
_WEIGHTS = {TRACK: 3, MOTS: 3, ASK: 2, RECONSTRUCT: 3, NAVIGATE: 2}
"""How the budget is split. Of the usual 1 GB, reconstruct and ask get what they take by themselves
(256 MiB, and 12,288 tokens of 50 MB), so that nothing of them differs from their own commands."""
_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
          "k": 1e3, "m": 1e6, "g": 1e9}  # fmt: skip
_LEAST = 1 << 20
_SPACE = 0.75
"""Share of the map's share for space; places and landmarks have the rest."""
_SPARE = 0.97
"""Share of what is left for tokens that is given out: tensors have a little beside them."""


def parse_size(text: str) -> int:
    """Bytes of ``1GB``, ``500 MB`` or ``2GiB``.

    Raises:
        InputError: for anything else, and for less than 1 MiB.
    """
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([kmg]i?b?)\s*", text.lower())
    unit = None if found is None else _UNITS.get(found[2])
    if found is None or unit is None:
        raise InputError(f"budget {short(text)!r}: expected a size as 1GB, 500MB or 2GiB")
    size = int(float(found[1]) * unit)
    if size < _LEAST:
        raise InputError(f"budget {short(text)!r} is less than 1 MiB; give more")
    return size


@dataclass(frozen=True)
class Share:
    """What one memory may hold.

    Attributes:
        part: as ``ask``.
        bytes: at most, between frames.
    """

    part: str
    bytes: int


def split_budget(budget: str | int, parts: Sequence[str]) -> dict[str, Share]:
    """Who gets how much: by fixed weights among those that are there.

    Args:
        budget: bytes, or as ``1GB``.
        parts: some of ``track``, ``mots``, ``ask``, ``reconstruct``, ``navigate``.

    Returns:
        A share a part; together no more than the budget.

    Raises:
        InputError: for a budget that is none, or a part that there is not.
    """
    total = parse_size(budget) if isinstance(budget, str) else int(budget)
    unknown = [part for part in parts if part not in _WEIGHTS]
    if unknown or not parts:
        named = repr(unknown[0]) if unknown else "nothing"
        raise InputError(f"{named} gets no share; expected some of {', '.join(_WEIGHTS)}")
    weights = sum(_WEIGHTS[part] for part in parts)
    return {part: Share(part, total * _WEIGHTS[part] // weights) for part in parts}


def fitted(
    config: Any,
    share: Share,
    model: VideoLanguageModel | None = None,
    size: tuple[int, int] | None = None,
) -> Any:
    """Settings that keep a memory inside its share; unchanged where they do that anyway.

    Args:
        config: of ``mots``, ``ask``, ``reconstruct`` or ``navigate``. Of ``track`` what is held of
            an object is fixed by its policy; the session sees to their number.
        share: of that memory.
        model: of ``ask``: what its tokens are.
        size: of ``ask``: ``(height, width)`` of the frames.

    Raises:
        InputError: when the share is too small for anything.
    """
    if share.part == MOTS:
        most = share.bytes / 2**20
        held = config.memory.budget_mb or most
        return replace(config, memory=replace(config.memory, budget_mb=min(held, most)))
    if share.part == RECONSTRUCT:
        return replace(config, budget_mb=min(config.budget_mb, share.bytes / 2**20))
    if share.part == NAVIGATE:
        most = _SPACE * share.bytes / 1e6
        held = config.store.ram or most
        return replace(config, store=replace(config.store, ram=min(held, most)))
    if share.part == ASK and model is not None and size is not None:
        tokens = min(config.memory.budget, _tokens_for(share, model, size))
        return replace(config, memory=replace(config.memory, budget=tokens))
    return config


def _tokens_for(share: Share, model: VideoLanguageModel, size: tuple[int, int]) -> int:
    """Tokens that a share has room for, beside the frames that wait for their grid to be full."""
    blank = Frame(0, 0.0, np.zeros((*size, 3), np.uint8))
    grid = model.encode_grid([blank] * model.traits.frames_per_grid)
    count = len(grid.tokens)
    tensors = [grid.tokens, *grid.extras.values()]
    # Rows and columns of two bytes each; salience and two likenesses of four.
    each = sum(one.element_size() * one[0].numel() for one in tensors) + 2 * 2 + 3 * 4
    waiting = (model.traits.frames_per_grid - 1) * blank.image.nbytes
    bank = 256 * model.traits.width * 4  # of the questions that salience goes by
    room = int((share.bytes - waiting - bank) * _SPARE / each)
    if room < count:
        least = (count * each / _SPARE + waiting + bank) / 1e6
        raise InputError(
            f"ask has {share.bytes / 1e6:.1f} MB of the budget, and a look at frames of this size "
            f"takes {least:.1f} MB; give a larger --budget, or leave it out with --without ask"
        )
    return room


def check_fits(part: str, config: Any, share: Share) -> None:
    """Refuse settings that let a memory hold more than its share.

    Raises:
        InputError: naming the setting.
    """
    limit = share.bytes / 2**20
    if part == MOTS:
        name, value = "memory.budget_mb", float(config.memory.budget_mb)
    elif part == RECONSTRUCT:
        name, value = "budget_mb", float(config.budget_mb)
    elif part == NAVIGATE:
        name, value, limit = "store.ram", float(config.store.ram), share.bytes / 1e6
    else:
        return
    if not 0 < value <= limit * (1 + 1e-9):
        raise InputError(
            f"{part}: {name} is {value:g}; its share of the budget is {limit:.1f}: make the "
            "settings with stream_memory.fitted(config, share), or give a larger budget"
        )
