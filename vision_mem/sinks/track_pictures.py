"""Pictures of each track of a run: a contact sheet of crops, and a page with a row a track.

Both are made from the same few crops. They are chosen while the stream runs, so that memory does
not grow: the best ones of each track, apart in time, as JPEG. What is on disk reaches as far as
the last snapshot whatever happens after it, and a run that is continued takes them from there.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, ModelError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.results import ShownTrack, ShownTracks
from vision_mem.text import read_json
from vision_mem.types import Frame, SourceInfo
from vision_mem.visualization.contact_sheet import from_jpeg, to_jpeg, track_sheet
from vision_mem.visualization.html_report import TrackRow, track_page

MOST_TRACKS = 500
"""Tracks with pictures at a time; of more, those go that were seen least and are over."""
_CROPS = 4
_HEIGHT, _WIDTH = 128, 192  # of a crop at most, pixels
_MARGIN = 0.08  # around a box, share of its sides
_CUT = 0.4  # what a crop at the picture's edge counts
_CLEARLY = 1.2  # times as good as the one it takes the place of
_LOOK_EVERY = 5  # frames between two looks at a track that has a picture
_APART_S = 1.0  # between two crops of a track, and an eighth of its life
_SPANS = 40  # parts of a time line
_GAP_S = 0.5  # out of sight for longer is a gap in it
_ON_A_SHEET = 60


@dataclass
class _Crop:
    """A picture of a track: how good it is, when it was, and its JPEG."""

    worth: float
    time_s: float
    jpeg: bytes


@dataclass
class _Shots:
    """What is kept of a track.

    Attributes:
        name, class_name: words for people.
        spans: ``[begin, end]`` in seconds of when it was to be seen.
        frames: on which it was.
        looked: how many of them when its picture was last thought of.
        crops: at most ``_CROPS``, by time.
    """

    name: str
    class_name: str
    spans: list[list[float]]
    frames: int = 0
    looked: int = -_LOOK_EVERY
    crops: list[_Crop] = field(default_factory=list)

    def see(self, each: ShownTrack, frame: Frame, time_s: float) -> None:
        """Take in a frame on which the track is to be seen."""
        self.name, self.class_name = each.name, each.class_name
        self.frames += 1
        if time_s - self.spans[-1][1] > _GAP_S:
            self.spans.append([time_s, time_s])
        self.spans[-1][1] = max(time_s, self.spans[-1][0])
        if len(self.spans) > _SPANS:
            gaps = [b[0] - a[1] for a, b in zip(self.spans, self.spans[1:], strict=False)]
            at = int(np.argmin(gaps))
            self.spans[at : at + 2] = [[self.spans[at][0], self.spans[at + 1][1]]]
        if self.frames - self.looked >= _LOOK_EVERY:
            self.looked = self.frames
            self._consider(each, frame, time_s)

    def _consider(self, each: ShownTrack, frame: Frame, time_s: float) -> None:
        height, width = frame.image.shape[:2]
        x1, y1, x2, y2 = (float(value) for value in each.box)
        cut = x1 <= 1 or y1 <= 1 or x2 >= width - 1 or y2 >= height - 1
        worth = float(each.score) * max((x2 - x1) * (y2 - y1), 0.0) ** 0.5 * (_CUT if cut else 1.0)
        apart = max(_APART_S, (time_s - self.spans[0][0]) / 8)
        near = [one for one in self.crops if abs(one.time_s - time_s) < apart]
        if near or len(self.crops) >= _CROPS:
            rival = min(near or self.crops, key=lambda one: one.worth)
            if worth < _CLEARLY * rival.worth:
                return
            self.crops.remove(rival)
        picture = _cropped(frame.image, (x1, y1, x2, y2))
        if picture is not None:
            self.crops.append(_Crop(worth, time_s, to_jpeg(picture)))
            self.crops.sort(key=lambda one: one.time_s)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        crops = [[c.worth, c.time_s, base64.b64encode(c.jpeg).decode()] for c in self.crops]
        return vars(self) | {"crops": crops}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> _Shots:
        """Rebuild from ``as_dict``."""
        crops = [
            _Crop(float(worth), float(at), base64.b64decode(jpeg))
            for worth, at, jpeg in values["crops"]
        ]
        return cls(**{**values, "crops": crops})


class TrackPictures:
    """Collects crops of tracks, and writes them when the run ends and with each snapshot.

    Args:
        path: the page, ``.html``; or the folder of the contact sheets.
        title: the name of the source.
    """

    def __init__(self, path: str | Path, title: str) -> None:
        self.path, self._title = Path(path), title
        self._tracks: dict[int, _Shots] = {}
        self._left_out = 0
        self._time: tuple[float, float] | None = None
        self._new = False

    def open(self, info: SourceInfo) -> None:
        """Make the folder."""
        make_folder(self.path if self._as_sheets else self.path.parent)

    @property
    def _as_sheets(self) -> bool:
        return self.path.suffix != ".html"

    def write(self, frame: Frame, result: ShownTracks) -> None:
        """Take in one frame."""
        now = float(result.time_s)
        self._time = (now, now) if self._time is None else (self._time[0], max(now, self._time[1]))
        self._new = True
        for each in result.objects:
            if not each.present:
                continue
            if each.object_id not in self._tracks:
                self._make_room({one.object_id for one in result.objects})
                kind = each.class_name
                self._tracks[each.object_id] = _Shots(each.name, kind, [[now, now]])
            self._tracks[each.object_id].see(each, frame, now)

    def _make_room(self, here: set[int]) -> None:
        if len(self._tracks) < MOST_TRACKS:
            return
        over = [key for key in self._tracks if key not in here] or list(self._tracks)
        del self._tracks[min(over, key=lambda key: (self._tracks[key].frames, key))]
        self._left_out += 1

    def flush(self) -> None:
        """Write what there is so far."""
        if not self._new:
            return
        self._new = False
        rows = [
            TrackRow(
                key, one.name, one.class_name, one.frames, [(a, b) for a, b in one.spans],
                [(crop.time_s, crop.jpeg) for crop in one.crops],
            )
            for key, one in sorted(self._tracks.items())
        ]  # fmt: skip
        time_s = self._time or (0.0, 0.0)
        if not self._as_sheets:
            page = track_page(self._title, rows, time_s, self._left_out)
            write_file(self.path, page.encode(), durable=False)
            return
        sheets = [rows[at : at + _ON_A_SHEET] for at in range(0, len(rows), _ON_A_SHEET)]
        for number, some in enumerate(sheets, start=1):
            sheet = track_sheet([
                (row.object_id, row.name, [from_jpeg(jpeg) for _, jpeg in row.crops])
                for row in some
            ])  # fmt: skip
            write_file(self._sheet(number), to_jpeg(sheet), durable=False)
        number = len(sheets) + 1
        while self._sheet(number).exists():  # of an earlier run
            self._sheet(number).unlink()
            number += 1

    def _sheet(self, number: int) -> Path:
        return self.path / f"{self._title}_{number:02}.jpg"

    def keep(self, place: Path) -> None:
        """Write what is remembered into the folder of a snapshot."""
        state = {
            "tracks": {str(key): one.as_dict() for key, one in self._tracks.items()},
            "left_out": self._left_out,
            "time": self._time,
        }
        write_file(place / self._kept, json.dumps(state).encode(), durable=False)

    def recall(self, place: Path) -> None:
        """Go on from what ``keep`` wrote; without it, pictures begin anew."""
        with contextlib.suppress(
            OSError, ValueError, TypeError, AttributeError, KeyError, InputError, ModelError
        ):
            state = read_json(place / self._kept)
            tracks = {int(key): _Shots.from_dict(one) for key, one in state["tracks"].items()}
            times = None if state["time"] is None else (*map(float, state["time"]),)
            self._tracks, self._left_out = tracks, int(state["left_out"])
            self._time = None if times is None else (times[0], times[1])
            self._new = True

    @property
    def _kept(self) -> str:
        return f"{'crops' if self._as_sheets else 'page'}.pictures.json"

    def close(self) -> None:
        """Write the end. Safe to call twice."""
        self.flush()


def _cropped(image: NDArray[np.uint8], box: Iterable[float]) -> NDArray[np.uint8] | None:
    """A box of a picture with a margin, no larger than a crop may be; None without a pixel."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    more_x, more_y = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
    left, right = (int(np.clip(v, 0, width)) for v in (x1 - more_x, np.ceil(x2 + more_x)))
    top, bottom = (int(np.clip(v, 0, height)) for v in (y1 - more_y, np.ceil(y2 + more_y)))
    if right <= left or bottom <= top:
        return None
    part = np.ascontiguousarray(image[top:bottom, left:right])
    scale = min(1.0, _HEIGHT / part.shape[0], _WIDTH / part.shape[1])
    if scale == 1.0:
        return part
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
