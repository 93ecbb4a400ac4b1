"""SAM 2's networks: where their weights and configurations come from, and what is refused.

A checkpoint or YAML file of a stranger is treated as hostile: only tensors are read from the one
(``models.checkpoint``), and each failure is one line. The YAML files of ``sam2`` name Python
classes (``_target_``). Handed to a general instantiator such a file can call anything that can be
imported, also through a harmless looking prefix (``sam2.modeling.sam2_base.torch.save``). Here a
name must be a network class that is defined in the very module it is named by, inside
``sam2.modeling``, or the trunk of our own ``nano``; nothing else is ever called, and the
process-wide state of hydra is not used.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from vision_mem.config import nearest
from vision_mem.errors import InputError, MissingExtra, ModelError, NotThere
from vision_mem.models.checkpoint import fill_random, fingerprint, fit_weights, read_checkpoint
from vision_mem.models.device import choose_device, choose_precision
from vision_mem.models.hub import PUBLISHED, Published, no_network, revisions_of, unreachable
from vision_mem.models.segmenters.sam2.nano_trunk import NanoTrunk
from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.text import parse_yaml, read_text

log = logging.getLogger(__name__)

_LARGEST_FILE = 1_000_000  # bytes; the published configurations have 4,000
_NETWORK = "sam2.modeling.sam2_base.SAM2Base"
_PREDICTOR = "sam2.sam2_video_predictor.SAM2VideoPredictor"
OWN_NAMES = ("nano",)
"""Configurations that come with this package (``configs/models``)."""
_OWN_TRUNK = "vision_mem.models.segmenters.sam2.nano_trunk.NanoTrunk"
_OWN_TRUNK_BEFORE = "vision_mem.models.nano_trunk.NanoTrunk"  # in files written with 0.1
_PREDICTOR_ONLY = (
    "fill_hole_area",
    "non_overlap_masks",
    "clear_non_cond_mem_around_input",
    "add_all_frames_to_correct_as_cond",
)
# What SAM 2's own video builder adds to its files ("apply_postprocessing").
_STABILITY = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


NANO_FILE = Path(__file__).with_name("nano.safetensors")
"""Weights of ``nano`` that come with the package, where they do (docs/nano.md)."""


def load_sam2(
    model: str,
    *,
    config: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile_encoder: bool = False,
    resize: str = "pil_bicubic",
    attention: str = "exact",
) -> Sam2Segmenter:
    """Load a SAM 2 segmenter; arguments and errors as ``vision_mem.models.load_segmenter``."""
    place = choose_device(device)
    half = choose_precision(precision, place)
    if model.startswith("random:"):
        name, _, side = model.removeprefix("random:").partition("@")
        if side and not side.isdigit():
            raise InputError(f"model {model!r}: {side!r} is not an image side in pixels")
        network = build_network(read_config(config or name), int(side) if side else None)
        fill_random(network)
        label = model
    else:
        path, guess, label = _find(model)
        state = read_checkpoint(path)
        chosen = config or guess or guess_config(state, path)
        network = build_network(read_config(chosen))
        fit_weights(network, state, f"{path}", str(chosen))
    segmenter = Sam2Segmenter(
        network,
        model_id=f"{label}#{fingerprint(network)}",
        device=place,
        precision=half,
        resize=resize,
        compile_encoder=compile_encoder,
        attention=attention,
    )
    log.info("loaded %s on %s in %s", segmenter.traits.model_id, place, half)
    return segmenter


def _find(model: str) -> tuple[Path, str | None, str]:
    """Path of the weights, configuration if the name says it, and a short name."""
    short = model.partition("@")[0].removeprefix("facebook/")
    if short in PUBLISHED:
        published = PUBLISHED[short]
        place = _fetch(f"facebook/{model.removeprefix('facebook/')}", published)
        return place, published.config, short
    if model == "nano":
        if not NANO_FILE.is_file():
            raise ModelError(
                "model 'nano' has no weights in this package yet; train it with "
                "scripts/train/train_nano.py of the repository (docs/nano.md) and give the file it "
                "exports: --model /path/to/nano.safetensors"
            )
        return NANO_FILE, "nano", model
    path = Path(model).expanduser()
    return path, None, path.stem


def _fetch(name: str, published: Published) -> Path:
    repository, *revisions = revisions_of(name)
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        for revision in revisions:
            here = try_to_load_from_cache(repository, published.file, revision=revision)
            if isinstance(here, str):
                return Path(here)
        if (why := unreachable()) is None:
            return Path(hf_hub_download(repository, published.file, revision=revisions[0]))
    except Exception as error:  # the hub raises dozens of unrelated kinds
        log.debug("download failed", exc_info=True)
        why = type(error).__name__
    raise ModelError(no_network(name, why, published.instead, url=published.url))


def guess_config(state: Mapping[str, torch.Tensor], path: Path) -> str:
    """Tell the configuration from a file's name, or else from its tensors' shapes.

    Raises:
        ModelError: when neither fits a SAM 2 network or ``nano``.
    """
    stem = path.stem.lower()
    for published in PUBLISHED.values():
        if stem == Path(published.file).stem:
            return published.config
    if "image_encoder.trunk.stem.weight" in state:  # no published network begins so
        return "nano"
    embed = state.get("image_encoder.trunk.patch_embed.proj.weight")
    block = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
    blocks = {m.group(1) for m in map(block.match, state) if m}
    shape = int(embed.shape[0]) if embed is not None and embed.ndim else 0, len(blocks)
    letter = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}.get(shape)
    if letter is None:
        raise ModelError(
            f"checkpoint {path} does not look like a published SAM 2 network (its first tensors: "
            f"{', '.join(sorted(state)[:3])}); if it is one, name its configuration: "
            f"--model-config {builtin_names()[0]} or a YAML file"
        )
    version = "sam2.1" if "obj_ptr_tpos_proj.weight" in state else "sam2"
    return f"{version}_hiera_{letter}"


def builtin_names() -> list[str]:
    """Configurations that come with ``sam2``, as ``sam2.1_hiera_t``."""
    _import_sam2()
    found = []
    for folder in ("sam2.1", "sam2"):
        place = files("sam2").joinpath("configs", folder)
        found += sorted(f.name[:-5] for f in place.iterdir() if f.name.endswith(".yaml"))
    return found


def read_config(config: str | Path) -> tuple[str, dict[str, Any]]:
    """Read a configuration: its name for messages, and its ``model`` part as plain nested values.

    Args:
        config: ``sam2.1_hiera_t`` and the like, ``nano``, or the path of a YAML file.

    Raises:
        ModelError: when it is missing, too large, not YAML, or has no ``model`` part.
    """
    _import_sam2()
    text_name = str(config)
    path = Path(config).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        try:
            text = read_text(path, most=_LARGEST_FILE)
        except InputError as error:
            raise ModelError(f"configuration {error}") from error
    else:
        short = Path(text_name).name.removesuffix(".yaml")
        known = [*builtin_names(), *OWN_NAMES]
        if short not in known:
            raise NotThere(
                f"no configuration {text_name!r}; expected a YAML file or one of {', '.join(known)}"
                f"{nearest(short, known)}"
            )
        if short in OWN_NAMES:
            place = files("vision_mem.configs").joinpath("models")
        else:
            place = files("sam2").joinpath("configs", short.partition("_")[0])
        text = place.joinpath(f"{short}.yaml").read_text("utf-8")
    return text_name, _parse(text, text_name)


def _parse(text: str, where: str) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if "${" in text:
        raise ModelError(f"configuration {where} uses interpolation (${{...}}); write values out")
    if re.search(r"^[^#\n]*[:\-\[,]\s*[&*]\w", text, re.MULTILINE):
        raise ModelError(f"configuration {where} uses YAML anchors or aliases; write values out")
    try:
        parse_yaml(text, where)
        # OmegaConf's loader, because plain YAML 1.1 reads 1e-6 as text.
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (OmegaConfBaseException, ValueError) as error:
        raise ModelError(f"configuration {where} is not valid YAML") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise ModelError(f"configuration {where} has no 'model' part; expected a SAM 2 YAML file")
    return model


def build_network(config: tuple[str, dict[str, Any]], image_size: int | None = None) -> Any:
    """Build the network a configuration describes, with untrained weights, for evaluation.

    Args:
        config: from ``read_config``.
        image_size: side of the network's image in pixels; None keeps the configured one.

    Returns:
        A ``SAM2Base`` with the options of SAM 2's video predictor on.

    Raises:
        ModelError: for classes that are not SAM 2's, and arguments that do not fit.
    """
    where, model = config
    top = dict(model)
    if top.get("_target_") not in (_NETWORK, _PREDICTOR):
        raise ModelError(
            f"configuration {where} builds {top.get('_target_')!r}; expected {_NETWORK}"
        )
    for name in _PREDICTOR_ONLY:
        top.pop(name, None)
    extra = {**_STABILITY, **(top.get("sam_mask_decoder_extra_args") or {})}
    top |= {"_target_": _NETWORK, "sam_mask_decoder_extra_args": extra}
    top |= {"binarize_mask_from_pts_for_mem_enc": True, "compile_image_encoder": False}
    if image_size is not None:
        top["image_size"] = image_size
    try:
        network = _build(top, where, depth=0)
    except ModelError:
        raise
    except Exception as error:  # network constructors fail in any way they like
        text = " ".join(str(error).split())[:120]
        raise ModelError(
            f"configuration {where} does not describe a network that can be built: {text}"
        ) from error
    return network.eval().requires_grad_(False)


def _build(node: Any, where: str, depth: int) -> Any:
    if depth > 20:
        raise ModelError(f"configuration {where} is nested too deeply")
    if isinstance(node, list):
        return [_build(item, where, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    given = {str(key): value for key, value in node.items()}
    target = given.pop("_target_", None)
    odd = [key for key in given if key.startswith("_")]
    if odd:
        raise ModelError(f"configuration {where} has the key {odd[0]!r}, which is not allowed")
    # The name is judged before anything inside is built.
    made = None if target is None else _network_class(target, where)
    arguments = {key: _build(value, where, depth + 1) for key, value in given.items()}
    return arguments if made is None else made(**arguments)


def _network_class(target: Any, where: str) -> type[torch.nn.Module]:
    module_name, _, class_name = str(target).rpartition(".")
    if target in (_OWN_TRUNK, _OWN_TRUNK_BEFORE):
        return NanoTrunk
    if re.fullmatch(r"sam2\.modeling(\.[a-z_0-9]+)+", module_name):
        try:
            found = getattr(importlib.import_module(module_name), class_name, None)
        except ImportError:
            found = None
        network = inspect.isclass(found) and issubclass(found, torch.nn.Module)
        if found is not None and network and found.__module__ == module_name:
            return found
    raise ModelError(
        f"configuration {where} names {str(target)[:80]!r}; only network classes of "
        "sam2.modeling may be built"
    )


def _import_sam2() -> None:
    try:
        ensure_torchvision()
        importlib.import_module("sam2.modeling.sam2_base")
    except ImportError as error:
        raise MissingExtra(
            f"SAM 2 needs a package that is not installed ({error.name}): pip install "
            "--no-build-isolation sam2==1.1.0"
        ) from error
