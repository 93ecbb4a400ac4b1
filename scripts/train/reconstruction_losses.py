"""What the learned reconstruction is trained by, on clips of T frames.

Source: specs/mem4d.md sections 1.4, 2.6 and 2.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vision_mem.geometry.pointmaps import moved, rigid_inverse
from vision_mem.models.mem4d.config import LossConfig
from vision_mem.models.mem4d.protocol import Decoded

_MOST_POSITIVE = 10.0


@dataclass(frozen=True)
class ClipTruth:
    """What B clips of T frames really show; the world is the first frame's camera.

    Attributes:
        points_self: ``(B, T, H, W, 3)`` metres in each frame's camera.
        points_world: ``(B, T, H, W, 3)`` the same points in the world, at their own time.
        valid: ``(B, T, H, W)`` bool: there is a point.
        pose: ``(B, T, 4, 4)`` camera-to-world; the first is the identity.
        dynamic: ``(B, T, H, W)`` bool: it moves.
        sky: ``(B, T, H, W)`` bool or None: known to be endlessly far.
    """

    points_self: Tensor
    points_world: Tensor
    valid: Tensor
    pose: Tensor
    dynamic: Tensor
    sky: Tensor | None = None

    def patches(self, patch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Patches, P a frame, as means of their valid pixels.

        Returns:
            Points in the camera and in the world ``(B, T, P, 3)``, the share that moves
            ``(B, T, P)``, and whether half of the pixels or more are valid ``(B, T, P)``.
        """
        known = self.valid.float()
        weight = _patch_means(known[..., None], patch)[..., 0]
        safe = weight.clamp(min=1e-6)[..., None]
        own, world, moving = (
            _patch_means(torch.where(self.valid[..., None], value, 0.0), patch) / safe
            for value in (self.points_self, self.points_world, self.dynamic[..., None].float())
        )
        return own, world, moving[..., 0], weight >= 0.5


def _patch_means(values: Tensor, patch: int) -> Tensor:
    """``(B, T, H, W, C)`` to ``(B, T, P, C)``."""
    b, t = values.shape[:2]
    maps = F.avg_pool2d(values.flatten(0, 1).permute(0, 3, 1, 2), patch)
    return maps.flatten(2).transpose(1, 2).unflatten(0, (b, t))


def scale_of(points: Sequence[Tensor], valid: Tensor) -> Tensor:
    """Mean distance from the origin over the valid points of all views.

    Args:
        points: ``(B, T, H, W, 3)`` each.
        valid: ``(B, T, H, W)`` bool.

    Returns:
        ``(B,)`` > 0.
    """
    count = valid.flatten(1).sum(dim=1).clamp(min=1)
    total = [torch.where(valid, p.norm(dim=-1), 0.0).flatten(1).sum(dim=1) / count for p in points]
    return torch.stack(total).mean(dim=0).clamp(min=1e-3)


def clip_loss(
    frames: Sequence[Decoded], truth: ClipTruth, settings: LossConfig, patch: int, reach: float
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch of clips.

    Args:
        frames: T decoded frames of B streams, in order.
        truth: of the same clips.
        settings: weights.
        patch: pixels of a patch's side.
        reach: metres within which a remembered token is the right match.

    Returns:
        A scalar, and its parts without weights as numbers.
    """
    own = torch.stack([f.points_self for f in frames], dim=1)
    world = torch.stack([f.points_world for f in frames], dim=1)
    pose = torch.stack([f.pose for f in frames], dim=1)
    scale = said = torch.ones(len(own), device=own.device)
    if not settings.metric:
        scale = scale_of([truth.points_self, truth.points_world], truth.valid)
        said = scale_of([own, world], truth.valid)
    parts: dict[str, Tensor] = {}
    for name, found, conf, target in (
        ("own", own, [f.conf_self for f in frames], truth.points_self),
        ("world", world, [f.conf_world for f in frames], truth.points_world),
    ):
        error = (found / _wide(said, found) - target / _wide(scale, found)).norm(dim=-1)
        parts[name] = _masked_mean(error, truth.valid)
        sure = torch.stack(conf, dim=1)
        valid = truth.valid
        if truth.sky is not None:
            error = torch.where(truth.sky, 2.0, error)
            valid = valid | truth.sky
        parts[f"{name} conf"] = _masked_mean(sure * error - settings.confidence * sure.log(), valid)
    total = parts["own conf"] + parts["world conf"]
    total = total + settings.pose * _pose_part(parts, "", pose, truth.pose, said, scale, settings)
    if settings.relative and len(frames) > 1:
        steps = [relative(p, said if p is pose else scale) for p in (pose, truth.pose)]
        one = torch.ones_like(said)
        total = total + settings.relative * _pose_part(
            parts, "step ", steps[0], steps[1], one, one, settings
        )
    if frames[0].patch_points is not None:
        total = total + _match_parts(parts, frames, truth, settings, patch, reach)
    if settings.mask:
        parts["mask"] = mask_loss(torch.stack([f.dynamic_logit for f in frames], 1), truth)
        total = total + settings.mask * parts["mask"]
    if settings.still and len(frames) > 1:
        parts["still"] = still_loss(world, truth)
        total = total + settings.still * parts["still"]
    told = {name: float(value.detach()) for name, value in parts.items()}
    return total, told


def _match_parts(
    parts: dict[str, Tensor], frames: Sequence[Decoded], truth: ClipTruth, settings: LossConfig,
    patch: int, reach: float,
) -> Tensor:  # fmt: skip
    """First points of patches, the closed-form pose, and InfoNCE."""
    own, places, moving, known = truth.patches(patch)
    first = torch.stack([f.patch_points for f in frames if f.patch_points is not None], dim=1)
    parts["patch"] = _masked_mean((first - own).norm(dim=-1), known)
    total = parts["patch"]
    aligned = [t for t in range(1, len(frames)) if frames[t].prior is not None]
    if not aligned:
        return total
    prior = torch.stack([f.prior for f in frames[1:] if f.prior is not None], dim=1)
    one = torch.ones(len(prior), device=prior.device)
    total = total + 0.5 * _pose_part(parts, "prior ", prior, truth.pose[:, 1:], one, one, settings)
    if settings.match:
        slope = _slope_of_patch(truth, patch)
        told: dict[str, list[Tensor]] = {}
        for t in aligned:
            wanted = known[:, t] & (moving[:, t] < 0.5)
            loss, right = match_loss(frames[t], places[:, t], wanted, reach)
            metres, aim, trust = place_loss(
                frames[t], places[:, t], wanted, reach, own[:, t], truth.pose[:, t], slope
            )
            for name, value in (("match", loss), ("match right", right), ("place", metres),
                                ("aim", aim), ("trust", trust)):  # fmt: skip
                told.setdefault(name, []).append(value)
        parts |= {name: torch.stack(values).mean() for name, values in told.items()}
        learned = parts["match"] + parts["place"] + parts["aim"] + parts["trust"]
        total = total + settings.match * learned
    return total


def _slope_of_patch(truth: ClipTruth, patch: int) -> Tensor:
    """``(B,)`` how wide a patch is on the plane one metre before the camera."""
    ahead = truth.points_self[:, 0, ..., 2].clamp(min=1e-3)
    across = truth.points_self[:, 0, ..., 0] / ahead
    w = across.shape[2]
    span = across[:, :, -1] - across[:, :, 0]
    whole = truth.valid[:, 0, :, -1] & truth.valid[:, 0, :, 0]
    count = whole.sum(dim=1).clamp(min=1)
    mean = torch.where(whole, span, 0.0).sum(dim=1) / count
    return torch.where(whole.any(dim=1), mean * patch / max(w - 1, 1), 0.2)


def match_loss(
    frame: Decoded, places: Tensor, wanted: Tensor, reach: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE: each patch should pick the remembered token nearest to where it really is.

    Args:
        frame: with matching.
        places: ``(B, P, 3)`` true world centroids of its patches.
        wanted: ``(B, P)`` bool: patches that count.
        reach: metres within which a token is the right one; patches without one are skipped.

    Returns:
        The loss, and the share of patches whose best token is within reach.
    """
    logits, centroids = frame.match_logits, frame.match_centroids
    if logits is None or centroids is None:
        zero = places.new_zeros(())
        return zero, zero
    there = logits.detach() > -1e8  # (B, P, N)
    gap = torch.cdist(places, centroids.detach()).masked_fill(~there, torch.inf)
    nearest, target = gap.min(dim=-1)
    wanted = wanted & (nearest < reach)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    best = gap.gather(2, logits.argmax(dim=-1, keepdim=True))[..., 0]
    right = _masked_mean((best < reach).float(), wanted)
    return _masked_mean(loss.view_as(nearest), wanted), right


def place_loss(
    frame: Decoded, places: Tensor, wanted: Tensor, reach: float, own: Tensor, pose: Tensor,
    slope: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Where patches were found, and how far that is believed.

    InfoNCE names the nearest token; this says where between tokens a patch is. Patches without a
    token within three times ``reach`` were never seen: they count for the belief alone.

    Args:
        frame: with matching.
        places: ``(B, P, 3)`` true world centroids of its patches.
        wanted: ``(B, P)`` bool: patches that count.
        reach: metres.
        own: ``(B, P, 3)`` true centroids in the camera.
        pose: ``(B, 4, 4)`` true camera-to-world.
        slope: ``(B,)`` how wide a patch is at one metre.

    Returns:
        Mean distance in metres; how far off in patches the places found would be seen by the true
        camera, all beyond two patches alike; and the cross entropy of believing what is less than
        half a patch off.
    """
    if (
        frame.match_places is None or frame.match_logits is None
        or frame.match_centroids is None or frame.match_weights is None
    ):  # fmt: skip
        zero = places.new_zeros(())
        return zero, zero, zero
    there = frame.match_logits.detach() > -1e8
    gap = torch.cdist(places, frame.match_centroids.detach()).masked_fill(~there, torch.inf)
    seen = wanted & (gap.amin(dim=-1) < 3 * reach)
    metres = _masked_mean(_length(frame.match_places - places), seen)
    from_camera = moved(frame.match_places, rigid_inverse(pose))
    at = from_camera[..., :2] / from_camera[..., 2:].clamp(min=0.1)
    off = _length(at - own[..., :2] / own[..., 2:].clamp(min=0.1)) / slope[:, None]
    aim = _masked_mean(2 * torch.tanh(off / 2), seen)
    right = (off.detach() < 0.5) & (from_camera[..., 2] > 0.1)
    # All weights may be 0 where nothing is remembered; there is nothing to believe then.
    sure = frame.match_weights.clamp(1e-4, 1 - 1e-4)
    trust = F.binary_cross_entropy(sure, right.to(sure.dtype), reduction="none")
    return metres, aim, _masked_mean(trust, wanted & there.any(dim=-1))


def mask_loss(logits: Tensor, truth: ClipTruth) -> Tensor:
    """Cross entropy of what moves; the rarer it is, the more it counts, up to ten times."""
    share = truth.dynamic[truth.valid].float().mean().nan_to_num(0.0)
    weight = ((1 - share) / share.clamp(min=1e-6)).clamp(max=_MOST_POSITIVE)
    loss = F.binary_cross_entropy_with_logits(
        logits, truth.dynamic.float(), pos_weight=weight, reduction="none"
    )
    return _masked_mean(loss, truth.valid)


def still_loss(world: Tensor, truth: ClipTruth) -> Tensor:
    """Points that stay and are seen on the frame before too must be in one place.

    Args:
        world: ``(B, T, H, W, 3)`` as decoded.
        truth: says what corresponds.
    """
    h, w = truth.valid.shape[2:]
    places = truth.points_world[:, 1:].flatten(0, 1)
    poses = truth.pose[:, :-1].flatten(0, 1)
    seen = moved(places, rigid_inverse(poses))
    # Where a pixel's ray is comes from the truth itself: z * ray = point.
    before = truth.points_self[:, :-1].flatten(0, 1)
    rays = before[..., :2] / before[..., 2:].clamp(min=1e-6)
    x = _pixel_of(seen[..., 0] / seen[..., 2].clamp(min=1e-6), rays[..., 0], 2)
    y = _pixel_of(seen[..., 1] / seen[..., 2].clamp(min=1e-6), rays[..., 1], 1)
    where = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)
    earlier = world[:, :-1].flatten(0, 1).permute(0, 3, 1, 2)
    there = F.grid_sample(earlier, where, align_corners=False).permute(0, 2, 3, 1)
    depth = F.grid_sample(before[..., 2][:, None], where, align_corners=False)[:, 0]
    static = ~(truth.dynamic[:, 1:] | ~truth.valid[:, 1:]).flatten(0, 1)
    inside = (where.abs() < 1).all(dim=-1) & (seen[..., 2] > 0)
    same = static & inside & ((depth - seen[..., 2]).abs() < 0.05 * seen[..., 2])
    error = (world[:, 1:].flatten(0, 1) - there).norm(dim=-1)
    return _masked_mean(error, same)


def _pixel_of(slope: Tensor, rays: Tensor, axis: int) -> Tensor:
    """Pixel whose ray has this slope, for pinhole cameras: slopes are linear in pixels."""
    first, last = rays.select(axis, 0).mean(dim=-1), rays.select(axis, -1).mean(dim=-1)
    size = rays.shape[axis]
    share = (slope - first[:, None, None]) / (last - first)[:, None, None]
    return share * (size - 1)


def relative(pose: Tensor, scale: Tensor) -> Tensor:
    """``(B, T, 4, 4)`` poses to ``(B, T - 1, 4, 4)`` steps, shifts divided by ``scale (B,)``."""
    before = rigid_inverse(pose[:, :-1].flatten(0, 1))
    steps = (before @ pose[:, 1:].flatten(0, 1)).unflatten(0, (len(pose), -1))
    factor = torch.ones_like(steps)
    factor[..., :3, 3] = 1 / scale[:, None, None]
    return steps * factor


def _pose_part(
    parts: dict[str, Tensor], name: str, found: Tensor, target: Tensor, said: Tensor,
    scale: Tensor, settings: LossConfig,
) -> Tensor:  # fmt: skip
    """Mean distance of shifts, and of rotations; both are kept by name."""
    shift = found[..., :3, 3] / said[:, None, None] - target[..., :3, 3] / scale[:, None, None]
    turn, goal = found[..., :3, :3].flatten(0, 1), target[..., :3, :3].flatten(0, 1)
    if settings.rotation == "matrix":
        gap = (turn - goal).flatten(1)
    else:
        gap = matrix_to_quaternion(turn) - matrix_to_quaternion(goal)
    parts[f"{name}shift"] = _length(shift).mean()
    parts[f"{name}turn"] = _length(gap).mean()
    return parts[f"{name}shift"] + parts[f"{name}turn"]


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """``(B, 3, 3)`` to ``(B, 4)`` w, x, y, z with w >= 0."""
    m = matrix
    diagonal = m.diagonal(dim1=1, dim2=2)
    signs = m.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    squares = (1 + diagonal @ signs.T).clamp(min=0)  # (B, 4): 4 w^2, 4 x^2, ...
    wx, wy, wz = (m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1])
    xy, xz, yz = (m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1])
    one, x2, y2, z2 = squares.unbind(-1)
    rows = torch.stack([
        torch.stack([one, wx, wy, wz], -1), torch.stack([wx, x2, xy, xz], -1),
        torch.stack([wy, xy, y2, yz], -1), torch.stack([wz, xz, yz, z2], -1),
    ], dim=1)  # fmt: skip
    best = squares.argmax(dim=-1)
    chosen = rows[torch.arange(len(m), device=m.device), best]
    unit = torch.nn.functional.normalize(chosen, dim=-1)
    return torch.where(unit[:, :1] < 0, -unit, unit)


def _length(x: Tensor) -> Tensor:
    """Length of the last axis, with a gradient at 0 too."""
    return (x.square().sum(dim=-1) + 1e-8).sqrt()


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    weight = mask.to(values.dtype)
    kept = torch.where(mask, values, 0.0)  # NaN outside the mask stays outside
    return kept.sum() / weight.sum().clamp(min=1)
