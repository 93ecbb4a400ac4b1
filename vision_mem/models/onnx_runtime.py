"""ONNX Runtime: how graphs are opened, for detectors and segmenters alike."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

from vision_mem.errors import MissingExtra, ModelError
from vision_mem.models.device import choose_device
from vision_mem.text import short

log = logging.getLogger(__name__)


def open_graph(
    place: Path, device: str, need: str, *, content: bytes | None = None, threads: int | None = None
) -> Any:
    """A session of the runtime on a graph.

    Args:
        place: the file; the name of it where ``content`` is given.
        device: ``auto``, or a torch device: CUDA is used where this ONNX Runtime has it.
        need: who needs the runtime, in the plural, for the message when it is not installed.
        content: the file's bytes, where they were read already.
        threads: of one call; None leaves that to the runtime.

    Raises:
        MissingExtra: when ONNX Runtime is not installed.
        ModelError: for what is damaged, or cannot be opened, and a device that it does not have.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra(
            f"{need} need ONNX Runtime; run: pip install 'vision-mem[onnx]'"
        ) from None
    providers = ["CPUExecutionProvider"]
    if choose_device(device).type == "cuda":
        if "CUDAExecutionProvider" in runtime.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        elif device != "auto":
            raise ModelError(
                f"this ONNX Runtime has no CUDA, which --device {device} asks for; install "
                "onnxruntime-gpu, or leave --device out"
            )
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said in our line
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Between two calls its threads would keep cores busy that decoding and drawing want.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        model = str(place) if content is None else content
        return runtime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime has a kind of its own for each
        log.debug("loading failed", exc_info=True)
        if "protobuf" in str(error).lower():
            raise ModelError(
                f"{place} is damaged or no ONNX file; export it anew, or copy it again"
            ) from error
        raise ModelError(f"{place} cannot be opened by ONNX Runtime: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """What the runtime says, without its codes."""
    said = " ".join(str(error).split())
    return short(said.rpartition("] : ")[2].partition(" : ")[2] or said, 200)
