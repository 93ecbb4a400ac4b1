"""Names of a package that are loaded on first use: torch takes seconds, settings need not wait."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's ``__init__`` needs: ``__getattr__``, ``__dir__`` and ``__all__``.

    Its names are those that it imports under ``if TYPE_CHECKING:``, as ``Name as Name``, so that
    people, type checkers and this function read one list.

    Args:
        package: its ``__name__``.
    """
    module: Any = sys.modules[package]
    source = module.__loader__.get_source(package)
    homes = {
        alias.name: str(node.module)
        for branch in ast.parse(source).body if isinstance(branch, ast.If)
        for node in branch.body if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }  # fmt: skip

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    return load, lambda: sorted({*vars(module), *homes}), list(homes)


def distant(home: str) -> Callable[..., Any]:
    """A function of a layer above, loaded when it is called for: values can show themselves.

    Args:
        home: ``module:function``.
    """
    module, _, name = home.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
