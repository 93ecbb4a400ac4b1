"""The package installed in three ways, used from outside the checkout.

The heavy dependencies come from the environment that runs the tests, through a ``.pth`` file, so
that this takes seconds and no network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.package

PARTS = ("vision_mem", "pipelines", "configs")
FILES = ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md")


def _run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that nothing built stays in the tree."""
    copy = tmp_path_factory.mktemp("checkout") / "vision-mem"
    for part in PARTS:
        shutil.copytree(root / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(root / file, copy / file)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    """The wheel built from the sdist, as releases are."""
    _run(sys.executable, "-m", "build", "--no-isolation", ".", cwd=checkout)
    (built,) = (checkout / "dist").glob("*.whl")
    return built


def _environment(folder: Path) -> Path:
    """A new virtual environment that sees the installed dependencies, but not our package."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    site = Path(
        _run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder)[:-1]
    )
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    return python


@pytest.mark.parametrize("way", ["pip install .", "pip install -e .", "wheel from the sdist"])
def test_it_works_outside_the_checkout(
    way: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checkout = request.getfixturevalue("checkout")
    words = {"pip install .": [str(checkout)], "pip install -e .": ["-e", str(checkout)]}.get(way)
    if words is None:
        words = [str(request.getfixturevalue("wheel"))]
    shutil.rmtree(checkout / "build", ignore_errors=True)
    python = _environment(tmp_path / "env")
    _run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
        "--no-build-isolation", "--no-index", "--ignore-installed", *words, cwd=tmp_path,
    )  # fmt: skip

    outside = tmp_path / "elsewhere"
    outside.mkdir()
    command = python.parent / "vision-mem"
    assert "track" in _run(command, "--help", cwd=outside)
    assert "--box" in _run(command, "track", "--help", cwd=outside)
    assert "track" in _run(python, "-m", "vision_mem", "--help", cwd=outside)
    findings = json.loads(_run(command, "doctor", "--json", cwd=outside))
    assert findings["ok"]
    look = (
        "import vision_mem, vision_mem.pipelines.track, vision_mem.pipelines.demo; "
        "from vision_mem.config import preset_names; "
        "print(vision_mem.__file__); print(*preset_names('tracking'))"
    )
    place, presets = _run(python, "-c", look, cwd=outside).splitlines()
    assert ("-e" in way) == Path(place).is_relative_to(checkout)
    assert "samurai" in presets.split()
    leaked = "import importlib.util as u; print([n for n in ('pipelines', 'configs', 'tests') if "
    leaked += "u.find_spec(n) and 'vision-mem' in str(u.find_spec(n).origin)])"
    assert _run(python, "-c", leaked, cwd=outside).strip() == "[]"


def test_the_wheel_holds_what_is_needed_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "vision_mem/py.typed" in names
    assert "vision_mem/configs/tracking/samurai.yaml" in names
    assert "vision_mem/pipelines/track.py" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vision_mem"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
