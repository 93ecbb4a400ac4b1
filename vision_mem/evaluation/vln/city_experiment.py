"""The controlled experiment: what is a memory of streets worth, and is it its content?

One follower of instructions, the same rules everywhere; only what it remembers differs. Before,
the memory walks through the city, is written to a file and read back, as after a restart. During
the tasks the long memory is only read, so that tasks do not help each other and the controls
cannot learn the right city. Source: mem4nav specification, section 5.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.vln.metrics import PERCENT, MeasureFamily
from vision_mem.formats.touchdown import StreetRoute
from vision_mem.synthetic.city import City, CityConfig, CityWorld, DetectorConfig, make_city
from vision_mem.synthetic.city_routes import make_goals, make_routes
from vision_mem.vln.action_spaces import make_navigator
from vision_mem.vln.environment import StreetTask, run_episode
from vision_mem.vln.exploration import explore
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.rule_agent import FollowerConfig, RuleFollower

TASKS = ("routes", "goals")
SHORT, LONG = "short only", "long"
# Name, views of the short memory, which long memory, plans over remembered ways.
AGENTS: tuple[tuple[str, int, str, bool], ...] = (
    ("no memory", 1, "", False),
    (SHORT, 6, "", False),
    (LONG, 6, "own", False),
    ("long + planning", 6, "own", True),
    ("control: another city", 6, "other", False),
    ("control: shuffled positions", 6, "shuffled", False),
    ("control: another city + planning", 6, "other", True),
    ("control: shuffled + planning", 6, "shuffled", True),
)
_MEASURES = ("TC", "SPD", "nDTW", "SED", "KPA")


@dataclass(frozen=True)
class CityExperiment:
    """How much is tried.

    Attributes:
        cities: layouts, seeds 0, 1, ...
        episodes: tasks of each kind a city and seed.
        seeds: repetitions with other tours, noise and tasks.
        tour: steps of the walk that fills the long memory.
        limit: actions a task.
        navigator: which one moves the agents.
        resamples: of the bootstrap.
        city: how cities are made.
        detector: how well landmarks are seen.
    """

    cities: int = 3
    episodes: int = 60
    seeds: int = 3
    tour: int = 3000
    limit: int = 60
    navigator: str = "touchdown"
    resamples: int = 2000
    city: CityConfig = CityConfig()
    detector: DetectorConfig = DetectorConfig()

    def __post_init__(self) -> None:
        low = [
            name
            for name in ("cities", "episodes", "seeds", "limit", "resamples")
            if getattr(self, name) < 1
        ]
        if low or self.tour < 0:
            raise InputError(f"{', '.join(low) or 'tour'} is too small; expected 1 or more")


@dataclass(frozen=True)
class CityRow:
    """One agent on one kind of task.

    Attributes:
        task: ``"routes"`` (turn by turn) or ``"goals"`` (only the goal is named).
        agent: name.
        values: measures of the ``outdoor`` family, rates in percent, and mean ``steps``.
        interval: 95 % of TC, percent.
        ahead: TC less that of short-only, points, on the same tasks.
        ahead_interval: 95 % of that, paired bootstrap over tasks within each city.
        tasks: how many were walked.
    """

    task: str
    agent: str
    values: Mapping[str, float]
    interval: tuple[float, float]
    ahead: float
    ahead_interval: tuple[float, float]
    tasks: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "task": self.task,
            "agent": self.agent,
            "tasks": self.tasks,
            **{name: round(value, 2) for name, value in self.values.items()},
            "TC_interval": [round(v, 2) for v in self.interval],
            "ahead_of_short": round(self.ahead, 2),
            "ahead_interval": [round(v, 2) for v in self.ahead_interval],
        }


@dataclass(frozen=True)
class CityTable:
    """What came out.

    Attributes:
        rows: one a task kind and agent.
        coverage: share of the places that the tours saw, on average.
        seconds: it took.
    """

    rows: tuple[CityRow, ...]
    coverage: float
    seconds: float

    def row(self, task: str, agent: str) -> CityRow:
        """One row by name."""
        return next(row for row in self.rows if (row.task, row.agent) == (task, agent))

    def lines(self) -> list[str]:
        """The table as text."""
        names = [*_MEASURES, "steps"]
        lines = []
        wide = max(len(row.agent) for row in self.rows)
        for task in dict.fromkeys(row.task for row in self.rows):
            rows = [row for row in self.rows if row.task == task]
            lines.append(f"{task}: {rows[0].tasks} tasks, measures: outdoor (hops)")
            head = "".join(name.rjust(7) for name in names)
            lines.append(f"{'agent'.ljust(wide)}{head}   TC 95 %        ahead of short-only")
            for row in rows:
                cells = "".join(f"{row.values[name]:7.1f}" for name in names)
                low, high = row.interval
                less, more = row.ahead_interval
                lines.append(
                    f"{row.agent.ljust(wide)}{cells}   {low:4.1f} to {high:4.1f}"
                    f"   {row.ahead:+6.1f} ({less:+.1f} to {more:+.1f})"
                )
        lines.append(f"tours saw {self.coverage:.0%} of the places; {self.seconds:.0f} s")
        return lines


def run_city_experiment(
    experiment: CityExperiment | None = None,
    *,
    say: Callable[[str], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CityTable:
    """Run the whole table; everything follows from the numbers in ``experiment``.

    Args:
        experiment: how much; the default is 3 cities, 60 tasks of each kind, 3 seeds.
        say: told about progress.
        should_stop: asked between blocks; what is done by then is reported.

    Raises:
        InputError: when it was stopped before anything was done.
    """
    asked = experiment or CityExperiment()
    begun = time.perf_counter()
    cities = [make_city(seed, asked.city) for seed in range(max(asked.cities, 2))]
    worlds = [CityWorld(city, (0,), asked.detector) for city in cities]
    scores: dict[tuple[str, str], list[tuple[int, dict[str, float]]]] = {}
    coverage = []
    for seed in range(asked.seeds):
        if should_stop():
            break
        tours = [
            # A copy is read from the bytes of a map file, as another process would find it.
            explore(world.city.graph, world.again(seed, number, 1), asked.tour, seed).copy()
            for number, world in enumerate(worlds)
        ]
        for number in range(asked.cities):
            if should_stop():
                break
            coverage.append(tours[number].places / len(cities[number].graph))
            memories = {
                "own": tours[number],
                "other": tours[(number + 1) % len(tours)],
                "shuffled": tours[number].with_landmarks_moved(np.random.default_rng([seed, 19])),
            }
            block = _Streets(asked, cities[number], worlds[number], memories, (seed, number))
            for key, values in block.run():
                scores.setdefault(key, []).append((number, values))
            if say is not None:
                say(f"seed {seed}, city {number}: {time.perf_counter() - begun:.0f} s")
    if not scores:
        raise InputError("stopped before the first city was done; nothing to report")
    rows = [_row(task, name, scores, asked) for task in TASKS for name, *_ in AGENTS]
    return CityTable(tuple(rows), float(np.mean(coverage)), time.perf_counter() - begun)


@dataclass(frozen=True)
class _Streets:
    """All agents on the tasks of one city and seed."""

    asked: CityExperiment
    city: City
    world: CityWorld
    memories: Mapping[str, LongMemory]
    seed: tuple[int, int]

    def run(self) -> list[tuple[tuple[str, str], dict[str, float]]]:
        found = []
        for task in TASKS:
            make = make_routes if task == "routes" else make_goals
            routes = make(self.city, self.asked.episodes, self.seed[0] * 1000 + self.seed[1])
            for name, views, which, plan in AGENTS:
                config = FollowerConfig(short_views=views, plan=plan)
                memory = self.memories[which] if which else None
                agent = RuleFollower(config, memory, seed=self.seed[0])
                for number, route in enumerate(routes):
                    found.append(((task, name), self._walk(agent, route, number)))
        return found

    def _walk(self, agent: RuleFollower, route: StreetRoute, number: int) -> dict[str, float]:
        graph = self.city.graph
        path = graph.path_of(route)
        episode = run_episode(
            agent,
            make_navigator(self.asked.navigator, graph),
            StreetTask(route.route_id, route.text),
            (path[0], route.start_heading),
            self.world.again(*self.seed, 2, number),
            limit=self.asked.limit,
        )
        score = MeasureFamily("outdoor").score(graph, episode.trajectory, path).values
        values = {name: score[name] * (100.0 if name in PERCENT else 1.0) for name in _MEASURES}
        return {**values, "steps": float(len(episode.actions))}


def _row(
    task: str,
    agent: str,
    scores: Mapping[tuple[str, str], Sequence[tuple[int, dict[str, float]]]],
    asked: CityExperiment,
) -> CityRow:
    own, short = scores[task, agent], scores[task, SHORT]
    done = np.array([values["TC"] for _, values in own])
    ahead = done - np.array([values["TC"] for _, values in short])
    city = np.array([number for number, _ in own])
    means = {name: float(np.mean([v[name] for _, v in own])) for name in own[0][1]}
    return CityRow(
        task,
        agent,
        means,
        bootstrap_interval(done, city, asked.resamples),
        float(ahead.mean()),
        bootstrap_interval(ahead, city, asked.resamples),
        len(own),
    )


def bootstrap_interval(
    values: NDArray[np.float64], groups: NDArray[np.int64], resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % of the mean, tasks drawn anew within each group.

    Args:
        values: ``(n,)`` one a task; differences for a paired comparison.
        groups: ``(n,)`` which city.
        resamples: how often.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for group in np.unique(groups):
        own = values[groups == group]
        total += own[rng.integers(len(own), size=(resamples, len(own)))].sum(axis=1)
    low, high = np.percentile(total / len(values), [2.5, 97.5])
    return float(low), float(high)
