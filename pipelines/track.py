"""Follow objects through a video, image folder, camera or stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError, NotFoundError
from vision_mem.formats.prompts import HOW, PromptPlan, describe, plan_prompts
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.segmenters.load import check_model
from vision_mem.runs.folder import SESSION, RunFolder, without_secret
from vision_mem.runs.tally import Tally, count
from vision_mem.sinks.event_senders import open_senders
from vision_mem.studio.commands import plan_of, read_log
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.prompts import check_plan

from .options import (
    ALL_FRAMES,
    FOLLOW,
    NO_ZONES,
    USUAL_ANNOTATIONS,
    AdvancedOptions,
    AnnotationOptions,
    Audio,
    EventTargets,
    InputOptions,
    ModelOptions,
    ObjectMasks,
    ObjectPoints,
    OutputOptions,
    PointsOff,
    Source,
    ZoneOptions,
    annotation_choice,
    counted,
    flat,
    limited,
    limits_of,
    listed,
    open_folder,
    preset_option,
    remaining,
    take_options,
    zone_counter,
)

_FOUND_AT = 0.3
"""Score from which on a detector's find of a word is followed."""


@dataclass(frozen=True)
class TrackOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    box: Sequence[str] = ()
    point: Sequence[str] = ()
    not_point: Sequence[str] = ()
    part: bool = False
    mask: Sequence[str] = ()
    init: str | None = None
    text: Sequence[str] = ()
    commands: str | None = None
    direction: str = "forward"
    preset: str = "samurai"
    set: Sequence[str] = ()
    model: str = "embedded"
    model_config: str | None = None
    precision: str = "auto"
    attention: str = "exact"
    resize: str = "auto"
    decoder: str = "auto"
    save: str = "video,lasot,diary"
    start: int = 0
    stride: int = 1
    strict: bool = False
    audio: bool = False
    frames: bool = False
    frames_every: int = 1
    sure: float = 0.0
    pad: str = "0"
    zone: Sequence[str] = ()
    line: Sequence[str] = ()
    anchor: str = "bottom"
    settle: int = 1


@dataclass(frozen=True)
class TrackPrompts:
    """What to follow."""

    heading: ClassVar[str] = FOLLOW
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="[NAME=]x,y,w,h[@FRAME]: left, top, width, height in pixels; xyxy:x1,y1,x2,y2 too."
        ),
    ] = None
    point: ObjectPoints = None
    not_point: PointsOff = None
    part: Annotated[
        bool | None,
        typer.Option("--part", help="Points mean the part that they are on, not the whole object."),
    ] = None
    mask: ObjectMasks = None
    init: Annotated[
        str | None,
        typer.Option(
            help='File: first line x,y,w,h; or JSON [{"name": "cup", "frame": 0, "box": '
            "[x,y,w,h]}], with points, labels or mask."
        ),
    ] = None
    text: Annotated[
        list[str] | None,
        typer.Option(
            help='Words, as "red car, dog": the surest of each, from where a detector finds it; '
            '"red car@sam3" for another than Grounding DINO.'
        ),
    ] = None
    commands: Annotated[
        str | None, typer.Option(help="The studio's commands.jsonl: the same results again.")
    ] = None
    direction: Annotated[
        str | None, typer.Option(help="Of files: forward (default), backward, both.")
    ] = None
    pick: Annotated[
        bool, typer.Option("--pick", help="Draw boxes and click in a window on the first frame.")
    ] = False


@dataclass(frozen=True)
class TrackOutput(OutputOptions):
    """Its own results."""

    from_frame: Annotated[
        int | None,
        typer.Option("--from", min=0, help="With --resume and prompts: correct the run from here."),
    ] = None

    save: Annotated[
        str | None,
        typer.Option(
            help="Of video,lasot,otb,got10k,mot,rle,png,diary,events,zones, coco,coco-polygons,"
            "yolo,yolo-segments,cvat,cvat-polygons,labelstudio,davis,parquet "
            f"[{TrackOptions.save}]."
        ),
    ] = None
    audio: Audio = None
    events: EventTargets = None


@dataclass(frozen=True)
class TrackModel(ModelOptions):
    """Its own presets."""

    preset: Annotated[str | None, preset_option("tracking", "samurai")] = None


@dataclass(frozen=True)
class TrackAdvanced(AdvancedOptions):
    """With the way frames are brought to the network's size."""

    resize: Annotated[
        str | None,
        typer.Option(
            help="Frames to the network's size: auto (default), pil_bicubic, decord, cv2."
        ),
    ] = None


def main(
    source: Source,
    prompts: TrackPrompts = TrackPrompts(),
    where: ZoneOptions = NO_ZONES,
    input: InputOptions = ALL_FRAMES,
    output: TrackOutput = TrackOutput(),
    files: AnnotationOptions = USUAL_ANNOTATIONS,
    model: TrackModel = TrackModel(),
    advanced: TrackAdvanced = TrackAdvanced(),
) -> int:
    """Follow objects through a video, image folder, camera or network stream.

    Say what to follow with --box, --point, --mask, --init or --text, each also several times.
    Prompts of one name belong to one object. Memory does not grow, however long the stream is.
    """
    folder = open_folder("track", source, output, TrackOptions)
    given = flat(prompts, where, input, output, files, model, advanced)
    options, resume = _options(source, folder, given, output)
    done = Tally(**folder.progress()) if resume else Tally()
    plan, chosen = _planned(options), annotation_choice(options, listed(options.save))
    check_model(options.model)
    senders, names = open_senders(output.events), listed(options.save)
    config = load_config(TrackingConfig, options.preset, options.set, folder="tracking")
    # What typing alone shows has been said; the parts of a run take a moment to load.
    from vision_mem.runs.loop import nothing_left, run_to_folder
    from vision_mem.sinks.registry import make_sinks

    input = limited(input, folder, resume=output.resume, corrects=output.from_frame is not None)
    rest = remaining(source, options, input, done, resume)
    if rest.live and (options.direction != "forward" or output.from_frame is not None):
        raise InputError(f"--direction and --from are for files; {without_secret(source)} is live")

    with ExitStack() as stack:
        # Before the model: a missing file, a box outside, a misspelled output are said at once.
        if (frames := rest.open(stack, folder)) is None:
            _refuse_late(output.from_frame)
            return nothing_left(folder, done.frames)
        if options.commands is None or input == ALL_FRAMES:  # a part of them has fewer prompts
            check_plan(
                plan, frames.info, rest.first, options.stride, resumed=resume,
                fixed=Path(source).is_file(),
            )  # fmt: skip
        counter = zone_counter(options, names, frames.info)
        sinks = senders + make_sinks(
            folder.path, [*names, *["window"] * output.show], frames.info, append=resume,
            convention="true" if config.inclusive_box else "samurai", frames=done.frames,
            source=source, audio=options.audio, annotations=chosen,
        )  # fmt: skip
        use_threads(model.threads)
        sought = _sought(options, model.device)
        segmenter = load_segmenter(
            options.model, config=options.model_config, device=model.device,
            precision=options.precision, compile=advanced.compile, resize=options.resize,
            attention=options.attention,
        )  # fmt: skip
        if options.resize == "decord" and segmenter.traits.image_size is not None:
            frames.close()
            frames = rest.open(stack, folder, segmenter.traits.image_size) or frames
        session = _session(source, options, config, segmenter, plan, sought, done, folder, resume)
        folder.begin()
        folder.record(
            command="track", source=without_secret(source), model=segmenter.traits.model_id,
            device=str(segmenter.device), config=asdict(config), options=asdict(options),
            snapshot_every=advanced.snapshot_every, limits=limits_of(input),
        )  # fmt: skip
        code = run_to_folder(
            frames, counted(session, counter, folder, resume), sinks, folder, done,
            advanced.snapshot_every, remarks={"prompts": _described(plan)}, quiet=output.quiet,
        )  # fmt: skip
    if not done.objects and folder.recorded("status") == "finished":
        raise _nothing(options, plan, done)
    return code


def _nothing(options: TrackOptions, plan: PromptPlan, done: Tally) -> InputError:
    """What to say of a run in which no object was ever followed."""
    if options.text:
        return NotFoundError(
            f"nothing was followed: {', '.join(options.text)} was not found on any of "
            f"{count(done.frames, 'frame')}; try other words or another network (red car@sam3)"
        )
    return InputError(
        f"nothing was followed: the source ended after frame {done.last_index}, before the "
        f"first prompt (frame {min(plan.by_frame)})"
    )


def _sought(options: TrackOptions, device: str) -> list[Any]:
    """What words mean, ``SoughtObjects`` each."""
    if not options.text:
        return []
    from vision_mem.models.detectors import open_detector
    from vision_mem.tracking.prompts import SoughtObjects

    made = []
    for text in options.text:
        detector: Any = open_detector(
            f"words:{text}" if "@" in text else f"words:{text}@grounding-dino",
            device=device,
            precision=options.precision,
            guarded=False,
        )
        made.append(SoughtObjects(detector, detector.words, _FOUND_AT))
    return made


def _options(
    source: str, folder: RunFolder, given: dict[str, Any], output: TrackOutput
) -> tuple[TrackOptions, bool]:
    """The options of the run, and whether it goes on from a snapshot."""
    before = folder.recorded("options") if output.resume else None
    resume = folder.resumes(output.resume)
    if output.from_frame is not None:
        given, before = _corrected(given, before, output.from_frame)
        resume = folder.go_back(output.from_frame)
    if given["pick"]:
        _pick(source, given)
    return take_options(TrackOptions, given, before), resume


def _refuse_late(frame: int | None) -> None:
    if frame is not None:
        raise InputError(
            f"--from {frame} is after the last frame of the run; give one that was followed "
            "wrongly, or a larger --max-frames or --end"
        )


def _pick(source: str, given: dict[str, Any]) -> None:
    """Let a person point at the first frame, in a window."""
    from vision_mem.sinks.window import pick_objects
    from vision_mem.sources.open import open_source

    with open_source(source, start=given["start"] or 0, max_frames=1) as frames:
        if frames.info.live:
            raise InputError(
                "--pick is for files; on a live stream run vision-mem studio, and click"
            )
        first = next(iter(frames))
    boxes, points = pick_objects(first.image)
    given["box"] = [*(given["box"] or ()), *boxes]
    given["point"] = [*(given["point"] or ()), *points]


def _corrected(
    given: dict[str, Any], before: Any, frame: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a run with more prompts, those without a frame on the one to correct."""
    if before is None:
        raise InputError("--from corrects a run that is there: give --resume too")
    changed = dict(before)
    for name in ("box", "point", "not_point", "mask"):
        more = [text if "@" in text else f"{text}@{frame}" for text in given[name] or ()]
        changed[name], given[name] = [*(before.get(name) or ()), *more], None
        for text in more:
            at = text.rpartition("@")[2]
            if at.isdecimal() and int(at) < frame:
                raise InputError(f"{text} is before --from {frame}; give the earlier frame to both")
    if changed == before:
        raise InputError("--from needs prompts, as --box cup=x,y,w,h, that say what was wrong")
    return given, changed


def _planned(options: TrackOptions) -> PromptPlan:
    directions = ("forward", "backward", "both")
    if options.direction not in directions:
        raise InputError(
            f"--direction is {options.direction!r}; expected one of {', '.join(directions)}"
        )
    plan = plan_prompts(
        boxes=options.box, points=options.point, not_points=options.not_point,
        masks=options.mask, init=options.init,
    )  # fmt: skip
    if options.part:
        plan = plan.of_parts()
    if options.commands is not None:
        if plan or options.direction != "forward":
            raise InputError("--commands says what to follow; leave out boxes, points, --direction")
        plan = read_log(Path(options.commands)).plan.prompts()
    if options.text and (options.commands is not None or options.direction != "forward"):
        raise InputError(
            "--text is looked for as the video runs; leave out --commands, --direction"
        )
    if any(not text.partition("@")[0].strip(" ,") for text in options.text):
        raise InputError('--text names nothing; expected words, as --text "red car"')
    if not plan and not options.text:
        raise InputError(HOW)
    return plan


def _session(
    source: str, options: TrackOptions, config: TrackingConfig, segmenter: Any, plan: PromptPlan,
    sought: list[Any], done: Tally, folder: RunFolder, resume: bool,
) -> Any:  # fmt: skip
    """What follows the objects: all together, or as a log of commands or a direction says."""
    # torch takes seconds to import; help and what typing alone shows should not wait for it.
    from vision_mem.tracking.session import PromptedSession, TrackingSession

    place = folder.snapshot / SESSION if resume and folder.snapshot is not None else None
    if options.commands is None and options.direction == "forward":
        session = TrackingSession(segmenter, config)
        if place is not None:
            session = TrackingSession.resume(place, segmenter)
        return PromptedSession(session, plan, done.last_index if done.frames else None, sought)
    from vision_mem.studio.frames import frames_backwards
    from vision_mem.studio.object_sessions import ReplaySession

    if options.commands is not None:
        edits = read_log(Path(options.commands)).plan
    else:
        edits = plan_of(plan, options.start, both=True)
    replayed = ReplaySession(
        segmenter, config, edits, forwards=options.direction != "backward",
        backwards=lambda first: frames_backwards(
            source, first, options.start, stride=options.stride, strict=options.strict,
            decoder=options.decoder,
        ),
    )  # fmt: skip
    if place is not None:
        replayed.resume(place)
    return replayed


def _described(plan: PromptPlan) -> list[dict[str, Any]]:
    return [
        describe(prompt) | {"frame": "first" if frame < 0 else frame}
        for frame, some in sorted(plan.by_frame.items()) for prompt in some
    ]  # fmt: skip
