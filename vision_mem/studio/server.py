"""The studio on the web: the API, its two sockets, and the files of the page."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from vision_mem._version import __version__
from vision_mem.errors import InputError, MissingExtra, VisionMemError
from vision_mem.sinks.masks import strict_json
from vision_mem.studio.access_control import Allowance, Gate, problem_json
from vision_mem.studio.commands import parse_command
from vision_mem.studio.export import FORMATS, export
from vision_mem.studio.frames import PushedFrames
from vision_mem.studio.registry import LARGEST_UPLOAD, Stream, Studio
from vision_mem.studio.stream import FrameMessage

try:
    from fastapi import Body, FastAPI, HTTPException, Query, Request, WebSocket
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.websockets import WebSocketDisconnect

    from vision_mem.studio.chat_completions import ChatErrors, Told, add_chat_completions
except ImportError as error:
    raise MissingExtra(
        "the studio needs FastAPI and uvicorn; run: pip install 'vision-mem[studio]'"
    ) from error

_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
}  # fmt: skip
_DETECTORS = ("motion", "motion:upright", "dfine", "rtdetr", "maskrcnn", "person, car")
"""What the page proposes; any word of ``mots --detect`` will do."""
_RESULTS_AT_ONCE = 20_000
_COMMANDS_A_SECOND, _COMMANDS_AT_ONCE = 30, 60
_SLOWEST_PAGE_S = 30.0
_LARGEST_BODY = 8 << 20
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_CODES = (
    (400, "cannot be done"), (401, "no token"), (403, "a foreign page"), (404, "not there"),
    (413, "too large"), (421, "a foreign host"), (422, "not understood"), (429, "too often"),
    (500, "failed"), (503, "not now"),
)  # fmt: skip
_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"description": what, "content": _PROBLEM} for code, what in _CODES
}
_COMMAND = Body(examples=[{"command": "prompt", "frame": 0, "points": [[90, 200]]}])


def make_app(studio: Studio, token: str, host: str = "127.0.0.1", secure: bool = False) -> Any:
    """The application, behind its gate.

    Args:
        studio: what is served.
        token: who knows it may come in.
        host: the address that is listened on.
        secure: whether it is HTTPS.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(studio.close_all)

    app = FastAPI(
        title="vision-mem studio", version=__version__, docs_url=None, redoc_url=None,
        openapi_url=None, lifespan=lifespan, responses=_REFUSALS,
    )  # fmt: skip
    _add_errors(app)
    _add_streams(app, studio)
    _add_results(app, studio)
    _add_sockets(app, studio)
    asked = Allowance(_COMMANDS_A_SECOND, _COMMANDS_AT_ONCE)
    add_chat_completions(app, studio, _answer, partial(_check_rate, asked))
    _add_pages(app, studio)
    return ChatErrors(Gate(app, token, host, secure))


def _problem(status: int, detail: str) -> Response:
    return Response(problem_json(status, detail), status, media_type="application/problem+json")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(VisionMemError)
    async def refused(_: Request, error: VisionMemError) -> Response:
        text = " ".join(str(error).split())
        return _problem(400 if error.exit_code == 2 or isinstance(error, OSError) else 503, text)

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, error: StarletteHTTPException) -> Response:
        made = _problem(error.status_code, str(error.detail))
        made.headers.update(error.headers or {})
        return made

    @app.exception_handler(RequestValidationError)
    async def not_understood(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first.get("loc", ())[1:])
        return _problem(422, f"{where or 'the request'}: {first.get('msg', 'not understood')}")

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return _problem(500, f"unexpected {type(error).__name__}; see the log of the server")


def _stream(studio: Studio, stream_id: str) -> Stream:
    try:
        return studio.get(stream_id)
    except KeyError:
        raise HTTPException(404, "there is no such stream; it may have been closed") from None


def _said(stream: Stream) -> dict[str, Any]:
    return {"id": stream.id, "source": stream.source, "can_ask": stream.memory is not None,
            **stream.actor.status}  # fmt: skip


def _add_streams(app: FastAPI, studio: Studio) -> None:
    allowance = Allowance(_COMMANDS_A_SECOND, _COMMANDS_AT_ONCE)

    @app.get("/api/streams", tags=["streams"])
    async def streams() -> list[dict[str, Any]]:
        """All streams and their states."""
        return [_said(stream) for stream in list(studio.streams.values())]

    @app.post("/api/streams", status_code=201, tags=["streams"])
    async def open_stream(
        source: str = Body(embed=True, examples=["clips/cup.mp4", "0", "rtsp://host/stream"]),
    ) -> dict[str, Any]:
        """Open a file below the root, an upload, a camera's number, an address, browser or demo."""
        _check_rate(allowance)
        return _said(await asyncio.to_thread(studio.open, source))

    @app.get("/api/streams/{stream_id}", tags=["streams"])
    async def state(stream_id: str) -> dict[str, Any]:
        """The state of a stream."""
        return _said(_stream(studio, stream_id))

    @app.delete("/api/streams/{stream_id}", status_code=204, tags=["streams"])
    async def close(stream_id: str) -> None:
        """Close a stream; its files stay where they are."""
        _stream(studio, stream_id)
        await asyncio.to_thread(studio.close, stream_id)

    @app.post("/api/streams/{stream_id}/commands", tags=["streams"])
    async def command(
        stream_id: str,
        said: dict[str, Any] = _COMMAND,
    ) -> dict[str, Any]:
        """Do something: prompt, remove, rename, merge, undo, redo, pause, play, seek, detect."""
        _check_rate(allowance)
        stream = _stream(studio, stream_id)
        parsed = parse_command(said)
        if parsed.kind == "ask":
            return await _answer(stream, str(parsed.said["question"]))
        done = await asyncio.to_thread(stream.actor.submit, parsed)
        answer: dict[str, Any] = await asyncio.wait_for(asyncio.wrap_future(done), 120)
        return answer

    @app.post("/api/streams/{stream_id}/ask", tags=["streams"])
    async def ask(stream_id: str, question: str = Body(embed=True)) -> dict[str, Any]:
        """Ask what was seen. The answer comes with moments, their scores and pictures."""
        _check_rate(allowance)
        return await _answer(_stream(studio, stream_id), question)

    @app.get("/api/files", tags=["files"])
    async def listed(path: str = "") -> list[dict[str, Any]]:
        """Videos and folders below the root."""
        return await asyncio.to_thread(studio.files, path)

    @app.post("/api/files", status_code=201, tags=["files"], openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {
            "schema": {"type": "string", "format": "binary"}}}}})  # fmt: skip
    async def upload(request: Request, name: str = Query(max_length=500)) -> dict[str, str]:
        """Send a file; the answer is what to open it by."""
        _check_rate(allowance)
        if int(request.headers.get("content-length") or 0) > LARGEST_UPLOAD:
            raise HTTPException(413, f"the file is larger than {LARGEST_UPLOAD >> 30} GB")
        path = studio.new_upload(name)
        partial_path = path.with_suffix(".partial")
        try:
            with partial_path.open("wb") as file:
                size = 0
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > LARGEST_UPLOAD:
                        raise HTTPException(413, f"the file is over {LARGEST_UPLOAD >> 30} GB")
                    await asyncio.to_thread(file.write, chunk)
            partial_path.rename(path)
        finally:
            partial_path.unlink(missing_ok=True)
        return {"source": f"upload:{path.name}"}


def _check_rate(allowance: Allowance) -> None:
    if not allowance.take():
        raise HTTPException(429, "too many commands at a time; wait a moment", {"Retry-After": "1"})


async def _answer(stream: Stream, question: str, told: Told | None = None) -> dict[str, Any]:
    if stream.memory is None:
        raise InputError("nothing watches this stream; start with --ask words, or another model")
    answer = await asyncio.to_thread(stream.memory.ask, question, told)
    for moment in answer["evidence"]:
        if moment["picture"] is not None:
            content = base64.b64encode(moment["picture"]).decode()
            moment["picture"] = f"data:image/jpeg;base64,{content}"
    frames = [moment["frame"] for moment in answer["evidence"]] if answer["seen"] else []
    stream.actor.note_answer(answer["question"], frames)
    made = strict_json(answer)
    with suppress(OSError), (stream.actor.folder / "answers.jsonl").open("a") as file:
        evidence = [{k: v for k, v in m.items() if k != "picture"} for m in made["evidence"]]
        file.write(json.dumps(made | {"evidence": evidence}, ensure_ascii=False) + "\n")
    return dict(made)


def _add_results(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/streams/{stream_id}/results", tags=["results"], response_class=StreamingResponse)
    async def results(
        stream_id: str, start: int = Query(0, alias="from", ge=0, le=2**53),
        to: int | None = Query(None, ge=0, le=2**53),
    ) -> StreamingResponse:  # fmt: skip
        """What was found: JSON lines, one a frame, up to 20,000 of them, masks as COCO has them."""
        stream = _stream(studio, stream_id)
        actor = stream.actor
        high = 2**60 if to is None else to
        frames = await asyncio.to_thread(actor.store.frames, start, high, _RESULTS_AT_ONCE)

        async def lines() -> AsyncIterator[str]:
            for index, time_s in frames:
                names = actor.history.plan.objects
                rows = await asyncio.to_thread(actor.store.rows, index)
                objects = [
                    {
                        "id": n, "name": names[n].name, "state": row.state, "score": row.score,
                        "box": row.box, "segmentation": {"size": row.size, "counts": row.counts},
                    }
                    for n, row in rows.items() if n in names
                ]  # fmt: skip
                said = {"frame": index, "time_s": time_s, "objects": objects}
                yield json.dumps(strict_json(said), ensure_ascii=False) + "\n"

        return StreamingResponse(lines(), media_type="application/jsonl")

    @app.get("/api/streams/{stream_id}/events", tags=["results"])
    async def events(
        stream_id: str, start: int = Query(0, alias="from", ge=0, le=2**53)
    ) -> list[dict[str, Any]]:
        """What happened: added, corrected, unsure, lost, found, left, entered; the latest 200."""
        actor = _stream(studio, stream_id).actor
        found = await asyncio.to_thread(actor.store.events, start)
        return [{"frame": f, "object": n, "events": kinds.split()} for f, n, kinds in found]

    @app.get("/api/streams/{stream_id}/frame/{number}.jpg", tags=["results"],
             response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})  # fmt: skip
    async def frame(stream_id: str, number: int) -> Response:
        """The picture of a frame that can still be had."""
        actor = _stream(studio, stream_id).actor
        content = await asyncio.to_thread(actor.picture, number)
        if content is None:
            raise HTTPException(404, "this frame is not held any more, or was never seen")
        return Response(content, media_type="image/jpeg")

    @app.get("/api/streams/{stream_id}/export", tags=["results"], response_class=FileResponse,
             responses={200: {"content": {"application/zip": {}}}})  # fmt: skip
    async def take_home(stream_id: str, formats: str = "rle,lasot,mot,diary") -> FileResponse:
        """A ZIP of results in the formats of ``vision-mem track --save``."""
        stream = _stream(studio, stream_id)
        names = [part.strip() for part in formats.split(",") if part.strip()]
        if not names:
            raise InputError(f"no format is named; expected some of {', '.join(FORMATS)}")
        folder = Path(tempfile.mkdtemp(prefix="vision-mem-zip-"))
        path = folder / "results.zip"

        def clear() -> None:
            path.unlink(missing_ok=True)
            folder.rmdir()

        try:
            work = partial(export, stream.actor, names, path, stream.file, studio.convention)
            await asyncio.to_thread(work)
        except BaseException:
            clear()
            raise
        name = re.sub(r"[^\w.-]+", "_", stream.id)
        return FileResponse(
            path, media_type="application/zip", filename=f"{name}.zip",
            background=BackgroundTask(clear),
        )  # fmt: skip

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(studio.metrics(), media_type="text/plain; version=0.0.4")

    @app.get("/healthz", tags=["server"])
    async def health() -> JSONResponse:
        """Whether all streams run. Needs no token, and says nothing more."""
        broken = sum(s.actor.problem is not None for s in list(studio.streams.values()))
        return JSONResponse({"ok": not broken}, 503 if broken else 200)


class _Outbox:
    """What a page is to get: the newest of each kind, sent when it has painted what came before.

    A page that is slow, or gone, costs a stream nothing: the newest message takes the place of the
    one that waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._ready = loop, asyncio.Event()
        self._slots: dict[str, FrameMessage | str] = {}
        self.painted = True

    def put(self, message: FrameMessage | str) -> None:
        """From any thread."""
        kind = "state"
        if isinstance(message, FrameMessage):
            kind = "preview" if "preview" in message.head else "frame"
        self._slots[kind] = message
        with suppress(RuntimeError):  # the server is going down
            self._loop.call_soon_threadsafe(self._ready.set)

    def acknowledge(self) -> None:
        self.painted = True
        self._ready.set()

    async def next(self) -> FrameMessage | str:
        while True:
            for kind in ("state", "preview", "frame"):
                if kind in self._slots and (kind == "state" or self.painted):
                    self.painted = self.painted and kind == "state"
                    return self._slots.pop(kind)
            self._ready.clear()
            await self._ready.wait()


def _add_sockets(app: FastAPI, studio: Studio) -> None:
    @app.websocket("/api/streams/{stream_id}/live")
    async def live(socket: WebSocket, stream_id: str) -> None:
        await socket.accept()
        if stream_id not in studio.streams:
            await socket.close(4404, "there is no such stream")
            return
        actor = studio.streams[stream_id].actor
        box = _Outbox(asyncio.get_running_loop())
        end = actor.listen(box.put)
        listening = asyncio.create_task(_acknowledged(socket, box))
        try:
            while not listening.done():
                waiting = asyncio.create_task(box.next())
                await asyncio.wait({waiting, listening}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    waiting.cancel()
                    break
                message = waiting.result()
                if isinstance(message, str):
                    sending = socket.send_text(message)
                elif message.quick:
                    sending = socket.send_bytes(message.content())
                else:
                    sending = socket.send_bytes(await asyncio.to_thread(message.content))
                await asyncio.wait_for(sending, _SLOWEST_PAGE_S)
                if isinstance(message, str) and json.loads(message).get("closed"):
                    await socket.close(4410, "the stream was closed")
                    break
        except (WebSocketDisconnect, RuntimeError, asyncio.TimeoutError):
            pass
        finally:
            end()
            listening.cancel()

    @app.websocket("/api/streams/{stream_id}/camera")
    async def camera(socket: WebSocket, stream_id: str) -> None:
        await socket.accept()
        stream = studio.streams.get(stream_id)
        if stream is None or not isinstance(stream.actor.frames, PushedFrames):
            await socket.close(4404, "there is no such stream that takes pictures")
            return
        frames, wrong = stream.actor.frames, 0
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                content = await socket.receive_bytes()
                try:
                    await asyncio.to_thread(frames.push, content)
                    await socket.send_text("ok")
                except InputError as error:
                    wrong += 1
                    await socket.send_text(json.dumps({"error": str(error)}))
                    if wrong > 20:
                        await socket.close(4400, "too many pictures that are none")
                        return
                except KeyError:
                    return


async def _acknowledged(socket: WebSocket, box: _Outbox) -> None:
    with suppress(WebSocketDisconnect, RuntimeError, KeyError):
        while True:
            await socket.receive_text()
            box.acknowledge()


def _add_pages(app: FastAPI, studio: Studio) -> None:
    page = files("vision_mem.studio") / "page"
    known = {item.name for item in page.iterdir() if Path(item.name).suffix in _TYPES}
    schema: dict[str, Any] = {}

    @app.get("/api/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        if not schema:
            made = app.openapi()
            made["components"].setdefault("schemas", {})["Problem"] = {
                "type": "object", "properties": {
                    "type": {"type": "string"}, "title": {"type": "string"},
                    "status": {"type": "integer"}, "detail": {"type": "string"},
                },
            }  # fmt: skip
            made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"token": []}]
            schema.update(made)
        return JSONResponse(schema)

    @app.get("/api/about", tags=["server"])
    async def about() -> dict[str, Any]:
        """What this server is and can do."""
        return {
            "version": __version__, "model": studio.segmenter.traits.model_id.partition("#")[0],
            "formats": list(FORMATS), "detector": studio.detector, "detectors": list(_DETECTORS),
            "budget": studio.budget,
            "can_ask": studio.open_memory is not None, "root": studio.root.resolve().name,
            "uptime_s": round(time.monotonic() - studio.begun, 1),
        }  # fmt: skip

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def asset(name: str = "index.html") -> Response:
        if name == "api":
            name = "docs.html"
        if name not in known:
            raise HTTPException(404, "there is no such page")
        content = (page / name).read_bytes()
        return Response(content, media_type=_TYPES[Path(name).suffix])
