"""Rules of the house that a reader would otherwise have to check: names, settings, dead modules."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import re
import typing
from collections import Counter
from pathlib import Path

import pytest
from source_tree import SourceModule, import_graph, read_modules

from vision_mem.cli import COMMANDS, module_of

Modules = tuple[SourceModule, ...]

# The studio is 14 of them; polygons, zones, ONNX (2), senders, agents, mcp; api.py has the systems
# in one line of Python; six formats of other tools have a file each, and sinks/annotations.py
# writes them; the camera's motion, masks from tokens; windows, classes, intervals and cuts of ask;
# segmenters as graphs (5), their command, and ONNX Runtime, which detectors share; inputs, jobs and
# index of batch; chat completions; the segmenters of transformers, and theirs as graphs; depth that
# comes in live, robots' logs and the pictures in them, COLMAP's text, points in a page (5); fleets
# (9 and their command), and passes that streams share; the joined memories of a stream (package,
# budget, session, run) and their command; appearance, class windows, the gallery of several cameras
# and pictures of tracks; the ledger of things and its questions.
MOST_MODULES = 458
MOST_LINES = 60  # of a command's body: one screen
STANDARD_NAMES = {*dir(builtins), *typing.__all__, *collections.abc.__all__}

# Settings that nothing reads by name, with the reason why they may stay.
READ_OTHERWISE: dict[str, str] = {}

# Modules that nothing in the package or its scripts imports, with the reason why they may stay.
USED_FROM_OUTSIDE = {
    "vision_mem.__main__": "python -m vision_mem",
    "vision_mem.pipelines": "the package of the commands",
    "vision_mem.models.segmenters.fake": "a segmenter for tests, ours and those of users",
}


@pytest.fixture(scope="module")
def modules(root: Path) -> Modules:
    return read_modules(root, "vision_mem", "pipelines")


@pytest.fixture(scope="module")
def scripts(root: Path) -> Modules:
    return read_modules(root, "scripts")


# What is looked for -----------------------------------------------------------------------------


def _doubles(modules: Modules) -> list[str]:
    counts = Counter(made.name for module in modules for made in module.classes)
    return sorted(name for name, count in counts.items() if count > 1)


def _hiding(modules: Modules) -> list[str]:
    names = {made.name for module in modules for made in module.classes}
    return sorted(names & STANDARD_NAMES)


def _fields(made: ast.ClassDef) -> list[str]:
    """Fields of a frozen dataclass of settings; nothing for other classes."""
    kinds = [ast.unparse(each) for each in made.decorator_list]
    frozen = any("dataclass" in kind and "frozen=True" in kind for kind in kinds)
    if not frozen or not re.search(r"(Config|Options)$", made.name):
        return []
    return [
        each.target.id
        for each in made.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and "ClassVar" not in ast.unparse(each.annotation)
    ]


def _reads(tree: ast.AST) -> Counter[str]:
    return Counter(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


def _unread(modules: Modules, scripts: Modules = ()) -> list[str]:
    """``Class.field`` of settings that are only checked, never used."""
    everywhere: Counter[str] = Counter()
    for module in (*modules, *scripts):
        everywhere += _reads(module.tree)
    found = []
    for module in modules:
        for made in module.classes:
            checks = Counter[str]()
            for each in made.body:  # a value that is only refused is not used
                if isinstance(each, ast.FunctionDef) and each.name == "__post_init__":
                    checks += _reads(each)
            found += [
                f"{made.name}.{name}"
                for name in _fields(made)
                if everywhere[name] <= checks[name] and f"{made.name}.{name}" not in READ_OTHERWISE
            ]
    return sorted(found)


def _unused(modules: Modules, scripts: Modules = ()) -> list[str]:
    """Modules that nothing imports and no table names."""
    used = {*USED_FROM_OUTSIDE, *map(module_of, COMMANDS)}
    for names in import_graph((*modules, *scripts)).values():
        used |= names
    for module in modules:
        used |= {
            # A function is named as module:function, also from the table's own package.
            f"{package}{node.value.partition(':')[0]}"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for package in ("", f"{module.name}.")
        }
    return sorted(
        module.name
        for module in modules
        if module.name not in used and module.path.name != "__init__.py"
    )


def _commands(modules: Modules) -> dict[str, int]:
    """Lines of body, less the docstring, of each function that is a command."""
    found = {}
    for module in modules:
        for node in module.tree.body if module.layer == "pipelines" else ():
            if not isinstance(node, ast.FunctionDef):
                continue
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            if node.name == "main" or any(".command(" in mark for mark in marks):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body and node.end_lineno else 0
                found[f"{module.name.rpartition('.')[2]}.{node.name}"] = lines
    return found


# The rules --------------------------------------------------------------------------------------


def test_no_class_name_is_used_twice(modules: Modules) -> None:
    assert _doubles(modules) == []


def test_no_class_hides_a_standard_name(modules: Modules) -> None:
    assert _hiding(modules) == []


def test_each_setting_is_read(modules: Modules, scripts: Modules) -> None:
    assert _unread(modules, scripts) == []


def test_each_module_is_used(modules: Modules, scripts: Modules) -> None:
    assert _unused(modules, scripts) == []
    names = {module.name for module in modules}
    assert not set(USED_FROM_OUTSIDE) - names, "an exception for a module that is gone"


def test_the_house_does_not_grow(modules: Modules) -> None:
    assert len(modules) <= MOST_MODULES


_ALL = _commands(read_modules(Path(__file__).resolve().parents[2], "pipelines"))


@pytest.mark.parametrize("command", sorted(_ALL))
def test_a_command_fits_on_a_screen(command: str) -> None:
    assert _ALL[command] < MOST_LINES


# That each rule can be broken -------------------------------------------------------------------


def _planted(root: Path, **files: str) -> Modules:
    for name, text in files.items():
        folder = root / ("pipelines" if name == "command" else "vision_mem")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
    return read_modules(root, *(path.name for path in root.iterdir()))


def test_planted_names_are_found(tmp_path: Path) -> None:
    planted = _planted(
        tmp_path, one="class Track: ...\nclass Sequence: ...", two="def f():\n class Track: ..."
    )
    assert _doubles(planted) == ["Track"]
    assert _hiding(planted) == ["Sequence"]


def test_a_planted_setting_is_found(tmp_path: Path) -> None:
    text = (
        "@dataclass(frozen=True)\nclass BirthConfig:\n"
        "    read: int = 1\n    checked: int = 2\n    helped: int = 3\n    of: ClassVar[int] = 4\n"
        "    def __post_init__(self):\n        assert self.checked > 0\n"
        "    def helper(self):\n        return self.helped\n"
    )
    planted = _planted(tmp_path, one=text, two="def f(config):\n    return config.read\n")
    assert _unread(planted) == ["BirthConfig.checked"]


def test_a_planted_module_without_use_is_found(tmp_path: Path) -> None:
    table = "import vision_mem.two\nHOME = {'name': 'vision_mem.three'}\n"
    planted = _planted(tmp_path, one=table, two="from vision_mem import one", three="", four="")
    assert _unused(planted) == ["vision_mem.four"]


def test_a_planted_command_is_measured(tmp_path: Path) -> None:
    long = "\n".join(f"    step({n})" for n in range(MOST_LINES))
    text = f'def main():\n    """Do it."""\n{long}\n@app.command("go")\ndef go():\n    step(1)\n'
    text += f"def helper():\n{long}\n"
    planted = _planted(tmp_path, command=text)
    assert _commands(planted) == {"command.main": MOST_LINES, "command.go": 1}
