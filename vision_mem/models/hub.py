"""The transformers library and the repositories of Hugging Face, as all that need them use them.

Weights are read from safetensors files only, and code that comes with weights is never run.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass, urlopen

from vision_mem.errors import MissingExtra, ModelError
from vision_mem.models.torchvision_shim import ensure_torchvision

log = logging.getLogger(__name__)

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""For ``from_pretrained``: nothing is fetched by the way, nothing that came along is run."""
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_REACH_S = 0.9
"""How long Hugging Face may take to be reached; another number is taken from ``_SLOWER``."""
_ANSWER_S = 5.0
_SLOWER = "HF_HUB_ETAG_TIMEOUT"
_ID = re.compile(r"(?!.*(--|\.\.))\w[\w.-]{0,95}(/\w[\w.-]{0,95})?(?<![.-])(@[\w./-]+)?")

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


DETECTORS = {
    "dfine": "ustc-community/dfine-small-coco",
    "rtdetr": "PekingU/rtdetr_r18vd",
    "rtdetrv2": "PekingU/rtdetr_v2_r18vd",
    "grounding-dino": "IDEA-Research/grounding-dino-tiny",
    "owlv2": "google/owlv2-base-patch16-ensemble",
    "sam3": "facebook/sam3",
}
"""Short names of detectors for their repositories; their weights are Apache-2.0, those of SAM 3
under its own licence, which has to be accepted there."""


SEGMENTERS = ("facebook/sam3", "yonigozlan/EdgeTAM-hf", "facebook/sam2.1-hiera-tiny")
"""Repositories of segmenters in the format of transformers."""


class Published(NamedTuple):
    """A checkpoint published by SAM 2's authors: its configuration and its web address."""

    config: str
    url: str

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]

    @property
    def instead(self) -> str:
        """How a copied one is named."""
        return f": --model /path/to/{self.file}"


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


def has_transformers() -> bool:
    """Whether the library is installed; it is not loaded."""
    return find_spec("transformers") is not None


def check_fetchable(
    name: str, instead: str = "", known: Iterable[str] = (), url: str | None = None
) -> None:
    """Refuse a repository that is not on this machine, and nowhere else as far as can be seen.

    It takes a second or two at most, and loads nothing: for the moment after typing.

    Args:
        name: as ``revisions_of``.
        instead: what to do with a copied folder, for the message.
        known: names of repositories, one of which may have been meant.
        url: of the one file that is wanted; None for a whole repository.

    Raises:
        ModelError: naming those that are spelled much like it.
    """
    repository = name.partition("@")[0]
    if _ID.fullmatch(name) is None:
        raise ModelError(
            f"{name!r} is no id of a repository on Hugging Face; expected owner/name, of letters, "
            f"digits, - _ and .{_meant(repository, known)}"
        )
    if repository in _on_this_machine():
        return
    if (why := unreachable()) is not None:
        raise ModelError(no_network(name, why, instead, known, url))
    if url is None and _is_missing(repository):
        raise ModelError(f"{_MISSING.format(repository)}{_meant(repository, known)}")


def fetched(name: str, instead: str, known: Iterable[str] = ()) -> Path:
    """The folder of a repository on Hugging Face, from this machine if it is there already.

    Args:
        name: as ``revisions_of``.
        instead: what to do with a copied folder, for the message.
        known: names of repositories, one of which may have been meant.

    Raises:
        ModelError: when it is not here and cannot be fetched.
    """
    check_fetchable(name, instead, known)
    from huggingface_hub import HfApi, snapshot_download

    whole = name
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
    if (why := unreachable()) is not None:  # a part of it is here
        raise ModelError(no_network(whole, why, instead, known))
    revision = revisions[0]
    try:
        # One quick question first: a download without network tries again for half a minute.
        HfApi().model_info(name, revision=revision, timeout=_ANSWER_S)
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:  # the hub raises dozens of unrelated kinds
        log.debug("download failed", exc_info=True)
        if (said := _refused(whole, error)) is not None:
            raise ModelError(f"{said}{_meant(name, known)}") from error
        raise ModelError(no_network(whole, type(error).__name__, instead, known)) from error


def _refused(name: str, error: Exception) -> str | None:
    """What Hugging Face says of a repository; None for other errors."""
    repository, _, revision = name.partition("@")
    page = f"https://huggingface.co/{repository}"
    kinds = {each.__name__ for each in type(error).__mro__}
    if "GatedRepoError" in kinds:
        return f"{repository} asks for consent: agree on {page}, then run hf auth login"
    if "RevisionNotFoundError" in kinds:
        return f"{repository} has no revision {revision or _NEWEST}; expected one of {page}"
    if "RepositoryNotFoundError" in kinds:
        return _MISSING.format(repository)
    return None


_MISSING = "there is no {} on Hugging Face, or it is private (then: hf auth login)"


def _is_missing(repository: str) -> bool:
    """Whether Hugging Face says that it has no such repository, for all to see.

    False where it does not say so soon, and for people who are logged in, who may see more than
    all: loading asks again.
    """
    from huggingface_hub import constants

    if "HF_TOKEN" in os.environ or Path(constants.HF_TOKEN_PATH).exists():
        return False
    try:
        with urlopen(f"{constants.ENDPOINT}/api/models/{repository}", timeout=_REACH_S):
            return False
    except HTTPError as error:
        with error:
            return error.code in (401, 404)
    except (OSError, ValueError):
        return False


def no_network(
    name: str, why: str, instead: str, known: Iterable[str] = (), url: str | None = None
) -> str:
    """The line that says what to do without; arguments as ``check_fetchable``."""
    repository = name.partition("@")[0]
    files = url or (
        f"the .json, .txt and .safetensors files of https://huggingface.co/{repository} into a "
        "folder"
    )
    return (
        f"{name} is not on this machine and could not be fetched from Hugging Face ({why})"
        f"{_meant(repository, known)}; where there is network, download {files}, copy it here and "
        f"give its path{instead}"
    )


def _meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean A, or B (on this machine)?``, of ids that are spelled much like it."""
    here = _on_this_machine()
    every = list(dict.fromkeys([*here, *known, *_PINNED]))
    if name in every:
        return ""
    spelled = {each.lower(): each for each in reversed(every)}
    ends = {each.lower().rpartition("/")[2]: each for each in reversed(every)}
    word = name.lower()
    close = [spelled[k] for k in difflib.get_close_matches(word, spelled, 3, 0.75)]
    close += [ends[k] for k in difflib.get_close_matches(word.rpartition("/")[2], ends, 2, 0.75)]
    if not close:
        return ""
    said = [f"{each} (on this machine)" if each in here else each for each in dict.fromkeys(close)]
    return f"; did you mean {', or '.join(said[:3])}?"


def _on_this_machine() -> list[str]:
    """Repositories of which something is in the cache of Hugging Face's library."""
    from huggingface_hub import constants  # all of it takes seconds, this does not

    try:
        found = sorted(each.name for each in Path(constants.HF_HUB_CACHE).glob("models--*--*"))
    except OSError:
        return []
    return [each.removeprefix("models--").replace("--", "/") for each in found]


def unreachable() -> str | None:
    """Why nothing can be fetched now; None where Hugging Face, or the proxy, can be reached.

    A download without network tries again for half a minute; this takes a second at most.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        limit = float(os.environ[_SLOWER])
    except (KeyError, ValueError):
        limit = _REACH_S
    port = address.port or {"http": 80, "https": 443}.get(address.scheme, 1080)
    reached: list[bool] = []

    def reach() -> None:
        try:
            socket.create_connection((address.hostname or "", port), limit).close()
            reached.append(True)
        except OSError:
            reached.append(False)

    # A thread, for looking up a name cannot be cut off.
    looking = threading.Thread(target=reach, daemon=True)
    looking.start()
    looking.join(limit)
    if not reached:
        return f"no answer within {limit:g} s; where the network is slow, set {_SLOWER}=10"
    return None if reached[0] else f"{address.hostname} cannot be reached"


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


def not_loaded(name: str, kind: str, files: str, error: Exception) -> ModelError:
    """The line for a folder that transformers cannot load.

    Args:
        name: of the model, as given.
        kind: what it was to be, as ``a segmenter``.
        files: what is expected in the folder.
        error: what the library raised: a damaged or hostile file can provoke any kind.
    """
    log.debug("loading failed", exc_info=True)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if "ignore_mismatched_sizes" in reason:
        reason = "its weights have other shapes than its config.json says"
    return ModelError(
        f"{name} cannot be loaded as {kind}: {reason}; expected {files}; download it again"
    )


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
