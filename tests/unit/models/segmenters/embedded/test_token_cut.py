"""Cutting an object out of tokens, and what clicks mean."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.models.segmenters.embedded.token_cut import (
    ClickReading,
    TokenCutConfig,
    cut_tokens,
    overlaps,
    read_click,
    similarities,
    tokens_in,
    weigh_readings,
)
from vision_mem.models.segmenters.embedded.windows import Window

SIDE = 32
CONFIG = TokenCutConfig()


def planted(*regions):
    """Tokens ``(N, 24)`` of a ground and of things on it, with some noise."""
    rng = np.random.default_rng(0)
    kinds = np.zeros((SIDE, SIDE), int)
    for number, (x1, y1, x2, y2) in enumerate(regions, start=1):
        kinds[y1:y2, x1:x2] = number
    looks = rng.normal(size=(len(regions) + 1, 24))
    tokens = looks[kinds] + 0.3 * rng.normal(size=(SIDE, SIDE, 24))
    tokens = tokens.reshape(-1, 24).astype(np.float32)
    return tokens / np.linalg.norm(tokens, axis=1, keepdims=True), kinds


def region(x1, y1, x2, y2):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def iou(one, two):
    return np.count_nonzero(one & two) / np.count_nonzero(one | two)


EVERYTHING = np.ones((SIDE, SIDE), bool)


def test_what_the_surroundings_cannot_explain():
    tokens, kinds = planted((12, 10, 20, 22))
    found = cut_tokens(similarities(tokens), region(9, 8, 23, 24), EVERYTHING, CONFIG)
    assert found is not None
    assert iou(found.share > 0.5, kinds == 1) > 0.95
    assert not found.share[~region(9, 8, 23, 24)].any()


@pytest.mark.parametrize(
    ("inside", "known"),
    [
        (EVERYTHING, EVERYTHING),  # the box is the picture
        (region(10, 10, 12, 12), EVERYTHING),  # a few tokens
        (region(8, 8, 24, 24), region(8, 8, 24, 24)),  # nothing around it is in the picture
    ],
)
def test_nothing_to_compare_with(inside, known):
    tokens, _ = planted((12, 10, 20, 22))
    assert cut_tokens(similarities(tokens), inside, known, CONFIG) is None


def test_clicks_are_obeyed():
    tokens, kinds = planted((8, 8, 16, 24), (16, 8, 24, 24))
    clicked = np.zeros((SIDE, SIDE), np.int8)
    clicked[15:18, 18:21] = -1
    clicked[3, 3] = 1
    box = region(2, 2, 28, 28)
    found = cut_tokens(similarities(tokens), box, EVERYTHING, CONFIG, clicked)
    assert found is not None
    assert not (found.share[clicked < 0] > 0).any() and found.share[3, 3] == 1
    # What looks like "not this" is not the object either.
    assert (found.share[kinds == 2] < 0.5).mean() > 0.9 < (found.share[kinds == 1] > 0.5).mean()


def test_a_correction_starts_from_what_was_there():
    tokens, kinds = planted((8, 8, 16, 24), (16, 8, 24, 24))
    alike, box = similarities(tokens), region(4, 4, 28, 28)
    found = cut_tokens(alike, box, EVERYTHING, CONFIG, before=kinds == 1)
    assert found is not None and iou(found.share > 0.5, kinds == 1) > 0.9


def test_tokens_of_a_window_that_are_in_a_box():
    window = Window(-16, 0, 64)  # two pixels a token
    inside = tokens_in(window, np.array([0, 10, 20, 14]), SIDE)
    assert np.array_equal(np.nonzero(inside.any(axis=0))[0], np.arange(8, 18))
    assert np.array_equal(np.nonzero(inside.any(axis=1))[0], [5, 6])


def test_readings_of_a_click_hold_it():
    tokens, kinds = planted((12, 10, 20, 22))
    clicked = np.zeros((SIDE, SIDE), np.int8)
    clicked[15, 15] = 1
    window = Window(0, 0, 320)
    box = np.array([80.0, 70, 230, 240])
    made = read_click(similarities(tokens), window, box, (320, 320), clicked, CONFIG)
    assert made and all(one.share[15, 15] > 0.5 for one in made)
    assert iou(made[-1].share > 0.5, kinds == 1) > 0.9
    assert all(one.evidence.shape == (10,) for one in made)
    x1, y1, x2, y2 = made[0].box
    assert x1 < 120 < 200 < x2 and y1 < 100 < 220 < y2


def reading(share, evidence=(0.3, 0, 0, 0.5, 0.9, 0.4, 0.8, 0.1, 0, 0)):
    return ClickReading(
        Window(0, 0, 64), np.zeros(4), share.astype(np.float32), np.array(evidence), 1.0
    )


def test_readings_vote_on_what_was_meant():
    alike = [
        reading(region(8, 8, 20, 20)),
        reading(region(8, 8, 20, 21)),
        reading(region(0, 0, 6, 6)),
    ]
    own, agreed = weigh_readings(alike, (64, 64), CONFIG)
    assert own.std() < 1e-9
    assert agreed.argmin() == 2
    shared = overlaps(alike, (64, 64))
    assert np.allclose(np.diag(shared), 1) and shared[0, 1] > 0.85 and shared[0, 2] == 0
