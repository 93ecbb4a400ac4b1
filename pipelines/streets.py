"""Instructions on street graphs: one route step by step, or a benchmark of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError

if TYPE_CHECKING:
    from .benchmarks import Request


@dataclass(frozen=True)
class StreetOptions:
    """What ``--street key=value`` sets; see ``StreetRequest``.

    Attributes:
        agent: gold, rules, forward or random.
        memory: of rules: none, short or long.
        navigator: touchdown or velma.
        families: of measures: outdoor, paper, ilharco; several with + between.
        threshold: metres, for ilharco.
        steps: most actions a route.
        seed: of the agent's choices.
        sights: file of what is seen where, words; empty for nothing.
        landmarks: file of landmark words a route; empty for none.
        map: what long memory begins with, from ``navigate build``; empty for nothing.
    """

    agent: str = "rules"
    memory: str = "short"
    navigator: str = "touchdown"
    families: str = "outdoor"
    threshold: float = 3.0
    steps: int = 55
    seed: int = 0
    sights: str = ""
    landmarks: str = ""
    map: str = ""


def evaluate_streets(request: Request, street: Sequence[str]) -> int:
    """Run an agent on Touchdown or Map2Seq, resumable; prints one table a family of measures."""
    from vision_mem.evaluation.vln.job import StreetRequest, evaluate_street
    from vision_mem.runs.signals import StopSignals

    request.refuse(
        "instructions to follow",
        {
            "--preset": request.preset, "--set": request.changes, "--detect": request.detect,
            "--classes": request.classes, "--crowd": request.crowd, "--shard": request.shard,
            "--sequences": request.sequences, "--ray": request.ray, "--workers": request.workers,
        },
    )  # fmt: skip
    pairs = [pair.strip() for word in street for pair in word.split(",") if pair.strip()]
    asked = load_config(StreetOptions, None, pairs, folder="streets")
    split = request.split or "dev"
    wanted = StreetRequest(
        request.dataset, request.place_of(), split, asked.agent, asked.memory, asked.navigator,
        tuple(asked.families.split("+")), asked.threshold, asked.steps, asked.seed,
        Path(asked.sights) if asked.sights else None,
        Path(asked.landmarks) if asked.landmarks else None, request.limit,
        Path(asked.map) if asked.map else None,
    )  # fmt: skip
    if asked.agent == "model":
        raise InputError(
            "agent 'model' needs a function that completes prompts; from Python, call "
            "evaluate_street(..., complete=...)"
        )
    out = request.out or Path("runs") / f"{request.dataset}-{Path(split).stem}-{asked.agent}"

    def say(done: int, total: int) -> None:
        if not request.quiet and (done % 100 == 0 or done == total):
            print(f"route {done} of {total}", file=sys.stderr, flush=True)

    with StopSignals() as signals:
        report = evaluate_street(
            wanted, out, overwrite=request.overwrite, say=say,
            should_stop=lambda: signals.received is not None,
        )  # fmt: skip
    if report.left:
        print(f"stopped with {report.left} routes left; the same command goes on with {out}",
              file=sys.stderr)  # fmt: skip
    if not request.quiet:
        print("\n".join([*report.lines, f"results: {out}"]))
    return signals.exit_code


def evaluate_cities(
    cities: Annotated[int, typer.Option(min=1, help="Generated cities.")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks of each kind, a city and seed.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions.")] = 3,
    tour: Annotated[int, typer.Option(min=0, help="Steps of the walk beforehand.")] = 3000,
    reach: Annotated[float, typer.Option(help="Metres that the detector sees.")] = 15.0,
    field: Annotated[float, typer.Option(help="Degrees that it sees.")] = 240.0,
    missed: Annotated[float, typer.Option(help="Share that it misses.")] = 0.35,
    navigator: Annotated[str, typer.Option(help="touchdown, velma.")] = "touchdown",
    out: Annotated[Path | None, typer.Option(help="Write all numbers as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Numbers as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> int:
    """What a memory of streets is worth: the controlled table in generated cities.

    The same follower everywhere; only what it remembers differs. Generated cities are easier than
    real ones. How it was set up, and what was tried: docs/navigation.md.
    """
    from vision_mem.evaluation.vln.city_experiment import CityExperiment, run_city_experiment
    from vision_mem.formats.text import make_folder, write_file
    from vision_mem.runs.signals import StopSignals
    from vision_mem.synthetic.city import DetectorConfig

    experiment = CityExperiment(
        cities=cities, episodes=episodes, seeds=seeds, tour=tour, navigator=navigator,
        detector=DetectorConfig(reach_m=reach, field=field, missed=missed),
    )  # fmt: skip
    with StopSignals() as signals:
        table = run_city_experiment(
            experiment,
            say=None if quiet else lambda line: print(line, file=sys.stderr, flush=True),
            should_stop=lambda: signals.received is not None,
        )
    value = {
        "experiment": asdict(experiment), "coverage": table.coverage, "seconds": table.seconds,
        "rows": [row.as_dict() for row in table.rows],
    }  # fmt: skip
    if out is not None:
        make_folder(out.parent)
        write_file(out, (json.dumps(value, indent=1) + "\n").encode())
    print(json.dumps(value) if as_json else "\n".join(table.lines()))
    return signals.exit_code
