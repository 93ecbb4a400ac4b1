"""A reconstruction for people and other programs: frame by frame, and what its end is made of."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.formats.ply import write_ply
from vision_mem.formats.text import write_file
from vision_mem.geometry.camera import RgbdFrame
from vision_mem.geometry.trajectory_errors import PathErrors, path_errors
from vision_mem.reconstruction.session import ReconstructionSession
from vision_mem.reconstruction.voxel_grid import StaticMap
from vision_mem.runs.progress import expect_work, megabytes, tell_work
from vision_mem.sinks.rerun import RerunScene
from vision_mem.sinks.scene import ColmapModel, SceneFrame
from vision_mem.sinks.scene_table import COLUMNS, MovingSums, SceneTally
from vision_mem.sinks.table import FOLLOWED
from vision_mem.sources.motion_masks import MovingMasks
from vision_mem.text import read_json
from vision_mem.types import Frame, MemoryUsage, SourceInfo
from vision_mem.visualization.bev import write_topdown
from vision_mem.visualization.contact_sheet import write_video
from vision_mem.visualization.html_report import (
    cards_html,
    pictures_html,
    table_html,
    write_png,
    write_report,
)
from vision_mem.visualization.point_viewer import ViewedLine, ViewedScene, viewer_html
from vision_mem.visualization.scene_overlay import ScenePainter, object_picture
from vision_mem.visualization.scene_views import (
    CameraPath,
    around,
    first_view,
    flight,
    from_above,
    view_from,
)

_MOST_ROWS, _SAMPLES = 200, 6
_FLIGHT_FRAMES, _FLIGHT_FPS, _FLIGHT_SIZE = 144, 24.0, (640, 480)
_VIEW_SIZE, _MOST_CARDS, _MOST_PICTURES, _FEWEST_PIXELS = (1008, 640), 24, 200, 40
_LARGEST = "pictures.json"
_WORK = {"map": 4.0, "mesh": 60.0, "report": 30.0, "flythrough": 250.0}
"""What is made at the end, in frames that take about as long."""


class SceneSession:
    """A session that gets masks with its frames, and says of each frame what sinks need.

    Args:
        session: the session.
        masks: of what moves, or None.
        track_poses: do not show it the poses of the recording.
    """

    def __init__(
        self, session: ReconstructionSession, masks: MovingMasks | None, track_poses: bool
    ) -> None:
        self._session, self._masks, self._track = session, masks, track_poses
        self.snapshot = session.snapshot

    def step(self, frame: Any) -> SceneFrame:
        """Look at the next frame."""
        given: RgbdFrame = frame.without_pose() if self._track else frame
        masks = None if self._masks is None else self._masks.at(given.index, given.size)
        return SceneFrame(given, self._session.step(given, masks))

    def usage(self) -> MemoryUsage:
        """What is held now."""
        return self._session.usage()


class SceneSamples:
    """Keeps drawings of a few frames, and of what moved, for the report.

    Args:
        folder: of the report.
        wanted: numbers of the frames.
    """

    def __init__(self, folder: Path, wanted: Sequence[int]) -> None:
        self._folder, self._wanted, self._painter = folder, set(wanted), ScenePainter()
        self._largest: dict[str, int] = {}

    def open(self, info: SourceInfo) -> None:
        """Nothing to open."""

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Draw the frame if it is wanted, and objects that were never seen so well."""
        if result.frame_index in self._wanted:
            picture = self._painter.draw(result.frame, result.found)
            write_png(self._folder / f"frame-{result.frame_index:06d}.png", picture)
        for sure, tracks in (("sure", result.found.tracks), ("maybe", result.found.uncertain)):
            for track in tracks:
                self._draw_object(f"{sure}-{track.track_id}", track, result)

    def _draw_object(self, name: str, track: Any, result: SceneFrame) -> None:
        mask = result.found.track_ids == track.track_id
        area = int(mask.sum())
        known = self._largest.get(name, 0)
        if area < max(_FEWEST_PIXELS, 1.3 * known) or not track.seen:
            return
        if not known and len(self._largest) >= _MOST_PICTURES:
            return
        self._largest[name] = area
        write_png(self._folder / f"{name}.png", object_picture(result.frame, mask))

    def keep(self, snapshot: Path) -> None:
        """Note how large each object was in its picture."""
        write_file(snapshot / _LARGEST, json.dumps(self._largest).encode(), durable=False)

    def recall(self, snapshot: Path) -> None:
        """Go on with the pictures that there are."""
        if (snapshot / _LARGEST).is_file():  # snapshots of before have none
            self._largest = read_json(snapshot / _LARGEST)

    def close(self) -> None:
        """Nothing stays open."""


def choose_samples(info: SourceInfo, start: int, stride: int) -> list[int]:
    """Numbers of frames to be shown in the report: evenly spaced, or ever farther apart."""
    if info.frame_count is None:  # who knows how many come
        return [start + stride * place for place in (0, *(2**k for k in range(3, 24)))]
    total = info.frame_count or 1
    places = np.linspace(0, total - 1, min(_SAMPLES, total)).round().astype(int)
    return [start + int(place) * stride for place in places]


@dataclass
class SceneProducts:
    """What is made of both memories when the frames are at their end; a sink that writes late.

    Nothing is made when the run breaks: it can be continued, and then they are.

    Args:
        session: the memories.
        tally: the run so far.
        names: of outputs.
        out: folder.
        stem: of file names.
        preset: for the report.
        recording: the recorded poses by number of frame, read when there is something to compare.
        truth: says how far the map is from the truth of a generated recording, in lines.
        rerun: gets the map too.
        memory: file for both memories, or None.
        colmap: gets the map too.
    """

    session: ReconstructionSession
    tally: SceneTally
    names: Sequence[str]
    out: Path
    stem: str
    preset: str
    recording: Callable[[], Mapping[int, Any]]
    truth: Callable[[SceneTally, Any], list[str]] | None
    rerun: RerunScene | None
    memory: Path | None
    colmap: ColmapModel | None = None
    said: list[str] = field(default_factory=list, init=False)

    def open(self, info: SourceInfo) -> None:
        """Say how much there will be to do at the end."""
        expect_work(sum(work for name, work in _WORK.items() if name in self.names))

    def write(self, frame: Frame, result: SceneFrame) -> None:
        """Nothing a frame."""

    def close(self) -> None:
        """Write everything, unless the run broke."""
        if sys.exc_info()[0] is None and self.tally.frames:
            self.make()

    def make(self) -> None:
        """Write everything.

        Raises:
            SinkError: when a file cannot be written.
        """
        names, out, stem = self.names, self.out, self.stem
        found = self.session.static_map()
        path = CameraPath.from_rows(self.tally.places)
        self.said = [f"map of what stays: {len(found.points)} points, {found.voxel * 100:.1f} cm"]
        errors = compared(self.tally, self.recording())
        if errors is not None:
            self.said.append(
                f"path against the recorded poses: ATE {errors.ate * 100:.2f} cm over "
                f"{errors.poses} poses" + (", which lie on a line" if errors.degenerate else "")
            )
        if self.truth is not None:
            self.said += self.truth(self.tally, found.points)
        if "map" in names:
            tell_work("map")
            write_ply(
                out / f"{stem}.map.ply", found.points, normals=found.normals,
                colours=found.colours, comment="what stays, metres",
            )  # fmt: skip
            tell_work("map", _WORK["map"])
        if "mesh" in names:
            tell_work("mesh")
            mesh = self.session.mesh()
            write_ply(
                out / f"{stem}.mesh.ply", mesh.vertices, normals=mesh.normals,
                colours=mesh.colours, faces=mesh.faces,
            )  # fmt: skip
            tell_work("mesh", _WORK["mesh"])
        if "topdown" in names or "report" in names:
            things = [
                (f"object-{key}", sums.centre)
                for key, sums in self.tally.tracks.items() if sums.centre is not None
            ]  # fmt: skip
            above = from_above(found, path, things, f"{stem} from above")
            if "topdown" in names:
                write_topdown(out / f"{stem}.topdown.png", above)
            if "report" in names:
                write_topdown(out / "report" / "topdown.png", above)
                self._write_report(found, path)
        if "flythrough" in names:
            pictures = flight(found, path, *_FLIGHT_SIZE, frames=_FLIGHT_FRAMES)
            counted = _counted(pictures, "fly-through", _WORK["flythrough"] / _FLIGHT_FRAMES)
            write_video(out / f"{stem}_flythrough.mp4", counted, _FLIGHT_FPS)
        if self.colmap is not None:
            self.colmap.finish(found.points, found.colours)
        if self.rerun is not None:
            self.rerun.add_map(found, path.places)
        if self.memory is not None:
            self.session.snapshot(self.memory)

    def _write_report(self, found: StaticMap, path: CameraPath) -> None:
        tally, usage, folder = self.tally, self.session.usage(), self.out / "report"
        tell_work("report: views")
        view = first_view(found, path)
        write_png(folder / "view.png", view_from(found, path, view, *_VIEW_SIZE))
        tell_work("report: views", _WORK["report"] * 0.4)
        for k in range(3):
            write_png(folder / f"around-{k}.png", around(found, path, k / 3, *_FLIGHT_SIZE))
            tell_work("report: views", _WORK["report"] * 0.15)
        rate = tally.frames / tally.seconds if tally.seconds > 0 else 0.0
        numbers: list[tuple[str, str]] = [
            ("frames", str(tally.frames)),
            ("frames on which the camera was lost", str(tally.lost)),
            ("camera path", f"{tally.path_m:.2f} m"),
            ("points that stay", str(len(found.points))),
            ("objects that moved", str(tally.objects)),
            ("objects that may have moved, which is not sure", str(tally.doubtful)),
            ("memory held", megabytes(usage.bytes)),
            *((f"of it {name}", megabytes(size)) for name, size in usage.detail.items()),
            ("speed, files included", f"{rate:.1f} frames/s"),
        ]
        stages = [
            (name, f"{total / max(tally.frames, 1):.2f} ms") for name, total in
            sorted(tally.stage_ms.items(), key=lambda item: -item[1])
        ]  # fmt: skip
        frames = {
            each.name: f"frame {int(each.stem.split('-')[1])}: what moves, and depth"
            for each in sorted(folder.glob("frame-*.png"))
        }
        views = {f"around-{k}.png": "what stays, from outside" for k in range(3)}
        sure, maybe = (self._moved("tracks", tally.tracks), self._moved("maybe", tally.uncertain))
        scene = ViewedScene(
            found.points, found.normals, found.colours, found.voxel, view.up, view.eye,
            view.target, [ViewedLine("camera", path.places, (0.9, 0.24, 0.24))],
        )  # fmt: skip
        write_report(
            folder / "index.html", self.stem, "; ".join([f"preset {self.preset}", *self.said]),
            [
                ("", pictures_html({"view.png": "what stays, with the camera's path"}, large=True)),
                ("Look around", viewer_html(scene, "view.png")),
                ("The path", pictures_html(
                    {"topdown.png": "from above: what stands there, and where the camera went"},
                    large=True,
                )),
                ("What moved", self._cards(sure, "sure")),
                ("What may have moved, or is an error of depth or pose", self._cards(
                    maybe, "maybe"
                )),
                ("The run", table_html((), numbers)),
                ("What happened", table_html((), sorted(tally.events.items()))),
                ("What moved, in numbers", table_html(COLUMNS, sure)),
                ("What may have moved, in numbers", table_html(COLUMNS, maybe)),
                ("Frames", pictures_html(frames)),
                ("More views", pictures_html(views)),
                ("Time a frame, in the session", table_html((), stages)),
            ],
        )  # fmt: skip
        tell_work("report", _WORK["report"] * 0.15)

    def _cards(self, rows: Sequence[Sequence[Any]], sure: str) -> str:
        """Pictures and main numbers of what moved, that which went farthest first."""
        cards = []
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        named.sort(key=lambda each: -float(each["path_m"]))
        for each in named[:_MOST_CARDS]:
            picture = f"{sure}-{each['id']}.png"
            there = (self.out / "report" / picture).is_file()
            cards.append((
                f"object {each['id']}", sure, picture if there else "",
                (
                    f"{float(each['path_m']):.2f} m, up to {float(each['fastest_m_s']):.2f} "
                    f"\u00b1 {float(each['speed_error_m_s']):.2f} m/s",
                    f"{float(each['width_m']):.2f} x {float(each['height_m']):.2f} x "
                    f"{float(each['depth_m']):.2f} m large",
                    f"from {float(each['first_s']):.1f} to {float(each['last_s']):.1f} s, on "
                    f"{each['frames_shown']} frames",
                ),
            ))  # fmt: skip
        more = f"<p>and {len(rows) - len(cards)} more, in the tables below</p>"
        return cards_html(cards) + more * (len(rows) > len(cards))

    def _moved(self, table: str, followed: Mapping[int, MovingSums]) -> list[list[Any]]:
        """Rows of a table of tracks: those that left, then those still followed."""
        rows: list[list[Any]] = []
        path = self.out / f"{self.stem}.{table}.csv"
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row and row[0] != COLUMNS[0]]
        rows += [sums.row(key, FOLLOWED) for key, sums in followed.items()]
        return rows[:_MOST_ROWS]


def _counted(pictures: Iterable[Any], what: str, work: float) -> Iterator[Any]:
    for picture in pictures:
        yield picture
        tell_work(what, work)


def compared(tally: SceneTally, recorded: Mapping[int, Any]) -> PathErrors | None:
    """The path that was found against recorded poses; None where there are too few."""
    pairs = []
    for row in tally.places:
        if int(row[0]) in recorded:
            pose = np.eye(4)
            pose[:3, 3], pose[:3, :3] = row[1:4], np.reshape(row[4:], (3, 3)).T
            pairs.append((pose, recorded[int(row[0])]))
    if len(pairs) < 3:
        return None
    ours, truth = zip(*pairs, strict=True)
    return path_errors(np.stack(ours), np.stack(truth), align="se3")
