"""Files of copies of benchmarks and of trackers' results: in a folder, in a ZIP, or in part of one.

Nobody vouches for them: archives may be damaged, encrypted or packed with a folder too many, files
far too large.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

from vision_mem.errors import InputError

MAX_BYTES = 64 << 20
"""A file larger than this is no truth or result; the largest known have a few MB."""

_UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_GENERIC = ("results", "data")  # folders that trackers' results lie in, whoever's they are

_Tracker = TypeVar("_Tracker", bound="TrackerFiles")


class FileTree:
    """The files below a folder, or in a ZIP archive, by their names.

    Names have forward slashes and no ``./`` in front. An archive with a single folder at its top
    is read as if that folder were the archive. Hidden files are not there. Nothing is unpacked;
    archives stay open until ``close``.

    Args:
        root: a folder, a ``.zip`` file, or a folder inside one (``results.zip/LaSOT/ATOM``).

    Raises:
        InputError: when it is none of them, or a damaged archive.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._inside = ""
        if root.is_dir():
            return
        packed = next((each for each in (root, *root.parents) if each.is_file()), None)
        if packed is None:
            raise InputError(f"{root}: no such folder or ZIP archive; check the path")
        self._packed = packed
        try:
            self._archive = zipfile.ZipFile(packed)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise InputError(f"{packed} is neither a folder nor a readable ZIP: {error}") from None
        members = {
            PurePosixPath(info.filename).as_posix(): info
            for info in self._archive.infolist()
            if not info.is_dir()
        }
        if packed != root:
            self._inside = root.relative_to(packed).as_posix()
            self._members = _below(self._inside, members)
            if not self._members:
                self.close()
                raise InputError(f"{root}: {packed.name} has no folder {self._inside}")
            return
        self._members = _below("", members)
        tops = {name.split("/", 1)[0] for name in self._members}
        if len(tops) == 1 and all("/" in name for name in self._members):
            self._inside = tops.pop()
            self._members = _below(self._inside, members)

    def place(self, name: str) -> Path:
        """The path of a file or folder, inside the archive if it is in one."""
        return (self.root if self._archive is None else self._packed / self._inside) / name

    def where(self, name: str) -> str:
        """The file as messages call it."""
        if self._archive is None:
            return str(self.root / name)
        return f"{self._packed}:{PurePosixPath(self._inside, name)}"

    def walk(self) -> Iterator[str]:
        """Names of all files, those of folders in the order of their names."""
        if self._archive is not None:
            yield from self._members
            return
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            place = Path(folder).relative_to(self.root)
            yield from ((place / n).as_posix() for n in sorted(files) if not n.startswith("."))

    def names(self, folder: str = "", suffix: str = ".txt") -> list[str]:
        """Names of the files directly in ``folder`` that end in ``suffix``, sorted."""
        if self._archive is None:
            try:
                found = [e.name for e in (self.root / folder).iterdir() if e.is_file()]
            except OSError:
                found = []
        else:
            start = f"{folder}/" if folder else ""
            inside = (n[len(start) :] for n in self._members if n.startswith(start))
            found = [name for name in inside if "/" not in name]
        return sorted(n for n in found if n.lower().endswith(suffix) and not n.startswith("."))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._members if self._archive is not None else (self.root / name).is_file()

    def data(self, name: str) -> bytes:
        """What a file holds.

        Raises:
            InputError: no such file, damaged, encrypted, or larger than ``MAX_BYTES``.
        """
        if self._archive is None:
            return read_data(self.root / name)
        info = self._members.get(name)
        if info is None:
            raise InputError(f"{self.where(name)}: no such file; check the archive's layout")
        if info.file_size > MAX_BYTES:
            raise _too_large(self.where(name), info.file_size)
        try:
            with self._archive.open(info) as file:
                return file.read(MAX_BYTES)
        except _UNREADABLE as error:
            raise InputError(f"{self.where(name)} cannot be read: {_reason(error)}") from None

    def text(self, name: str) -> str:
        """What a text file holds, see ``read_text``.

        Raises:
            InputError: as ``data``.
        """
        return decoded(self.data(name))

    def close(self) -> None:
        """Close the archive, if it is one."""
        if self._archive is not None:
            self._archive.close()

    def __enter__(self) -> FileTree:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TrackerFiles:
    """The result files of one tracker, whatever they hold.

    Attributes:
        path: as given.
        name: of the tracker, for tables.
        files: found below the path.

    Args:
        path: a folder, a ``.zip``, or a folder inside one; or a single file.
        name: that of the folder or archive when left out.
        single: the path is that of a file which is no archive.

    Raises:
        InputError: when there is nothing like it.
    """

    def __init__(self, path: str | Path, name: str | None = None, *, single: bool = False) -> None:
        self.path = Path(path).expanduser()
        self.name = name or tracker_name(self.path.resolve())
        self.files = FileTree(self.path.parent if single else self.path)

    def __enter__(self: _Tracker) -> _Tracker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive, if it is one."""
        self.files.close()


def check_file_name(sequence: str) -> None:
    """Refuse a sequence whose name would lead out of the results folder.

    Raises:
        InputError: when it cannot be the name of a file.
    """
    bad = any(sign in sequence for sign in '/\\\0:*?"<>|\n')
    if bad or sequence.startswith(".") or not sequence:
        raise InputError(f"a sequence is called {sequence!r}, which cannot be the name of a file")


def tracker_name(path: Path) -> str:
    """Name of a folder or file; ``vision-mem eval`` has its results in ``NAME/results``."""
    generic = path.name in _GENERIC and bool(path.parent.name)
    return (path.parent if generic else path).name.removesuffix(".zip").removesuffix(".txt")


def read_data(path: Path) -> bytes:
    """A file that is none of an archive.

    Raises:
        InputError: no such file, not readable, or larger than ``MAX_BYTES``.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(path, size)
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the folder's layout") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from None


def read_text(path: Path) -> str:
    """A text file: UTF-8, or UTF-16 where it says so; other bytes become replacement signs.

    Raises:
        InputError: as ``read_data``.
    """
    return decoded(read_data(path))


def decoded(data: bytes) -> str:
    """Bytes of a text file as text, see ``read_text``."""
    # Files written by "> file" in some shells of Windows are UTF-16.
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def _below(folder: str, members: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Members of a folder by their names in it, hidden ones left out."""
    start = f"{folder}/" if folder else ""
    inside = {name[len(start) :]: info for name, info in members.items() if name.startswith(start)}
    return {
        name: info
        for name, info in inside.items()
        if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    }


def _too_large(where: str | Path, size: int) -> InputError:
    most = MAX_BYTES >> 20
    return InputError(
        f"{where} has {size >> 20} MB; too large, truth and results have up to {most}"
    )


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
