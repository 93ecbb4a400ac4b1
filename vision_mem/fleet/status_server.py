"""How a fleet is doing, over HTTP: for Prometheus, health checks and people. Changes nothing."""

from __future__ import annotations

import html
import ipaddress
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vision_mem.errors import InputError
from vision_mem.fleet.degradation import LEVELS
from vision_mem.text import printable, shown

View = Callable[[], dict[str, Any]]

_NUMBERS = {
    "fps": ("frames_per_second", "gauge", "Frames followed a second, of late."),
    "frames": ("frames_total", "counter", "Frames followed since the process began."),
    "left_out": ("frames_left_out_total", "counter", "Frames that came and were not followed."),
    "reconnects": ("reconnects_total", "counter", "Times the source was opened again."),
    "restarts": ("restarts_total", "counter", "Times the camera was begun again."),
    "delay_s": ("delay_seconds", "gauge", "From a frame's arrival to its results on disk."),
    "worst_s": ("delay_worst_seconds", "gauge", "The largest delay of the last ten seconds."),
    "budget_s": ("delay_budget_seconds", "gauge", "What the delay may be."),
    "step_s": ("step_seconds", "gauge", "Seconds of the device that a frame takes."),
    "seconds": ("device_seconds_total", "counter", "Seconds of the device that the camera had."),
    "bytes": ("memory_bytes", "gauge", "Bytes that the session holds."),
}


def metrics_text(view: Mapping[str, Any]) -> str:
    """Prometheus' text of a fleet's view."""
    cameras, lines = view["cameras"], []

    def add(name: str, kind: str, said: str, values: Mapping[str, float]) -> None:
        name = f"vision_mem_fleet_{name}"
        lines.extend([f"# HELP {name} {said}", f"# TYPE {name} {kind}"])
        lines.extend(f"{name}{label} {value:g}" for label, value in values.items())

    def label(one: Mapping[str, Any]) -> str:
        return f'{{camera="{one["name"]}"}}'  # names have no letters that would need care

    add("cameras", "gauge", "Cameras of the list.", {"": len(cameras)})
    add("list_valid", "gauge", "1 when the list could be read.", {"": not view["mistakes"]})
    running = {label(one): one["state"] == "running" for one in cameras}
    add("up", "gauge", "1 when the camera is followed.", running)
    for key, (name, kind, said) in _NUMBERS.items():
        found = {label(one): one[key] for one in cameras if one[key] is not None}
        add(name, kind, said, found)
    add(
        "objects",
        "gauge",
        "Objects that are followed.",
        {label(c): len(c["objects"]) for c in cameras},
    )
    levels = {label(one): LEVELS.index(one["level"]) for one in cameras}
    add("degradation_level", "gauge", f"0 to 3: {', '.join(LEVELS)}.", levels)
    restarts = {f'{{device="{d["device"]}"}}': d["restarts"] for d in view["devices"]}
    add("process_restarts_total", "counter", "Times the process of a device began again.", restarts)
    return "\n".join(lines) + "\n"


def health_of(view: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether all cameras run or have come to their end, and what does not."""
    states = {one["name"]: one["state"] for one in view["cameras"]}
    wrong = {name: state for name, state in states.items() if state in ("broken", "failed")}
    good = not wrong and not view["mistakes"]
    return good, {"ok": good, "cameras": len(states), "wrong": wrong, "list": view["mistakes"]}


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>vision-mem fleet</title>
<meta http-equiv="refresh" content="2"><style>body{{font:14px sans-serif;margin:1.5em}}
table{{border-collapse:collapse}}td,th{{padding:.3em .8em;border-bottom:1px solid #ddd;
text-align:left}}</style></head><body><h1>Fleet</h1>{mistakes}<table><tr>{head}</tr>{rows}</table>
</body></html>
"""
_COLUMNS = (
    "name", "state", "device", "fps", "worst_s", "left_out", "level", "objects", "restarts",
    "problem",
)  # fmt: skip


def page_of(view: Mapping[str, Any]) -> str:
    """A table for people, which loads itself again."""

    def cell(one: Mapping[str, Any], key: str) -> str:
        value = one[key]
        if key == "objects":
            value = len(value)
        if isinstance(value, float):
            value = f"{value:.2f}"
        return f"<td>{html.escape(printable(str('' if value is None else value)))}</td>"

    rows = "".join(
        f"<tr>{''.join(cell(one, key) for key in _COLUMNS)}</tr>" for one in view["cameras"]
    )
    words = {"worst_s": "delay, s", "left_out": "left out", "fps": "frames/s"}
    head = "".join(f"<th>{words.get(key, key)}</th>" for key in _COLUMNS)
    mistakes = "".join(f"<p>{html.escape(printable(one))}</p>" for one in view["mistakes"])
    return _PAGE.format(head=head, rows=rows, mistakes=mistakes)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[::1]:PORT`` or ``PORT``.

    Raises:
        InputError: for anything else.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > 65535:
        raise InputError(f"--listen {shown(text)}: expected HOST:PORT, PORT, or none")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            said = "expected the number of an address of this machine, as 0.0.0.0:9464"
            raise InputError(f"--listen {shown(text)}: {said}") from None
    return host, int(port)


class StatusServer:
    """Answers ``/``, ``/health``, ``/metrics`` and ``/status``; none of them changes anything.

    Args:
        address: host and port; 0 for any that is free.
        view: asked for each answer.

    Raises:
        InputError: when it cannot be listened on.
    """

    def __init__(self, address: tuple[str, int], view: View) -> None:
        class StatusAnswers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, view())

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        try:
            self._server = ThreadingHTTPServer(address, StatusAnswers)
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            raise InputError(
                f"--listen {where} cannot be used ({error.strerror}); give another port, or none"
            ) from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="vision-mem-status", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def _answer(request: BaseHTTPRequestHandler, view: dict[str, Any]) -> None:
    path = request.path.partition("?")[0]
    good, health = health_of(view)
    answers: dict[str, tuple[int, str, Callable[[], str]]] = {
        "/": (200, "text/html; charset=utf-8", lambda: page_of(view)),
        "/health": (200 if good else 503, "application/json", lambda: json.dumps(health)),
        "/metrics": (200, "text/plain; version=0.0.4; charset=utf-8", lambda: metrics_text(view)),
        "/status": (200, "application/json", lambda: json.dumps(view)),
    }
    missing = (404, "text/plain", lambda: "expected /, /health, /metrics or /status\n")
    code, kind, text = answers.get(path, missing)
    content = text().encode()
    request.send_response(code)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.send_header("Cache-Control", "no-store")
    request.send_header("X-Content-Type-Options", "nosniff")
    request.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
    request.end_headers()
    request.wfile.write(content)
