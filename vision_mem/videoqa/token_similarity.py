"""Cosines between visual tokens that lie next to each other, in time or on the grid."""

from __future__ import annotations

import torch

_LEAST_NORM = 1e-8
# One direction each of the eight ways to a neighbour: the other four are the same pairs.
_HALF = ((0, 1), (1, -1), (1, 0), (1, 1))


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors ``(n, D)`` scaled to length 1, in their own type; zeros stay zeros.

    Source:
        specs/savemem.md 1.3: divided by ``max(norm, 1e-8)`` in the model's type.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / norms.clamp_min(_LEAST_NORM)


def places(rows: torch.Tensor, cols: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which token lies where: int64 ``(R + 2, C + 2)``, -1 where none does, an empty rim around.

    Args:
        rows: integer ``(n,)``, from 0 and below ``size``.
        cols: the same.
        size: ``(R, C)``.
    """
    table = torch.full((size[0] + 2, size[1] + 2), -1, dtype=torch.int64, device=rows.device)
    table[rows.long() + 1, cols.long() + 1] = torch.arange(len(rows), device=rows.device)
    return table


def neighbour_best(
    earlier: torch.Tensor,
    later: torch.Tensor,
    earlier_places: tuple[torch.Tensor, torch.Tensor],
    later_places: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best cosine of each token with the 3 x 3 tokens around its place on the other grid.

    Both directions come from the same products.

    Args:
        earlier: unit vectors ``(n, D)`` of one grid.
        later: unit vectors ``(m, D)`` of the next one.
        earlier_places: rows and columns of the first, integer.
        later_places: rows and columns of the second.

    Returns:
        float32 ``(n,)`` best of each earlier token among the later ones, and ``(m,)`` the other
        way round, in [-1, 1]; minus infinity for a token without any neighbour.

    Source:
        specs/savemem.md 1.5 and 1.6.
    """
    rows, cols = (
        one.short()[:, None] - other.short()
        for one, other in zip(earlier_places, later_places, strict=True)
    )
    near = (rows.abs() <= 1) & (cols.abs() <= 1)  # (n, m)
    # One product of all pairs beats nine gathers: grids have some hundred tokens at most.
    cosines = torch.where(near, earlier.float() @ later.float().T, -torch.inf)
    return cosines.amax(dim=1), cosines.amax(dim=0)


def grid_edges(
    rows: torch.Tensor, cols: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """All pairs of tokens that touch on the grid, also at a corner, each pair once.

    Args:
        rows: integer ``(n,)``.
        cols: integer ``(n,)``.
        size: ``(R, C)`` of the grid.

    Returns:
        int64 ``(e,)`` and ``(e,)``: the two ends of each edge, as positions in ``rows``.
    """
    table = places(rows, cols, size)
    starts, ends = [], []
    for down, right in _HALF:
        partner = table[rows.long() + 1 + down, cols.long() + 1 + right]
        which = (partner >= 0).nonzero().squeeze(1)
        starts.append(which)
        ends.append(partner[which])
    return torch.cat(starts), torch.cat(ends)
