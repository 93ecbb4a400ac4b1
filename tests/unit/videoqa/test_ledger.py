"""Things that were followed: a room worked by hand, all forms of questions, and forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.mots.records import MotsResult, TrackResult
from vision_mem.types import Frame, ObjectResult, TrackingResult, ZoneEvent
from vision_mem.videoqa.evidence import ThumbnailSession, open_session
from vision_mem.videoqa.ledger import EntityLedger, forget
from vision_mem.videoqa.ledger_questions import ThingAnswer, answer_thing
from vision_mem.videoqa.store import MemoryFile

FPS, SECONDS, SIZE = 10.0, 20.0, (120, 200)
COLOURS = {"car": (220, 20, 20), "cup": (20, 40, 220), "table": (120, 80, 40), "person": (90,) * 3}


def _boxes(time_s: float) -> Iterator[tuple[int, str, tuple[float, float, float, float]]]:
    """Who is where: a table, a cup on it that is moved twice, two cars, and somebody."""
    yield 1, "table", (20, 60, 120, 110)
    x = 40.0
    if time_s >= 6:
        x += min(40.0, 40 * (time_s - 6))
    if time_s >= 12:
        x -= min(30.0, 30 * (time_s - 12))
    yield 2, "cup", (x, 45, x + 16, 65)
    if 2 <= time_s < 8:
        x = 190 - 30 * (time_s - 2)
        yield 3, "car", (max(x, 0), 10, x + 30, 30)
    if 10 <= time_s < 18:
        yield 4, "car", (150, 80 - 5 * (time_s - 10), 180, 100 - 5 * (time_s - 10))
    if 4 <= time_s < 5 or time_s >= 14:
        yield 5, "person", (130, 20, 145, 60)


def _results() -> Iterator[tuple[Frame, MotsResult]]:
    empty, noise = np.zeros((0, 0), bool), np.random.default_rng(0)
    for t in range(int(FPS * SECONDS)):
        time_s, image = t / FPS, noise.integers(180, 220, (*SIZE, 3)).astype(np.uint8)
        tracks = []
        for number, word, box in _boxes(time_s):
            x1, y1, x2, y2 = (int(value) for value in box)
            image[y1:y2, x1:x2] = COLOURS[word] if number != 4 else (20, 160, 40)
            tracks.append(
                TrackResult(
                    number, f"object-{number}", 0, word, "confirmed", True, empty,
                    np.array(box, np.float32), 0.9,
                )
            )  # fmt: skip
        events = []
        if t in (45, 155):
            kind = "entered" if t == 45 else "left"
            events = [ZoneEvent(kind, 5, t, time_s, "object-5", "door")]
        yield (
            Frame(t, time_s, image),
            MotsResult(t, time_s, SIZE, tuple(tracks), tuple(events)),
        )


def _clock(time_s: float, frame: int) -> str:
    return f"{time_s:.1f}"


@pytest.fixture(scope="module")
def ledger() -> Iterator[EntityLedger]:
    made = EntityLedger()
    for frame, result in _results():
        made.write(frame, result)
    made.finish()
    yield made
    made.close()


def _ask(ledger: EntityLedger, question: str, until_s: float | None = None) -> ThingAnswer:
    answer = answer_thing(question, ledger, SECONDS - 1 / FPS, _clock, until_s=until_s)
    assert answer is not None, question
    return answer


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("When did the red car leave?", [(8.0, 8.0)]),
        ("when did car-4 come", [(10.0, 10.0)]),
        ("how often was the cup moved?", 2),
        ("How many times did somebody come?", 2),
        ("how long was the green car there?", 8.0),
        ("how many cars were there?", 2),
        ("how many cars were there at 0:05?", 1),
        ("who came first?", ["person-5"]),
        ("which car came last?", ["car-4"]),
        ("what came first?", ["table-1", "cup-2"]),
        ("what was the first to leave", ["person-5"]),
        ("what came before the person?", ["table-1", "cup-2", "car-3"]),
        ("what came after car-3 left?", ["car-4"]),
        ("did the red car come before the green car?", True),
        ("was the green car there at 3 s?", False),
        ("how long were car-3 and the person together", 1.0),
        ("when was the person with the green car?", [(14.0, 18.0)]),
        ("who was there together with the green car?", ["person-5"]),
        ("were car-3 and car-4 ever together?", False),
        ("what was on the table at 0:04?", ["cup-2"]),
        ("what was there at 0:09?", ["table-1", "cup-2"]),
        ("who entered the door?", ["person-5"]),
        ("when did somebody leave the door?", [(15.5, 15.5)]),
        ("what was moved?", ["cup-2"]),
        ("what was moved between 0:10 and 0:15?", ["cup-2"]),
        ("how often was the mug moved before 0:10?", 1),
        ("is the cup still there?", True),
    ],
)
def test_questions_are_answered(ledger: EntityLedger, question: str, value: object) -> None:
    found = _ask(ledger, question).value
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        assert np.allclose(found, value, atol=0.11)
    else:
        assert found == (pytest.approx(value, abs=0.11) if isinstance(value, float) else value)


def test_where_something_was_seen_last(ledger: EntityLedger) -> None:
    answer = _ask(ledger, "where did I see the mug last?")
    assert "cup-2: left, on table-1" in answer.text
    assert answer.value["cup-2"] == pytest.approx(
        (50 / 200, 45 / 120, 66 / 200, 65 / 120), abs=0.03
    )


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("when did the lorry leave?", 'nothing that was followed is called "lorry"'),
        ("how often was the blue car moved?", "no blue car was followed; car is the word for"),
        ("was the dog there?", "followed: table-1, cup-2, car-3"),
    ],
)
def test_unknown_names_are_told_with_those_that_are_known(
    ledger: EntityLedger, question: str, said: str
) -> None:
    answer = _ask(ledger, question)
    assert answer.found is None and said in answer.text


@pytest.mark.parametrize("question", ["is it raining?", "a snowy street", "why did the car stop?"])
def test_other_questions_are_a_search(ledger: EntityLedger, question: str) -> None:
    assert answer_thing(question, ledger, SECONDS, _clock) is None


def test_a_question_about_the_past_knows_nothing_later(ledger: EntityLedger) -> None:
    assert _ask(ledger, "how often was the cup moved?", until_s=9.0).value == 1
    assert _ask(ledger, "how many cars were there?", until_s=9.0).value == 1


def test_what_is_half_hidden_is_not_moved() -> None:
    ledger, image = EntityLedger(), np.zeros((100, 200, 3), np.uint8)
    for t in range(60):
        hidden = 15.0 if 25 <= t < 45 else 0.0
        box = np.array([80 + hidden, 40, 104, 60], np.float32)
        cup = ObjectResult(1, "cup", True, np.zeros((0, 0), bool), box, 1.0, 1.0)
        ledger.write(Frame(t, t / FPS, image), TrackingResult(t, t / FPS, (100, 200), (cup,)))
    ledger.finish()
    assert _ask(ledger, "how often was the cup moved?").value == 0


def _watched(path: Path, times: int = 1) -> None:
    """A memory file with its ledger; ``times`` runs one behind the other."""
    for run in range(times):
        file = MemoryFile(path, None if run else {"model_id": "fake"})
        session = open_session(FakeVideoModel(), None, ["fps=2"], file if run else None)
        watching = ThumbnailSession(session, file)
        for frame, result in _results():
            shifted = Frame(frame.index + 200 * run, frame.time_s + 20 * run, frame.image)
            watching.ledger.write(shifted, result)
            watching.step(shifted)
        watching.finish()
        file.close()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "room.vmem"
    _watched(path)
    return path


def _copy(memory: Path, to: Path) -> MemoryFile:
    to.write_bytes(memory.read_bytes())
    return MemoryFile(to)


def _bytes(path: Path) -> bytes:
    log = path.with_name(f"{path.name}-wal")
    return path.read_bytes() + (log.read_bytes() if log.exists() else b"")


def _traces(file: MemoryFile, first_s: float, last_s: float) -> list[bytes]:
    """Pieces of the pictures and tokens of a span of time that nothing else in the file has."""
    with file.reading() as database:
        rows = database.execute("SELECT start_s, picture, content FROM grids").fetchall()
    inside = [row[1:] for row in rows if first_s <= row[0] <= last_s]
    rest = b"".join(each for row in rows if not first_s <= row[0] <= last_s for each in row[1:])
    pieces = [each[n : n + 32] for row in inside for each in row for n in range(99, 1500, 200)]
    return [piece for piece in pieces if len(piece) == 32 and piece not in rest]


def test_a_thing_is_forgotten_to_the_byte(memory: Path, tmp_path: Path) -> None:
    file = _copy(memory, tmp_path / "m.vmem")
    ledger = EntityLedger(file)
    before = {
        q: _ask(ledger, q).value for q in ("how often was the cup moved?", "when did car-3 leave")
    }
    number = next(each.number for each in ledger.entities() if each.name == "car-4")
    crop = ledger.picture(number)
    gone = _traces(file, 10, 17.9)
    assert crop is not None and len(gone) > 20
    assert all(each in _bytes(file.path) for each in [*gone, crop[-60:]])
    done = forget(file, "car-4")
    content = _bytes(file.path)
    assert done.names == ("car-4",) and done.looks >= 8
    assert not any(each in content for each in [*gone, crop[-60:], b"car-4"])
    after = EntityLedger(file)
    assert {q: _ask(after, q).value for q in before} == before
    assert _ask(after, "when did car-4 come?").found is None
    file.load()  # still whole
    file.close()


def test_a_span_is_forgotten_to_the_byte(memory: Path, tmp_path: Path) -> None:
    file = _copy(memory, tmp_path / "m.vmem")
    gone = _traces(file, 9, 19)
    kept = _traces(file, 0, 8)
    done = forget(file, (9.0, 19.0))
    content = _bytes(file.path)
    assert "car-4" in done.names and b"car-4" not in content
    assert gone and not any(each in content for each in gone)
    assert kept and all(each in content for each in kept)
    ledger = EntityLedger(file)
    assert _ask(ledger, "how often was the cup moved?").value == 1
    assert _ask(ledger, "how long was the person there?").value == pytest.approx(2.0, abs=0.11)
    file.close()


def test_what_is_not_there_cannot_be_forgotten(memory: Path, tmp_path: Path) -> None:
    file = _copy(memory, tmp_path / "m.vmem")
    with pytest.raises(InputError, match=r"no such thing.*followed: table-1, cup-2"):
        forget(file, "lorry")
    file.close()


def test_names_of_a_second_run_are_others(tmp_path: Path) -> None:
    _watched(tmp_path / "m.vmem", times=2)
    file = MemoryFile(tmp_path / "m.vmem")
    ledger = EntityLedger(file)
    assert answer_thing("how many cars were there?", ledger, 40.0, _clock).value == 4
    names = [each.name for each in ledger.entities()]
    assert len(set(names)) == len(names) == 10
    file.close()


def test_files_without_a_ledger_still_answer(tmp_path: Path) -> None:
    file = MemoryFile(tmp_path / "m.vmem", {"model_id": "fake"})
    assert answer_thing("who came first?", EntityLedger(file), 1.0, _clock) is None
    file.close()
