"""Write a model as graphs that run without its framework, with its memory as inputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from vision_mem.errors import InputError
from vision_mem.models.segmenters.load import check_model, exported_folder
from vision_mem.models.segmenters.onnx.graphs import MANIFEST

from .options import ModelConfig, Quiet

FORMATS = ("onnx",)


def main(
    model: Annotated[
        str, typer.Argument(help="embedded, facebook/sam2.1-hiera-tiny, ..., or a checkpoint.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the graphs [MODEL-onnx].")] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx (default).",
            show_default=False,
            autocompletion=lambda: list(FORMATS),
        ),
    ] = "onnx",
    model_config: ModelConfig = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the graphs in --out.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Write a segmenter as graphs, one a seam, with a manifest.

    What the model remembers is an input of the graphs, of any number of memories and objects.
    Give the folder to track, mots or studio as --model: the same policies run on it.
    """
    if kind not in FORMATS:
        raise InputError(f"no format {kind!r}; expected {', '.join(FORMATS)}")
    check_model(model)
    if exported_folder(model) is not None:
        raise InputError(f"{model} is exported already; expected a model to export")
    stem = re.sub(r"\.(pt|pth|safetensors)$", "", Path(model).name)
    place = out or Path(f"{stem.replace(':', '-').replace('@', '-')}-{kind}")
    if place.exists() and not place.is_dir():
        raise InputError(f"--out {place} is a file; expected a folder")
    if place.is_dir() and any(place.iterdir()):
        if not (place / MANIFEST).is_file():
            raise InputError(f"--out {place} holds other files; give an empty or a new folder")
        if not overwrite:
            raise InputError(f"{place} holds graphs already; give --overwrite, or another --out")
    # What typing alone shows has been said; torch takes seconds.
    from vision_mem.models.segmenters.onnx.export import export_onnx

    manifest = export_onnx(model, place, config=model_config)
    if quiet:
        return 0
    for name, seam in manifest.seams.items():
        apart = max(seam.difference.values())
        print(f"{name:18} {seam.bytes / 1e6:8.2f} MB   {apart:.1e} from torch at most")
    size = sum(seam.bytes for seam in manifest.seams.values())
    print(f"{manifest.model_id}: {len(manifest.seams)} graphs, {size / 1e6:.1f} MB")
    print(f"use it: vision-mem track SOURCE --box x,y,w,h --model {place}")
    return 0
