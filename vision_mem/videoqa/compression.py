"""From the short to the middle tier: drop what the grids before and after show as well."""

from __future__ import annotations

import torch

from vision_mem.videoqa.otsu import LARGEST, otsu_or_median

_LEAST_MOTION = 1e-6


def is_scene_change(distance: float, mean_before: float, factor: float) -> bool:
    """Whether a grid differs so much from the one before that a new scene begins.

    Args:
        distance: mean distance of its tokens to the grid before.
        mean_before: mean of the same over all earlier grids; 0 when there was none.
        factor: how many times the mean it takes.

    Source:
        specs/savemem.md 1.5.
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
