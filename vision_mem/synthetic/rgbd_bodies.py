"""Bodies of generated scenes with depth, and how they and the camera move.

A room with furniture, and bodies that move, rest, leave and come back. Everything follows from
one seed. World axes are those of a level camera: x right, y down, z forward; metres, seconds.

Source: specs/mem4d.md section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vision_mem.errors import InputError

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
        kind, half, place(clock), heading0 + spin * clock,
        velocity + turning * (ahead - behind) / 2e-3, paint(random), random.uniform(0.25, 0.9, 3),
    )  # fmt: skip


def _reflected(places: Array, inside: Array) -> Array:
    """Positions folded back at the walls."""
    fold = (places + inside) % (4 * inside)
    return np.asarray(np.where(fold > 2 * inside, 4 * inside - fold, fold) - inside)


@dataclass(frozen=True)
class SceneryConfig:
    """What scenes are like.

    Attributes:
        bodies: least and most moving bodies.
        furniture: least and most boxes that stand still.
        spheres: least and most spheres that stand still.
        motion: of all bodies, one of ``MOTIONS``; empty for a mix.
        phase: of all bodies, one of ``PHASES``; empty for a mix.
        camera: ``tour``, ``turn`` (rotation only), ``still``; empty for a mix.
        time_step: seconds between frames.
        noise: whether images get noise and change in exposure.
    """

    bodies: tuple[int, int] = (1, 4)
    furniture: tuple[int, int] = (3, 6)
    spheres: tuple[int, int] = (1, 3)
    motion: str = ""
    phase: str = ""
    camera: str = ""
    time_step: float = 0.1
    noise: bool = True

    def __post_init__(self) -> None:
        for name, known in (
            ("motion", MOTIONS),
            ("phase", PHASES),
            ("camera", ("tour", "turn", "still")),
        ):
            if getattr(self, name) not in ("", *known):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        if not self.time_step > 0:
            raise InputError(f"time_step is {self.time_step}; expected seconds above 0")


@dataclass(frozen=True)
class Scenery:
    """A whole scene over time.

    Attributes:
        seed: that it came from.
        room: ``(3,)`` half sizes of the room, whose middle is the origin.
        furniture, bodies: what stands still, what moves. Instance 0 is the room; then furniture
            and bodies are counted on in this order.
        poses: ``(T, 4, 4)`` camera-to-world.
        times: ``(T,)`` seconds.
        field_of_view: degrees, horizontal.
        exposure: ``(T,)`` factor of brightness.
        noise: standard deviation of the image noise, of 1.
        room_paint, room_colour: as a body's.
    """

    seed: int
    room: Array
    furniture: tuple[Body, ...]
    bodies: tuple[Body, ...]
    poses: Array
    times: Array
    field_of_view: float
    exposure: Array
    noise: float
    room_paint: Array
    room_colour: Array
    config: SceneryConfig = field(default_factory=SceneryConfig)

    @property
    def parts(self) -> tuple[Body, ...]:
        """Furniture, then bodies: instances 1 and up."""
        return (*self.furniture, *self.bodies)

    def distance(self, points: Array, *, resting_at: int | None = None) -> Array:
        """Metres from points to the nearest surface that stands still.

        Args:
            points: ``(N, 3)`` in the world.
            resting_at: a frame: bodies that do not move on it count too, where they are then.

        Returns:
            ``(N,)``, >= 0.
        """
        where = np.asarray(points, np.float64)
        # Inside the room the walls are as near as the least slack; outside, a box's distance.
        slack = np.abs(where) - self.room
        outside = np.linalg.norm(np.maximum(slack, 0), axis=1)
        nearest = np.where(outside > 0, outside, -slack.max(axis=1))
        for part in self.furniture:
            nearest = np.minimum(nearest, _body_distance(part, 0, where))
        if resting_at is not None:
            for part in self.bodies:
                if part.speed[resting_at] <= STILL_SPEED:
                    nearest = np.minimum(nearest, _body_distance(part, resting_at, where))
        return np.asarray(nearest)


def _body_distance(body: Body, frame: int, points: Array) -> Array:
    local = points - body.position[frame]
    if body.kind == SPHERE:
        return np.asarray(np.abs(np.linalg.norm(local, axis=1) - body.half[0]))
    c, s = np.cos(body.heading[frame]), np.sin(body.heading[frame])
    turned = np.stack(
        [c * local[:, 0] - s * local[:, 2], local[:, 1], s * local[:, 0] + c * local[:, 2]], axis=1
    )
    slack = np.abs(turned) - body.half
    outside = np.linalg.norm(np.maximum(slack, 0), axis=1)
    return np.asarray(np.abs(np.where(outside > 0, outside, slack.max(axis=1))))


def make_scenery(seed: int, frames: int, config: SceneryConfig | None = None) -> Scenery:
    """Invent a scene.

    Args:
        seed: any number from 0; by custom training below 1,000,000, validation from there,
            tests from 2,000,000.
        frames: moments to describe, >= 1.
        config: settings.

    Returns:
        The same scene for the same arguments.
    """
    if frames < 1:
        raise InputError(f"frames is {frames}; expected 1 or more")
    settings = config or SceneryConfig()
    random = np.random.default_rng(seed)
    times = np.asarray(np.arange(frames) * settings.time_step, np.float64)
    room = np.asarray(random.uniform([2.0, 1.3, 2.0], [4.0, 1.8, 4.0]), np.float64)
    view = float(random.uniform(55, 70))
    poses = _camera_path(random, settings, room, times)
    furniture = [
        _furniture(random, room, poses, box)
        for box in [BOX] * int(random.integers(*settings.furniture, endpoint=True))
        + [SPHERE] * int(random.integers(*settings.spheres, endpoint=True))
    ]
    bodies: list[Body] = []
    for _ in range(int(random.integers(*settings.bodies, endpoint=True))):
        bodies.append(_body(random, settings, room, poses, times, view, [*furniture, *bodies]))
    exposure = random.uniform(0.9, 1.1, frames) if settings.noise else np.ones(frames)
    noise = float(random.uniform(0, 0.02)) if settings.noise else 0.0
    return Scenery(
        seed, room, tuple(furniture), tuple(bodies), poses, times, view, exposure, noise,
        paint(random), random.uniform(0.45, 0.75, 3), settings,
    )  # fmt: skip


def _spline(points: Array, at: Array) -> Array:
    """Catmull-Rom through ``points (n, 3)``; ``at`` in [0, 1]."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    place = np.clip(at, 0, 1) * (len(points) - 1)
    first = np.minimum(place.astype(int), len(points) - 2)
    u = (place - first)[:, None]
    a, b, c, d = (padded[first + k] for k in range(4))
    bend = (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3
    return np.asarray(0.5 * (2 * b + (c - a) * u + bend))


def _camera_path(
    random: np.random.Generator, settings: SceneryConfig, room: Array, times: Array
) -> Array:
    kind = settings.camera or str(random.choice(["tour", "turn", "still"], p=[0.75, 0.15, 0.10]))
    span = float(times[-1]) + settings.time_step
    count = int(np.clip(round(span / 1.5), 3, 6)) if span < 12 else 2 + round(span / 2.5)
    reach = np.array([0.45, 0.35, 0.45]) * room
    stops = random.uniform(-reach, reach, (count, 3))
    # What is looked at: far from the camera, never straight up or down.
    turn = random.uniform(0, 2 * np.pi) + np.cumsum(random.uniform(-0.9, 0.9, count))
    looks = np.stack(
        [np.sin(turn) * room[0], random.uniform(-0.3, 0.7, count) * room[1], np.cos(turn) * room[2]]
    ).T
    # No way-point may be a sprint: at most about 0.6 m a second.
    for k in range(1, count):
        way = stops[k] - stops[k - 1]
        longest = 0.6 * span / (count - 1)
        stops[k] = stops[k - 1] + way * min(1.0, longest / max(float(np.linalg.norm(way)), 1e-9))
    if random.random() < 0.5:
        stops, looks = _closed(stops), _closed(looks)
    at = times / span if kind != "still" else np.zeros_like(times)
    eyes = _spline(stops, at if kind == "tour" else np.zeros_like(times))
    targets = _spline(looks, at)
    rolls = np.radians(5) * np.sin(
        2 * np.pi * (0.1 * times * (kind != "still")) + random.uniform(0, 6)
    )
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    for t, (eye, target, roll) in enumerate(zip(eyes, targets, rolls, strict=True)):
        forward = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= max(float(np.linalg.norm(right)), 1e-9)
        level = np.stack([right, np.cross(forward, right), forward], axis=1)
        poses[t, :3, :3] = level @ Rotation.from_euler("z", roll).as_matrix()
        poses[t, :3, 3] = eye
    return poses


def _closed(points: Array) -> Array:
    return np.concatenate([points[: (len(points) + 1) // 2], points[: len(points) // 2][::-1]])


def _furniture(random: np.random.Generator, room: Array, poses: Array, kind: int) -> Body:
    eyes = poses[:: max(1, len(poses) // 400), :3, 3]
    for attempt in range(60):
        shrink = 0.97**attempt
        if kind == BOX:
            half = random.uniform([0.2, 0.2, 0.2], [0.6, 0.7, 0.6]) * shrink
        else:
            half = np.full(3, random.uniform(0.15, 0.35) * shrink)
        reach = np.linalg.norm(half[[0, 2]])
        middle = random.uniform(-(room - reach), room - reach)
        middle[1] = room[1] - half[1]
        if np.linalg.norm(eyes - middle, axis=1).min() > np.linalg.norm(half) + 0.2:
            break
    else:  # a small thing in the corner is always out of the way
        half = np.full(3, 0.15)
        middle = np.array([room[0] - 0.2, room[1] - 0.15, room[2] - 0.2])
    heading = float(random.uniform(0, np.pi)) if kind == BOX else 0.0
    return _standing(random, kind, half, middle, heading, len(poses))


def _standing(
    random: np.random.Generator, kind: int, half: Array, middle: Array, heading: float, frames: int
) -> Body:
    return Body(
        kind, half, np.tile(middle, (frames, 1)), np.full(frames, heading), np.zeros(frames),
        paint(random), random.uniform(0.25, 0.9, 3),
    )  # fmt: skip


def _body(
    random: np.random.Generator,
    settings: SceneryConfig,
    room: Array,
    poses: Array,
    times: Array,
    view: float,
    others: list[Body],
) -> Body:
    """A moving body in view at some time, away from the camera and from others at all times."""
    some = slice(None, None, max(1, len(poses) // 2000))
    body = None
    for attempt in range(200):
        size = float(random.uniform(0.15, 0.5)) * 0.99**attempt
        kind = int(random.integers(0, 2))
        half = np.full(3, size) if kind == SPHERE else size * random.uniform(0.5, 1.0, 3)
        reach = float(np.linalg.norm(half)) if kind == BOX else size
        # In front of the camera at a random moment.
        pose = poses[int(random.integers(len(poses)))]
        tangent = 0.7 * np.tan(np.radians(view) / 2)
        ray = np.array([*random.uniform(-tangent, tangent, 2) * (1, 0.75), 1.0])
        anchor = pose[:3, 3] + pose[:3, :3] @ (ray * random.uniform(reach + CLEARANCE + 0.3, 3.2))
        anchor = np.clip(anchor, -(room - reach), room - reach)
        wanted = (settings.motion, settings.phase, settings.time_step)
        body = moving_body(random, wanted, room, times, kind, half, reach, anchor)
        gaps = np.linalg.norm(body.position[some] - poses[some, :3, 3], axis=1)
        blocked = any(
            np.linalg.norm(body.position[some] - thing.position[some], axis=1).min()
            < reach + np.linalg.norm(thing.half[:1] if thing.kind == SPHERE else thing.half)
            for thing in others
        )
        if gaps.min() > reach + CLEARANCE and (not blocked or attempt > 170):
            return body
    assert body is not None
    # Nowhere to go: far below the floor it can do no harm, and is not seen either.
    return _standing(random, SPHERE, np.full(3, 0.15), np.array([0.0, 50.0, 0.0]), 0.0, len(times))
