"""A reversible code: what is known and what is seen become one token, and come back from it.

A token is twice as wide as an observation: it holds exactly one pair (context, observation) and
compresses nothing. It is kept because it is the named idea of the work this room grew from, and
because it can be tested; the journal remains the memory of record (specification 1.3).

Additive coupling on two halves, L times over: ``y1 = x1 + F(x2)``, ``y2 = x2 + G(y1)``. F and G
are two linear layers around a hard swish behind a layer norm; each matrix has a spectral norm of
at most 1 and entries on a grid of 2^-16. There is no dropout anywhere.

In ``fixed`` precision values are whole multiples of 2^-16 and every sum is a sum of whole numbers
below 2^53, which double precision adds exactly in any order. So the bits do not depend on
the batch or on threads, and the way back is exact. ``float64`` and ``float32``
come back up to rounding; ``bfloat16`` is lossy and refused where losslessness is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError, ModelError

GRID = 1 << 16
"""Quanta in 1."""
LIMIT = 1 << 31
"""Values stay below this many quanta."""
PRECISIONS = {"fixed": None, "float64": torch.float64, "float32": torch.float32}
LOSSY = {"bfloat16": torch.bfloat16}

Quanta = NDArray[np.int64]


@dataclass(frozen=True)
class CodecConfig:
    """What a codec is made of. The same settings give the same codec everywhere.

    Attributes:
        width: numbers in an observation, d, 1 to 4096.
        layers: coupling steps, L.
        ratio: how much wider the inner layer is.
        precision: ``fixed``, ``float64``, ``float32``, or the lossy ``bfloat16``.
        lossless: whether only precisions that return what went in are accepted; with floats that
            means within the documented bounds.
        seed: of the fixed random weights.
    """

    width: int = 384
    layers: int = 6
    ratio: float = 4.0
    precision: str = "fixed"
    lossless: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 4096 or not 1 <= self.layers <= 64 or not 0 < self.ratio <= 16:
            raise InputError(
                f"a codec of width {self.width}, {self.layers} layers and ratio {self.ratio} is "
                "not possible; expected 1 to 4096, 1 to 64, and above 0 up to 16"
            )
        if self.precision in LOSSY and self.lossless:
            raise InputError(
                f"{self.precision} loses digits (errors up to 5e-2); use fixed, float64 or "
                "float32, or set lossless to false"
            )
        if self.precision not in PRECISIONS and self.precision not in LOSSY:
            known = ", ".join([*PRECISIONS, *LOSSY])
            raise InputError(f"precision is {self.precision!r}; expected one of {known}")


@dataclass(frozen=True, eq=False)
class Tokens:
    """A batch of tokens.

    Attributes:
        values: ``(n, 2d)``: int64 quanta when fixed, else numbers of the codec's precision as
            float64 (exact).
        checks: uint32 ``(n,)`` CRC-32 of the quantised observation.
    """

    values: NDArray[Any]
    checks: NDArray[np.uint32]

    def to_bytes(self) -> bytes:
        """Pack for storage."""
        n, width = self.values.shape
        kind = b"i" if self.values.dtype == np.int64 else b"f"
        head = kind + np.array([n, width], "<u8").tobytes()
        values = self.values.astype("<i8" if kind == b"i" else "<f8")
        return head + values.tobytes() + self.checks.astype("<u4").tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Tokens:
        """Unpack what ``to_bytes`` gave.

        Raises:
            ModelError: for bytes that are damaged.
        """
        head = np.frombuffer(raw[1:17], "<u8") if len(raw) >= 17 else np.zeros(2, "<u8")
        n, width = (int(value) for value in head)
        if raw[:1] not in (b"i", b"f") or len(raw) != 17 + n * (8 * width + 4):
            raise ModelError("stored tokens are damaged: their length is wrong")
        middle = 17 + 8 * n * width
        values = np.frombuffer(raw[17:middle], "<i8" if raw[:1] == b"i" else "<f8")
        native = np.int64 if raw[:1] == b"i" else np.float64
        checks = np.frombuffer(raw[middle:], "<u4").astype(np.uint32)
        return cls(values.reshape(n, width).astype(native), checks)


class ReversibleCodec:
    """Turns (context, observation) into a token and back.

    Args:
        config: settings.
    """

    def __init__(self, config: CodecConfig | None = None) -> None:
        self.config = config or CodecConfig()
        random = np.random.default_rng(self.config.seed)
        d = self.config.width
        inner = max(1, round(d * self.config.ratio))
        # Whole numbers in float64: a matrix product of them is exact.
        self._nets = [
            (_capped(random, inner, d), _capped(random, d, inner))
            for _ in range(2 * self.config.layers)
        ]
        self._order = random.permutation(d)
        self._signs = random.choice([-1, 1], d)
        self._kind = PRECISIONS.get(self.config.precision) or LOSSY.get(self.config.precision)
        self._floats: list[tuple[torch.Tensor, torch.Tensor]] = []
        if self._kind is not None:
            self._floats = [
                tuple(torch.from_numpy(w / GRID).to(self._kind) for w in net)  # type: ignore[misc]
                for net in self._nets
            ]

    def encode(self, context: ArrayLike, observation: ArrayLike) -> Tokens:
        """Make tokens.

        Args:
            context: ``(n, d)`` what was known: numbers below 2^15, or int64 quanta when fixed.
            observation: ``(n, d)`` what is seen, likewise.

        Raises:
            InputError: for another shape, or values that are not finite or too large.
        """
        first, second = self._halves(context), self._halves(observation)
        if first.shape != second.shape:
            raise InputError(f"context {first.shape} and observation {second.shape} differ")
        checks = _checks(self.quantise(observation))
        if self._kind is None:
            for f, g in self._pairs():
                first = first + self._net(f, second)
                second = second + self._net(g, first)
            values = np.concatenate([first, second], axis=1)
            if values.size and np.abs(values).max() >= LIMIT:
                raise InputError("a token leaves the range of 2^31 quanta; scale the values down")
            return Tokens(values, checks)
        a, b = self._tensor(first), self._tensor(second)
        for f, g in self._pairs():
            a = a + self._float_net(f, b)
            b = b + self._float_net(g, a)
        return Tokens(torch.cat([a, b], dim=1).double().numpy(), checks)

    def decode(
        self,
        tokens: Tokens,
        fallback: Callable[[int], ArrayLike] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Undo ``encode``.

        Args:
            tokens: made by a codec of the same settings.
            fallback: when fixed, called with the number of a token whose check does not agree;
                gives its ``(d,)`` observation from the journal.

        Returns:
            Context and observation, ``(n, d)`` each: int64 quanta when fixed, else float64.

        Raises:
            ModelError: for a token that is damaged, without a fallback.
        """
        d = self.config.width
        if tokens.values.ndim != 2 or tokens.values.shape[1] != 2 * d:
            raise InputError(f"tokens have shape {tokens.values.shape}; expected (n, {2 * d})")
        if self._kind is not None:
            a, b = (self._tensor(half) for half in (tokens.values[:, :d], tokens.values[:, d:]))
            for f, g in reversed(self._pairs()):
                b = b - self._float_net(g, a)
                a = a - self._float_net(f, b)
            return a.double().numpy(), b.double().numpy()
        if tokens.values.dtype != np.int64:
            raise InputError("tokens of floats cannot be decoded in fixed precision")
        first, second = tokens.values[:, :d], tokens.values[:, d:]
        for f, g in reversed(self._pairs()):
            second = second - self._net(g, first)
            first = first - self._net(f, second)
        wrong = np.flatnonzero(_checks(second) != tokens.checks).tolist()
        if wrong and fallback is None:
            raise ModelError(f"token {wrong[0]} is damaged; read the observation from the journal")
        for number in wrong:
            assert fallback is not None
            second[number] = self.quantise(np.asarray(fallback(number))[None])[0]
        return first, second

    def quantise(self, values: ArrayLike) -> Quanta:
        """Round ``(n, d)`` numbers to the grid; int64 quanta pass unchanged.

        Raises:
            InputError: for another shape, or values that are not finite or too large.
        """
        array = np.asarray(values)
        if array.ndim != 2 or array.shape[1] != self.config.width:
            raise InputError(f"values have shape {array.shape}; expected (n, {self.config.width})")
        if array.dtype != np.int64:
            array = np.rint(array.astype(np.float64) * GRID)
        if array.size and not np.abs(array).max() < LIMIT:
            raise InputError("values are not finite or reach 2^31 quanta; scale them down")
        return array.astype(np.int64)

    # -- histories -----------------------------------------------------------------------------

    def chain(self, tokens: Tokens) -> tuple[Quanta, Quanta]:
        """Fold a token into the context of the next observation of the same key.

        Pairs of numbers, one of each half, are turned by 45 degrees in three whole-number shears:
        up to rounding a fixed orthonormal map to d numbers and its complement.

        Returns:
            The context, which carries history with losses, and the remainder ``(n, d)``: kept
            too, it lets ``unchain`` walk back exactly, at d numbers a step.
        """
        d = self.config.width
        a, b = tokens.values[:, :d], tokens.values[:, d:][:, self._order] * self._signs
        a = a - _times(b, _TAN)
        b = b + _times(a, _SIN)
        a = a - _times(b, _TAN)
        return a, b

    def unchain(self, context: Quanta, remainder: Quanta) -> NDArray[np.int64]:
        """Undo ``chain``: the values of the token, int64 ``(n, 2d)``."""
        a = context + _times(remainder, _TAN)
        b = remainder - _times(a, _SIN)
        a = a + _times(b, _TAN)
        back = np.empty_like(b)
        back[:, self._order] = b * self._signs
        return np.concatenate([a, back], axis=1)

    # -- nets ----------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[int, int]]:
        return [(2 * layer, 2 * layer + 1) for layer in range(self.config.layers)]

    def _halves(self, values: ArrayLike) -> NDArray[Any]:
        if self._kind is None:
            return self.quantise(values)
        array = np.asarray(values, np.float64)
        if array.ndim != 2 or array.shape[1] != self.config.width or not np.isfinite(array).all():
            raise InputError(
                f"values of shape {array.shape}; expected finite (n, {self.config.width})"
            )
        return array

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._kind)

    def _net(self, number: int, x: Quanta) -> Quanta:
        up, down = self._nets[number]
        hidden = np.rint(_norm(x) @ up.T / GRID)
        # Hard swish, h * clip(h / 6 + 1/2, 0, 1), from operations that round alike everywhere.
        hidden = np.rint(hidden * np.clip(hidden / (6 * GRID) + 0.5, 0.0, 1.0))
        return np.asarray(np.rint(hidden @ down.T / GRID), np.int64)

    def _float_net(self, number: int, x: torch.Tensor) -> torch.Tensor:
        up, down = self._floats[number]
        hidden = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=_EPS) @ up.T
        return torch.nn.functional.hardswish(hidden) @ down.T


_EPS = 1e-5
_TAN, _SIN = float(np.sqrt(2.0) - 1.0), float(np.sqrt(0.5))


def _capped(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Whole numbers in units of 2^-16: a random matrix of spectral norm just below 1."""
    matrix = random.standard_normal((rows, columns))
    norm = np.linalg.norm(matrix, 2)
    # Rounding may add half a quantum an entry; the margin keeps the norm below 1 all the same.
    margin = 1.0 + np.sqrt(rows * columns) / GRID
    return np.asarray(np.rint(matrix / (norm * margin) * GRID), np.float64)


def _norm(x: Quanta) -> NDArray[np.float64]:
    """Layer norm in whole numbers: quanta in, quanta (as float64) out; exact sums throughout."""
    width = x.shape[1]
    centred = x * width - x.sum(axis=1, keepdims=True)  # below 2^31 * 2^12 * 2
    top = np.abs(centred).max(axis=1, keepdims=True, initial=0)
    # Squares of 24-bit numbers: 4096 of them add up below 2^60.
    shift = np.maximum(np.frexp(top.astype(np.float64))[1].astype(np.int64) - 24, 0)
    small = centred >> shift
    variance = (small * small).sum(axis=1, keepdims=True) / width
    floor = _EPS * (GRID * width / (np.int64(1) << shift).astype(np.float64)) ** 2
    return np.asarray(np.rint(small / np.sqrt(variance + floor) * GRID))


def _times(values: Quanta, factor: float) -> Quanta:
    return np.asarray(np.rint(values * factor), np.int64)


def _checks(quanta: Quanta) -> NDArray[np.uint32]:
    little = np.ascontiguousarray(quanta, "<i8")
    return np.array([zlib.crc32(row.data) for row in little], np.uint32)
