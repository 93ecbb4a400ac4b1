"""One video of many as a job of a worker: the command's own run, in a folder of its own.

A worker that dies costs what its video had done since its last snapshot: whoever takes the video
up again goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vision_mem.batch.inputs import fetch, is_stored
from vision_mem.errors import SinkError, VisionMemError
from vision_mem.evaluation.engine.progress import EvaluationProgress, clock
from vision_mem.evaluation.engine.runner import Advanced, Message
from vision_mem.formats.text import make_folder
from vision_mem.runs.folder import RECORD
from vision_mem.runs.progress import FRAMES_DONE
from vision_mem.text import PrintableStream, read_json

RUNS, LOGS, RESULTS = "runs", "logs", "batch.json"
"""What lies in the folder of a batch: results of each video, what each said, the record."""
_NOTHING_FOUND = 3

RunLine = Callable[[tuple[str, ...]], int]
"""Runs a command with its words, and says the exit code; travels to other processes by name."""


@dataclass(frozen=True)
class CommandRunner:
    """What a worker has: no model, for the command loads its own.

    Attributes:
        device: that its runs are told to use.
    """

    device: str = "auto"

    @property
    def model(self) -> CommandRunner:
        """Itself: a worker says of its model where it runs."""
        return self

    @property
    def traits(self) -> Any:
        """No model's."""
        return SimpleNamespace(model_id="", extra={})


@dataclass(frozen=True)
class VideoJob:
    """One video.

    Attributes:
        name: of the results.
        length: bytes of the video.
        source: as given.
        words: options for the command.
        folder: of the batch.
        command: runs the command.
        kind: its name; ``ask`` goes on by being given the same again.
        device_option: whether the command takes ``--device``, and is not given one.
    """

    name: str
    length: int
    source: str
    words: tuple[str, ...]
    folder: Path
    command: RunLine = field(repr=False)
    kind: str = "track"
    device_option: bool = True

    @property
    def out(self) -> Path:
        """Where its results go."""
        return self.folder / RUNS / self.name

    @property
    def log(self) -> Path:
        """Where goes what the command says."""
        return self.folder / LOGS / f"{self.name}.txt"

    @property
    def record(self) -> Mapping[str, Any]:
        """Of its run; empty where there is none."""
        try:
            return dict(read_json(self.out / RECORD, nan=True))
        except (VisionMemError, ValueError, TypeError, OSError):
            return {}

    def is_whole(self, results: Path = Path(), log: Path = Path()) -> bool:
        """Whether it was done before."""
        del results, log
        return self.record.get("status") == "finished"

    def run(
        self, session: CommandRunner, tell: Callable[[Advanced], None], log: dict[str, Any]
    ) -> dict[str, bytes]:
        """Run the command on the video, or go on with it; see ``runner.Job``.

        Raises:
            VisionMemError: as the command, and when this machine does not see the folder.
        """
        if not (self.folder / RESULTS).is_file():
            raise SinkError(
                f"{self.folder} is not to be seen from this machine; the machines of a cluster "
                "share the folder of a batch: give --out on a disk that all of them have"
            )
        if self.is_whole():  # its worker ended after the last word was written
            return {}
        scratch = self.folder / ".fetched" / self.name
        make_folder(self.log.parent)
        with self.log.open("a", encoding="utf-8", errors="replace") as raw:
            stream: Any = PrintableStream(raw)
            heard = FRAMES_DONE.set(lambda frames: tell(Advanced(self.name, frames)))
            try:
                with redirect_stdout(stream), redirect_stderr(stream):
                    source = self.source
                    if is_stored(source):
                        source = str(fetch(source, scratch))
                    code = self.command(self._line(source, session.device))
            except VisionMemError as error:
                print(f"error: {error}", file=stream)
                raise
            finally:
                FRAMES_DONE.reset(heard)
        shutil.rmtree(scratch, ignore_errors=True)
        log["exit"] = code
        if code not in (0, _NOTHING_FOUND):
            raise VisionMemError(f"stopped before its end; what it said is in {self.log}")
        return {}

    def _line(self, source: str, device: str) -> tuple[str, ...]:
        words = [source, *self.words, "--out", str(self.out)]
        if self.device_option and device != "auto":
            words += ["--device", device]
        if self.kind == "ask":
            words += ["--memory", str(self.out / f"{self.name}.vmem")]
        elif self.out.is_dir() and any(self.out.iterdir()):
            words.append("--resume" if self._goes_on() else "--overwrite")
        return tuple(words)

    def _goes_on(self) -> bool:
        record = self.record
        snapshots = any(self.out.glob("snapshot-*[0-9]"))
        return bool(record) and (snapshots or record.get("status", "running") == "running")

    def outcome(self) -> dict[str, Any]:
        """A row of the summary: how the run went, as far as its record says."""
        record, objects = self.record, self.record.get("objects")
        counts = list(objects.values()) if isinstance(objects, dict) else []
        number = objects if isinstance(objects, int) else len(counts) if objects else ""

        def total(key: str) -> Any:
            numbers = [each[key] for each in counts if isinstance(each, dict) and key in each]
            return sum(numbers) if numbers else ""

        return {
            "file": self.source, "results": f"{RUNS}/{self.name}",
            "status": record.get("status", "not begun"), "frames": record.get("frames", ""),
            "seconds": record.get("seconds", ""), "objects": number,
            "times lost": total("lost"), "frames unsure": total("unsure"),
        }  # fmt: skip


def with_threads(job: VideoJob, threads: int) -> VideoJob:
    """The job with so many threads on a CPU."""
    return replace(job, words=(*job.words, "--threads", str(threads)))


class BatchProgress(EvaluationProgress):
    """How a batch is going: videos, frames of all of them, and the time left by their bytes."""

    def __init__(self, jobs: list[VideoJob], *, done: int = 0, show: bool = True) -> None:
        super().__init__(jobs, done=done, title="videos", show=show)
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def hear(self, message: Message) -> None:
        """Count what happened and, when it is time, say how things stand."""
        if isinstance(message, Advanced):
            self._first.setdefault(message.sequence, message.frames - 1)
            self._last[message.sequence] = message.frames
            self._show_line()
        else:
            super().hear(message)

    def _line(self) -> str:
        behind = self._done + self.finished + len(self.failed)
        parts = [f"video {behind}/{self._done + len(self._lengths)}"]
        frames = sum(last - self._first[name] for name, last in self._last.items())
        if frames:
            parts.append(f"{frames / self.seconds:.1f} frames/s")
        share = self._settled / max(self.total, 1)
        if 0 < share < 1:
            parts.append(f"{clock(round(self.seconds * (1 - share) / share))} left")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)
