"""Segmenters by name; a network's code is imported when it is asked for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.config import is_object_name, load_object, near_file, nearest
from vision_mem.errors import InputError, NotThere
from vision_mem.models.hub import (
    PUBLISHED,
    SEGMENTERS,
    check_fetchable,
    has_transformers,
    revisions_of,
)

if TYPE_CHECKING:
    from vision_mem.models.segmenters.protocol import Segmenter

SHARED_MODELS: ContextVar[Callable[[dict[str, Any]], Segmenter] | None] = ContextVar(
    "shared_models", default=None
)
"""Answers ``load_segmenter``, given its arguments by name, for those who run many in a process."""


def load_segmenter(
    model: str = "embedded",
    *,
    config: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    resize: str = "auto",
    attention: str = "exact",
) -> Segmenter:
    """Load a promptable video segmenter by name.

    Args:
        model: ``embedded`` (comes with the package, no download); a SAM 2 name as
            ``sam2.1-hiera-tiny`` or ``facebook/sam2.1-hiera-tiny``; ``nano``, a small network of
            SAM 2's shape, where its weights are installed; the path of a checkpoint of either
            (``.pt`` or ``.safetensors``); a folder made by transformers' ``save_pretrained``, or an
            id on Hugging Face, with SAM 2, EdgeTAM or SAM 3 in its format
            (``yonigozlan/EdgeTAM-hf``, ``facebook/sam3``); ``random:sam2.1_hiera_t@128`` for
            seeded random weights with an image side of 128, for tests and benchmarks;
            ``module:Class`` for a segmenter of one's own (``config.load_object``), made with
            those of ``device`` and ``precision`` that it takes.
        config: with a path: configuration name as ``sam2.1_hiera_t`` or ``nano``, or a YAML
            file; guessed when left out.
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), or a torch device.
        precision: ``auto`` (half where the device is built for it), ``fp32``, ``bf16``, ``fp16``.
        compile: compile SAM 2's image encoder; the first frame then takes long.
        resize: how frames are brought to the network's square: ``pil_bicubic``, ``decord``,
            ``cv2``; ``auto`` is the first of them, and transformers' own way for its networks.
        attention: SAM 2's look into memories: ``exact``, equal to the reference to the bit, or
            ``folded``, faster on a CPU and equal within rounding.

    Returns:
        The segmenter. It holds weights only and serves any number of sessions. Of a folder that
        ``vision-mem export`` wrote, it runs in ONNX Runtime.

    Raises:
        ModelError: for weights or configurations that are missing, damaged, hostile or of
            another model.
        InputError: for unknown names and option values, or a class that is no segmenter.
    """
    check_model(model)
    if (shared := SHARED_MODELS.get()) is not None:
        return shared({
            "model": model, "config": config, "device": device, "precision": precision,
            "compile": compile, "resize": resize, "attention": attention,
        })  # fmt: skip
    if is_object_name(model) and not model.startswith("random:"):
        return _own_segmenter(model, {"device": device, "precision": precision})
    folder = exported_folder(model)
    if folder is not None:
        half = precision not in ("auto", "fp32")
        if half or compile or attention != "exact":
            wrong = f"--precision {precision}" if half else "--compile"
            wrong = wrong if half or compile else f"--attention {attention}"
            raise InputError(f"{wrong} is for networks in torch; {model} is exported: leave it out")
        return _exported(folder, device, resize)
    if model == "embedded":
        from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter

        segmenter: Segmenter = EmbeddedSegmenter.load(device, precision)
        return segmenter
    if config is None and _is_of_transformers(model):
        from vision_mem.models.segmenters.transformers import load_transformers

        published = model.partition("@")[0] in PUBLISHED
        name = f"facebook/{model}" if published else model
        return load_transformers(name, device=device, precision=precision, resize=resize)
    from vision_mem.models.segmenters.sam2.load import load_sam2

    return load_sam2(
        model,
        config=config,
        device=device,
        precision=precision,
        compile_encoder=compile,
        resize="pil_bicubic" if resize == "auto" else resize,
        attention=attention,
    )


_WEIGHTS = (".pt", ".pth", ".safetensors")


def _is_of_transformers(model: str) -> bool:
    """Whether a name that ``check_model`` let pass stands for a network of transformers."""
    name = model.partition("@")[0]
    if name.removeprefix("facebook/") in PUBLISHED:
        return _lies_here_for_transformers(f"facebook/{model.removeprefix('facebook/')}")
    if name == "nano" or model.startswith("random:"):
        return False
    path = Path(model).expanduser()
    return path.is_dir() or (not path.exists() and _is_id(model))


def _is_id(model: str) -> bool:
    """Whether this may be an id on Hugging Face, and is no path of a file that is missing."""
    name = model.partition("@")[0]
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is None or name.endswith(_WEIGHTS):
        return False
    return not Path(name).parent.is_dir()


def _lies_here_for_transformers(name: str) -> bool:
    """Whether a published SAM 2 is on this machine in transformers' format, and not in its own."""
    if not has_transformers():
        return False
    from huggingface_hub import try_to_load_from_cache

    repository, *revisions = revisions_of(name)

    def here(file: str) -> bool:
        found = (try_to_load_from_cache(repository, file, revision=one) for one in revisions)
        return any(isinstance(path, str) for path in found)

    own = PUBLISHED[repository.removeprefix("facebook/")].file
    return not here(own) and here("config.json") and here("model.safetensors")


def check_model(model: str) -> None:
    """Refuse the name of a segmenter that is none, before anything heavy is loaded.

    Raises:
        InputError: for a name that nothing has.
        NotThere: for a checkpoint that is not there.
        ModelError: for a published one that is not on this machine, where there is no network.
    """
    known = ["embedded", "nano", *PUBLISHED]
    short = model.partition("@")[0].removeprefix("facebook/")
    if short in PUBLISHED:
        wanted, name = PUBLISHED[short], f"facebook/{model.removeprefix('facebook/')}"
        check_fetchable(name, wanted.instead, url=wanted.url)
        return
    if _is_name(model):
        return
    path = Path(model).expanduser()
    from vision_mem.models.segmenters.onnx.graphs import read_manifest

    if exported_folder(model) is not None:
        read_manifest(path)
    if is_object_name(model) or path.exists():
        return
    if _is_id(model) and not model.startswith("facebook/sam2"):
        if has_transformers():  # else that is told first, by the one who needs it
            check_fetchable(model, ": --model /path/to/folder", SEGMENTERS)
        return
    named = model.startswith("facebook/") and path.suffix != ".pt"
    if not named and (path.suffix in (".pt", ".pth", ".safetensors") or "/" in model):
        near = near_file(path, (".pt", ".pth", ".safetensors"))
        meant = f"did you mean {near!r}?" if near else "expected a .pt, .pth or .safetensors file"
        raise NotThere(f"checkpoint {path} is missing; {meant}")
    there = (
        f"; expected one of {', '.join(known)}, the path of a SAM 2 checkpoint, "
        "a folder or an id of transformers, random:sam2.1_hiera_t@128, or module:Class"
    )
    near = nearest(short, known)
    raise InputError(f"no model {model!r}{near or there}")


def _is_name(model: str) -> bool:
    """Whether this stands for weights by itself, whatever files and folders there are."""
    short = model.partition("@")[0].removeprefix("facebook/")
    return short in ("embedded", "nano", *PUBLISHED) or model.startswith("random:")


def exported_folder(model: str) -> Path | None:
    """The folder that a model's name means, where only ``vision-mem export`` writes such."""
    from vision_mem.models.segmenters.onnx.graphs import MANIFEST

    folder = Path(model).expanduser()
    if _is_name(model) or not folder.is_dir():
        return None
    others = (folder / "config.json").exists()  # of a network of transformers
    return None if others and not (folder / MANIFEST).exists() else folder


def _exported(folder: Path, device: str, resize: str) -> Segmenter:
    """The segmenter of an exported folder."""
    from vision_mem.models.segmenters.onnx.graphs import read_manifest

    manifest = read_manifest(folder)
    if manifest.kind == "embedded":
        from vision_mem.models.segmenters.onnx.embedded import open_embedded

        return open_embedded(folder, manifest, device)
    if manifest.kind == "sam2":
        from vision_mem.models.segmenters.onnx.sam2 import open_sam2

        return open_sam2(folder, manifest, device, "pil_bicubic" if resize == "auto" else resize)
    if manifest.kind == "transformers":
        from vision_mem.models.segmenters.onnx.transformers import open_transformers

        usual = "processor" if resize == "auto" else resize
        return open_transformers(folder, manifest, device, usual)
    raise InputError(
        f"{folder} holds a model of the kind {manifest.kind[:40]!r}, which this version of "
        "vision-mem does not know; expected embedded, sam2 or transformers"
    )


def _own_segmenter(name: str, options: dict[str, Any]) -> Segmenter:
    from vision_mem.models.segmenters.protocol import Segmenter

    make = load_object(name, "model")
    if not callable(make):
        raise InputError(f"model {name!r} is no class; expected one that makes a segmenter")
    try:
        taken = inspect.signature(make).parameters
        segmenter: Segmenter = make(**{key: options[key] for key in options if key in taken})
    except (TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"model {name!r} cannot be made without arguments: {problem}") from error
    needed = [key for key in vars(Segmenter) if not key.startswith("_")]
    lacks = [key for key in (*Segmenter.__annotations__, *needed) if not hasattr(segmenter, key)]
    if lacks:
        raise InputError(
            f"model {name!r} is no segmenter: it has no {', '.join(lacks)}; expected what "
            "vision_mem.models.segmenters.protocol.Segmenter lists"
        )
    return segmenter
