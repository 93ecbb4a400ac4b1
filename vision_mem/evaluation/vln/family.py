"""Benchmarks of instructions to follow on street graphs; they have no frames."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.evaluation.options import (
    INPUT,
    MODEL,
    Option,
    SetOptions,
    Words,
    pairs_of,
    place_of,
    usual_folder,
)
from vision_mem.evaluation.registry import Dataset, Family

if TYPE_CHECKING:
    from vision_mem.evaluation.vln.job import StreetRequest

_LAYOUT = "nodes.txt, links.txt; or graph/ and data/SPLIT.json"
DATASETS: dict[str, Dataset] = {
    "touchdown": Dataset("Touchdown", _LAYOUT),
    "map2seq": Dataset("Map2Seq", _LAYOUT),
}


@dataclass(frozen=True)
class StreetRunOptions(SetOptions):
    """What a run on such a set may be told; its sequences are routes."""

    split: Annotated[str, Option("dev, test, ..., or a file of routes.", INPUT)] = "dev"
    street: Annotated[
        Words,
        Option(
            "key=value, as agent=gold (rules, forward, random), memory=long, navigator=velma, "
            "families=outdoor+paper, sights=FILE.",
            MODEL,
        ),
    ] = None


@dataclass(frozen=True)
class StreetOptions:
    """What ``--street key=value`` sets, as words; see ``StreetRequest``.

    Attributes:
        families: several with + between.
        steps: most actions a route, ``limit`` there.
        sights, landmarks, map: files; empty for none.
    """

    agent: str = "rules"
    memory: str = "short"
    navigator: str = "touchdown"
    families: str = "outdoor"
    threshold: float = 3.0
    steps: int = 55
    seed: int = 0
    sights: str = ""
    landmarks: str = ""
    map: str = ""


@dataclass(frozen=True)
class StreetPlan:
    """Routes to walk, one after the other."""

    wanted: StreetRequest

    def carry_out(self, out: Path | None, *, resume: bool, overwrite: bool, quiet: bool) -> int:
        """Walk what is left, and print one table a family of measures."""
        from vision_mem.evaluation.vln.job import evaluate_street, holds_routes_of
        from vision_mem.runs.signals import StopSignals

        name = f"{self.wanted.dataset}-{Path(self.wanted.split).stem}-{self.wanted.agent}"
        out = out or usual_folder(name, lambda old: holds_routes_of(old, self.wanted), overwrite)
        if resume and not holds_routes_of(out, self.wanted):
            raise InputError(f"{out} holds no results to go on with; leave out --resume")

        def say(done: int, total: int) -> None:
            if not quiet and (done % 100 == 0 or done == total):
                print(f"route {done} of {total}", file=sys.stderr, flush=True)

        with StopSignals() as signals:
            report = evaluate_street(
                self.wanted, out, overwrite=overwrite, say=say,
                should_stop=lambda: signals.received is not None,
            )  # fmt: skip
        if report.left:
            print(
                f"stopped with {report.left} routes left; the same command goes on with {out}",
                file=sys.stderr,
            )
        if not quiet:
            print("\n".join([*report.lines, f"results: {out}"]))
        return signals.exit_code


class VlnFamily(Family):
    """Instructions on street graphs; only our own runs are scored, with their walks."""

    line = "instructions to follow on streets"

    datasets = DATASETS

    def options(self, dataset: str) -> type[StreetRunOptions]:
        """What a run may be told."""
        return StreetRunOptions

    def plan(
        self, dataset: str, options: StreetRunOptions, say: Callable[[str], None]
    ) -> StreetPlan:
        """What is to be run, see ``registry.Family``."""
        asked = load_config(StreetOptions, None, pairs_of(options.street), folder="streets")
        if asked.agent == "model":
            raise InputError(
                "agent 'model' needs a function that completes prompts; from Python, call "
                "evaluate_street(..., complete=...)"
            )
        for name in ("sights", "landmarks", "map"):
            given = getattr(asked, name)
            if given and not Path(given).expanduser().is_file():
                raise InputError(f"--street {name}={given}: no such file")
        root = place_of(options.root, dataset)
        from vision_mem.evaluation.vln.job import StreetRequest

        return StreetPlan(
            StreetRequest(
                dataset, root, options.split, asked.agent, asked.memory, asked.navigator,
                tuple(asked.families.split("+")), asked.threshold, asked.steps, asked.seed,
                Path(asked.sights) if asked.sights else None,
                Path(asked.landmarks) if asked.landmarks else None, options.max_sequences,
                Path(asked.map) if asked.map else None,
            )
        )  # fmt: skip


FAMILY = VlnFamily()
