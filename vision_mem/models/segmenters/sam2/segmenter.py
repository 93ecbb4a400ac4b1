"""SAM 2 cut at its seams: encode an image, read memory and decode, encode a memory.

The network is an unpatched ``SAM2Base`` of the ``sam2`` package; what it remembers and which
candidate wins are decided elsewhere. Sizes (image, channels, memory slots, pointers) are read
from the network, so SAM 2.0, SAM 2.1 and smaller networks of their shape all work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from vision_mem.errors import InputError
from vision_mem.models.segmenters.protocol import (
    Candidates,
    ImageFeatures,
    MemoryRead,
    SegmenterTraits,
)
from vision_mem.models.segmenters.sam2.image_encoder import EncodedImage, ImageSide, to_image
from vision_mem.models.segmenters.sam2.memory_attention import MemorySide
from vision_mem.types import Frame, Prompt


def square_picture(frame: Frame, side: int, resize: str) -> NDArray[np.uint8]:
    """``(side, side, 3)`` of a frame; ``resize`` as in ``Sam2Segmenter``.

    Raises:
        InputError: when the decoder should have resized it and did not.
    """
    if resize == "decord":
        made = frame.model_image
        if made is None or made.shape != (side, side, 3):
            got = "none" if made is None else f"one of shape {made.shape}"
            raise InputError(
                f"resize decord needs a model image of {side} x {side} with each frame and "
                f"frame {frame.index} has {got}; open the source with it and that size, or choose "
                "resize pil_bicubic"
            )
        return np.array(made)
    if frame.size == (side, side):
        return np.array(frame.image)
    if resize == "cv2":
        shrinking = min(frame.size) >= side
        how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(frame.image, (side, side), interpolation=how))
    resized = Image.fromarray(frame.image).resize((side, side), Image.Resampling.BICUBIC)
    return np.array(resized)


def square_mask(mask: NDArray[np.bool_], side: int) -> torch.Tensor:
    """``(H, W)`` bool to ``(1, 1, side, side)`` float 0 or 1."""
    given = torch.from_numpy(mask.astype(np.float32))[None, None]
    if mask.shape == (side, side):
        return given
    return (shrunk(given, (side, side)) >= 0.5).float()


def points_of(
    prompt: Prompt, size: tuple[int, int], side: int, *, ratio_first: bool = False
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Box corners (labels 2 and 3), then points.

    Args:
        prompt: in video pixels.
        size: ``(H, W)`` of the video.
        side: of the network's square.
        ratio_first: the order of roundings of transformers, not that of ``sam2``.

    Returns:
        ``(1, n, 2)`` places and ``(1, n)`` labels; None for a prompt without box and points.
    """
    if prompt.box is None and prompt.points is None:
        return None
    places = np.zeros((0, 2), np.float32) if prompt.points is None else prompt.points
    labels = np.zeros(0, np.int32) if prompt.labels is None else prompt.labels
    if prompt.box is not None:
        places = np.concatenate([prompt.box.reshape(2, 2), places])
        labels = np.concatenate([np.array([2, 3], np.int32), labels])
    given = torch.from_numpy(places)[None]
    if ratio_first:
        scaled = given * torch.tensor([side / size[1], side / size[0]])
    else:
        scaled = given / torch.tensor([size[1], size[0]]) * side
    return scaled, torch.from_numpy(labels)[None]


def boxes_of(
    prompts: Sequence[Prompt], size: tuple[int, int], side: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """``points_of`` for B prompts that are boxes: ``(B, 2, 2)`` places and ``(B, 2)`` labels.

    Raises:
        InputError: for a prompt with anything but a box.
    """
    given = [points_of(one, size, side) for one in prompts if one.mask is None]
    made = [one for one in given if one is not None and one[1].shape[1] == 2]
    if len(made) != len(prompts) or not made:
        raise InputError("only boxes can be decoded together; prompt the others one by one")
    places, labels = (torch.cat([one[k] for one in made]).to(device) for k in (0, 1))
    return places, labels


def equal_shapes(reads: Sequence[MemoryRead] | None, count: int) -> list[list[int]]:
    """Positions of ``count`` reads, those of equal shape in one list; all in one without reads."""
    if reads is None:
        return [list(range(count))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, read in enumerate(reads):
        shape = len(read.prompts), len(read.recents), len(read.pointers)
        groups.setdefault(shape, []).append(number)
    return list(groups.values())


def in_order(parts: list[tuple[list[int], Candidates]], count: int) -> Candidates:
    """Put groups that were decoded apart back into the order in which they were asked for."""
    if len(parts) == 1:
        return parts[0][1]
    place = torch.tensor([n for numbers, _ in parts for n in numbers])
    back = torch.empty(count, dtype=torch.long)
    back[place] = torch.arange(count)
    back = back.to(parts[0][1].logits.device)
    return Candidates.joined([made for _, made in parts]).rows(back)


RESIZES = ("pil_bicubic", "decord", "cv2")
ATTENTIONS = ("exact", "folded")
ABSENT_LOGIT = -1024.0
"""Mask logit everywhere when the object is judged absent (SAM 2: NO_OBJ_SCORE)."""
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


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
        attention: ``exact`` looks into memories by the reference's own sums; ``folded`` gets by
            with fewer (``sam2_folded``): faster on a CPU, equal within rounding. It needs
            ``fp32``.
        images, memories: what encodes images, and reads and writes memories, in place of the
            network's layers (``ImageSide``, ``MemorySide``).

    Raises:
        InputError: for an unknown ``resize``, ``precision`` or ``attention``.
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
        attention: str = "exact",
        images: Any = None,
        memories: Any = None,
    ) -> None:
        kinds = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        given = {"resize": resize, "precision": precision, "attention": attention}
        for (name, value), known in zip(given.items(), (RESIZES, kinds, ATTENTIONS), strict=True):
            if value not in known:
                raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")
        if attention == "folded" and precision != "fp32":
            raise InputError(
                f"attention 'folded' needs precision fp32, not {precision}; leave one of them out"
            )
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
            extra=given,
        )
        self.images = images or ImageSide(network, compiled=compile_encoder)
        code_type = self._autocast_type or torch.float32
        self.memories = memories or MemorySide(
            network, device, code_type, folded=attention == "folded"
        )
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
            for values in (_MEAN, _STD)
        )
        self._image_code: torch.Tensor | None = None
        self._no_prompt: tuple[torch.Tensor, torch.Tensor] | None = None

    def encode_image(self, frame: Frame) -> ImageFeatures:
        square = square_picture(frame, self.network.image_size, self.resize)
        pixels = torch.from_numpy(square).to(self.device)
        with self._running():
            # Same order of roundings as the reference: to [0, 1], minus mean, over deviation.
            image = pixels.permute(2, 0, 1).to(torch.float32) / 255.0
            image = (image - self._mean) / self._std
            encoded = self.images(image.unsqueeze(0))
        side = self.network.image_size
        return ImageFeatures(frame.size, (side, side), encoded)

    def decode_prompt(
        self,
        features: ImageFeatures,
        prompt: Prompt,
        *,
        read: MemoryRead | None = None,
        previous_logits: torch.Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        encoded: EncodedImage = features.payload
        net = self.network
        with self._running():
            if prompt.mask is not None and net.use_mask_input_as_output_without_sam:
                return self._mask_as_output(encoded, prompt.mask, appear_threshold)
            memories = self.memories
            context = memories.recall(encoded, [read]) if read else memories.first_prompt(encoded)
            points = points_of(prompt, features.video_size, net.image_size)
            if points is not None:
                points = points[0].to(self.device), points[1].to(self.device)
            dense = previous_logits
            if prompt.mask is not None:
                dense = square_mask(prompt.mask, net.image_size).to(self.device)
            elif dense is not None:
                dense = dense.to(self.device).clamp(-32.0, 32.0)
            multiple = net._use_multimask(
                read is None, None if points is None else {"point_labels": points[1]}
            )
            made = self._heads(encoded, context, points, dense, multiple, appear_threshold)
            if prompt.part and made.iou.shape[1] > 1:  # the smallest of whole, part and subpart
                m = int((made.logits[0] > 0).flatten(1).sum(dim=1).argmin())
                logits, iou, pointers = made.logits, made.iou, made.pointers
                made = Candidates(
                    logits[:, m : m + 1], iou[:, m : m + 1], made.object_logit,
                    pointers[:, m : m + 1],
                )  # fmt: skip
            return made

    def decode_boxes(
        self,
        features: ImageFeatures,
        prompts: Sequence[Prompt],
        *,
        reads: Sequence[MemoryRead] | None = None,
        previous: torch.Tensor | None = None,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """``decode_prompt`` for B boxes together, one mask each.

        Args:
            features: the encoded frame.
            prompts: boxes without points.
            reads: memories of objects that are corrected; None when all are new.
            previous: ``(B, 1, h, w)`` of those.
            appear_threshold: object logits above it count as present.
        """
        side = self.network.image_size
        points = boxes_of(prompts, features.video_size, side, self.device)
        multiple = self.network._use_multimask(reads is None, {"point_labels": points[1]})
        dense = None if previous is None else previous.to(self.device).clamp(-32.0, 32.0)
        count = len(prompts)
        return self._grouped(features, count, reads, points, dense, multiple, appear_threshold)

    def decode(
        self,
        features: ImageFeatures,
        reads: Sequence[MemoryRead],
        *,
        appear_threshold: float = 0.0,
    ) -> Candidates:
        """Objects whose memories have equal shapes go through the network together."""
        if not reads:
            raise InputError("nothing to decode: no memories were given")
        multiple = self.network._use_multimask(False, None)
        return self._grouped(features, len(reads), reads, None, None, multiple, appear_threshold)

    def to_grid(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        return _resize(logits, features.grid_size)

    def to_video(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        return _resize(logits, features.video_size)

    def encode_memory(
        self,
        features: ImageFeatures,
        grid_logits: torch.Tensor,
        object_logit: torch.Tensor,
        *,
        from_prompt: bool,
        no_object_threshold: float = 0.0,
        pointers: torch.Tensor | None = None,
    ) -> list[dict[str, torch.Tensor]]:
        """Maps are kept as bfloat16 on every device, as the reference does."""
        encoded: EncodedImage = features.payload
        if self.network.num_maskmem == 0:
            return [{} for _ in object_logit]
        # The network compares with 0; shifting the logit compares with the threshold.
        logit = (object_logit - no_object_threshold).view(-1, 1)
        with self._running():
            maps = self.memories.write(encoded, grid_logits, logit, from_prompt=from_prompt)
            # Clones, so that one object's memory does not keep the whole batch alive.
            return [{"map": m.clone()} for m in maps.to(torch.bfloat16).split(1)]

    @contextmanager
    def _running(self) -> Iterator[None]:
        half = self._autocast_type
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=half, enabled=half is not None),
        ):
            yield

    def _grouped(
        self,
        features: ImageFeatures,
        count: int,
        reads: Sequence[MemoryRead] | None,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        dense: torch.Tensor | None,
        multiple: bool,
        appear_threshold: float,
    ) -> Candidates:
        """Decode objects, those whose memories have equal shapes together."""
        encoded: EncodedImage = features.payload
        parts: list[tuple[list[int], Candidates]] = []
        with self._running():
            for some in equal_shapes(reads, count):
                if reads is None:
                    context = self.memories.first_prompt(encoded).expand(len(some), -1, -1, -1)
                else:
                    context = self.memories.recall(encoded, [reads[n] for n in some])
                own = None if points is None else (points[0][some], points[1][some])
                before = None if dense is None else dense[some]
                made = self._heads(encoded, context, own, before, multiple, appear_threshold)
                parts.append((some, made))
        return in_order(parts, count)

    def _heads(
        self,
        encoded: EncodedImage,
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
        sparse, dense = self._prompt_codes(objects, points, dense)
        if self._image_code is None:
            self._image_code = net.sam_prompt_encoder.get_dense_pe()
        masks, iou, tokens, appearing = net.sam_mask_decoder(
            image_embeddings=context,
            image_pe=self._image_code,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multiple,
            repeat_image=False,
            high_res_features=[m.expand(objects, -1, -1, -1) for m in encoded.fine] or None,
        )
        appears = appearing > appear_threshold  # (B, 1)
        if net.pred_obj_scores:
            masks = torch.where(appears[:, None, None], masks, ABSENT_LOGIT)
        shown = appearing.sigmoid() if net.soft_no_obj_ptr else appears.float()
        vectors = [net.obj_ptr_proj(tokens[:, m]) for m in range(tokens.shape[1])]
        pointers = torch.stack([self.pointer(vector, shown) for vector in vectors], dim=1)
        return Candidates(
            logits=masks.float(),
            iou=iou.float(),
            object_logit=appearing[:, 0].float(),
            pointers=pointers.expand(-1, masks.shape[1], -1),
        )

    def _prompt_codes(
        self,
        objects: int,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        dense: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        encoder = self.network.sam_prompt_encoder
        if points is None and dense is None:
            if self._no_prompt is None:
                self._no_prompt = encoder(points=self._no_points(1), boxes=None, masks=None)
            sparse, everywhere = self._no_prompt
            return sparse.expand(objects, -1, -1), everywhere.expand(objects, -1, -1, -1)
        if dense is not None and dense.shape[-2:] != encoder.mask_input_size:
            dense = shrunk(dense.float(), encoder.mask_input_size)
        points = self._no_points(objects) if points is None else points
        sparse, everywhere = encoder(points=points, boxes=None, masks=dense)
        return sparse, everywhere

    def _no_points(self, objects: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What SAM 2 shows its prompt encoder where there is no point: one padding point."""
        places = torch.zeros(objects, 1, 2, device=self.device)
        return places, -torch.ones(objects, 1, dtype=torch.int32, device=self.device)

    def pointer(self, vector: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """``(B, C)`` pointers, as far as their objects are present, ``(B, 1)`` in [0, 1]."""
        net = self.network
        if not net.pred_obj_scores or not net.use_obj_ptrs_in_encoder:
            return vector
        if net.fixed_no_obj_ptr:
            vector = present * vector
        return vector + (1 - present) * net.no_obj_ptr

    def _mask_as_output(
        self, encoded: EncodedImage, mask: NDArray[np.bool_], appear_threshold: float
    ) -> Candidates:
        """Take a mask prompt as it is; the network only makes its pointer.

        Source:
            SAM 2, ``sam2_base.py: _use_mask_as_output``.
        """
        net = self.network
        square = square_mask(mask, net.image_size).to(self.device)
        logits = square * 20.0 - 10.0
        low = shrunk(logits, (logits.shape[-2] // 4, logits.shape[-1] // 4))
        appears = (square.flatten(1) > 0).any(dim=1, keepdim=True)
        pointer = torch.zeros(1, net.hidden_dim, device=self.device)
        if net.use_obj_ptrs_in_encoder:
            top, shown = to_image(encoded.maps[-1], encoded.sizes[-1]), net.mask_downsample(square)
            made = self._heads(encoded, top, None, shown, False, appear_threshold)
            pointer = made.pointers[:, 0]
        pointer = self.pointer(pointer, appears.float()).unsqueeze(1)
        object_logit = (appears.float() * 20.0 - 10.0)[:, 0]
        return Candidates(low, torch.ones(1, 1, device=self.device), object_logit, pointer)


def shrunk(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``(B, C, h, w)`` brought to a smaller ``size``, averaged."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)


def _resize(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
