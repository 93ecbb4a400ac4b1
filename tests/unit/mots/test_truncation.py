"""Objects cut by the picture's edge, and parts of hidden ones: who goes with whom."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.mots.association import AssociationConfig, match_parts
from vision_mem.mots.truncation import at_edge, edge_fit

SIZE = (100, 200)


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ((50, 40, 90, 60), (False, False, False, False)),
        ((0, 40, 9, 60), (True, False, False, False)),
        ((2, 1, 9, 60), (True, True, False, False)),
        ((150, 40, 198, 100), (False, False, True, True)),
        ((-5, 40, 9, 60), (True, False, False, False)),
    ],
)
def test_at_edge(box, sides):
    assert at_edge([box], SIZE).tolist() == [list(sides)]


@pytest.mark.parametrize(
    ("why", "first", "second", "slivers", "fit"),
    [
        ("the same", (0, 20, 10, 60), (0, 20, 10, 60), False, 1.0),
        ("10 of 40 further in", (0, 20, 20, 60), (0, 20, 10, 60), False, 0.5),
        ("a sliver, 10 of 40 further in", (0, 20, 20, 60), (0, 20, 10, 60), True, 0.75),
        ("half as long", (0, 20, 10, 60), (0, 40, 10, 60), False, 0.5),
        ("a sliver half as long", (0, 20, 10, 60), (0, 40, 10, 60), True, 1.0),
        ("too far in", (0, 20, 60, 60), (0, 20, 10, 60), False, 0.0),
        ("another side", (0, 20, 10, 60), (190, 20, 200, 60), False, 0.0),
        ("not at the side", (5, 20, 15, 60), (0, 20, 10, 60), False, 0.0),
        ("another height", (0, 0, 10, 20), (0, 60, 10, 80), True, 0.0),
        ("below", (50, 80, 90, 100), (50, 90, 90, 100), False, 0.5),
    ],
)
def test_edge_fit(why, first, second, slivers, fit):
    assert edge_fit([first], [second], SIZE, slivers=slivers)[0, 0] == pytest.approx(fit), why


def test_edge_fit_of_nobody():
    assert edge_fit(np.zeros((0, 4)), [(0, 0, 1, 1)], SIZE).shape == (0, 1)


@pytest.mark.parametrize(
    ("why", "boxes", "allowed", "pairs"),
    [
        ("a part inside", [(12, 12, 20, 20)], [[True, True]], {0: 0}),
        ("most of it outside", [(0, 12, 15, 20)], [[True, True]], {}),
        ("of another class", [(12, 12, 20, 20)], [[False, True]], {}),
        ("one part each", [(12, 12, 20, 20), (14, 14, 20, 20)], [[True, False]] * 2, {0: 0}),
    ],
)
def test_parts(why, boxes, allowed, pairs):
    paths = [(10, 10, 50, 50), (100, 10, 140, 50)]
    config = AssociationConfig()
    assert match_parts(config, boxes, paths, np.array(allowed)) == pairs, why
    off = AssociationConfig(part_share=0)
    assert match_parts(off, boxes, paths, np.array(allowed)) == {}
