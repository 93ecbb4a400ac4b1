"""When something was seen, from scores of looks."""

from __future__ import annotations

import pytest
import torch

from vision_mem.models.vlm.protocol import EncodedGrid
from vision_mem.videoqa.config import SeenConfig
from vision_mem.videoqa.intervals import find_intervals, score_looks
from vision_mem.videoqa.records import GridEntry, Moment


def _moments(scores: list[float]) -> list[Moment]:
    return [Moment(n, (n,), n / 2, n / 2, s, "short", 4) for n, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "spans"),
    [
        ([0.0, 0.1, 0.1], []),
        ([0.0, 0.6, 0.7, 0.0], [(0.5, 1.5, 1.0)]),
        ([0.3, 0.6, 0.3, 0.0], [(0.0, 1.5, 0.5)]),  # grows to half of the threshold
        ([0.3, 0.3, 0.3], []),  # and nothing grows without a peak
        ([0.9, 0.0, 0.9, 0.0], [(0.0, 1.5, 0.0)]),  # a short gap joins
        ([0.9, 0.0, 0.0, 0.0, 0.0, 0.8], [(0.0, 0.5, 0.0), (2.5, 2.7, 2.5)]),
        ([0.5], [(0.0, 0.5, 0.0)]),
    ],
)
def test_moments_grow_into_intervals(scores, spans):
    end = 2.7 if len(scores) == 6 else len(scores) / 2
    found = find_intervals(_moments(scores), 0.5, 0.5, 1.0, end)
    assert [(i.start_s, i.end_s, i.peak.start_s) for i in found] == spans


def test_what_is_clear_somewhere_is_not_faint_elsewhere():
    for best, count in ((0.5, 2), (1.0, 1)):
        scores = [best, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0]
        assert len(find_intervals(_moments(scores), 0.2, 0.5, 1.0, 3.5)) == count


class _Shown:
    """Scores are columns of the features."""

    unknown = ""

    def __init__(self, *columns: int) -> None:
        self._columns = list(columns)

    def scores(self, tokens, extras):
        return tokens[:, self._columns]


def _entry(index: int, values: list[list[float]], keep=None, **more) -> GridEntry:
    tokens = torch.tensor(values)
    boxes = torch.tensor([[n / 10, 0.0, n / 10 + 0.1, 1.0] for n in range(len(values))])
    grid = EncodedGrid.full(tokens, 1, len(values), {"box": boxes})
    entry = GridEntry.new(grid, index=index, frames=(index,), start_s=index, end_s=index, **more)
    return entry if keep is None else entry.take(torch.tensor(keep))


_YES, _NO = [0.9, 0.0], [0.0, 0.0]


def test_one_look_alone_does_not_count_and_a_gone_token_is_that_of_the_next():
    stays = [_entry(0, [_NO] * 4), _entry(1, [_YES] * 4, [True, False, False, False]),
             _entry(2, [_YES] * 4)]  # fmt: skip
    looks = score_looks(stays, _Shown(0), _Shown(1), SeenConfig())
    assert looks.scores == pytest.approx((0.0, 0.9, 0.9))
    flash = [_entry(0, [_NO] * 4), _entry(1, [_YES] * 4), _entry(2, [_NO] * 4)]
    assert max(score_looks(flash, _Shown(0), _Shown(1), SeenConfig()).scores) == 0.0
    # What is gone is not taken from another scene or picture size.
    for more in ({"segment": 1}, {}):
        other = [_entry(0, [_NO] * 4, [True, False, False, False]), _entry(1, [_YES] * 4, **more)]
        if not more:
            other[1] = GridEntry(**{**other[1].__dict__, "scene_change": True})
        assert score_looks(other, _Shown(0), _Shown(1), SeenConfig()).scores[0] == 0.0
    assert score_looks([_entry(0, [_YES] * 4)], _Shown(0), _Shown(1), SeenConfig()).scores[0] > 0.8


@pytest.mark.parametrize(
    ("background", "threshold"), [(0.05, 0.2), (0.3, 0.3), (0.45, 0.45), (0.9, 0.5)]
)
def test_the_threshold_is_what_unrelated_texts_reach(background, threshold):
    entries = [_entry(n, [[0.4, background]] * 4) for n in range(3)]
    looks = score_looks(entries, _Shown(0), _Shown(1, 1, 1), SeenConfig())
    assert looks.threshold == pytest.approx(threshold)


def test_the_box_is_that_of_the_best_token():
    entries = [_entry(0, [_NO, _NO, _YES, _NO])]
    (box,) = score_looks(entries, _Shown(0), _Shown(1), SeenConfig()).boxes
    assert box == pytest.approx((0.2, 0.0, 0.3, 1.0))
