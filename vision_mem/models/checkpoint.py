"""Where SAM 2's weights and configurations come from, and what is refused.

A checkpoint or YAML file of a stranger is treated as hostile: only tensors are read from the one,
only SAM 2's own network classes can be named by the other, and each failure is one line.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vision_mem.errors import InputError, ModelError
from vision_mem.models.segmenters.sam2.build import build_network, builtin_names, read_config
from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """A checkpoint published by SAM 2's authors: its configuration, file name and web address."""

    config: str
    file: str
    folder: str

    @property
    def url(self) -> str:
        """Direct download address."""
        return f"https://dl.fbaipublicfiles.com/segment_anything_2/{self.folder}/{self.file}"


_SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
_VERSIONS = (("sam2.1", "092824"), ("sam2", "072824"))
PUBLISHED = {
    f"{version}-hiera-{size}": Published(
        f"{version}_hiera_{letter}", f"{version}_hiera_{size.replace('-', '_')}.pt", folder
    )
    for version, folder in _VERSIONS
    for size, letter in _SIZES.items()
}
"""Names (without ``facebook/``) of the checkpoints that can be fetched from Hugging Face."""

RANDOM_SEED = 20241118

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


def choose_device(device: str) -> torch.device:
    """Turn ``auto`` or a device's name into a device that is there.

    Raises:
        InputError: for a name torch does not know or a device this machine lacks.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"no device {device!r}; expected auto, cpu, cuda, cuda:1 or mps"
        ) from error
    missing = (place.type == "cuda" and not torch.cuda.is_available()) or (
        place.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise InputError(f"device {device!r} is not available here; use device='cpu' or 'auto'")
    return place


def choose_precision(precision: str, device: torch.device) -> str:
    """Turn ``auto`` into what suits a device.

    Raises:
        InputError: for unknown names.
    """
    if precision == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if precision not in ("fp32", "bf16", "fp16"):
        raise InputError(f"precision is {precision!r}; expected auto, fp32, bf16 or fp16")
    return precision


def _find(model: str) -> tuple[Path, str | None, str]:
    """Path of the weights, configuration if the name says it, and a short name."""
    short = model.removeprefix("facebook/")
    if short in PUBLISHED:
        published = PUBLISHED[short]
        return _fetch(short, published), published.config, short
    if model == "nano":
        if not NANO_FILE.is_file():
            raise ModelError(
                "model 'nano' has no weights in this package yet; train it with "
                "scripts/train_nano.py of the repository (docs/nano.md) and give the file it "
                "exports: --model /path/to/nano.safetensors"
            )
        return NANO_FILE, "nano", model
    path = Path(model).expanduser()
    looks_like_path = path.suffix in (".pt", ".pth", ".safetensors") or "/" in model
    if path.is_file() or looks_like_path:
        return path, None, path.stem
    names = ", ".join(["embedded", "nano", *PUBLISHED])
    raise ModelError(
        f"no model {model!r}; expected one of {names}, the path of a SAM 2 checkpoint, or "
        "random:sam2.1_hiera_t@128"
    )


def _fetch(name: str, published: Published) -> Path:
    repository = f"facebook/{name}"
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repo_id=repository, filename=published.file))
    except Exception as error:  # the hub raises dozens of unrelated kinds
        log.debug("download failed", exc_info=True)
        raise ModelError(
            f"{published.file} is not on this machine and could not be fetched from Hugging Face "
            f"({repository}; {type(error).__name__}); download {published.url} where there is "
            f"network, copy it here and give its path: --model /path/to/{published.file}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint, and nothing else; nothing stored in it is ever run.

    Args:
        path: a ``.safetensors`` file, or what ``torch.save`` wrote: the tensors by name, or the
            same under the key ``model``.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ModelError: one line for a file that is missing, empty, damaged, hostile or of another
            kind.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "missing"
        raise ModelError(f"checkpoint {path} is {what}; expected a .pt or .safetensors file")
    if path.stat().st_size == 0:
        raise ModelError(f"checkpoint {path} is empty; download it again")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"checkpoint {path} holds no tensors by name; expected a state dict")
    bad = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if bad:
        raise ModelError(
            f"checkpoint {path} holds more than tensors (first: {str(bad[0])[:60]!r}); expected "
            "a state dict, or one under the key 'model'"
        )
    return {str(name): value for name, value in content.items()}


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"checkpoint {path} is not a whole safetensors file; download it again"
        ) from error


def _read_torch(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(4)
    if start[:2] != b"PK" and start[:1] != b"\x80":
        raise ModelError(
            f"checkpoint {path} is not a torch file (it begins with {start!r}); expected what "
            "torch.save writes. A web page saved by mistake looks like this"
        )
    try:
        cut = start[:2] == b"PK" and not zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it raises that itself on some damaged files
        cut = True
    if cut:
        raise ModelError(f"checkpoint {path} is cut off; download it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can provoke any kind
        text = " ".join(str(error).split())
        if "Weights only load failed" in text or "Unsupported" in text:
            raise ModelError(
                f"checkpoint {path} holds objects or code beside tensors and was not opened; "
                "expected tensors only. Ask its author for a .safetensors file"
            ) from error
        raise ModelError(
            f"checkpoint {path} is damaged ({text[:80]}); download it again"
        ) from error


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
    blocks = {int(m.group(1)) for m in map(block.match, state) if m}
    width = int(embed.shape[0]) if embed is not None and embed.ndim else 0
    letter = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}.get(
        (width, len(blocks))
    )
    if letter is None:
        raise ModelError(
            f"checkpoint {path} does not look like a published SAM 2 network (its first tensors: "
            f"{', '.join(sorted(state)[:3])}); if it is one, name its configuration: --config "
            f"{builtin_names()[0]} or a YAML file"
        )
    version = "sam2.1" if "obj_ptr_tpos_proj.weight" in state else "sam2"
    return f"{version}_hiera_{letter}"


def fit_weights(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str, config: str
) -> None:
    """Load tensors into a network, all or nothing.

    Raises:
        ModelError: when names or shapes do not match; the message counts and names a few.
    """
    own = network.state_dict()
    missing = sorted(set(own) - set(state))
    extra = sorted(set(state) - set(own))
    shapes = sorted(n for n in set(own) & set(state) if own[n].shape != state[n].shape)
    if missing or extra or shapes:
        found = [
            f"{len(missing)} missing" + _few(missing),
            f"{len(extra)} unexpected" + _few(extra),
        ]
        found.append(f"{len(shapes)} of another shape" + _few(shapes))
        raise ModelError(
            f"checkpoint {where} is of another architecture than configuration {config}: "
            f"{', '.join(found)}; give the configuration it was made with"
        )
    network.load_state_dict(dict(state))


def _few(names: list[str]) -> str:
    return f" ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})" if names else ""


def fingerprint(network: torch.nn.Module) -> str:
    """Eight hexadecimal digits that change when any weight does."""
    digest = hashlib.blake2b(digest_size=4)
    for name, tensor in sorted(network.state_dict().items()):
        raw = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
        digest.update(name.encode() + zlib.crc32(raw.data).to_bytes(4, "little"))
    return digest.hexdigest()


def fill_random(network: torch.nn.Module, seed: int = RANDOM_SEED) -> None:
    """Fill every weight from one seeded generator, in order of names, for tests and benchmarks.

    The spreads keep signals alive through the depth of SAM 2, so that masks move and memories
    matter; the segmentations mean nothing.

    Args:
        network: any module; changed in place.
        seed: of numpy's legacy Mersenne Twister, whose numbers are the same everywhere.
    """
    random = np.random.RandomState(seed)  # its stream never changes between versions
    state = network.state_dict()
    for name in sorted(state):
        tensor = state[name]
        values = 2.0 * random.random_sample(tensor.numel()) - 1.0
        values *= _random_scale(name, tensor)
        if tensor.ndim == 1 and name.endswith(".weight"):
            values += 1.0
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))


_EMBEDDING_NAMES = {
    "no_mem_embed",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "maskmem_tpos_enc",
    "pos_embed",
    "pos_embed_window",
}


def _random_scale(name: str, tensor: torch.Tensor) -> float:
    if name.endswith("gaussian_matrix"):
        return float(np.sqrt(3.0))
    embedding = name.split(".")[-1] in _EMBEDDING_NAMES or ".point_embeddings." in name
    if embedding or name.endswith(("_token.weight", "_tokens.weight", "_embed.weight")):
        return 1.0
    if tensor.ndim >= 2:
        return float(np.sqrt(3.0 * tensor.shape[0] / tensor.numel()))
    if name.endswith(".gamma"):
        return 0.3
    return 0.1
