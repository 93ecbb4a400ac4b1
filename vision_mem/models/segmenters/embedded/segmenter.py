"""The embedded segmenter: follows real objects with no download.

Masks are propagated over frozen ImageNet features (``voting``) in a window that moves with
the object; a small network that learned on generated clips has a say in their outlines
(``mask_decoder``); optical flow says where the window goes and which parts are the object's; when
the object is lost, the whole picture is searched for it. It sits at the same seams as SAM 2, so
every memory policy runs on it unchanged. What it can and cannot do: docs/embedded.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.errors import InputError
from vision_mem.models.device import choose_device
from vision_mem.models.efficientnet import EfficientNetLite0
from vision_mem.models.segmenters.embedded.candidates import (
    NOTHING,
    Candidate,
    calibrated,
    lay_out,
    read_window,
)
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.first_masks import FirstMasks
from vision_mem.models.segmenters.embedded.frame import PreparedFrame
from vision_mem.models.segmenters.embedded.label_propagation import VotingMemory
from vision_mem.models.segmenters.embedded.mask_decoder import MaskDecoder
from vision_mem.models.segmenters.embedded.networks import EmbeddedNetworks
from vision_mem.models.segmenters.embedded.object_state import ObjectState, remembered
from vision_mem.models.segmenters.embedded.windows import TOKEN_STRIDE, Window, likely_place
from vision_mem.models.segmenters.protocol import (
    Candidates,
    ImageFeatures,
    MemoryRead,
    SegmenterTraits,
)
from vision_mem.types import Frame, Prompt

_ABSENT = -1024.0


@dataclass(frozen=True)
class _Search:
    """Where one object is to be looked for, and what is known of it."""

    state: ObjectState
    memory: list[VotingMemory]
    window: Window
    centre: NDArray[np.float64]
    missing: int
    prior: NDArray[np.float32] | None
    meant: float

    def pointer(self, found: Candidate) -> NDArray[np.float32]:
        """What is remembered of the object when this candidate is chosen."""
        return replace(
            self.state, window=found.window, missing=self.missing, score=found.score
        ).to_array()


class EmbeddedSegmenter:
    """Video segmenter over EfficientNet-Lite0 features.

    Args:
        networks: what looks, votes and decodes. Flow and components always run on the CPU.
        config: constants; those that the networks were made with.
    """

    def __init__(self, networks: EmbeddedNetworks, config: EmbeddedConfig | None = None) -> None:
        self.config = config or EmbeddedConfig()
        self.networks = networks
        self.device, self.dtype = networks.device, networks.dtype
        self._first = FirstMasks(networks, self.config)
        kind = str(self.dtype).removeprefix("torch.")
        self.traits = SegmenterTraits(
            # Tokens of another precision or another window cannot be compared.
            model_id=f"embedded#{self.networks.fingerprint}-{self.config.fingerprint}-{kind}",
            image_size=None,
            num_maskmem=self.config.memories + 1,
            fill_hole_area=16,
            parallel=True,
            decodes_at_once=self.networks.at_once,
        )

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
        config = config or EmbeddedConfig()
        decoder = MaskDecoder.load_packaged() if config.decoder_share > 0 else None
        trunk = EfficientNetLite0.load_packaged()
        return cls(EmbeddedNetworks(trunk, decoder, place, kinds[precision], config), config)

    def join_passes(self) -> None:
        """Look at what several threads ask for in one pass, where that is faster."""
        self.networks.join_passes()

    def encode_image(self, frame: Frame) -> ImageFeatures:
        """Prepare a frame; trunk passes follow where objects are looked for."""
        payload, grid = PreparedFrame.of(frame, self.config)
        return ImageFeatures(frame.size, grid, payload)

    def decode_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        *,
        read: MemoryRead | None = None,
        previous_logits: Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        before = None
        if previous_logits is not None:
            before = (self.to_video(previous_logits, features)[0, 0] > 0).cpu().numpy()
        masks, scores = self._first.of(features.payload, prompt, before)
        size = features.grid_size[::-1]
        rows, pointers = [], []
        for mask, score in zip(masks, scores, strict=True):
            cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            if mask.any() and not (cover > 0.5).any():
                cover = np.where(cover >= cover.max(), np.float32(1), cover)
            rows.append(np.where(cover > 0.5, np.float32(10), np.float32(-10)))
            state = ObjectState.of_mask(mask, self.config.reach, features.payload.scale)
            pointers.append(replace(state, score=score).to_array())
        return self._candidates(
            np.stack(rows)[None], [scores], np.stack(pointers)[None], [10.0], appear_threshold
        )

    def decode(
        self,
        features: ImageFeatures,
        reads: Sequence[MemoryRead],
        *,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Find each object again.

        The candidates are: the object's parts after the vote; the single best of them; and
        what a search of the whole picture found, or all parts when there was no search.
        """
        places = [self._place(features.payload, read) for read in reads]
        self.networks.prepare(features.payload, [place.window for place in places])
        made = [self._decode_one(features.payload, place) for place in places]
        rows = np.empty((len(made), 3, *features.grid_size), np.float32)
        pointers, scores, present, trusted = [], [], [], []
        for row, place, candidates in zip(rows, places, made, strict=True):
            best = max(one.score for one in candidates)
            present.append(
                self.config.presence_gain * float(_logit(best) - _logit(self.config.present))
            )
            lay_out(candidates, row, features.payload.scale)
            scores.append([one.score for one in candidates])
            pointers.append([place.pointer(one) for one in candidates])
            trusted.append([calibrated(one, self.config.trust) for one in candidates])
        found = self._candidates(rows, scores, np.array(pointers), present, appear_threshold)
        return replace(found, scores=torch.tensor(trusted, dtype=torch.float32))

    def _place(self, payload: PreparedFrame, read: MemoryRead) -> _Search:
        """Where to look for an object first."""
        config = self.config
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
        wide = state.size * (1 + config.widen * min(missing, config.widen_frames))
        window = Window.around(centre, wide, config.reach)
        # The first prompt says what is followed; later entries may be what tracking made of it.
        first = ObjectState.from_array(read.prompts[0].tensors["state"].cpu().numpy())
        return _Search(state, remembered(read, config), window, centre, missing, prior, first.score)

    def _decode_one(self, payload: PreparedFrame, place: _Search) -> list[Candidate]:
        """Three readings of where an object may be."""
        config = self.config
        main, alone, third = self._look(payload, place, place.window, place.prior)
        due = place.missing < config.search_always or place.missing % 2 == 0
        if main.score < config.search_below and due:
            middle, near = self._search(payload, place)
            again = Window.around(middle, place.state.size, config.reach)
            third = self._look(payload, place, again, None)[0]
            third = replace(third, score=max(third.score * near, NOTHING))
            if third.score < config.found:
                third = replace(third, score=min(third.score, config.doubtful))
        return [main, alone, third]

    def _look(
        self,
        payload: PreparedFrame,
        place: _Search,
        window: Window,
        prior: NDArray[np.float32] | None,
    ) -> tuple[Candidate, Candidate, Candidate]:
        """Read one window: the object's parts, the best part alone, all parts."""
        config, state = self.config, place.state
        said = self.networks.vote(self.networks.tokens(payload, window), place.memory)
        expected = None
        if prior is not None:
            scale = prior.shape[1] / payload.image.shape[1]
            expected = window.from_grid(prior, config.window, scale)
        extent = float(max(state.size))
        outline = self.networks.outline(payload, window, said)
        made = read_window(
            config, said[:2], outline, window, expected, extent, state.area,
            place.missing, place.meant,
        )  # fmt: skip
        if cv2.meanStdDev(payload.windows[window].picture)[1].max() < config.texture:
            made = tuple(replace(one, score=NOTHING) for one in made)  # type: ignore[assignment]
        return made

    def _search(self, payload: PreparedFrame, place: _Search) -> tuple[NDArray[np.float64], float]:
        """Where in the whole picture the object most likely is, see ``likely_place``."""
        height, width = payload.image.shape[:2]
        if payload.scene is None:
            scale = min(1.0, self.config.scene_side / max(height, width))
            shape = [max(32, round(v * scale / 32) * 32) for v in (height, width)]
            picture = cv2.resize(payload.image, shape[::-1], interpolation=cv2.INTER_AREA)
            tokens = self.networks.look_at([picture])[0].tokens
            payload.scene = tokens, (shape[0] // TOKEN_STRIDE, shape[1] // TOKEN_STRIDE)
        tokens, shape_tokens = payload.scene
        prompted = [entry for entry in place.memory if entry.prompted]
        found = self.networks.find_again(tokens, shape_tokens, prompted)
        size = place.state.size
        spread = self.config.search_spread * float(np.sqrt(size[0] * size[1]))
        spread += self.config.search_growth * place.missing * float(np.hypot(height, width))
        return likely_place(found, (height, width), size, place.centre, spread)

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
        payload: PreparedFrame = features.payload
        grids = grid_logits[:, 0].cpu()
        packed = pointers.cpu().numpy()
        seen = (object_logit > no_object_threshold).cpu().numpy()
        entries = []
        for logits, pointer, here in zip(grids, packed, seen, strict=True):
            state = ObjectState.from_array(pointer).at(payload.scale)
            soft, on = torch.sigmoid(logits).numpy(), (logits > 0).numpy()
            present = bool(here) and bool(on.any())
            if present:
                state = state.seen(on, self.config, from_prompt=from_prompt)
            else:
                state = state.lost()
            mask = state.window.from_grid(soft, self.config.tokens, payload.scale)
            entries.append(
                {
                    "tokens": self.networks.tokens(payload, state.window),
                    "mask": torch.from_numpy(mask.reshape(-1)).to(self.device),
                    "prior": payload.shrink(soft * np.float32(present)),
                    "grey": payload.grey,
                    "state": torch.from_numpy(state.to_array()),
                    "seen": torch.tensor([1.0 if present else 0.0]),
                }
            )
        return entries

    def _candidates(
        self,
        rows: NDArray[np.float32],
        scores: Sequence[Sequence[float]],
        pointers: NDArray[np.float32],
        present: Sequence[float],
        appear_threshold: float,
    ) -> Candidates:
        """Arrays of B objects as tensors; ``rows`` of those that are absent are overwritten."""
        for row, logit in zip(rows, present, strict=True):
            if logit <= appear_threshold:
                row[:] = _ABSENT
        return Candidates(
            logits=torch.from_numpy(rows).to(self.device),
            iou=torch.tensor(scores, dtype=torch.float32, device=self.device),
            object_logit=torch.tensor(present, dtype=torch.float32, device=self.device),
            pointers=torch.from_numpy(pointers).to(self.device),
        )


def _cpu_likes_bf16() -> bool:
    """Whether bf16 products are done in hardware; elsewhere they are slower than fp32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported is not None and supported())


def _logit(share: float) -> float:
    share = min(max(share, 1e-6), 1 - 1e-6)
    return float(np.log(share / (1 - share)))
