"""Follow, ask, rebuild and map one stream in one reading, under one budget."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config, nearest
from vision_mem.errors import InputError
from vision_mem.formats.prompts import PromptPlan, plan_prompts
from vision_mem.formats.sqlite import remove_database
from vision_mem.models import use_threads
from vision_mem.models.segmenters.load import check_model
from vision_mem.models.vlm import check_video_model
from vision_mem.mots.config import MotsConfig, usual_preset
from vision_mem.runs.folder import SESSION, RunFolder, without_secret
from vision_mem.runs.progress import megabytes
from vision_mem.sinks.registry import MOTS_SINKS, SCENE_SINKS, SINKS, check_names, make_sinks
from vision_mem.sources.rgbd_layouts import has_depth
from vision_mem.stream_memory.budget import (
    ASK,
    MOTS,
    NAVIGATE,
    RECONSTRUCT,
    TRACK,
    Share,
    fitted,
    parse_size,
    split_budget,
)
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.prompts import check_plan
from vision_mem.videoqa.config import VideoQaConfig

from .options import (
    ADVANCED,
    FOLLOW,
    INPUT,
    MODEL,
    Decoder,
    DepthScale,
    Device,
    InputOptions,
    Intrinsics,
    ObjectMasks,
    ObjectPoints,
    OutputOptions,
    PointsOff,
    PosesFile,
    Precision,
    SegmenterName,
    SnapshotEvery,
    Source,
    Threads,
    TrackPoses,
    flat,
    limited,
    limits_of,
    listed,
    open_folder,
    parse_numbers,
    remaining,
    take_options,
)

if TYPE_CHECKING:
    from vision_mem.stream_memory.run import StreamTally
    from vision_mem.stream_memory.session import StreamMemory

_SAVED = {TRACK: "video,lasot,diary", MOTS: "video,mot,events,tracks"}
_LATE = (ASK, RECONSTRUCT, NAVIGATE)
"""Memories that can be left out."""
_FOLDERS = {TRACK: "tracking", MOTS: "mots", ASK: "videoqa", RECONSTRUCT: "reconstruction",
            NAVIGATE: "navigation"}  # fmt: skip
"""Where the presets of each lie."""


@dataclass(frozen=True)
class WatchOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    box: Sequence[str] = ()
    point: Sequence[str] = ()
    not_point: Sequence[str] = ()
    mask: Sequence[str] = ()
    init: str | None = None
    mots: Sequence[str] = ()
    only: str | None = None
    budget: str = "1GB"
    without: str | None = None
    preset: Sequence[str] = ()
    set: Sequence[str] = ()
    model: str = "embedded"
    ask_model: str = "words"
    precision: str = "auto"
    fps: float | None = None
    layout: str | None = None
    track_poses: bool = False
    poses: str | None = None
    intrinsics: str | None = None
    depth_scale: float | None = None
    save: str | None = None
    save_scene: str = "trajectory,map,events,tracks"
    start: int = 0
    stride: int = 1
    strict: bool = False
    decoder: str = "auto"


@dataclass(frozen=True)
class WatchObjects:
    """What to follow."""

    heading: ClassVar[str] = FOLLOW
    box: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]x,y,w,h[@FRAME]: an object to follow, as of track."),
    ] = None
    point: ObjectPoints = None
    not_point: PointsOff = None
    mask: ObjectMasks = None
    init: Annotated[str | None, typer.Option(help="File of prompts, as of track.")] = None
    mots: Annotated[
        list[str] | None,
        typer.Option(
            help='Follow all that this finds: motion, "red car, person", dfine, onnx:FILE, ...; '
            "as --detect of mots."
        ),
    ] = None
    only: Annotated[str | None, typer.Option(help="With --mots: classes to follow.")] = None


@dataclass(frozen=True)
class WatchMemories:
    """What is remembered, and how much."""

    heading: ClassVar[str] = "Memories"
    budget: Annotated[
        str | None, typer.Option(help="Of all memories together: 1GB (default), 300MB ...")
    ] = None
    without: Annotated[str | None, typer.Option(help=f"Leave out some of {', '.join(_LATE)}.")] = (
        None
    )
    fps: Annotated[
        float | None, typer.Option(help="Frames a second that ask looks at, as of ask.")
    ] = None


@dataclass(frozen=True)
class WatchInput(InputOptions):
    """With what recordings with depth need."""

    heading: ClassVar[str] = INPUT
    layout: Annotated[
        str | None,
        typer.Option(help="Of depth: tum, 7scenes, scannet, folder; found out if unset."),
    ] = None
    track_poses: TrackPoses = None
    poses: PosesFile = None
    intrinsics: Intrinsics = None
    depth_scale: DepthScale = None


@dataclass(frozen=True)
class WatchOutput(OutputOptions):
    """Its own results."""

    save: Annotated[
        str | None,
        typer.Option(help=f"Of what is followed, as of track [{_SAVED[TRACK]}] or mots."),
    ] = None
    save_scene: Annotated[
        str | None,
        typer.Option(help=f"Of the scene, as of reconstruct [{WatchOptions.save_scene}]."),
    ] = None


@dataclass(frozen=True)
class WatchModel:
    """The networks."""

    heading: ClassVar[str] = MODEL
    preset: Annotated[
        list[str] | None, typer.Option(help="SYSTEM=NAME: track=sam2, ask=search, ...")
    ] = None
    model: SegmenterName = None
    ask_model: Annotated[
        str | None, typer.Option(help="What ask answers with, as its --model [words].")
    ] = None
    device: Device = "auto"
    precision: Precision = None
    threads: Threads = None


@dataclass(frozen=True)
class WatchAdvanced:
    """What few need."""

    heading: ClassVar[str] = ADVANCED
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="SYSTEM.key=value: navigate.octree.leaf=0.1, ask.fps=1 ..."),
    ] = None
    decoder: Decoder = None
    snapshot_every: SnapshotEvery = 300


def main(
    source: Source,
    what: WatchObjects = WatchObjects(),
    memories: WatchMemories = WatchMemories(),
    input: WatchInput = WatchInput(),
    output: WatchOutput = WatchOutput(),
    model: WatchModel = WatchModel(),
    advanced: WatchAdvanced = WatchAdvanced(),
) -> int:
    """Remember one stream in every way: follow, ask, and with depth rebuild and map.

    One reading of a file, camera, stream or recording with depth feeds all of it under one
    budget, into one folder. Its memory (.vmem) opens with ask, its map (.map) with navigate; what
    is followed is in the map by its name. Memory does not grow.
    """
    folder = open_folder("watch", source, output, WatchOptions)
    given, resume = flat(what, memories, input, output, model, advanced), output.resume
    options = take_options(WatchOptions, given, folder.recorded("options") if resume else None)
    deep = options.layout is not None or _is_deep(source)
    plan, parts, total = _checked(options, deep)
    shares = split_budget(total, parts)
    configs = {part: _settings(part, options) for part in parts}
    input, resume = limited(input, folder, resume=resume), folder.resumes(resume)
    # What typing alone shows has been said; the parts of a run take a moment to load.
    from vision_mem.runs.loop import nothing_left, run_to_folder
    from vision_mem.stream_memory.run import SteppedStream, StreamTally, restore_files

    done = StreamTally.begun(parts, folder.progress() if resume else {})
    done.shares = shares
    with ExitStack() as stack:
        frames, whole = _opened(source, options, input, done, resume, folder, deep, stack)
        if frames is None:
            return nothing_left(folder, done.frames)
        if TRACK in parts:
            first = done.last_index + options.stride if done.frames else options.start
            check_plan(plan, frames.info, first, options.stride, resumed=resume)
        use_threads(model.threads)
        files = {
            part: folder.path / f"{frames.info.name}{ending}"
            for part, ending in {ASK: ".vmem", NAVIGATE: ".map"}.items() if part in parts
        }  # fmt: skip
        make = _Maker(source, options, configs, shares, frames.info, model, folder, resume, stack)
        make.load()
        folder.begin()
        if resume and folder.snapshot is not None:
            restore_files(folder.snapshot, SESSION, files)
        else:
            for place in files.values():
                remove_database(place)
        memory = make.memory(files, plan, whole)
        sinks, products = _sinks(folder, options, output, frames.info, whole, memory, done, resume,
                                 stack)  # fmt: skip
        folder.record(
            command="watch", source=without_secret(source), model=make.models(),
            options=asdict(options), limits=limits_of(input),
            config={part: asdict(one.config) for part, one in memory.parts.items()},
            budget={"total": total, "shares": {name: each.bytes for name, each in shares.items()}},
            snapshot_every=advanced.snapshot_every,
        )  # fmt: skip
        if not output.quiet:
            print(_split_line(total, shares), file=sys.stderr)
        done.memory = memory
        code = run_to_folder(
            frames, SteppedStream(memory, live=frames.info.live, own_clock=deep), sinks, folder,
            done, advanced.snapshot_every, quiet=output.quiet,
        )  # fmt: skip
        for line in () if output.quiet or products is None else products.said:
            print(f"{RECONSTRUCT}: {line}")
    return code


def _is_deep(source: str) -> bool:
    with suppress(OSError, RuntimeError, ValueError):  # who opens it says what is wrong
        return has_depth(Path(source).expanduser())
    return False


def _split_line(total: int, shares: Mapping[str, Share]) -> str:
    said = ", ".join(f"{name} {megabytes(each.bytes)}" for name, each in shares.items())
    return f"budget {megabytes(total)}: {said}"


def _checked(options: WatchOptions, deep: bool) -> tuple[PromptPlan, list[str], int]:
    """The prompts, the memories and the budget of a run; what typing alone shows is told here."""
    total = parse_size(options.budget)
    plan = plan_prompts(
        boxes=options.box, points=options.point, not_points=options.not_point,
        masks=options.mask, init=options.init,
    )  # fmt: skip
    if plan and options.mots:
        raise InputError(
            "--mots follows all that it finds; leave out --box, --point, --mask, --init"
        )
    if options.only and not options.mots:
        raise InputError("--only is for --mots; leave it out")
    left_out = listed(options.without)
    for word in left_out:
        if word not in _LATE:
            raise InputError(
                f"--without {word}: expected some of {', '.join(_LATE)}{nearest(word, _LATE)}"
            )
    given = {
        "--layout": options.layout, "--poses": options.poses, "--intrinsics": options.intrinsics,
        "--depth-scale": options.depth_scale, "--track-poses": options.track_poses or None,
    }  # fmt: skip
    named = [name for name, value in given.items() if value is not None]
    if named and not deep:
        raise InputError(f"{named[0]} is for recordings with depth; leave it out")
    parse_numbers(options.intrinsics, 4, "--intrinsics")
    parts = [TRACK] if plan else [MOTS] if options.mots else []
    there = _LATE if deep else (ASK,)
    parts += [part for part in there if part not in left_out]
    if not parts:
        raise InputError(
            "nothing is left to remember; leave out --without, or give --box or --mots"
        )
    check_model(options.model)
    check_video_model(options.ask_model)
    check_names(listed(options.save or _SAVED[TRACK]), MOTS_SINKS if options.mots else SINKS)
    check_names(listed(options.save_scene), SCENE_SINKS)
    for word in (*options.preset, *options.set):
        part = word.partition("=")[0].partition(".")[0].strip()
        if part not in _FOLDERS or "=" not in word:
            raise InputError(
                f"{word!r} names no system; expected track, mots, ask, reconstruct or navigate "
                f"before it, as in ask.fps=1 or ask=search{nearest(part, list(_FOLDERS))}"
            )
        if part not in parts:
            raise InputError(f"{word!r} is for {part}, which this run is without; leave it out")
    if options.fps is not None and ASK not in parts:
        raise InputError("--fps is for ask, which this run is without; leave it out")
    return plan, parts, total


def _preset(part: str, options: WatchOptions) -> str | None:
    usual: dict[str, str | None] = {
        TRACK: "samurai", MOTS: usual_preset(options.mots), RECONSTRUCT: "default", NAVIGATE: None,
        ASK: "search" if options.ask_model == "words" else "default",
    }  # fmt: skip
    chosen = dict(each.split("=", 1) for each in options.preset)
    return chosen.get(part, usual[part])


def _changes(part: str, options: WatchOptions) -> list[str]:
    begin = f"{part}."
    said = [word.removeprefix(begin) for word in options.set if word.startswith(begin)]
    return said + ([] if part != ASK or options.fps is None else [f"fps={options.fps}"])


def _settings(part: str, options: WatchOptions) -> Any:
    """Settings of a memory as asked for, before they are fitted to its share."""
    schema: Any = {TRACK: TrackingConfig, MOTS: MotsConfig, ASK: VideoQaConfig}.get(part)
    if part == RECONSTRUCT:
        from vision_mem.reconstruction.config import ReconstructionConfig as schema
    elif part == NAVIGATE:
        from vision_mem.navigation.config import NavigationConfig as schema
    return load_config(
        schema, _preset(part, options), _changes(part, options), folder=_FOLDERS[part]
    )


def _depth_options(options: WatchOptions) -> dict[str, Any]:
    return {
        "layout": options.layout, "poses": options.poses, "depth_scale": options.depth_scale,
        "intrinsics": parse_numbers(options.intrinsics, 4, "--intrinsics"),
        "strict": options.strict, "stride": options.stride,
    }  # fmt: skip


def _opened(
    source: str, options: WatchOptions, input: WatchInput, done: StreamTally, resume: bool,
    folder: RunFolder, deep: bool, stack: ExitStack,
) -> tuple[Any, Any]:  # fmt: skip
    """The frames to come, None where a finished run has none; and, with depth, all of them."""
    rest = remaining(source, options, input, done, resume)
    if not deep:
        return rest.open(stack, folder), None
    from vision_mem.runs.loop import EndedSource
    from vision_mem.sources.rgbd import open_rgbd

    given = {**_depth_options(options), "end": input.end}
    whole: Any = open_rgbd(source, start=options.start, max_frames=input.max_frames, **given)
    stack.callback(whole.close)
    if not (resume and done.frames):
        return whole, whole
    left = None if input.max_frames is None else input.max_frames - done.frames
    try:
        if (left is not None and left <= 0) or (input.end is not None and input.end <= rest.first):
            raise InputError("no frame is left")
        return open_rgbd(source, start=rest.first, max_frames=left, tell=False, **given), whole
    except InputError:
        ended = folder.recorded("status") == "finished"
        # Killed after its last frame: what is made at the end is made now.
        return (None if ended else EndedSource(whole)), whole


class _Maker:
    """Makes the memories of a run: networks, sessions new or resumed, files."""

    def __init__(
        self, source: str, options: WatchOptions, configs: Mapping[str, Any],
        shares: Mapping[str, Share], info: Any, model: WatchModel, folder: RunFolder, resume: bool,
        stack: ExitStack,
    ) -> None:  # fmt: skip
        self._source, self._options, self._configs = source, options, configs
        self._shares, self._info, self._model = shares, info, model
        self._folder, self._resume, self._stack = folder, resume, stack
        self._segmenter: Any = None
        self._brain: Any = None
        self._detector: Any = None

    def load(self) -> None:
        """Load the networks that are needed; before the folder is begun, for this may fail."""
        options, device = self._options, self._model.device
        if TRACK in self._configs or MOTS in self._configs:
            from vision_mem.models import load_segmenter

            self._segmenter = load_segmenter(
                options.model, device=device, precision=options.precision
            )
        if ASK in self._configs:
            from vision_mem.models.vlm.load import load_video_model

            self._brain = load_video_model(
                options.ask_model, device=device, precision=options.precision
            )
        if MOTS in self._configs:
            from vision_mem.models.detectors import make_detector

            self._detector = make_detector(
                options.mots, only=listed(options.only), device=device,
                precision=options.precision, live=self._info.live,
                frame_count=None if self._info.live else self._info.frame_count,
                size=(self._info.height, self._info.width),
            )  # fmt: skip
            self._stack.callback(self._detector.close)

    def models(self) -> dict[str, str]:
        """Names of the networks, for the record."""
        found = {"segmenter": self._segmenter, ASK: self._brain}
        named = {key: one.traits.model_id for key, one in found.items() if one is not None}
        return named | ({} if self._detector is None else {"detector": self._detector.name})

    def memory(self, files: Mapping[str, Path], plan: PromptPlan, whole: Any) -> StreamMemory:
        """All memories, new or as the latest snapshot has them."""
        from vision_mem.stream_memory.session import StreamMemory

        snapshot = self._folder.snapshot if self._resume else None
        joint = None if snapshot is None else snapshot / SESSION
        navigate, name, turn = None, self._info.name, (0.0, 0.0, 0.0)
        if NAVIGATE in self._configs:
            navigate, name, turn = self._map(files[NAVIGATE], whole)
        track_poses = self._options.track_poses or (whole is not None and not whole.posed)
        memory = StreamMemory(
            objects=self._objects(joint), ask=self._asked(files.get(ASK), joint),
            reconstruct=self._scene(joint), navigate=navigate,
            budget=parse_size(self._options.budget), plan=plan, detector=self._detector,
            track_poses=track_poses, name=name, turn=turn,
        )  # fmt: skip
        if joint is not None:
            memory.resume(joint)
        if self._detector is not None and not self._info.live:
            self._learn(whole)
        return memory

    def _objects(self, joint: Path | None) -> Any:
        from vision_mem.mots.session import MotsSession
        from vision_mem.stream_memory.session import state_file
        from vision_mem.tracking.session import TrackingSession

        if TRACK in self._configs:
            if joint is not None:
                return TrackingSession.resume(state_file(joint, TRACK), self._segmenter)
            return TrackingSession(self._segmenter, self._configs[TRACK])
        if MOTS not in self._configs:
            return None
        threads = self._model.threads
        if self._segmenter.traits.parallel:
            use_threads(1)  # objects share the cores, not the layers of one object
        if joint is not None:
            return MotsSession.resume(state_file(joint, MOTS), self._segmenter, threads)
        return MotsSession(
            self._segmenter, fitted(self._configs[MOTS], self._shares[MOTS]), threads
        )

    def _asked(self, place: Path | None, joint: Path | None) -> Any:
        """What can be asked, with its file; new ones go by the settings, others by their file."""
        if place is None:
            return None
        from vision_mem.videoqa.evidence import ThumbnailSession, open_session
        from vision_mem.videoqa.session import VideoMemorySession
        from vision_mem.videoqa.store import MemoryFile

        if joint is not None:
            file = self._stack.enter_context(closing(MemoryFile(place)))
            session = open_session(self._brain, None, [], file)
        else:
            config = fitted(
                self._configs[ASK], self._shares[ASK], self._brain,
                (self._info.height, self._info.width),
            )  # fmt: skip
            session = VideoMemorySession(self._brain, config)
            about = {
                "model_id": self._brain.traits.model_id, "config": asdict(config),
                "source": without_secret(self._source),
            }  # fmt: skip
            file = self._stack.enter_context(closing(MemoryFile(place, about)))
        watching = ThumbnailSession(session, file)
        self._stack.callback(watching.finish)
        return watching

    def _scene(self, joint: Path | None) -> Any:
        if RECONSTRUCT not in self._configs:
            return None
        from vision_mem.reconstruction import ReconstructionSession
        from vision_mem.stream_memory.session import state_file

        if joint is not None:
            return ReconstructionSession.resume(state_file(joint, RECONSTRUCT))
        return ReconstructionSession(fitted(self._configs[RECONSTRUCT], self._shares[RECONSTRUCT]))

    def _map(self, place: Path, whole: Any) -> tuple[Any, str, Any]:
        """The map, the name of the recording in it, and how its world is turned."""
        from vision_mem.navigation.builder import open_for_writing
        from vision_mem.sources.posed import PosedSource

        feed = PosedSource(
            self._source, self._options.start, tell=False, **_depth_options(self._options)
        )
        changes: list[str] = []
        if not place.exists():
            ram = fitted(self._configs[NAVIGATE], self._shares[NAVIGATE]).store.ram
            changes = [*_changes(NAVIGATE, self._options), f"store.ram={ram!r}"]
        preset = _preset(NAVIGATE, self._options) if changes else None
        session, turn = open_for_writing(place, preset, changes, "auto", feed, False)
        self._stack.callback(session.close)
        return session, feed.name, turn

    def _learn(self, whole: Any) -> None:
        """Show a motion detector the background, as mots does."""
        from vision_mem.models import detectors
        from vision_mem.sources.open import open_source
        from vision_mem.sources.rgbd import open_rgbd
        from vision_mem.types import Frame

        options, done = self._options, self._folder.progress() if self._resume else {}

        def excerpt(begin: int, end: int) -> Iterable[Frame]:
            if whole is not None:
                given = {**_depth_options(options), "tell": False}
                for each in open_rgbd(self._source, start=begin, end=end, **given):
                    yield Frame(each.index, each.time_s, each.image)
                return
            with open_source(
                self._source, start=begin, end=end, stride=options.stride, strict=options.strict,
                decoder=options.decoder,
            ) as frames:  # fmt: skip
                yield from frames

        last = int(done.get("last_index", -1))
        seen = detectors.looked_at(range(options.start, last + 1, options.stride), 1)
        detectors.learn_background(self._detector, excerpt, options.start, seen)


def _sinks(
    folder: RunFolder, options: WatchOptions, output: WatchOutput, info: Any, whole: Any,
    memory: StreamMemory, done: StreamTally, resume: bool, stack: ExitStack,
) -> tuple[list[Any], Any]:  # fmt: skip
    """What is written of each system, in a folder of its own; and what is made at the end."""
    from vision_mem.sinks.scene_table import moving_table
    from vision_mem.sinks.table import track_table
    from vision_mem.stream_memory.run import PartSink

    made: list[Any] = []
    place: dict[str, Any] = {"append": resume, "frames": done.frames}
    part = memory.following
    if part in memory.parts:
        table = MOTS_SINKS if part == MOTS else SINKS
        names = [*listed(options.save or _SAVED[part]), *["window"] * output.show]
        convention = "samurai"
        if (part == TRACK and memory.parts[TRACK].config.inclusive_box) or part == MOTS:
            convention = "true"
        out = folder.path / part
        place |= {"convention": convention, "source": ""}
        sinks = make_sinks(out, names, info, table=table, **place)
        made += [PartSink(sink, part) for sink in sinks]
        if part == MOTS and "tracks" in names:
            done.parts[MOTS].table = track_table(
                out / f"{info.name}.tracks.csv", append=resume, after=done.last_index
            )
            stack.callback(done.parts[MOTS].finish)
    if RECONSTRUCT not in memory.parts:
        return made, None
    from vision_mem.reconstruction.export import SceneProducts, SceneSamples, choose_samples
    from vision_mem.sinks.rerun import RerunScene

    scene, out = done.parts[RECONSTRUCT], folder.path / RECONSTRUCT
    names = check_names(listed(options.save_scene), SCENE_SINKS)
    sinks = make_sinks(
        out, names, info, table=SCENE_SINKS, append=resume, frames=done.frames, lost=scene.lost
    )
    if "tracks" in names:
        for attribute, ending in (("table", "tracks"), ("maybe", "maybe")):
            path = out / f"{info.name}.{ending}.csv"
            setattr(scene, attribute, moving_table(path, append=resume, after=done.last_index))
        stack.callback(scene.finish)
    if "report" in names:
        samples = choose_samples(whole.info, options.start, options.stride)
        sinks.append(SceneSamples(out / "report", samples))
    tracked = options.track_poses or not whole.posed
    products = SceneProducts(
        memory.parts[RECONSTRUCT], scene, names, out, info.name,
        _preset(RECONSTRUCT, options) or "default",
        lambda: {k: pose for k, _, pose in whole.poses()} if tracked else {}, None,
        next((sink for sink in sinks if isinstance(sink, RerunScene)), None), None,
    )  # fmt: skip
    made += [PartSink(sink, RECONSTRUCT) for sink in [*sinks, products]]
    return made, products
