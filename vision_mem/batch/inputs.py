"""Which videos are meant: files, folders, patterns, object stores, and lists of them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from natsort import natsorted

from vision_mem.errors import InputError, MissingExtra, SourceError, VisionMemError
from vision_mem.formats.text import json_rows
from vision_mem.sources.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vision_mem.sources.selection import check_exists, file_name, is_url, sequence_name
from vision_mem.text import read_text, shown

MANIFESTS = (".csv", ".jsonl", ".ndjson", ".parquet")
"""How names of lists end."""
_STORES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Schemes of object stores, and the package that fsspec needs for each."""
_OTHER_STORES = {"sftp", "ssh", "hdfs", "webdav", "oss", "zip", "local", "memory"}
_PATTERN = re.compile(r"[*?\[]")
_FILE = "file"


@dataclass(frozen=True)
class BatchInput:
    """One video of many.

    Attributes:
        source: as the command takes it.
        name: of its results; no two of a run have the same.
        options: words of its own, for the command.
        size: bytes, 1 where that is not known; larger ones are begun first.
    """

    source: str
    name: str
    options: tuple[str, ...] = ()
    size: int = 1


def find_inputs(
    words: Sequence[str],
    options: Callable[[Mapping[str, Any]], Sequence[str]],
    is_one: Callable[[Path], bool],
) -> list[BatchInput]:
    """All videos that words on a command line, and the lists among them, mean.

    Args:
        words: files, folders, patterns, addresses, or lists (``MANIFESTS``).
        options: turns the columns of a row of a list, but ``file``, into words for the command.
        is_one: whether a folder is one input, as a folder of images is, and not one of many.

    Raises:
        InputError: for what is not there, holds nothing, cannot be read, or is live.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for word in words:
        if Path(word).suffix.lower() in MANIFESTS and not is_url(word):
            found += _listed(Path(word).expanduser(), options, is_one)
        else:
            found += [(source, ()) for source in _meant(word, is_one)]
    if not found:
        raise InputError("no videos: give files, folders, patterns as 'clips/*.mp4', or a list")
    names = _names([source for source, _ in found])
    return [
        BatchInput(source, name, own, _size(source))
        for (source, own), name in zip(found, names, strict=True)
    ]


def is_stored(source: str) -> bool:
    """Whether a source lies in an object store, and is fetched before it is looked at."""
    scheme = source.partition("://")[0].lower()
    return is_url(source) and (scheme in _STORES or scheme in _OTHER_STORES)


def fetch(source: str, folder: Path) -> Path:
    """A copy of a file of an object store.

    Raises:
        MissingExtra: when the package of the store is not installed.
        SourceError: when it cannot be had.
    """
    store, path = _store(source)
    place = folder / Path(path).name
    partial = place.with_name(f"{place.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        store.get_file(path, str(partial))
    except Exception as error:
        raise _not_had(source, error) from None
    partial.replace(place)
    return place


def _meant(word: str, is_one: Callable[[Path], bool]) -> list[str]:
    if is_stored(word):
        return _stored(word)
    if is_url(word):
        if re.match(r"(?i)(https?|file)://", word):
            return [word]
        raise InputError(
            f"{word.partition('://')[0]}:// is live, and a batch is of files: see vision-mem studio"
        )
    path = Path(word).expanduser()
    if path.is_dir():
        return [str(path)] if is_one(path) else _within(path, is_one)
    if word and path.exists():
        return [str(path)]
    if _PATTERN.search(word):
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        matches = natsorted(str(match) for match in found if not match.name.startswith("."))
        if not matches:
            raise InputError(f"{shown(word)} matches no file; check the pattern")
        return [each for match in matches for each in _meant(match, is_one)]
    if word.isdecimal():
        raise InputError(f"{word} is a camera, and a batch is of files: see vision-mem studio")
    check_exists(word)
    raise InputError(f"{shown(word)} is no file")


def _within(folder: Path, is_one: Callable[[Path], bool]) -> list[str]:
    """Videos, and folders that are one input, anywhere in a folder."""
    found: list[Path] = []

    def search(place: Path) -> None:
        for entry in natsorted(place.iterdir(), key=lambda each: each.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if is_one(entry):
                    found.append(entry)
                else:
                    search(entry)
            elif entry.suffix.lower() in VIDEO_SUFFIXES:
                found.append(entry)

    try:
        search(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; check it") from None
    if not found:
        raise InputError(f"{folder} holds no videos, and no folder of images; check the path")
    return [str(each) for each in found]


def holds_images(folder: Path) -> bool:
    """Whether a folder is a video in pictures: it holds some, and no video."""
    suffixes = {entry.suffix.lower() for entry in folder.iterdir() if entry.is_file()}
    return bool(suffixes & IMAGE_SUFFIXES) and not suffixes & VIDEO_SUFFIXES


def _listed(
    path: Path,
    options: Callable[[Mapping[str, Any]], Sequence[str]],
    is_one: Callable[[Path], bool],
) -> Iterator[tuple[str, tuple[str, ...]]]:
    check_exists(str(path))
    empty = True
    for number, row in _rows(path):
        where = f"{path} line {number}"
        if not isinstance(row, dict) or not isinstance(row.get(_FILE), str) or not row[_FILE]:
            raise InputError(f"{where} names no file; expected a column or key 'file'")
        empty = False
        source, values = row.pop(_FILE), row
        if not is_url(source) and not Path(source).expanduser().is_absolute():
            source = str(path.parent / source)
        try:
            own = tuple(options(values))
            yield from ((each, own) for each in _meant(source, is_one))
        except VisionMemError as error:
            raise InputError(f"{where}: {error}") from None
    if empty:
        raise InputError(f"{path} lists nothing; expected rows with a file each")


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_rows(path)
    elif suffix == ".parquet":
        from vision_mem.formats.parquet import arrow

        pyarrow = arrow()
        try:
            table = pyarrow.parquet.read_table(str(path))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no Parquet file: {' '.join(str(error).split())}") from None
        for number, row in enumerate(table.to_pylist(), 1):
            yield number, {key: value for key, value in row.items() if value is not None}
    else:
        yield from json_rows(path)


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        head = [cell.strip() for cell in next(reader, [])]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise InputError(
                    f"{path} line {reader.line_num} has {len(cells)} cells, and the first line "
                    f"{len(head)}; cells with commas in them stand in double quotes"
                )
            row = zip(head, (cell.strip() for cell in cells), strict=True)
            yield reader.line_num, {name: cell for name, cell in row if cell}
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}") from None


def _stored(url: str) -> list[str]:
    """The files that an address in an object store means."""
    store, path = _store(url)
    scheme = url.partition("://")[0]
    try:
        if _PATTERN.search(path):
            found = [each for each in store.glob(path) if not store.isdir(each)]
        elif store.isdir(path):
            found = [
                each for each in store.find(path) if Path(each).suffix.lower() in VIDEO_SUFFIXES
            ]
        else:
            store.info(path)
            found = [path]
    except Exception as error:
        raise _not_had(url, error) from None
    if not found:
        raise InputError(f"{url} holds no videos; check the address")
    return [f"{scheme}://{each}" for each in natsorted(found)]


def _store(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0].lower()
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError:
        package = _STORES.get(scheme, "fsspec")
        raise MissingExtra(
            f"{scheme}:// needs {package}, which is not installed: pip install {package}"
        ) from None
    except Exception as error:
        raise _not_had(url, error) from None


def _not_had(url: str, error: Exception) -> SourceError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, PermissionError):
        said = f"no right to read it ({said})"
    return SourceError(f"{url} cannot be had: {said}; check the address and the keys to the store")


def _size(source: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if is_url(source):
        return 1
    path = Path(source)
    try:
        if path.is_dir():
            return max(1, sum(each.stat().st_size for each in path.rglob("*") if each.is_file()))
        return max(1, path.stat().st_size)
    except OSError:
        return 1


def _names(sources: Sequence[str]) -> list[str]:
    """Names of results: short, and with folders before them where short ones are the same."""

    def name(source: str, folders: int) -> str:
        if is_url(source):
            parts = source.partition("://")[2].split("/")
            return file_name("-".join([*parts[:-1][-folders:], Path(parts[-1]).stem]))
        path = Path(source).resolve()
        before = path.parts[1:-1][-folders:] if folders else ()
        return file_name("-".join([*before, sequence_name(path)]))

    names = [name(source, 0) for source in sources]
    for folders in (1, 2, 4):
        taken = _taken(names)
        names = [
            name(source, folders) if taken[each.casefold()] > 1 else each
            for source, each in zip(sources, names, strict=True)
        ]
    seen: Counter[str] = Counter()
    for place, each in enumerate(names):
        seen[each.casefold()] += 1
        if (number := seen[each.casefold()]) > 1:
            names[place] = f"{each}-{number}"
    if max(_taken(names).values()) > 1:  # one was called so already
        names = [f"{number:05d}-{each}" for number, each in enumerate(names, 1)]
    return names


def _taken(names: Iterable[str]) -> Counter[str]:
    return Counter(each.casefold() for each in names)  # as file systems of some machines do
