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


def evaluate_streets(request: Request, street: Sequence[str]) -> int:
    """Run an agent on Touchdown or Map2Seq, resumable; prints one table a family of measures."""
    from vision_mem.evaluation.navigation import StreetRequest, evaluate_street
    from vision_mem.interrupt import StopSignals

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


def follow_route(
    folder: Path,
    routes: str,
    route_id: str | None,
    text: str | None,
    memory_file: Path | None,
    sights: Path | None,
    kind: str,
    limit: int,
    seed: int,
) -> int:
    """Walk one route by rules; prints a line of JSON a step, and one with the score."""
    from dataclasses import replace

    from vision_mem.evaluation.navigation import Family
    from vision_mem.evaluation.navigation.evaluate import find_routes
    from vision_mem.io.streetfiles import read_routes
    from vision_mem.io.streetwords import read_sight_words
    from vision_mem.navigation.episodes import StreetTask, WordWorld, run_episode
    from vision_mem.navigation.follower import FollowerConfig, RuleFollower
    from vision_mem.navigation.navigators import StreetState, make_navigator
    from vision_mem.navigation.street import StreetGraph, nearest_heading
    from vision_mem.navigation.streetmemory import LongMemory

    graph = StreetGraph.read(folder)
    known = read_routes(find_routes(folder, routes))
    found = [each for each in known if route_id in (None, each.route_id)]
    if not found:
        some = ", ".join(each.route_id for each in known[:5])
        raise InputError(f"no route {route_id!r} in {routes}; there are {some}, ...")
    asked = found[0]
    path = graph.path_of(asked, linked=False)
    memory = None
    if memory_file is not None:
        memory = LongMemory.load(memory_file) if memory_file.exists() else LongMemory()
    # Sights are words here, seen once as well as often.
    config = FollowerConfig(threshold=0.8, likeness=1.0, looks=1)
    learns = memory is not None
    config = replace(config, plan=learns, learn=learns)
    agent = RuleFollower(config, memory, seed=seed)
    world = WordWorld(graph, None if sights is None else read_sight_words(sights))
    navigator = make_navigator(kind, graph)
    heading = asked.start_heading
    headings = [each for each, _ in graph.exits[path[0]]]
    if asked.kind == "touchdown" and headings:
        heading = nearest_heading(heading, headings)

    def watch(step: int, state: StreetState, action: str) -> None:
        east, north = graph.position[state.place].round(2).tolist()
        print(json.dumps({
            "step": step, "panorama": graph.ids[state.place], "east_m": east, "north_m": north,
            "heading": state.heading, "action": action, "reason": agent.reason,
        }, default=str), flush=True)  # fmt: skip

    episode = run_episode(
        agent, navigator, StreetTask(asked.route_id, text or asked.text, asked.landmarks),
        (path[0], heading), world, limit=limit, watch=watch,
        first_forward=kind == "velma" and asked.kind == "map2seq",
    )  # fmt: skip
    if memory is not None and memory_file is not None:
        memory.save(memory_file)
    end: dict[str, object] = {
        "route": asked.route_id, "steps": len(episode.actions), "stopped": episode.stopped,
        "ended_at": graph.ids[episode.trajectory[-1]],
    }  # fmt: skip
    if text is None:
        family = Family("outdoor")
        score = family.score(graph, episode.trajectory, path)
        end |= {"family": family.title, "scores": dict(score.values)}
    print(json.dumps(end, default=float))
    return 0


def follow_instruction(
    graph: Annotated[Path, typer.Option(help="Folder with nodes.txt and links.txt.")],
    routes: Annotated[str, typer.Option(help="A split (dev), or a file of routes.")] = "dev",
    route_id: Annotated[
        str | None, typer.Option("--route", help="Which route [the first].")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Another instruction, from the route's start.")
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option(help="Long memory of streets, .npz: read, added to, written back."),
    ] = None,
    sights: Annotated[
        Path | None, typer.Option(help="What is seen where: JSON lines of words.")
    ] = None,
    navigator: Annotated[str, typer.Option(help="touchdown (4 actions), velma.")] = "touchdown",
    limit: Annotated[int, typer.Option(min=1, help="Most actions.")] = 55,
    seed: Annotated[int, typer.Option(help="Of choices where nothing tells the way.")] = 0,
) -> int:
    """Follow one street instruction by rules; one JSON line for each step, then the score."""
    return follow_route(graph, routes, route_id, text, memory, sights, navigator, limit, seed)


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
    from vision_mem.evaluation.navigation import CityExperiment, run_city_experiment
    from vision_mem.interrupt import StopSignals
    from vision_mem.io.lines import make_folder, write_file
    from vision_mem.navigation.city import DetectorConfig

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
