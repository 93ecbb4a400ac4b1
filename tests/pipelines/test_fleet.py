"""``fleet`` with real processes: equal to runs alone, killed and back, told by HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vision_mem.cli import main
from vision_mem.fleet.cameras import CameraEntry, read_cameras
from vision_mem.fleet.device_host import DeviceHost, HostPlan, LocalHost
from vision_mem.fleet.status_server import StatusServer
from vision_mem.fleet.supervisor import Fleet
from vision_mem.pipelines.batch import run_command
from vision_mem.pipelines.fleet import words_of

FAKE = "vision_mem.models.segmenters.fake:FakeSegmenter"
BOX = "cup=30,28,40,40"


@pytest.fixture
def place(small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("one", "two", "three"):
        shutil.copy(small_clip, tmp_path / f"{name}.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(place: Path, **cameras: dict[str, Any]) -> Path:
    defaults = {"model": FAKE, "save": "lasot"}
    fresh = place / "list.new"
    fresh.write_text(json.dumps({"defaults": defaults, "cameras": cameras}))
    fresh.replace(place / "list.yaml")
    return place / "list.yaml"


def boxes(folder: Path) -> bytes:
    (path,) = (folder / "lasot").rglob("*.txt")
    return path.read_bytes()


def wait_for(seen: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_cameras_of_a_device_are_equal_to_runs_alone(place: Path) -> None:
    words = ("--box", BOX, "--model", FAKE, "--save", "lasot")
    alone = ["one.mp4", *words, "--quiet", "--threads", "1", "--out", str(place / "alone")]
    assert run_command("track", alone) == 0
    want = boxes(place / "alone")

    host = DeviceHost(HostPlan("auto", run_command, place / "log.txt", slots=2, snapshot_every=8))
    host.begin(
        CameraEntry("endless", "one.mp4", words=words, paced=True), place / "out" / "endless"
    )
    for name in ("one", "two"):
        host.begin(CameraEntry(name, f"{name}.mp4", words=words), place / "out" / name)
    states = lambda: {one.name: one.state for one in host.status()}  # noqa: E731
    wait_for(lambda: states()["endless"] == "running")
    host.end("endless")  # one goes, another comes; the others do not notice
    host.begin(CameraEntry("three", "three.mp4", words=words), place / "out" / "three")
    wait_for(lambda: set(states().values()) == {"finished"})
    for name in ("one", "two", "three"):
        assert boxes(place / "out" / name) == want
    assert len(host._models._made) == 1, "one copy of the weights"
    statuses = {one.name: one for one in host.close()}
    assert statuses["one"].objects == {1: "cup"} and statuses["one"].frames == 32
    assert json.loads((place / "out" / "endless" / "run.json").read_text())["status"] == "stopped"


@contextmanager
def running(fleet: Fleet) -> Iterator[list[bool]]:
    stop, ended = threading.Event(), []
    thread = threading.Thread(target=lambda: ended.append(fleet.run(stop.is_set)))
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_killed_and_back_with_its_identities_while_the_list_changes(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = "before_inputs_stream:cup"
    (place / "before_inputs_stream.py").write_text(
        "import numpy as np\n"
        "def cup():\n"
        "    for t in range(10**6):\n"
        "        image = np.full((96, 160, 3), 80, np.uint8)\n"
        "        image[30:70, 30 + t % 60 : 70 + t % 60] = (220, 30, 30)\n"
        "        yield image\n"
    )
    stays = {"source": source, "box": "cup=30,30,40,40", "paced": True}
    secret = "http://me:s3cret@127.0.0.1:9/none"
    path = write(
        place, stays=stays, wrong={"source": "one.mp4", "box": "cup=900,900,9,9", "events": secret}
    )
    cameras, mistakes = read_cameras(path, words_of)
    assert not mistakes
    out = place / "out"
    plan = HostPlan("auto", run_command, out / "logs" / "p.txt", snapshot_every=5)
    fleet = Fleet(path, out, [plan], LocalHost, words_of)
    fleet.begin(cameras)
    server = StatusServer(("127.0.0.1", 0), fleet.view)

    def said(what: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{what}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def seen(name: str) -> dict[str, Any]:
        rows = {one["name"]: one for one in fleet.view()["cameras"]}
        return rows.get(name) or {"frames": 0, "state": ""}

    with running(fleet):
        wait_for(lambda: seen("stays")["frames"] > 12 and seen("wrong")["state"] == "failed")
        assert said("health")[0] == 503 and '"wrong": "failed"' in said("health")[1]
        objects, pid = seen("stays")["objects"], fleet.view()["devices"][0]["pid"]
        assert objects == {1: "cup"}
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        path = write(place, stays=stays | {"delay_ms": 300}, comes=stays | {"paced": False})
        wait_for(lambda: fleet.view()["devices"][0]["restarts"] == 1)
        wait_for(lambda: seen("stays")["state"] == "running" and 0 < seen("stays")["frames"] < 99)
        assert time.monotonic() - killed < 30  # scripts/bench/fleet.py asks for 10
        wait_for(lambda: seen("comes")["frames"] > 3)
        assert seen("stays")["objects"] == objects and seen("stays")["budget_s"] == 0.3
        assert seen("wrong")["state"] == "", "it was taken out of the list"
        assert said("health")[0] == 200
        assert 'vision_mem_fleet_restarts_total{camera="stays"} 1' in said("metrics")[1]
        assert "<td>stays</td>" in said("")[1] and said("nowhere")[0] == 404
        path.write_text("cameras: {stays: {sauce: 1}}")
        wait_for(lambda: fleet.mistakes)
        assert seen("stays")["state"] == "running", "a slip in the list ends nothing"
    server.close()
    said_here = capfd.readouterr().err
    assert "camera wrong: " in said_here and "ended by SIGKILL" in said_here
    assert "camera stays, source: is missing" in said_here and "Traceback" not in said_here
    records = [out / "fleet.json", out / "status.json", out / "stays" / "run.json"]
    assert not any("s3cret" in path.read_text() for path in records)
    rows = boxes(out / "stays").splitlines()
    record = json.loads((out / "stays" / "run.json").read_text())
    assert len(rows) == record["frames"] and record["status"] == "stopped"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["nowhere.yaml"], "nowhere.yaml cannot be read: no such file"),
        (["list.yaml", "--resume", "--overwrite"], "exclude each other"),
        (["list.yaml", "--listen", "here"], "--listen 'here': expected HOST:PORT"),
        (["list.yaml", "--listen", "no.such.host:1"], "expected the number of an address"),
        (["list.yaml", "--out", "full"], "holds other files"),
        (["list.yaml", "--out", "held"], "--resume goes on with it"),
        (["bad.yaml"], "bad.yaml line 1, camera a, source: is missing"),
        (["none.yaml"], "there are no cameras in it"),
    ],
)
def test_slips_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    write(place, one={"source": "one.mp4", "box": BOX})
    (place / "bad.yaml").write_text("cameras: {a: {weight: 1}}")
    (place / "none.yaml").write_text("cameras: {}")
    for folder, name in (("full", "x.txt"), ("held", "fleet.json")):
        (place / folder).mkdir()
        (place / folder / name).write_text('{"lines": {}}')
    listen = [] if "--listen" in more else ["--listen", "none"]
    assert main(["fleet", *more, *listen]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_list_can_be_checked_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(place, one={"source": "one.mp4", "box": BOX})
    assert main(["fleet", "list.yaml", "--check"]) == 0
    assert capsys.readouterr().out == "1 camera, nothing wrong\n"
    assert not (place / "runs").exists()
