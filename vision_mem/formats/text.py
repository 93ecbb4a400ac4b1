"""Text files that grow by whole lines and stay valid, and the lines of others."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vision_mem.errors import NotUsable, SinkError
from vision_mem.text import parse_json, read_text


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines that are not empty."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.strip()
        if line:
            yield number, line


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers from 1 and JSON values: one a line, or the items of one list.

    Raises:
        InputError: for a damaged line.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        yield from enumerate(parse_json(text, str(path)), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, parse_json(line, f"{path} line {number}")


_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def record_text(text: str) -> str:
    """The text with what breaks a line, or steers a terminal, as blanks: a record stays a line."""
    return _BREAKS.sub(" ", text)


def csv_line(values: Iterable[Any]) -> str:
    """One row of CSV, without the line's end.

    Words that a spreadsheet would run as a formula get an apostrophe before them; numbers stay.
    """
    cells = [_csv_cell(value) if isinstance(value, str) else value for value in values]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _csv_cell(text: str) -> str:
    # Full-width signs count as well: spreadsheets of East Asia read them.
    formula = re.match(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", text)
    number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text)
    return f"'{record_text(text)}" if formula and not number else record_text(text)


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no more room: no slip in what was typed."""


def sink_error(path: str | Path, error: BaseException) -> SinkError:
    """One line for a failed write: what, why, what to do.

    Args:
        path: the file or folder.
        error: what the system said.
    """
    code = getattr(error, "errno", None) or 0
    remedies = {
        errno.ENOSPC: "no space left; free some, results so far are kept",
        errno.EDQUOT: "disk quota used up; free some space, results so far are kept",
        errno.EFBIG: "the file reached the largest size allowed; results so far are kept",
        errno.EACCES: "no permission; choose another output folder",
        errno.EPERM: "no permission; choose another output folder",
        errno.ENOENT: "its folder is not there, or is gone; choose another output folder",
        errno.EROFS: "the file system is read-only; choose another output folder",
        errno.ENOTDIR: "a file is in the way of a folder; choose another output folder",
        errno.EEXIST: "a file is in the way of a folder; choose another output folder",
        errno.EISDIR: "a folder is in the way of a file; choose another output folder",
    }
    reason = remedies.get(code) or " ".join(str(error).split()) or type(error).__name__
    kind = NotUsable if code in remedies and code not in FULL else SinkError
    return kind(f"{path} cannot be written: {reason}")


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        SinkError: when that cannot be done.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise sink_error(path, error) from None


def scratch_prefix() -> str:
    """How a temporary folder of this process begins; those of killed ones are removed first."""
    import psutil

    for left in Path(tempfile.gettempdir()).glob("vision-mem-*-*"):
        owner = left.name.split("-")[2]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return f"vision-mem-{os.getpid()}-"


class LineFile:
    """A text file written line by line, each in one system call.

    A line is in the system's hands when ``write`` returns, so that killing the program loses
    none; a line that fits only in part (disk full) is taken back.

    Args:
        path: the file; its folder is made.
        append: keep what is there, less a last line cut short; otherwise start empty.

    Raises:
        SinkError: when it cannot be written.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        make_folder(path.parent)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(path, flags if append else flags | os.O_TRUNC, 0o666)
        except OSError as error:
            raise sink_error(path, error) from None
        self._end = 0
        if append:
            self.keep(lambda number, line: True)

    def keep(self, wanted: Callable[[int, str], bool]) -> list[str]:
        """Keep the leading lines for which ``wanted(number from 0, line)``; drop the rest.

        A line that ``wanted`` cannot make sense of (foreign or damaged) is not kept.

        Returns:
            The lines kept.
        """
        kept: list[str] = []
        end = 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file):
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                try:
                    good = raw.endswith(b"\n") and wanted(number, line)
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    good = False
                if not good:
                    break
                kept.append(line)
                end += len(raw)
        self._end = end
        os.ftruncate(self._file, end)
        return kept

    def write(self, *lines: str) -> None:
        """Add lines.

        Raises:
            SinkError: when the disk is full or gone; the lines before stay valid.
        """
        # Half a letter, from a name that is no UTF-8, is spelled as JSON does it.
        data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        try:
            os.lseek(self._file, self._end, os.SEEK_SET)
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise sink_error(self.path, error) from None
        self._end += len(data)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write a long file to, which takes its name when all of it is there.

    Args:
        path: what it becomes; its folder is made.

    Raises:
        SinkError: when it cannot be written.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and not isinstance(error, SinkError):
            raise sink_error(path, error) from None
        raise


def write_file(path: Path, content: bytes, *, mark: str = "", durable: bool = True) -> None:
    """Write a file that is there whole or not at all.

    Args:
        path: the file; its folder is there.
        content: all of it.
        mark: tells the partial file from that of another writer of the same file.
        durable: wait until the disk has it, so that a power cut keeps the old file or the new
            one; without, only a killed program does, which is enough for one image of many.

    Raises:
        SinkError: when it cannot be written.
    """
    # Named after what it becomes: what a killed run left behind is used up by the next one.
    partial = path.with_name(f".{path.name}{mark}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise sink_error(path, error) from None
