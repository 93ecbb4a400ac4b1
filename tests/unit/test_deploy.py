"""The files of ``deploy/`` name what there is: options, extras, files, cameras."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from vision_mem.fleet.cameras import read_cameras
from vision_mem.pipelines.batch import built_command
from vision_mem.pipelines.fleet import words_of


@pytest.fixture(scope="module")
def deploy(root: Path) -> Path:
    return root / "deploy"


def options_of(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def taken() -> set[str]:
    return {name for param in built_command("fleet").params for name in param.opts}


def test_lists_of_cameras_are_right(deploy: Path, tmp_path: Path) -> None:
    cameras, mistakes = read_cameras(deploy / "cameras.yaml", words_of)
    assert not mistakes and len(cameras) == 4
    parts = list(yaml.safe_load_all((deploy / "kubernetes.yaml").read_text()))
    (text,) = (one["data"]["cameras.yaml"] for one in parts if one["kind"] == "ConfigMap")
    (tmp_path / "cameras.yaml").write_text(text)
    cameras, mistakes = read_cameras(tmp_path / "cameras.yaml", words_of)
    assert not mistakes and len(cameras) == 1


def test_compose_runs_what_there_is(deploy: Path) -> None:
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    dockerfile = (deploy / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.M))
    for service in services.values():
        if "build" in service:
            assert service["build"]["target"] in stages
    fleet = services["fleet"]["command"]
    assert fleet[0] == "fleet" and options_of(fleet) <= taken()
    simulator = services["simulator"]["command"]
    said = (deploy / "camera_simulator.py").read_text()
    assert all(f'"{option}"' in said for option in options_of(simulator))
    sources = [one.source for one in read_cameras(deploy / "cameras.yaml", words_of)[0]]
    assert [int(source.split(":")[2].split("/")[0]) - 8554 for source in sources] == [0, 1, 2, 3]


def test_kubernetes_runs_what_there_is(deploy: Path) -> None:
    parts: list[Any] = list(yaml.safe_load_all((deploy / "kubernetes.yaml").read_text()))
    assert [one["kind"] for one in parts] == [
        "ConfigMap", "PersistentVolumeClaim", "RayCluster", "Deployment", "Service",
    ]  # fmt: skip
    pod = parts[3]["spec"]["template"]["spec"]
    assert options_of(pod["containers"][0]["args"]) <= taken()
    claims = {one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"][:1]}
    assert claims == {parts[1]["metadata"]["name"]}


def test_the_image_is_made_of_what_there_is(deploy: Path, root: Path) -> None:
    text = (deploy / "Dockerfile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"pip install [^&\n]*'\.\[(.*)\]'", text)
    project = (root / "pyproject.toml").read_text()
    for extra in line.split(","):
        assert re.search(rf"^{extra} = \[", project, re.M)
    for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        for source in shlex.split(words)[:-1]:
            assert (root / source).exists()
