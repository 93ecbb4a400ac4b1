"""Many objects at once: benchmarks of masks and boxes with identities, and their metrics."""

from vision_mem.evaluation.mots.datasets.open import MOT_BENCHMARKS, open_mot_benchmark
from vision_mem.evaluation.mots.records import MotBenchmark, MotSequence, read_truth
from vision_mem.evaluation.mots.results import MotResults, read_mot_results
from vision_mem.evaluation.mots.scores import MotScore, score_tracks

__all__ = [
    "MOT_BENCHMARKS",
    "MotBenchmark",
    "MotResults",
    "MotScore",
    "MotSequence",
    "open_mot_benchmark",
    "read_mot_results",
    "read_truth",
    "score_tracks",
]
