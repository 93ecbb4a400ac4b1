"""Streams as models of OpenAI's API over a real socket: plain HTTP, and the official client."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_server import TOKEN, client, serving
from studio_streams import wait

from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.models.vlm.protocol import AnswerPiece
from vision_mem.studio import access_control
from vision_mem.studio.commands import StudioCommand
from vision_mem.studio.registry import Studio
from vision_mem.videoqa.evidence import ThumbnailSession, open_session

pytest.importorskip("fastapi", reason="extra [studio] is not installed")

Server = tuple[str, Studio]
ASKED = [{"role": "system", "content": "be short"}, {"role": "user", "content": "is red there?"}]
TO = "/v1/chat/completions"


class Talker(FakeVideoModel):
    """The fake, with a story without end when it is asked for one."""

    told = 0

    def answer(self, context: Any, question: Any, **more: Any) -> Any:
        if question.text == "break":
            return (AnswerPiece(str(1 // (2 - n))) for n in count(1))
        if question.text != "a story":
            return super().answer(context, question, **more)
        return self._story()

    def _story(self) -> Iterator[AnswerPiece]:
        for number in count():
            self.told = number
            time.sleep(0.005)
            yield AnswerPiece(f"{number} ")


MODEL = Talker()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_clip: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("chat")
    for name in ("cup.mp4", "late.mp4"):
        (folder / name).write_bytes(small_clip.read_bytes())
    models = iter([MODEL, FakeVideoModel(speaks=False)])

    def open_memory() -> ThumbnailSession:
        return ThumbnailSession(open_session(next(models), None, ["fps=10"]))

    with serving(folder / "out", folder, open_memory=open_memory) as made:
        for name in ("cup.mp4", "late.mp4"):
            _watched(made[1].open(name))
        yield made


def _watched(stream: Any) -> None:
    stream.actor.submit(StudioCommand("play")).result(20)
    wait(lambda: stream.memory._session is not None and stream.memory._session.session.seen)
    stream.actor.submit(StudioCommand("pause")).result(20)

    def saw_all() -> bool:
        seen = stream.memory._session.session.seen
        return bool(seen[0] == stream.actor.status["head"])

    wait(saw_all)  # answers to one question are the same from here on


@pytest.fixture
def api(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setattr(access_control.Allowance, "take", lambda self: True)
    with client(server[0]) as made:
        yield made


def _ask(api: httpx.Client, **said: Any) -> httpx.Response:
    return api.post(TO, json={"model": "cup-mp4", "messages": ASKED} | said)


def _events(api: httpx.Client, **said: Any) -> list[Any]:
    answer = _ask(api, stream=True, **said)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


# -- what it is for ------------------------------------------------------------------------------


def test_a_stream_answers_as_the_page_would(api: httpx.Client, server: Server) -> None:
    names = [each["id"] for each in api.get("/v1/models").json()["data"]]
    assert names == ["cup-mp4", "late-mp4", "vision-mem"]
    assert api.get("/v1/models/cup-mp4").json()["object"] == "model"
    page = api.post("/api/streams/cup-mp4/ask", json={"question": "is red there?"}).json()
    made = _ask(api, temperature=0.5, n=1, tools=[], stop=None, user="me").json()
    (choice,) = made["choices"]
    words, _, moments = choice["message"]["content"].partition("\n\nMoments that match best:\n- 0:")
    assert words == page["text"] and "score" in moments
    assert choice["finish_reason"] == "stop" and made["object"] == "chat.completion"
    assert {k: v for k, v in page.items() if k not in ("text", "at_s", "evidence")}.items() <= (
        made["vision_mem"].items()
    )
    first = made["vision_mem"]["evidence"][0]
    assert first["picture"].startswith("data:image/jpeg;base64,") and "start_s" in first
    log = (server[1].streams["cup-mp4"].actor.folder / "answers.jsonl").read_text().splitlines()
    assert len(log) >= 2


def test_the_pieces_are_the_whole(api: httpx.Client) -> None:
    parts = [{"type": "text", "text": "is red"}, {"type": "text", "text": "there?"}]
    whole = _ask(api, messages=[{"role": "user", "content": parts}]).json()
    pieces = _events(api, messages=[*ASKED, {"role": "user", "content": parts}])
    said = [each["choices"][0]["delta"].get("content", "") for each in pieces]
    assert "".join(said) == whole["choices"][0]["message"]["content"]
    assert sum(map(bool, said)) > 5 and pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    ends = [each["choices"][0]["finish_reason"] for each in pieces]
    assert ends == [None] * (len(pieces) - 1) + ["stop"]
    assert pieces[-1]["vision_mem"]["evidence"] and len({each["id"] for each in pieces}) == 1


@pytest.mark.parametrize("model", ["late-mp4", "vision-mem"])
def test_a_model_that_does_not_talk_says_when(api: httpx.Client, model: str) -> None:
    text = _ask(api, model=model).json()["choices"][0]["message"]["content"]
    assert "robably" in text.splitlines()[0] or "seen" in text.splitlines()[0]
    assert text.splitlines()[1] == "Moments that match best:" and "score" in text
    pieces = _events(api, model=model)
    assert text in [each["choices"][0]["delta"].get("content") for each in pieces]


def test_an_answer_ends_with_its_client(api: httpx.Client) -> None:
    said = {"model": "cup-mp4", "messages": [{"role": "user", "content": "a story"}]}
    with api.stream("POST", TO, json=said | {"stream": True}) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(9)]
    _stopped()
    with pytest.raises(httpx.ReadTimeout):
        api.post(TO, json=said, timeout=0.3)
    _stopped()
    assert _ask(api).status_code == 200  # and the next one is answered


def _stopped() -> None:
    def still() -> bool:
        before = MODEL.told
        time.sleep(0.1)
        return before == MODEL.told

    wait(still, limit_s=5)


def test_what_breaks_on_the_way_is_told(api: httpx.Client) -> None:
    pieces = _events(api, messages=[{"role": "user", "content": "break"}])
    assert pieces[-1]["error"]["type"] == "server_error"
    assert "ZeroDivisionError" in pieces[-1]["error"]["message"]


# -- what it is not ------------------------------------------------------------------------------

PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]


@pytest.mark.parametrize(
    ("said", "param", "why"),
    [
        ({"n": 2}, "n", "one answer"),
        ({"n": True}, "n", "one answer"),
        ({"tools": [{"type": "function"}]}, "tools", "no tool"),
        ({"functions": [{}]}, "functions", "no tool"),
        ({"logprobs": True}, "logprobs", "none"),
        ({"top_logprobs": 3}, "logprobs", "none"),
        ({"stop": ["."]}, "stop", "leave it out"),
        ({"response_format": {"type": "json_object"}}, "response_format", "text"),
        ({"modalities": ["text", "audio"]}, "modalities", "text"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"model": 3}, "model", "name of a stream"),
        ({"messages": []}, "messages", "a list"),
        ({"messages": ["hello"]}, "messages[0].role", "no role"),
        ({"messages": [{"role": "king", "content": ""}]}, "messages[0].role", "no role"),
        ({"messages": ASKED[:1]}, "messages", "a user's"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "expected text"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages[0].content", "kind text"),
        ({"messages": [{"role": "user", "content": PICTURE}]}, "messages[0].content", "text only"),
        ({"messages": [{"role": "user", "content": " "}]}, None, "empty"),
        ({"messages": [{"role": "user", "content": "x" * 501}]}, None, "longer"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_one_line(
    api: httpx.Client, said: dict[str, Any], param: str | None, why: str, stream: bool
) -> None:
    answer = _ask(api, **{"stream": stream} | said)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error"
    assert error["param"] == param and why in error["message"] and "\n" not in error["message"]
    assert "None" not in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "why"),
    [
        ("POST", TO, json.dumps({"model": "cup-mp5", "messages": ASKED}), 404, "model_not_found",
         "did you mean 'cup-mp4'"),
        ("GET", "/v1/models/nothing", None, 404, "model_not_found", "expected one of cup-mp4"),
        ("GET", "/v1/embeddings", None, 404, None, "Not Found"),
        ("GET", TO, None, 405, None, "Not Allowed"),
        ("POST", TO, "{", 400, None, "not JSON"),
        ("POST", TO, "[]", 400, None, "no JSON object"),
        ("POST", TO, '{"n": NaN}', 400, None, "not JSON"),
        ("POST", TO, "[" * 5000, 400, None, "not JSON"),
        ("POST", TO, '"' + "x" * (1 << 20) + '"', 413, None, "larger than 1 MB"),
    ],
)  # fmt: skip
def test_errors_have_the_form_of_the_api(
    api: httpx.Client, method: str, path: str, body: Any, status: int, code: Any, why: str
) -> None:
    answer = api.request(method, path, content=body)
    assert answer.status_code == status and answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code
    assert why in error["message"]


def test_who_may_ask_and_how_often(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for headers in ({"x": "y"}, {"Authorization": "Bearer wrong"}):
        with client(server[0], **headers) as stranger:
            answer = stranger.get("/v1/models")
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert "printed at the start" in answer.json()["error"]["message"]
    monkeypatch.setattr(access_control.Allowance, "take", lambda self: False)
    with client(server[0]) as hasty:
        refused = _ask(hasty)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_nobody_watches(tmp_path: Path, small_clip: Path) -> None:
    (tmp_path / "cup.mp4").write_bytes(small_clip.read_bytes())
    with serving(tmp_path / "out", tmp_path) as (address, studio), client(address) as api:
        assert api.get("/v1/models").json()["data"] == []
        assert "start with --ask" in _ask(api, model="vision-mem").json()["error"]["message"]
        assert "no stream is open" in _ask(api).json()["error"]["message"]
        studio.open("cup.mp4")
        assert "start with --ask" in _ask(api).json()["error"]["message"]


# -- with the official client --------------------------------------------------------------------


@pytest.fixture
def official(server: Server, api: httpx.Client) -> Any:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


def test_the_official_client(official: Any) -> None:
    assert [each.id for each in official.models.list()] == ["cup-mp4", "late-mp4", "vision-mem"]
    made = official.chat.completions.create(model="cup-mp4", messages=ASKED)
    said = made.choices[0].message.content
    assert said.startswith("at ") and made.choices[0].finish_reason == "stop"
    assert made.vision_mem["evidence"][0]["score"] <= 1
    pieces = list(official.chat.completions.create(model="cup-mp4", messages=ASKED, stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in pieces) == said
    assert pieces[-1].vision_mem["stream"] == "cup-mp4"


def test_the_official_client_is_told_what_is_wrong(official: Any, server: Server) -> None:
    import openai

    create = official.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="one answer") as refused:
        create(model="cup-mp4", messages=ASKED, n=2)
    assert refused.value.param == "n"
    with pytest.raises(openai.NotFoundError) as refused:
        create(model="nothing", messages=ASKED)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.APIError, match="ZeroDivisionError"):
        list(create(model="cup-mp4", messages=[{"role": "user", "content": "break"}], stream=True))
    with pytest.raises(openai.AuthenticationError, match="printed at the start"):
        official.with_options(api_key="wrong").models.list()


def test_the_example_of_the_documentation(
    official: Any, server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (root / "docs" / "interop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from openai.*?)```", page, re.DOTALL)
    code = code.replace("http://localhost:8765", server[0]).replace("TOKEN", TOKEN)
    exec(compile(code, "docs/interop.md", "exec"), names := {})
    names["client"].close()
    assert "['cup-mp4', 'late-mp4', 'vision-mem']" in capsys.readouterr().out


def test_the_official_client_that_leaves(official: Any) -> None:
    story = [{"role": "user", "content": "a story"}]
    with official.chat.completions.create(model="cup-mp4", messages=story, stream=True) as pieces:
        assert [next(pieces) for _ in range(5)]
    _stopped()
