"""Follow what many cameras show at once, with fair shares of one copy of the weights."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.evaluation.options import PLACE
from vision_mem.runs.lock import FileLock
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import count
from vision_mem.text import one_line, shown

from .batch import built_command, run_command
from .options import OUTPUT, Overwrite, Quiet, listed

_OURS = (
    "--out", "--resume", "--overwrite", "--show", "--quiet", "--pick", "--device", "--threads",
    "--snapshot-every", "--from", "--max-frames", "--drop",
)  # fmt: skip
"""Options of the commands that a fleet sees to, or that are for one video before a person."""


@dataclass(frozen=True)
class FleetOutput:
    """Where results go, and who may look."""

    heading: ClassVar[str] = OUTPUT
    out: Annotated[Path, typer.Option(help="Results folder, one in it a camera.")] = Path(
        "runs/fleet"
    )
    listen: Annotated[
        str,
        typer.Option(help="HOST:PORT for /, /status, /health and /metrics (Prometheus), or none."),
    ] = "127.0.0.1:9464"
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the fleet in --out, from its snapshots.")
    ] = False
    overwrite: Overwrite = False
    check: Annotated[
        bool, typer.Option("--check", help="Say what is wrong with the list, and begin nothing.")
    ] = False
    quiet: Quiet = False


@dataclass(frozen=True)
class FleetPlace:
    """Where it runs."""

    heading: ClassVar[str] = PLACE
    devices: Annotated[
        str, typer.Option(help="auto, cpu, or several, a process each: cuda:0,cuda:1.")
    ] = "auto"
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with its copy of the weights.")
    ] = None
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Cameras that compute at a time [1 a core, 4 on a GPU]."),
    ] = None
    snapshot_every: Annotated[
        int, typer.Option(min=1, help="Frames between snapshots, from which a killed one goes on.")
    ] = 100
    ray: Annotated[
        str | None, typer.Option(help="Run on a Ray cluster: its address, auto, or local.")
    ] = None


def main(
    cameras: Annotated[
        Path, typer.Argument(help="YAML: cameras, each with its source and options; see docs.")
    ],
    output: FleetOutput = FleetOutput(),
    place: FleetPlace = FleetPlace(),
) -> int:
    """Follow what many cameras show, each with track or mots, in a process a device.

    The list is read again when it changes: cameras come, go and change, and the others do not
    notice. A stream that is too much for its share leaves out frames, then takes a smaller
    picture, then fewer objects. Ctrl-C finishes all files; --resume goes on.
    """
    if output.resume and output.overwrite:
        raise InputError("--overwrite and --resume exclude each other: give one of them")
    # Slips in the list are told before anything heavy is loaded.
    from vision_mem.fleet.cameras import read_cameras

    known, mistakes = read_cameras(cameras, words_of)
    if not known and not mistakes:
        mistakes = (f"{cameras}: there are no cameras in it",)
    for mistake in mistakes:
        print(f"error: {one_line(mistake)}", file=sys.stderr)
    if mistakes or output.check:
        if not mistakes:
            print(f"{count(len(known), 'camera')}, nothing wrong")
        return InputError.exit_code if mistakes else 0

    from vision_mem.fleet.status_server import StatusServer, parse_address
    from vision_mem.fleet.supervisor import RECORD, Fleet
    from vision_mem.formats.text import make_folder

    address = None if output.listen == "none" else parse_address(output.listen)
    out = output.out.absolute()
    make_folder(out)
    with ExitStack() as stack:
        lock = FileLock(out / RECORD, f"fleet {out}", "or give another --out")
        stack.callback(lock.close)
        signals = stack.enter_context(StopSignals())
        plans = _plans(place, out)
        fleet = Fleet(
            cameras, out, plans, stack.enter_context(_hosts(place, len(plans))), words_of,
            resume=output.resume, overwrite=output.overwrite, quiet=output.quiet,
        )  # fmt: skip
        if address is not None:
            server = StatusServer(address, fleet.view)
            stack.callback(server.close)
            if not output.quiet:
                print(f"status at http://{address[0]}:{server.port}/", file=sys.stderr)
        fleet.begin(known)
        good = fleet.run(lambda: signals.received is not None)
    if not output.quiet:
        print(f"results in {out}, a folder a camera; status.json says how each ended")
    if signals.received is not None:
        print("stopped; --resume goes on", file=sys.stderr)
        return signals.exit_code
    return 0 if good else 1


def _plans(place: FleetPlace, out: Path) -> list[Any]:
    from vision_mem.fleet.device_host import HostPlan
    from vision_mem.fleet.supervisor import LOGS

    devices = listed(place.devices)
    if not devices:
        raise InputError("--devices names no device; expected cuda:0,cuda:1 or so")
    return [
        HostPlan(
            devices[n % len(devices)], run_command, out / LOGS / f"process-{n + 1}.txt",
            place.slots, place.snapshot_every,
        )
        for n in range(place.workers or len(devices))
    ]  # fmt: skip


@contextmanager
def _hosts(place: FleetPlace, count: int) -> Iterator[Any]:
    """What begins the process of a device, here or on a cluster."""
    if place.ray is None:
        from vision_mem.fleet.device_host import LocalHost

        yield LocalHost
        return
    from vision_mem.fleet.ray_host import ray_hosts

    with ray_hosts(place.ray, count) as begin:
        yield begin


@cache
def _command(command: str) -> Any:
    return built_command(command)


def words_of(command: str, key: str, value: Any) -> list[str]:
    """Words for a command, of one option of a camera.

    Args:
        command: track or mots.
        key: the option, with ``_`` for ``-``.
        value: of YAML: text, number, truth value, or a list.

    Raises:
        InputError: for what is no option, or no value of it.
    """
    built = _command(command)
    params = {
        name.lstrip("-").replace("-", "_"): param for param in built.params
        if param.param_type_name == "option" for name in param.opts
    }  # fmt: skip
    param = params.get(key)
    if param is None or param.opts[0] == "--help":
        known = [*params, "source", "command", "weight", "paced", "delay_ms", "memory_mb"]
        near = nearest(key, known)
        raise InputError(f"{command} has no such option{near}")
    option = param.opts[0]
    if option in _OURS:
        raise InputError("is what the fleet sees to; leave it out")
    if param.is_flag:
        if not isinstance(value, bool):
            raise InputError(f"is {shown(value)}; expected true or false")
        return [option] if value else []
    some = value if isinstance(value, list) else [value]
    if not some or any(isinstance(one, (dict, list, bool)) or one is None for one in some):
        raise InputError(f"is {shown(value)}; expected a word, a number, or a list of them")
    if not param.multiple:
        some = [",".join(map(str, some))]
    words = [word for one in some for word in (option, str(one))]
    if key == "save":
        from vision_mem.sinks.registry import MOTS_SINKS, SINKS, check_names

        check_names(listed(some[0]), MOTS_SINKS if command == "mots" else SINKS)
    _check(built, command, words)
    return words


def _check(built: Any, command: str, words: list[str]) -> None:
    """Refuse a value that the option does not take.

    Raises:
        InputError: in the words of the command line.
    """
    try:
        built.make_context(command, ["-", *words], resilient_parsing=False)
    except InputError:
        raise
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        said = re.sub(r"^Invalid value for .*?: ", "", str(error.format_message()))
        raise InputError(
            f"is {shown(words[1])}: {said[:1].lower()}{said[1:].rstrip('.')}"
        ) from None
