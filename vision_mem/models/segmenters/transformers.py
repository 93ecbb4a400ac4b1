"""SAM 2, EdgeTAM and SAM 3's tracker of the transformers library, cut at the seams of segmenters.

The library's networks are used as they are. Its video session is not: it keeps every frame and
whatever it computed, for as long as a video runs. What is remembered and which candidate wins is
decided in ``vision_mem.tracking``, as for the networks of the ``sam2`` package.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vision_mem.errors import InputError, MissingExtra, ModelError
from vision_mem.models.checkpoint import fingerprint
from vision_mem.models.device import choose_device, choose_precision
from vision_mem.models.hub import (
    LOCAL,
    SEGMENTERS,
    check_complete,
    fetched,
    not_loaded,
    quiet,
    transformers_library,
    weight_files,
)
from vision_mem.models.segmenters.protocol import (
    Candidates,
    ImageFeatures,
    MemoryRead,
    SegmenterTraits,
)
from vision_mem.models.segmenters.sam2.image_encoder import EncodedImage, to_image
from vision_mem.models.segmenters.sam2.segmenter import (
    ABSENT_LOGIT,
    RESIZES,
    equal_shapes,
    in_order,
    points_of,
    square_mask,
    square_picture,
)
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.text import read_json
from vision_mem.types import Frame, Prompt

log = logging.getLogger(__name__)

_CLASSES = {
    "sam2_video": "Sam2VideoModel",
    "edgetam_video": "EdgeTamVideoModel",
    "sam3_tracker_video": "Sam3TrackerVideoModel",
    "sam3_video": "Sam3TrackerVideoModel",  # detector and tracker in one: the tracker of it
}
"""The configuration's model_type to the class of the library."""
_SETTINGS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class Preparation(NamedTuple):
    """How the library brings pictures to a network.

    Attributes:
        mean: of each colour, [0, 1].
        spread: standard deviation of each colour.
        interpolation: ``bilinear`` or ``bicubic``, of whole grey levels.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    interpolation: str = "bilinear"


_IMAGENET = Preparation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = Preparation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def preparation_of(kind: str) -> Preparation:
    """What networks of a kind are published with; ``kind``: a model_type."""
    return _HALF if kind.startswith("sam3") else _IMAGENET


class TransformersSegmenter:
    """A video network of transformers behind the ``Segmenter`` protocol.

    Args:
        network: ``Sam2VideoModel``, ``EdgeTamVideoModel`` or ``Sam3TrackerVideoModel`` with
            weights.
        model_id: name and short hash of the weights; snapshots record it.
        device: where to run.
        precision: ``fp32``, ``bf16`` or ``fp16``; the last two as autocast.
        resize: how frames are brought to the network's square: ``processor`` as the library's own
            video processor does, or one of SAM 2's: ``pil_bicubic``, ``decord``, ``cv2``.
        preparation: of pictures.

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
        resize: str = "processor",
        preparation: Preparation = _IMAGENET,
    ) -> None:
        known = ("processor", *RESIZES)
        for name, value, some in (("resize", resize, known), ("precision", precision, _PRECISIONS)):
            if value not in some:
                raise InputError(f"{name} is {value!r}; expected one of {', '.join(some)}")
        self.network = network.to(device).eval()
        self.device = device
        config = network.config
        self.traits = SegmenterTraits(
            model_id=model_id,
            image_size=_side_of(config.image_size),
            num_maskmem=int(config.num_maskmem),
            max_pointers=int(config.max_object_pointers_in_encoder),
            max_prompts=config.max_cond_frame_num if config.max_cond_frame_num > 0 else None,
            extra={"resize": resize, "precision": precision},
        )
        self._half = _PRECISIONS[precision]
        self._resize, self.preparation = resize, preparation
        # The library's order of roundings: mean and spread in grey levels, not colours in [0, 1].
        self._mean, self._spread = (
            (torch.tensor(values) * 255.0).view(3, 1, 1).to(device) for values in preparation[:2]
        )
        # EdgeTAM's perceiver makes a few tokens of a memory, of which attention wants the count.
        self._resampled = hasattr(network, "spatial_perceiver")
        self._codes: torch.Tensor | None = None
        self._image_code: torch.Tensor | None = None

    def encode_image(self, frame: Frame) -> ImageFeatures:
        side = self._side
        with self._running():
            pixels = self._square(frame).to(self.device, torch.float32)
            image = pixels.sub_(self._mean).div_(self._spread)
            encoded = self.encoded(image[None])
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
        with self._running():
            if prompt.mask is not None:
                return self._mask_as_output(encoded, prompt.mask, appear_threshold)
            context = self._recalled(encoded, [read]) if read else self._first(encoded)
            points = points_of(prompt, features.video_size, self._side, ratio_first=True)
            count = 0 if points is None else points[1].shape[1]
            dense = previous_logits
            if dense is not None:
                dense = dense.to(self.device).clamp(-32.0, 32.0)
            multiple = self._is_multiple(read is None, count)
            made = self._heads(encoded, context, points, dense, multiple, appear_threshold)
            if prompt.part and made.iou.shape[1] > 1:  # the smallest of whole, part and subpart
                m = int((made.logits[0] > 0).flatten(1).sum(dim=1).argmin())
                made = Candidates(
                    made.logits[:, m : m + 1], made.iou[:, m : m + 1], made.object_logit,
                    made.pointers[:, m : m + 1],
                )  # fmt: skip
            return made

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
        encoded: EncodedImage = features.payload
        multiple = self._is_multiple(False, 0)
        parts: list[tuple[list[int], Candidates]] = []
        with self._running():
            groups = equal_shapes(reads, len(reads))
            if self._resampled:  # its attention and its perceiver are made for one object
                groups = [[n] for n in range(len(reads))]
            for some in groups:
                context = self._recalled(encoded, [reads[n] for n in some])
                made = self._heads(encoded, context, None, None, multiple, appear_threshold)
                parts.append((some, made))
        return in_order(parts, len(reads))

    def to_grid(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        """As ``Segmenter.to_grid``; a mask that was given on this frame comes back as given."""
        for small, whole in features.payload.shared.get("given", ()):
            if torch.equal(small, logits):
                return whole
        return _scaled(logits, features.grid_size)

    def to_video(self, logits: torch.Tensor, features: ImageFeatures) -> torch.Tensor:
        return _scaled(logits, features.video_size)

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
        """Tokens are kept in the library's own type: bfloat16, of EdgeTAM float32."""
        if self.network.num_maskmem == 0:
            return [{} for _ in object_logit]
        # The network compares with 0; shifting the logit compares with the threshold.
        logit = (object_logit - no_object_threshold).view(-1, 1, 1)
        at_once = 1 if self._resampled else len(logit)
        made: list[dict[str, torch.Tensor]] = []
        with self._running():
            for grids, logits in zip(grid_logits.split(at_once), logit.split(at_once), strict=True):
                tokens = self._remembered(features.payload, grids, logits, from_prompt)
                # Clones, so that one object's memory does not keep the whole batch alive.
                made += [{"map": one.clone()} for one in tokens.split(1, dim=1)]
        return made

    def encoded(self, image: torch.Tensor) -> EncodedImage:
        """What the network makes of an image ``(1, 3, S, S)`` whose colours it is used to."""
        made = self.network.get_image_features(image, return_dict=True)
        maps = list(made.fpn_hidden_states)  # (HW, 1, C) each, fine to coarse
        sizes = [(int(h), int(w)) for h, w in self.network.backbone_feature_sizes]
        fine = [to_image(one, size) for one, size in zip(maps[:-1], sizes, strict=False)]
        return EncodedImage(maps, made.fpn_position_encoding[-1], sizes, fine)

    @property
    def _side(self) -> int:
        side = self.traits.image_size
        assert side is not None  # networks of this kind have one
        return side

    @contextmanager
    def _running(self) -> Iterator[None]:
        half = self._half
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=half, enabled=half is not None),
        ):
            yield

    def _square(self, frame: Frame) -> torch.Tensor:
        """``(3, S, S)`` uint8 of a frame."""
        if self._resize != "processor":
            picture = square_picture(frame, self._side, self._resize)
            return torch.from_numpy(picture).permute(2, 0, 1)
        pixels = torch.from_numpy(np.array(frame.image)).permute(2, 0, 1)
        if frame.size == (self._side, self._side):
            return pixels
        ensure_torchvision()
        from torchvision.transforms.v2 import InterpolationMode, functional

        way = InterpolationMode(self.preparation.interpolation)
        resized: torch.Tensor = functional.resize(
            pixels, [self._side, self._side], interpolation=way, antialias=True
        )
        return resized

    def _is_multiple(self, first: bool, points: int) -> bool:
        """Whether a look with so many points gives several masks; ``first``: of a new object."""
        config = self.network.config
        wanted = first or config.multimask_output_for_tracking
        fitting = config.multimask_min_pt_num <= points <= config.multimask_max_pt_num
        return bool(config.multimask_output_in_sam and wanted and fitting)

    def _first(self, encoded: EncodedImage) -> torch.Tensor:
        """Features of an object without memory: ``(1, C, h, w)``."""
        top = encoded.maps[-1]
        if self.network.num_maskmem > 0:
            top = top + self.network.no_memory_embedding
        return to_image(top, encoded.sizes[-1])

    def _recalled(self, encoded: EncodedImage, reads: Sequence[MemoryRead]) -> torch.Tensor:
        """Features of B objects that looked into memories of equal shapes: ``(B, C, h, w)``.

        Source:
            transformers, ``Sam2VideoModel._prepare_memory_conditioned_features``.
        """
        net, top, objects = self.network, encoded.maps[-1], len(reads)
        if net.num_maskmem == 0:
            return to_image(top.expand(-1, objects, -1), encoded.sizes[-1])
        parts = [self._tokens(read) for read in reads]
        tokens, codes = (torch.cat([part[k] for part in parts], dim=1) for k in (0, 1))
        maps = len(reads[0].prompts) + len(reads[0].recents)
        pointer_tokens = len(tokens) - maps * len(self.spatial_codes())
        attended = net.memory_attention(
            top.expand(-1, objects, -1),
            tokens,
            encoded.position.expand(-1, objects, -1),
            codes,
            pointer_tokens,
            *((maps,) if self._resampled else ()),
        )
        height, width = encoded.sizes[-1]
        flat = attended.reshape(objects, height * width, -1)
        return flat.transpose(1, 2).reshape(objects, -1, height, width)

    def _tokens(self, read: MemoryRead) -> tuple[torch.Tensor, torch.Tensor]:
        """One object's memory as ``(tokens, 1, Cm)``, pointers last, and its codes."""
        net = self.network
        if not read.prompts:
            raise ModelError("an object's memory holds no prompted frame; prompt it first")
        spatial, timed = self.spatial_codes(), net.memory_temporal_positional_encoding
        maps = [(entry, 0, read.timed_prompts) for entry in read.prompts]
        maps += [(entry, t_pos, True) for entry, t_pos in read.recents]
        tokens = [entry.tensors["map"].to(self.device) for entry, _, _ in maps]
        codes = [
            spatial + timed[net.num_maskmem - t_pos - 1] if has_time else spatial
            for _, t_pos, has_time in maps
        ]
        if read.pointers:
            vectors = [vector.to(self.device).unsqueeze(0) for vector, _ in read.pointers]
            positions = [position for _, position in read.pointers]
            made = net._process_object_pointers(
                positions, vectors, self._reach(read) + 1, 1, net.hidden_dim, self.device
            )
            tokens.append(made[0])
            codes.append(made[1])
        return torch.cat(tokens).float(), torch.cat(codes)

    def _reach(self, read: MemoryRead) -> int:
        """Ages of pointers are told as shares of this many frames."""
        reach, known = self.traits.max_pointers, read.num_frames_hint
        return max(reach if known is None else min(known, reach), 2) - 1

    def spatial_codes(self) -> torch.Tensor:
        """Codes of the tokens of a memory, the same for all: ``(tokens, 1, Cm)``."""
        if self._codes is None:
            height, width = self.network.backbone_feature_sizes[-1]
            top = torch.zeros(height * width, 1, self.network.hidden_dim, device=self.device)
            grid = torch.zeros(1, 1, self._side, self._side, device=self.device)
            logit = torch.zeros(1, 1, 1, device=self.device)
            self._codes = self._written(top, grid, logit, False)[1]
        return self._codes

    def _remembered(
        self, encoded: EncodedImage, grid_logits: torch.Tensor, logit: torch.Tensor,
        from_prompt: bool,
    ) -> torch.Tensor:  # fmt: skip
        """Memories of B objects: ``(tokens, B, Cm)``."""
        return self._written(encoded.maps[-1], grid_logits, logit, from_prompt)[0]

    def _written(
        self, top: torch.Tensor, grid_logits: torch.Tensor, logit: torch.Tensor, from_prompt: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Memories of B objects, ``(tokens, B, Cm)``, and their codes, ``(tokens, 1, Cm)``."""
        tokens, codes = self.network._encode_new_memory(
            current_vision_feats=top.expand(-1, len(grid_logits), -1),
            pred_masks_high_res=grid_logits,
            object_score_logits=logit,
            is_mask_from_pts=from_prompt,
        )
        if self._resampled:  # those come with objects first
            tokens, codes = tokens.transpose(0, 1), codes.transpose(0, 1)
        return tokens, codes[:, :1]

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
            transformers, ``Sam2VideoModel._single_frame_forward``.
        """
        net, objects = self.network, context.shape[0]
        if points is None:  # the library's padding
            places = torch.zeros(objects, 1, 1, 2, device=self.device)
            labels = -torch.ones(objects, 1, 1, dtype=torch.int32, device=self.device)
        else:
            places, labels = (one.to(self.device).unsqueeze(1) for one in points)
        size = net.prompt_encoder.mask_input_size
        if dense is not None and dense.shape[-2:] != size:
            dense = _shrunk(dense.float(), size)
        sparse, dense_codes = net.prompt_encoder(places, labels, None, dense)
        if self._image_code is None:
            self._image_code = net.get_image_wide_positional_embeddings()
        masks, iou, tokens, appearing = net.mask_decoder(
            image_embeddings=context,
            image_positional_embeddings=self._image_code.repeat(objects, 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense_codes,
            multimask_output=multiple,
            high_resolution_features=[one.expand(objects, -1, -1, -1) for one in encoded.fine],
        )
        appears = appearing > appear_threshold  # (B, 1, 1)
        masks = torch.where(appears[..., None], masks[:, 0], ABSENT_LOGIT)
        shown = appears.to(masks.dtype)[:, 0]
        vectors = [net.object_pointer_proj(tokens[:, :, m])[:, 0] for m in range(tokens.shape[2])]
        pointers = torch.stack([self.pointer(vector, shown) for vector in vectors], dim=1)
        return Candidates(
            logits=masks.float(),
            iou=iou[:, 0].float(),
            object_logit=appearing[:, 0, 0].float(),
            pointers=pointers.float().expand(-1, masks.shape[1], -1),
        )

    def pointer(self, vector: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """``(B, C)`` pointers of objects, ``shown`` where 1 and absent where 0: ``(B, 1)``."""
        pointer: torch.Tensor = shown * vector + (1 - shown) * self.network.no_object_pointer
        return pointer

    def _mask_as_output(
        self, encoded: EncodedImage, mask: NDArray[np.bool_], appear_threshold: float
    ) -> Candidates:
        """Take a mask prompt as it is; the network only makes its pointer.

        Source:
            transformers, ``Sam2VideoModel._use_mask_as_output``.
        """
        net = self.network
        square = square_mask(mask, self._side).to(self.device)
        whole = square * 20.0 - 10.0
        small = _shrunk(whole, net.prompt_encoder.mask_input_size)
        # The memory is made of the mask, not of what is left of it at a quarter of the size.
        encoded.shared.setdefault("given", []).append((small, whole))
        top = to_image(encoded.maps[-1], encoded.sizes[-1])
        made = self._heads(encoded, top, None, net.mask_downsample(square), True, appear_threshold)
        shown = (square > 0).flatten(1).any(dim=1, keepdim=True).float()
        best = int(made.iou[0].argmax())
        pointer = self.pointer(made.pointers[:, best], shown).unsqueeze(1)
        logit = (shown * 20.0 - 10.0)[:, 0]
        return Candidates(small, torch.ones(1, 1, device=self.device), logit, pointer)


def _side_of(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])


def _scaled(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _shrunk(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)


def load_transformers(
    model: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    resize: str = "auto",
) -> TransformersSegmenter:
    """Load a video network of transformers.

    Args:
        model: a folder made by ``save_pretrained``, or an id on Hugging Face, ``owner/name`` or
            ``owner/name@revision``.
        device: as for ``vision_mem.models.load_segmenter``, as all that follows.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        resize: ``auto`` for the library's own way.

    Returns:
        The segmenter.

    Raises:
        InputError: for option values that are none.
        MissingExtra: when the library, or one that the network needs, is not installed.
        ModelError: for weights that are not here and cannot be fetched, damaged, or of another
            kind of network.
    """
    place = choose_device(device)
    half = choose_precision(precision, place)
    folder = Path(model).expanduser()
    here = folder.is_dir()
    label = folder.resolve().name if here else model.rpartition("/")[2]
    library = transformers_library(f"weights of the kind of {label}", "hf")
    if not here:
        folder = fetched(model, ": --model /path/to/folder", SEGMENTERS)
    network, preparation = _open(library, folder, model)
    segmenter = TransformersSegmenter(
        network,
        model_id=f"{label}#{fingerprint(network)}",
        device=place,
        precision=half,
        resize="processor" if resize == "auto" else resize,
        preparation=preparation,
    )
    log.info("loaded %s on %s in %s", segmenter.traits.model_id, place, half)
    return segmenter


def _open(library: Any, folder: Path, name: str) -> tuple[Any, Preparation]:
    """The network of a folder, and how pictures are brought to it."""
    kind = _kind_of(folder, name)
    if not weight_files(folder):
        raise ModelError(
            f"{name} has no .safetensors files; other kinds of weights are not opened. Download "
            "it again, or ask its author for safetensors"
        )
    if kind == "edgetam_video" and importlib.util.find_spec("timm") is None:
        raise MissingExtra(
            f"{name} needs the timm library, which has its backbone; run: pip install "
            '"vision-mem[hf]"'
        )
    made = getattr(library, _CLASSES[kind], None)
    if made is None:
        raise MissingExtra(
            f"{name} needs a newer transformers library than {library.__version__}; run: pip "
            'install -U "vision-mem[hf]"'
        )
    try:
        with quiet(library):
            network, notes = made.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **LOCAL
            )
    except Exception as error:
        files = "config.json and whole .safetensors files"
        raise not_loaded(name, "a segmenter", files, error) from error
    check_complete(notes, name)
    return network.requires_grad_(False), _preparation(folder, kind, name)


def _kind_of(folder: Path, name: str) -> str:
    path = folder / "config.json"
    content = _settings(path, name) if path.is_file() else {}
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in _CLASSES:
        found = f"a network of kind {str(kind)[:60]!r}" if kind else "no network of transformers"
        raise ModelError(
            f"{name} is {found}; expected a folder or id with config.json of SAM 2 (sam2_video), "
            "EdgeTAM (edgetam_video) or SAM 3 (sam3_video, sam3_tracker_video)"
        )
    return kind


def _settings(path: Path, name: str) -> dict[str, Any]:
    try:
        content = read_json(path, nan=True, unique=False)
    except ValueError as error:
        raise ModelError(f"{name} has a {path.name} that is not JSON; download it again") from error
    return content if isinstance(content, dict) else {}


def _preparation(folder: Path, kind: str, name: str) -> Preparation:
    """How pictures are prepared: as the folder says, else as published."""
    usual = preparation_of(kind)
    for file in _SETTINGS:
        if not (folder / file).is_file():
            continue
        given = _settings(folder / file, name)
        given = given.get("video_processor") or given.get("image_processor") or given
        if not isinstance(given, dict) or "image_mean" not in given:
            continue
        try:
            mean, spread = (
                tuple(float(value) for value in given[key]) for key in ("image_mean", "image_std")
            )
        except (KeyError, TypeError, ValueError):
            mean = spread = ()
        if not len(mean) == len(spread) == 3 or min(spread) <= 0:
            raise ModelError(
                f"{name} has a {file} with image_mean or image_std that are not three numbers; "
                "download it again"
            )
        way = _INTERPOLATIONS.get(given.get("resample", 2), usual.interpolation)
        return Preparation(mean, spread, way)
    return usual
