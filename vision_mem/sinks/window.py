"""A window that shows the run while it goes on."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, MissingExtra
from vision_mem.results import Shown
from vision_mem.sources.live import StopRun
from vision_mem.sources.pixels import fit_image
from vision_mem.types import Frame, SourceInfo
from vision_mem.visualization.draw import Painter

log = logging.getLogger(__name__)

_LARGEST = (720, 1280)
_DRAG = 5  # pixels from which on a click is a box
_NO_DISPLAY = "no display on this machine: the run goes on without a window"


def pick_objects(image: NDArray[np.uint8]) -> tuple[list[str], list[str]]:
    """Show a frame, and let a person draw boxes around things and click on them.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.

    Returns:
        Boxes ``NAME=x,y,w,h`` and points ``NAME=x,y``, one an object, as the command line has them.

    Raises:
        InputError: where no display is, or the window was closed with nothing picked.
        MissingExtra: when pygame is not installed.
    """
    if _is_headless():
        raise InputError("no display on this machine to pick on: run vision-mem studio, and click")
    pygame = _pygame()
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST[0] / height, _LARGEST[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pygame.display.init()
    try:
        screen = pygame.display.set_mode(size)
        pygame.display.set_caption("drag boxes, click things; Enter: go, z: take back, q: stop")
        shown = np.ascontiguousarray(fit_image(image, size[1], size[0]))
        surface = pygame.image.frombuffer(shown.tobytes(), size, "RGB")
        picked: list[tuple[float, ...]] = []
        begin: tuple[int, int] | None = None
        while True:
            screen.blit(surface, (0, 0))
            for one in picked:
                x, y, *rest = (round(value * scale) for value in one)
                mark = (x, y, *rest) if rest else (x - 4, y - 4, 8, 8)
                pygame.draw.rect(screen, (255, 176, 0), mark, 2)
            if begin is not None:
                corner = _box(begin, pygame.mouse.get_pos(), 1.0)
                pygame.draw.rect(screen, (255, 255, 255), corner, 1)
            pygame.display.flip()
            event = pygame.event.wait()
            key = event.key if event.type == pygame.KEYDOWN else None
            if event.type == pygame.QUIT or key in (pygame.K_q, pygame.K_ESCAPE):
                raise InputError("nothing was picked: the window was closed")
            if key in (pygame.K_RETURN, pygame.K_KP_ENTER) and picked:
                break
            if key == pygame.K_z and picked:
                picked.pop()
            if event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
                begin = event.pos
            elif event.type == pygame.MOUSEBUTTONUP and begin is not None:
                box = _box(begin, event.pos, scale)
                drawn = min(box[2:]) * scale > _DRAG
                picked.append(box if drawn else (event.pos[0] / scale, event.pos[1] / scale))
                begin = None
    finally:
        pygame.display.quit()
    named = [f"object-{n}=" + ",".join(f"{v:.1f}" for v in one) for n, one in enumerate(picked, 1)]
    boxes = [text for text, one in zip(named, picked, strict=True) if len(one) == 4]
    return boxes, [text for text in named if text not in boxes]


def _box(one: tuple[int, int], other: tuple[int, int], scale: float) -> tuple[float, ...]:
    x, y = min(one[0], other[0]), min(one[1], other[1])
    return tuple(v / scale for v in (x, y, abs(one[0] - other[0]), abs(one[1] - other[1])))


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError:
        raise MissingExtra('a window needs pygame; run: pip install "vision-mem[show]"') from None
    return pygame


def _is_headless() -> bool:
    """Whether no screen is there; SDL would then draw into nothing without a word."""
    if not sys.platform.startswith("linux") or "SDL_VIDEODRIVER" in os.environ:
        return False
    return not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class LiveWindow:
    """Shows each frame as soon as it is done, in a window that may be resized.

    q, Esc or closing the window raises ``StopRun`` from ``write``: end the run cleanly then.

    Args:
        painter: what to draw.
        title: the window's title; the source's name when left out.
    """

    def __init__(self, *, painter: Painter | None = None, title: str | None = None) -> None:
        self._painter = painter or Painter()
        self._title = title
        self._screen: Any = None

    def open(self, info: SourceInfo) -> None:
        """Open the window; without a display it is said, and the run goes on without one.

        Raises:
            MissingExtra: when pygame is not installed.
        """
        pygame = _pygame()
        if _is_headless():
            log.warning(_NO_DISPLAY)
            return
        scale = min(1.0, _LARGEST[0] / info.height, _LARGEST[1] / info.width)
        size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
        try:
            pygame.display.init()
            self._screen = pygame.display.set_mode(size, pygame.RESIZABLE)
            pygame.display.set_caption(self._title or f"{info.name} - vision_mem (q to stop)")
        except pygame.error:
            self._screen = None
            log.warning(_NO_DISPLAY)

    def write(self, frame: Frame, result: Shown) -> None:
        """Show one frame.

        Raises:
            StopRun: when the person pressed q or Esc, or closed the window.
        """
        if self._screen is None:
            return
        import pygame

        image = self._painter.draw(frame.image, result)
        width, height = self._screen.get_size()
        shown = np.ascontiguousarray(fit_image(image, height, width))
        surface = pygame.image.frombuffer(shown.tobytes(), (width, height), "RGB")
        self._screen.blit(surface, (0, 0))
        pygame.display.flip()
        for event in pygame.event.get():
            pressed = event.type == pygame.KEYDOWN and event.key in (pygame.K_q, pygame.K_ESCAPE)
            if pressed or event.type == pygame.QUIT:
                raise StopRun("the window was closed")

    def close(self) -> None:
        """Close the window; safe to call twice."""
        if self._screen is not None:
            import pygame

            self._screen = None
            pygame.display.quit()
