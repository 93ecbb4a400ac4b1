"""``vision_mem.track``, ``mots`` and ``ask`` as a newcomer types them; what results turn into."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vision_mem
from vision_mem.errors import InputError, MissingExtra
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession
from vision_mem.tracking import TrackingSession
from vision_mem.types import Detections, Frame, Prompt

RED, BLUE = (20, 40, 54, 70), (100, 80, 130, 110)


def picture(t: int = 0) -> np.ndarray:
    """A red square that moves to the right, a blue one that stays."""
    image = np.full((120, 160, 3), 110, np.uint8)
    image[40:70, 20 + 2 * t : 54 + 2 * t] = (220, 40, 30)
    image[80:110, 100:130] = (30, 60, 220)
    return image


def film(frames: int = 6) -> list[np.ndarray]:
    return [picture(t) for t in range(frames)]


def red(image: np.ndarray) -> Detections:
    rows, columns = np.nonzero((image[..., 0] > 150) & (image[..., 1] < 90))
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return Detections(np.array([box], np.float32), np.array([0.9]), names={0: "car"})


def follow(source=None, **options):
    options = {"box": {"red": RED}, "model": FakeSegmenter()} | options
    return vision_mem.track(film() if source is None else source, **options)


# -- track -------------------------------------------------------------------------------------


def test_a_run_is_a_list_whose_masks_come_back() -> None:
    run = follow()
    assert len(run) == 6 and run.names == ["red"]
    stream = list(follow(stream=True))
    for one, other in zip(run, stream, strict=True):
        assert np.array_equal(one["red"].mask, other["red"].mask)
        assert one["red"].box.tolist() == other["red"].box.tolist()
    assert run[-1]["red"].box[0] == pytest.approx(30, abs=4)
    assert [each.frame_index for each in run[1:3]] == [1, 2]
    assert np.array_equal(run[3].image, picture(3)), "read again when it is asked for"
    assert repr(run).startswith("6 frames of array; red: seen on ")
    with pytest.raises(IndexError, match=r"^there is no result 50: this run has 6 frames$"):
        run[50]
    with pytest.raises(InputError, match=r"^results are numbered; expected \[0\] or \[5:10\]"):
        run["red"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"points": "10,20"}, "points are '10,20'; expected rows of two numbers: x, y"),
        ({"points": [(1, 2), (3,)]}, "expected rows of two numbers: x, y"),
        ({"points": (1, 2)}, "points have shape (2,); expected rows of two numbers, x and y"),
        ({"box": "10,20,30,40"}, "box is '10,20,30,40'; expected 4 finite numbers"),
        ({"box": {"x": 1}}, "expected 4 finite numbers"),
    ],
)
def test_prompts_of_a_wrong_kind_are_told_in_plain_words(given, says) -> None:
    with pytest.raises(InputError) as told:
        Prompt(**given)
    assert says in str(told.value)


def test_a_stream_is_lazy_and_its_mistakes_are_not() -> None:
    given = []

    def frames():
        for t in range(50):
            given.append(t)
            yield picture(t % 10)

    stream = follow(frames(), stream=True)
    first = next(stream)
    assert first.frame_index == 0 and len(given) < 20
    stream.close()
    with pytest.raises(InputError, match="expected four numbers"):
        follow(box=(1, 2, 3), stream=True)


@pytest.mark.parametrize(
    ("given", "objects"),
    [
        ({"box": RED}, 1),
        ({"box": [RED, BLUE]}, 2),
        ({"box": np.array([RED, BLUE])}, 2),
        ({"box": {"a": RED, "b": BLUE}}, 2),
        ({"box": None, "point": (30, 50)}, 1),
        ({"box": None, "point": [(30, 50), (40, 60)]}, 1),
        ({"box": RED, "not_point": (110, 90)}, 1),
        ({"box": {"a": RED}, "point": {"a": (30, 50), "b": (110, 90)}}, 2),
        ({"box": None, "mask": picture()[..., 0] > 150}, 1),
        ({"box": None, "mask": (picture()[..., 2] // 100).astype(np.uint8)}, 2),
        ({"box": None, "prompts": [Prompt(box=RED, name="a"), Prompt(box=BLUE)]}, 2),
        ({"box": {"a": RED}, "prompts": {2: [Prompt(box=RED, name="a")]}}, 1),
        ({"box": {"a": RED}, "prompts": {3: [Prompt(box=BLUE, name="late")]}}, 2),
    ],
)  # fmt: skip
def test_what_can_be_pointed_at(given, objects) -> None:
    assert len(follow(**given)[-1].objects) == objects


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"box": None}, "say what to follow"),
        ({"box": "10,20,30,40"}, "x,y,w,h"),
        ({"box": (54, 70, 20, 40)}, "two corners"),
        ({"box": (500, 40, 540, 70)}, "outside the frame"),
        ({"box": None, "point": (1, 2, 3)}, "expected x, y"),
        ({"box": None, "not_point": (1, 2)}, "only not_point"),
        ({"box": None, "mask": np.zeros((120, 160))}, "whole numbers"),
        ({"box": None, "mask": np.zeros((120, 160), bool)}, "marks no pixel"),
        ({"prompts": {99: Prompt(box=RED)}}, "last frame is 5"),
        ({"prompts": ["dog"]}, "expected Prompts"),
        ({"max_frames": "x"}, "max_frames is 'x'; expected a whole number"),
        ({"fps": "x"}, "fps is 'x'; expected a number above 0"),
        ({"save": "vidoe"}, "did you mean"),
        ({"save": [3]}, "or a sink"),
        ({"preset": "samura"}, "samurai"),
        ({"model": "sam2.1-hiera-tny"}, "no model"),
    ],
)
def test_mistakes_are_one_line(given, words) -> None:
    with pytest.raises(InputError, match=words) as error:
        follow(**given)
    assert "\n" not in str(error.value) and "None" not in str(error.value)


def test_results_are_written_and_recorded(tmp_path: Path) -> None:
    run = follow(save="lasot,diary", out=tmp_path / "out")
    assert run.folder == tmp_path / "out" and "files in" in repr(run)
    assert len((run.folder / "lasot" / "array.txt").read_text().splitlines()) == 6
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "finished" and record["frames"] == 6
    assert record["files"] == ["array.diary.jsonl", "lasot/"]
    with pytest.raises(InputError, match="holds results already"):
        follow(save="lasot", out=tmp_path / "out")

    class Own:
        seen = 0

        def open(self, info): ...

        def write(self, frame, result):
            self.seen += 1

        def close(self): ...

    own = Own()
    for _ in follow(save=own, stream=True):
        pass
    assert own.seen == 6


def test_a_live_source_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_mem import api
    from vision_mem.sources.open import open_source

    live = open_source(film(3))
    live._reader.info = replace(live.info, live=True)
    monkeypatch.setattr(api, "open_source", lambda source, **options: live)
    with pytest.raises(InputError, match="array is live and may never end; give stream=True"):
        follow("0")


# -- mots and ask --------------------------------------------------------------------------------


def test_mots_with_a_function_although_it_is_a_package_too(tmp_path: Path) -> None:
    run = vision_mem.mots(
        film(12), detect=red, model=FakeSegmenter(), save="events,tracks", out=tmp_path / "out"
    )
    assert run.names and run[-1].tracks[0].class_name == "car"
    assert "present, sure" in repr(run[-1]) and "car" in repr(run[-1])
    assert (tmp_path / "out" / "array.tracks.csv").read_text().count("\n") == 2
    assert vision_mem.mots.MotsSession is MotsSession
    code = (
        "import vision_mem.mots.config, vision_mem; assert callable(vision_mem.mots);"
        "from vision_mem import mots; assert callable(mots); mots.MotsConfig"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ask_answers_with_the_moments() -> None:
    from vision_mem.models.vlm.fake import FakeVideoModel

    answers = vision_mem.ask(film(), "red", model=FakeVideoModel())
    assert repr(answers[0]).startswith("at ") and "; best match 0.0 to " in repr(answers[0])
    assert len(repr(answers[0])) < 300 and answers.found is None and answers.intervals == ()
    assert len(answers) == 1 and answers.evidence == answers[0].evidence != ()
    assert "s" in repr(answers)
    two = vision_mem.ask(film(), ["red", "blue"], model=FakeVideoModel(), stream=True)
    assert len(list(two)) == 2
    with pytest.raises(InputError, match="no question"):
        vision_mem.ask(film(), " ")
    with pytest.raises(InputError, match=r"at is 90 s, but the source ends after 0.2 s"):
        vision_mem.ask(film(), "red", at=90, model=FakeVideoModel())


def test_a_memory_is_kept_and_asked_again(tmp_path: Path) -> None:
    from vision_mem.models.vlm.fake import FakeVideoModel

    kept = tmp_path / "film.vmem"
    first = vision_mem.ask(film(), "red", model=FakeVideoModel(), memory=kept)
    again = vision_mem.ask(kept, "red", model=FakeVideoModel())
    assert [m.grid for m in again.evidence] == [m.grid for m in first.evidence]
    longer = vision_mem.ask(film(10), "red", model=FakeVideoModel(), memory=kept, save=True,
                            out=tmp_path / "out")  # fmt: skip
    assert len(longer.evidence) >= len(first.evidence)
    (line,) = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert json.loads(line)["question"] == "red"


# -- sessions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [picture(), Image.fromarray(picture()), picture().astype(np.float32) / 255, picture()[..., 0]],
)
def test_arrays_are_frames(given) -> None:
    session = TrackingSession(FakeSegmenter())
    first = session.step(given, Prompt(box=RED, name="red"))
    second = session.step(given)
    assert (first.frame_index, second.frame_index) == (0, 1)
    assert second.time_s == pytest.approx(1 / 30)
    result = MotsSession(FakeSegmenter()).step(given, red(picture()))
    assert result.frame_index == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("clip.mp4", "open_source"),
        (None, "a frame is missing"),
        (picture().transpose(2, 0, 1), "channels first"),
        (np.zeros((4, 4, 7), np.uint8), r"\(4, 4, 7\)"),
        (picture().astype(np.float32), "0, 1"),
    ],
)
def test_what_is_no_frame_is_told(given, words) -> None:
    for session in (TrackingSession(FakeSegmenter()), MotsSession(FakeSegmenter())):
        with pytest.raises(InputError, match=words):
            session.step(given)


def test_one_name_is_one_object() -> None:
    session = TrackingSession(FakeSegmenter())
    session.step(picture(), [Prompt(box=RED, name="dog")])
    for t in range(1, 4):
        session.step(picture(t))
    result = session.step(picture(4), [Prompt(box=BLUE, name="dog")])
    assert [event.kind for event in result.events] == ["corrected"]
    assert len(result.objects) == 1 and result["dog"].box[0] == pytest.approx(100, abs=8)
    session.step(picture(5), [Prompt(points=[(60, 50)], name="cat")])
    assert session.object_ids == (1, 2)
    with pytest.raises(InputError, match="two boxes or masks"):
        session.step(picture(6), [Prompt(box=RED, name="a"), Prompt(box=BLUE, name="a")])
    session.step(
        picture(6), [Prompt(object_id=3, box=RED), Prompt(object_id=4, box=RED, name="cat")]
    )
    with pytest.raises(InputError, match="2 objects are called 'cat': 2, 4"):
        session.step(picture(7), [Prompt(box=RED, name="cat")])


def test_an_unknown_id_is_an_error() -> None:
    session = TrackingSession(FakeSegmenter())
    session.step(picture(), [Prompt(box=RED, name="dog")])
    with pytest.raises(InputError, match=r"no object 7; followed now: 1 \(dog\)"):
        session.step(picture(1), [Prompt(object_id=7, points=[(30, 50)])])
    with pytest.raises(InputError, match="box="):
        Prompt((20, 40, 54, 70), name="dog")
    with pytest.raises(KeyError, match="no object 7 on frame 0; known: 1 "):
        TrackingSession(FakeSegmenter()).step(picture(), Prompt(box=RED))[7]


def test_a_name_corrects_its_track_too() -> None:
    session = MotsSession(FakeSegmenter())
    session.step(picture(), red(picture()))
    mine = session.prompt(None, Prompt(box=BLUE, name="mine"))
    assert session.prompt(None, Prompt(box=BLUE, name="mine")) == mine


# -- what a result can be turned into -------------------------------------------------------------


def test_short_texts() -> None:
    session = TrackingSession(FakeSegmenter())
    result = session.step(picture(), Prompt(box=RED, name="dog"))
    assert repr(result[1]).startswith("dog: present, sure .")
    assert repr(result) == f"frame 0 at 0 s: {result[1]!r}"
    texts = [
        (Prompt(box=RED, name="dog"), "dog: box 20,40,54,70"),
        (Prompt(points=[(1, 2), (3, 4)], labels=[1, 0]), "a new object: point 1,2, not point 3,4"),
        (Prompt(3, mask=np.eye(4)), "object 3: mask of 4 pixels"),
        (Frame(3, 0.5, picture()), "frame 3 at 0.5 s, 160x120"),
        (red(picture()), "1 detection: car .90 (20,40,54,70)"),
        (Detections(), "0 detections"),
    ]
    for value, text in texts:
        assert repr(value) == text
    many = session.step(picture(1), [Prompt(object_id=n, box=RED) for n in range(2, 40)])
    assert len(repr(many)) < 800 and "and 31 more" in repr(many)


def test_pictures() -> None:
    session = TrackingSession(FakeSegmenter())
    result = session.step(picture(), Prompt(box=RED, name="dog"))
    drawn = result.plot()
    assert drawn.shape == (120, 160, 3) and (drawn != picture()).any()
    assert result._repr_png_().startswith(b"\x89PNG")
    assert (result.plot(np.zeros_like(picture())) != drawn).any()
    with pytest.raises(InputError, match="not that of frame 0"):
        result.plot(picture()[:50])


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_dict_and_coco() -> None:
    from pycocotools import mask as coco

    result = TrackingSession(FakeSegmenter()).step(picture(), Prompt(box=RED, name="dog"))
    values = json.loads(json.dumps(result.to_dict()))
    (each,) = values["objects"]
    assert each["box"] == result[1].box.tolist() and each["name"] == "dog"
    (found,) = result.to_coco()
    x1, y1, x2, y2 = result[1].box.tolist()
    assert found["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert np.array_equal(coco.decode(found["segmentation"]).astype(bool), result[1].mask)


def test_supervision_takes_it() -> None:
    result = TrackingSession(FakeSegmenter()).step(picture(), Prompt(box=RED, name="dog"))
    try:
        found = result.to_supervision()
    except MissingExtra as error:
        assert "vision-mem[interop]" in str(error)
        pytest.skip("supervision is not installed")
    assert found.tracker_id.tolist() == [1] and found["class_name"].tolist() == ["dog"]
    assert found.area[0] == result[1].mask.sum()


def test_a_table_of_a_run() -> None:
    run = follow(box={"red": RED, "blue": BLUE})
    try:
        table = run.to_pandas()
    except MissingExtra as error:
        assert "vision-mem[interop]" in str(error)
        pytest.skip("pandas is not installed")
    assert len(table) == 12 and set(table["name"]) == {"red", "blue"}
    row = table[(table.name == "red") & (table.frame == 2)].iloc[0]
    assert row.area == run[2]["red"].mask.sum() and row.x1 == run[2]["red"].box[0]


def test_annotations_from_python(tmp_path: Path) -> None:
    run = follow(save="coco,yolo", frames=True, frames_every=2, pad=1, out=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "coco" / "array.json").read_text())
    assert [image["frame_id"] for image in content["images"]] == [0, 2, 4]
    whole = run.to_coco()
    assert len(whole["images"]) == 6 and whole["categories"] == [{"id": 1, "name": "red"}]
    x, y, w, h = whole["annotations"][0]["bbox"]
    assert content["annotations"][0]["bbox"] == [x - 1, y - 1, w + 2, h + 2]
    with pytest.raises(InputError, match="add one of them"):
        follow(save="cvat", frames=True)
