"""Cameras that are not there: RTSP servers that show generated clips, over and over.

    python deploy/camera_simulator.py --cameras 4         # rtsp://localhost:8554 to 8557

In the image it stands beside the servers of the tests; in a checkout they are found there.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "fixtures"))


def clip(seed: int) -> list[np.ndarray]:
    """Pictures of a thing that moves before a photograph, there and back."""
    from vision_mem.synthetic.clips import Actor, ActorPose, ClipScene, SyntheticClip

    def pose(t: float) -> ActorPose:
        return ActorPose(x=80 + 2 * t, y=100 + 20 * np.sin(t / 9 + seed), height=70)

    scene = ClipScene(
        name=f"camera-{seed}", background=("gravel", "grass", "brick")[seed % 3],
        target=Actor("cup", pose), frames=75, width=320, height=240,
    )  # fmt: skip
    there = list(SyntheticClip(scene).frames())
    return there + there[::-1]


def main() -> int:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=8554, help="of the first; others follow")
    given = parser.parse_args()
    from live_servers import rtsp_server

    clips = lru_cache(maxsize=None)(clip)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with ExitStack() as stack:
        for n in range(given.cameras):
            pictures = clips(n)

            def picture(index: int, pictures: list[np.ndarray] = pictures) -> np.ndarray:
                return pictures[index % len(pictures)]

            stack.enter_context(rtsp_server(picture, given.host, given.port + n))
            print(f"rtsp://{given.host}:{given.port + n}/camera{n}", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
