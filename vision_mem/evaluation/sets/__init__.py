"""Copies of public benchmarks, read into ``evaluation.records``."""

from vision_mem.evaluation.sets.masktruth import boxes_around, read_labels
from vision_mem.evaluation.sets.opening import BENCHMARKS, open_benchmark
from vision_mem.evaluation.sets.textfiles import TextFiles, read_rows, read_text

__all__ = [
    "BENCHMARKS",
    "TextFiles",
    "boxes_around",
    "open_benchmark",
    "read_labels",
    "read_rows",
    "read_text",
]
