"""Result files of a model on a set of questions."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import TrackerFiles
from vision_mem.evaluation.videoqa.datasets.open import set_of
from vision_mem.evaluation.videoqa.records import Reply, VideoQaBenchmark

_SUFFIXES = (".json", ".jsonl")
_INSIDE = "results"  # of a folder that ``vision-mem eval`` wrote
_NAMED = 3


class VideoQaResults(TrackerFiles):
    """The result files of one model: all that lie in a folder belong together.

    Args:
        path: a folder or ZIP with JSON files in it (also below ``results/``, or in its only
            folder), or one such file.
        benchmark: the set they belong to.
        name: of the model, for tables; that of the folder when left out.

    Raises:
        InputError: when there is nothing like it.
    """

    def __init__(self, path: str | Path, benchmark: VideoQaBenchmark, name: str | None = None):
        place = Path(path).expanduser()
        single = place.is_file() and place.suffix.lower() != ".zip"
        super().__init__(place, name or (place.stem if single else None), single=single)
        self.benchmark = benchmark
        try:
            self.names = [place.name] if single else self._chosen()
        except InputError:
            self.close()
            raise

    def read(self) -> list[Reply]:
        """Everything that was replied to tasks wanted, file after file.

        Raises:
            InputError: when a file is damaged or one of another set, with the entry.
        """
        replies = set_of(self.benchmark.key).replies
        return [
            reply
            for name in self.names
            for reply in replies(self.files.text(name), self.files.where(name), self.name)
            if self.benchmark.wants(reply.task)
        ]

    def _chosen(self) -> list[str]:
        """The files of one folder: the path itself, its ``results``, or the only one with some."""
        by_folder: dict[str, list[str]] = {}
        for name in self.files.walk():
            if name.lower().endswith(_SUFFIXES):
                by_folder.setdefault(str(PurePosixPath(name).parent), []).append(name)
        for folder in (_INSIDE, "."):
            if folder in by_folder:
                return sorted(by_folder[folder])
        if len(by_folder) > 1:
            some = ", ".join(sorted(by_folder)[:_NAMED])
            raise InputError(
                f"{self.path} has result files in {len(by_folder)} folders ({some}, ...); give "
                "--results once for each model"
            )
        if not by_folder:
            title = self.benchmark.title
            raise InputError(f"{self.path} holds no JSON file with results of {title}")
        return sorted(next(iter(by_folder.values())))
