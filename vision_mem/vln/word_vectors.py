"""Words as vectors without a model: the same words give the same vector, shared words a near one.

A stand-in for a joint embedder of pictures and text where there is none: it knows names, not
meanings. ``red pharmacy`` is near ``red bank`` and ``blue pharmacy`` and far from ``blue bank``.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WIDTH = 64
_SILENT = frozenset({"the", "a", "an", "of", "on", "in", "at", "with", "your", "and"})


def word_vector(text: str, width: int = WIDTH) -> NDArray[np.float32]:
    """Unit vector of a name.

    Args:
        text: words; order, capitals and words such as "the" do not count.
        width: numbers in the vector.

    Returns:
        ``(width,)`` float32 of length 1; zeros for text without words.
    """
    return _vector(" ".join(sorted(words_of(text))), width).copy()


def words_of(text: str) -> set[str]:
    """The words that count, in small letters, plurals without their s."""
    found = re.findall(r"[a-z0-9']+", text.lower())
    kept = [word for word in found if word not in _SILENT]
    return {w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in kept}


@lru_cache(maxsize=4096)
def _vector(words: str, width: int) -> NDArray[np.float32]:
    total = np.zeros(width)
    for word in words.split():
        # Seeded by the word itself, so that every process agrees.
        one = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(width)
        total += one / np.linalg.norm(one)
    size = np.linalg.norm(total)
    return np.asarray(total / size if size else total, np.float32)
