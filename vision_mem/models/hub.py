"""The transformers library and the repositories of Hugging Face, as all that need them use them.

Weights are read from safetensors files only, and code that comes with weights is never run.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vision_mem.errors import MissingExtra, ModelError
from vision_mem.models.torchvision_shim import ensure_torchvision

log = logging.getLogger(__name__)

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""For ``from_pretrained``: nothing is fetched by the way, nothing that came along is run."""
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_REACH_S = 5.0


_PINNED = {
    "IDEA-Research/grounding-dino-tiny": "a2bb814dd30d776dcf7e30523b00659f4f141c71",
    "Qwen/Qwen2-VL-2B-Instruct": "895c3a49bc3fa70a340399125c650a463535e71c",
    "Qwen/Qwen2-VL-7B-Instruct": "eed13092ef92e448dd6875b2a00151bd3f7db0ac",
    "Qwen/Qwen2.5-VL-3B-Instruct": "66285546d2b821cf421d4f5eb2576359d3770cd3",
    "Qwen/Qwen2.5-VL-7B-Instruct": "cc594898137f460bfe9f0759e9844b3ce807cfb5",
    "Qwen/Qwen3-VL-2B-Instruct": "89644892e4d85e24eaac8bacfd4f463576704203",
    "Qwen/Qwen3-VL-4B-Instruct": "ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "Qwen/Qwen3-VL-8B-Instruct": "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    "facebook/sam2.1-hiera-large": "665f8e2ad61cf5f53d65644ff27c8ee525124610",
    "facebook/sam2.1-hiera-tiny": "de431c4043854a71d8101e17995dfe596bf101a5",
    "google/owlv2-base-patch16-ensemble": "cfd3195ba4ea9592eec887ded089f4c08eff231d",
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": "0d50680527681998e456c7b78950205bedd8a068",
}
"""Repositories to the commit that is fetched when none is named: those on which the public records
of several independent users agree. Of all others it is the newest one."""
_NEWEST = "main"


class Published(NamedTuple):
    """A checkpoint published by SAM 2's authors: its configuration and its web address."""

    config: str
    url: str

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]


_PLACE = "https://dl.fbaipublicfiles.com/segment_anything_2"
_SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
PUBLISHED = {
    f"{version}-hiera-{size}": Published(
        f"{version}_hiera_{letter}", f"{_PLACE}/{day}/{version}_hiera_{size.replace('-', '_')}.pt"
    )
    for version, day in (("sam2.1", "092824"), ("sam2", "072824"))
    for size, letter in _SIZES.items()
}
"""Names (without ``facebook/``) of the checkpoints that can be fetched from Hugging Face."""


def transformers_library(who: str, extra: str) -> Any:
    """The library, imported; it takes seconds.

    Args:
        who: needs it, for the message: ``video models``.
        extra: of this package that brings it.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        ensure_torchvision()  # else the library finds half a torchvision and stops
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra(
            f"{who} need the transformers library ({error.name or error}); run: pip "
            f'install "vision-mem[{extra}]"'
        ) from error


def fetched(name: str, instead: str) -> Path:
    """The folder of a repository on Hugging Face, from this machine if it is there already.

    Args:
        name: as ``revisions_of``.
        instead: what to do with a copied folder, for the message.

    Raises:
        ModelError: when it is not here and cannot be fetched.
    """
    from huggingface_hub import HfApi, snapshot_download

    name, *revisions = revisions_of(name)
    for revision in revisions:
        try:
            place = Path(
                snapshot_download(
                    name, local_files_only=True, revision=revision, allow_patterns=_WANTED
                )
            )
            if (place / "config.json").is_file() and weight_files(place):
                return place
        except Exception:  # not here, or an id that cannot be
            log.debug("%s@%s is not on this machine", name, revision, exc_info=True)
    revision = revisions[0]
    try:
        # One quick question first: a download without network tries again for half a minute.
        HfApi().model_info(name, revision=revision, timeout=_REACH_S)
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:  # the hub raises dozens of unrelated kinds
        log.debug("download failed", exc_info=True)
        raise ModelError(
            f"{name} is not on this machine and could not be fetched from Hugging Face "
            f"({type(error).__name__}); where there is network, download the .json, .txt and "
            f".safetensors files of https://huggingface.co/{name} into a folder, copy it here and "
            f"give its path{instead}"
        ) from error


def revisions_of(name: str) -> tuple[str, ...]:
    """A repository and its revisions (commits, tags or branches), the first one to be fetched.

    Args:
        name: ``owner/name``, or ``owner/name@revision``.

    Returns:
        The repository and what was named; else what is pinned, and the newest, which may be here
        already.
    """
    repository, _, revision = name.partition("@")
    if revision:
        return repository, revision
    pinned = _PINNED.get(repository)
    return (repository, _NEWEST) if pinned is None else (repository, pinned, _NEWEST)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by name."""
    return sorted(folder.glob("*.safetensors"))


def check_complete(notes: Mapping[str, Any], name: str) -> None:
    """Refuse a network that lacks weights; the library would fill them with random numbers.

    Args:
        notes: what ``from_pretrained(..., output_loading_info=True)`` says beside the network.
        name: of the model, for the message.

    Raises:
        ModelError: when some are missing.
    """
    missing = sorted(notes.get("missing_keys") or ())
    if missing:
        raise ModelError(
            f"{name} lacks {len(missing)} of its network's weights (first: {missing[0]}); "
            "download it again"
        )


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """No progress bars, and no tables of what does not fit: that becomes one line of ours."""
    words = library.utils.logging
    shown, level = words.is_progress_bar_enabled(), words.get_verbosity()
    words.disable_progress_bar()
    words.set_verbosity(words.CRITICAL)
    try:
        yield
    finally:
        words.set_verbosity(level)
        if shown:
            words.enable_progress_bar()
