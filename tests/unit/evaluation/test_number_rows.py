"""Rows of numbers as copies and trackers write them."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.number_rows import read_rows

NAN = float("nan")
ONE = [[1, 2, 3, 4]]
TWO = [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("1,2,3,4\n5,6,7,8\n", TWO, id="commas"),
        pytest.param("1\t2\t3\t4\n5\t6\t7\t8", TWO, id="tabs"),
        pytest.param("1 2  3 4\n 5 6 7 8 ", TWO, id="spaces"),
        pytest.param("1;2;3;4\n5;6;7;8\n", TWO, id="semicolons"),
        pytest.param("1, 2,\t3 ,4\n5 6\t7;8\n", TWO, id="mixed"),
        pytest.param("1,2,3,4\r\n5,6,7,8\r\n", TWO, id="CR LF"),
        pytest.param("1,2,3,4\r\r\n5,6,7,8\r\r\n", TWO, id="CR CR LF"),
        pytest.param("\ufeff1,2,3,4\n", ONE, id="byte order mark"),
        pytest.param("1,2,3,4\n\n  \n\n", ONE, id="blank lines at the end"),
        pytest.param("1.,2e0,+3,400.0e-2", ONE, id="scientific"),
        pytest.param("1,2,3,4,\n5,6,7,8,\n", TWO, id="a comma at the end"),
        pytest.param("1,2,3,4\nNaN,nan,NAN,-nan\n", [*ONE, [NAN] * 4], id="NaN row"),
        pytest.param("1,2,3,4\n\n5,6,7,8\n", [TWO[0], [NAN] * 4, TWO[1]], id="empty row"),
        pytest.param("1,2,3,4\nnan\n5,6,7,8\n", [TWO[0], [NAN] * 4, TWO[1]], id="single NaN"),
        pytest.param("1,2,3,4\n,,,\n", [*ONE, [NAN] * 4], id="commas alone"),
        pytest.param("1,2,3,4\n5,,7,8\n", [*ONE, [5, NAN, 7, 8]], id="an empty field"),
        pytest.param("1,2,3,4\n5,none,N/A,8\n", [*ONE, [5, NAN, NAN, 8]], id="words"),
        pytest.param("1,2,3,4\n-1.#IND,6,7,8\n", [*ONE, [NAN, 6, 7, 8]], id="NaN of C on Windows"),
        pytest.param("-1,-2.5,3,4\n", [[-1, -2.5, 3, 4]], id="negative"),
    ],
)
def test_rows(text: str, wanted: list[list[float]]) -> None:
    np.testing.assert_array_equal(read_rows(text, "f.txt", (4,)), wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", r"f\.txt, line 2: 3 numbers in '1,2,3'; expected a row of 4 numbers"),
        ("1,2,3\n4,5,6\n", r"line 1: 3 numbers"),
        ("1,2,3,4\n\n1,2,3,4,5", r"line 3: 5 numbers"),
        ("1,2,3,x", r"line 1: '1,2,3,x' is not a row of 4 numbers"),
        ("1,2,3,4\n1,2,3,inf", r"line 2: '1,2,3,inf' is not"),
        ("1,2,3,1e999", r"line 1: .* is not"),
        ("1_0,2,3,4", r"line 1: '1_0,2,3,4' is not"),
        ("\u0661,2,3,4", r"line 1: .* is not"),
        ("x,y,w,h\n1,2,3,4", r"line 1: 'x,y,w,h' is not"),
        ("a" * 1000, r"line 1: 'a{57}\.\.\.' is not"),
    ],
)
def test_a_bad_line_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(text, "f.txt", (4,))


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_a_file_without_numbers_has_no_rows(text: str) -> None:
    assert read_rows(text, "f.txt", (4,)).shape == (0, 0)


def test_any_width_when_none_is_asked_for_but_one_a_file() -> None:
    np.testing.assert_array_equal(read_rows("0,1,,1", "f"), [[0, 1, NAN, 1]])
    np.testing.assert_array_equal(read_rows("0\n1\n\n1", "f"), [[0], [1], [NAN], [1]])
    with pytest.raises(InputError, match="line 2: 2 numbers; expected 3 as in other lines"):
        read_rows("1 2 3\n1 2", "f")


def test_shorter_rows_are_filled_up_where_several_widths_are_allowed() -> None:
    found = read_rows("1,2,3,4\n1,2,3,4,5,6,7,8", "f", (4, 8))
    np.testing.assert_array_equal(found, [[1, 2, 3, 4] + [NAN] * 4, range(1, 9)])
    with pytest.raises(InputError, match="expected a row of 4 or 8 numbers"):
        read_rows("1,2,3,4\n1,2,3,4,5,6", "f", (4, 8))


def test_both_ways_of_reading_agree() -> None:
    values = np.random.default_rng(3).normal(0, 1000, (50, 4)).round(3)
    plain = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    careful = plain + ",\n"  # the comma at the end is for the slower reader
    np.testing.assert_array_equal(read_rows(plain, "f", (4,)), values)
    np.testing.assert_array_equal(read_rows(careful, "f", (4,)), values)


def test_encodings(tmp_path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path = tmp_path / f"{encoding}.txt"
        path.write_text("1,2,3,4\n", encoding=encoding)
        np.testing.assert_array_equal(read_rows(read_text(path), path, (4,)), ONE)
    (tmp_path / "latin.txt").write_bytes(b"1,2,3,4\n\xff\xe9\n")
    with pytest.raises(InputError, match=r"latin\.txt, line 2"):
        read_rows(read_text(tmp_path / "latin.txt"), tmp_path / "latin.txt", (4,))
