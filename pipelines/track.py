"""Follow objects through a video, image folder, camera or stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.formats.prompts import HOW, PromptPlan, describe, plan_prompts
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.segmenters.load import check_model
from vision_mem.runs.folder import SESSION, without_secret
from vision_mem.runs.tally import Tally
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.prompts import check_plan

from .options import (
    ALL_FRAMES,
    FOLLOW,
    AdvancedOptions,
    Audio,
    InputOptions,
    ModelOptions,
    OutputOptions,
    Source,
    flat,
    listed,
    open_folder,
    preset_option,
    remaining,
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
    audio: bool = False


@dataclass(frozen=True)
class TrackPrompts:
    """What to follow."""

    heading: ClassVar[str] = FOLLOW
    box: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]x,y,w,h[@FRAME]: left, top, width, height in pixels."),
    ] = None
    point: Annotated[
        list[str] | None, typer.Option(help="[NAME=]x,y[@FRAME]: a point on the object.")
    ] = None
    not_point: Annotated[
        list[str] | None, typer.Option(help="[NAME=]x,y[@FRAME]: a point off the object.")
    ] = None
    mask: Annotated[
        list[str] | None, typer.Option(help="[NAME=]FILE.png[@FRAME]: each value an object.")
    ] = None
    init: Annotated[
        str | None,
        typer.Option(
            help='File: first line x,y,w,h; or JSON [{"name": "cup", "frame": 0, "box": '
            "[x,y,w,h]}], with points, labels or mask."
        ),
    ] = None


@dataclass(frozen=True)
class TrackOutput(OutputOptions):
    """Its own results."""

    save: Annotated[
        str | None,
        typer.Option(help=f"Of video,lasot,otb,got10k,mot,rle,png,diary [{TrackOptions.save}]."),
    ] = None
    audio: Audio = None


@dataclass(frozen=True)
class TrackModel(ModelOptions):
    """Its own presets."""

    preset: Annotated[str | None, preset_option("tracking", "samurai")] = None


@dataclass(frozen=True)
class TrackAdvanced(AdvancedOptions):
    """With the way frames are brought to the network's size."""

    resize: Annotated[
        str | None, typer.Option(help="Frames to SAM 2's size: pil_bicubic (default), decord, cv2.")
    ] = None


def main(
    source: Source,
    prompts: TrackPrompts = TrackPrompts(),
    input: InputOptions = ALL_FRAMES,
    output: TrackOutput = TrackOutput(),
    model: TrackModel = TrackModel(),
    advanced: TrackAdvanced = TrackAdvanced(),
) -> int:
    """Follow objects through a video, image folder, camera or network stream.

    Say what to follow with --box, --point, --mask or --init; each may be given several times.
    Prompts of one name belong to one object. Memory does not grow, however long the stream is.
    """
    folder = open_folder("track", source, output, TrackOptions)
    before = folder.recorded("options") if output.resume else None
    options = take_options(TrackOptions, flat(prompts, input, output, model, advanced), before)
    done = Tally(**folder.progress()) if output.resume else Tally()
    plan = _planned(options)
    check_model(options.model)
    config = load_config(TrackingConfig, options.preset, options.set, folder="tracking")
    # What typing alone shows has been said; the parts of a run take a moment to load.
    from vision_mem.runs.loop import nothing_left, run_to_folder
    from vision_mem.sinks.registry import make_sinks

    rest = remaining(source, options, input, done, output.resume)

    with ExitStack() as stack:
        # Before the model: a missing file, a box outside, a misspelled output are said at once.
        if (frames := rest.open(stack, folder)) is None:
            return nothing_left(folder, done.frames)
        check_plan(
            plan, frames.info, rest.first, options.stride, resumed=output.resume,
            fixed=Path(source).is_file(),
        )  # fmt: skip
        names = [*listed(options.save), "window"] if output.show else listed(options.save)
        sinks = make_sinks(
            folder.path, names, frames.info, append=output.resume,
            convention="true" if config.inclusive_box else "samurai", frames=done.frames,
            source=source, audio=options.audio,
        )  # fmt: skip
        use_threads(model.threads)
        segmenter = load_segmenter(
            options.model, config=options.model_config, device=model.device,
            precision=options.precision, compile=advanced.compile, resize=options.resize,
            attention=options.attention,
        )  # fmt: skip
        if options.resize == "decord" and segmenter.traits.image_size is not None:
            frames.close()
            frames = rest.open(stack, folder, segmenter.traits.image_size) or frames
        # torch takes seconds to import; help and what typing alone shows should not wait for it.
        from vision_mem.tracking.session import PromptedSession, TrackingSession

        session = TrackingSession(segmenter, config)
        if output.resume and folder.snapshot is not None:
            session = TrackingSession.resume(folder.snapshot / SESSION, segmenter)
        folder.begin()
        folder.record(
            command="track", source=without_secret(source), model=segmenter.traits.model_id,
            device=str(segmenter.device), config=asdict(config), options=asdict(options),
            snapshot_every=advanced.snapshot_every,
        )  # fmt: skip
        code = run_to_folder(
            frames, PromptedSession(session, plan, done.last_index if done.frames else None),
            sinks, folder, done, advanced.snapshot_every, remarks={"prompts": _described(plan)},
            quiet=output.quiet,
        )  # fmt: skip
    if not done.objects and folder.recorded("status") == "finished":
        raise InputError(
            f"nothing was followed: the source ended after frame {done.last_index}, before the "
            f"first prompt (frame {min(plan.by_frame)})"
        )
    return code


def _planned(options: TrackOptions) -> PromptPlan:
    plan = plan_prompts(
        boxes=options.box, points=options.point, not_points=options.not_point,
        masks=options.mask, init=options.init,
    )  # fmt: skip
    if not plan:
        raise InputError(HOW)
    return plan


def _described(plan: PromptPlan) -> list[dict[str, Any]]:
    return [
        describe(prompt) | {"frame": "first" if frame < 0 else frame}
        for frame, some in sorted(plan.by_frame.items()) for prompt in some
    ]  # fmt: skip
