"""Run lengths of masks beside pycocotools, and strings that are none."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from vision_mem.formats.rle import (
    MAX_PIXELS,
    encode_mask,
    overlapping,
    parse_runs,
    read_mask,
    runs_of_labels,
    runs_of_masks,
    shared_pixels,
    united,
)
from vision_mem.geometry.masks import mask_to_box

SIZE = (37, 53)


def random_masks(count, seed=0):
    """Sprinkled ones, rectangles, full, empty, and ones that touch the first and last pixel."""
    random = np.random.default_rng(seed)
    masks = []
    for number in range(count):
        mask = random.random(SIZE) < random.random() * random.random()
        if number % 3 == 0:
            mask[:] = False
            x, y = random.integers(0, 45), random.integers(0, 30)
            mask[y : y + random.integers(1, 20), x : x + random.integers(1, 20)] = True
        if number % 11 == 0:
            mask[:2, 0] = mask[-2:, -1] = True
        masks.append(mask)
    masks[1][:], masks[2][:] = True, False
    return masks


MASKS = random_masks(60)
TEXTS = [encode_mask(mask) for mask in MASKS]
FRAMES = np.arange(60) // 5


def coco_runs(masks):
    return [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def test_strings_become_the_masks_they_were_made_of():
    assert [runs["counts"].decode() for runs in coco_runs(MASKS)] == TEXTS
    runs, wrong = parse_runs(TEXTS, SIZE)
    assert not wrong and len(runs) == len(MASKS)
    np.testing.assert_array_equal(runs.areas, [mask.sum() for mask in MASKS])
    np.testing.assert_array_equal(runs.boxes(), [mask_to_box(mask) for mask in MASKS])
    for row, mask in enumerate(MASKS):
        np.testing.assert_array_equal(runs.mask(row), mask)
        assert runs.text(row) == TEXTS[row]


def test_many_strings_are_read_in_parts(monkeypatch):
    monkeypatch.setattr("vision_mem.formats.rle._CHUNK", 100)
    parts, wrong = parse_runs([*TEXTS, "~", *TEXTS], SIZE)
    assert list(wrong) == [len(TEXTS)]
    for row in (0, 1, 30, 61, 90, 120):
        np.testing.assert_array_equal(parts.mask(row), MASKS[row - 61 if row > 60 else row])


def test_pixels_give_the_same_stretches():
    read, drawn = parse_runs(TEXTS, SIZE)[0], runs_of_masks(MASKS, SIZE)
    for name in ("rows", "starts", "stops", "areas"):
        np.testing.assert_array_equal(getattr(read, name), getattr(drawn, name))


def test_labels_give_one_mask_a_value():
    labels = np.random.default_rng(1).integers(0, 5, SIZE) * 1000
    values, runs = runs_of_labels(labels)
    assert values.tolist() == [1000, 2000, 3000, 4000]
    for row, value in enumerate(values):
        np.testing.assert_array_equal(runs.mask(row), labels == value)
    nothing, empty = runs_of_labels(np.zeros(SIZE, np.uint16))
    assert len(nothing) == len(empty) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "are missing"),
        ("~", "a character COCO has not"),
        ("\x00", "a character COCO has not"),
        ("\u0661", "a character COCO has not"),
        (TEXTS[0] + "P", "end within a number"),
        ("PPPPPPPPPP0", "a run length is far too large"),
        ("00", "cover 0 of 1961 pixels"),
        (TEXTS[0][:-1], "run lengths"),
        (TEXTS[0] + "1", "run length"),
        ("O", "a run length is out of range"),  # -1
        ("oooooo7", "a run length"),
    ],
)
def test_a_string_that_is_none(text, message):
    runs, wrong = parse_runs([TEXTS[0], text, TEXTS[3]], SIZE)
    assert list(wrong) == [1]
    assert message in wrong[1]
    assert runs.areas[1] == 0
    np.testing.assert_array_equal(runs.mask(0), MASKS[0])
    np.testing.assert_array_equal(runs.mask(2), MASKS[3])


def test_one_mask_is_read_from_text_bytes_and_numbers():
    random = np.random.default_rng(5)
    for _ in range(200):
        size = tuple(int(side) for side in random.integers(1, 40, 2))
        mask = random.random(size) < random.choice([0, 0.02, 0.5, 0.98, 1])
        if random.random() < 0.5:
            mask[: size[0] // 2] = random.random() < 0.5
        coded = coco_runs([mask])[0]
        flat = mask.T.ravel().astype(np.int8)
        edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
        numbers = np.diff([0, *edges, flat.size]).tolist()
        for counts in (coded["counts"], coded["counts"].decode(), numbers, [*numbers, 0, 0]):
            runs = read_mask(counts, size)
            np.testing.assert_array_equal(runs.mask(0), mask)
            assert runs.areas.tolist() == [mask.sum()]
            assert runs.text(0) == coded["counts"].decode()
        left, top, width, height = coco.toBbox(coded)
        wanted = [left, top, left + width, top + height] if mask.any() else [0, 0, 0, 0]
        assert runs.boxes().tolist() == [wanted]


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        (TEXTS[0], (0, 53), "a mask of 53x0 pixels"),
        (TEXTS[0], (37, -1), "a mask of -1x37 pixels"),
        (TEXTS[0], (99_999_999, 99_999_999), "a mask of 99999999x99999999 pixels"),
        ([MAX_PIXELS + 1], (MAX_PIXELS + 1, 1), "a mask of 1x268435457 pixels"),
        ([], SIZE, "not whole numbers"),
        ([1961.0], SIZE, "not whole numbers"),
        ([True], SIZE, "not whole numbers"),
        (["1961"], SIZE, "not whole numbers"),
        ([[1961]], SIZE, "not whole numbers"),
        ([1961, 1 << 70], SIZE, "not whole numbers"),
        ([(1 << 63) + 5], SIZE, "out of range"),
        ([1962, -1], SIZE, "out of range"),
        ([1961, 1961], SIZE, "cover 3922 of 1961 pixels"),
        ([1960], SIZE, "cover 1960 of 1961 pixels"),
        (b"\xff\xfe", SIZE, "a character COCO has not"),
        (b"", SIZE, "are missing"),
        ("o" * 100_000, SIZE, "end within a number"),
        (TEXTS[0], (53, 36), r"cover 1961 of 1908 pixels \(a mask of 36x53\)"),
    ],
)
def test_one_mask_that_is_none(counts, size, message):
    with pytest.raises(ValueError, match=message):
        read_mask(counts, size)


def test_random_strings_never_pass_for_masks():
    random = np.random.default_rng(5)
    texts = [
        "".join(map(chr, random.integers(40, 120, random.integers(0, 15)))) for _ in range(3000)
    ]
    runs, wrong = parse_runs(texts, SIZE)
    assert len(wrong) == len(texts) and not len(runs.rows)


def test_shared_pixels_are_those_of_pycocotools():
    """The second side may not overlap itself: stripes."""
    stripes = np.arange(SIZE[1]) * 6 // SIZE[1]
    second = [np.tile(stripes == number, (SIZE[0], 1)) for number in range(6)] * 12
    second_frames = np.repeat(np.arange(12), 6)
    runs, others = runs_of_masks(MASKS, SIZE), runs_of_masks(second, SIZE)
    rows, columns, shared = shared_pixels(runs, FRAMES, others, second_frames)
    found = np.zeros((len(MASKS), len(second)), np.int64)
    found[rows, columns] = shared
    for row, mask in enumerate(MASKS):
        for column, other in enumerate(second):
            same = FRAMES[row] == second_frames[column]
            assert found[row, column] == (mask & other).sum() * same
    either = runs.areas[rows] + others.areas[columns] - shared
    theirs = coco.iou(coco_runs(MASKS), coco_runs(second), [0] * len(second))
    np.testing.assert_array_equal(shared / either, theirs[rows, columns])


def test_united_masks_cover_all_of_a_frame():
    whole, frames = united(runs_of_masks(MASKS, SIZE), FRAMES)
    np.testing.assert_array_equal(frames, np.unique(FRAMES))
    for row, frame in enumerate(frames):
        wanted = np.any([m for m, f in zip(MASKS, FRAMES, strict=True) if f == frame], axis=0)
        np.testing.assert_array_equal(whole.mask(row), wanted)


def test_overlaps_are_found_within_a_frame_only():
    runs = runs_of_masks(MASKS, SIZE)
    assert overlapping(runs, np.arange(len(MASKS))) == []
    pairs = overlapping(runs, FRAMES)
    assert all(FRAMES[a] == FRAMES[b] and (MASKS[a] & MASKS[b]).any() for a, b in pairs)
    for frame in np.unique(FRAMES):
        here = np.flatnonzero(frame == FRAMES)
        covered = sum(MASKS[row].astype(int) for row in here)
        assert (covered.max() > 1) == any(FRAMES[a] == frame for a, _ in pairs)


def test_nothing_is_fine():
    runs, _ = parse_runs([], SIZE)
    none = np.empty(0, np.int64)
    assert runs.boxes().shape == (0, 4)
    assert len(united(runs, none)[0]) == 0
    assert overlapping(runs, none) == []
    assert all(len(part) == 0 for part in shared_pixels(runs, none, runs, none))
