"""Clusters that do not answer, actors that die, machines that are not fit: what is said."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vision_mem._version import __version__
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.engine.ray import _hand_out
from vision_mem.evaluation.engine.runner import Failed, Finished, Ready
from vision_mem.evaluation.options import check_cluster


@pytest.fixture
def address() -> Iterator[str]:
    """Of something that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_clusters_that_do_not_answer_are_told_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the extra [ray]")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    fits: tuple[str | None, ...] = (None, "local", "auto", address, f"ray://{address}")
    for fit in fits:
        check_cluster(fit)
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"127.0.0.1:{server.getsockname()[1]}"
    for wrong, why in {
        gone: "connection refused", "head": "no host:port", "head:99999": "no host:port",
        "no.such.invalid:6379": "known", "a\nb:1": "no host:port",
    }.items():  # fmt: skip
        with pytest.raises(InputError) as caught:
            check_cluster(wrong)
        said = str(caught.value)
        assert why in said and "expected an address as 10.0.0.1:6379" in said and "\n" not in said
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(gone)  # of one that was killed
    with pytest.raises(InputError, match="connection refused"):
        check_cluster("auto")


class LostActor(Exception):
    """Stands for the kinds of ``ray.exceptions``."""


class LocalRay:
    """Runs what actors are asked at once; ``deaths`` says which calls end with their actor."""

    exceptions = SimpleNamespace(RayError=LostActor)

    def __init__(self, *deaths: tuple[str, str]) -> None:
        self.deaths, self.made, self.killed = list(deaths), 0, 0
        self.asked: list[tuple[str, Any]] = []

    def make(self) -> Any:
        self.made += 1
        ready = Ready("fake", f"process {self.made}", "cpu")
        return SimpleNamespace(
            ready=SimpleNamespace(remote=lambda: self._ask("", ready)),
            run=SimpleNamespace(remote=lambda job: self._ask(job.name, Finished(job.name, {}, {}))),
        )

    def _ask(self, name: str, answer: Any) -> int:
        self.asked.append((name, answer))
        return len(self.asked) - 1

    def wait(self, references: list[int], num_returns: int, timeout: float) -> Any:
        return references[:1], references[1:]

    def get(self, reference: int) -> Any:
        name, answer = self.asked[reference]
        for death in self.deaths:
            if death[0] == name:
                self.deaths.remove(death)
                raise LostActor(death[1])
        return answer

    def kill(self, actor: Any) -> None:
        self.killed += 1


def _handed_out(ray: LocalRay, names: str, stop: bool = False) -> list[Any]:
    told: list[Any] = []
    jobs: list[Any] = [SimpleNamespace(name=name) for name in names]
    _hand_out(ray, ray.make, 2, jobs, told.append, lambda: stop)
    return [each for each in told if not isinstance(each, Ready)]


GONE = "The actor is temporarily unavailable: RpcError"


@pytest.mark.parametrize(
    ("deaths", "failed", "made"),
    [
        ([], "", 2),
        ([("a", GONE)], "", 3),
        ([("a", GONE), ("b", GONE), ("a", GONE)], "", 5),
        ([("b", GONE)] * 3, "b", 5),
        ([("", GONE)] * 2 + [("c", GONE)], "", 5),
    ],
)
def test_who_dies_is_replaced_and_what_it_did_is_tried_again(
    deaths: list[tuple[str, str]], failed: str, made: int
) -> None:
    ray = LocalRay(*deaths)
    told = {each.sequence: each for each in _handed_out(ray, "abcd")}
    assert set(told) == set("abcd")
    assert {name for name, each in told.items() if isinstance(each, Failed)} == set(failed)
    for name in failed:
        assert told[name].reason.startswith(f"each of the 3 workers that tried it ended ({GONE}")
    assert (ray.made, ray.killed) == (made, made), "and none is left"


ABSENT = """The actor died because of an error raised in its creation task (pid=7, ip=10.0.0.8)
RuntimeError: The actor with name _Actor failed to import on the worker.
ModuleNotFoundError: No module named 'vision_mem'"""


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (ABSENT, "the machine 10.0.0.8 of the cluster lacks vision-mem; install vision-mem {"),
        (ABSENT[:-1] + ".batch'", "10.0.0.8 of the cluster has another vision-mem; install"),
        ("No module named 'vision_mem'", "a machine of the cluster lacks vision-mem; install"),
    ],
)
def test_machines_that_are_not_fit_are_told_in_a_line(how: str, says: str) -> None:
    ray = LocalRay(("", how))
    with pytest.raises(VisionMemError) as caught:
        _handed_out(ray, "ab")
    assert says.replace("{", __version__) in str(caught.value)
    assert "\n" not in str(caught.value) and ray.killed == ray.made


def test_actors_that_never_begin_end_the_run() -> None:
    ray = LocalRay(*[("", "no room")] * 3)
    with pytest.raises(VisionMemError, match="an actor ended before it had its model: no room"):
        _handed_out(ray, "ab")


def test_nothing_is_handed_out_after_a_stop() -> None:
    ray = LocalRay()
    assert _handed_out(ray, "ab", stop=True) == [] and ray.killed == ray.made
