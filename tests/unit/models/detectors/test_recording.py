"""Recording and playing back: not a bit may be lost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vision_mem.errors import SinkError
from vision_mem.models.detectors import FileDetector, MotionConfig, MotionDetector, Recorder
from vision_mem.types import Detections, Frame

SIZE = (24, 32)


def frame(index):
    return Frame(index, index / 7, np.zeros((*SIZE, 3), np.uint8))


class Fickle:
    """Random answers of every kind, the same for the same frame."""

    name, stateful = "fickle", False

    def __init__(self):
        self.reports_absence = True

    def answer(self, index):
        rng = np.random.default_rng(index)
        if index % 5 == 3:
            return None
        n = int(rng.integers(0, 4))
        corner = rng.uniform(-5, 20, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1e-3, 9, (n, 2))], 1)
        masks = rng.random((n, *SIZE)) < 0.3
        masks[:1] = False
        names = {0: "car", 1: "pérson" if index > 10 else "person"}
        return Detections(
            boxes.astype(np.float32),
            rng.random(n).astype(np.float32),
            rng.integers(0, 1 << 40, n),
            masks=masks if index % 2 else None,
            embeddings=rng.normal(0, 1e-9, (n, 3)) if index % 3 else None,
            names=names,
            frame_index=index - 2 if index % 4 == 0 else None,
            time_s=0.1 * index if index % 4 == 0 else None,
        )

    def detect(self, frame):
        self.reports_absence = frame.index % 6 != 0
        return self.answer(frame.index)

    def reset(self):
        """Nothing is kept."""

    def close(self):
        """Nothing is held."""


def same(one, two):
    assert (one is None) == (two is None)
    if one is None:
        return
    for what in ("boxes", "scores", "labels", "masks", "embeddings"):
        a, b = getattr(one, what), getattr(two, what)
        assert (a is None) == (b is None), what
        if a is not None:
            assert (a.dtype, a.shape) == (b.dtype, b.shape), what
            assert a.tobytes() == np.ascontiguousarray(b).tobytes(), what
    assert dict(one.names) == dict(two.names)
    assert (one.frame_index, one.time_s) == (two.frame_index, two.time_s)


def test_playback_is_equal_to_the_bit(tmp_path) -> None:
    recorder = Recorder(Fickle(), tmp_path / "all.jsonl")
    for index in range(40):
        same(recorder.detect(frame(index)), Fickle().answer(index))
    recorder.close()
    recorder.close()
    playback = FileDetector(tmp_path / "all.jsonl", frame_count=40, size=SIZE)
    for index in reversed(range(40)):  # in any order
        found = playback.detect(frame(index))
        same(found, Fickle().answer(index))
        assert found is None or playback.reports_absence == (index % 6 != 0)
    assert playback.detect(frame(40)) is None  # it was not recorded


def test_a_recording_goes_on_where_it_was(tmp_path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    for path, runs in ((whole, [range(20)]), (parts, [range(15), range(8, 20)])):
        for number, run in enumerate(runs):
            recorder = Recorder(Fickle(), path, append=number > 0)
            for index in run:
                recorder.detect(frame(index))
            recorder.close()
    one, two = FileDetector(whole), FileDetector(parts)
    assert one.frames == two.frames == list(range(20))
    for index in range(20):
        same(one.detect(frame(index)), two.detect(frame(index)))


def test_a_recording_cut_short_stays_readable_up_to_there(tmp_path) -> None:
    path = tmp_path / "cut.jsonl"
    recorder = Recorder(Fickle(), path)
    for index in range(5):
        recorder.detect(frame(index))
        assert len(path.read_text(encoding="utf-8").splitlines()) == index + 1  # at once
    recorder.close()
    names = [json.loads(line).get("names") for line in path.read_text("utf-8").splitlines()]
    assert names == [{"0": "car", "1": "person"}, None, None, None, None]


def test_motion_is_played_back_without_a_camera(tmp_path) -> None:
    rng = np.random.default_rng(0)
    recorder = Recorder(MotionDetector(MotionConfig(warm_up=5)), tmp_path / "motion.jsonl")
    answers = []
    for index in range(20):
        image = rng.normal(100, 2, (60, 80, 3)).clip(0, 255).astype(np.uint8)
        image[20:40, 4 * index : 4 * index + 15] = 250
        answers.append(recorder.detect(Frame(index, 0.0, image)))
    recorder.close()
    assert any(found is not None and len(found) for found in answers)
    playback = FileDetector(tmp_path / "motion.jsonl")
    for index, answer in enumerate(answers):
        found = playback.detect(Frame(index, 0.0, np.zeros((60, 80, 3), np.uint8)))
        same(found, answer)
    assert not playback.reports_absence


def test_a_place_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="in the way"):
        Recorder(Fickle(), tmp_path / "file" / "all.jsonl")
