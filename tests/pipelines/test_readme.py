"""What the README and the commands' pages show is true: Python runs, tables list what there is."""

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


def run_code(page: str, *changes: tuple[str, str]) -> None:
    """Run the first piece of Python below that heading, with other names of files."""
    below = re.split(r"^## (?:From )?Python$", page, flags=re.MULTILINE)[1]
    code = re.findall(r"```python\n(.*?)```", below, re.DOTALL)[0]
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, "page.md", "exec"), {})


def test_the_python_session_runs(
    readme: str, small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The clip is smaller than the one in the README, and needs no trained weights to run.
    run_code(
        readme,
        ('"dog.mp4"', repr(str(small_clip))),
        ('"embedded"', '"random:sam2.1_hiera_t@128"'),
        ("[120, 80, 180, 170]", "[30, 28, 70, 68]"),
        ('"dog.safetensors"', repr(str(tmp_path / "dog.safetensors"))),
    )
    assert len(capsys.readouterr().out.splitlines()) == 32
    assert (tmp_path / "dog.safetensors").is_file()


def test_the_python_session_of_many_objects_runs(
    root: Path, small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_code(
        (root / "docs" / "mots.md").read_text(encoding="utf-8"),
        ('"street.mp4"', repr(str(small_clip))),
        ('"embedded"', '"random:sam2.1_hiera_t@128"'),
    )
    first, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ 1 moving \[[\d. ]+\]", first) and len(others) > 5


def test_a_memory_to_ask_runs(
    root: Path, small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (root / "docs" / "ask.md").read_text(encoding="utf-8")
    run_code(page, ('"day.mp4"', repr(str(small_clip))), ('"words"', '"fake"'))
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
