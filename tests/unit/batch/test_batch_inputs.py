"""Which videos a batch means, and which words are for its command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vision_mem.batch.inputs import BatchInput, fetch, find_inputs, holds_images, is_stored
from vision_mem.errors import InputError, MissingExtra, SourceError, VisionMemError
from vision_mem.pipelines.batch import _check, _options_of_row, _told_apart

FILES = (
    "clips/a2.mp4", "clips/a10.mp4", "clips/notes.txt", "clips/.hidden.mp4", "clips/b/a2.mp4",
    "clips/frames/1.png", "clips/frames/2.png", "other/x.mkv",
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(FILES, 1):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*words: str) -> list[BatchInput]:
    def options(row: Mapping[str, Any]) -> list[str]:
        return [word for key, value in row.items() for word in (f"--{key}", str(value))]

    return find_inputs(words, options, holds_images)


@pytest.mark.parametrize(
    ("words", "sources"),
    [
        (["clips/a2.mp4"], ["clips/a2.mp4"]),
        (["clips/*.mp4"], ["clips/a2.mp4", "clips/a10.mp4"]),
        (["**/a2.mp4"], ["clips/a2.mp4", "clips/b/a2.mp4"]),
        (["clips"], ["clips/a2.mp4", "clips/a10.mp4", "clips/b/a2.mp4", "clips/frames"]),
        (["clips/frames"], ["clips/frames"]),
        (["https://host/x.mp4"], ["https://host/x.mp4"]),
        (["other", "clips/b"], ["other/x.mkv", "clips/b/a2.mp4"]),
    ],
)
def test_words_mean_videos(place: Path, words: list[str], sources: list[str]) -> None:
    found = [each.source.removeprefix(f"{place}/") for each in find(*words)]
    assert sorted(found) == sorted(sources)
    assert found == [each.removeprefix(f"{place}/") for each in (e.source for e in find(*words))]


def test_natural_order_and_names_of_their_own(place: Path) -> None:
    found = find("clips", "other", "clips/a2.mp4")
    assert [Path(each.source).name for each in found[:2]] == ["a2.mp4", "a10.mp4"]
    names = [each.name for each in found]
    assert len({name.casefold() for name in names}) == len(names) == 6
    assert "a10" in names and "frames" not in names, "folders of frames are called as theirs"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("nowhere.mp4", "no such file"),
        ("no*.mp4", "matches no file"),
        ("rtsp://camera/1", "live"),
        ("3", "camera"),
        ("empty", "holds no videos"),
        ("s3://bucket/x.mp4", "s3fs"),
        ("memory://nothing/x.mp4", "cannot be had"),
    ],
)
def test_what_cannot_be_meant(place: Path, word: str, says: str) -> None:
    (place / "empty").mkdir()
    with pytest.raises(VisionMemError, match=says) as caught:
        find(word)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, (InputError, MissingExtra, SourceError))


LISTS = {
    "list.csv": 'file,box,part\nclips/a2.mp4,"red=1,2,3,4",true\nclips/a10.mp4,,\n',
    "list.jsonl": '{"file": "clips/a2.mp4", "box": "red=1,2,3,4", "part": true}\n'
    '{"file": "clips/a10.mp4"}\n',
    "list.ndjson": '[{"file": "clips/a2.mp4", "box": "red=1,2,3,4", "part": true}, '
    '{"file": "clips/a10.mp4"}]',
}


@pytest.mark.parametrize("name", [*LISTS, "list.parquet"])
def test_lists_name_files_and_options(place: Path, name: str) -> None:
    if name == "list.parquet":
        pandas = pytest.importorskip("pandas")
        rows = [{"file": "clips/a2.mp4", "box": "red=1,2,3,4", "part": True},
                {"file": "clips/a10.mp4"}]  # fmt: skip
        pandas.DataFrame(rows).to_parquet(place / name)
    else:
        (place / name).write_text(LISTS[name])
    one, other = find_inputs([name], lambda row: _options_of_row("track", row), holds_images)
    assert (one.options, other.options) == (("--box", "red=1,2,3,4", "--part"), ())
    assert one.size == 1 and other.size == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fil,box\na.mp4,1\n", "line 2 names no file; expected a column"),
        ("file,box\nclips/a2.mp4,1,2,3,4\n", "line 2 has 5 cells.*double quotes"),
        ("file\nclips/gone.mp4\n", "line 2: .*no such file"),
        ("file,colour\nclips/a2.mp4,red\n", "line 2: track has no option 'colour'"),
        ("file,out\nclips/a2.mp4,x\n", "--out is not for many"),
        ("file,part\nclips/a2.mp4,perhaps\n", "expected true or false"),
        ("file\n", "lists nothing"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(place: Path, text: str, says: str) -> None:
    (place / "list.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        find_inputs(["list.csv"], lambda row: _options_of_row("track", row), holds_images)


def test_several_boxes_of_one_row() -> None:
    row = {"box": "a=1,2,3,4; b=5,6,7,8", "set": ["x=1", "y=2"], "start": 3}
    assert _options_of_row("track", row) == [
        "--box", "a=1,2,3,4", "--box", "b=5,6,7,8", "--set", "x=1", "--set", "y=2", "--start", "3",
    ]  # fmt: skip
    with pytest.raises(InputError, match="a list of them"):
        _options_of_row("track", {"box": [{"x": 1}]})


@pytest.mark.parametrize(
    ("command", "words", "apart"),
    [
        ("track", ["a", "--box", "1,2,3,4", "b"], (["a", "b"], ["--box", "1,2,3,4"], [])),
        ("track", ["a", "--box=1,2,3,4"], (["a"], ["--box=1,2,3,4"], [])),
        ("track", ["--part", "a"], (["a"], ["--part"], [])),
        ("ask", ["a", "is there a dog?", "--fps", "2"],
         (["a"], ["--fps", "2"], ["is there a dog?"])),
    ],
)  # fmt: skip
def test_inputs_options_and_questions(command: str, words: list[str], apart: tuple) -> None:
    assert _told_apart(command, words) == apart


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--boxx", "3"], "no option --boxx; did you mean '--box'"),
        (["--box"], "needs a value"),
        (["--resume"], "not for many videos"),
        (["--show"], "not for many videos"),
    ],
)
def test_options_that_cannot_be(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        _told_apart("track", words)


def test_values_are_checked_before_the_first_video() -> None:
    _check("track", ["a.mp4", "--stride", "2"])
    with pytest.raises(Exception, match="greater than or equal"):
        _check("track", ["a.mp4", "--stride", "0"])


def test_files_of_stores_are_fetched(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/archive/one.mp4", b"content")
    memory.pipe("/archive/two.mkv", b"more")
    memory.pipe("/archive/readme.txt", b"no")
    try:
        found = find("memory://archive")
        assert [each.source for each in found] == [
            "memory:///archive/one.mp4", "memory:///archive/two.mkv",
        ]  # fmt: skip
        assert [each.source for each in find("memory://archive/*.mkv")] == [found[1].source]
        assert all(is_stored(each.source) for each in found)
        assert fetch(found[0].source, tmp_path / "new").read_bytes() == b"content"
        memory.rm("/archive/two.mkv")
        with pytest.raises(SourceError, match="cannot be had"):
            fetch(found[1].source, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["new"]
    finally:
        memory.rm("/archive", recursive=True)


def test_stores_without_rights_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")

    def denied(*given: object, **more: object) -> None:
        raise PermissionError("Access Denied:\n the key may not list this bucket")

    with memory.open("/archive/a.mp4", "wb") as file:
        file.write(b"video")
    for name in ("isdir", "info", "glob", "get_file"):
        monkeypatch.setattr(type(memory), name, denied)
    for ask in (
        lambda: find_inputs(["memory://archive/a.mp4"], lambda row: (), lambda path: False),
        lambda: find_inputs(["memory://archive/*.mp4"], lambda row: (), lambda path: False),
        lambda: fetch("memory://archive/a.mp4", tmp_path),
    ):
        with pytest.raises(SourceError) as caught:
            ask()
        said = str(caught.value)
        assert "no right to read it (Access Denied: the key" in said and "\n" not in said
        assert "check the address and the keys to the store" in said
    assert not list(tmp_path.iterdir())
