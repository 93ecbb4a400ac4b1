"""One grid in memory, and what a session says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vision_mem.models.vlm.protocol import EncodedGrid
from vision_mem.text import one_line, short
from vision_mem.types import MemoryUsage
from vision_mem.videoqa.compression import unit

SHORT, MID, LONG = TIERS = ("short", "mid", "long")
_PLAIN = ("index", "segment", "start_s", "end_s", "original", "tier", "scene_change")
_TENSORS = ("features", "rows", "cols", "salience", "like_previous", "like_next", "directions")


def whole(value: Any) -> int:
    """A number of a state that counts or names something.

    Raises:
        ValueError: for one that cannot: states come in files from strangers.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError("a number that counts something is none")
    return value


def real(value: Any) -> float:
    """A number of a state that measures something, seconds mostly.

    Raises:
        ValueError: for one that is not finite, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**53:
        raise ValueError("a time or another number is none")
    return float(value)


def numbers(state: Mapping[str, Any], *measures: str) -> dict[str, Any]:
    """Numbers of a state by name: some measure something, the others count."""
    return {name: (real if name in measures else whole)(value) for name, value in state.items()}


@dataclass(frozen=True, eq=False)
class GridEntry:
    """What is remembered of one grid: n of its tokens. Never changed, only replaced.

    Attributes:
        index: number of the grid in its stream, from 0; its name for ever.
        segment: counts changes of the frame size, from 0.
        frames: indices of its frames in the source.
        start_s, end_s: times of its first and last frame, seconds.
        size: rows and columns of the whole grid.
        original: tokens it had when it came.
        tier: ``short``, ``mid`` or ``long``.
        features: ``(n, D)`` in the model's type.
        rows, cols: int16 ``(n,)`` places on the grid.
        salience: float32 ``(n,)``, None without a bank.
        scene_change: whether a new scene begins with it.
        like_previous: float32 ``(n,)`` best cosine with the neighbours on the grid before, in the
            short tier; None for the first grid of a segment, and in the other tiers.
        like_next: the same for the grid after; None for the newest grid of a segment.
        directions: ``(n, D)`` unit vectors it is found by, where they are not those of its
            features (``stale_directions``); else None.
        extras: tensors ``(n, ...)`` by name that the model gave with the tokens.
    """

    index: int
    segment: int
    frames: tuple[int, ...]
    start_s: float
    end_s: float
    size: tuple[int, int]
    original: int
    tier: str
    features: torch.Tensor
    rows: torch.Tensor
    cols: torch.Tensor
    salience: torch.Tensor | None = None
    scene_change: bool = False
    like_previous: torch.Tensor | None = None
    like_next: torch.Tensor | None = None
    directions: torch.Tensor | None = None
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def new(
        cls,
        encoded: EncodedGrid,
        *,
        index: int,
        frames: tuple[int, ...],
        start_s: float,
        end_s: float,
        segment: int = 0,
    ) -> GridEntry:
        """A grid as the model gave it, not yet in any memory; arguments as the attributes."""
        size = (int(encoded.rows.max()) + 1, int(encoded.cols.max()) + 1)
        return cls(
            index=index,
            segment=segment,
            frames=frames,
            start_s=start_s,
            end_s=end_s,
            size=size,
            original=len(encoded.tokens),
            tier=SHORT,
            features=_own(encoded.tokens),
            rows=encoded.rows.to(torch.int16),
            cols=encoded.cols.to(torch.int16),
            extras={name: _own(extra) for name, extra in encoded.extras.items()},
        )

    def __len__(self) -> int:
        return self.features.shape[0]  # len() of a tensor is many times slower

    def units(self) -> torch.Tensor:
        """``(n, D)`` unit vectors that it is compared and found by."""
        return unit(self.features) if self.directions is None else self.directions

    def take(self, keep: torch.Tensor) -> GridEntry:
        """The entry with some of its tokens only: bool ``(n,)``."""
        if bool(keep.all()):
            return self
        some = {
            name: value[keep] for name in _TENSORS if (value := getattr(self, name)) is not None
        }
        extras = {name: extra[keep] for name, extra in self.extras.items()}
        return replace(self, **some, extras=extras)

    def places(self) -> list[int]:
        """Number of each kept token among all places of the grid, row by row."""
        return (self.rows.long() * self.size[1] + self.cols.long()).tolist()

    def tensors(self) -> Iterator[torch.Tensor]:
        """All tensors held."""
        yield from (value for name in _TENSORS if (value := getattr(self, name)) is not None)
        yield from self.extras.values()

    def state_dict(self) -> dict[str, Any]:
        """Plain values, lists and tensors by name; what is None is left out."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        state |= {"frames": list(self.frames), "size": list(self.size)}
        state |= {n: value for n in _TENSORS if (value := getattr(self, n)) is not None}
        return state | {"extras": dict(self.extras)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device | str) -> GridEntry:
        """Rebuild an entry from ``state_dict``, on a device.

        Raises:
            KeyError, TypeError, ValueError: when the state is not one of an entry.
        """
        tensors = {n: state[n].to(device) for n in _TENSORS if state.get(n) is not None}
        extras = {str(name): extra.to(device) for name, extra in state["extras"].items()}
        count = len(tensors["features"])
        if tensors["features"].ndim != 2 or state["tier"] not in TIERS:
            raise ValueError("tokens or tier of a grid are damaged")
        for name, value in {**tensors, **extras}.items():
            if len(value) != count:
                raise ValueError(f"{name} has {len(value)} rows for {count} tokens")
        if not bool(tensors["features"].isfinite().all()):
            raise ValueError("tokens have numbers that are not finite")
        size = (whole(state["size"][0]), whole(state["size"][1]))
        for name, bound in (("rows", size[0]), ("cols", size[1])):
            where = tensors[name]
            if where.is_floating_point() or where.ndim != 1:
                raise ValueError(f"{name} are no places")
            if count and (int(where.min()) < 0 or int(where.max()) >= bound):
                raise ValueError(f"{name} lie outside the grid")
        return cls(
            index=whole(state["index"]),
            segment=whole(state["segment"]),
            frames=tuple(whole(frame) for frame in state["frames"]),
            start_s=real(state["start_s"]),
            end_s=real(state["end_s"]),
            size=size,
            original=whole(state["original"]),
            tier=str(state["tier"]),
            scene_change=bool(state["scene_change"]),
            extras=extras,
            **tensors,
        )


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with storage of just its size: a slice would keep all of its batch alive."""
    tensor = tensor.detach().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


@dataclass(frozen=True)
class Moment:
    """A moment that an answer rests on.

    Attributes:
        grid: number of the grid.
        frames: indices of its frames in the source.
        start_s, end_s: when it was, seconds.
        score: how well it matches the question: mean over its tokens of the best cosine with the
            question's words, in [-1, 1].
        tier: where it lies in memory.
        tokens: how many of its tokens were read.
        box: where in the picture it is, left, top, right and bottom as shares of its sides; None
            from models that do not say.
    """

    grid: int
    frames: tuple[int, ...]
    start_s: float
    end_s: float
    score: float
    tier: str
    tokens: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Interval:
    """From when to when something was seen.

    Attributes:
        start_s, end_s: seconds; it ends with the look after the last that shows it.
        peak: the moment that shows it best.
        moments: all of it, in time order.
    """

    start_s: float
    end_s: float
    peak: Moment
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class Answer:
    """What a session answers.

    Attributes:
        text: the answer; None from a model that finds moments and does not speak.
        evidence: the moments that match best among those read, best first.
        at_s: the time that the question was asked for, seconds.
        scope: ``recent`` when only the latest grids were read, else ``all``.
        tokens_read, grids_read: how much the model was given.
        cut: whether the answer was longer than ``max_answer_tokens`` and is cut off there.
        found: whether what was asked for was seen; None from models that do not judge that.
        threshold: the score from which on it counts as seen, on this memory; None likewise.
        intervals: when it was seen, in time order; empty when it was not, or not judged.
        unknown: why it cannot be found by this model, in one line; empty otherwise.
        notes: why it came out this way: gate, scores, spread, K. JSON-ready values only.
    """

    text: str | None
    evidence: tuple[Moment, ...]
    at_s: float
    scope: str
    tokens_read: int
    grids_read: int
    cut: bool = False
    found: bool | None = None
    threshold: float | None = None
    intervals: tuple[Interval, ...] = ()
    unknown: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        said = [short(one_line(self.text), 200)] if self.text else []
        said += [f"not known: {self.unknown}"] if self.unknown else []
        seen = {True: "seen", False: "not seen; likeliest", None: "best match"}[self.found]
        spans = self.intervals or self.evidence[:1]
        times = ", ".join(f"{each.start_s:.1f} to {each.end_s:.1f} s" for each in spans[:5])
        if times:
            best = max(moment.score for moment in self.evidence) if self.evidence else 0.0
            more = f" and {len(spans) - 5} more" if len(spans) > 5 else ""
            said.append(f"{seen} {times}{more}, score {best:.2f}")
        return f"at {self.at_s:.1f} s: {'; '.join(said) or 'nothing to say'}"


@dataclass(frozen=True)
class WatchResult:
    """What a session says about one frame.

    Attributes:
        frame_index, time_s: those of the frame.
        looked: whether the frame was looked at; the others are passed over (``fps``).
        wrote: numbers of the grids that entered memory; usually none or one.
        segment: counts changes of the frame size.
        tokens: held after the frame.
    """

    frame_index: int
    time_s: float
    looked: bool
    wrote: tuple[int, ...]
    segment: int
    tokens: int


@dataclass(frozen=True)
class VideoUsage(MemoryUsage):
    """What a video memory holds; ``tokens`` and ``grids`` by tier.

    ``detail`` has bytes by tier, of the question bank and of frames that wait for their partner.
    """

    tokens: Mapping[str, int] = field(default_factory=dict)
    grids: Mapping[str, int] = field(default_factory=dict)
