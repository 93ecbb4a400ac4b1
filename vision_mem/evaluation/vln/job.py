"""Run an agent on Touchdown or Map2Seq routes: resumable, one JSON line a route, scores at the end.

Result files in the output folder: ``episodes.jsonl`` (first line: what was asked; then one route
a line with its trajectory as panorama ids), ``scores-<family>.json`` and ``scores-<family>.txt``;
and, where it remembers for long, ``memory.map``, a map as of ``navigate``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vision_mem._version import __version__
from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.evaluation.vln.metrics import (
    PERCENT,
    MeasureFamily,
    WalkScore,
    average,
    table_lines,
)
from vision_mem.formats.street_words import (
    read_panorama_features,
    read_route_landmarks,
    read_sight_words,
)
from vision_mem.formats.text import LineFile, make_folder, write_file
from vision_mem.formats.touchdown import StreetRoute, find_street_files, read_routes
from vision_mem.navigation.storage import discard_map
from vision_mem.runs.tally import count
from vision_mem.text import parse_json
from vision_mem.vln.action_spaces import STOP, Navigator, follow_path, make_navigator
from vision_mem.vln.baselines import ForwardAgent, RandomAgent, ReplayAgent
from vision_mem.vln.environment import (
    STEP_LIMIT,
    Episode,
    FeatureWorld,
    StreetAgent,
    StreetTask,
    StreetWorld,
    WordWorld,
    run_episode,
)
from vision_mem.vln.graph import StreetGraph, nearest_heading
from vision_mem.vln.llm_agent import Complete, LanguageAgent
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import ENCODER, word_vector
from vision_mem.vln.rule_agent import Encode, FollowerConfig, RuleFollower

EPISODES = "episodes.jsonl"
"""The file of walks in a results folder."""

DATASETS = ("touchdown", "map2seq")
AGENTS = ("gold", "rules", "forward", "random", "model")
MEMORIES = ("none", "short", "long")


@dataclass(frozen=True)
class StreetRequest:
    """What is to be run.

    Attributes:
        dataset: ``"touchdown"`` or ``"map2seq"``.
        root: folder with ``nodes.txt`` and ``links.txt``, or with ``graph/`` and ``data/``.
        split: ``dev``, ``test``, ...: ``data/<split>.json`` or ``<split>.json[l]`` below the
            root; or the path of a file of routes.
        agent: one of ``AGENTS``; ``model`` needs a function.
        memory: of ``rules`` and ``model``: none, the latest views (short), or everything since
            the first route (long).
        map: what long memory begins with, a map of these streets; it is not changed.
        navigator: ``"touchdown"`` or ``"velma"``.
        families: of measures, each gets its own table.
        threshold: metres, for the ``ilharco`` family.
        limit: actions a route; gold is not limited.
        seed: of the agents' choices.
        sights: file of what is seen where: words (``read_sight_words``) or, as ``.npz``, features
            (``read_panorama_features``), which want an ``encode``; None when nothing is.
        landmarks: file of landmark words a route (``read_route_landmarks``).
        routes: only the first so many; None for all.
    """

    dataset: str
    root: Path
    split: str = "dev"
    agent: str = "rules"
    memory: str = "short"
    navigator: str = "touchdown"
    families: tuple[str, ...] = ("outdoor",)
    threshold: float = 3.0
    limit: int = STEP_LIMIT
    seed: int = 0
    sights: Path | None = None
    landmarks: Path | None = None
    routes: int | None = None
    map: Path | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("dataset", self.dataset, DATASETS),
            ("agent", self.agent, AGENTS),
            ("memory", self.memory, MEMORIES),
        ):
            if value not in known:
                raise InputError(
                    f"no {name} {value!r}; there are {', '.join(known)}{nearest(value, known)}"
                )
        if self.limit < 1 or (self.routes is not None and self.routes < 1):
            raise InputError("limit and routes must be 1 or more")
        if self.map is not None and self.memory != "long":
            raise InputError("a map is what long memory begins with; ask for memory long")
        if not self.families:
            raise InputError("no family of measures; expected outdoor, paper or ilharco")
        for family in self.families:
            MeasureFamily(family, self.threshold)

    def identity(self) -> dict[str, Any]:
        """What results depend on; a run goes on only where this is the same."""
        return {
            "benchmark": self.dataset, "split": Path(self.split).name, "agent": self.agent,
            "memory": self.memory, "navigator": self.navigator, "limit": self.limit,
            "seed": self.seed, "version": __version__,
            "sights": self.sights.name if self.sights else None,
            "landmarks": self.landmarks.name if self.landmarks else None,
            **({"map": self.map.name} if self.map else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class StreetReport:
    """What came of a run.

    Attributes:
        done: routes walked, those of earlier runs included.
        left: routes not walked because it was stopped.
        scores: family to averages; empty when no route is done.
        lines: tables as text.
        walks: family to ``{route id: score}``.
    """

    done: int
    left: int
    scores: Mapping[str, WalkScore]
    lines: tuple[str, ...]
    walks: Mapping[str, Mapping[str, WalkScore]] = field(default_factory=dict)


def evaluate_street(
    request: StreetRequest,
    out: str | Path,
    *,
    complete: Complete | None = None,
    encode: Encode | None = None,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[int, int], None] | None = None,
) -> StreetReport:
    """Run an agent on routes and score it. The same call goes on where it was cut off.

    Args:
        request: what.
        out: folder for the results.
        complete: the language model of agent ``model``: prompt to answer.
        encode: words to a unit vector in the space of the panoramas' features.
        overwrite: begin anew where results lie.
        should_stop: asked before each route.
        say: told ``(routes done, of how many)``.

    Raises:
        InputError: for files, names or results that cannot be used; one line.
        SinkError: when results cannot be written.
    """
    graph = StreetGraph.read(request.root)
    routes, others = _routes(request)
    paths = {route.route_id: graph.path_of(route, linked=False) for route in routes}
    world, encoder = _world(request, graph, encode)
    if (request.agent == "model") != (complete is not None):
        raise InputError("agent 'model' and a function that completes prompts go together")
    out = Path(out)
    make_folder(out)
    results = EpisodeFile(out / EPISODES, request.identity(), graph, overwrite=overwrite)
    memory = None
    try:
        memory = _long_memory(request, graph, out / "memory.map", encoder)
        agent = _agent(request, memory, complete, encode)
        for number, route in enumerate(routes):
            path = paths[route.route_id]
            if route.route_id in results.episodes:
                if memory is not None:
                    again = ReplayAgent(results.episodes[route.route_id].actions, memory)
                    _walk(request, again, graph, world, route, path)
                continue
            if should_stop():
                break
            episode = _walk(request, agent, graph, world, route, path)
            results.add(episode)
            if say is not None:
                say(number + 1, len(routes))
    finally:
        results.close()
        if memory is not None:
            memory.close()
    done = {
        r.route_id: results.episodes[r.route_id] for r in routes if r.route_id in results.episodes
    }
    report = _report(request, graph, paths, done, len(routes) - len(done), out)
    said = f"{count(others, 'route')} of another benchmark in {request.split} left out"
    return replace(report, lines=(said, *report.lines)) if others else report


def _routes(request: StreetRequest) -> tuple[list[StreetRoute], int]:
    """The routes of the benchmark, and how many others its file has: merged files hold both."""
    every = read_routes(find_routes(request.root, request.split))
    routes = [route for route in every if route.kind == request.dataset]
    if not routes:
        raise InputError(
            f"route {every[0].route_id} is of {every[0].kind}, not of {request.dataset}, as all "
            "of its file; name the benchmark that these files are of"
        )
    others, routes = len(every) - len(routes), routes[: request.routes]
    if request.landmarks is not None:
        words = read_route_landmarks(request.landmarks)
        routes = [replace(r, landmarks=words.get(r.route_id, r.landmarks)) for r in routes]
    return routes, others


def find_routes(root: str | Path, split: str) -> Path:
    """The file of a split: a path, or a name below the root.

    Raises:
        InputError: when there is none; names those that are there.
    """
    root, given = Path(root), Path(split)
    if given.suffix in (".json", ".jsonl") and given.is_file():
        return given
    folder = find_street_files(root)[0].parent
    folders = [root / "data", root, folder.parent / "data", folder]
    for place in folders:
        for name in (f"{split}.json", f"{split}.jsonl", split):
            if (place / name).is_file() and Path(name).suffix in (".json", ".jsonl"):
                return place / name
    there = {p.stem for place in folders if place.is_dir() for p in place.glob("*.json*")}
    raise InputError(
        f"no routes {split!r} below {root}; there are {', '.join(sorted(there)) or 'none'}"
    )


def _world(
    request: StreetRequest, graph: StreetGraph, encode: Encode | None
) -> tuple[StreetWorld, str]:
    """What is seen, and the name of the space that it is seen in."""
    features = request.sights is not None and request.sights.suffix == ".npz"
    if features != (encode is not None):
        raise InputError("features of panoramas and a function that encodes words go together")
    if request.sights is None:
        return WordWorld(graph), ENCODER
    if features:
        found = read_panorama_features(request.sights)
        return FeatureWorld(graph, found), found.encoder
    return WordWorld(graph, read_sight_words(request.sights)), ENCODER


def _long_memory(
    request: StreetRequest, graph: StreetGraph, path: Path, encoder: str
) -> LongMemory | None:
    """What is remembered before the first route; routes walked in earlier runs are relived."""
    if request.memory != "long":
        return None
    discard_map(path)
    memory = LongMemory(path, encoder=encoder)
    try:
        if request.map is not None:
            with LongMemory(request.map, mode="r", encoder=encoder) as known:
                memory.session.become(known.session.content())
        memory.belong_to(graph.origin)
    except BaseException:
        memory.close()
        raise
    return memory


def _agent(
    request: StreetRequest,
    memory: LongMemory | None,
    complete: Complete | None,
    encode: Encode | None,
) -> StreetAgent | None:
    """The agent; None for gold, which needs the true paths and so is no agent."""
    if complete is not None:
        return LanguageAgent(complete, memory=memory, encode=encode or word_vector)
    if request.agent == "rules":
        known = memory is not None
        views = 1 if request.memory == "none" else 6
        config = FollowerConfig(short_views=views, plan=known, learn=known)
        if encode is None:  # sights are words, seen once as well as often
            config = replace(config, threshold=0.8, likeness=1.0, looks=1)
        return RuleFollower(config, memory, encode=encode or word_vector, seed=request.seed)
    if request.agent == "random":
        return RandomAgent(request.seed)
    return ForwardAgent() if request.agent == "forward" else None


def _walk(
    request: StreetRequest,
    agent: StreetAgent | None,
    graph: StreetGraph,
    world: StreetWorld,
    route: StreetRoute,
    path: list[int],
) -> Episode:
    navigator: Navigator = make_navigator(request.navigator, graph)
    headings = [heading for heading, _ in graph.exits[path[0]]]
    heading = route.start_heading
    if route.kind == "touchdown" and headings:
        heading = nearest_heading(heading, headings)
    if agent is None:
        navigator.begin(path[0], heading)
        trajectory = follow_path(navigator, path)
        stopped = bool(navigator.taken) and navigator.taken[-1] == STOP
        return Episode(route.route_id, tuple(trajectory), tuple(navigator.taken), stopped)
    return run_episode(
        agent,
        navigator,
        StreetTask(route.route_id, route.text, route.landmarks),
        (path[0], heading),
        world,
        limit=request.limit,
        first_forward=request.navigator == "velma" and route.kind == "map2seq",
    )


def _report(
    request: StreetRequest,
    graph: StreetGraph,
    paths: Mapping[str, Sequence[int]],
    done: Mapping[str, Episode],
    left: int,
    out: Path,
) -> StreetReport:
    scores: dict[str, WalkScore] = {}
    walks: dict[str, dict[str, WalkScore]] = {}
    lines: list[str] = []
    gaps = [name for name in done if graph.first_gap(paths[name]) is not None]
    if gaps:
        lines.append(f"{count(len(gaps), 'route')} with steps that are no links: {gaps[0]}, ...")
    for name in request.families if done else ():
        family = MeasureFamily(name, request.threshold)
        walks[name] = {
            key: family.score(graph, episode.trajectory, paths[key])
            for key, episode in done.items()
        }
        scores[name] = average(list(walks[name].values()))
        title = f"{request.dataset} {Path(request.split).stem}, {len(done)} routes; {family.title}"
        table = table_lines({request.agent: scores[name]}, title)
        if scores[name].unreachable:
            table.append("some places had no way between; the graph's diameter stood in")
        lines += table
        value = {
            "family": family.title, **request.identity(), "routes": len(done), "left": left,
            "scores": _percent(scores[name]),
            "walks": {key: _percent(score) for key, score in walks[name].items()},
        }  # fmt: skip
        write_file(out / f"scores-{name}.json", (json.dumps(value, indent=1) + "\n").encode())
        write_file(out / f"scores-{name}.txt", ("\n".join(table) + "\n").encode())
    return StreetReport(len(done), left, scores, tuple(lines), walks)


def _percent(score: WalkScore) -> dict[str, float]:
    return {
        name: round(value * (100.0 if name in PERCENT else 1.0), 4)
        for name, value in score.values.items()
    }


class EpisodeFile:
    """``episodes.jsonl``: grows by whole lines, is read again to go on.

    Its first line is the identity, what results depend on.

    Attributes:
        episodes: walks in the file, by route.

    Raises:
        InputError: when it holds results of another run.
        SinkError: when it cannot be written.
    """

    def __init__(
        self, path: Path, identity: dict[str, Any], graph: StreetGraph, *, overwrite: bool
    ) -> None:
        self._graph = graph
        self.episodes: dict[str, Episode] = {}
        self._check(path, identity, overwrite)
        self._file = LineFile(path, append=not overwrite)
        kept = self._file.keep(self._is_ours)
        if not kept:
            self._file.write(json.dumps(identity))

    @staticmethod
    def _check(path: Path, identity: dict[str, Any], overwrite: bool) -> None:
        """Before anything is opened for writing: are these results of the same run?"""
        if overwrite or not path.exists():
            return
        known = _recorded(path, identity)
        if known == identity:
            return
        known = known if isinstance(known, dict) else {}
        other = [key for key in identity if known.get(key) != identity[key]]
        raise InputError(
            f"{path} holds results of another run ({', '.join(other)} differ); give another "
            "folder, or overwrite them"
        )

    def _is_ours(self, number: int, line: str) -> bool:
        value = parse_json(line, "")
        if number == 0:
            return True
        walk = tuple(self._graph.number(name) for name in value["trajectory"])
        actions = tuple(map(str, value["actions"]))
        name = str(value["route"])
        self.episodes[name] = Episode(name, walk, actions, bool(value["stopped"]))
        return bool(walk)

    def add(self, episode: Episode) -> None:
        """Add one walk."""
        ids = [self._graph.ids[place] for place in episode.trajectory]
        value = {
            "route": episode.task_id,
            "trajectory": ids,
            "actions": list(episode.actions),
            "stopped": episode.stopped,
        }
        self._file.write(json.dumps(value))
        self.episodes[episode.task_id] = episode

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _recorded(path: Path, identity: dict[str, Any]) -> object:
    """What the first line says; a line that was cut off says nothing else than ``identity``."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline(1_000_000)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return parse_json(first, "") if first.endswith("\n") else identity
    except ValueError:
        return None


def holds_routes_of(out: Path, request: StreetRequest) -> bool:
    """Whether a folder holds walks of the same run."""
    path, identity = out / EPISODES, request.identity()
    return path.is_file() and _recorded(path, identity) == identity
