"""The embedded segmenter: follows real objects with no download and nothing trained on video.

Masks are propagated over frozen ImageNet features (``voting``) in a window that moves with
the object; optical flow says where the window goes and which parts are the object's; when the
object is lost, the whole picture is searched for it. It sits at the same seams as SAM 2, so
every memory policy runs on it unchanged. What it can and cannot do: docs/embedded.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.errors import InputError
from vision_mem.models.cutting import click_score, mask_from_box, masks_from_points
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.embedded_config import EmbeddedConfig
from vision_mem.models.embedded_estimate import NOTHING, candidate_evidence, estimated_iou
from vision_mem.models.embedded_frame import EncodedFrame
from vision_mem.models.embedded_state import ObjectState, remembered
from vision_mem.models.outline import follow_edges
from vision_mem.models.propagation import TOKEN_STRIDE, Window, keep_parts, likely_place, to_logit
from vision_mem.models.protocols import Candidates, ImageFeatures, MemoryRead, SegmenterTraits
from vision_mem.models.voting import Remembered, find_again, unit_tokens, vote
from vision_mem.types import Frame, Prompt

_ABSENT = -1024.0


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
        config: constants.
    """

    def __init__(
        self,
        trunk: EfficientNetLite0,
        device: torch.device,
        dtype: torch.dtype,
        config: EmbeddedConfig | None = None,
    ) -> None:
        self.config = config or EmbeddedConfig()
        self.device = device
        self.dtype = dtype
        kind = str(dtype).removeprefix("torch.")
        self.traits = SegmenterTraits(
            # Tokens of another precision or another window cannot be compared.
            model_id=f"embedded#{trunk.fingerprint}-{self.config.fingerprint}-{kind}",
            image_size=None,
            num_maskmem=self.config.memories + 1,
            fill_hole_area=16,
            parallel=True,
        )
        self._trunk = trunk.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls, device: str = "auto", precision: str = "auto", config: EmbeddedConfig | None = None
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
        payload, grid = EncodedFrame.of(frame, self.config)
        return ImageFeatures(frame.size, grid, payload)

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
        image, scale = features.payload.image, features.payload.scale
        if prompt.mask is not None:
            masks = [prompt.mask]
        elif prompt.box is not None:
            masks = [
                mask_from_box(
                    image, prompt.box, prompt.points, prompt.labels, config=self.config.cut
                )
            ]
        else:
            assert prompt.points is not None and prompt.labels is not None
            before = None
            if previous_logits is not None:
                before = (self.to_video(previous_logits, features)[0, 0] > 0).cpu().numpy()
            masks = masks_from_points(
                image, prompt.points, prompt.labels, before, config=self.config.cut
            )
        size = features.grid_size[::-1]
        rows, pointers, scores = [], [], []
        for mask in masks:
            cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            if mask.any() and not (cover > 0.5).any():
                cover = np.where(cover >= cover.max(), np.float32(1), cover)
            rows.append(np.where(cover > 0.5, np.float32(10), np.float32(-10)))
            pointers.append(ObjectState.of_mask(mask, self.config.reach, scale).to_array())
            scores.append(click_score(mask) if len(masks) > 1 else 1.0)
        return self._candidates(np.stack(rows), scores, np.stack(pointers), 10.0, appear_threshold)

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
        config = self.config
        payload: EncodedFrame = features.payload
        newest = read.recents[-1][0] if read.recents else read.prompts[-1]
        state = ObjectState.from_array(newest.tensors["state"].cpu().numpy()).at(payload.scale)
        missing, centre = state.missing, state.centre
        prior = None
        if missing == 0 and newest.index == read.index - 1:
            prior, shift = payload.carry(newest.tensors["grey"], newest.tensors["prior"])
            centre = centre + shift
        elif read.hint is not None:
            missing = max(missing, read.hint.missing)
            box = read.hint.box / payload.scale
            centre = (box[:2] + box[2:]) / 2
        memory = remembered(read, config)
        wide = state.size * (1 + config.widen * min(missing, config.widen_frames))
        window = Window.around(centre, wide, config.reach)
        main, alone, third = self._look(payload, window, memory, prior, state)
        due = missing < config.search_always or missing % 2 == 0
        if main.score < config.search_below and due:
            place, near = self._search(payload, memory, state.size, centre, missing)
            again = Window.around(place, state.size, config.reach)
            third = self._look(payload, again, memory, None, state)[0]
            third = replace(third, score=max(third.score * near, NOTHING))
            if third.score < config.found:
                third = replace(third, score=min(third.score, config.doubtful))
        candidates = [main, alone, third]
        grid, scale = features.grid_size, payload.scale
        rows = [c.window.onto_grid(c.logits, grid, scale, -6.9) for c in candidates]
        best = max(c.score for c in candidates)
        object_logit = config.presence_gain * float(_logit(best) - _logit(config.present))
        pointers = [
            replace(state, window=c.window, missing=missing, score=c.score).to_array()
            for c in candidates
        ]
        scores = [c.score for c in candidates]
        return self._candidates(
            np.stack(rows), scores, np.stack(pointers), object_logit, appear_threshold
        )

    def _look(
        self,
        payload: EncodedFrame,
        window: Window,
        memory: Sequence[Remembered],
        prior: NDArray[np.float32] | None,
        state: ObjectState,
    ) -> tuple[_Candidate, _Candidate, _Candidate]:
        """Read one window: the object's parts, the best part alone, all parts."""
        config, side = self.config, self.config.window
        votes, first = vote(self._tokens(payload, window), memory, config)
        picture = self._picture(payload, window)
        plain, first = (
            cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in (votes, first)
        )
        fine = follow_edges(votes, picture, config.outline_radius, config.outline_smoothness)
        fine = config.outline_share * fine + (1 - config.outline_share) * plain
        logits = to_logit(fine)
        expected = None
        if prior is not None:
            expected = window.from_grid(prior, side, prior.shape[1] / payload.image.shape[1])
        extent = float(max(state.size)) / window.side / 2
        kept, single = keep_parts(logits, expected, extent, config.part_overlap)
        main, alone, loose = (
            _Candidate(
                some,
                window,
                self._estimate(some, fine, first, expected, window, state.area),
            )
            for some in (kept, single, logits)
        )
        return main, replace(alone, score=max(alone.score - config.alone, NOTHING)), loose

    def _estimate(
        self,
        logits: NDArray[np.float32],
        votes: NDArray[np.float32],
        first: NDArray[np.float32],
        expected: NDArray[np.float32] | None,
        window: Window,
        area: float,
    ) -> float:
        """Estimated IoU of a candidate with the truth, in (0, 1)."""
        evidence = candidate_evidence(
            logits, votes, first, expected, window, area, self.config.no_prior_agreement
        )
        return NOTHING if evidence is None else estimated_iou(evidence, self.config.weights)

    def _search(
        self,
        payload: EncodedFrame,
        memory: Sequence[Remembered],
        size: NDArray[np.float64],
        centre: NDArray[np.float64],
        missing: int,
    ) -> tuple[NDArray[np.float64], float]:
        """Where in the whole picture the object most likely is.

        Looks count, and so does how far it would have had to travel since it was last seen.

        Returns:
            Middle of that place in video pixels, and how plausible the way there is, (0, 1].
        """
        height, width = payload.image.shape[:2]
        if payload.scene is None:
            scale = min(1.0, self.config.scene_side / max(height, width))
            shape = [max(32, round(v * scale / 32) * 32) for v in (height, width)]
            picture = cv2.resize(payload.image, shape[::-1], interpolation=cv2.INTER_AREA)
            tokens = unit_tokens(self._run(picture))
            payload.scene = tokens, (shape[0] // TOKEN_STRIDE, shape[1] // TOKEN_STRIDE)
        tokens, shape_tokens = payload.scene
        prompted = [entry for entry in memory if entry.prompted]
        found = find_again(tokens, shape_tokens, prompted, self.config.temperature)
        spread = self.config.search_spread * float(np.sqrt(size[0] * size[1]))
        spread += self.config.search_growth * missing * float(np.hypot(height, width))
        return likely_place(found, (height, width), size, centre, spread)

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
        payload: EncodedFrame = features.payload
        grids = grid_logits[:, 0].cpu().numpy()
        packed = pointers.cpu().numpy()
        seen = (object_logit > no_object_threshold).cpu().numpy()
        entries = []
        for logits, pointer, here in zip(grids, packed, seen, strict=True):
            state = ObjectState.from_array(pointer).at(payload.scale)
            soft = 1 / (1 + np.exp(-np.clip(logits, -20, 20)))
            present = bool(here) and bool((logits > 0).any())
            if present:
                state = state.seen(logits > 0, self.config, from_prompt=from_prompt)
            else:
                state = state.lost()
            mask = state.window.from_grid(soft, self.config.tokens, payload.scale)
            entries.append(
                {
                    "tokens": self._tokens(payload, state.window),
                    "mask": torch.from_numpy(mask.reshape(-1)).to(self.device),
                    "prior": payload.shrink(soft * np.float32(present)),
                    "grey": payload.grey,
                    "state": torch.from_numpy(state.to_array()),
                    "seen": torch.tensor([1.0 if present else 0.0]),
                }
            )
        return entries

    # Shared ----------------------------------------------------------------------------------

    def _picture(self, payload: EncodedFrame, window: Window) -> NDArray[np.uint8]:
        if window not in payload.pictures:
            cut = window.crop(payload.image, self.config.window)
            payload.pictures[window] = np.asarray(cut, np.uint8)
        return payload.pictures[window]

    def _tokens(self, payload: EncodedFrame, window: Window) -> Tensor:
        if window not in payload.tokens:
            payload.tokens[window] = unit_tokens(self._run(self._picture(payload, window)))
        return payload.tokens[window]

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


def _logit(share: float) -> float:
    share = min(max(share, 1e-6), 1 - 1e-6)
    return float(np.log(share / (1 - share)))
