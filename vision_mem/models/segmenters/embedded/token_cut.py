"""From a box or clicks to a mask on a window's tokens: what the surroundings cannot explain.

Nothing is learned. Tokens outside a box are background for certain; those inside that look like
none of them are the object, and three rounds of the same question with the object's own tokens
settle the rest. Colours cannot do that: a shirt is as unlike the trousers below it as it is unlike
the street. Everything here is a pure function of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.models.segmenters.embedded.windows import Window

_LEAST = 12
"""Tokens inside and outside a box below which there is nothing to compare."""
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class TokenCutConfig:
    """Constants of cutting an object out of tokens.

    Attributes:
        neighbours: most similar tokens whose mean similarity counts.
        temperature: of the logistic function of the difference of two similarities.
        seeds: share of the tokens in a box that are the object at first.
        centre: how much a token at the middle of a box's side is held back at first, as similarity.
        rounds: in which the object's own tokens are asked again.
        click_pull: how much a click that corrects something adds to the margin of what looks like
            the place that was clicked on, as similarity.
        click_reach: how far that reaches, standard deviation as a share of the window.
        click_sizes: mean sides of the boxes tried around a click, as shares of the picture's
            shorter side; two neighbours share a look.
        click_shapes: width and height of these boxes as multiples of the mean side.
        click_margin: how far a box is drawn around what was found in it, as a share of its sides.
        click_weights: expected IoU of a reading of a click: these times 1 and its ``evidence``.
        click_doubt: scale of differences in expected IoU that readings are weighed by when they
            vote for one another.
        part, group: area of a part, and of a group, against that of the whole.
    """

    neighbours: int = 8
    temperature: float = 0.06
    seeds: float = 0.4
    centre: float = 0.02
    rounds: int = 3
    click_pull: float = 0.3
    click_reach: float = 0.15
    click_sizes: tuple[float, ...] = (0.07, 0.1, 0.15, 0.21, 0.31, 0.45, 0.64, 0.9)
    click_shapes: tuple[tuple[float, float], ...] = ((1.0, 1.0), (0.7, 1.4), (1.4, 0.7))
    click_margin: float = 0.12
    click_weights: tuple[float, ...] = (
        0.11, -0.078, 0.426, -0.806, -1.203, 0.571, 0.251, 0.528, -0.523, -0.519, -0.147,
    )  # fmt: skip
    click_doubt: float = 0.06
    part: float = 0.6
    group: float = 1.6


@dataclass(frozen=True)
class TokenCut:
    """What became of a window's tokens.

    Attributes:
        share: ``(t, t)`` float32, how much of each token is the object, [0, 1]; 0 outside the box.
        margin: ``(t, t)`` by how much it looks more like the object than like its surroundings.
        explained: ``(t, t)`` how much it looks like its surroundings.
    """

    share: NDArray[np.float32]
    margin: NDArray[np.float32]
    explained: NDArray[np.float32]


def tokens_in(window: Window, box: NDArray[np.floating], side: int) -> NDArray[np.bool_]:
    """``(side, side)``: tokens of a window whose middle is in a box, video pixels."""
    middle = (np.arange(side) + 0.5) * (window.side / side)
    x, y = middle + window.x, middle + window.y
    return ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None]


def similarities(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(N, N)`` of unit tokens ``(N, C)``; none is like itself."""
    alike = tokens @ tokens.T
    np.fill_diagonal(alike, -2)
    return alike


def cut_tokens(
    alike: NDArray[np.float32],
    inside: NDArray[np.bool_],
    known: NDArray[np.bool_],
    config: TokenCutConfig,
    clicked: NDArray[np.int8] | None = None,
    before: NDArray[np.bool_] | None = None,
) -> TokenCut | None:
    """Find the object in a box.

    Args:
        alike: ``(N, N)`` from ``similarities``, N = t x t.
        inside: ``(t, t)``, what may be the object.
        known: ``(t, t)``, what is in the picture.
        config: constants.
        clicked: ``(t, t)``, 1 where the user says "this", -1 "not this", else 0.
        before: ``(t, t)``, the object as it was found earlier; what was not it is background.

    Returns:
        The cut; None where a box leaves too little inside or outside to compare.
    """
    shape, neighbours = inside.shape, config.neighbours
    inner = np.flatnonzero(inside & known)
    outer = known & ~inside
    if before is not None:
        outer = known & ~before
    if clicked is not None:
        outer = (outer & (clicked <= 0)) | (known & (clicked < 0))
    if len(inner) < _LEAST or np.count_nonzero(outer) < _LEAST:
        return None
    rows = alike[inner]
    explained = _nearest(np.take(rows, np.flatnonzero(outer), axis=1), neighbours)
    if before is not None:
        own = before.ravel()[inner]
    else:
        y, x = np.unravel_index(inner, shape)
        off = [(v - v.mean()) / (np.ptp(v) / 2 + 1) for v in (x, y)]
        start = explained + config.centre * (off[0] ** 2 + off[1] ** 2)
        count = max(int(config.seeds * len(inner)), neighbours + 1)
        own = start <= np.partition(start, count - 1)[count - 1]
    said = None if clicked is None else clicked.ravel()[inner]
    pull = np.zeros_like(explained)
    if clicked is not None and (before is not None or (clicked < 0).any()):
        for kind in (1, -1):
            spots = np.flatnonzero(clicked == kind)
            if len(spots):
                pull += kind * config.click_pull * _near(spots, inner, alike, shape[0], config)
    columns = np.take(rows, inner, axis=1)
    margin, share = np.zeros_like(explained), own.astype(np.float32)
    for _ in range(config.rounds):
        if said is not None:
            own = (own | (said > 0)) & (said >= 0)
        if np.count_nonzero(own) <= neighbours:
            break
        margin = (
            _nearest(np.take(columns, np.flatnonzero(own), axis=1), neighbours) - explained + pull
        )
        share = 1 / (1 + np.exp(-margin / config.temperature))
        own = share > 0.5
    if said is not None:
        share = np.where(said > 0, np.float32(1), np.where(said < 0, np.float32(0), share))
    return TokenCut(*(_laid_out(values, inner, shape) for values in (share, margin, explained)))


def _near(
    spots: NDArray[np.intp],
    places: NDArray[np.intp],
    alike: NDArray[np.float32],
    side: int,
    config: TokenCutConfig,
) -> NDArray[np.float32]:
    """How near in place and look some tokens are to others, [0, 1]."""
    y, x = np.divmod(places[:, None], side)
    v, u = np.divmod(spots[None], side)
    far = ((x - u) ** 2 + (y - v) ** 2).min(axis=1) / (config.click_reach * side) ** 2
    looks = np.clip(_nearest(alike[places][:, spots], 3), 0, 1)
    return np.asarray(looks * np.exp(-far / 2), np.float32)


def _nearest(alike: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Mean of the ``count`` largest numbers of each row."""
    count = min(count, alike.shape[1])
    last = alike.shape[1] - count
    return np.asarray(np.partition(alike, last, axis=1)[:, last:].mean(axis=1), np.float32)


def _laid_out(
    values: NDArray[np.float32], places: NDArray[np.intp], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    whole = np.zeros(shape, np.float32)
    whole.flat[places] = values
    return whole


@dataclass(frozen=True)
class ClickReading:
    """One reading of a click: what it may have meant.

    Attributes:
        window: that was looked at.
        box: ``(4,)`` of what was found and its margin, video pixels.
        share: ``(t, t)`` float32 in [0, 1], what was found around the click.
        evidence: ``(10,)`` what speaks for it: margin inside; share along the inside of the box's
            border, of all and of what was found; how much the surroundings explain it; mean share
            inside; how much of the box and of its own bounds it fills; what else is left in the
            box; margin just around it; how much of it lies along the picture's border.
        area: of what was found, video pixels.
    """

    window: Window
    box: NDArray[np.float64]
    share: NDArray[np.float32]
    evidence: NDArray[np.float64]
    area: float


def read_click(
    alike: NDArray[np.float32],
    window: Window,
    box: NDArray[np.float64],
    picture: tuple[int, int],
    clicked: NDArray[np.int8],
    config: TokenCutConfig,
) -> list[ClickReading]:
    """Readings of clicks in a box around the first of them, and in one around what that gave.

    Args:
        alike: ``(N, N)`` from ``similarities``.
        window: whose tokens these are.
        box: ``(4,)`` video pixels.
        picture: ``(H, W)``.
        clicked: ``(t, t)`` as in ``cut_tokens``.
        config: constants.
    """
    side = clicked.shape[0]
    known = tokens_in(window, np.array([0, 0, picture[1], picture[0]]), side)
    step = window.side / side
    low, high = np.array([window.x, window.y] * 2) + 2 * step, window.side - 4 * step
    made: list[ClickReading] = []
    for _ in range(2):
        inside = tokens_in(window, box, side) & known
        found = cut_tokens(alike, inside, known, config, clicked)
        core = None if found is None else around_clicks(found.share > 0.5, clicked > 0)
        if found is None or core is None:
            break
        y, x = np.nonzero(core)
        place = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) * step
        place += [window.x, window.y, window.x, window.y]
        margin = config.click_margin * (place[2:] - place[:2])
        around = np.concatenate([place[:2] - margin, place[2:] + margin])
        around = np.clip(around, low, low + high)
        wide = grown(core)
        share = np.where(wide, found.share, np.float32(0))
        evidence = _evidence(found, core, wide, share, inside, known)
        made.append(ClickReading(window, around, share, evidence, float(core.sum()) * step**2))
        if np.abs(around - box).max() < step:
            break
        box = around
    return made


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask and its neighbours."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _SQUARE) > 0)


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tokens along the inside of a region's border, which the window's border is one of."""
    inner = cv2.erode(mask.astype(np.uint8), _SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & (inner == 0))


def around_clicks(found: NDArray[np.bool_], clicks: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The connected parts at the clicks; None where the clicks are beside all of them."""
    _, labels = cv2.connectedComponents(found.astype(np.uint8), connectivity=4)
    wanted = set(labels[grown(clicks)].tolist()) - {0}
    core = np.isin(labels, list(wanted))
    return core if core.any() else None


def _evidence(
    found: TokenCut,
    core: NDArray[np.bool_],
    wide: NDArray[np.bool_],
    share: NDArray[np.float32],
    inside: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """``ClickReading.evidence``."""

    def mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
        return float(values[where].mean()) if where.any() else 0.0

    border, count = _rim(inside), float(core.sum())
    y, x = np.nonzero(core)
    bounds = float((np.ptp(x) + 1) * (np.ptp(y) + 1))
    along = float((core & _rim(known)).sum()) / count**0.5
    return np.array([
        mean(found.margin, core), mean(found.share, border), mean(share, border),
        mean(found.explained, core), mean(found.share, core), count / float(inside.sum()),
        count / bounds, mean(found.share, inside & ~core),
        mean(found.margin, wide & ~core & inside), min(along, 2.0),
    ])  # fmt: skip


_COMMON = 192
"""Longest side of the picture on which readings are compared."""


def weigh_readings(
    readings: Sequence[ClickReading], picture: tuple[int, int], config: TokenCutConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each reading is worth.

    Args:
        readings: at least one.
        picture: ``(H, W)``.
        config: constants.

    Returns:
        ``(n,)`` expected IoU with what was meant, by its own evidence; and by what all readings
        say of it, each with the weight of its own: the object looks the same from most boxes.
    """
    own = np.array([one.evidence for one in readings]) @ np.array(config.click_weights[1:])
    own += config.click_weights[0]
    weights = np.exp((own - own.max()) / config.click_doubt)
    return own, overlaps(readings, picture) @ (weights / weights.sum())


def overlaps(readings: Sequence[ClickReading], picture: tuple[int, int]) -> NDArray[np.float64]:
    """``(n, n)`` IoU between readings."""
    scale = min(1.0, _COMMON / max(picture))
    grid = np.empty([max(1, round(side * scale)) for side in picture], np.float32)
    rows = [one.window.onto_grid(one.share, grid, scale, 0.0).ravel() > 0.5 for one in readings]
    flat = np.array(rows, np.float32)
    count, shared = flat.sum(axis=1), flat @ flat.T
    return np.asarray(shared / np.maximum(count[:, None] + count - shared, 1), np.float64)
