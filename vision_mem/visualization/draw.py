"""What people see: masks, boxes, names and trails drawn on a frame."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.results import Shown, ShownObject
from vision_mem.text import one_line
from vision_mem.types import UNSURE, ZoneCounts

# Far apart on dark and on bright video, and for the most common kinds of colour blindness first.
_COLOURS = (
    (255, 176, 0), (64, 156, 255), (255, 74, 122), (72, 214, 132), (178, 112, 255),
    (255, 122, 46), (0, 212, 212), (240, 228, 66), (236, 112, 220), (150, 200, 60),
)  # fmt: skip
_ALPHA = 0.42
_WHITE = (255, 255, 255)
_LOST = (110, 110, 118)
_DARK = (24, 24, 28)
_WIDER = 1.2  # times its object's width that a name in a crowd may have
_FEW = 4  # objects that have room for their names
_TREMBLE = 3  # neighbours on either side that a point of a trail is averaged with
_SLOW, _FAST = 0.0015, 0.01  # shares of the picture's short side that are moved on a frame
_LISTED = 0.4  # share of the picture's height that the list of names may take


@lru_cache(maxsize=4096)
def colour_of(object_id: int) -> tuple[int, int, int]:
    """The RGB colour of an object, the same in every run.

    Args:
        object_id: any whole number.
    """
    if 1 <= object_id <= len(_COLOURS):
        return _COLOURS[object_id - 1]
    # Steps of the golden ratio never come back to a hue; saturation varies the neighbours.
    hue = (object_id * 0.61803398875) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.35 * ((object_id // 3) % 2), 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def davis_palette() -> NDArray[np.uint8]:
    """The 256 colours of indexed masks in DAVIS and VOC, ``(256, 3)`` uint8 RGB."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    for number in range(256):
        rest = number
        for bit in range(7, -1, -1):
            for channel in range(3):
                palette[number, channel] |= ((rest >> channel) & 1) << bit
            rest >>= 3
    return palette


class Painter:
    """Draws results on frames; keeps the trails.

    Args:
        masks: colour and outline the masks.
        boxes: draw boxes.
        labels: write names, or numbers where there is no room for those; in a crowd as many as
            fit, of the largest objects first.
        scores: write the score behind each name.
        lost: list objects out of sight, where there are labels.
        counter: write frame number and time in the corner.
        trail: positions remembered an object and drawn as a line by its speed: broad where it
            was fast, thin and dark where it was slow, none where it stood; 0 for no trails.
    """

    def __init__(
        self,
        *,
        masks: bool = True,
        boxes: bool = True,
        labels: bool = True,
        scores: bool = True,
        lost: bool = True,
        counter: bool = True,
        trail: int = 0,
    ) -> None:
        self._masks = masks
        self._boxes = boxes
        self._labels = labels
        self._scores = scores
        self._lost = lost
        self._counter = counter
        self._trail = trail
        self._paths: dict[int, deque[tuple[float, float]]] = {}

    @property
    def trails(self) -> dict[str, list[tuple[float, float]]]:
        """Positions ``(x, y)`` in pixels by object id, oldest first; JSON-ready."""
        return {str(key): list(path) for key, path in self._paths.items()}

    def go_on(self, trails: Mapping[str, Iterable[Sequence[float]]]) -> None:
        """Take over the ``trails`` of a painter before."""
        self._paths = {
            int(key): deque(((float(x), float(y)) for x, y in path), maxlen=self._trail)
            for key, path in trails.items()
        }

    def draw(self, image: NDArray[np.uint8], result: Shown) -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            image: ``(H, W, 3)`` uint8 RGB, left as it is.
            result: what to draw.

        Returns:
            A new image of the same shape.
        """
        canvas = image.copy()
        shown = [each for each in result.objects if each.present]
        zones = getattr(result, "zones", ())
        for zone in zones:
            _paint_zone(canvas, zone)
        for each in shown:
            if self._masks:
                _paint_mask(canvas, each)
        if self._trail:
            self._draw_trails(canvas, result)
        for each in shown:
            if self._boxes:
                _paint_box(canvas, each)
        if self._labels:
            small = len(shown) > _FEW
            named = set()
            for text, corner, each in label_places(canvas, shown, scores=self._scores):
                colour = colour_of(each.object_id)
                _label(canvas, text, corner, colour, above=False, small=small)
                named |= {each.object_id} if text != str(each.object_id) else set()
            if small:
                _draw_names(canvas, [one for one in shown if one.object_id not in named])
            if self._lost:
                self._draw_lost(canvas, result)
        for zone in zones:  # counts are read over names
            x, y = min(zone.points, key=lambda point: (point[1], point[0]))
            text = f"{zone.name}: {zone.words()}"
            draw_tag(canvas, text, (round(x), round(y)), above=False)
        if self._counter:
            text = f"{result.frame_index}  {clock_of(result.time_s)}"
            draw_tag(canvas, text, (0, canvas.shape[0]), above=True)
        return canvas

    def _draw_lost(self, canvas: NDArray[np.uint8], result: Shown) -> None:
        y = 0
        for each in result.objects:
            if not each.present:
                dot = colour_of(each.object_id)
                y += _label(canvas, f"{each.name} lost", (0, y), _LOST, above=False, dot=dot)

    def _draw_trails(self, canvas: NDArray[np.uint8], result: Shown) -> None:
        known = {each.object_id for each in result.objects}
        self._paths = {key: path for key, path in self._paths.items() if key in known}
        for each in result.objects:
            path = self._paths.setdefault(each.object_id, deque(maxlen=self._trail))
            if each.present:
                x1, y1, x2, y2 = (float(v) for v in each.box)
                path.append(((x1 + x2) / 2, (y1 + y2) / 2))
            elif path:
                path.popleft()
            if len(path) > 1:
                _paint_trail(canvas, np.array(path), colour_of(each.object_id))


def plot(result: Shown, image: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """A frame with what a result says of it.

    Args:
        result: what to draw; its own image is taken when none is given.
        image: ``(H, W, 3)`` uint8 RGB, or None; a dark one where no image is at hand.

    Returns:
        A new ``(H, W, 3)`` uint8 RGB image.

    Raises:
        InputError: for an image of another size.
    """
    if image is None:
        image = getattr(result, "image", None)
    if image is None:
        image = np.full((*result.size, 3), _DARK, np.uint8)
    if image.shape != (*result.size, 3) or image.dtype != np.uint8:
        raise InputError(
            f"an image of shape {image.shape} and type {image.dtype} is not that of frame "
            f"{result.frame_index}; expected ({result.size[0]}, {result.size[1]}, 3) uint8 RGB"
        )
    return Painter().draw(image, result)


def plot_png(result: Shown) -> bytes:
    """``plot`` as PNG, for notebooks."""
    import cv2

    _, content = cv2.imencode(".png", plot(result)[..., ::-1])
    return bytes(content)


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes tremble; a line that does is hard to look at. Both ends stay where they are."""
    sums = np.concatenate([np.zeros((1, 2)), points.cumsum(axis=0)])
    at = np.arange(len(points))
    reach = np.minimum(np.minimum(at, at[::-1]), _TREMBLE)
    smooth: NDArray[np.float64] = (sums[at + reach + 1] - sums[at - reach]) / (
        2 * reach[:, None] + 1
    )
    return smooth


def _paint_trail(
    canvas: NDArray[np.uint8], path: NDArray[np.float64], colour: tuple[int, int, int]
) -> None:
    """Draw positions ``(n, 2)``, oldest first, as a line that tells the speed."""
    import cv2

    points = _smooth(path)
    steps = np.hypot(*np.diff(points, axis=0).T) / min(canvas.shape[:2])
    level = np.digitize(steps, (_SLOW, _FAST))  # stands, slow, fast
    places, line = points.round().astype(np.int32), _line_width(canvas)
    dark = tuple(int(0.6 * value) for value in colour)
    begin = 0
    for end in range(1, len(level) + 1):
        if end < len(level) and level[end] == level[begin]:
            continue
        if level[begin]:
            ink, width = (dark, line) if level[begin] == 1 else (colour, line + 1)
            part = places[begin : end + 1].reshape(-1, 1, 2)
            cv2.polylines(canvas, [part], False, ink, width, cv2.LINE_AA)
        begin = end


def listed_names(objects: Sequence[ShownObject]) -> list[str]:
    """What a list says of objects that have only their number in the picture.

    Names that are a class and the number are told by class; of one class alone that is nothing.
    """
    kinds: dict[str, list[int]] = {}
    own = []
    for each in sorted(objects, key=lambda one: one.object_id):
        kind = getattr(each, "class_name", "")
        if kind and each.name in (f"{kind}-{each.object_id}", f"{kind} {each.object_id}"):
            kinds.setdefault(kind, []).append(each.object_id)
        elif each.name != str(each.object_id):
            own.append(f"{each.object_id} {each.name}")
    if len(kinds) == 1 and not own:
        return []
    return [*own, *(f"{kind}: {' '.join(map(str, ids))}" for kind, ids in sorted(kinds.items()))]


def _draw_names(canvas: NDArray[np.uint8], objects: Sequence[ShownObject]) -> None:
    """List names in the upper right corner: as many lines as fit, then how many more."""
    import cv2

    lines = [line if len(line) <= 28 else f"{line[:26]}.." for line in listed_names(objects)]
    if not lines:
        return
    scale, thick = _font(canvas, small=True)
    (_, high), below = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    step = high + below + 3
    most = max(int(_LISTED * canvas.shape[0] / step), 1)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"and {len(lines) - most + 1} more"]
    lines = [_drawable(line) for line in lines]
    font = cv2.FONT_HERSHEY_SIMPLEX
    wide = max(cv2.getTextSize(line, font, scale, thick)[0][0] for line in lines)
    left, bottom = max(canvas.shape[1] - wide - 8, 0), len(lines) * step + 4
    canvas[:bottom, left:] = canvas[:bottom, left:] // 3  # what is under the list can be guessed
    for n, line in enumerate(lines):
        place = (left + 4, (n + 1) * step - below)
        cv2.putText(canvas, line, place, font, scale, _WHITE, thick, cv2.LINE_AA)


def _line_width(canvas: NDArray[np.uint8]) -> int:
    height, width = canvas.shape[:2]
    return max(1, int(min(height, width) / 360 + 0.5))


def _paint_mask(canvas: NDArray[np.uint8], each: ShownObject) -> None:
    """Tint and outline the mask, touching its bounding region only."""
    import cv2

    height, width = canvas.shape[:2]
    if each.mask.shape != (height, width):
        return
    # The bounds of the mask: a track's box may be that of its detection.
    left, top, w, h = cv2.boundingRect(np.ascontiguousarray(each.mask).view(np.uint8))
    if not w:
        return
    # One pixel of margin, so that the outline at the region's border is closed.
    x1, y1 = max(left - 1, 0), max(top - 1, 0)
    x2, y2 = min(left + w + 1, width), min(top + h + 1, height)
    region = canvas[y1:y2, x1:x2]
    mask = np.ascontiguousarray(each.mask[y1:y2, x1:x2]).view(np.uint8)
    colour = colour_of(each.object_id)
    solid = np.empty_like(region)
    solid[:] = colour
    tinted = cv2.addWeighted(region, 1.0 - _ALPHA, solid, _ALPHA, 0.0)
    cv2.copyTo(tinted, mask, region)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    line = _line_width(canvas)
    if each.state == UNSURE:
        for outline in outlines:
            _paint_dashes(canvas, outline[:, 0] + (x1, y1), colour, line)
    else:
        # Inside the mask: masks do not overlap, so the outlines of neighbours stay apart.
        drawn = region.copy()
        cv2.drawContours(drawn, outlines, -1, colour, 2 * line - 1, cv2.LINE_AA)
        cv2.copyTo(drawn, mask, region)


def _paint_dashes(
    canvas: NDArray[np.uint8], points: NDArray[np.int32], colour: tuple[int, int, int], line: int
) -> None:
    """Draw a closed line ``(n, 2)`` as dashes: the object is not sure to be there."""
    import cv2

    closed = np.concatenate([points, points[:1]]).astype(np.float64)
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    dash, total = 5.0 * line, float(lengths[-1])
    for start in np.arange(0.0, total, 2 * dash):
        at = np.linspace(start, min(start + dash, total), 4)
        some = np.stack([np.interp(at, lengths, closed[:, k]) for k in (0, 1)], axis=1)
        dots = some.round().astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [dots], False, colour, line, cv2.LINE_AA)


def label_places(
    canvas: NDArray[np.uint8], shown: Sequence[ShownObject], *, scores: bool
) -> list[tuple[str, tuple[int, int], ShownObject]]:
    """What is written beside which object, so that no two labels lie on each other.

    A name stands over its object's box, else under its upper edge or below it; where it is
    wider than the box, or there is no room, it does without its score, then the number alone
    stands there; where that has no room either, nothing is written. Of a few objects each has
    its name; the letters of a crowd are smaller.

    Args:
        canvas: ``(H, W, 3)`` of the picture, for its size.
        shown: the objects to be seen.
        scores: whether scores follow names.

    Returns:
        Text, upper left corner ``(x, y)`` in pixels, and object; in the order to draw them.
    """
    height, width = canvas.shape[:2]
    taken = np.zeros((0, 4))
    found = []
    for each in sorted(shown, key=lambda one: -float(np.prod(one.box[2:] - one.box[:2]))):
        x1, y1, x2, y2 = (float(value) for value in each.box)
        number = str(each.object_id)
        names = [f"{each.name} {each.score:.2f}"] * scores + [each.name]
        for text in (*names, number):
            tag_w, tag_h = _tag_size(canvas, text, small=len(shown) > _FEW)
            if text != number and len(shown) > _FEW and tag_w > _WIDER * (x2 - x1):
                continue
            x = int(np.clip(int(x1), 0, max(width - tag_w, 0)))
            ys = [int(np.clip(y, 0, max(height - tag_h, 0))) for y in (int(y1) - tag_h, y1, y2)]
            tags = np.array([(x, y, x + tag_w, y + tag_h) for y in ys])
            sides = np.minimum(tags[:, None, 2:], taken[:, 2:])
            sides = sides - np.maximum(tags[:, None, :2], taken[:, :2])
            free = np.flatnonzero(~(sides > 0).all(axis=-1).any(axis=1))
            if len(free):
                taken = np.concatenate([taken, tags[free[:1]]])
                found.append((text, (x, ys[free[0]]), each))
                break
    return found


def _paint_box(canvas: NDArray[np.uint8], each: ShownObject) -> None:
    import cv2

    x1, y1, x2, y2 = (int(v) for v in each.box)
    line = _line_width(canvas)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour_of(each.object_id), line)


def draw_tag(canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], *, above: bool) -> None:
    """Write a dark tag with text on a picture.

    Args:
        canvas: ``(H, W, 3)`` uint8 RGB, drawn on.
        text: what to write.
        corner: x and y, pixels, of the tag's lower left corner, or upper left where not ``above``.
        above: on which side of the corner the tag lies; it is kept inside the picture.
    """
    _label(canvas, text, corner, _DARK, above=above)


def _paint_zone(canvas: NDArray[np.uint8], zone: ZoneCounts) -> None:
    """Outline a zone, or draw a line with an arrow to the side that is called in."""
    import cv2

    width = _line_width(canvas)
    points = np.array(zone.points)
    drawn = points.round().astype(np.int32).reshape(-1, 1, 2)
    for colour, thick in ((_DARK, width + 2), (_WHITE, width)):  # to be seen on any picture
        cv2.polylines(canvas, [drawn], not zone.is_line, colour, thick, cv2.LINE_AA)
        if zone.is_line:
            (x1, y1), (x2, y2) = points
            length = float(np.hypot(x2 - x1, y2 - y1))
            middle = points.mean(axis=0)
            tip = middle + np.array([y2 - y1, x1 - x2]) / length * min(0.2 * length, 24)
            begin, end = (tuple(int(v) for v in spot.round()) for spot in (middle, tip))
            cv2.arrowedLine(canvas, begin, end, colour, thick, cv2.LINE_AA, tipLength=0.4)


_SMALLEST = 0.3
"""Scale of OpenCV's letters, about 7 pixels high, below which they cannot be read."""


def _label(
    canvas: NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    *,
    above: bool = True,
    dot: tuple[int, int, int] | None = None,
    small: bool = False,
) -> int:
    """A filled tag with text, above or below ``corner`` but inside the image; gives its height."""
    import cv2

    height, width = canvas.shape[:2]
    text = _drawable(text)
    scale, thick = _font(canvas, small=small)

    def tag_size() -> tuple[int, int, int, int]:
        (w, h), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        pad = max(3, round(h * 0.4))
        return int(w + 2 * pad + (h if dot else 0)), int(h + below + pad), h, pad

    tag_w, tag_h, h, pad = tag_size()
    if tag_w > width:  # smaller letters first, then fewer
        scale, thick = max(_SMALLEST, scale * width / tag_w), 1
        tag_w, tag_h, h, pad = tag_size()
    while tag_w > width and len(text) > 3:
        text = f"{text.removesuffix('..')[:-1]}.."
        tag_w, tag_h, h, pad = tag_size()
    x = int(np.clip(corner[0], 0, max(width - tag_w, 0)))
    y = corner[1] - tag_h if above else corner[1]
    y = int(np.clip(y, 0, max(height - tag_h, 0)))
    cv2.rectangle(canvas, (x, y), (x + tag_w, y + tag_h), colour, cv2.FILLED)
    left = x + pad
    if dot is not None:
        cv2.circle(canvas, (left + h // 3, y + tag_h // 2), h // 3, dot, cv2.FILLED, cv2.LINE_AA)
        left += h
    ink: Any = (16, 16, 18) if sum(colour) > 330 else _WHITE
    place = (left, y + pad // 2 + h)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thick, cv2.LINE_AA)
    return tag_h


def _font(canvas: NDArray[np.uint8], *, small: bool = False) -> tuple[float, int]:
    """Scale and line width of letters on a picture."""
    scale = max(0.4, min(canvas.shape[:2]) / (1500 if small else 900))
    return scale, max(1, round(scale * 1.4))


def _drawable(text: str) -> str:
    """Text as OpenCV can draw it."""
    import cv2

    text = one_line(text)  # OpenCV crashes at letters that are half of a pair
    if not hasattr(cv2, "FontFace"):  # before OpenCV 5 its font knew ASCII only
        text = text.encode("ascii", "replace").decode()
    return text


def _tag_size(canvas: NDArray[np.uint8], text: str, *, small: bool = False) -> tuple[int, int]:
    """Width and height of a tag with text, pixels."""
    import cv2

    scale, thick = _font(canvas, small=small)
    (w, h), below = cv2.getTextSize(_drawable(text), cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    pad = max(3, round(h * 0.4))
    return int(w + 2 * pad), int(h + below + pad)


def clock_of(time_s: float) -> str:
    """Hours, minutes, seconds; of the day (UTC) for wall-clock times."""
    if not np.isfinite(time_s):
        return ""
    seconds = time_s % 86400 if time_s > 1e8 else time_s
    minutes, rest = divmod(max(seconds, 0.0), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:d}:{minutes:02d}:{rest:05.2f}"
