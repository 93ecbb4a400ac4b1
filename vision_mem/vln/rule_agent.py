"""A follower of instructions by plain rules, with a memory plugged in.

It walks straight on until the landmark of its next step is at the corner, turns, and so on. What
differs between its kinds is only where it looks for landmarks: in the present view, in the latest
views, or in everything it remembers; and whether it plans ways over remembered ones. It sees the
street graph nowhere. Source: mem4nav specification, section 5.2.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.vln.action_spaces import FORWARD, STOP
from vision_mem.vln.environment import StreetTask, StreetView
from vision_mem.vln.graph import along, bearing_of, turn_between
from vision_mem.vln.instructions import Step, read_instruction
from vision_mem.vln.memory import LongMemory, RecentViews
from vision_mem.vln.observations import LandmarkHit, word_vector

Match = Callable[[NDArray[np.float32], NDArray[np.float64], float], LandmarkHit | None]

_ARRIVED_M = 10.5  # landmarks stand some eight metres aside; then a place is beside one
_GOAL_M = 14.0
_CANDIDATES = 5


class Searcher:
    """Finds its way to a landmark.

    With remembered ways and ``plan``: along the shortest of them. With remembered landmarks only:
    toward where it was. Without: by chance at junctions.
    """

    def __init__(
        self, long: LongMemory | None, config: FollowerConfig, rng: np.random.Generator
    ) -> None:
        self._long, self._config, self._rng = long, config, rng
        self._taken: Counter[tuple[int, int, float]] = Counter()
        self._candidates: list[LandmarkHit] | None = None
        self._path: list[int] = []

    def decide(
        self, view: StreetView, heading: float, vector: NDArray[np.float32], match: Match
    ) -> float | None:
        """The exit to take; None to stop, beside the landmark."""
        if match(vector, view.position, _ARRIVED_M) is not None:
            return None
        if self._candidates is None:
            self._candidates = self._remembered(vector)
        going = self._by_plan(view) if self._config.plan else None
        if going is None and self._candidates:
            going = self._toward(view, self._candidates[0].position)
        if going is None:
            going = self._by_chance(view, heading)
        self._taken[(*self._spot(view), going)] += 1
        return going

    def _remembered(self, vector: NDArray[np.float32]) -> list[LandmarkHit]:
        if self._long is None:
            return []
        found = self._long.find(vector, k=_CANDIDATES)
        looks = self._config.looks
        return [hit for hit in found if hit.looks >= looks and self._config.means(hit)]

    def _by_plan(self, view: StreetView) -> float | None:
        """The first exit of the shortest remembered way to the best candidate that has one."""
        memory = self._long
        here = None if memory is None else memory.place_at(view.position)
        if memory is None or here is None or not self._candidates:
            return None
        while self._candidates:
            if here in self._path[:-1]:
                self._path = self._path[self._path.index(here) :]
            else:
                goals = memory.places_near(self._candidates[0].position, _GOAL_M)[:1]
                self._path = [] if goals == [here] else memory.path(here, goals)
            if len(self._path) > 1:
                ways = {end: heading for heading, end in memory.ways_from(here)}
                wanted = ways[self._path[1]]
                off = {one: abs(turn_between(wanted, one)) for one in view.exits}
                going = min(off, key=lambda one: off[one])
                # A remembered way that is not to be seen: closed since, or another city.
                if off[going] <= 45.0 and self._taken[(*self._spot(view), going)] < 3:
                    return going
            # There, and it is not what was sought; or no way leads there.
            self._candidates.pop(0)
            self._path = []
        return None

    def _toward(self, view: StreetView, goal: NDArray[np.float64]) -> float:
        """The exit nearest to the direction of the goal, less those taken before."""
        wanted, spot = bearing_of(goal - view.position), self._spot(view)
        return min(
            view.exits,
            key=lambda one: abs(turn_between(wanted, one)) + 90.0 * self._taken[(*spot, one)],
        )

    def _by_chance(self, view: StreetView, heading: float) -> float:
        ways = [one for one in view.exits if abs(turn_between(heading, one)) <= 150.0]
        if view.came_by is None:
            ways = [min(view.exits, key=lambda one: abs(turn_between(heading, one)))]
        return float(self._rng.choice(ways or list(view.exits)))

    @staticmethod
    def _spot(view: StreetView) -> tuple[int, int]:
        return round(float(view.position[0])), round(float(view.position[1]))


_SAME_M = 4.0  # two positions this near are one place


class LegPlanner:
    """Looks along remembered ways, straight ahead, for the place that an instruction means.

    The plan is checked at each place: off the remembered way it is dropped, and the follower goes
    by what it sees. Only ways that were walked are known.
    """

    def __init__(self, long: LongMemory | None, config: FollowerConfig) -> None:
        self._long, self._config = long, config
        self.clear()

    def clear(self) -> None:
        """A new leg begins."""
        self._way: list[NDArray[np.float64]] | None = None

    def here(
        self, view: StreetView, heading: float, vector: NDArray[np.float32], *, stop: bool
    ) -> bool | None:
        """Whether the place is reached at whose corner to turn, or beside which to ``stop``.

        None when there is no plan: nothing remembered ahead, or off the way.
        """
        if self._way is None:
            self._way = self._plan(view, heading, vector, stop)
        elif self._way:
            at = [i for i, p in enumerate(self._way) if _near(p, view.position)]
            # Not where the plan leads: what is remembered does not hold here.
            self._way = self._way[at[0] :] if at else []
        if not self._way:
            return None
        return len(self._way) == 1

    def _plan(
        self, view: StreetView, heading: float, vector: NDArray[np.float32], stop: bool
    ) -> list[NDArray[np.float64]]:
        """Positions from here to the best place ahead; empty when none is remembered."""
        memory = self._long
        place = None if memory is None else memory.place_at(view.position)
        if memory is None or place is None:
            return []
        # The first step is the one the agent is about to take; as it comes, not as it looks.
        ways = [place, *memory.ahead(place, heading)]
        best, score = 0, -1.0
        radius = self._config.beside_m if stop else self._config.corner_m
        for number, each in enumerate(ways):
            if number == 0 and (view.came_by is None or stop):
                continue
            if not stop and len(memory.exits_of(each)) <= 2:
                continue
            at = memory.place_position(each)
            following = ways[min(number + 1, len(ways) - 1)]
            on = self._heading(each, following, heading)
            for hit in memory.find(vector, at, radius, 1):
                if hit.looks < self._config.looks or not self._config.means(hit):
                    continue
                if stop and along(on, hit.position - at) > 5.0:
                    continue
                # The same landmark is beside several places; the first of them is meant.
                if hit.score > score + (0.05 if best else 0.0):
                    best, score = number, hit.score
        return [memory.place_position(each) for each in ways[: best + 1]] if best else []

    def _heading(self, place: int, following: int, heading: float) -> float:
        assert self._long is not None
        ways = self._long.ways_from(place)
        found = [h for h, end in ways if end == following]
        ahead = [h for h, _ in ways if abs(turn_between(heading, h)) <= 90.0]
        return (found or ahead or [heading])[0]


def _near(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.hypot(*(one - other)) <= _SAME_M)


Encode = Callable[[str], NDArray[np.float32]]


@dataclass(frozen=True)
class FollowerConfig:
    """What the rules go by.

    Attributes:
        short_views: views looked through for landmarks; 1 is the present one only.
        threshold: least cosine of one look with a name for it to be the one meant (spec 5.2).
        likeness: cosine of one look with the truth, on average; 1 where sights are words.
        looks: sights that a remembered landmark pools at least, so that one slip is not believed.
        corner_m: a landmark this near to a junction is at its corner.
        beside_m: this near to a place, beside it.
        blind_steps: places walked after the last junction before stopping, where nothing is seen.
        plan: use remembered ways, not only remembered landmarks.
        learn: write what is seen into the long memory too.
    """

    short_views: int = 6
    threshold: float = 0.62
    likeness: float = 0.74
    looks: int = 2
    corner_m: float = 16.0
    beside_m: float = 14.0
    blind_steps: int = 5
    plan: bool = False
    learn: bool = False

    def __post_init__(self) -> None:
        if not -1.0 <= self.threshold <= 1.0:
            raise InputError(f"threshold is {self.threshold}; expected a cosine, -1 to 1")
        if not 0.0 < self.likeness <= 1.0:
            raise InputError(f"likeness is {self.likeness}; expected a cosine above 0, up to 1")
        if self.corner_m <= 0 or self.beside_m <= 0:
            raise InputError("corner_m and beside_m must be above 0 metres")

    def means(self, hit: LandmarkHit) -> bool:
        """Whether a landmark is the one that was named.

        The mean of n looks is nearer to the truth than one, so more is asked of it: noise of one
        look with likeness c has length sqrt(1/c^2 - 1), and n looks divide its square by n.
        """
        noise = 1.0 / self.likeness**2 - 1.0
        expected = 1.0 / np.sqrt(1.0 + noise / hit.looks)
        return bool(hit.score >= self.threshold * expected / self.likeness)


class RuleFollower:
    """Follows instructions.

    By its config and what is remembered, ``long``; ``encode`` makes words unit vectors in the space
    of the sights, ``seed`` decides where nothing tells the way.

    Attributes:
        reason: what the latest decision went by, JSON-ready: the step of the instruction and
            what was found for it.

    Raises:
        InputError: when planning or learning is asked for without a long memory.
    """

    def __init__(
        self,
        config: FollowerConfig | None = None,
        long: LongMemory | None = None,
        *,
        encode: Encode = word_vector,
        seed: int = 0,
    ) -> None:
        self.config = config or FollowerConfig()
        self.long = long
        if long is None and (self.config.plan or self.config.learn):
            raise InputError("plan and learn need a long memory; give one, or leave them out")
        self._encode, self._seed = encode, seed
        self._short = RecentViews(self.config.short_views)
        self.begin(StreetTask("", ""))

    def begin(self, task: StreetTask) -> None:
        """Read the instruction, forget the views of the last task."""
        self._steps = read_instruction(task.text)
        self._short.clear()
        if self.long is not None:
            self.long.begin()
        rng = np.random.default_rng([self._seed, zlib.crc32(task.task_id.encode())])
        self._planner = LegPlanner(self.long, self.config) if self.config.plan else None
        self._searcher = Searcher(self.long, self.config, rng)
        self._going: float | None = None
        self._last = ""
        self._blocked: set[float] = set()
        self._seen_any = False
        self._begun = False
        self.reason: dict[str, object] = {}
        self._new_leg()

    def act(self, view: StreetView) -> str:
        """The next action: decided on reaching a place, then carried out turn by turn."""
        if not self._begun or view.came_by is not None:
            self._begun, self._blocked = True, set()
            self._arrive(view)
            self._going = self._decide(view)
        elif self._last == FORWARD and self._going is not None:
            # The way is refused: not one to try again from here.
            self._blocked.add(self._going)
            free = [one for one in view.exits if one not in self._blocked]
            heading = self._going
            self._going = min(free, key=lambda one: abs(turn_between(heading, one)), default=None)
        self._last = STOP if self._going is None else view.toward(self._going)
        return self._last

    # -- on reaching a place -------------------------------------------------------------------

    def _new_leg(self) -> None:
        self._crossed = self._walked = self._since = 0
        if self._planner is not None:
            self._planner.clear()

    def _arrive(self, view: StreetView) -> None:
        visit = view.visit()
        self._seen_any = self._seen_any or bool(view.sights)
        self._short.write(visit)
        if self.config.learn and self.long is not None:
            self.long.write(visit)
        if view.came_by is not None:
            self._walked += 1
            junction = len(view.exits) > 2
            self._crossed += junction
            self._since = 0 if junction else self._since + 1

    def _decide(self, view: StreetView) -> float | None:
        """The exit to take; None to stop."""
        if not view.exits:
            return None
        heading = view.heading if view.came_by is None else view.came_by
        step = self._steps[0]
        self.reason = {"step": step.action, "landmark": step.landmark}
        if step.action == "find":
            vector = self._encode(step.landmark)
            return self._searcher.decide(view, heading, vector, self.match)
        planned = self._planned(view, heading, step)
        if step.action == "stop":
            self.reason["planned"] = planned is not None
            there = self._stop_here(view, heading, step) if planned is None else planned
            return None if there else straight_on(view, heading)
        self.reason["planned"] = planned is not None
        at_junction = len(view.exits) > 2 and (view.came_by is not None or step.count == 0)
        here = at_junction and (self._turn_here(view, step) if planned is None else planned)
        if step.action == "around" and not step.count:
            here = True
        ahead = straight_on(view, heading)
        taken = exit_to(step.action, view, heading)
        if taken is not None and at_junction and abs(turn_between(heading, ahead)) > 60.0:
            here = True  # the street ends: turn as told, wherever the landmark is
        if not here or taken is None:
            return ahead
        self._steps = self._steps[1:] or [Step("stop")]
        self._new_leg()
        return taken

    def _planned(self, view: StreetView, heading: float, step: Step) -> bool | None:
        """Whether the plan says "here"; None without a plan."""
        if self._planner is None or not step.landmark:
            return None
        vector = self._encode(step.landmark)
        return self._planner.here(view, heading, vector, stop=step.action == "stop")

    def _turn_here(self, view: StreetView, step: Step) -> bool:
        counted = self._crossed >= max(step.count, 1)
        if not step.landmark:
            return counted
        vector = self._encode(step.landmark)
        seen = self.match(vector, view.position, self.config.corner_m) is not None
        return seen or (step.count > 0 and counted)

    def _stop_here(self, view: StreetView, heading: float, step: Step) -> bool:
        if step.landmark and (self._seen_any or self.long is not None):
            vector = self._encode(step.landmark)
            hit = self.match(vector, view.position, self.config.beside_m)
            if hit is not None:
                return along(heading, hit.position - view.position) <= 5.0
        blind = not step.landmark or not self._seen_any
        return blind and self._crossed >= step.count and self._since >= self.config.blind_steps

    def match(
        self, vector: NDArray[np.float32], near: NDArray[np.float64], radius: float
    ) -> LandmarkHit | None:
        """The landmark meant by a name near a position, from any memory; None without one."""
        hits = [("short", hit) for hit in self._short.find(vector, near, radius, 1)]
        if self.long is not None:
            found = self.long.find(vector, near, radius, 3)
            hits += [("long", hit) for hit in found if hit.looks >= self.config.looks][:1]
        hits = [(memory, hit) for memory, hit in hits if self.config.means(hit)]
        if not hits:
            return None
        memory, best = max(hits, key=lambda one: one[1].score)
        self.reason |= {"memory": memory, "score": round(best.score, 3), "looks": best.looks}
        return best


def straight_on(view: StreetView, heading: float) -> float:
    """The exit most nearly ahead, the way back only when there is no other."""
    ways = [h for h in view.exits if abs(turn_between(heading, h)) <= 150.0] or list(view.exits)
    return min(ways, key=lambda one: abs(turn_between(heading, one)))


def exit_to(action: str, view: StreetView, heading: float) -> float | None:
    """The exit that a person would call left, right, straight or around; None without one."""
    wanted = {"left": -90.0, "right": 90.0, "straight": 0.0, "around": 180.0}[action]
    off = {one: abs(turn_between(heading + wanted, one)) for one in view.exits}
    if action in ("left", "right"):
        side = -1.0 if action == "left" else 1.0
        off = {h: o for h, o in off.items() if 20.0 <= side * turn_between(heading, h) <= 160.0}
    return min(off, key=lambda one: off[one], default=None)
