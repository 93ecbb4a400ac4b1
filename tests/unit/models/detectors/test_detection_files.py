"""Detections from files: every format, wrong ones, damaged ones, those of another video."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from pycocotools import mask as coco

from vision_mem.errors import InputError
from vision_mem.models.detectors import FORMATS, FileDetector
from vision_mem.models.detectors.files import guess_format
from vision_mem.types import Frame

SIZE = (48, 64)
MASK = np.zeros(SIZE, bool)
MASK[10:30, 5:25] = True


def packed(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


RLE = packed(MASK)


def frame(index, size=SIZE):
    return Frame(index, index / 25, np.zeros((*size, 3), np.uint8))


def write(folder, text, name="dets.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, *words, **options):
    with pytest.raises(InputError) as caught:
        FileDetector(path, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500, text
    for word in words:
        assert word in text, text


TRACKRCNN = f"""0 5 10 25 30 0.9 1 48 64 {RLE} 0.5 0.25 -1
0 30.5 12 40 20.25 0.3 2 48 64 {packed(~MASK)} 1 2 3
2 1 2 3 4 0.75 2 48 64 {RLE} 0 0 1
"""
LABEL = """0 3 Car 0 1 -1.57 5 10 25 30 1.5 1.6 3.9 1.8 1.5 8.4 -1.6
0 -1 DontCare -1 -1 -10 0 0 60 5 -1000 -1000 -1000 -10 -1 -1 -1
0 4 Pedestrian 0 0 -1 30.5 12 40 20.25 1 1 1 1 1 1 1 0.3
2 -1 Person_sitting 0 0 -1 1 2 3 4 1 1 1 1 1 1 1 0.75
"""
MOT = """1,-1,5,10,20,20,0.9,-1,-1,-1
1,-1,30.5,12,9.5,8.25,0.3,-1,-1,-1
3,-1,1,2,2,2,0.75,-1,-1,-1
"""
MOTS = f"0 1003 1 48 64 {RLE}\n0 10000 10 48 64 {packed(~MASK)}\n2 2001 2 48 64 {RLE}\n"
COCO = {
    "images": [
        {"id": 70, "file_name": "seq/frame10.jpg"},
        {"id": 71, "file_name": "seq/frame2.jpg"},
        {"id": 72, "file_name": "seq/frame1.jpg"},
    ],
    "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}],
    "annotations": [
        {
            "image_id": 72,
            "category_id": 1,
            "bbox": [5, 10, 20, 20],
            "score": 0.9,
            "segmentation": {"size": [48, 64], "counts": RLE},
        },
        {"image_id": 72, "category_id": 2, "bbox": [30.5, 12, 9.5, 8.25], "score": 0.3},
        {"image_id": 72, "category_id": 2, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        {"image_id": 70, "category_id": 2, "bbox": [1, 2, 2, 2], "score": 0.75},
    ],
}
RESULTS = [
    {"image_id": 0, "category_id": 1, "bbox": [5, 10, 20, 20], "score": 0.9},
    {"image_id": 0, "category_id": 2, "bbox": [30.5, 12, 9.5, 8.25], "score": 0.3},
    {"image_id": 2, "category_id": 2, "bbox": [1, 2, 2, 2], "score": 0.75},
]
LINES = "\n".join(json.dumps(each) for each in RESULTS)

CASES = {
    "kitti": (TRACKRCNN, "dets.txt"),
    "label": (LABEL, "0000.txt"),
    "mot": (MOT, "det.txt"),
    "coco": (json.dumps(COCO), "dets.json"),
    "jsonl": (LINES, "dets.jsonl"),
}


@pytest.mark.parametrize("format", CASES)
@pytest.mark.parametrize("told", [True, False])
def test_every_format_says_the_same(tmp_path, format, told) -> None:
    text, name = CASES[format]
    path = write(tmp_path, text, name)
    detector = FileDetector(path, format if told else "auto", frame_count=3, size=SIZE)
    assert detector.format == format
    assert detector.frames == [0, 2]
    first = detector.detect(frame(0))
    assert first.boxes.tolist() == [[5, 10, 25, 30], [30.5, 12, 40, 20.25]]
    expected = [0.9, 0.3] if format != "label" else [1.0, 0.3]
    np.testing.assert_array_equal(first.scores, np.array(expected, np.float32))
    assert first.labels.tolist() == ([1, 2] if format != "mot" else [2, 2])  # no classes there
    if format not in ("jsonl", "mot"):
        assert [first.name_of(k) for k in range(2)] == ["car", "pedestrian"]
    assert len(detector.detect(frame(1))) == 0
    assert detector.detect(frame(2)).boxes.tolist() == [[1, 2, 3, 4]]
    assert len(detector.detect(frame(99))) == 0
    assert (detector.stateful, detector.reports_absence) == (False, True)


def test_masks_and_embeddings_come_along(tmp_path) -> None:
    found = FileDetector(write(tmp_path, TRACKRCNN)).detect(frame(0))
    np.testing.assert_array_equal(found.masks, [MASK, ~MASK])
    np.testing.assert_array_equal(found.embeddings, [[0.5, 0.25, -1], [1, 2, 3]])
    found = FileDetector(write(tmp_path, json.dumps(COCO), "a.json")).detect(frame(0))
    np.testing.assert_array_equal(found.mask_of(0), MASK)
    assert found.mask_of(1) is None


@pytest.mark.parametrize(
    ("format", "shift"), [("mots", 0), ("mots-challenge", 1), ("auto", 0), ("mots", 5)]
)
def test_mots_truth_is_masks(tmp_path, format, shift) -> None:
    rows = [line.split(" ", 1) for line in MOTS.splitlines()]
    path = write(tmp_path, "".join(f"{int(n) + shift} {rest}\n" for n, rest in rows))
    options = {"first_frame": 5} if shift == 5 else {}
    detector = FileDetector(path, format, frame_count=3, **options)
    found = detector.detect(frame(0))  # the region to be ignored is not there
    np.testing.assert_array_equal(found.masks, [MASK])
    assert found.boxes.tolist() == [[5, 10, 25, 30]]
    assert found.name_of(0) == "car"
    assert detector.detect(frame(2)).name_of(0) == "pedestrian"


def test_mot_truth(tmp_path) -> None:
    rows = "1,7,5,10,20,20,1,1,0.8\n1,8,5,10,20,20,0,8,1\n2,9,1,1,5,5,1,3,1\n"
    detector = FileDetector(write(tmp_path, rows), "mot")
    assert detector.detect(frame(0)).name_of(0) == "pedestrian"
    assert len(detector.detect(frame(0))) == 1  # the second one does not count
    assert detector.detect(frame(1)).name_of(0) == "car"
    # Trackers' results, whose seventh field says nothing.
    spaces = write(tmp_path, "1 3 113.5 274.5 57 130 -1 -1 -1 -1\n2 3 1 1 5 5 -1 -1 -1 -1\n")
    detector = FileDetector(spaces)
    assert detector.format == "mot"
    assert detector.detect(frame(0)).scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("scores", "text", "expected"),
    [("percent", "57", 0.57), ("sigmoid", "0", 0.5), ("sigmoid", "-900", 0.0), ("unit", "1", 1.0)],
)
def test_scores_on_other_scales(tmp_path, scores, text, expected) -> None:
    path = write(tmp_path, f"1,-1,5,10,20,20,{text},-1,-1,-1\n1,-1,5,10,20,20,0,-1,-1,-1")
    found = FileDetector(path, "mot", scores=scores).detect(frame(0))
    assert found.scores[0] == pytest.approx(expected, abs=1e-6)
    refused(write(tmp_path, "1,-1,5,10,20,20,57,-1,-1,-1\n"), "line 1", "score 57", "percent")


def test_lists_that_differ_only_in_what_a_box_is(tmp_path) -> None:
    """TrackR-CNN's columns hold corners in one public set and sizes in another."""
    sizes = "0 723.8 173.6 185.3 134.3 0.996 1 375 1242 " + packed(np.zeros((375, 1242), bool))
    path = write(tmp_path, sizes + "\n")
    refused(path, "line 1", "right or bottom edge", "box=xywh", format="kitti")
    found = FileDetector(path, "kitti", box_format="xywh").detect(frame(0, (375, 1242)))
    np.testing.assert_allclose(found.boxes, [[723.8, 173.6, 909.1, 307.9]], rtol=1e-6)
    path = write(tmp_path, f"0 900 100 1200 300 0.9 1 375 1242 {packed(np.ones((375, 1242)))}\n")
    refused(path, "2100", "1242x375", "box=xyxy", format="kitti", box_format="xywh")


def test_frames_of_another_video(tmp_path) -> None:
    path = write(tmp_path, MOT + "61,-1,1,2,2,2,0.75,-1,-1,-1\n")
    assert FileDetector(path).frames == [0, 2, 60]
    refused(path, "line 4", "frame 61", "has 60 frames (1 to 60)", "another video", frame_count=60)
    refused(path, "line 4", "(0 to 60)", "counted from 1", frame_count=61, first_frame=0)
    path = write(tmp_path, "0,-1,1,2,2,2,0.75,-1,-1,-1\n")
    refused(path, "frame 0", "counted from 1", "first=0", format="mot")
    assert FileDetector(path, "mot", first_frame=0).frames == [0]
    refused(write(tmp_path, "-3 1 2 3 4 0.5 1\n"), "frame -3", "counted from 0")
    refused(write(tmp_path, MOTS), "line 1", "64x48", "640x480", size=(480, 640))
    with pytest.raises(InputError, match="64x48 pixels, but the video has 32x32"):
        FileDetector(write(tmp_path, MOTS)).detect(frame(0, (32, 32)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,-1,nan,10,20,20,0.9", "1 not finite"),
        ("1,-1,5,inf,20,20,0.9", "1 not finite"),
        ("1,-1,5,10,1e300,20,0.9", "1 not finite"),
        ("1,-1,5,10,0,20,0.9", "1 without size"),
        ("1,-1,5,10,20,-20,0.9", "1 without size"),
        ("1,-1,100000000,10,1,20,0.9", "1 without size"),  # no size in single precision
    ],
)
def test_boxes_that_cannot_be_used(tmp_path, line, reason, caplog) -> None:
    path = write(tmp_path, "1,-1,5,10,20,20,0.5\n" + line + "\n")
    with caplog.at_level(logging.WARNING):
        assert len(FileDetector(path, "mot").detect(frame(0))) == 1
    assert f"1 box left out: {reason}" in caplog.text
    refused(path, "line 2", reason[2:], format="mot", strict=True)


@pytest.mark.parametrize("box", ["25 10 5 30", "5 30 25 10", "5 10 5 30", "5 10 25 10"])
def test_corners_the_wrong_way_round_are_refused_with_their_line(tmp_path, box) -> None:
    path = write(tmp_path, f"0 5 10 25 30 0.9 1\n\n0 {box} 0.9 1\n")
    refused(path, f"{path}, line 3", "right or bottom edge before")


@pytest.mark.parametrize(
    ("format", "text", "words"),
    [
        ("kitti", "0 5 10 25 30 0.9", ("line 1", "6 fields", "frame x1 y1 x2 y2 score class")),
        ("kitti", "0 5 10 25 thirty 0.9 1", ("'thirty' is not a number",)),
        ("kitti", "0 5 10 25 3_0 0.9 1", ("'3_0' is not a number",)),
        ("kitti", "0 5 10 25 ٣٠ 0.9 1", ("is not a number",)),
        ("kitti", "0.5 5 10 25 30 0.9 1", ("'0.5' is not a whole number", "a frame number")),
        ("kitti", "nan 5 10 25 30 0.9 1", ("'nan' is not a whole number",)),
        ("kitti", "1e300 5 10 25 30 0.9 1", ("is not a whole number",)),
        ("kitti", "0 5 10 25 30 nan 1", ("score nan",)),
        ("kitti", "0 5 10 25 30 0.9 car", ("'car' is not a number", "class number")),
        ("kitti", f"0 5 10 25 30 0.9 1 48 65 {RLE}", ("a mask that cannot be read", "65x48")),
        ("kitti", f"0 5 10 25 30 0.9 1 48 64 {RLE} x", ("'x' is not a number", "embedding")),
        ("label", "0 3 Car 0 1", ("5 fields", "type truncated")),
        ("label", "0 3 Bird 0 1 0 5 10 25 30", ("type 'Bird'", "Pedestrian")),
        ("label", "0 3 Car 0 1 0 25 10 5 30", ("right or bottom edge",)),
        ("mot", "1,-1,5,10,20,20", ("6 fields", "frame,id,left,top,width,height,score")),
        ("mot", "1,-1,5,10,20,,0.9", ("'' is not a number",)),
        ("mots", f"0 1001 1 48 64 {RLE} 7", ("7 fields", "frame id class height width rle")),
        ("mots", "0 1001 1 48 64 $$$", ("a character COCO has not",)),
        ("mots", "0 1001 1 48 64 é", ("a character COCO has not",)),
        ("mots", f"0 1001 1 48 64 {RLE[:-1]}", ("a mask that cannot be read",)),
        ("mots", f"0 1001 1 0 64 {RLE}", ("a mask of 64x0 pixels",)),
        ("mots", f"0 1001 1 99999999 99999999 {RLE}", ("a mask of 99999999x99999999",)),
        ("mots", "0 1001 1 48 64 oooooooooooooooo0", ("a run length is far too large",)),
        ("mots", "0 1001 1 48 64 o", ("end within a number",)),
        ("mots", "0 1001 1 48 64 0000000", ("cover 0 of 3072 pixels",)),
        ("coco", "[1, 2", ("is not JSON", "line 1 column")),
        ("coco", "[" * 100_000, ("is not JSON", "nested too deep")),
        ("coco", "1", ("annotations are 1", "a list of objects")),
        ("coco", "[1]", ("annotations are [1]",)),
        ("coco", '{"annotations": []}', ("images are null",)),
        ("coco", '{"images": [], "annotations": [{"image_id": 5, "bbox": [0, 0, 1, 1]}]}',
         ("belongs to image 5", "not there")),
        ("coco", '{"images": [], "annotations": [{"image_id": [5], "bbox": [0, 0, 1, 1]}]}',
         ("belongs to image [5]",)),
        ("coco", '[{"image_id": "a.jpg", "bbox": [0, 0, 1, 1]}]', ("'a.jpg' is not a number",)),
        ("coco", '[{"image_id": 0}]', ("no box",)),
        ("coco", '[{"image_id": true, "bbox": [0, 0, 1, 1]}]', ("true is not a number",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1]}]', ("a box is [0, 0, 1]",)),
        ("coco", '[{"image_id": 0, "bbox": {"x": 0}}]', ("expected four numbers",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, "w", 1]}]', ("'w' is not a number",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1, 1], "segmentation": {"size": [2]}}]',
         ("a mask that cannot be read",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1, 1], "segmentation": '
         '{"size": [2, 2], "counts": [1, 99]}}]', ("out of range",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1, 1], "segmentation": '
         '{"size": [2, 2], "counts": [-1, 5]}}]', ("out of range",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1, 1], "segmentation": '
         '{"size": [2, 2], "counts": [0.5, 3.5]}}]', ("not whole numbers",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1, 1], "segmentation": [[1, 2, 3, 4]]}]',
         ("three finite corners",)),
        ("coco", '[{"image_id": 0, "bbox": [0, 0, 1, 1], "segmentation": "x"}]',
         ("a mask that cannot be read",)),
        ("jsonl", '{"frame": 0, "bbox": [0, 0, 1, 1]}\n{oops', ("line 2", "not JSON")),
        ("jsonl", "[]", ("line 1", "expected an object")),
        ("jsonl", '{"bbox": [0, 0, 1, 1]}', ("no frame number",)),
        ("jsonl", '{"frame": 0}', ("no box",)),
        ("jsonl", '{"frame": 0, "objects": 3}', ("objects are 3",)),
        ("jsonl", '{"frame": 0, "boxes": [[0, 0, 1, 1]]}', ("not a line of a recording",)),
        ("jsonl", '{"frame": 0, "boxes": [[9, 9, 1, 1]], "scores": [1], "labels": [0]}',
         ("not a line of a recording", "no size")),
        ("jsonl", '{"frame": 0, "boxes": [], "scores": [], "labels": [], "masks": ["x"], '
         '"size": [2, 2]}', ("not a line of a recording",)),
        ("jsonl", '{"frame": 0, "boxes": [[0, 0, 1, 1]], "scores": [1], "labels": [0], '
         '"names": [1]}', ("not a line of a recording",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(tmp_path, format, text, words) -> None:
    refused(write(tmp_path, text), *words, format=format)


@pytest.mark.parametrize("format", [*FORMATS, "auto"])
@pytest.mark.parametrize(
    "content", [b"\x00\xff\xfe\x01" * 300, b"\xff\xfe\x00", b"PK\x03\x04\x00" * 9]
)
def test_bytes_that_are_no_text(tmp_path, format, content) -> None:
    refused(write(tmp_path, content), "dets.txt", format=format)


def test_no_file_a_folder_an_unknown_format(tmp_path) -> None:
    for format in ("mot", "coco", "auto"):
        refused(tmp_path / "no.txt", "no such file", format=format)
        refused(tmp_path, str(tmp_path), format=format)
    path = write(tmp_path, MOT)
    refused(path, "format is 'voc'", "kitti, label, mot", format="voc")
    refused(path, "say its size", format="yolo")
    refused(path, "box_format is 'cxcywh'", "xyxy, xywh", box_format="cxcywh")
    refused(path, "scores is 'raw'", "sigmoid", scores="raw")
    refused(write(tmp_path, "frame x y\n"), "cannot be told", ":mot")


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_an_empty_file_holds_nothing_and_says_so(tmp_path, text, caplog) -> None:
    detector = FileDetector(write(tmp_path, text))
    assert len(detector.detect(frame(0))) == 0
    assert "holds no detections" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_systems(tmp_path, encoding) -> None:
    path = write(tmp_path, MOT.replace("\n", "\r\n").encode(encoding))
    assert FileDetector(path).frames == [0, 2]


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("1,-1,5,10,20,20,0.9\n", "mot"),
        ("1 2 5 10 20 20 0.9 -1 -1 -1\n", "mot"),
        ("0 5 10 25 30 0.9 1\n", "kitti"),
        (TRACKRCNN, "kitti"),
        (LABEL, "label"),
        ("0 3 Person_sitting 0 1 0 5 10 25 30\n", "label"),
        (MOTS, "mots"),
        (json.dumps(COCO), "coco"),
        (json.dumps(COCO, indent=2), "coco"),
        (json.dumps(RESULTS), "coco"),
        (LINES, "jsonl"),
    ],
)
def test_the_format_is_told_from_the_first_line(tmp_path, text, format) -> None:
    assert guess_format(write(tmp_path, text, "some.dat")) == format


def test_the_masks_that_a_run_writes_are_detections(tmp_path) -> None:
    line = {
        "frame": 4, "time_s": 0.16, "size": list(SIZE),
        "objects": [{"id": 1, "name": "dog", "score": 0.5,
                     "segmentation": {"size": list(SIZE), "counts": RLE}}],
    }  # fmt: skip
    found = FileDetector(write(tmp_path, json.dumps(line), "masks.jsonl")).detect(frame(4))
    np.testing.assert_array_equal(found.masks, [MASK])
    assert found.boxes.tolist() == [[5, 10, 25, 30]]
    assert found.name_of(0) == "dog"


def test_outlines_and_frame_numbers_of_coco(tmp_path) -> None:
    square = [[5, 10, 24, 10, 24, 29, 5, 29]]
    content = {
        "images": [{"id": 1, "frame_id": 6}, {"id": 2, "frame_id": 3}],
        "annotations": [{"image_id": 2, "category_id": 0, "segmentation": square}],
    }
    detector = FileDetector(write(tmp_path, json.dumps(content), "a.json"))
    assert detector.frames == [3]
    found = detector.detect(frame(3))
    np.testing.assert_array_equal(found.masks, [MASK])
    assert found.boxes.tolist() == [[5, 10, 24, 29]]
