"""Run a tracker on a benchmark: result files, scores, what its server wants.

Each set is a command of its own, with the options of its family (``vision_mem.evaluation``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from vision_mem.config import nearest
from vision_mem.errors import InputError
from vision_mem.evaluation.options import ADVANCED, INPUT, MODEL, PLACE, SetOptions, words_of
from vision_mem.evaluation.registry import Family, families, family_of

from .options import OUTPUT, AsJson, GroupedCommand, Overwrite, Quiet, Resume, grouped, help_record

_ORDER = (None, INPUT, MODEL, OUTPUT, PLACE, ADVANCED)
_MOST_NAMED = 4


class BenchmarkCommand(GroupedCommand):
    """One set; an option that only other families have is told to be theirs."""

    kind_of: Callable[[Family, str], type[Any] | None]

    def get_params(self, ctx: Any) -> list[Any]:
        """Options in the order of their headings."""
        return sorted(
            super().get_params(ctx), key=lambda p: _ORDER.index(getattr(p, "rich_help_panel", None))
        )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the set's."""
        try:
            return list(super().parse_args(ctx, args))
        except Exception as error:
            if type(error).__name__ != "NoSuchOption":
                raise
            word = str(getattr(error, "option_name", ""))
            raise InputError(f"no such option {word} for {self.name}{self._whose(word)}") from None

    def _whose(self, word: str) -> str:
        said = ""
        for family in families().values():
            have = []
            for dataset in family.datasets:
                kind = self.kind_of(family, dataset)
                have += [dataset] if kind is not None and word in words_of(kind) else []
            more = ", ..." if len(have) > _MOST_NAMED else ""
            said += f"; of {family.line}: {', '.join(have[:_MOST_NAMED])}{more}" if have else ""
        return said or nearest(word, [name for each in self.params for name in each.opts])


class BenchmarkGroup(TyperGroup):
    """All sets, as commands that are made when they are asked for; see ``benchmark_app``."""

    about: str
    kind_of: Callable[[Family, str], type[Any] | None]
    run: Callable[..., int]
    groups: Mapping[str, type[Any]]

    def list_commands(self, ctx: Any) -> list[str]:
        """All sets."""
        return [word for _, some in self._sets() for word in some]

    def get_command(self, ctx: Any, cmd_name: str) -> BenchmarkCommand:
        """The command of a set.

        Raises:
            InputError: when there is none.
        """
        family = family_of(cmd_name)
        kind = self.kind_of(family, cmd_name)
        if kind is None:
            known = ", ".join(self.list_commands(ctx))
            raise InputError(f"{cmd_name} scores no files but its own runs; there are {known}")

        def command(**given: Any) -> int:
            return self.run(cmd_name, **given)

        kinds = {"options": kind, **self.groups}
        command.__annotations__ = {**kinds, "return": int}
        command.__signature__ = Signature(  # type: ignore[attr-defined]
            [Parameter(name, Parameter.KEYWORD_ONLY) for name in kinds]
        )
        made = typer.Typer(add_completion=False, rich_markup_mode=None)
        row = family.datasets.get(cmd_name)
        layout = f"\n\nFolder of {row.title}: {row.layout}." if row and row.layout else ""
        made.command(cmd_name, cls=BenchmarkCommand, help=self.about + layout)(grouped(command))
        found = typer.main.get_command(made)
        assert isinstance(found, BenchmarkCommand)
        found.kind_of = self.kind_of
        return found

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the set's word first, wherever it stands."""
        known = [i for i, w in enumerate(args) if any(f.knows(w) for f in families().values())]
        if known and args[0].startswith("-"):  # a folder may be called as a set is, before it
            args = [args[known[-1]], *args[: known[-1]], *args[known[-1] + 1 :]]
        return list(super().parse_args(ctx, args))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sets by family, then the options that all of them have."""
        shared: dict[str, tuple[str, str]] | None = None
        for family, some in self._sets():
            with formatter.section(family.line.capitalize()):
                formatter.write_dl([(word, family.datasets[word].title) for word in some])
            command = self.get_command(ctx, some[0])
            params = {p.name: help_record(p, ctx) for p in command.get_params(ctx)}
            shared = {n: r for n, r in params.items() if r and (shared is None or n in shared)}
        shared = {name: row for name, row in (shared or {}).items() if name != "help"}
        with formatter.section("Options of all sets (DATASET --help shows its own)"):
            formatter.write_dl(list(shared.values()))

    def _sets(self) -> list[tuple[Family, list[str]]]:
        every = [
            (family, [word for word in family.datasets if self.kind_of(family, word) is not None])
            for family in families().values()
        ]
        return [(family, some) for family, some in every if some]


def benchmark_app(
    about: str,
    kind_of: Callable[[Family, str], type[Any] | None],
    run: Callable[..., int],
    **groups: type[Any],
) -> typer.Typer:
    """The command of all sets.

    Args:
        about: what is done with a set.
        kind_of: the options of a family for a set, a dataclass; None where there are none.
        run: does it: gets the set's word, ``options``, and the parameters that ``groups`` names.
        groups: of options that all families share.
    """
    held: dict[str, Any] = {"about": about, "groups": groups}
    held |= {"kind_of": staticmethod(kind_of), "run": staticmethod(run)}
    app = typer.Typer(
        cls=type("BenchmarkGroup", (BenchmarkGroup,), held), help=about, add_completion=False,
        no_args_is_help=True, rich_markup_mode=None, options_metavar="",
        subcommand_metavar="DATASET [OPTIONS]",
    )  # fmt: skip
    app.callback()(lambda: None)
    return app


@dataclass(frozen=True)
class EvalOutput:
    """Where results go."""

    heading: ClassVar[str] = OUTPUT

    out: Annotated[Path | None, typer.Option(help="Results folder [runs/eval/DATASET-PRESET].")] = (
        None
    )
    resume: Resume = False
    overwrite: Overwrite = False
    quiet: Quiet = False


def evaluate(dataset: str, options: SetOptions, output: EvalOutput) -> int:
    """Run on a set and score it, see ``registry.Plan``; says the exit code.

    Raises:
        VisionMemError: for what cannot be run.
    """
    if output.resume and output.overwrite:
        raise InputError("--overwrite and --resume exclude each other: give one of them")

    def say(line: str) -> None:
        if not output.quiet:
            print(line, file=sys.stderr)

    plan = family_of(dataset).plan(dataset, options, say)
    return plan.carry_out(
        output.out, resume=output.resume, overwrite=output.overwrite, quiet=output.quiet
    )


app = benchmark_app(
    "Run a tracker on a benchmark and score it.\n\nResults go to --out in the set's own format. "
    "The same command goes on where it was cut off. A set of one's own is named by the "
    "module:function that opens it.",
    lambda family, dataset: family.options(dataset), evaluate, output=EvalOutput,
)  # fmt: skip


def evaluate_cities(
    cities: Annotated[int, typer.Option(min=1, help="Generated cities.")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks of each kind, a city and seed.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions.")] = 3,
    tour: Annotated[int, typer.Option(min=0, help="Steps of the walk beforehand.")] = 3000,
    reach: Annotated[float, typer.Option(help="Metres that the detector sees.")] = 15.0,
    field: Annotated[float, typer.Option(help="Degrees that it sees.")] = 240.0,
    missed: Annotated[float, typer.Option(help="Share that it misses.")] = 0.35,
    navigator: Annotated[str, typer.Option(help="touchdown, velma.")] = "touchdown",
    out: Annotated[Path | None, typer.Option(help="Write all numbers as JSON.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """What a memory of streets is worth: the controlled table in generated cities.

    The same follower everywhere; only what it remembers differs. Generated cities are easier than
    real ones. How it was set up, and what was tried: docs/navigation.md.
    """
    from vision_mem.evaluation.vln.city_experiment import CityExperiment, run_city_experiment
    from vision_mem.formats.text import make_folder, write_file
    from vision_mem.runs.signals import StopSignals
    from vision_mem.synthetic.city import DetectorConfig

    experiment = CityExperiment(
        cities=cities, episodes=episodes, seeds=seeds, tour=tour, navigator=navigator,
        detector=DetectorConfig(reach_m=reach, field=field, missed=missed),
    )  # fmt: skip
    with StopSignals() as signals:
        table = run_city_experiment(
            experiment,
            say=None if quiet else lambda line: print(line, file=sys.stderr, flush=True),
            should_stop=lambda: signals.received is not None,
        )
    value = {
        "experiment": asdict(experiment), "coverage": table.coverage, "seconds": table.seconds,
        "rows": [row.as_dict() for row in table.rows],
    }  # fmt: skip
    if out is not None:
        make_folder(out.parent)
        write_file(out, (json.dumps(value, indent=1) + "\n").encode())
    print(json.dumps(value) if as_json else "\n".join(table.lines()))
    return signals.exit_code
