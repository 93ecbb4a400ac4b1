"""A map seen from above, as a picture: what stands there, names, places, and the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_mem.errors import InputError
from vision_mem.visualization.html_report import write_png

UNSEEN, SEEN, OBSTACLE = (232, 232, 236), (255, 255, 255), (168, 160, 150)
TALL, GRID, EDGE = (70, 74, 84), (214, 214, 220), (104, 98, 92)
FLOOR = (247, 239, 218)
PLACE, WAY, PATH = (120, 170, 220), (190, 212, 235), (230, 60, 60)
THING, GONE = (20, 130, 60), (170, 170, 170)
START, GOAL = (60, 90, 220), (200, 30, 120)
_MARGIN, _MOST_STEPS = 24, 24
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Thing:
    """Something with a name.

    Attributes:
        name: what is written beside it.
        position: ``(2,)`` metres.
        sigma: metres, drawn as a circle.
        gone: whether it is believed not to be there any more.
    """

    name: str
    position: tuple[float, float]
    sigma: float = 0.0
    gone: bool = False


@dataclass(frozen=True, eq=False)
class TopDown:
    """What is to be drawn; positions are metres along the picture's right and up.

    Attributes:
        low: ``(2,)`` metres: lower left corner of cell (0, 0).
        size: edge of a cell, metres.
        obstacle: bool ``(n, m)``, first axis to the right: where something stands.
        seen: bool ``(n, m)``: where anything is known.
        floor: bool ``(n, m)``: where floor was seen; left out: nowhere.
        note: of the floor, beside the scale.
        steps: of the route: where each leg begins, and its words; numbered, and listed below.
        tall: bool ``(n, m)``: where what stands reaches above a person's chest; None where that is
            not known: all is drawn so.
        things: with names.
        places: ``(p, 2)``.
        ways: ``(w, 2, 2)``: from where to where.
        path: ``(k, 2)``: a route.
        start, goal: of the route, or of a question.
        title: one line above it all.
    """

    low: tuple[float, float] = (0.0, 0.0)
    size: float = 0.1
    obstacle: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    things: Sequence[Thing] = ()
    places: ArrayLike = ()
    ways: ArrayLike = ()
    path: ArrayLike = ()
    start: tuple[float, float] | None = None
    goal: tuple[float, float] | None = None
    title: str = ""
    floor: NDArray[np.bool_] | None = None
    note: str = ""
    steps: Sequence[tuple[tuple[float, float], str]] = ()
    tall: NDArray[np.bool_] | None = None


class Sheet:
    """Metres to pixels of one picture.

    Args:
        low, high: ``(2,)`` metres: corners of what is to be seen.
        longest: pixels of the longer side, margins left out.
    """

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], longest: int) -> None:
        span = np.maximum(high - low, 1e-6)
        self.scale = float(longest / span.max())
        self.low = low
        self.width = round(span[0] * self.scale) + 2 * _MARGIN
        self.height = round(span[1] * self.scale) + 2 * _MARGIN + 20

    def pixel(self, position: ArrayLike) -> tuple[int, int]:
        """Column and row of ``(2,)`` metres."""
        x, y = (np.asarray(position, np.float64) - self.low) * self.scale
        return round(x) + _MARGIN, self.height - _MARGIN - round(y)


def draw_topdown(scene: TopDown, longest: int = 800) -> NDArray[np.uint8]:
    """Draw a map from above.

    Args:
        scene: what.
        longest: pixels of the longer side.

    Returns:
        ``(H, W, 3)`` uint8 RGB; a picture that says so when there is nothing to draw.

    Raises:
        InputError: for a size of no picture, or cells that do not fit together.
    """
    if not 64 <= longest <= 8192:
        raise InputError(f"a picture of {longest} pixels; expected 64 to 8192")
    if scene.obstacle.shape != scene.seen.shape or scene.obstacle.ndim != 2:
        raise InputError("obstacle and seen have other shapes; expected two equal (n, m)")
    low, high = _reach(scene)
    sheet = Sheet(low, high, longest)
    picture = np.full((sheet.height, sheet.width, 3), UNSEEN, np.uint8)
    if scene.obstacle.size:
        _paint_cells(picture, sheet, scene)
        _draw_grid(picture, sheet)
    for start, end in np.asarray(scene.ways, np.float64).reshape(-1, 2, 2):
        cv2.line(picture, sheet.pixel(start), sheet.pixel(end), WAY, 1, cv2.LINE_AA)
    places = np.asarray(scene.places, np.float64).reshape(-1, 2)
    dot = _dot(sheet, len(places))
    for place in places:
        cv2.circle(picture, sheet.pixel(place), dot, PLACE, -1, cv2.LINE_AA)
    path = np.asarray(scene.path, np.float64).reshape(-1, 2)
    taken = np.zeros(picture.shape[:2], np.uint8)  # where no name may be written
    for start, end in pairwise(path):
        cv2.line(picture, sheet.pixel(start), sheet.pixel(end), PATH, 3, cv2.LINE_AA)
        cv2.line(taken, sheet.pixel(start), sheet.pixel(end), 1, 4)
    things = [thing for thing in scene.things if np.isfinite(thing.position).all()]
    for thing in things:
        _draw_thing(picture, sheet, thing, dot)
        cv2.circle(taken, sheet.pixel(thing.position), dot + 1, 1, -1)
    for spot, colour in ((scene.start, START), (scene.goal, GOAL)):
        if spot is not None:
            cv2.circle(picture, sheet.pixel(spot), 6, colour, 2, cv2.LINE_AA)
            cv2.circle(taken, sheet.pixel(spot), 7, 1, -1)
    if scene.goal is not None:  # where there is no room for all names, the goal's is written
        goal = np.asarray(scene.goal, np.float64)
        things.sort(key=lambda thing: float(np.linalg.norm(goal - thing.position)))
    taken[:24] = taken[-24:] = 1  # title and scale
    for number, (spot, _) in enumerate(scene.steps, start=1):
        _draw_number(picture, sheet.pixel(spot), number, taken)
    for thing in things:
        _draw_name(picture, sheet, thing, taken)
    _draw_scale(picture, sheet, scene.note)
    if scene.title:
        _write(picture, scene.title, (_MARGIN, 18), (30, 30, 34), 0.5)
    return _with_steps(picture, [words for _, words in scene.steps])


def write_topdown(path: str | Path, scene: TopDown, longest: int = 800) -> None:
    """Draw to a PNG, whole or not at all.

    Raises:
        SinkError: when it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"picture {path}: expected a name that ends in .png")
    write_png(path, draw_topdown(scene, longest))


def _reach(scene: TopDown) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of all there is, at least a metre apart."""
    spots = [np.asarray(each, np.float64).reshape(-1, 2) for each in (scene.places, scene.path)]
    spots += [np.array([thing.position for thing in scene.things], np.float64).reshape(-1, 2)]
    spots += [np.array([spot]) for spot in (scene.start, scene.goal) if spot is not None]
    known = np.argwhere(scene.seen)
    if len(known):
        cells = np.stack([known.min(axis=0), known.max(axis=0) + 1])
        spots.append(cells * scene.size + np.asarray(scene.low))
    points = np.concatenate(spots)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.zeros(2), np.ones(2)
    low, high = points.min(axis=0), points.max(axis=0)
    lack = np.maximum(1.0 - (high - low), 0.0) / 2
    return low - lack, high + lack


def _paint_cells(picture: NDArray[np.uint8], sheet: Sheet, scene: TopDown) -> None:
    height, width = picture.shape[:2]
    # The cell of each pixel, so that cells of any size leave no seams.
    x = (np.arange(width) + 0.5 - _MARGIN) / sheet.scale + sheet.low[0]
    y = (sheet.height - _MARGIN - (np.arange(height) + 0.5)) / sheet.scale + sheet.low[1]
    columns = np.floor((x - scene.low[0]) / scene.size).astype(np.int64)
    rows = np.floor((y - scene.low[1]) / scene.size).astype(np.int64)
    inside = (
        ((columns >= 0) & (columns < scene.seen.shape[0]))[None, :]
        & ((rows >= 0) & (rows < scene.seen.shape[1]))[:, None]
    )  # fmt: skip
    across = np.clip(columns, 0, scene.seen.shape[0] - 1)
    up = np.clip(rows, 0, scene.seen.shape[1] - 1)
    picture[inside & scene.seen[across[None, :], up[:, None]]] = SEEN
    if scene.floor is not None:
        picture[inside & scene.floor[across[None, :], up[:, None]]] = FLOOR
    standing = inside & scene.obstacle[across[None, :], up[:, None]]
    picture[standing] = OBSTACLE
    tall = scene.obstacle if scene.tall is None else scene.tall
    high = inside & tall[across[None, :], up[:, None]]
    picture[high] = TALL
    # Furniture has an outline, so that one piece stands out from the next and from the floor.
    inner = cv2.erode((standing & ~high).astype(np.uint8), np.ones((3, 3), np.uint8))
    picture[standing & ~high & (inner == 0)] = EDGE


def _draw_grid(picture: NDArray[np.uint8], sheet: Sheet) -> None:
    """Lines every metre, where the floor is or nothing is known; none where they would be dense."""
    if sheet.scale < 24:
        return
    plain = np.ones(picture.shape[:2], bool)
    for colour in (OBSTACLE, TALL, EDGE):
        plain &= (picture != colour).any(axis=2)
    height, width = picture.shape[:2]
    high = (sheet.height - 2 * _MARGIN) / sheet.scale
    wide = (sheet.width - 2 * _MARGIN) / sheet.scale
    for axis, span in ((0, wide), (1, high)):
        first = float(np.ceil(sheet.low[axis]))
        for at in np.arange(first, sheet.low[axis] + span, 1.0):
            spot = sheet.low.copy()
            spot[axis] = at
            column, row = sheet.pixel(spot)
            if axis == 0 and 0 <= column < width:
                picture[24:-24, column][plain[24:-24, column]] = GRID
            elif axis == 1 and 24 <= row < height - 24:
                picture[row][plain[row]] = GRID


def _draw_number(
    picture: NDArray[np.uint8], spot: tuple[int, int], number: int, taken: NDArray[np.uint8]
) -> None:
    """A number in a disc, beside its spot where another one stands there."""
    for dx, dy in ((0, 0), (18, 0), (-18, 0), (0, 18), (0, -18), (26, 18), (-26, -18)):
        x, y = spot[0] + dx, spot[1] + dy
        if not (10 <= x < picture.shape[1] - 10 and 30 <= y < len(picture) - 30):
            continue
        if number > 1 and (taken[y - 8 : y + 9, x - 8 : x + 9] == 2).any():
            continue
        cv2.circle(picture, (x, y), 9, PATH, -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), 9, (255, 255, 255), 1, cv2.LINE_AA)
        cv2.circle(taken, (x, y), 10, 2, -1)
        (wide, _), _ = cv2.getTextSize(str(number), _FONT, 0.4, 1)
        at = (x - wide // 2, y + 4)
        cv2.putText(picture, str(number), at, _FONT, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        return


def _with_steps(picture: NDArray[np.uint8], words: Sequence[str]) -> NDArray[np.uint8]:
    """The picture with what is to be done at each number below it, in columns."""
    if not words:
        return picture
    lines = [f"{number}  {each}" for number, each in enumerate(words, start=1)]
    if len(lines) > _MOST_STEPS:
        lines = [*lines[: _MOST_STEPS - 1], f"... and {len(lines) - _MOST_STEPS + 1} more steps"]
    wide = max(cv2.getTextSize(_plain(line), _FONT, 0.45, 1)[0][0] for line in lines) + 24
    columns = max(1, (picture.shape[1] - 2 * _MARGIN) // wide)
    rows = -(-len(lines) // columns)
    panel = np.full((20 * rows + 16, picture.shape[1], 3), 255, np.uint8)
    for k, line in enumerate(lines):
        at = (_MARGIN + k // rows * wide, 20 + 20 * (k % rows))
        cv2.putText(panel, _plain(line), at, _FONT, 0.45, (30, 30, 34), 1, cv2.LINE_AA)
    return np.concatenate([picture, panel])


def _dot(sheet: Sheet, count: int) -> int:
    """Pixels of a place's radius: smaller where places would run into one another."""
    room = (sheet.width * sheet.height / max(count, 1)) ** 0.5
    return 3 if room > 18 else 2 if room > 9 else 1


def _draw_thing(picture: NDArray[np.uint8], sheet: Sheet, thing: Thing, dot: int) -> None:
    colour = GONE if thing.gone else THING
    x, y = sheet.pixel(thing.position)
    radius = round(min(thing.sigma, 10.0) * sheet.scale)
    if radius > 5:
        cv2.circle(picture, (x, y), radius, colour, 1, cv2.LINE_AA)
    cv2.circle(picture, (x, y), dot + 1, colour, -1, cv2.LINE_AA)


def _draw_name(
    picture: NDArray[np.uint8], sheet: Sheet, thing: Thing, taken: NDArray[np.uint8]
) -> None:
    """Write a name beside its thing where nothing else is; left out where all is full."""
    if not thing.name:
        return
    x, y = sheet.pixel(thing.position)
    name = f"{thing.name} (gone)" if thing.gone else thing.name
    (wide, high), _ = cv2.getTextSize(_plain(name), _FONT, 0.42, 1)
    for left, bottom in (
        (x + 7, y + 4), (x - 7 - wide, y + 4), (x - wide // 2, y - 8), (x - wide // 2, y + 17),
        (x + 5, y - 6), (x + 5, y + 15), (x - 5 - wide, y - 6), (x - 5 - wide, y + 15),
        *_farther(x, y, wide),
    ):  # fmt: skip
        top, right = bottom - high - 1, left + wide + 1
        inside = left > 0 and right < picture.shape[1] and 0 <= top < bottom + 3 < len(picture)
        if inside and not taken[top : bottom + 3, left - 1 : right].any():
            under = picture[top : bottom + 3, left - 1 : right]
            dark = under.max(axis=-1) < 180
            under[dark] = (235, 236, 238)  # names are to be read there, too
            middle = (left + wide // 2, bottom - high // 2)
            if max(abs(middle[0] - x) - wide // 2, abs(middle[1] - y) - high) > 12:
                edge = int(np.clip(x, left, left + wide)), bottom + 2 if middle[1] < y else top
                cv2.line(picture, (x, y), edge, EDGE, 1, cv2.LINE_AA)
            _write(picture, name, (left, bottom), GONE if thing.gone else THING, 0.42)
            taken[top : bottom + 3, left - 1 : right] = 1
            return


def _farther(x: int, y: int, wide: int) -> list[tuple[int, int]]:
    """Left ends of names that a line joins to their thing, ever farther away from it."""
    found = []
    for reach in range(24, 140, 14):
        for turn in np.arange(0, 2 * np.pi, np.pi / 6):
            across, down = reach * np.cos(turn), reach * np.sin(turn)
            left = x + across - (wide if across < -1 else 0 if across > 1 else wide / 2)
            found.append((round(left), round(y + down + 4)))
    return found


def _draw_scale(picture: NDArray[np.uint8], sheet: Sheet, note: str) -> None:
    """A bar of a round number of metres, at most a quarter of the picture wide, and a note."""
    widest = (sheet.width - 2 * _MARGIN) / 4 / sheet.scale
    power = 10.0 ** np.floor(np.log10(widest))
    metres = float(max(m * power for m in (1, 2, 5) if m * power <= widest * 1.0001))
    y, left = sheet.height - 8, _MARGIN
    right, dark = left + round(metres * sheet.scale), (30, 30, 34)
    cv2.line(picture, (left, y), (right, y), dark, 2)
    for end in (left, right):
        cv2.line(picture, (end, y - 4), (end, y + 3), dark, 2)
    text = f"{metres:g} m"
    _write(picture, text, (right + 8, y + 4), dark, 0.45)
    taken = right + 24 + cv2.getTextSize(text, _FONT, 0.45, 1)[0][0]
    (wide, _), _ = cv2.getTextSize(_plain(note), _FONT, 0.4, 1)
    _write(picture, note, (max(taken, sheet.width - _MARGIN - wide), y + 4), dark, 0.4)


def _write(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], colour: tuple[int, int, int],
    size: float,
) -> None:  # fmt: skip
    # A light rim keeps words legible on obstacles; a thicker pen would change the letters' width.
    for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        near = (at[0] + dx, at[1] + dy)
        cv2.putText(picture, _plain(text), near, _FONT, size, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.putText(picture, _plain(text), at, _FONT, size, colour, 1, cv2.LINE_AA)


def _plain(text: str) -> str:
    """OpenCV writes ASCII only; one line, not endless."""
    import unicodedata

    spelled = unicodedata.normalize("NFKD", " ".join(text.split()))
    short = "".join(c for c in spelled if not unicodedata.combining(c))[:60]
    return short.encode("ascii", "replace").decode()
