"""From words of the command line to detectors."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError, ModelError, NotThere
from vision_mem.models.detectors import (
    Detector,
    Ensemble,
    FileDetector,
    Guarded,
    LatestOnly,
    MotionConfig,
    MotionDetector,
    open_detector,
)
from vision_mem.models.detectors.open import make_detector, parse_region
from vision_mem.types import Detections, Frame

MOT = "1,-1,5,10,20,20,57,-1,-1,-1\n2,-1,5,10,20,20,90,-1,-1,-1\n"
FRAME = Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ("motion", MotionConfig()),
        (" motion ", MotionConfig()),
        ("motion:mog2", MotionConfig()),
        ("motion:knn", MotionConfig("knn")),
        ("motion:upright", MotionConfig.upright()),
    ],
)
def test_motion(spec, config) -> None:
    detector = open_detector(spec)
    assert isinstance(detector, Guarded)
    assert isinstance(detector.detector, MotionDetector)
    assert detector.detector.config == config
    assert (detector.stateful, detector.reports_absence) == (True, False)
    assert isinstance(open_detector(spec, guarded=False), MotionDetector)


@pytest.mark.parametrize(
    ("name", "tail", "scores"),
    [
        ("det.txt", ":mot,scores=percent", 0.57),
        ("det.txt", ":scores=percent", 0.57),
        ("det.txt", ":auto,scores=percent,first=1", 0.57),
        ("a:b.txt", ":mot,scores=percent", 0.57),  # a colon in the path
        ("a:mot", ":mot,scores=percent", 0.57),
    ],
)
def test_files_with_their_format_and_options(tmp_path, name, tail, scores) -> None:
    (tmp_path / name).write_text(MOT)
    detector = open_detector(f"file:{tmp_path / name}{tail}", frame_count=2, size=(48, 64))
    assert isinstance(detector.detector, FileDetector)
    assert detector.detect(FRAME).scores[0] == pytest.approx(scores)


def test_a_path_may_have_colons_and_no_format(tmp_path) -> None:
    for name in ("a:b.txt", "mot", "x:y"):
        (tmp_path / name).write_text(MOT.replace("57", "0.5").replace("90", "1"))
        assert len(open_detector(f"file:{tmp_path / name}").detect(FRAME)) == 1
    (tmp_path / "d.txt").write_text("0 5 10 20 20 0.5 1\n")
    spec = f"file:{tmp_path / 'd.txt'}:kitti,box=xywh,first=0"
    assert open_detector(spec).detect(FRAME).boxes.tolist() == [[5, 10, 25, 30]]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "one of: motion"),
        ("motion:fast", "motion:mog2 or motion:knn"),
        ("motion:uprigth", "did you mean 'upright'?"),
        ("red car@owlv22", "did you mean 'owlv2'?"),
        ("file:{0}/det.txt:kity", "did you mean 'kitti'?"),
        ("moton", "did you mean motion?"),
        ("rt-detr", "did you mean rtdetr"),
        (
            "mask-rcnn",
            "did you mean maskrcnn? To look for things of that name say "
            "words:mask-rcnn@grounding-dino",
        ),
        ("owlv2", 'as in "red car@owlv2"'),
        ("file:", "without a path"),
        ("file:{0}/no.txt", "no such file"),
        ("file:{0}/det.txt:voc", "no format 'voc'"),
        ("file:{0}/det.txt:mot,scores", "option 'scores'"),
        ("file:{0}/det.txt:mot,unit=px", "option 'unit=px'"),
        ("file:{0}/det.txt:mot,first=one", "first=one is not a frame number"),
        ("file:{0}/det.txt:mot", "scores=percent"),
        ("{0}/det.txt", "expected file:"),
        ("runs/det.json", "expected file:runs/det.json"),
        (
            "yolo11n.pt",
            "run: yolo export model=yolo11n.pt format=onnx, and give --detect onnx:yolo",
        ),
        ("runs/train/best.pt", "model=runs/train/best.pt format=onnx"),
        ("rfdetr.pth", "export its network to ONNX"),
        ("yolo11n.onnx", "give --detect onnx:yolo11n.onnx"),
        ("yolo", "run: yolo export model=yolo11n.pt format=onnx"),
        ("YOLOv8", "model=yolov8n.pt"),
        ("person, yolo12s", "model=yolo12s.pt"),
        ("rf-detr", "export it to ONNX"),
        ("onnx:", "without a file"),
        ("onnx:{0}/no.onnx", "no such file"),
        ("onnx:{0}", "is not a file"),
        ("onnx:yolo11n.pt", "no such file"),
        ("onnx:{0}/det.onnx,size=640", "expected names=FILE"),
    ],
)
def test_what_cannot_be_opened(tmp_path, spec, words) -> None:
    (tmp_path / "det.txt").write_text(MOT)
    with pytest.raises((InputError, NotThere)) as caught:
        open_detector(spec.format(tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_detections_of_another_video_are_refused_at_once(tmp_path) -> None:
    (tmp_path / "det.txt").write_text(MOT)
    with pytest.raises(InputError, match="frame 2, but the video has 1 frames"):
        open_detector(f"file:{tmp_path}/det.txt:mot,scores=percent", frame_count=1)


def test_callables_lists_and_unions() -> None:
    def two(image):
        return [(0, 0, 5, 5, 0.5, "thing"), (1, 1, 5, 5, 0.5, "thing")]

    one = open_detector(two)
    assert isinstance(one, Guarded)
    assert len(one.detect(FRAME)) == 2
    assert open_detector(one) is one
    both = open_detector(["motion", two])
    assert isinstance(both, Ensemble)
    assert isinstance(both, Detector)
    assert len(both.detect(FRAME)) == 2  # motion is still warming up
    assert not both.reports_absence
    assert isinstance(open_detector(["motion"]), Guarded)
    with pytest.raises(InputError, match="no detectors"):
        open_detector([])
    with pytest.raises(InputError, match="cannot detect"):
        open_detector(3)


def test_one_part_of_a_union_may_fail(caplog) -> None:
    seen = []

    def broken(image):
        seen.append(image)
        if len(seen) > 1:
            raise ValueError("out of order")
        return []

    both = open_detector([broken, lambda image: Detections()])
    assert len(both.detect(FRAME)) == len(both.detect(FRAME)) == 0
    assert not both.reports_absence
    assert "out of order" in caplog.text


class Looks:
    def detect(self, frame):
        return frame.pixels


@pytest.mark.parametrize(
    ("own", "gets"),
    [(lambda image: image.image, "It gets the picture, an array"), (Looks(), "frame.image is")],
)
def test_what_fails_at_once_says_what_it_was_given(own, gets) -> None:
    for detector in (open_detector(own), open_detector([own, "motion"])):
        for last in (detector, LatestOnly(detector)):
            with pytest.raises(ModelError, match=f"failed at once: AttributeError: .*{gets}"):
                last.detect(FRAME)
                assert last.wait(5)
                last.detect(FRAME)
            detector.reset()


def test_a_folder_that_is_no_network() -> None:
    with pytest.raises(ModelError, match="not a folder with a detector"):
        open_detector("/no/such/folder")


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("400,400,20,20", "outside the frame, 320x240"),
        ("nan,0,20,20", "x,y,w,h"),
        ("1,1,0,5", "x,y"),
    ],
)
def test_regions_that_keep_nothing(region, words) -> None:
    with pytest.raises(InputError, match=words):
        make_detector(["motion"], region=region, size=(240, 320))


def test_a_region_that_reaches_beyond_the_frame_is_told(caplog: pytest.LogCaptureFixture) -> None:
    make_detector(["motion"], region="0,0,320,240", size=(240, 320))
    assert not caplog.messages
    make_detector(["motion"], region="300,200,400,400", size=(240, 320))
    (told,) = caplog.messages
    assert "300,200,400,400 reaches beyond the frame, 320x240 pixels; only what is inside" in told


def test_motion_says_that_it_knows_no_classes() -> None:
    with pytest.raises(InputError) as told:
        make_detector(["motion"], only=["car"])
    assert str(told.value) == (
        "--detect motion finds what moves and cannot tell what it is, so no car; leave that out, "
        "or give a detector that knows classes, as --detect dfine"
    )


def test_a_region_in_either_order():
    assert parse_region("10,20,30,40") == parse_region("xyxy:10,20,40,60") == [10, 20, 40, 60]
    with pytest.raises(InputError, match="two corners"):
        parse_region("xyxy:40,20,10,60")
