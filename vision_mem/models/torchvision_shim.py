"""Make ``import torchvision`` work beside a torch without CUDA.

PyPI's torchvision wheel is built against CUDA. Beside a CPU-only torch its compiled operators do
not load, and its Python code then stops at ``operator torchvision::nms does not exist`` while it
registers shape rules for them. SAM 2 only wants torchvision's image transforms, which need no
compiled operator. Declaring the two operators' schemas (nothing that could run) lets the import
finish; calling ``torchvision.ops.nms`` still fails, as it must.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_SCHEMAS = ("nms", "qnms")
_declared: list[Any] = []  # torch forgets a library's schemas when the library object dies


def ensure_torchvision() -> None:
    """Import torchvision, with declared schemas if and only if it fails without them.

    Raises:
        ImportError: when torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        _declare()
        importlib.import_module("torchvision")


def _declare() -> None:
    import torch

    if _declared:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in _SCHEMAS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
