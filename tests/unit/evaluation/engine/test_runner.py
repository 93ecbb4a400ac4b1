"""One sequence of a benchmark: what it starts from, and whole result files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import (
    HEIGHT,
    WIDTH,
    box_at,
    box_set,
    contents,
    log_of,
    make_session,
    mask_set,
    run,
)
from PIL import Image

from vision_mem.errors import InputError
from vision_mem.evaluation.engine.runner import Failed, run_job
from vision_mem.evaluation.options import Workplace
from vision_mem.evaluation.sot.job import PromptedJob, first_prompts
from vision_mem.evaluation.sot.records import SotSequence
from vision_mem.evaluation.sot.result_files import result_path

NOBODY = np.zeros((0, 4))


# -- the first frame --------------------------------------------------------------------------


def _polygon(*corners: float, origin: int = 0) -> SotSequence:
    points = np.array(corners, np.float64).reshape(1, -1)
    x, y = points[0, ::2], points[0, 1::2]
    box = [[x.min(), y.min(), np.ptp(x), np.ptp(y)]]
    return SotSequence("s", (), np.array(box), origin=origin, polygons=points)


@pytest.mark.parametrize(
    ("sequence", "box"),
    [
        (SotSequence("s", (), np.array([[10.5, 12, 20, 8]])), [10.5, 12, 30.5, 20]),
        (SotSequence("s", (), np.array([[10.0, 12, 20, 8]]), origin=1), [9, 11, 29, 19]),
        (_polygon(10, 12, 30, 12, 30, 20, 10, 20, origin=1), [9, 11, 29, 19]),
        (_polygon(10, 20, 10, 12, 30, 12.01, 30, 20), [10, 12, 30, 20]),
    ],
    ids=["floats", "counted from 1", "upright polygon", "nearly upright"],
)
def test_boxes_are_shown_as_corners(sequence: SotSequence, box: list[float]) -> None:
    (prompt,), kind = first_prompts(sequence, (HEIGHT, WIDTH))
    assert kind == "box"
    np.testing.assert_allclose(prompt.box, box)


def test_a_polygon_is_shown_as_a_mask() -> None:
    sequence = _polygon(20, 10, 40, 30, 20, 50, 0, 30)
    (prompt,), kind = first_prompts(sequence, (HEIGHT, WIDTH))
    assert kind == "polygon"
    assert prompt.mask is not None
    assert prompt.mask[30, 20]
    assert not prompt.mask[12, 8]
    assert abs(int(prompt.mask.sum()) - 800) < 60
    (prompt,), kind = first_prompts(sequence, (HEIGHT, WIDTH), "box")
    assert kind == "box"
    np.testing.assert_allclose(prompt.box, [0, 10, 40, 50])


def _mask_file(path: Path, *values: int, mode: str = "P") -> Path:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, value in enumerate(values):
        labels[10 : 20 + place, 10 + 30 * place : 20 + 30 * place] = value
    Image.fromarray(labels).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("values", "mode", "merge", "ids"),
    [
        ((1, 2), "L", False, [1, 2]),
        ((3, 255), "L", False, [3]),  # 255 is "not to be judged" beside others
        ((255,), "L", False, [255]),
        ((1, 2), "L", True, [1]),
    ],
    ids=["two", "void", "only 255", "merged"],
)
def test_masks_are_shown_with_their_numbers(
    tmp_path: Path, values: tuple[int, ...], mode: str, merge: bool, ids: list[int]
) -> None:
    path = _mask_file(tmp_path / "m.png", *values, mode=mode)
    sequence = SotSequence("s", (), NOBODY, masks=(path,), merge_objects=merge)
    prompts, kind = first_prompts(sequence, (HEIGHT, WIDTH))
    assert kind == "mask"
    assert [prompt.object_id for prompt in prompts] == ids
    boxes, kind = first_prompts(sequence, (HEIGHT, WIDTH), "box")
    assert kind == "box"
    assert [prompt.object_id for prompt in boxes] == ids
    assert boxes[0].box is not None
    assert boxes[0].box[:2].tolist() == [10, 10]


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        (NOBODY, "truth is empty"),
        ([[np.nan] * 4], "nan,nan,nan,nan"),
        ([[5, 5, 0, 10]], "5,5,0,10"),
        ([[500, 5, 10, 10]], "outside the frame"),
        ([[1e39, 5, 10, 10]], "1e+39,5,10,10"),
    ],
)
def test_sequences_without_a_start_fail_in_one_line(
    tmp_path: Path, boxes: object, says: str
) -> None:
    whole = box_set(tmp_path, 1).sequences[0]
    sequence = replace(whole, boxes=np.array(boxes, np.float64))
    done = run_job(PromptedJob(sequence, "boxes"), make_session("cpu"), lambda _: None)
    assert isinstance(done, Failed)
    assert says in done.reason
    assert "\n" not in done.reason
    assert "traceback" not in done.log


# -- result files -----------------------------------------------------------------------------


def test_boxes_come_back_in_the_pixels_of_the_set(tmp_path: Path) -> None:
    folder, failed = run(box_set(tmp_path / "set", 2), tmp_path / "out")
    assert not failed
    assert {path.name for path in folder.results.iterdir()} == {"cat-0.txt", "cat-1.txt"}
    rows = np.loadtxt(folder.results / "cat-1.txt", delimiter=",")
    truth = np.array([box_at(index, 5) for index in range(6)])
    truth[:, :2] += 1
    assert rows[0].tolist() == truth[0].tolist()
    # The fake's edges are coarse but its centres are right: a shift of one pixel would show.
    centres = (rows - truth)[:, :2] + (rows - truth)[:, 2:] / 2
    assert np.abs(centres).max() < 0.75


def test_got10k_results_have_times(tmp_path: Path) -> None:
    folder, _ = run(box_set(tmp_path / "set", 1, key="got10k-test"), tmp_path / "out")
    assert len(np.loadtxt(folder.results / "cat-0/cat-0_001.txt", delimiter=",")) == 6
    times = np.loadtxt(folder.results / "cat-0/cat-0_time.txt")
    assert times.shape == (6,)
    assert (times > 0).all()


@pytest.mark.parametrize("merge", [False, True])
def test_masks_are_indexed_pictures(tmp_path: Path, merge: bool) -> None:
    folder, failed = run(mask_set(tmp_path / "set", 1, merge=merge), tmp_path / "out")
    assert not failed
    names = [f"{index + 1:04}.png" for index in range(4)]
    assert sorted(path.name for path in (folder.results / "dog-0").iterdir()) == names
    for index in [0] if merge else range(4):  # one object of two colours is beyond the fake
        with Image.open(folder.results / "dog-0" / names[index]) as picture:
            assert picture.mode == "P"
            labels = np.asarray(picture)
        assert labels.shape == (HEIGHT, WIDTH)
        x, y, w, h = box_at(index)
        assert labels[y + h // 2, x + w // 2] == 1
        assert labels[52, 80] == (1 if merge else 2)
    assert log_of(folder, "dog-0")["init"] == "mask"


def test_the_log_says_how_it_went(tmp_path: Path) -> None:
    folder, _ = run(box_set(tmp_path / "set", 1), tmp_path / "out")
    log = log_of(folder, "cat-0")
    assert log["status"] == "finished"
    assert (log["frames"], log["size"], log["init"]) == (6, [HEIGHT, WIDTH], "box")
    assert log["model"] == "fake"
    assert log["frames_per_s"] >= log["frames_per_s_end_to_end"] > 0
    assert log["peak_rss_bytes"] > 1_000_000
    assert log["warnings"] == log["events"] == log["damaged_frames"] == []


def test_lost_and_found_are_in_the_log(tmp_path: Path) -> None:
    benchmark = box_set(tmp_path / "set", 1, 9)
    for path in benchmark.sequences[0].frames[4:6]:
        Image.new("RGB", (WIDTH, HEIGHT), (120, 120, 120)).save(path)
    folder, _ = run(benchmark, tmp_path / "out")
    rows = (folder.results / "cat-0.txt").read_text().splitlines()
    assert rows[4] == rows[5] == "0,0,0,0"
    events = log_of(folder, "cat-0")["events"]
    assert events[0] == {"frame": 4, "kind": "lost", "object": 1}


def test_a_damaged_image_counts_as_absence(tmp_path: Path) -> None:
    for benchmark in (box_set(tmp_path / "b", 2), mask_set(tmp_path / "m", 2)):
        broken = benchmark.sequences[0]
        broken.frames[2].write_bytes(b"no picture")
        folder, failed = run(benchmark, tmp_path / f"out-{benchmark.key}")
        assert not failed
        log = log_of(folder, broken.name)
        assert log["damaged_frames"] == [2]
        assert "0003.png" in log["warnings"][-1]
    assert (tmp_path / "out-lasot/results/cat-0.txt").read_text().splitlines()[2] == "0,0,0,0"
    with Image.open(tmp_path / "out-davis2017/results/dog-0/0003.png") as picture:
        assert not np.asarray(picture).any()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("frame", "strict"), [(0, False), (2, True)])
def test_a_broken_sequence_does_not_stop_the_others(
    tmp_path: Path, frame: int, strict: bool, workers: int
) -> None:
    benchmark = box_set(tmp_path / "set", 3)
    benchmark.sequences[1].frames[frame].unlink()
    place = Workplace(("cpu",), workers)
    folder, failed = run(benchmark, tmp_path / "out", place, strict=strict)
    assert [each.sequence for each in failed] == ["cat-1"]
    assert "no such image" in failed[0].reason
    assert sorted(contents(folder.results)) == ["cat-0.txt", "cat-2.txt"]
    assert log_of(folder, "cat-1")["status"] == "failed"
    assert "no such image" in log_of(folder, "cat-1")["error"]


def test_truth_without_images_cannot_be_run(tmp_path: Path) -> None:
    sequence = replace(box_set(tmp_path, 1).sequences[0], frames=())
    done = run_job(PromptedJob(sequence, "boxes"), make_session("cpu"), lambda _: None)
    assert isinstance(done, Failed)
    assert "no images" in done.reason


@pytest.mark.parametrize("name", ["../cat", "a/b", "", ".hidden", "nul\0", "a\nb", "C:x"])
def test_names_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a file"):
        result_path(SotSequence(name, (), NOBODY), "boxes")
