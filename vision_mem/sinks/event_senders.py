"""What happens, told to other programs while it happens: webhooks, brokers of MQTT and Kafka.

A sender has a thread and a bounded queue of its own: a receiver that is slow or gone never holds
the run up. What does not fit is lost, oldest first, and that is said.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import json
import logging
import re
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, unquote

from vision_mem._version import __version__
from vision_mem.errors import InputError, MissingExtra
from vision_mem.results import Seen, object_row
from vision_mem.runs.folder import without_secret
from vision_mem.sinks.masks import event_rows, strict_json
from vision_mem.sources.selection import check_address
from vision_mem.text import short, shown
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

MOST_WAITING = 1000
_TIMEOUT_S = 5.0
_LAST_S = 5.0
"""Seconds in which what waits at the end of a run may still go out."""
_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_TRIES = 3
"""Of an event at a receiver that is there and will not have it; one that is gone is waited for."""


class _Refused(OSError):
    """The receiver answered, and does not want this event."""


class EventReceiver(ABC):
    """Where events go; used by one thread."""

    @abstractmethod
    def deliver(self, content: bytes) -> None:
        """Hand over one event.

        Raises:
            OSError: when it did not arrive.
        """

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of the connection."""


class EventSender:
    """Sends each event of a run to a receiver, as one JSON object.

    ``{"source", "frame", "time_s", "kind", "id", "name"}``, and what zones and lines add. An event
    arrives once or, after a break, perhaps twice.

    Args:
        receiver: gets them.
        name: of the receiver, for messages, without secrets.
        most: events that may wait; of more the oldest are lost.
        last_s: seconds in which those that wait at the end may still go out.
        tracks: send each frame's objects too, ``{"source", "frame", "time_s", "kind": "tracks",
            "objects"}``, those as ``results.object_row``.
    """

    def __init__(
        self,
        receiver: EventReceiver,
        name: str,
        *,
        most: int = MOST_WAITING,
        last_s: float = _LAST_S,
        tracks: bool = False,
    ) -> None:
        self._tracks = tracks
        self._receiver, self._name, self._most, self._last_s = receiver, name, most, last_s
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ends_at: float | None = None
        self._source = ""
        self._told = self._busy = False
        self.sent = self.lost = 0

    def open(self, info: SourceInfo) -> None:
        """Remember the source; nothing is sent before something happens."""
        self._source = info.name

    def write(self, frame: Frame, result: Seen) -> None:
        """Queue the events of one frame; never waits."""
        rows = event_rows(result)
        if self._tracks:
            seen = [object_row(each) for each in getattr(result, "objects", ())]
            rows = [*rows, {"kind": "tracks", "objects": seen}]
        if not rows:
            return
        place = {"source": self._source, "frame": result.frame_index, "time_s": result.time_s}
        contents = [json.dumps(strict_json(place | row)).encode() for row in rows]
        with self._changed:
            self._waiting.extend(contents)
            while len(self._waiting) > self._most:
                self._waiting.popleft()
                self.lost += 1
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="vision-mem-events", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Let what waits go out, for some seconds at most, and say what was lost."""
        if self._thread is None:
            return
        with self._changed:
            self._ends_at = time.monotonic() + self._last_s
            self._changed.notify()
        self._thread.join(self._last_s + 0.5)
        self._thread = None
        with self._changed:
            self.lost += len(self._waiting) + self._busy
            self._waiting.clear()
        if self.lost:
            log.warning(
                "%d of %d events did not reach %s", self.lost, self.lost + self.sent, self._name
            )

    def _work(self) -> None:
        failures = 0
        try:
            while (content := self._next(failures)) is not None:
                try:
                    self._receiver.deliver(content)
                except (OSError, http.client.HTTPException) as error:
                    failures += 1
                    self._tell(error)
                    given_up = isinstance(error, _Refused) and failures >= _TRIES
                    with self._changed:
                        if given_up:
                            self.lost, failures = self.lost + 1, 0
                        elif len(self._waiting) < self._most:
                            self._waiting.appendleft(content)
                        else:
                            self.lost += 1
                    continue
                failures, self.sent = 0, self.sent + 1
        finally:
            self._receiver.close()

    def _next(self, failures: int) -> bytes | None:
        """The next event, after a pause where the last one failed; None at the end."""
        self._busy = False
        until = time.monotonic() + (_PAUSES_S[min(failures, len(_PAUSES_S)) - 1] if failures else 0)
        with self._changed:
            while True:
                now = time.monotonic()
                if self._ends_at is not None and (not self._waiting or now >= self._ends_at):
                    return None
                if self._waiting and now >= until:
                    self._busy = True
                    return self._waiting.popleft()
                limits = [at - now for at in (until, self._ends_at) if at is not None and at > now]
                self._changed.wait(min(limits) if limits else None)

    def _tell(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            log.warning("events do not reach %s (%s)", self._name, short(str(said), 120))


class Webhook(EventReceiver):
    """A POST of JSON for each event, over a connection that is kept.

    Args:
        parts: of an ``http`` or ``https`` address; user and password go into the head.
    """

    def __init__(self, parts: SplitResult) -> None:
        self._parts = parts
        self._connection: http.client.HTTPConnection | None = None
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = {
            "Content-Type": "application/json", "User-Agent": f"vision-mem/{__version__}",
        }  # fmt: skip
        if parts.username is not None:
            word = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._head["Authorization"] = f"Basic {base64.b64encode(word).decode()}"

    def deliver(self, content: bytes) -> None:
        """POST it; any answer of 200 to 299 will do."""
        kept = self._connection is not None
        try:
            self._post(content)
        except ConnectionError:
            if not kept:
                raise
            self._post(content)  # a receiver may close a connection that was quiet for long

    def _post(self, content: bytes) -> None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request("POST", self._target, content, self._head)
            answer = self._connection.getresponse()
            answer.read(1 << 16)
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.will_close or not answer.isclosed():
            self.close()
        if not 200 <= answer.status < 300:
            kind = OSError if answer.status >= 500 or answer.status == 429 else _Refused
            raise kind(f"it answers {answer.status} {short(answer.reason, 40)}")

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class MqttBroker(EventReceiver):
    """Publishes each event on a topic, with the quality of service 1.

    Args:
        parts: of an ``mqtt`` or ``mqtts`` address; its path is the topic.
        topic: where the address has none.

    Raises:
        MissingExtra: when paho-mqtt is not installed.
    """

    def __init__(self, parts: SplitResult, topic: str = "vision-mem/events") -> None:
        try:
            self._paho = importlib.import_module("paho.mqtt.client")
            enums = importlib.import_module("paho.mqtt.enums")
        except ImportError:
            raise MissingExtra(
                "events to MQTT need paho-mqtt: pip install 'vision-mem[mqtt]'"
            ) from None
        self._version = enums.CallbackAPIVersion.VERSION2
        self._parts, self._topic = parts, unquote(parts.path.strip("/")) or topic
        self._client: Any = None

    def deliver(self, content: bytes) -> None:
        """Publish it, and wait until the broker has it."""
        try:
            if self._client is None:
                self._client = self._connect()
            sent = self._client.publish(self._topic, content, qos=1)
            sent.wait_for_publish(_TIMEOUT_S)
            if not sent.is_published():
                raise OSError("it does not answer")
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise OSError(str(error)) from error

    def _connect(self) -> Any:
        client = self._paho.Client(self._version)
        client.connect_timeout = _TIMEOUT_S
        if self._parts.username is not None:
            client.username_pw_set(
                unquote(self._parts.username), unquote(self._parts.password or "")
            )
        secure = self._parts.scheme == "mqtts"
        if secure:
            client.tls_set()
        answered = threading.Event()
        answers: list[Any] = []

        def connected(_client: Any, _data: Any, _flags: Any, reason: Any, *_: Any) -> None:
            answers.append(reason)
            answered.set()

        client.on_connect = connected
        client.connect(self._parts.hostname, self._parts.port or (8883 if secure else 1883))
        client.loop_start()
        if not answered.wait(_TIMEOUT_S) or answers[0].is_failure:
            client.loop_stop()
            said = f"it answers: {answers[0]}" if answers else "it does not answer"
            raise OSError(said)
        return client

    def close(self) -> None:
        """Leave the broker."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()


class KafkaBroker(EventReceiver):
    """Writes each event to a topic of Kafka, those of one source in order.

    Args:
        parts: of a ``kafka`` or, with TLS, ``kafkas`` address; its path is the topic. Several
            brokers stand with commas between; user and password are SASL's, PLAIN.
        topic: where the address has none.

    Raises:
        MissingExtra: when confluent-kafka is not installed.
    """

    def __init__(self, parts: SplitResult, topic: str = "vision-mem-events") -> None:
        try:
            self._kafka = importlib.import_module("confluent_kafka")
        except ImportError:
            raise MissingExtra(
                "events to Kafka need confluent-kafka: pip install 'vision-mem[kafka]'"
            ) from None
        self._topic = unquote(parts.path.strip("/")) or topic
        secure, known = parts.scheme == "kafkas", parts.username is not None
        protocol = f"{'SASL_' if known else ''}{'SSL' if secure else 'PLAINTEXT'}"
        self._settings: dict[str, Any] = {
            "bootstrap.servers": parts.netloc.rpartition("@")[2], "security.protocol": protocol,
            "client.id": "vision-mem", "enable.idempotence": True, "linger.ms": 0,
            "message.timeout.ms": int(_TIMEOUT_S * 1000), "log_level": 0,
        }  # fmt: skip
        if known:
            self._settings |= {
                "sasl.mechanism": "PLAIN", "sasl.username": unquote(parts.username or ""),
                "sasl.password": unquote(parts.password or ""),
            }  # fmt: skip
        self._producer: Any = None

    def deliver(self, content: bytes) -> None:
        """Write it, and wait until the broker has it."""
        answers: list[Any] = []
        try:
            if self._producer is None:
                self._producer = self._kafka.Producer(self._settings, logger=log)
            self._producer.produce(
                self._topic, content, key=str(json.loads(content)["source"]).encode(),
                on_delivery=lambda error, _: answers.append(error),
            )  # fmt: skip
            self._producer.flush(_TIMEOUT_S + 1.0)
        except (BufferError, self._kafka.KafkaException) as error:
            raise OSError(str(error)) from None
        if not answers:
            raise OSError("it does not answer")
        if answers[0] is not None:
            timed_out = answers[0].code() == self._kafka.KafkaError._MSG_TIMED_OUT
            raise OSError("it does not answer" if timed_out else answers[0].str())

    def close(self) -> None:
        """Leave the broker."""
        self._producer = None


_KAFKA = ("kafka", "kafkas")
_KAFKA_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def _to_kafka(address: str, name: str) -> EventSender:
    """A sender to ``kafka://HOST[:PORT]/TOPIC``, with ``?tracks`` each frame's objects too.

    Raises:
        InputError: for another address.
        MissingExtra: as ``KafkaBroker``.
    """
    parts = check_address(address)
    topic = unquote(parts.path.strip("/"))
    if (topic and not _KAFKA_TOPIC.fullmatch(topic)) or topic in (".", ".."):
        raise InputError(
            f"--events {shown(name)}: a topic of Kafka has letters, digits, ., _ and -, 249 at most"
        )
    if parts.query not in ("", "tracks") or parts.fragment:
        raise InputError(f"--events {shown(name)}: behind the topic only ?tracks may stand")
    return EventSender(KafkaBroker(parts), name, tracks=parts.query == "tracks")


def open_senders(addresses: Iterable[str] | None) -> list[EventSender]:
    """Senders to addresses of the web, of MQTT and of Kafka; nothing is sent yet.

    Raises:
        InputError: for an address that is none of these.
        MissingExtra: when one needs a library that is not installed.
    """
    made = []
    for address in dict.fromkeys(addresses or ()):
        name = without_secret(address)
        kind = address.partition("://")[0].lower()
        if "://" not in address or kind not in ("http", "https", "mqtt", "mqtts", *_KAFKA):
            raise InputError(
                f"--events {shown(name)}: expected https://HOST/PATH or mqtt://HOST/TOPIC, or "
                "kafka:// likewise (to keep them in a file: --save events)"
            )
        if kind in _KAFKA:
            made.append(_to_kafka(address, name))
            continue
        parts = check_address(address)
        receiver: EventReceiver
        if kind in ("http", "https"):
            receiver = Webhook(parts)
        else:
            if "#" in address or any(letter in unquote(parts.path) for letter in "+#\0"):
                raise InputError(f"--events {shown(name)}: a topic has no +, # or null in it")
            receiver = MqttBroker(parts)
        made.append(EventSender(receiver, name))
    return made
