"""How ``nano`` learns: prompts, one pass over a clip through SAM 2's own parts, and the losses.

The pass does what SAM 2 does when it tracks: the first frame is prompted, later frames look into
the memories of those before, and gradients flow back through the memories. Losses are SAM 2's
(Ravi et al. 2024, appendix D.2): focal 20, dice 1, IoU 1 (absolute error), presence 1; the IoU of
every candidate is learned, the mask of the best one only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from nano_pictures import Image
from nano_render import log_uniform
from numpy.typing import NDArray
from torch import Tensor

WEIGHTS = {"focal": 20.0, "dice": 1.0, "iou": 1.0, "presence": 1.0}
PROMPTS = {
    "first": {"box": 1.0},
    "image": {"box": 0.4, "loose box": 0.3, "point": 0.2, "points": 0.1},
    "clip": {"mask": 0.4, "box": 0.25, "loose box": 0.2, "point": 0.1, "points": 0.05},
}
"""Kinds of prompts and how often each is drawn, by stage of training."""
_ALL_FRAMES = 1 << 20  # a stream's length is not known: pointers count time in sixteenths
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Batch:
    """N objects in B clips of T frames.

    Attributes:
        images: ``(B, T, S, S, 3)`` uint8 RGB.
        masks: ``(N, T, S, S)`` uint8, 0 or 1.
        owner: ``(N,)`` the clip of each object.
        points: ``(N, P, 2)`` prompt places in pixels; empty where masks are the prompts.
        labels: ``(N, P)`` 1 on it, 0 beside it, 2 and 3 corners of a box.
        gap: frames that pass between the prompt and the second frame beyond the usual one.
        hard: the prompted mask is remembered as 0 or 1, as SAM 2 does outside training.
        wide: the first frame offers three masks whatever the prompt, since SAM 2 turns to those
            outside training where the mask of a box is not stable.
    """

    images: Tensor
    masks: Tensor
    owner: Tensor
    points: Tensor
    labels: Tensor
    gap: int = 0
    hard: bool = False
    wide: bool = False

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        return Batch(**moved)


def collate(
    clips: list[tuple[Image, Image, list[int]]],
    rng: np.random.Generator,
    shares: dict[str, float],
    most: int = 3,
) -> Batch:
    """Make a batch of rendered clips: objects, one kind of prompt, a gap in time.

    Args:
        clips: ``(images, ids, targets)`` each.
        rng: decides the prompts.
        shares: kinds of prompts and how often each is drawn.
        most: objects taken of a clip.
    """
    masks, owner = [], []
    for number, (_, ids, targets) in enumerate(clips):
        for target in targets[:most]:
            masks.append(ids == target)
            owner.append(number)
    frames = len(clips[0][0])
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    given = [draw_prompt(mask[0], kind, rng) for mask in masks]
    gap = int(log_uniform(rng, 1, 600)) if frames > 1 and rng.random() < 0.3 else 0
    return Batch(
        torch.from_numpy(np.stack([images for images, _, _ in clips])),
        torch.from_numpy(np.stack(masks).astype(np.uint8)),
        torch.tensor(owner),
        torch.from_numpy(np.stack([p for p, _ in given])),
        torch.from_numpy(np.stack([n for _, n in given])),
        gap,
        hard=bool(rng.random() < 0.5),
        wide=bool(rng.random() < 0.3),
    )


def draw_prompt(
    mask: NDArray[np.bool_], kind: str, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """What a person might give for a mask.

    Args:
        mask: ``(S, S)``, not empty.
        kind: ``mask`` (no points at all), ``box``, ``loose box`` (edges off by up to a fifth of
            the box), ``point`` (on it), ``points`` (two on it, one beside it).
        rng: decides places.

    Returns:
        ``(P, 2)`` places and ``(P,)`` labels.
    """
    rows, columns = np.nonzero(mask)
    if kind == "mask":
        return np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    if kind in ("box", "loose box"):
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        if kind == "loose box":
            size = np.array([box[2] - box[0], box[3] - box[1]])
            size = np.tile(np.maximum(size, 4), 2)
            box += (np.clip(rng.normal(0, 0.08, 4), -0.2, 0.2) * size).astype(np.float32)
            box = np.clip(box, 0, mask.shape[0])
        return box.reshape(2, 2), np.array([2, 3], np.int32)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    middle = rng.random() < 0.5  # people click on the middle, mostly
    sure = np.argwhere(depth >= (0.6 if middle else 0.0) * depth.max())
    sure = sure if middle else np.argwhere(mask)
    on = sure[rng.integers(len(sure))][::-1]
    if kind == "point":
        return on[None].astype(np.float32), np.array([1], np.int32)
    number = rng.integers(len(rows))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25), np.uint8)).astype(bool) & ~mask
    beside = np.argwhere(near if near.any() else ~mask)
    if not len(beside):
        beside = np.zeros((1, 2), int)
    off = beside[rng.integers(len(beside))][::-1]
    places = np.stack([on, (columns[number], rows[number]), off]).astype(np.float32)
    return places, np.array([1, 1, 0], np.int32)


@dataclass
class FrameGuess:
    """What the network says of N objects on a frame, before absence is decided.

    Attributes:
        logits: ``(N, M, h, w)``.
        iou: ``(N, M)`` estimated.
        present: ``(N, 1)`` logit.
    """

    logits: Tensor
    iou: Tensor
    present: Tensor


def run_clip(network: Any, batch: Batch, *, frozen_trunk: bool = True) -> list[FrameGuess | None]:
    """Track all objects of a batch with gradients.

    Args:
        network: a ``SAM2Base``.
        batch: on the network's device.
        frozen_trunk: keep no gradients of the trunk.

    Returns:
        A guess for each frame; None for a first frame whose mask was given.
    """
    frames = batch.images.shape[1]
    features, positions, sizes = _encode(network, batch.images.flatten(0, 1), frozen_trunk)
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    guesses: list[FrameGuess | None] = []
    for t in range(frames):
        rows = batch.owner * frames + t
        seen = [level[:, rows] for level in features]
        where = [level[:, :1].expand(-1, len(rows), -1) for level in positions]
        index = t if t == 0 else t + batch.gap
        fine = [_image(x, size) for x, size in zip(seen[:-1], sizes[:-1], strict=True)]
        by_mask = t == 0 and batch.points.shape[1] == 0
        if by_mask:
            given = batch.masks[:, 0, None].float()
            made = network._use_mask_as_output(_image(seen[-1], sizes[-1]), fine, given)
            chosen, pointer, present = made[4], made[5], made[6]
            guesses.append(None)
        else:
            context = network._prepare_memory_conditioned_features(
                frame_idx=index,
                is_init_cond_frame=t == 0,
                current_vision_feats=seen[-1:],
                current_vision_pos_embeds=where[-1:],
                feat_sizes=sizes[-1:],
                output_dict=memory,
                num_frames=_ALL_FRAMES,
            )
            points = (batch.points, batch.labels) if t == 0 else None
            wide = t == 0 and batch.wide
            guess, chosen, pointer = _heads(network, context, points, fine, wide)
            guesses.append(guess)
            present = guess.present
        if t + 1 == frames:
            break
        if t == 0 and batch.hard:
            chosen = torch.where(chosen > 0, 10.0, -10.0)
        maps, codes = network._encode_new_memory(
            current_vision_feats=seen,
            feat_sizes=sizes,
            pred_masks_high_res=chosen,
            object_score_logits=present,
            is_mask_from_pts=t == 0 and not by_mask,
        )
        entry = {"maskmem_features": maps, "maskmem_pos_enc": codes, "obj_ptr": pointer}
        memory["cond_frame_outputs" if t == 0 else "non_cond_frame_outputs"][index] = entry
    return guesses


def _encode(
    network: Any, images: Tensor, frozen_trunk: bool
) -> tuple[list[Tensor], list[Tensor], list[tuple[int, int]]]:
    mean, deviation = (images.new_tensor(v, dtype=torch.float32) for v in (_MEAN, _DEVIATION))
    shown = ((images.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
    encoder = network.image_encoder
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_trunk):
        maps = encoder.trunk(shown)
    levels, positions = encoder.neck(maps)
    levels, positions = levels[: -encoder.scalp], positions[: -encoder.scalp]
    levels[0] = network.sam_mask_decoder.conv_s0(levels[0])
    levels[1] = network.sam_mask_decoder.conv_s1(levels[1])
    whole = {"backbone_fpn": levels, "vision_pos_enc": positions}
    _, features, where, sizes = network._prepare_backbone_features(whole)
    return features, where, [(int(h), int(w)) for h, w in sizes]


def _image(flat: Tensor, size: tuple[int, int]) -> Tensor:
    return flat.permute(1, 2, 0).unflatten(2, size)


def _heads(
    network: Any,
    context: Tensor,
    points: tuple[Tensor, Tensor] | None,
    fine: list[Tensor],
    wide: bool,
) -> tuple[FrameGuess, Tensor, Tensor]:
    """Guess, the chosen mask at full size as it is remembered, and its pointer.

    SAM 2's own heads blank the masks of objects they believe absent, also for the loss; while
    that belief is still wrong nothing could be learned, so here only the memory is blanked.
    """
    count, device = len(context), context.device
    if points is None:
        points = torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device)
        given = 0
    else:
        given = points[1].shape[1]
    sparse, dense = network.sam_prompt_encoder(points=points, boxes=None, masks=None)
    several = bool(
        wide
        or (
            network.multimask_output_in_sam
            and network.multimask_min_pt_num <= given <= network.multimask_max_pt_num
        )
    )
    masks, iou, tokens, present = network.sam_mask_decoder(
        image_embeddings=context,
        image_pe=network.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        repeat_image=False,
        high_res_features=fine,
    )
    rows, best = torch.arange(count, device=device), iou.argmax(dim=1)
    there = (present > 0).float()
    chosen = masks[rows, best].unsqueeze(1).float()
    chosen = torch.where(there[:, :, None, None] > 0, chosen, -1024.0)
    side = (network.image_size, network.image_size)
    chosen = F.interpolate(chosen, size=side, mode="bilinear", align_corners=False)
    token = tokens[rows, best] if tokens.shape[1] > 1 else tokens[:, 0]
    pointer = there * network.obj_ptr_proj(token) + (1 - there) * network.no_obj_ptr
    return FrameGuess(masks.float(), iou.float(), present.float()), chosen, pointer


def clip_loss(guesses: list[FrameGuess | None], masks: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of a clip, mean over its objects and frames, and its parts before weighting.

    Args:
        guesses: from ``run_clip``.
        masks: ``(N, T, S, S)`` uint8.

    Returns:
        The weighted sum, and ``focal``, ``dice``, ``iou``, ``presence``, and ``hit``: the IoU of
        the masks that the network itself would choose, where there is an object.
    """
    parts: dict[str, list[Tensor]] = {}
    for t, guess in enumerate(guesses):
        if guess is None:
            continue
        for name, value in _frame_loss(guess, masks[:, t]).items():
            parts.setdefault(name, []).append(value)
    means = {name: torch.stack(values).mean() for name, values in parts.items()}
    total = sum(weight * means[name] for name, weight in WEIGHTS.items())
    return total, {name: float(value.detach()) for name, value in means.items()}


def _frame_loss(guess: FrameGuess, masks: Tensor) -> dict[str, Tensor]:
    # Halfway between the decoder's grid and the image: full size would cost four times as much.
    side = 2 * guess.logits.shape[-1]
    truth = F.interpolate(masks[:, None].float(), size=(side, side), mode="area").flatten(2)
    logits = F.interpolate(guess.logits, size=(side, side), mode="bilinear", align_corners=False)
    logits = logits.flatten(2)  # (N, M, n)
    truth = truth.expand_as(logits)
    share = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    right = share * truth + (1 - share) * (1 - truth)
    balance = 0.25 * truth + 0.75 * (1 - truth)
    focal = (balance * (1 - right) ** 2 * cross).mean(-1)  # (N, M)
    dice = 1 - (2 * (share * truth).sum(-1) + 1) / ((share + truth).sum(-1) + 1)
    with torch.no_grad():
        found, wanted = logits > 0, truth > 0.5
        union = (found | wanted).sum(-1).clamp(min=1)
        overlap = (found & wanted).sum(-1) / union
        there = masks.flatten(1).any(1).float()  # (N,)
        best = (WEIGHTS["focal"] * focal + WEIGHTS["dice"] * dice).argmin(1)
        count = there.sum().clamp(min=1)
    rows = torch.arange(len(best), device=best.device)
    return {
        "focal": (focal[rows, best] * there).sum() / count,
        "dice": (dice[rows, best] * there).sum() / count,
        "iou": ((guess.iou - overlap).abs().mean(1) * there).sum() / count,
        "presence": F.binary_cross_entropy_with_logits(guess.present[:, 0], there),
        "hit": (overlap[rows, guess.iou.argmax(1)] * there).sum() / count,
    }
