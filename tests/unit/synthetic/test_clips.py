"""Generated clips: the same each time, and their truth is true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_scenes import Difficulty, random_scene

from vision_mem.errors import InputError
from vision_mem.geometry.masks import mask_to_box
from vision_mem.synthetic.clips import (
    Actor,
    ActorPose,
    ClipScene,
    SyntheticClip,
    cutout,
    cutout_names,
    demo_clip,
)

PLAIN = ClipScene(
    name="plain",
    background="gravel",
    target=Actor("cup", lambda t: ActorPose(x=60 + 4 * t, y=50, height=40)),
    frames=6,
    width=160,
    height=96,
    noise=0.0,
)


@pytest.mark.parametrize("name", cutout_names())
def test_cutouts_fill_their_box(name):
    picture = cutout(name)
    solid = picture[..., 3] > 127
    assert picture.dtype == np.uint8 and picture.shape[2] == 4
    assert 0.2 < solid.mean() < 1
    for edge in (solid[0], solid[-1], solid[:, 0], solid[:, -1]):
        assert edge.any()


def test_unknown_cutout():
    with pytest.raises(InputError, match="no cut-out named 'dragon'; there are astronaut"):
        cutout("dragon")


def test_mask_is_where_the_picture_differs():
    """Nothing occludes: without the target only the pixels of its mask change."""
    away = replace(PLAIN, target=Actor("cup", lambda t: ActorPose(x=-500, y=-500, height=40)))
    for t in (0, 5):
        shown, bare = SyntheticClip(PLAIN).render(t), SyntheticClip(away).render(t)
        assert not bare.mask.any() and not bare.box.any()
        changed = (np.abs(shown.image.astype(int) - bare.image) > 12).any(axis=2)
        # Half-covered pixels at the edge change too, and some of the cup is as grey as gravel.
        assert (changed & ~shown.mask).sum() < 0.15 * shown.mask.sum()
        assert (changed & shown.mask).sum() > 0.7 * shown.mask.sum()
        np.testing.assert_array_equal(shown.box, mask_to_box(shown.mask))


def test_target_goes_where_its_path_says():
    for t, rendered in enumerate(SyntheticClip(PLAIN)):
        x1, y1, x2, y2 = rendered.box
        assert (x1 + x2) / 2 == pytest.approx(60 + 4 * t, abs=1.5)
        assert (y1 + y2) / 2 == pytest.approx(50, abs=1.5)
        assert y2 - y1 == pytest.approx(40, abs=2)


def test_pillars_cover_the_target():
    hidden = replace(PLAIN, occluders=(("brick", 30.0, 60.0),))
    rendered = SyntheticClip(hidden).render(0)
    assert not rendered.mask[:, 30:90].any()
    assert rendered.mask.sum() < 0.2 * SyntheticClip(PLAIN).render(0).mask.sum()


def test_a_part_is_inside_and_moves_along():
    """The picture is that of the whole; the truth is an ellipse in it."""
    part = replace(PLAIN, target=replace(PLAIN.target, part=(0.5, 0.4, 0.25, 0.3)))
    for t in (0, 5):
        whole, some = SyntheticClip(PLAIN).render(t), SyntheticClip(part).render(t)
        np.testing.assert_array_equal(whole.image, some.image)
        assert some.mask.any() and not (some.mask & ~whole.mask).any()
        x1, y1, x2, y2 = some.box
        left, top, right, bottom = whole.box
        assert (x2 - x1) / (right - left) == pytest.approx(0.5, abs=0.08)
        assert (y2 - y1) / (bottom - top) == pytest.approx(0.6, abs=0.08)


def test_compression_spoils_the_picture_not_the_truth():
    plain, poor = (SyntheticClip(replace(PLAIN, quality=q)).render(2) for q in (None, 20))
    off = np.abs(plain.image.astype(int) - poor.image).mean()
    assert 1 < off < 20
    np.testing.assert_array_equal(plain.mask, poor.mask)


def test_camouflage_brings_colours_closer():
    """To those the target stands on, on the first frame."""
    gaps = []
    for camouflage in (0, 1):
        hard = Difficulty(camouflage=camouflage, twin=0, pillar=0, fence=0, blur=0, compression=0)
        scene = random_scene(2, hard)
        away = replace(scene.target, path=lambda t: ActorPose(-1e4, -1e4, 1))
        shown = SyntheticClip(scene).render(0)
        behind = SyntheticClip(replace(scene, target=away)).render(0).image[shown.mask]
        gaps.append(np.abs(shown.image[shown.mask].mean(0) - behind.mean(0)).max())
    assert gaps[1] < 0.6 * gaps[0]


@pytest.mark.parametrize("seed", [0, 3, 11])
def test_same_seed_same_frames(seed):
    one, two = (SyntheticClip(random_scene(seed, frames=12)) for _ in range(2))
    assert one.info == two.info and len(one) == 12
    for t in (0, 11):
        np.testing.assert_array_equal(one.render(t).image, two.render(t).image)
        np.testing.assert_array_equal(one.render(t).mask, one.render(t).mask)
    other = SyntheticClip(random_scene(seed + 100, frames=12)).render(0).image
    assert other.shape != one.render(0).image.shape or (other != one.render(0).image).any()


@pytest.mark.parametrize("seed", range(8))
def test_scenes_begin_in_full_view(seed):
    scene = random_scene(seed)
    rendered = SyntheticClip(scene).render(0)
    assert rendered.image.shape == (scene.height, scene.width, 3)
    clear = SyntheticClip(replace(scene, occluders=())).render(0)
    assert rendered.mask.sum() >= 0.8 * clear.mask.sum() > 0
    np.testing.assert_array_equal(rendered.box, mask_to_box(rendered.mask))


def test_difficulties_can_be_turned_off():
    calm = Difficulty(twin=0, pillar=0, fence=0, blur=0)
    for seed in range(12):
        scene = random_scene(seed, calm)
        assert not scene.others and not scene.occluders and not scene.blur
    assert all(random_scene(seed, replace(calm, twin=1)).others for seed in range(4))


def test_demo_target_hides_and_returns():
    clip = demo_clip()
    assert (clip.info.width, clip.info.height, clip.info.frame_count) == (640, 360, 180)
    areas = np.array([clip.render(t).mask.sum() for t in range(50, 110, 2)])
    gone = np.flatnonzero(areas == 0)
    assert len(gone) >= 4, "the cup is never fully hidden"
    assert (np.diff(gone) == 1).all(), "hidden once"
    assert areas[0] > 2000 and areas[-1] > 2000
