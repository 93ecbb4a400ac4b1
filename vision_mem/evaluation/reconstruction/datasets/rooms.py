"""Generated rooms on disk, in the layout of Sintel: nothing to download, exact truth.

Beside Sintel's folders there are ``sensor`` (what a depth camera would say, 16-bit millimetres)
and ``dynamic_label_perfect`` (what moves), as the scripts of MonST3R name it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.datasets import POINTS
from vision_mem.evaluation.reconstruction.datasets.depth_sets import Read, open_sintel
from vision_mem.evaluation.reconstruction.records import Cut, SceneSequence
from vision_mem.formats.depth import write_depth
from vision_mem.formats.sintel import write_cam, write_dpt
from vision_mem.formats.text import make_folder, write_file
from vision_mem.synthetic.set_folder import prepare_set
from vision_mem.text import read_json

RECORD = "rooms.json"
POINTS_STRIDE = 8
"""Frames between those whose points are compared."""


@dataclass(frozen=True)
class RoomSeries:
    """A set of generated rooms in a few numbers.

    Attributes:
        rooms: how many.
        frames, width, height: of each.
        seed: of the first; the others count on. By custom tests begin at 2,000,000.
        noise: standard deviation of the sensor's depth, as a share of it.
        holes: share of the sensor's pixels without a reading.
        camera: ``tour``, ``turn``, ``still``; empty for a mix.
    """

    rooms: int = 4
    frames: int = 96
    width: int = 96
    height: int = 72
    seed: int = 2_000_100
    noise: float = 0.005
    holes: float = 0.0
    camera: str = "tour"

    def __post_init__(self) -> None:
        numbers = (self.rooms, self.frames, self.width, self.height)
        if min(numbers) < 1 or self.rooms > 10_000 or max(numbers[2:]) > 4096 or self.seed < 0:
            raise InputError(
                f"{self.rooms} rooms of {self.frames} frames of {self.width} x {self.height} from "
                f"seed {self.seed} cannot be made; expected numbers above 0"
            )


def prepare_rooms(root: str | Path, series: RoomSeries | None = None) -> dict[str, Any]:
    """Write a set of rooms where there is none yet; see ``synthetic.set_folder.prepare_set``.

    Raises:
        InputError: when the folder holds other things, or rooms of another ``series``.
        SinkError: when it cannot be written.
    """
    return prepare_set(
        root, series, RoomSeries(), write_rooms, what="rooms", record=RECORD, option="--room"
    )


def write_rooms(root: str | Path, series: RoomSeries) -> list[str]:
    """Render rooms and write images and truth below ``root/training``; returns their names.

    Raises:
        SinkError: when something cannot be written.
    """
    from vision_mem.synthetic.rgbd_bodies import SceneryConfig
    from vision_mem.synthetic.rgbd_scene import SyntheticStream

    training = Path(root) / "training"
    names = [f"room_{number:04d}" for number in range(series.rooms)]
    for number, name in enumerate(names):
        stream = SyntheticStream(
            series.seed + number, series.frames, series.width, series.height,
            depth_noise=series.noise, holes=series.holes,
            config=SceneryConfig(camera=series.camera),
        )  # fmt: skip
        # Sintel counts pixels from their centres.
        matrix = stream.camera.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        for true in stream:
            stem = f"frame_{true.frame.index + 1:04d}"
            assert true.frame.pose is not None, "generated frames know where they are"
            _write_png(training / "final" / name / f"{stem}.png", true.frame.image[..., ::-1])
            write_dpt(training / "depth" / name / f"{stem}.dpt", true.depth)
            write_cam(training / "camdata_left" / name / f"{stem}.cam", matrix, true.frame.pose)
            write_depth(training / "sensor" / name / f"{stem}.png", true.frame.depth)
            _write_png(
                training / "dynamic_label_perfect" / name / f"{stem}.png",
                true.dynamic.astype(np.uint8) * 255,
            )
    return names


def _write_png(path: Path, picture: Any) -> None:
    import cv2

    good, packed = cv2.imencode(".png", picture)
    assert good, "8-bit pictures can be packed"
    make_folder(path.parent)
    write_file(path, packed.tobytes())


def open_rooms(root: Path, task: str, cut: Cut, need_frames: bool) -> Read:
    """What ``prepare_rooms`` wrote."""
    try:
        series = RoomSeries(**read_json(root / RECORD))
    except (ValueError, TypeError):
        raise InputError(
            f"{root} has no generated rooms ({RECORD}); vision-mem eval {task} writes them where "
            "nothing is"
        ) from None
    if task == POINTS and not cut.stride:
        cut = replace(cut, stride=POINTS_STRIDE)
    found, _ = open_sintel(root, task, cut, need_frames)
    numbers = [int(each.name.removeprefix("room_")) for each in found]
    return [
        replace(each, seed=series.seed + number)
        for each, number in zip(found, numbers, strict=True)
    ], []


def still_distance(root: Path, sequence: SceneSequence, points: Any) -> Any:
    """Metres from points to the nearest surface that stands still when a room's stream ends.

    Args:
        root: of the rooms.
        sequence: a room.
        points: ``(N, 3)`` in the room's world.
    """
    from vision_mem.synthetic.rgbd_bodies import SceneryConfig, make_scenery

    series = RoomSeries(**read_json(root / RECORD))
    assert sequence.seed is not None, "only rooms know their surfaces"
    scenery = make_scenery(sequence.seed, series.frames, SceneryConfig(camera=series.camera))
    last = max(view.number for view in sequence.views)
    return scenery.distance(points, resting_at=last)
