"""Settings: names, files, changes, and every way to get them wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from vision_mem.config import (
    check_range,
    load_config,
    near_file,
    nearest,
    preset_names,
    read_preset,
)
from vision_mem.errors import InputError


@dataclass(frozen=True)
class Motion:
    weight: float = 0.15
    stable_frames: int = 15
    enabled: bool = True


@dataclass(frozen=True)
class Settings:
    policy: str = "samurai"
    slots: int = 7
    limit: float | None = None
    sizes: tuple[int, ...] = (1, 2)
    motion: Motion = field(default_factory=Motion)


def load(*overrides: str, preset: str | Path | None = None) -> Settings:
    return load_config(Settings, preset, list(overrides), folder="nowhere")


def test_defaults_alone() -> None:
    assert load() == Settings()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("slots=3", Settings(slots=3)),
        ("motion.weight=0.5", Settings(motion=Motion(weight=0.5))),
        ("motion.weight=1", Settings(motion=Motion(weight=1.0))),
        ("motion.enabled=false", Settings(motion=Motion(enabled=False))),
        ("limit=0.25", Settings(limit=0.25)),
        ("limit=null", Settings()),
        ("policy=none", Settings(policy="none")),
        ("sizes=[4,5]", Settings(sizes=(4, 5))),
    ],
)
def test_one_change(override: str, expected: Settings) -> None:
    loaded = load(override)
    assert loaded == expected
    assert type(loaded.motion.weight) is float
    assert hash(loaded) == hash(expected)


def test_later_changes_win_over_earlier_ones_and_over_the_preset(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("slots: 3\nmotion:\n  weight: 0.3\n")
    assert load(preset=preset) == Settings(slots=3, motion=Motion(weight=0.3))
    assert load("slots=4", "slots=5", preset=preset).slots == 5
    assert load(preset=preset).slots == 3, "the preset was changed by an earlier call"


def test_changes_as_a_mapping() -> None:
    assert (
        load_config(Settings, None, {"motion.weight": 0.4}, folder="nowhere").motion.weight == 0.4
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("motion.wieght=1", "did you mean 'motion.weight'"),
        ("weight=1", "no setting 'weight'"),
        ("slot=1", "did you mean 'slots'"),
        ("zzz=1", "known here: limit, motion, policy, sizes, slots"),
        ("slots=many", "setting slots is 'many'; expected a whole number"),
        ("slots=1.5", "setting slots is 1.5; expected a whole number"),
        ("motion.enabled=perhaps", "motion.enabled is 'perhaps'; expected true or false"),
        ("motion=3", "setting motion is 3; expected settings, as motion.key"),
        ("slots", "expected key=value"),
        ("=3", "expected key=value"),
        ("slots=[1", "the value is not valid YAML"),
    ],
)
def test_a_wrong_change_is_one_clear_line(override: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load(override)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slots: 3\nslots: 4\n", "not valid YAML"),
        ("slots: [1\n", "not valid YAML"),
        ("just words\n", "holds no settings"),
        ("- 1\n- 2\n", "holds no settings"),
        ("motion:\n  weigth: 1\n", "did you mean 'motion.weight'"),
        ("slots: ${nothing.here}\n", "preset"),
    ],
)
def test_a_wrong_preset_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load(preset=path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n"])
def test_an_empty_preset_file_changes_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load(preset=path) == Settings()
    assert f"preset {path} is empty" in caplog.text


@dataclass(frozen=True)
class Bounded:
    share: float = 0.5
    count: int = 1
    motion: Motion = field(default_factory=Motion)

    def __post_init__(self) -> None:
        check_range(self, ("share",), 0, 1)


@dataclass(frozen=True)
class Outer:
    inner: Bounded = field(default_factory=Bounded)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("share: 7", "inner.share is 7.0; expected a number from 0 to 1"),
        ("share: high", "inner.share is 'high'; expected a number"),
        ("share:", "inner.share is null; expected a number"),
        ("count: 1.5", "inner.count is 1.5; expected a whole number"),
        ("motion: 5", "inner.motion is 5; expected settings, as inner.motion.key"),
        ("motion:", "inner.motion is null; expected settings, as inner.motion.key"),
        ("motion: {enabled: perhaps}", "inner.motion.enabled is 'perhaps'; expected true or false"),
    ],
)
def test_a_wrong_value_names_its_file_and_key(tmp_path: Path, settings: str, says: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"inner:\n  {settings}\n")
    with pytest.raises(InputError) as caught:
        load_config(Outer, path, ["inner.motion.weight=0.1"], folder="nowhere")
    assert str(caught.value) == f"preset {path}: {says}"
    with pytest.raises(InputError, match=r"^setting inner.share is 3.0; expected"):
        load_config(Outer, None, ["inner.share=3"], folder="nowhere")


def test_missing_presets_name_what_there_is() -> None:
    with pytest.raises(InputError, match="no preset file"):
        read_preset("absent.yaml", "tracking")
    with pytest.raises(InputError, match=r"there are dam4sam, .*did you mean 'samurai'"):
        read_preset("samuri", "tracking")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("samuri", "samurai"), ("SAMURAI", "samurai"), ("sam3", "sam2.1-tiny"), ("sam", "samurai"),
     ("quite-else", ""), ("", "")],
)  # fmt: skip
def test_near_names(word: str, meant: str) -> None:
    said = nearest(word, ["samurai", "sam2.1-tiny", "sam2-large", "none"])
    assert said == (f"; did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize(
    ("name", "suffixes", "meant"),
    [("bas.mp4", (), "base.mp4"), ("base.avi", (), "base.mp4"), ("BASE.MP4", (), "base.mp4"),
     ("nope.yaml", (), ""), ("frames_", (), "frames"), ("bas.yaml", (".yaml",), ""),
     ("bas.yaml", (".mp4",), "base.mp4"), ("a/b/c.mp4", (), ""),
     ("b.mp4", (), "a.mp4"), ("amp4", (), "a.mp4")],
)  # fmt: skip
def test_files_with_near_names(tmp_path: Path, name: str, suffixes: Any, meant: str) -> None:
    for each in ("a.mp4", "base.mp4", "pre.yaml", "frames"):
        (tmp_path / each).touch()
    assert near_file(tmp_path / name, suffixes) == (str(tmp_path / meant) if meant else "")


def test_a_preset_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="is no text file"):
        load(preset=path)


def _leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


@pytest.mark.parametrize("name", preset_names("tracking"))
def test_each_tracking_preset_loads_and_repeats_no_default(name: str) -> None:
    from vision_mem.tracking import TrackingConfig

    loaded = load_config(TrackingConfig, name, folder="tracking")
    assert is_dataclass(loaded)
    assert loaded == load_config(TrackingConfig, f"tracking/{name}", folder="tracking")
    defaults = dict(_leaves(asdict(TrackingConfig())))
    for key, value in _leaves(read_preset(name, "tracking")):
        default = defaults[key]
        default = list(default) if isinstance(default, tuple) else default
        assert value != default, f"{name}.yaml: {key} repeats the default {default!r}"
