"""Result files of a tracker on a set of many objects."""

from __future__ import annotations

from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import TrackerFiles
from vision_mem.evaluation.mots.records import (
    MotBenchmark,
    MotRules,
    MotSequence,
    numbered_pngs,
    parse_rows,
)
from vision_mem.formats.mots import MotsLayout, read_mots_pngs
from vision_mem.formats.track_rows import TrackRows

_INSIDE = ("", "data", "results")
"""Where text files lie below the folder given: ``data`` as TrackEval has it, ``results`` as
``vision-mem eval`` does."""


class MotResults(TrackerFiles):
    """The result files of one tracker; each is read when it is asked for.

    Args:
        path: a folder or ZIP with ``NAME.txt`` (also below ``data/``); for sets of masks also a
            folder of ``NAME/000000.png``; a single file for a set of one sequence.
        benchmark: the set they belong to.
        name: of the tracker, for tables; that of the folder when left out.

    Raises:
        InputError: when there is nothing like it.
    """

    def __init__(self, path: str | Path, benchmark: MotBenchmark, name: str | None = None) -> None:
        place = Path(path).expanduser()
        self._single = place.is_file() and place.suffix.lower() != ".zip"
        if self._single and len(benchmark.sequences) != 1:
            raise InputError(
                f"{place} is one file, {benchmark.title} has {len(benchmark.sequences)} "
                "sequences; expected a folder or ZIP with one NAME.txt each"
            )
        super().__init__(place, name, single=self._single)
        self.rules: MotRules = benchmark.rules

    def holds(self, sequence: MotSequence) -> bool:
        """Whether there are results of a sequence."""
        return self._text_name(sequence) is not None or self._png_folder(sequence) is not None

    def expected(self, name: str) -> str:
        """Where results of a sequence are looked for, as messages say it."""
        images = f" or {name}/000000.png" if self.rules.masks else ""
        return f"{name}.txt{images}"

    def read(self, sequence: MotSequence, size: tuple[int, int] | None = None) -> TrackRows:
        """The rows of a sequence that ``holds`` says is there.

        ``size``: ``(height, width)`` its masks must have, where known.

        Raises:
            InputError: when the file is not there, or is one that official scorers refuse.
        """
        if (name := self._text_name(sequence)) is not None:
            text, where = self.files.text(name), self.files.where(name)
            return parse_rows(text, where, self.rules, sequence.length, size)
        folder = self._png_folder(sequence)
        if folder is None:
            raise InputError(
                f"{self.path} has no results of {sequence.name}; expected "
                f"{self.expected(sequence.name)}"
            )
        assert isinstance(self.rules.layout, MotsLayout), "only sets of masks have images"
        images = numbered_pngs(folder)
        return read_mots_pngs(images, folder, self.rules.layout, frames=sequence.length, size=size)

    def has_text(self, stem: str) -> bool:
        """Whether there is a text file of this stem."""
        return any(self.files.has(f"{folder}/{stem}.txt".lstrip("/")) for folder in _INSIDE)

    def _text_name(self, sequence: MotSequence) -> str | None:
        if self._single:
            return self.path.name
        for stem in (sequence.name, *sequence.aliases):
            for folder in _INSIDE:
                name = f"{folder}/{stem}.txt" if folder else f"{stem}.txt"
                if self.files.has(name):
                    return name
        return None

    def _png_folder(self, sequence: MotSequence) -> Path | None:
        if not self.rules.masks or not self.path.is_dir():
            return None
        for stem in (sequence.name, *sequence.aliases):
            for folder in (*_INSIDE, "instances"):
                place = self.path / folder / stem
                if place.is_dir() and numbered_pngs(place):
                    return place
        return None
