"""Appearance vectors for what a detector finds: of the trunk that comes along, or an ONNX model.

A session compares such vectors in place of colours when it asks whether somebody was here before.
Which cosine means "the same" differs from network to network. One more component, the same for
all vectors of an embedder, brings that cosine to the one that ``gallery.min_similarity`` asks for
by default, so that the rules need to know nothing of networks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.config import nearest
from vision_mem.errors import InputError, ModelError, NotThere
from vision_mem.models.detectors.filters import Around
from vision_mem.models.onnx_runtime import open_graph, reason_of
from vision_mem.text import short, shown
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)

SAME = 0.86
"""The default of ``gallery.min_similarity``: a test holds the two together."""
REID_WORDS = ("colours", "trunk", "onnx:FILE")
"""What ``--reid`` takes."""

_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
_TALL, _WIDE = 256, 128  # pixels of a crop, where a model takes any size
_LEAST = 16  # numbers that an appearance vector has at least
_BATCH = 32
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


class Embedder(Protocol):
    """Describes parts of a picture."""

    @property
    def name(self) -> str:
        """A short word for messages."""

    def embed(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of length 1, ``(n, d)``, of boxes ``(n, 4)`` in a picture ``(H, W, 3)`` RGB."""


class Described(Around):
    """A detector whose detections have appearance vectors.

    Args:
        detector: what finds them.
        embedder: what describes them; vectors that the detector gave are replaced.
    """

    def __init__(self, detector: Any, embedder: Embedder) -> None:
        super().__init__(detector)
        self.embedder = embedder

    def detect(self, frame: Frame) -> Detections | None:
        found = self.detector.detect(frame)
        if not found:
            return found
        return replace(found, embeddings=self.embedder.embed(frame.image, found.boxes))


class TrunkEmbedder:
    """Looks by the trunk of the embedded segmenter: three stripes of its map at stride 8.

    Deeper maps say what kind of thing it is, and people are all of one kind.

    Args:
        device: torch device.
        same: cosine from which on two vectors are of one and the same.

    Raises:
        MissingExtra: when the weights' package is not installed.
    """

    name = "trunk"

    def __init__(self, device: str = "cpu", same: float = 0.8) -> None:
        from vision_mem.models.segmenters.sam2.nano_trunk import NanoTrunk

        self._trunk = NanoTrunk.load_packaged().eval().requires_grad_(False).to(device)
        self._device, self._same = device, same

    def embed(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        cut = _crops(image, boxes, 128, 64).astype(np.float32) / 255.0
        mean, spread = (np.array(v, np.float32) for v in (_MEAN, _SPREAD))
        crops = np.asarray((cut - mean) / spread, np.float32)
        vectors = []
        with torch.inference_mode():
            for at in range(0, len(crops), _BATCH):
                some = torch.from_numpy(crops[at : at + _BATCH]).permute(0, 3, 1, 2)
                fine = self._trunk(some.to(self._device))[1]  # (b, 40, 16, 8)
                stripes = torch.nn.functional.adaptive_avg_pool2d(fine, (3, 1))
                vectors.append(stripes.flatten(1).float().cpu().numpy())
        return mapped_to(np.concatenate(vectors), self._same)


class OnnxEmbedder:
    """Looks by a re-identification model in an ONNX file, with ONNX Runtime.

    Crops are stretched to the size that the file says, or 256x128, and centred and scaled as
    ImageNet's pictures, unless it takes bytes. Told from a first look: a file whose output is not
    one vector a picture, or the same for any picture, or shares of classes, is no such model.

    Args:
        path: the file: one input ``(n, 3, H, W)`` or ``(n, H, W, 3)``.
        device: ``auto``, or a torch device: CUDA is used where this ONNX Runtime has it.
        same: cosine from which on two vectors are of one and the same, in (0, .95).
        pixels: 1 for colours from 0 to 1, centred and scaled; 255 for raw ones.
        colours: ``rgb`` or ``bgr``.

    Raises:
        InputError: for options out of range.
        MissingExtra: when ONNX Runtime is not installed.
        ModelError: for a file that is missing, damaged, or no re-identification model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        same: float = 0.7,
        pixels: int = 1,
        colours: str = "rgb",
    ) -> None:
        place = Path(path).expanduser()
        if not 0 < same < 0.95:
            raise InputError(f"same is {same:g}; expected a cosine between 0 and 0.95")
        if pixels not in (1, 255) or colours not in ("rgb", "bgr"):
            raise InputError(
                f"pixels is {pixels}, colours {colours}; expected 1 or 255, rgb or bgr"
            )
        if not place.exists():
            raise NotThere(f"no such file {place}; expected a re-identification model as ONNX")
        if not place.is_file() or place.suffix.lower() in (
            ".pt",
            ".pth",
            ".safetensors",
            ".engine",
        ):
            raise InputError(f"{place} is not an ONNX file; export the model to ONNX first")
        self.name, self._same = place.name, same
        self._raw, self._flipped = pixels == 255, colours == "bgr"
        self._session = open_graph(place, device, "re-identification models in ONNX files")
        self._read_input(place)
        self._output = self._first_look(place)

    def embed(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        crops = _crops(image, boxes, self._height, self._width)
        at_once = self._batch or _BATCH
        parts = []
        for at in range(0, len(crops), at_once):
            some = crops[at : at + at_once]
            short_of = (self._batch or len(some)) - len(some)  # files that take so many at a time
            given = np.concatenate([some, np.repeat(some[-1:], short_of, axis=0)])
            out = np.asarray(self._run(given)[self._output], np.float32)
            parts.append(out.reshape(len(given), -1)[: len(some)])
        return mapped_to(np.concatenate(parts), self._same)

    def _read_input(self, place: Path) -> None:
        given = self._session.get_inputs()
        one = given[0] if len(given) == 1 else None
        if one is None or len(one.shape) != 4 or one.type not in _TYPES:
            names = short(", ".join(f"{each.name} {each.shape}" for each in given), 120)
            raise ModelError(
                f"{place} takes no crops of pictures (its inputs: {names}); expected a "
                "re-identification model with one input of n x 3 x height x width"
            )
        batch, *sides = (side if isinstance(side, int) and side > 0 else None for side in one.shape)
        self._last = sides[2] == 3 and sides[0] != 3
        channels = sides[2] if self._last else sides[0]
        if channels not in (None, 3):
            raise ModelError(f"{place} takes pictures of {channels} channels; expected 3, colours")
        height, width = sides[:2] if self._last else sides[1:]
        self._height, self._width = height or _TALL, width or _WIDE
        self._input, self._kind, self._batch = one.name, _TYPES[one.type], batch

    def _first_look(self, place: Path) -> int:
        """Which output is the vector; found by showing the model a few pictures."""
        random = np.random.default_rng(0)
        rough = random.integers(0, 256, (2, 8, 4, 3), np.uint8)
        size = (self._width, self._height)
        both = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in rough])
        count = self._batch or 1
        try:
            looks = [self._run(np.repeat(one[None], count, axis=0)) for one in both]
        except Exception as error:  # the runtime has a kind of its own for each
            raise ModelError(
                f"{place} cannot look at crops of {self._width}x{self._height}: {reason_of(error)}"
            ) from error
        shapes = [np.shape(out) for out in looks[0]]
        plain = [
            n
            for n, shape in enumerate(shapes)
            if len(shape) >= 2
            and shape[0] == count
            and max(shape[1:]) >= _LEAST
            and math.prod(shape[1:]) == max(shape[1:])
        ]
        if not plain:
            said = short(
                "; ".join("x".join(map(str, shape)) or "a number" for shape in shapes), 120
            )
            raise ModelError(
                f"{place} is no re-identification model: it answers {said}, and not one vector of "
                f"{_LEAST} or more numbers a crop (a detector is given with --detect onnx:FILE)"
            )
        first, second = (np.asarray(out[plain[0]], np.float64)[0].ravel() for out in looks)
        if not np.isfinite([first, second]).all() or np.allclose(first, second, atol=1e-6):
            raise ModelError(
                f"{place} is no re-identification model: all pictures look alike to it"
            )
        if (first >= 0).all() and abs(first.sum() - 1) < 1e-3 and abs(second.sum() - 1) < 1e-3:
            raise ModelError(
                f"{place} is no re-identification model: it answers shares of {len(first)} "
                "classes; export it without its classifier"
            )
        if len(first) in (1000, 1001):
            log.warning(
                "%s answers %d numbers, as a classifier of ImageNet does; if it is one, it tells "
                "kinds of things apart and not people", place, len(first),
            )  # fmt: skip
        return plain[0]

    def _run(self, crops: NDArray[np.uint8]) -> list[NDArray[np.generic]]:
        given: NDArray[Any] = crops[..., ::-1] if self._flipped else crops
        if self._kind != np.uint8:
            given = given.astype(np.float32)
            if not self._raw:
                mean, spread = (np.array(v, np.float32) for v in (_MEAN, _SPREAD))
                if self._flipped:
                    mean, spread = mean[::-1], spread[::-1]
                given = (given / 255.0 - mean) / spread
        if not self._last:
            given = given.transpose(0, 3, 1, 2)
        feeds = {self._input: np.ascontiguousarray(given, dtype=self._kind)}
        return [np.asarray(out) for out in self._session.run(None, feeds)]


def open_embedder(spec: str, device: str = "auto") -> Embedder | None:
    """What ``--reid`` means: ``colours`` (None), ``trunk``, or ``onnx:FILE[,same=0.7][,...]``.

    Raises:
        InputError: for what is none of these.
        VisionMemError: as the embedders.
    """
    word, _, rest = spec.strip().partition(":")
    if word == "colours" and not rest:
        return None
    if word == "trunk" and not rest:
        from vision_mem.models.device import choose_device

        return TrunkEmbedder(str(choose_device(device)))
    if word != "onnx":
        hint = f"; give onnx:{short(spec)}" if spec.strip().lower().endswith(".onnx") else ""
        close = "" if hint else nearest(word, ["colours", "trunk", "onnx"])
        raise InputError(
            f"--reid {shown(spec)} is not known; expected {', '.join(REID_WORDS)}{hint}{close}"
        )
    path, *options = rest.split(",")
    if not path.strip():
        raise InputError("--reid onnx: without a file; expected onnx:FILE.onnx")
    given: dict[str, Any] = {}
    for option in options:
        key, _, value = (part.strip() for part in option.partition("="))
        try:
            given[key] = {"same": float, "pixels": int, "colours": str}[key](value)
        except (KeyError, ValueError):
            raise InputError(
                f"option {option!r} of onnx:{path} is not known; expected same=0.7, pixels=255 or "
                "colours=bgr"
            ) from None
    return OnnxEmbedder(path.strip(), device=device, **given)


def mapped_to(vectors: NDArray[np.float32], same: float, to: float = SAME) -> NDArray[np.float32]:
    """Vectors of length 1 with one more component, so that a cosine of ``same`` becomes ``to``.

    Args:
        vectors: ``(n, d)``, of any length; one of zeros stays so.
        same: at most ``to``; a larger one is not mapped.
        to: see ``SAME``.

    Returns:
        float32 ``(n, d + 1)``. Cosines become ``a + (1 - a) * cosine``.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.maximum(lengths, 1e-12)
    share = max((to - same) / (1.0 - same), 0.0)
    more = np.where(lengths > 0, math.sqrt(share), 0.0)
    joined = np.concatenate([units * math.sqrt(1.0 - share), more], axis=1)
    return np.asarray(joined, np.float32)


def _crops(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], height: int, width: int
) -> NDArray[np.uint8]:
    """``(n, height, width, 3)``: boxes of a picture, stretched; of a pixel at least."""
    tall, wide = image.shape[:2]
    crops = np.zeros((len(boxes), height, width, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, np.float64)):
        left, top = (int(np.clip(low, 0, size - 1)) for low, size in ((x1, wide), (y1, tall)))
        right, bottom = (
            int(np.clip(math.ceil(high), low + 1, size))
            for high, low, size in ((x2, left, wide), (y2, top, tall))
        )
        part = np.ascontiguousarray(image[top:bottom, left:right])
        shrinks = part.shape[0] > height and part.shape[1] > width
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        crops[number] = cv2.resize(part, (width, height), interpolation=how)
    return crops
