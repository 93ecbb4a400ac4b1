"""Streams behind the chat completions of OpenAI's API, for programs that speak to language models.

A model is a stream that is watched for questions, and the last thing a user said is the question.
It is answered as the page's questions are; what the answer rests on comes as text behind it, and
whole in the field ``vision_mem``.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from vision_mem.config import nearest
from vision_mem.errors import InputError, VisionMemError
from vision_mem.models.vlm.protocol import AnswerPiece
from vision_mem.studio.access_control import Receive, Scope, Send
from vision_mem.studio.registry import Stream, Studio
from vision_mem.text import parse_json, shown
from vision_mem.videoqa.evidence import clock

ANY = "vision-mem"
"""The model that is whichever watched stream was opened last."""
_PREFIX = "/v1/"
_LARGEST, _READ = 1 << 20, 32 << 20
_LOOK_S = 0.1  # how often it is looked whether the client is still there
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_NAMES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}

Told = Callable[[AnswerPiece], bool]
"""Takes a piece of an answer; False when no more is wanted."""
Answered = Callable[[Stream, str, Told], Coroutine[Any, Any, dict[str, Any]]]


class ChatError(InputError):
    """What of a request cannot be done.

    Attributes:
        param: the field that says it, or None.
        code: OpenAI's word for it, or None.
        status: of HTTP.
    """

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


@dataclass(frozen=True)
class ChatRequest:
    """What is asked of whom.

    Attributes:
        model: as named.
        question: the text of the last message of a user.
        stream: whether the answer is wanted in pieces.
    """

    model: str
    question: str
    stream: bool = False


def read_request(said: Any) -> ChatRequest:
    """The request in a body of ``/v1/chat/completions``.

    Settings of how words are drawn (``temperature``, ``seed`` and the like) may be there and
    change nothing; what would change the form of an answer is refused.

    Raises:
        ChatError: naming the field.
    """
    if not isinstance(said, Mapping):
        raise ChatError("the body is no JSON object; expected one with model and messages")
    model = said.get("model")
    if not isinstance(model, str) or not model:
        raise ChatError(f"model is missing; expected the name of a stream, or {ANY}", "model")
    stream = said.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise ChatError(f"stream is {shown(stream)}; expected true or false", "stream")
    _refuse_unsupported(said)
    return ChatRequest(model, _question(said.get("messages")), bool(stream))


def _refuse_unsupported(said: Mapping[str, Any]) -> None:
    if said.get("n") not in (None, 1) or isinstance(said.get("n"), bool):
        raise ChatError("n: there is one answer to a question; leave n out", "n")
    for name in ("tools", "functions"):
        if said.get(name):
            raise ChatError(
                f"{name}: the answer is words, no tool is called; leave {name} out "
                "(for agents there is vision-mem mcp)",
                name,
            )
    if said.get("logprobs") or said.get("top_logprobs"):
        raise ChatError("logprobs: there are none of an answer; leave it out", "logprobs")
    if said.get("stop"):
        raise ChatError("stop: an answer ends where the model ends it; leave it out", "stop")
    form = said.get("response_format")
    if form is not None and not (isinstance(form, Mapping) and form.get("type") == "text"):
        raise ChatError("response_format: answers are text; leave it out", "response_format")
    kinds = said.get("modalities")
    if said.get("audio") or kinds not in (None, [], ["text"]):
        raise ChatError("modalities: answers are text; leave it out", "modalities")


def _question(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise ChatError("messages is missing; expected a list with a question in it", "messages")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise ChatError(
                f"message {number} has no role; expected one of {', '.join(_ROLES)}",
                f"messages[{number}].role",
            )
    asked = [(n, each) for n, each in enumerate(messages) if each["role"] == "user"]
    if not asked:
        raise ChatError("no message is a user's; expected one with the question", "messages")
    number, last = asked[-1]
    return _text(last.get("content"), f"messages[{number}].content")


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ChatError(f"{where}: expected text, or a list of text parts", where)
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("image_url", "input_audio", "file"):
            raise ChatError(
                f"{where}: a part of kind {kind} cannot be looked at; questions are answered from "
                "what the stream has shown: send text only (a file is watched as a stream)",
                where,
            )
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ChatError(f"{where}: expected parts of kind text, each with its text", where)
        parts.append(part["text"])
    return "\n".join(parts)


def watched(studio: Studio) -> dict[str, Stream]:
    """The streams that can be asked, by name, in the order in which they were opened."""
    return {s.id: s for s in list(studio.streams.values()) if s.memory is not None}


def named_stream(studio: Studio, model: str) -> Stream:
    """The stream that a model's name means.

    Raises:
        ChatError: when there is none.
    """
    streams = watched(studio)
    if model in streams:
        return streams[model]
    if model == ANY and streams:
        return list(streams.values())[-1]
    if model in studio.streams or (model == ANY and studio.open_memory is None):
        raise ChatError(
            "nothing watches this stream; start with --ask words, or another model", "model"
        )
    near = nearest(model, [*streams, ANY]) or (
        f"; expected one of {', '.join(streams)}, or {ANY}" if streams else "; no stream is open"
    )
    raise ChatError(f"no model {shown(model)}{near}", "model", "model_not_found", 404)


def evidence_text(found: Mapping[str, Any]) -> str:
    """What an answer rests on, in words: whether it was seen, and when."""
    guess = str(found.get("guess") or "")
    lines = [f"{guess[:1].upper()}{guess[1:]}."] if guess else []
    for moment in found["evidence"]:
        begin, end = float(moment["start_s"]), float(moment["end_s"])
        until = "" if end - begin < 0.05 else f" to {clock(end)}"
        lines.append(f"- {clock(begin)}{until}, score {moment['score']:.2f}")
    if found["evidence"]:
        lines.insert(len(lines) - len(found["evidence"]), "Moments that match best:")
    return "\n".join(lines)


# -- the routes ----------------------------------------------------------------------------------


def add_chat_completions(
    app: FastAPI, studio: Studio, answer: Answered, check_rate: Callable[[], None]
) -> None:
    """Add ``/v1/models`` and ``/v1/chat/completions``; see ``ChatErrors`` for the errors.

    Args:
        app: gets the routes.
        studio: whose streams are asked.
        answer: the way on which the page's questions are answered.
        check_rate: raises when too much is asked at a time.
    """
    begun = int(time.time())

    def model(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": begun, "owned_by": "vision-mem"}

    @app.get("/v1/models", include_in_schema=False)
    async def models() -> dict[str, Any]:
        names = list(watched(studio))
        return {"object": "list", "data": [model(n) for n in ([*names, ANY] if names else [])]}

    @app.get("/v1/models/{name}", include_in_schema=False)
    async def one_model(name: str) -> Response:
        try:
            named_stream(studio, name)
        except ChatError as error:
            return _refusal(error)
        return JSONResponse(model(name))

    @app.post("/v1/chat/completions", include_in_schema=False)
    async def completions(request: Request) -> Response:
        check_rate()
        try:
            asked = read_request(await _body(request))
            stream = named_stream(studio, asked.model)
            saying = _Saying(answer, stream, asked)
            if asked.stream:
                await saying.begun()  # what is wrong with a question is an error, not a stream
                return StreamingResponse(saying.events(), media_type="text/event-stream")
            return JSONResponse(await saying.whole(request))
        except ChatError as error:
            return _refusal(error)


async def _body(request: Request) -> Any:
    content, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= _LARGEST:
            content += chunk
        elif size > _READ:
            break
    # The rest was read first: who is still sending does not see an answer.
    if size > _LARGEST:
        raise ChatError(
            f"the request is larger than {_LARGEST >> 20} MB; send the question alone", status=413
        )
    try:
        return parse_json(bytes(content), "the body")
    except InputError as error:
        raise ChatError(str(error)) from None


class _Saying:
    """One answer on its way to a client; it ends with the client."""

    def __init__(self, answer: Answered, stream: Stream, asked: ChatRequest) -> None:
        self._gone = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[AnswerPiece | None] = asyncio.Queue()
        self._first: AnswerPiece | None = None
        self._finish = "stop"
        self._stream, self._asked = stream, asked
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model
        }  # fmt: skip
        self._task = asyncio.create_task(answer(stream, asked.question, self._told))
        self._task.add_done_callback(self._ended)

    def _told(self, piece: AnswerPiece) -> bool:
        """From the thread that answers."""
        with suppress(RuntimeError):  # the server is going down
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        return not self._gone.is_set()

    def _ended(self, task: asyncio.Task[dict[str, Any]]) -> None:
        if not task.cancelled():
            task.exception()  # of one that nobody waits for any more, no word in the log
        self._pieces.put_nowait(None)

    def stop(self) -> None:
        """Nobody listens any more."""
        self._gone.set()
        self._task.cancel()

    async def begun(self) -> None:
        """Wait for the first piece.

        Raises:
            VisionMemError: why there is none.
        """
        self._first = await self._pieces.get()
        if self._first is None:
            self._task.result()

    async def whole(self, request: Request) -> dict[str, Any]:
        """The answer as one ``chat.completion``; given up when the client goes."""
        while not self._task.done():
            await asyncio.wait({self._task}, timeout=_LOOK_S)
            if await request.is_disconnected():
                self.stop()
                raise ChatError("the client has gone", status=499)
        found = self._task.result()
        while (piece := await self._pieces.get()) is not None:
            self._finish = piece.finish or self._finish
        texts = [text for text in (found["text"], evidence_text(found)) if text]
        message = {"role": "assistant", "content": "\n\n".join(texts), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self._finish, "logprobs": None}
        return {
            **self._head, "object": "chat.completion", "choices": [choice], "usage": None,
            "vision_mem": self._evidence(found),
        }  # fmt: skip

    async def events(self) -> AsyncIterator[str]:
        """The answer as server-sent events: pieces, the evidence, an end."""
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            piece, said = self._first, False
            while piece is not None:
                self._finish = piece.finish or self._finish
                if piece.text:
                    said = True
                    yield self._chunk({"content": piece.text})
                piece = await self._pieces.get()
            found = self._task.result()
            if evidence := evidence_text(found):
                yield self._chunk({"content": f"\n\n{evidence}" if said else evidence})
            yield self._chunk({}, self._finish, vision_mem=self._evidence(found))
        except VisionMemError as error:
            yield _event(_told_error(503, " ".join(str(error).split())))
        except Exception as error:
            yield _event(_told_error(500, f"unexpected {type(error).__name__}; see the server"))
        finally:
            self.stop()
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        made = {**self._head, "object": "chat.completion.chunk", "choices": [choice], **more}
        return _event(made)

    def _evidence(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {"stream": self._stream.id} | {k: v for k, v in found.items() if k != "text"}


def _event(made: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(made, ensure_ascii=False)}\n\n"


# -- errors --------------------------------------------------------------------------------------


def _told_error(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = code or _NAMES.get(status)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _refusal(error: ChatError) -> Response:
    said = _told_error(error.status, " ".join(str(error).split()), error.param, error.code)
    return JSONResponse(said, error.status)


class ChatErrors:
    """Middleware around everything: below ``/v1/`` errors have the form of OpenAI's.

    Those of the gate, of routes and of pages that are not there come as RFC 9457 wants them.

    Args:
        app: what is behind it.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and change problems."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        begun: list[dict[str, Any]] = []
        content = bytearray()

        async def changed(message: Any) -> None:
            if message["type"] == "http.response.start":
                kinds = [v for k, v in message["headers"] if k.lower() == b"content-type"]
                if kinds == [b"application/problem+json"]:
                    begun.append(message)
                    return
            elif begun:
                content.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                start = begun.pop()
                detail = json.loads(bytes(content))["detail"]
                if start["status"] == 401:
                    detail = "the API key is not the token that was printed at the start"
                body = json.dumps(_told_error(start["status"], detail)).encode()
                own = (b"content-type", b"content-length")
                headers = [pair for pair in start["headers"] if pair[0].lower() not in own]
                headers += [(own[0], b"application/json"), (own[1], str(len(body)).encode())]
                await send({**start, "headers": headers})
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self._app(scope, receive, changed)
