"""SAM 2 cut at its seams: encode an image, read memory and decode, encode a memory.

The network is an unpatched ``SAM2Base`` of the ``sam2`` package; what it remembers and which
candidate wins are decided elsewhere. Sizes (image, channels, memory slots, pointers) are read
from the network, so SAM 2.0, SAM 2.1 and smaller networks of their shape all work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from vision_mem.errors import InputError, ModelError
from vision_mem.models.protocols import (
    Candidates,
    ImageFeatures,
    MemoryRead,
    SegmenterTraits,
)
from vision_mem.types import Frame, Prompt

RESIZES = ("pil_bicubic", "decord", "cv2")
ABSENT_LOGIT = -1024.0
"""Mask logit everywhere when the object is judged absent (SAM 2: NO_OBJ_SCORE)."""
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Encoded:
    """What SAM 2 makes of a frame: flattened maps ``(HW, 1, C)``, fine to coarse."""

    maps: list[torch.Tensor]
    position: torch.Tensor
    sizes: list[tuple[int, int]]
    fine: list[torch.Tensor]


class Sam2Segmenter:
    """A SAM 2 network behind the ``Segmenter`` protocol.

    Args:
        network: a ``sam2.modeling.sam2_base.SAM2Base`` with weights, in evaluation mode.
        model_id: name and short hash of the weights; snapshots record it.
        device: where to run.
        precision: ``fp32``, ``bf16`` or ``fp16``; the last two as autocast.
        resize: how frames are brought to the network's square: ``pil_bicubic`` equals the
            reference on image folders and is the default; ``decord`` takes what the decoder
            resized (``Frame.model_image``) and equals the reference on MP4 files; ``cv2`` is the
            fastest (area when shrinking, linear when growing).
        compile_encoder: compile the image encoder with ``torch.compile``.
        fill_hole_area: holes up to this many low-resolution pixels are filled in results.

    Raises:
        InputError: for an unknown ``resize`` or ``precision``.
    """

    def __init__(
        self,
        network: Any,
        *,
        model_id: str,
        device: torch.device,
        precision: str = "fp32",
        resize: str = "pil_bicubic",
        compile_encoder: bool = False,
        fill_hole_area: int = 8,
    ) -> None:
        if resize not in RESIZES:
            raise InputError(f"resize is {resize!r}; expected one of {', '.join(RESIZES)}")
        kinds = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        if precision not in kinds:
            raise InputError(f"precision is {precision!r}; expected one of {', '.join(kinds)}")
        self.network = network.to(device).eval()
        self.device = device
        self.resize = resize
        self._autocast_type = kinds[precision]
        limit = int(network.max_cond_frames_in_attn)
        pointers = int(network.max_obj_ptrs_in_encoder) if network.use_obj_ptrs_in_encoder else 1
        self.traits = SegmenterTraits(
            model_id=model_id,
            image_size=int(network.image_size),
            num_maskmem=int(network.num_maskmem),
            max_pointers=pointers,
            max_prompts=limit if limit > 0 else None,
            memory_stride=int(network.memory_temporal_stride_for_eval),
            fill_hole_area=fill_hole_area,
            extra={"precision": precision, "resize": resize},
        )
        self._encode: Callable[..., Any] = network.forward_image
        if compile_encoder:
            self._encode = torch.compile(network.forward_image)
        shape = (3, 1, 1)
        self._mean = torch.tensor(_MEAN, dtype=torch.float32, device=device).view(shape)
        self._std = torch.tensor(_STD, dtype=torch.float32, device=device).view(shape)
        self._memory_codes: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._image_code: torch.Tensor | None = None

    # -- seam 1: the image ---------------------------------------------------------------------

    def encode_image(self, frame: Frame) -> ImageFeatures:
        """Encode a frame, once for all objects. See ``Segmenter.encode_image``."""
        pixels = torch.from_numpy(self._square(frame)).to(self.device)
        with self._running():
            # Same order of roundings as the reference: to [0, 1], minus mean, over deviation.
            image = pixels.permute(2, 0, 1).to(torch.float32) / 255.0
            image = (image - self._mean) / self._std
            _, maps, positions, sizes = self.network._prepare_backbone_features(
                self._encode(image.unsqueeze(0))
            )
            fine = [_to_image(m, s) for m, s in zip(maps[:-1], sizes[:-1], strict=True)]
        side = self.network.image_size
        # Only the coarsest positional map is read again; the fine ones are 80 MiB at 1024.
        encoded = _Encoded(maps, positions[-1].clone(), sizes, fine)
        return ImageFeatures(frame.size, (side, side), encoded)

    def _square(self, frame: Frame) -> NDArray[np.uint8]:
        side = int(self.network.image_size)
        if self.resize == "decord":
            made = frame.model_image
            if made is None or made.shape != (side, side, 3):
                got = "none" if made is None else f"one of shape {made.shape}"
                raise InputError(
                    f"resize 'decord' needs a model image of {side} x {side} with each frame and "
                    f"frame {frame.index} has {got}; open the source with resize='decord' and "
                    f"model_size={side}, or choose resize='pil_bicubic'"
                )
            return np.array(made)
        if frame.size == (side, side):
            return np.array(frame.image)
        if self.resize == "cv2":
            shrinking = min(frame.size) >= side
            how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
            return np.asarray(cv2.resize(frame.image, (side, side), interpolation=how))
        resized = Image.fromarray(frame.image).resize((side, side), Image.Resampling.BICUBIC)
        return np.array(resized)

    # -- seam 2: memory and masks --------------------------------------------------------------

    def decode_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        *,
        read: MemoryRead | None = None,
        previous_logits: torch.Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Segment what a prompt points at. See ``Segmenter.decode_prompt``."""
        encoded: _Encoded = features.payload
        net = self.network
        with self._running():
            if prompt.mask is not None and net.use_mask_input_as_output_without_sam:
                return self._mask_as_output(encoded, prompt.mask, appear_threshold)
            context = (
                self._without_memory(encoded) if read is None else self._recall(encoded, [read])
            )
            points = self._points(prompt, features.video_size)
            dense = previous_logits
            if prompt.mask is not None:
                dense = self._square_mask(prompt.mask)
            elif dense is not None:
                dense = dense.to(self.device).clamp(-32.0, 32.0)
            multiple = net._use_multimask(
                read is None, None if points is None else {"point_labels": points[1]}
            )
            return self._heads(encoded, context, points, dense, multiple, appear_threshold)

    def decode(
        self,
        features: ImageFeatures,
        reads: Sequence[MemoryRead],
        *,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Segment tracked objects from what they remember. See ``Segmenter.decode``.

        Objects whose memories have equal shapes go through the network together.
        """
        if not reads:
            raise InputError("nothing to decode: no memories were given")
        encoded: _Encoded = features.payload
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, read in enumerate(reads):
            groups.setdefault(_shape_of(read), []).append(number)
        multiple = self.network._use_multimask(False, None)
        parts: list[tuple[list[int], Candidates]] = []
        with self._running():
            for numbers in groups.values():
                context = self._recall(encoded, [reads[n] for n in numbers])
                made = self._heads(encoded, context, None, None, multiple, appear_threshold)
                parts.append((numbers, made))
        return _in_order(parts, len(reads))

    def to_grid(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        """Low-resolution logits to the network's own resolution. See ``Segmenter.to_grid``."""
        return _resize(logits, features.grid_size)

    def to_video(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        """Low-resolution logits to the frame's size. See ``Segmenter.to_video``."""
        return _resize(logits, features.video_size)

    # -- seam 3: the memory --------------------------------------------------------------------

    def encode_memory(
        self,
        features: ImageFeatures,
        grid_logits: torch.Tensor,
        object_logit: torch.Tensor,
        *,
        from_prompt: bool,
        no_object_threshold: float = 0.0,
    ) -> list[dict[str, torch.Tensor]]:
        """Turn chosen masks into memory maps. See ``Segmenter.encode_memory``.

        Maps are kept as bfloat16 on every device, as the reference does.
        """
        encoded: _Encoded = features.payload
        if self.network.num_maskmem == 0:
            return [{} for _ in object_logit]
        # The network compares with 0; shifting the logit compares with the threshold.
        logit = (object_logit - no_object_threshold).view(-1, 1)
        if self.network.non_overlap_masks_for_mem_enc:
            # The network would let objects of one batch push each other away here.
            batches = list(zip(grid_logits.split(1), logit.split(1), strict=True))
        else:
            batches = [(grid_logits, logit)]
        entries = []
        with self._running():
            for masks, logits in batches:
                maps, _ = self.network._encode_new_memory(
                    current_vision_feats=_expand(encoded.maps[-1:], len(masks)),
                    feat_sizes=encoded.sizes,
                    pred_masks_high_res=masks,
                    object_score_logits=logits,
                    is_mask_from_pts=from_prompt,
                )
                # Clones, so that one object's memory does not keep the whole batch alive.
                entries += [{"map": m.clone()} for m in maps.to(torch.bfloat16).split(1)]
        return entries

    # -- inside --------------------------------------------------------------------------------

    @contextmanager
    def _running(self) -> Iterator[None]:
        half = self._autocast_type
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=half, enabled=half is not None),
        ):
            yield

    def _without_memory(self, encoded: _Encoded) -> torch.Tensor:
        """Features of a first prompt: ``(1, C, h, w)``."""
        net = self.network
        top, size = encoded.maps[-1], encoded.sizes[-1]
        if net.num_maskmem == 0:
            return _to_image(top, size)
        if net.directly_add_no_mem_embed:
            return _to_image(top + net.no_mem_embed, size)
        dummy = net.no_mem_embed.expand(1, 1, net.mem_dim)
        code = net.no_mem_pos_enc.expand(1, 1, net.mem_dim)
        return self._attend(encoded, top, dummy, code, pointer_tokens=0)

    def _recall(self, encoded: _Encoded, reads: Sequence[MemoryRead]) -> torch.Tensor:
        """Features of B objects that looked into their memories: ``(B, C, h, w)``.

        Source:
            SAM 2, ``sam2_base.py: _prepare_memory_conditioned_features``.
        """
        net = self.network
        top = encoded.maps[-1]
        if net.num_maskmem == 0:
            return _to_image(top.expand(-1, len(reads), -1), encoded.sizes[-1])
        tokens, codes, pointer_tokens = [], [], 0
        for read in reads:
            own_tokens, own_codes, pointer_tokens = self._memory_tokens(read)
            tokens.append(own_tokens)
            codes.append(own_codes)
        together = (
            (tokens[0], codes[0])
            if len(reads) == 1
            else (
                torch.cat(tokens, dim=1),
                torch.cat(codes, dim=1),
            )
        )
        return self._attend(encoded, top, *together, pointer_tokens=pointer_tokens)

    def _attend(
        self,
        encoded: _Encoded,
        top: torch.Tensor,
        memory: torch.Tensor,
        codes: torch.Tensor,
        *,
        pointer_tokens: int,
    ) -> torch.Tensor:
        objects = memory.shape[1]
        attended = self.network.memory_attention(
            curr=[top.expand(-1, objects, -1)],
            curr_pos=[encoded.position.expand(-1, objects, -1)],
            memory=memory,
            memory_pos=codes,
            num_obj_ptr_tokens=pointer_tokens,
        )
        return _to_image(attended, encoded.sizes[-1])

    def _memory_tokens(self, read: MemoryRead) -> tuple[torch.Tensor, torch.Tensor, int]:
        """One object's memory as ``(tokens, 1, Cm)``, its codes, and how many are pointers'."""
        net = self.network
        if not read.prompts:
            raise ModelError("an object's memory holds no prompted frame; prompt it first")
        maps = [(entry.tensors["map"], 0) for entry in read.prompts]
        maps += [(entry.tensors["map"], t_pos) for entry, t_pos in read.recents]
        prompts = len(read.prompts)
        tokens, codes = [], []
        for number, (memory, t_pos) in enumerate(maps):
            memory = memory.to(self.device)
            tokens.append(memory.flatten(2).permute(2, 0, 1))
            spatial = self._spatial_codes(memory.shape[-2:])
            untimed = number < prompts and not read.timed_prompts
            codes.append(spatial[-1] if untimed else spatial[net.num_maskmem - t_pos - 1])
        if not (net.use_obj_ptrs_in_encoder and read.pointers):
            return torch.cat(tokens), torch.cat(codes), 0

        vectors = torch.stack([v.to(self.device) for v, _ in read.pointers]).unsqueeze(1)
        position = self._pointer_codes([p for _, p in read.pointers], read.num_frames_hint)
        parts = net.hidden_dim // net.mem_dim
        if parts > 1:  # (n, 1, C) -> (n * parts, 1, Cm)
            vectors = vectors.reshape(-1, 1, parts, net.mem_dim).permute(0, 2, 1, 3).flatten(0, 1)
            position = position.repeat_interleave(parts, dim=0)
        return torch.cat([*tokens, vectors]), torch.cat([*codes, position]), len(vectors)

    def _spatial_codes(self, size: torch.Size) -> list[torch.Tensor]:
        """Codes of a memory map, one for each temporal place, and one without: ``(hw, 1, Cm)``."""
        height, width = int(size[0]), int(size[1])
        if (height, width) not in self._memory_codes:
            net = self.network
            blank = torch.zeros(1, net.mem_dim, height, width, device=self.device)
            flat = net.memory_encoder.position_encoding(blank)
            flat = flat.to(self._autocast_type or torch.float32).flatten(2).permute(2, 0, 1)
            timed = [flat + code for code in net.maskmem_tpos_enc]
            self._memory_codes[height, width] = [*timed, flat]
        return self._memory_codes[height, width]

    def _pointer_codes(self, positions: list[int], num_frames: int | None) -> torch.Tensor:
        """Temporal codes of pointers: ``(n, 1, Cm)``."""
        net = self.network
        if not net.add_tpos_enc_to_obj_ptrs:
            return torch.zeros(len(positions), 1, net.mem_dim, device=self.device)
        reach = net.max_obj_ptrs_in_encoder
        reach = reach if num_frames is None else min(num_frames, reach)
        width = net.hidden_dim if net.proj_tpos_enc_in_obj_ptrs else net.mem_dim
        # float32 from the start: not every device can make float64 or int64 quotients.
        steps = torch.tensor(positions, dtype=torch.float32, device=self.device)
        steps = steps / max(reach - 1, 1)
        half = width // 2
        place = torch.arange(half, dtype=torch.float32, device=self.device)
        angles = steps.unsqueeze(-1) / 10000 ** (2 * (place // 2) / half)
        code = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return net.obj_ptr_tpos_proj(code).unsqueeze(1).expand(-1, 1, net.mem_dim)

    def _heads(
        self,
        encoded: _Encoded,
        context: torch.Tensor,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        dense: torch.Tensor | None,
        multiple: bool,
        appear_threshold: float,
    ) -> Candidates:
        """Decode masks from features that know the memory.

        Source:
            SAM 2, ``sam2_base.py: _forward_sam_heads``.
        """
        net, objects = self.network, context.shape[0]
        if points is None:
            points = (
                torch.zeros(objects, 1, 2, device=self.device),
                -torch.ones(objects, 1, dtype=torch.int32, device=self.device),
            )
        if dense is not None and dense.shape[-2:] != net.sam_prompt_encoder.mask_input_size:
            size = net.sam_prompt_encoder.mask_input_size
            dense = F.interpolate(
                dense.float(), size=size, mode="bilinear", align_corners=False, antialias=True
            )
        sparse, dense = net.sam_prompt_encoder(points=points, boxes=None, masks=dense)
        if self._image_code is None:
            self._image_code = net.sam_prompt_encoder.get_dense_pe()
        masks, iou, tokens, appearing = net.sam_mask_decoder(
            image_embeddings=context,
            image_pe=self._image_code,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multiple,
            repeat_image=False,
            high_res_features=_expand_images(encoded.fine, objects) or None,
        )
        appears = appearing > appear_threshold  # (B, 1)
        if net.pred_obj_scores:
            masks = torch.where(appears[:, None, None], masks, ABSENT_LOGIT)
        pointers = torch.stack(
            [
                self._pointer(net.obj_ptr_proj(tokens[:, m]), appears, appearing)
                for m in range(tokens.shape[1])
            ],
            dim=1,
        )
        return Candidates(
            logits=masks.float(),
            iou=iou.float(),
            object_logit=appearing[:, 0].float(),
            pointers=pointers.expand(-1, masks.shape[1], -1),
        )

    def _pointer(
        self, vector: torch.Tensor, appears: torch.Tensor, logit: torch.Tensor
    ) -> torch.Tensor:
        net = self.network
        if not net.pred_obj_scores or not net.use_obj_ptrs_in_encoder:
            return vector
        present = logit.sigmoid() if net.soft_no_obj_ptr else appears.float()
        if net.fixed_no_obj_ptr:
            vector = present * vector
        return vector + (1 - present) * net.no_obj_ptr

    def _mask_as_output(
        self, encoded: _Encoded, mask: NDArray[np.bool_], appear_threshold: float
    ) -> Candidates:
        """Take a mask prompt as it is; the network only makes its pointer.

        Source:
            SAM 2, ``sam2_base.py: _use_mask_as_output``.
        """
        net = self.network
        square = self._square_mask(mask)
        logits = square * 20.0 - 10.0
        low = F.interpolate(
            logits,
            size=(logits.shape[-2] // 4, logits.shape[-1] // 4),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        appears = (square.flatten(1) > 0).any(dim=1, keepdim=True)
        pointer = torch.zeros(1, net.hidden_dim, device=self.device)
        if net.use_obj_ptrs_in_encoder:
            made = self._heads(
                encoded,
                _to_image(encoded.maps[-1], encoded.sizes[-1]),
                None,
                net.mask_downsample(square),
                False,
                appear_threshold,
            )
            pointer = made.pointers[:, 0]
        object_logit = appears.float() * 20.0 - 10.0
        if net.pred_obj_scores and net.use_obj_ptrs_in_encoder:
            present = appears.float()
            pointer = present * pointer if net.fixed_no_obj_ptr else pointer
            pointer = pointer + (1 - present) * net.no_obj_ptr
        return Candidates(
            logits=low,
            iou=torch.ones(1, 1, device=self.device),
            object_logit=object_logit[:, 0],
            pointers=pointer.unsqueeze(1),
        )

    def _square_mask(self, mask: NDArray[np.bool_]) -> torch.Tensor:
        """``(1, 1, S, S)`` float 0 or 1."""
        side = self.network.image_size
        given = torch.from_numpy(mask.astype(np.float32))[None, None].to(self.device)
        if mask.shape == (side, side):
            return given
        scaled = F.interpolate(
            given, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
        return (scaled >= 0.5).float()

    def _points(
        self, prompt: Prompt, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Box corners (labels 2 and 3) and points in network pixels: ``(1, n, 2)``, ``(1, n)``."""
        if prompt.box is None and prompt.points is None:
            return None
        places = np.zeros((0, 2), np.float32) if prompt.points is None else prompt.points
        labels = np.zeros(0, np.int32) if prompt.labels is None else prompt.labels
        if prompt.box is not None:
            places = np.concatenate([prompt.box.reshape(2, 2), places])
            labels = np.concatenate([np.array([2, 3], np.int32), labels])
        scaled = torch.from_numpy(places)[None] / torch.tensor([size[1], size[0]])
        scaled = scaled * self.network.image_size
        return scaled.to(self.device), torch.from_numpy(labels)[None].to(self.device)


def _shape_of(read: MemoryRead) -> tuple[int, ...]:
    return len(read.prompts), len(read.recents), len(read.pointers)


def _in_order(parts: list[tuple[list[int], Candidates]], count: int) -> Candidates:
    """Put groups that were decoded apart back into the order in which they were asked for."""
    if len(parts) == 1:
        return parts[0][1]
    place = torch.tensor([n for numbers, _ in parts for n in numbers])
    back = torch.empty(count, dtype=torch.long)
    back[place] = torch.arange(count)
    back = back.to(parts[0][1].logits.device)
    fields = ("logits", "iou", "object_logit", "pointers")
    joined = {f: torch.cat([getattr(made, f) for _, made in parts])[back] for f in fields}
    return Candidates(**joined)


def _to_image(flat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``(HW, B, C)`` to ``(B, C, H, W)``."""
    return flat.permute(1, 2, 0).view(flat.shape[1], flat.shape[2], *size)


def _expand(maps: Sequence[torch.Tensor], objects: int) -> list[torch.Tensor]:
    return [m.expand(-1, objects, -1) for m in maps]


def _expand_images(maps: Sequence[torch.Tensor], objects: int) -> list[torch.Tensor]:
    return [m.expand(objects, -1, -1, -1) for m in maps]


def _resize(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
