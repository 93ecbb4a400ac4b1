"""Labels in a crowd: none lies on another, and who is small has a number only."""

from __future__ import annotations

import numpy as np
import pytest
from media_samples import picture, result, seen

from vision_mem.visualization.draw import Painter, label_places

SIZE = (240, 320)


def crowd(count, side, step):
    per_row = 300 // step
    return [
        seen(n + 1, (x, y, x + side, y + 2 * side), SIZE, name=f"pedestrian-{n + 1}")
        for n in range(count)
        for y, x in [divmod(n, per_row)]
        for x, y in [(4 + x * step, 24 + y * 2 * step)]
    ]


def overlap(places, sizes):
    tags = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(places, sizes, strict=True)]
    return any(
        min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
        for n, a in enumerate(tags)
        for b in tags[:n]
    )


@pytest.mark.parametrize(
    ("count", "side", "step", "most_names", "least"),
    [(2, 20, 100, 2, 2), (12, 10, 50, 0, 12), (60, 8, 10, 0, 10)],
    ids=["a few keep their names", "small ones have numbers", "a throng: as many as fit"],
)
def test_labels_that_fit(count, side, step, most_names, least):
    from vision_mem.visualization.draw import _tag_size

    canvas = picture(1, *SIZE)
    found = label_places(canvas, crowd(count, side, step), scores=False)
    assert least <= len(found) <= count
    assert sum("pedestrian" in text for text, _, _ in found) <= most_names or count == most_names
    assert not overlap(
        [at for _, at, _ in found],
        [_tag_size(canvas, text, small=count > 4) for text, _, _ in found],
    )


def test_outlines_of_neighbours_stay_apart():
    left, right = seen(1, (40, 40, 80, 160), SIZE), seen(2, (80, 40, 120, 160), SIZE)
    plain = {"labels": False, "counter": False, "boxes": False}
    both = Painter(**plain).draw(picture(1, *SIZE), result(0, left, right, size=SIZE))
    alone = [
        Painter(**plain).draw(picture(1, *SIZE), result(0, one, size=SIZE)) for one in (left, right)
    ]
    np.testing.assert_array_equal(both[:, :80], alone[0][:, :80])
    np.testing.assert_array_equal(both[:, 80:], alone[1][:, 80:])
