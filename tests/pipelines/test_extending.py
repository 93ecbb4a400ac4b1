"""Every example of docs/extending.md is short, and does what the page says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_mem.cli import main
from vision_mem.config import load_config, load_object
from vision_mem.errors import InputError, ModelError
from vision_mem.models import load_segmenter
from vision_mem.models.detectors import open_detector
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.mots import MotsSession
from vision_mem.sinks.registry import make_sinks
from vision_mem.tracking import MemoryPolicy, TrackingConfig, TrackingSession
from vision_mem.types import Frame, Prompt, SourceInfo

BOX = "10,40,40,40"


@pytest.fixture
def examples(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All files of the page in one folder, which is the current one."""
    text = (root / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(r"^`(my_\w+\.\w+)`.*?:\n\n```\w+\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == 7
    for name, code in found:
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) < 40, f"{name} has {len(lines)} lines of code"
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_track_with_a_policy_segmenter_sink_and_generator(examples: Path) -> None:
    words = ["--preset", "my_policy.yaml", "--model", "my_segmenter:ColourSegmenter", "--quiet"]
    words += ["--box", BOX, "--save", "lasot,diary,my_sink:Heights", "--out", "out"]
    assert main(["track", "my_scene:film", *words]) == 0
    heights = (examples / "out" / "heights.csv").read_text().splitlines()
    assert len(heights) == 30
    assert all(abs(float(line.split(",")[1]) - 40) <= 3 for line in heights)
    diary = (examples / "out" / "film.diary.jsonl").read_text()
    assert "frame 5 lies between those that are kept" in diary
    assert "frame 4 lies" not in diary
    boxes = np.loadtxt(examples / "out" / "lasot" / "film.txt", delimiter=",")
    assert boxes[29, 0] == pytest.approx(68, abs=3)


_BREAKS = {
    "my_policy.py": ("return f", "return record.nothing  # f", "memory policy my_policy:Spread"),
    "my_segmenter.py": ("seen = ", "seen = logits.nothing + ", "model my_segmenter:ColourSeg"),
    "my_sink.py": ("def write(self, frame, result):\n", "", "output my_sink:Heights"),
}


@pytest.mark.parametrize("file", _BREAKS)
def test_what_is_ones_own_and_raises_is_named(examples: Path, file: str, capsys) -> None:
    old, new, who = _BREAKS[file]
    code = (examples / file).read_text()
    new = new or f"{old}        frame.nothing\n"
    assert old in code
    (examples / file).write_text(code.replace(old, new, 1))
    words = ["--preset", "my_policy.yaml", "--model", "my_segmenter:ColourSegmenter", "--quiet"]
    words += ["--box", BOX, "--save", "lasot,my_sink:Heights", "--out", "out"]
    assert main(["track", "my_scene:film", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {who}") and f"failed ({file}:" in line, line
    assert "AttributeError: " in line and "nothing" in line


def test_mots_with_a_detector(examples: Path) -> None:
    words = ["--detect", "my_detector:find", "--save", "mot,my_sink:Heights", "--quiet"]
    assert main(["mots", "my_scene:film", *words, "--out", "out"]) == 0
    lines = (examples / "out" / "mot" / "film.txt").read_text().splitlines()
    assert {line.split(",")[1] for line in lines} == {"1"}
    assert len((examples / "out" / "heights.csv").read_text().splitlines()) == 30


def test_eval_of_a_set(examples: Path) -> None:
    pytest.importorskip("vision_mem.evaluation.registry")
    folder = examples / "set" / "square"
    folder.mkdir(parents=True)
    for t, image in enumerate(load_object("my_scene:film", "source")(6)):
        Image.fromarray(image).save(folder / f"{t:03}.png")
    truth = "".join(f"{10 + 2 * t},40,40,40\n" for t in range(6))
    (folder / "boxes.csv").write_text(truth)
    words = ["--model", "my_segmenter:ColourSegmenter", "--preset", "my_policy.yaml", "--quiet"]
    words += ["--devices", "cpu", "--root", "set", "--out", "out"]
    assert main(["eval", "my_set:open_set", *words]) == 0
    assert len((examples / "out" / "results" / "square.txt").read_text().splitlines()) == 6


def square(t: int) -> Frame:
    image = np.full((120, 160, 3), 60, np.uint8)
    image[40:80, 10 + 2 * t : 50 + 2 * t] = (200, 40, 40)
    return Frame(t, t / 30, image)


def test_a_policy_from_python_in_both_sessions_and_their_snapshots(examples: Path) -> None:
    policy = load_object("my_policy:Spread", "memory policy")(gap=3)
    session = TrackingSession(FakeSegmenter(), policy=policy)
    session.step(square(0), [Prompt(box=(10, 40, 50, 80))])
    for t in range(1, 12):
        session.step(square(t))
    (outcome,) = session._outcomes.values()
    assert [held.record.index for held in outcome.after.memory.recents] == [3, 6, 9, 11]
    assert MotsSession(FakeSegmenter(), policy=policy).config.tracking.policy is policy
    session.snapshot("one.safetensors")
    assert TrackingSession.resume("one.safetensors", FakeSegmenter()).config == session.config
    del sys.modules["my_policy"]
    with pytest.raises(ModelError, match=r"policy my_policy:Spread; import it first"):
        TrackingSession.resume("one.safetensors", FakeSegmenter())
    again = TrackingSession.resume("one.safetensors", FakeSegmenter(), policy=policy)
    assert again.config.policy is policy


def test_settings_of_a_policy_are_checked(examples: Path) -> None:
    config = load_config(TrackingConfig, "my_policy.yaml", ["policy.window=7"], folder="tracking")
    assert config.policy.window == 7 and config.policy.name == "my_policy:Spread"
    other = load_config(TrackingConfig, "my_policy.yaml", ["policy.name=scored"], folder="tracking")
    assert other.policy.name == "scored" and other.selection.choice == "iou"
    for change, says in {
        "policy.gpa=3": "did you mean 'policy.gap'",
        "policy.gap=x": "gap",
        "policy.name=scord": "did you mean 'scored'",
        "policy.name=my_polcy:Spread": "no module 'my_polcy'.*did you mean 'my_policy'",
        "policy.name=my_policy:Spraed": "no 'Spraed'; did you mean 'Spread'",
        "policy.name=my_sink:Heights": "no memory policy; expected a class",
    }.items():
        with pytest.raises(InputError, match=says):
            load_config(TrackingConfig, "my_policy.yaml", [change], folder="tracking")
    with pytest.raises(InputError, match="policy is of type int"):
        TrackingConfig(policy=3)  # type: ignore[arg-type]


def test_settings_of_earlier_versions_are_read() -> None:
    before = {
        "choice": "iou", "memory": "distractor", "motion_weight": 0.2, "memory_iou": 0.4,
        "appear_threshold": 0.0, "corrections_are_prompts": True, "anchor_slots": 3,
        "pointer_gate": True, "inclusive_box": False,
    }  # fmt: skip
    config = load_config(TrackingConfig, None, {"policy": before}, folder="tracking")
    assert config.policy.name == "distractor" and config.policy.anchor_slots == 3  # type: ignore[attr-defined]
    assert config.selection.choice == "iou" and config.selection.motion_weight == 0.2
    assert config.appear_threshold == 0.0 and config.corrections_are_prompts
    assert config.policy.pointer_gate and not config.inclusive_box
    words = ["policy.anchor_slots=2", "policy.memory=distractor", "policy.choice=iou"]
    config = load_config(TrackingConfig, "samurai", words, folder="tracking")
    assert config.policy.anchor_slots == 2 and config.selection.choice == "iou"  # type: ignore[attr-defined]


def test_what_does_not_fit_is_said_in_one_line(examples: Path) -> None:
    (examples / "my_bad.py").write_text(
        "class Half:\n    traits = 1\n\nclass One:\n    def __init__(self, a): pass\n"
    )
    (examples / "my_broken.py").write_text("import no_such_thing\n")
    info = SourceInfo("a", 4, 4, 1.0)
    slips = {
        "no module 'nowhere'": lambda: load_segmenter("nowhere:Thing"),
        "it has no device, encode_image": lambda: load_segmenter("my_bad:Half"),
        "cannot be made without arguments": lambda: load_segmenter("my_bad:One"),
        "no 'finds'; did you mean 'find'": lambda: open_detector("my_detector:finds"),
        "cannot be imported .*no_such_thing": lambda: open_detector("my_broken:find"),
        "has no open, write, close": lambda: make_sinks(examples, ["my_bad:One"], info),
        "did you mean 'lasot'": lambda: make_sinks(examples, ["lasto"], info),
    }
    for says, slip in slips.items():
        with pytest.raises(InputError, match=says) as caught:
            slip()
        assert "\n" not in str(caught.value)


def test_a_policy_keeps_no_more_than_the_network_reads() -> None:
    class Everything(MemoryPolicy):
        pass

    session = TrackingSession(FakeSegmenter(), policy=Everything())
    session.step(square(0), [Prompt(box=(10, 40, 50, 80))])
    for t in range(1, 20):
        session.step(square(t))
    (outcome,) = session._outcomes.values()
    assert [held.record.index for held in outcome.after.memory.recents] == list(range(14, 20))
