"""The families of benchmarks, in one table: ``vision-mem eval`` and ``score`` know no others.

A new family is a room with a ``family.py`` that holds ``FAMILY``, and a row in ``FAMILIES``. A new
set of a family that is here is a row in its ``datasets``; or, of single objects, a function that
opens it, named ``module:function`` in place of the set's word.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from vision_mem.config import load_object, nearest
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.options import ScoreOptions, SetOptions
from vision_mem.evaluation.selection import choose_sequences

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.folder import EvaluationFolder

FAMILIES: dict[str, str] = {
    "sot": "vision_mem.evaluation.sot.family",
    "mots": "vision_mem.evaluation.mots.family",
    "videoqa": "vision_mem.evaluation.videoqa.family",
    "reconstruction": "vision_mem.evaluation.reconstruction.family",
    "vln": "vision_mem.evaluation.vln.family",
}
"""Module of each family; imported when it is asked for, none of them heavy."""

Opened = TypeVar("Opened")


class Dataset(NamedTuple):
    """One set of a family.

    Attributes:
        title: as papers write it.
        layout: what its root must look like.
        read: the function that opens a copy, or its ``module:name``; what it is given and what
            it returns is said beside the family's table.
    """

    title: str
    layout: str
    read: str | Callable[..., Any] = ""


class Plan(Protocol):
    """What there is to run."""

    def carry_out(self, out: Path | None, *, resume: bool, overwrite: bool, quiet: bool) -> int:
        """Run what is left, sum up what is there, and say the exit code.

        Args:
            out: results folder; None for ``runs/eval/NAME``, the name being the plan's.
            resume: it is an error when there is nothing to go on with.
            overwrite: remove the results that lie there.
            quiet: say nothing but errors.
        """


class Family(ABC):
    """A kind of benchmark: its sets, what a run may be told, what is run, how it is scored.

    Attributes:
        line: what its sets have in common, after "of".
    """

    line: str

    @property
    @abstractmethod
    def datasets(self) -> dict[str, Dataset]:
        """Its sets by their words on the command line; a caller in Python may add to them."""

    def knows(self, word: str) -> bool:
        """Whether a word of the command line names one of its sets."""
        return word in self.datasets

    def opens(self, word: str) -> bool:
        """Whether a word may be the ``module:function`` that opens a set of this kind."""
        return False

    @abstractmethod
    def options(self, dataset: str) -> type[SetOptions]:
        """What a run on a set may be told: a frozen dataclass, its fields as ``Option`` says."""

    @abstractmethod
    def plan(self, dataset: str, options: Any, say: Callable[[str], None]) -> Plan:
        """What is to be run.

        Args:
            dataset: a word that ``knows`` says yes to.
            options: of the class that ``options`` names.
            say: told what takes a while.

        Raises:
            InputError: for what cannot be run.
        """

    def scoring(self, dataset: str) -> type[ScoreOptions] | None:
        """The same for scoring result files; None where only runs of ours are scored."""
        return None

    def open(self, dataset: str, options: Any) -> Any:
        """The set, or the part of it that is to be scored."""
        raise NotImplementedError

    def count(self, benchmark: Any) -> int:
        """How much there is to score; 0 where results alone say it."""
        return len(benchmark.sequences)

    def results(self, path: Path, benchmark: Any, options: Any, name: str | None) -> Any:
        """The result files of one tracker or model, to be used in a ``with``."""
        raise NotImplementedError

    def score(
        self, benchmark: Any, results: Any, options: Any, on_sequence: Callable[[str], None]
    ) -> Any:
        """Their ``BenchmarkScore``; ``on_sequence`` is called with each name when it is done."""
        raise NotImplementedError

    def sum_up(
        self, benchmark: Any, options: Any, folder: EvaluationFolder, tracker: str
    ) -> list[str]:
        """Score all results of a run that are there, and say so, line by line.

        Tables, JSON and plots go to the folder's ``scores``; ``options`` are those of ``scoring``.

        Raises:
            InputError: when there is no result, or the truth cannot be read.
            SinkError: when something cannot be written.
        """
        from vision_mem.evaluation.engine.run import write_scores

        with self.results(folder.results, benchmark, options, tracker) as results:
            score = self.score(benchmark, results, options, lambda name: None)
        return write_scores(folder, score, options.rules, benchmark.notes)


def chosen_part(benchmark: Opened, names: str | None) -> Opened:
    """A set with those of its sequences alone that names or patterns fit; None for all."""
    found: Any = benchmark
    sequences = tuple(choose_sequences(found.sequences, names=names))
    part: Opened = replace(found, sequences=sequences)
    return part


def families() -> dict[str, Family]:
    """All families by their names, in the order of the table."""
    return {name: import_module(module).FAMILY for name, module in FAMILIES.items()}


def family_of(dataset: str) -> Family:
    """The family of a set.

    Raises:
        InputError: for a word that none knows; names those there are.
    """
    every = families().values()
    found = [each for each in every if each.knows(dataset)]
    if found or (found := [each for each in every if each.opens(dataset)]):
        return found[0]
    known = [word for family in every for word in family.datasets]
    there = f"; there are {', '.join(known)}, or the module:function that opens one"
    raise InputError(f"no benchmark {dataset!r}{nearest(dataset, known) or there}")


def look_up(named: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function that ``module:name`` names; a function is returned as it is.

    Raises:
        InputError: when there is no such module or name, in the working folder or installed.
    """
    if not isinstance(named, str):
        return named
    found: Callable[..., Any] = load_object(named, "benchmark")
    return found


def open_copy(read: Callable[[Path], Opened], root: str | Path) -> Opened:
    """Open a copy of a set with a function that takes its folder.

    Raises:
        InputError: also for a file that cannot be read.
    """
    try:
        return read(Path(root).expanduser())
    except VisionMemError:
        raise
    except OSError as error:
        place: Any = error.filename or root
        raise InputError(f"{place} cannot be read: {error.strerror or error}") from None


def known_dataset(datasets: Mapping[str, Dataset], key: str) -> Dataset:
    """The row of a set.

    Raises:
        InputError: when there is none.
    """
    if key not in datasets:
        known = list(datasets)
        raise InputError(
            f"no benchmark {key!r}; expected one of {', '.join(known)}{nearest(key, known)}"
        )
    return datasets[key]
