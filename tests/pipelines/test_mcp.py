"""``vision-mem mcp`` with the official client: over stdio as agents run it, and in this process."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision_mem.cli import main
from vision_mem.synthetic.furnished_room import film_room
from vision_mem.visualization.contact_sheet import write_video

anyio = pytest.importorskip("anyio")
TOOLS = ["ask", "moments", "objects", "where", "route", "follow"]


@pytest.fixture(scope="module")
def sdk() -> Any:
    return pytest.importorskip("mcp")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds grey, two red, two blue, with a green block that walks."""

    def image(t: int) -> np.ndarray:
        picture = np.empty((96, 128, 3), np.uint8)
        picture[:] = ((110, 110, 110), (220, 30, 30), (30, 40, 220))[t // 20]
        picture[30:54, 10 + t : 34 + t] = (30, 210, 40)
        return picture

    path = tmp_path_factory.mktemp("clips") / "colours.mp4"
    write_video(path, (image(t) for t in range(60)), 10.0)
    return path


@pytest.fixture(scope="module")
def memory(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    words = ["ask", str(colours), "--model", "fake", "--memory", str(folder / "day.vmem")]
    assert main([*words, "--out", str(folder), "--quiet"]) == 0
    return folder / "day.vmem"


@pytest.fixture(scope="module")
def map_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("filmed")
    _, detections = film_room(out, 8, 0)
    path = out / "room.map"
    words = ["navigate", "build", str(out / "room"), "--map", str(path), "--quiet"]
    words += ["--detect", f"file:{detections}", "--set", "octree.kernels=numpy", "--pixels", "4"]
    assert main(words) == 0
    return path


def _told(result: Any) -> Any:
    text = result.content[0].text
    return text if result.is_error else json.loads(text)


Call = Callable[..., Any]


def _with_client(server: Any, talk: Callable[[Any, Call], Any]) -> Any:
    """Run ``talk(client, call)`` with the official client."""
    from mcp import Client

    async def run() -> Any:
        async with Client(server, read_timeout_seconds=120) as client:

            async def call(tool: str, /, **given: Any) -> Any:
                return _told(await client.call_tool(tool, given))

            return await talk(client, call)

    return anyio.run(run)


def test_over_stdio_as_an_agent_runs_it(
    sdk: Any, memory: Path, map_: Path, colours: Path, tmp_path: Path
) -> None:
    words = ["-m", "vision_mem", "mcp", "--memory", str(memory), "--map", str(map_)]
    words += ["--stream", str(colours), "--out", str(tmp_path / "out"), "--ask", "fake"]
    words += ["--model", "vision_mem.models.segmenters.fake:FakeSegmenter"]
    server = sdk.StdioServerParameters(command=sys.executable, args=words, env=_environment())

    async def talk(client: Any, call: Call) -> None:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == TOOLS
        assert all(tool.description for tool in listed)
        assert listed[0].input_schema["required"] == ["question"]
        found = await call("ask", question="red?")
        assert 2 <= found["moments"][0]["start_s"] < 4
        assert Path(found["moments"][0]["file"]).name == "colours.mp4"
        result = await client.call_tool("moments", {"query": "blue?", "most": 1, "pictures": True})
        (moment,) = _told(result)["moments"]
        assert 4 <= moment["start_s"] < 6
        assert result.content[1].mime_type == "image/jpeg"
        sofa = await call("where", query="red sofa")
        assert sofa["hits"][0]["name"] == "red sofa"
        way = await call("route", to="red sofa")
        assert way["length_m"] > 0
        assert len(way["points"][0]) == 3
        known = await call("objects", name="SOFA")
        assert {each["name"] for each in known["map"]["objects"]} == {"red sofa"}
        begun = await call("follow", name="block", box=[10, 30, 24, 24], frame=0)
        assert (begun["id"], begun["name"], begun["frame"]) == (1, "block", 0)
        await _until_followed(call)
        result = await client.call_tool("objects", {"picture": True})
        assert [block.type for block in result.content] == ["text", "image"]

    _with_client(server, talk)


async def _until_followed(call: Call) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        stream = (await call("objects"))["stream"]
        (block,) = stream["objects"]
        if block["state"] == "sure" and stream["frame"] >= 5:
            assert abs(block["box"][0] - 10 - stream["frame"]) < 6
            return
        await anyio.sleep(0.05)
    raise AssertionError("it was not followed")


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def test_standard_output_carries_the_protocol_alone(sdk: Any, memory: Path) -> None:
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {},
                   "clientInfo": {"name": "test", "version": "1"}},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "vision_mem", "mcp", "--memory", str(memory)],
        input=json.dumps(hello) + "\n", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["result"]["serverInfo"]["name"] == "vision-mem"
    assert done.stderr == ""


def _tools(memory: Path | None = None, map_: Path | None = None) -> Any:
    from vision_mem.navigation import NavigationSession
    from vision_mem.studio.agent_tools import AgentTools

    pipeline = importlib.import_module("vision_mem.pipelines.mcp")
    opened = None if memory is None else pipeline._memory(memory, pipeline.AgentModel())
    made = AgentTools(opened, None if map_ is None else NavigationSession(map_, mode="r"))
    return made, pipeline._server(made)


@pytest.mark.parametrize(
    ("tool", "given", "says"),
    [
        ("ask", {"question": " "}, "the question is empty"),
        ("ask", {"question": "red?", "scope": "past"}, "expected one of auto, recent, all"),
        ("ask", {}, "ask cannot take that: question: field required"),
        ("moments", {"query": "red", "most": 0}, "most is 0; expected 1 to 50"),
        ("moments", {"query": "red", "most": "many"}, "most: input should be a valid integer"),
        ("where", {"query": "unicorn"}, "nothing remembered is called 'unicorn'"),
        ("route", {"to": "unicorn"}, "unicorn"),
        ("follow", {"point": [1, 2]}, "start the server with --stream ADDRESS"),
        ("dance", {}, "dance"),
    ],
)
def test_errors_are_one_line(
    sdk: Any, memory: Path, map_: Path, tool: str, given: dict[str, Any], says: str
) -> None:
    tools, server = _tools(memory, map_)

    async def talk(client: Any, call: Call) -> Any:
        result = await client.call_tool(tool, given)
        assert result.is_error
        return _told(result)

    try:
        text = _with_client(server, talk)
    finally:
        tools.close()
    assert says in text
    assert "\n" not in text


def test_what_is_not_there_says_how_to_get_it(sdk: Any) -> None:
    tools, server = _tools()

    async def talk(client: Any, call: Call) -> None:
        assert "start the server with --memory FILE.vmem" in await call("ask", question="red?")
        assert "start the server with --map FILE.map" in await call("where", query="sofa")
        assert "--map FILE.map or --stream ADDRESS" in await call("objects")

    _with_client(server, talk)
    tools.close()


def test_a_memory_that_grows_is_read_anew(sdk: Any, colours: Path, tmp_path: Path) -> None:
    file = tmp_path / "day.vmem"
    watch = ["ask", str(colours), "--model", "fake", "--memory", str(file), "--quiet"]
    assert main([*watch, "--end", "21", "--out", str(tmp_path)]) == 0
    tools, _ = _tools(file)
    assert tools.ask("blue?")["at_s"] == pytest.approx(2.0, abs=0.2)
    assert main([*watch, "--out", str(tmp_path)]) == 0
    found = tools.ask("blue?")
    assert found["at_s"] > 5
    assert 4 <= found["moments"][0]["start_s"] < 6
    tools.close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to serve"),
        (["--memory", "no.vmem"], "no memory file no.vmem"),
        (["--map", "no.map"], "no map file no.map"),
        (["--stream", "no.mp4"], "no.mp4"),
        (["--memory", "{0}"], "{0}"),
        (["--map", "{0}"], "{0}"),
        (["--stream", "demo", "--ask", "qwen9"], "qwen9"),
    ],
)
def test_slips_at_the_start_are_one_line(
    sdk: Any, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert main(["mcp", *(word.format(damaged) for word in words)]) == 2
    shown = capsys.readouterr()
    assert says.format(damaged) in shown.err
    assert shown.err.strip().count("\n") == 0
    assert shown.out == ""
