"""Networks of transformers and torchvision: the real classes, tiny, with random weights."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import detector_models
import numpy as np
import pytest
import torch

from vision_mem.errors import InputError, MissingExtra, ModelError
from vision_mem.models.detectors import Detector, Guarded, open_detector
from vision_mem.models.detectors import torchvision as tv
from vision_mem.models.torchvision_shim import ensure_torchvision
from vision_mem.types import Frame

SIZE = (48, 80)
FIXED = ("dfine", "rtdetr", "rtdetrv2")
OPEN = ("grounding-dino", "owlv2", "sam3")
needs_library = pytest.mark.slow  # importing the library takes seconds


@pytest.fixture(scope="module")
def library():
    ensure_torchvision()
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folders(library, tmp_path_factory):
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("networks")
    return {kind: detector_models.save(kind, place) for kind in (*FIXED, *OPEN)}


def frame(index=0):
    rng = np.random.default_rng(index)
    return Frame(index, 0.0, rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))


def opened(spec, min_score=0.0):
    detector = open_detector(spec, device="cpu", guarded=False)
    detector._min_score = min_score
    return detector


@needs_library
@pytest.mark.parametrize("kind", FIXED)
def test_networks_with_classes(kind, folders, library) -> None:
    detector = opened(str(folders[kind]))
    assert isinstance(detector, Detector)
    found = detector.detect(frame())
    assert len(found) == 20  # as many as it has queries
    assert dict(found.names) == detector_models.NAMES
    assert set(found.labels) <= set(detector_models.NAMES)
    assert (np.diff(found.scores) <= 0).all()
    # The same as the library's own steps, by hand.
    processor = library.AutoImageProcessor.from_pretrained(folders[kind])
    network = library.AutoModelForObjectDetection.from_pretrained(folders[kind]).eval()
    with torch.inference_mode():
        outputs = network(**processor(images=frame().image, return_tensors="pt"))
    (expected,) = processor.post_process_object_detection(
        outputs, threshold=0.0, target_sizes=[SIZE]
    )
    np.testing.assert_array_equal(found.boxes, expected["boxes"].numpy())
    np.testing.assert_array_equal(found.scores, expected["scores"].numpy())
    assert detector.detect(frame(1)).scores.tolist() != found.scores.tolist()
    again = opened(str(folders[kind])).detect(frame())
    assert again.boxes.tobytes() == found.boxes.tobytes()


@needs_library
def test_low_scores_are_left_out(folders) -> None:
    every = opened(str(folders["rtdetr"])).detect(frame())
    middle = float(np.median(every.scores))
    some = opened(str(folders["rtdetr"]), middle).detect(frame())
    assert 0 < len(some) < len(every)
    assert (some.scores > middle).all()


@needs_library
def test_grounding_dino_finds_words(folders, library) -> None:
    detector = opened(f"red car, Persons.@{folders['grounding-dino']}")
    assert detector.words == ("red car", "persons")
    found = detector.detect(frame())
    assert dict(found.names) == {0: "red car", 1: "persons"}
    # Scores and boxes are those of the library; only the words are told in our own way.
    processor = library.AutoProcessor.from_pretrained(folders["grounding-dino"])
    network = library.AutoModelForZeroShotObjectDetection.from_pretrained(
        folders["grounding-dino"]
    ).eval()
    given = processor(images=frame().image, text="red car. persons.", return_tensors="pt")
    with torch.inference_mode():
        outputs = network(**given)
    tokens = outputs.logits[0].sigmoid()[:, : given["input_ids"].shape[1]]
    # [CLS] red car . person ##s . [SEP]
    assert given["input_ids"].shape[1] == 8
    by_word = torch.stack([tokens[:, 1:3].amax(1), tokens[:, 4:6].amax(1)], dim=1)
    assert found.labels.tolist() == by_word.argmax(1).tolist()
    assert set(found.labels.tolist()) == {0, 1}
    np.testing.assert_allclose(found.scores, by_word.amax(1).numpy(), rtol=1e-6)
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, text_threshold=0.0, target_sizes=[SIZE]
    )
    np.testing.assert_allclose(found.boxes, theirs["boxes"].numpy(), rtol=1e-5, atol=1e-4)
    assert (found.scores <= theirs["scores"].numpy() + 1e-6).all()


@needs_library
def test_owlv2_finds_words(folders, library) -> None:
    words = ["red car", "a very long description of a dog that goes on and on"]
    detector = opened(f"{', '.join(words)}@{folders['owlv2']}")
    found = detector.detect(frame())
    assert dict(found.names) == dict(enumerate(words))
    assert len(found) > 0
    assert len(found) + detector.dropped.total() == 16  # patches of the picture
    assert found.boxes[:, 2].max() <= SIZE[1] * 1.5


@needs_library
def test_sam3_finds_concepts_with_their_masks(folders, library) -> None:
    detector = opened(f"red car, person@{folders['sam3']}")
    found = detector.detect(frame())
    assert dict(found.names) == {0: "red car", 1: "person"}
    assert len(found) + detector.dropped.total() == 12  # two words, six queries each
    assert found.masks.shape == (len(found), *SIZE)
    # The same as the library's own steps for the second word, by hand.
    processor = library.Sam3Processor.from_pretrained(folders["sam3"])
    network = library.Sam3Model.from_pretrained(folders["sam3"]).eval()
    given = processor(images=frame().image, text="person", return_tensors="pt")
    with torch.inference_mode():
        outputs = network(**{k: v for k, v in given.items() if k != "original_sizes"})
    (expected,) = processor.post_process_instance_segmentation(
        outputs, threshold=0.0, target_sizes=[SIZE]
    )
    second = found.labels == 1
    assert second.sum() == len(expected["scores"])
    np.testing.assert_allclose(found.scores[second], expected["scores"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.boxes[second], expected["boxes"].numpy(), rtol=1e-4)
    assert (found.masks[second] != expected["masks"].numpy().astype(bool)).mean() < 1e-3
    assert len(opened(f"red car@{folders['sam3']}", 1.0).detect(frame())) == 0
    with pytest.raises(InputError, match="at most 32: use fewer"):
        opened(f"{'a red car ' * 8}@{folders['sam3']}")


@needs_library
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{sam3}", ("finds given words", "red car@")),
        ("{grounding-dino}", ("finds given words", "red car@")),
        ("red car@{dfine}", ("has classes",)),
    ],
)
def test_the_other_kind_of_network(folders, spec, words) -> None:
    with pytest.raises(ModelError) as caught:
        opened(spec.format(**folders))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@needs_library
def test_damaged_folders(folders, tmp_path, library) -> None:
    def broken(change):
        place = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        place.mkdir()
        for file in folders["dfine"].iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        change(place)
        with pytest.raises(ModelError) as caught:
            open_detector(str(place), device="cpu")
        text = str(caught.value)
        assert "\n" not in text and str(place) in text and len(text) < 500, text
        return text

    def cut(name, keep):
        def change(place):
            data = (place / name).read_bytes()
            (place / name).write_bytes(data[:keep])

        return change

    assert "cannot be loaded" in broken(cut("model.safetensors", 1000))
    assert "cannot be loaded" in broken(cut("config.json", 40))
    assert "model.safetensors" in broken(lambda place: (place / "model.safetensors").unlink())
    assert "preprocessor_config" in broken(
        lambda place: (place / "preprocessor_config.json").unlink()
    )

    def swap(place):  # weights of another network: names that do not fit
        (place / "model.safetensors").write_bytes(
            (folders["owlv2"] / "model.safetensors").read_bytes()
        )

    assert "lacks" in broken(swap)

    def classify(place):
        library.BertConfig().save_pretrained(place)

    assert "'bert', not a detector" in broken(classify)

    def run_code(place):
        text = (place / "config.json").read_text()
        code = '"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}'
        (place / "config.json").write_text(text.replace('"model_type": "d_fine"', code))
        (place / "mine.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")

    broken(run_code)
    assert not (tmp_path / "touched").exists()


@needs_library
def test_weights_that_cannot_be_fetched(library, monkeypatch) -> None:
    import huggingface_hub

    def offline(*args, **options):
        if options.get("local_files_only"):
            raise FileNotFoundError("not in the cache")
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    for spec, name in (
        ("dfine", "ustc-community/dfine-small-coco"),
        ("rtdetrv2", "PekingU/rtdetr_v2_r18vd"),
        ("someone/something", "someone/something"),
        ("red car", "IDEA-Research/grounding-dino-tiny"),
        ("red car@owlv2", "google/owlv2-base-patch16-ensemble"),
    ):
        with pytest.raises(ModelError) as caught:
            open_detector(spec)
        text = str(caught.value)
        assert f"https://huggingface.co/{name} " in text
        example = '"red car@/path/to/folder"' if spec.startswith("red") else "/path/to/folder"
        assert text.endswith(f"--detect {example}")
        assert "\n" not in text


def test_without_the_library_the_message_names_the_command(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for spec in ("dfine", "red car, person"):
        with pytest.raises(MissingExtra, match=r'pip install "vision-mem\[mots\]"'):
            open_detector(spec, device="cpu")


def test_words_must_be_given() -> None:
    for spec in ("words:", "@owlv2", " , "):
        with pytest.raises(InputError, match="words are missing"):
            open_detector(spec)


def operators_run():
    try:
        tv.require_operators()
    except ModelError:
        return False
    return True


def test_torchvision_without_its_operators_says_so() -> None:
    ensure_torchvision()
    if operators_run():
        pytest.skip("torchvision's operators are compiled for this torch")
    for spec in ("maskrcnn", "fasterrcnn"):
        with pytest.raises(ModelError, match=r"no compiled operators for torch .*--detect dfine"):
            open_detector(spec)
    with pytest.raises(InputError, match="maskrcnn, fasterrcnn"):
        tv.TorchvisionDetector("retinanet")


@pytest.mark.slow
def test_torchvision_networks_load_weights_and_answer(tmp_path, monkeypatch) -> None:
    ensure_torchvision()
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None
    )
    # Published weights have frozen normalisation, which counts no batches.
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "mine.pth")
    compiled = operators_run()
    if not compiled:
        monkeypatch.setattr(tv, "require_operators", lambda: None)
    detector = open_detector(f"fasterrcnn-320:{tmp_path / 'mine.pth'}", device="cpu")
    assert isinstance(detector, Guarded)
    inner = detector.detector
    loaded = inner._network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert (inner._names[1], inner._names[90]) == ("person", "toothbrush")
    if compiled:
        assert detector.detect(frame()) is not None
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., 10:20, 10:30] = 0.9
    given = []

    def stands_in(images):
        given.extend(images)
        row = {"boxes": torch.tensor([[10.0, 10, 30, 20]]), "labels": torch.tensor([3])}
        return [row | {"scores": torch.tensor([0.75]), "masks": mask}]

    inner._network = stands_in
    found = detector.detect(frame())
    assert found.name_of(0) == "car"
    assert found.masks.sum() == 200
    assert given[0].shape == (3, *SIZE)
    np.testing.assert_allclose(given[0].permute(1, 2, 0).numpy() * 255, frame().image, atol=1e-3)


def test_weights_of_torchvision_that_cannot_be_fetched(tmp_path, monkeypatch) -> None:
    def offline(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    published = SimpleNamespace(url="https://example.org/models/net-0a1b.pth")
    with pytest.raises(ModelError, match=r"https://example.org/models/net-0a1b.pth .*copy it to"):
        tv._fetched(published, "maskrcnn")
