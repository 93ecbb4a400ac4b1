"""Results as the files of annotation tools and training: COCO, YOLO, CVAT, Label Studio, DAVIS.

What grows frame by frame (labels, pictures, masks) is written at once. Files that want all of an
object or of a video in one place are made when the run ends, from a journal beside them that
grows by a line a frame: ``.<file>.rows.jsonl``. A run that is killed leaves the journal, and is
brought to its end with ``--resume``; the file is then the same as that of a straight run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.annotation_rows import FrameRows, Frames, VideoAbout, rows_of
from vision_mem.formats.coco import write_coco
from vision_mem.formats.cvat import write_cvat
from vision_mem.formats.labelstudio import labeling_config, write_labelstudio
from vision_mem.formats.parquet import arrow, write_parquet
from vision_mem.formats.rle import encode_mask
from vision_mem.formats.text import LineFile, make_folder, whole_file, write_file
from vision_mem.formats.yolo import label_lines
from vision_mem.geometry.boxes import clip_box
from vision_mem.results import Shown
from vision_mem.sinks.masks import JsonLines, MaskPng, NumberedFiles
from vision_mem.types import Frame, SourceInfo

log = logging.getLogger(__name__)

_QUALITY = 95
"""Of pictures, as JPEG: they are to be learned from."""

WITH_PICTURES = ("coco", "coco-polygons", "yolo", "yolo-segments", "davis")
"""Outputs beside which pictures are written, when they are asked for."""


@dataclass(frozen=True)
class AnnotationChoice:
    """Which frames and boxes go into files of annotations.

    Attributes:
        pictures: write the frames too, as JPEG.
        every: every N-th frame of the run.
        sure: leave out frames on which an object that is to be seen has a lower score.
        pad: added to each side of a box: pixels as ``4``, or a part of it as ``10%``.
    """

    pictures: bool = False
    every: int = 1
    sure: float = 0.0
    pad: str = "0"

    def __post_init__(self) -> None:
        text = self.pad.strip().removesuffix("%")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e6:
            raise InputError(f"pad is {self.pad!r}; expected pixels as 4, or a part as 10%")
        if self.every < 1:
            raise InputError(f"every is {self.every}; expected 1 or more frames")
        if not 0 <= self.sure <= 1:
            raise InputError(f"sure is {self.sure}; expected a score from 0 to 1")

    def padded(self, box: NDArray[np.float32], size: tuple[int, int]) -> list[float]:
        """A box with its margin, cut at the frame's borders, as x1, y1, x2, y2."""
        value = float(self.pad.strip().removesuffix("%"))
        margin = np.full(2, value)
        if self.pad.strip().endswith("%"):
            margin = (box[2:] - box[:2]) * (value / 100.0)
        wide = np.concatenate([box[:2] - margin, box[2:] + margin])
        cut = clip_box(wide, *size) if value else box
        return [round(float(edge), 3) for edge in cut]

    def takes(self, result: Shown) -> bool:
        """Whether all that is to be seen on a frame is sure enough."""
        return all(each.score >= self.sure for each in result.objects if each.present)


class FrameChoice:
    """Counts frames, and says which are chosen.

    Args:
        choice: the rules.
        done: frames that the run had before, when it is continued.
    """

    def __init__(self, choice: AnnotationChoice, done: int = 0) -> None:
        self.choice, self._count = choice, done

    def chosen(self, result: Shown) -> bool:
        """Whether the next frame is."""
        self._count += 1
        return (self._count - 1) % self.choice.every == 0 and self.choice.takes(result)


def word_of(each: Any) -> str:
    """The class of an object: a detector's word, or the name it was given."""
    word = getattr(each, "class_name", None)
    if word is None:
        word = "object" if each.name == f"object-{each.object_id}" else each.name
    return str(word)


def row_entries(result: Shown, choice: AnnotationChoice) -> list[dict[str, Any]]:
    """The objects to be seen, as lines of the journal have them."""
    return [
        {
            "id": int(each.object_id),
            "class": word_of(each),
            "name": each.name,
            "score": round(float(each.score), 5),
            "box": choice.padded(each.box, result.size),
            "area": int(np.count_nonzero(each.mask)),
            "counts": encode_mask(each.mask) if each.mask.any() else None,
        }
        for each in result.objects if each.present
    ]  # fmt: skip


class JpegFiles(NumberedFiles):
    """The pictures of frames: ``<stem><frame, six digits>.jpg``."""

    def __init__(
        self, folder: Path, *, stem: str = "", append: bool = False, digits: int = 6
    ) -> None:
        super().__init__(folder, ".jpg", append, digits, stem)

    def write(self, number: int, image: NDArray[np.uint8]) -> None:
        """Write one."""
        from PIL import Image

        content = BytesIO()
        Image.fromarray(image).save(content, format="JPEG", quality=_QUALITY, subsampling=0)
        write_file(self._place(number), content.getvalue(), durable=False)


class ComposedFile(JsonLines[Shown]):
    """A file made at the end from a journal of frames.

    Args:
        path: the file.
        compose: writes it: path, frames, and what is known of the video.
        frames: which frames go into it.
        source: name of the video file.
        pictures: where frames go as pictures too.
        append: go on after an interrupted run.
    """

    def __init__(
        self,
        path: Path,
        compose: Callable[[Path, Frames, VideoAbout], None],
        frames: FrameChoice,
        *,
        source: str = "",
        pictures: JpegFiles | None = None,
        append: bool = False,
    ) -> None:
        super().__init__(path.with_name(f".{path.name}.rows.jsonl"), append=append)
        self.path, self._compose, self._choice = path, compose, frames
        self._source, self._pictures = source, pictures
        self._about: VideoAbout | None = None
        self._size = (0, 0)

    def open(self, info: SourceInfo) -> None:
        """Make the journal, and forget the file of an earlier run."""
        fresh = not self._append
        super().open(info)
        if fresh:
            self.path.unlink(missing_ok=True)
        file = self._source or info.name
        self._about = VideoAbout(info.name, file, info.width, info.height, info.fps)
        if self._pictures is not None:
            self._pictures.open(info)

    def write(self, frame: Frame, result: Shown) -> None:
        """Add a frame, where it is chosen."""
        self._resume(result.frame_index)
        if self._pictures is not None:
            self._pictures.go_back(result.frame_index)
        if self._choice.chosen(result):
            if self._pictures is not None:
                self._pictures.write(result.frame_index, frame.image)
            super().write(frame, result)

    def _entries(self, result: Shown) -> list[dict[str, Any]]:
        return [{"size": list(result.size), "objects": row_entries(result, self._choice.choice)}]

    def close(self) -> None:
        """Make the file of all that was written; safe to call twice."""
        super().close()
        about, self._about = self._about, None
        if about is not None:
            with whole_file(self.path) as partial:
                self._compose(partial, self._frames, about)

    def _frames(self) -> Iterator[FrameRows]:
        with self._path.open(encoding="utf-8") as journal:
            for text in journal:
                line = json.loads(text)
                yield line, rows_of(line)


def as_text(write: Callable[..., None], **options: Any) -> Callable[..., None]:
    """A writer of text as one that takes a path."""

    def compose(path: Path, frames: Frames, about: VideoAbout) -> None:
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            write(file.write, frames, about, **options)

    return compose


coco_file = as_text(write_coco)
coco_polygon_file = as_text(write_coco, polygons=True)
cvat_file = as_text(write_cvat)
cvat_polygon_file = as_text(write_cvat, polygons=True)


def labelstudio_file(path: Path, frames: Frames, about: VideoAbout) -> None:
    """Tasks, and beside them the labeling interface they need."""
    as_text(write_labelstudio)(path, frames, about)
    words = dict.fromkeys(row.word for _, rows in frames() for row in rows)
    config = path.with_name(f"{about.name}.config.xml")
    write_file(config, labeling_config(list(words)).encode("utf-8", "backslashreplace"))


class ParquetTable(ComposedFile):
    """A table; it is said before the first frame when pyarrow is not there."""

    def __init__(self, path: Path, frames: FrameChoice, *, append: bool = False) -> None:
        arrow()
        super().__init__(path, lambda at, rows, _: write_parquet(at, rows), frames, append=append)


class NamedThings:
    """Names in the order they came up, kept in a file with the frame of each; survives a kill.

    Args:
        path: of the file.
        append: go on after an interrupted run.
    """

    def __init__(self, path: Path, append: bool) -> None:
        self._file, self._append = LineFile(path, append=append), append
        self.entries: list[dict[str, Any]] = []

    def go_back(self, frame: int) -> bool:
        """Before the first frame: forget what came up on it or later; whether that was now."""
        first, self._append = self._append, False
        if first:
            lines = self._file.keep(lambda _, line: int(json.loads(line)["frame"]) < frame)
            self.entries = [json.loads(line) for line in lines]
        return first

    def add(self, frame: int, **entry: Any) -> bool:
        """Add a thing that is new; whether it was."""
        if any(all(each.get(key) == entry[key] for key in entry) for each in self.entries):
            return False
        self.entries.append({"frame": frame, **entry})
        self._file.write(json.dumps(self.entries[-1], ensure_ascii=False))
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class YoloLabels(NumberedFiles):
    """``labels/<name>_<frame>.txt``, ``images/<name>_<frame>.jpg`` and ``data.yaml``.

    Args:
        folder: where.
        name: of the source.
        frames: which frames.
        segments: outlines instead of boxes.
        append: go on after an interrupted run.
    """

    def __init__(
        self, folder: Path, name: str, frames: FrameChoice, *, segments: bool, append: bool
    ) -> None:
        super().__init__(folder / "labels", ".txt", append, 6, f"{name}_")
        self._root, self._name, self._choice, self._segments = folder, name, frames, segments
        self._fresh = not append
        self._pictures: JpegFiles | None = None
        if frames.choice.pictures:
            self._pictures = JpegFiles(folder / "images", stem=f"{name}_", append=append)
        self._classes: NamedThings | None = None

    def open(self, info: SourceInfo) -> None:
        """Make the folders."""
        super().open(info)
        self._classes = NamedThings(self._root / f".{self._name}.classes.jsonl", not self._fresh)
        if self._pictures is not None:
            self._pictures.open(info)
        if self._fresh:
            self._write_about()

    def write(self, frame: Frame, result: Shown) -> None:
        """Write the labels of a frame, where it is chosen; empty ones where nothing is seen."""
        assert self._classes is not None, "open() comes first"
        number = result.frame_index
        self.go_back(number)
        if self._pictures is not None:
            self._pictures.go_back(number)
        new = self._classes.go_back(number)
        if self._choice.chosen(result):
            line = {"frame": number, "time_s": 0.0, "size": result.size}
            rows = rows_of(line | {"objects": row_entries(result, self._choice.choice)})
            for row in rows:
                new |= self._classes.add(number, name=row.word)
            numbers = {str(each["name"]): n for n, each in enumerate(self._classes.entries)}
            if self._pictures is not None:
                self._pictures.write(number, frame.image)
            lines = label_lines(rows, numbers, segments=self._segments)
            text = "".join(f"{line}\n" for line in lines)
            write_file(self._place(number), text.encode(), durable=False)
        if new:
            self._write_about()

    def _write_about(self) -> None:
        assert self._classes is not None
        names = [str(each["name"]) for each in self._classes.entries]
        listed = "".join(f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(names))
        missing = "# It has no pictures: put them into images/, or run again with --frames.\n"
        text = (
            f"# The pictures of one run: choose others to validate with.\n"
            f"{'' if self._pictures is not None else missing}"
            f"train: images\nval: images\nnames:{'' if names else ' {}'}\n{listed}"
        )
        write_file(self._root / "data.yaml", text.encode(), durable=False)

    def close(self) -> None:
        """Close the list of classes."""
        if self._classes is not None:
            self._classes.close()


class DavisMasks(MaskPng):
    """``Annotations/<name>/00000.png``, ``JPEGImages/<name>/00000.jpg``, ``<name>.objects.jsonl``.

    Args:
        folder: where.
        name: of the source.
        frames: which frames.
        append: go on after an interrupted run.
    """

    def __init__(self, folder: Path, name: str, frames: FrameChoice, *, append: bool) -> None:
        super().__init__(folder / "Annotations" / name, append=append)
        self._root, self._name, self._choice = folder, name, frames
        self._old = append
        self._pictures: JpegFiles | None = None
        if frames.choice.pictures:
            self._pictures = JpegFiles(folder / "JPEGImages" / name, append=append, digits=5)
        self._names: NamedThings | None = None

    def open(self, info: SourceInfo) -> None:
        """Make the folders."""
        super().open(info)
        make_folder(self._root)
        self._names = NamedThings(self._root / f"{self._name}.objects.jsonl", self._old)
        if self._pictures is not None:
            self._pictures.open(info)

    def write(self, frame: Frame, result: Any) -> None:
        """Write the masks of a frame, where it is chosen.

        Raises:
            InputError: for object ids outside 1 to 255, which such a PNG cannot hold.
            SinkError: when it cannot be written.
        """
        assert self._names is not None, "open() comes first"
        self.go_back(result.frame_index)
        self._names.go_back(result.frame_index)
        if self._pictures is not None:
            self._pictures.go_back(result.frame_index)
        if not self._choice.chosen(result):
            return
        super().write(frame, result)
        for each in result.objects:
            if each.present:
                entry = {"id": int(each.object_id), "class": word_of(each), "name": each.name}
                self._names.add(result.frame_index, **entry)
        if self._pictures is not None:
            self._pictures.write(result.frame_index, frame.image)

    def close(self) -> None:
        """Close the list of names."""
        if self._names is not None:
            self._names.close()


def check_pictures(choice: AnnotationChoice, names: list[str]) -> None:
    """Refuse choices that nothing of what is written heeds, and say what is no use by itself.

    Raises:
        InputError: for pictures without a format that has them.
    """
    if choice.pictures and not set(names) & set(WITH_PICTURES):
        raise InputError(
            f"--frames writes pictures beside {', '.join(WITH_PICTURES)}; add one of them to --save"
        )
    if not choice.pictures and (labels := [name for name in names if name.startswith("yolo")]):
        log.warning("%s has labels and no pictures to train with; --frames adds them", labels[0])
