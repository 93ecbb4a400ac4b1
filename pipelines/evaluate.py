"""Run a tracker on a benchmark: result files, scores, what its server wants."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mem import __version__
from vision_mem.config import load_config, nearest
from vision_mem.errors import InputError
from vision_mem.interrupt import StopSignals
from vision_mem.io.report import count
from vision_mem.models import load_segmenter, use_threads

if TYPE_CHECKING:
    from vision_mem.tracking import TrackingConfig, TrackingSession


@dataclass(frozen=True)
class Request:
    """What was asked for, whichever family of benchmarks answers."""

    dataset: str
    root: Path
    preset: str
    changes: Sequence[str]
    model: str
    model_config: str | None
    precision: str
    attention: str
    compile: bool
    resize: str
    init: str
    sequences: str | None
    limit: int | None
    shard: str | None
    devices: str
    workers: int | None
    threads: int
    ray: str | None
    out: Path | None
    strict: bool
    overwrite: bool
    quiet: bool


@dataclass(frozen=True)
class MakeTracker:
    """Loads the model on a device and makes a session; travels to other processes."""

    request: Request
    config: TrackingConfig

    def __call__(self, device: str) -> TrackingSession:
        """A session with the model on ``device``."""
        from vision_mem.tracking import TrackingSession

        asked = self.request
        use_threads(asked.threads)
        segmenter = load_segmenter(
            asked.model, config=asked.model_config, device=device, precision=asked.precision,
            compile=asked.compile, resize=asked.resize, attention=asked.attention,
        )  # fmt: skip
        return TrackingSession(segmenter, self.config)


def main(
    dataset: Annotated[
        str, typer.Argument(help="lasot, lasot-ext, got10k-val, otb100, davis2017, folder, ...")
    ],
    root: Annotated[Path, typer.Option(help="Folder of the benchmark.")],
    preset: Annotated[
        str, typer.Option(help="samurai, sam2, dam4sam, samurai-official, none, or a .yaml.")
    ] = "samurai",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: change a setting of the preset.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="embedded, facebook/sam2.1-hiera-tiny, ..., a checkpoint.")
    ] = "embedded",
    model_config: Annotated[
        str | None, typer.Option(help="Configuration of a checkpoint file, when not guessed.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16.")] = "auto",
    attention: Annotated[
        str, typer.Option(help="SAM 2 in fp32: exact, or folded: fewer sums.")
    ] = "exact",
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the image encoder.")] = False,
    resize: Annotated[
        str, typer.Option(help="Frames to SAM 2's size: pil_bicubic, cv2.")
    ] = "pil_bicubic",
    init: Annotated[
        str, typer.Option(help="auto: masks or polygons where the set has them; box: always boxes.")
    ] = "auto",
    sequences: Annotated[
        str | None, typer.Option(help="Only these: names or patterns, as car-1,dog-*.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: the i-th of n shares; all may use the same --out.")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="auto, cpu, cuda:0, or several for as many workers: cuda:0,cuda:1.")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with its own model [1 a device].")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Of each worker on a CPU; another number may round sums so.")
    ] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Run on a Ray cluster: its address, auto, or local.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder [runs/DATASET-PRESET].")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A damaged image ends its sequence.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the results in --out and start anew.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")] = False,
) -> int:
    """Run a tracker on a benchmark and score it.

    Results go to --out in the set's own format. The same command goes on where it was cut off.
    """
    request = Request(
        dataset, root, preset, set_ or (), model, model_config, precision, attention, compile_,
        resize, init, sequences, limit, shard, devices, workers, threads, ray, out, strict,
        overwrite, quiet,
    )  # fmt: skip
    return _family(dataset)(request)


def _family(dataset: str) -> Callable[[Request], int]:
    """What answers for a benchmark; other kinds of benchmark bring their keys here."""
    from vision_mem.evaluation.sets import BENCHMARKS

    families: dict[str, Callable[[Request], int]] = dict.fromkeys(BENCHMARKS, _track)
    if dataset not in families:
        hint = nearest(dataset, list(families))
        raise InputError(f"no benchmark {dataset!r}; there are {', '.join(families)}{hint}")
    return families[dataset]


def _track(request: Request) -> int:
    """Benchmarks of one object, or given masks, followed from the first frame."""
    # torch takes seconds to import; help and misspelled options should not wait for it.
    from vision_mem.evaluation.evaluate import Place, evaluate, sum_up
    from vision_mem.evaluation.folder import EvaluationFolder
    from vision_mem.evaluation.resultfiles import layout_of
    from vision_mem.evaluation.runner import Job
    from vision_mem.evaluation.selection import choose_sequences, parse_shard
    from vision_mem.evaluation.sets import open_benchmark
    from vision_mem.tracking import TrackingConfig

    shard = None if request.shard is None else parse_shard(request.shard)
    devices = tuple(name.strip() for name in request.devices.split(","))
    place = Place(devices, request.workers, request.ray)
    config = load_config(TrackingConfig, request.preset, request.changes, folder="tracking")
    benchmark = open_benchmark(request.dataset, request.root)
    chosen = choose_sequences(
        benchmark.sequences, names=request.sequences, limit=request.limit, shard=shard
    )
    jobs = [
        Job(sequence, layout_of(benchmark, sequence), request.init, request.strict)
        for sequence in chosen
    ]
    identity = {
        "benchmark": benchmark.key, "version": __version__, "model_name": Path(request.model).name,
        "precision": request.precision, "attention": request.attention, "resize": request.resize,
        "init": request.init, "strict": request.strict, **asdict(config),
    }  # fmt: skip
    out = request.out or Path("runs") / f"{benchmark.key}-{Path(request.preset).stem}"
    remarks = {"preset": request.preset, "changes": list(request.changes)}
    folder = EvaluationFolder(out, identity, remarks, overwrite=request.overwrite)
    if not request.quiet:
        for note in benchmark.notes:
            print(f"note: {note}", file=sys.stderr)
    folder.begin()
    with StopSignals() as signals:
        progress = evaluate(
            jobs, folder, MakeTracker(request, config), place,
            lambda: signals.received is not None,
            title=benchmark.title, show=not request.quiet,
        )  # fmt: skip
    left = len(folder.undone(jobs))
    if not request.quiet:
        print(f"{benchmark.title}: {len(jobs) - left} of {count(len(jobs), 'sequence')} done")
    for failed in progress.failed:
        print(f"error: {failed.sequence}: {failed.reason}", file=sys.stderr)
    if signals.received is not None:
        print(f"stopped; the same command goes on with {out}", file=sys.stderr)
        return signals.exit_code
    if left < len(jobs):
        tracker = f"{Path(request.preset).stem} {Path(request.model).name}"
        lines = sum_up(benchmark, folder, tracker)
        if (speed := folder.speed(jobs)) is not None:
            alone, whole = speed
            lines.append(f"speed of a worker: {alone:.1f} frames/s, {whole:.1f} with reading files")
        if not request.quiet:
            print("\n".join([*lines, f"results: {out}"]))
    return 1 if progress.failed else 0
