"""Generated crowds: the same each time, their truth is true, and they are hard as they claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vision_mem.errors import InputError, SinkError
from vision_mem.evaluation.mots.datasets import open_mot_benchmark
from vision_mem.evaluation.mots.records import read_truth
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.mots.scores import score_tracks
from vision_mem.formats.mot import check_kitti_labels
from vision_mem.formats.mots import check_mots_text
from vision_mem.geometry.masks import mask_to_box
from vision_mem.synthetic.crowd_sets import write_crowd
from vision_mem.synthetic.crowds import IGNORED, CrowdClip, CrowdSettings

SMALL = CrowdSettings(seed=4, frames=90, width=160, height=96, objects=5)


@pytest.fixture(scope="module")
def rendered():
    return list(CrowdClip(SMALL))


def test_same_seed_same_frames(rendered):
    again = CrowdClip(SMALL)
    assert (again.info.width, again.info.height, again.info.frame_count) == (160, 96, 90)
    for t in (0, 31, 89):
        np.testing.assert_array_equal(again.render(t).image, rendered[t].image)
        np.testing.assert_array_equal(again.render(t).labels, rendered[t].labels)
    other = CrowdClip(replace(SMALL, seed=5)).render(31)
    assert (other.image != rendered[31].image).any()


def test_records_are_what_the_labels_say(rendered):
    for frame in rendered[::7]:
        records = frame.records()
        assert [each.object_id for each in records] == sorted(frame.classes)
        assert set(np.unique(frame.labels)) - {0, IGNORED} == set(frame.classes)
        for each in records:
            np.testing.assert_array_equal(each.mask, frame.labels == each.object_id)
            np.testing.assert_array_equal(each.box, mask_to_box(each.mask))
            assert each.mask.sum() >= 12
            assert 0 <= frame.hidden[each.object_id] < 1


def test_masks_are_where_the_picture_differs():
    """Without noise the picture changes where an object is, and hardly anywhere else."""
    calm = replace(SMALL, noise=0.0, ignored=False, pillars=0)
    bare = CrowdClip(replace(calm, objects=0)).render(0).image.astype(int)
    for t in (5, 30):
        frame = CrowdClip(calm).render(t)
        ground = CrowdClip(replace(calm, objects=0)).render(t).image
        np.testing.assert_array_equal(ground, bare)  # the camera stands still
        changed = (np.abs(frame.image - bare) > 12).any(axis=2)
        seen = frame.labels > 0
        assert (changed & ~seen).sum() < 0.2 * seen.sum()
        assert (changed & seen).sum() > 0.7 * seen.sum()


def test_a_moving_camera_moves_the_ground():
    still, moving = (
        CrowdClip(replace(SMALL, objects=0, ignored=False, noise=0.0, moving=m))
        for m in (False, True)
    )
    np.testing.assert_array_equal(still.render(0).image, still.render(20).image)
    changed = np.abs(moving.render(0).image.astype(int) - moving.render(20).image) > 12
    assert changed.any(axis=2).mean() > 0.2


def test_objects_hide_each_other_leave_and_return(rendered):
    seen = {}
    for t, frame in enumerate(rendered):
        for number in frame.classes:
            seen.setdefault(number, []).append(t)
    assert len(seen) >= 6
    assert {kind for frame in rendered for kind in frame.classes.values()} == {1, 2}
    away = [np.diff(frames).max(initial=0) for frames in seen.values()]
    assert max(away) >= 5, "nobody leaves and returns"
    hidden = [share for frame in rendered for share in frame.hidden.values()]
    assert max(hidden) > 0.5, "nobody is hidden"
    assert any(frame.cut for frame in rendered), "nobody comes in over the edge"


def test_who_returns_is_of_the_same_class():
    kinds = {}
    for frame in CrowdClip(replace(SMALL, frames=150, returning=0.9)):
        for number, kind in frame.classes.items():
            assert kinds.setdefault(number, kind) == kind


def test_quiet_begins_empty():
    clip = CrowdClip(replace(SMALL, quiet=20))
    assert not any(clip.render(t).classes for t in range(0, 20, 3))
    assert any(clip.render(t).classes for t in range(30, 60, 5))


def test_pillars_belong_to_nobody():
    frames = [CrowdClip(replace(SMALL, pillars=p, ignored=False)).render(25) for p in (0, 3)]
    assert (frames[1].labels > 0).sum() < (frames[0].labels > 0).sum()


@pytest.mark.parametrize("change", [{"frames": 0}, {"width": 10}, {"objects": -1}])
def test_settings_that_cannot_be(change):
    with pytest.raises(InputError, match="cannot be made; expected at least 1 frame of 64x48"):
        replace(SMALL, **change)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("crowd")
    short = replace(SMALL, frames=25)
    steps = []
    names = write_crowd(
        root, [short, replace(short, seed=6, moving=True)], on_frame=lambda *at: steps.append(at)
    )
    assert names == ["0000", "0001"] and steps[-1] == ("0001", 24) and len(steps) == 50
    return root


def test_what_is_written_is_a_benchmark_of_masks(written):
    benchmark = open_mot_benchmark("kitti-mots", written)
    assert benchmark.notes == ()
    assert [(s.name, s.length, s.size) for s in benchmark.sequences] == [
        ("0000", 25, (96, 160)), ("0001", 25, (96, 160)),
    ]  # fmt: skip
    text = written / "training" / "instances_txt" / "0000.txt"
    assert check_mots_text(text.read_text(), text, frames=25, size=(96, 160)) == []
    for truth in ("instances_txt", "instances"):
        with MotResults(written / "training" / truth, benchmark) as results:
            score = score_tracks(benchmark, results)
        assert score.pooled()["HOTA"] == score.pooled()["sMOTSA"] == 1
        assert score.pooled()["GT"] >= 6


def test_what_is_written_is_a_benchmark_of_boxes(written):
    benchmark = open_mot_benchmark("kitti-mot", written)
    assert benchmark.notes == ()
    path = written / "training" / "label_02" / "0000.txt"
    assert check_kitti_labels(path.read_text(), path, frames=25) == []
    assert "DontCare" in path.read_text()
    with MotResults(path.parent, benchmark) as results:
        assert score_tracks(benchmark, results).pooled()["IDF1"] == 1


def test_the_ignored_corner_is_in_the_truth(written):
    benchmark = open_mot_benchmark("kitti-mots", written)
    rows = read_truth(benchmark.sequences[0], benchmark.rules)
    ignored = rows.classes == 10
    assert ignored.sum() == 25 and (rows.ids[ignored] == 10000).all()
    assert (rows.masks.areas[ignored] > 0.5 * 0.04 * 96 * 160).all()


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="a file is in the way"):
        write_crowd(tmp_path / "file", [SMALL])
