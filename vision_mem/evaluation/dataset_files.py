"""Finding things in a copy of a benchmark: images in order, lists of names, what is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import read_text
from vision_mem.sources.images import IMAGE_SUFFIXES

IMAGE_FOLDERS = ("img", "imgs", "images", "color", "JPEGImages", "frames")
"""Where copies keep the images of a sequence; else they lie in its own folder."""

_SAID = 5
_LONGEST_NAME = 200


def natural(names: Iterable[str]) -> list[str]:
    """Names in the order people count: ``img2`` before ``img10``."""
    from natsort import natsorted

    listed = list(names)
    stems = [name.rpartition(".")[0] or name for name in listed]
    # Plain numbers are the rule, and natsort takes seconds for a large benchmark.
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        return [name for _, name in sorted(zip(map(int, stems), listed, strict=True))]
    return list(natsorted(listed))


def folders_in(root: Path) -> dict[str, Path]:
    """Folders directly in ``root`` by name, in natural order; hidden ones are left out.

    Raises:
        InputError: when ``root`` cannot be listed.
    """
    try:
        with os.scandir(root) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{root} cannot be listed: {reason}; expected a folder") from None
    return {name: root / name for name in natural(names)}


def images_in(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> tuple[Path, ...]:
    """Image files directly in a folder, in natural order; none when there is no such folder.

    Hidden files are left out; other files too.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_image(entry, suffixes)]
    except OSError:
        return ()
    return tuple(folder / name for name in natural(names))


def has_images(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether ``images_in`` finds any, without listing them all."""
    try:
        with os.scandir(folder) as entries:
            return any(_is_image(entry, suffixes) for entry in entries)
    except OSError:
        return False


def _is_image(entry: os.DirEntry[str], suffixes: Collection[str]) -> bool:
    stem, dot, suffix = entry.name.rpartition(".")
    # A name that begins with a dot is hidden, not an image without a stem.
    named = bool(stem) and not stem.startswith(".")
    return named and dot + suffix.lower() in suffixes and not _is_folder(entry)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere, or to itself
        return False


def frames_of(sequence: Path) -> tuple[Path, ...]:
    """Images of a sequence, from the first of ``IMAGE_FOLDERS`` that has any, or from itself."""
    for name in IMAGE_FOLDERS:
        if found := images_in(sequence / name):
            return found
    return images_in(sequence)


def number_of(path: Path) -> int | None:
    """The number at the end of a file's stem."""
    match = re.search(r"(\d{1,12})$", path.stem)
    return int(match.group(1)) if match else None


def numbered(frames: Sequence[Path], first: int, last: int) -> tuple[Path, ...]:
    """The frames whose files are numbered ``first`` to ``last``, both included."""
    return tuple(f for f in frames if (n := number_of(f)) is not None and first <= n <= last)


def image_size(path: Path) -> tuple[int, int] | None:
    """``(height, width)`` from an image's head; None when it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def read_names(text: str, where: str | Path) -> list[str]:
    """Sequence names, one a line; each once.

    Raises:
        InputError: a line that is no plain name (``..``, a path), with its number.
    """
    names = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        bad = name in (".", "..") or re.search(r"[/\\:\x00-\x1f]", name)
        if bad or len(name) > _LONGEST_NAME:
            shown = name if len(name) <= _LONGEST_NAME else name[:40] + "..."
            raise InputError(
                f"{where}, line {number}: {shown!r} is not the name of a sequence; expected one "
                "name a line, without folders"
            )
        names.append(name)
    return list(dict.fromkeys(names))


def first_list(*candidates: Path) -> list[str] | None:
    """Names from the first of these files that is there; None when none is."""
    path = first_file(*candidates)
    return None if path is None else read_names(read_text(path), path)


def said(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - _SAID} more" if len(names) > _SAID else ""
    return ", ".join(names[:_SAID]) + more


def missing_note(wanted: Sequence[str], found: Collection[str], what: str) -> list[str]:
    """A note about names of a list that are not here; none when all are. ``what`` is missing."""
    lost = [name for name in wanted if name not in found]
    if not lost:
        return []
    return [f"{len(lost)} of {len(wanted)} {what} are not here: {said(lost)}"]


def images_here(frames: Sequence[Path], place: Path, *, needed: bool) -> None:
    """Refuse a sequence without images, where images are needed; ``place``: where they belong.

    Raises:
        InputError: when there are none.
    """
    if needed and not frames:
        raise InputError(f"{place} holds no images; unpack the benchmark's images there")


def listed_folders(
    place: Path, lists: Sequence[Path], expected: str, notes: list[str]
) -> dict[str, Path]:
    """Folders with a ``groundtruth.txt`` that one of ``lists`` names, in its order; else all.

    Raises:
        InputError: when none is here, with the layout that is ``expected``.
    """
    has_truth = {n: p for n, p in folders_in(place).items() if (p / "groundtruth.txt").is_file()}
    listed = first_list(*lists)
    if listed is None:
        notes.append(f"no list.txt in {place}: took all {len(has_truth)} sequences found")
        return has_truth or _none_in(place, expected)
    notes += missing_note(listed, has_truth, "listed sequences")
    found = {name: has_truth[name] for name in listed if name in has_truth}
    return found or _none_in(place, expected)


def _none_in(place: Path, expected: str) -> NoReturn:
    raise no_sequences(place, expected)


def chosen_names(
    found: Sequence[str], listed: Sequence[str] | None, official: Sequence[str], file: str,
    where: Path, notes: list[str],
) -> list[str]:  # fmt: skip
    """Which of the sequences found are evaluated, in the order of the list.

    That is what the copy's ``file`` lists; without one ``official``, where any of it is here.

    Raises:
        InputError: when none of the list is here.
    """
    if listed is None and not set(official) & set(found):
        notes.append(f"no {file}: took all {len(found)} sequences found")
        return list(found)
    if listed is None:
        notes.append(f"no {file}: took the official list of {len(official)} sequences")
    names = official if listed is None else listed
    notes += missing_note(names, found, "sequences")
    chosen = [name for name in names if name in set(found)]
    if not chosen:
        raise InputError(f"{where} holds none of the {len(names)} sequences of {file}")
    return chosen


def read_pairs(path: Path, sign: str) -> dict[str, str]:
    """``key: value`` lines of a file, keys in small letters; none when there is no such file."""
    if not path.is_file():
        return {}
    pairs = (line.partition(sign) for line in read_text(path).splitlines() if sign in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def first_folder(*candidates: Path) -> Path | None:
    """The first of these that is a folder."""
    return next((path for path in candidates if path.is_dir()), None)


def first_file(*candidates: Path) -> Path | None:
    """The first of these that is a file."""
    return next((path for path in candidates if path.is_file()), None)


def place_in(root: Path, inside: Sequence[str], fits: Callable[[Path], object], lacks: str) -> Path:
    """The first place inside a copy that holds the set.

    Raises:
        InputError: when none does: the copy ``lacks`` something, with what is expected.
    """
    place = next((root / name for name in inside if fits(root / name)), None)
    if place is None:
        raise InputError(f"{root} has no {lacks}")
    return place


def folders_that(place: Path, fits: Callable[[Path], bool]) -> list[Path]:
    """The folder itself where it fits, else those in it that do, by name."""
    if fits(place):
        return [place]
    return sorted(p for p in place.iterdir() if p.is_dir() and fits(p)) if place.is_dir() else []


def no_sequences(root: Path, expected: str) -> InputError:
    """The error for a folder that is not what was expected."""
    if not root.exists():
        return InputError(f"{root}: no such folder; check --root")
    return InputError(f"{root} holds no sequences; expected {expected}")
