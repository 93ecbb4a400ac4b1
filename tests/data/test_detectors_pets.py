"""Background subtraction on pedestrians filmed by a camera that stands still."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vision_mem.geometry.boxes import box_iou
from vision_mem.models.detectors import FileDetector, MotionConfig, MotionDetector
from vision_mem.types import Frame

pytestmark = pytest.mark.data

# Six people, often in pairs: two who touch are one moving thing, so recall cannot come near 1.
FLOORS = {
    # setting, frames shown beforehand: recall, precision at IoU 0.5
    ("square", 0): (0.2, 0.4),
    ("square", 60): (0.28, 0.45),
    ("upright", 0): (0.38, 0.55),
    ("upright", 60): (0.42, 0.55),
}
CONFIGS = {"square": MotionConfig(), "upright": MotionConfig.upright()}


@pytest.fixture(scope="module")
def folder(data):
    place = data / "mot" / "pets09_s2l1_first60"
    if not place.is_dir():
        pytest.skip(f"pedestrians not found in {place}")
    return place


@pytest.fixture(scope="module")
def frames(folder):
    cv2.setNumThreads(1)
    paths = sorted((folder / "img1").glob("*.jpg"))
    assert len(paths) == 60
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return [Frame(index, index / 10, image) for index, image in enumerate(images)]


@pytest.fixture(scope="module")
def truth(folder):
    return FileDetector(folder / "gt" / "gt.txt", "mot", frame_count=60)


def hits(found, true, threshold=0.5):
    if not len(found) or not len(true):
        return 0
    overlap = box_iou(found[:, None], true[None])
    rows, columns = linear_sum_assignment(-np.where(overlap >= threshold, overlap, 0))
    return int((overlap[rows, columns] >= threshold).sum())


def test_the_truth_is_read_whole(truth, frames) -> None:
    every = [truth.detect(frame) for frame in frames]
    assert sum(map(len, every)) == 283
    assert {len(found) for found in every} <= set(range(2, 7))
    assert every[0].boxes[0].tolist() == pytest.approx([499, 158, 530.03, 233.17], abs=0.01)


@pytest.mark.parametrize(("setting", "shown"), FLOORS)
def test_moving_people_are_found(setting, shown, frames, truth) -> None:
    detector = MotionDetector(CONFIGS[setting])
    if shown:
        detector.learn(frames[:shown])
    right = given = wanted = under = 0
    seconds = []
    for frame in frames:
        begun = time.process_time()
        found = detector.detect(frame)
        seconds.append(time.process_time() - begun)
        if found is None:
            continue
        true = truth.detect(frame).boxes
        right, given = right + hits(found.boxes, true), given + len(found)
        wanted += len(true)
        seen = found.masks.any(axis=0)
        under += sum(
            seen[int(y1) : int(y2), int(x1) : int(x2)].mean() > 0.2 for x1, y1, x2, y2 in true
        )
    recall, precision = right / wanted, right / given
    print(
        f"{setting}, {shown} frames shown before: recall {recall:.3f}, precision {precision:.3f} "
        f"at IoU 0.5 over {wanted} truth boxes; {under / wanted:.3f} of them have motion in them; "
        f"{1e3 * np.median(seconds):.1f} ms of one core a frame of 768x576"
    )
    assert recall >= FLOORS[setting, shown][0]
    assert precision >= FLOORS[setting, shown][1]
    assert under / wanted > 0.75
    assert detector.restarts == 0
    assert wanted == 283 if shown else wanted > 180
