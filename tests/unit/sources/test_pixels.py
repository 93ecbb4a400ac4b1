from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.sources.pixels import to_rgb

GREY = np.array([[0, 128, 255]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(GREY, [0, 128, 255], id="grey"),
        pytest.param(GREY[..., None], [0, 128, 255], id="grey with a channel axis"),
        pytest.param(np.stack([GREY, GREY // 2], -1), [0, 128, 255], id="grey and alpha"),
        pytest.param(
            GREY.astype(np.uint16) * 257, [0, 128, 255], id="16 bit, white 65535 stays white"
        ),
        pytest.param(np.array([[0, 128, 385]], np.uint16), [0, 0, 1], id="16 bit rounds"),
        pytest.param(np.array([[False, True]]), [0, 255], id="bool"),
        pytest.param(np.array([[0.0, 0.5, 1.0]]), [0, 128, 255], id="float64"),
        pytest.param(np.array([[0.0, 0.5, 1.0]], np.float16), [0, 128, 255], id="float16"),
        pytest.param([[0.0, 1.0]], [0, 255], id="nested lists"),
    ],
)
def test_grey_of_any_kind(array, expected):
    rgb = to_rgb(array)
    assert rgb.dtype == np.uint8 and rgb.shape == (1, len(expected), 3)
    assert rgb[0, :, 0].tolist() == rgb[0, :, 2].tolist() == expected


def test_alpha_is_dropped_and_colours_keep_their_order():
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0], rgba[..., 2], rgba[..., 3] = 200, 50, 7
    assert to_rgb(rgba)[0, 0].tolist() == [200, 0, 50]


def test_rgb_is_not_copied_but_views_become_contiguous():
    image = np.zeros((4, 5, 3), np.uint8)
    assert to_rgb(image) is image
    assert to_rgb(image[..., ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "word"),
    [
        pytest.param(np.zeros((4, 5, 5), np.uint8), "shape", id="five channels"),
        pytest.param(np.zeros((3, 40, 50), np.uint8), "shape", id="channels first"),
        pytest.param(np.zeros(4, np.uint8), "shape", id="a row"),
        pytest.param(np.zeros((0, 5, 3), np.uint8), "no pixels", id="empty"),
        pytest.param(np.zeros((4, 5, 3), np.int32), "int32", id="int32"),
        pytest.param(np.full((4, 5), 255.0), "divide", id="floats up to 255"),
        pytest.param(np.full((4, 5), -0.5), "divide", id="negative floats"),
        pytest.param(np.full((4, 5), np.nan), "nan", id="NaN"),
        pytest.param("image.png", "shape", id="a string"),
        pytest.param(None, "shape", id="None"),
    ],
)
def test_anything_else_is_one_clear_line(array, word):
    with pytest.raises(InputError, match=word) as caught:
        to_rgb(array)
    assert "\n" not in str(caught.value)
