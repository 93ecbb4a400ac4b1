"""Score result files of single objects on a benchmark, by the rules of its field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import image_size, said
from vision_mem.evaluation.scores import BenchmarkScore, Curve, Rules, SequenceScore, sequences_here
from vision_mem.evaluation.sot.datasets.truth import read_labels
from vision_mem.evaluation.sot.metrics import davis, got10k, success, vot
from vision_mem.evaluation.sot.metrics.success import ABSENT, SUCCESS_THRESHOLDS
from vision_mem.evaluation.sot.records import Benchmark, SotSequence
from vision_mem.evaluation.sot.results import ResultSet
from vision_mem.runs.tally import count

_FIRST = "the first row is not the given box"
_EXPECTED = {
    "boxes": "{0}.txt or {0}/{0}_001.txt",
    "regions": "{0}/{0}_001.txt, {0}/{0}_001.bin or {0}.txt",
    "images": "{0}/00000.png",
}


class ScoringProtocol(NamedTuple):
    """The rules of a family of benchmarks.

    Attributes:
        kind: of result files: ``boxes``, ``regions`` or ``images``.
        score: a sequence's results to one part for each run; empty when no frame counts.
        merge: the parts of repeated runs to one.
        measures: the parts of sequences to the field's numbers, the most important first.
        curves: the parts of sequences to the lines of the field's plots.
    """

    kind: str
    score: Callable[[SotSequence, ResultSet, str, Rules, list[str]], list[Any]]
    merge: Callable[[list[Any]], Any]
    measures: Callable[[list[Any]], dict[str, float]]
    curves: Callable[[list[Any]], dict[str, Curve]]


def checked_boxes(
    where: str, boxes: NDArray[np.float64], sequence: SotSequence, rules: Rules, notes: list[str],
    *, negative: bool = False,
) -> NDArray[np.float64]:  # fmt: skip
    """Boxes that can be scored: as many as the truth has, and all of them boxes.

    Args:
        where: the file.
        boxes: ``(N, 4)`` as read.
        sequence: its truth has T rows; what is longer is cut.
        rules: ``partial`` lets them be fewer, ``repair`` mends.
        notes: takes a line for what was lacking or mended.
        negative: negative sizes may stay.

    Returns:
        ``(T, 4)``, or fewer under ``partial``.

    Raises:
        InputError: names the file, and the line.
    """
    wanted = len(sequence.boxes)
    if len(boxes) and wanted and not any(_FIRST in note for note in notes):
        notes += _about_first(boxes[0], sequence.boxes[0], where)
    if wanted == 1 < len(boxes):
        raise InputError(
            f"the truth of {sequence.name} is its first box alone; there is nothing to score "
            f"{len(boxes)} boxes of {where} against"
        )
    if len(boxes) < wanted and not rules.partial:
        raise InputError(
            f"{where} has {len(boxes)} boxes, the truth of {sequence.name} has {wanted}; expected "
            "one a frame; --partial counts the frames it lacks as missed"
        )
    if len(boxes) < wanted:
        notes.append(f"{sequence.name}: {len(boxes)} of {wanted} frames, the others are missed")
    boxes = boxes[:wanted]
    bad = np.asarray(np.isnan(boxes).any(axis=1))
    if not negative:
        bad = bad | (boxes[:, 2:] < 0).any(axis=1)
    if not bad.any():
        return boxes
    if not rules.repair:
        first = int(np.argmax(bad))
        shown = ",".join(f"{value:g}" for value in boxes[first])
        more = np.count_nonzero(bad) - 1
        raise InputError(
            f"{where}, line {first + 1}: {shown} is no box{f' ({more} more)' if more else ''}; the "
            "official scorer refuses such files; --repair takes the box before instead"
        )
    repaired = count(int(np.count_nonzero(bad)), "line")
    notes.append(f"{sequence.name}: {repaired} without a box repaired")
    rows = np.maximum.accumulate(np.where(bad, 0, np.arange(len(boxes))))
    mended = boxes[rows]
    if bad[0]:  # nothing came before: the box the tracker was given
        mended[rows == 0] = sequence.boxes[0]
    return mended


def _about_first(row: NDArray[np.float64], given: NDArray[np.float64], where: str) -> list[str]:
    """A hint when results do not begin with the given box: their columns may mean other things."""
    if not np.isfinite(row).all() or (row[2:] < 0).any():
        return []  # refused, or repaired, in words of their own
    x, y, w, h = row
    meanings = {
        "x,y,width,height": row,
        "x1,y1,x2,y2": np.array([x, y, w - x, h - y]),
        "the centre, width and height": np.array([x - w / 2, y - h / 2, w, h]),
        "y,x,height,width": np.array([y, x, h, w]),
    }
    near = [name for name, box in meanings.items() if np.abs(box - given).max() <= 2]
    if near[:1] == ["x,y,width,height"] or (
        not near and success.overlaps(row[None], given[None])[0] > 0.5
    ):
        return []
    shown, wanted = (",".join(f"{value:g}" for value in each) for each in (row, given))
    meant = f"; it is if its numbers are {near[0]}" if near else ""
    return [f"{where}: {_FIRST} {wanted} but {shown}{meant}; expected x,y,width,height"]


def _score_success(
    sequence: SotSequence, results: ResultSet, tag: str, rules: Rules, notes: list[str]
) -> list[success.SuccessCurves]:
    parts = []
    for where, rows in results.boxes(sequence.name):
        errors = success.frame_errors(
            checked_boxes(where, rows, sequence, rules, notes), sequence.boxes,
            visible=sequence.visible, tag=tag, strict=rules.strict, absent=rules.absent,
        )  # fmt: skip
        curves = success.success_curves(errors, absent=rules.absent)
        parts += [curves] if curves is not None else []
    return parts


def _success_measures(parts: list[success.SuccessCurves]) -> dict[str, float]:
    return success.success_measures(success.mean_curves(parts))


def _success_curves(parts: list[success.SuccessCurves]) -> dict[str, Curve]:
    mean = success.mean_curves(parts)
    scores = success.success_measures(mean)
    return {
        "Success": Curve(SUCCESS_THRESHOLDS, mean.success, scores["AUC"]),
        "Precision": Curve(success.PRECISION_THRESHOLDS, mean.precision, scores["P"]),
        "Normalised precision": Curve(
            success.NORMALISED_THRESHOLDS, mean.normalised, scores["P_norm"]
        ),
    }


def _score_got10k(
    sequence: SotSequence, results: ResultSet, tag: str, rules: Rules, notes: list[str]
) -> list[NDArray[np.float64]]:
    del tag
    size = _size_of(sequence)
    if size is None:
        raise InputError(
            f"{sequence.name}: neither meta_info.ini nor an image says how large its images are; "
            "GOT-10k clips boxes to the image; add one of them"
        )
    parts = []
    for where, rows in results.boxes(sequence.name):
        boxes = checked_boxes(where, rows, sequence, rules, notes, negative=True)
        whole = np.zeros_like(sequence.boxes)
        whole[: len(boxes)] = boxes
        parts.append(got10k.counted_iou(whole, sequence.boxes, size, sequence.visible))
    return [part for part in parts if part.size]


def _got10k_curves(parts: list[NDArray[np.float64]]) -> dict[str, Curve]:
    iou = np.concatenate(parts)
    curve = got10k.success_curve(iou)
    return {"Success": Curve(got10k.SUCCESS_THRESHOLDS, curve, float(iou.mean()))}


def _size_of(sequence: SotSequence) -> tuple[int, int] | None:
    """``(height, width)``: what the set says, else of the first image."""
    frames = sequence.frames[:1]
    return sequence.size or next(map(image_size, frames), None)


def _score_davis(
    sequence: SotSequence, results: ResultSet, tag: str, rules: Rules, notes: list[str]
) -> list[list[davis.ObjectScore]]:
    del tag, rules, notes
    truth = [path for path in sequence.masks if path is not None]
    images = results.images(sequence.name)
    # The first mask is given, and the last is left out by the official scorer.
    counted = truth[1:-1]
    if not counted:
        return []
    if bare := [path.stem for path in counted if path.stem not in images]:
        raise InputError(
            f"{results.path} has no mask of frame {bare[0]} of {sequence.name}; expected "
            f"{sequence.name}/{bare[0]}.png"
        )
    merge = sequence.merge_objects
    first = davis.true_labels(read_labels(truth[0]), merge=merge)
    objects = int(first.max(initial=0))
    if not objects:
        raise InputError(
            f"{truth[0]} shows no object: expected numbers from 1; 255 is 'not labelled' here, and "
            "the object in sets of the kind of davis2016"
        )
    j = np.zeros((len(counted), objects))
    f = np.zeros((len(counted), objects))
    for frame, path in enumerate(counted):
        member = images[path.stem]
        wanted = davis.true_labels(read_labels(path), merge=merge)
        found = results.labels(member)
        found = (found > 0).astype(np.uint8) if merge else found
        _check_labels(found, wanted, objects, results.files.where(member))
        j[frame] = davis.jaccard(found, wanted, objects)
        for number in range(1, objects + 1):
            f[frame, number - 1] = davis.boundary_f(found == number, wanted == number)
    return [[davis.ObjectScore(n + 1, j[:, n], f[:, n]) for n in range(objects)]]


def _check_labels(
    found: NDArray[np.uint8], wanted: NDArray[np.uint8], objects: int, where: str
) -> None:
    if found.shape != wanted.shape:
        raise InputError(
            f"{where} is {found.shape[1]}x{found.shape[0]}, its truth "
            f"{wanted.shape[1]}x{wanted.shape[0]}; expected the same size"
        )
    highest = int(found.max(initial=0))
    if highest > objects:
        raise InputError(
            f"{where} holds object {highest}; expected numbers up to {objects}, as in the first "
            "mask of the truth, and 0 for background"
        )


def _davis_measures(parts: list[list[davis.ObjectScore]]) -> dict[str, float]:
    return davis.davis_measures([each for objects in parts for each in objects])


def _score_vot(
    sequence: SotSequence, results: ResultSet, tag: str, rules: Rules, notes: list[str]
) -> list[vot.RunScore | vot.AnchorScore]:
    del tag, rules
    truth, size = vot.true_regions(sequence), _size_of(sequence)
    anchored = results.anchored(sequence.name)
    if anchored:
        low, high = vot.EAO_INTERVAL
        notes.append(f"EAO over {low} to {high} frames, as in VOT 2020 to 2022 (short term)")
        runs = [(anchor, regions) for _, anchor, regions in anchored]
        return [vot.score_anchors(runs, truth, size, anchored[0][0])]
    notes.append("no EAO: it needs runs from anchors, and here is one through each sequence")
    parts: list[vot.RunScore | vot.AnchorScore] = []
    for where, regions in results.regions(sequence.name):
        if len(regions) < len(truth):
            raise InputError(
                f"{where} has {len(regions)} regions, the truth of {sequence.name} has "
                f"{len(truth)}; expected one a frame"
            )
        parts.append(vot.score_run(regions[: len(truth)], truth, size))
    return parts


def _vot_measures(parts: list[Any]) -> dict[str, float]:
    anchored = [isinstance(part, vot.AnchorScore) for part in parts]
    if any(anchored) and not all(anchored):
        raise InputError(
            "some sequences have runs from anchors, others one run through all frames; expected "
            "results of one kind of experiment"
        )
    return vot.anchor_measures(parts) if any(anchored) else vot.run_measures(parts)


def _vot_curves(parts: list[Any]) -> dict[str, Curve]:
    if not isinstance(parts[0], vot.AnchorScore):
        return {}
    curve = vot.eao_curve(parts, vot.EAO_INTERVAL[1])
    scores = vot.anchor_measures(parts)
    return {"Expected average overlap": Curve(np.arange(float(len(curve))), curve, scores["EAO"])}


PROTOCOLS = {
    "success": ScoringProtocol(
        "boxes", _score_success, success.mean_curves, _success_measures, _success_curves
    ),
    "got10k": ScoringProtocol(
        "boxes",
        _score_got10k,
        np.concatenate,
        lambda parts: got10k.got10k_measures(np.concatenate(parts)),
        _got10k_curves,
    ),
    "davis": ScoringProtocol(
        "images", _score_davis, lambda runs: runs[0], _davis_measures, lambda parts: {}
    ),
    "vot": ScoringProtocol(
        "regions",
        _score_vot,
        lambda runs: runs[0] if isinstance(runs[0], vot.AnchorScore) else vot.mean_run(runs),
        _vot_measures,
        _vot_curves,
    ),
}
"""How the sets of ``Benchmark.protocol`` are scored; ``server`` is not here: it keeps its truth."""


@dataclass(frozen=True)
class SotScore(BenchmarkScore):
    """A tracker on a set of single objects, by the rules of ``PROTOCOLS``."""

    def curves(self) -> dict[str, Curve]:
        """Lines for the set's plots, by name; none for sets that are not plotted."""
        return PROTOCOLS[self.protocol].curves(self._parts(self.sequences))

    def _measures(self, sequences: Iterable[SequenceScore]) -> dict[str, float]:
        return PROTOCOLS[self.protocol].measures(self._parts(sequences))

    @staticmethod
    def _parts(sequences: Iterable[SequenceScore]) -> list[Any]:
        return [each.part for each in sequences if each.part is not None]


def score_benchmark(
    benchmark: Benchmark,
    results: ResultSet,
    *,
    strict: bool = False,
    absent: str = "miss",
    partial: bool = False,
    repair: bool = False,
    on_sequence: Callable[[str], None] = lambda name: None,
) -> SotScore:
    """Score the results of one tracker, as ``Rules`` say.

    ``on_sequence`` is called with each name when it is done.

    Raises:
        InputError: when the truth is not there, results are missing (without ``partial``), or a
            file is damaged, too short (without ``partial``) or holds boxes that are none.
    """
    protocol = PROTOCOLS.get(benchmark.protocol)
    if protocol is None:
        raise InputError(
            f"the truth of {benchmark.title} is kept by its organisers; send the results to their "
            "server, which scores them"
        )
    if absent != "miss" and benchmark.protocol != "success":
        raise InputError(
            f"--absent {absent} is for sets scored by success and precision; {benchmark.title} has "
            "a rule of its own for frames without target; leave it out"
        )
    if absent not in ABSENT:
        raise InputError(f"--absent is {absent!r}; expected one of {', '.join(ABSENT)}")
    rules = Rules(strict, absent, partial, repair)
    here, missing = sequences_here(
        benchmark.sequences, lambda each: results.holds(each.name, protocol.kind), results.path,
        benchmark.title, _EXPECTED[protocol.kind].format, partial=partial,
    )  # fmt: skip
    notes = _about_flags(here) if benchmark.tag == "lasot" and absent == "miss" else []
    scores = []
    for sequence in here:
        parts = protocol.score(sequence, results, benchmark.tag, rules, notes)
        part = protocol.merge(parts) if parts else None
        values = protocol.measures([part]) if part is not None else {}
        scores.append(SequenceScore(sequence.name, values, sequence.attributes, len(parts), part))
        on_sequence(sequence.name)
    left_out = [each.name for each in scores if each.part is None]
    if left_out:
        notes.append(f"no frame counts in {said(left_out)}: left out of the means")
    if len(left_out) == len(scores):
        raise InputError(f"{benchmark.title}: in no sequence is there a frame that counts")
    return SotScore(
        benchmark.key, benchmark.title, benchmark.protocol, results.name, tuple(scores),
        missing, tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _about_flags(sequences: list[SotSequence]) -> list[str]:
    """Say that LaSOT's success is not pytracking's where its flags and boxes disagree."""
    flagged = sum(
        int(np.count_nonzero(~each.visible & (each.boxes[:, 2:] > 0).all(axis=1)))
        for each in sequences
        if each.visible is not None
    )
    if not flagged:
        return []
    return [
        f"{flagged} frames flagged as absent have a truth box, and their overlap counts; "
        "with --absent pytracking they are missed, with --absent skip left out"
    ]
