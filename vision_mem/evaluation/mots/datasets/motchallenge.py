"""MOTChallenge: MOTS20 (masks), MOT15 to MOT20 (boxes); one folder a sequence.

A folder has ``img1/000001.jpg`` ..., ``gt/gt.txt`` and ``seqinfo.ini``. MOT17 has each sequence
three times, with the detections of three detectors; images and truth are the same.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.dataset_files import (
    first_file,
    folders_in,
    image_size,
    images_in,
    no_sequences,
)
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.mots.datasets import MOT_BENCHMARKS
from vision_mem.evaluation.mots.records import (
    RULES,
    MotBenchmark,
    MotSequence,
    last_frame,
    numbered_pngs,
)
from vision_mem.formats.rle import MAX_SIDE
from vision_mem.formats.track_rows import whole

DETECTORS = ("FRCNN", "DPM", "SDP")
"""What the copies of a MOT17 sequence are called after; the first there is taken."""

_EXPECTED = "[train/]NAME/{img1/000001.jpg,gt/gt.txt,seqinfo.ini}"
_COPY = re.compile(rf"(.+)-({'|'.join(DETECTORS)})")
_MOST_FRAMES = 10_000_000


def open_motchallenge(
    key: str, root: Path, *, split: str | None, need_frames: bool
) -> MotBenchmark:
    """A set of MOTChallenge.

    Args:
        key: its word.
        root: the copy's folder, a split in it, or a single sequence.
        split: the folder of the split, ``train`` when left out; of MOT17 also one of
            ``DETECTORS``, or ``all`` for every copy.
        need_frames: images must be there.

    Raises:
        InputError: when nothing like it is there, or a ``seqinfo.ini`` is damaged.
    """
    detector = (split or "").upper()
    copies = split == "all" or detector in DETECTORS
    wanted = "train" if split is None or copies else split
    place = root / wanted if (root / wanted).is_dir() else root
    if split is not None and not copies and place == root and root.name != split:
        raise InputError(f"{root} has no folder {split}; expected {_EXPECTED}")
    found = {place.resolve().name: place} if _is_sequence(place) else {}
    if not found and place.is_dir():
        found = {name: path for name, path in folders_in(place).items() if _is_sequence(path)}
    if not found:
        raise no_sequences(root, _EXPECTED)
    notes: list[str] = []
    found = _copies(found, detector if copies else "", need_frames, notes)
    if not found:
        raise InputError(f"{root} has no copies for {detector}; give another --split")
    sequences = [_sequence(name, path, key, need_frames, notes) for name, path in found.items()]
    title = MOT_BENCHMARKS[key].title + ("" if place == root else f" {wanted}")
    title += f", {detector}" if detector in DETECTORS else ""
    return MotBenchmark(key, title, RULES[key], tuple(sequences), tuple(notes))


def _is_sequence(path: Path) -> bool:
    return _truth(path) is not None or (path / "img1").is_dir()


def _truth(path: Path) -> Path | None:
    return first_file(path / "gt" / "gt.txt", path / "gt.txt")


def _copies(
    found: Mapping[str, Path], wanted: str, need_frames: bool, notes: list[str]
) -> dict[str, Path]:
    """Of sequences that are there several times the copy of the detector wanted, or ``ALL``.

    Where images are not needed, one copy's truth is that of the others too.
    """
    copies: dict[str, dict[str, Path]] = {}
    for name, path in found.items():
        match = _COPY.fullmatch(name)
        copies.setdefault(match[1] if match else name, {})[match[2] if match else ""] = path
    kept: dict[str, Path] = {}
    for base, some in copies.items():
        first = min(some, key=(*DETECTORS, "").index)
        asked = DETECTORS if wanted == "ALL" else (wanted or first,)
        for each in asked if first else ("",):
            if each in some or not need_frames:
                kept[f"{base}-{each}" if each else base] = some.get(each, some[first])
    if len(kept) < len(found):
        notes.append(
            f"{len(found) - len(kept)} copies for other detectors are left out: images and truth "
            "are the same; --split all takes them too"
        )
    return kept


def other_copies(names: Iterable[str], holds: Callable[[str], bool]) -> list[str]:
    """Detectors of MOT17 that there are results for, beside those of the names of sequences."""
    found = [match for name in names if (match := _COPY.fullmatch(name))]
    own = {match[2] for match in found}
    bases = {match[1] for match in found}
    return [d for d in DETECTORS if d not in own and any(holds(f"{b}-{d}") for b in bases)]


def _sequence(name: str, path: Path, key: str, need_frames: bool, notes: list[str]) -> MotSequence:
    info = _seqinfo(path / "seqinfo.ini")
    frames = images_in(path / info.get("imdir", "img1"))
    if need_frames and not frames:
        raise InputError(f"{path} holds no images; expected img1/000001.jpg and so on")
    truth = _truth(path)
    length = _count(info, "seqlength")
    if not length:
        said_by_truth: list[str] = []
        length = 0 if truth is None else last_frame(truth, name, said_by_truth)
        notes += said_by_truth if length > len(frames) else []
        length = max(length, len(frames))
    if frames and len(frames) != length:
        notes.append(f"{name}: {len(frames)} images of {length} frames are here")
    height, width = _count(info, "imheight"), _count(info, "imwidth")
    size = (height, width) if 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE else None
    if size is None and frames:
        size = image_size(frames[0])
    aliases = (match[1],) if (match := _COPY.fullmatch(name)) else ()
    said = info.get("name", "")
    if said and said != name and not aliases and re.fullmatch(r"[\w.-]+", said):
        aliases = (*aliases, said)
    rate = _count(info, "framerate") or 30
    if key == "mots-challenge" and truth is None:
        pictures = path / "instances"
        truth = pictures if pictures.is_dir() and numbered_pngs(pictures) else None
    return MotSequence(name, length, frames, truth, size, float(rate), aliases)


def _seqinfo(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
        found = dict(parser["Sequence"])
    except (configparser.Error, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no seqinfo.ini: {reason}; expected [Sequence]") from None
    folder = found.get("imdir", "img1").strip()
    if folder in ("..", ".") or "/" in folder or "\\" in folder or not folder:
        raise InputError(f"{path}: imDir is {folder!r}; expected the name of a folder, as img1")
    length = whole(found.get("seqlength", "0").strip())
    if length is None or not 0 <= length <= _MOST_FRAMES:
        raise InputError(f"{path}: seqLength is {found['seqlength']!r}; expected a whole number")
    return found | {"imdir": folder}


def _count(info: Mapping[str, str], key: str) -> int:
    value = whole(info.get(key, "").strip())
    return value if value is not None and value > 0 else 0
