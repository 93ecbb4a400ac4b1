"""CVAT's XML for video, version 1.1: a track an object, a box or polygon a frame.

Source: CVAT's manual, "XML annotation format", mode ``interpolation``. Every frame has its shape,
as in CVAT's own exports; those that an annotator has to look at are marked as keyframes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.errors import InputError
from vision_mem.formats.annotation_rows import (
    AnnotationRow,
    Frames,
    VideoAbout,
    by_object,
    keyframes,
)
from vision_mem.formats.rle import read_mask
from vision_mem.formats.text import record_text
from vision_mem.geometry.masks import joined_outline

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def write_cvat(
    write: Callable[[str], Any], frames: Frames, about: VideoAbout, *, polygons: bool = False
) -> None:
    """Write the tracks of one video.

    Args:
        write: takes the next piece of text.
        frames: of the journal; gone through twice.
        about: the video.
        polygons: an outline a frame instead of boxes; all of them are keyframes, since outlines
            cannot be interpolated. Parts and holes of a mask are joined into one outline.
    """
    end = 0
    words: dict[str, None] = {}
    for line, rows in frames():
        end = line["frame"]
        words |= dict.fromkeys(row.word for row in rows)
    labels = "".join(
        f"<label><name>{_said(word)}</name><type>{'polygon' if polygons else 'rectangle'}</type>"
        "<attributes><attribute><name>name</name><mutable>False</mutable>"
        "<input_type>text</input_type><default_value></default_value><values></values>"
        "</attribute></attributes></label>\n"
        for word in words
    )
    write(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><name>{_said(about.name)}</name><size>{end + 1}</size>"
        f"<mode>interpolation</mode><overlap>0</overlap><bugtracker></bugtracker>"
        f"<start_frame>0</start_frame><stop_frame>{end}</stop_frame><frame_filter></frame_filter>"
        f"\n<labels>\n{labels}</labels>\n<original_size><width>{about.width}</width>"
        f"<height>{about.height}</height></original_size></task>"
        f"<source>{_said(about.file)}</source></meta>\n"
    )
    for number, (_, track) in enumerate(by_object(frames)):
        head = True
        marked = ((row, True) for row in track) if polygons else keyframes(track)
        for row, key in marked:
            if head:
                write(f'<track id="{number}" label="{_said(row.word)}" source="auto">\n')
                head = False
            write(_shape(row, key, polygons))
        write("</track>\n")
    write("</annotations>\n")


def _shape(row: AnnotationRow, key: bool, polygons: bool) -> str:
    flags = (
        f'frame="{row.frame}" keyframe="{int(key)}" outside="{int(row.outside)}" occluded="0" '
        'z_order="0"'
    )
    name = f'<attribute name="name">{_said(row.name)}</attribute>'
    if polygons and row.counts is not None:
        corners = joined_outline(read_mask(row.counts, row.size).mask(0)).tolist()
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners)
        return f'<polygon {flags} points="{points}">{name}</polygon>\n'
    x1, y1, x2, y2 = row.box
    place = f'xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}"'
    return f"<box {flags} {place}>{name}</box>\n"


def _said(text: str) -> str:
    return escape(record_text(text).encode("utf-8", "replace").decode())


def read_cvat(path: Path) -> Iterator[AnnotationRow]:
    """Rows of a file of CVAT, for video or for images, in the order of the file.

    Polygons count as their bounds and keep their outline in ``counts`` as ``x,y;x,y``. Shapes of
    images have ids of their own.

    Raises:
        InputError: when it is damaged or something else.
    """
    from xml.etree.ElementTree import ParseError  # help of the commands does without

    try:
        with path.open("rb") as file:
            if b"<!DOCTYPE" in file.read(4096).upper():
                raise InputError(f"{path} declares a document type, which CVAT's files never do")
        yield from _elements(path)
    except ParseError as error:
        raise InputError(f"{path} is not whole XML ({error}); export it again") from None
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not XML as CVAT 1.1 writes it: {said}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _elements(path: Path) -> Iterator[AnnotationRow]:
    from xml.etree import ElementTree

    track: tuple[int, str] | None = None
    image: int | None = None
    single = 0
    root = None
    for event, element in ElementTree.iterparse(path, events=("start", "end")):
        if root is None:
            root = element
            if element.tag != "annotations":
                raise ValueError(f"it begins with {element.tag[:40]}")
        if event == "start":
            if element.tag == "track":
                track = int(element.attrib["id"]), element.attrib["label"]
            elif element.tag == "image":
                image = int(element.attrib["id"])
            continue
        if element.tag in ("box", "polygon") and (track is not None or image is not None):
            if track is None:
                single += 1
                identity, word, frame = -single, element.attrib["label"], image or 0
            else:
                (identity, word), frame = track, int(element.attrib["frame"])
            names = [a.text or "" for a in element.iter("attribute") if a.get("name") == "name"]
            yield _read_shape(element, identity, word, frame, names[0] if names else word)
        if element.tag in ("track", "image"):
            track = image = None
            root.clear()


def _read_shape(element: Element, identity: int, word: str, frame: int, name: str) -> AnnotationRow:
    about = element.attrib
    outline = None
    if element.tag == "polygon":
        outline = about["points"]
        pairs = [pair.split(",") for pair in outline.split(";")]
        xs, ys = [float(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs]
        box = min(xs), min(ys), max(xs), max(ys)
    else:
        box = (
            float(about["xtl"]), float(about["ytl"]), float(about["xbr"]), float(about["ybr"])
        )  # fmt: skip
    return AnnotationRow(
        frame, identity, word, name or word, box, counts=outline,
        outside=about.get("outside") == "1",
    )  # fmt: skip
