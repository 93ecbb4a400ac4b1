"""Sinks by name: what ``--save`` makes and where it goes. One table a system, one row a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_mem.config import is_object_name, load_object, nearest
from vision_mem.errors import InputError
from vision_mem.formats.class_names import ClassNumbers
from vision_mem.formats.mots import KITTI_MOTS, MOTS_CHALLENGE, MotsLayout
from vision_mem.sinks.annotations import (
    AnnotationChoice,
    ComposedFile,
    DavisMasks,
    FrameChoice,
    JpegFiles,
    ParquetTable,
    YoloLabels,
    coco_file,
    coco_polygon_file,
    cvat_file,
    cvat_polygon_file,
    labelstudio_file,
)
from vision_mem.sinks.boxes import SingleObjectBoxes
from vision_mem.sinks.masks import Diary, MaskPng, MaskRle
from vision_mem.sinks.table import ZoneTable
from vision_mem.sinks.track_pictures import TrackPictures
from vision_mem.sinks.tracks import (
    KITTI_TYPES,
    EventLines,
    KittiLabels,
    MotsPng,
    MotsText,
    MotText,
    TrackDiary,
    TrackFile,
    TrackRle,
)
from vision_mem.sinks.video import AnnotatedVideo, WriteBehind, sound_of
from vision_mem.sinks.window import LiveWindow
from vision_mem.types import SourceInfo
from vision_mem.visualization.draw import Painter

TRAIL = 60
"""Positions in the trails of videos of many objects."""


@dataclass(frozen=True)
class SinkPlace:
    """Where a sink writes, and what it may need to know of the run.

    Attributes:
        folder: of all results.
        info: the source; its name is part of file names.
        append: go on after an interrupted run.
        convention: ``true`` or ``samurai``, how files of boxes count widths.
        painter: what videos and windows show; None for the usual.
        classes: words of the detector to classes of the benchmarks' files.
        frames: the interrupted run had done.
        lost: of them, without a pose.
        source: as typed, "" where its sound is of no interest.
        audio: whether its sound goes into the video.
        annotations: which frames go into files of annotations, and how.
    """

    folder: Path
    info: SourceInfo
    append: bool = False
    convention: str = "true"
    painter: Painter | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    frames: int = 0
    lost: int = 0
    source: str = ""
    audio: bool = False
    annotations: AnnotationChoice = AnnotationChoice()

    def file(self, ending: str) -> Path:
        """``<folder>/<name><ending>``."""
        return self.folder / f"{self.info.name}{ending}"


@dataclass(frozen=True)
class SinkKind:
    """A row of a table.

    Attributes:
        writes: what it writes below the results folder; ``<name>`` is that of the source.
        make: makes one; None for what is made when the run ends, not frame by frame.
    """

    writes: str
    make: Callable[[SinkPlace], Any] | None


def _video(at: SinkPlace, ending: str, painter: Any) -> AnnotatedVideo:
    sound = sound_of(at.source, at.audio, at.info.live) if at.source else None
    return AnnotatedVideo(
        at.file(ending), painter=painter, append=at.append, frames=at.frames or None, sound=sound
    )


def _tracked_video(at: SinkPlace) -> Any:
    video = _video(at, "_tracked.mp4", at.painter)
    # Drawing and encoding take a fifth of a frame's time. A painter of the caller's may be in use
    # elsewhere, and it remembers trails.
    return video if at.painter is not None else WriteBehind(video)


def _boxes(layout: str) -> Callable[[SinkPlace], Any]:
    return lambda at: SingleObjectBoxes(
        at.folder / layout, layout, convention=at.convention, append=at.append
    )


def _mot_lines(at: SinkPlace, short: bool = False) -> Any:
    path = at.folder / "mot" / f"{at.info.name}.txt"
    file = MotText(path, convention=at.convention, short=short, append=at.append)
    return TrackFile(file, lambda word: 1)


def _annotated(
    folder: str, suffix: str, compose: Callable[..., None]
) -> Callable[[SinkPlace], Any]:
    """A file that is made when the run ends."""

    def make(at: SinkPlace) -> Any:
        pictures = None
        if at.annotations.pictures and folder == "coco":
            place = at.folder / folder / "images" / at.info.name
            pictures = JpegFiles(place, append=at.append)
        return ComposedFile(
            at.folder / folder / f"{at.info.name}{suffix}", compose,
            FrameChoice(at.annotations, at.frames), append=at.append,
            source=Path(at.source).name, pictures=pictures,
        )  # fmt: skip

    return make


def _yolo(segments: bool) -> Callable[[SinkPlace], Any]:
    def make(at: SinkPlace) -> Any:
        return YoloLabels(
            at.folder / ("yolo-segments" if segments else "yolo"), at.info.name,
            FrameChoice(at.annotations, at.frames), segments=segments,
            append=at.append,
        )  # fmt: skip

    return make


def _davis(at: SinkPlace) -> Any:
    frames = FrameChoice(at.annotations, at.frames)
    return DavisMasks(at.folder / "davis", at.info.name, frames, append=at.append)


def _parquet(at: SinkPlace) -> Any:
    frames = FrameChoice(at.annotations, at.frames)
    return ParquetTable(at.folder / "parquet" / f"{at.info.name}.parquet", frames, append=at.append)


ANNOTATION_SINKS: Mapping[str, SinkKind] = {
    "coco": SinkKind(
        "coco/<name>.json: COCO for videos, masks as run lengths; coco/images/ with --frames",
        _annotated("coco", ".json", coco_file),
    ),
    "coco-polygons": SinkKind(
        "coco/<name>.polygons.json: the same with outlines",
        _annotated("coco", ".polygons.json", coco_polygon_file),
    ),
    "yolo": SinkKind("yolo/labels/<name>_000000.txt ... and data.yaml: boxes", _yolo(False)),
    "yolo-segments": SinkKind("yolo-segments/: the same with outlines", _yolo(True)),
    "cvat": SinkKind(
        "cvat/<name>.xml: CVAT for video 1.1, tracks with keyframes",
        _annotated("cvat", ".xml", cvat_file),
    ),
    "cvat-polygons": SinkKind(
        "cvat/<name>.polygons.xml: the same with outlines",
        _annotated("cvat", ".polygons.xml", cvat_polygon_file),
    ),
    "labelstudio": SinkKind(
        "labelstudio/<name>.json: a task with video rectangles, and its labeling interface",
        _annotated("labelstudio", ".json", labelstudio_file),
    ),
    "davis": SinkKind("davis/Annotations/<name>/00000.png ...: indexed PNG, and names", _davis),
    "parquet": SinkKind(
        "parquet/<name>.parquet: a row an object and frame; needs pyarrow", _parquet
    ),
}
"""Of ``track`` and ``mots``: what annotation tools and training read."""

_ZONES = SinkKind(
    "<name>.zones.csv: entered, left, crossed, with seconds inside and counts",
    lambda at: ZoneTable(at.file(".zones.csv"), append=at.append),
)

SINKS: Mapping[str, SinkKind] = {
    "video": SinkKind("<name>_tracked.mp4: annotated H.264 video", _tracked_video),
    "lasot": SinkKind("lasot/<name>.txt: x,y,w,h a frame, one file an object", _boxes("lasot")),
    "otb": SinkKind("otb/<name>.txt: the same in OTB's place", _boxes("otb")),
    "got10k": SinkKind("got10k/<name>/<name>_001.txt and <name>_time.txt", _boxes("got10k")),
    "mot": SinkKind(
        "mot/<name>.txt: MOTChallenge lines, all objects",
        lambda at: _mot_lines(at, short=True),
    ),
    "rle": SinkKind(
        "<name>.masks.jsonl: COCO run lengths, one JSON line a frame",
        lambda at: MaskRle(at.file(".masks.jsonl"), append=at.append),
    ),
    "png": SinkKind(
        "masks/<name>/00000.png ...: indexed PNG in DAVIS colours",
        lambda at: MaskPng(at.folder / "masks" / at.info.name, append=at.append),
    ),
    "diary": SinkKind(
        "<name>.diary.jsonl: scores, decisions and events, one JSON line a frame",
        lambda at: Diary(at.file(".diary.jsonl"), append=at.append),
    ),
    "events": SinkKind(
        "<name>.events.jsonl: added, lost, found, entered, crossed ..., one JSON line each",
        lambda at: EventLines(at.file(".events.jsonl"), append=at.append),
    ),
    "zones": _ZONES,
    **ANNOTATION_SINKS,
    "window": SinkKind(
        "nothing: shows the run in a window", lambda at: LiveWindow(painter=at.painter)
    ),
}
"""Of ``track``."""


def _crowd_painter(at: SinkPlace) -> Painter:
    # Of many objects some are always out of sight; who left is in the events.
    return at.painter or Painter(scores=False, lost=False, trail=TRAIL)


def _crowd_video(at: SinkPlace) -> Any:
    return WriteBehind(_video(at, "_tracked.mp4", _crowd_painter(at)))


def _tracks(
    make: Callable[..., Any], folder: str, layout: MotsLayout, *more: Any, suffix: str = ".txt"
) -> Callable[[SinkPlace], Any]:
    """A file of tracks of a layout's classes; ``more`` goes to its writer."""

    def made(at: SinkPlace) -> Any:
        numbers = ClassNumbers(layout.classes, at.classes, layout.title)
        path = at.folder / folder / f"{at.info.name}{suffix}"
        return TrackFile(make(path, *more, append=at.append), numbers.number)

    return made


MOTS_SINKS: Mapping[str, SinkKind] = {
    "video": SinkKind(
        "<name>_tracked.mp4: H.264 video with masks, identity colours and trails", _crowd_video
    ),
    "kitti-mots": SinkKind(
        "kitti-mots/<name>.txt: KITTI MOTS text, frames from 0",
        _tracks(MotsText, "kitti-mots", KITTI_MOTS, KITTI_MOTS),
    ),
    "kitti-mots-png": SinkKind(
        "kitti-mots-png/<name>/000000.png ...: the same as 16-bit PNG",
        _tracks(MotsPng, "kitti-mots-png", KITTI_MOTS, KITTI_MOTS, suffix=""),
    ),
    "mots-challenge": SinkKind(
        "mots-challenge/<name>.txt: MOTS Challenge text, frames from 1",
        _tracks(MotsText, "mots-challenge", MOTS_CHALLENGE, MOTS_CHALLENGE),
    ),
    "kitti": SinkKind(
        "kitti/<name>.txt: KITTI tracking labels",
        _tracks(KittiLabels, "kitti", MotsLayout("KITTI labels", 0, KITTI_TYPES)),
    ),
    "mot": SinkKind("mot/<name>.txt: MOTChallenge lines, all classes", _mot_lines),
    "rle": SinkKind(
        "<name>.masks.jsonl: COCO run lengths, one JSON line a frame",
        lambda at: TrackRle(at.file(".masks.jsonl"), append=at.append),
    ),
    "events": SinkKind(
        "<name>.events.jsonl: born, confirmed, lost, found, removed ..., one JSON line each",
        lambda at: EventLines(at.file(".events.jsonl"), append=at.append),
    ),
    "diary": SinkKind(
        "<name>.diary.jsonl: states, scores and decisions, one JSON line a frame",
        lambda at: TrackDiary(at.file(".diary.jsonl"), append=at.append),
    ),
    "tracks": SinkKind(
        "<name>.tracks.csv: one line a track: when, where, how long, how often lost", None
    ),
    "crops": SinkKind(
        "crops/<name>_01.jpg ...: the best pictures of each track, as contact sheets",
        lambda at: TrackPictures(at.folder / "crops", at.info.name),
    ),
    "page": SinkKind(
        "<name>.page.html: a row a track, with pictures, class, length and time line",
        lambda at: TrackPictures(at.file(".page.html"), at.info.name),
    ),
    **ANNOTATION_SINKS,
    "zones": _ZONES,
    "window": SinkKind(
        "nothing: shows the run in a window", lambda at: LiveWindow(painter=_crowd_painter(at))
    ),
}
"""Of ``mots``."""


def _scene(kind: str) -> Callable[[SinkPlace], Any]:
    def make(at: SinkPlace) -> Any:
        from vision_mem.sinks import scene  # what it needs takes long to import

        if kind in ("tum", "kitti"):
            rows = at.frames - (at.lost if kind == "tum" else 0)
            return scene.PathFile(at.file(f".{kind}.txt"), kind, append=at.append, rows=rows)
        if kind in ("depth", "depth-npz"):
            suffix = ".png" if kind == "depth" else ".npz"
            return scene.DepthFiles(at.folder / kind, suffix, at.append)
        if kind == "dynamic":
            return scene.MovingPly(at.folder / kind, ".ply", at.append)
        if kind == "colmap":
            return scene.ColmapModel(at.folder / kind, at.append)
        if kind == "events":
            return scene.SceneEvents(at.file(".events.jsonl"), append=at.append)
        if kind == "rerun":
            from vision_mem.sinks.rerun import RerunScene

            return RerunScene(at.file(".rrd"), append=at.append)
        return WriteBehind(_video(at, "_scene.mp4", scene.SceneDrawing()))

    return make


SCENE_SINKS: Mapping[str, SinkKind] = {
    "trajectory": SinkKind(
        "<name>.tum.txt: time x y z qx qy qz qw; lost frames are left out", _scene("tum")
    ),
    "kitti": SinkKind(
        "<name>.kitti.txt: 3x4 matrices, a line a frame; lost ones repeat the last pose",
        _scene("kitti"),
    ),
    "depth": SinkKind("depth/000000.png ...: 16 bits, millimetres", _scene("depth")),
    "depth-npz": SinkKind("depth-npz/000000.npz ...: float32 metres", _scene("depth-npz")),
    "dynamic": SinkKind(
        "dynamic/000000.ply ...: what moves on each frame, in the world, with tracks",
        _scene("dynamic"),
    ),
    "video": SinkKind(
        "<name>_scene.mp4: colour with what moves tinted, depth beside it", _scene("video")
    ),
    "events": SinkKind(
        "<name>.events.jsonl: appeared, parked, moved again, left, lost, found, demoted",
        _scene("events"),
    ),
    "tracks": SinkKind(
        "<name>.tracks.csv: one line a moving object: when, where, how far, how fast; "
        "<name>.maybe.csv: what may have moved",
        None,
    ),
    "map": SinkKind("<name>.map.ply: what stays, as points with normals and colours", None),
    "mesh": SinkKind("<name>.mesh.ply: what stays, as triangles", None),
    "topdown": SinkKind("<name>.topdown.png: the map from above, with the camera's path", None),
    "flythrough": SinkKind(
        "<name>_flythrough.mp4: around the map and along the camera's path", None
    ),
    "report": SinkKind("report/index.html: a page with numbers and pictures", None),
    "colmap": SinkKind(
        "colmap/images/, colmap/sparse/0/: images, poses and points as COLMAP's text, for splats "
        "and photogrammetry",
        _scene("colmap"),
    ),
    "rerun": SinkKind(
        "<name>.rrd: a recording for the viewer of rerun; needs rerun-sdk", _scene("rerun")
    ),
}
"""Of ``reconstruct``."""


def check_names(names: Iterable[str], table: Mapping[str, SinkKind]) -> list[str]:
    """The names of outputs, each once.

    A name is one of the table, or ``module:Class`` for a sink of the user's own.

    Raises:
        InputError: for one that is neither.
    """
    known = list(dict.fromkeys(names))
    for name in known:
        if name not in table and not is_object_name(name):
            raise InputError(
                f"no output is called {name!r}; expected {', '.join(table)}, or module:Class"
                f"{nearest(name, list(table))}"
            )
    # A report needs the table of tracks too.
    return [*known, "tracks"] if "report" in known and "tracks" not in known else known


def make_sinks(
    out_dir: str | Path,
    names: Sequence[str],
    info: SourceInfo,
    *,
    table: Mapping[str, SinkKind] = SINKS,
    **place: Any,
) -> list[Any]:
    """Make sinks from their names; they are opened by ``session.run``.

    A class of the user's own is called with the results folder. Its objects have ``open(info)``,
    ``write(frame, result)`` and ``close()``, see ``session.Sink``; they are told nothing of an
    interrupted run.

    Args:
        out_dir: folder for all files; made when the sinks open.
        names: keys of the table, or ``module:Class``; a name given twice counts once.
        info: the source; its name becomes part of file names.
        table: of the system: ``SINKS``, ``MOTS_SINKS`` or ``SCENE_SINKS``.
        place: more of ``SinkPlace``. With ``append`` text and JSON files lose the lines of frames
            that come again and grow from there.

    Returns:
        One sink a name, in the order given, but for what is made when the run ends.

    Raises:
        InputError: for a name that is not known, or classes that a format does not have.
    """
    at = SinkPlace(Path(out_dir), info, **place)
    made = []
    for name in check_names(names, table):
        if name not in table:
            made.append(_own_sink(name, at.folder))
        elif (make := table[name].make) is not None:
            made.append(make(at))
    return made


def _own_sink(name: str, folder: Path) -> Any:
    make = load_object(name, "output")
    try:
        sink = make(folder)
    except TypeError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"output {name!r} cannot be made of a folder: {problem}") from error
    lacks = [key for key in ("open", "write", "close") if not hasattr(sink, key)]
    if lacks:
        raise InputError(
            f"output {name!r} has no {', '.join(lacks)}; expected open(info), write(frame, "
            "result) and close()"
        )
    return sink
