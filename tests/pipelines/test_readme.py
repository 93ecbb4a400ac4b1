"""What the README shows is true: its Python runs, its tables list what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vision_mem.cli import COMMANDS
from vision_mem.config import preset_names
from vision_mem.sinks.registry import MOTS_SINKS, SINKS


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def run_code(readme: str, number: int, *changes: tuple[str, str]) -> None:
    """Run one of the README's pieces of Python, with other names of files."""
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[number]
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, "README.md", "exec"), {})


def test_the_python_session_runs(
    readme: str, small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The clip is smaller than the one in the README, and needs no trained weights to run.
    run_code(
        readme,
        0,
        ('"dog.mp4"', repr(str(small_clip))),
        ('"embedded"', '"random:sam2.1_hiera_t@128"'),
        ("[120, 80, 180, 170]", "[30, 28, 70, 68]"),
        ('"dog.safetensors"', repr(str(tmp_path / "dog.safetensors"))),
    )
    assert len(capsys.readouterr().out.splitlines()) == 32
    assert (tmp_path / "dog.safetensors").is_file()


def test_the_python_session_of_many_objects_runs(
    readme: str, small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_code(
        readme,
        1,
        ('"street.mp4"', repr(str(small_clip))),
        ('"embedded"', '"random:sam2.1_hiera_t@128"'),
    )
    first, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ 1 moving \[[\d. ]+\]", first) and len(others) > 5


def test_a_memory_to_ask_runs(
    readme: str, small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_code(readme, 2, ('"day.mp4"', repr(str(small_clip))), ('"words"', '"fake"'))
    assert re.fullmatch(r"\d\.\d s, -?\d\.\d\d", capsys.readouterr().out.splitlines()[0])


def test_tables_list_commands_presets_and_outputs(readme: str, root: Path) -> None:
    for name in COMMANDS:
        assert f"| `vision-mem {name}` |" in readme
    tables = (root / "docs" / "track.md").read_text(encoding="utf-8")
    for name in preset_names("tracking"):
        assert f"| `{name}`" in tables
    for name in set(SINKS) - {"window"}:
        assert f"`{name}`" in tables
    tables = (root / "docs" / "mots.md").read_text(encoding="utf-8")
    for name in (*preset_names("mots"), *MOTS_SINKS):
        assert f"`{name}`" in tables
    tables = (root / "docs" / "ask.md").read_text(encoding="utf-8")
    for name in preset_names("videoqa"):
        assert f"`{name}`" in tables


@pytest.mark.parametrize("command", ["track", "mots", "ask", "reconstruct", "eval", "score"])
def test_every_option_that_is_shown_exists(
    command: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vision_mem.cli import main

    main([command, "--help"])
    known = capsys.readouterr().out
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    shown = re.findall(rf"^vision-mem {command} [^\n]*", text, re.MULTILINE)
    assert shown
    options = {option for line in shown for option in re.findall(r"--[a-z-]+", line)}
    assert {option for option in options if option not in known} == set()
