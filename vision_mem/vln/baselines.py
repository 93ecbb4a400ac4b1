"""Agents that read nothing: straight on, chance, and what another agent did before."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from vision_mem.vln.action_spaces import FORWARD, STOP
from vision_mem.vln.environment import StreetTask, StreetView
from vision_mem.vln.graph import nearest_heading
from vision_mem.vln.memory import LongMemory
from vision_mem.vln.observations import StreetMemory


class ForwardAgent:
    """Straight on, and a stop after so many steps; Touchdown's routes have about 34 places."""

    def __init__(self, steps: int = 33) -> None:
        self._steps, self._done = steps, 0

    def begin(self, task: StreetTask) -> None:
        """Start counting."""
        self._done = 0

    def act(self, view: StreetView) -> str:
        """Forward along the exit most nearly ahead."""
        self._done += 1
        if self._done > self._steps or not view.exits:
            return STOP
        return view.toward(nearest_heading(view.heading, view.exits))


class RandomAgent:
    """Any action but stop with equal chance, and a stop after so many.

    Each task has its own chance by the seed, whatever the order of tasks.
    """

    def __init__(self, seed: int = 0, steps: int = 40) -> None:
        self._seed, self._steps = seed, steps
        self._rng = np.random.default_rng(seed)
        self._done = 0

    def begin(self, task: StreetTask) -> None:
        """Start counting."""
        self._rng = np.random.default_rng([self._seed, zlib.crc32(task.task_id.encode())])
        self._done = 0

    def act(self, view: StreetView) -> str:
        """By chance."""
        self._done += 1
        if self._done > self._steps:
            return STOP
        choices: Sequence[str] = [action for action in view.actions if action != STOP]
        return str(self._rng.choice(choices)) if choices else FORWARD


class ReplayAgent:
    """Does what was done before, and remembers it: a memory goes on after a restart."""

    def __init__(self, actions: Sequence[str], memory: StreetMemory) -> None:
        self._actions, self._memory = actions, memory
        self._done, self._begun = 0, False

    def begin(self, task: StreetTask) -> None:
        """From the first action."""
        self._done, self._begun = 0, False
        if isinstance(self._memory, LongMemory):
            self._memory.begin()

    def act(self, view: StreetView) -> str:
        """The next action of the walk; a stop after the last."""
        if not self._begun or view.came_by is not None:
            # A forced first step is in the list of actions and was not asked for.
            self._done += not self._begun and view.came_by is not None
            self._begun = True
            self._memory.write(view.visit())
        self._done += 1
        return self._actions[self._done - 1] if self._done <= len(self._actions) else STOP
