"""Where networks compute: the device, the precision that suits it, and the threads of a CPU.

Commands import this before they know whether they will need torch, which takes seconds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vision_mem.errors import InputError
from vision_mem.text import shown

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> torch.device:
    """Turn ``auto`` or a device's name into a device that is there.

    Raises:
        InputError: for a name torch does not know or a device this machine lacks.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    wrong = InputError(f"no device {shown(device)}; expected auto, cpu, cuda, cuda:1 or mps")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise wrong from None
    if place.type not in ("cpu", "cuda", "mps"):
        raise wrong
    missing = (place.type == "cuda" and not torch.cuda.is_available()) or (
        place.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise InputError(f"device {device} is not available here; give --device cpu, or auto")
    return place


def choose_precision(precision: str, device: torch.device) -> str:
    """Turn ``auto`` into what suits a device.

    Raises:
        InputError: for unknown names.
    """
    import torch

    if precision == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if precision not in ("fp32", "bf16", "fp16"):
        raise InputError(f"precision is {precision!r}; expected auto, fp32, bf16 or fp16")
    return precision


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int | None = None) -> int:
    """Set how many threads networks and image operations use on the CPU, for the process.

    A network's threads wait for each other at every layer. When decoding or another program
    holds one of their cores, all of them stand still: with one thread too many, a frame was
    seen to take forty times as long. The default leaves a core to decoding and writing.

    Args:
        count: threads, at least 1; None takes all cores this process may use but one.

    Returns:
        The number set.
    """
    import cv2
    import torch

    count = max(1, cores() - 1) if count is None else count
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    return count
