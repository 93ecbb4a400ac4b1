"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.models.detectors.coercion import Vocabulary
from vision_mem.models.detectors.protocol import Detector
from vision_mem.types import Detections, Frame


class Ensemble:
    """What several detectors see, together; classes with the same word become one.

    It answers when any of them does. ``reports_absence`` holds for an answer to which all of them
    contributed, and which all of them stand for.

    Args:
        detectors: one or more; they are owned.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        if not detectors:
            raise InputError("a union of no detectors; give one or more")
        self.detectors = tuple(detectors)
        self.name = " + ".join(each.name for each in self.detectors)
        self.reports_absence = all(each.reports_absence for each in self.detectors)
        self._vocabulary = Vocabulary()

    @property
    def stateful(self) -> bool:
        return any(each.stateful for each in self.detectors)

    def detect(self, frame: Frame) -> Detections | None:
        answers = [each.detect(frame) for each in self.detectors]
        self.reports_absence = all(
            found is not None and each.reports_absence
            for each, found in zip(self.detectors, answers, strict=True)
        )
        given = [found for found in answers if found is not None]
        if not given:
            return None
        stamps = [(found.frame_index, found.time_s) for found in given]
        if any(index is not None for index, _ in stamps):
            # The oldest tells how old the whole may be.
            seen = [(frame.index, frame.time_s) if i is None else (i, t) for i, t in stamps]
            index, time_s = min(seen)
            return replace(together(given, self._vocabulary), frame_index=index, time_s=time_s)
        return together(given, self._vocabulary)

    def reset(self) -> None:
        self._vocabulary = Vocabulary()
        for each in self.detectors:
            each.reset()

    def close(self) -> None:
        for each in self.detectors:
            each.close()


def together(given: Sequence[Detections], vocabulary: Vocabulary) -> Detections:
    """Put detections of one frame one behind the other.

    Classes are told by their words; a word keeps its number where no other word has it. Where only
    some have masks, the others' are empty. Embeddings are kept when all have them, and alike.

    Args:
        given: one or more.
        vocabulary: numbers of words so far; new ones are added.
    """
    labels = []
    for found in given:
        number_of: dict[int, int] = {}
        for label, word in found.names.items():
            number_of[label] = vocabulary.number(word, label)
        for label in map(int, found.labels):
            if label not in number_of:
                number_of[label] = vocabulary.number(f"class-{label}", label)
        labels += [number_of[int(label)] for label in found.labels]
    sizes = {found.masks.shape[1:] for found in given if found.masks is not None}
    masks = None
    if sizes:
        size = sizes.pop()
        parts = [np.zeros((len(f), *size), bool) if f.masks is None else f.masks for f in given]
        masks = np.concatenate(parts)
    vectors: list[Any] = [found.embeddings for found in given]
    alike = all(v is not None for v in vectors) and len({v.shape[1] for v in vectors}) == 1
    return Detections(
        np.concatenate([found.boxes for found in given]),
        np.concatenate([found.scores for found in given]),
        np.array(labels, np.int64),
        masks=masks,
        embeddings=np.concatenate(vectors) if alike else None,
        names=dict(vocabulary.names),
    )
