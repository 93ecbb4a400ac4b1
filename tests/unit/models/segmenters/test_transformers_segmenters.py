"""Networks of transformers as segmenters: folders, ids, what is refused, what policies do."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import hf_segmenters
import huggingface_hub
import numpy as np
import pytest
import torch
from parity_inputs import config as settings
from parity_inputs import image

from vision_mem.errors import InputError, MissingExtra, ModelError, NotThere
from vision_mem.models import load_segmenter
from vision_mem.models.segmenters.load import _is_of_transformers, check_model
from vision_mem.models.segmenters.transformers import Preparation, _preparation
from vision_mem.tracking import TrackingSession
from vision_mem.types import Frame, Prompt

needs_library = pytest.mark.slow  # importing the library takes seconds
TINY = "facebook/sam2.1-hiera-tiny"


Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Gives a folder as users have them, network and processor, of a kind of network."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("networks")

    @lru_cache
    def saved(kind: str) -> Path:
        hf_segmenters.network(kind).save_pretrained(place / kind)
        hf_segmenters.processor(kind).save_pretrained(place / kind)
        return place / kind

    return saved


def run(session: TrackingSession, first: int, last: int) -> list[Any]:
    prompts = {0: [Prompt(box=(14, 26, 46, 56), name="disc")], 5: [Prompt(points=[(40, 45)])]}
    made = []
    for t in range(first, last):
        frame = Frame(t, t / 30, image(t)[:96])
        made.append([o.mask for o in session.step(frame, prompts.get(t, ())).objects])
    return made


@needs_library
@pytest.mark.parametrize("kind", hf_segmenters.KINDS)
@pytest.mark.parametrize("preset", ["samurai", "dam4sam", "none"])
def test_policies_run_and_snapshots_go_on(
    kind: str, preset: str, folders: Folders, tmp_path: Path
) -> None:
    segmenter = load_segmenter(str(folders(kind)), device="cpu")
    session = TrackingSession(segmenter, settings(preset))
    run(session, 0, 8)
    session.snapshot(tmp_path / "snapshot")
    again = TrackingSession.resume(tmp_path / "snapshot", load_segmenter(str(folders(kind))))
    expected, made = run(session, 8, 11), run(again, 8, 11)
    assert all(np.array_equal(a, b) for a, b in zip(expected, made, strict=True))
    assert len(made[-1]) == 2


@needs_library
@pytest.mark.parametrize("kind", hf_segmenters.KINDS)
def test_objects_together_are_as_apart(kind: str, folders: Folders) -> None:
    segmenter = load_segmenter(str(folders(kind)), device="cpu")
    boxes = [Prompt(box=(14, 26, 46, 56)), Prompt(box=(60, 40, 100, 90))]
    made = {}
    for how in ("on", "off"):
        session = TrackingSession(segmenter, settings("sam2", batch_objects=how))
        frames = [Frame(t, t / 30, image(t)[:96]) for t in range(4)]
        made[how] = [session.step(f, boxes if f.index == 0 else ()) for f in frames]
    for one, other in zip(made["on"], made["off"], strict=True):
        for a, b in zip(one.objects, other.objects, strict=True):
            assert abs(a.object_logit - b.object_logit) < 1e-3
            assert (a.mask != b.mask).mean() < 1e-3


@needs_library
def test_detector_and_tracker_of_one_checkpoint(tmp_path: Path) -> None:
    hf_segmenters.save_whole_sam3(tmp_path)
    segmenter = load_segmenter(str(tmp_path), device="cpu")
    assert type(segmenter.network).__name__ == "Sam3TrackerVideoModel"
    from vision_mem.models.detectors import open_detector

    detector = open_detector(f"red car@{tmp_path}", device="cpu", guarded=False)
    assert detector.detect(Frame(0, 0.0, image(0)[:96])) is not None


@needs_library
def test_what_is_refused(folders: Folders, tmp_path: Path) -> None:
    def copied(name: str, **changes: Any) -> Path:
        place = tmp_path / name
        place.mkdir()
        for file in folders("sam2").iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        for file, content in changes.items():
            path = place / {"weights": "model.safetensors", "config": "config.json"}[file]
            path.unlink() if content is None else path.write_bytes(content)
        return place

    config = json.loads((folders("sam2") / "config.json").read_text())
    cut = (folders("sam2") / "model.safetensors").read_bytes()[:5000]
    cases = {
        copied("bare", weights=None): "has no .safetensors files",
        copied("cut", weights=cut): "cannot be loaded",
        copied("words", config=b"{"): "not JSON",
        copied("other", config=json.dumps(config | {"model_type": "bert"}).encode()): "kind 'bert'",
        copied("shape", config=json.dumps(config | {"num_maskmem": 5}).encode()): "other shapes",
        tmp_path: "no network of transformers",
    }
    for place, words in cases.items():
        with pytest.raises(ModelError) as caught:
            load_segmenter(str(place), device="cpu")
        text = str(caught.value)
        assert words in text and str(place) in text and "\n" not in text and len(text) < 500, text


@needs_library
def test_backbones_of_timm_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_segmenters.network("sam2")  # the library itself looks for modules while it is imported
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "config.json").write_text('{"model_type": "edgetam_video"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(MissingExtra, match=r"timm library.*vision-mem\[hf\]"):
        load_segmenter(str(tmp_path), device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place where Hugging Face's library keeps repositories, and no network."""

    def offline(*args: object, **options: object) -> object:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    return tmp_path


def keep(cache: Path, name: str, files: dict[str, bytes]) -> None:
    folder, commit = cache / f"models--{name.replace('/', '--')}", "a" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    for file, content in files.items():
        (folder / "snapshots" / commit / file).write_bytes(content)


def test_the_format_that_is_here_is_taken(cache: Path) -> None:
    assert not _is_of_transformers(TINY)
    keep(cache, TINY, {"config.json": b"", "model.safetensors": b""})
    assert _is_of_transformers(TINY) and _is_of_transformers("sam2.1-hiera-tiny")
    keep(cache, f"{TINY}x", {})
    snapshot = next((cache / f"models--{TINY.replace('/', '--')}" / "snapshots").iterdir())
    (snapshot / "sam2.1_hiera_tiny.pt").touch()
    assert not _is_of_transformers(TINY)


@needs_library
def test_ids_are_taken_from_this_machine(cache: Path, folders: Folders) -> None:
    names = ("config.json", "model.safetensors")
    files = {name: (folders("sam2") / name).read_bytes() for name in names}
    keep(cache, TINY, files)
    keep(cache, "somebody/sam", files)
    for name in ("sam2.1-hiera-tiny", "somebody/sam", "somebody/sam@main"):
        assert type(load_segmenter(name, device="cpu")).__name__ == "TransformersSegmenter"


@needs_library
def test_ids_that_are_nowhere(cache: Path) -> None:
    for name, words in (
        ("yonigozlan/EdgeTAM", "did you mean yonigozlan/EdgeTAM-hf?"),
        ("facebook/sam3", "could not be fetched from Hugging Face"),
        ("somebody/else@v2", "--model /path/to/folder"),
    ):
        with pytest.raises(ModelError) as caught:
            load_segmenter(name, device="cpu")
        assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("yonigozlan/EdgeTAM-hf", ModelError),
        ("facebook/sam3@main", ModelError),
        ("somebody/sam@main", None),
        ("facebook/sam2.1-hiera-huge", InputError),
        ("weights/missing.safetensors", NotThere),
        ("./no/such", NotThere),
        ("/no/such", NotThere),
    ],
)
def test_names_are_judged_without_loading(
    name: str, error: type[Exception] | None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    keep(cache, "somebody/sam", {})
    if error is None:
        check_model(name)
        return
    with pytest.raises(error):
        check_model(name)


def test_a_path_below_a_folder_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(NotThere, match="checkpoint runs/best is missing"):
        check_model("runs/best")


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 0.25),
        (
            "processor_config.json",
            {"video_processor": {"image_mean": [0.5] * 3, "image_std": [0.125] * 3}},
            0.125,
        ),
        ("preprocessor_config.json", {"size": 3}, 0.229),
        ("preprocessor_config.json", {"image_mean": [0.5], "image_std": [0.0]}, None),
    ],
)
def test_pictures_as_the_folder_says(
    file: str, content: dict[str, Any], expected: float | None, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    if expected is None:
        with pytest.raises(ModelError, match="not three numbers"):
            _preparation(tmp_path, "sam2_video", "mine")
        return
    found = _preparation(tmp_path, "sam2_video", "mine")
    assert isinstance(found, Preparation) and found.spread[0] == expected
