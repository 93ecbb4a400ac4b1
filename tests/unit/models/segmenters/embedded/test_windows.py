"""The arithmetic of the embedded segmenter: windows, votes, parts, and the search."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vision_mem.models.segmenters.embedded.candidates import without_double
from vision_mem.models.segmenters.embedded.label_propagation import (
    FEATURES,
    VotingMemory,
    find_again,
    nearness,
    similarity,
    unit_tokens,
    vote,
)
from vision_mem.models.segmenters.embedded.windows import (
    PropagationConfig,
    Window,
    keep_parts,
    likely_place,
    to_logit,
)

# Windows on a video of 200 x 120: inside, over each edge, and around everything.
WINDOWS = {
    "inside": Window(40, 20, 64),
    "left top": Window(-30, -25, 90),
    "right bottom": Window(130, 60, 100),
    "all": Window(-40, -60, 260),
}


def disc(x, y, radius, size=(120, 200)):
    """Anti-aliased; ``(x, y)`` in pixel centres."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1).astype(np.float32)


def centroid(mask):
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    return np.array([(columns * mask).sum(), (rows * mask).sum()]) / mask.sum()


class TestWindow:
    def test_follows_size_and_place(self):
        square = Window.around(np.array([100.0, 60.0]), np.array([40.0, 40.0]), 2.0)
        assert square == Window(60, 20, 80)
        # Long objects are held whole, tiny ones get a window that can be resampled.
        assert Window.around(np.zeros(2), np.array([200.0, 8.0]), 2.0).side == 280
        assert Window.around(np.zeros(2), np.array([1.0, 1.0]), 2.0).side == 16

    def test_crop_inside_is_a_plain_cut(self):
        image = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
        np.testing.assert_array_equal(Window(40, 20, 64).crop(image, 64), image[20:84, 40:104])

    def test_crop_repeats_edges(self):
        image = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
        cut = Window(-10, -6, 64).crop(image, 64)
        np.testing.assert_array_equal(cut[6:, 10:], image[:58, :54])
        np.testing.assert_array_equal(cut[:6, 10:], np.repeat(image[:1, :54], 6, axis=0))
        np.testing.assert_array_equal(cut[6:, :10], np.repeat(image[:58, :1], 10, axis=1))

    @pytest.mark.parametrize("window", [Window(500, 20, 64), Window(-64, 0, 64), Window(0, 120, 9)])
    def test_outside_is_nothing(self, window):
        image = np.full((120, 200, 3), 200, np.uint8)
        cut = window.crop(image, 32)
        assert cut.shape == (32, 32, 3) and not cut.any()
        grid = window.onto_grid(
            np.ones((8, 8), np.float32), np.zeros((120, 200), np.float32), 1.0, -6.9
        )
        assert (grid == np.float32(-6.9)).all()
        assert not window.from_grid(np.ones((120, 200), np.float32), 8, 1.0).any()

    @pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
    @pytest.mark.parametrize("side", [28, 112])
    @pytest.mark.parametrize("scale", [1.0, 0.5])
    def test_masks_come_back_where_they_were(self, window, side, scale):
        """Grid to window and back: sub-pixel places survive, in all four corners."""
        size = (round(120 * scale), round(200 * scale))
        middle = np.clip(
            (window.x + window.side / 2, window.y + window.side / 2), (26, 26), (173, 93)
        )
        # Video pixel corners to grid pixel centres.
        x, y = (middle + (0.3, -0.2)) * scale - 0.5
        there = disc(x, y, 14 * scale, size)
        small = window.from_grid(there, side, scale)
        back = window.onto_grid(small, np.ones(size, np.float32), scale, 0.0)
        assert small.shape == (side, side) and back.shape == size
        shift = np.abs(centroid(back) - centroid(there))
        assert (shift < 0.3).all(), shift
        assert back.sum() == pytest.approx(there.sum(), rel=0.05)

    @pytest.mark.parametrize("side", [28, 112])
    def test_mask_and_picture_are_sampled_at_the_same_places(self, side):
        """What crop shows and what from_grid says must lie on each other."""
        window, there = Window(23, 11, 96), disc(70.3, 58.1, 17)
        shown = window.crop((there * 255).astype(np.uint8), side).astype(np.float32) / 255
        said = window.from_grid(there, side, 1.0)
        pixel = side / window.side
        assert (np.abs(centroid(shown) - centroid(said)) < 0.3 * max(pixel, 0.3)).all()

    def test_thin_parts_are_not_lost(self):
        grid = np.zeros((120, 200), np.float32)
        grid[:, 101] = 1
        sampled = Window(0, 0, 120).from_grid(grid, 12, 1.0)
        assert sampled.sum() == pytest.approx(1.2, rel=0.02)  # a tenth of 12 samples
        assert (sampled.max(axis=1) > 0.05).all()


def units(rng, count, dtype=torch.float32):
    raw = torch.from_numpy(rng.normal(size=(count, FEATURES)).astype(np.float32))
    return F.normalize(raw, dim=1).to(dtype)


class TestTokens:
    def test_unit_length_and_order(self):
        rng = np.random.default_rng(1)
        maps = {
            8: torch.from_numpy(rng.normal(size=(1, 40, 4, 6)).astype("f4")),
            16: torch.from_numpy(rng.normal(size=(1, 112, 2, 3)).astype("f4")),
        }
        tokens = unit_tokens(maps)
        assert tokens.shape == (24, FEATURES) and tokens.is_contiguous()
        torch.testing.assert_close(tokens.norm(dim=1), torch.ones(24))
        fine = F.normalize(maps[8][0, :, 1, 2], dim=0)  # row 1, column 2 is token 8
        torch.testing.assert_close(F.normalize(tokens[8, :40], dim=0), fine)

    def test_flat_features_stay_finite(self):
        tokens = unit_tokens({8: torch.zeros(1, 40, 2, 2), 16: torch.zeros(1, 112, 1, 1)})
        assert torch.isfinite(tokens).all()

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
    def test_similarity_is_its_formula(self, dtype, tolerance):
        """Half precision may be off by a share, not by the size of what is near 1."""
        rng = np.random.default_rng(2)
        query = units(rng, 9)
        keys = F.normalize(query[:7] + 0.02 * units(rng, 7), dim=1)
        plain = torch.exp((query @ keys.T - 1) / 0.04)
        got = similarity(query.to(dtype), keys.to(dtype), 0.04)
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), plain, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-3)]
    )
    @pytest.mark.parametrize("tokens", [2, 24, 32])
    def test_distance_rides_along(self, dtype, tolerance, tokens):
        """Weight times squared distance in tokens of a 24-token window, and a constant."""
        query, keys = nearness(tokens, 0.05, 25.0, dtype, torch.device("cpu"))
        place = np.stack(np.mgrid[:tokens, :tokens], axis=-1).reshape(-1, 2) * 24 / tokens
        wanted = -0.05 * ((place[:, None] - place[None]) ** 2).sum(axis=-1) - 25.0
        got = (query.double() @ keys.double().T).numpy()
        np.testing.assert_allclose(got, wanted, atol=tolerance)


class TestVote:
    CONFIG = PropagationConfig(window=32, temperature=0.5, locality=0.0, evidence=0.0)

    def test_one_entry_by_hand(self):
        """16 tokens, two kinds: each asks its own kind what it was."""
        tokens = torch.zeros(16, FEATURES)
        tokens[:8, 0] = tokens[8:, 1] = 1
        mask = torch.zeros(16)
        mask[:8] = 1
        memory = [VotingMemory(tokens, mask, 1.0, True)]
        both, prompted, alike, exact = vote(tokens, memory, self.CONFIG)
        near, far = 8.0, 8 * np.exp(-1 / 0.5)
        wanted = np.repeat([near, far], 8).reshape(4, 4) / (near + far)
        np.testing.assert_allclose(both, wanted, atol=1e-6)
        np.testing.assert_array_equal(both, prompted)
        np.testing.assert_allclose(alike, np.log(near + far) / 6, atol=1e-6)
        np.testing.assert_array_equal(exact, 1)

    def test_shares_of_two_entries(self):
        """A prompt that says yes with 0.6 and a recent frame that says no with 0.4."""
        tokens = units(np.random.default_rng(3), 16)
        yes = VotingMemory(tokens, torch.ones(16), 0.6, True)
        no = VotingMemory(tokens, torch.zeros(16), 0.4, False)
        both, prompted, *_ = vote(tokens, [yes, no], self.CONFIG)
        np.testing.assert_allclose(both, 0.6, atol=1e-5)
        np.testing.assert_allclose(prompted, 1.0, atol=1e-5)

    def test_evidence_lets_the_better_match_decide(self):
        tokens = torch.zeros(16, FEATURES)
        tokens[:, 0] = 1
        other = torch.zeros(16, FEATURES)
        other[:, 1] = 1
        memory = [
            VotingMemory(tokens, torch.ones(16), 0.5, True),
            VotingMemory(other, torch.zeros(16), 0.5, False),
        ]
        # Evidence of the second is exp(-2) of the first's.
        for power in (0.0, 0.5, 1.0):
            both, *_ = vote(tokens, memory, replace(self.CONFIG, evidence=power))
            np.testing.assert_allclose(both, 1 / (1 + np.exp(-2 * power)), atol=1e-5)

    def test_locality_prefers_the_same_place(self):
        tokens = torch.zeros(16, FEATURES)
        tokens[:, 0] = 1  # all alike: only the place tells them apart
        mask = torch.zeros(16)
        mask[5] = 1
        config = replace(self.CONFIG, locality=0.05, prompt_locality=1.0)
        both, *_ = vote(tokens, [VotingMemory(tokens, mask, 1.0, True)], config)
        assert np.unravel_index(both.argmax(), both.shape) == (1, 1)
        free, *_ = vote(tokens, [VotingMemory(tokens, mask, 1.0, True)], self.CONFIG)
        np.testing.assert_allclose(free, 1 / 16, atol=1e-6)

    def test_nothing_alike_is_no_division_by_zero(self):
        config = PropagationConfig(window=32, temperature=0.001)
        query, far = torch.zeros(16, FEATURES), torch.zeros(16, FEATURES)
        query[:, 0], far[:, 0] = 1, -1
        for said in vote(query, [VotingMemory(far, torch.ones(16), 1.0, True)], config):
            assert np.isfinite(said).all() and (said <= 1).all()


def test_search_finds_a_planted_patch():
    rng = np.random.default_rng(4)
    scene, memory = units(rng, 20 * 30), units(rng, 16)
    mask = torch.zeros(16)
    mask[[5, 6, 9, 10]] = 1
    at = [(12, 21), (12, 22), (13, 21), (13, 22)]
    for token, (row, column) in zip((5, 6, 9, 10), at, strict=True):
        scene[row * 30 + column] = memory[token]
    found = find_again(scene, (20, 30), [VotingMemory(memory, mask, 1.0, True)], 0.04)
    assert found.shape == (20, 30) and found.min() >= 0 and found.max() <= 1.001
    order = np.argsort(found.ravel())[::-1][:4]
    assert {divmod(int(n), 30) for n in order} == set(at)


@pytest.mark.parametrize(
    ("spread", "place"),
    [
        pytest.param(40, (45, 55), id="near: the poorer one nearby"),
        pytest.param(1000, (245, 105), id="long lost: the better one, wherever"),
    ],
)
def test_the_way_to_a_place_counts(spread, place):
    found = np.zeros((20, 30), np.float32)  # of a picture of 300 x 200
    found[5, 4], found[10, 24] = 0.6, 0.9
    at, near = likely_place(found, (200, 300), np.array([10, 10]), np.array([50, 60]), spread)
    np.testing.assert_allclose(at, place)
    away = np.hypot(at[0] - 50, at[1] - 60)
    assert near == pytest.approx(np.exp(-(away**2) / (2 * spread**2)))


def test_a_place_has_the_size_of_the_object():
    """One bright token is less than many good ones; nothing found anywhere is no error."""
    found = np.zeros((20, 30), np.float32)
    found[3, 3] = 0.9
    found[9:14, 19:24] = 0.5
    at, _ = likely_place(found, (200, 300), np.array([50, 50]), np.array([100, 80]), 1000)
    assert np.abs(at - (215, 115)).max() <= 10
    at, near = likely_place(found * 0, (200, 300), np.array([5, 5]), np.array([900, 80]), 0)
    assert np.isfinite(at).all() and 0 <= near <= 1


def test_logits_are_bounded():
    got = to_logit(np.array([0.0, 0.5, 1.0, 0.9], np.float32))
    np.testing.assert_allclose(got, [-6.9068, 0, 6.9068, np.log(9)], atol=1e-3)


def parts(*boxes, side=60):
    """Logits of 3 in boxes (x1, y1, x2, y2), -3 elsewhere."""
    logits = np.full((side, side), -3, np.float32)
    for x1, y1, x2, y2 in boxes:
        logits[y1:y2, x1:x2] = 3
    return logits


OBJECT, TWIN, LIMB = (20, 22, 36, 38), (50, 4, 58, 12), (24, 42, 34, 48)


@pytest.mark.parametrize(
    ("boxes", "prior", "extent", "kept", "alone"),
    [
        pytest.param([OBJECT], OBJECT, 0.2, [OBJECT], [OBJECT], id="one part is not touched"),
        pytest.param([TWIN], OBJECT, 0.2, [TWIN], [TWIN], id="one part far away neither"),
        pytest.param([], OBJECT, 0.2, [], [], id="nothing"),
        pytest.param([OBJECT, TWIN], OBJECT, 0.2, [OBJECT], [OBJECT], id="twin away is dropped"),
        pytest.param([OBJECT, TWIN], TWIN, 0.1, [OBJECT, TWIN], [TWIN], id="the prior decides"),
        pytest.param(
            [OBJECT, LIMB], OBJECT, 0.3, [OBJECT, LIMB], [OBJECT], id="part in the extent stays"
        ),
        pytest.param([OBJECT, LIMB], OBJECT, 0.1, [OBJECT], [OBJECT], id="outside it goes"),
        pytest.param([OBJECT, TWIN], None, 0.2, [OBJECT], [OBJECT], id="no prior: the middle one"),
    ],
)
def test_parts(boxes, prior, extent, kept, alone):
    expected = None if prior is None else (parts(prior) > 0).astype(np.float32)
    got = keep_parts(parts(*boxes), expected, extent)
    for made, wanted in zip(got, (kept, alone), strict=True):
        np.testing.assert_array_equal(made > 0, parts(*wanted) > 0)
        dropped = (parts(*boxes) > 0) & ~(parts(*wanted) > 0)
        assert (made[dropped] == -2).all()


def test_parts_do_not_change_their_input():
    logits = parts(OBJECT, TWIN)
    before = logits.copy()
    keep_parts(logits, (parts(OBJECT) > 0).astype(np.float32), 0.2)
    np.testing.assert_array_equal(logits, before)
    assert cv2.connectedComponents((logits > 0).astype(np.uint8))[0] == 3


@pytest.mark.parametrize(
    ("usual", "kept"),
    [(400, 400), (900, 800)],  # as large as one of them; as two: it comes out from behind something
)
def test_a_double_that_touches_is_left_out(usual, kept):
    both, one = np.full((64, 64), -5, np.float32), np.zeros((64, 64), np.float32)
    both[20:40, 10:50] = 5
    one[20:40, 10:30] = 1
    assert (without_double(both, one, usual) > 0).sum() == kept
    assert (both > 0).sum() == 800
