"""Small benchmarks and trackers for tests of evaluations; also a program that can be killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.run import Workplace, evaluate
from vision_mem.evaluation.engine.runner import Failed, MakeSession
from vision_mem.evaluation.sot.job import PromptedJob
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.evaluation.sot.result_files import layout_of
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.segmenters.protocol import ImageFeatures
from vision_mem.tracking import TrackingSession
from vision_mem.types import Frame

HEIGHT, WIDTH = 64, 96
RED, BLUE = (220, 30, 30), (30, 40, 230)


def box_at(index: int, start: int = 8) -> tuple[int, int, int, int]:
    """x, y, width, height of the red square on a frame."""
    return start + 2 * index, 16 + index, 24, 24


def write_images(folder: Path, count: int, start: int = 8) -> tuple[Path, ...]:
    """Frames with a red square that moves and a blue one that stays."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        image[:] += np.arange(WIDTH, dtype=np.uint8)[None, :, None] // 4
        image[44:60, 70:90] = BLUE
        x, y, w, h = box_at(index, start)
        image[y : y + h, x : x + w] = RED
        paths.append(folder / f"{index + 1:04}.png")
        Image.fromarray(image).save(paths[-1])
    return tuple(paths)


def write_masks(folder: Path, count: int, values: tuple[int, int] = (1, 2)) -> tuple[Path, ...]:
    """The truth of ``write_images`` as indexed pictures: the red square, then the blue one."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[44:60, 70:90] = values[1]
        x, y, w, h = box_at(index)
        labels[y : y + h, x : x + w] = values[0]
        paths.append(folder / f"{index + 1:04}.png")
        Image.fromarray(labels).save(paths[-1])
    return tuple(paths)


def box_set(root: Path, count: int = 4, frames: int = 6, key: str = "lasot") -> Benchmark:
    """Sequences of boxes, counted from 1 as LaSOT and OTB do."""
    sequences = []
    for number in range(count):
        images = write_images(root / f"cat-{number}", frames, start=4 + number)
        boxes = np.array([box_at(index, 4 + number) for index in range(frames)], np.float64)
        boxes[:, :2] += 1
        sequences.append(SotSequence(f"cat-{number}", images, boxes, origin=1))
    return Benchmark(key, key.upper(), "success", key, tuple(sequences))


def mask_set(root: Path, count: int = 2, frames: int = 4, *, merge: bool = False) -> Benchmark:
    """Sequences of masks with two objects each."""
    sequences = []
    for number in range(count):
        images = write_images(root / f"JPEGImages/dog-{number}", frames)
        masks = write_masks(root / f"Annotations/dog-{number}", frames)
        boxes = np.zeros((0, 4))
        sequences.append(
            SotSequence(f"dog-{number}", images, boxes, masks=masks, merge_objects=merge)
        )
    return Benchmark("davis2017", "DAVIS 2017", "davis", "davis", tuple(sequences))


def jobs_of(benchmark: Benchmark, *, init: str = "auto", strict: bool = False) -> list[PromptedJob]:
    """All of its sequences."""
    return [PromptedJob(s, layout_of(benchmark, s), init, strict) for s in benchmark.sequences]


def contents(results: Path) -> dict[str, bytes]:
    """Every file below, less what depends on the clock."""
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.is_file() and not path.name.endswith("_time.txt")
    }


def make_session(device: str) -> TrackingSession:
    """The fake segmenter: thousands of frames a second."""
    return TrackingSession(FakeSegmenter())


class _Slow(FakeSegmenter):
    def encode_image(self, frame: Frame) -> ImageFeatures:
        time.sleep(0.03)
        return super().encode_image(frame)


def make_slow_session(device: str) -> TrackingSession:
    """The same, but slow enough to be killed in mid-sequence."""
    return TrackingSession(_Slow())


@dataclass(frozen=True)
class MakeSlowOn:
    """Slow sessions that leave a file with the name of their device."""

    folder: Path

    def __call__(self, device: str) -> TrackingSession:
        """A slow session, whatever the device."""
        (self.folder / device).touch()
        return make_slow_session(device)


@dataclass(frozen=True)
class MakeMortal:
    """Sessions whose process is killed on a frame, the first ``deaths`` times it comes there."""

    folder: Path
    deaths: int
    frame: int = 3
    while_loading: bool = False

    def __call__(self, device: str) -> TrackingSession:
        """A session that may end its process."""
        maker = self

        class Mortal(FakeSegmenter):
            def encode_image(self, frame: Frame) -> ImageFeatures:
                if frame.index == maker.frame:
                    maker.perhaps_die()
                return super().encode_image(frame)

        if self.while_loading:
            self.perhaps_die()
        return TrackingSession(Mortal())

    def perhaps_die(self) -> None:
        """As the system ends a process that takes too much memory."""
        for number in range(self.deaths):
            try:
                (self.folder / f"death-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)


HERE = Workplace(("cpu",))


def run(
    benchmark: Benchmark,
    out: Path,
    place: Workplace = HERE,
    make: MakeSession = make_session,
    *,
    strict: bool = False,
) -> tuple[EvaluationFolder, list[Failed]]:
    """An evaluation of all sequences, and those that failed."""
    folder = EvaluationFolder(out, {"benchmark": benchmark.key})
    folder.begin()
    progress = evaluate(jobs_of(benchmark, strict=strict), folder, make, place)
    return folder, progress.failed


def log_of(folder: EvaluationFolder, name: str) -> dict[str, Any]:
    """The log of a sequence."""
    log = json.loads((folder.path / "logs" / f"{name}.json").read_text())
    return dict(log)


def run_both(images: Path, out: Path, workers: int, make: MakeSession) -> None:
    """An evaluation of boxes and masks."""
    boxes, masks = box_set(images, 6, 12, key="got10k-val"), mask_set(images, 3, 12)
    folder = EvaluationFolder(out, {"set": "both"})
    folder.begin()
    evaluate(jobs_of(boxes) + jobs_of(masks), folder, make, Workplace(("cpu",), workers))


def main() -> None:
    """``python evaluation_samples.py IMAGES OUT WORKERS``: an evaluation to be killed."""
    run_both(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), make_slow_session)


if __name__ == "__main__":
    main()
