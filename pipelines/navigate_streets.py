"""An instruction followed on a street graph, with what a map knows of these streets.

A map of streets is a map like any other: ``where``, ``route``, ``recall``, ``forget``, ``show`` and
``export`` answer from it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mem.errors import InputError
from vision_mem.text import short

if TYPE_CHECKING:
    from vision_mem.formats.touchdown import StreetRoute
    from vision_mem.vln.action_spaces import StreetState

FollowMap = Annotated[
    Path | None,
    typer.Option("--map", help="What is remembered of these streets: read, and added to."),
]


def follow(
    graph: Annotated[Path, typer.Option(help="Folder with nodes.txt and links.txt.")],
    routes: Annotated[str, typer.Option(help="A split (dev), or a file of routes.")] = "dev",
    route_id: Annotated[
        str | None, typer.Option("--route", help="Which route [the first].")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Another instruction, from the route's start.")
    ] = None,
    map_: FollowMap = None,
    sights: Annotated[
        Path | None,
        typer.Option(help="What is seen where: JSON lines of words, or features (.npz)."),
    ] = None,
    navigator: Annotated[str, typer.Option(help="touchdown (4 actions), velma.")] = "touchdown",
    max_steps: Annotated[int, typer.Option(min=1, help="Actions at most.")] = 55,
    seed: Annotated[int, typer.Option(help="Of choices where nothing tells the way.")] = 0,
) -> int:
    """Follow one street instruction by rules; one JSON line for each step, then the score."""
    from vision_mem.evaluation.vln.metrics import MeasureFamily
    from vision_mem.vln.action_spaces import make_navigator
    from vision_mem.vln.environment import StreetTask, run_episode
    from vision_mem.vln.exploration import open_sights
    from vision_mem.vln.graph import StreetGraph, nearest_heading
    from vision_mem.vln.memory import LongMemory
    from vision_mem.vln.rule_agent import FollowerConfig, RuleFollower

    streets, asked = StreetGraph.read(graph), _route(graph, routes, route_id)
    path = streets.path_of(asked, linked=False)
    seen = open_sights(streets, sights, around=False)
    if seen.encode is None:
        raise InputError(
            f"{sights} holds features of {seen.encoder or 'an unknown encoder'}, into which this "
            "command cannot put words; call evaluate_street(..., encode=...) from Python"
        )
    turn = make_navigator(navigator, streets)
    config = FollowerConfig()
    if seen.words:  # seen once as well as often
        config = FollowerConfig(threshold=0.8, likeness=1.0, looks=1)
    heading, headings = asked.start_heading, [each for each, _ in streets.exits[path[0]]]
    if asked.kind == "touchdown" and headings:
        heading = nearest_heading(heading, headings)
    memory = None if map_ is None else LongMemory(map_, encoder=seen.encoder)
    try:
        if memory is not None:
            memory.belong_to(streets.origin)
            config = replace(config, plan=True, learn=True)
        agent = RuleFollower(config, memory, encode=seen.encode, seed=seed)

        def watch(step: int, state: StreetState, action: str) -> None:
            east, north = streets.position[state.place].round(2).tolist()
            print(json.dumps({
                "step": step, "panorama": streets.ids[state.place], "east_m": east,
                "north_m": north, "heading": state.heading, "action": action,
                "reason": agent.reason,
            }, default=str), flush=True)  # fmt: skip

        episode = run_episode(
            agent, turn, StreetTask(asked.route_id, text or asked.text, asked.landmarks),
            (path[0], heading), seen.world, limit=max_steps, watch=watch,
            first_forward=navigator == "velma" and asked.kind == "map2seq",
        )  # fmt: skip
    finally:
        if memory is not None:
            memory.close()
    end: dict[str, object] = {
        "route": asked.route_id, "steps": len(episode.actions), "stopped": episode.stopped,
        "ended_at": streets.ids[episode.trajectory[-1]],
    }  # fmt: skip
    if text is None:
        family = MeasureFamily("outdoor")
        score = family.score(streets, episode.trajectory, path)
        end |= {"family": family.title, "scores": dict(score.values)}
    print(json.dumps(end, default=float))
    return 0


def _route(graph: Path, routes: str, route_id: str | None) -> StreetRoute:
    from vision_mem.evaluation.vln.job import find_routes
    from vision_mem.formats.touchdown import read_routes

    known = read_routes(find_routes(graph, routes))
    found = [each for each in known if route_id in (None, each.route_id)]
    if not found:
        some = ", ".join(each.route_id for each in known[:5])
        raise InputError(f"no route {route_id!r} in {routes}; there are {short(some, 200)}, ...")
    return found[0]
