"""From the device to the host: everything the policy must know of a frame, at once."""

from __future__ import annotations

import numpy as np
import torch

from vision_mem.geometry.masks import mask_extents, mask_to_box
from vision_mem.models.segmenters.protocol import Candidates
from vision_mem.tracking.mask_selection import CandidateScores


def scores_to_host(made: Candidates, grid: torch.Tensor) -> list[CandidateScores]:
    """Everything the policy must know, in one transfer for all objects looked at together.

    Whole numbers are exact in float32 up to 2**24: areas of grids up to 4096 x 4096.

    Args:
        made: candidates of B objects.
        grid: ``(B, M, gh, gw)`` their logits on the grid.
    """
    logit = made.object_logit.float().view(-1, 1, 1).expand(-1, grid.shape[1], 1)
    columns = [made.iou.float().unsqueeze(-1), logit, _areas_and_extents(grid)]
    table = torch.cat(columns, dim=-1).cpu().numpy()  # (B, M, 7)
    return [
        CandidateScores(
            iou=row[:, 0],
            object_logit=float(row[0, 1]),
            extents=row[:, 3:].astype(np.float64),
            areas=row[:, 2].astype(np.int64),
        )
        for row in table
    ]


def _areas_and_extents(grid: torch.Tensor) -> torch.Tensor:
    """``(B, M, 5)`` float32: pixels above 0, and their inclusive extent."""
    if grid.device.type != "cpu":
        on = grid > 0
        area = on.flatten(-2).sum(dim=-1, dtype=torch.int32).to(torch.float32)
        return torch.cat([area.unsqueeze(-1), mask_extents(on)], dim=-1)
    # Mask by mask, each of which fits a core's cache: a quarter of the time of whole tensors.
    table = np.zeros((*grid.shape[:2], 5), np.float32)
    for row, logits in zip(table.reshape(-1, 5), grid.float().flatten(0, 1).numpy(), strict=True):
        on_here = logits > 0
        row[0] = np.count_nonzero(on_here)
        row[1:] = mask_to_box(on_here)
        row[3:] -= row[0] > 0
    return torch.from_numpy(table)
