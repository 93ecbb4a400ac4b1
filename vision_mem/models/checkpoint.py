"""Files of weights, read as if a stranger had made them, and networks filled from them.

Only tensors are read, nothing stored in a file is ever run, and each failure is one line.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vision_mem.errors import DamagedFileError, ModelError
from vision_mem.text import shown

RANDOM_SEED = 20241118


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint, and nothing else; nothing stored in it is ever run.

    Args:
        path: a ``.safetensors`` file, or what ``torch.save`` wrote: the tensors by name, or the
            same under the key ``model`` or ``state_dict``, as training leaves them too.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ModelError: one line for a file that is missing, empty, damaged, hostile or of another
            kind.
    """
    content, _ = read_content(path)
    return named_tensors(content, path)


def read_content(
    path: Path, *, allowed: Sequence[type] = (), advice: str = "", mapped: bool = False
) -> tuple[Any, dict[str, str]]:
    """What a checkpoint holds, whatever that is; nothing stored in it is ever run.

    Args:
        path: as ``read_checkpoint``.
        allowed: classes beside tensors and plain values that may be made.
        advice: what to do with a file that holds other objects.
        mapped: tensors read their numbers from the file when they are used.

    Returns:
        What was saved, and the notes in the header of a ``.safetensors`` file.

    Raises:
        ModelError: as ``read_checkpoint``.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped), {}
    except Exception as error:  # a hostile file can provoke any kind
        text = " ".join(str(error).split())
        if "Weights only load failed" in text or "Unsupported" in text:
            advice = advice or "Ask its author for a .safetensors file"
            raise ModelError(
                f"checkpoint {path} holds objects or code beside tensors and was not opened; "
                f"expected tensors only. {advice}"
            ) from error
        raise ModelError(
            f"checkpoint {path} is damaged ({text[:80]}); download it again"
        ) from error


def check_file(path: Path) -> None:
    """Refuse what is no checkpoint by its first and last bytes.

    Raises:
        DamagedFileError: one line for a file that is missing, empty, cut off or of another kind.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "missing"
        raise DamagedFileError(
            f"checkpoint {path} is {what}; expected a .pt, .pth or .safetensors file"
        )
    if path.stat().st_size == 0:
        raise DamagedFileError(f"checkpoint {path} is empty; download it again")
    if path.suffix == ".safetensors":
        return
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise DamagedFileError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if start[:2] != b"PK" and start[:1] != b"\x80":
        begin = shown(start.decode("latin-1"))
        raise DamagedFileError(
            f"checkpoint {path} is not a torch file (it begins with {begin}); expected what "
            "torch.save writes. A web page saved by mistake looks like this"
        )
    try:
        cut = start[:2] == b"PK" and not zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it raises that itself on some damaged files
        cut = True
    if cut:
        raise DamagedFileError(f"checkpoint {path} is cut off; download it again")


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"checkpoint {path} is not a whole safetensors file; download it again"
        ) from error


def named_tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name of what a checkpoint holds, or of what lies under one of ``_KEYS`` in it.

    What parallel training and compiling put before every name is taken off.

    Raises:
        ModelError: when it holds none, or more than tensors.
    """
    for key in (*_KEYS, *_KEYS):  # one may lie in another
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"checkpoint {path} holds no tensors by name; expected a state dict")
    bad = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if bad:
        raise ModelError(
            f"checkpoint {path} holds more than tensors (first: {str(bad[0])[:60]!r}); expected "
            "a state dict, or one under the key 'model' or 'state_dict'"
        )
    named = {str(name): value for name, value in content.items()}
    while word := next((w for w in _WRAPPERS if all(name.startswith(w) for name in named)), ""):
        named = {name.removeprefix(word): value for name, value in named.items()}
    return named


_KEYS = ("model", "state_dict", "model_state_dict")
_WRAPPERS = ("module.", "_orig_mod.")


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
        faults = {"missing": missing, "unexpected": extra, "of another shape": shapes}
        found = ", ".join(f"{len(some)} {what}{few(some)}" for what, some in faults.items())
        raise ModelError(
            f"checkpoint {where} is of another architecture than configuration {config}: "
            f"{found}; give the configuration it was made with"
        )
    network.load_state_dict(dict(state))


def few(names: Sequence[str]) -> str:
    """The first two of some names in brackets, for messages; nothing for none."""
    return f" ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})" if names else ""


def fingerprint(
    network: torch.nn.Module, names: Iterable[str] | None = None, *, whole: bool = False
) -> str:
    """Eight hexadecimal digits that change when any weight does.

    Args:
        network: any module.
        names: of the tensors that count; all of them when left out.
        whole: digest the bytes themselves instead of a checksum of each tensor; slower, and kept
            because snapshots of the learned reconstruction name their network so.
    """
    state = network.state_dict()
    digest = hashlib.blake2b(digest_size=4)
    for name in sorted(state if names is None else names):
        flat = state[name].detach().cpu().contiguous().view(-1)  # single numbers count too
        raw = flat.view(torch.uint8).numpy().data
        digest.update(name.encode())
        digest.update(raw if whole else zlib.crc32(raw).to_bytes(4, "little"))
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
    "no_mem_embed", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial", "maskmem_tpos_enc",
    "pos_embed", "pos_embed_window",
}  # fmt: skip


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
