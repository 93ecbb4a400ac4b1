"""Record what the official scorers say of generated results; the parity tests compare with it.

In a scratch environment, one part at a time:

    pip install got10k==0.1.3 vos-benchmark==0.1.0 vot-toolkit==0.9.0 scikit-image torch
    python scripts/goldens/scorers.py got10k
    python scripts/goldens/scorers.py davis
    python scripts/goldens/scorers.py vot
    python scripts/goldens/scorers.py pytracking --source .../pytracking/analysis/extract_results.py

Inputs come from ``tests/fixtures/scorer_inputs.py``; their fingerprint is stored with the numbers.
``got10k`` 0.1.3 wants ``pip install wget fire six``; ``attributee`` (of vot-toolkit) wants
``@dataclass()`` for ``@dataclass`` in its ``__init__.py`` to import on new Pythons.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
import scorer_inputs as inputs  # noqa: E402


def record_got10k() -> dict:
    """``ExperimentGOT10k.report`` on files, and ``ExperimentOTB``'s curves on arrays."""
    import matplotlib

    matplotlib.use("Agg")
    from got10k.experiments import ExperimentGOT10k, ExperimentOTB

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inputs.write_got10k(place / "data", place / "results" / "GOT-10k" / "ours")
        experiment = ExperimentGOT10k(
            str(place / "data"), "val", str(place / "results"), str(place / "reports")
        )
        found = experiment.report(["ours"])["ours"]
    otb = object.__new__(ExperimentOTB)
    otb.nbins_iou, otb.nbins_ce = 21, 51
    curves = {}
    for name, (_, truth, visible, predicted) in inputs.success_cases().items():
        whole = len(predicted) == len(truth) and np.isfinite(truth).all() and visible is None
        if whole and (predicted[:, 2:] > 0).all() and (truth[:, 2:] > 0).all():
            boxes = predicted.copy()
            boxes[0] = truth[0]
            pair = otb._calc_curves(*otb._calc_metrics(boxes, truth.copy()))
            curves[name] = [curve.tolist() for curve in pair]
    sequences = {name: values["ao"] for name, values in found["seq_wise"].items()}
    overall = {key: found["overall"][key] for key in ("ao", "sr", "succ_curve")}
    return {"overall": overall, "sequences": sequences, "otb": curves}


def record_davis() -> dict:
    """``vos_benchmark``'s J and F of each object, first and last frame left out, in percent."""
    from vos_benchmark.evaluator import Evaluator

    found = {}
    for name, (truth, predicted) in inputs.mask_set().items():
        frames = {}
        for merged in (False, True):
            evaluator = Evaluator(name=name)
            for wanted, ours in zip(truth[1:-1], predicted[1:-1], strict=True):
                pair = (ours > 0, wanted > 0) if merged else (ours, wanted)
                evaluator.feed_frame(*(image.astype(np.uint8) for image in pair))
            for number in evaluator.objects_in_gt:
                frames[f"{'merged' if merged else number}"] = {
                    "j": [float(v) for v in evaluator.object_iou[number]],
                    "f": [float(v) for v in evaluator.boundary_f[number]],
                }
        found[name] = frames
    return found


def record_vot() -> dict:
    """Overlaps and measures of vot-toolkit's own analyses, on regions in memory."""
    from vot.analysis.accuracy import AverageAccuracy
    from vot.analysis.longterm import AccuracyRobustness, AverageQualityAuxiliary
    from vot.analysis.multistart import AverageAccuracyRobustness, EAOCurve
    from vot.dataset import InMemorySequence
    from vot.experiment.multirun import UnsupervisedExperiment
    from vot.experiment.multistart import MultiStartExperiment
    from vot.region.io import parse_region
    from vot.region.raster import calculate_overlaps
    from vot.tracker import Trajectory
    from vot.utilities.data import Grid

    height, width = inputs.SIZE
    sets, anchors = inputs.vot_set(), inputs.vot_anchors()

    class Held(InMemorySequence):
        size = (width, height)

        def object(self, oid, index=None):
            # The toolkit asks for an object that holds what is to be ignored; there is none.
            return None if oid == "_ignore" else super().object(oid, index)

    sequences, runs = [], {}
    for name, (truth, predicted) in sets.items():
        sequence = Held(name, ["color"])
        for frame, line in enumerate(truth):
            values = {}
            if frame in anchors[name]:
                values["anchor"] = 1 if anchors[name][frame][0] else -1
            image = np.zeros((height, width, 3), np.uint8)
            sequence.append({"color": image}, parse_region(line), values=values)
        sequences.append(sequence)
        runs[name] = [parse_region(line) for line in predicted]

    def filled(regions):
        trajectory = Trajectory(len(regions))
        for frame, region in enumerate(regions):
            trajectory.set(frame, region)
        return trajectory

    class OneRun(UnsupervisedExperiment):
        def __init__(self):
            pass

        def gather(self, tracker, sequence, objects=None, pad=False):
            return [filled(runs[sequence.name])]

    def along(analysis, experiment):
        grid = Grid(len(sequences), 1)
        for index, sequence in enumerate(sequences):
            grid[index, 0] = analysis.subcompute(experiment, None, sequence, [])
        return grid

    one = OneRun()
    settings = {"burnin": 0, "ignore_unknown": False}  # codespell:ignore burnin
    quality = AverageAccuracy(weighted=False, **settings)
    auxiliary = AverageQualityAuxiliary()
    robust = AccuracyRobustness()
    counts, accuracy = robust.dependencies()
    pair = [Grid(1, len(sequences)), Grid(1, len(sequences))]
    for index, sequence in enumerate(sequences):
        pair[0][0, index] = counts.subcompute(one, None, sequence, [])
        pair[1][0, index] = accuracy.subcompute(one, None, sequence, [])
    a, r, _ = robust.compute(one, [None], sequences, pair)[0, 0]
    (q,) = quality.aggregate(None, sequences, along(quality.dependencies()[0], one))
    nre, dre, adq = auxiliary.aggregate(None, sequences, along(auxiliary.dependencies()[0], one))

    class Store:
        def __init__(self, sequence):
            self.lines = {
                f"{sequence.name}_{anchor:08d}.txt": lines
                for anchor, (_, lines) in anchors[sequence.name].items()
            }

        def exists(self, name):
            return name in self.lines

        def read(self, name):
            import io

            return io.StringIO("\n".join(self.lines[name]) + "\n")

        def find(self, pattern):
            return []

    class Anchored(MultiStartExperiment):
        anchor = "anchor"

        def __init__(self):
            pass

        def results(self, tracker, sequence):
            return Store(sequence)

    started = Anchored()
    average = AverageAccuracyRobustness()
    rates = average.aggregate(None, sequences, along(average.dependencies()[0], started))
    curve = EAOCurve(high=60)
    (eao,) = curve.aggregate(None, sequences, along(curve.dependencies()[0], started))
    return {
        "overlaps": {
            s.name: calculate_overlaps(runs[s.name], s.groundtruth(), (width, height))
            for s in sequences
        },
        "one run": {"Q": q, "A": a, "R": r, "NRE": nre, "DRE": dre, "ADQ": adq},
        "anchors": {"A": rates[0], "R": rates[1], "curve": eao},
    }


def record_pytracking(source: Path) -> dict:
    """The errors of ``calc_seq_err_robust`` and the counts made from them."""
    import torch

    wanted = {"calc_err_center", "calc_iou_overlap", "calc_seq_err_robust"}
    tree = ast.parse(source.read_text(encoding="utf-8"))
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in wanted]
    names: dict = {"torch": torch}
    exec(compile(tree, str(source), "exec"), names)
    thresholds = {
        "success": torch.arange(0.0, 1.05, 0.05, dtype=torch.float64),
        "precision": torch.arange(0, 51, dtype=torch.float64),
        "normalised": torch.arange(0, 51, dtype=torch.float64) / 100.0,
    }
    found = {}
    for name, (tag, truth, visible, predicted) in inputs.success_cases().items():
        flags = None if visible is None else torch.tensor(visible, dtype=torch.uint8)
        overlap, centre, normalised, valid = names["calc_seq_err_robust"](
            torch.tensor(predicted), torch.tensor(truth), tag, flags
        )
        errors = {"success": overlap, "precision": centre, "normalised": normalised}
        curves = {}
        for kind, values in errors.items():
            column, row = values.view(-1, 1), thresholds[kind].view(1, -1)
            hits = column > row if kind == "success" else column <= row
            curves[kind] = (hits.sum(0).double() / len(truth)).tolist()
        found[name] = {**curves, "valid": int(valid.sum())}
    return found


def main() -> None:
    """Record one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["got10k", "davis", "vot", "pytracking"])
    parser.add_argument("--source", type=Path, help="pytracking's extract_results.py")
    args = parser.parse_args()
    if args.part == "pytracking":
        if args.source is None:
            parser.error("pytracking needs --source")
        found = record_pytracking(args.source)
    else:
        found = globals()[f"record_{args.part}"]()
    from importlib.metadata import version

    package = {"got10k": "got10k", "davis": "vos-benchmark", "vot": "vot-toolkit"}.get(args.part)
    made = {
        "command": f"python scripts/goldens/scorers.py {args.part}",
        "scorer": f"{package} {version(package)}" if package else "pytracking",
        "numpy": np.__version__,
        "inputs": inputs.fingerprint(),
    }
    path = ROOT / "tests" / "goldens" / "scorers" / f"{args.part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"made": made, **found}, indent=1) + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
