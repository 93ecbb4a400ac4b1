"""Time our scorer of masks beside TrackEval on the same generated files, in one run.

    pip install trackeval==1.3.0
    python scripts/bench/mot_scores.py

TrackEval may lie elsewhere: ``--path .../site-packages``. Both read the text files, compute all
overlaps, and HOTA, CLEAR and identity measures of two classes. Prints one JSON object.

Measured with ``--sequences 6 --frames 250`` (28,411 masks of 1242x375, one thread): ours 0.65 s of
processor time, TrackEval 1.3.0 1.52 s, 2.3 times; equal HOTA. Half of ours is reading text.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

HEIGHT, WIDTH = 375, 1242
QUIET = {"PRINT_CONFIG": False}


def ellipses(random, boxes):
    """Disjoint ellipses, one a box, as COCO strings; None for those fully covered."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    for place, (x, y, w, h) in enumerate(boxes, start=1):
        top, left = max(int(y - h), 0), max(int(x - w), 0)
        part = labels[top : int(y + h) + 1, left : int(x + w) + 1]
        rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
        part[((columns + left - x) / w) ** 2 + ((rows + top - y) / h) ** 2 <= 1] = place
    found = [(labels == place).astype(np.uint8) for place in range(1, len(boxes) + 1)]
    return [coco.encode(each)["counts"].decode() if each.any() else None for each in found]


def write(root, sequences, frames, objects, seed=0):
    """A set in TrackEval's layout of KITTI MOTS; returns how many masks there are."""
    random = np.random.default_rng(seed)
    truth_folder, found_folder = root / "gt" / "label_02", root / "trackers" / "ours" / "data"
    truth_folder.mkdir(parents=True)
    found_folder.mkdir(parents=True)
    count = 0
    for number in range(sequences):
        place = random.uniform(0, [WIDTH, HEIGHT, 1, 1], (objects, 4))
        place[:, 2:] = random.uniform(12, 60, (objects, 2))
        names = np.arange(objects) + 100
        lines = [[], []]
        for frame in range(frames):
            place[:, :2] = (place[:, :2] + random.normal(0, 4, (objects, 2))) % [WIDTH, HEIGHT]
            moved = place + random.normal(0, 2, place.shape) * [1, 1, 0.5, 0.5]
            changes = random.random(objects) < 0.01
            names[changes] = names.max() + 1 + np.arange(changes.sum())
            for side, boxes in enumerate((place, moved)):
                for which, runs in enumerate(ellipses(random, boxes)):
                    if runs is None or (side and random.random() < 0.1):
                        continue
                    kind = 1 + which % 2
                    identity = kind * 1000 + (names[which] if side else which)
                    lines[side].append(f"{frame} {identity} {kind} {HEIGHT} {WIDTH} {runs}\n")
        count += len(lines[0]) + len(lines[1])
        (truth_folder / f"{number:04d}.txt").write_text("".join(lines[0]))
        (found_folder / f"{number:04d}.txt").write_text("".join(lines[1]))
    rows = [f"{number:04d} empty 000000 {frames - 1:06d}\n" for number in range(sequences)]
    (root / "gt" / "evaluate_mots.seqmap.val").write_text("".join(rows))
    return count


def ours(root):
    """HOTA of cars."""
    from vision_mem.evaluation.mots.datasets import open_mot_benchmark
    from vision_mem.evaluation.mots.results import MotResults
    from vision_mem.evaluation.mots.scores import score_tracks

    benchmark = open_mot_benchmark("kitti-mots", root / "gt", need_frames=False)
    with MotResults(root / "trackers" / "ours", benchmark) as results:
        return score_tracks(benchmark, results).by_class()["car"]["HOTA"]


def theirs(root):
    """HOTA of cars."""
    import trackeval

    settings = {"PRINT_RESULTS": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False,
                "OUTPUT_DETAILED": False, "PLOT_CURVES": False, "LOG_ON_ERROR": None}  # fmt: skip
    places = {"GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "trackers")}
    with contextlib.redirect_stdout(io.StringIO()):
        read = trackeval.datasets.KittiMOTS({**places, "TRACKERS_TO_EVAL": ["ours"], **QUIET})
        known = trackeval.metrics
        metrics = [known.HOTA(), known.CLEAR(QUIET), known.Identity(QUIET)]
        found = trackeval.Evaluator({**settings, **QUIET}).evaluate([read], metrics)[0]
    return float(found["KittiMOTS"]["ours"]["COMBINED_SEQ"]["car"]["HOTA"]["HOTA"].mean())


def timed(score, root):
    """Seconds on the clock, seconds of the processor, what came out."""
    begun, worked = time.perf_counter(), time.process_time()
    value = score(root)
    return time.perf_counter() - begun, time.process_time() - worked, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", help="where TrackEval is installed, if not here")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--objects", type=int, default=10)
    args = parser.parse_args()
    if args.path:
        sys.path.append(args.path)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        masks = write(root, args.sequences, args.frames, args.objects)
        # Once small beforehand, so that imports are not timed.
        with tempfile.TemporaryDirectory() as warm:
            write(Path(warm), 2, 3, 2)
            ours(Path(warm))
            theirs(Path(warm))
        mine, yours = timed(ours, root), timed(theirs, root)
    found = {
        "sequences": args.sequences, "frames": args.sequences * args.frames, "masks": masks,
        "ours": {"seconds": mine[0], "processor_seconds": mine[1]},
        "trackeval": {"seconds": yours[0], "processor_seconds": yours[1]},
        "times_faster": yours[1] / mine[1],
        "hota_difference": abs(mine[2] - yours[2]),
        "python": platform.python_version(), "numpy": np.__version__,
        "processor": platform.processor() or platform.machine(),
    }  # fmt: skip
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
