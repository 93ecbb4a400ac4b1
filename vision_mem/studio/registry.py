"""All streams of a studio: opened from what people name, found again after a restart."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.config import is_object_name
from vision_mem.errors import InputError, SourceError, VisionMemError
from vision_mem.formats.text import write_file
from vision_mem.models.segmenters.protocol import Segmenter
from vision_mem.runs.folder import without_secret
from vision_mem.sources.images import IMAGE_SUFFIXES
from vision_mem.sources.open import open_source
from vision_mem.sources.selection import file_name, is_url
from vision_mem.studio.commands import EditPlan, StudioCommand
from vision_mem.studio.frames import FileFrames, Frames, LiveFrames, PushedFrames
from vision_mem.studio.object_sessions import Lane, SharedFeatures
from vision_mem.studio.questions import StreamQuestions
from vision_mem.studio.stream import StreamActor
from vision_mem.tracking.config import TrackingConfig
from vision_mem.types import Frame, Prompt

BROWSER, DEMO, UPLOAD = "browser", "demo", "upload:"
MOST_STREAMS = 16
MOST_UPLOADS, LARGEST_UPLOAD = 64, 2 << 30
_ABOUT, _UPLOADS = "stream.json", "uploads"
_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt", "tcp")
_VIDEOS = (
    ".mp4",
    ".mkv",
    ".mov",
    ".avi",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mjpeg",
    ".gif",
)
_LISTED = 500


@dataclass
class Stream:
    """One stream of the page.

    Attributes:
        id: in addresses.
        source: as named.
        actor: follows.
        memory: can be asked; None where there is no model for it.
        file: what is read again for exports; None for live streams.
    """

    id: str
    source: str
    actor: StreamActor
    memory: StreamQuestions | None = None
    file: str | None = None

    def close(self) -> None:
        """Finish everything."""
        if self.memory is not None:
            self.memory.close()
        self.actor.close()


@dataclass
class Studio:
    """What the server serves.

    Attributes:
        segmenter: one for all streams.
        config: of the sessions.
        root: files of the server are taken from below it only.
        out: folder of results; each stream has a folder in it.
        budget: bytes a stream may hold for going back.
        detector: word of the detector that follows everything.
        make_detector: makes it, of a word and classes.
        open_memory: makes what is asked; None for nothing.
        convention: how files of boxes count widths.
        decoder: of video files.
    """

    segmenter: Segmenter
    config: TrackingConfig
    root: Path
    out: Path
    budget: int = 512 << 20
    detector: str = "motion"
    make_detector: Callable[[str, list[str]], Any] | None = None
    open_memory: Callable[[], Any] | None = None
    convention: str = "true"
    decoder: str = "auto"
    streams: dict[str, Stream] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _filming: threading.Lock = field(default_factory=threading.Lock)

    def open(self, source: str, stream_id: str | None = None, trusted: bool = False) -> Stream:
        """Open a stream, or go on with one whose folder is there.

        Args:
            source: a file below ``root``, ``upload:NAME``, a camera's number, an address,
                ``browser`` for the webcam of the page, or ``demo``.
            stream_id: of the stream to go on with; None for a new one.
            trusted: named by whoever started the server, who may read any file of theirs.

        Raises:
            VisionMemError: when it cannot be opened, or is none that may be.
        """
        with self._lock:
            if len(self.streams) >= MOST_STREAMS:
                raise InputError(f"{MOST_STREAMS} streams are open already; close one first")
            if trusted and Path(source).expanduser().exists():
                source = spec = str(Path(source).expanduser().resolve())
            else:
                spec = self.resolve(source)
            stream_id = stream_id or self._new_id(source)
            folder = self.out / stream_id
            file: str | None = None

            def frames(wake: Callable[[], None], first: int, size: tuple[int, int]) -> Frames:
                nonlocal file
                if source == BROWSER:
                    return PushedFrames("webcam", wake, first, size)
                opened = open_source(spec, decoder=self.decoder)
                if opened.info.live:
                    return LiveFrames(opened, wake, first, size)
                opened.close()
                file = spec
                return FileFrames(spec, decoder=self.decoder)

            memory = None if self.open_memory is None else StreamQuestions(self.open_memory)
            try:
                actor = StreamActor(
                    self._title(source), frames, self.segmenter, self.config, folder,
                    budget=self.budget, detect=self.make_detector,
                    watch=None if memory is None else memory.look,
                )  # fmt: skip
            except BaseException:
                if memory is not None:
                    memory.close()
                with suppress(OSError):
                    for made in (folder / "objects", folder):
                        made.rmdir()
                raise
            about = {"source": without_secret(source), "name": actor.name}
            write_file(folder / _ABOUT, json.dumps(about).encode())
            stream = Stream(stream_id, without_secret(source), actor, memory, file)
            self.streams[stream_id] = stream
            actor.start()
            return stream

    def warm_up(self) -> None:
        """Follow a square for two frames: a network's first ones take a second longer."""
        image = np.full((96, 160, 3), 90, np.uint8)
        image[30:60, 40:80] = (220, 40, 40)
        said = StudioCommand("prompt", 0, 1, prompt=Prompt(box=np.array([40, 30, 80, 60])))
        plan = EditPlan().after(said).objects[1]
        lane = Lane(SharedFeatures(self.segmenter), self.config, keep=False)
        for index in range(2):
            lane.step(Frame(index, index / 30, image), plan)

    def resume(self, folder: Path) -> list[Stream]:
        """Go on with all streams of an earlier studio.

        Raises:
            InputError: when there is none.
        """
        found = sorted(folder.glob(f"*/{_ABOUT}"))
        if not found:
            raise InputError(f"{folder} holds no studio to go on with; leave out --resume")
        opened = []
        for path in found:
            with suppress(ValueError, KeyError):
                about = json.loads(path.read_text(encoding="utf-8"))
                try:
                    opened.append(self.open(str(about["source"]), path.parent.name, trusted=True))
                except VisionMemError as error:
                    print(f"note: {path.parent.name} cannot go on: {error}")
        return opened

    def get(self, stream_id: str) -> Stream:
        """A stream.

        Raises:
            KeyError: when there is none of that name.
        """
        return self.streams[stream_id]

    def close(self, stream_id: str) -> None:
        """Close a stream; its files stay."""
        with self._lock:
            stream = self.streams.pop(stream_id)
        stream.close()

    def close_all(self) -> None:
        """Finish all files."""
        for stream in list(self.streams.values()):  # all at a time, not one after the other
            stream.actor.ask_to_close()
            if stream.memory is not None:
                stream.memory.ask_to_close()
        for stream_id in list(self.streams):
            with suppress(KeyError):
                self.close(stream_id)

    # -- what may be opened --------------------------------------------------------------------

    def resolve(self, source: str) -> str:
        """What a named source is to ``open_source``.

        Raises:
            VisionMemError: for what is not there, or not to be had from here.
        """
        if not source or len(source) > 2000 or not source.isprintable():
            raise InputError("the source is empty or no text; expected a file, camera or address")
        if source == BROWSER:
            return source
        if source == DEMO:
            return str(self.film_demo())
        if source.startswith(UPLOAD):
            return str(self._below(self.out / _UPLOADS, source.removeprefix(UPLOAD)))
        if source.isdecimal():
            return source
        if is_url(source):
            if source.partition("://")[0].lower() not in _SCHEMES:
                raise InputError(f"the address must begin with one of {', '.join(_SCHEMES)}")
            return source
        if is_object_name(source) and not (self.root / source).exists():
            raise InputError("code is not run from the page; name a file, camera or address")
        return str(self._below(self.root, source))

    def _below(self, folder: Path, name: str) -> Path:
        folder = folder.resolve()
        try:
            path = (folder / Path(name).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError):
            raise InputError("the path cannot be read; name a file") from None
        if folder != path and folder not in path.parents:
            raise InputError(
                f"{name} is not below the folder that is served; start with --root to serve another"
            )
        if not path.exists():
            raise SourceError(f"{name}: no such file or folder below the folder that is served")
        if not (path.is_file() or path.is_dir()):
            raise InputError(f"{name} is no file and no folder of images")
        return path

    def files(self, place: str = "") -> list[dict[str, Any]]:
        """What can be opened in a folder below ``root``: folders, videos, images' folders."""
        folder = self._below(self.root, place or ".")
        if not folder.is_dir():
            raise InputError(f"{place} is no folder")
        found: list[dict[str, Any]] = []
        root = self.root.resolve()
        for path in sorted(folder.iterdir(), key=lambda each: (each.is_file(), each.name.lower())):
            if path.name.startswith(".") or len(found) >= _LISTED:
                continue
            inside = path.resolve()
            if root not in inside.parents:
                continue
            if path.is_dir():
                pictures = any(p.suffix.lower() in IMAGE_SUFFIXES for p in _some(path))
                kind = "images" if pictures else "folder"
            elif path.suffix.lower() in _VIDEOS:
                kind = "video"
            else:
                continue
            found.append(
                {"name": path.name, "path": str(path.relative_to(self.root)), "kind": kind}
            )
        return found

    def new_upload(self, name: str) -> Path:
        """Where an uploaded file is to be written.

        Raises:
            InputError: for a name without a video's ending, or when there are too many.
        """
        suffix = Path(name).suffix.lower()
        if suffix not in (*_VIDEOS, *IMAGE_SUFFIXES):
            raise InputError(
                "the file is no video by its name; expected .mp4, .mkv, .mov, .webm ..."
            )
        folder = self.out / _UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.iterdir())) >= MOST_UPLOADS:
            raise InputError(f"{MOST_UPLOADS} files were uploaded already; remove some in {folder}")
        stem = file_name(Path(name).stem)[:60]
        number = 1
        while (path := folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}").exists():
            number += 1
        return path

    def film_demo(self) -> Path:
        """The demo clip; the photographs and their film take some seconds the first time."""
        path = self.out / _UPLOADS / "cup.mp4"
        with self._filming:
            if not path.exists():
                from vision_mem.synthetic.clips import demo_clip
                from vision_mem.visualization.contact_sheet import write_video

                path.parent.mkdir(parents=True, exist_ok=True)
                clip = demo_clip()
                partial = path.with_name("cup.partial.mp4")
                write_video(partial, clip.frames(), clip.info.fps)
                partial.rename(path)
        return path

    def _title(self, source: str) -> str:
        if source == BROWSER:
            return "webcam"
        if source == DEMO:
            return "demo clip"
        if source.isdecimal():
            return f"camera {source}"
        if is_url(source):
            return without_secret(source)
        return Path(source.removeprefix(UPLOAD)).name

    def _new_id(self, source: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", file_name(self._title(source)).lower()).strip("-")[:40]
        base = base or "stream"
        number = 1
        while True:
            name = base if number == 1 else f"{base}-{number}"
            if name != _UPLOADS and name not in self.streams and not (self.out / name).exists():
                return name
            number += 1

    def metrics(self) -> str:
        """Prometheus text."""
        rows = {"vision_mem_studio_streams": {"": len(self.streams)}}
        kinds: Mapping[str, str] = {
            "fps_in": "frames_in_per_second", "fps_followed": "frames_followed_per_second",
            "dropped": "frames_left_out_total", "reconnects": "reconnects_total",
            "delay_s": "delay_seconds", "memory": "memory_bytes", "budget": "memory_budget_bytes",
            "commands": "commands_total", "uptime_s": "uptime_seconds",
        }  # fmt: skip
        for stream in list(self.streams.values()):
            label = f'{{stream="{stream.id}"}}'
            status = stream.actor.status
            for key, name in kinds.items():
                rows.setdefault(f"vision_mem_studio_{name}", {})[label] = status.get(key) or 0
            count = len(status.get("objects", []))
            rows.setdefault("vision_mem_studio_objects", {})[label] = count
        lines = []
        for name, values in rows.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE {name} {kind}", *(f"{name}{k} {v}" for k, v in values.items())]
        return "\n".join(lines) + "\n"


def _some(folder: Path) -> Sequence[Path]:
    with suppress(OSError):
        return [path for path, _ in zip(folder.iterdir(), range(20), strict=False)]
    return []
