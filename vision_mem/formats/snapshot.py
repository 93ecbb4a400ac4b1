"""A session's state as one file that holds data and nothing that could run.

The file is a safetensors file. Its header carries a JSON tree in which each tensor is replaced by
its name; tensors that share memory are stored once and share memory again when they are read.
Floats keep every bit: JSON text of Python floats reads back to the same number.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vision_mem.errors import ModelError, NotThere
from vision_mem.formats.text import write_file
from vision_mem.text import parse_json

FORMAT = "vision-mem-snapshot"
VERSION = 1
_TENSOR = "__tensor__"
_DEEPEST = 50


def save_snapshot(path: str | Path, state: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Write a state so that a crash leaves the old file or the new one, never half of one.

    Args:
        path: file to write; its folder must exist.
        state: nested dicts and lists of tensors, numbers, strings, booleans and None.
        header: plain values that say what the state belongs to.

    Raises:
        SinkError: when the file cannot be written.
    """
    write_file(Path(path), pack_state(state, header))


def pack_state(state: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> bytes:
    """A state as the bytes of such a file; arguments as ``save_snapshot``."""
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    tree = _take_out(state, tensors, {})
    note = {"format": FORMAT, "version": VERSION, "header": dict(header or {}), "state": tree}
    content: bytes = save(tensors, metadata={FORMAT: json.dumps(note)})
    return content


def unpack_state(content: bytes, where: str) -> dict[str, Any]:
    """The state that ``pack_state`` made the bytes of.

    Args:
        content: the bytes.
        where: what they were read from, for messages.

    Raises:
        ModelError: one line for bytes that are damaged or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        size = int.from_bytes(content[:8], "little")
        metadata = parse_json(content[8 : 8 + size], where, nan=True)["__metadata__"]
        return _read_note(metadata, load(content), where)[0]
    except (SafetensorError, *_DAMAGE) as error:
        raise _damaged(where) from error


def split_state(state: Mapping[str, Any]) -> tuple[bytes, tuple[torch.Tensor, ...]]:
    """A state in little memory: its plain values as packed text, its tensors themselves.

    A nested state of a few hundred small values takes ten times the bytes of its text.

    Args:
        state: as ``save_snapshot``; its tensors are kept, not copied.

    Returns:
        What ``join_state`` makes the state of again.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _take_out(state, tensors, {}, copy=False)
    return zlib.compress(json.dumps(tree).encode(), 1), tuple(tensors.values())


def join_state(plain: bytes, tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The state that ``split_state`` took apart."""
    named = {f"t{number}": tensor for number, tensor in enumerate(tensors)}
    state: dict[str, Any] = _put_back(json.loads(zlib.decompress(plain)), named)
    return state


def load_snapshot(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what ``save_snapshot`` wrote.

    Args:
        path: the file.

    Returns:
        The state, tensors on the CPU, and the header.

    Raises:
        ModelError: one line for a file that is missing, cut off, or not a snapshot.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise NotThere(f"no snapshot file {path}; expected one written by a session's snapshot")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            if FORMAT not in metadata:
                raise ModelError(f"{path} is a safetensors file but no snapshot of a session")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return _read_note(metadata, tensors, f"snapshot {path}")
    except (SafetensorError, *_DAMAGE) as error:
        raise _damaged(f"snapshot {path}") from error


_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)


def _damaged(where: str) -> ModelError:
    return ModelError(
        f"{where} is damaged or not a snapshot; take a new one from a running session"
    )


def _read_note(
    metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    note = parse_json(metadata[FORMAT], where, nan=True)
    if not isinstance(note, dict) or note.get("format") != FORMAT:
        raise ModelError(f"{where} is damaged: its header is not ours")
    if note.get("version") != VERSION:
        raise ModelError(
            f"{where} has version {note.get('version')!r}; this program reads {VERSION}: use the "
            "program that wrote it"
        )
    state, header = _put_back(note["state"], tensors), note["header"]
    if not isinstance(state, dict) or not isinstance(header, dict):
        raise ModelError(f"{where} is damaged: it holds no state")
    return state, header


def _take_out(
    value: Any, tensors: dict[str, torch.Tensor], known: dict[Any, str], copy: bool = True
) -> Any:
    if isinstance(value, torch.Tensor):
        place = (value.untyped_storage().data_ptr(), value.storage_offset(), value.dtype)
        key = (place, tuple(value.shape), value.stride())
        if value.numel() == 0 or key not in known:
            known[key] = f"t{len(tensors)}"
            tensors[known[key]] = value.detach().cpu().contiguous().clone() if copy else value
        return {_TENSOR: known[key]}
    if isinstance(value, Mapping):
        return {str(name): _take_out(part, tensors, known, copy) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_out(part, tensors, known, copy) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state may not hold {type(value).__name__}")


def _put_back(node: Any, tensors: Mapping[str, torch.Tensor], depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(node, dict):
        if set(node) == {_TENSOR}:
            return tensors[node[_TENSOR]]
        return {name: _put_back(part, tensors, depth + 1) for name, part in node.items()}
    if isinstance(node, list):
        return [_put_back(part, tensors, depth + 1) for part in node]
    return node


def load_session(path: str | Path, kind: str, model_id: str) -> tuple[dict[str, Any], Any]:
    """Read the snapshot of a session of one kind, made with one model.

    Args:
        path: the file.
        kind: of the session, as its header says.
        model_id: of the model that is to go on.

    Returns:
        The state, and the settings in the header.

    Raises:
        ModelError: as ``load_snapshot``, or for a snapshot of another kind or model.
    """
    state, header = load_snapshot(path)
    if header.get("kind") != kind:
        raise ModelError(f"snapshot {path} is of a {header.get('kind')!r} session")
    if header.get("model_id") != model_id:
        raise ModelError(
            f"snapshot {path} was made with model {str(header.get('model_id'))[:80]!r} and "
            f"cannot continue on {model_id!r}; load that model"
        )
    return state, header.get("config")
