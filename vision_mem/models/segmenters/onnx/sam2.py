"""SAM 2 as graphs: image encoder, memory attention, mask decoder and memory encoder.

They are traced from the code that runs in torch (``segmenters.sam2``), rotations in real numbers.
What is remembered is an input of ``memory_attention``: maps and pointers of any number of frames,
for any number of objects whose memories have equal shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vision_mem.errors import InputError, ModelError
from vision_mem.models.segmenters.onnx.graphs import MANIFEST, ExportManifest, Seam, SeamGraphs
from vision_mem.models.segmenters.protocol import Candidates, MemoryRead
from vision_mem.models.segmenters.sam2.image_encoder import EncodedImage, to_image
from vision_mem.models.segmenters.sam2.memory_attention import mask_to_remember, pointer_steps
from vision_mem.models.segmenters.sam2.segmenter import ABSENT_LOGIT, Sam2Segmenter, shrunk

LOOK, RECALL, DECODE = "image_encoder", "memory_attention", "mask_decoder"
WRITE, SHOWN = "memory_encoder", "mask_prompt"
_SETTINGS = (
    "image_size", "num_maskmem", "hidden_dim", "mem_dim", "max_cond_frames_in_attn",
    "max_obj_ptrs_in_encoder", "use_obj_ptrs_in_encoder", "memory_temporal_stride_for_eval",
    "use_mask_input_as_output_without_sam", "pred_obj_scores", "fixed_no_obj_ptr",
    "binarize_mask_from_pts_for_mem_enc", "sigmoid_scale_for_mem_enc", "sigmoid_bias_for_mem_enc",
    "multimask_output_in_sam", "multimask_output_for_tracking", "multimask_min_pt_num",
    "multimask_max_pt_num",
)  # fmt: skip
"""Attributes of a ``SAM2Base`` that code between the graphs reads."""


class _Sam2Part(nn.Module):
    """A part of a segmenter; its network is registered, so that weights get their names."""

    network: Any
    codes: Tensor
    position: Tensor
    places: Tensor

    def __init__(self, segmenter: Sam2Segmenter) -> None:
        super().__init__()
        self.network, self.whole = segmenter.network, segmenter


class _FrameEncoder(_Sam2Part):
    """An image to all that objects read of it."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        memories = self.whole.memories
        encoded = self.whole.images(image)
        top = to_image(encoded.maps[-1], encoded.sizes[-1])
        seen = self.network.memory_encoder.pix_feat_proj(top)
        return (*encoded.fine, top, *memories.begin(encoded), seen, memories.first_prompt(encoded))


class _MemoryReader(_Sam2Part):
    """The frame as objects see it that look into their memories."""

    def __init__(self, segmenter: Sam2Segmenter, encoded: EncodedImage) -> None:
        super().__init__(segmenter)
        codes = torch.stack([code[:, 0] for code in self.whole.memories.spatial_codes(
            torch.Size(encoded.sizes[-1])
        )])  # fmt: skip
        self.register_buffer("codes", codes)
        self.register_buffer("position", encoded.position.clone())
        self.size = encoded.sizes[-1]

    def forward(
        self, seen: Tensor, queries: Tensor, maps: Tensor, places: Tensor, pointers: Tensor,
        steps: Tensor,
    ) -> Tensor:  # fmt: skip
        net, memories = self.network, self.whole.memories
        objects = maps.shape[0]
        tokens = maps.flatten(3).transpose(2, 3).flatten(1, 2)  # (B, F * HW, Cm)
        codes = self.codes[places].flatten(1, 2)
        parts = net.hidden_dim // net.mem_dim
        vectors = pointers.reshape(objects, -1, net.mem_dim)  # (B, P * parts, Cm)
        timed = torch.zeros_like(vectors)
        if net.add_tpos_enc_to_obj_ptrs:
            told = memories.step_codes(steps)  # (B, P, Cm)
            timed = told[:, :, None].expand(-1, -1, parts, -1).reshape(objects, -1, net.mem_dim)
        encoded = EncodedImage(
            [self.position], self.position, [self.size], [], {"attention": (seen, queries)}
        )
        return memories.attend(
            encoded, torch.cat([tokens, vectors], dim=1).transpose(0, 1),
            torch.cat([codes, timed], dim=1).transpose(0, 1), vectors.shape[1],
        )  # fmt: skip


class _MaskHeads(_Sam2Part):
    """Prompts and masks; both what one token says and what three say."""

    def __init__(self, segmenter: Sam2Segmenter) -> None:
        super().__init__(segmenter)
        self.register_buffer("places", self.network.sam_prompt_encoder.get_dense_pe().clone())

    def forward(
        self, context: Tensor, points: Tensor, labels: Tensor, dense: Tensor, given: Tensor,
        threshold: Tensor, *fine: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        net = self.network
        encoder, decoder = net.sam_prompt_encoder, net.sam_mask_decoder
        sparse = encoder._embed_points(points, labels, pad=True)
        shown = encoder._embed_masks(dense)
        everywhere = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        objects = context.shape[0]
        masks, iou, tokens, appearing = decoder.predict_masks(
            image_embeddings=context, image_pe=self.places, sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=torch.where(given.view(-1, 1, 1, 1), shown, everywhere),
            repeat_image=False,
            high_res_features=[one.expand(objects, -1, -1, -1) for one in fine] or None,
        )  # fmt: skip
        one, one_iou = masks[:, :1], iou[:, :1]
        if decoder.dynamic_multimask_via_stability:
            one, one_iou = decoder._dynamic_multimask_via_stability(masks, iou)
        appears = appearing > threshold  # (B, 1)
        several = masks[:, 1:]
        if net.pred_obj_scores:
            one, several = (
                torch.where(appears[:, None, None], some, ABSENT_LOGIT) for some in (one, several)
            )
        present = appearing.sigmoid() if net.soft_no_obj_ptr else appears.float()
        kept = range(tokens.shape[1] if decoder.use_multimask_token_for_obj_ptr else 1)
        pointers = [self.whole.pointer(net.obj_ptr_proj(tokens[:, m]), present) for m in kept]
        return one, one_iou, several, iou[:, 1:], appearing[:, 0], torch.stack(pointers, dim=1)


class _MemoryWriter(_Sam2Part):
    """Memory maps of masks."""

    def forward(self, seen: Tensor, masks: Tensor, object_logit: Tensor) -> Tensor:
        return self.whole.memories.written(seen, masks, object_logit)


class _MaskPrompt(_Sam2Part):
    """A mask that a person gave, as the prompt of its own pointer."""

    def forward(self, mask: Tensor) -> Tensor:
        return self.network.mask_downsample(mask)


SAMPLES = 2
"""Objects in what graphs are traced with."""


def recall_seam(part: nn.Module, seen: dict[str, Tensor], maps: Tensor, net: Any) -> Seam:
    """The seam at which objects look into their memories.

    Args:
        part: traced; takes ``seen``, maps, places, pointers and steps.
        seen: of the frame.
        maps: ``(SAMPLES, 3, ...)``: what was remembered of three frames.
        net: has ``num_maskmem`` and ``hidden_dim``.
    """
    several, memories = {0: "objects"}, {0: "objects", 1: "memories"}
    back = {0: "objects", 1: "pointers"}
    random = torch.Generator().manual_seed(1)
    return Seam(
        RECALL, "objects look into their memories: what was remembered with the number of its "
        "temporal code (the last one for none), pointers with their age as a share of the reach",
        part,
        {
            **seen, "maps": maps, "places": torch.tensor([[net.num_maskmem - 1, 1, 0]] * SAMPLES),
            "pointers": torch.randn(SAMPLES, 2, net.hidden_dim, generator=random),
            "steps": torch.tensor([[0.2, 0.1]] * SAMPLES),
        },
        ("context",),
        {"context": several, "maps": memories, "places": memories, "pointers": back, "steps": back},
    )  # fmt: skip


def decode_seam(
    part: nn.Module, context: Tensor, fine: dict[str, Tensor], low: Sequence[int], side: int
) -> Seam:
    """The seam at which prompts and context become masks.

    Args:
        part: traced; takes context, points, labels, mask, mask_given, appear_threshold and
            ``fine``.
        context: ``(1, C, h, w)`` of a frame without memory.
        fine: finer maps of the frame.
        low: height and width of a given mask.
        side: of the picture, pixels.
    """
    several, clicked = {0: "objects"}, {0: "objects", 1: "points"}
    random = torch.Generator().manual_seed(2)
    outputs = ("mask_single", "iou_single", "masks", "iou", "object_logit", "pointers")
    return Seam(
        DECODE, "points (label -1: none), masks where mask_given, and what memory says, to one "
        "mask and to several",
        part,
        {
            "context": torch.randn(SAMPLES, *context.shape[1:], generator=random),
            "points": torch.rand(SAMPLES, 3, 2, generator=random) * side,
            "labels": torch.tensor([[2, 3, 1], [1, 0, -1]], dtype=torch.int32),
            "mask": torch.randn(SAMPLES, 1, *low, generator=random),
            "mask_given": torch.tensor([True, False]),
            "appear_threshold": torch.full((1,), -100.0), **fine,
        },
        outputs,
        {
            "context": several, "points": clicked, "labels": clicked, "mask": several,
            "mask_given": several, **dict.fromkeys(outputs, several),
        },
    )  # fmt: skip


def decoded(
    graphs: SeamGraphs,
    context: Tensor,
    points: tuple[Tensor, Tensor],
    dense: Tensor | None,
    size: tuple[int, ...],
    fine: dict[str, Tensor],
    appear_threshold: float,
) -> list[Tensor]:
    """Run the mask decoder: one mask, its IoU, several, theirs, the object's logit, pointers.

    Args:
        graphs: of the folder.
        context: ``(B, C, h, w)`` what memory says.
        points: places ``(B, n, 2)`` and labels ``(B, n)``.
        dense: given masks ``(B, 1, H, W)``, or None.
        size: height and width that the network takes masks at.
        fine: finer maps of the frame.
        appear_threshold: logit from which on an object is there.
    """
    objects = context.shape[0]
    given = torch.full((objects,), dense is not None)
    dense = torch.zeros(objects, 1, *size) if dense is None else dense.float()
    if dense.shape[-2:] != size:
        dense = shrunk(dense, (size[0], size[1]))
    told = {
        "context": context, "points": points[0].float(), "labels": points[1].int(),
        "mask": dense, "mask_given": given,
        "appear_threshold": torch.tensor([float(appear_threshold)]),
    }  # fmt: skip
    return graphs.run(DECODE, {**told, **fine})


def sam2_seams(segmenter: Sam2Segmenter, model: str) -> tuple[dict[str, Any], list[Seam]]:
    """What code between the seams must know, and the seams.

    Raises:
        InputError: for a network of another layout than the published ones.
    """
    net = segmenter.network
    if not (net.num_maskmem and segmenter.memories.known and net.directly_add_no_mem_embed):
        raise InputError(
            f"model {model} reads memories in another way than the published SAM 2 networks, and "
            "cannot be exported"
        )
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    side, parts = int(net.image_size), ("attention_values", "attention_queries")
    image = drawn(1, 3, side, side)
    look = _FrameEncoder(segmenter).eval()
    with torch.no_grad():
        encoded = segmenter.images(image)
        made = look(image)
    fine = [f"fine_{n}" for n in range(len(encoded.fine))]
    outputs = (*fine, "top", *parts, "memory_features", "first_context")
    seen = dict(zip(outputs, made, strict=True))
    height, width = encoded.sizes[-1]
    objects, frames = SAMPLES, 3
    low = net.sam_prompt_encoder.mask_input_size
    logits = drawn(objects, 1, side, side)
    several = {0: "objects"}
    seams = [
        Seam(
            LOOK, "a normalised image to all that objects read of it", look, {"image": image},
            outputs, {},
        ),
        recall_seam(
            _MemoryReader(segmenter, encoded), {name: seen[name] for name in parts},
            drawn(objects, frames, net.mem_dim, height, width), net,
        ),
        decode_seam(
            _MaskHeads(segmenter), seen["first_context"], {name: seen[name] for name in fine},
            low, side,
        ),
        Seam(
            WRITE, "masks on the grid, in the range the network wants, to maps to remember",
            _MemoryWriter(segmenter),
            {
                "memory_features": seen["memory_features"],
                "masks": mask_to_remember(net, logits, from_prompt=False),
                "object_logit": torch.tensor([[1.0], [-1.0]]),
            },
            ("maps",), {"masks": several, "object_logit": several, "maps": several},
        ),
    ]  # fmt: skip
    if net.use_mask_input_as_output_without_sam:
        seams.append(
            Seam(
                SHOWN, "a given mask to the prompt of the decoder", _MaskPrompt(segmenter),
                {"mask": (logits[:1] > 0).float()}, ("prompt",), {},
            )
        )  # fmt: skip
    constants = {name: getattr(net, name) for name in _SETTINGS}
    constants |= {
        "no_obj_ptr": net.no_obj_ptr[0].tolist() if hasattr(net, "no_obj_ptr") else [],
        "fine": fine, "mask_input_size": list(low), "context_size": [height, width],
        "fill_hole_area": segmenter.traits.fill_hole_area,
    }  # fmt: skip
    return constants, seams


class _GraphNetwork:
    """Stands for a ``SAM2Base`` whose layers are graphs: its settings, read by their names."""

    def __init__(self, graphs: SeamGraphs, constants: dict[str, Any]) -> None:
        self._graphs = graphs
        for name in (*_SETTINGS, "mask_input_size", "context_size", "fine", "fill_hole_area"):
            setattr(self, name, constants[name])
        self.no_obj_ptr = torch.tensor([constants["no_obj_ptr"]])

    def to(self, device: torch.device) -> _GraphNetwork:
        return self

    def eval(self) -> _GraphNetwork:
        return self

    def _use_multimask(self, first: bool, points: dict[str, Tensor] | None) -> bool:
        """Source: SAM 2, ``sam2_base.py: _use_multimask``."""
        known: Any = self
        count = 0 if points is None else points["point_labels"].shape[1]
        allowed = known.multimask_output_in_sam and (first or known.multimask_output_for_tracking)
        return bool(allowed and known.multimask_min_pt_num <= count <= known.multimask_max_pt_num)

    def mask_downsample(self, mask: Tensor) -> Tensor:
        return self._graphs.run(SHOWN, {"mask": mask})[0]


class _GraphImages:
    """``ImageSide`` as a graph."""

    def __init__(self, graphs: SeamGraphs, network: Any) -> None:
        self._graphs, self._network = graphs, network

    def __call__(self, image: Tensor) -> EncodedImage:
        made = self._graphs.run(LOOK, {"image": image})
        count = len(self._network.fine)
        top, *read = made[count:]
        shared = dict(zip(("values", "queries", "memory", "first"), read, strict=True))
        flat = top.flatten(2).permute(2, 0, 1)
        height, width = self._network.context_size
        return EncodedImage([flat], flat, [(height, width)], made[:count], shared)


class _GraphMemories:
    """``MemorySide`` as graphs."""

    def __init__(self, graphs: SeamGraphs, network: Any) -> None:
        self._graphs, self._network = graphs, network

    def first_prompt(self, encoded: EncodedImage) -> Tensor:
        first: Tensor = encoded.shared["first"]
        return first

    def recall(self, encoded: EncodedImage, reads: Sequence[MemoryRead]) -> Tensor:
        net = self._network
        maps, places, pointers, steps = [], [], [], []
        for read in reads:
            if not read.prompts:
                raise ModelError("an object's memory holds no prompted frame; prompt it first")
            entries = [*read.prompts, *(entry for entry, _ in read.recents)]
            maps.append(torch.cat([entry.tensors["map"].float() for entry in entries]))
            shown = net.num_maskmem - read.timed_prompts  # the code behind the timed ones is none
            known = [net.num_maskmem - place - 1 for _, place in read.recents]
            places.append([*[shown] * len(read.prompts), *known])
            some = read.pointers if net.use_obj_ptrs_in_encoder else ()
            vectors = [vector.float() for vector, _ in some]
            pointers.append(torch.stack(vectors) if some else torch.zeros(0, net.hidden_dim))
            ages = [age for _, age in some]
            steps.append(pointer_steps(net, ages, read.num_frames_hint))
        given = {
            "attention_values": encoded.shared["values"],
            "attention_queries": encoded.shared["queries"],
            "maps": torch.stack(maps), "places": torch.tensor(places),
            "pointers": torch.stack(pointers), "steps": torch.stack(steps),
        }  # fmt: skip
        return self._graphs.run(RECALL, given)[0]

    def write(
        self, encoded: EncodedImage, grid_logits: Tensor, object_logit: Tensor, *, from_prompt: bool
    ) -> Tensor:
        masks = mask_to_remember(self._network, grid_logits, from_prompt)
        given = {"memory_features": encoded.shared["memory"], "masks": masks}
        return self._graphs.run(WRITE, {**given, "object_logit": object_logit})[0]


class GraphSam2Segmenter(Sam2Segmenter):
    """SAM 2 in ONNX Runtime.

    Args:
        graphs: of the folder.
        constants: of its manifest.
        model_id: snapshots record it.
        resize: as ``Sam2Segmenter``.
    """

    def __init__(
        self, graphs: SeamGraphs, constants: dict[str, Any], model_id: str, resize: str
    ) -> None:
        network = _GraphNetwork(graphs, constants)
        super().__init__(
            network, model_id=model_id, device=torch.device("cpu"), resize=resize,
            fill_hole_area=int(constants["fill_hole_area"]), images=_GraphImages(graphs, network),
            memories=_GraphMemories(graphs, network),
        )  # fmt: skip
        self._graphs = graphs

    def _heads(
        self,
        encoded: EncodedImage,
        context: Tensor,
        points: tuple[Tensor, Tensor] | None,
        dense: Tensor | None,
        multiple: bool,
        appear_threshold: float,
    ) -> Candidates:
        net, objects = self.network, context.shape[0]
        places, labels = self._no_points(objects) if points is None else points
        made = decoded(
            self._graphs, context, (places, labels), dense, tuple(net.mask_input_size),
            dict(zip(net.fine, encoded.fine, strict=True)), appear_threshold,
        )  # fmt: skip
        one, one_iou, several, several_iou, object_logit, pointers = made
        logits, iou = (several, several_iou) if multiple else (one, one_iou)
        own = pointers[:, 1:] if multiple and pointers.shape[1] > 1 else pointers[:, :1]
        return Candidates(logits, iou, object_logit, own.expand(-1, logits.shape[1], -1))


def open_sam2(
    folder: Path, manifest: ExportManifest, device: str, resize: str
) -> GraphSam2Segmenter:
    """The SAM 2 segmenter of an exported folder.

    Raises:
        InputError: as ``SeamGraphs``, and for constants that are missing.
    """
    needed = [LOOK, RECALL, DECODE, WRITE]
    needed += [SHOWN] * bool(manifest.constants.get("use_mask_input_as_output_without_sam"))
    graphs = SeamGraphs(folder, manifest, device, tuple(needed))
    try:
        return GraphSam2Segmenter(
            graphs, manifest.constants, f"{manifest.model_id}-onnx", resize
        )  # equal within rounding is not equal
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / MANIFEST} is damaged; export the model anew") from error
