"""Run what is left of an evaluation, wherever it runs, and keep its folder up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vision_mem.errors import InputError
from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.progress import EvaluationProgress
from vision_mem.evaluation.engine.runner import Failed, Finished, Job, MakeSession, Message, Ready
from vision_mem.evaluation.sot.records import Benchmark

if TYPE_CHECKING:
    from vision_mem.evaluation.scores import BenchmarkScore
    from vision_mem.evaluation.sot.scoring import Rules


@dataclass(frozen=True)
class Workplace:
    """Where sequences run.

    Attributes:
        devices: torch devices, given to the workers in turn.
        workers: processes, or actors of the cluster; None for one a device, or as the cluster
            has room.
        ray: address of a Ray cluster, ``auto`` or ``local``; None for this machine alone.
    """

    devices: tuple[str, ...] = ("auto",)
    workers: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if not self.devices or not all(self.devices):
            raise InputError("--devices names no device; expected cuda:0,cuda:1 or so")
        if self.ray is not None and len(self.devices) > 1:
            raise InputError("--ray gives each worker a device of its machine; leave out --devices")
        if self.workers is not None and self.workers < len(self.devices):
            raise InputError(
                f"{self.workers} workers cannot use {len(self.devices)} devices; give --workers "
                f"{len(self.devices)} or more, or fewer --devices"
            )


def evaluate(
    jobs: Sequence[Job],
    folder: EvaluationFolder,
    make_session: MakeSession,
    place: Workplace,
    stop: Callable[[], bool] = lambda: False,
    *,
    title: str = "",
    show: bool = False,
) -> EvaluationProgress:
    """Run the sequences that have no whole results yet, and write their results.

    Args:
        jobs: all sequences wanted.
        folder: after ``begin``.
        make_session: loads the model; must be found by its name where work is done elsewhere.
        place: where to run.
        stop: asked often; True ends the run and drops the sequences in hand.
        title: of the set, for the progress line.
        show: progress on standard error.

    Returns:
        What was done: counts, frames, sequences that failed.

    Raises:
        VisionMemError: when a model cannot be loaded or is another one than the results were
            made with, or results cannot be written; those written before stay.
    """
    undone = folder.undone(jobs)
    done = len(jobs) - len(undone)
    with EvaluationProgress(undone, done=done, title=title, show=show) as progress:

        def tell(message: Message) -> None:
            if isinstance(message, Ready):
                folder.settle_model(message.model)
            elif isinstance(message, (Finished, Failed)):
                folder.write(message)
            progress.hear(message)

        if undone and place.ray is not None:
            from vision_mem.evaluation.engine.ray import run_on_ray

            run_on_ray(
                undone, make_session, place.devices[0], tell, stop,
                address=place.ray, workers=place.workers,
            )  # fmt: skip
        elif undone and (place.workers or 1) == 1 and len(place.devices) == 1:
            from vision_mem.evaluation.engine.runner import run_here

            run_here(undone, make_session, place.devices[0], tell, stop)
        elif undone:
            from vision_mem.evaluation.engine.processes import run_in_processes

            workers = place.workers or len(place.devices)
            run_in_processes(undone, make_session, place.devices, tell, stop, workers)
    return progress


def sum_up(benchmark: Benchmark, folder: EvaluationFolder, tracker: str) -> list[str]:
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
    from vision_mem.evaluation.scores import score_benchmark
    from vision_mem.evaluation.sot.results import ResultSet
    from vision_mem.evaluation.sot.scoring import Rules
    from vision_mem.evaluation.submission import SERVERS, missing_results, write_submission

    if benchmark.key in SERVERS:
        if missing := missing_results(benchmark, folder.results):
            return [f"no submission yet: {len(missing)} sequences to go, the first is {missing[0]}"]
        notes = write_submission(benchmark, folder.results, folder.submission)
        return [f"submission: {folder.submission}", *notes]
    rules = Rules(partial=True)
    with ResultSet(folder.results, tracker) as results:
        score = score_benchmark(benchmark, results, **vars(rules))
    return write_scores(folder, score, rules, benchmark.notes)


def write_scores(
    folder: EvaluationFolder, score: BenchmarkScore, rules: Rules, of_benchmark: Sequence[str]
) -> list[str]:
    """Write the tables, JSON and plots of a score.

    Args:
        folder: they go to its ``scores``.
        score: of one tracker.
        rules: it was scored by.
        of_benchmark: what was odd in the copy of the set.

    Returns:
        What to tell the user, line by line.

    Raises:
        SinkError: when something cannot be written.
    """
    from vision_mem.evaluation import report

    report.write_report(folder.scores, [score], rules, of_benchmark)
    attributes = report.attribute_table([score])
    notes = [f"note: {note}" for note in report.notes([score])]
    return ["", report.table([score]), *(["", attributes] if attributes else []), "", *notes]
