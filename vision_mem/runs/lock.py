"""One writer at a time: a lock file beside what is written, which names its owner."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from vision_mem.errors import NotUsable, SinkError


class FileLock:
    """An exclusive lock that the system takes back when its process ends, however that happens.

    Args:
        path: what is locked; the lock is ``<path>.lock`` beside it until ``close``.
        what: its name in messages, as ``map home.map``.
        instead: what else can be done, as ``or choose another --out``.

    Raises:
        SinkError: when another process holds it.
        NotUsable: when the lock file cannot be written.
    """

    def __init__(self, path: Path, what: str, instead: str) -> None:
        self._place = path.with_name(path.name + ".lock")
        while True:
            try:
                self._stream: IO[str] = self._place.open("a+", encoding="utf-8")
            except OSError as error:
                raise NotUsable(
                    f"{what} cannot be written: {error.strerror}; check folder and permissions"
                ) from error
            try:
                _take(self._stream)
            except OSError as error:
                self._stream.seek(0)
                owner = self._stream.read(20).strip() or "unknown"
                self._stream.close()
                raise SinkError(
                    f"{what} is being written by process {owner}; wait for it, {instead}"
                ) from error
            if self._is_there():
                break
            self._stream.close()  # its last owner removed it between our opening and locking it
        self._stream.seek(0)
        self._stream.truncate()
        self._stream.write(f"{os.getpid()}\n")
        self._stream.flush()

    def close(self) -> None:
        """Let others write; safe to call twice."""
        if not self._stream.closed:
            with suppress(OSError):  # Windows removes no file that is open
                self._place.unlink()
            self._stream.close()

    def _is_there(self) -> bool:
        """Whether the file that is locked is the one that others will find."""
        try:
            return os.path.samestat(os.fstat(self._stream.fileno()), self._place.stat())
        except OSError:
            return False


def _take(stream: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        stream.seek(64)  # beyond the owner's number, which others may want to read
        getattr(msvcrt, "locking")(stream.fileno(), 2, 1)  # noqa: B009
        return
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
