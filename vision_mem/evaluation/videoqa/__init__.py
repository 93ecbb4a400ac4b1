"""Questions about videos: benchmarks that ask while the video runs, and how answers are scored."""

from vision_mem.evaluation.videoqa.datasets.open import VIDEOQA_SETS, open_videoqa_benchmark
from vision_mem.evaluation.videoqa.records import Query, Reply, VideoQaBenchmark, VideoQueries
from vision_mem.evaluation.videoqa.results import VideoQaResults
from vision_mem.evaluation.videoqa.scores import VideoQaScore, score_answers

__all__ = [
    "VIDEOQA_SETS",
    "Query",
    "Reply",
    "VideoQaBenchmark",
    "VideoQaResults",
    "VideoQaScore",
    "VideoQueries",
    "open_videoqa_benchmark",
    "score_answers",
]
