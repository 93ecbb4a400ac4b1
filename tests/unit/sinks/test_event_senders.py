"""Events sent out: a real local web server, a small broker, and receivers that are slow or gone."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from typing import Any

import numpy as np
import pytest
from webhook_server import serving

from vision_mem.errors import InputError, MissingExtra
from vision_mem.sinks.event_senders import EventReceiver, EventSender, open_senders
from vision_mem.types import Event, Frame, SourceInfo, TrackingResult, ZoneEvent

INFO = SourceInfo("gate", 8, 6, 10.0)
FRAME = Frame(0, 0.0, np.zeros((6, 8, 3), np.uint8))


def _result(t: int, *events: Event) -> TrackingResult:
    return TrackingResult(t, t / 10, (6, 8), (), events or (Event("lost", 1, t, t / 10, "cup"),))


def _sent(sender: EventSender, count: int, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while sender.sent < count:
        assert time.monotonic() < end, f"{sender.sent} of {count} arrived"
        time.sleep(0.005)


def test_a_webhook_gets_each_event_in_order() -> None:
    with serving() as (server, host):
        (sender,) = open_senders([f"http://me:p%40ss@{host}/hook/in?room=2"])
        sender.open(INFO)
        for t in range(30):
            sender.write(FRAME, _result(t))
        left = ZoneEvent("left", 2, 30, 3.0, "man", "hall", "person", dwell_s=1.25)
        sender.write(FRAME, _result(30, left))
        sender.close()
    assert (sender.sent, sender.lost) == (31, 0)
    assert [body["frame"] for _, _, body in server.seen] == list(range(31))
    path, head, body = server.seen[0]
    assert path == "/hook/in?room=2"
    assert head["Content-Type"] == "application/json"
    assert head["Authorization"] == "Basic bWU6cEBzcw=="
    assert body == {
        "source": "gate", "frame": 0, "time_s": 0.0, "kind": "lost", "id": 1, "name": "cup",
    }  # fmt: skip
    last = server.seen[-1][2]
    assert (last["zone"], last["class"], last["dwell_s"]) == ("hall", "person", 1.25)
    assert server.connections == 1


def test_what_fails_for_a_moment_is_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as (server, host):
        server.codes = [503]
        (sender,) = open_senders([f"http://{host}/"])
        sender.open(INFO)
        sender.write(FRAME, _result(0))
        _sent(sender, 1)
        sender.close()
    assert len(server.seen) == 1
    assert "events do not reach http://127.0.0.1" in caplog.text
    assert "503" in caplog.text


def test_what_is_refused_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_mem.sinks.event_senders._PAUSES_S", (0.01,))
    with serving() as (server, host):
        server.codes = [404, 404, 404]
        (sender,) = open_senders([f"http://{host}/"])
        sender.open(INFO)
        sender.write(FRAME, _result(0))
        sender.write(FRAME, _result(1))
        _sent(sender, 1)
        sender.close()
    assert [body["frame"] for _, _, body in server.seen] == [1]
    assert sender.lost == 1


def test_a_receiver_that_hangs_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    class Hangs(EventReceiver):
        gate = threading.Event()

        def deliver(self, content: bytes) -> None:
            self.gate.wait(10)

    sender = EventSender(Hangs(), "http://slow", most=50, last_s=0.1)
    sender.open(INFO)
    begin = time.monotonic()
    for t in range(2000):
        sender.write(FRAME, _result(t))
    assert time.monotonic() - begin < 1.0
    assert len(sender._waiting) == 50, "the newest are kept"
    assert json.loads(sender._waiting[-1])["frame"] == 1999
    sender.close()
    assert time.monotonic() - begin < 2.0
    Hangs.gate.set()
    assert sender.lost == 2000
    assert "2000 of 2000 events did not reach http://slow" in caplog.text


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/x"
        (sender,) = open_senders([address])
        sender._last_s = 0.1
        sender.open(INFO)
        sender.write(FRAME, _result(0))
        sender.close()
    assert sender.lost == 1
    assert "secret" not in caplog.text
    assert "Connection refused" in caplog.text


def test_a_quiet_run_opens_nothing() -> None:
    with serving() as (server, host):
        (sender,) = open_senders([f"http://{host}/"])
        sender.open(INFO)
        sender.write(FRAME, TrackingResult(0, 0.0, (6, 8), ()))
        sender.close()
    assert server.connections == 0


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("events.jsonl", "to keep them in a file: --save events"),
        ("ftp://host/x", "expected https://HOST/PATH or mqtt://HOST/TOPIC"),
        ("http:///path", "has no host"),
        ("http://host:99999/", "no port from 0 to 65535"),
    ],
)
def test_wrong_addresses_are_one_line(address: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        open_senders([address])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# -- MQTT --------------------------------------------------------------------------------------


class Broker:
    """As much of a broker as a publisher needs: CONNACK, PUBACK."""

    def __init__(self, code: int = 0) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.user, self._code = "", code
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                peer, _ = self._socket.accept()
                with peer:
                    self._serve(peer)
        except OSError:
            return

    def _serve(self, peer: socket.socket) -> None:
        while head := peer.recv(1):
            size = shift = 0
            while True:
                (byte,) = peer.recv(1)
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            body = b""
            while len(body) < size:
                body += peer.recv(size - len(body))
            kind = head[0] >> 4
            if kind == 1:
                self.user = body[10:].decode("latin1")
                peer.sendall(bytes([0x20, 2, 0, self._code]))
            elif kind == 3:
                (length,) = struct.unpack(">H", body[:2])
                rest = body[2 + length :]
                self.seen.append((body[2 : 2 + length].decode(), json.loads(rest[2:])))
                peer.sendall(bytes([0x40, 2]) + rest[:2])
            elif kind == 14:
                return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(2)


def test_a_broker_gets_each_event_on_its_topic() -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Broker()
    (sender,) = open_senders([f"mqtt://me:word@127.0.0.1:{broker.port}/yard/gate"])
    sender.open(INFO)
    for t in range(5):
        sender.write(FRAME, _result(t))
    sender.close()
    broker.close()
    assert [(topic, body["frame"]) for topic, body in broker.seen] == [
        ("yard/gate", t) for t in range(5)
    ]
    assert "me" in broker.user
    assert (sender.sent, sender.lost) == (5, 0)


def test_a_broker_that_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Broker(code=5)
    (sender,) = open_senders([f"mqtt://127.0.0.1:{broker.port}"])
    sender._last_s = 0.3
    sender.open(INFO)
    sender.write(FRAME, _result(0))
    sender.close()
    broker.close()
    assert sender.lost == 1
    assert "Not authorized" in caplog.text


def test_topics_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    with pytest.raises(InputError, match="a topic has no"):
        open_senders(["mqtt://host/yard/%2B"])
    with pytest.raises(InputError, match="a topic has no"):
        open_senders(["mqtt://host/yard/#"])
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vision-mem\[mqtt\]'"):
        open_senders(["mqtt://host/yard"])
