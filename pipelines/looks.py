"""What things look like, in the space of the words that ask for them: the embedder of ``ask``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vision_mem.types import Detections, Frame


class WordLooks:
    """Embeds parts of pictures, and words, in one space; needs the extra ``[offline]``.

    Attributes:
        encoder: names the space, for the map.

    Raises:
        MissingExtra: when the extra is not installed.
    """

    def __init__(self) -> None:
        from vision_mem.models.vlm.word_search import WordSearch

        self._model = WordSearch()
        self.encoder: str = self._model.traits.model_id

    def of_boxes(self, frame: Frame, found: Detections) -> Sequence[NDArray[np.float32] | None]:
        """``(d,)`` of each detection: the mean of the patches in its box."""
        if not len(found.boxes):
            return []
        grid = self._model.encode_grid([frame])
        height, width = int(grid.rows.max()) + 1, int(grid.cols.max()) + 1
        tokens = grid.tokens.reshape(height, width, -1).float().cpu().numpy()  # row by row
        rows, columns = frame.image.shape[:2]
        vectors: list[NDArray[np.float32] | None] = []
        for box in found.boxes.astype(np.float64):
            x = np.clip(box[[0, 2]] / columns * width, 0, width)
            y = np.clip(box[[1, 3]] / rows * height, 0, height)
            left, top = (min(int(low), size - 1) for low, size in ((x[0], width), (y[0], height)))
            part = tokens[top : max(int(np.ceil(y[1])), top + 1)]
            mean = part[:, left : max(int(np.ceil(x[1])), left + 1)].mean(axis=(0, 1))
            size = float(np.linalg.norm(mean))
            vectors.append((mean / size).astype(np.float32) if size > 1e-6 else None)
        return vectors

    def of_things(self, frame: Frame, found: Detections) -> Sequence[NDArray[np.float32] | None]:
        """``(d,)`` of each detection: of its name, or where it has none, of its looks."""
        names = [found.names.get(int(label), "") for label in found.labels]
        looks = [None] * len(names) if all(names) else self.of_boxes(frame, found)
        return [
            self.of_text(name) if name else look for name, look in zip(names, looks, strict=True)
        ]

    def of_text(self, text: str) -> NDArray[np.float32] | None:
        """``(d,)`` of words; None where none says what to look for."""
        vectors = self._model.embed_text(text)
        return np.asarray(vectors[0].float().cpu().numpy()) if len(vectors) else None
