"""SAM 2, EdgeTAM and SAM 3's tracker of transformers as graphs.

The seams are those of ``onnx.sam2``, traced from the library's own layers. Between the graphs the
code is that of the network in torch; neither it nor the library is needed to run them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vision_mem.errors import InputError, ModelError
from vision_mem.models.segmenters.onnx.graphs import MANIFEST, ExportManifest, Seam, SeamGraphs
from vision_mem.models.segmenters.onnx.sam2 import (
    DECODE,
    LOOK,
    RECALL,
    SAMPLES,
    SHOWN,
    WRITE,
    decode_seam,
    decoded,
    recall_seam,
)
from vision_mem.models.segmenters.protocol import Candidates, MemoryRead
from vision_mem.models.segmenters.sam2.image_encoder import EncodedImage, to_image
from vision_mem.models.segmenters.sam2.segmenter import ABSENT_LOGIT, shrunk
from vision_mem.models.segmenters.transformers import Preparation, TransformersSegmenter

_SETTINGS = (
    "image_size", "num_maskmem", "max_object_pointers_in_encoder", "max_cond_frame_num",
    "multimask_output_in_sam", "multimask_output_for_tracking", "multimask_min_pt_num",
    "multimask_max_pt_num",
)  # fmt: skip
"""Of the network's configuration: what code between the graphs reads."""


class _VideoPart(nn.Module):
    """A part of a segmenter; its network is registered, so that weights get their names."""

    network: Any
    codes: Tensor
    position: Tensor
    places: Tensor

    def __init__(self, segmenter: TransformersSegmenter) -> None:
        super().__init__()
        self.network, self.whole = segmenter.network, segmenter


class _ImageReader(_VideoPart):
    """An image to all that objects read of it."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        encoded = self.whole.encoded(image)
        flat, size = encoded.maps[-1], encoded.sizes[-1]
        first = to_image(flat + self.network.no_memory_embedding, size)
        return (*encoded.fine, to_image(flat, size), first)


class _MemoryLook(_VideoPart):
    """The frame as objects see it that look into their memories.

    Source:
        transformers, ``Sam2VideoModel._prepare_memory_conditioned_features``.
    """

    def __init__(self, segmenter: TransformersSegmenter, position: Tensor) -> None:
        super().__init__(segmenter)
        plain = segmenter.spatial_codes()[:, 0]  # (T, Cm)
        timed = self.network.memory_temporal_positional_encoding[:, 0]  # (n, 1, Cm)
        self.register_buffer("codes", torch.cat([plain + timed, plain[None]]).detach())
        self.register_buffer("position", position.clone())
        self.sine = import_module(type(self.network).__module__).get_1d_sine_pe

    def forward(
        self, top: Tensor, maps: Tensor, places: Tensor, pointers: Tensor, steps: Tensor
    ) -> Tensor:
        net = self.network
        objects, frames = maps.shape[:2]
        height, width = top.shape[-2:]
        flat = top.flatten(2).permute(2, 0, 1)
        vectors = pointers.reshape(objects, -1, net.mem_dim)  # (B, P * parts, Cm)
        timed = torch.zeros_like(vectors)
        if net.config.enable_temporal_pos_encoding_for_object_pointers:
            told = net.temporal_positional_encoding_projection_layer(
                self.sine(steps, dim=net.hidden_dim)
            )  # (B, P, Cm)
            parts = net.hidden_dim // net.mem_dim
            timed = told[:, :, None].expand(-1, -1, parts, -1).reshape(objects, -1, net.mem_dim)
        attended = net.memory_attention(
            flat.expand(-1, objects, -1),
            torch.cat([maps.flatten(1, 2), vectors], dim=1).transpose(0, 1),
            self.position.expand(-1, objects, -1),
            torch.cat([self.codes[places].flatten(1, 2), timed], dim=1).transpose(0, 1),
            vectors.shape[1],
            *((frames,) if hasattr(net, "spatial_perceiver") else ()),
        )
        seen = attended.reshape(objects, height * width, net.hidden_dim)
        return seen.transpose(1, 2).reshape(objects, net.hidden_dim, height, width)


class _PromptedMasks(_VideoPart):
    """Prompts and masks; both what one token says and what three say.

    Source:
        transformers, ``Sam2VideoModel._single_frame_forward``.
    """

    def __init__(self, segmenter: TransformersSegmenter) -> None:
        super().__init__(segmenter)
        places = self.network.get_image_wide_positional_embeddings()
        self.register_buffer("places", places.detach().clone())

    def forward(
        self, context: Tensor, points: Tensor, labels: Tensor, dense: Tensor, given: Tensor,
        threshold: Tensor, *fine: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        net, objects = self.network, context.shape[0]
        encoder = net.prompt_encoder
        sparse = encoder._embed_points(points[:, None], labels[:, None], pad=True)
        shown = encoder.mask_embed(dense)
        everywhere = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        prompted = torch.where(given.view(-1, 1, 1, 1), shown, everywhere)
        made = []
        for multiple in (False, True):  # the runtime computes what both have in common once
            masks, iou, tokens, appearing = net.mask_decoder(
                image_embeddings=context,
                image_positional_embeddings=self.places.expand(objects, -1, -1, -1),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=prompted,
                multimask_output=multiple,
                high_resolution_features=[one.expand(objects, -1, -1, -1) for one in fine],
            )
            appears = appearing > threshold  # (B, 1, 1)
            masks = torch.where(appears[..., None], masks[:, 0], ABSENT_LOGIT)
            present = appears[:, 0].to(masks.dtype)
            pointers = [
                self.whole.pointer(net.object_pointer_proj(tokens[:, :, m])[:, 0], present)
                for m in range(tokens.shape[2])
            ]
            made.append((masks, iou[:, 0], torch.stack(pointers, dim=1)))
        (one, one_iou, first), (several, several_iou, others) = made
        owned = torch.cat([first, others], dim=1)
        return one, one_iou, several, several_iou, appearing[:, 0, 0], owned


class _MemoryMaker(_VideoPart):
    """Memory tokens of masks.

    Source:
        transformers, ``Sam2VideoModel._encode_new_memory`` and EdgeTAM's.
    """

    def forward(self, top: Tensor, masks: Tensor, object_logit: Tensor) -> Tensor:
        net, objects = self.network, masks.shape[0]
        features, codes = net.memory_encoder(top.expand(objects, -1, -1, -1), masks)
        absent = net.occlusion_spatial_embedding_parameter
        if absent is not None:
            gone = (object_logit <= 0).to(features.dtype)  # (B, 1)
            features = features + (gone * absent)[..., None, None]
        if not hasattr(net, "spatial_perceiver"):
            return features.flatten(2).transpose(1, 2)  # (B, T, Cm)
        return _resampled(net.spatial_perceiver, features, codes)


def _resampled(perceiver: Any, features: Tensor, codes: Tensor) -> Tensor:
    """EdgeTAM's few tokens of maps ``(B, Cm, h, w)``; the library's own takes one object at a time.

    Source:
        transformers, ``EdgeTamVideoPerceiverResampler``.
    """
    objects, channels, height, width = features.shape
    made = []
    if perceiver.num_latents_1d > 0:
        tokens = perceiver.latents_1d.expand(objects, -1, -1)
        seen, places = (one.flatten(2).transpose(1, 2) for one in (features, codes))
        places = places[:1].expand(objects, -1, -1).contiguous()
        for layer in perceiver.layers:
            tokens = layer(tokens, seen, places)
        made.append(perceiver.layer_norm(tokens))
    if perceiver.num_latents_2d > 0:
        # Each of them looks at a window of its own.
        count = math.isqrt(perceiver.num_latents_2d)
        side = int(height) // count
        rows, columns = -(-int(height) // side), -(-int(width) // side)
        grown = F.pad(features, (0, columns * side - int(width), 0, rows * side - int(height)))
        windows = grown.reshape(objects, channels, rows, side, columns, side)
        seen = windows.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, int(channels))
        tokens = perceiver.latents_2d.repeat(objects, 1)[:, None]  # (B * count ** 2, 1, Cm)
        for layer in perceiver.layers:
            tokens = layer(tokens, seen)
        made.append(perceiver.layer_norm(tokens.reshape(objects, -1, int(channels))))
    return torch.cat(made, dim=1)


class _MaskAsPrompt(_VideoPart):
    """A mask that a person gave, as the prompt of its own pointer."""

    def forward(self, mask: Tensor) -> Tensor:
        return self.network.mask_downsample(mask)


def transformers_seams(
    segmenter: TransformersSegmenter, model: str
) -> tuple[dict[str, Any], list[Seam]]:
    """What code between the seams must know, and the seams.

    Raises:
        InputError: for a network without memory.
    """
    net, config = segmenter.network, segmenter.network.config
    if not net.num_maskmem:
        raise InputError(f"model {model} has no memory, and cannot be exported")
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    side = segmenter.traits.image_size or 0
    image = drawn(1, 3, side, side)
    look = _ImageReader(segmenter).eval()
    with torch.no_grad():
        encoded = segmenter.encoded(image)
        made = look(image)
    fine = [f"fine_{n}" for n in range(len(encoded.fine))]
    outputs = (*fine, "top", "first_context")
    seen = dict(zip(outputs, made, strict=True))
    low = net.prompt_encoder.mask_input_size
    whole = [4 * each for each in low]  # of masks that are remembered
    several = {0: "objects"}
    shown = (drawn(1, 1, side, side) > 0).float()
    seams = [
        Seam(
            LOOK, "a normalised image to all that objects read of it", look, {"image": image},
            outputs, {},
        ),
        recall_seam(
            _MemoryLook(segmenter, encoded.position), {"top": seen["top"]},
            drawn(SAMPLES, 3, len(segmenter.spatial_codes()), net.mem_dim), net,
        ),
        decode_seam(
            _PromptedMasks(segmenter), seen["first_context"], {name: seen[name] for name in fine},
            low, side,
        ),
        Seam(
            WRITE, "masks, in the range the network wants, to tokens to remember",
            _MemoryMaker(segmenter),
            {
                "top": seen["top"], "masks": torch.sigmoid(drawn(SAMPLES, 1, *whole)),
                "object_logit": torch.tensor([[1.0], [-1.0]]),
            },
            ("maps",), {"masks": several, "object_logit": several, "maps": several},
        ),
        Seam(
            SHOWN, "a given mask to the prompt of the decoder", _MaskAsPrompt(segmenter),
            {"mask": shown}, ("prompt",), {},
        ),
    ]  # fmt: skip
    constants = {name: getattr(config, name) for name in _SETTINGS} | {"image_size": side}
    constants |= {
        "model_type": config.model_type, "hidden_dim": net.hidden_dim,
        "preparation": segmenter.preparation._asdict(),
        "mask_scale": float(config.sigmoid_scale_for_mem_enc),
        "mask_bias": float(config.sigmoid_bias_for_mem_enc),
        # The library keeps EdgeTAM's few tokens as they are.
        "memory_type": "float32" if hasattr(net, "spatial_perceiver") else "bfloat16",
        "no_object_pointer": net.no_object_pointer[0].tolist(),
        "fine": fine, "mask_input_size": list(low), "context_size": list(encoded.sizes[-1]),
    }  # fmt: skip
    return constants, seams


class _GraphVideoNetwork:
    """Stands for a network whose layers are graphs: its settings, read by their names."""

    def __init__(self, graphs: SeamGraphs, constants: dict[str, Any]) -> None:
        self._graphs = graphs
        self.config = SimpleNamespace(**{name: constants[name] for name in _SETTINGS})
        self.num_maskmem, self.hidden_dim = constants["num_maskmem"], constants["hidden_dim"]
        size = constants["mask_input_size"]
        self.prompt_encoder = SimpleNamespace(mask_input_size=(int(size[0]), int(size[1])))
        self.no_object_pointer = torch.tensor([constants["no_object_pointer"]])

    def to(self, device: torch.device) -> _GraphVideoNetwork:
        return self

    def eval(self) -> _GraphVideoNetwork:
        return self

    def mask_downsample(self, mask: Tensor) -> Tensor:
        return self._graphs.run(SHOWN, {"mask": mask})[0]


class GraphTransformersSegmenter(TransformersSegmenter):
    """A network of transformers in ONNX Runtime.

    Args:
        graphs: of the folder.
        constants: of its manifest.
        model_id: snapshots record it.
        resize: as ``TransformersSegmenter``.
    """

    def __init__(
        self, graphs: SeamGraphs, constants: dict[str, Any], model_id: str, resize: str
    ) -> None:
        told = constants["preparation"]
        super().__init__(
            _GraphVideoNetwork(graphs, constants), model_id=model_id, device=torch.device("cpu"),
            resize=resize,
            preparation=Preparation(
                tuple(told["mean"]), tuple(told["spread"]), told["interpolation"]
            ),
        )  # fmt: skip
        self._graphs = graphs
        self._fine = [str(name) for name in constants["fine"]]
        self._size = int(constants["context_size"][0]), int(constants["context_size"][1])
        self._scale, self._bias = constants["mask_scale"], constants["mask_bias"]
        self._kept = {"float32": torch.float32, "bfloat16": torch.bfloat16}[
            constants["memory_type"]
        ]

    def encoded(self, image: Tensor) -> EncodedImage:
        made = self._graphs.run(LOOK, {"image": image})
        *fine, top, first = made
        flat = top.flatten(2).permute(2, 0, 1)
        return EncodedImage([flat], flat, [self._size], fine, {"top": top, "first": first})

    def _first(self, encoded: EncodedImage) -> Tensor:
        first: Tensor = encoded.shared["first"]
        return first

    def _recalled(self, encoded: EncodedImage, reads: Sequence[MemoryRead]) -> Tensor:
        known = self.network.num_maskmem
        maps, places, pointers, steps = [], [], [], []
        for read in reads:
            if not read.prompts:
                raise ModelError("an object's memory holds no prompted frame; prompt it first")
            entries = [*read.prompts, *(entry for entry, _ in read.recents)]
            maps.append(torch.cat([entry.tensors["map"] for entry in entries], dim=1).float())
            shown = known - read.timed_prompts  # the code behind the timed ones is none
            recent = [known - place - 1 for _, place in read.recents]
            places.append([*[shown] * len(read.prompts), *recent])
            vectors = [vector.float() for vector, _ in read.pointers]
            empty = torch.zeros(0, self.network.hidden_dim)
            pointers.append(torch.stack(vectors) if vectors else empty)
            ages = torch.tensor([float(age) for _, age in read.pointers])
            steps.append(ages / float(self._reach(read)))
        given = {
            "top": encoded.shared["top"],
            "maps": torch.stack([one.transpose(0, 1) for one in maps]),  # (B, F, T, Cm)
            "places": torch.tensor(places),
            "pointers": torch.stack(pointers), "steps": torch.stack(steps),
        }  # fmt: skip
        return self._graphs.run(RECALL, given)[0]

    def _remembered(
        self, encoded: EncodedImage, grid_logits: Tensor, logit: Tensor, from_prompt: bool
    ) -> Tensor:
        size = tuple(4 * each for each in self.network.prompt_encoder.mask_input_size)
        if grid_logits.shape[-2:] != size:
            grid_logits = shrunk(grid_logits.float(), (size[0], size[1]))
        masks = (grid_logits > 0).float() if from_prompt else torch.sigmoid(grid_logits)
        given = {
            "top": encoded.shared["top"], "masks": masks * self._scale + self._bias,
            "object_logit": logit.reshape(-1, 1),
        }  # fmt: skip
        return self._graphs.run(WRITE, given)[0].transpose(0, 1).to(self._kept)

    def _heads(
        self,
        encoded: EncodedImage,
        context: Tensor,
        points: tuple[Tensor, Tensor] | None,
        dense: Tensor | None,
        multiple: bool,
        appear_threshold: float,
    ) -> Candidates:
        objects = context.shape[0]
        if points is None:  # the library's padding
            points = torch.zeros(objects, 1, 2), -torch.ones(objects, 1)
        made = decoded(
            self._graphs, context, points, dense, self.network.prompt_encoder.mask_input_size,
            dict(zip(self._fine, encoded.fine, strict=True)), appear_threshold,
        )  # fmt: skip
        one, one_iou, several, several_iou, object_logit, pointers = made
        if multiple:
            return Candidates(several, several_iou, object_logit, pointers[:, 1:])
        return Candidates(one, one_iou, object_logit, pointers[:, :1])


def open_transformers(
    folder: Path, manifest: ExportManifest, device: str, resize: str
) -> GraphTransformersSegmenter:
    """The segmenter of an exported folder whose network is of transformers.

    Raises:
        InputError: as ``SeamGraphs``, and for constants that are missing.
    """
    graphs = SeamGraphs(folder, manifest, device, (LOOK, RECALL, DECODE, WRITE, SHOWN))
    try:
        return GraphTransformersSegmenter(
            graphs, manifest.constants, f"{manifest.model_id}-onnx", resize
        )  # equal within rounding is not equal
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{folder / MANIFEST} is damaged; export the model anew") from error
