"""Like neighbours on a grid become one token: the way into the long tier without a bank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vision_mem.videoqa.otsu import LARGEST, otsu
from vision_mem.videoqa.token_similarity import grid_edges


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
    features: torch.Tensor,
    units: torch.Tensor,
    rows: torch.Tensor,
    cols: torch.Tensor,
    size: tuple[int, int],
) -> tuple[Cluster, ...]:
    """Groups of touching tokens that look alike.

    Tokens that touch are joined when their cosine distance is at most Otsu's threshold over all
    such distances of the grid. The anchor of a group is the member nearest to its mean.

    Args:
        features: ``(n, D)``.
        units: ``(n, D)`` directions that are compared.
        rows: integer ``(n,)``.
        cols: integer ``(n,)``.
        size: ``(R, C)`` of the grid.

    Returns:
        Groups of two or more, by their first member; none when no threshold parts the distances.

    Source:
        specs/savemem.md 1.7.
    """
    starts, ends = grid_edges(rows, cols, size)
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
            apart = features[members].float() - mean_of(features, members)
            nearest = int(apart.square().sum(dim=-1).argmin())
            found.append(Cluster(tokens[nearest], members))
    return tuple(found)


def mean_of(values: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """float32 mean of some rows of ``(n, ...)``."""
    return values[members].float().mean(dim=0)


def merge(values: torch.Tensor, clusters: tuple[Cluster, ...]) -> torch.Tensor:
    """A copy of ``(n, ...)`` in which each anchor's row is the mean of its cluster."""
    merged = values.clone()
    for cluster in clusters:
        merged[cluster.anchor] = mean_of(values, cluster.members).to(values.dtype)
    return merged


def survivors(n: int, clusters: tuple[Cluster, ...], device: torch.device) -> torch.Tensor:
    """Who stays: bool ``(n,)``, True for anchors and for tokens of no cluster."""
    keep = torch.ones(n, dtype=torch.bool, device=device)
    for cluster in clusters:
        keep[cluster.members] = False
        keep[cluster.anchor] = True
    return keep
