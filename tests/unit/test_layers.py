"""Who may import whom: each layer sees itself and what lies below it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

# Lower rows first. A file may import from rows above its own, and from its own row where the row
# says so. `vision_mem` itself (the lazy public names) and the command line see everything by name.
GROUND = {"types", "errors", "config", "vision_mem"}
ALLOWED = {
    "types": {"errors"},
    "errors": set(),
    "config": {"errors"},
    "geometry": GROUND | {"geometry"},
    "ops": GROUND | {"ops", "geometry"},
    "cutouts": GROUND,
    "synthetic": GROUND | {"cutouts", "geometry"},
    "scenes": GROUND | {"cutouts", "synthetic"},
    "crowds": GROUND | {"cutouts", "synthetic", "geometry", "io"},
    "crowdfiles": GROUND | {"crowds", "geometry", "io"},
    "streams": GROUND | {"cutouts", "synthetic"},
    "streamtemplates": GROUND | {"streams"},
    "streamquestions": GROUND | {"streams", "streamtemplates"},
    "streamfiles": GROUND | {"streams", "streamquestions", "io"},
    "io": GROUND | {"geometry", "ops", "io"},
    "models": GROUND | {"geometry", "ops", "io", "models"},
    "session": GROUND,
    "interrupt": GROUND | {"session"},
    "tracking": GROUND | {"geometry", "ops", "io", "models.protocols", "session", "tracking"},
    "mots": GROUND | {"geometry", "ops", "io", "models.protocols", "session", "tracking", "mots"},
    "videoqa": GROUND | {"geometry", "ops", "io", "models.videoqa_protocols", "session", "videoqa"},
    "navigation": GROUND | {"geometry", "ops", "io", "models.protocols", "session", "navigation"},
    "reconstruction": GROUND
    | {"geometry", "ops", "io", "models.protocols", "session", "reconstruction"}
    | {"models.mem4d_protocols", "models.mem4d_config"},
    "evaluation": GROUND
    | {"geometry", "ops", "io", "models.protocols", "models.detectors.protocol", "session"}
    | {"models.videoqa_protocols", "tracking", "mots", "navigation", "videoqa", "evaluation"}
    | {"reconstruction"},
    "cli": GROUND,
}
# Foreign code lives behind io and models; everyone may compute with these.
FOREIGN_ANYWHERE = {"numpy", "torch", "typing_extensions"}
FOREIGN = {
    "cli": {"typer"},
    "config": {"omegaconf", "yaml"},
    "geometry": {"cv2", "scipy"},
    "cutouts": {"cv2", "skimage"},
    "crowdfiles": {"PIL"},
    "navigation": {"scipy"},
    "ops": {"scipy"},
    "streams": {"cv2"},
    "synthetic": {"cv2"},
    "tracking": {"filterpy"},
    "reconstruction": {"cv2", "scipy", "skimage"},  # numba only by name, in kernels
    "videoqa": {"scipy"},
}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def _violations(path: Path, layer: str) -> list[str]:
    wrong = []
    for name in sorted(_imports(path)):
        top, *rest = name.split(".")
        if top == "vision_mem":
            allowed = ALLOWED[layer] | {layer}
            inner = ".".join(rest)
            is_open = not rest or any(inner == a or inner.startswith(f"{a}.") for a in allowed)
            if not is_open and inner != "__version__" and inner != "models":
                wrong.append(name)
        elif layer not in ("io", "models", "evaluation"):
            known = FOREIGN_ANYWHERE | FOREIGN.get(layer, set()) | sys.stdlib_module_names
            wrong += [name] if top not in known else []
    return wrong


def _modules(root: Path) -> list[tuple[str, Path]]:
    package = root / "vision_mem"
    found = []
    for path in sorted(package.rglob("*.py")):
        layer = path.relative_to(package).parts[0].removesuffix(".py")
        if layer not in ("__init__", "__main__"):
            found.append((layer, path))
    return found


def test_every_file_keeps_to_its_layer(root: Path) -> None:
    modules = _modules(root)
    assert len(modules) > 20
    unknown = {layer for layer, _ in modules} - set(ALLOWED)
    assert not unknown, f"say in ALLOWED what {unknown} may import"
    wrong = {
        str(path.relative_to(root)): found
        for layer, path in modules
        if (found := _violations(path, layer))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        ("geometry", "from vision_mem.tracking import TrackingSession"),
        ("tracking", "from vision_mem.models.segmenters.sam2.segmenter import Sam2Segmenter"),
        ("tracking", "import cv2"),
        ("types", "import torchvision"),
        ("cli", "from vision_mem.tracking.session import TrackingSession"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, layer: str, line: str) -> None:
    path = tmp_path / "planted.py"
    path.write_text(line + "\n")
    assert _violations(path, layer)
