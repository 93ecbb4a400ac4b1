"""Detections that are there for a set: its public ones, files of one's own, or its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision_mem.errors import InputError
from vision_mem.evaluation.mots.records import MotBenchmark, MotRules, MotSequence, read_truth
from vision_mem.formats.mots import KITTI_MOTS
from vision_mem.types import Detections, Frame

PUBLIC, TRUTH = "public", "truth"
SEQUENCE = "{sequence}"
"""Stands for a sequence's name in the path of a detections file."""

NUMBERS = {word: number for number, word in KITTI_MOTS.classes.items()}
"""Class numbers of detections while they are tracked, the same for every set."""

# KITTI's own download of reference detections (L-SVM, Regionlets) lies beside the images.
_KITTI_FOLDER = "det_02"


def detector_word(word: str, benchmark: MotBenchmark, sequence: MotSequence) -> str:
    """What to open for one sequence.

    Args:
        word: ``public``, ``public:DIR``, ``truth``, ``file:`` with ``{sequence}`` in its path, or
            any other word for a detector, which is given back as it is.
        benchmark: the set.
        sequence: one of it, with its images.

    Raises:
        InputError: when the detections of the sequence are not there; one line.
    """
    kind, _, rest = word.partition(":")
    if word == TRUTH:
        if sequence.truth is None:
            raise InputError(
                f"--detect truth: the truth of {sequence.name} is not here; choose a detector"
            )
        return word
    if kind == PUBLIC:
        return _public(rest, benchmark, sequence)
    if kind != "file":
        return word
    if SEQUENCE not in rest and len(benchmark.sequences) > 1:
        raise InputError(
            f"--detect {word} is one file, {benchmark.title} has {len(benchmark.sequences)} "
            f"sequences; expected file:DIR/{SEQUENCE}.txt"
        )
    found = rest.replace(SEQUENCE, sequence.name)
    path = Path(found if Path(found).is_file() else found.rpartition(":")[0] or found)
    if not path.expanduser().is_file():
        raise InputError(f"--detect {word}: no file {path} with detections of {sequence.name}")
    return f"file:{found}"


def _public(folder: str, benchmark: MotBenchmark, sequence: MotSequence) -> str:
    names = (sequence.name, *sequence.aliases)
    if folder:
        place = Path(folder).expanduser()
        candidates = [place / f"{name}.txt" for name in names]
        candidates += [place / name / "det" / "det.txt" for name in names]
        return f"file:{_first(candidates, benchmark, sequence)}"
    if not sequence.frames:
        raise InputError(f"{sequence.name} has no images; only its truth was found")
    images = sequence.frames[0].parent
    if benchmark.rules.files == "kitti" or benchmark.rules.first_frame == 0:
        path = images.parent.parent / _KITTI_FOLDER / f"{sequence.name}.txt"
        return f"file:{_first([path], benchmark, sequence)}:label"
    path = _first([images.parent / "det" / "det.txt"], benchmark, sequence)
    if benchmark.rules.masks:
        return f"file:{path}:kitti,box=xywh,first=1"
    # Two detectors of MOTChallenge write scores without bounds.
    wide = benchmark.key == "mot15" or sequence.name.endswith("-DPM")
    return f"file:{path}:mot,scores=sigmoid" if wide else f"file:{path}:mot"


def _first(candidates: list[Path], benchmark: MotBenchmark, sequence: MotSequence) -> Path:
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(
        f"no detections of {sequence.name} come with this copy of {benchmark.title}: no file "
        f"{candidates[0]}; name their folder as --detect public:DIR, or choose another detector: "
        f"truth, file:DIR/{SEQUENCE}.txt:FORMAT, motion, dfine, ..."
    )


class TruthDetections:
    """A detector that knows the truth: the boxes of all objects that are counted, scores 1.

    It is an oracle: what is tracked with it says how good tracking is, not detection.

    Raises:
        InputError: when the truth is not there or damaged.
    """

    name = TRUTH
    stateful = False
    reports_absence = True

    def __init__(self, sequence: MotSequence, rules: MotRules) -> None:
        rows = read_truth(sequence, rules)
        words = {number: word for word, number in rules.classes.items()}
        sizes = rows.boxes[:, 2:] - rows.boxes[:, :2]
        counted = np.isin(rows.classes, list(words)) & (sizes > 0).all(axis=1)
        if rules.files == "mot":
            counted &= rows.scores.astype(np.int64) != 0  # what the truth marks as not counted
        self._boxes = rows.boxes.astype(np.float32)
        self._labels = np.array(
            [NUMBERS[words[k]] if k in words else 0 for k in rows.classes.tolist()], np.int64
        )
        self._at = [some[counted[some]] for some in rows.by_frame(sequence.length)]

    def detect(self, frame: Frame) -> Detections:
        """The objects of a frame, by its index."""
        some = self._at[frame.index]
        names = {number: word for word, number in NUMBERS.items()}
        return Detections(self._boxes[some], labels=self._labels[some], names=names)

    def reset(self) -> None:
        """Nothing changes from frame to frame."""

    def close(self) -> None:
        """Nothing is held that needs closing."""
