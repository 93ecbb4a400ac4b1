"""Widths of box files: those of the scripts that each preset copies.

SAMURAI's ``scripts/main_inference.py`` takes the first and last row and column of a mask and writes
``x_min, y_min, x_max - x_min, y_max - y_min`` (specification, section 1.7, row 10): one less than
pixels. An absent object is ``0,0,0,0``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_mem.cli import main
from vision_mem.config import load_config
from vision_mem.evaluation.sot.job import PromptedJob
from vision_mem.evaluation.sot.records import SotSequence
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.sinks.boxes import SingleObjectBoxes
from vision_mem.sinks.registry import make_sinks
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Frame, ObjectResult, SourceInfo, TrackingResult

# Masks by first and last row and column, and what the reference scripts write for them.
GOLDEN = {
    (20, 49, 10, 29): "10,20,19,29",
    (0, 0, 0, 0): "0,0,0,0",  # one pixel has no width there
    (7, 7, 3, 12): "3,7,9,0",
    (0, 95, 0, 127): "0,0,127,95",
}


def shown(rows: tuple[int, int, int, int], index: int) -> TrackingResult:
    top, bottom, left, right = rows
    mask = np.zeros((96, 128), bool)
    mask[top : bottom + 1, left : right + 1] = True
    box = np.array([left, top, right + 1, bottom + 1], np.float32)
    one = ObjectResult(1, "one", True, mask, box, 0.9, 5.0)
    return TrackingResult(index, index / 30, (96, 128), (one,))


def test_widths_of_the_reference_scripts(tmp_path: Path) -> None:
    info = SourceInfo("clip", 128, 96, 30.0)
    sinks = [
        SingleObjectBoxes(tmp_path, "lasot", convention="samurai"),
        *make_sinks(tmp_path, ["mot"], info, convention="samurai"),
    ]
    for sink in sinks:
        sink.open(info)
        for index, rows in enumerate(GOLDEN):
            image = np.zeros((96, 128, 3), np.uint8)
            sink.write(Frame(index, index / 30, image), shown(rows, index))
        sink.close()
    assert (tmp_path / "clip.txt").read_text().splitlines() == list(GOLDEN.values())
    mot = [
        line.split(",")[2:6] for line in (tmp_path / "mot" / "clip.txt").read_text().splitlines()
    ]
    assert [",".join(line) for line in mot] == list(GOLDEN.values())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for t in range(8):
        image = np.full((96, 128, 3), 60, np.uint8)
        image[20:50, 10 + 3 * t : 40 + 3 * t] = (200, 40, 40)
        Image.fromarray(image).save(folder / f"{t:03}.png")
    return folder


def literally(mask: np.ndarray, more: int) -> list[int]:
    """The lines of the script, with the 1 that it leaves out where there is ``more``."""
    found = np.argwhere(mask)
    (y_min, x_min), (y_max, x_max) = found.min(axis=0), found.max(axis=0)
    return [x_min, y_min, x_max - x_min + more, y_max - y_min + more]


@pytest.mark.parametrize(("preset", "more"), [("samurai-official", 0), ("samurai", 1), ("sam2", 1)])
def test_track_and_eval_write_the_widths_of_the_preset(
    images: Path, tmp_path: Path, preset: str, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["--box", "10,20,30,30", "--preset", preset, "--save", "lasot,otb,mot,png", "--quiet"]
    words += ["--model", "vision_mem.models.segmenters.fake:FakeSegmenter"]
    assert main(["track", str(images), *words, "--out", str(tmp_path / "out")]) == 0
    masks = [np.array(Image.open(p)) > 0 for p in sorted((tmp_path / "out").rglob("0*.png"))]
    expected = [literally(mask, more) for mask in masks]
    assert len(expected) == 8
    for layout in ("lasot", "otb"):
        (path,) = (tmp_path / "out" / layout).glob("*.txt")
        assert np.loadtxt(path, delimiter=",").tolist() == expected
    (path,) = (tmp_path / "out" / "mot").glob("*.txt")
    assert np.loadtxt(path, delimiter=",")[:, 2:6].tolist() == expected

    frames = tuple(sorted(images.glob("*.png")))
    sequence = SotSequence("clip", frames, np.array([[10.0, 20.0, 30.0, 30.0]]))
    session = TrackingSession(
        FakeSegmenter(), load_config(TrackingConfig, preset, folder="tracking")
    )
    files = PromptedJob(sequence, "boxes").run(session, lambda _: None, {"warnings": []})
    (content,) = files.values()
    rows = [[float(v) for v in line.split(",")] for line in content.decode().splitlines()]
    assert rows[1:] == expected[1:]
