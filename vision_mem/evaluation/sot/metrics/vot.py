"""VOT's measures: quality, accuracy, robustness of one run; EAO of runs from several anchors.

The definitions are those of ``vot-toolkit`` 0.9.0: ``analysis/accuracy.py`` and
``analysis/longterm.py`` for runs through the whole sequence (VOTS 2023 and later),
``analysis/multistart.py`` for runs from anchors (VOT 2020 to 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.datasets.truth import read_labels
from vision_mem.evaluation.sot.records import SotSequence as Sequences
from vision_mem.evaluation.sot.vot_regions import (
    FAILED,
    STARTED,
    UNKNOWN,
    VotRegion,
    mask,
    polygon,
    rectangle,
    region_overlap,
)

_ABSENCE_FRAMES = 10  # absence is judged in sequences with more frames of it
_FAILED_BELOW, _GRACE = 0.1, 10  # anchors: so little overlap in so many frames is a failure
EAO_INTERVAL = (115, 755)
"""First and last length averaged into EAO: those of VOT 2020, 2021 and 2022, short term."""


@dataclass(frozen=True)
class RunScore:
    """One run through a whole sequence.

    Attributes:
        quality: mean overlap of all frames whose truth is known; 1 where absence is recognised.
        accuracy: mean overlap of the frames in which target and region overlap, and of frames
            with the code for "started here", which have none; 0 if there are neither.
        tracked: frames in which they do.
        failed: the target is there, and the region elsewhere.
        missed: the target is there, and no region.
        invented: a region, and no target.
        noticed: no target, and no region.
    """

    quality: float
    accuracy: float
    tracked: float
    failed: float
    missed: float
    invented: float
    noticed: float


@dataclass(frozen=True)
class AnchorScore:
    """The runs from the anchors of a sequence, one after another.

    Attributes:
        overlaps: of each run, ``(T,)``; 0 from its failure on.
        progress: of each run, frames before its failure, or all.
        frames: of the sequence.
    """

    overlaps: tuple[NDArray[np.float64], ...]
    progress: tuple[int, ...]
    frames: int


def true_regions(sequence: Sequences) -> list[VotRegion]:
    """The truth of a sequence: its masks, else its polygons, else its boxes.

    NaN is unknown, as in the toolkit: such frames do not count. No area is absence.
    """
    if sequence.masks:
        return [
            rectangle([np.nan] * 4) if path is None else mask(read_labels(path))
            for path in sequence.masks
        ]
    if sequence.polygons is None:
        return [rectangle(box) for box in sequence.boxes]
    regions = []
    for corners, box in zip(sequence.polygons, sequence.boxes, strict=True):
        given = corners[~np.isnan(corners)]
        # Rows of a file need not have the same number of corners; four numbers are a box.
        regions.append(polygon(given) if given.size >= 6 else rectangle(box))
    return regions


def region_overlaps(
    predicted: Sequence[VotRegion], truth: Sequence[VotRegion], size: tuple[int, int] | None
) -> NDArray[np.float64]:
    """Overlap frame by frame.

    Args:
        predicted: T regions.
        truth: T regions.
        size: ``(height, width)`` of the images; None: no limit.

    Returns:
        ``(T,)`` in [0, 1].
    """
    pairs = zip(predicted, truth, strict=True)
    return np.array([region_overlap(ours, theirs, size) for ours, theirs in pairs])


def score_run(
    predicted: Sequence[VotRegion], truth: Sequence[VotRegion], size: tuple[int, int] | None
) -> RunScore:
    """Score one run through a whole sequence.

    Args:
        predicted: T regions; the first counts as any other, a code in its place is a miss.
        truth: T regions.
        size: ``(height, width)`` of the images; None: no limit.
    """
    overlaps = region_overlaps(predicted, truth, size)
    known = np.array([not region.is_code(UNKNOWN) for region in truth], dtype=bool)
    there = known & np.array([not region.is_empty for region in truth], dtype=bool)
    said = np.array([not region.is_empty for region in predicted], dtype=bool)
    gave_up = np.array([region.is_code(FAILED) for region in predicted], dtype=bool)
    counted = overlaps[known & ~gave_up]
    # The toolkit's accuracy keeps the frame a tracker was started on, with no overlap.
    started = np.array([region.is_code(STARTED) for region in predicted], dtype=bool)
    met = overlaps[there & ~gave_up & ((overlaps > 0) | started)]
    hit = there & (overlaps > 0)
    return RunScore(
        quality=float(counted.mean()) if counted.size else 0.0,
        accuracy=float(met.mean()) if met.size else 0.0,
        tracked=float(np.count_nonzero(hit)),
        failed=float(np.count_nonzero(there & ~hit & said)),
        missed=float(np.count_nonzero(there & ~hit & ~said)),
        invented=float(np.count_nonzero(known & ~there & said)),
        noticed=float(np.count_nonzero(known & ~there & ~said)),
    )


def mean_run(runs: Sequence[RunScore]) -> RunScore:
    """The mean over repeated runs of a sequence."""
    names = RunScore.__dataclass_fields__
    return RunScore(**{n: float(np.mean([getattr(run, n) for run in runs])) for n in names})


def run_measures(runs: Sequence[RunScore]) -> dict[str, float]:
    """The numbers of VOTS, each the mean over sequences, in [0, 1].

    Returns:
        ``Q`` quality, ``A`` accuracy, ``R`` robustness (share of frames with target in which the
        region meets it), ``NRE`` (share in which it is not reported), ``DRE`` (share in which the
        region is elsewhere), ``ADQ`` (share of frames without target in which that is said, over
        sequences with more than ten of them). NaN where no sequence has a say.
    """
    present = [(run, run.tracked + run.failed + run.missed) for run in runs]
    present = [(run, count) for run, count in present if count]
    absent = [(run, run.noticed + run.invented) for run in runs]
    absent = [(run, count) for run, count in absent if count > _ABSENCE_FRAMES]
    return {
        "Q": _mean([run.quality for run in runs]),
        "A": _mean([run.accuracy for run in runs]),
        "R": _mean([run.tracked / count for run, count in present]),
        "NRE": _mean([run.missed / count for run, count in present]),
        "DRE": _mean([run.failed / count for run, count in present]),
        "ADQ": _mean([run.noticed / count for run, count in absent]),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def score_anchors(
    runs: Sequence[tuple[int, Sequence[VotRegion]]],
    truth: Sequence[VotRegion],
    size: tuple[int, int] | None,
    where: str = "results",
) -> AnchorScore:
    """Score runs that were started at anchors.

    Args:
        runs: frame of the anchor, and the regions from there on; the length says whether the run
            went forward, to the last frame, or backward, to the first (in the middle: forward).
        truth: T regions.
        size: ``(height, width)`` of the images; None: no limit.
        where: the first file, for messages.

    Raises:
        InputError: for a run of another length.
    """
    overlaps, progress = [], []
    for anchor, predicted in runs:
        if not 0 <= anchor < len(truth):
            raise InputError(f"{where}: a run starts at frame {anchor} of {len(truth)}")
        if len(predicted) == len(truth) - anchor:
            path = truth[anchor:]
        elif len(predicted) == anchor + 1:
            path = truth[anchor::-1]
        else:
            raise InputError(
                f"{where}: the run from frame {anchor} has {len(predicted)} regions; expected "
                f"{len(truth) - anchor} (forward) or {anchor + 1} (backward)"
            )
        along = region_overlaps(predicted, path, size)
        reached = _before_failure(along, [region.is_empty for region in path])
        along[reached:] = 0.0
        overlaps.append(along)
        progress.append(reached)
    return AnchorScore(tuple(overlaps), tuple(progress), len(truth))


def _before_failure(overlaps: NDArray[np.float64], absent: Sequence[bool]) -> int:
    bad = 0
    for frame, overlap in enumerate(overlaps):
        bad = bad + 1 if overlap <= _FAILED_BELOW and not absent[frame] else 0
        if bad == _GRACE:
            return frame + 1 - _GRACE
    return len(overlaps)


def anchor_measures(sequences: Sequence[AnchorScore]) -> dict[str, float]:
    """The numbers of VOT 2020 to 2022.

    Returns:
        ``EAO`` over ``EAO_INTERVAL``; ``A`` the mean overlap before failures, sequences weighted
        by the frames reached; ``R`` the share of frames reached, sequences weighted by their
        length.
    """
    curve = eao_curve(sequences, EAO_INTERVAL[1])
    reached = [sum(each.progress) for each in sequences]
    share = [
        done / sum(len(run) for run in each.overlaps)
        for each, done in zip(sequences, reached, strict=True)
    ]
    overlap = sum(float(run.sum()) for each in sequences for run in each.overlaps)
    return {
        "EAO": float(curve[EAO_INTERVAL[0] :].mean()),
        "A": overlap / sum(reached) if sum(reached) else math.nan,
        "R": float(np.average(share, weights=[each.frames for each in sequences])),
    }


def eao_curve(sequences: Sequence[AnchorScore], length: int) -> NDArray[np.float64]:
    """Expected average overlap for each length of a run.

    A run counts for the lengths it has; after a failure it counts for all, with nothing added.
    The first frame, on which the tracker is started, is left out of the mean.

    Args:
        sequences: all of the set.
        length: the curve's.

    Returns:
        ``(length,)``; 0 where no run has a say.
    """
    total, weight = np.zeros(length), np.zeros(length)
    for sequence in sequences:
        for overlaps, progress in zip(sequence.overlaps, sequence.progress, strict=True):
            summed = np.cumsum(overlaps[1:length])
            reach = len(summed) + 1
            total[1:reach] += summed / np.arange(1, reach)
            weight[1:reach] += 1
            if progress < len(overlaps) and reach < length:
                # The toolkit divides by one frame less here.
                rest = np.arange(reach, length)
                total[rest] += (summed[-1] if summed.size else 0.0) / np.maximum(rest - 1, 1)
                weight[rest] += 1
    return np.divide(total, weight, out=np.zeros(length), where=weight > 0)
