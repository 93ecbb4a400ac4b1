"""Options of commands: groups of them as dataclasses, declared once and shown under their headings.

A command takes groups as parameters (``def main(source: Source, output: OutputOptions)``);
``grouped`` turns their fields into options for the command line, and callers in Python build the
groups by hand. Of a run that is continued, ``take_options`` says what was given, or recorded.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from vision_mem.errors import InputError
from vision_mem.evaluation.options import Option

FOLLOW, INPUT, OUTPUT = "What to follow", "Input", "Output"
MODEL, ADVANCED = "Model", "Advanced"
"""Headings of the groups, in the order in which help shows them."""

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


class GroupedCommand(TyperCommand):
    """Help with a heading for each group, in plain text: rich would take half a second to load."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group in the order of its first option, then the rest."""
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is None:
                continue
            is_argument = param.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(param, "rich_help_panel", None)
            rows.setdefault(heading or "Options", []).append(record)
        rows["Options"] = rows.pop("Options", [])
        for heading, records in rows.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


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
            taken.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))
            continue
        groups[name] = kind
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
    """The annotation with its option under a heading; a copy, since options are shared."""
    if get_origin(annotation) is not Annotated:
        return Annotated[annotation, typer.Option(rich_help_panel=heading)]
    kind, *notes = get_args(annotation)
    said = [_shown(name, note) if isinstance(note, Option) else copy.copy(note) for note in notes]
    for note in said:
        if heading and hasattr(note, "rich_help_panel"):
            note.rich_help_panel = heading
    return Annotated[(kind, *said)]


def _shown(name: str, option: Option) -> Any:
    """An option of the package, which knows no Typer, for Typer."""
    return typer.Option(
        option.word(name), help=option.help, min=option.least, rich_help_panel=option.heading
    )


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
