"""Training clips from videos whose masks another segmenter made.

Folders are laid out as DAVIS is: ``JPEGImages/NAME/00000.jpg`` and ``Annotations/NAME/00000.png``
with a number for each object. ``vision-mem track FRAMES --save png`` writes such masks.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from nano_clips import SMALLEST, Clip
from PIL import Image as Pillow

from vision_mem.errors import InputError


class PseudoClips:
    """Random pieces of labelled sequences.

    Args:
        folder: with ``JPEGImages`` and ``Annotations``.

    Raises:
        InputError: when no sequence has both.
    """

    def __init__(self, folder: Path) -> None:
        self._sequences: list[list[tuple[Path, Path]]] = []
        for masks in sorted((folder / "Annotations").glob("*")):
            images = folder / "JPEGImages" / masks.name
            pairs = [(images / f"{m.stem}.jpg", m) for m in sorted(masks.glob("*.png"))]
            pairs = [pair for pair in pairs if pair[0].is_file()]
            if pairs:
                self._sequences.append(pairs)
        if not self._sequences:
            raise InputError(f"{folder} holds no sequence; expected JPEGImages/ and Annotations/")

    def draw(self, rng: np.random.Generator, frames: int, side: int) -> Clip:
        """A piece of a sequence: some frames apart, cropped, perhaps mirrored."""
        pairs = self._sequences[rng.integers(len(self._sequences))]
        step = int(rng.integers(1, 5))
        step = max(1, min(step, len(pairs) // max(frames, 1)))
        first = int(rng.integers(max(1, len(pairs) - (frames - 1) * step)))
        chosen = [pairs[min(first + n * step, len(pairs) - 1)] for n in range(frames)]
        share, mirrored = rng.uniform(0.6, 1.0), rng.random() < 0.5
        at = rng.random(2)
        images, ids = [], []
        for path, mask in chosen:
            image = np.asarray(Pillow.open(path).convert("RGB"))
            numbers = np.asarray(Pillow.open(mask))
            numbers = cv2.resize(numbers, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            size = (np.array(image.shape[:2]) * share).astype(int)
            y, x = ((np.array(image.shape[:2]) - size) * at).astype(int)
            part = (slice(y, y + size[0]), slice(x, x + size[1]))
            image = cv2.resize(image[part], (side, side), interpolation=cv2.INTER_AREA)
            numbers = cv2.resize(numbers[part], (side, side), interpolation=cv2.INTER_NEAREST)
            images.append(image[:, ::-1] if mirrored else image)
            ids.append(numbers[:, ::-1] if mirrored else numbers)
        seen = np.bincount(ids[0].ravel(), minlength=256)
        targets = [n for n in range(1, 255) if seen[n] >= SMALLEST]
        return Clip(np.stack(images), np.stack(ids), [int(n) for n in rng.permutation(targets)])
