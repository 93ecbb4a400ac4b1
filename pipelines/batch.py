"""Run track, mots, ask or reconstruct on many videos, on processes or a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from vision_mem._version import __version__
from vision_mem.config import nearest
from vision_mem.errors import InputError, MissingExtra
from vision_mem.evaluation.options import PLACE, Workplace, check_cluster
from vision_mem.formats.text import make_folder, write_file
from vision_mem.models.segmenters.load import check_model
from vision_mem.models.vlm import check_video_model
from vision_mem.runs.lock import FileLock
from vision_mem.runs.progress import some
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import count
from vision_mem.text import read_json, shown

from .options import OUTPUT, GroupedCommand, Overwrite, Quiet, grouped

KINDS = tuple(
    name
    for name in ("track", "mots", "ask", "reconstruct", "watch")
    if Path(__file__).with_name(f"{name}.py").is_file()
)
"""Commands that can be run on many videos."""
_OURS = ("--out", "--resume", "--overwrite", "--show", "--memory", "--pick", "--interactive", "-i")
"""Options of the commands that a batch sees to, or that are for one video before a person."""
_INDEXED = {"track": "TrackOptions", "mots": "MotsOptions"}


class BatchCommand(GroupedCommand):
    """Its own options, and any others for the command that it runs."""

    ignore_unknown_options = True


COMMAND = BatchCommand


@dataclass(frozen=True)
class BatchOutput:
    """Where results go."""

    heading: ClassVar[str] = OUTPUT
    out: Annotated[Path | None, typer.Option(help="Results folder [runs/batch/COMMAND].")] = None
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Of track and mots: without index.parquet.")
    ] = False
    overwrite: Overwrite = False
    quiet: Quiet = False


@dataclass(frozen=True)
class BatchPlace:
    """Where it runs."""

    heading: ClassVar[str] = PLACE
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, each with one video at a time [1 a device]."),
    ] = None
    devices: Annotated[
        str, typer.Option(help="auto, cpu, or several for as many workers: cuda:0,cuda:1.")
    ] = "auto"
    ray: Annotated[
        str | None, typer.Option(help="Run on a Ray cluster: its address, auto, or local.")
    ] = None


def main(
    command: Annotated[str, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT | OPTION",
            help="Files, folders, patterns as 'clips/*.mp4', s3://... and the like, or lists "
            "(.csv, .jsonl, .parquet: a column file, others are options); and options of COMMAND.",
        ),
    ],
    output: BatchOutput = BatchOutput(),
    place: BatchPlace = BatchPlace(),
) -> int:
    """Run track, mots, ask or reconstruct on many videos, on processes or a Ray cluster.

    Each video has its own folder; the same command goes on where it was cut off. A worker that
    dies costs what its video did since its last snapshot. Questions of ask end in ? or
    have several words.
    """
    command = _known(command)
    inputs, options, questions = _told_apart(command, words)
    workplace = Workplace(
        tuple(d.strip() for d in place.devices.split(",")), place.workers, place.ray
    )
    check_cluster(place.ray)
    # Help and slips should not wait for what finds and reads files.
    from vision_mem.batch.inputs import find_inputs, holds_images

    judges = {"reconstruct": [_is_recording], "watch": [_is_recording, holds_images]}
    kinds = judges.get(command, [holds_images])
    found = find_inputs(
        inputs,
        partial(_options_of_row, command),
        lambda place: any(is_one(place) for is_one in kinds),
    )
    folder = (output.out or Path("runs/batch", command)).absolute()
    options, indexed = _with_index(command, options, wanted=not output.no_index)
    words_of = [(*questions, *options, *each.options) for each in found]
    models = {
        _check(command, (each.source, *own)) for each, own in zip(found, words_of, strict=True)
    }
    if place.ray is None:  # nodes of a cluster may have what this machine has not
        _check_models(command, models)
    # What typing alone shows has been said; torch takes seconds.
    from vision_mem.batch.jobs import RESULTS, VideoJob

    taken = [name for param in _params(command) for name in param.opts]
    jobs = [
        VideoJob(
            each.name, each.size, each.source, own, folder, partial(run_command, command), command,
            "--device" in taken and "--device" not in own,
        )
        for each, own in zip(found, words_of, strict=True)
    ]  # fmt: skip
    threads = _threads(workplace, options, taken)
    make_folder(folder)
    lock = FileLock(folder / RESULTS, f"batch {folder}", "or give another --out")
    try:
        # Behind the lock: what another batch is writing is not cleared away.
        _claim(folder, command, [*questions, *options], overwrite=output.overwrite)
        return _carry_out(jobs, workplace, threads, folder, indexed, output.quiet)
    finally:
        lock.close()


def run_command(command: str, words: Sequence[str]) -> int:
    """Run a command with its words in this process; says the exit code.

    Raises:
        VisionMemError: as the command.
    """
    code = built_command(command).main([*words], f"vision-mem {command}", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _carry_out(
    jobs: list[Any], place: Workplace, threads: int | None, folder: Path, indexed: bool, quiet: bool
) -> int:
    from vision_mem.batch.index import write_index, write_summary
    from vision_mem.batch.jobs import BatchProgress, CommandRunner, with_threads
    from vision_mem.evaluation.engine.run import hand_out

    undone = [job for job in jobs if not job.is_whole()]
    undone.sort(key=lambda job: -job.length)  # the longest first, so that none is left at the end
    ready = undone if threads is None else [with_threads(job, threads) for job in undone]
    with StopSignals() as signals:
        with BatchProgress(ready, done=len(jobs) - len(undone), show=not quiet) as progress:
            if ready:
                hand_out(
                    ready, CommandRunner, place, progress.hear,
                    lambda: signals.received is not None, apart=True,
                )  # fmt: skip
        reasons = {failed.sequence: failed.reason for failed in progress.failed}
        rows = [job.outcome() | {"error": reasons.get(job.name, "")} for job in jobs]
        write_summary(folder, rows)
        whole = [job for job in jobs if job.is_whole()]
        written = write_index(folder, ((job.source, job.out) for job in whole)) if indexed else None
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, each in reasons.items() if each == reason]
        print(f"error: {some(names, 'videos')}: {reason}", file=sys.stderr)
    if not quiet:
        print(f"{len(whole)} of {count(len(jobs), 'video')} done")
        print(f"results in {folder}: runs/, logs/, summary.csv", end="")
        print("" if written is None else f", index.parquet ({count(written, 'row')})")
    if signals.received is not None:
        print("stopped; the same command goes on", file=sys.stderr)
        return signals.exit_code
    return 1 if reasons else 0


def _claim(folder: Path, command: str, words: list[str], *, overwrite: bool) -> None:
    """Write the record of a batch, or see that the folder is of this one.

    Raises:
        InputError: when it holds something else.
    """
    from vision_mem.batch.jobs import RESULTS

    record = {"command": command, "options": words, "version": __version__}
    path = folder / RESULTS
    if path.is_file() and not overwrite:
        before = read_json(path)
        kept = {key: before.get(key) for key in ("command", "options")}
        if kept != {key: record[key] for key in kept}:
            said = " ".join(map(str, [before.get("command"), *(before.get("options") or ())]))
            raise InputError(
                f"{folder} holds a batch of another line ({shown(said)}); give another --out, or "
                "--overwrite to begin anew"
            )
        return
    if not path.is_file() and any(each.name != f"{RESULTS}.lock" for each in folder.iterdir()):
        raise InputError(f"--out {folder} holds other files; give a folder of its own")
    if overwrite and path.is_file():
        _clear(folder)
    write_file(path, (json.dumps(record, indent=2) + "\n").encode())


def _clear(folder: Path) -> None:
    import shutil

    from vision_mem.batch.index import INDEX, SUMMARY
    from vision_mem.batch.jobs import LOGS, RUNS

    for name in (RUNS, LOGS):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (INDEX, SUMMARY):
        (folder / name).unlink(missing_ok=True)


def _known(command: str) -> str:
    if command not in KINDS:
        raise InputError(
            f"no command {shown(command)} for many videos{nearest(command, KINDS)}; expected one "
            f"of {', '.join(KINDS)}"
        )
    return command


def _module(command: str) -> Any:
    return import_module(f"vision_mem.pipelines.{command}")


def built_command(command: str) -> Any:
    """A command of ours by its name, as Click has it: its parameters, and a way to run it."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(command, cls=GroupedCommand)(grouped(_module(command).main))
    return typer.main.get_command(app)


def _params(command: str) -> list[Any]:
    return [p for p in built_command(command).params if p.param_type_name == "option"]


def _told_apart(command: str, words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Inputs, options for the command, and questions, of the words on a line.

    Raises:
        InputError: for options that the command does not have, or that a batch sees to.
    """
    flags = {name: bool(p.is_flag) for p in _params(command) for name in p.opts}
    inputs: list[str] = []
    options: list[str] = []
    asked: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if not word.startswith("-") or word == "-":
            (asked if command == "ask" and _is_question(word) else inputs).append(word)
            continue
        if name not in flags:
            raise InputError(f"{command} has no option {name}{nearest(name, list(flags))}")
        if name in _OURS:
            raise InputError(f"{name} is not for many videos at once; leave it out")
        options.append(word)
        if not flags[name] and not equals:
            if not rest:
                raise InputError(f"option {name} needs a value")
            options.append(rest.pop(0))
    return inputs, options, asked


def _is_question(word: str) -> bool:
    return word.endswith("?") or (any(c.isspace() for c in word) and not Path(word).exists())


def _options_of_row(command: str, row: Mapping[str, Any]) -> list[str]:
    """Words for the command, of the columns of a list.

    Raises:
        InputError: for a column that is no option, or a value that it does not take.
    """
    params = {name.lstrip("-").replace("-", "_"): p for p in _params(command) for name in p.opts}
    words: list[str] = []
    for column, value in row.items():
        key = str(column).strip().lstrip("-").replace("-", "_")
        param = params.get(key)
        if param is None:
            raise InputError(f"{command} has no option {shown(key)}{nearest(key, list(params))}")
        option = param.opts[0]
        if option in _OURS:
            raise InputError(f"{option} is not for many videos at once; leave the column out")
        if param.is_flag:
            if str(value).lower() in ("true", "1", "yes"):
                words.append(option)
            elif str(value).lower() not in ("false", "0", "no", ""):
                raise InputError(f"{key} is {shown(value)}; expected true or false")
            continue
        some = value if isinstance(value, list) else [value]
        if param.multiple and isinstance(value, str):
            some = [part.strip() for part in value.split(";") if part.strip()]
        if any(isinstance(each, (dict, list)) for each in some):
            raise InputError(
                f"{key} is {shown(value)}; expected a word, a number, or a list of them"
            )
        words += [part for each in some for part in (option, str(each))]
    return words


def _check(command: str, words: Sequence[str]) -> str | None:
    """Refuse what typing alone shows to be wrong, before the first video is begun.

    Returns:
        The model that is named, if one is.
    """
    context = built_command(command).make_context(command, [*words], resilient_parsing=False)
    model = context.params.get("model")
    return model if isinstance(model, str) else None


def _check_models(command: str, models: Iterable[str | None]) -> None:
    """Refuse models that are nowhere, once and not for each video."""
    judges = dict.fromkeys(("track", "mots", "watch"), check_model) | {"ask": check_video_model}
    for model in models:
        if command in judges and model is not None:
            judges[command](model)


def _with_index(command: str, options: list[str], *, wanted: bool) -> tuple[list[str], bool]:
    """The options with the tables that the index is made of, and whether there will be one."""
    if command not in _INDEXED or not wanted:
        return options, False
    from vision_mem.formats.parquet import arrow

    try:
        arrow()
    except MissingExtra:
        print(
            "note: no index.parquet without pyarrow: pip install 'vision-mem[interop]'",
            file=sys.stderr,
        )
        return options, False
    usual = getattr(_module(command), _INDEXED[command])().save
    names = usual
    kept: list[str] = []
    rest = list(options)
    while rest:
        word = rest.pop(0)
        if word == "--save" and rest:
            names = rest.pop(0)
        elif word.startswith("--save="):
            names = word.partition("=")[2]
        else:
            kept.append(word)
    if "parquet" not in [name.strip() for name in names.split(",")]:
        names += ",parquet"
    return [*kept, "--save", names], True


def _threads(place: Workplace, options: Sequence[str], taken: Sequence[str]) -> int | None:
    """Of each worker, where several share the cores; None where the command decides."""
    import os

    workers = place.workers or len(place.devices)
    given = any(word.partition("=")[0] == "--threads" for word in options)
    if workers == 1 or place.ray is not None or given or "--threads" not in taken:
        return None
    return max(1, (os.cpu_count() or 1) // workers)


def _is_recording(folder: Path) -> bool:
    """Whether a folder is a recording of a depth camera."""
    from vision_mem.sources.rgbd_layouts import check_layout

    try:
        check_layout(folder)
    except InputError:
        return False
    return True
