"""Copies of public benchmarks, read into ``evaluation.records``."""

from vision_mem.evaluation.filetree import FileTree, read_text
from vision_mem.evaluation.sets.masktruth import boxes_around, read_labels
from vision_mem.evaluation.sets.opening import BENCHMARKS, open_benchmark
from vision_mem.evaluation.sets.textfiles import read_rows

__all__ = [
    "BENCHMARKS",
    "FileTree",
    "boxes_around",
    "open_benchmark",
    "read_labels",
    "read_rows",
    "read_text",
]
