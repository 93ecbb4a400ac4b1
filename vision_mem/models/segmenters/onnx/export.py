"""Write a segmenter as graphs, one a seam, and try each of them beside torch."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vision_mem._version import __version__
from vision_mem.errors import InputError, ModelError, SinkError
from vision_mem.models.onnx_runtime import open_graph
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.models.segmenters.load import load_segmenter
from vision_mem.models.segmenters.onnx.embedded import embedded_seams
from vision_mem.models.segmenters.onnx.graphs import MANIFEST, ExportManifest, Seam, SeamRecord
from vision_mem.models.segmenters.onnx.sam2 import sam2_seams
from vision_mem.models.segmenters.onnx.transformers import transformers_seams
from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter
from vision_mem.models.segmenters.transformers import TransformersSegmenter
from vision_mem.text import short

log = logging.getLogger(__name__)

OPSET = 17


def export_onnx(model: str, out: Path, *, config: str | None = None) -> ExportManifest:
    """Write a model as graphs with a manifest.

    Args:
        model: as ``load_segmenter`` takes it.
        out: folder; the manifest is written last, so that a folder with one is whole.
        config: of a checkpoint whose name does not tell it.

    Returns:
        What was written.

    Raises:
        InputError: for a model that has no graphs, and packages that are not installed.
        ModelError: for weights that are missing or damaged, and graphs that are not equal.
        SinkError: when it cannot be written.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"--format onnx needs {' and '.join(missing)}; run: pip install 'vision-mem[onnx]'"
        )
    return write_graphs(
        load_segmenter(model, config=config, device="cpu", precision="fp32"), model, out
    )


def write_graphs(segmenter: Any, model: str, out: Path) -> ExportManifest:
    """Write a segmenter that runs in torch, on the CPU and in fp32; otherwise as ``export_onnx``.

    Args:
        segmenter: the embedded one, SAM 2, or one of transformers.
        model: what it is called in messages and the manifest.
        out: folder.
    """
    kind, constants, seams = _cut(segmenter, model)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MANIFEST).unlink(missing_ok=True)
        records = {seam.name: _write(seam, out) for seam in seams}
        versions = {"vision-mem": __version__, "opset": str(OPSET)}
        versions |= {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
        manifest = ExportManifest(
            kind, model, segmenter.traits.model_id, constants, records, versions
        )
        text = json.dumps(manifest.record(), indent=2)
        (out / MANIFEST).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{out} cannot be written: {error.strerror or error}") from error
    return manifest


def _cut(segmenter: Any, model: str) -> tuple[str, dict[str, Any], list[Seam]]:
    """Its kind, what code between the seams must know, and the seams."""
    if isinstance(segmenter, EmbeddedSegmenter):
        return "embedded", *embedded_seams(segmenter)
    if isinstance(segmenter, Sam2Segmenter):
        return "sam2", *sam2_seams(segmenter, short(model))
    if isinstance(segmenter, TransformersSegmenter):
        return "transformers", *transformers_seams(segmenter, short(model))
    raise InputError(
        f"model {short(model)} cannot be exported; expected embedded, a SAM 2 name or checkpoint, "
        "or a folder or id with SAM 2, EdgeTAM or SAM 3 of transformers"
    )


def _write(seam: Seam, out: Path) -> SeamRecord:
    """Trace one seam, write it, and compare it with torch on the inputs it was traced with."""
    values, buffer = tuple(seam.inputs.values()), io.BytesIO()
    module = seam.module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        # Of tracing (sizes that are fixed here become constants), and of its exporter's age.
        warnings.simplefilter("ignore")
        wanted = module(*values)
        torch.onnx.export(
            module, values, cast(Any, buffer), dynamo=False, opset_version=OPSET,
            input_names=list(seam.inputs), output_names=list(seam.outputs),
            dynamic_axes={name: dict(axes) for name, axes in seam.axes.items()},
        )  # fmt: skip
    wanted = (wanted,) if isinstance(wanted, Tensor) else tuple(wanted)
    content, place = buffer.getvalue(), out / f"{seam.name}.onnx"
    session = open_graph(place, "cpu", "exported models", content=content, threads=1)
    found = session.run(None, {name: value.numpy() for name, value in seam.inputs.items()})
    difference = {}
    for name, one, other in zip(seam.outputs, found, wanted, strict=True):
        if one.shape != tuple(other.shape):
            raise ModelError(f"graph {seam.name} gives {name} of another shape than torch does")
        apart = (torch.from_numpy(one).double() - other.double()).abs()
        difference[name] = float(apart.max()) if apart.numel() else 0.0
    place.write_bytes(content)
    log.info("wrote %s, %d bytes", place, len(content))
    outputs = dict(zip(seam.outputs, wanted, strict=True))
    inputs, made = (
        {name: _described(value, seam.axes.get(name, {})) for name, value in some.items()}
        for some in (seam.inputs, outputs)
    )
    digest = hashlib.sha256(content).hexdigest()
    return SeamRecord(place.name, digest, len(content), seam.about, inputs, made, difference)


def _described(value: Tensor, axes: Mapping[int, str]) -> dict[str, Any]:
    shape = [axes.get(n, size) for n, size in enumerate(value.shape)]
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": shape}
