"""Rebuild a moving scene in 3D from a depth camera: what stays, and what moves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import is_object_name, load_config, load_object, nearest
from vision_mem.errors import InputError, NotThere
from vision_mem.runs.folder import SESSION, RunFolder, without_secret
from vision_mem.runs.loop import nothing_left, run_to_folder
from vision_mem.sinks.registry import SCENE_SINKS, check_names, make_sinks
from vision_mem.sinks.scene_table import SceneTally, moving_table
from vision_mem.sources.motion_masks import MovingMasks
from vision_mem.sources.rgbd import LAYOUTS, open_rgbd
from vision_mem.sources.rgbd_layouts import check_layout

from .options import (
    ADVANCED,
    INPUT,
    MODEL,
    OUTPUT,
    Changes,
    DepthScale,
    End,
    Follow,
    FollowFor,
    Intrinsics,
    MaxFrames,
    Overwrite,
    PoseOffset,
    PosesFile,
    PoseTolerance,
    Quiet,
    ResultsFolder,
    Resume,
    SnapshotEvery,
    Start,
    Strict,
    Stride,
    Topics,
    TrackPoses,
    flat,
    followed,
    limited,
    limits_of,
    listed,
    open_folder,
    parse_numbers,
    preset_option,
    take_options,
)

if TYPE_CHECKING:
    from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
    from vision_mem.reconstruction.export import SceneProducts
    from vision_mem.reconstruction.learned import LearnedSession, SegmentedSession
    from vision_mem.synthetic.rgbd_scene import RoomTruth

_GENERATED, _SEED = "generated", 2_000_108


@dataclass(frozen=True)
class ReconstructOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    layout: str | None = None
    model: str | None = None
    gate: str | None = None
    segment: int = 0
    preset: str = "default"
    set: Sequence[str] = ()
    track_poses: bool = False
    poses: str | None = None
    pose_tolerance: float = 0.02
    pose_offset: float = 0.0
    intrinsics: str | None = None
    depth_scale: float | None = None
    dynamic_masks: str | None = None
    follow: bool = False
    follow_for: float | None = None
    topic: Sequence[str] = ()
    save: str = "trajectory,map,video,events,tracks,report"
    start: int = 0
    stride: int = 1
    strict: bool = False


@dataclass(frozen=True)
class ReconstructInput:
    """How a recording is read."""

    heading: ClassVar[str] = INPUT
    layout: Annotated[
        str | None, typer.Option(help=f"{', '.join(LAYOUTS)}; found out if unset.")
    ] = None
    track_poses: TrackPoses = None
    poses: PosesFile = None
    pose_tolerance: PoseTolerance = None
    pose_offset: PoseOffset = None
    intrinsics: Intrinsics = None
    depth_scale: DepthScale = None
    dynamic_masks: Annotated[
        str | None,
        typer.Option(help="What moves: a folder of PNG, or masks.jsonl of track or mots."),
    ] = None
    follow: Follow = None
    follow_for: FollowFor = None
    topic: Topics = None
    start: Start = None
    end: End = None
    stride: Stride = None
    max_frames: MaxFrames = None
    strict: Strict = None


@dataclass(frozen=True)
class ReconstructOutput:
    """What is written, and where."""

    heading: ClassVar[str] = OUTPUT
    out: ResultsFolder = None
    save: Annotated[
        str | None,
        typer.Option(help=f"Of {', '.join(SCENE_SINKS)} [{ReconstructOptions.save}]."),
    ] = None
    save_memory: Annotated[
        Path | None, typer.Option(help="Keep both memories in this file at the end.")
    ] = None
    snapshot_every: SnapshotEvery = 300
    resume: Resume = False
    overwrite: Overwrite = False
    quiet: Quiet = False


@dataclass(frozen=True)
class ReconstructModel:
    """The network that looks at pictures without depth."""

    heading: ClassVar[str] = MODEL
    model: Annotated[
        str | None,
        typer.Option(help="Depth and poses by a network: CUT3R's checkpoint, or trained weights."),
    ] = None
    gate: Annotated[
        str | None,
        typer.Option(help="With --model: how its memory follows: one, attention, static."),
    ] = None
    segment: Annotated[
        int | None,
        typer.Option(
            help="With --model: frames of one memory, then a new one takes over; 0: never."
        ),
    ] = None


@dataclass(frozen=True)
class ReconstructSettings:
    """Settings of both memories."""

    heading: ClassVar[str] = ADVANCED
    preset: Annotated[str | None, preset_option("reconstruction", "default")] = None
    set: Changes = None


def main(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with colour and depth (TUM, 7-Scenes, ScanNet, or a video or color/ "
            "beside depth/), or a robot's log (.bag, .mcap). module:function: a live "
            "camera, frames of a function of yours. generated, or generated:SEED: a room made for "
            "trying it out. With --model also a video or a folder of images."
        ),
    ],
    recording: ReconstructInput,
    output: ReconstructOutput,
    model: ReconstructModel,
    settings: ReconstructSettings,
) -> int:
    """Rebuild a moving scene in 3D from colour and depth.

    Poses are taken from the recording, or found where it has none. What stays becomes a clean
    map; what moves is taken out of it and followed. Memory does not grow.
    """
    seed, resume, quiet = _generated_seed(source), output.resume, output.quiet
    folder = open_folder("reconstruct", source, output, ReconstructOptions)
    before = folder.recorded("options") if resume else None
    recording, resume = limited(recording, folder, resume=resume), folder.resumes(resume)
    options = take_options(ReconstructOptions, flat(recording, output, model, settings), before)
    names, config, numbers = _check(source, seed, options, resume)
    learned = _learned(options)
    done = SceneTally.resumed(folder.progress()) if resume else SceneTally()
    first = done.last_index + options.stride if done.frames else options.start
    left = None if recording.max_frames is None else recording.max_frames - done.frames
    end, finished = recording.end, resume and folder.recorded("status") == "finished"
    if finished and ((left is not None and left <= 0) or (end is not None and end <= first)):
        return nothing_left(folder, done.frames)

    with ExitStack() as stack:
        truth = None
        if seed is not None:
            truth = _film(seed, folder, options, recording.max_frames, done, resume=resume)
        path = source if truth is None else str(folder.path / "recording")
        name = None if truth is None else _GENERATED
        read = partial(_open_frames, path, name, options, numbers, learned, end)
        whole = read(options.start, recording.max_frames)
        stack.callback(whole.close)
        frames, at_end = whole, False
        if resume:
            try:
                frames = read(first, left, tell=False)
            except InputError:
                if finished:
                    return nothing_left(folder, done.frames)
                at_end = True  # killed after its last snapshot: what comes at the end is missing
        masks = None if options.dynamic_masks is None else MovingMasks(options.dynamic_masks)
        if masks is not None:
            stack.callback(masks.close)
        session = _open_session(folder, config, resume=resume)
        sinks, products = _make_sinks(
            stack, folder, options, output, names, session, done, whole, frames.info, truth
        )
        tracked = "found" if options.track_poses or not whole.posed else "given"
        folder.record(
            command="reconstruct", source=without_secret(source), preset=options.preset,
            config=asdict(config), options=asdict(options), poses=tracked,
            snapshot_every=output.snapshot_every, samples=_samples(folder, whole, options),
            limits=limits_of(recording), **_remarks(whole.doubts),
        )  # fmt: skip
        if at_end:
            products.make()
            folder.record(status="finished", files=folder.files())
            return nothing_left(folder, done.frames)
        looking = _looking(learned, session, masks, options, numbers, folder if resume else None)
        code = run_to_folder(
            frames, looking, sinks, folder, done, output.snapshot_every, quiet=quiet
        )
        folder.record(**_remarks(whole.doubts + frames.doubts, truth))
        for line in () if quiet else products.said:
            print(line)
        if not quiet and masks is not None and not masks.used:
            print(f"no frame had a mask in {masks.path}: are its numbers those of frames?")
    return code


def _generated_seed(source: str) -> int | None:
    """The seed of ``generated`` or ``generated:SEED``; None for any other source."""
    word, colon, seed = source.partition(":")
    if word != _GENERATED or Path(source).exists():
        meant = nearest(word, [_GENERATED])
        if meant and re.fullmatch(r"\w+(:\d*)?", source) and not Path(source).exists():
            raise InputError(f"no folder {source}{meant[:-2]}{colon}{seed}'?")
        return None
    if not colon:
        return _SEED
    if not re.fullmatch(r"\d{1,9}", seed):
        raise InputError(f"source {source!r}: expected generated:SEED with a whole number")
    return int(seed)


def _is_live(source: str) -> bool:
    """Whether frames come from a function of the user's."""
    return is_object_name(source) and not Path(source).exists()


def _check(
    source: str, seed: int | None, options: ReconstructOptions, resume: bool
) -> tuple[list[str], ReconstructionConfig, list[float] | None]:
    """Names of outputs, settings and intrinsics; what typing alone shows is told here."""
    from vision_mem.reconstruction.config import ReconstructionConfig

    names = check_names(listed(options.save), SCENE_SINKS)
    config = load_config(ReconstructionConfig, options.preset, options.set, folder="reconstruction")
    numbers = parse_numbers(options.intrinsics, 4, "--intrinsics")
    if options.model is None and (options.gate is not None or options.segment):
        raise InputError("--gate and --segment are for --model; leave them out")
    named = options.model is not None and not options.model.startswith("random:")
    if named and not Path(str(options.model)).expanduser().exists():
        raise NotThere(
            f"checkpoint {options.model} is missing; expected a .pt, .pth or .safetensors file"
        )
    if resume and seed is None and _is_live(source):
        raise InputError(f"{source} is live: what it gave is gone; leave out --resume")
    if seed is None and options.model is None and not _is_live(source):
        check_layout(Path(source).expanduser(), options.layout)
    return names, config, numbers


def _learned(options: ReconstructOptions) -> LearnedSession | SegmentedSession | None:
    if options.model is None:
        return None
    from vision_mem.reconstruction.learned.pictures import learned_session

    return learned_session(options.model, options.gate, options.segment)


def _film(
    seed: int,
    folder: RunFolder,
    options: ReconstructOptions,
    max_frames: int | None,
    done: SceneTally,
    *,
    resume: bool,
) -> RoomTruth:
    """Write the recording of a generated room."""
    from vision_mem.synthetic.rgbd_scene import RoomTruth

    truth = RoomTruth(seed)
    folder.begin()
    if not resume:
        # Until there is a result, a slip in another option is no obstacle to a new run.
        folder.record(status="failed", files=["recording/"])
    last = None if max_frames is None else options.start + options.stride * max_frames
    truth.record(folder.path / "recording", last)
    truth.tally = done
    return truth


def _open_frames(
    path: str,
    name: str | None,
    options: ReconstructOptions,
    numbers: list[float] | None,
    learned: LearnedSession | SegmentedSession | None,
    end: int | None,
    begin: int,
    limit: int | None,
    tell: bool = True,
) -> Any:
    given: dict[str, Any] = {
        "layout": options.layout, "start": begin, "end": end, "stride": options.stride,
        "max_frames": limit, "intrinsics": numbers, "depth_scale": options.depth_scale,
        "poses": options.poses, "pose_tolerance": options.pose_tolerance,
        "pose_offset": options.pose_offset, "strict": options.strict, "tell": tell,
    }  # fmt: skip
    if learned is None:
        given |= {
            "follow_for": followed(options.follow, options.follow_for), "topics": options.topic,
        }  # fmt: skip
        place: Any = load_object(path, "camera")() if name is None and _is_live(path) else path
        source: Any = open_rgbd(place, name=path.partition(":")[2], **given)
    else:
        if options.follow or options.follow_for or options.topic:
            raise InputError("--follow and --topic are for recordings with depth; leave them out")

        from vision_mem.reconstruction.learned.pictures import PictureSource

        source = PictureSource(path, learned.network, **given)
    source.info = replace(source.info, name=name or source.info.name)
    return source


def _remarks(doubts: Sequence[str], truth: RoomTruth | None = None) -> dict[str, Any]:
    """What the record of a run says beside its options."""
    notes = {"notes": list(dict.fromkeys(doubts))} if doubts else {}
    return notes | ({} if truth is None else {"truth": truth.tally.truth})


def _open_session(
    folder: RunFolder, config: ReconstructionConfig, *, resume: bool
) -> ReconstructionSession:
    from vision_mem.reconstruction import ReconstructionSession

    if resume and folder.snapshot is not None:
        return ReconstructionSession.resume(folder.snapshot / SESSION)
    return ReconstructionSession(config)


def _looking(
    learned: LearnedSession | SegmentedSession | None,
    session: ReconstructionSession,
    masks: MovingMasks | None,
    options: ReconstructOptions,
    numbers: list[float] | None,
    resumed: RunFolder | None,
) -> Any:
    """What looks at frames: the session, or a network before it."""
    if learned is None:
        from vision_mem.reconstruction.export import SceneSession

        return SceneSession(session, masks, options.track_poses)
    from vision_mem.reconstruction.learned.pictures import PictureSession

    looking = PictureSession(learned, session, masks, options.track_poses, numbers)
    if resumed is not None and resumed.snapshot is not None:
        looking.resume(resumed.snapshot)
    return looking


def _samples(folder: RunFolder, whole: Any, options: ReconstructOptions) -> list[int]:
    """Numbers of the frames that the report shows; those of the run that is continued."""
    from vision_mem.reconstruction.export import choose_samples

    recorded: list[int] | None = folder.recorded("samples")
    return recorded or choose_samples(whole.info, options.start, options.stride)


def _make_sinks(
    stack: ExitStack, folder: RunFolder, options: ReconstructOptions, output: ReconstructOutput,
    names: list[str], session: ReconstructionSession, done: SceneTally, whole: Any, info: Any,
    truth: RoomTruth | None,
) -> tuple[list[Any], SceneProducts]:  # fmt: skip
    """Sinks in the order in which they are closed, the last one first, and that one."""
    from vision_mem.reconstruction.export import SceneProducts, SceneSamples
    from vision_mem.sinks.rerun import RerunScene
    from vision_mem.sinks.scene import ColmapModel

    append = folder.resumes(output.resume)
    sinks = make_sinks(
        folder.path, names, info, table=SCENE_SINKS, append=append, frames=done.frames,
        lost=done.lost,
    )  # fmt: skip
    if truth is None:
        folder.begin()
    if "tracks" in names:
        table = folder.path / f"{info.name}.tracks.csv"
        done.table = moving_table(table, append=append, after=done.last_index)
        table = folder.path / f"{info.name}.maybe.csv"
        done.maybe = moving_table(table, append=append, after=done.last_index)
        stack.callback(done.finish)
    if "report" in names:
        sinks.append(SceneSamples(folder.path / "report", _samples(folder, whole, options)))
    if truth is not None:
        sinks.append(truth)
    tracked = options.track_poses or not whole.posed
    products = SceneProducts(
        session, done, names, folder.path, info.name, options.preset,
        lambda: {k: pose for k, _, pose in whole.poses()} if tracked else {},
        None if truth is None else truth.lines,
        next((each for each in sinks if isinstance(each, RerunScene)), None), output.save_memory,
        next((each for each in sinks if isinstance(each, ColmapModel)), None),
    )  # fmt: skip
    sinks.append(products)  # closed first: rerun's file is still open then
    return sinks, products
