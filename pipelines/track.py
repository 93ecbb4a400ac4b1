"""Follow objects through a video, image folder, camera or stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.formats.prompts import HOW, describe, plan_prompts
from vision_mem.models import load_segmenter, use_threads
from vision_mem.runs.folder import SESSION, RunFolder, default_folder
from vision_mem.runs.tally import Tally
from vision_mem.session import FrameSource
from vision_mem.sinks.registry import make_sinks
from vision_mem.sources.open import open_source
from vision_mem.sources.selection import is_url, without_password

from .follow import Prompted, Shifted, check_frames, follow, nothing_left
from .options import (
    Attention,
    Changes,
    Compile,
    Decoder,
    Device,
    Drop,
    End,
    MaxFrames,
    ModelConfig,
    Overwrite,
    Precision,
    Quiet,
    ResultsFolder,
    Resume,
    SegmenterName,
    Show,
    SnapshotEvery,
    Source,
    Start,
    Strict,
    Stride,
    take_options,
)


@dataclass(frozen=True)
class TrackOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    box: Sequence[str] = ()
    point: Sequence[str] = ()
    not_point: Sequence[str] = ()
    mask: Sequence[str] = ()
    init: str | None = None
    preset: str = "samurai"
    set: Sequence[str] = ()
    model: str = "embedded"
    model_config: str | None = None
    precision: str = "auto"
    attention: str = "exact"
    resize: str = "pil_bicubic"
    decoder: str = "auto"
    save: str = "video,lasot,diary"
    start: int = 0
    stride: int = 1
    strict: bool = False


def main(
    source: Source,
    box: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]x,y,w,h[@FRAME]: left, top, width, height in pixels."),
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="[NAME=]x,y[@FRAME]: a point on the object.")
    ] = None,
    not_point: Annotated[
        list[str] | None, typer.Option(help="[NAME=]x,y[@FRAME]: a point off the object.")
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option(help="[NAME=]FILE.png[@FRAME]: each value an object.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="File: first line x,y,w,h; or JSON prompts.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="samurai (default), sam2, dam4sam, samurai-official, none, or a .yaml."),
    ] = None,
    set_: Changes = None,
    model: SegmenterName = None,
    model_config: ModelConfig = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="For the network on a CPU; all cores but one if unset."),
    ] = None,
    precision: Precision = None,
    attention: Attention = None,
    compile_: Compile = False,
    resize: Annotated[
        str | None, typer.Option(help="Frames to SAM 2's size: pil_bicubic (default), decord, cv2.")
    ] = None,
    decoder: Decoder = None,
    out: ResultsFolder = None,
    save: Annotated[
        str | None,
        typer.Option(help="Of video,lasot,otb,got10k,mot,rle,png,diary [video,lasot,diary]."),
    ] = None,
    show: Show = False,
    start: Start = None,
    end: End = None,
    stride: Stride = None,
    max_frames: MaxFrames = None,
    drop: Drop = "latest",
    strict: Strict = None,
    snapshot_every: SnapshotEvery = 300,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> int:
    """Follow objects through a video, image folder, camera or network stream.

    Say what to follow with --box, --point, --mask or --init; each may be given several times.
    Prompts of one name belong to one object. Memory does not grow, however long the stream is.
    """
    given = dict(locals(), set=set_)
    # torch takes seconds to import; help and misspelled options should not wait for it.
    from vision_mem.tracking import TrackingConfig, TrackingSession

    folder = RunFolder(out or default_folder(source), overwrite=overwrite, resume=resume)
    options = take_options(TrackOptions, given, folder.recorded("options") if resume else None)
    done = Tally(**folder.progress()) if resume else Tally()
    plan = plan_prompts(
        boxes=options.box, points=options.point, not_points=options.not_point,
        masks=options.mask, init=options.init,
    )  # fmt: skip
    if not plan:
        raise InputError(HOW)
    if snapshot_every < 0:
        raise InputError(f"--snapshot-every is {snapshot_every}; expected 0 or more")
    config = load_config(TrackingConfig, options.preset, options.set, folder="tracking")
    first = done.last_index + options.stride if done.frames else options.start
    left = None if max_frames is None else max_frames - done.frames
    if (left is not None and left <= 0) or (end is not None and done.frames and end <= first):
        return nothing_left(folder, done.frames)

    with ExitStack() as stack:

        def open_frames(model_size: int | None = None) -> FrameSource:
            live = source.isdecimal() or is_url(source)
            opened = open_source(
                source, start=0 if live and resume else first, end=end, stride=options.stride,
                max_frames=left, strict=options.strict, drop=drop, decoder=options.decoder,
                resize=None if model_size is None else ("decord", model_size),
            )  # fmt: skip
            stack.callback(opened.close)
            return Shifted(opened, first) if resume and opened.info.live else opened

        try:
            frames = open_frames()  # before the model: a missing file is said at once
        except InputError:
            if not resume or folder.recorded("status") != "finished":
                raise
            return nothing_left(folder, done.frames)
        check_frames(plan, frames.info, first, options.stride, resumed=resume)
        use_threads(threads)
        segmenter = load_segmenter(
            options.model, config=options.model_config, device=device,
            precision=options.precision, compile=compile_, resize=options.resize,
            attention=options.attention,
        )  # fmt: skip
        if options.resize == "decord" and segmenter.traits.image_size is not None:
            frames.close()
            frames = open_frames(segmenter.traits.image_size)
        if resume and folder.snapshot is not None:
            session = TrackingSession.resume(folder.snapshot / SESSION, segmenter)
        else:
            session = TrackingSession(segmenter, config)
        names = [name.strip() for name in options.save.split(",") if name.strip()]
        sinks = make_sinks(
            folder.path, [*names, "window"] if show else names, frames.info, append=resume,
            convention="true" if config.inclusive_box else "samurai",
        )  # fmt: skip
        folder.begin()
        folder.record(
            source=without_password(source) if is_url(source) else source,
            model=segmenter.traits.model_id, device=str(segmenter.device), config=asdict(config),
            options=asdict(options), snapshot_every=snapshot_every,
        )  # fmt: skip
        prompts = [
            describe(prompt) | {"frame": "first" if frame < 0 else frame}
            for frame, some in sorted(plan.by_frame.items()) for prompt in some
        ]  # fmt: skip
        prompted = Prompted(session, plan, done.last_index if done.frames else None)
        code = follow(
            frames, prompted, sinks, folder, done, snapshot_every,
            remarks={"prompts": prompts}, quiet=quiet,
        )  # fmt: skip
    if not done.objects and folder.recorded("status") == "finished":
        raise InputError(
            f"nothing was followed: the source ended after frame {done.last_index}, before the "
            f"first prompt (frame {min(plan.by_frame)})"
        )
    return code
