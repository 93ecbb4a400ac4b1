"""Options in groups: declared once, shown under headings, recorded and taken back."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import typer

from vision_mem.config import preset_names
from vision_mem.errors import InputError

options = importlib.import_module("vision_mem.pipelines.options")


@dataclass(frozen=True)
class Fruit:
    """A group."""

    heading: ClassVar[str] = "Fruit"
    apples: Annotated[int | None, typer.Option(min=1, help="How many.")] = None
    pears: Annotated[list[str] | None, typer.Option("--pear", help="Their names.")] = None


@dataclass(frozen=True)
class MoreFruit(Fruit):
    """A group that says one option otherwise and adds one."""

    apples: Annotated[int | None, typer.Option(min=1, help="How many more.")] = None
    ripe: Annotated[bool, typer.Option("--ripe", help="Only ripe ones.")] = False


seen: list[tuple[Any, ...]] = []


def eat(
    place: Annotated[Path, typer.Argument(help="Where.")],
    fruit: MoreFruit = MoreFruit(),
    quiet: Annotated[bool, typer.Option("--quiet", help="No noise.")] = False,
) -> int:
    """Eat fruit."""
    seen.append((place, fruit, quiet))
    return 3


def _run(*words: str) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=options.GroupedCommand)(options.grouped(eat))
    return app(args=list(words), prog_name="eat", standalone_mode=False)


def test_groups_are_filled_from_words_and_defaults() -> None:
    seen.clear()
    assert _run("here", "--pear", "a", "--pear", "b", "--ripe", "--quiet") == 3
    assert _run("here") == 3
    assert seen == [
        (Path("here"), MoreFruit(pears=["a", "b"], ripe=True), True),
        (Path("here"), MoreFruit(), False),
    ]


def test_help_has_a_heading_for_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    _run("--help")
    shown = capsys.readouterr().out
    parts = [shown.index(word) for word in ("Arguments:", "Fruit:", "How many more", "Options:")]
    assert parts == sorted(parts)
    assert shown.index("--quiet") > shown.index("Options:") > shown.index("--ripe")
    assert "How many." not in shown
    assert Fruit.__annotations__, "the shared declaration is not changed"


def test_a_continued_run_takes_its_options_from_the_record() -> None:
    given = options.flat(MoreFruit(ripe=True))
    assert options.take_options(MoreFruit, given, None) == MoreFruit(ripe=True)
    recorded = {"apples": 4, "ripe": True}
    assert options.take_options(MoreFruit, given, recorded) == MoreFruit(apples=4, ripe=True)
    with pytest.raises(InputError, match="--apples is 5 but was 4 in the run to continue"):
        options.take_options(MoreFruit, options.flat(MoreFruit(apples=5)), recorded)


@pytest.mark.parametrize("folder", ["tracking", "mots", "videoqa"])
def test_help_and_completion_know_the_presets_that_ship(folder: str) -> None:
    option = options.preset_option(folder)
    assert all(name in option.help for name in preset_names(folder))
    assert option.autocompletion("s") == [n for n in preset_names(folder) if n.startswith("s")]
