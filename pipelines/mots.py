"""Find, segment and follow everything in a video, image folder, camera or stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.formats.class_names import parse_classes
from vision_mem.models import load_segmenter, use_threads
from vision_mem.models.detectors import Recorder
from vision_mem.runs.folder import SESSION, RunFolder, default_folder
from vision_mem.runs.tally import count
from vision_mem.session import FrameSource
from vision_mem.sinks.registry import MOTS_SINKS, check_names, make_mots_sinks
from vision_mem.sinks.table import MotsTally, track_table
from vision_mem.sources.open import open_source
from vision_mem.sources.selection import is_url, without_password
from vision_mem.types import Frame, SourceInfo

from .detecting import (
    Detecting,
    is_motion,
    learn_background,
    looked_at,
    make_detector,
    skipped_frames,
    usual_preset,
)
from .follow import Shifted, follow, nothing_left
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
class MotsOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    detect: Sequence[str] = ("motion",)
    every: int = 1
    min_score: float = 0.0
    only: str | None = None
    region: str | None = None
    classes: Sequence[str] = ()
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


def main(
    source: Source,
    detect: Annotated[
        list[str] | None,
        typer.Option(
            help='What finds objects: motion (default), motion:upright, "red car, person", dfine, '
            "rtdetr, maskrcnn, file:PATH[:FORMAT], a network's folder or id. Several: all of them."
        ),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Detect on every so manieth frame.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out detections below it.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Classes to follow: car,person.")] = None,
    region: Annotated[
        str | None, typer.Option(help="Where to detect: x,y,w,h, or corners x1,y1,x2,y2,x3,y3...")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="WORD=CLASS for benchmark files: moving=pedestrian."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="default, motion (for motion detectors), official, probabilistic, or a .yaml."
        ),
    ] = None,
    set_: Changes = None,
    model: SegmenterName = None,
    model_config: ModelConfig = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="On a CPU; if unset all cores for objects, all but one for networks."
        ),
    ] = None,
    precision: Precision = None,
    attention: Attention = None,
    compile_: Compile = False,
    decoder: Decoder = None,
    out: ResultsFolder = None,
    save: Annotated[
        str | None,
        typer.Option(help=f"Of {', '.join(MOTS_SINKS)} [video,mot,events,tracks]."),
    ] = None,
    record: Annotated[
        bool | None,
        typer.Option("--record", help="Keep the detections in NAME.detections.jsonl."),
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
    """Find, segment and follow everything in a video, image folder, camera or network stream.

    Without --detect, whatever moves in front of a camera that stands still. Each object keeps its
    identity for as long as the stream runs, also when it comes back. Memory does not grow.
    """
    given = dict(locals(), set=set_)
    # torch takes seconds to import; help and misspelled options should not wait for it.
    from vision_mem.mots import MotsConfig, MotsSession

    folder = RunFolder(out or default_folder(source), overwrite=overwrite, resume=resume)
    options = take_options(MotsOptions, given, folder.recorded("options") if resume else None)
    if snapshot_every < 0:
        raise InputError(f"--snapshot-every is {snapshot_every}; expected 0 or more")
    names = check_names(
        [name.strip() for name in options.save.split(",") if name.strip()], MOTS_SINKS
    )
    meant = parse_classes(options.classes)
    preset = options.preset or usual_preset(options.detect)
    config = load_config(MotsConfig, preset, options.set, folder="mots")
    done = MotsTally.resumed(folder.progress()) if resume else MotsTally()
    live = source.isdecimal() or is_url(source)
    first = done.last_index + options.stride if done.frames else options.start
    left = None if max_frames is None else max_frames - done.frames
    if (left is not None and left <= 0) or (end is not None and done.frames and end <= first):
        return nothing_left(folder, done.frames)

    with ExitStack() as stack:

        def open_frames() -> FrameSource:
            opened = open_source(
                source, start=0 if live and resume else first, end=end, stride=options.stride,
                max_frames=left, strict=options.strict, drop=drop, decoder=options.decoder,
            )  # fmt: skip
            stack.callback(opened.close)
            return Shifted(opened, first) if resume and opened.info.live else opened

        try:
            frames = open_frames()  # before the model: a missing file is said at once
        except InputError:
            if not resume or folder.recorded("status") != "finished":
                raise
            return nothing_left(folder, done.frames)
        info = frames.info
        seen = looked_at(range(options.start, first, options.stride), options.every)
        use_threads(threads)
        whole = None if live else _whole(source, options)
        detector = make_detector(
            options.detect, every=options.every, looked=seen[-1] if seen else None,
            min_score=options.min_score, only=_listed(options.only), region=options.region,
            device=device, precision=options.precision, live=live,
            frame_count=whole.frame_count if whole else None, size=(info.height, info.width),
        )  # fmt: skip
        stack.callback(detector.close)
        segmenter = load_segmenter(
            options.model, config=options.model_config, device=device,
            precision=options.precision, compile=compile_, attention=options.attention,
        )  # fmt: skip
        if segmenter.traits.parallel:
            use_threads(1)  # objects share the cores, not the layers of one object
        if resume and folder.snapshot is not None:
            session = MotsSession.resume(folder.snapshot / SESSION, segmenter, threads)
        else:
            session = MotsSession(segmenter, config, threads)
        if not live:
            learn_background(detector, _Excerpts(source, options), options.start, seen)
        sinks = make_mots_sinks(
            folder.path, [*names, "window"] if show else names, info, append=resume, classes=meant
        )
        folder.begin()
        if options.record:
            kept = folder.path / f"{info.name}.detections.jsonl"
            detector = Recorder(detector, kept, append=resume)
            stack.callback(detector.close)
        if "tracks" in names:
            table = folder.path / f"{info.name}.tracks.csv"
            done.table = track_table(table, append=resume, after=done.last_index)
            stack.callback(done.finish)
        folder.record(
            source=without_password(source) if is_url(source) else source, preset=preset,
            detector=detector.name, model=segmenter.traits.model_id, device=str(segmenter.device),
            config=asdict(config), options=asdict(options), snapshot_every=snapshot_every,
        )  # fmt: skip
        code = follow(
            frames, Detecting(session, detector), sinks, folder, done, snapshot_every, quiet=quiet
        )
        if not quiet:
            _remark(done, skipped_frames(detector), options)
    return code


def _listed(words: str | None) -> list[str]:
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def _whole(source: str, options: MotsOptions) -> SourceInfo:
    """The whole source: files of detections speak of all its frames."""
    opened = open_source(source, decoder=options.decoder)
    try:
        return opened.info
    finally:
        opened.close()


class _Excerpts:
    """Parts of a file, for what must be shown more than once."""

    def __init__(self, source: str, options: MotsOptions) -> None:
        self._source, self._options = source, options

    def __call__(self, begin: int, end: int) -> Iterable[Frame]:
        options = self._options
        with open_source(
            self._source, start=begin, end=end, stride=options.stride, strict=options.strict,
            decoder=options.decoder,
        ) as frames:  # fmt: skip
            yield from frames


def _remark(done: MotsTally, skipped: int, options: MotsOptions) -> None:
    if skipped:
        print(f"the detector was too slow for {count(skipped, 'frame')}, which it left out")
    if not done.objects:
        what = ", ".join(options.detect)
        hint = " (motion needs a camera that stands still)" if is_motion(options.detect) else ""
        print(f"nothing was detected by {what}{hint}")
