"""Bodies of generated scenes, and the ways in which they move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BOX, SPHERE = 0, 1
MOTIONS = ("line", "swing", "circle", "leave")
PHASES = ("always", "rest then move", "move then rest")
STILL_SPEED = 0.05
"""Metres a second from which on a body counts as moving."""
CLEARANCE = 0.4
"""Metres that bodies keep from the camera, always."""


@dataclass(frozen=True)
class Body:
    """A box or a sphere with its paint, still or moving.

    Attributes:
        kind: ``BOX`` or ``SPHERE``.
        half: ``(3,)`` half sizes; a sphere has its radius three times.
        position: ``(T, 3)`` centre a frame.
        heading: ``(T,)`` turn about the vertical, radians.
        speed: ``(T,)`` metres a second of its fastest surface point.
        paint: ``(3, 4, 4)`` a colour channel and wave: frequency vector (radians a metre), phase.
        colour: ``(3,)`` mean colour, 0 to 1.
    """

    kind: int
    half: Array
    position: Array
    heading: Array
    speed: Array
    paint: Array
    colour: Array

    @property
    def moves(self) -> bool:
        """Whether it ever moves."""
        return bool((self.speed > STILL_SPEED).any())


def paint(random: np.random.Generator) -> Array:
    """``(3, 4, 4)`` waves a channel; the faster, the weaker: ``synthetic.AMPLITUDES``."""
    waves = np.empty((3, 4, 4))
    for band, fastest in enumerate((2.0, 5.0, 10.0, 20.0)):
        waves[:, band, :3] = random.uniform(-fastest, fastest, (3, 3))
        waves[:, band, 3] = random.uniform(0, 2 * np.pi, 3)
    return waves


def moving_body(
    random: np.random.Generator,
    wanted: tuple[str, str, float],
    room: Array,
    times: Array,
    kind: int,
    half: Array,
    reach: float,
    anchor: Array,
) -> Body:
    """A body that moves somehow.

    Args:
        random: where chance comes from.
        wanted: motion and phase, empty for any; seconds between frames.
        room: ``(3,)`` half sizes.
        times: ``(T,)`` seconds.
        kind: ``BOX`` or ``SPHERE``.
        half: ``(3,)`` half sizes.
        reach: metres from its centre to its farthest point.
        anchor: ``(3,)`` where it begins.
    """
    motion = wanted[0] or str(random.choice(MOTIONS, p=[0.35, 0.35, 0.2, 0.1]))
    phase = wanted[1] or str(random.choice(PHASES, p=[0.5, 0.25, 0.25]))
    span = float(times[-1]) + wanted[2]
    begin, end = 0.0, np.inf
    if phase == "rest then move":
        begin = float(random.uniform(0.25, 0.6)) * span
    elif phase == "move then rest":
        end = float(random.uniform(0.35, 0.7)) * span
    direction = random.normal(size=3) * (1, 0.3, 1)
    direction /= max(float(np.linalg.norm(direction)), 1e-9)
    pace = float(random.uniform(0.3, 1.2))
    rate, phase_angle = float(random.uniform(0.15, 0.6)), float(random.uniform(0, 2 * np.pi))
    spin = float(random.uniform(-2, 2)) if random.random() < 0.5 else 0.0
    inside = np.maximum(room - reach, 0.05)

    def place(clock: Array) -> Array:
        if motion == "line":
            return _reflected(anchor + direction * pace * clock[:, None], inside)
        if motion == "swing":
            wave = np.sin(2 * np.pi * rate * clock + phase_angle) - np.sin(phase_angle)
            return _reflected(anchor + 0.6 * direction * wave[:, None], inside)
        if motion == "circle":
            turn = 2 * np.pi * rate * clock + phase_angle
            radius = min(0.5, pace / (2 * np.pi * rate))
            ring = np.stack(
                [np.cos(turn) - np.cos(phase_angle), 0 * turn, np.sin(turn) - np.sin(phase_angle)],
                axis=1,
            )
            return _reflected(anchor + radius * ring, inside)
        # Out through the wall and back: nobody is behind the wall to see it.
        away = np.array([np.sign(direction[0]) or 1.0, 0.0, 0.0])
        path = 2 * float(room[0] + 2 * reach)
        travelled = np.abs((pace * 1.2 * clock + path) % (2 * path) - path)
        return np.asarray(anchor + away * travelled[:, None])

    clock = np.clip(times, begin, end) - begin
    ahead = np.clip(times + 1e-3, begin, end) - begin
    behind = np.clip(times - 1e-3, begin, end) - begin
    heading0 = float(random.uniform(0, np.pi))
    velocity = np.linalg.norm(place(ahead) - place(behind), axis=1) / 2e-3
    turning = np.abs(spin) * float(np.linalg.norm(half[[0, 2]])) * (kind == BOX)
    return Body(
        kind,
        half,
        place(clock),
        heading0 + spin * clock,
        velocity + turning * (ahead - behind) / 2e-3,
        paint(random),
        random.uniform(0.25, 0.9, 3),
    )


def _reflected(places: Array, inside: Array) -> Array:
    """Positions folded back at the walls."""
    fold = (places + inside) % (4 * inside)
    return np.asarray(np.where(fold > 2 * inside, 4 * inside - fold, fold) - inside)
