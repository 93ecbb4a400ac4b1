"""What several tests need: threads, data, small clips, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Small models are slower with more threads, and results must not depend on the machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the command line does, before the first import of OpenCV.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """The annotated clips; tests that need them are skipped where they are absent."""
    places = [Path(os.environ["VISION_MEM_DATA"])] if "VISION_MEM_DATA" in os.environ else []
    places.append(ROOT.parent / "shared" / "data")
    for place in places:
        if (place / "sot").is_dir():
            return place
    pytest.skip(f"annotated clips not found in {places[0]}; set VISION_MEM_DATA")


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4 of 32 frames, 160x96: a cup that moves in front of a photograph."""
    from vision_mem.synthetic.clips import Actor, ActorPose, ClipScene, SyntheticClip
    from vision_mem.visualization.contact_sheet import write_video

    scene = ClipScene(
        name="cup",
        background="gravel",
        target=Actor("cup", lambda t: ActorPose(x=50 + 1.2 * t, y=48 + t / 3, height=40)),
        frames=32,
        width=160,
        height=96,
    )
    path = tmp_path_factory.mktemp("clips") / "cup.mp4"
    write_video(path, SyntheticClip(scene).frames(), 24.0)
    return path


@pytest.fixture(scope="session")
def vision_mem() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own."""

    def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vision_mem", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=cwd or ROOT,
            check=False,
        )

    return run
