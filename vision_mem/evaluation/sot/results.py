"""Result files of any tracker, found by the names of sequences in a folder or a ZIP archive.

Folders may be nested as people pack them. What is known: ``<sequence>.txt`` (LaSOT, OTB,
TrackingNet, NFS, UAV, pytracking), ``<sequence>/<sequence>_001.txt`` and further repetitions
(GOT-10k, VOT; VOT's binary files too), ``<sequence>/<frame>.png`` (DAVIS).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import FileTree, TrackerFiles
from vision_mem.evaluation.number_rows import read_rows
from vision_mem.evaluation.sot.datasets.truth import read_labels
from vision_mem.evaluation.sot.vot_regions import VotRegion, parse_regions

_BOXES, _REGIONS, _IMAGE = (".txt",), (".bin", ".txt"), ".png"
_REPETITION = re.compile(r"_\d{3}$")
_ANCHOR = re.compile(r"(.+)_(\d{8})")
# What pytracking puts in front of the names of these sets.
_PREFIXES = ("nfs_", "uav_", "otb_")
# Of its two targets OTB100 takes the second, and some tools do not number it.
_ALIASES = {"Human4-2": "Human4"}


class ResultSet(TrackerFiles):
    """The result files of one tracker; nothing is read before it is asked for.

    Args:
        path: a folder, a ``.zip``, or a folder inside one (``results.zip/LaSOT/ATOM``).
        name: of the tracker, for tables; that of the folder or archive when left out.

    Raises:
        InputError: when there is no such folder or archive.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        super().__init__(path, name)
        self._files: dict[str, list[str]] = {}
        self._anchors: dict[str, list[str]] = {}
        self._images: dict[str, dict[str, dict[str, str]]] = {}
        for member in self.files.walk():
            self._enter(member)

    def boxes(self, sequence: str) -> list[tuple[str, NDArray[np.float64]]]:
        """Boxes of a sequence, one array for each run.

        Returns:
            Pairs of the file, for messages, and ``(T, 4)`` float64 x, y, width, height as
            written. Empty when there is no file.

        Raises:
            InputError: for a damaged file, or results of several trackers.
        """
        read = []
        for member in self._found(sequence, _BOXES):
            where = self.files.where(member)
            rows = read_rows(self.files.text(member), where, widths=(4,))
            if not rows.size:
                raise InputError(f"{where} holds no boxes; expected one x,y,w,h a line")
            read.append((where, rows))
        return read

    def regions(self, sequence: str) -> list[tuple[str, list[VotRegion]]]:
        """VOT regions of a sequence, one list for each run through all of it."""
        return [
            (
                self.files.where(member),
                parse_regions(self.files.data(member), self.files.where(member)),
            )
            for member in self._found(sequence, _REGIONS)
        ]

    def anchored(self, sequence: str) -> list[tuple[str, int, list[VotRegion]]]:
        """VOT regions of runs that were started in the middle: file, frame, regions."""
        runs = []
        for member in _one_tracker(sequence, self._anchors.get(_key(sequence), []), self.files):
            match = _ANCHOR.fullmatch(PurePosixPath(member).stem)
            assert match is not None, "entered by the same pattern"
            where = self.files.where(member)
            runs.append((where, int(match[2]), parse_regions(self.files.data(member), where)))
        return runs

    def images(self, sequence: str) -> Mapping[str, str]:
        """Mask images of a sequence: name of the frame to file, empty when there are none."""
        folders = self._images.get(_key(sequence), {})
        if len(folders) > 1:
            raise InputError(_several(sequence, folders, self.files))
        return next(iter(folders.values()), {})

    def labels(self, member: str) -> NDArray[np.uint8]:
        """One mask image as ``(H, W)`` label image."""
        return read_labels(self.files.where(member), self.files.data(member))

    def holds(self, sequence: str, kind: str) -> bool:
        """Whether there are results of a sequence: ``boxes``, ``regions`` or ``images``."""
        if kind == "images":
            return _key(sequence) in self._images
        suffixes = _BOXES if kind == "boxes" else _REGIONS
        if any(PurePosixPath(m).suffix.lower() in suffixes for m in self._candidates(sequence)):
            return True
        return kind == "regions" and _key(sequence) in self._anchors

    def _enter(self, member: str) -> None:
        path = PurePosixPath(member)
        folder = self.files.place(member).parent.name
        suffix = path.suffix.lower()
        if suffix == _IMAGE:
            folders = self._images.setdefault(_key(folder), {})
            folders.setdefault(path.parent.as_posix(), {})[path.stem] = member
        elif suffix in _REGIONS:
            anchor = _ANCHOR.fullmatch(path.stem)
            # "..._00000050" in the folder of its sequence; elsewhere it is a name.
            if anchor and anchor[1] == folder:
                self._anchors.setdefault(_key(anchor[1]), []).append(member)
                return
            self._files.setdefault(_key(path.stem), []).append(member)
            shorter = _REPETITION.sub("", path.stem)
            if shorter != path.stem:
                self._files.setdefault(_key(shorter), []).append(member)

    def _candidates(self, sequence: str) -> list[str]:
        for name in (sequence, *(prefix + sequence for prefix in _PREFIXES)):
            if found := self._files.get(_key(name)):
                return found
        others = [sequence.removeprefix(p) for p in _PREFIXES if sequence.startswith(p)]
        others += [_ALIASES[sequence]] if sequence in _ALIASES else []
        return next((found for name in others if (found := self._files.get(_key(name)))), [])

    def _found(self, sequence: str, suffixes: tuple[str, ...]) -> list[str]:
        """The files of a sequence: one, or its repetitions in order."""
        candidates = self._candidates(sequence)
        members = [m for m in candidates if PurePosixPath(m).suffix.lower() in suffixes]
        # "a-1" is not "a_1" where both are there.
        exact = [m for m in members if _REPETITION.sub("", PurePosixPath(m).stem) == sequence]
        exact = [m for m in members if PurePosixPath(m).stem == sequence] or exact
        return _one_tracker(sequence, exact or members, self.files)


def _key(name: str) -> str:
    """Names as tools spell them: ``Jogging-1``, ``Jogging.1``, ``jogging_1``."""
    return re.sub(r"[-. ]", "_", name).lower()


def _root(member: str, sequence: str) -> str:
    """The folder a tracker's results are in: above that of the sequence, where there is one."""
    folder = PurePosixPath(member).parent
    return (folder.parent if _key(folder.name) == _key(sequence) else folder).as_posix()


def _one_tracker(sequence: str, members: list[str], files: FileTree) -> list[str]:
    """Repetitions in order; folders that differ in a number at the end are repetitions too."""
    # VOT's toolkit may write a run twice, as text and binary.
    kinds = {PurePosixPath(m).with_suffix(""): m for m in sorted(members)}
    members = list(kinds.values())
    roots = {_root(member, sequence) for member in members}
    if len({_REPETITION.sub("", root) for root in roots}) > 1:
        raise InputError(_several(sequence, roots, files))
    return members


def _several(sequence: str, roots: Iterable[str], files: FileTree) -> str:
    named = sorted(roots)
    return (
        f"{files.root} has results of {sequence} in {len(named)} folders ({', '.join(named[:4])}"
        f"{', ...' if len(named) > 4 else ''}); give one of them: --results {files.place(named[0])}"
    )
