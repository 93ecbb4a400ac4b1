"""One budget: how it is read, split and kept to."""

from __future__ import annotations

import pytest

from vision_mem.errors import InputError
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.mots import MotsConfig
from vision_mem.navigation import NavigationConfig
from vision_mem.reconstruction import ReconstructionConfig
from vision_mem.stream_memory import Share, fitted, split_budget
from vision_mem.stream_memory.budget import check_fits, parse_size
from vision_mem.videoqa import VideoQaConfig


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", 10**9),
        ("1gb", 10**9),
        (" 500 MB ", 500 * 10**6),
        ("2GiB", 2 * 2**30),
        ("1.5G", 1_500_000_000),
        ("4096k", 4_096_000),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1", "GB", "-1GB", "1TB", "1e9", "nanGB", "1,5GB", "1 G B", "0GB", "1000KB", "1B"]
)
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(InputError, match="budget") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "megabytes"),
    [
        (["track", "ask"], {"track": 600, "ask": 400}),
        (["ask"], {"ask": 1000}),
        (["mots", "ask", "reconstruct", "navigate"],
         {"mots": 300, "ask": 200, "reconstruct": 300, "navigate": 200}),
    ],
)  # fmt: skip
def test_those_that_are_there_share_all_of_it(parts: list[str], megabytes: dict) -> None:
    shares = split_budget("1GB", parts)
    assert {name: share.bytes / 1e6 for name, share in shares.items()} == megabytes


@pytest.mark.parametrize("parts", [[], ["tracks"]])
def test_nobody_and_strangers_get_nothing(parts: list[str]) -> None:
    with pytest.raises(InputError, match="gets no share"):
        split_budget("1GB", parts)


def test_settings_are_fitted_where_they_ask_for_more() -> None:
    much, little = 10**9, 8 * 2**20
    mots = fitted(MotsConfig(), Share("mots", little))
    assert mots.memory.budget == little
    assert fitted(mots, Share("mots", much)) == mots  # asks for less already
    scene = fitted(ReconstructionConfig(), Share("reconstruct", little))
    assert scene.budget == little
    usual = ReconstructionConfig()
    assert fitted(usual, Share("reconstruct", much)) == usual
    mapped = fitted(NavigationConfig(), Share("navigate", little))
    assert 0 < mapped.store.ram * 1e6 < little


def test_tokens_of_a_share_fit_into_it() -> None:
    model, share = FakeVideoModel(), Share("ask", 2**20)
    config = fitted(VideoQaConfig(), share, model, (48, 64))
    assert config == VideoQaConfig()  # small tokens: its own budget is enough
    tight = Share("ask", 2**17)
    config = fitted(VideoQaConfig(), tight, model, (48, 64))
    assert 0 < config.memory.budget < VideoQaConfig().memory.budget
    with pytest.raises(InputError, match=r"ask has 0\.0 MB.*larger --budget"):
        fitted(VideoQaConfig(), Share("ask", 1000), model, (48, 64))


@pytest.mark.parametrize(
    ("part", "config", "name"),
    [
        ("mots", MotsConfig(), "memory.budget_mb"),
        ("reconstruct", ReconstructionConfig(), "budget_mb"),
        ("navigate", NavigationConfig(), "store.ram"),
    ],
)
def test_settings_beyond_a_share_are_refused(part: str, config: object, name: str) -> None:
    with pytest.raises(InputError, match=f"{part}: {name} is"):
        check_fits(part, config, Share(part, 2**20))
