"""Published figures of a tracker on two sequences of MOTChallenge, to the digit."""

from __future__ import annotations

import pytest

from vision_mem.evaluation.mots.datasets import open_mot_benchmark
from vision_mem.evaluation.mots.records import read_truth
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.mots.scores import score_tracks

pytestmark = pytest.mark.data

NAMES = ("IDF1", "IDP", "IDR", "Rcll", "Prcn", "GT", "MT", "PT", "ML", "FP", "FN", "IDS", "Frag",
         "MOTA", "MOTP")  # fmt: skip
# Of MOTChallenge's own kit, and of motmetrics 1.4.0, at an overlap of 0.5.
PUBLISHED = {
    "TUD-Campus": (
        71, 55.8, 73.0, 45.1, 58.2, 94.1, 8, 1, 6, 1, 13, 150, 7, 7, 52.6, 72.3,
    ),
    "TUD-Stadtmitte": (
        179, 64.5, 82.0, 53.1, 60.9, 94.0, 10, 5, 4, 1, 45, 452, 7, 6, 56.4, 65.4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("definition", ["motmetrics", "trackeval"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name, definition, data):
    folder = data / "mot" / f"motmetrics_{name}"
    if not folder.is_dir():
        pytest.skip(f"{name} not found in {folder}")
    benchmark = open_mot_benchmark("mot15", folder, need_frames=False)
    frames, *wanted = PUBLISHED[name]
    assert benchmark.sequences[0].length == frames
    with MotResults(folder / "test.txt", benchmark) as results:
        found = score_tracks(benchmark, results, definition=definition).averaged()
    shown = [v if isinstance(v, int) else round(100 * v, 1) for v in (found[n] for n in NAMES)]
    assert dict(zip(NAMES, shown, strict=True)) == dict(zip(NAMES, wanted, strict=True))


def test_pets(data):
    folder = data / "mot" / "pets09_s2l1_first60"
    if not folder.is_dir():
        pytest.skip(f"PETS09 not found in {folder}")
    benchmark = open_mot_benchmark("mot15", folder)
    assert benchmark.notes == ()
    (sequence,) = benchmark.sequences
    assert (sequence.length, len(sequence.frames), sequence.size) == (60, 60, (576, 768))
    rows = read_truth(sequence, benchmark.rules)
    assert len(rows) == 283
    assert set(rows.ids.tolist()) == {9, 11, 12, 13, 15, 19}
    with MotResults(folder / "gt" / "gt.txt", benchmark) as results:
        assert score_tracks(benchmark, results).pooled()["HOTA"] == 1
