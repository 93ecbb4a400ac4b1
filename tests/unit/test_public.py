"""The names on the front door: all there, typed, documented, and loaded only when asked for."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import vision_mem
from vision_mem.cli import COMMANDS, module_of


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, vision_mem; sys.exit(repr([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules]) if {'torch', 'numpy', 'cv2'} & set(sys.modules) else 0)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(set(vision_mem.__all__) - {"__version__"}))
def test_each_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(vision_mem, name)
    assert inspect.getdoc(thing), f"{name} has no docstring"
    assert name in dir(vision_mem)
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
        assert not untyped
        assert signature.return_annotation is not signature.empty


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trackr'"):
        _ = vision_mem.Trackr


def test_type_checkers_see_the_same_names() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(vision_mem.__file__).read_text(encoding="utf-8"))
    checked = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.If)
        for inner in node.body
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }
    assert checked == set(vision_mem.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_its_pipeline(name: str) -> None:
    module = importlib.import_module(module_of(name))
    assert COMMANDS[name] == (inspect.getdoc(module) or "").splitlines()[0]
    if not hasattr(module, "app"):  # a group of commands, each with its own words
        assert inspect.getdoc(module.main)
    else:
        assert all(each.callback.__doc__ for each in module.app.registered_commands)
