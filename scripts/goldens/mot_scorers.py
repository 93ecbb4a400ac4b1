"""Record what official scorers of many objects say of generated files; parity tests compare.

In a scratch environment, one part at a time:

    pip install trackeval==1.3.0 motmetrics==1.4.0
    python scripts/goldens/mot_scorers.py trackeval
    python scripts/goldens/mot_scorers.py motmetrics

Inputs come from ``tests/fixtures/mot_inputs.py``; their fingerprint is stored with the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
import mot_inputs as inputs  # noqa: E402

QUIET = {"PRINT_CONFIG": False}
EVALUATOR = {
    "PRINT_RESULTS": False, "PRINT_CONFIG": False, "TIME_PROGRESS": False,
    "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "PLOT_CURVES": False,
    "LOG_ON_ERROR": None,
}  # fmt: skip
ALL_SEQUENCES = "COMBINED_SEQ"


def dataset(key: str, root: Path):
    """TrackEval's reader on the files of a set."""
    from trackeval import datasets

    place = {"GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "trackers"),
             "TRACKERS_TO_EVAL": [inputs.TRACKER], **QUIET}  # fmt: skip
    if key == "kitti-mots":
        return datasets.KittiMOTS(place)
    if key == "kitti-mot":
        return datasets.Kitti2DBox(place)
    if key == "mots-challenge":
        return datasets.MOTSChallenge(place)
    return datasets.MotChallenge2DBox({**place, "BENCHMARK": key.upper()})


def metrics():
    from trackeval import metrics as known

    return [known.HOTA(), known.CLEAR(QUIET), known.Identity(QUIET)]


def plain(found: dict) -> dict:
    """One number each: over thresholds the mean, and for HOTA the thresholds' values too."""
    wanted = (
        ("HOTA", ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")),
        ("CLEAR", ("MOTA", "MOTP", "sMOTA", "CLR_Re", "CLR_Pr", "CLR_TP", "CLR_FN", "CLR_FP",
                   "IDSW", "MT", "PT", "ML", "Frag")),
        ("Identity", ("IDF1", "IDR", "IDP", "IDTP", "IDFN", "IDFP")),
    )  # fmt: skip
    numbers = {
        name: float(np.mean(found[metric][name])) for metric, names in wanted for name in names
    }
    return {**numbers, "curve": np.asarray(found["HOTA"]["HOTA"]).tolist()}


def score(key: str, root: Path) -> dict:
    """By sequence and class; of all sequences also over all classes, both ways."""
    import trackeval

    read, counted = dataset(key, root), metrics()
    with contextlib.redirect_stdout(io.StringIO()):
        results, messages = trackeval.Evaluator(EVALUATOR).evaluate([read], counted)
    name = read.get_name()
    if messages[name][inputs.TRACKER] != "Success":
        raise SystemExit(f"{key}: {messages[name][inputs.TRACKER]}")
    found = results[name][inputs.TRACKER]
    recorded = {
        sequence: {kind: plain(values) for kind, values in classes.items()}
        for sequence, classes in found.items()
    }
    total = found[ALL_SEQUENCES]
    for word, combine in (("averaged", "combine_classes_class_averaged"),
                          ("pooled", "combine_classes_det_averaged")):  # fmt: skip
        together = {
            metric.get_name(): getattr(metric, combine)(
                {kind: total[kind][metric.get_name()] for kind in read.class_list}
            )
            for metric in counted
        }
        recorded[ALL_SEQUENCES][word] = plain(together)
    return recorded


def record_trackeval() -> dict:
    found = {}
    for key, (write, _, _) in inputs.SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write(root)
            found[key] = {"inputs": inputs.fingerprint(root), "scores": score(key, root)}
    tables = {}
    for seed in range(8):
        with contextlib.redirect_stdout(io.StringIO()):
            data = as_trackeval(inputs.frame_tables(seed))
            tables[str(seed)] = plain({m.get_name(): m.eval_sequence(data) for m in metrics()})
    return {"made": {"trackeval": version("trackeval")}, "sets": found, "tables": tables}


def as_trackeval(frames) -> dict:
    truth = np.unique(np.concatenate([frame[0] for frame in frames]))
    result = np.unique(np.concatenate([frame[1] for frame in frames]))
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(result),
        "num_gt_dets": sum(len(frame[0]) for frame in frames),
        "num_tracker_dets": sum(len(frame[1]) for frame in frames),
        "gt_ids": [np.searchsorted(truth, frame[0]) for frame in frames],
        "tracker_ids": [np.searchsorted(result, frame[1]) for frame in frames],
        "similarity_scores": [frame[2] for frame in frames],
    }


def record_motmetrics() -> dict:
    import motmetrics

    wanted = ["mota", "motp", "idf1", "idp", "idr", "recall", "precision", "num_switches",
              "num_false_positives", "num_misses", "num_fragmentations", "mostly_tracked",
              "partially_tracked", "mostly_lost", "num_unique_objects"]  # fmt: skip
    found = {}
    for seed in range(8):
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        for truth, result, overlap in inputs.frame_tables(seed):
            distance = 1 - overlap
            distance[distance > 0.5] = np.nan
            accumulator.update(truth, result, distance)
        host = motmetrics.metrics.create()
        row = host.compute(accumulator, metrics=wanted, name="all").loc["all"]
        found[str(seed)] = {name: float(row[name]) for name in wanted}
    return {"made": {"motmetrics": version("motmetrics")}, "tables": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"trackeval": record_trackeval, "motmetrics": record_motmetrics}
    parser.add_argument("part", choices=parts)
    part = parser.parse_args().part
    found = parts[part]()
    found["made"] |= {
        "command": f"python scripts/goldens/mot_scorers.py {part}", "numpy": np.__version__,
    }  # fmt: skip
    path = ROOT / "tests" / "goldens" / "mots" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
