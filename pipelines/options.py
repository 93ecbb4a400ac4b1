"""Options that several commands have; of a run that is continued: what was given, or recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from vision_mem.errors import InputError

Source = Annotated[
    str, typer.Argument(help="Video file, folder of images, camera number, or address.")
]
SegmenterName = Annotated[
    str | None,
    typer.Option(help="embedded (default), facebook/sam2.1-hiera-tiny, ..., a checkpoint."),
]
ModelConfig = Annotated[
    str | None, typer.Option(help="Configuration of a checkpoint file, when not guessed.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: change a setting of the preset.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str | None, typer.Option(help="auto (default), fp32, bf16, fp16.")]
Attention = Annotated[
    str | None, typer.Option(help="SAM 2 in fp32: exact (default), or folded: fewer sums.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the image encoder.")]
Decoder = Annotated[
    str | None, typer.Option(help="Of video files: auto (default), pyav, decord, opencv.")
]
Intrinsics = Annotated[
    str | None, typer.Option(help="fx,fy,cx,cy, where the folder does not say them.")
]
DepthScale = Annotated[float | None, typer.Option(help="Metres of one unit of a depth map.")]
Start = Annotated[int | None, typer.Option(help="First frame, from 0.")]
End = Annotated[int | None, typer.Option(help="First frame no longer wanted.")]
Stride = Annotated[int | None, typer.Option(help="Every how many frames.")]
MaxFrames = Annotated[int | None, typer.Option(help="Frames in all, at most.")]
Drop = Annotated[str, typer.Option(help="Live sources: latest (only), or none.")]
Strict = Annotated[bool | None, typer.Option("--strict", help="Stop at a damaged frame.")]
ResultsFolder = Annotated[Path | None, typer.Option(help="Results folder [runs/NAME OF SOURCE].")]
DemoFolder = Annotated[Path, typer.Option(help="Folder for everything.")]
SnapshotEvery = Annotated[
    int, typer.Option(help="Frames between snapshots to resume from; 0 for none.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results in --out.")]
Show = Annotated[bool, typer.Option(help="Show a window; q stops.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]

Options = TypeVar("Options")


def take_options(
    kind: type[Options], given: Mapping[str, Any], recorded: Mapping[str, Any] | None
) -> Options:
    """The options of a run; it does not change its nature when it is continued.

    Args:
        kind: a dataclass with all defaults.
        given: values by name, None for what was not given; may hold other names too.
        recorded: of the run that is continued, None for a new one.

    Raises:
        InputError: for an option that is given another value than in the run to continue.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    chosen = {name: given[name] for name in known if given[name] is not None}
    if recorded is None:
        return kind(**chosen)
    for name, value in chosen.items():
        if name in recorded and recorded[name] != value:
            raise InputError(
                f"--{name.replace('_', '-')} is {value!r} but was {recorded[name]!r} in the run to "
                "continue; leave it out, or start anew with --overwrite"
            )
    return kind(**{name: recorded[name] for name in known if name in recorded})
