"""Open a video model by name, id or folder; what is refused, in one line each."""

from __future__ import annotations

import hashlib
import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.models.checkpoint import fingerprint
from vision_mem.models.device import choose_device, choose_precision
from vision_mem.models.hub import (
    LOCAL,
    check_complete,
    fetched,
    not_loaded,
    quiet,
    transformers_library,
    weight_files,
)
from vision_mem.models.vlm import KNOWN, WITHOUT_FILES, check_video_model
from vision_mem.models.vlm.network import NetworkVideoModel
from vision_mem.models.vlm.option_scores import ByLikelihood
from vision_mem.models.vlm.random import RANDOM, byte_tokenizer, random_network
from vision_mem.text import read_json

if TYPE_CHECKING:
    from vision_mem.models.vlm.protocol import VideoLanguageModel

log = logging.getLogger(__name__)

_QWEN = "vision_mem.models.vlm.qwen"
_LLAVA = "vision_mem.models.vlm.llava_onevision"
# The configuration's model_type: class of the library, our module, our class.
_FAMILIES = {
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", _QWEN, "QwenVideoModel"),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", _QWEN, "QwenVideoModel"),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration", _QWEN, "Qwen3VideoModel"),
    "llava_onevision": ("LlavaOnevisionForConditionalGeneration", _LLAVA, "LlavaVideoModel"),
}
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WANTED_BY = ("video models", "vlm")
_BLOCK, _BLOCKS = 4096, 256


def load_video_model(
    model: str, *, device: str = "auto", precision: str = "auto", **settings: Any
) -> VideoLanguageModel:
    """Open a video model.

    Args:
        model: one of

            * ``words``, which finds moments with packaged weights and does not talk (extra
              ``[offline]``);
            * ``fake``, which knows colours and needs nothing;
            * ``miniature``, which was taught on generated streams, where its weights came with
              the package;
            * a short name in ``KNOWN``, or an id on Hugging Face;
            * a folder made by ``save_pretrained`` with its tokenizer;
            * ``random:NAME`` or ``random:NAME@SEED`` with a name in ``random.RANDOM``, for tests
              and benchmarks.

            Folders and ids of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and LLaVA-OneVision are told apart
            by their config.json.
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), or a torch device.
        precision: ``auto`` (half where the device is built for it), ``fp32``, ``bf16``, ``fp16``.
        **settings: of the adapter: ``system``, ``sampling``, ``min_tokens`` and ``max_tokens`` of
            a grid (Qwen), ``places`` (LLaVA-OneVision).

    Returns:
        The model. It holds weights only and serves any number of sessions.

    Raises:
        InputError: for unknown names, devices and settings.
        MissingExtra: when the transformers library is not installed.
        ModelError: for weights that are not here and cannot be fetched, damaged, or of another
            kind of network.
    """
    check_video_model(model)
    if model == "fake":
        from vision_mem.models.vlm.fake import FakeVideoModel

        return FakeVideoModel()
    place = choose_device(device)
    if model == "words":
        from vision_mem.models.vlm.window_search import WindowSearch

        return WindowSearch(device=place)
    dtype = _PRECISIONS[choose_precision(precision, place)]
    if model.startswith("random:"):
        return _random(model, place, dtype, settings)
    name = label = KNOWN.get(model, model)
    folder = Path(name).expanduser()
    if model == "miniature":
        from vision_mem.models.vlm.miniature import shipped_miniature

        folder = shipped_miniature()
    elif folder.is_dir():
        name, label = str(folder), folder.resolve().name
    library = transformers_library(*_WANTED_BY)  # before anything is downloaded for it
    place_of = folder if folder.is_dir() else fetched(name, WITHOUT_FILES, KNOWN.values())
    return _open(library, place_of, name, label, place, dtype, settings)


def _random(
    model: str, place: torch.device, dtype: torch.dtype, settings: dict[str, Any]
) -> VideoLanguageModel:
    name, _, seed = model.removeprefix("random:").partition("@")
    if seed and not (seed.isdecimal() and int(seed) < 2**32):
        raise InputError(f"model {model!r}: {seed!r} is not a seed; expected a number after @")
    if name not in RANDOM:
        raise InputError(f"no random model {name!r}; expected one of {', '.join(sorted(RANDOM))}")
    transformers_library(*_WANTED_BY)
    network = random_network(name, place, dtype, int(seed) if seed else None)
    label = f"{model}#{fingerprint(network)}" if RANDOM[name][2] else model
    return _adapted(network, byte_tokenizer(), label, settings)


def _open(
    library: Any, folder: Path, name: str, label: str, place: torch.device, dtype: torch.dtype,
    settings: dict[str, Any],
) -> VideoLanguageModel:  # fmt: skip
    family = _family(folder, name)
    if not weight_files(folder):
        raise ModelError(
            f"{name} has no whole set of .safetensors files; other kinds of weights are not "
            "opened. Download it again, or ask its author for safetensors"
        )
    try:
        with quiet(library):
            network, notes = getattr(library, family[0]).from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **LOCAL
            )
        tokenizer = library.AutoTokenizer.from_pretrained(folder, **LOCAL)
        given = _read_json(folder / "preprocessor_config.json")
    except Exception as error:
        files = "config.json, tokenizer.json and whole .safetensors files"
        raise not_loaded(name, "a video model", files, error) from error
    check_complete(notes, name)
    if "image_mean" in given and "image_std" in given:
        settings = {"normal": _colours(given, name), **settings}
    label = f"{label}#{_folder_hash(folder)}"
    log.info("loaded %s on %s in %s", label, place, dtype)
    made = _adapted(network.to(place), tokenizer, label, settings)
    if getattr(network.config, "options_by", None) == "likelihood":
        return ByLikelihood(made)
    return made


def _adapted(
    network: Any, tokenizer: Any, label: str, settings: dict[str, Any]
) -> NetworkVideoModel:
    _, module, name = _FAMILIES[network.config.model_type]
    adapter: type[NetworkVideoModel] = getattr(importlib.import_module(module), name)
    try:
        return adapter(network, tokenizer, model_id=label, **settings)
    except TypeError as error:
        raise InputError(f"{label} cannot take the settings {sorted(settings)}: {error}") from error


def _family(folder: Path, name: str) -> tuple[str, str, str]:
    path = folder / "config.json"
    try:
        kind = _read_json(path).get("model_type")
    except ValueError as error:
        raise ModelError(f"{name} has a config.json that is not JSON; download it again") from error
    if kind is None:
        raise ModelError(
            f"{name} is not a folder of a video model: expected config.json with a model_type, "
            "tokenizer.json and .safetensors files"
        )
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise ModelError(
            f"{name} is a network of kind {str(kind)[:60]!r}; expected one of "
            f"{', '.join(_FAMILIES)}"
        )
    return _FAMILIES[kind]


def _read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file; empty when there is no such file."""
    if not path.is_file():
        return {}
    found = read_json(path, nan=True, unique=False)
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return found


def _colours(given: dict[str, Any], name: str) -> tuple[list[float], list[float]]:
    try:
        mean, spread = ([float(v) for v in given[k]] for k in ("image_mean", "image_std"))
        if len(mean) == len(spread) == 3 and min(spread) > 0:
            return mean, spread
    except (TypeError, ValueError):
        pass
    raise ModelError(
        f"{name} has a preprocessor_config.json with image_mean or image_std that are not three "
        "numbers; download it again"
    )


def _folder_hash(folder: Path) -> str:
    """Eight hexadecimal digits of the configuration and of blocks spread over the weights.

    Reading all of it would take longer than loading.
    """
    digest = hashlib.blake2b((folder / "config.json").read_bytes(), digest_size=4)
    for path in weight_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as stream:
            for k in range(_BLOCKS):
                stream.seek(k * max(_BLOCK, size // _BLOCKS))
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()
