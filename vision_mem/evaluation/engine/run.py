"""Run what is left of an evaluation, wherever it runs, and keep its folder up to date."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mem._version import __version__
from vision_mem.evaluation.engine.folder import EvaluationFolder, holds_results_of
from vision_mem.evaluation.engine.progress import EvaluationProgress
from vision_mem.evaluation.engine.runner import Failed, Finished, Job, MakeSession, Message, Ready
from vision_mem.evaluation.options import Workplace, usual_folder
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import count

if TYPE_CHECKING:
    from vision_mem.evaluation.scores import BenchmarkScore, Rules


@dataclass(frozen=True)
class EvaluationPlan:
    """What to run, whichever family of benchmarks it is.

    Attributes:
        key: of the benchmark, for its results folder and its record.
        title: of the benchmark.
        notes: what to say of it before it begins.
        preset: its name, for files and tables.
        changes: to the preset, for the record.
        identity: what all results in a folder have in common, beside version and benchmark.
        jobs: what to run.
        make: loads the model.
        sum_up: scores all that is in the folder, or packs it; gets the tracker's name.
        tracker: that name.
        place: where to run.
        around: what speed "end to end" counts beside tracking.
    """

    key: str
    title: str
    notes: Sequence[str]
    preset: str
    changes: Sequence[str]
    identity: Mapping[str, object]
    jobs: Sequence[Job]
    make: MakeSession
    sum_up: Callable[[EvaluationFolder, str], list[str]]
    tracker: str
    place: Workplace = field(default_factory=Workplace)
    around: str = "reading files"

    def carry_out(self, out: Path | None, *, resume: bool, overwrite: bool, quiet: bool) -> int:
        """Run what is left, and sum up what is there; see ``registry.Plan``."""
        identity = {"benchmark": self.key, "version": __version__, **_USUAL, **self.identity}
        name = f"{self.key}-{Path(self.preset).stem}"
        out = out or usual_folder(name, lambda old: holds_results_of(old, identity), overwrite)
        remarks = {"preset": self.preset, "changes": list(self.changes)}
        folder = EvaluationFolder(out, identity, remarks, overwrite=overwrite, resume=resume)
        if not quiet:
            for note in self.notes:
                print(f"note: {note}", file=sys.stderr)
        folder.begin()
        with StopSignals() as signals:
            progress = evaluate(
                self.jobs, folder, self.make, self.place, lambda: signals.received is not None,
                title=self.title, show=not quiet,
            )  # fmt: skip
        left, total = len(folder.undone(self.jobs)), len(self.jobs)
        if not quiet:
            print(f"{self.title}: {total - left} of {count(total, 'sequence')} done")
        for failed in progress.failed:
            print(f"error: {failed.sequence}: {failed.reason}", file=sys.stderr)
        if signals.received is not None:
            print(f"stopped; the same command goes on with {out}", file=sys.stderr)
            return signals.exit_code
        if left < total:
            lines = self.sum_up(folder, self.tracker)
            if (speed := folder.speed(self.jobs)) is not None:
                alone, whole = speed
                lines.append(
                    f"speed of a worker: {alone:.1f} frames/s, {whole:.1f} with {self.around}"
                )
            if not quiet:
                print("\n".join([*lines, f"results: {out}"]))
        return 1 if progress.failed else 0


# What families without such options record, as all did before each had its own.
_USUAL: Mapping[str, object] = {
    "model_name": "", "precision": "auto", "attention": "exact", "resize": "pil_bicubic",
    "strict": False,
}  # fmt: skip


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
        title: of the set, for the progress line on standard error.
        show: whether there is one.

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

        if undone:
            hand_out(undone, make_session, place, tell, stop)
    return progress


def hand_out(
    jobs: Sequence[Job],
    make_session: MakeSession,
    place: Workplace,
    tell: Callable[[Message], None],
    stop: Callable[[], bool],
    *,
    apart: bool = False,
) -> None:
    """Run jobs here, in processes, or on a cluster, as their place says.

    Args:
        jobs: what to run, in this order.
        make_session: makes what they run on; must be found by its name.
        place: where to run.
        tell: hears what happens, in this process.
        stop: asked often; True ends the run and drops what is in hand.
        apart: never in this process, so that no job can bring it down.
    """
    if place.ray is not None:
        from vision_mem.evaluation.engine.ray import run_on_ray

        run_on_ray(
            jobs, make_session, place.devices[0], tell, stop,
            address=place.ray, workers=place.workers,
        )  # fmt: skip
    elif (place.workers or 1) == 1 and len(place.devices) == 1 and not apart:
        from vision_mem.evaluation.engine.runner import run_here

        run_here(jobs, make_session, place.devices[0], tell, stop)
    else:
        from vision_mem.evaluation.engine.processes import run_in_processes

        workers = place.workers or len(place.devices)
        run_in_processes(jobs, make_session, place.devices, tell, stop, workers)


def write_scores(
    folder: EvaluationFolder, score: BenchmarkScore, rules: Rules, of_benchmark: Sequence[str]
) -> list[str]:
    """Write the report of a score to the folder's ``scores``, and say it, line by line.

    Raises:
        SinkError: when something cannot be written.
    """
    from vision_mem.evaluation import report

    report.write_report(folder.scores, [score], rules, of_benchmark)
    attributes = report.attribute_table([score])
    notes = [f"note: {note}" for note in report.notes([score])]
    return ["", report.table([score]), *(["", attributes] if attributes else []), "", *notes]
