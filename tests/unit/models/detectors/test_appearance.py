"""Appearance vectors: what ``--reid`` takes, what is no re-identification model, and cosines."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError, ModelError, NotThere
from vision_mem.models.detectors.appearance import (
    SAME,
    Described,
    OnnxEmbedder,
    mapped_to,
    open_embedder,
)
from vision_mem.models.detectors.callable import as_detector
from vision_mem.mots.gallery import GalleryConfig
from vision_mem.types import Detections, Frame

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

RED, BLUE = ([0, 0, 10, 20], [20, 0, 30, 20])


def picture():
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :10, 0], image[:, 20:, 2] = 255, 255
    return image


def written(path, nodes, output, batch="n", size=(8, 4), channels=3):
    """A graph from pictures to ``output``, its name and shape."""
    weights = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    held = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, *size])
    out = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])
    graph = helper.make_graph(nodes, "g", [given], [out], [held])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def mean(out="m"):
    return helper.make_node("ReduceMean", ["x"], [out], axes=[2, 3], keepdims=0)


def looks(path, **more):
    """Colours of a picture, mixed: 32 numbers."""
    mix = helper.make_node("MatMul", ["m", "w"], ["e"])
    return written(path, [mean(), mix], ("e", [more.get("batch", "n"), 32]), **more)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_model_tells_colours_apart_however_many_it_takes_at_a_time(tmp_path, batch) -> None:
    model = OnnxEmbedder(looks(tmp_path / "r.onnx", batch=batch))
    boxes = np.array([RED, BLUE, RED, BLUE, RED], np.float32)
    vectors = model.embed(picture(), boxes)
    assert vectors.shape == (5, 33)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alike = vectors @ vectors.T
    assert alike[0, 2] > 0.999 > SAME > alike[0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"nothing") and p, "damaged or no ONNX file"),
        (lambda p: written(p, [mean()], ("m", ["n", 3])), "not one vector of 16 or more"),
        (
            lambda p: written(
                p,
                [
                    mean(),
                    helper.make_node("MatMul", ["m", "w"], ["e"]),
                    helper.make_node("Softmax", ["e"], ["p"], axis=1),
                ],
                ("p", ["n", 32]),
            ),
            "shares of 32 classes",
        ),
        (
            lambda p: written(
                p,
                [
                    mean(),
                    helper.make_node("MatMul", ["m", "w"], ["e"]),
                    helper.make_node("Sub", ["e", "e"], ["z"]),
                ],
                ("z", ["n", 32]),
            ),
            "all pictures look alike",
        ),
    ],
)
def test_what_is_no_such_model_is_told_in_a_line(tmp_path, make, message) -> None:
    path = make(tmp_path / "r.onnx")
    with pytest.raises(ModelError, match=message) as caught:
        OnnxEmbedder(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        ("osnet.onnx", InputError, "give onnx:osnet.onnx"),
        ("colors", InputError, "did you mean 'colours'"),
        ("onnx:", InputError, "without a file"),
        ("onnx:no.onnx", NotThere, "no such file no.onnx"),
        ("onnx:no.onnx,size=3", InputError, "expected same=0.7"),
        ("onnx:no.onnx,same=2", InputError, "between 0 and 0.95"),
    ],
)
def test_words_that_mean_nothing_are_told(word, kind, message) -> None:
    with pytest.raises(kind, match=message):
        open_embedder(word)


def test_colours_need_no_model_and_a_cosine_of_same_becomes_that_of_the_rules() -> None:
    assert open_embedder("colours") is None
    assert GalleryConfig().min_similarity == SAME
    angle = np.arccos(0.6)
    two = np.array([[1, 0], [np.cos(angle), np.sin(angle)], [0, 0]], np.float32)
    made = mapped_to(two, same=0.6)
    assert made[0] @ made[1] == pytest.approx(SAME, abs=1e-5)
    assert not made[2].any()


def test_detections_are_described(tmp_path) -> None:
    found = Detections(np.array([RED, BLUE], np.float32))
    detector = Described(as_detector(lambda frame: found), OnnxEmbedder(looks(tmp_path / "r.onnx")))
    described = detector.detect(Frame(0, 0.0, picture()))
    assert described is not None and described.embeddings.shape == (2, 33)
