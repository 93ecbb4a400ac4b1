"""Sets of questions about videos: their titles and folders; ``open`` knows the rest."""

from __future__ import annotations

from vision_mem.evaluation.registry import Dataset

DATASETS: dict[str, Dataset] = {
    "ovo-bench": Dataset(
        "OVO-Bench", "data/ovo_bench_new.json, data/src_videos/ or data/chunked_videos/"
    ),
    "streamingbench": Dataset(
        "StreamingBench", "Real_Time_Visual_Understanding.csv or questions_real.json, ...; videos/"
    ),
    "odv-bench": Dataset("ODV-Bench", "odv_bench.json, videos/"),
    "streams": Dataset("generated streams", "what prepare_streams writes"),
}
"""The sets by their words on the command line."""
