"""Zones and lines: who is counted where, beside supervision's, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from media_samples import absent, seen

from vision_mem.errors import InputError, ModelError
from vision_mem.tracking.zones import ANCHORS, Line, Zone, ZoneCounter, parse_zones
from vision_mem.types import TrackingResult, ZoneEvent

SIZE = (100, 200)
SQUARE = Zone("door", ((50, 20), (100, 20), (100, 80), (50, 80)))
LINE = Line("gate", ((40, 50), (160, 50)))


def _result(t: int, *objects: Any) -> TrackingResult:
    return TrackingResult(t, t / 10, SIZE, objects)


def _at(key: int, x: float, y: float) -> Any:
    """An object whose bottom centre is there."""
    box = (int(x) - 3, int(y) - 6, int(x) + 3, int(y))
    return seen(key, box, SIZE)


def _played(counter: ZoneCounter, *spots: Any) -> list[ZoneEvent]:
    """Events of one object at ``spots`` frame by frame; None where it is out of sight."""
    events: list[Any] = []
    for t, spot in enumerate(spots):
        one = absent(1, SIZE) if spot is None else _at(1, *spot)
        events += counter.step(_result(t, one)).events
    return events


def _told(events: list[ZoneEvent]) -> list[tuple[Any, ...]]:
    return [(e.frame_index, e.kind, e.direction, e.dwell_s, e.seen) for e in events]


IN, OUT = (70, 50), (20, 50)


@pytest.mark.parametrize(
    ("spots", "told"),
    [
        ([OUT, IN, IN, OUT], [(1, "entered", "", None, True), (3, "left", "", 0.1, True)]),
        ([IN, IN, OUT], [(0, "entered", "", None, False), (2, "left", "", 0.1, True)]),
        ([OUT, OUT], []),
        ([OUT, IN, None, IN, OUT], [(1, "entered", "", None, True), (4, "left", "", 0.2, True)]),
        ([OUT, (50, 50), (100, 80)], [(1, "entered", "", None, True)]),
    ],
    ids=["through", "first seen inside", "never", "hidden inside", "the edge belongs to it"],
)
def test_a_zone_tells_who_comes_and_goes(spots: list[Any], told: list[Any]) -> None:
    found = _told(_played(ZoneCounter([SQUARE]), *spots))
    assert [(*row[:3], row[3] and round(row[3], 6), row[4]) for row in found] == told


ABOVE, BELOW, BESIDE = (90, 30), (90, 70), (20, 30)


@pytest.mark.parametrize(
    ("spots", "directions"),
    [
        ([BELOW, ABOVE], ["in"]),
        ([ABOVE, BELOW, ABOVE], ["out", "in"]),
        ([ABOVE, None, BELOW], ["out"]),
        ([BELOW, BESIDE, (20, 70)], []),
        ([ABOVE, ABOVE], []),
    ],
)
def test_a_line_tells_who_crosses_it_and_which_way(spots: list[Any], directions: list[str]) -> None:
    counter = ZoneCounter([LINE])
    assert [event.direction for event in _played(counter, *spots)] == directions
    (counts,) = counter.zones
    assert (counts.total("in"), counts.total("out")) == tuple(map(directions.count, ("in", "out")))


def test_trembling_boxes_count_once_when_they_settle() -> None:
    spots = [BELOW, ABOVE, BELOW, ABOVE, ABOVE, BELOW, ABOVE]
    assert len(_played(ZoneCounter([LINE]), *spots)) == 5
    assert [e.frame_index for e in _played(ZoneCounter([LINE], settle=2), *spots)] == [4]
    events = _played(ZoneCounter([SQUARE], settle=2), OUT, IN, IN, OUT, IN, OUT, OUT)
    # The visit lasts from the first frame inside to the last one.
    assert [(e.frame_index, e.kind) for e in events] == [(2, "entered"), (6, "left")]
    assert events[1].dwell_s == pytest.approx(0.3)


def test_counts_classes_and_the_end_of_a_track() -> None:
    counter = ZoneCounter([SQUARE])
    counter.step(_result(0, _at(1, *IN), _at(2, *IN)))
    result = counter.step(_result(4, _at(2, *IN)))  # 1 was removed inside
    (event,) = result.events
    assert (event.kind, event.object_id, event.seen, event.dwell_s) == ("left", 1, False, 0.0)
    (counts,) = result.zones
    assert counts.words() == "1 inside, 2 entered"
    assert counts.as_dict() == {
        "name": "door", "entered": 2, "left": 1, "inside": 1, "most": 2, "mean_dwell_s": 0.0,
        "longest_s": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("anchor", "inside"),
    [("bottom", False), ("centre", True), ("top", True), ("left", False), ("corners", False)],
)
def test_the_anchor_says_what_counts(anchor: str, inside: bool) -> None:
    counter = ZoneCounter([SQUARE], anchor=anchor)
    counter.step(_result(0, seen(1, (30, 30, 90, 90), SIZE)))
    assert bool(counter.zones[0].visits) is inside


def test_the_state_goes_on_exactly_and_stays_small() -> None:
    rng = np.random.default_rng(5)
    areas = [SQUARE, LINE]

    def frame(t: int) -> TrackingResult:
        # Three objects at a time, new ones every twenty frames.
        keys = [3 * (t // 20) + k for k in range(3)]
        return _result(t, *(_at(key, *rng.integers(10, (190, 90))) for key in keys))

    frames = [frame(t) for t in range(600)]
    whole, first, second = (ZoneCounter(areas) for _ in range(3))
    expected = [whole.step(one) for one in frames]
    for one in frames[:333]:
        first.step(one)
    size = len(json.dumps(first.state_dict()))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for one, told in zip(frames[333:], expected[333:], strict=True):
        went = second.step(one)
        assert (went.events, went.zones) == (told.events, told.zones)
    assert second.state_dict() == whole.state_dict()
    early = ZoneCounter(areas)
    for one in frames[:15]:
        early.step(one)
    assert size < 2 * len(json.dumps(early.state_dict()))
    assert sum(counts.total("left") for counts in whole.zones) > 50


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"door": {}},
        {"door": {"counts": {"name": "door"}, "followed": []}},
        {"door": {"counts": {"name": "x", "points": [[0, 0]], "visits": []}, "followed": {}}},
    ],
)
def test_a_foreign_state_is_one_line(damage: Any) -> None:
    counter = ZoneCounter([SQUARE])
    with pytest.raises(ModelError, match="zones"):
        counter.load_state_dict(damage)


@pytest.mark.parametrize(
    ("zones", "lines", "says"),
    [
        (["door=1,2,3,4"], [], "has 2 corners; expected three or more"),
        (["door=1,2,3,4,1,2"], [], "has 2 corners"),
        (["door=1,2,3"], [], "has 3 numbers; expected pairs"),
        (["door=a,b"], [], "expected NAME=x,y"),
        (["door="], [], "expected NAME=x,y"),
        (["=1,2,30,4,5,60"], [], "empty name"),
        (["door=nan,2,30,4,5,60"], [], "finite numbers"),
        (["door=0,0,40,40,40,0,0,40"], [], "crosses itself: the edges from 0,0 and 40,0 meet"),
        (["door=0,0,50,0,100,0"], [], "has no area"),
        (["door=0.1,0.1,0.9,0.1,0.9,0.9"], [], "has no area; expected corners in pixels"),
        (["door=0,0,40,0,0,0,0,40"], [], "a corner twice"),
        (["a=0,0,9,0,9,9", "a=0,0,9,0,9,9"], [], "two zones or lines called 'a'"),
        (["a=0,0,9,0,9,9"], ["a=0,0,9,9"], "two zones or lines called 'a'"),
        ([], ["gate=1,2,3,4,5,6"], "has 3 points; expected two"),
        ([], ["gate=5,5,5,5"], "has no length"),
    ],
)
def test_what_is_no_zone_is_one_line(zones: list[str], lines: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_zones(zones, lines)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_and_closed_polygons() -> None:
    zone, line = parse_zones(["0,0, 9,0, 9,9, 0,0"], ["1,2 30,40"])
    assert (zone.name, line.name) == ("zone-1", "line-1")
    assert zone == Zone("zone-1", ((0, 0), (9, 0), (9, 9)))
    with pytest.raises(InputError, match=r"the point 9,0 outside the frame, 8x20 pixels"):
        ZoneCounter([zone]).check_size(8, 20)
    with pytest.raises(InputError, match="did you mean 'centre'"):
        ZoneCounter([zone], anchor="center")
    with pytest.raises(InputError, match="settle is 0"):
        ZoneCounter([zone], settle=0)


# -- beside supervision ------------------------------------------------------------------------

POSITIONS = {
    "bottom": ["BOTTOM_CENTER"],
    "centre": ["CENTER"],
    "top": ["TOP_CENTER"],
    "left": ["CENTER_LEFT"],
    "right": ["CENTER_RIGHT"],
    "corners": ["TOP_LEFT", "TOP_RIGHT", "BOTTOM_LEFT", "BOTTOM_RIGHT"],
}


def _walks(seed: int, frames: int = 120) -> list[TrackingResult]:
    """Six boxes that walk about; nobody is out of sight."""
    rng = np.random.default_rng(seed)
    spots = rng.uniform(20, (180, 80), (6, 2))
    made = []
    for t in range(frames):
        spots = np.clip(spots + rng.normal(0, 6, spots.shape), (10, 12), (190, 98))
        made.append(_result(t, *(_at(key, *spot) for key, spot in enumerate(spots))))
    return made


def _theirs(sv: Any, result: TrackingResult) -> Any:
    boxes = np.array([each.box for each in result.objects])
    return sv.Detections(xyxy=boxes, tracker_id=np.arange(len(boxes)))


@pytest.fixture(scope="module")
def sv() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("supervision")


@pytest.mark.parametrize("anchor", list(ANCHORS))
@pytest.mark.parametrize("corners", [((50, 20), (140, 20), (140, 80), (50, 80)),
                                     ((30, 10), (170, 30), (120, 90), (100, 50), (20, 80))],
                         ids=["box", "star"])  # fmt: skip
def test_zones_agree_with_supervision(sv: Any, anchor: str, corners: Any) -> None:
    positions = [sv.Position[name] for name in POSITIONS[anchor]]
    theirs = sv.PolygonZone(polygon=np.array(corners), triggering_anchors=positions)
    counter = ZoneCounter([Zone("zone", corners)], anchor=anchor)
    compared = 0
    for result in _walks(3):
        inside = {visit.object_id for visit in counter.step(result).zones[0].visits}
        told = theirs.trigger(_theirs(sv, result))
        for each, expected in zip(result.objects, told.tolist(), strict=True):
            # They look at whole pixels, we at the point: an anchor within a pixel of an edge may
            # be on either side.
            if _far_from_edges(each.box, anchor, np.array(corners, float)):
                assert (each.object_id in inside) == expected
                compared += 1
    assert compared > 500


def _far_from_edges(box: Any, anchor: str, corners: Any) -> bool:
    points = box[:2] + np.array(ANCHORS[anchor]) * (box[2:] - box[:2])
    along = np.roll(corners, -1, axis=0) - corners
    away = points[:, None] - corners
    share = ((away * along).sum(2) / (along**2).sum(1)).clip(0, 1)
    return bool((np.linalg.norm(away - share[..., None] * along, axis=2) > 1).all())


@pytest.mark.parametrize("anchor", ["bottom", "centre", "corners"])
@pytest.mark.parametrize("settle", [1, 3])
@pytest.mark.parametrize(
    "ends", [((40, 50), (160, 50)), ((150, 20), (60, 90)), ((99, 5), (99, 95))]
)
def test_lines_agree_with_supervision(sv: Any, anchor: str, settle: int, ends: Any) -> None:
    positions = [sv.Position[name] for name in POSITIONS[anchor]]
    start, end = (sv.Point(*point) for point in ends)
    theirs = sv.LineZone(
        start, end, triggering_anchors=positions, minimum_crossing_threshold=settle
    )
    counter = ZoneCounter([Line("line", ends)], anchor=anchor, settle=settle)
    for result in _walks(11):
        crossed = {(e.object_id, e.direction) for e in counter.step(result).events}
        came, went = theirs.trigger(_theirs(sv, result))
        expected = {(int(key), "in") for key in np.flatnonzero(came)}
        assert crossed == expected | {(int(key), "out") for key in np.flatnonzero(went)}
    (counts,) = counter.zones
    assert (counts.total("in"), counts.total("out")) == (theirs.in_count, theirs.out_count)
    assert theirs.in_count
