"""The file of walks of an evaluation: one JSON line a route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError
from vision_mem.formats.text import LineFile
from vision_mem.vln.environment import Episode
from vision_mem.vln.graph import StreetGraph


class EpisodeFile:
    """``episodes.jsonl``: grows by whole lines, is read again to go on.

    Args:
        path: the file.
        identity: what the results depend on, the first line.
        graph: the streets.
        overwrite: begin anew.

    Attributes:
        episodes: walks in the file, by route.

    Raises:
        InputError: when it holds results of another run.
        SinkError: when it cannot be written.
    """

    def __init__(
        self, path: Path, identity: dict[str, Any], graph: StreetGraph, *, overwrite: bool
    ) -> None:
        self._graph = graph
        self.episodes: dict[str, Episode] = {}
        self._check(path, identity, overwrite)
        self._file = LineFile(path, append=not overwrite)
        kept = self._file.keep(self._is_ours)
        if not kept:
            self._file.write(json.dumps(identity))

    def _check(self, path: Path, identity: dict[str, Any], overwrite: bool) -> None:
        """Before anything is opened for writing: are these results of the same run?"""
        if overwrite or not path.exists():
            return
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                first = file.readline(1_000_000)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
        try:
            known = json.loads(first) if first.endswith("\n") else identity
        except (ValueError, RecursionError):
            known = None
        if known == identity:
            return
        known = known if isinstance(known, dict) else {}
        other = [key for key in identity if known.get(key) != identity[key]]
        raise InputError(
            f"{path} holds results of another run ({', '.join(other)} differ); give another "
            "folder, or overwrite them"
        )

    def _is_ours(self, number: int, line: str) -> bool:
        value = json.loads(line)
        if number == 0:
            return True
        walk = tuple(self._graph.number(name) for name in value["trajectory"])
        actions = tuple(map(str, value["actions"]))
        name = str(value["route"])
        self.episodes[name] = Episode(name, walk, actions, bool(value["stopped"]))
        return bool(walk)

    def add(self, episode: Episode) -> None:
        """Add one walk."""
        ids = [self._graph.ids[place] for place in episode.trajectory]
        value = {
            "route": episode.task_id,
            "trajectory": ids,
            "actions": list(episode.actions),
            "stopped": episode.stopped,
        }
        self._file.write(json.dumps(value))
        self.episodes[episode.task_id] = episode

    def close(self) -> None:
        """Close the file."""
        self._file.close()
