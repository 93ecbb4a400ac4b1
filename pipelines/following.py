"""Streets in a map file: taking a street graph in, and following an instruction with what is known.

A map of streets is a map like any other: ``where``, ``route``, ``recall``, ``forget``, ``show`` and
``export`` answer from it.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mem.errors import InputError

if TYPE_CHECKING:
    from vision_mem.vln.action_spaces import StreetState
    from vision_mem.vln.environment import StreetWorld
    from vision_mem.vln.graph import StreetGraph
    from vision_mem.vln.memory import LongMemory
    from vision_mem.vln.observations import Visit
    from vision_mem.vln.rule_agent import Encode

FollowMap = Annotated[
    Path | None,
    typer.Option("--map", help="What is remembered of these streets: read, and added to."),
]


def is_street_graph(source: str) -> bool:
    """Whether a folder, or its ``graph`` folder, has ``nodes.txt`` and ``links.txt``."""
    folders = (Path(source), Path(source) / "graph")
    return any((f / "nodes.txt").is_file() and (f / "links.txt").is_file() for f in folders)


@dataclass(frozen=True)
class StreetSights:
    """What is to be seen on streets.

    Attributes:
        world: gives the sights of a place.
        encode: words to the space of the sights; None where nobody can.
        encoder: names that space, for the map.
        words: whether sights are words, and so certain, rather than features.
    """

    world: StreetWorld
    encode: Encode | None
    encoder: str
    words: bool


def open_sights(graph: StreetGraph, path: Path | None, *, around: bool) -> StreetSights:
    """Read a file of sights: words as JSON lines, or features of panoramas as ``.npz``.

    Args:
        graph: the streets.
        path: the file; None when nothing is seen.
        around: whether the whole panorama is looked at, rather than what is ahead.

    Raises:
        InputError: for a file that is neither.
    """
    from vision_mem.formats.street_words import read_panorama_features, read_sight_words
    from vision_mem.synthetic.city import ENCODER
    from vision_mem.vln.environment import FeatureWorld, WordWorld
    from vision_mem.vln.observations import word_vector

    if path is None or path.suffix.lower() != ".npz":
        words = None if path is None else read_sight_words(path)
        return StreetSights(WordWorld(graph, words), word_vector, ENCODER, True)
    found = read_panorama_features(path)
    world = FeatureWorld(graph, found, field=360.0 if around else 240.0)
    encode: Encode | None = word_vector if found.encoder == ENCODER else None
    if found.encoder.startswith("words#"):
        encode = _encoder_of(found.encoder, found.features.shape[2])
    return StreetSights(world, encode, found.encoder, False)


def _encoder_of(encoder: str, width: int) -> Encode | None:
    """The embedder of ``ask``, when the features are its."""
    import numpy as np

    from .looks import WordLooks

    looks = WordLooks()
    if looks.encoder != encoder:
        return None

    def encode(text: str) -> Any:
        vector = looks.of_text(text)
        return np.zeros(width, np.float32) if vector is None else vector

    return encode


# -- build -----------------------------------------------------------------------------------------


class StreetBuild:
    """Takes a street graph into a map: every panorama as it lies there, or what a walk passes.

    Each panorama, or step of the walk, is one transaction; the same build goes on where it was cut
    off.

    Args:
        source: folder of the graph.
        map_: the map file.
        sights: file of what is seen where, or None.
        tour: steps of a walk; None to take in the whole graph with all its links.
        seed: of the walk.
        overwrite: forget what the map holds.

    Attributes:
        memory: the map.
        total: panoramas or steps in all.
        before: of those, how many the map had.

    Raises:
        InputError: for files that cannot be used, or a map of other streets.
    """

    def __init__(
        self,
        source: str,
        map_: Path,
        sights: Path | None,
        tour: int | None,
        seed: int,
        overwrite: bool,
    ) -> None:
        from vision_mem.navigation.export import count_taken
        from vision_mem.navigation.storage import discard_map
        from vision_mem.vln.graph import StreetGraph
        from vision_mem.vln.memory import LongMemory

        self._graph = StreetGraph.read(source)
        self._seen = open_sights(self._graph, sights, around=tour is None)
        self._tour, self._seed = tour, seed
        walk = "" if tour is None else f"?tour={seed}"
        self._name = f"{Path(source).expanduser().resolve()}{walk}"
        self.total = len(self._graph) if tour is None else tour
        map_.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            discard_map(map_)
        self.memory: LongMemory = LongMemory(map_, encoder=self._seen.encoder)
        try:
            self.memory.belong_to(self._graph.origin)
            self.before = min(count_taken(map_, self._name), self.total)
        except BaseException:
            self.memory.close()
            raise

    def run(self, should_stop: Callable[[], bool], tell: Callable[[int, Any], None]) -> int:
        """Take in what is left.

        Args:
            should_stop: asked before each panorama.
            tell: told the number of each panorama or step, and what it changed.

        Returns:
            How many were taken in.
        """
        if self._tour is not None and 0 < self.before < self.total:
            self.memory.go_on()
        done = 0
        for number, visit in enumerate(self._visits()):
            if number < self.before:
                continue
            if should_stop():
                return done
            source = f"{self._name}#{visit.source}"
            tell(number, self.memory.write(replace(visit, source=source)))
            done += 1
        if self._tour is None:
            self._link()
        return done

    def _visits(self) -> Iterator[Visit]:
        from vision_mem.vln.exploration import tour
        from vision_mem.vln.observations import Visit

        graph, world = self._graph, self._seen.world
        if self._tour is not None:
            yield from tour(graph, world, self._tour, self._seed)
            return
        for place, name in enumerate(graph.ids):
            exits = tuple(heading for heading, _ in graph.exits[place])
            looks = exits[0] if exits else 0.0
            yield Visit(graph.position[place], exits, world.sights(place, 0, looks), None, name)

    def _link(self) -> None:
        """Remember which panorama each link leads to, once all are there."""
        graph, memory = self._graph, self.memory
        radius = memory.session.config.topology.place_radius
        places = [memory.place_at(at, radius) for at in graph.position]
        for start, exits in zip(places, graph.exits, strict=True):
            for heading, end in exits:
                known = places[end]
                if start is not None and known is not None:
                    memory.link(start, known, heading)
        memory.session.commit()


def build_streets(
    job: StreetBuild,
    map_: Path,
    picture: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a build of streets with progress, and say what came of it; returns the exit code."""
    from dataclasses import asdict

    from vision_mem.runs.signals import StopSignals
    from vision_mem.runs.tally import count
    from vision_mem.types import SourceInfo

    from .mapanswers import draw_map
    from .navigating import MapProgress

    session = job.memory.session
    try:
        info = SourceInfo(map_.stem, 1, 1, 30.0, job.total - job.before)
        bar = MapProgress(info, show=not quiet and not as_json, done=job.before)
        bar.session = session
        usage = session.usage()

        def tell(number: int, result: Any) -> None:
            bar.update(result, usage)
            if as_json:
                print(json.dumps({"index": number, **asdict(result)}), flush=True)

        with StopSignals() as signals, bar:
            done = job.run(lambda: signals.received is not None, tell)
        if picture is not None:
            draw_map(session, picture, title=str(map_))
        if not quiet and not as_json:
            usage, memory = session.usage(), job.memory
            print(f"{count(memory.places, 'place')}, {count(memory.ways, 'way')}, "
                  f"{count(len(session.state.landmarks), 'landmark')}")  # fmt: skip
            print(f"{usage.memories} memories, file {usage.file_bytes / 1e6:.1f} MB")
            went_on = f", after {count(job.before, 'panorama')} before" if job.before else ""
            stopped = "stopped: " if signals.received is not None else ""
            print(f"{stopped}{count(done, 'panorama')} taken in{went_on}; map: {map_}")
    finally:
        job.memory.close()
    return signals.exit_code


# -- follow ----------------------------------------------------------------------------------------


def follow_instruction(
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
    limit: Annotated[int, typer.Option(min=1, help="Most actions.")] = 55,
    seed: Annotated[int, typer.Option(help="Of choices where nothing tells the way.")] = 0,
) -> int:
    """Follow one street instruction by rules; one JSON line for each step, then the score."""
    from vision_mem.evaluation.vln.job import find_routes
    from vision_mem.evaluation.vln.metrics import MeasureFamily
    from vision_mem.formats.touchdown import read_routes
    from vision_mem.vln.action_spaces import make_navigator
    from vision_mem.vln.environment import StreetTask, run_episode
    from vision_mem.vln.graph import StreetGraph, nearest_heading
    from vision_mem.vln.memory import LongMemory
    from vision_mem.vln.rule_agent import FollowerConfig, RuleFollower

    streets = StreetGraph.read(graph)
    known = read_routes(find_routes(graph, routes))
    found = [each for each in known if route_id in (None, each.route_id)]
    if not found:
        some = ", ".join(each.route_id for each in known[:5])
        raise InputError(f"no route {route_id!r} in {routes}; there are {some}, ...")
    asked = found[0]
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
            (path[0], heading), seen.world, limit=limit, watch=watch,
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


# -- demo ------------------------------------------------------------------------------------------


def show_streets(out: Path, seed: int, quiet: bool) -> int:
    """Generate a city, walk through it, ask, and follow an instruction blindly, by memory only."""
    from vision_mem.synthetic.city import make_city
    from vision_mem.synthetic.city_routes import make_routes, write_city

    from . import mapanswers

    city = make_city(seed)
    folder, map_, drawn = out / "city", out / "city.map", out / "city.png"
    (route,) = make_routes(city, 1, seed)
    write_city(city, folder, {"dev": [route]})
    sights, steps = folder / "sights.jsonl", 1500
    name = route.landmarks[-1]
    print(f"$ vision-mem navigate build {folder} --map {map_} --sights {sights} --tour {steps}")
    walk = StreetBuild(str(folder), map_, sights, steps, seed, True)
    if code := build_streets(walk, map_, None, as_json=False, quiet=quiet):
        return code
    print(f'\n$ vision-mem navigate where "{name}" --map {map_} -k 2')
    mapanswers.where(map_, name, k=2)
    print(f'\n$ vision-mem navigate route --map {map_} --to "{name}" --picture {drawn}')
    mapanswers.route(map_, name, picture=drawn)
    print(f"\n{route.text}")
    print(f"$ vision-mem navigate follow --graph {folder} --map {map_}    # nothing is seen now")
    steps_told = io.StringIO()
    with contextlib.redirect_stdout(steps_told):
        follow_instruction(folder, map_=map_)
    lines = steps_told.getvalue().splitlines()
    print("\n".join([*lines[:2], f"... {len(lines) - 4} more steps", *lines[-2:]]))
    print(f"\nthe map from above: {drawn}")
    return 0
