"""What ``vision-mem reconstruct`` says of slips, odd recordings, and masks; one line each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from reconstruct_samples import FRAMES, film, lines, ply, reconstruct

from vision_mem.formats.rgbd_folders import write_tum
from vision_mem.formats.trajectory import read_trajectory
from vision_mem.geometry.camera import RgbdFrame


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "room"
    write_tum(folder, (true.frame for true in film()[:8]))
    return folder


def _masks(folder: Path, form: str) -> Path:
    """A still corner of the picture, said to move."""
    mask = np.zeros((72, 96), np.uint8)
    mask[40:, 60:] = 255
    if form == "png":
        folder.mkdir()
        for k in range(0, FRAMES, 2):
            cv2.imwrite(str(folder / f"{k:05d}.png"), mask)
        return folder
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(mask > 0, np.uint8))
    part = {"id": 1, "segmentation": {"size": [72, 96], "counts": runs["counts"].decode()}}
    lines = [
        json.dumps({"frame": k, "size": [72, 96], "objects": [part]}) for k in range(0, FRAMES, 2)
    ]
    path = folder.with_suffix(".masks.jsonl")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("form", ["png", "jsonl"])
def test_masks_are_believed(form: str, room: Path, tmp_path: Path) -> None:
    masks = _masks(tmp_path / "masks", form)
    words = ["--dynamic-masks", str(masks), "--save", "dynamic,depth-npz", "--max-frames", "4"]
    assert reconstruct(room, tmp_path / "out", *words) == 0
    for k in range(4):
        head, _ = ply(tmp_path / "out" / "dynamic" / f"{k:06d}.ply")
        known = np.load(tmp_path / "out" / "depth-npz" / f"{k:06d}.npz")["depth"] > 0
        told = int(known[40:, 60:].sum()) if k % 2 == 0 else 0
        count = next(int(line.split()[-1]) for line in head if "element vertex" in line)
        assert told <= count < told + 1500


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--save", "trajektory"], "did you mean 'trajectory'?"),
        (["--layout", "tmu"], "expected one of tum"),
        (["--preset", "dens"], "did you mean"),
        (["--set", "structure.voxle=1"], "voxel"),
        (["--intrinsics", "1,2"], "expected 4 numbers"),
        (["--intrinsics", "0,1,2,3"], "fx and fy above 0"),
        (["--depth-scale", "-1"], "expected metres above 0"),
        (["--dynamic-masks", "nowhere"], "no such file or folder"),
        (["--poses", "nowhere.txt"], "cannot be read"),
        (["--start", "600"], "600"),
        (["--snapshot-every", "-1"], "a whole number, 0 or more"),
        (["--resume", "--overwrite"], "exclude each other"),
    ],
)
def test_slips_get_one_clear_line(
    room: Path, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct(room, tmp_path / "out", *words) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0
    assert not (tmp_path / "out").exists(), "nothing is made for a run that cannot be"


def _bad_masks(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "bad.masks.jsonl"
    part = {"segmentation": {"size": [72, 96], "counts": "no run lengths \x00"}}
    text = {
        "empty": "",
        "no json": "{",
        "no runs": json.dumps({"frame": 0, "objects": [part]}),
        "square": json.dumps({"frame": 0, "size": [50, 50], "objects": []}),
    }
    if kind in text:
        path.write_text(text[kind])
        return path
    folder = tmp_path / "pngs"
    folder.mkdir()
    if kind == "damaged":
        (folder / "000000.png").write_bytes(b"\x89PNG no")
    if kind == "twice":
        for name in ("a_000.png", "b_000.png"):
            cv2.imwrite(str(folder / name), np.zeros((72, 96), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "is empty"), ("no json", "line 1"), ("no runs", "no masks as run lengths"),
        ("square", "the same proportions"), ("damaged", "cannot be read"),
        ("twice", "are both of frame 0"), ("no png", "no PNG with a number"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_used_get_one_line(
    kind: str, says: str, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = _bad_masks(tmp_path, kind)
    assert reconstruct(room, tmp_path / "out", "--dynamic-masks", str(masks)) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.count("\n") == 0


def _frames(count: int = 6) -> list[RgbdFrame]:
    return [true.frame for true in film()[:count]]


def _with_holes(folder: Path, frames: list[RgbdFrame]) -> None:
    odd = []
    for frame in frames:
        depth = frame.depth.copy()
        depth[:20, :20] = 0
        depth[30:40] = np.nan
        depth[50, :] = np.inf
        depth[51, :] = -3
        odd.append(replace(frame, depth=depth))
    write_tum(folder, odd)


def _float_holes(folder: Path, frames: list[RgbdFrame]) -> None:
    """Colour beside float depth with NaN, infinity and negative values, no poses."""
    camera = frames[0].camera
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    for frame in frames:
        depth = frame.depth.copy()
        depth[30:40] = np.nan
        depth[50, :], depth[51, :] = np.inf, -3
        np.savez(folder / "depth" / f"{frame.index}.npz", depth=depth)
        cv2.imwrite(str(folder / "color" / f"{frame.index}.png"), frame.image[..., ::-1])
    numbers = camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5
    (folder / "intrinsics.txt").write_text(" ".join(f"{v:.9g}" for v in numbers))


def _out_of_order(folder: Path, frames: list[RgbdFrame]) -> None:
    write_tum(folder, frames)
    path = folder / "rgb.txt"
    path.write_text("\n".join(reversed(lines(path))) + "\n")


def _without_some_poses(folder: Path, frames: list[RgbdFrame]) -> None:
    write_tum(folder, frames)
    path = folder / "groundtruth.txt"
    path.write_text("\n".join(lines(path)[:3]) + "\n")


def _without_depth_of_some(folder: Path, frames: list[RgbdFrame]) -> None:
    write_tum(folder, frames)
    path = folder / "depth.txt"
    path.write_text("\n".join(lines(path)[:-1]) + "\n")


@pytest.mark.parametrize(
    ("make", "words", "warns", "frames"),
    [
        (_with_holes, [], None, 6),
        (_float_holes, [], None, 6),
        (_float_holes, ["--depth-scale", "1000"], "is it millimetres read as metres?", 6),
        (write_tum, ["--depth-scale", "1"], "is it millimetres read as metres?", 6),
        (_out_of_order, [], "time stamps are out of order; sorted", 6),
        (_without_some_poses, [], "3 of 6 frames have no pose; they are tracked", 6),
        (_without_depth_of_some, [], "1 of 6 colour frames have no depth", 5),
    ],
    ids=["holes", "nan", "nan and a scale", "scale", "order", "poses", "depth"],
)
def test_odd_recordings_are_told_in_one_line_and_gone_through(
    make, words, warns, frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "odd", _frames())
    saves = ["--save", "trajectory,kitti,map"]
    assert reconstruct(tmp_path / "odd", tmp_path / "out", *saves, *words) == 0
    assert len(lines(tmp_path / "out" / "odd.kitti.txt")) == frames
    assert np.isfinite(read_trajectory(tmp_path / "out" / "odd.kitti.txt").poses).all()
    error = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    if warns is None:
        assert not error
    else:
        assert len(error) == 1
        assert warns in error[0]


def test_counts_that_differ_and_empty_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _float_holes(tmp_path / "odd", _frames())
    (tmp_path / "odd" / "color" / "5.png").unlink()
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("odd", "5 colour and 6 depth frames"), ("empty", "is empty"), ("nowhere", "is no folder")
    ):  # fmt: skip
        assert reconstruct(tmp_path / name, tmp_path / "out") in (1, 2)
        error = capsys.readouterr().err.strip()
        assert says in error
        assert error.count("\n") == 0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("generatd:3", "did you mean 'generated:3'?"), ("genrated", "did you mean 'generated'?"),
        ("base.mp4", "is a video without depth"), ("pictures", "reconstruct --model makes depth"),
        ("nowhere", "is no folder"),
    ],
)  # fmt: skip
def test_what_is_no_recording_gets_a_hint(
    source, says, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.mp4").write_bytes(b"any video")
    Path("pictures").mkdir()
    cv2.imwrite("pictures/0.png", np.zeros((8, 8, 3), np.uint8))
    assert reconstruct(Path(source), tmp_path / "out") in (1, 2)
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_doubts_are_kept_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tum(tmp_path / "odd", _frames())
    rows = (tmp_path / "odd" / "groundtruth.txt").read_text().splitlines()
    late = [f"{float(row.split()[0]) + 9:.6f} {row.split(maxsplit=1)[1]}" for row in rows]
    (tmp_path / "late.txt").write_text("\n".join(late) + "\n")
    words = ["--save", "trajectory", "--poses", str(tmp_path / "late.txt")]
    assert reconstruct(tmp_path / "odd", tmp_path / "by-row", *words) == 0
    said = capsys.readouterr().err.splitlines()
    (note,) = json.loads((tmp_path / "by-row" / "run.json").read_text())["notes"]
    assert said == [f"WARNING: {note}"] and "row by row" in note
    assert reconstruct(tmp_path / "odd", tmp_path / "by-time", *words, "--pose-offset=-9") == 0
    assert not capsys.readouterr().err
    record = json.loads((tmp_path / "by-time" / "run.json").read_text())
    assert "notes" not in record and record["options"]["pose_offset"] == -9
