"""The studio's API and its safety, over a real socket: who comes in, and what comes of nonsense."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_servers import mjpeg_server, rtsp_server, tcp_server
from studio_server import BEARER, TOKEN, client, read_by_coco, serving
from studio_streams import RED, picture, wait

from vision_mem.studio.access_control import Allowance
from vision_mem.studio.frames import encode_jpeg
from vision_mem.studio.registry import Studio
from vision_mem.studio.server import _COMMANDS_A_SECOND, _COMMANDS_AT_ONCE
from vision_mem.studio.stream import read_frame_message
from vision_mem.synthetic.clips import demo_clip
from vision_mem.visualization.contact_sheet import write_video

pytest.importorskip("fastapi", reason="extra [studio] is not installed")

Server = tuple[str, Studio]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_clip: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("studio")
    root = folder / "root"
    root.mkdir()
    for name in ("cup.mp4", "clip.mp4"):
        (root / name).write_bytes(small_clip.read_bytes())
    (folder / "secret.mp4").write_bytes(small_clip.read_bytes())
    (root / "link.mp4").symlink_to(folder / "secret.mp4")
    with serving(folder / "out", root) as made:
        yield made


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    with client(server[0]) as made:
        yield made
        for each in made.get("/api/streams").json():
            made.delete(f"/api/streams/{each['id']}")
    time.sleep(0.05)


@pytest.fixture(autouse=True)
def _in_no_hurry(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_mem.studio import access_control

    monkeypatch.setattr(access_control.Allowance, "take", lambda self: True)


def _open(api: httpx.Client, source: str = "cup.mp4") -> str:
    answer = api.post("/api/streams", json={"source": source})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _do(api: httpx.Client, stream: str, command: str, **said: Any) -> httpx.Response:
    return api.post(f"/api/streams/{stream}/commands", json={"command": command, **said})


def _until(api: httpx.Client, stream: str, done: Any, limit_s: float = 20) -> dict[str, Any]:
    end = time.monotonic() + limit_s
    while not done(state := api.get(f"/api/streams/{stream}").json()):
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return dict(state)


# -- what it is for ------------------------------------------------------------------------------


def test_follow_look_take_home_and_close(api: httpx.Client) -> None:
    stream = _open(api)
    _until(api, stream, lambda state: state["head"] == 0)
    box = {"box": [30, 28, 40, 40], "name": "<img src=x onerror=alert(1)>"}
    assert _do(api, stream, "prompt", frame=0, **box).json()["object"] == 1
    assert _do(api, stream, "seek", frame=31).status_code == 200
    state = _until(api, stream, lambda state: state["head"] == 31 and not state["behind"])
    assert state["objects"][0]["name"] == box["name"]
    state = _until(api, stream, lambda state: -1 not in (state["objects"][0]["lane"] or [-1]))
    assert set(state["objects"][0]["lane"]) <= {0, 1, 2}
    lines = api.get(f"/api/streams/{stream}/results", params={"from": 3, "to": 5}).text.splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [3, 4, 5]
    assert read_by_coco(json.loads(lines[0])["objects"][0]["segmentation"]).shape == (96, 160)
    shown = api.get(f"/api/streams/{stream}/frame/7.jpg")
    assert shown.headers["content-type"] == "image/jpeg" and shown.content[:2] == b"\xff\xd8"
    assert state["objects"][0]["events"][0] == [0, "added"]
    events = api.get(f"/api/streams/{stream}/events").json()
    assert {"frame": 0, "object": 1, "events": ["added"]} in events
    zipped = api.get(f"/api/streams/{stream}/export", params={"formats": "rle,video,png"})
    names = zipfile.ZipFile(io.BytesIO(zipped.content)).namelist()
    assert "cup/cup.masks.jsonl" in names and "cup/cup_tracked.mp4" in names
    assert len([name for name in names if name.endswith(".png")]) == 32
    assert "frames_followed_per_second" in api.get("/metrics").text
    assert api.delete(f"/api/streams/{stream}").status_code == 204
    assert api.get(f"/api/streams/{stream}").status_code == 404


def test_the_model_is_warm_before_the_first_click(server: Server) -> None:
    server[1].warm_up()
    assert server[1].streams == {}


def _examples(language: str) -> list[str]:
    """What docs/studio.md shows how to do, in one language."""
    text = (Path(__file__).parents[3] / "docs" / "studio.md").read_text()
    api_part = text.partition("\n## API")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", api_part, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_curl_example_of_the_documentation(api: httpx.Client, server: Server) -> None:
    (commands,) = _examples("bash")
    script = commands.replace("localhost:8765", server[0].partition("//")[2])
    assert script != commands
    done = subprocess.run(
        ["bash", "-ec", script], env={"TOKEN": TOKEN, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    opened, prompted = json.JSONDecoder(), done.stdout
    first, end = opened.raw_decode(prompted)
    second, _ = opened.raw_decode(prompted[end:].strip())
    assert first["id"] == "clip-mp4" and second["object"] == 1, done.stdout
    assert api.get(f"/api/streams/{first['id']}").json()["objects"][0]["name"] == "cup"


def test_the_python_example_of_the_documentation(
    api: httpx.Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = _examples("python")
    assert len(code.strip().splitlines()) <= 12
    uploads = server[1].out / "uploads"
    uploads.mkdir(exist_ok=True)
    demo = demo_clip()  # of which two frames do, and take no time to film
    write_video(uploads / "cup.mp4", (demo.render(t).image for t in range(2)), 30.0)
    code = code.replace("http://localhost:8765", server[0]).replace(
        "Bearer TOKEN", BEARER["Authorization"]
    )
    names: dict[str, Any] = {}
    exec(compile(code, "docs/studio.md", "exec"), names)
    names["api"].close()
    told = capsys.readouterr().out
    assert "'object': 1" in told and "'name': 'cup'" in told


def test_files_are_listed_and_sent(api: httpx.Client, small_clip: Path) -> None:
    assert [each["name"] for each in api.get("/api/files").json()] == ["clip.mp4", "cup.mp4"]
    answer = api.post(
        "/api/files", params={"name": "../../Mine & yours.MP4"}, content=small_clip.read_bytes()
    )
    assert answer.json() == {"source": "upload:Mine_yours.mp4"}
    assert _open(api, answer.json()["source"]).startswith("mine-yours")


def test_pictures_of_a_browser_and_three_pages(api: httpx.Client, server: Server) -> None:
    import websockets

    stream = _open(api, "browser")
    where = f"ws{server[0][4:]}/api/streams/{stream}"
    seen: list[list[tuple[int, bytes]]] = [[], [], []]

    async def page(n: int, stop: asyncio.Event) -> None:
        async with websockets.connect(f"{where}/live", additional_headers=BEARER) as socket:
            while not stop.is_set():
                try:
                    message = await asyncio.wait_for(socket.recv(), 0.3)
                except asyncio.TimeoutError:
                    continue
                if isinstance(message, bytes):
                    head, content = read_frame_message(message)
                    seen[n].append((head["frame"], content))
                    await socket.send("{}")

    async def run() -> None:
        stop = asyncio.Event()
        pages = [asyncio.create_task(page(n, stop)) for n in range(3)]
        async with websockets.connect(f"{where}/camera", additional_headers=BEARER) as camera:
            for t in range(12):
                await camera.send(encode_jpeg(picture(t)))
                assert await camera.recv() == "ok"
                await asyncio.sleep(0.03)
            for bad in (b"", b"GIF89a", b"\xff\xd8" + b"\0" * 40, _huge_jpeg()):
                await camera.send(bad)
                assert "error" in json.loads(await camera.recv())
        await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*pages)

    asyncio.run(run())
    by_page = [dict(each) for each in seen]
    common = set.intersection(*map(set, by_page))
    assert len(common) >= 4
    assert all(len({by[frame] for by in by_page}) == 1 for frame in common)
    assert _do(api, stream, "prompt", frame=max(common), **RED).json()["object"] == 1


@pytest.mark.parametrize(
    ("serve", "address"),
    [
        (partial(mjpeg_server, encode=encode_jpeg), "http://me:hunter2@127.0.0.1:{}/live.mjpg"),
        (tcp_server, "tcp://127.0.0.1:{}"),
        (rtsp_server, "rtsp://me:hunter2@127.0.0.1:{}/live"),
    ],
    ids=["mjpeg", "tcp", "rtsp"],
)
def test_live_addresses_are_followed_and_their_passwords_stay_here(
    api: httpx.Client, server: Server, serve: Any, address: str
) -> None:
    with serve(picture) as port:
        stream = _open(api, address.format(port))
        head = _until(api, stream, lambda state: (state["head"] or 0) > 2)["head"]
        done = _do(api, stream, "prompt", frame=head, box=[128, 8, 24, 64], name="blue")
        assert done.json()["object"] == 1
        state = _until(api, stream, lambda state: state["head"] > head + 5 and not state["behind"])
        assert (state["live"], state["width"], state["height"]) == (True, 160, 96)
        folder = server[1].out / stream
        told = [api.get(path).text for path in (f"/api/streams/{stream}", "/metrics")]
        told += [path.read_text() for path in (folder / "stream.json", folder / "commands.jsonl")]
        told += [json.dumps(server[1].streams[stream].actor.status), stream]
        assert all("hunter2" not in text for text in told)
        assert api.delete(f"/api/streams/{stream}").status_code == 204


def _huge_jpeg() -> bytes:
    """A head that speaks of 60,000 pixels a side, and nothing behind it."""
    return b"\xff\xd8\xff\xc0\x00\x11\x08\xea\x60\xea\x60\x03" + b"\x01\x22\x00" * 3 + b"\xff\xd9"


# -- who comes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 401),
        ("GET", "/api/streams", {}, 401),
        ("GET", "/app.js", {}, 401),
        ("GET", "/api/streams", {"Authorization": "Bearer wrong"}, 401),
        ("GET", "/?token=wrong", {}, 401),
        ("GET", "/api/streams?token=" + TOKEN, {}, 401),
        ("GET", "/api/streams", {"Cookie": "vision-mem-studio-8765=wrong"}, 401),
        ("GET", "/healthz", {}, 200),
        ("GET", "/healthz", {"Host": "evil.example"}, 421),
        ("GET", "/api/streams", BEARER | {"Host": "evil.example:8765"}, 421),
        ("GET", "/api/streams", BEARER | {"Host": "[::bad"}, 421),
        ("POST", "/api/streams", BEARER | {"Origin": "http://evil.example"}, 403),
        ("POST", "/api/streams", BEARER | {"Origin": "null"}, 403),
        ("POST", "/api/streams", BEARER | {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/api/streams", BEARER, 200),
    ],
)
def test_who_is_let_in(
    server: Server, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = httpx.request(method, server[0] + path, headers=headers)
    assert answer.status_code == status
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} == set(answer.json())


def test_the_address_with_its_token_becomes_a_cookie(server: Server) -> None:
    answer = httpx.get(f"{server[0]}/?token={TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    page = httpx.get(server[0] + "/", headers={"Cookie": cookie.partition(";")[0]})
    assert page.status_code == 200 and "<script>" not in page.text and "onclick" not in page.text


@pytest.mark.parametrize(
    "headers", [{}, BEARER | {"Origin": "http://evil.example"}, {"Authorization": "Bearer no"}]
)
def test_sockets_are_guarded_too(
    server: Server, api: httpx.Client, headers: dict[str, str]
) -> None:
    import websockets

    stream = _open(api)

    async def run() -> None:
        for kind in ("live", "camera"):
            where = f"ws{server[0][4:]}/api/streams/{stream}/{kind}"
            with pytest.raises(websockets.exceptions.InvalidStatus):
                await websockets.connect(where, additional_headers=headers)

    asyncio.run(run())


# -- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("../secret.mp4", "not below"),
        ("/etc/passwd", "not below"),
        ("link.mp4", "not below"),
        ("upload:../../secret.mp4", "not below"),
        ("~/.ssh/id_rsa", "not below|no such"),
        ("os:getcwd", "code is not run"),
        ("file:///etc/passwd", "must begin"),
        ("concat://a|b", "must begin"),
        ("nothing.mp4", "no such file"),
        ("", "empty"),
        ("a\x00b", "no text"),
        ("http://user:hunter2@127.0.0.1:9/x", "cannot be reached"),
        ("99", "camera 99"),
    ],
)
def test_what_may_not_be_opened(api: httpx.Client, source: str, why: str) -> None:
    answer = api.post("/api/streams", json={"source": source})
    assert answer.status_code == 400 and re.search(why, answer.json()["detail"])
    assert "hunter2" not in answer.text and len(answer.json()["detail"].splitlines()) == 1
    assert api.get("/api/streams").json() == []


def test_streams_and_objects_are_limited(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_mem.studio import registry
    from vision_mem.studio import stream as actors

    stream = _open(api)
    _until(api, stream, lambda state: state["head"] == 0)
    monkeypatch.setattr(actors, "MOST_OBJECTS", 1)
    box = {"frame": 0, "box": [30, 28, 40, 40]}
    assert _do(api, stream, "prompt", **box).status_code == 200
    refused = _do(api, stream, "prompt", **box)
    assert refused.status_code == 400 and "1 objects are followed" in refused.json()["detail"]
    monkeypatch.setattr(registry, "MOST_STREAMS", 1)
    answer = api.post("/api/streams", json={"source": "cup.mp4"})
    assert answer.status_code == 400 and "close one first" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/..%2f..%2fetc/passwd", 404),
        ("/%2e%2e/server.py", 404),
        ("/server.py", 404),
        ("/app.js", 200),
    ],
)
def test_pages_are_only_pages(api: httpx.Client, path: str, status: int) -> None:
    assert api.get(path).status_code == status


def test_the_page_makes_text_of_names_and_never_markup() -> None:
    from importlib.resources import files

    scripts = [each for each in (files("vision_mem.studio") / "page").iterdir()
               if each.name.endswith((".js", ".html"))]  # fmt: skip
    ways = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\(|"
                      r"new Function|\son[a-z]+=[\"']")  # fmt: skip
    found = {each.name: ways.findall(each.read_text(encoding="utf-8")) for each in scripts}
    assert len(found) >= 6 and not any(found.values()), found


def test_uploads_are_bounded(
    api: httpx.Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_mem.studio import registry
    from vision_mem.studio import server as module

    monkeypatch.setattr(module, "LARGEST_UPLOAD", 1000)

    def chunks() -> Iterator[bytes]:
        for _ in range(8):
            yield b"x" * 500

    send = {"params": {"name": "a.mp4"}}
    assert api.post("/api/files", content=b"x" * 2000, **send).status_code == 413
    assert api.post("/api/files", content=chunks(), **send).status_code == 413
    assert api.post("/api/files", params={"name": "a.sh"}, content=b"x").status_code == 400
    assert not list((server[1].out / "uploads").glob("a*"))
    answer = api.post("/api/files", content=b"no video at all", **send)
    assert api.post("/api/streams", json=answer.json()).status_code == 400
    monkeypatch.setattr(registry, "MOST_UPLOADS", 1)
    assert api.post("/api/files", content=b"x", **send).status_code == 400


def test_nonsense_is_refused_in_a_line(api: httpx.Client) -> None:
    stream = _open(api)
    for body in ({}, {"command": 7}, {"command": "prompt"}, {"command": "seek", "frame": 10**9}):
        answer = api.post(f"/api/streams/{stream}/commands", json=body)
        assert answer.status_code == 400 and answer.json()["status"] == 400
    for content in (b"", b"[", b"[]", b'"x"', b"\xff"):
        answer = api.post(f"/api/streams/{stream}/commands", content=content)
        assert answer.status_code == 422 and "detail" in answer.json()
    assert api.get(f"/api/streams/{stream}/export?formats=doc").status_code == 400
    assert api.get(f"/api/streams/{stream}/frame/99999.jpg").status_code == 404
    assert api.post(f"/api/streams/{stream}/ask", json={"question": "when?"}).status_code == 400


def test_two_hundred_commands_a_second(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    stream = _open(api)
    begin = time.monotonic()
    codes = [_do(api, stream, "pause").status_code for _ in range(200)]
    most = _COMMANDS_AT_ONCE + _COMMANDS_A_SECOND * (time.monotonic() - begin) + 1
    assert min(200, _COMMANDS_AT_ONCE) <= codes.count(200) <= most
    assert set(codes) <= {200, 429} and (most > 199 or 429 in codes)
    time.sleep(0.3)
    assert _do(api, stream, "pause").status_code == 200


def test_an_allowance_is_used_up_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    now = 100.0
    monkeypatch.setattr("vision_mem.studio.access_control.time.monotonic", lambda: now)
    allowance = Allowance(rate=10, burst=3)
    assert [allowance.take() for _ in range(5)] == [True, True, True, False, False]
    now += 0.2
    assert [allowance.take() for _ in range(3)] == [True, True, False]


def test_a_page_that_stops_reading_slows_nobody(api: httpx.Client, server: Server) -> None:
    stream = _open(api, "browser")
    host, port = server[0].rpartition("//")[2].split(":")
    deaf = socket.create_connection((host, int(port)))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    deaf.sendall(
        f"GET /api/streams/{stream}/live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    actor = server[1].streams[stream].actor
    frames: Any = actor.frames
    wait(lambda: len(actor._listeners) == 1)
    begin = time.monotonic()
    for t in range(300):  # more than any buffer on the way holds
        frames.push(encode_jpeg(picture(t)))
        wait(lambda t=t: actor._head == t, actor, 5)
    assert time.monotonic() - begin < 10
    deaf.close()  # a page that has gone is let go of
    wait(lambda: actor._listeners == [])


# -- by the machine ------------------------------------------------------------------------------


def test_what_the_description_promises(server: Server, api: httpx.Client) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    stream = _open(api)
    schema = schemathesis.openapi.from_dict(api.get("/api/openapi.json").json())
    assert {"/api/streams", "/api/streams/{stream_id}/commands"} <= set(schema.raw_schema["paths"])
    quiet = settings(
        max_examples=3, deadline=None, phases=[Phase.generate], derandomize=True,
        suppress_health_check=list(HealthCheck), database=None,
    )  # fmt: skip
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.method.upper() == "DELETE":
            continue

        @quiet
        @given(case=operation.as_strategy())
        def run(case: Any) -> None:
            if "stream_id" in (case.path_parameters or {}):
                case.path_parameters["stream_id"] = stream
            answer = case.call(base_url=server[0], headers=BEARER)
            assert answer.status_code < 500, (case.method, case.path, answer.status_code)
            if answer.status_code >= 400:
                assert answer.headers["content-type"][0] == "application/problem+json"

        run()
