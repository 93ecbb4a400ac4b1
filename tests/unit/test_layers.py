"""Who may import whom: each layer sees itself and what lies below it, and nothing goes round."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from source_tree import SourceModule, circles, import_graph, read_modules

# From low to high. A module may import from rows above its own in this list, and from its own.
LAYERS = (
    ("errors", "types", "text", "config", "_lazy", "_version"),
    ("geometry",),
    ("formats",),
    ("sources",),
    ("session", "results"),
    ("visualization",),
    ("runs",),
    ("sinks",),
    ("models",),
    ("tracking",),
    ("mots",),
    ("videoqa",),
    ("reconstruction",),
    ("navigation",),
    ("stream_memory",),
    ("vln",),
    ("synthetic",),
    ("studio",),
    ("evaluation",),
    ("batch",),
    ("fleet",),
    ("api",),
    ("pipelines",),
    ("cli",),
    ("__main__",),
    ("",),  # the lazy public names: whoever imports the root package sees everything
)
RANK = {layer: rank for rank, row in enumerate(LAYERS) for layer in row}
# The command line must answer before anything is loaded: it knows the rest by text.
ONLY = {"cli": {"errors", "text", "_version"}}

# Everyone may compute with these; other packages stay behind the layers that read, show and run.
FOREIGN_ANYWHERE = {"numpy", "torch", "typing_extensions"}
FOREIGN_FREE = {
    "batch",
    "formats",
    "sources",
    "visualization",
    "runs",
    "sinks",
    "models",
    "evaluation",
}
FOREIGN = {
    "batch": {"fsspec", "natsort"},
    "cli": {"typer"},
    "fleet": {"cv2", "yaml"},
    "geometry": {"cv2", "scipy"},
    "navigation": {"scipy"},
    "pipelines": {"mcp", "pydantic", "rich", "typer", "uvicorn"},
    "reconstruction": {"cv2", "scipy", "skimage"},  # numba only by name, in kernels
    "studio": {"cv2", "fastapi", "starlette"},
    "synthetic": {"PIL", "cv2", "scipy", "skimage"},
    "text": {"yaml"},
    "tracking": {"filterpy"},
    "videoqa": {"scipy"},
    "vln": {"scipy"},
}


def _violations(modules: tuple[SourceModule, ...]) -> list[str]:
    graph = import_graph(modules)
    found = []
    for module in modules:
        layer = module.layer
        for name in sorted(graph[module.name]):
            top, *rest = name.split(".")
            if top == "vision_mem":
                other = rest[0] if rest else ""
                known = RANK.get(other, len(LAYERS)) <= RANK[layer]
                good = known and other in ONLY.get(layer, {other})
            else:
                allowed = FOREIGN_ANYWHERE | FOREIGN.get(layer, set()) | sys.stdlib_module_names
                good = layer in FOREIGN_FREE or top in allowed
            if not good:
                found.append(f"{module.name} imports {name}")
    return found


@pytest.fixture(scope="module")
def modules(root: Path) -> tuple[SourceModule, ...]:
    return read_modules(root, "vision_mem", "pipelines")


def test_each_folder_has_a_layer(modules: tuple[SourceModule, ...]) -> None:
    assert len(modules) > 300
    assert {module.layer for module in modules} == set(RANK)


def test_nothing_imports_upwards_or_foreign_code_in_the_wrong_place(
    modules: tuple[SourceModule, ...],
) -> None:
    found = _violations(modules)
    assert not found


def test_no_imports_go_round_in_a_circle(modules: tuple[SourceModule, ...]) -> None:
    found = circles(import_graph(modules))
    assert not found


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("geometry/boxes.py", "from vision_mem.tracking import TrackingSession"),
        ("formats/depth.py", "def read():\n    from vision_mem.sources import open"),
        ("formats/depth.py", "from ..sources.open import open_source"),
        ("runs/loop.py", "from vision_mem.sinks.table import TableSink"),
        ("tracking/session.py", "import cv2"),
        ("types.py", "import torchvision"),
        ("types.py", "from vision_mem import __version__"),
        ("cli.py", "from vision_mem.config import nearest"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, where: str, line: str) -> None:
    path = tmp_path / "vision_mem" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert len(_violations(read_modules(tmp_path, "vision_mem"))) == 1


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "vision_mem" / "mots"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from vision_mem.mots.session import MotsSession\n")
    (folder / "session.py").write_text("from vision_mem.mots import edits\n")
    (folder / "edits.py").write_text("def edit():\n    from .session import MotsSession\n")
    found = circles(import_graph(read_modules(tmp_path, "vision_mem")))
    assert found == [["vision_mem.mots.edits", "vision_mem.mots.session"]]
