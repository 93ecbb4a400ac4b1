"""Files of many objects: what is read, what is refused and why, and what is written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vision_mem.errors import InputError, SinkError
from vision_mem.formats.mot import (
    MOT15,
    check_kitti_labels,
    check_mot_text,
    read_kitti_labels,
    read_mot_text,
)
from vision_mem.formats.mots import (
    MOTS_CHALLENGE,
    check_mots_pngs,
    check_mots_text,
    mots_id,
    read_mots_pngs,
    read_mots_text,
)
from vision_mem.formats.rle import encode_mask
from vision_mem.formats.track_rows import TrackRecord
from vision_mem.sinks.tracks import KittiLabels, MotsPng, MotsText, MotText
from vision_mem.types import SourceInfo

SIZE = (20, 30)
INFO = SourceInfo("clip", SIZE[1], SIZE[0], 10.0)


def block(x, y, w=5, h=4):
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return mask


A, B, C = (encode_mask(block(x, y)) for x, y in ((2, 3), (10, 3), (4, 5)))  # A and C overlap
GOOD = f"0 1001 1 20 30 {A}\n0 2001 2 20 30 {B}\n2 1001 1 20 30 {C}\n"
LABEL = "0 1 Car 0 0 -10 5 6 15 26 -1 -1 -1 -1000 -1000 -1000 -10"
MOT = "1,3,10.5,20,30,40,0.9,-1,-1,-1\n"


def test_mots_text():
    rows = read_mots_text("\ufeff" + GOOD.replace("\n", "\r\n") + "\r\n", "f.txt", frames=3)
    assert rows.frames.tolist() == [0, 0, 2]
    assert rows.ids.tolist() == [1001, 2001, 1001]
    assert rows.classes.tolist() == [1, 2, 1]
    assert rows.lines.tolist() == [1, 2, 3]
    assert rows.boxes.tolist() == [[2, 3, 7, 7], [10, 3, 15, 7], [4, 5, 9, 9]]
    assert rows.masks.size == SIZE
    record = rows.record(1)
    assert (record.object_id, record.class_id) == (2001, 2)
    np.testing.assert_array_equal(record.mask, block(10, 3))
    assert [each.tolist() for each in rows.by_frame(3)] == [[0, 1], [], [2]]
    assert len(read_mots_text("", "f.txt")) == 0


def test_frames_of_the_challenge_count_from_one():
    text = GOOD.replace("1001 1", "2002 2").replace("0 2", "1 2", 1).replace("\n0 ", "\n1 ")
    rows = read_mots_text(text, "f.txt", MOTS_CHALLENGE, frames=2)
    assert rows.frames.tolist() == [0, 0, 1]
    with pytest.raises(InputError, match=r"line 1: frame 0 is not in the sequence; expected 1 to"):
        read_mots_text(GOOD, "f.txt", MOTS_CHALLENGE, frames=2)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("1 1001 1 20 30", "format", "5 fields in '1 1001 1 20 30'; expected 6: frame id class"),
        (f"1 x 1 20 30 {A}", "format", "id is no whole number"),
        (f"1_0 1001 1 20 30 {A}", "format", "frame is no whole number"),
        (f"1 {'9' * 30} 1 20 30 {A}", "format", "id is no whole number"),
        (f"1 \u0661 1 20 30 {A}", "format", "id is no whole number"),
        (f"1 1001 1 20 31 {A}", "size", "the mask is 20x31; expected 20x30"),
        (f"1 1001 1 0 30 {A}", "size", "the mask is 0x30; expected sides of 1 to"),
        (f"1 1001 1 20 999999 {A}", "size", "20x999999"),
        (f"1 -1001 1 20 30 {A}", "id", "id -1001 of class 1 is negative"),
        ("1 1001 1 20 30 zz~", "rle", "a character COCO has not; expected COCO's compressed"),
        ("1 1001 1 20 30 00", "rle", "cover 0 of 600 pixels"),
        (f"-1 1001 1 20 30 {A}", "frame", "frame -1 is not in the sequence; expected 0 to 4"),
        (f"5 1001 1 20 30 {A}", "frame", "frame 5 is not in the sequence; expected 0 to 4"),
        (f"99999999999 1001 1 20 30 {A}", "frame", "frame 99999999999 is not"),
        (f"2 1001 1 20 30 {B}", "duplicate", "id 1001 stands twice in frame 2, first in line 3"),
        (f"2 1002 1 20 30 {A}", "overlap", "id 1002 shares pixels with that of id 1001 in frame 2"),
    ],
)  # fmt: skip
def test_what_scorers_refuse_is_refused_with_its_line(line, kind, message):
    with pytest.raises(InputError) as refused:
        read_mots_text(GOOD + line, "f.txt", frames=5)
    assert str(refused.value).startswith("f.txt, line 4: ")
    assert message in str(refused.value)
    (problem,) = (p for p in check_mots_text(GOOD + line, "f.txt", frames=5) if p.fatal)
    assert (problem.line, problem.kind) == (4, kind)
    assert str(problem) == str(refused.value)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (f"1 3001 3 20 30 {A}", "class", "class 3 is not scored in KITTI MOTS; expected 1 (car)"),
        (f"1 7 1 20 30 {A}", "id", "id 7 does not tell its class 1; expected 1 * 1000 + instance"),
        (f"1 1009 1 20 30 {encode_mask(block(0, 0, 0, 0))}", "empty", "the mask is empty"),
    ],
)
def test_what_scorers_let_pass_is_noted(line, kind, message):
    read_mots_text(GOOD + line, "f.txt")
    (problem,) = check_mots_text(GOOD + line, "f.txt")
    assert (problem.line, problem.kind, problem.fatal) == (4, kind, False)
    assert message in problem.message


def test_regions_to_be_ignored_may_be_several_but_not_over_objects():
    head = "0 10000 10 20 30"
    regions = "".join(f"{head} {encode_mask(block(x, 12 + x))}\n" for x in (0, 3))
    assert check_mots_text(GOOD + regions, "f.txt") == []
    over = f"{head} {encode_mask(block(0, 0, 30, 20))}\n"
    found = check_mots_text(GOOD + over, "f.txt")
    assert found and {problem.kind for problem in found} == {"overlap"}


def test_a_class_of_another_set_is_noted_once():
    """Files of class 1 score nothing in MOTS Challenge, where pedestrians are class 2."""
    text = "".join(f"{n} 1001 1 20 30 {A}\n" for n in range(1, 9))
    (problem,) = check_mots_text(text, "f.txt", MOTS_CHALLENGE)
    assert "class 1 is not scored in MOTS Challenge; expected 2 (pedestrian)" in problem.message


def test_the_list_of_problems_ends_somewhere():
    lines = "nonsense\n" * 5000 + f"0 7 1 20 30 {A}\n"
    found = check_mots_text(lines, "f.txt", most=7)
    assert [problem.line for problem in found] == list(range(1, 8))
    (first, *_) = check_mots_text(f"0 7 1 20 30 {A}\n" * 500 + "x", "f.txt")
    assert first.fatal


def test_hostile_files_never_raise():
    random = np.random.default_rng(0)
    alphabet = "0123456789 -.,\n\tPQoxe\x00\u0661Car"
    for _ in range(300):
        text = "".join(random.choice(list(alphabet), random.integers(0, 200)))
        broken = GOOD[: random.integers(0, len(GOOD))] + text
        for check in (check_mots_text, check_kitti_labels, check_mot_text):
            for problem in check(broken, "f.txt", frames=5):
                assert "\n" not in problem.message and len(problem.message) < 300


def test_kitti_labels():
    van = "1 2 Van 1 2 0.5 1 2 3 4 1 1 1 1 1 1 1 0.25"
    region = "1 -1 DontCare -1 -1 -10 0 0 9 9 -1 -1 -1 -1000 -1000 -1000 -10"
    text = f"{LABEL}\n{van}\n{region}\n"
    rows = read_kitti_labels(text, "f.txt", frames=2)
    assert rows.classes.tolist() == [1, 2, 9]
    assert rows.boxes[0].tolist() == [5, 6, 15, 26]
    assert rows.scores.tolist() == [1, 0.25, 1]
    assert (rows.truncated.tolist(), rows.occluded.tolist()) == ([0, 1, -1], [0, 2, -1])
    assert rows.masks is None


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("0 1 Car 0 0", "format", "line 1: 5 fields in '0 1 Car 0 0'; expected 17, or 18"),
        (LABEL.replace("Car", "Dragon"), "class", "type 'Dragon' is none of KITTI's: car, van"),
        (LABEL.replace(" 5 ", " nan "), "format", "is no label: a number cannot be read"),
        (LABEL.replace(" 5 ", " 1e300 "), "format", "is no label"),
        (f"{LABEL}\n{LABEL}", "duplicate", "line 2: id 1 stands twice in frame 0, first in line 1"),
        ("4" + LABEL[1:], "frame", "frame 4 is not in the sequence; expected 0 to 3"),
    ],
)
def test_labels_that_are_refused(text, kind, message):
    with pytest.raises(InputError, match=r"f\.txt, line \d: ") as refused:
        read_kitti_labels(text, "f.txt", frames=4)
    assert message in str(refused.value)
    assert kind in {problem.kind for problem in check_kitti_labels(text, "f.txt", frames=4)}


def test_the_same_id_may_stand_in_two_classes_of_kitti():
    both = f"{LABEL}\n{LABEL.replace('Car', 'Pedestrian')}"
    assert len(read_kitti_labels(both, "f.txt")) == 2


@pytest.mark.parametrize("separator", [",", " ", ", ", "\t"])
def test_mot_text(separator):
    text = (MOT + "\n2,4,1,1,5,5,1,-1,-1,-1\n").replace(",", separator)
    rows = read_mot_text(text, "f.txt", frames=2)
    assert rows.frames.tolist() == [0, 1]
    assert rows.lines.tolist() == [1, 3]
    assert rows.boxes[0].tolist() == [10.5, 20, 40.5, 60]
    assert rows.scores.tolist() == [0.9, 1]
    assert rows.classes.tolist() == [1, 1]
    assert len(read_mot_text("\n", "f.txt")) == 0


def test_truth_of_mot_has_classes_from_2016_on():
    rows = read_mot_text("1,1,0,0,5,5,1,7,0.5\n1,2,0,0,5,5,0,1,1\n", "gt.txt", truth=True)
    assert (rows.classes.tolist(), rows.scores.tolist()) == ([7, 1], [1, 0])
    world = "1,1,0,0,5,5,1,4.48,5.5,0\n"
    assert read_mot_text(world, "gt.txt", MOT15, truth=True).classes.tolist() == [1]
    with pytest.raises(InputError, match=r"class 4\.48; expected a class from 1 to 13"):
        read_mot_text(world, "gt.txt", truth=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3", "line 1: 3 numbers in '1,2,3'; expected 7 to 10: frame,id,left,top"),
        (MOT + "1,x,1,1,1,1,1", "line 2: '1,x,1,1,1,1,1' is no row of numbers"),
        (MOT + "1,2,1,1,1,inf,1", "line 2"),
        (MOT + "1.5,2,1,1,1,1,1", "frame and id are whole"),
        ("1,-1,10,20,30,40,0.9", "id is 0 or above"),  # a file of detections
        (MOT * 2, "line 2: id 3 stands twice in frame 1, first in line 1"),
        (MOT + "9,2,1,1,1,1,1", "line 2: frame 9 is not in the sequence; expected 1 to 5"),
        ("0,2,1,1,1,1,1", "line 1: frame 0 is not in the sequence; expected 1 to 5"),
        ("1,2,1,1,1,1,1,3,-1,-1", "class 3; expected -1 or 1: only class 1, pedestrian"),
    ],
)
def test_mot_lines_that_are_refused(text, message):
    with pytest.raises(InputError, match=r"^f\.txt, line \d: ") as refused:
        read_mot_text(text, "f.txt", frames=5)
    assert message in str(refused.value)


def test_boxes_without_area_are_noted():
    (problem,) = check_mot_text("1,2,1,1,0,5,1\n", "f.txt")
    assert (problem.kind, problem.fatal) == ("box", False)


def records(shift=0):
    return [
        TrackRecord(1, 1, 0.5, None, block(2 + shift, 3)),
        TrackRecord(7, 2, 0.25, np.array([10, 3, 15.5, 7], np.float32), block(10 + shift, 3)),
        TrackRecord(8, 2, 0.25, None, block(0, 0, 0, 0)),  # nothing to be seen
    ]


def written(sink, frames=range(3)):
    sink.open(INFO)
    for frame in frames:
        sink.write(frame, records(frame) if frame != 1 else [])
    sink.close()


def test_text_and_images_say_the_same(tmp_path):
    text, images = MotsText(tmp_path / "a.txt"), MotsPng(tmp_path / "a")
    written(text)
    written(images)
    found = sorted((tmp_path / "a").iterdir())
    assert [path.name for path in found] == ["000000.png", "000001.png", "000002.png"]
    one = read_mots_text((tmp_path / "a.txt").read_text(), "a.txt", frames=3)
    other = read_mots_pngs(list(enumerate(found)), "a", frames=3)
    assert one.ids.tolist() == other.ids.tolist() == [1001, 2007, 1001, 2007]
    for name in ("frames", "classes", "boxes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for row in range(4):
        np.testing.assert_array_equal(one.masks.mask(row), other.masks.mask(row))
    assert check_mots_text((tmp_path / "a.txt").read_text(), "a.txt") == []
    assert check_mots_pngs(list(enumerate(found)), "a") == []


def test_boxes_are_written_as_their_sets_have_them(tmp_path):
    written(MotText(tmp_path / "m.txt"))
    written(KittiLabels(tmp_path / "k.txt"))
    assert (tmp_path / "m.txt").read_text().splitlines()[:2] == [
        "1,1,2.000,3.000,5.000,4.000,0.5000,-1,-1,-1",
        "1,7,10.000,3.000,5.500,4.000,0.2500,-1,-1,-1",
    ]
    lines = (tmp_path / "k.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [18] * 4
    read = read_kitti_labels("\n".join(lines), "k.txt", frames=3)
    lines = (tmp_path / "m.txt").read_text()
    assert check_kitti_labels((tmp_path / "k.txt").read_text(), "k.txt") == []
    assert check_mot_text(lines, "m.txt") == []
    np.testing.assert_array_equal(read.boxes, read_mot_text(lines, "m.txt").boxes)
    assert read.scores.tolist() == [0.5, 0.25] * 2


@pytest.mark.parametrize("kind", [MotsText, MotText, KittiLabels, MotsPng])
def test_an_interrupted_run_goes_on(kind, tmp_path):
    written(kind(tmp_path / "whole"))
    written(kind(tmp_path / "cut"))
    written(kind(tmp_path / "cut", append=True), frames=[1, 2])

    def content(path):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [file.read_bytes() for file in files]

    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    written(kind(tmp_path / "cut"), frames=[0])
    assert len(content(tmp_path / "cut")[0]) < len(b"".join(content(tmp_path / "whole")))


@pytest.mark.parametrize(
    ("object_id", "class_id", "wanted"),
    [(0, 1, 1000), (1, 2, 2001), (999, 1, 1999), (1000, 1, 1_001_000), (5000, 2, 2_005_000)],
)
def test_ids_never_run_into_the_next_class(object_id, class_id, wanted):
    assert mots_id(object_id, class_id) == wanted


def test_large_ids_are_read_back_with_their_class(tmp_path):
    sink = MotsText(tmp_path / "a.txt")
    sink.open(INFO)
    sink.write(0, [TrackRecord(1001, 1, mask=block(0, 0)), TrackRecord(1, 2, mask=block(9, 9))])
    sink.close()
    text = (tmp_path / "a.txt").read_text()
    assert check_mots_text(text, "a.txt") == []
    assert read_mots_text(text, "a.txt").classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        (MotsText, [TrackRecord(-1, 1, mask=block(0, 0))], "object id -1 does not fit"),
        (MotsText, [TrackRecord(1, 10, mask=block(0, 0))], "class 10 does not fit"),
        (MotsText, [TrackRecord(1, 0, mask=block(0, 0))], "class 0 does not fit"),
        (MotsText, [TrackRecord(1, 1)], "object 1 has no mask in frame 0"),
        (MotsText, [TrackRecord(1, 1, mask=block(0, 0)), TrackRecord(1, 2, mask=block(9, 9))],
         "object 1 stands twice in frame 0"),
        (MotsText, [TrackRecord(4, 1, mask=block(0, 0)), TrackRecord(5, 2, mask=block(4, 3))],
         "the masks of objects 4 and 5 overlap in frame 0"),
        (MotsPng, [TrackRecord(1000, 1, mask=block(0, 0))], "object id 1000 does not fit"),
        (MotsPng, [TrackRecord(1, 1, mask=np.ones((3, 3), bool))], "shape (3, 3)"),
        (KittiLabels, [TrackRecord(1, 7, mask=block(0, 0))], "class 7 of object 1 has no KITTI"),
        (MotText, [TrackRecord(1, 1)], "object 1 has neither box nor mask"),
        (MotText, [TrackRecord(1, 1, box=np.array([0, 0, np.nan, 1]))], "expected four finite"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_say_is_refused(kind, bad, message, tmp_path):
    sink = kind(tmp_path / "out")
    sink.open(INFO)
    with pytest.raises(InputError) as refused:
        sink.write(0, bad)
    assert message in str(refused.value)
    sink.close()
    out = tmp_path / "out"
    assert not (list(out.iterdir()) if out.is_dir() else out.read_bytes())


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for kind in (MotsText, MotsPng):
        with pytest.raises(SinkError, match="a file is in the way"):
            kind(tmp_path / "file" / "out").open(INFO)


def saved(path, values, kind=np.uint16):
    Image.fromarray(np.asarray(values, kind)).save(path)
    return path


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.zeros(SIZE), np.uint8, "is an image of kind L; expected 16-bit grey"),
        (np.zeros((*SIZE, 3)), np.uint8, "is an image of kind RGB"),
        (np.zeros((5, 5)), np.uint16, "the image is 5x5; expected 20x30"),
        (np.full(SIZE, 17), np.uint16, "value 17 tells no class"),
    ],
)
def test_images_that_are_refused(values, kind, message, tmp_path):
    good = saved(tmp_path / "000000.png", np.full(SIZE, 2001))
    bad = saved(tmp_path / "000001.png", values, kind)
    with pytest.raises(InputError) as refused:
        read_mots_pngs([(0, good), (1, bad)], tmp_path)
    assert str(refused.value).startswith(f"{bad}: ")
    assert message in str(refused.value)


def test_images_that_are_damaged_or_belong_to_no_frame(tmp_path):
    good = saved(tmp_path / "000000.png", np.full(SIZE, 2001))
    cut = tmp_path / "000001.png"
    cut.write_bytes(good.read_bytes()[:45])
    found = check_mots_pngs([(0, good), (1, cut), (7, good)], tmp_path, frames=2)
    assert [(p.kind, p.where) for p in found] == [("frame", str(good)), ("format", str(cut))]
    assert "cannot be read as an image" in found[1].message
