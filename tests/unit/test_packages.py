"""The list of packages in pyproject.toml against the folders that are there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib") if sys.version_info < (3, 11) else __import__("tomllib")


def test_the_list_of_packages_is_the_tree(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    listed = settings["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(root).parts)
        for path in (root / "vision_mem").rglob("__init__.py")
    }
    found |= {"vision_mem.configs", "vision_mem.pipelines"}
    assert sorted(found) == sorted(listed)
    for folder in ("configs", "pipelines"):
        assert (root / folder / "__init__.py").is_file()
        assert not [p for p in (root / folder).rglob("__init__.py") if p.parent != root / folder]


def test_pipelines_cannot_be_imported_under_a_second_name(root: Path) -> None:
    import importlib.util

    path = root / "pipelines" / "__init__.py"
    spec = importlib.util.spec_from_file_location("pipelines", path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"vision_mem\.pipelines"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
