"""Copies of sets for depth, poses and points: what is read of them, and what is said to lack."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import scene_samples as samples

from vision_mem.errors import VisionMemError
from vision_mem.evaluation.reconstruction.datasets import open_scene_set, split_key
from vision_mem.evaluation.reconstruction.datasets.point_sets import read_gl_poses
from vision_mem.evaluation.reconstruction.family import FAMILY
from vision_mem.evaluation.reconstruction.records import Cut

WRITERS = {
    "sintel": samples.write_sintel, "bonn": samples.write_bonn, "kitti": samples.write_kitti,
    "tum": samples.write_tum, "scannet": samples.write_scannet, "7scenes": samples.write_seven,
    "nrgbd": samples.write_nrgbd,
}  # fmt: skip


def opened(key, root, cut=None, **options):
    found = open_scene_set(key, root, cut, **options)
    return found, found.sequences[0]


@pytest.mark.parametrize("key", [key for key in FAMILY.datasets if not key.endswith("rooms")])
def test_every_layout_is_found_out_and_its_depth_is_in_metres(tmp_path, key):
    task, word = key.split(":")
    WRITERS[word](tmp_path)
    assert split_key(task, tmp_path) == (task, word)
    found, sequence = opened(key, tmp_path)
    assert found.key == key and found.root == tmp_path
    view = sequence.scored[0]
    assert view.image.is_file()
    path = view.depth or view.sensor
    if path is not None and word != "kitti":
        true = samples.depth_of(samples.poses(view.number + 1)[view.number])
        depth = sequence.depth(path)
        known = depth > 0
        assert known.mean() > 0.99 and np.abs(depth - true)[known].max() < 1e-3
    if task != "video-depth":
        want = samples.poses(view.number + 1)[view.number]
        assert np.allclose(view.pose, want, atol=1e-6)
    # The truth alone does for scoring.
    _, alone = opened(key, tmp_path, need_frames=False)
    assert [each.name for each in alone.scored] == [each.name for each in sequence.scored]


def test_sintel_takes_the_fourteen_and_says_what_lacks(tmp_path):
    samples.write_sintel(tmp_path, ("alley_2", "bandage_1"))
    found, sequence = opened("pose:sintel", tmp_path)
    assert [each.name for each in found.sequences] == ["alley_2"]
    assert "13 of 14" in found.notes[0] and sequence.views[0].intrinsics == (30, 30, 15.5, 11.5)
    samples.write_sintel(tmp_path / "other", ("my_clip",))
    assert opened("video-depth:sintel", tmp_path / "other")[1].name == "my_clip"
    cut = opened("pose:sintel", tmp_path, Cut(frames=2, stride=2))[1]
    assert [view.number for view in cut.views] == [0, 2]


def test_bonn_takes_frames_from_the_thirtieth_on(tmp_path):
    samples.write_bonn(tmp_path)
    found, sequence = opened("video-depth:bonn", tmp_path)
    assert [view.number for view in sequence.views] == [30, 31, 32, 33]
    assert "4 of 5" in found.notes[0]
    samples.write_bonn(tmp_path, 3, prepared=True)
    prepared = opened("video-depth:bonn", tmp_path)[1]
    assert [view.number for view in prepared.views] == [0, 1, 2]
    assert len(opened("video-depth:bonn", tmp_path, Cut(frames=2))[1].views) == 2


def test_tum_is_associated_by_time_and_cut_to_every_third(tmp_path):
    samples.write_tum(tmp_path)
    sequence = opened("pose:tum", tmp_path)[1]
    assert [view.number for view in sequence.views] == [0, 3, 6, 9, 12]
    assert sequence.views[1].time_s == pytest.approx(100.3)
    assert sequence.views[1].sensor.name.startswith("100.309")
    every = opened("pose:tum", tmp_path, Cut(frames=4, stride=1))[1]
    assert [view.number for view in every.views] == [0, 1, 2, 3]
    samples.write_tum(tmp_path / "p", 5, prepared=True)
    prepared = opened("pose:tum", tmp_path / "p")[1]
    assert len(prepared.views) == 5 and prepared.views[2].time_s == pytest.approx(100.2)
    # Without depth.txt the names of the files say their times.
    assert prepared.views[2].sensor.name.startswith("100.209")
    with pytest.raises(VisionMemError, match="need the whole recording"):
        opened("pose:tum", tmp_path / "p", Cut(frames=4, stride=1))


def test_scannet_has_frames_without_a_pose(tmp_path):
    samples.write_scannet(tmp_path / "a", 9, lost=(3,))
    sequence = opened("pose:scannet", tmp_path / "a")[1]
    assert [view.number for view in sequence.views] == [0, 3, 6]
    assert [view.pose is None for view in sequence.views] == [False, True, False]
    samples.write_scannet(tmp_path / "b", 4, prepared=True)
    assert len(opened("pose:scannet", tmp_path / "b")[1].views) == 4


def test_seven_scenes_takes_the_test_split_and_every_200th(tmp_path):
    samples.write_seven(tmp_path)
    found, sequence = opened("reconstruction:7scenes", tmp_path)
    assert [each.name for each in found.sequences] == ["chess-seq-03"]
    assert [view.number for view in sequence.scored] == [0]
    assert any("chess/seq-05" in note for note in found.notes)
    assert sequence.depth(sequence.views[0].depth)[0, 0] == 0  # 65535 is no reading
    fed = opened("reconstruction:7scenes", tmp_path, Cut(stride=3, feed=1))[1]
    assert [(view.number, view.scored) for view in fed.views] == [
        (0, True), (1, False), (2, False), (3, True),
    ]  # fmt: skip
    samples.write_seven(tmp_path / "raw", registered=False)
    raw, sequence = opened("reconstruction:7scenes", tmp_path / "raw")
    assert any("not registered" in note for note in raw.notes)
    assert sequence.views[0].intrinsics[0] == 585
    # Other copies have JPEG, and a file of intrinsics.
    for path in (tmp_path / "raw/chess/seq-03").glob("*.color.png"):
        path.rename(path.with_suffix(".jpg"))
    (tmp_path / "raw/chess/camera-intrinsics.txt").write_text("580 0 320\n0 581 240\n0 0 1\n")
    sequence = opened("reconstruction:7scenes", tmp_path / "raw")[1]
    assert sequence.views[0].intrinsics == (580, 581, 320, 240)
    assert sequence.views[0].image.suffix == ".jpg"


def test_nrgbd_takes_at_most_half_of_the_frames_and_turns_the_axes(tmp_path):
    samples.write_nrgbd(tmp_path, 6)
    found, sequence = opened("reconstruction:nrgbd", tmp_path)
    assert [view.number for view in sequence.scored] == [0, 3]
    assert "every 3th" in " ".join(found.notes)
    (tmp_path / "poses.txt").write_text("nan " * 16 + "\n" + "1 0 0 5 0 1 0 0 0 0 1 0 0 0 0 1")
    lost, known = read_gl_poses(tmp_path / "poses.txt")
    assert lost is None
    assert known.diagonal().tolist() == [1, -1, -1, 1] and known[0, 3] == 5


def remove(*names):
    def change(root):
        for name in names:
            for path in list(root.glob(name)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def spoil(name, content):
    def change(root):
        for path in root.glob(name):
            path.write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        ("video-depth:sintel", remove("training"), "training/final"),
        ("video-depth:sintel", remove("training/depth"), "has no depth/"),
        ("pose:sintel", remove("training/camdata_left"), "has no camdata_left/"),
        ("pose:sintel", remove("training/final"), "has no final/"),
        ("pose:sintel", remove("training/final/*/frame_0002.png"), "no image frame_0002"),
        ("pose:sintel", remove("training/camdata_left/*/*"), "has no .cam files"),
        ("pose:sintel", spoil("training/camdata_left/*/*2.cam", b"x"), "1 bytes"),
        ("video-depth:bonn", remove("rgbd*"), "no folders rgbd_bonn_"),
        ("video-depth:bonn", remove("*/*/depth"), "has no depth maps"),
        ("video-depth:bonn", remove("*/*/rgb"), "has no images"),
        ("video-depth:kitti", remove("*/*/groundtruth*"), "no groundtruth_depth_gathered/"),
        ("video-depth:kitti", remove("*/*/image*/*/*01.png"), "2 images and 3 depth maps"),
        ("video-depth:kitti", remove("*/*/groundtruth*/*"), "is empty"),
        ("pose:tum", remove("*"), "no recordings of TUM"),
        ("pose:tum", remove("*/rgb.txt"), "lacks rgb.txt"),
        ("pose:tum", spoil("*/rgb.txt", b"abc\n"), "line 1"),
        ("pose:tum", spoil("*/rgb.txt", b"1.0 rgb/a.png\n"), "within 0.02 s"),
        ("pose:tum", spoil("*/groundtruth.txt", b"1 2 3\n"), "expected 8 numbers"),
        ("pose:scannet", remove("*/pose"), "no scenes of ScanNet"),
        ("pose:scannet", remove("*/color"), "no color/"),
        ("pose:scannet", spoil("*/pose/0.txt", b"1 2"), "expected a 4x4"),
        ("reconstruction:7scenes", remove("chess"), "no scene of 7-Scenes"),
        ("reconstruction:7scenes", remove("chess/seq-*/*"), "has no depth maps"),
        ("reconstruction:7scenes", remove("*/*/*color.png"), "color.png is missing"),
        ("reconstruction:7scenes", remove("*/*/*pose.txt"), "pose.txt is missing"),
        ("reconstruction:7scenes", remove("*/seq-03"), "no sequence of the test split"),
        ("reconstruction:nrgbd", remove("*/poses.txt"), "no scene of NRGBD"),
        ("reconstruction:nrgbd", remove("*/images/img0.png"), "expected as many"),
        ("reconstruction:nrgbd", spoil("*/poses.txt", b"1 2 3"), "3 numbers"),
        ("reconstruction:nrgbd", spoil("*/poses.txt", b"one"), "cannot be read"),
        ("pose:rooms", remove(), "no generated rooms"),
        ("pose:sintle", remove(), "did you mean 'sintel'"),
        ("pose:kitti", remove(), "pose has no set 'kitti'"),
    ],
)
def test_what_lacks_is_one_line(tmp_path, key, change, says):
    word = key.split(":")[1]
    root = tmp_path / "set"
    root.mkdir()
    WRITERS.get(word, lambda root: None)(root)
    change(root)
    with pytest.raises(VisionMemError, match=says) as error:
        open_scene_set(key, root)
    assert "\n" not in str(error.value)


def test_a_root_that_is_none(tmp_path):
    with pytest.raises(VisionMemError, match="holds no set for pose"):
        split_key("pose", tmp_path)
    with pytest.raises(VisionMemError, match="is no folder"):
        open_scene_set("pose:sintel", tmp_path / "nowhere")
    with pytest.raises(VisionMemError, match="expected 0 or more"):
        Cut(frames=-1)
