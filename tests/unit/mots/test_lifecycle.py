"""States of a track, existence, re-prompts, the memory gate, forgetting, recognition: tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError
from vision_mem.mots.config import EvictionConfig
from vision_mem.mots.eviction import Holder, Ledger, forgetting_order, withheld
from vision_mem.mots.gallery import (
    GalleryConfig,
    Known,
    alike,
    blended,
    looks_of,
    plausible,
    recognise,
    remembered,
)
from vision_mem.mots.lifecycle import (
    CONFIRMED,
    LOST,
    REMOVED,
    TENTATIVE,
    WEAK,
    ExistenceConfig,
    Life,
    LifecycleConfig,
    RepromptConfig,
    TrackEvidence,
    advance,
    after_hit,
    after_miss,
    event_kind,
    is_due,
    newborn,
    should_reprompt,
    survived,
)
from vision_mem.mots.regions import region_of, region_of_box

C, E, G = LifecycleConfig(), ExistenceConfig(), GalleryConfig()
HIT = TrackEvidence(0.0, score=0.9, area=100, matched=True, detector_score=0.9)
MISS = TrackEvidence(0.0, score=0.9, area=100)
SILENT = replace(MISS, answered=False)
EMPTY = TrackEvidence(0.0)
POOR = replace(HIT, score=0.5)
DEAD = replace(MISS, score=0.05)
STILL = replace(MISS, absence_counts=False)
UNSEEN = replace(EMPTY, looked=False)
TWIN = replace(MISS, covered=0.9)


def live(state, *sightings, config=C, **fields):
    life = Life(state=state, **fields)
    states = []
    for n, seen in enumerate(sightings):
        life = advance(config, E, life, replace(seen, time_s=n / 10))
        states.append(life.state)
        if life.state == REMOVED:
            break
    return states, life


T, K, W, L, R = TENTATIVE, CONFIRMED, WEAK, LOST, REMOVED


@pytest.mark.parametrize(
    ("why", "start", "seen", "states"),
    [
        ("three hits confirm, the birth is one", T, [HIT, HIT], [T, K]),
        ("three of five", T, [MISS, HIT, MISS, HIT], [T, T, T, K]),
        ("too few are left to come", T, [MISS, MISS, MISS], [T, T, R]),
        ("no answer is no miss", T, [SILENT] * 9 + [HIT, HIT], [T] * 10 + [K]),
        ("a standing ghost dies too", T, [STILL] * 3, [T, T, R]),
        ("a poor frame makes it weak", K, [POOR], [W]),
        ("two good ones end it", W, [HIT, HIT], [W, K]),
        ("one is not enough", W, [HIT, POOR, HIT], [W, W, W]),
        ("a correction ends it", W, [replace(POOR, prompted=True)], [K]),
        ("no mask is lost at once", K, [EMPTY], [L]),
        ("a score near nothing is lost", W, [DEAD], [L]),
        ("it comes back", L, [UNSEEN, UNSEEN, HIT], [L, L, K]),
        ("not with a poor mask", L, [POOR], [L]),
        ("nor where an older track is", L, [TWIN], [L]),
        ("but by a correction", L, [replace(POOR, prompted=True)], [K]),
        ("the younger of two goes", K, [TWIN] * 3, [K, K, L]),
        ("a tentative one for good", T, [replace(TWIN, answered=False)] * 3, [T, T, R]),
        ("unless both are detected", K, [replace(TWIN, apart=True)] * 4, [K] * 4),
        (
            "doubtful for long without a detection",
            W,
            [replace(STILL, score=0.4)] * 5,
            [W] * 4 + [L],
        ),
        ("a detection helps", W, [replace(STILL, score=0.4), POOR] * 5, [W] * 10),
        ("a frame apart starts anew", K, [TWIN, TWIN, HIT, TWIN, TWIN], [K] * 5),
    ],
)
def test_states(why, start, seen, states):
    assert live(start, *seen)[0] == states, why


def test_misses_in_a_row_lose_a_track_but_only_when_absence_counts():
    assert live(K, *[MISS] * 30)[0] == [K] * 29 + [L]
    assert live(K, *[MISS] * 29, HIT, *[MISS] * 29)[0] == [K] * 59
    assert live(K, *[STILL] * 90)[0] == [K] * 90
    assert live(K, *[SILENT] * 90)[0] == [K] * 90
    off = LifecycleConfig(max_misses=0)
    assert live(K, *[MISS] * 90, config=off)[0] == [K] * 90
    # Then a good mask alone does not bring it back; a detection does.
    assert live(L, MISS, HIT, misses=30)[0] == [L, K]


def test_lost_tracks_are_removed_after_seconds():
    config = LifecycleConfig(max_lost_s=0.45)
    states, life = live(K, *[EMPTY] * 9, config=config)
    assert states == [L] * 5 + [R]
    assert live(K, *[EMPTY] * 90, config=replace(config, max_lost_s=0))[0] == [L] * 90
    assert life.frames == 6


def test_lost_tracks_are_looked_for_now_and_then():
    life, due = Life(state=LOST, lost_frames=1), []
    for _ in range(9):
        due.append(is_due(C, life))
        life = advance(C, E, life, EMPTY if due[-1] else UNSEEN)
    assert due == [False, False, True] * 3
    assert is_due(C, Life(state=WEAK))


def test_rules_can_be_switched_off():
    assert newborn(LifecycleConfig(validation="none"), E, HIT).state == CONFIRMED
    assert live(K, EMPTY, DEAD, config=LifecycleConfig(lose=False))[0] == [W, W]
    assert live(K, *[TWIN] * 9, config=LifecycleConfig(duplicate_share=1))[0] == [K] * 9


def test_a_score_that_recovers_forgives_unlike_the_official_count():
    life = live(K, *[DEAD, HIT, HIT] * 20)[1]
    assert life.state == CONFIRMED


def test_existence_by_hand():
    assert survived(E, 0.5) == pytest.approx(0.495)
    ratio = 0.9 * 0.8 / (0.1 * 0.2 + 1e-6)
    assert after_hit(E, 0.495, 0.8) == pytest.approx(0.495 * ratio / (0.505 + 0.495 * ratio))
    assert after_miss(E, 0.5, 1.0) == pytest.approx(0.5 * 0.1 / (1 - 0.45))
    assert after_miss(E, 0.5, 0.0) == pytest.approx(0.5)  # what is hidden cannot be missed


def test_existence_confirms_and_deletes():
    config = LifecycleConfig(validation="existence")
    assert newborn(config, E, HIT).existence == pytest.approx(0.45)
    assert live(T, HIT, config=config, existence=0.45)[0] == [K]
    assert live(T, *[MISS] * 3, config=config, existence=0.45)[0] == [T, R]
    hidden = replace(MISS, visible=0.0)
    assert live(T, *[hidden] * 5, config=config, existence=0.45)[0] == [T] * 5
    assert live(K, *[STILL] * 50, config=config, existence=0.9)[0] == [K] * 50


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (T, K, "confirmed"),
        (K, W, "weak"),
        (W, K, "confirmed"),
        (K, L, "lost"),
        (L, K, "found"),
        (L, R, "removed"),
        (K, K, None),
    ],
)
def test_events(before, after, kind):
    assert event_kind(before, after) == kind


@pytest.mark.parametrize(
    ("why", "state", "rest", "facts", "asked"),
    [
        ("weak and matched", W, 9, {}, True),
        ("good", K, 9, {"weak_now": False}, False),
        ("good but apart", K, 9, {"weak_now": False, "box_iou": 0.4}, True),
        ("just corrected", W, 4, {}, False),
        ("just corrected and apart", W, 4, {"box_iou": 0.4}, True),
        ("in this very frame", W, 0, {"box_iou": 0.4}, False),
        ("the detector doubts", W, 9, {"detector_score": 0.49}, False),
        ("they hardly overlap", W, 9, {"iou": 0.2}, False),
        ("several objects in one box", W, 9, {"crowded": 0.6}, True),
        ("lost ones may", L, 9, {"iou": 0.2}, True),
        ("never without overlap", L, 9, {"iou": 0.0, "box_iou": 0.0}, False),
        ("nor tentative ones", T, 9, {}, False),
    ],
)
def test_reprompts(why, state, rest, facts, asked):
    facts = {"weak_now": True, "detector_score": 0.9, "iou": 0.5, "box_iou": 0.6} | facts
    life = Life(state=state, since_prompt=rest)
    assert should_reprompt(RepromptConfig(), life, **facts) is asked, why
    assert not should_reprompt(RepromptConfig(enabled=False), life, **facts)
    assert not should_reprompt(RepromptConfig(crowd_share=0.5), life, **{**facts, "crowded": 0.5})


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, None),
        ({"area": 0}, "no mask"),
        ({"score": 0.49}, "score"),
        ({"area": 401}, "factor of 4.0"),
        ({"area": 24}, "factor of 4.2"),
        ({"usual_area": 0.0, "area": 9999}, None),
        ({"covered": 0.51}, "covered"),
    ],
)
def test_the_gate(facts, why):
    facts = {"score": 0.8, "area": 100, "usual_area": 100.0, "covered": 0.0} | facts
    found = withheld(EvictionConfig(), **facts)
    assert found is None if why is None else why in found
    assert withheld(EvictionConfig(gate=False), **facts) is None


def test_forgetting_order():
    holders = [
        Holder(1, K, 0, 0.9),
        Holder(2, L, 3, 0.9),
        Holder(3, W, 0, 0.4),
        Holder(4, L, 8, 0.1),
        Holder(5, T, 0, 0.95),
    ]
    view = [5, 3, 1]
    assert forgetting_order(holders) == [
        ("remove", 4), ("remove", 2), *(("thin", n) for n in view), *(("remove", n) for n in view)
    ]  # fmt: skip


def test_the_ledger_counts_shared_storage_once():
    ledger, shared, own = Ledger(), torch.zeros(100), torch.zeros(10)
    ledger.add([shared, own])
    ledger.add([shared[:50]])
    assert ledger.total == 440
    ledger.drop([shared, own])
    assert ledger.total == 400  # somebody still holds a view of it
    ledger.drop([shared[:50]])
    assert ledger.total == 0


def picture(colour):
    image = np.full((40, 60, 3), 90, np.uint8)
    image[10:30, 20:40] = colour
    return image


WHERE = region_of_box(np.array([20, 10, 40, 30], np.float32), (40, 60))
RED, DARK_RED, BLUE = ((200, 30, 30), (190, 35, 25), (30, 30, 200))


def test_looks_tell_colours_apart_and_forgive_a_little():
    red, dark, blue = (looks_of(picture(c), WHERE) for c in (RED, DARK_RED, BLUE))
    assert alike(red, red) == pytest.approx(1)
    assert alike(red, dark) > 0.9 > 0.5 > alike(red, blue)
    nothing = looks_of(picture(RED), region_of(np.zeros((40, 60), bool)))
    assert alike(red, nothing) == 0
    assert alike(blended(red, blue, 0.5), red) < 0.9
    # Halves count: trousers and shirt changed about are somebody else.
    image = picture(RED)
    image[20:30, 20:40] = BLUE
    assert alike(looks_of(image, WHERE), looks_of(image[::-1].copy(), WHERE)) < 0.5


def test_embeddings_of_the_detector_come_first():
    a, b = np.array([1.0, 0.0], np.float32), np.array([0.0, 2.0], np.float32)
    red, same = looks_of(picture(RED), WHERE, a), looks_of(picture(RED), WHERE, b)
    assert alike(red, same) == 0
    assert alike(looks_of(picture(BLUE), WHERE, b), same) == pytest.approx(1)


def known(number=1, **fields):
    place = {"box": (20.0, 10.0, 30.0, 30.0), "area": 100.0, "size": (40, 60)}
    place |= {"frame_index": 0, "time_s": 0.0} | fields
    return Known(number, "n", 0, "thing", looks_of(picture(RED), WHERE), **place)


@pytest.mark.parametrize(
    ("why", "one", "box", "area", "time", "can"),
    [
        ("near and soon", known(), (22, 10, 32, 30), 100, 0.1, True),
        ("too far at once", known(), (58, 10, 60, 30), 100, 0.1, False),
        ("not after a while", known(), (58, 10, 60, 30), 100, 2.0, True),
        ("much larger", known(), (22, 10, 32, 30), 401, 0.1, False),
        ("much smaller", known(), (22, 10, 32, 30), 24, 0.1, False),
        ("too long ago", known(), (22, 10, 32, 30), 100, 61, False),
        ("left over the edge", known(box=(0.0, 0.0, 9.0, 9.0)), (50, 30, 59, 39), 100, 1.5, True),
    ],
)
def test_plausible(why, one, box, area, time, can):
    assert plausible(G, one, np.array(box, np.float32), area, time) is can, why


@pytest.mark.parametrize(
    ("values", "who"),
    [([], None), ([0.85], None), ([0.86], 0), ([0.86, 0.9], 1), ([0.89, 0.9], None)],
)
def test_recognise(values, who):
    assert recognise(G, values) == who


def test_the_gallery_is_bounded_and_holds_each_once():
    config, held = GalleryConfig(size=3), ()
    for number in (1, 2, 3, 4, 2, 5):
        held = remembered(config, held, known(number))
    assert [one.object_id for one in held] == [4, 2, 5]
    assert remembered(GalleryConfig(enabled=False), held, known(9)) == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LifecycleConfig(validation="x"), "counts, existence, none"),
        (lambda: LifecycleConfig(lost_every=0), "lost_every is 0"),
        (lambda: EvictionConfig(max_tracks=0), "1 or more"),
        (lambda: EvictionConfig(budget_mb=-1), "0 or more"),
        (lambda: GalleryConfig(size=-1), "0 or more"),
        (lambda: ExistenceConfig(detect=2), "from 0 to 1"),
    ],
)
def test_settings_are_checked(make, words):
    with pytest.raises(InputError) as caught:
        make()
    assert words in str(caught.value)
