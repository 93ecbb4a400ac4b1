"""Options of commands: groups of them as dataclasses, declared once and shown under their headings.

A command takes groups as parameters (``def main(source: Source, output: OutputOptions)``);
``grouped`` turns their fields into options for the command line, and callers in Python build the
groups by hand. Of a run that is continued, ``take_options`` says what was given, or recorded.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import typer
from typer.core import TyperCommand

from vision_mem.config import preset_names
from vision_mem.errors import InputError
from vision_mem.evaluation.options import Option
from vision_mem.runs.folder import SESSION, RunFolder, choose_folder, default_folder
from vision_mem.sources.selection import check_exists

if TYPE_CHECKING:
    from vision_mem.runs.loop import RemainingFrames
    from vision_mem.tracking.zones import ZoneCounter
    from vision_mem.types import SourceInfo

FOLLOW, INPUT, OUTPUT = "What to follow", "Input", "Output"
MODEL, ADVANCED = "Model", "Advanced"
"""Headings of the groups, in the order in which help shows them."""


def preset_option(folder: str, default: str | None = None, **remarks: str) -> Any:
    """The option that takes a preset: what ships in ``configs/`` is listed, and completed.

    Args:
        folder: of the presets.
        default: comes first in the list.
        remarks: preset, with ``_`` for ``-``, to what help says of it.
    """
    names = sorted(preset_names(folder), key=lambda name: (name != default, name))
    said = {**({} if default in (None, "default") else {default: "default"}), **remarks}
    words = [
        f"{name} ({remark})" if (remark := said.get(name.replace("-", "_"))) else name
        for name in names
    ]
    return typer.Option(
        help=f"{', '.join(words)}, or a .yaml.",
        show_default=False,
        autocompletion=lambda incomplete: [name for name in names if name.startswith(incomplete)],
    )


Source = Annotated[
    str,
    typer.Argument(
        help="Video file, folder of images, camera number, address, or module:function."
    ),
]
ObjectPoints = Annotated[
    list[str] | None, typer.Option(help="[NAME=]x,y[@FRAME]: a point on the object.")
]
PointsOff = Annotated[
    list[str] | None, typer.Option(help="[NAME=]x,y[@FRAME]: a point off the object.")
]
ObjectMasks = Annotated[
    list[str] | None, typer.Option(help="[NAME=]FILE.png[@FRAME]: each value an object.")
]
SegmenterName = Annotated[
    str | None,
    typer.Option(
        help="embedded (default), facebook/sam2.1-hiera-tiny, ..., a checkpoint, a folder of "
        "export, module:Class."
    ),
]
ModelConfig = Annotated[
    str | None,
    typer.Option(help="Of a checkpoint file whose name does not tell its configuration."),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: change a setting of the preset.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str | None, typer.Option(help="auto (default), fp32, bf16, fp16.")]
Attention = Annotated[
    str | None, typer.Option(help="SAM 2 in fp32: exact (default), or folded, faster on a CPU.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the image encoder.")]
Decoder = Annotated[
    str | None, typer.Option(help="Of video files: auto (default), pyav, decord, opencv.")
]
Intrinsics = Annotated[
    str | None, typer.Option(help="fx,fy,cx,cy, where the folder does not say them.")
]
TrackPoses = Annotated[
    bool | None,
    typer.Option("--track-poses", help="Find all poses, also where the recording has them."),
]
PosesFile = Annotated[
    str | None, typer.Option(help="Poses (TUM, KITTI, EuRoC) in place of the recording's own.")
]
PoseTolerance = Annotated[
    float | None, typer.Option(min=0, help="Seconds from a frame to its pose, at most [0.02].")
]
PoseOffset = Annotated[float | None, typer.Option(help="Seconds to add to the times of --poses.")]
Follow = Annotated[
    bool | None,
    typer.Option("--follow", help="Wait for frames that are still being written; Ctrl-C ends it."),
]
FollowFor = Annotated[
    float | None,
    typer.Option(min=0.1, help="Likewise, until no frame came for so many seconds [10]."),
]
Topics = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Of a robot's log: depth, colour, intrinsics, poses; repeat it."),
]
DepthScale = Annotated[float | None, typer.Option(help="Metres of one unit of a depth map.")]
Start = Annotated[int | None, typer.Option(min=0, help="First frame, from 0.")]
End = Annotated[int | None, typer.Option(help="Stop before this frame.")]
Stride = Annotated[int | None, typer.Option(min=1, help="Take only every N-th frame.")]
MaxFrames = Annotated[
    int | None, typer.Option(min=1, help="Frames in all, at most; --resume keeps it.")
]
Drop = Annotated[
    str,
    typer.Option(
        help="Live sources: latest leaves out frames that came too late, none leaves out none."
    ),
]
Reconnects = Annotated[
    int | None, typer.Option(min=0, help="Live sources: tries after a break, at most [for ever].")
]
Strict = Annotated[bool | None, typer.Option("--strict", help="Stop at a damaged frame.")]
ResultsFolder = Annotated[Path | None, typer.Option(help="Results folder [runs/COMMAND/NAME].")]
SnapshotEvery = Annotated[
    int, typer.Option(min=0, help="Frames between snapshots to resume from; 0 for none.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out, or the latest on this source.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results there, in place of a new folder.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="On a CPU; all cores but one if unset.")]
Show = Annotated[bool, typer.Option(help="Show a window; q stops.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Audio = Annotated[
    bool | None, typer.Option("--audio", help="Keep the source's sound in the annotated video.")
]
EventTargets = Annotated[
    list[str] | None,
    typer.Option(help="https://HOST/PATH, mqtt://HOST/TOPIC or kafka://: tell each event at once."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]

Options = TypeVar("Options")
Limits = TypeVar("Limits", bound=Any)


@dataclass(frozen=True)
class InputOptions:
    """Which frames."""

    heading: ClassVar[str] = INPUT
    start: Start = None
    end: End = None
    stride: Stride = None
    max_frames: MaxFrames = None
    drop: Drop = "latest"
    reconnect: Reconnects = None
    strict: Strict = None


ALL_FRAMES = InputOptions()


@dataclass(frozen=True)
class OutputOptions:
    """Where results go, and which; commands say what ``save`` knows."""

    heading: ClassVar[str] = OUTPUT
    out: ResultsFolder = None
    save: str | None = None
    show: Show = False
    resume: Resume = False
    overwrite: Overwrite = False
    quiet: Quiet = False


@dataclass(frozen=True)
class AnnotationOptions:
    """What goes into files of annotations: coco, yolo, cvat, labelstudio, davis, parquet."""

    heading: ClassVar[str] = "Annotation files (coco, yolo, cvat, labelstudio, davis, parquet)"
    frames: Annotated[
        bool | None, typer.Option("--frames", help="Pictures too, beside coco, yolo and davis.")
    ] = None
    frames_every: Annotated[
        int | None, typer.Option(min=1, help="Every N-th frame of the run.")
    ] = None
    sure: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Without frames that have an object below this score."),
    ] = None
    pad: Annotated[
        str | None, typer.Option(help="Margin around boxes: pixels as 4, or a part as 10%.")
    ] = None


USUAL_ANNOTATIONS = AnnotationOptions()


def annotation_choice(options: Any, names: list[str]) -> Any:
    """The choice of frames and boxes of a run's options, ``AnnotationChoice``.

    Args:
        options: has ``frames``, ``frames_every``, ``sure`` and ``pad``.
        names: what is saved.

    Raises:
        InputError: for what makes no sense.
    """
    from vision_mem.sinks.annotations import AnnotationChoice, check_pictures

    if not names:
        raise InputError(f"--save names no output; leave it out for {type(options).save}")
    chosen = AnnotationChoice(options.frames, options.frames_every, options.sure, options.pad)
    check_pictures(chosen, names)
    return chosen


@dataclass(frozen=True)
class ModelOptions:
    """The segmenter and the machine; commands say which presets there are."""

    heading: ClassVar[str] = MODEL
    preset: str | None = None
    model: SegmenterName = None
    device: Device = "auto"
    precision: Precision = None
    threads: Threads = None


@dataclass(frozen=True)
class AdvancedOptions:
    """What few need."""

    heading: ClassVar[str] = ADVANCED
    set: Changes = None
    model_config: ModelConfig = None
    attention: Attention = None
    compile: Compile = False
    decoder: Decoder = None
    snapshot_every: SnapshotEvery = 300


USUAL = AdvancedOptions()


@dataclass(frozen=True)
class ZoneOptions:
    """Where to count."""

    heading: ClassVar[str] = "Lines and zones"
    zone: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]x,y,x,y,x,y...: count who enters and leaves, and how long."),
    ] = None
    line: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]x,y,x,y: count who crosses it; in is to its left."),
    ] = None
    anchor: Annotated[
        str | None,
        typer.Option(help="Of a box: bottom (default), centre, top, left, right, corners."),
    ] = None
    settle: Annotated[
        int | None, typer.Option(min=1, help="Frames on the other side until it counts [1].")
    ] = None


NO_ZONES = ZoneOptions()


class GroupedCommand(TyperCommand):
    """Help with a heading for each group, in plain text: rich would take half a second to load."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an option with an empty text: a variable of a script that was never set."""
        words = args[: args.index("--")] if "--" in args else args
        valued = {
            name for param in self.params if not getattr(param, "is_flag", True)
            for name in param.opts
        }  # fmt: skip
        for word, after in zip(words, [*words[1:], "-"], strict=False):
            name, equals, value = word.partition("=")
            if name in valued and not (value if equals else after).strip():
                raise InputError(f"{name} is an empty text; give a value, or leave it out")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command: the words it takes, then its options."""
        pieces = [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]
        return sorted(pieces, key=lambda piece: piece == self.options_metavar)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group in the order of its first option, then the rest."""
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            if (record := help_record(param, ctx)) is None:
                continue
            is_argument = param.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(param, "rich_help_panel", None)
            rows.setdefault(heading or "Options", []).append(record)
        rows["Options"] = rows.pop("Options", [])
        for heading, records in rows.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def help_record(param: Any, ctx: Any) -> tuple[str, str] | None:
    """What help says of an argument or an option: its name, and the rest; None for a hidden one."""
    if (record := param.get_help_record(ctx)) is None:
        return None
    name, said = record
    if param.param_type_name == "argument":
        name = f"{param.metavar}{'' if param.nargs == 1 else '...'}"
        said = re.sub(r"\s*\\?\[required\]$", "", said)
    for symbols, words in _RANGES.items():
        said = re.sub(symbols, words, said)
    return name, said


_RANGES = {
    r"  \[x>=[01]\]$|; x>=[01](?=\])": "",  # everybody's guess
    r"\b(\S+)<=x<=([^\s;\]]+)": r"\1 to \2",
    r"\bx>=([^\s;\]]+)": r"\1 or more",
}
"""How Typer writes which numbers an option takes, and how people would."""


def grouped(function: Callable[..., int]) -> Callable[..., int]:
    """Make a command of a function whose parameters may be groups of options.

    A group is a frozen dataclass with ``heading``, a ``ClassVar[str]``, and fields annotated as
    Typer's parameters are, or with ``Option``, which has a heading itself; all have defaults.
    Two groups of one command share no field name.

    Args:
        function: the command; parameters that are no dataclass stay what they are.

    Returns:
        A function for ``typer.Typer.command(cls=GroupedCommand)`` with one parameter an option.
    """
    hints = get_type_hints(function, include_extras=True)
    taken: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if not is_dataclass(kind):
            shown = _under(name, kind, None)
            taken.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=shown))
            continue
        group: Any = kind
        groups[name] = group
        inner = get_type_hints(kind, include_extras=True)
        heading = getattr(kind, "heading", None)
        for field in fields(kind):
            default = field.default if field.default is not MISSING else None
            taken.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default,
                    annotation=_under(field.name, inner[field.name], heading),
                )
            )  # fmt: skip

    @functools.wraps(function)
    def command(**given: Any) -> int:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        return function(**given, **made)

    del command.__wrapped__
    command.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in taken} | {"return": int}
    return command


def _under(name: str, annotation: Any, heading: str | None) -> Any:
    """The annotation with its option under a heading, and with a word for its value.

    A copy, since options are shared.
    """
    if get_origin(annotation) is not Annotated:
        return Annotated[annotation, typer.Option(rich_help_panel=heading)]
    kind, *notes = get_args(annotation)
    said = [_shown(name, note) if isinstance(note, Option) else copy.copy(note) for note in notes]
    for note in said:
        if heading and hasattr(note, "rich_help_panel"):
            note.rich_help_panel = heading
        if hasattr(note, "metavar") and note.metavar is None:
            is_argument = type(note).__name__ == "ArgumentInfo"
            note.metavar = name.strip("_").upper() if is_argument else _value_of(kind)
    return Annotated[(kind, *said)]


def _value_of(kind: Any) -> str | None:
    """The word for the value of an option; None for a flag."""
    for plain, word in {bool: None, int: "N", float: "NUMBER", Path: "PATH"}.items():
        if plain in (kind, *get_args(kind)):
            return word
    return "TEXT"


def _shown(name: str, option: Option) -> Any:
    """An option of the package, which knows no Typer, for Typer."""
    return typer.Option(
        option.word(name), help=option.help, min=option.least, rich_help_panel=option.heading
    )


def flat(*groups: Any) -> dict[str, Any]:
    """The values of groups by name."""
    return {name: value for group in groups for name, value in vars(group).items()}


def open_folder(
    command: str, source: str, output: Any, kind: Any = None, *, adds: bool = False
) -> RunFolder:
    """The results folder of a run, and a line when it is not the usual one.

    Args:
        command: as ``track``.
        source: as typed.
        output: has ``out``, ``overwrite``, ``resume`` and ``quiet``.
        kind: dataclass of the options that the command records.
        adds: as ``RunFolder``.

    Raises:
        InputError: as ``choose_folder``.
    """
    frames = command in ("track", "mots", "watch")  # the others take more than ``open_source`` does
    if frames and not output.resume and ":" not in source and not source.isdecimal():
        check_exists(source)  # before anything is loaded
    folder = choose_folder(
        command, source, output.out, overwrite=output.overwrite, resume=output.resume,
        options=[field.name for field in fields(kind)] if kind else (), adds=adds,
    )  # fmt: skip
    if output.out is None and folder.path != default_folder(source, command) and not output.quiet:
        folder.remark = f"note: results go to {folder.path}"
    return folder


def remaining(
    source: str, options: Any, input: InputOptions, done: Any = None, resume: bool = False
) -> RemainingFrames:
    """What a run has still to see; ``options`` as recorded, ``done`` the counts of its past."""
    from vision_mem.runs.loop import RemainingFrames

    return RemainingFrames(
        source, options.start, input.end, options.stride, input.max_frames, options.strict,
        input.drop, options.decoder, input.reconnect, resume, getattr(done, "frames", 0),
        getattr(done, "last_index", -1),
    )  # fmt: skip


def limited(input: Limits, folder: RunFolder, *, resume: bool, corrects: bool = False) -> Limits:
    """The frames of a run that is continued: its limits hold unless they are given anew.

    A run that has reached them goes on behind them, when it is continued and not corrected.

    Args:
        input: has ``end`` and ``max_frames`` as given; a dataclass.
        folder: of the run.
        resume: whether it is continued.
        corrects: whether it is gone through again, from a frame in its past.
    """
    before, status = folder.recorded("limits") or {}, folder.recorded("status")
    most = before.get("max_frames")
    reached = status == "stopped" and most is not None and folder.frames_done() >= most
    if not resume or ((status == "finished" or reached) and not corrects):
        return input
    names = [name for name in limits_of(input) if getattr(input, name) is None]
    return replace(input, **{name: before.get(name) for name in names})


def limits_of(input: Any) -> dict[str, int | None]:
    """What a run records of its limits."""
    return {"end": input.end, "max_frames": input.max_frames}


def zone_counter(options: Any, names: list[str], info: SourceInfo) -> ZoneCounter | None:
    """What counts at the zones and lines of a run; None where there are none.

    Args:
        options: as recorded: has ``zone``, ``line``, ``anchor``, ``settle``.
        names: of the outputs; gets the table of zones, where the usual ones are wanted.
        info: of the source, whose frames all zones lie in.

    Raises:
        InputError: as ``parse_zones`` and ``check_size``; for the table without zones.
    """
    from vision_mem.tracking.zones import ZoneCounter, parse_zones

    counter = ZoneCounter(
        parse_zones(options.zone, options.line), anchor=options.anchor, settle=options.settle
    )
    if not counter.zones:
        if "zones" in names:
            raise InputError("--save zones needs a --zone or a --line to count at")
        return None
    counter.check_size(info.width, info.height)
    if options.save == type(options).save:
        names.append("zones")
    return counter


def counted(session: Any, counter: ZoneCounter | None, folder: RunFolder, resume: bool) -> Any:
    """The session, with its zones and lines where there are some."""
    if counter is None:
        return session
    from vision_mem.tracking.zones import ZonedSession

    zoned = ZonedSession(session, counter)
    if resume and folder.snapshot is not None:
        zoned.resume(folder.snapshot / SESSION)
    return zoned


def listed(words: str | None) -> list[str]:
    """What commas separate."""
    return [word.strip() for word in (words or "").split(",") if word.strip()]


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


def parse_numbers(text: str | None, count: int, option: str) -> list[float] | None:
    """Numbers with commas between, so many; None for None."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(value) < 1e12 for value in values):
        raise InputError(f"{option} {text!r}: expected {count} numbers with commas between")
    return values


FOLLOW_FOR_S = 10.0
"""Seconds without a new frame after which what is followed is at its end."""


def followed(follow: bool | None, follow_for: float | None) -> float | None:
    """Seconds for which frames are waited for; None where the source is taken as it is."""
    return follow_for if follow_for is not None else FOLLOW_FOR_S if follow else None
