"""Events and tracks to Kafka: the official client, and a broker that it brings along."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import pytest

from vision_mem.errors import InputError, MissingExtra
from vision_mem.sinks.event_senders import open_senders
from vision_mem.types import Event, Frame, ObjectResult, SourceInfo, TrackingResult

INFO = SourceInfo("gate", 8, 6, 10.0)
FRAME = Frame(0, 0.0, np.zeros((6, 8, 3), np.uint8))


def result(t: int) -> TrackingResult:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:6] = True
    cup = ObjectResult(1, "cup", True, mask, np.array([2, 1, 6, 3], np.float32), 0.75, {})
    return TrackingResult(t, t / 10, (6, 8), (cup,), (Event("lost", 1, t, t / 10, "cup"),))


@pytest.fixture
def broker() -> Any:
    kafka = pytest.importorskip("confluent_kafka")
    mock = kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (one,) = mock.list_topics(timeout=5).brokers.values()
    yield f"{one.host}:{one.port}"
    del mock


def read(broker: str, topic: str, count: int) -> list[Any]:
    import confluent_kafka as kafka

    settings = {"bootstrap.servers": broker, "group.id": "test", "log_level": 0}
    consumer = kafka.Consumer(settings)
    partitions = range(len(consumer.list_topics(topic, 5).topics[topic].partitions))
    consumer.assign([kafka.TopicPartition(topic, n, kafka.OFFSET_BEGINNING) for n in partitions])
    found, end = [], time.monotonic() + 10
    while len(found) < count and time.monotonic() < end:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            found.append(message)
    consumer.close()
    return found


@pytest.mark.parametrize(("query", "kinds"), [("", ["lost"]), ("?tracks", ["lost", "tracks"])])
def test_events_arrive_in_order_and_tracks_where_they_are_asked_for(
    broker: str, query: str, kinds: list[str]
) -> None:
    (sender,) = open_senders([f"kafka://{broker}/yard.gate{query}"])
    sender.open(INFO)
    for t in range(5):
        sender.write(FRAME, result(t))
    sender.close()
    assert (sender.sent, sender.lost) == (5 * len(kinds), 0)
    messages = read(broker, "yard.gate", 5 * len(kinds))
    rows = [json.loads(message.value()) for message in messages]
    assert {message.key() for message in messages} == {b"gate"}
    assert [row["kind"] for row in rows] == kinds * 5
    assert [row["frame"] for row in rows[:: len(kinds)]] == list(range(5))
    if query:
        (cup,) = rows[1]["objects"]
        assert (cup["name"], cup["box"], cup["area"]) == ("cup", [2.0, 1.0, 6.0, 3.0], 8)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("kafka://host/a b", "a topic of Kafka has letters"),
        ("kafka://host/..", "a topic of Kafka has letters"),
        ("kafka://host/t?masks", "only ?tracks may stand"),
        ("kafak://host/t", "or kafka:// likewise"),
    ],
)
def test_other_addresses_are_refused(address: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        open_senders([address])
    assert said in str(caught.value)


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vision-mem\[kafka\]'"):
        open_senders(["kafka://host/yard"])
