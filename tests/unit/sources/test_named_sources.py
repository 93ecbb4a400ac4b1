"""What is there but is no source, or no place for results: wrong use, in one line."""

from __future__ import annotations

import errno
import os
import socket
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision_mem.errors import InputError, NotThere, NotUsable, SourceError, VisionMemError
from vision_mem.formats.text import sink_error
from vision_mem.runs.folder import RunFolder
from vision_mem.sources.open import open_source
from vision_mem.sources.rgbd import open_rgbd
from vision_mem.sources.rgbd_layouts import check_layout


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("things")
    (folder / "empty.mp4").touch()
    (folder / "empty.png").touch()
    (folder / "note.txt").write_text("no video at all")
    (folder / "text.mp4").write_text("no video at all")
    (folder / "noise.mkv").write_bytes(np.random.default_rng(3).bytes(5000))
    (folder / "page.pdf").write_bytes(b"%PDF-1.4")
    with zipfile.ZipFile(folder / "films.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").touch()
    (folder / "nothing").mkdir()
    (folder / "texts").mkdir()
    (folder / "texts" / "note.txt").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty.mp4", "is empty (0 bytes)"),
        ("empty.png", "cannot be read as an image"),
        ("note.txt", "is not a video that can be read"),
        ("text.mp4", "is not a video that can be read"),
        ("noise.mkv", "is not a video that can be read"),
        ("page.pdf", "is not a video that can be read"),
        ("films.zip", "is not a video that can be read"),
        ("videos", "holds no images but videos"),
        ("nothing", "holds no images"),
        ("texts", "holds no images"),
    ],
)
def test_what_is_no_video_is_wrong_use(things: Path, name: str, says: str) -> None:
    with pytest.raises(NotUsable) as told:
        open_source(things / name)
    assert says in str(told.value)
    assert told.value.exit_code == 2
    assert isinstance(told.value, SourceError)  # who catches that in Python still does


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty.mp4", "is a video without depth"),
        ("note.txt", "is no folder; expected one with colour and depth frames"),
        ("films.zip", "is no folder; expected one with colour and depth frames"),
        ("videos", "has no known layout"),
        ("nothing", "is empty; expected colour and depth frames"),
        ("texts", "has no known layout"),
        ("nowhere", "is no folder; expected one"),
    ],
)
def test_what_has_no_depth_is_wrong_use(things: Path, name: str, says: str) -> None:
    with pytest.raises(VisionMemError) as told:
        open_rgbd(things / name)
    assert told.value.exit_code == 2
    assert says in str(told.value)
    assert f"{things / name}" in str(told.value)
    assert "did you mean" not in str(told.value)


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and sockets in folders")
def test_pipes_and_sockets_are_refused_before_they_are_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
        for name, kind in (("pipe", "a pipe"), ("door", "a socket")):
            with pytest.raises(NotUsable, match=f"is {kind}, and videos are opened more than once"):
                open_source(tmp_path / name)
            with pytest.raises(NotUsable, match="is no folder; expected one with colour"):
                check_layout(tmp_path / name)


def test_places_where_nothing_can_be_written_are_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = [tmp_path / "file" / "below"]
    places += [Path("/proc/vision-mem-results")] if Path("/proc/self").exists() else []
    for place in places:
        with pytest.raises(NotUsable, match=r"cannot be written to .*; give another --out"):
            RunFolder(place).begin()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, 2), (errno.EACCES, 2), (errno.ENOTDIR, 2), (errno.EISDIR, 2),
        (errno.EROFS, 2), (errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EIO, 1),
    ],
)  # fmt: skip
def test_a_full_disk_is_no_wrong_use_and_a_wrong_place_is(number: int, code: int) -> None:
    told = sink_error("out/x.png", OSError(number, os.strerror(number)))
    assert told.exit_code == code
    assert str(told).startswith("out/x.png cannot be written: ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_frames": "x"}, "max_frames is 'x'; expected a whole number of frames"),
        ({"start": 1.5}, "start is 1.5; expected a whole number of frames"),
        ({"start": None}, "start is null; expected a whole number of frames"),
        ({"stride": True}, "stride is true; expected a whole number of frames"),
        ({"fps": "fast"}, "fps is 'fast'; expected a number above 0"),
        ({"prefetch": "many"}, "prefetch is 'many'; expected 1 or more frames"),
        ({"timeout_s": "long"}, "timeout_s is 'long'; expected seconds above 0"),
        ({"max_frames": np.int64(0)}, "max_frames is 0; expected 1 or more frames"),
    ],
)
def test_options_of_a_wrong_kind_are_told_in_plain_words(
    options: dict[str, Any], says: str
) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError) as told:
        open_source([picture], **options)
    assert str(told.value) == says


@pytest.mark.parametrize("name", ["n" * 300 + ".mp4", "\u540d" * 100 + ".mp4"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(NotThere) as told:
        open_source(name)
    assert told.value.exit_code == 2
    assert "cannot be a file" in str(told.value) and len(str(told.value)) < 200


def test_what_a_program_gives_is_no_wrong_use() -> None:
    with pytest.raises(SourceError) as told:
        open_source(iter([]))
    assert told.value.exit_code == 1
