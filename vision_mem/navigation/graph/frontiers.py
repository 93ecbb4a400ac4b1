"""Ways that were seen to leave a place, walked or not: what a street graph shows at each panorama.

Headings are degrees clockwise from the map's second axis, which is north on streets.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import DamagedFileError


class Exits:
    """Headings of ways by place, and the place each is known to lead to.

    Attributes:
        changed: places whose exits have to be stored.
    """

    def __init__(self) -> None:
        self._of: dict[int, dict[float, int]] = {}
        self.changed: set[int] = set()

    def __len__(self) -> int:
        return sum(len(each) for each in self._of.values())

    @property
    def nbytes(self) -> int:
        """Bytes held, about: 100 an exit."""
        return 100 * len(self)

    def see(self, place: int, headings: Iterable[float]) -> None:
        """Add what was seen to leave a place; what was known stays."""
        known = self._of.setdefault(place, {})
        for heading in headings:
            if heading % 360.0 not in known:
                known[heading % 360.0] = 0
                self.changed.add(place)

    def lead(self, place: int, heading: float, end: int) -> None:
        """A way was walked: it leads to a place."""
        known = self._of.setdefault(place, {})
        if known.get(heading % 360.0) != end:
            known[heading % 360.0] = end
            self.changed.add(place)

    def headings(self, place: int) -> tuple[float, ...]:
        """Of all ways seen to leave a place, in the order they were first seen."""
        return tuple(self._of.get(place, ()))

    def known(self, place: int) -> list[tuple[float, int]]:
        """``(heading, place)`` of those whose end is known."""
        return [(heading, end) for heading, end in self._of.get(place, {}).items() if end]

    def close(self, start: int, end: int) -> None:
        """What leads from one place to another leads nowhere known from now on."""
        for heading, known in self.known(start):
            if known == end:
                self._of[start][heading] = 0
                self.changed.add(start)

    def drop(self, place: int) -> None:
        """Forget a place."""
        if self._of.pop(place, None) is not None:
            self.changed.add(place)
        for other, ways in self._of.items():
            if place in ways.values():
                self.close(other, place)

    def turn(self, motions: Mapping[int, NDArray[np.float64]]) -> None:
        """Turn the headings of places that were corrected by rigid motions ``(4, 4)``."""
        for place, motion in motions.items():
            turn = math.degrees(math.atan2(motion[1, 0], motion[0, 0]))
            if abs(turn) > 1e-9 and place in self._of:
                ways = self._of[place].items()
                self._of[place] = {(heading - turn) % 360.0: end for heading, end in ways}
                self.changed.add(place)

    # -- storing -------------------------------------------------------------------------------

    def save(self, sql: sqlite3.Connection) -> None:
        """Write what changed, within a transaction."""
        for place in sorted(self.changed):
            sql.execute("DELETE FROM exit WHERE place=?", (place,))
            rows = [
                (place, number, heading, end)
                for number, (heading, end) in enumerate(self._of.get(place, {}).items())
            ]
            sql.executemany("INSERT INTO exit VALUES(?, ?, ?, ?)", rows)

    def load(self, sql: sqlite3.Connection) -> None:
        """Take in what a file holds.

        Raises:
            DamagedFileError: for content that cannot be.
        """
        for place, _, heading, end in sql.execute("SELECT * FROM exit ORDER BY place, number"):
            if not 0.0 <= float(heading) < 360.0:
                raise DamagedFileError(
                    f"the map is damaged: a way leaves place {place} at heading {heading}"
                )
            self._of.setdefault(int(place), {})[float(heading)] = int(end)
