"""How tokens are dropped and merged on their way through the tiers, and Otsu's threshold for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BINS = 128
LARGEST = 2.0  # of a cosine distance
_LEAST_VARIANCE = 1e-12
_LEAST_WEIGHT = 1e-6


def otsu(distances: torch.Tensor) -> float | None:
    """The threshold that parts ``(n,)`` cosine distances best into small and large ones.

    The centre of a bin 1/64 wide; None when there is nothing to part: fewer than two distances,
    all (nearly) equal, or no split with a positive variance between its sides. Values outside
    [0, 2] count as its ends.

    Source:
        Otsu (1979); specs/savemem.md 1.6: 128 bins on [0, 2], splits "bins 0 to i" against the
        rest, sides lighter than 1e-6 left out, the first best split wins.
    """
    if len(distances) < 2:
        return None
    clamped = distances.float().clamp(0.0, LARGEST)
    if float(clamped.var()) <= _LEAST_VARIANCE:
        return None
    # Multiplying by 64 is exact, so a distance falls into the same bin on every machine.
    bins = (clamped * (BINS / LARGEST)).long().clamp(max=BINS - 1)
    # Counts are exact on every device, and 128 of them are faster on the host.
    weights = torch.bincount(bins, minlength=BINS).cpu().double() / len(distances)
    centres = (torch.arange(BINS).double() + 0.5) * (LARGEST / BINS)
    below = weights.cumsum(0)
    moment = (weights * centres).cumsum(0)
    # Empty bins add exact zeros: splits inside a gap tie exactly, and the first one wins.
    allowed = (below >= _LEAST_WEIGHT) & (1.0 - below >= _LEAST_WEIGHT)
    product = torch.where(allowed, below * (1.0 - below), 1.0)
    between = (moment[-1] * below - moment).square() / product
    between = torch.where(allowed, between, -1.0)
    best = int(between.argmax())
    if float(between[best]) <= 0.0:
        return None
    return (best + 0.5) * (LARGEST / BINS)


def otsu_or_median(distances: torch.Tensor) -> float:
    """Otsu's threshold of ``(n,)`` distances, or the (lower) median where there is none."""
    found = otsu(distances)
    return float(distances.float().clamp(0.0, LARGEST).median()) if found is None else found


_LEAST_MOTION = 1e-6


def is_scene_change(distance: float, mean_before: float, factor: float) -> bool:
    """Whether a grid differs so much from the one before that a new scene begins.

    ``distance`` is the mean distance of its tokens to the grid before, ``mean_before`` the mean of
    the same over all earlier grids (0 when there was none); specs/savemem.md 1.5.
    """
    return mean_before > _LEAST_MOTION and distance > factor * mean_before


def keep_changed(
    like_previous: torch.Tensor | None,
    like_next: torch.Tensor | None,
    salience: torch.Tensor | None,
    *,
    scene_change: bool,
    drop_similarity: float,
    salience_uplift: float,
    fixed_distance: float | None = None,
) -> torch.Tensor:
    """Which tokens of a grid stay when it leaves the short tier.

    A token stays when it differs enough from the grid before, or from the grid after. It goes in
    any case when the grid after shows nearly the same, but on a scene change. What means much
    needs a larger similarity to go.

    Args:
        like_previous: ``(n,)`` best cosine with the neighbours on the grid before; None for the
            first grid of a segment. Minus infinity for a token without neighbours.
        like_next: the same for the grid after; None for the last grid of a segment. One of the
            two is given.
        salience: float32 ``(n,)`` or None.
        scene_change: whether a new scene begins with this grid.
        drop_similarity: cosine above which a token goes.
        salience_uplift: added to it, times the salience.
        fixed_distance: a distance in [0, 2] instead of Otsu's threshold.

    Returns:
        bool ``(n,)``.

    Source:
        specs/savemem.md 1.6.
    """
    tests = [cosines for cosines in (like_next, like_previous) if cosines is not None]
    keep = torch.zeros(len(tests[0]), dtype=torch.bool, device=tests[0].device)
    alone = torch.ones_like(keep)
    for cosines in tests:
        distances, met = 1.0 - cosines, cosines.isfinite()
        if fixed_distance is not None:
            keep |= distances >= min(max(fixed_distance, 0.0), LARGEST)
        elif bool(met.any()):
            keep |= distances >= otsu_or_median(distances[met])
        alone &= ~met
    if like_next is not None and not scene_change:
        most = drop_similarity if salience is None else drop_similarity + salience_uplift * salience
        keep &= ~(like_next > most)
    return keep | alone


_LEAST_NORM = 1e-8


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors ``(n, D)`` scaled to length 1, in their own type; zeros stay zeros.

    Source:
        specs/savemem.md 1.3: divided by ``max(norm, 1e-8)`` in the model's type.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / norms.clamp_min(_LEAST_NORM)


def neighbour_best(
    earlier: torch.Tensor,
    later: torch.Tensor,
    earlier_places: tuple[torch.Tensor, torch.Tensor],
    later_places: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best cosine of each token with the 3 x 3 tokens around its place on the other grid.

    Args:
        earlier: unit vectors ``(n, D)`` of one grid.
        later: unit vectors ``(m, D)`` of the next one.
        earlier_places: rows and columns of the first, integer.
        later_places: rows and columns of the second.

    Returns:
        float32 ``(n,)`` for the earlier tokens and ``(m,)`` for the later ones, in [-1, 1]; minus
        infinity for a token without any neighbour. Source: specs/savemem.md 1.5 and 1.6.
    """
    rows, cols = (
        one.short()[:, None] - other.short()
        for one, other in zip(earlier_places, later_places, strict=True)
    )
    near = (rows.abs() <= 1) & (cols.abs() <= 1)  # (n, m)
    # One product of all pairs beats nine gathers: grids have some hundred tokens at most.
    cosines = torch.where(near, earlier.float() @ later.float().T, -torch.inf)
    return cosines.amax(dim=1), cosines.amax(dim=0)


def touching(rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
    """Which tokens touch on the grid, also at a corner: bool ``(n, n)``, each pair once."""
    rows, cols = (places.short()[:, None] - places.short() for places in (rows, cols))
    return ((rows.abs() <= 1) & (cols.abs() <= 1)).triu(diagonal=1)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Tokens that become one.

    Attributes:
        anchor: the token that stays, as a position among the grid's tokens.
        members: int64 ``(k,)`` all of them, the anchor included, ascending; k >= 2.
    """

    anchor: int
    members: torch.Tensor


def find_clusters(
    features: torch.Tensor, units: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor
) -> tuple[Cluster, ...]:
    """Groups of touching tokens that look alike.

    Tokens that touch are joined when the cosine distance of their ``units`` is at most Otsu's
    threshold over all such distances of the grid. The anchor of a group is the member nearest to
    the mean of its ``features``, both ``(n, D)``. Groups have two members or more and come by
    their first one; there are none when no threshold parts the distances.

    Source:
        specs/savemem.md 1.7.
    """
    starts, ends = touching(rows, cols).nonzero(as_tuple=True)
    compared = units.float()
    lengths = (1.0 - torch.linalg.vecdot(compared[starts], compared[ends])).clamp(0.0, LARGEST)
    threshold = otsu(lengths)
    if threshold is None:
        return ()
    near = (lengths <= threshold).cpu()
    edges = (starts.cpu()[near].numpy(), ends.cpu()[near].numpy())
    n = len(features)
    graph = coo_matrix(([True] * len(edges[0]), edges), shape=(n, n))
    groups: dict[int, list[int]] = {}
    for token, group in enumerate(connected_components(graph, directed=False)[1].tolist()):
        groups.setdefault(group, []).append(token)
    found = []
    for tokens in groups.values():
        if len(tokens) > 1:
            members = torch.tensor(tokens, device=features.device)
            own = features[members].float()
            apart = own - own.mean(dim=0)
            nearest = int(apart.square().sum(dim=-1).argmin())
            found.append(Cluster(tokens[nearest], members))
    return tuple(found)


def merge(values: torch.Tensor, clusters: tuple[Cluster, ...]) -> torch.Tensor:
    """A copy of ``(n, ...)`` in which each anchor's row is the mean of its cluster."""
    merged = values.clone()
    for cluster in clusters:
        merged[cluster.anchor] = values[cluster.members].float().mean(dim=0).to(values.dtype)
    return merged


def survivors(n: int, clusters: tuple[Cluster, ...], device: torch.device) -> torch.Tensor:
    """Who stays: bool ``(n,)``, True for anchors and for tokens of no cluster."""
    keep = torch.ones(n, dtype=torch.bool, device=device)
    for cluster in clusters:
        keep[cluster.members] = False
        keep[cluster.anchor] = True
    return keep


def quadrant_count(mean_salience: float, n: int, *, ratio: float, gain: float, least: int) -> int:
    """How many of a grid's n tokens to keep: more where more means something.

    Kept are ``ratio + gain * mean`` of them, rounded down, the mean taken into [0, 1], but no
    fewer than ``least``; specs/savemem.md 1.7.
    """
    share = ratio + gain * min(max(mean_salience, 0.0), 1.0)
    return max(least, math.floor(n * share))


def select_quadrants(
    salience: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor, count: int
) -> torch.Tensor:
    """The ``count`` most salient tokens, spread over the four quarters of the area they cover.

    All arguments and the result, bool, are ``(n,)``; all stay when there are no more.

    Source:
        specs/savemem.md 1.7: a quarter of the count from each quarter that has tokens, at least
        one; the rest from the best that are left. Of equal ones the first wins.
    """
    n = len(salience)
    keep = torch.zeros(n, dtype=torch.bool, device=salience.device)
    if count >= n:
        return ~keep
    order = salience.argsort(descending=True, stable=True)
    low = 2 * rows.long() > int(rows.min()) + int(rows.max())
    right = 2 * cols.long() > int(cols.min()) + int(cols.max())
    quarter = (low.long() * 2 + right.long())[order]
    for number in range(4):
        keep[order[quarter == number][: max(1, count // 4)]] = True
    missing = count - int(keep.sum())
    if missing > 0:
        keep[order[~keep[order]][:missing]] = True
    return keep


def keep_highest(worth: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` highest of ``(n,)`` values, as bool ``(n,)``; of equal ones the later stay."""
    keep = torch.ones(len(worth), dtype=torch.bool, device=worth.device)
    spare = max(0, len(worth) - count)
    keep[worth.argsort(stable=True)[:spare]] = False
    return keep


def token_salience(tokens: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """How much tokens ``(n, D)`` mean before anybody asks: float32 ``(n,)`` in [-1, 1].

    The best cosine of each with any token of a bank of open questions, float32 ``(m, D)`` unit
    vectors, neither scaled nor clipped. Source: specs/savemem.md 1.4.
    """
    return (unit(tokens.float()) @ bank.T).max(dim=1).values
