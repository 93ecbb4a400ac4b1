"""Run a tracker on a benchmark: result files, scores, what its server wants."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from vision_mem._version import __version__
from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import count

from .benchmarks import (
    EvaluationPlan,
    Request,
    place_of,
    plan_detected,
    plan_prompted,
    shard_of,
)
from .options import Changes, Compile, ModelConfig, Quiet
from .questions import plan_answers

STREETS = ("touchdown", "map2seq")
"""Instructions to follow on street graphs; they have no frames and are run by ``streets``."""
SCENES = ("video-depth", "pose", "reconstruction")
"""What is asked of scenes in depth, before the word for a set: ``pose:sintel``."""


def main(
    dataset: Annotated[
        str,
        typer.Argument(
            help="lasot, got10k-val, davis2017, kitti-mots, mot17, touchdown, video-depth:sintel, "
            "pose:tum, reconstruction:7scenes, ..."
        ),
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the benchmark [generated: runs/...].")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="samurai, sam2, dam4sam, samurai-official, none; of many objects: default, "
            "motion, official, probabilistic; or a .yaml."
        ),
    ] = None,
    set_: Changes = None,
    model: Annotated[
        str, typer.Option(help="embedded, facebook/sam2.1-hiera-tiny, ..., a checkpoint.")
    ] = "embedded",
    model_config: ModelConfig = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16.")] = "auto",
    attention: Annotated[
        str, typer.Option(help="SAM 2 in fp32: exact, or folded: fewer sums.")
    ] = "exact",
    compile_: Compile = False,
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
        bool,
        typer.Option(
            "--strict",
            help="A damaged image ends its sequence; scenes: scored without the field's quirks.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the results in --out and start anew.")
    ] = False,
    quiet: Quiet = False,
    detect: Annotated[
        str | None,
        typer.Option(
            help="Of many objects: public (the set's own), public:DIR, file:DIR/{sequence}.txt:"
            "FORMAT, truth (an oracle), motion, dfine, ... [public]."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="DETECTOR'S WORD=CLASS of the set, ..., as truck=car,rider=pedestrian."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of many objects: val, train, training, testing, test, all.")
    ] = None,
    crowd: Annotated[
        list[str] | None,
        typer.Option(help="crowds: key=value, as sequences=4, frames=60, objects=6, seed=1."),
    ] = None,
    street: Annotated[
        list[str] | None,
        typer.Option(
            help="touchdown, map2seq: key=value, as agent=gold (rules, forward, random), "
            "memory=long, navigator=velma, families=outdoor+paper, sights=FILE."
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Of questions: EPM,STU,... or patterns of them.")
    ] = None,
    ask: Annotated[
        list[str] | None,
        typer.Option(help="Questions: key=value, as mode=stream, window_s=256, fps=1, scope=auto."),
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(help="streams: key=value, as videos=4, seconds=64, objects=3, seed=1."),
    ] = None,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            help="Depth, poses, points: key=value, as align=scale+metric, compat=adam, "
            "poses=given, feed=all, frames=500, stride=1."
        ),
    ] = None,
    room: Annotated[
        list[str] | None,
        typer.Option(help="rooms: key=value, as rooms=4, frames=96, width=96, seed=2000100."),
    ] = None,
) -> int:
    """Run a tracker on a benchmark and score it.

    Results go to --out in the set's own format. The same command goes on where it was cut off.
    """
    request = Request(
        dataset, root, preset, set_ or (), model, model_config, precision, attention, compile_,
        resize, init, sequences, limit, shard, devices, workers, threads, ray, out, strict,
        overwrite, quiet, detect, classes or (), split, crowd or (), tasks, ask or (), stream or (),
        scene or (), room or (),
    )  # fmt: skip
    if dataset in STREETS:
        from .streets import evaluate_streets

        return evaluate_streets(request, street or ())
    request.refuse("no streets", {"--street": street})
    if dataset.partition(":")[0] not in SCENES:
        request.refuse("no depth and no poses", {"--scene": scene, "--room": room})
    # Slips in these are told before anything is looked for on disk.
    shard_of(request)
    place_of(request)
    return carry_out(request, _family(dataset)(request))


def _family(dataset: str) -> Callable[[Request], EvaluationPlan]:
    """What plans a benchmark; other kinds of benchmark bring their keys here."""
    from vision_mem.evaluation.mots import MOT_BENCHMARKS
    from vision_mem.evaluation.sot.datasets.open import BENCHMARKS
    from vision_mem.evaluation.videoqa import VIDEOQA_SETS

    families: dict[str, Callable[[Request], EvaluationPlan]] = dict.fromkeys(
        BENCHMARKS, plan_prompted
    )
    families |= dict.fromkeys(MOT_BENCHMARKS, plan_detected)
    families |= dict.fromkeys(VIDEOQA_SETS, plan_answers)
    if dataset.partition(":")[0] in SCENES:
        from .scenes import plan_scenes

        return plan_scenes
    if dataset not in families:
        known = [*families, *STREETS, *SCENES]
        hint = nearest(dataset, known)
        raise InputError(f"no benchmark {dataset!r}; there are {', '.join(known)}{hint}")
    return families[dataset]


def carry_out(request: Request, plan: EvaluationPlan) -> int:
    """Run what is left, and sum up what is there."""
    from vision_mem.evaluation.engine.folder import EvaluationFolder
    from vision_mem.evaluation.engine.run import evaluate

    identity = {
        "benchmark": plan.key, "version": __version__, "model_name": Path(request.model).name,
        "precision": request.precision, "attention": request.attention, "resize": request.resize,
        "strict": request.strict, **plan.identity,
    }  # fmt: skip
    out = request.out or Path("runs") / f"{plan.key}-{Path(plan.preset).stem}"
    remarks = {"preset": plan.preset, "changes": list(request.changes)}
    folder = EvaluationFolder(out, identity, remarks, overwrite=request.overwrite)
    if not request.quiet:
        for note in plan.notes:
            print(f"note: {note}", file=sys.stderr)
    folder.begin()
    with StopSignals() as signals:
        progress = evaluate(
            plan.jobs, folder, plan.make, place_of(request),
            lambda: signals.received is not None,
            title=plan.title, show=not request.quiet,
        )  # fmt: skip
    left = len(folder.undone(plan.jobs))
    total = len(plan.jobs)
    if not request.quiet:
        print(f"{plan.title}: {total - left} of {count(total, 'sequence')} done")
    for failed in progress.failed:
        print(f"error: {failed.sequence}: {failed.reason}", file=sys.stderr)
    if signals.received is not None:
        print(f"stopped; the same command goes on with {out}", file=sys.stderr)
        return signals.exit_code
    if left < total:
        lines = plan.sum_up(folder, plan.tracker)
        if (speed := folder.speed(plan.jobs)) is not None:
            alone, whole = speed
            lines.append(f"speed of a worker: {alone:.1f} frames/s, {whole:.1f} with {plan.around}")
        if not request.quiet:
            print("\n".join([*lines, f"results: {out}"]))
    return 1 if progress.failed else 0
