"""How the embedded segmenter's mask decoder learns: clips cut into windows, and a pass over them.

The pass does what the segmenter does when it follows an object: the window moves with it, not
exactly; the first frame's mask is given, right or wrong as users' prompts are; later frames vote
with it and with what the decoder itself made of the frames between. No gradients flow through the
masks in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from nano_clips import Clip, render_clip
from nano_pictures import Image, Pictures
from nano_render import log_uniform
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.geometry.masks import ellipse_in, mask_to_box
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.grabcut import mask_from_box
from vision_mem.models.segmenters.embedded.label_propagation import nearness, unit_tokens
from vision_mem.models.segmenters.embedded.mask_decoder import MaskDecoder
from vision_mem.models.segmenters.embedded.windows import Window

PROMPTS = {"mask": 0.5, "box": 0.3, "ellipse": 0.2}
"""Where the first mask comes from, and how often: the truth; GrabCut in the box; an ellipse."""
_PARTS = 0.4
"""Share of clips in which a part of something is to be followed, or something with such a part."""
_FEWEST = 80
"""Pixels that a target must show on the first frame."""


@dataclass
class Windows:
    """B objects on T frames, as the segmenter looks at them.

    Attributes:
        pictures: ``(B, T, s, s, 3)`` uint8 RGB.
        masks: ``(B, T, s/2, s/2)`` uint8, 255 where the object is.
        given: ``(B, t, t)`` float32 in [0, 1], the first mask as it was prompted.
        exact: ``(B,)`` float32, 1 where that is the truth.
        outside: ``(B, T)`` share of the object that its window does not hold, [0, 1].
    """

    pictures: Tensor
    masks: Tensor
    given: Tensor
    exact: Tensor
    outside: Tensor

    def to(self, device: torch.device) -> Windows:
        """The same on another device."""
        return Windows(*(value.to(device, non_blocking=True) for value in vars(self).values()))


def draw_windows(
    pictures: Pictures, rng: np.random.Generator, count: int, later: int, side: int,
    config: EmbeddedConfig,
) -> Windows:  # fmt: skip
    """Render clips and cut one object out of each.

    Args:
        pictures: what to compose clips of.
        rng: decides everything.
        count: B.
        later: frames after the first, T - 1.
        side: of the rendered frames, at most.
        config: of the segmenter: window and reach.
    """
    rows = []
    while len(rows) < count:
        wait = int(log_uniform(rng, 1, 24)) if rng.random() < 0.5 else 1
        step = 1 if rng.random() < 0.6 else int(rng.integers(2, 4))
        drawn = [0, *(wait + step * n for n in range(later))]
        sharp = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
        clip = render_clip(pictures, rng, drawn[-1] + 1, side // sharp, drawn, _PARTS)
        areas = np.bincount(clip.ids[0].ravel(), minlength=256)
        targets = [n for n in clip.targets if areas[n] >= _FEWEST]
        if targets:
            weight = np.sqrt(areas[targets])
            rows.append(_cut(clip, int(rng.choice(targets, p=weight / weight.sum())), rng, config))
    return Windows(*(torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True)))


def _cut(
    clip: Clip, target: int, rng: np.random.Generator, config: EmbeddedConfig
) -> tuple[NDArray, ...]:
    truth = clip.mask(target)
    given = _prompt(clip.images[0], truth[0], rng)
    box = mask_to_box(given).astype(np.float64)
    centre, size = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1)
    shown, masks, outside = [], [], []
    for t, image in enumerate(clip.images):
        if t > 0 and truth[t].any():  # where the flow leads: near, now and then not so near
            box = mask_to_box(truth[t]).astype(np.float64)
            size = np.maximum((box[2:] - box[:2]), 0.5 * size) * np.exp(rng.normal(0, 0.1))
            away = 0.05 if rng.random() < 0.8 else 0.25
            centre = (box[:2] + box[2:]) / 2 + rng.normal(0, away, 2) * size
        window = Window.around(centre, size, config.reach)
        shown.append(np.asarray(window.crop(image, config.window)))
        alone = truth[t].astype(np.float32)
        inside = window.from_grid(alone, config.window // 2, 1.0)
        masks.append((inside * 255).astype(np.uint8))
        part = alone[max(0, window.y) : max(0, window.y + window.side)]
        part = part[:, max(0, window.x) : max(0, window.x + window.side)]
        outside.append(1 - part.sum() / max(alone.sum(), 1) if alone.any() else 0.0)
        if t == 0:
            prompt = window.from_grid(given.astype(np.float32), config.tokens, 1.0)
    exact = np.float32(np.array_equal(given, truth[0]))
    return np.stack(shown), np.stack(masks), prompt, exact, np.array(outside, np.float32)


def _prompt(image: Image, truth: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    kind = str(rng.choice(list(PROMPTS), p=list(PROMPTS.values())))
    if kind == "mask":
        return truth
    box = mask_to_box(truth).astype(np.float64)
    size = np.tile(np.maximum(box[2:] - box[:2], 4), 2)
    box += np.clip(rng.normal(0, 0.03, 4), -0.1, 0.1) * size
    box = np.clip(box, 0, truth.shape[0])
    made = mask_from_box(image, box) if kind == "box" else ellipse_in(box, truth.shape)
    return made if made.any() else truth


@dataclass
class Guess:
    """What the decoder says of B windows.

    Attributes:
        logits: ``(B, s/2, s/2)``.
        votes: ``(B, t, t)`` in [0, 1], what it started from.
    """

    logits: Tensor
    votes: Tensor


class Follower:
    """One pass over windows: frozen trunk, votes, decoder.

    Args:
        trunk: in the precision of the votes.
        decoder: what learns.
        config: of the segmenter.
    """

    def __init__(
        self, trunk: EfficientNetLite0, decoder: MaskDecoder, config: EmbeddedConfig
    ) -> None:
        self.decoder = decoder
        self._trunk, self._config = trunk, config

    def __call__(self, windows: Windows, half: bool) -> list[Guess]:
        """Guesses of all frames, the prompted one first; ``half``: decode in bfloat16."""
        config, t = self._config, self._config.tokens
        count, frames = windows.pictures.shape[:2]
        pixels = (windows.pictures.flatten(0, 1).permute(0, 3, 1, 2).float() - 127) / 128
        with torch.no_grad():
            kind = next(self._trunk.parameters()).dtype
            maps = self._trunk(pixels.to(kind, memory_format=torch.channels_last))
            tokens = torch.stack(
                [
                    unit_tokens({k: m[n : n + 1] for k, m in maps.items()})
                    for n in range(len(pixels))
                ]
            ).unflatten(0, (count, frames))
        raw, tokens = tokens, self.decoder.comparable(tokens.float())
        fine = maps[4].unflatten(0, (count, frames))
        small = F.avg_pool2d(pixels, 2).unflatten(0, (count, frames))
        given, made = windows.given.flatten(1), []
        always = torch.ones(count, device=pixels.device)
        memory = [(tokens[:, 0], given, always, True)]
        for n in range(frames):
            voting = memory[:1] + memory[1:][-config.memories :]
            votes = votes_of(tokens[:, n], voting, windows.exact, config)
            own = raw[:, n].transpose(1, 2).unflatten(2, (t, t)).float()
            with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
                logits = self.decoder(own, fine[:, n].float(), small[:, n], votes)
            made.append(Guess(logits, votes[:, 0]))
            soft = torch.sigmoid(logits.detach())
            seen = (soft.amax(dim=(1, 2)) > 0.5).float()
            mask = F.avg_pool2d(soft[:, None], 4)[:, 0].flatten(1)
            if n == 0:  # what was made of a box is mended before it is remembered
                mended = torch.where((windows.exact + (seen == 0) > 0)[:, None], given, mask)
                memory = [(tokens[:, 0], mended, always, True)]
            else:
                memory.append((tokens[:, n], mask, seen, False))
        return made


def votes_of(
    query: Tensor,
    memory: list[tuple[Tensor, Tensor, Tensor, bool]],
    exact: Tensor,
    config: EmbeddedConfig,
) -> Tensor:
    """``voting.vote`` for B windows at once: ``(B, 4, t, t)``, as ``MaskDecoder`` takes them.

    Args:
        query: ``(B, N, C)``.
        memory: tokens ``(B, N, C)``, masks ``(B, N)``, whether they count ``(B,)``, whether a user
            gave the mask; the given one first.
        exact: ``(B,)`` whether the given mask is a user's.
        config: constants.
    """
    less = 1 / config.temperature
    said, evidence = [], []
    for tokens, mask, _, prompted in memory:
        local = config.locality * (config.prompt_locality if prompted else 1.0)
        left, right = nearness(config.tokens, local, less, query.dtype, query.device)
        bias = (left.float() @ right.float().T)[None]
        alike = torch.baddbmm(bias, query.float(), tokens.float().transpose(1, 2), alpha=less)
        alike = alike.exp()
        evidence.append(alike.sum(dim=2) + 1e-12)
        said.append(torch.bmm(alike, mask[:, :, None])[:, :, 0] / evidence[-1])
    counts = torch.stack([torch.zeros_like(exact), *(entry[2] for entry in memory[1:])])
    others = counts.sum(dim=0)
    first = torch.where(others > 0, config.prompt_share, 1.0)
    share = counts * (1 - first) / others.clamp(min=1)
    share[0] = first
    share = share[:, :, None]
    found, alike = torch.stack(said), torch.stack(evidence)
    weight = share * alike**config.evidence
    mixed = (weight * found).sum(dim=0) / weight.sum(dim=0)
    how = ((share * alike).sum(dim=0).log() / 6).clamp(-2, 2)
    told = exact[:, None].expand_as(how)
    return torch.stack([mixed, found[0], how, told], dim=1).unflatten(
        2, (config.tokens, config.tokens)
    )


def loss_of(made: list[Guess], windows: Windows) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy 1, dice 1 where there is anything to see."""
    total: Tensor = torch.zeros((), device=windows.masks.device)
    parts = {"entropy": 0.0, "dice": 0.0, "iou": 0.0, "iou_votes": 0.0}
    parts |= {"iou_made": 0.0, "iou_mended": 0.0}
    for n, guess in enumerate(made):
        truth = windows.masks[:, n].float() / 255
        entropy = F.binary_cross_entropy_with_logits(guess.logits, truth)
        soft = torch.sigmoid(guess.logits)
        seen = truth.amax(dim=(1, 2)) > 0.5
        shared = (soft * truth).sum(dim=(1, 2))
        dice = 1 - (2 * shared + 1) / (soft.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 1)
        dice = (dice * seen).sum() / seen.sum().clamp(min=1)
        real = overlap(guess.logits.detach() > 0, truth > 0.5, windows.outside[:, n])
        total = total + (entropy + dice) / len(made)
        votes = F.interpolate(guess.votes[:, None], scale_factor=4, mode="bilinear")[:, 0]
        plain = overlap(votes > 0.5, truth > 0.5, windows.outside[:, n])
        values = (entropy, dice, real[seen].mean(), plain[seen].mean())
        if n == 0:  # how masks made of boxes are mended; the other frames are tracking
            made_up = windows.exact == 0
            parts["iou_made"] = float(plain[made_up].mean().nan_to_num(1.0))
            parts["iou_mended"] = float(real[made_up].mean().nan_to_num(1.0))
            continue
        for name, value in zip(parts, values, strict=False):
            parts[name] += float(value.detach()) / (len(made) - 1)
    return total, {"loss": float(total.detach()), **parts}


def overlap(found: Tensor, truth: Tensor, outside: Tensor) -> Tensor:
    """``(B,)`` IoU; what lies outside the window counts as missed. Nothing and nothing is 1."""
    shared = (found & truth).sum(dim=(1, 2)).float()
    whole = truth.sum(dim=(1, 2)) / (1 - outside).clamp(min=0.05)
    union = found.sum(dim=(1, 2)) + whole - shared
    return torch.where(union > 0, shared / union.clamp(min=1), torch.ones_like(shared))
