"""Geometry of maps of points: motions between two, cameras that see them, focal lengths.

Source: specs/mem4d.md sections 2.6 and 2.8.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

_DAMPING, _TINY = 1e-4, 1e-9
_NEAR = 0.05  # metres before the camera that a place must be to count
_ODD = 0.15  # slope off, at which a place counts a quarter
_BROAD = 8  # times as much at first
_LONGEST = 0.5  # metres and radians of one step


Result = TypeVar("Result")


def exact(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compute in single precision or better, also where autocast is on.

    Positions in metres have no use for bfloat16: at 4 m its steps are 16 mm.
    """

    @functools.wraps(function)
    def run(first: Tensor, *others: Any, **named: Any) -> Result:
        with torch.autocast(first.device.type, enabled=False):
            return function(_single(first), *map(_single, others), **named)

    return run


def _single(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


@exact
def weighted_rigid(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The rigid motion that brings points onto targets best, in weighted squares.

    The rotation is found by SVD; gradients go through one Gauss-Newton step at the optimum, which
    stays finite where those of an SVD do not (a plane, a line, equal spreads).

    Args:
        points: ``(B, N, 3)``.
        targets: ``(B, N, 3)``.
        weights: ``(B, N)`` >= 0; rows that are all 0 give the identity turned by nothing.

    Returns:
        ``(B, 4, 4)``; ``targets = R @ points + t``.
    """
    share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-8)
    from_mean = (share[..., None] * points).sum(dim=1)  # (B, 3)
    to_mean = (share[..., None] * targets).sum(dim=1)
    a, b = points - from_mean[:, None], targets - to_mean[:, None]
    with torch.no_grad():
        spread = torch.einsum("bn,bni,bnj->bij", share, b, a)
        turn = nearest_rotation(spread)
    eye = torch.eye(3, device=points.device, dtype=points.dtype)
    a = a @ turn.transpose(1, 2)
    moment = (share[..., None] * torch.linalg.cross(a, b, dim=-1)).sum(dim=1)
    outer = torch.einsum("bn,bni,bnj->bij", share, a, a)
    stiff = outer.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] * eye - outer
    # Only gradients pass here: at the optimum the step is nothing but rounding.
    step = torch.linalg.solve(stiff + _DAMPING * eye, (moment - moment.detach())[..., None])[..., 0]
    turn = _small_turn(step) @ turn
    shift = to_mean - (turn @ from_mean[..., None])[..., 0]
    return assemble(turn, shift)


@exact
def weighted_resection(
    places: Tensor, rays: Tensor, weights: Tensor, start: Tensor, pull: Tensor, steps: int = 8
) -> Tensor:
    """Where a camera is that sees known places in known directions; no depths are needed.

    From the rotation that fits best at the position it starts from, Gauss-Newton steps on
    differences of slopes; places that are seen far off count less (Geman and McClure), at first
    only those very far off. Gradients go through the last step, at the optimum.

    Args:
        places: ``(B, N, 3)`` in the world.
        rays: ``(B, N, 2)`` x/z and y/z in the camera.
        weights: ``(B, N)`` >= 0.
        start: ``(B, 4, 4)`` camera-to-world; also what rows without weights come back as.
        pull: scalar or ``(B,)`` > 0, how much a metre away from the position it starts from
            counts, squared, beside the mean squared difference of slopes.
        steps: that are made.

    Returns:
        ``(B, 4, 4)`` camera-to-world.
    """
    share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-8)
    pull = pull.expand(len(places))
    origin = start[:, :3, 3]
    with torch.no_grad():
        there = rigid_inverse(_turned(places, rays, share, start))
        for n in range(steps):
            odd = _ODD * max(1.0, _BROAD * 0.5**n)
            there = _stepped(there, _slope_step(places, rays, share, there, origin, pull, odd)[0])
    _, stiff, moment = _slope_step(places, rays, share, there, origin, pull, _ODD)
    change = torch.linalg.solve(stiff, (moment - moment.detach())[..., None])[..., 0]
    pose = rigid_inverse(_stepped(there, -change))
    return torch.where((weights.sum(dim=1) > 0)[:, None, None], pose, start)


def _turned(places: Tensor, rays: Tensor, share: Tensor, start: Tensor) -> Tensor:
    """``start`` turned so that places lie in their directions as well as may be."""
    seen = torch.nn.functional.normalize(
        torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1), dim=-1
    )
    way = torch.nn.functional.normalize(places - start[:, None, :3, 3], dim=-1)
    # Where little is known, as it was.
    spread = torch.einsum("bn,bni,bnj->bij", share, way, seen) + _DAMPING * start[:, :3, :3]
    return assemble(nearest_rotation(spread), start[:, :3, 3])


def nearest_rotation(spread: Tensor) -> Tensor:
    """The rotations ``(B, 3, 3)`` nearest to matrices; finite whatever they hold."""
    eye = torch.eye(3, device=spread.device, dtype=spread.dtype)
    u, _, vh = torch.linalg.svd(spread.nan_to_num(0.0, 0.0, 0.0) + _TINY * eye)
    sign = torch.ones_like(u[:, 0])
    sign[:, 2] = torch.det(u @ vh).sign()
    turn: Tensor = (u * sign[:, None]) @ vh
    return turn


def _slope_step(
    places: Tensor,
    rays: Tensor,
    share: Tensor,
    there: Tensor,
    origin: Tensor,
    pull: Tensor,
    odd: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One Gauss-Newton step.

    Returns:
        Shift and turn ``(B, 6)`` of the world-to-camera motion; the matrix ``(B, 6, 6)`` and the
        moment ``(B, 6)`` that gave them. Gradients go through the moment alone.
    """
    seen = moved(places, there)
    ahead = seen[..., 2] > _NEAR
    z = torch.where(ahead, seen[..., 2], 1.0)
    x, y = seen[..., 0] / z, seen[..., 1] / z
    off = torch.stack([x, y], dim=-1) - rays
    with torch.no_grad():
        kept = ahead / (1 + off.square().sum(dim=-1) / odd**2).square()
        x, y, inverse, zero = x.detach(), y.detach(), 1 / z.detach(), torch.zeros_like(z)
        slopes = torch.stack([
            torch.stack([inverse, zero, -x * inverse, -x * y, 1 + x * x, -y], -1),
            torch.stack([zero, inverse, -y * inverse, -1 - y * y, x * y, x], -1),
        ], dim=-2)  # fmt: skip
        away = there[:, :3, :3]  # turns a shift of the camera into one of what it sees
    weight = kept * share
    moment = torch.einsum("bn,bnki,bnk->bi", weight, slopes, off)
    position = -(away.transpose(1, 2) @ there[:, :3, 3:])[..., 0]
    back = -pull[:, None] * (away @ (position - origin)[..., None])[..., 0]
    moment = moment + torch.cat([back, torch.zeros_like(back)], dim=1)
    with torch.no_grad():
        stiff = torch.einsum("bn,bnki,bnkj->bij", weight, slopes, slopes)
        extra = torch.cat([pull[:, None].expand(-1, 3), torch.zeros_like(back)], dim=1)
        # Never singular, whatever comes in; what is not finite stays so in the moment.
        stiff = stiff.nan_to_num(0.0, 0.0, 0.0) + torch.diag_embed(extra + 1e-6)
        step = -torch.linalg.solve(stiff, moment.nan_to_num(0.0, 0.0, 0.0)[..., None])[..., 0]
    return step.clamp(-_LONGEST, _LONGEST), stiff, moment


def _stepped(there: Tensor, step: Tensor) -> Tensor:
    """World-to-camera motions after small steps ``(B, 6)``, shift and turn."""
    angle = step[:, 3:].norm(dim=1).clamp(min=1e-9)
    half = (angle / 2)[:, None]
    axis = step[:, 3:] / angle[:, None]
    turn = quaternion_to_matrix(torch.cat([half.cos(), half.sin() * axis], dim=1))
    shift = (turn @ there[:, :3, 3:])[..., 0] + step[:, :3]
    return assemble(turn @ there[:, :3, :3], shift)


def _small_turn(step: Tensor) -> Tensor:
    zero = torch.zeros_like(step[:, 0])
    x, y, z = step.unbind(-1)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
    return torch.eye(3, device=step.device, dtype=step.dtype) + rows


def assemble(rotation: Tensor, shift: Tensor) -> Tensor:
    """``(B, 3, 3)`` and ``(B, 3)`` to ``(B, 4, 4)``."""
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], device=shift.device, dtype=shift.dtype)
    top = torch.cat([rotation, shift[:, :, None]], dim=2)
    return torch.cat([top, last.expand(len(shift), 1, 4)], dim=1)


@exact
def moved(points: Tensor, pose: Tensor) -> Tensor:
    """Points ``(B, ..., 3)`` by poses ``(B, 4, 4)``."""
    flat = points.flatten(1, -2) if points.ndim > 2 else points[:, None]
    out = flat @ pose[:, :3, :3].transpose(1, 2) + pose[:, None, :3, 3]
    return out.view(points.shape)


@exact
def rigid_inverse(pose: Tensor) -> Tensor:
    """Inverse of rigid motions ``(B, 4, 4)``."""
    turn = pose[:, :3, :3].transpose(1, 2)
    return assemble(turn, -(turn @ pose[:, :3, 3:])[..., 0])


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """``(B, 4)`` w, x, y, z of any length above 0 to ``(B, 3, 3)``."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).view(-1, 3, 3)


@exact
def focal_of(points: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Focal length for which points project onto their own pixels, principal point in the middle.

    Weiszfeld: the sum of distances, not of their squares, is least.

    Args:
        points: ``(B, H, W, 3)`` in the camera.
        confidence: ``(B, H, W)`` weights >= 0, or None.

    Returns:
        ``(B,)`` pixels, within 0.3 to 5 times the longer side.
    """
    height, width = points.shape[1:3]
    y, x = torch.meshgrid(
        torch.arange(height, device=points.device) + 0.5 - height / 2,
        torch.arange(width, device=points.device) + 0.5 - width / 2,
        indexing="ij",
    )
    pixels = torch.stack([x, y], dim=-1).to(points.dtype).view(1, -1, 2)
    z = points[..., 2:].flatten(1, 2)
    ahead = (z[..., 0] > 1e-6) & points.flatten(1, 2).isfinite().all(dim=-1)
    rays = torch.where(ahead[..., None], points[..., :2].flatten(1, 2) / z.clamp(min=1e-6), 0.0)
    known = ahead.to(points.dtype)
    if confidence is not None:
        known = known * confidence.flatten(1)
    dots, squares = (rays * pixels).sum(-1), (rays * rays).sum(-1)
    weights = known
    focal = (weights * dots).sum(1) / (weights * squares).sum(1).clamp(min=1e-8)
    for _ in range(10):
        distance = (pixels - focal[:, None, None] * rays).norm(dim=-1)
        weights = known / distance.clamp(min=1e-8)
        focal = (weights * dots).sum(1) / (weights * squares).sum(1).clamp(min=1e-8)
    longer = max(height, width)
    return focal.clamp(0.3 * longer, 5.0 * longer)
