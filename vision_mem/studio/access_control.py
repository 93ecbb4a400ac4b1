"""Who may talk to the server: the token, the host, the origin, how much and how often."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_COOKIE = "vision-mem-studio"
OPEN = ("/healthz",)
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


def problem_json(status: int, detail: str) -> bytes:
    """An error as RFC 9457 wants it."""
    title = HTTPStatus(status).phrase
    said = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return json.dumps(said).encode()


class Gate:
    """Middleware in front of everything, WebSockets too.

    Args:
        app: what is behind it.
        token: without it nothing is answered but ``/healthz``.
        host: the address that is listened on.
        secure: whether it is HTTPS.
    """

    def __init__(self, app: Any, token: str, host: str, secure: bool = False) -> None:
        self._app, self._token, self._secure = app, token, secure
        self._hosts = {"localhost", "127.0.0.1", "::1", host.lower(), socket.gethostname().lower()}
        # Foreign pages reach us by a name of theirs, never by a bare number.
        self._numbers = host in ("0.0.0.0", "::", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through what may pass, with the headers of safety on the answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            if refusal is not None:
                await receive()
                await send({"type": "websocket.close", "code": 4000 + refusal[0] % 1000})
                return
            await self._app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                have = {name for name, _ in message.get("headers", ())}
                more = [(n.encode(), v.encode()) for n, v in _HEADERS.items()]
                more = [pair for pair in more if pair[0] not in have]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        if refusal is not None:
            await _answer(guarded, *refusal)
        elif (key := self._token_in_address(scope)) is not None:
            # Into a cookie, and out of the address: addresses are kept and shown.
            cookie = f"{_cookie_of(scope)}={key}; Path=/; HttpOnly; SameSite=Strict"
            cookie += "; Secure" if self._secure else ""
            headers = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
            await _answer(guarded, 303, "", headers)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in scope["headers"]}
        host = headers.get("host", "")
        if not self._known_host(host):
            return 421, "this address is not one of this server; use the one printed at its start"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if origin is not None and changes and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "this request comes from a page of another server"
        if headers.get("sec-fetch-site") == "cross-site" and changes:
            return 403, "this request comes from a page of another server"
        if scope["path"] in OPEN or self._token_in_address(scope) is not None:
            return None
        if not self._has_token(headers, _cookie_of(scope)):
            return 401, "open the address that was printed at the start, with its token"
        return None

    def _known_host(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._hosts:
            return True
        if not self._numbers:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _token_in_address(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["path"] != "/":
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        key = query.get("token", [""])[0]
        return key if key and self._same(key) else None

    def _has_token(self, headers: dict[str, str], name: str) -> bool:
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._same(key.strip())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(name)
        except CookieError:
            return False
        return cookie is not None and self._same(cookie.value)

    def _same(self, key: str) -> bool:
        return hmac.compare_digest(key.encode(), self._token.encode())


def _cookie_of(scope: Scope) -> str:
    """Its name has the port in it: browsers give cookies to all ports of a host."""
    server = scope.get("server") or ("", 0)
    return f"{_COOKIE}-{server[1]}"


async def _answer(
    send: Send, status: int, detail: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = problem_json(status, detail) if detail else b""
    kind = [(b"content-type", b"application/problem+json")] if detail else []
    length = [(b"content-length", str(len(body)).encode())]
    headers = [*kind, *length, *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Allowance:
    """So many things a second, with some in hand for a moment's haste.

    Args:
        rate: a second.
        burst: at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, time.monotonic()

    def take(self) -> bool:
        """One of them; False when there is none."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
