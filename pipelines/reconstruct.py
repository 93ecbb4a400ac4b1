"""Rebuild a moving scene in 3D from a depth camera: what stays, and what moves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.runs.folder import SESSION, RunFolder, default_folder
from vision_mem.runs.loop import nothing_left, run_to_folder
from vision_mem.sinks.registry import SCENE_SINKS, check_names, make_scene_sinks
from vision_mem.sinks.scene_table import SceneTally, moving_table
from vision_mem.sources.rgbd import LAYOUTS, RgbdSource, open_rgbd

from .mapanswers import parse_numbers
from .options import (
    Changes,
    DepthScale,
    End,
    Intrinsics,
    MaxFrames,
    Overwrite,
    Quiet,
    ResultsFolder,
    Resume,
    SnapshotEvery,
    Start,
    Strict,
    Stride,
    take_options,
)


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
    intrinsics: str | None = None
    depth_scale: float | None = None
    dynamic_masks: str | None = None
    save: str = "trajectory,map,video,events,tracks,report"
    start: int = 0
    stride: int = 1
    strict: bool = False


def main(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with colour and depth (TUM, 7-Scenes, ScanNet, or a video or color/ "
            "beside depth/). generated, or generated:SEED: a room made for trying it out. With "
            "--model also a video or a folder of images."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Depth and poses by a network: CUT3R's checkpoint, or trained weights."),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(help="With --model: how its memory follows: one, attention, static."),
    ] = None,
    segment: Annotated[
        int | None,
        typer.Option(
            help="With --model: frames of one memory, then a new one takes over; 0: never."
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help=f"{', '.join(LAYOUTS)}; found out if unset.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="default, dense (small voxels), fuse-everything, or a .yaml."),
    ] = None,
    set_: Changes = None,
    track_poses: Annotated[
        bool | None,
        typer.Option("--track-poses", help="Find all poses, also where the recording has them."),
    ] = None,
    poses: Annotated[
        str | None, typer.Option(help="Poses (TUM, KITTI) in place of the recording's own.")
    ] = None,
    intrinsics: Intrinsics = None,
    depth_scale: DepthScale = None,
    dynamic_masks: Annotated[
        str | None,
        typer.Option(help="What moves: a folder of PNG, or masks.jsonl of track or mots."),
    ] = None,
    out: ResultsFolder = None,
    save: Annotated[
        str | None,
        typer.Option(help=f"Of {', '.join(SCENE_SINKS)} [{ReconstructOptions.save}]."),
    ] = None,
    save_memory: Annotated[
        Path | None, typer.Option(help="Keep both memories in this file at the end.")
    ] = None,
    start: Start = None,
    end: End = None,
    stride: Stride = None,
    max_frames: MaxFrames = None,
    strict: Strict = None,
    snapshot_every: SnapshotEvery = 300,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> int:
    """Rebuild a moving scene in 3D from colour and depth.

    Poses are taken from the recording, or found where it has none. What stays becomes a clean
    map; what moves is taken out of it and followed. Memory does not grow.
    """
    given = dict(locals(), set=set_)
    # torch and numba take seconds to import; help and misspelled options should not wait.
    from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
    from vision_mem.sinks.rerun import RerunScene
    from vision_mem.sources.motion_masks import MovingMasks

    from .rebuilding import (
        Products,
        Rebuilding,
        RoomTruth,
        Samples,
        choose_samples,
        generated_seed,
    )

    seed = generated_seed(source)
    folder = RunFolder(
        out or default_folder(source.replace(":", "-") if seed is not None else source),
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    options = take_options(
        ReconstructOptions, given, folder.recorded("options") if resume else None
    )
    if snapshot_every < 0:
        raise InputError(f"--snapshot-every is {snapshot_every}; expected 0 or more")
    names = check_names(
        [name.strip() for name in options.save.split(",") if name.strip()], SCENE_SINKS
    )
    config = load_config(ReconstructionConfig, options.preset, options.set, folder="reconstruction")
    numbers = parse_numbers(options.intrinsics, 4, "--intrinsics")
    learned = None
    if options.model is not None:
        from .picturing import Pictures, Picturing, learned_session

        learned = learned_session(options.model, options.gate, options.segment)
    elif options.gate is not None or options.segment:
        raise InputError("--gate and --segment are for --model; leave them out")
    done = SceneTally.resumed(folder.progress()) if resume else SceneTally()
    first = done.last_index + options.stride if done.frames else options.start
    left = None if max_frames is None else max_frames - done.frames
    finished = resume and folder.recorded("status") == "finished"
    if (left is not None and left <= 0) or (end is not None and done.frames and end <= first):
        return nothing_left(folder, done.frames)

    with ExitStack() as stack:
        truth = None if seed is None else RoomTruth(seed)
        recording = source if truth is None else str(folder.path / "recording")
        if truth is not None:
            folder.begin()
            if not resume:
                # Until there is a result, a slip in another option is no obstacle to a new run.
                folder.record(status="failed", files=["recording/"])
            last = None if max_frames is None else options.start + options.stride * max_frames
            truth.record(Path(recording), last)
            truth.tally = done

        def open_frames(begin: int, limit: int | None) -> Any:
            given: dict[str, Any] = {
                "layout": options.layout, "start": begin, "end": end, "stride": options.stride,
                "max_frames": limit, "intrinsics": numbers, "depth_scale": options.depth_scale,
                "poses": options.poses, "strict": options.strict,
            }  # fmt: skip
            if learned is not None:
                return Pictures(recording, learned.network, **given)
            return open_rgbd(recording, **given)

        whole = open_frames(options.start, max_frames)
        stack.callback(whole.close)
        at_end = False
        frames = whole
        if resume:
            try:
                frames = open_frames(first, left)
            except InputError:
                if finished:
                    return nothing_left(folder, done.frames)
                at_end = True  # killed after its last snapshot: what comes at the end is missing
        masks = None if options.dynamic_masks is None else MovingMasks(options.dynamic_masks)
        if masks is not None:
            stack.callback(masks.close)
        if resume and folder.snapshot is not None:
            session = ReconstructionSession.resume(folder.snapshot / SESSION)
        else:
            session = ReconstructionSession(config)
        info = replace(frames.info, name="generated") if truth is not None else frames.info
        sinks = make_scene_sinks(
            folder.path, names, info, append=resume, frames=done.frames, lost=done.lost
        )
        if truth is None:
            folder.begin()
        if "tracks" in names:
            table = folder.path / f"{info.name}.tracks.csv"
            done.table = moving_table(table, append=resume, after=done.last_index)
            stack.callback(done.finish)
        wanted = folder.recorded("samples") or choose_samples(
            whole.info, options.start, options.stride
        )
        if "report" in names:
            sinks.append(Samples(folder.path / "report", wanted))
        if truth is not None:
            sinks.append(truth)
        tracked = options.track_poses or not whole.posed
        products = Products(
            session, done, names, folder.path, info.name, options.preset,
            lambda: {k: pose for k, _, pose in whole.poses()} if tracked else {},
            truth, next((s for s in sinks if isinstance(s, RerunScene)), None), save_memory,
        )  # fmt: skip
        sinks.append(products)  # closed first: rerun's file is still open then
        folder.record(
            source=source, preset=options.preset, config=asdict(config), options=asdict(options),
            snapshot_every=snapshot_every, samples=wanted, poses="found" if tracked else "given",
        )  # fmt: skip
        if at_end:
            products.make()
            folder.record(status="finished", files=folder.files())
            return nothing_left(folder, done.frames)
        named: Any = _Named(frames, info)
        looking: Any = Rebuilding(session, masks, options.track_poses)
        if learned is not None:
            looking = Picturing(learned, session, masks, options.track_poses, numbers)
            if resume and folder.snapshot is not None:
                looking.resume(folder.snapshot)
        code = run_to_folder(named, looking, sinks, folder, done, snapshot_every, quiet=quiet)
        if truth is not None:
            folder.record(truth=done.truth)
        if not quiet:
            for line in products.said:
                print(line)
            if masks is not None and not masks.used:
                print(f"no frame had a mask in {masks.path}: are its numbers those of frames?")
    return code


class _Named:
    """A source under another name."""

    def __init__(self, source: RgbdSource, info: Any) -> None:
        self._source, self.info = source, info
        self.close = source.close

    def __iter__(self) -> Any:
        return iter(self._source)
