"""Texts of strangers: every way in which a small file can be a large one, and what shows of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from vision_mem.cli import main
from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.formats.prompts import read_init
from vision_mem.formats.rgbd_folders import read_camera
from vision_mem.formats.trajectory import read_numbers
from vision_mem.navigation.observer import read_things
from vision_mem.text import parse_json, parse_yaml, printable, read_text
from vision_mem.tracking.config import TrackingConfig

DEEP = 100_000
BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)

JSON = {
    "lists within lists": ("[" * DEEP + "]" * DEEP, "nested too deeply"),
    "lists within lists, fewer": ("[" * 300 + "]" * 300, "nested too deeply"),
    "objects within objects": ('{"a":' * DEEP + "1" + "}" * DEEP, "nested too deeply"),
    "a number of 5000 digits": ("9" * 5000, "a number of 5000 digits"),
    "a number of 4000 digits": ('{"frame": ' + "9" * 4000 + "}", "a number of 4000 digits"),
    "a number too large": ("[1e999]", "1e999 is too large"),
    "not a number": ("[NaN]", "NaN is no JSON number"),
    "infinity": ("[-Infinity]", "Infinity is no JSON number"),
    "a key twice": ('{"a": 1, "a": 2}', "'a' is given twice"),
    "half a letter": ('["\\udc80"]', "half a letter"),
    "cut off": ('[{"a": 1}, {"b"', "line 1 column 16"),
    "empty": ("", "is not JSON"),
}


@pytest.mark.parametrize(("text", "says"), JSON.values(), ids=JSON)
def test_json_that_means_harm_is_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_json(text, "here.json")
    assert says in str(caught.value) and str(caught.value).startswith("here.json")
    assert len(str(caught.value)) < 200


YAML = {
    "aliases": (BOMB, "more than"),
    "merges": (MERGE_BOMB, "more than"),
    "a list of itself": ("a: &a [*a]", "nested too deeply"),
    "lists within lists": ("a: " + "[" * 2000, "nested too deeply"),
    "a number of 5000 digits": ("slots: " + "9" * 5000, "a number of 5000 digits"),
    "code": ("a: !!python/object/apply:os.system [ls]", "python/object/apply"),
    "a set": ("a: !!set {b}", "of the kind set"),
    "a key twice": ("a: 1\na: 2", "'a' is given twice"),
    "two documents": ("a: 1\n---\nb: 2", "but found another document"),
    "no text": ("a: \x00", "not valid YAML"),
}


@pytest.mark.parametrize(("text", "says"), YAML.values(), ids=YAML)
def test_yaml_that_means_harm_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "here.yaml")
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    preset = tmp_path / "mine.yaml"
    preset.write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml is not valid YAML"):
        load_config(TrackingConfig, preset, folder="tracking")


def test_good_json_and_yaml_are_read_as_ever() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, -2.5e-7, "x", null, true]}', "x") == {
        "a": [1, -2.5e-7, "x", None, True]
    }
    assert parse_json(r'"\ud83d\ude80"', "x") == "\U0001f680"
    assert parse_json(f'"{"1" * 5000}"', "x") == "1" * 5000
    assert parse_json("[" + "1," * 10_000 + "1e200]", "x")[-1] == 1e200
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: .inf}", "x")["d"] == {
        "b": 1, "e": float("inf"),
    }  # fmt: skip


@pytest.mark.parametrize("word", ["${oc.env:HOME}", "${oc.env:NO_SUCH}", "${policy}", "${a", "???"])
def test_nothing_is_looked_up(word: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"batch_objects: '{word}'\n")
    for preset, changes in ((tmp_path / "mine.yaml", ()), (None, (f"batch_objects='{word}'",))):
        with pytest.raises(InputError) as caught:
            load_config(TrackingConfig, preset, changes, folder="tracking")
        assert repr(word) in str(caught.value)
        assert os.environ["HOME"] not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("fill_hole_area=" + "9" * 5000, "a number of 5000 digits"),
        ("motion.weight=" + "[" * 2000, "nested too deeply"),
        ("batch_objects=" + "x" * 100_000, "xx ... xx"),
        ("no_such_key" + "x" * 100_000 + "=1", "no setting 'no_such_key"),
        ("appear_threshold=.nan", "setting appear_threshold is nan; expected a number"),
        ("appear_threshold=true", "setting appear_threshold is true; expected a number"),
        ("corrections_are_prompts=2", "is 2; expected true or false"),
        ("fill_hole_area=-1", "setting fill_hole_area=-1: fill_hole_area is -1; expected 0"),
    ],
)  # fmt: skip
def test_one_wrong_change_is_one_short_line(
    change: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", ".", "--box", "1,2,3,4", "--set", change]) == 2
    said = capsys.readouterr().err
    assert says.split("=-1: ")[-1] in said, said[:300]
    assert said.count("\n") == 1 and len(said) < 1100


def _no_text(kind: str, folder: Path) -> Path:
    path = folder / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2_000_000_001)  # a hole: nothing is written
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00\x01" * 9)
    return Path("/dev/zero") if kind == "device" else path


@pytest.mark.skipif(os.name == "nt", reason="devices and pipes have other names there")
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "huge", "binary", "absent"])
def test_what_is_no_text_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = _no_text(kind, tmp_path)
    for read in (read_text, read_init, read_things, read_camera, lambda p: read_numbers(p, 3)):
        with pytest.raises((InputError, OSError)) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


WRONG_TYPES = ["3", '"x"', "null", "true", "[3]", "[[]]", "[null]", '{"a": 1}', '[{"frame": true}]',
               '[{"name": 3, "box": [1, 2, 3, 4]}]', '[{"box": "1234"}]', '[{"box": {"x": 1}}]',
               '[{"box": [1, 2, 3, null]}]', '[{"points": 7}]', '{"prompts": 5}']  # fmt: skip


@pytest.mark.parametrize("text", WRONG_TYPES)
def test_json_of_the_wrong_kind_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    for read in (read_init, read_things, read_camera):
        with pytest.raises((InputError, OSError)) as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_long_lines_are_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 1_000_000)
    for read in (read_init, lambda p: read_numbers(p, 3), read_things):
        with pytest.raises((InputError, OSError)) as caught:
            read(path)
        assert len(str(caught.value)) < 400


EVIL = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e\r\udc80"


def test_control_characters_are_spelled() -> None:
    assert printable(EVIL) == ("\\u001b[31m\\u001b]0;title\\u0007\\u009b2J\\u202e\\u000d\\udc80")
    plain = "naïve 日本 \U0001f469‍\U0001f680 می‌خواهم\ttab\nline"
    assert printable(plain) == plain
    assert json.loads(printable(json.dumps(EVIL, ensure_ascii=False))) == EVIL


@pytest.mark.parametrize(
    "words",
    [
        ["track", f"{EVIL}.mp4", "--box", "1,2,3,4"],
        ["track", ".", "--box", f"{EVIL}=1,2"],
        ["track", ".", "--box", "1,2,3,4", "--preset", f"{EVIL}"],
        ["track", ".", "--box", "1,2,3,4", "--preset", f"{EVIL}.yaml"],
        ["track", ".", "--box", "1,2,3,4", "--set", f"{EVIL}=1"],
        ["track", ".", "--box", "1,2,3,4", "--set", f"batch_objects={EVIL}"],
        ["track", ".", f"--{EVIL}"],
        [EVIL],
        ["mots", ".", "--detect", f"file:{EVIL}.txt"],
        ["navigate", "where", "cup", "--map", EVIL],
        ["eval", EVIL],
    ],
    ids=range(11),
)
def test_no_control_character_of_a_slip_reaches_the_terminal(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) in (1, 2)
    shown = capsys.readouterr()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc80]", shown.out + shown.err)
    assert shown.err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
def test_a_run_on_a_file_named_with_escapes_shows_none(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / EVIL.removesuffix("\udc80") / "new\nline"
    folder.mkdir(parents=True)
    clip = folder / f"{EVIL}.mp4"
    clip.write_bytes(small_clip.read_bytes())
    words = ["--detect", "none", "--out", str(folder / "out"), "--max-frames", "2"]
    box = ["--box", f"{EVIL}=30,28,40,40", "--model", "random:sam2.1_hiera_t@128"]
    assert main(["track", str(clip), *box, *words[2:]]) == 0
    shown = capsys.readouterr()
    assert "results in " in shown.out and "\\u001b[31m" in shown.out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc80]", shown.out + shown.err)
    assert "\nline" not in shown.out.replace("\\nline", "")


@pytest.mark.parametrize("order", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_of_other_systems_is_read(tmp_path: Path, order: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(order, b"")
    (tmp_path / "t.txt").write_bytes(mark + "0 1 日本\n".encode(order))
    assert read_text(tmp_path / "t.txt") == "0 1 日本\n"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x01", b"\xff\xfe\x00", b"\xff\xd8\xff", b"\x80"]
)
def test_what_is_no_text_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(InputError, match="is no text file"):
        read_text(tmp_path / "t.txt")
