"""Which state of a repository is taken: the one named, the one pinned, or what is here."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from vision_mem.errors import ModelError
from vision_mem.models import hub
from vision_mem.models.hub import check_fetchable, fetched, revisions_of
from vision_mem.models.segmenters.sam2.load import _fetch

OWL = "google/owlv2-base-patch16-ensemble"
TINY = "facebook/sam2.1-hiera-tiny"
OLD, NAMED = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("name", "revisions"),
    [
        (f"{OWL}@{NAMED}", (OWL, NAMED)),
        (f"{OWL}@main", (OWL, "main")),
        (OWL, (OWL, hub._PINNED[OWL], "main")),
        ("somebody/something", ("somebody/something", "main")),
    ],
)
def test_what_is_named_comes_before_what_is_pinned(name: str, revisions: tuple[str, ...]) -> None:
    assert revisions_of(name) == revisions


def test_pins_are_whole_commits() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in hub._PINNED.values())
    assert len(set(hub._PINNED.values())) == len(hub._PINNED)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def offline(*args: object, **options: object) -> object:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    return tmp_path


def _keep(cache: Path, name: str, commit: str, *files: str, main: bool = False) -> Path:
    """Files of a repository as the hub's library keeps them."""
    folder = cache / f"models--{name.replace('/', '--')}"
    place = folder / "snapshots" / commit
    place.mkdir(parents=True)
    for file in files:
        (place / file).touch()
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
    return place


def test_what_an_earlier_version_fetched_is_used(cache: Path) -> None:
    files = ("config.json", "model.safetensors")
    with pytest.raises(ModelError, match="not on this machine"):
        fetched(OWL, "")
    old = _keep(cache, OWL, OLD, *files, main=True)
    assert fetched(OWL, "") == old
    pinned = _keep(cache, OWL, hub._PINNED[OWL], *files)
    assert fetched(OWL, "") == pinned
    named = _keep(cache, OWL, NAMED, *files)
    assert fetched(f"{OWL}@{NAMED}", "") == named
    assert fetched(f"{OWL}@main", "") == old


def test_checkpoints_of_sam2_likewise(cache: Path) -> None:
    published = hub.PUBLISHED["sam2.1-hiera-tiny"]
    with pytest.raises(ModelError, match="could not be fetched"):
        _fetch(TINY, published)
    old = _keep(cache, TINY, OLD, published.file, main=True)
    assert _fetch(TINY, published).parent == old
    pinned = _keep(cache, TINY, hub._PINNED[TINY], published.file)
    assert _fetch(TINY, published).parent == pinned
    named = _keep(cache, TINY, NAMED, published.file)
    assert _fetch(f"{TINY}@{NAMED}", published).parent == named


# -- what cannot be fetched is told at once ------------------------------------------------------


def _told(name: str, *known: str) -> str:
    begin = time.monotonic()
    with pytest.raises(ModelError) as caught:
        check_fetchable(name, "", known)
    assert time.monotonic() - begin < 1.5
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("me/my-tuned-qwn", (), "did you mean me/my-tuned-qwen (on this machine)?"),
        ("you/my-tuned-qwen", (), "did you mean me/my-tuned-qwen (on this machine)?"),
        ("my-tuned-qwen", (), "did you mean me/my-tuned-qwen (on this machine)?"),
        ("qwen/qwen2.5-VL-3b-instruct", (), "did you mean Qwen/Qwen2.5-VL-3B-Instruct"),
        ("google/owl-v2-base-patch16", (OWL,), f"did you mean {OWL}?"),
        ("peking/rtdetr_r18", ("PekingU/rtdetr_r18vd",), "did you mean PekingU/rtdetr_r18vd?"),
        ("nobody/nothing", (), ""),
        ("red car/thing", (), "is no id of a repository"),
        ("a/b/c", (), "is no id of a repository"),
        ("a/..", (), "is no id of a repository"),
    ],
)
def test_near_ids_are_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: tuple[str, ...], meant: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _keep(cache, "me/my-tuned-qwen", OLD, "config.json")
    check_fetchable("me/my-tuned-qwen")
    told = _told(name, *known)
    assert meant in told and ("did you mean" in told) == ("did you mean" in meant)
    assert "HF_HUB_OFFLINE is set" in told or "no id" in told


def test_a_network_that_does_not_answer_is_not_waited_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(3) or [])
    assert "no answer within 0.9 s; where the network is slow" in _told("nobody/nothing")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.1")
    assert "no answer within 0.1 s" in _told("nobody/nothing")


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """A hub on this machine; it answers everything with the last of a list."""
    answers: list[tuple[int, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers[-1][0])
            self.send_header("X-Error-Code", answers[-1][1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{made.server_port}"
        )
        yield answers
        huggingface_hub.close_session()  # else its connection is left to the collector
        made.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "there is no Qwen/Qwen2-VL-2B-Instuct on Hugging Face, or it is pri"),
        (403, "GatedRepo", "asks for consent: agree on https://huggingface.co/Qwen/Qwen2-VL-2B"),
        (404, "RevisionNotFound", "has no revision v9;"),
    ],
)
def test_what_the_hub_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_server: list[tuple[int, str]],
    status: int, code: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub_server.append((status, code))
    monkeypatch.setenv("HF_TOKEN", "of somebody who may see more")
    with pytest.raises(ModelError) as caught:
        fetched("Qwen/Qwen2-VL-2B-Instuct@v9", "")
    assert said in str(caught.value) and "did you mean Qwen/Qwen2-VL-2B-Ins" in str(caught.value)


@pytest.mark.parametrize(("status", "told"), [(401, True), (404, True), (200, False), (503, False)])
def test_what_the_hub_does_not_have_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_server: list[tuple[int, str]],
    status: int, told: bool,
) -> None:  # fmt: skip
    for name, value in {"CACHE": str(tmp_path), "OFFLINE": False}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.HF_HUB_{name}", value)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub_server.append((status, "RepoNotFound"))
    if not told:
        check_fetchable("somebody/owlv2-base")
        return
    assert "there is no somebody/owlv2-base" in _told("somebody/owlv2-base", OWL)
    (tmp_path / "token").touch()  # of somebody who may see more
    check_fetchable("somebody/owlv2-base")


_BEFORE_TORCH = """
import sys
from vision_mem.cli import main
clip, *models = sys.argv[1:]
out = f"{clip}.out"
codes = [
    main(["ask", clip, "red?", "--model", models[0], "--out", out]),
    main(["mots", clip, "--detect", models[1], "--out", out]),
    main(["mots", clip, "--detect", f"red car@{models[1]}", "--out", out]),
    *(
        main([*line, "--model", models[n], "--out", out])
        for line in (
            ["track", clip, "--box", "30,28,40,40"], ["mots", clip, "--detect", "motion"],
            ["studio", clip], ["batch", "track", clip, "--box", "30,28,40,40"],
            ["eval", "lasot", "--root", "."],
        )
        for n in (2, 3)
    ),
    *(main(["export", model, "--out", out]) for model in models[2:]),
    main(["batch", "ask", clip, "is it red?", "--model", models[0], "--out", out]),
    main(["studio", clip, "--ask", models[0], "--out", out]),
    main(["eval", "ovo-bench", "--root", ".", "--model", models[0], "--out", out]),
]
print(codes, "torch" in sys.modules)
"""


def test_the_commands_tell_before_anything_heavy_is_loaded(
    tmp_path: Path, small_clip: Path
) -> None:
    pytest.importorskip("transformers", reason="extra [vlm] is not installed")
    names = ["Qwen/Qwen2-VL-2B-Instuct", "PekingU/rtdetr_r18v", "facebook/sam2.1-hiera-tiny"]
    names += ["yonigozlan/EdgTAM-hf"]
    clip = tmp_path / "cup.mp4"
    clip.write_bytes(small_clip.read_bytes())
    run = subprocess.run(
        [sys.executable, "-c", _BEFORE_TORCH, str(clip), *names], capture_output=True, text=True,
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    assert run.stdout.splitlines()[-1] == f"{[1] * 18} False", run.stdout + run.stderr
    assert run.stderr.count("\n") == 18 and not Path(f"{clip}.out").exists()
    for meant in ("Qwen/Qwen2-VL-2B-Instruct", "PekingU/rtdetr_r18vd", "yonigozlan/EdgeTAM-hf"):
        assert f"did you mean {meant}" in run.stderr
    assert "sam2.1_hiera_tiny.pt" in run.stderr
