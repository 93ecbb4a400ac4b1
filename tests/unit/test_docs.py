"""What the docs name is there: modules, files, links, and options of the command line."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vision_mem import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "THIRD_PARTY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
TOP = "vision_mem|pipelines|configs|scripts|tests|docs"
FOREIGN = {"analysis/extract_results.py"}  # of pytracking
PARAMETRIZED = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# -- modules and files -------------------------------------------------------------------------


@PARAMETRIZED
def test_every_module_that_is_named_exists(page: Path) -> None:
    text = text_of(page)
    named = set(re.findall(r"\bvision_mem(?:\.[A-Za-z_]\w*)+", text))
    for module, names in re.findall(r"from (vision_mem[\w.]*) import ([\w, ]+)", text):
        named |= {f"{module}.{name.strip()}" for name in names.split(",")}
    assert sorted(name for name in named if not resolves(name)) == []


def resolves(dotted: str) -> bool:
    """Whether a name below ``vision_mem`` is a package, a module, or something defined in one."""
    parts = dotted.split(".")[1:]
    place = ROOT if parts[0] in ("pipelines", "configs") else ROOT / "vision_mem"
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / "__init__.py"
    if parts and (place / f"{parts[0]}.py").is_file():
        module = place / f"{parts.pop(0)}.py"
    return not parts or parts[0] in names_in(module)


@cache
def names_in(module: Path) -> frozenset[str]:
    tree = ast.parse(text_of(module))
    found = {alias.asname or alias.name for node in ast.walk(tree)
             if isinstance(node, ast.ImportFrom) for alias in node.names}  # fmt: skip
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


@PARAMETRIZED
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = text_of(page)
    named = re.findall(rf"(?<![\w./-])(?:{TOP})/[\w./-]*[\w/]", text)
    missing = [
        name for name in named if not re.search("[A-Z]", name) and not (ROOT / name).exists()
    ]
    # `reid.py` alone, or `models/hub.py`, is some file of the package, the scripts or the tests.
    for name in set(re.findall(r"(?<![\w./-])(?:[a-z_0-9]+/)*[a-z_0-9]+\.py\b", text)) - FOREIGN:
        if not name.startswith("my") and not any(file.endswith(f"/{name}") for file in files()):
            missing.append(name)
    assert sorted(set(missing)) == []


@cache
def files() -> frozenset[str]:
    return frozenset(
        f"/{path.relative_to(ROOT)}"
        for top in TOP.split("|")
        for path in (ROOT / top).rglob("*.py")
    )


@PARAMETRIZED
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", text_of(page)):
        if target.startswith(("http:", "https:")):
            continue
        other = page.parent / target if target else page
        is_there = other.exists() and (not anchor or anchor in anchors(other))
        wrong += [] if is_there else [f"{target}#{anchor}"]
    assert wrong == []


@cache
def anchors(page: Path) -> frozenset[str]:
    titles = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles)


# -- the command line --------------------------------------------------------------------------


@PARAMETRIZED
def test_every_option_that_is_shown_exists(page: Path) -> None:
    wrong = []
    for words in command_lines(text_of(page)):
        known = options_of(words)
        wrong += [f"{' '.join(words[:2])} {word}" for word in words
                  if word.startswith("--") and word not in known]  # fmt: skip
    assert sorted(set(wrong)) == []


def command_lines(text: str) -> Iterator[list[str]]:
    """Words behind ``vision-mem``, of code blocks and of code within lines."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"^    vision-mem .*$", rest, re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]*)`", rest)]
    for line in lines:
        called = re.match(r"\s*(?:\S+/)?vision-mem ([a-z].*)", line)
        if called is not None:
            said = re.split(r"\s#\s|\s#$|\s\|\s|;", called[1])[0]
            yield [word.split("=")[0] for word in said.split()]


def options_of(words: list[str]) -> frozenset[str]:
    """Options of a command, and of its second word where that is a command or a benchmark."""
    command = words[0]
    if command not in cli.COMMANDS:
        raise AssertionError(f"no command {command!r}")
    second = words[1].partition("|")[0] if len(words) > 1 else ""
    known = helped(command)
    if command in ("navigate", "eval", "score") and re.fullmatch(r"[a-z][\w:.-]*", second):
        known |= helped(command, second)
    if command == "batch" and second in cli.COMMANDS:
        known |= helped(second)
    renamed = getattr(cli, "OLD_WORDS", {})
    for called in (command, f"{command} {second}"):
        known |= frozenset(renamed.get(called, {}).values())
    return known


@cache
def helped(*words: str) -> frozenset[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        cli.main([*words, "--help"])
    lines = re.findall(r"^\s+-.*$", said.getvalue(), re.MULTILINE)
    return frozenset(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(lines)))


def test_a_planted_mistake_is_found() -> None:
    assert not resolves("vision_mem.tracking.icp") and resolves(
        "vision_mem.tracking.kalman.predict"
    )
    lines = list(
        command_lines("```bash\nvision-mem track A --bxo 1 # --b\n```\n`vision-mem\ndemo`")
    )
    assert lines == [["track", "A", "--bxo", "1"], ["demo"]]
    assert "--bxo" not in options_of(lines[0]) and "--box" in options_of(lines[0])


# -- the layers ---------------------------------------------------------------------------------


def test_the_picture_and_the_contributors_page_name_every_layer() -> None:
    layers = {
        path.stem for path in (ROOT / "vision_mem").iterdir()
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    } | {"pipelines"}  # fmt: skip
    picture = text_of(ROOT / "docs" / "images" / "architecture.svg")
    for text in (picture, text_of(ROOT / "CONTRIBUTING.md")):
        assert sorted(name for name in layers if not re.search(rf"\b{name}\b", text)) == []


def test_the_table_of_wishes_names_files() -> None:
    text = text_of(ROOT / "docs" / "architecture.md").partition("open this file")[2]
    rows = re.findall(r"^\| (.+?) \| `([\w./-]+)`", text, re.MULTILINE)
    assert len(rows) >= 12
    assert [wish for wish, file in rows if not (ROOT / file).is_file()] == []


def test_the_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) < 150
