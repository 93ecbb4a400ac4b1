"""Votes along the picture's edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from random_scenes import random_scene

from vision_mem.models.segmenters.embedded.networks import follow_edges
from vision_mem.models.segmenters.embedded.windows import Window
from vision_mem.synthetic.clips import SyntheticClip

SIDE, TOKENS = 256, 32


def coarse(mask):
    """What perfect votes at a stride of 8 would be."""
    return cv2.resize(mask.astype(np.float32), (TOKENS, TOKENS), interpolation=cv2.INTER_AREA)


def iou(one, two):
    return np.count_nonzero(one & two) / np.count_nonzero(one | two)


def disc(radius=61.3, at=(120.2, 133.7)):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns - at[0], rows - at[1]) < radius


def painted(mask, inside=(200, 60, 40), outside=(40, 90, 160), noise=4.0):
    image = np.where(mask[..., None], inside, outside)
    image = image + np.random.default_rng(0).normal(0, noise, (SIDE, SIDE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def test_votes_that_are_off_come_to_the_edge():
    """Shifted by half a token, they find the edge of the picture again."""
    mask = disc()
    votes = coarse(np.roll(mask, (4, 4), axis=(0, 1)))
    plain = follow_edges(votes, painted(mask), radius=0, smoothness=1e-4) > 0.5
    guided = follow_edges(votes, painted(mask), radius=4, smoothness=1e-4) > 0.5
    assert iou(guided, mask) > iou(plain, mask) + 0.02
    assert iou(guided, mask) > 0.96


def test_no_edge_no_change():
    """On a flat picture the votes are only blurred, wherever the colours lie."""
    votes = coarse(disc())
    for value in (0, 97, 255):
        picture = np.full((SIDE, SIDE, 3), value, np.uint8)
        said = follow_edges(votes, picture, radius=4, smoothness=1e-4)
        assert np.isfinite(said).all()
        assert iou(said > 0.5, disc()) > 0.95


@pytest.mark.parametrize("contrast", [0.02, 0.3, 1.0])
def test_grey_pictures_are_pictures_too(contrast):
    """Three equal channels: their covariance has two eigenvalues of nearly nothing."""
    mask = disc()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    grey = 128 + 127 * contrast * np.where(mask, np.sin(rows / 3), -np.cos(columns / 7))
    picture = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    votes = coarse(mask)
    plain = follow_edges(votes, picture, radius=0, smoothness=3e-5)
    for smoothness in (1e-6, 3e-5):
        said = follow_edges(votes, picture, radius=4, smoothness=smoothness)
        assert np.isfinite(said).all()
        assert np.abs(said - plain).mean() < 0.05


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_one_opinion_stays_one(value):
    """Noise in the picture must not become an outline."""
    votes = np.full((TOKENS, TOKENS), value, np.float32)
    said = follow_edges(votes, painted(disc(), noise=30), radius=4, smoothness=1e-4)
    assert said.dtype == np.float32 and said.shape == (SIDE, SIDE)
    np.testing.assert_allclose(said, value, atol=1e-3)


def test_shares_stay_shares():
    votes = np.random.default_rng(1).random((TOKENS, TOKENS)).astype(np.float32)
    said = follow_edges(votes, painted(disc()), radius=2, smoothness=1e-5)
    assert said.min() >= 0 and said.max() <= 1


def test_helps_on_photographs():
    """Coarse votes a quarter token off, in the windows of generated clips, on the mean."""
    gains = []
    for seed in range(12):
        rendered = SyntheticClip(random_scene(seed)).render(0)
        x1, y1, x2, y2 = rendered.box
        window = Window.around(np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1]), 2.2)
        picture = window.crop(rendered.image, SIDE)
        mask = window.crop(rendered.mask.astype(np.uint8) * 255, SIDE) > 127
        votes = coarse(np.roll(mask, (2, -2), axis=(0, 1)))
        plain, guided = (iou(follow_edges(votes, picture, r, 1e-4) > 0.5, mask) for r in (0, 4))
        gains.append(guided - plain)
    assert np.mean(gains) > 0.01, gains
