"""What a run on a set of many objects comes to: scores, or a file for the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.run import write_scores
from vision_mem.evaluation.mots.job import DetectedJob
from vision_mem.evaluation.mots.records import MotBenchmark
from vision_mem.evaluation.mots.results import MotResults
from vision_mem.evaluation.mots.scores import score_tracks
from vision_mem.evaluation.sot.scoring import Rules
from vision_mem.evaluation.submission import write_zip

SERVERS: Mapping[str, str] = {
    "kitti-mots": "https://www.cvlibs.net/datasets/kitti/eval_mots.php",
    "kitti-mot": "https://www.cvlibs.net/datasets/kitti/eval_tracking.php",
    "mots-challenge": "https://motchallenge.net",
    "mot15": "https://motchallenge.net",
    "mot17": "https://motchallenge.net",
    "mot20": "https://motchallenge.net",
}
"""Where results on sequences without truth are sent in, by the word for a set."""


def sum_up_tracks(benchmark: MotBenchmark, folder: EvaluationFolder, tracker: str) -> list[str]:
    """Score all that is there, or pack it for the server that keeps the truth.

    Args:
        benchmark: the whole set.
        folder: tables, JSON and plots go to its ``scores``, a submission to ``submission``.
        tracker: its name in tables.

    Returns:
        What to tell the user, line by line.

    Raises:
        InputError: when there is no result, or the truth cannot be read.
        SinkError: when something cannot be written.
    """
    known = tuple(each for each in benchmark.sequences if each.truth is not None)
    if not known:
        return _pack(benchmark, folder)
    rules = Rules(partial=True)
    scored = replace(benchmark, sequences=known)
    with MotResults(folder.results, scored, tracker) as results:
        if not any(results.holds(each) for each in known):
            return ["nothing to score: no sequence with results has its truth here"]
        score = score_tracks(scored, results, partial=True)
    return write_scores(folder, score, rules, benchmark.notes)


def _pack(benchmark: MotBenchmark, folder: EvaluationFolder) -> list[str]:
    """``NAME.txt`` of all sequences, and nothing else."""
    jobs = [
        DetectedJob(each, benchmark.rules, benchmark.title, "truth") for each in benchmark.sequences
    ]
    if missing := folder.undone(jobs):
        return [
            f"no submission yet: {len(missing)} sequences to go, the first is {missing[0].name}"
        ]
    write_zip(folder.submission, folder.results, [job.file for job in jobs])
    notes = [f"submission: {folder.submission}", f"send it in at {SERVERS[benchmark.key]}"]
    if benchmark.key == "mot17":
        notes.append("the server of MOT17 expects a file for each of DPM, FRCNN and SDP")
    return notes
