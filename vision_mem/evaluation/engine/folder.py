"""The folder of an evaluation: what it was made with, result files that appear whole, logs.

``run.json`` says which set, model and settings the results belong to; ``results/`` holds what the
benchmark's own tools read; ``logs/<sequence>.json`` says how each sequence went; ``scores/`` and
``submission.zip`` are made from the results. A sequence is done when its results are whole, of
which its job is the judge.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.evaluation.engine.runner import Failed, Finished, Job
from vision_mem.formats.text import make_folder, sink_error, write_file
from vision_mem.sinks.masks import strict_json
from vision_mem.text import read_json, shown

RECORD = "run.json"
RESULTS, LOGS, SCORES, SUBMISSION = "results", "logs", "scores", "submission.zip"
_KIND = "evaluation"
_MODEL = "model"
_MOST_DIFFERENCES = 4


class EvaluationFolder:
    """Results of one set, model and settings. Shards of one run may share it.

    Args:
        path: the folder; made by ``begin``.
        identity: JSON-ready values that all results here have in common.
        remarks: JSON-ready values for people, for the record and the logs; they may differ.
        overwrite: remove the results that lie there.
        resume: there must be results to go on with.

    Attributes:
        results: where the result files are.
        scores: where tables and plots go.
        submission: what is sent to the set's server.

    Raises:
        InputError: when it holds other things, or results made with another identity; when there
            is nothing to resume.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        remarks: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.path = path
        self.results, self.scores = path / RESULTS, path / SCORES
        self.submission = path / SUBMISSION
        self._remarks = dict(remarks or {})
        self._identity = _flat(strict_json(identity))
        self._overwrite = overwrite
        if path.exists() and not path.is_dir():
            raise InputError(f"--out {path} is a file; expected a folder")
        recorded = _recorded(self.path)
        if recorded is None:
            # A record cut off while it was written is ours.
            if path.is_dir() and any(not e.name.startswith(f".{RECORD}") for e in path.iterdir()):
                raise InputError(
                    f"{path} holds other things than an evaluation; give another --out"
                )
        elif not overwrite and (resume or self._has_results()):
            self._compare(recorded)
        # Cut off before its first result it is an evaluation all the same.
        if resume and recorded is None:
            raise InputError(f"{path} holds no results to go on with; leave out --resume")

    def begin(self) -> None:
        """Make the folder and its record; remove what is to be overwritten.

        Raises:
            SinkError: when it cannot be written to.
            InputError: when another shard began meanwhile with another identity.
        """
        try:
            if self._overwrite and self.path.is_dir():
                # The record goes last: cut off before, this folder is still known as ours.
                for name in (RESULTS, LOGS, SCORES):
                    if (self.path / name).is_dir():
                        shutil.rmtree(self.path / name)
                (self.path / SUBMISSION).unlink(missing_ok=True)
                (self.path / RECORD).unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
            recorded = _recorded(self.path)
            # A run that failed before its first result (a slip in a model's name) is no obstacle.
            if recorded is None or not self._has_results():
                self._record()
            else:
                self._compare(recorded)
            for name in (RESULTS, LOGS):
                (self.path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise sink_error(self.path, error) from None

    def settle_model(self, model: str) -> None:
        """Compare the model that was loaded with the one the results are of, or record it.

        Raises:
            InputError: when it is another one.
        """
        self._identity[_MODEL] = model
        recorded = _recorded(self.path)
        if recorded is not None and _MODEL in recorded and self._has_results():
            self._compare(recorded)
        else:
            self._record()

    def undone(self, jobs: Iterable[Job]) -> list[Job]:
        """Those without whole results, in their order."""
        return [job for job in jobs if not job.is_whole(self.results, self._log(job.name))]

    def speed(self, jobs: Iterable[Job]) -> tuple[float, float] | None:
        """Frames a second over all sequences that are done, from their logs; None without any.

        Without reading files, as the field counts it, and end to end in one worker.
        """
        frames, tracking, whole = 0, 0.0, 0.0
        for job in jobs:
            try:
                log = read_json(self._log(job.name), nan=True)
                tracking += log["tracking_seconds"]
                whole += log["seconds"]
                frames += log["frames"]
            except (ValueError, LookupError, TypeError):
                continue
        return (frames / tracking, frames / whole) if tracking > 0 and whole > 0 else None

    def write(self, done: Finished | Failed) -> None:
        """Write the log of a sequence, then its results, each whole or not at all.

        Raises:
            SinkError: when they cannot be written.
            InputError: when the folder was taken for other settings meanwhile.
        """
        recorded = _recorded(self.path)
        if recorded is not None:
            self._compare(recorded)
        log = self._remarks | done.log
        if isinstance(done, Failed):
            log |= {"sequence": done.sequence, "status": "failed", "error": done.reason}
        write_file(self._log(done.sequence), _json(log))
        if isinstance(done, Failed):
            return
        try:
            if all(Path(name).suffix == ".png" for name in done.files):
                self._write_masks(done)
                return
            for name, content in done.files.items():
                path = self.results / name
                make_folder(path.parent)
                write_file(path, content)
        except OSError as error:
            raise sink_error(self.results, error) from None

    def _write_masks(self, done: Finished) -> None:
        """A folder of pictures appears under its name when all of them are in it."""
        place = self.results / done.sequence
        partial = self.results / f".{done.sequence}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, content in done.files.items():
            with (partial / Path(name).name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if place.is_dir():
            shutil.rmtree(place)
        partial.rename(place)

    def _log(self, sequence: str) -> Path:
        return self.path / LOGS / f"{sequence}.json"

    def _record(self) -> None:
        content = {"kind": _KIND, "identity": self._identity, **self._remarks}
        # Shards may begin at the same time: each has its own partial file.
        write_file(self.path / RECORD, _json(content), mark=str(os.getpid()))

    def _has_results(self) -> bool:
        place = self.results
        return place.is_dir() and any(not each.name.startswith(".") for each in place.iterdir())

    def _compare(self, recorded: Mapping[str, Any]) -> None:
        mine = self._identity
        keys = list(dict.fromkeys([*mine, *recorded]))
        if not (_MODEL in mine and _MODEL in recorded):  # known once it is loaded
            keys = [key for key in keys if key != _MODEL]
        other = [key for key in keys if recorded.get(key) != mine.get(key)]
        if other:
            said = [
                f"{key} {shown(recorded.get(key))} there, {shown(mine.get(key))} now"
                for key in other[:_MOST_DIFFERENCES]
            ]
            more = len(other) - len(said)
            raise InputError(
                f"the results in {self.path} were made with other settings: {'; '.join(said)}"
                f"{f'; and {more} more' if more else ''}; give another --out, or --overwrite to "
                "remove them and start anew"
            )


def holds_results_of(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a folder is one of an evaluation with this identity, whatever its model."""
    try:
        there = _recorded(path) or {}
    except InputError:
        return False
    return {k: v for k, v in there.items() if k != _MODEL} == _flat(strict_json(identity))


def _recorded(path: Path) -> dict[str, Any] | None:
    """The identity in the record; None when there is no evaluation here."""
    if not (path / RECORD).is_file():
        return None
    try:
        content = read_json(path / RECORD, nan=True)
    except InputError as error:
        raise InputError(f"{path / RECORD} cannot be read ({error}); give another --out") from None
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        return None
    identity = content.get("identity")
    return _of_today(identity) if isinstance(identity, dict) else {}


def _json(content: Any) -> bytes:
    return (json.dumps(strict_json(content), indent=2) + "\n").encode()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"policy.choice": "motion", ...}``, to name each by one word."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _of_today(recorded: dict[str, Any]) -> dict[str, Any]:
    """What an earlier version recorded, under today's names of tracking settings."""
    for prefix in ("", "tracking."):
        policy = {
            key.removeprefix(f"{prefix}policy."): value
            for key, value in recorded.items()
            if key.startswith(f"{prefix}policy.")
        }
        if "memory" in policy:
            from vision_mem.tracking.config import TrackingConfig  # rarely needed

            # It was set and not read: all files counted pixels.
            upgraded = TrackingConfig.upgrade({"policy": policy | {"inclusive_box": True}})
            others = {k: v for k, v in recorded.items() if not k.startswith(f"{prefix}policy.")}
            return others | _flat(upgraded, prefix)
    return recorded


_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same results give the same file


def write_zip(path: Path, results: Path, names: Iterable[str]) -> None:
    """Pack result files; the same files give the same archive, which appears whole or not at all.

    Raises:
        SinkError: when it cannot be written.
    """
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (results / name).read_bytes())
    write_file(path, held.getvalue())
