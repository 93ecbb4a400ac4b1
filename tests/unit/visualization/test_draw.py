from __future__ import annotations

import numpy as np
import pytest
from media_samples import absent, picture, result, seen

from vision_mem.sinks.video import AnnotatedVideo, WriteBehind
from vision_mem.types import ObjectResult
from vision_mem.visualization.draw import Painter, colour_of, davis_palette, draw_tag

SIZE = (96, 128)
PLAIN = {"labels": False, "counter": False}


def test_colours_are_stable_and_distinct():
    colours = [colour_of(i) for i in range(60)]
    assert len(set(colours)) == 60 and colours == [colour_of(i) for i in range(60)]
    assert all(0 <= c <= 255 for i in (-3, 0, 10**9) for c in colour_of(i))


def test_davis_palette():
    assert davis_palette()[[0, 1, 2, 3, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [224, 224, 192]
    ]  # fmt: skip


def test_the_frame_is_left_alone_and_only_the_object_is_painted():
    image = picture(3)
    before = image.copy()
    drawn = Painter(**PLAIN).draw(image, result(3, seen(1, (40, 40, 80, 70), SIZE)))
    assert np.array_equal(image, before)
    changed = (drawn != image).any(axis=2)
    assert changed[45:65, 45:75].mean() > 0.95
    changed[38:73, 38:83] = False
    assert not changed.any()


def test_holes_of_a_mask_stay_clear():
    found = seen(1, (20, 20, 80, 80), SIZE)
    found.mask[40:60, 40:60] = False
    drawn = Painter(boxes=False, **PLAIN).draw(picture(1), result(1, found))
    assert np.array_equal(drawn[44:56, 44:56], picture(1)[44:56, 44:56])


@pytest.mark.parametrize(
    "text",
    ["door: 12 entered, 3 left", "gate: 120 in, 119 out", "a zone of a very long name: 1 in" * 3],
)
def test_a_tag_wider_than_the_picture_is_made_to_fit(text: str) -> None:
    canvas = np.full((*SIZE, 3), 255, np.uint8)
    draw_tag(canvas, text, (100, 40), above=False)
    rows, columns = np.nonzero((canvas != 255).any(axis=2))
    assert columns.max() < SIZE[1] and np.ptp(rows) < 40
    letters = (canvas > 200).all(axis=2)[rows.min() : rows.max() + 1]
    assert letters.any(axis=0)[: SIZE[1] // 2].any()
    # The tag ends in its own colour: no letter is cut in two by the picture's edge.
    assert not letters[:, columns.max() - 1 : columns.max() + 1].any()


def test_a_doubtful_object_has_a_dashed_outline():
    sure, unsure = (seen(1, (20, 20, 80, 80), SIZE, score=score) for score in (0.9, 0.3))
    painter = Painter(boxes=False, **PLAIN)
    drawn = [painter.draw(picture(1), result(1, one)) for one in (sure, unsure)]
    # Along the upper edge the line is there, or only the tint.
    same = np.abs(drawn[0][20, 22:78].astype(int) - drawn[1][20, 22:78]).max(axis=1) < 12
    assert 0.2 < same.mean() < 0.8
    assert np.array_equal(drawn[0][30:70, 30:70], drawn[1][30:70, 30:70])


@pytest.mark.parametrize(
    "box",
    [(0, 0, 128, 96), (0, 0, 1, 1), (127, 95, 128, 96), (0, 50, 128, 51)],
    ids=["whole picture", "first pixel", "last pixel", "a line"],
)
@pytest.mark.parametrize("name", ["dog", "", "a very long name that does not fit at all", "犬 ñ"])
def test_any_box_and_name_can_be_drawn(box, name):
    drawn = Painter(trail=5).draw(picture(0), result(0, seen(1, box, SIZE, name=name)))
    assert drawn.shape == (96, 128, 3) and drawn.dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (8, 8)])
def test_tiny_pictures_can_be_drawn(size):
    found = result(0, seen(1, (0, 0, 1, 1), size), absent(2, size), size=size)
    assert Painter(trail=3).draw(picture(0, *size), found).shape == (*size, 3)


def test_lost_objects_are_named():
    with_badge = Painter(counter=False).draw(picture(0), result(0, absent(1, SIZE)))
    assert (with_badge[:12] != picture(0)[:12]).any()


def test_the_trail_follows_the_object_and_fades_when_it_is_lost():
    painter = Painter(masks=False, boxes=False, trail=4, **PLAIN)
    for index in range(4):
        x = 20 * index
        drawn = painter.draw(picture(0), result(index, seen(1, (x, 40, x + 20, 60), SIZE)))
    assert (drawn[50, 12:68] != picture(0)[50, 12:68]).any(axis=1).mean() > 0.9
    for index in range(4, 9):
        drawn = painter.draw(picture(0), result(index, absent(1, SIZE)))
    assert np.array_equal(drawn, picture(0))
    painter.draw(picture(0), result(9))
    assert painter._paths == {}  # a removed object's trail is forgotten: memory stays bounded


def test_trails_go_on_in_a_run_that_is_continued(tmp_path):
    def at(painter, index):
        x = 10 * index
        return painter.draw(picture(0), result(index, seen(1, (x, 40, x + 20, 60), SIZE)))

    before, anew = (Painter(trail=4, **PLAIN) for _ in range(2))
    for index in range(6):
        at(before, index)
    WriteBehind(AnnotatedVideo(tmp_path / "a.mp4", painter=before)).keep(tmp_path)
    WriteBehind(AnnotatedVideo(tmp_path / "a.mp4", painter=anew)).recall(tmp_path)
    assert np.array_equal(at(anew, 6), at(before, 6))
    for damaged in ("{", "[]", '{"x": 1}', '{"1": [[1]]}'):
        (tmp_path / "a.trails.json").write_text(damaged)
        AnnotatedVideo(tmp_path / "a.mp4", painter=anew).recall(tmp_path)
    assert len(anew.trails["1"]) == 4, "what cannot be read changes nothing"


def test_a_mask_of_another_size_is_not_drawn():
    small = ObjectResult(
        1, "x", True, np.ones((4, 4), bool), np.array([0, 0, 4, 4], np.float32), 0.5, 1.0
    )
    Painter().draw(picture(0), result(0, small))
