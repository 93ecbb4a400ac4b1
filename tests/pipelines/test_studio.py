"""``vision-mem studio`` as users start and stop it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

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


def test_a_source_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", "nothing.mp4"]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["studio", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be listened on" in capsys.readouterr().err


def test_it_starts_follows_and_finishes_its_files(small_clip: Path, tmp_path: Path) -> None:
    import httpx

    words = ["studio", str(small_clip), "--model", FAKE, "--port", "0", "--token", "a-test-token"]
    words += ["--out", str(tmp_path / "out"), "--ask", "none", "--no-open"]
    command = [sys.executable, "-m", "vision_mem", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("studio: ").strip()
            assert address.endswith("?token=a-test-token")
            with httpx.Client(base_url=address.partition("?")[0], timeout=30) as api:
                api.headers["Authorization"] = "Bearer a-test-token"
                assert api.get("/healthz").json() == {"ok": True}
                (stream,) = api.get("/api/streams").json()
                said = {"command": "prompt", "frame": 0, "box": [30, 28, 40, 40]}
                done = api.post(f"/api/streams/{stream['id']}/commands", json=said)
                assert done.json()["object"] == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(30) in (0, 130)
        finally:
            process.kill()
    folder = tmp_path / "out" / stream["id"]
    assert json.loads((folder / "commands.jsonl").read_text())["object"] == 1
    assert (folder / "objects" / "1.safetensors").exists()
    assert not list(folder.glob("*-wal"))
