"""Find, segment and follow everything in a video, image folder, camera or stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config
from vision_mem.formats.class_names import parse_classes
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.segmenters.load import check_model
from vision_mem.mots.config import MotsConfig, is_motion, usual_preset
from vision_mem.runs.folder import SESSION, without_secret
from vision_mem.runs.loop import nothing_left, run_to_folder
from vision_mem.runs.tally import count
from vision_mem.sinks.event_senders import open_senders
from vision_mem.sinks.registry import MOTS_SINKS, check_names, make_sinks
from vision_mem.sinks.table import MotsTally, track_table
from vision_mem.sources.open import open_source
from vision_mem.types import Frame, SourceInfo

from .options import (
    ALL_FRAMES,
    FOLLOW,
    NO_ZONES,
    USUAL,
    USUAL_ANNOTATIONS,
    AdvancedOptions,
    AnnotationOptions,
    Audio,
    EventTargets,
    InputOptions,
    ModelOptions,
    OutputOptions,
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

if TYPE_CHECKING:
    from vision_mem.models.detectors import Detector
    from vision_mem.mots.session import MotsSession


@dataclass(frozen=True)
class MotsOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    detect: Sequence[str] = ("motion",)
    every: int = 1
    min_score: float = 0.0
    only: str | None = None
    region: str | None = None
    classes: Sequence[str] = ()
    reid: str = "colours"
    preset: str | None = None
    set: Sequence[str] = ()
    model: str = "embedded"
    model_config: str | None = None
    precision: str = "auto"
    attention: str = "exact"
    decoder: str = "auto"
    save: str = "video,mot,events,tracks"
    record: bool = False
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
class DetectionOptions:
    """What to follow."""

    heading: ClassVar[str] = FOLLOW
    detect: Annotated[
        list[str] | None,
        typer.Option(
            help='What finds objects: motion (default), motion:upright, "red car, person", dfine, '
            "rtdetr, onnx:FILE (YOLO ...), maskrcnn, file:PATH[:FORMAT], a network's folder or id, "
            "module:function. Several: all of them."
        ),
    ] = None
    every: Annotated[int | None, typer.Option(min=1, help="Detect on every N-th frame only.")] = (
        None
    )
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out detections below it.")
    ] = None
    only: Annotated[str | None, typer.Option(help="Classes to follow: car,person.")] = None
    region: Annotated[
        str | None,
        typer.Option(
            help="Where to detect: x,y,w,h, xyxy:x1,y1,x2,y2, or corners x1,y1,x2,y2,x3,y3..."
        ),
    ] = None
    classes: Annotated[
        list[str] | None,
        typer.Option(help="WORD=CLASS for benchmark files: moving=pedestrian."),
    ] = None
    reid: Annotated[
        str | None,
        typer.Option(help="Who came back, by: colours (default), trunk, onnx:FILE (OSNet ...)."),
    ] = None


@dataclass(frozen=True)
class MotsOutput(OutputOptions):
    """Its own results."""

    save: Annotated[
        str | None, typer.Option(help=f"Of {', '.join(MOTS_SINKS)} [{MotsOptions.save}].")
    ] = None
    audio: Audio = None
    events: EventTargets = None
    record: Annotated[
        bool | None,
        typer.Option("--record", help="Keep the detections in NAME.detections.jsonl."),
    ] = None


@dataclass(frozen=True)
class MotsModel(ModelOptions):
    """Its own presets and threads."""

    preset: Annotated[
        str | None,
        preset_option("mots", "default", motion="with motion", upright="with motion:upright"),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="On a CPU; if unset all cores for objects, all but one for networks."
        ),
    ] = None


def main(
    source: Source,
    what: DetectionOptions = DetectionOptions(),
    where: ZoneOptions = NO_ZONES,
    input: InputOptions = ALL_FRAMES,
    output: MotsOutput = MotsOutput(),
    files: AnnotationOptions = USUAL_ANNOTATIONS,
    model: MotsModel = MotsModel(),
    advanced: AdvancedOptions = USUAL,
) -> int:
    """Find, segment and follow everything in a video, image folder, camera or network stream.

    Without --detect, what moves by itself before a camera that stands still or turns. Identities
    stay for as long as the stream runs, also of what comes back. Memory does not grow.
    """
    folder = open_folder("mots", source, output, MotsOptions)
    given, resume = flat(what, where, input, output, files, model, advanced), output.resume
    options = take_options(MotsOptions, given, folder.recorded("options") if resume else None)
    check_model(options.model)
    names, chosen, meant = _saved(options, output.show)
    preset, senders = options.preset or usual_preset(options.detect), open_senders(output.events)
    config = load_config(MotsConfig, preset, options.set, folder="mots")
    input, resume = limited(input, folder, resume=resume), folder.resumes(resume)
    done = MotsTally.resumed(folder.progress()) if resume else MotsTally()
    rest = remaining(source, options, input, done, resume)
    from vision_mem.models import detectors  # with OpenCV, which help does not need

    with ExitStack() as stack:
        # Before the model: a missing file, a misspelled output or detector are said at once.
        if (frames := rest.open(stack, folder)) is None:
            return nothing_left(folder, done.frames)
        counter = zone_counter(options, names, frames.info)
        sinks = senders + make_sinks(
            folder.path, names, frames.info, table=MOTS_SINKS, annotations=chosen, append=resume,
            classes=meant, frames=done.frames, source=source, audio=options.audio,
        )  # fmt: skip
        seen = detectors.looked_at(range(options.start, rest.first, options.stride), options.every)
        detector = _detector(source, options, model.device, rest.live, frames.info, seen)
        stack.callback(detector.close)
        use_threads(model.threads)
        segmenter = load_segmenter(
            options.model, config=options.model_config, device=model.device,
            precision=options.precision, compile=advanced.compile, attention=options.attention,
        )  # fmt: skip
        if segmenter.traits.parallel:
            use_threads(1)  # objects share the cores, not the layers of one object
        from vision_mem.mots.session import DetectorSession, MotsSession  # with torch: late

        session = MotsSession(segmenter, config, model.threads)
        if resume and folder.snapshot is not None:
            session = MotsSession.resume(folder.snapshot / SESSION, segmenter, model.threads)
        if not rest.live:
            excerpts = partial(_excerpt, source, options)
            detectors.learn_background(detector, excerpts, options.start, seen)
        folder.begin()
        stem = folder.path / frames.info.name
        if options.record:
            detector = detectors.Recorder(detector, f"{stem}.detections.jsonl", append=resume)
            stack.callback(detector.close)
        if "tracks" in names:
            done.table = track_table(f"{stem}.tracks.csv", append=resume, after=done.last_index)
            stack.callback(done.finish)
        folder.record(
            command="mots", source=without_secret(source), preset=preset, detector=detector.name,
            model=segmenter.traits.model_id, device=str(segmenter.device), config=asdict(config),
            options=asdict(options), limits=limits_of(input),
            snapshot_every=advanced.snapshot_every,
        )  # fmt: skip
        code = run_to_folder(
            frames, counted(DetectorSession(session, detector), counter, folder, resume), sinks,
            folder, done, advanced.snapshot_every, quiet=output.quiet,
        )  # fmt: skip
        _remark(done, detector, session, options, output.quiet)
    return code


def _saved(options: MotsOptions, show: bool) -> tuple[list[str], Any, dict[str, str]]:
    """Names of what is written, what goes into files of annotations, and classes of benchmarks."""
    names = check_names(listed(options.save), MOTS_SINKS)
    chosen = annotation_choice(options, names)
    return [*names, *["window"] * show], chosen, parse_classes(options.classes)


def _detector(
    source: str, options: MotsOptions, device: str, live: bool, info: SourceInfo, seen: list[int]
) -> Detector:
    from vision_mem.models import detectors

    frame_count = None
    if not live:  # files of detections speak of all frames of the source
        with open_source(source, decoder=options.decoder) as whole:
            frame_count = whole.info.frame_count
    return detectors.make_detector(
        options.detect, every=options.every, looked=seen[-1] if seen else None,
        min_score=options.min_score, only=listed(options.only), region=options.region,
        device=device, precision=options.precision, live=live, reid=options.reid,
        frame_count=frame_count, size=(info.height, info.width),
    )  # fmt: skip


def _excerpt(source: str, options: MotsOptions, begin: int, end: int) -> Iterable[Frame]:
    """A part of a file, for what must be shown more than once."""
    with open_source(
        source, start=begin, end=end, stride=options.stride, strict=options.strict,
        decoder=options.decoder,
    ) as frames:  # fmt: skip
        yield from frames


def _remark(
    done: MotsTally, detector: Detector, session: MotsSession, options: MotsOptions, quiet: bool
) -> None:
    from vision_mem.models.detectors.asynchronous import skipped_frames
    from vision_mem.models.detectors.motion import coarse_frames

    if quiet:
        return
    skipped = skipped_frames(detector)
    if coarse := coarse_frames(detector):
        print(f"unsure: on {count(coarse, 'frame')} the camera moved, and what moves was a guess")
    for line in session.remarks:
        print(line)
    if skipped:
        print(f"the detector was too slow for {count(skipped, 'frame')}, which it left out")
    if not done.objects:
        what = ", ".join(options.detect)
        hint = " (motion needs a camera that stands still)" if is_motion(options.detect) else ""
        print(f"nothing was detected by {what}{hint}")
