"""Persistent structure: what stays, one oriented point in each hashed voxel, in bounded memory.

A voxel is on probation until a second frame hits it. A frame that looks through it gives it a
violation; too many of them, measured against its hits, and it dies: what stood still and then
left goes this way. When the voxels reach their limit, those out of view that were hit seldom and
long ago make room.

Source: specs/mem4d.md section 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_mem.reconstruction.kernels.compiled import EMPTY
from vision_mem.reconstruction.kernels.dispatch import VoxelKernels
from vision_mem.reconstruction.voxel_grid import StaticMap, StructureConfig

_FIELDS: dict[str, tuple[type, int]] = {
    "keys": (np.int64, 0),
    "position": (np.float32, 3),
    "normal": (np.float32, 3),
    "colour": (np.uint16, 3),  # 256 times the 8-bit value: a running mean needs the fraction
    "weight": (np.float32, 0),
    "hits": (np.int32, 0),
    "violations": (np.int32, 0),
    "first": (np.int32, 0),
    "last": (np.int32, 0),
}
_NUMBERS = ("voxel", "capacity", "count", "dead", "evicted", "turn")
_FIRST_ROOM = 1 << 14
_LOOKED_AT = 250_000
"""Voxels looked at in one pass: more of them are taken in turns, so that a frame's time is flat."""

View = tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]
"""World-to-camera ``(3, 4)``, camera ``(4,)``, (height, width)."""

_SAMPLED, _FLAT = 4_000, 0.05
"""Normals that tell whether the world is one plane, and how little they may then spread."""


class StructureMemory:
    """The voxels of one stream.

    Args:
        kernels: loops.
        config: settings.
        voxel: edge in metres.
        capacity: voxels at most.
    """

    def __init__(
        self, kernels: VoxelKernels, config: StructureConfig, voxel: float, capacity: int
    ) -> None:
        self.kernels, self.config = kernels, config
        self.voxel, self.capacity = voxel, capacity
        self.count = 0
        self.dead = 0
        self.evicted = 0
        self.turn = 0
        self._arrays: dict[str, NDArray[Any]] = {}
        self._table = np.empty(0, np.int32)
        self._grow(min(_FIRST_ROOM, capacity))

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name in _FIELDS:
            return self._arrays[name]
        raise AttributeError(name)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, used or not."""
        return sum(a.nbytes for a in self._arrays.values()) + self._table.nbytes

    @property
    def trusted(self) -> NDArray[np.int64]:
        """Slots of the voxels that are structure."""
        return np.flatnonzero(self._arrays["hits"][: self.count] >= self.config.probation)

    # -- writing -------------------------------------------------------------------------------

    def write(
        self,
        frame: int,
        points: NDArray[np.float32],
        normals: NDArray[np.float32],
        colours: NDArray[np.uint8],
        weights: NDArray[np.float32],
        view: View,
    ) -> int:
        """Enter the static points of one frame.

        Args:
            frame: its number; rises.
            points: ``(n, 3)`` in the world.
            normals: ``(n, 3)`` in the world.
            colours: ``(n, 3)`` uint8.
            weights: ``(n,)`` trust in each, (0, 1].
            view: what is in it is the last to make room.

        Returns:
            Voxels hit.
        """
        found = 0
        for attempt in range(8):
            *_, refused = result = self._fuse(frame, points, normals, colours, weights)
            found = result[1]
            if not refused:
                break
            if len(self._arrays["keys"]) < self.capacity:
                self._grow(min(2 * len(self._arrays["keys"]), self.capacity))
            elif attempt == 0 or self.count >= self.capacity:
                if not self._make_room(frame, view):
                    break
            else:
                break  # outside the grid
            # Voxels hit before the room ran out must not be counted twice: only new ones remain.
            left = self._unknown(points)
            points, normals = points[left], normals[left]
            colours, weights = colours[left], weights[left]
            if not len(points):
                break
        return found

    def _fuse(self, frame: int, *points: NDArray[Any]) -> tuple[int, int, int]:
        caps = np.array([self.config.most_weight, self.config.most_hits], np.float64)
        voxels = tuple(self._arrays[name] for name in _FIELDS)
        count, found, refused = self.kernels.fuse(
            *points, self.voxel, frame, caps, self._table, self.count, voxels
        )
        self.count = int(count)
        return self.count, int(found), int(refused)

    def _unknown(self, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        cell = np.floor(points.astype(np.float64) / self.voxel).astype(np.int64) + 1048576
        inside = ((cell >= 0) & (cell <= 2097151)).all(axis=1)
        code = (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]
        return inside & ~np.isin(code, self._arrays["keys"][: self.count])

    def carve(
        self,
        nearest: NDArray[np.float32],
        view: View,
        base: float,
        slope: float,
    ) -> tuple[int, int]:
        """Violate what a frame looks through.

        Args:
            nearest: ``(H, W)`` least depth around each pixel; 0 where there is none.
            view: as in ``write``.
            base: metres that a voxel must be nearer than that.
            slope: and further metres for each metre of depth.

        Returns:
            Voxels that died, and how many of them were trusted.
        """
        if not self.config.carving:
            return 0, 0
        a, rules = self._arrays, self.config
        start, step = self._turns()
        least = np.array([rules.probation, rules.violations, rules.violation_share], np.float64)
        died, trusted = self.kernels.carve(
            nearest, *view[:2], base, slope, start, step, self.count, least,
            a["position"], a["hits"], a["violations"],
        )  # fmt: skip
        self.turn += 1
        self.dead += int(died)
        if self.dead > 1024 and self.dead > self.count // 4:
            self._keep(self._arrays["hits"][: self.count] > 0)
        return int(died), int(trusted)

    # -- reading -------------------------------------------------------------------------------

    def is_flat(self) -> bool:
        """Whether all that is known lies in parallel planes, as far as normals tell."""
        normals = self._arrays["normal"][: self.count : max(1, self.count // _SAMPLED)]
        normals = normals[normals.any(axis=1)].astype(np.float64)
        if not len(normals):
            return True
        spread = np.linalg.eigvalsh(normals.T @ normals / len(normals))
        return bool(spread[1] < _FLAT * spread[2])

    def read_view(self, view: View, most: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points in a camera's view, spread evenly when there are too many.

        Those on probation are among them: what has just come into view is often all there is to
        find the next pose by.

        Returns:
            ``(n, 3)`` points and ``(n, 3)`` normals, float32; points without a normal are left
            out.
        """
        slots = self._in_view(view, most)
        normals = self._arrays["normal"][slots]
        known = normals.any(axis=1)
        return self._arrays["position"][slots][known], normals[known]

    def read_colours(
        self, view: View, most: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same points, and their colours.

        Returns:
            ``(n, 3)`` points and ``(n, 3)`` RGB in [0, 255], float32.
        """
        slots = self._in_view(view, most)
        colours = self._arrays["colour"][slots].astype(np.float32) / np.float32(256)
        return self._arrays["position"][slots], colours

    def _in_view(self, view: View, most: int) -> NDArray[np.int64]:
        slots = self._visible(view, *self._turns())
        if len(slots) > most:
            slots = slots[np.linspace(0, len(slots) - 1, most).astype(np.int64)]
        return slots

    def _visible(self, view: View, start: int, step: int) -> NDArray[np.int64]:
        out = np.empty(self.count, np.int64)
        position, hits = self._arrays["position"], self._arrays["hits"]
        pose, camera, size = view
        return out[
            : self.kernels.visible(
                pose, camera, np.array(size), start, step, self.count, 1, position, hits, out
            )
        ]

    def read(self) -> StaticMap:
        """Everything trusted."""
        slots, a = self.trusted, self._arrays
        return StaticMap(
            a["position"][slots],
            a["normal"][slots],
            np.clip((a["colour"][slots].astype(np.int32) + 128) >> 8, 0, 255).astype(np.uint8),
            a["hits"][slots],
            self.voxel,
        )

    def _turns(self) -> tuple[int, int]:
        step = max(1, -(-self.count // _LOOKED_AT))
        return self.turn % step, step

    # -- room ----------------------------------------------------------------------------------

    def _grow(self, room: int) -> None:
        for name, (kind, width) in _FIELDS.items():
            fresh: NDArray[Any] = np.zeros((room, width) if width else room, kind)
            if self.count:
                fresh[: self.count] = self._arrays[name][: self.count]
            self._arrays[name] = fresh
        self._rehash()

    def _rehash(self) -> None:
        room = len(self._arrays["keys"])
        places = 1 << max(4, (2 * room - 1).bit_length() - (room == self.capacity))
        if places < 1.3 * room:
            places *= 2
        if len(self._table) != places:
            self._table = np.empty(places, np.int32)
        self._table.fill(EMPTY)
        self.kernels.add(self._arrays["keys"], self._table, 0, self.count)

    def _keep(self, which: NDArray[np.bool_]) -> None:
        kept = int(which.sum())
        for array in self._arrays.values():
            array[:kept] = array[: self.count][which]
            array[kept : self.count] = 0
        self.count = kept
        self.dead = int((self._arrays["hits"][:kept] == 0).sum())
        self._rehash()

    def _make_room(self, frame: int, view: View) -> bool:
        """Let go of a tenth: the dead, then what is out of view, seldom hit and long ago."""
        a = self._arrays
        age = frame - a["last"][: self.count].astype(np.float64)
        score = a["hits"][: self.count] / (1.0 + np.maximum(age, 0))
        score[self._visible(view, 0, 1)] += 1e6
        score[a["hits"][: self.count] == 0] = -1.0
        goal = max(1, self.capacity // 10)
        kept = self.count - goal
        if kept < 1:
            return False
        order = np.argsort(score, kind="stable")
        which = np.ones(self.count, bool)
        which[order[:goal]] = False
        self.evicted += goal
        self._keep(which)
        return True

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything held."""
        arrays = {
            name: torch.from_numpy(a[: self.count].astype(_stored(a.dtype)))
            for name, a in self._arrays.items()
        }
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        numbers["room"] = len(self._arrays["keys"])
        return {"arrays": arrays, "numbers": numbers}

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], kernels: VoxelKernels, config: StructureConfig
    ) -> StructureMemory:
        """What ``state_dict`` gave, alive again.

        Raises:
            ValueError, KeyError, TypeError: for a state that is not whole.
        """
        numbers = state["numbers"]
        count, room, capacity = (int(numbers[k]) for k in ("count", "room", "capacity"))
        if not 0 <= count <= room <= capacity or not numbers["voxel"] > 0:
            raise ValueError("counts of voxels do not fit")
        arrays = {}
        for name, (kind, width) in _FIELDS.items():
            found = state["arrays"][name].numpy()
            if found.shape != ((count, width) if width else (count,)):
                raise ValueError(f"{name} has shape {found.shape}")
            arrays[name] = found.astype(kind)
        made = cls(kernels, config, float(numbers["voxel"]), capacity)
        made._grow(room)
        for name, array in arrays.items():
            made._arrays[name][:count] = array
        made.count, made.dead = count, int(numbers["dead"])
        made.evicted, made.turn = int(numbers["evicted"]), int(numbers["turn"])
        made._rehash()
        return made


def _stored(kind: Any) -> Any:
    # uint16 tensors are not known everywhere.
    return np.int32 if kind == np.uint16 else kind
