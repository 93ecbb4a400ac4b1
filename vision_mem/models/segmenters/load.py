"""Segmenters by name; a network's code is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision_mem.models.segmenters.protocol import Segmenter


def load_segmenter(
    model: str = "embedded",
    *,
    config: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    resize: str = "pil_bicubic",
    attention: str = "exact",
) -> Segmenter:
    """Load a promptable video segmenter by name.

    Args:
        model: ``embedded`` (comes with the package, no download); a SAM 2 name as
            ``sam2.1-hiera-tiny`` or ``facebook/sam2.1-hiera-tiny``; ``nano``, a small network of
            SAM 2's shape, where its weights are installed; the path of a checkpoint of either
            (``.pt`` or ``.safetensors``); ``random:sam2.1_hiera_t@128`` for seeded random
            weights with an image side of 128, for tests and benchmarks.
        config: with a path: configuration name as ``sam2.1_hiera_t`` or ``nano``, or a YAML
            file; guessed when left out.
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), or a torch device.
        precision: ``auto`` (half where the device is built for it), ``fp32``, ``bf16``, ``fp16``.
        compile: compile SAM 2's image encoder; the first frame then takes long.
        resize: how frames are brought to SAM 2's square: ``pil_bicubic``, ``decord``, ``cv2``.
        attention: SAM 2's look into memories: ``exact``, equal to the reference to the bit, or
            ``folded``, faster on a CPU and equal within rounding.

    Returns:
        The segmenter. It holds weights only and serves any number of sessions.

    Raises:
        ModelError: for weights or configurations that are missing, damaged, hostile or of
            another model.
        InputError: for unknown option values.
    """
    if model == "embedded":
        from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter

        segmenter: Segmenter = EmbeddedSegmenter.load(device, precision)
        return segmenter
    from vision_mem.models.segmenters.sam2.load import load_sam2

    return load_sam2(
        model,
        config=config,
        device=device,
        precision=precision,
        compile_encoder=compile,
        resize=resize,
        attention=attention,
    )
