"""``vision-mem eval`` and ``score`` for depth, camera paths and points, nothing downloaded."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import scene_samples as samples
from evaluation_samples import contents
from scene_samples import write_trajectory

from vision_mem.cli import main
from vision_mem.evaluation.reconstruction.datasets import SCENE_SETS, TASKS
from vision_mem.formats.ply import write_ply
from vision_mem.geometry.poses import exponential, quaternion_from, transform

ROOMS = "rooms=2,frames=12,width=64,height=48,seed=2000101"


def run(key: str, root: Path, out: Path, *words: str) -> int:
    return main(["eval", key, "--root", str(root), "--out", str(out), *words])


def scored(key: str, root: Path, results: Path, capsys, *words: str) -> dict:
    """The numbers and notes of ``score --json``."""
    capsys.readouterr()
    command = ["score", key, "--root", str(root), "--results", str(results), "--json", *words]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["trackers"]) == 1
    return {**found["trackers"][0]["summary"], "notes": found["notes"],
            "sequences": found["trackers"][0]["sequences"]}  # fmt: skip


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set") / "rooms"
    out = tmp_path_factory.mktemp("first") / "out"
    assert run("pose", root, out, "--room", ROOMS, "--quiet") == 0
    return root


@pytest.fixture(scope="module")
def whole(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What undisturbed runs leave."""
    place = tmp_path_factory.mktemp("whole")
    for task in TASKS:
        words = ("--scene", "stride=4") if task == "reconstruction" else ()
        assert run(task, rooms, place / task, "--quiet", *words) == 0
    return {task: place / task for task in TASKS}


def test_a_run_scores_what_it_made(rooms: Path, tmp_path: Path, capsys) -> None:
    assert run("reconstruction:rooms", rooms, tmp_path, "--scene", "poses=given,stride=4") == 0
    said = capsys.readouterr()
    assert "2 of 2 sequences done" in said.out and "memory held between frames" in said.out
    assert "the poses are given" in said.err and "every 4th" in said.err
    (row,) = csv.DictReader((tmp_path / "scores/summary.csv").open())
    assert float(row["acc"]) < 0.02 and float(row["comp"]) < 0.02 and float(row["nc"]) > 0.9
    assert float(row["epe_static"]) < 0.03 and 0 <= float(row["ghosts"]) < 0.05
    assert (tmp_path / "scores/points_within.png").is_file()
    log = json.loads((tmp_path / "logs/room_0000.json").read_text())
    assert log["frames"] == 9 and log["held_bytes"] > 0 and log["poses"] == "given"


def test_depth_of_the_sensor_and_masks(whole: dict[str, Path], rooms: Path, capsys) -> None:
    found = scored("video-depth", rooms, whole["video-depth"], capsys)
    assert found["abs_rel"] == pytest.approx(0.004, abs=0.001)  # of 0.5 % noise
    assert found["delta"] == 1 and found["abs_rel_moving"] < 0.01
    assert {"mask_iou", "mask_f1", "mask_precision", "mask_recall"} <= set(found)
    pictures = whole["video-depth"] / "scores"
    assert (pictures / "depth_within_a_factor.png").is_file()


def test_a_network_runs_on_pictures_alone(rooms: Path, tmp_path: Path, capsys) -> None:
    # It is not trained: what counts is that the chain goes through, twice the same.
    words = ("--model", "random:nano-48", "--devices", "cpu", "--max-sequences", "1")
    for name in ("a", "b"):
        assert run("video-depth", rooms, tmp_path / name, *words) in (0, 2)
    assert "1 of 1 sequence done" in capsys.readouterr().out
    found = contents(tmp_path / "a/results")
    assert len(found) == 12 and found == contents(tmp_path / "b/results")
    log = json.loads((tmp_path / "a/logs/room_0000.json").read_text())
    assert "nano-48" in log["model"] and log["frames"] == 12


@pytest.mark.parametrize("task", TASKS)
def test_again_is_nothing_to_do_and_what_is_spoiled_is_made_again(
    task: str, whole: dict[str, Path], rooms: Path, tmp_path: Path
) -> None:
    words = ("--scene", "stride=4") if task == "reconstruction" else ()
    out = tmp_path / "out"
    shutil.copytree(whole[task], out)
    files = [path for path in (out / "results").rglob("*") if path.is_file()]
    stamps = {path: path.stat().st_mtime_ns for path in files}
    assert run(task, rooms, out, "--quiet", *words) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in files}
    spoiled = next(path for path in files if "room_0001" in str(path))
    spoiled.write_bytes(spoiled.read_bytes()[:-1])
    assert run(task, rooms, out, "--quiet", *words) == 0
    assert contents(out / "results") == contents(whole[task] / "results")


def test_shares_into_one_folder_are_the_whole(
    whole: dict[str, Path], rooms: Path, tmp_path: Path, capsys
) -> None:
    for share in ("1/2", "2/2"):
        assert run("pose", rooms, tmp_path / "out", "--shard", share, "--quiet") == 0
    assert contents(tmp_path / "out/results") == contents(whole["pose"] / "results")
    assert run("pose", rooms, tmp_path / "one", "--sequences", "room_0001", "--quiet") == 0
    assert run("pose", rooms, tmp_path / "two", "--max-sequences", "1", "--quiet") == 0
    names = [sorted(contents(tmp_path / each / "results")) for each in ("one", "two")]
    assert names == [["room_0001.txt"], ["room_0000.txt"]]


def test_other_settings_need_another_folder(
    whole: dict[str, Path], rooms: Path, tmp_path: Path, capsys
) -> None:
    shutil.copytree(whole["reconstruction"], tmp_path / "out")
    assert run("reconstruction", rooms, tmp_path / "out", "--scene", "stride=6") == 2
    assert "stride 4 there, 6 now" in capsys.readouterr().err
    # How it is scored is no part of the results.
    words = ("--scene", "stride=4", "--strict", "--quiet")
    assert run("reconstruction", rooms, tmp_path / "out", *words) == 0


# -- what another program left -----------------------------------------------------------------


@pytest.fixture(scope="module")
def sintel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sintel")
    samples.write_sintel(root, ("alley_2", "temple_3"), 6)
    return root


def write_depth(folder: Path, change, *, first=1, form="npz", count=6) -> None:
    for name in ("alley_2", "temple_3"):
        (folder / name).mkdir(parents=True)
        for k, pose in enumerate(samples.poses(count)):
            depth = change(samples.depth_of(pose))
            path = folder / name / f"frame_{k + first:04d}.{form}"
            if form == "npz":
                np.savez(path, depth=depth)
            elif form == "npy":
                np.save(path, depth)
                # Pictures to look at lie beside.
                samples.save(path.with_suffix(".png"), samples.image_of(k))
            else:
                samples.save(path, samples.units(depth, 5000))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"change": lambda d: d / 3}, ()),
        ({"change": lambda d: d / 3 + 1}, ("--scene", "align=scale&shift")),
        ({"change": lambda d: d}, ("--scene", "align=metric")),
        ({"change": lambda d: d, "form": "png"}, ("--scene", "align=metric,unit=0.0002")),
        # Names that are counted from 0 go by their order, not by chance meetings of names.
        ({"change": lambda d: d, "form": "npy", "first": 0}, ("--scene", "align=median")),
        ({"change": lambda d: np.repeat(np.repeat(d, 2, 0), 2, 1)}, ()),
    ],
    ids=["scaled", "shifted", "metric", "png", "from 0", "larger"],
)
def test_perfect_depth_in_any_form(sintel, tmp_path, capsys, options, words) -> None:
    write_depth(tmp_path, **options)
    found = scored("video-depth:sintel", sintel, tmp_path, capsys, *words)
    assert found["abs_rel"] < 0.004 and found["delta"] > 0.999


def test_several_alignments_stand_side_by_side(sintel, tmp_path, capsys) -> None:
    write_depth(tmp_path, lambda d: d / 3 + 1)
    found = scored("video-depth", sintel, tmp_path, capsys,
                   "--scene", "align=scale&shift+metric")  # fmt: skip
    assert found["abs_rel"] < 0.001 < 0.2 < found["abs_rel metric"]
    adam = scored("video-depth", sintel, tmp_path, capsys,
                  "--scene", "align=scale&shift", "--scene", "compat=adam")  # fmt: skip
    # A thousand steps of 0.0001 do not get there from the ratio of medians.
    assert adam["abs_rel"] > 20 * found["abs_rel"]


def test_frames_that_lack_a_depth(sintel, tmp_path, capsys) -> None:
    write_depth(tmp_path, lambda d: d)
    (tmp_path / "alley_2/frame_0003.npz").unlink()
    command = ["score", "video-depth", "--root", str(sintel), "--results", str(tmp_path)]
    assert main(command) == 2
    assert "no depth of 1 of 6 frames of alley_2" in capsys.readouterr().err
    found = scored("video-depth", sintel, tmp_path, capsys, "--partial")
    assert found["abs_rel"] < 1e-5 and any("5 of 6 frames" in note for note in found["notes"])
    shutil.rmtree(tmp_path / "temple_3")
    assert main(command) == 2
    assert "lacks 1 of Sintel video depth's 2 sequences" in capsys.readouterr().err


def test_paths_in_any_form(sintel, tmp_path, capsys) -> None:
    world = exponential((0.4, 1, -0.3, 5, 1, 2))
    path = np.stack([world @ pose for pose in samples.poses(6)])
    path[:, :3, 3] *= 0.3
    times = {"alley_2": np.arange(6.0), "temple_3": np.arange(6) / 24}
    for name, stamps in times.items():
        write_trajectory(tmp_path / "tum" / f"{name}.txt", path, stamps)
        write_trajectory(tmp_path / "kitti" / f"{name}.txt", path, form="kitti")
        rows = [
            " ".join(f"{value:.9g}" for value in (t, *p[:3, 3], *quaternion_from(p[:3, :3])))
            for t, p in zip(stamps, path, strict=True)
        ]
        (tmp_path / "cut3r" / name).mkdir(parents=True)
        (tmp_path / "cut3r" / name / "pred_traj.txt").write_text("\n".join(rows) + "\n")
    for form, words in (("tum", ()), ("kitti", ()), ("cut3r", ("--scene", "quaternion=wxyz"))):
        found = scored("pose:sintel", sintel, tmp_path / form, capsys, *words)
        assert found["ate"] < 1e-6 and found["rpe_r"] < 1e-4, form
        assert found["scale"] == pytest.approx(1 / 0.3, rel=1e-6) and found["posed"] == 1
    wrong = scored("pose:sintel", sintel, tmp_path / "cut3r", capsys)
    assert wrong["ate"] < 1e-6 < 0.5 < wrong["rpe_r"]  # positions do not tell the order


def test_lost_frames_and_lines_are_counted(sintel, tmp_path, capsys) -> None:
    path = np.stack(samples.poses(6))
    line = path.copy()
    line[:, :3, 3] = np.outer(np.arange(6), (1, 0.5, 0))
    write_trajectory(tmp_path / "alley_2.txt", np.delete(path, 3, axis=0), [0, 1, 2, 4, 5])
    write_trajectory(tmp_path / "temple_3.txt", line, np.arange(6.0))
    found = scored("pose", sintel, tmp_path, capsys)
    assert found["ate"] < 1e-6 and found["degenerate"] == 1
    assert found["posed"] == pytest.approx((5 / 6 + 1) / 2)
    assert any("1 of 6 frames have no pose, and are left out" in n for n in found["notes"])
    assert any("temple_3" in n and "left out of the means" in n for n in found["notes"])
    assert found["sequences"]["temple_3"]["ate"] > 0.01  # said, and in no mean
    strict = scored("pose", sintel, tmp_path, capsys, "--strict")
    assert strict["sequences"]["alley_2"]["ate"] > 1e-3  # the frame takes the pose before
    assert strict["sequences"]["temple_3"]["ate"] > 0.01 and strict["degenerate"] == 1


@pytest.mark.parametrize(
    ("truth", "form", "shift", "words", "says"),
    [
        ("tum", "tum", 0.0, (), None),
        ("tum", "tum", 0.015, (), None),
        ("tum", "kitti", 0.0, (), None),
        ("kitti", "kitti", 0.0, (), None),
        ("tum", "tum", 500.0, (), "poses are taken by row"),
        ("tum", "tum", 500.0, ("--scene", "offset=-500"), None),
        ("tum", "tum", 0.3, ("--scene", "apart=0.4"), None),
    ],
)
def test_two_plain_files(truth, form, shift, words, says, tmp_path, capsys) -> None:
    path = np.stack(samples.poses(12))
    times = 1e9 + np.arange(12.0)
    write_trajectory(tmp_path / "true.txt", path, times, form=truth)
    moved = exponential((0.4, 1, -0.3, 5, 1, 2)) @ path
    moved[:, :3, 3] *= 0.5
    write_trajectory(tmp_path / "ours.txt", moved, times + shift, form=form)
    files = ["--truth", str(tmp_path / "true.txt"), "--results", str(tmp_path / "ours.txt")]
    assert main(["score", "pose", *files, "--json", "--over", "0.1", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    ((summary),) = [each["summary"] for each in found["trackers"]]
    assert summary["ate"] < 1e-5 and summary["posed"] == 1
    assert summary["rpe_t_0.1m"] < 1e-5 and summary["rpe_r_0.1m"] < 1e-3
    assert summary["scale"] == pytest.approx(2, rel=1e-5)
    said = [note for note in found["notes"] if "by row" in note]
    assert (says in said[0]) if says else not said


def test_plain_files_by_time_though_as_many(tmp_path, capsys) -> None:
    path = np.stack(samples.poses(12))
    write_trajectory(tmp_path / "true.txt", path[:10], 100.0 + np.arange(10))
    write_trajectory(tmp_path / "ours.txt", path[2:], 102.0 + np.arange(10))
    files = ["--truth", str(tmp_path / "true.txt"), str(tmp_path / "ours.txt")]
    assert main(["score", "pose:tum", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trackers"][0]["summary"]["ate"] < 1e-6
    assert found["trackers"][0]["summary"]["posed"] == pytest.approx(0.8)
    assert main(["score", "pose", *files, "--root", str(tmp_path)]) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seven")
    samples.write_seven(root, 5)
    # The set's own focal length, for the small pictures of the copy.
    return root


def points_of(scale=1.0) -> np.ndarray:
    """True points of frames 0, 2 and 4 in the axes of the first camera, by the set's intrinsics."""
    from vision_mem.geometry.camera import Pinhole

    camera = Pinhole.from_centres(525, 525, 320, 240, samples.WIDTH, samples.HEIGHT)
    path = samples.poses(5)
    first = samples.first_camera(path)
    return np.stack(
        [
            scale * transform(first[k], camera.unproject(samples.depth_of(path[k])))
            for k in (0, 2, 4)
        ]
    ).astype(np.float32)


def test_points_in_any_form(seven, tmp_path, monkeypatch, capsys) -> None:
    # The set's grid of 512 x 384 would take half a minute.
    small = replace(SCENE_SETS["7scenes"], grid=(64, 48))
    monkeypatch.setitem(SCENE_SETS, "7scenes", small)
    maps = points_of()
    (tmp_path / "maps").mkdir()
    np.savez(tmp_path / "maps/chess-seq-03.npz", points=maps)
    words = ("--scene", "stride=2")
    found = scored("reconstruction:7scenes", seven, tmp_path / "maps", capsys, *words)
    assert found["acc"] < 1e-3 and found["comp"] < 1e-3 and found["nc"] > 0.99
    (tmp_path / "scaled").mkdir()
    np.savez(tmp_path / "scaled/chess-seq-03.npz", points=points_of(2.5))
    scaled = scored("reconstruction", seven, tmp_path / "scaled", capsys, *words, "--strict")
    assert scaled["acc"] < 2e-3 and scaled["comp"] < 1e-3
    # Clouds without pixels: in the axes of the first camera, or of the world, and in metres.
    write_ply(tmp_path / "cloud/chess-seq-03.ply", maps.reshape(-1, 3))
    cloud = scored("reconstruction", seven, tmp_path / "cloud", capsys, *words)
    assert cloud["acc"] < 2e-3 and cloud["comp"] < 4e-3
    assert any("without pixels" in note for note in cloud["notes"])
    # 30 cm nearer; the floor is still a floor, so some of it is as near as before.
    world = transform(samples.poses(1)[0], maps.reshape(-1, 3)) + (0, 0, 0.3)
    (tmp_path / "moved").mkdir()
    np.savez(tmp_path / "moved/chess-seq-03.npz", world)
    moved = scored("reconstruction", seven, tmp_path / "moved", capsys,
                   "--scene", "stride=2,cloud=world", "--strict")  # fmt: skip
    assert 0.1 < moved["acc"] <= 0.31


def test_the_geometric_mode_on_copies_of_real_layouts(tmp_path, capsys) -> None:
    samples.write_tum(tmp_path / "tum", 30)
    assert run("pose", tmp_path / "tum", tmp_path / "a", "--scene", "frames=8,stride=1") == 0
    assert "TUM-dynamics camera pose: 1 of 1 sequence done" in capsys.readouterr().out
    samples.write_nrgbd(tmp_path / "nrgbd", 6)
    words = ("--scene", "poses=given")
    assert run("reconstruction", tmp_path / "nrgbd", tmp_path / "b", *words) == 0
    said = capsys.readouterr()
    assert "an oracle" in said.err and "every 3th" in said.err
    (row,) = csv.DictReader((tmp_path / "b/scores/summary.csv").open())
    assert float(row["acc"]) < 2e-3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["eval", "pose:sintle"], "did you mean 'sintel'"),
        (["eval", "pose:sintel"], "missing option --root"),
        (["eval", "pose", "--root", "{tmp}/nowhere"], "is no folder"),
        (["eval", "pose", "--root", "{tmp}"], "holds no set for pose"),
        (["eval", "pose:sintel", "--root", "{tmp}"], "has no Sintel"),
        (["eval", "pose", "--root", "{sintel}", "--room", "rooms=1"], "holds other things"),
        (["eval", "pose", "--room", "rooms=0"], "cannot be made"),
        (["eval", "pose", "--room", "room=1"], "did you mean 'rooms'"),
        (["eval", "pose", "--root", "{sintel}", "--scene", "pose=given"], "did you mean 'poses'"),
        (["eval", "pose", "--root", "{sintel}", "--scene", "poses=given"], "exclude each other"),
        (["eval", "pose", "--root", "{sintel}", "--scene", "feed=some"], "auto, views, all"),
        (["eval", "pose", "--root", "{sintel}", "--model", "dust3r"], "there is geometric"),
        (["eval", "pose", "--root", "{sintel}", "--detect", "truth"], "option --detect for pose"),
        (["eval", "pose", "--root", "{sintel}", "--model", "no.pth", "--quiet"], "no.pth"),
        (["eval", "pose", "--root", "{sintel}", "--model", "no.pth", "--preset", "dense"],
         "leave out --preset"),
        (["eval", "video-depth", "--root", "{sintel}"], "is the truth"),
        (["eval", "otb100", "--root", "{sintel}", "--scene", "align=scale"], "no such option"),
        (["score", "pose", "--results", "{tmp}"], "missing option --root"),
        (["score", "pose:rooms", "--results", "{tmp}"], "eval pose:rooms writes one to runs/rooms"),
        (["score", "pose", "--truth", "{tmp}/no.txt", "--results", "{tmp}"], "no such file"),
        (["score", "pose", "--truth", "{tmp}", "--results", "{tmp}"], "no such file"),
        (["score", "video-depth", "--truth", "{tmp}", "--results", "{tmp}"], "no such option"),
        (["score", "pose:sintel", "--root", "{sintel}", "--results", "{tmp}", "--over", "-1"],
         "expected metres"),
        (["score", "pose", "--root", "{sintel}", "--results", "{tmp}"], "holds no result"),
        (["score", "pose", "--root", "{sintel}", "--results", "{tmp}/no"], "is no folder"),
        (["score", "pose", "--root", "{sintel}", "--results", "{tmp}", "--repair"], "--repair"),
        (["score", "pose", "--root", "{sintel}", "--results", "{tmp}", "--scene", "align=best"],
         "metric, median"),
        (["score", "pose", "--root", "{sintel}", "--results", "{tmp}", "--scene",
          "quaternion=w"], "xyzw, wxyz"),
        (["score", "lasot", "--root", "{tmp}", "--results", "{tmp}", "--scene", "unit=1"],
         "no such option --scene for lasot"),
    ],
)  # fmt: skip
def test_slips_are_one_line(sintel, tmp_path, monkeypatch, capsys, words, says) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any").mkdir()
    filled = [word.format(tmp=tmp_path / "any", sintel=sintel) for word in words]
    assert main(filled) in (1, 2)
    shown = capsys.readouterr().err
    assert says in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("alley_2.txt", b"1 2 3\n", "expected 8 numbers"),
        ("alley_2.txt", b"\xff\xfe\x00binary", "is no text file"),
        ("alley_2.txt", b"0 0 0 0 0 0 0 0\n", "line 1"),
        ("alley_2.txt", b"900 0 0 0 0 0 0 1\n", "none at their times"),
    ],
)
def test_damaged_results_are_one_line(sintel, tmp_path, capsys, name, content, says) -> None:
    (tmp_path / name).write_bytes(content)
    command = ["score", "pose", "--root", str(sintel), "--results", str(tmp_path), "--partial"]
    assert main(command) in (1, 2)
    shown = capsys.readouterr().err
    assert says in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("depth", "says"),
    [
        (np.full((24, 32), np.nan), "alley_2: no pixel has both"),
        (np.zeros((24, 32)), "alley_2: the mean of the depth is 0"),
        (np.ones((24, 32, 3)), "depth of one channel"),
        (np.array([["a"]]), "depth of one channel"),
    ],
)
def test_depth_that_is_none_is_one_line(sintel, tmp_path, capsys, depth, says) -> None:
    (tmp_path / "alley_2").mkdir()
    for k in range(6):
        np.save(tmp_path / f"alley_2/{k}.npy", depth)
    command = ["score", "video-depth", "--root", str(sintel), "--results", str(tmp_path)]
    assert main([*command, "--partial"]) in (1, 2)
    shown = capsys.readouterr().err
    assert says in shown and shown.count("\n") == 1


def test_a_damaged_image_fails_its_sequence_and_the_others_are_done(
    rooms: Path, tmp_path: Path, capsys
) -> None:
    root = tmp_path / "rooms"
    shutil.copytree(rooms, root)
    (root / "training/final/room_0000/frame_0003.png").write_bytes(b"no picture")
    assert run("pose", root, tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "1 of 2 sequences done" in said.out and "error: room_0000" in said.err
    assert cv2.imread(str(root / "training/final/room_0001/frame_0003.png")) is not None
