"""Networks of the transformers library: fixed classes (D-FINE, RT-DETR), or any words.

The library's own classes are used as they are. Weights come from a folder or from Hugging Face.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.models.detectors.coercion import LeftOut, Vocabulary, coerce
from vision_mem.models.device import choose_device, choose_precision
from vision_mem.models.hub import (
    DETECTORS,
    LOCAL,
    check_complete,
    fetched,
    quiet,
    transformers_library,
)
from vision_mem.types import Detections, Frame

log = logging.getLogger(__name__)

_CONCEPTS = ("sam3", "sam3_video")  # model_type; the second has a tracker beside the detector

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_GIVEN = {"return_tensors": "pt", "input_data_format": "channels_last"}


class TransformersDetector:
    """Classes that a network was trained for: COCO's eighty for the published ones.

    D-FINE, RT-DETR, RT-DETRv2 and whatever else the library loads for object detection.

    Args:
        model: a short name in ``hub.DETECTORS``, an id on Hugging Face, or a folder made by
            ``save_pretrained``, with its image processor.
        device: ``auto``, or a torch device.
        precision: ``auto`` (half where the device is built for it), ``fp32``, ``bf16``, ``fp16``.
        min_score: these networks always give some hundred boxes; those below are left out here.

    Raises:
        MissingExtra: when the library is not installed.
        ModelError: for weights that are missing, damaged or not a detector's.
    """

    stateful = False
    reports_absence = True
    _auto_class = "AutoModelForObjectDetection"
    _processor_class = "AutoImageProcessor"

    def __init__(
        self,
        model: str = "dfine",
        *,
        device: str = "auto",
        precision: str = "auto",
        min_score: float = 0.05,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise InputError(f"min_score is {min_score}; expected 0 to 1")
        self.device = choose_device(device)
        self._type = _PRECISIONS[choose_precision(precision, self.device)]
        self._min_score = min_score
        self.name = model
        network, self._processor = _load(model, self._auto_class, self._processor_class)
        self._network = network.to(self.device, self._type).eval()
        words = network.config.id2label or {}
        self._names = {int(number): str(word) for number, word in words.items()}
        self.dropped = LeftOut()

    @property
    def classes(self) -> dict[int, str]:
        """Words of all classes by their numbers."""
        return self._names

    @torch.inference_mode()
    def detect(self, frame: Frame) -> Detections | None:
        given = self._prepared(self._processor(images=frame.image, **_GIVEN))
        outputs = self._network(**given)
        (found,) = self._processor.post_process_object_detection(
            outputs, threshold=self._min_score, target_sizes=[frame.size]
        )
        return self._answer(dict(found), frame)

    def _answer(self, found: Mapping[str, Any], frame: Frame) -> Detections | None:
        names = Vocabulary(self._names)
        answer = coerce(found, frame.size, vocabulary=names, dropped=self.dropped)
        self.dropped.tell(self.name, frame.index)
        return answer

    def _prepared(self, given: Any) -> dict[str, Any]:
        """On the device; images in the network's precision."""
        moved = {name: value.to(self.device) for name, value in given.items()}
        moved["pixel_values"] = moved["pixel_values"].to(self._type)
        return moved

    def reset(self) -> None:
        self.dropped.clear()

    def close(self) -> None:
        """Nothing is held but weights."""


class WordsDetector(TransformersDetector):
    """Whatever a few words name, with Grounding DINO, OWLv2 or SAM 3.

    Class number k is the k-th word. SAM 3 gives masks too, and looks for one word after the other
    in a picture that is encoded once. With Grounding DINO the score is that of the token of the
    text which fits best, and the class is the words it belongs to; it is the library's own score.

    Args:
        words: such as ``["red car", "person"]``; up to some two hundred tokens in all.
        model: as for ``TransformersDetector``, of one of these networks.
        device: ``auto``, or a torch device.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        min_score: boxes below are left out here.

    Raises:
        InputError: when no words are given.
        MissingExtra: when the library is not installed.
        ModelError: for weights that are missing, damaged or of another kind of network.
    """

    _auto_class = "AutoModelForZeroShotObjectDetection"
    _processor_class = "AutoProcessor"

    def __init__(
        self,
        words: Sequence[str],
        model: str = "grounding-dino",
        *,
        device: str = "auto",
        precision: str = "auto",
        min_score: float = 0.1,
    ) -> None:
        # Grounding DINO's phrases end at full stops, and it was trained on lower case.
        self.words = tuple(" ".join(w.replace(".", " ").lower().split()) for w in words)
        if not all(self.words) or not self.words:
            raise InputError(f'words are {list(words)}; expected some, such as "red car"')
        super().__init__(model, device=device, precision=precision, min_score=min_score)
        self.name = f"{', '.join(self.words)} ({model})"
        self._text: list[Any]
        self._fit: dict[str, Any]
        self._names = dict(enumerate(self.words))
        self._phrases = (
            [self._phrase(word) for word in self.words]
            if self._network.config.model_type in _CONCEPTS
            else []
        )
        if self._phrases:
            return
        self._grounding = self._network.config.model_type in ("grounding-dino", "mm-grounding-dino")
        if self._grounding:
            text = "".join(f"{word}. " for word in self.words).strip()
            self._word_of = self._words_of_tokens(text)
            self._text, self._fit = [text], {}
        else:
            longest = self._network.config.text_config.max_position_embeddings
            self._text = [list(self.words)]
            self._fit = {"padding": "max_length", "truncation": True, "max_length": longest}

    def _words_of_tokens(self, text: str) -> torch.Tensor:
        """``(tokens,)`` int: which words each token of the text belongs to; -1 for none."""
        coded = self._processor.tokenizer(text, return_offsets_mapping=True)
        word_of, spans, place = [], [], 0
        for word in self.words:
            spans.append((place, place + len(word)))
            place += len(word) + 2
        for first, last in coded["offset_mapping"]:
            inside = (k for k, (a, b) in enumerate(spans) if a <= first < last <= b)
            word_of.append(next(inside, -1))
        limit = int(getattr(self._network.config, "max_text_len", 256))
        if len(word_of) > limit:
            raise InputError(f"{len(word_of)} tokens of text; expected at most {limit}: use fewer")
        return torch.tensor(word_of)

    @torch.inference_mode()
    def _phrase(self, word: str) -> tuple[Any, torch.Tensor]:
        """What SAM 3 makes of words: their features, and which of the tokens are padding."""
        longest = int(self._network.text_encoder.config.max_position_embeddings)
        coded = self._processor.tokenizer(
            word, return_tensors="pt", padding="max_length", max_length=longest
        )
        tokens = coded["input_ids"].to(self.device)
        if tokens.shape[1] > longest:
            raise InputError(
                f"{word[:40]!r} has {tokens.shape[1]} tokens of text; expected at most {longest}: "
                "use fewer words"
            )
        mask = coded["attention_mask"].to(self.device)
        said = self._network.get_text_features(
            input_ids=tokens, attention_mask=mask, return_dict=True
        )
        return said, mask

    def _concepts(self, frame: Frame) -> dict[str, Any]:
        given = self._prepared(self._processor(images=frame.image, **_GIVEN))
        seen = self._network.get_vision_features(pixel_values=given["pixel_values"])
        parts: list[dict[str, Any]] = []
        for number, (said, mask) in enumerate(self._phrases):
            outputs = self._network(vision_embeds=seen, text_embeds=said, attention_mask=mask)
            (found,) = self._processor.post_process_instance_segmentation(
                outputs, threshold=self._min_score, target_sizes=[frame.size]
            )
            if not len(found["scores"]):
                continue
            found["masks"] = found["masks"].bool()
            parts.append({**found, "labels": torch.full_like(found["scores"], number).long()})
        if not parts:
            return {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
        names = ("boxes", "scores", "labels", "masks")
        found = {name: torch.cat([part[name] for part in parts]).cpu() for name in names}
        return found | {name: found[name].float() for name in ("boxes", "scores")}

    @torch.inference_mode()
    def detect(self, frame: Frame) -> Detections | None:
        if self._phrases:
            return self._answer(self._concepts(frame), frame)
        given = self._processor(images=frame.image, text=self._text, **_GIVEN, **self._fit)
        outputs = self._network(**self._prepared(given))
        if self._grounding:
            found = self._grounded(outputs, frame.size)
        else:
            (found,) = self._processor.post_process_grounded_object_detection(
                outputs, threshold=self._min_score, target_sizes=[frame.size]
            )
            found = {name: found[name] for name in ("boxes", "scores", "labels")}
        return self._answer(found, frame)

    def _grounded(self, outputs: Any, size: tuple[int, int]) -> dict[str, Any]:
        """Boxes with the words whose token fits each best.

        The library's post-processing returns the text of all tokens above a threshold instead,
        which may be part of a phrase or parts of several.
        """
        per_token = outputs.logits[0].float().sigmoid().cpu()  # (queries, 256)
        word_of = self._word_of
        per_token = per_token[:, : len(word_of)].masked_fill(word_of < 0, 0.0)
        scores, token = per_token.max(dim=1)
        labels = word_of[token]
        centre, extent = outputs.pred_boxes[0].float().cpu().split(2, dim=1)
        scale = torch.tensor([size[1], size[0]] * 2)
        boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1) * scale
        keep = scores > self._min_score
        return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}


def _load(model: str, auto_class: str, processor_class: str) -> tuple[Any, Any]:
    name = DETECTORS.get(model, model)
    folder = Path(name).expanduser()
    if folder.is_dir():
        library = transformers_library("neural detectors", "mots")
        return _open(library, str(folder), str(folder), auto_class, processor_class)
    if folder.exists() or name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelError(
            f"{model} is not a folder with a detector's config.json and weights; give such a "
            "folder, or an id on Hugging Face"
        )
    library = transformers_library("neural detectors", "mots")  # before a download for it
    example = '"red car@/path/to/folder"' if "ZeroShot" in auto_class else "/path/to/folder"
    place = fetched(name, f": --detect {example}", DETECTORS.values())
    return _open(library, str(place), name, auto_class, processor_class)


def _open(
    library: Any, place: str, name: str, auto_class: str, processor_class: str
) -> tuple[Any, Any]:
    try:
        config = library.AutoConfig.from_pretrained(place, **LOCAL)
        _check_kind(library, config, name, auto_class)
        with quiet(library):
            if config.model_type in _CONCEPTS:
                auto_class, processor_class = "Sam3Model", "Sam3Processor"
            network, notes = getattr(library, auto_class).from_pretrained(
                place, config=config, use_safetensors=True, output_loading_info=True, **LOCAL
            )
        processor = getattr(library, processor_class).from_pretrained(place, **LOCAL)
    except ModelError:
        raise
    except Exception as error:  # a damaged or hostile file can provoke any kind
        log.debug("loading failed", exc_info=True)
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{name} cannot be loaded as a detector: {type(error).__name__}: {reason}; expected "
            "config.json, model.safetensors and preprocessor_config.json"
        ) from error
    check_complete(notes, name)
    return network, processor


def _check_kind(library: Any, config: Any, name: str, auto_class: str) -> None:
    fixed = type(config) in library.MODEL_FOR_OBJECT_DETECTION_MAPPING
    words = type(config) in library.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING
    words = words or config.model_type in _CONCEPTS
    if words if "ZeroShot" in auto_class else fixed:
        return
    if words and not fixed:
        raise ModelError(
            f'{name} is a network that finds given words; name some: --detect "red car@FOLDER"'
        )
    if fixed:
        raise ModelError(f"{name} is a network that has classes of its own")
    raise ModelError(
        f"{name} is a network of kind {config.model_type!r}, not a detector; expected D-FINE, "
        "RT-DETR, Grounding DINO, OWLv2, SAM 3 or the like"
    )
