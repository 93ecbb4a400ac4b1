"""The embedded segmenter: follows real objects with no download and nothing trained on video.

Masks are propagated over frozen ImageNet features (``propagation``) in a window that moves with
the object; optical flow says where the window goes and which parts are the object's; when the
object is lost, the whole picture is searched for it. It sits at the same seams as SAM 2, so
every memory policy runs on it unchanged. What it can and cannot do: docs/embedded.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.errors import InputError
from vision_mem.geometry.masks import mask_to_box
from vision_mem.models.cutting import mask_from_box, masks_from_points
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.propagation import (
    FEATURES,
    TOKEN_STRIDE,
    PropagationConfig,
    Remembered,
    Window,
    find_again,
    keep_parts,
    to_logit,
    unit_tokens,
    vote,
)
from vision_mem.models.protocols import (
    Candidates,
    ImageFeatures,
    MemoryEntry,
    MemoryRead,
    SegmenterTraits,
)
from vision_mem.types import Frame, Prompt

_GRID_SIDE = 640
"""Longest side of the grid on which masks live; larger videos are worked on at this size."""
_FLOW_SIDE = 320
"""Longest side of the grey pictures between which optical flow is computed."""
_SCENE_SIDE = 448
"""Longest side of the picture searched for a lost object."""
_ABSENT = -1024.0
_WEIGHTS = np.array([-9.8, 9.6, 0.8, 0.5, 2.7])
"""Estimated IoU = sigmoid of these times (1, mean vote in the mask, IoU with the moved previous
mask, agreement of areas, mean vote of prompted entries alone); fitted on generated clips (docs/embedded.md)."""
_NO_PRIOR_AGREEMENT = 0.5
_VOTE_BIAS = 0.0
"""Added to the logits of the vote."""
_ALONE = 0.0
"""Taken from the estimate of the single best part, so that it wins only when clearly better."""
_PRESENT = 0.45
"""Estimated IoU above which the object counts as seen."""
_SEARCH_BELOW = 0.45
_FOUND = 0.5
_SIZE_UP, _SIZE_DOWN, _AREA_RATE = 0.3, 0.08, 0.1
"""How fast the size model follows: growing quickly, shrinking slowly, because an object that
goes behind something looks smaller without being smaller."""
_WIDEN = 0.15
"""Growth of the window a frame while the object is missing, up to six frames."""

# Layout of a pointer and of the state kept in memory, float32. Pointers say where the chosen
# candidate was looked for; whole numbers are exact.
_STATE = ("window_x", "window_y", "window_side", "width", "height", "area", "missing", "score")
_BOX = slice(8, 12)
_STATE_LENGTH = 12


@dataclass
class _Payload:
    """What a frame's parts are computed from; caches are pure memoisation."""

    image: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    scale: float  # grid / video
    windows: dict[Window, Tensor] = field(default_factory=dict)
    flows: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    scene: tuple[Tensor, tuple[int, int]] | None = None
    grey_tensor: Tensor | None = None


@dataclass(frozen=True)
class _Candidate:
    """One reading of one frame for one object."""

    logits: NDArray[np.float32]  # (s, s) in its window
    window: Window
    score: float


class EmbeddedSegmenter:
    """Training-free video segmenter over EfficientNet-Lite0 features.

    Args:
        trunk: the frozen network.
        device: where the trunk and the votes run; flow and components always run on the CPU.
        dtype: of trunk and tokens; half precision where the processor is built for it.
        config: constants of the propagation.
    """

    def __init__(
        self,
        trunk: EfficientNetLite0,
        device: torch.device,
        dtype: torch.dtype,
        config: PropagationConfig | None = None,
    ) -> None:
        self.config = config or PropagationConfig()
        self.device = device
        self.dtype = dtype
        self.traits = SegmenterTraits(
            model_id=f"embedded-{trunk.fingerprint}-{self.config.window}",
            image_size=None,
            fill_hole_area=16,
        )
        self._trunk = trunk.to(device=device, dtype=dtype, memory_format=torch.channels_last)

    @classmethod
    def load(
        cls, device: str = "auto", precision: str = "auto", config: PropagationConfig | None = None
    ) -> EmbeddedSegmenter:
        """Build the segmenter from the weights that come with the package.

        Args:
            device: ``auto`` (CUDA, MPS, then CPU) or a torch device.
            precision: ``auto`` takes bf16 where the processor multiplies it in hardware, else
                fp32; ``fp32`` and ``bf16`` insist.
            config: constants; the default is what docs/embedded.md measures.

        Raises:
            MissingExtra: when the weights' package is missing.
            ModelError: when its file is damaged.
            InputError: for an unknown precision.
        """
        from vision_mem.models.weights import choose_device

        place = choose_device(device)
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        if precision == "auto":
            fast = place.type == "cuda" or (place.type == "cpu" and _cpu_likes_bf16())
            precision = "bf16" if fast else "fp32"
        if precision not in kinds:
            raise InputError(
                f"precision {precision!r} does not fit the embedded segmenter; "
                "expected auto, fp32 or bf16"
            )
        return cls(EfficientNetLite0.load_packaged(), place, kinds[precision], config)

    # Seam 1 ----------------------------------------------------------------------------------

    def encode_image(self, frame: Frame) -> ImageFeatures:
        """Prepare a frame; trunk passes follow where objects are looked for."""
        height, width = frame.size
        scale = min(1.0, _GRID_SIDE / max(height, width))
        grid = (max(1, round(height * scale)), max(1, round(width * scale)))
        shrink = min(1.0, _FLOW_SIDE / max(height, width))
        # DIS flow needs a dozen pixels a side.
        size = (max(16, round(width * shrink)), max(16, round(height * shrink)))
        small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        payload = _Payload(frame.image, grey, grid[1] / width)
        return ImageFeatures((height, width), grid, payload)

    # Seam 2 ----------------------------------------------------------------------------------

    def decode_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        *,
        read: MemoryRead | None = None,
        previous_logits: Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Turn a prompt into candidates; see ``Segmenter.decode_prompt``."""
        image = features.payload.image
        if prompt.mask is not None:
            masks = [prompt.mask]
        elif prompt.box is not None:
            masks = [mask_from_box(image, prompt.box, prompt.points, prompt.labels)]
        else:
            assert prompt.points is not None and prompt.labels is not None
            before = None
            if previous_logits is not None:
                before = (self.to_video(previous_logits, features)[0, 0] > 0).cpu().numpy()
            masks = masks_from_points(image, prompt.points, prompt.labels, before)
        size = features.grid_size[::-1]
        rows, pointers, scores = [], [], []
        for mask in masks:
            cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            if mask.any() and not (cover > 0.5).any():
                cover = np.where(cover >= cover.max(), np.float32(1), cover)
            rows.append(np.where(cover > 0.5, np.float32(10), np.float32(-10)))
            pointers.append(self._pointer_for(mask))
            scores.append(_click_score(mask) if len(masks) > 1 else 1.0)
        return self._candidates(np.stack(rows), scores, np.stack(pointers), 10.0, appear_threshold)

    def _pointer_for(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        box = mask_to_box(mask)
        size = np.maximum(box[2:] - box[:2], 1)
        window = Window.around((box[:2] + box[2:]) / 2, size, self.config.reach)
        return _pack(window, size, float(mask.sum()), 0, 1.0, box)

    # Seam 3 ----------------------------------------------------------------------------------

    def decode(
        self,
        features: ImageFeatures,
        reads: Sequence[MemoryRead],
        *,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Find each object again; see ``Segmenter.decode``.

        The candidates are: the object's parts after the vote; the single best of them; and
        what a search of the whole picture found, or all parts when there was no search.
        """
        made = [self._decode_one(features, read, appear_threshold) for read in reads]
        return Candidates(
            *(
                torch.cat([getattr(one, name) for one in made])
                for name in ("logits", "iou", "object_logit", "pointers")
            )
        )

    def _decode_one(
        self, features: ImageFeatures, read: MemoryRead, appear_threshold: float
    ) -> Candidates:
        payload: _Payload = features.payload
        newest = read.recents[-1][0] if read.recents else read.prompts[-1]
        state = newest.tensors["state"].cpu().numpy()
        size, area = state[3:5].astype(np.float64), float(state[5])
        missing = int(state[6])
        last = state[_BOX].astype(np.float64)
        centre = (last[:2] + last[2:]) / 2
        prior = None
        if missing == 0 and newest.index == read.index - 1:
            prior, shift = self._moved(payload, newest)
            centre = centre + shift
        elif read.hint is not None:
            missing = max(missing, read.hint.missing)
            box = read.hint.box / payload.scale
            centre = (box[:2] + box[2:]) / 2
        memory = _remembered(read, self.config)
        wide = size * (1 + _WIDEN * min(missing, 6))
        window = Window.around(centre, wide, self.config.reach)
        main, alone, loose = self._look(payload, window, memory, prior, size, area)
        third = loose
        # A lost object is searched for at once, then every second frame: a search costs as
        # much as a look.
        if main.score < _SEARCH_BELOW and (missing < 3 or missing % 2 == 0):
            place = self._search(payload, memory, read, size)
            again = Window.around(place, size, self.config.reach)
            third = self._look(payload, again, memory, None, size, area)[0]
            if third.score < _FOUND:
                third = _Candidate(third.logits, third.window, min(third.score, 0.3))
        candidates = [main, alone, third]
        grid, scale = features.grid_size, payload.scale
        rows = [c.window.onto_grid(c.logits, grid, scale, -6.9) for c in candidates]
        best = max(c.score for c in candidates)
        object_logit = 4.0 * float(np.log(best / (1 - best)) - np.log(_PRESENT / (1 - _PRESENT)))
        pointers = [_pack(c.window, size, area, missing, c.score, last) for c in candidates]
        scores = [c.score for c in candidates]
        return self._candidates(
            np.stack(rows), scores, np.stack(pointers), object_logit, appear_threshold
        )

    def _moved(
        self, payload: _Payload, newest: MemoryEntry
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float64]]:
        """Previous mask moved by the optical flow (at the flow's size), and the shift in video px."""
        before = newest.tensors["grey"]
        if tuple(before.shape) != payload.grey.shape:
            return None, np.zeros(2)
        key = before.data_ptr()
        if key not in payload.flows:
            dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
            # From now to before: tells each pixel of this frame where it came from.
            payload.flows[key] = dis.calc(payload.grey, before.cpu().numpy(), None)
        flow = payload.flows[key]
        mask = newest.tensors["prior"].cpu().numpy().astype(np.float32) / 255
        height, width = mask.shape
        columns, rows = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        moved = cv2.remap(mask, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
        on = moved > 0.5
        if np.count_nonzero(on) <= 2:
            return moved, np.zeros(2)
        back = np.median(flow[on], axis=0).astype(np.float64)
        step = payload.image.shape[1] / width, payload.image.shape[0] / height
        return moved, -back * step

    def _look(
        self,
        payload: _Payload,
        window: Window,
        memory: Sequence[Remembered],
        prior: NDArray[np.float32] | None,
        size: NDArray[np.float64],
        area: float,
    ) -> tuple[_Candidate, _Candidate, _Candidate]:
        """Read one window: the object's parts, the best part alone, all parts."""
        side = self.config.window // 2
        votes = vote(self._tokens(payload, window), memory, self.config)
        fine, first = (
            cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in votes
        )
        logits = to_logit(fine) + np.float32(_VOTE_BIAS)
        expected = None
        if prior is not None:
            expected = window.from_grid(prior, side, prior.shape[1] / payload.image.shape[1])
        extent = float(max(size)) / window.side / 2
        kept, alone = keep_parts(logits, expected, extent)

        def candidate(some: NDArray[np.float32]) -> _Candidate:
            return _Candidate(some, window, _estimate(some, fine, first, expected, window, area))

        best = candidate(alone)
        best = _Candidate(best.logits, window, max(best.score - _ALONE, 0.01))
        return candidate(kept), best, candidate(logits)

    def _search(
        self,
        payload: _Payload,
        memory: Sequence[Remembered],
        read: MemoryRead,
        size: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Middle of the place in the whole picture that looks most like the object, video px."""
        height, width = payload.image.shape[:2]
        if payload.scene is None:
            scale = min(1.0, _SCENE_SIDE / max(height, width))
            shape = [max(32, round(v * scale / 32) * 32) for v in (height, width)]
            picture = cv2.resize(payload.image, shape[::-1], interpolation=cv2.INTER_AREA)
            tokens = unit_tokens(self._run(picture))
            payload.scene = tokens, (shape[0] // TOKEN_STRIDE, shape[1] // TOKEN_STRIDE)
        tokens, shape_tokens = payload.scene
        prompted = [entry for entry in memory if entry.prompted]
        found = find_again(tokens, shape_tokens, prompted, self.config.temperature)
        step = np.array([width / shape_tokens[1], height / shape_tokens[0]])
        reach = np.maximum(1, (size / step).astype(int))
        smooth = cv2.boxFilter(found, -1, reach.tolist(), borderType=cv2.BORDER_CONSTANT)
        row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
        return (np.array([column, row]) + 0.5) * step

    # Seam 4 ----------------------------------------------------------------------------------

    def to_grid(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        """Masks are born on the grid."""
        return logits

    def to_video(self, logits: Tensor, features: ImageFeatures) -> Tensor:
        """Bilinear to the frame's size."""
        if tuple(logits.shape[-2:]) == features.video_size:
            return logits
        return torch.nn.functional.interpolate(
            logits, size=features.video_size, mode="bilinear", align_corners=False
        )

    def encode_memory(
        self,
        features: ImageFeatures,
        grid_logits: Tensor,
        object_logit: Tensor,
        *,
        from_prompt: bool,
        no_object_threshold: float = 0.0,
        pointers: Tensor | None = None,
    ) -> list[dict[str, Tensor]]:
        """Remember the looked-at window, the mask in it, and the object's size and place."""
        assert pointers is not None, "the embedded segmenter remembers by its pointers"
        payload: _Payload = features.payload
        if payload.grey_tensor is None:
            payload.grey_tensor = torch.from_numpy(payload.grey)
        grids = grid_logits[:, 0].cpu().numpy()
        packed = pointers.cpu().numpy()
        seen = (object_logit > no_object_threshold).cpu().numpy()
        entries = []
        for logits, pointer, here in zip(grids, packed, seen, strict=True):
            window = Window(*(int(value) for value in pointer[:3]))
            soft = 1 / (1 + np.exp(-np.clip(logits, -20, 20)))
            state = pointer.copy()
            present = bool(here) and bool((logits > 0).any())
            if present:
                state = _follow(state, logits > 0, payload.scale, from_prompt)
            else:
                state[6] += 1
            mask = window.from_grid(soft, self.config.tokens, payload.scale)
            size = payload.grey.shape[::-1]
            prior = cv2.resize(soft, size, interpolation=cv2.INTER_AREA)
            entries.append(
                {
                    "tokens": self._tokens(payload, window),
                    "mask": torch.from_numpy(mask.reshape(-1)).to(self.device),
                    "prior": torch.from_numpy(np.round(prior * 255 * present).astype(np.uint8)),
                    "grey": payload.grey_tensor,
                    "state": torch.from_numpy(state),
                    "seen": torch.tensor([1.0 if present else 0.0]),
                }
            )
        return entries

    # Shared ----------------------------------------------------------------------------------

    def _tokens(self, payload: _Payload, window: Window) -> Tensor:
        if window not in payload.windows:
            picture = window.crop(payload.image, self.config.window)
            payload.windows[window] = unit_tokens(self._run(picture))
        return payload.windows[window]

    @torch.inference_mode()
    def _run(self, picture: NDArray[Any]) -> dict[int, Tensor]:
        pixels = torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None]
        pixels = pixels.to(self.dtype if self.dtype == torch.float32 else torch.float32)
        pixels = ((pixels - 127) / 128).to(self.dtype, memory_format=torch.channels_last)
        maps: dict[int, Tensor] = self._trunk(pixels)
        return maps

    def _candidates(
        self,
        rows: NDArray[np.float32],
        scores: Sequence[float],
        pointers: NDArray[np.float32],
        object_logit: float,
        appear_threshold: float,
    ) -> Candidates:
        if object_logit <= appear_threshold:
            rows = np.full_like(rows, _ABSENT)
        return Candidates(
            logits=torch.from_numpy(rows)[None].to(self.device),
            iou=torch.tensor([list(scores)], dtype=torch.float32, device=self.device),
            object_logit=torch.tensor([object_logit], dtype=torch.float32, device=self.device),
            pointers=torch.from_numpy(pointers)[None].to(self.device),
        )


def _cpu_likes_bf16() -> bool:
    """Whether bf16 products are done in hardware; elsewhere they are slower than fp32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported is not None and supported())


def _pack(
    window: Window,
    size: NDArray[np.floating],
    area: float,
    missing: int,
    score: float,
    box: NDArray[np.floating],
) -> NDArray[np.float32]:
    values = [window.x, window.y, window.side, size[0], size[1], area, missing, score, *box]
    return np.array(values, np.float32)


def _follow(
    state: NDArray[np.float32], mask: NDArray[np.bool_], scale: float, from_prompt: bool
) -> NDArray[np.float32]:
    """State after the object was seen with ``mask`` on the grid."""
    after = state.copy()
    box = mask_to_box(mask) / scale
    now, area = box[2:] - box[:2], float(mask.sum()) / scale**2
    if not from_prompt:
        rate = np.where(now > state[3:5], _SIZE_UP, _SIZE_DOWN) * state[7]
        now = state[3:5] * (1 - rate) + now * rate
        area = float(state[5]) * (1 - _AREA_RATE) + area * _AREA_RATE
    after[3:5], after[5], after[6] = now, area, 0
    after[_BOX] = box
    return after


def _remembered(read: MemoryRead, config: PropagationConfig) -> list[Remembered]:
    recents = [entry for entry, _ in read.recents if float(entry.tensors["seen"]) > 0]
    share = config.prompt_share if recents else 1.0
    memory = [
        Remembered(e.tensors["tokens"], e.tensors["mask"], share / len(read.prompts), True)
        for e in read.prompts
    ]
    return memory + [
        Remembered(e.tensors["tokens"], e.tensors["mask"], (1 - share) / len(recents), False)
        for e in recents
    ]


def _estimate(
    logits: NDArray[np.float32],
    votes: NDArray[np.float32],
    first: NDArray[np.float32],
    expected: NDArray[np.float32] | None,
    window: Window,
    area: float,
) -> float:
    """Estimated IoU of a candidate with the truth, in (0, 1)."""
    on = logits > 0
    count = int(np.count_nonzero(on))
    if count == 0:
        return 0.01
    agreement = _NO_PRIOR_AGREEMENT
    if expected is not None:
        moved = expected > 0.5
        agreement = np.count_nonzero(moved & on) / max(np.count_nonzero(moved | on), 1)
    size = count * (window.side / logits.shape[0]) ** 2
    ratio = min(size / max(area, 1.0), max(area, 1.0) / size)
    features = np.array([1.0, float(votes[on].mean()), agreement, ratio, float(first[on].mean())])
    return float(1 / (1 + np.exp(-features @ _WEIGHTS)))


def _click_score(mask: NDArray[np.bool_]) -> float:
    """Preference among readings of a click: those that fill their box and are not the picture."""
    box = mask_to_box(mask)
    extent = float(np.prod(box[2:] - box[:2]))
    if extent == 0:
        return 0.01
    share = extent / mask.size
    fill = float(mask.sum()) / extent
    return float(np.clip(0.9 * fill * (1 - share) - (0.4 if share > 0.6 else 0.0), 0.01, 0.99))


assert len(_STATE) == _BOX.start and _BOX.stop == _STATE_LENGTH
assert FEATURES == 152
