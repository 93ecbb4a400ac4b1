"""A window that shows the run while it goes on."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import numpy as np

from vision_mem.errors import MissingExtra
from vision_mem.results import Shown
from vision_mem.sources.live import StopRun
from vision_mem.sources.pixels import fit_image
from vision_mem.types import Frame, SourceInfo
from vision_mem.visualization.draw import Painter

log = logging.getLogger(__name__)

_LARGEST = (720, 1280)
_NO_DISPLAY = "no display on this machine: the run goes on without a window"


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
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError:
            raise MissingExtra(
                'a live window needs pygame; run: pip install "vision-mem[show]"'
            ) from None
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
