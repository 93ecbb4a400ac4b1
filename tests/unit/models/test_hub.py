"""Which state of a repository is taken: the one named, the one pinned, or what is here."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
import pytest

from vision_mem.errors import ModelError
from vision_mem.models import hub
from vision_mem.models.hub import fetched, revisions_of
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
