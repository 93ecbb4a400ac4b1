"""Files in folders, in archives and in parts of them, whole and damaged."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vision_mem.errors import InputError
from vision_mem.evaluation.file_tree import (
    MAX_BYTES,
    FileTree,
    TrackerFiles,
    read_text,
    tracker_name,
)


def test_missing_and_oversized_files_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="too large"):
        read_text(tmp_path / "huge.txt")


@pytest.fixture(params=["folder", "zip", "zip with one folder at its top"])
def files(request, tmp_path):
    inside = {"annos/b-1.txt": "1", "annos/a-1.txt": "2", "annos/.hid.txt": "", "annos/x.md": "",
              ".git/c.txt": "", "absent/a-1.txt": "\ufeff3"}  # fmt: skip
    if request.param == "folder":
        for name, text in inside.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return FileTree(tmp_path)
    top = "top/" if "one" in request.param else ""
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for name, text in inside.items():
            archive.writestr(f"{top}{name}", text)
        archive.writestr("__MACOSX/annos/._a-1.txt", "")
        archive.writestr(".DS_Store", "")
    return FileTree(tmp_path / "f.zip")


def test_folders_and_archives_read_alike(files) -> None:
    with files:
        assert files.names("annos") == ["a-1.txt", "b-1.txt"]
        assert files.names("annos", ".md") == ["x.md"]
        assert sorted(files.walk()) == [
            "absent/a-1.txt", "annos/a-1.txt", "annos/b-1.txt", "annos/x.md",
        ]  # fmt: skip
        assert files.names() == files.names("none") == []
        assert files.has("absent/a-1.txt")
        assert not files.has("absent/b-1.txt")
        assert files.text("absent/a-1.txt") == "3"
        assert files.data("absent/a-1.txt") == b"\xef\xbb\xbf3"
        with pytest.raises(InputError, match="no such file"):
            files.text("absent/b-1.txt")


def packed(path, files, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("inside", "root", "names", "where", "place"),
    [
        pytest.param({"a.txt": ""}, "", ["a.txt"], "f.zip:a.txt", "f.zip/a.txt", id="flat"),
        pytest.param({"./a.txt": ""}, "", ["a.txt"], "f.zip:a.txt", "f.zip/a.txt", id="dot"),
        pytest.param({"top/a.txt": ""}, "", ["a.txt"], "f.zip:top/a.txt", "f.zip/top/a.txt",
                     id="one folder"),
        pytest.param({"x/y/a.txt": "", "x/z/a.txt": ""}, "x/y", ["a.txt"], "f.zip:x/y/a.txt",
                     "f.zip/x/y/a.txt", id="a part"),
        pytest.param({"x/y/a.txt": ""}, "x", ["y/a.txt"], "f.zip:x/y/a.txt", "f.zip/x/y/a.txt",
                     id="a part with one folder"),
    ],
)  # fmt: skip
def test_where_files_of_an_archive_are(tmp_path, inside, root, names, where, place):
    path = packed(tmp_path / "f.zip", inside)
    with FileTree(path / root if root else path) as files:
        assert list(files.walk()) == names
        assert files.where(names[0]) == str(tmp_path / where)
        assert files.place(names[0]) == tmp_path / place
        assert files.data(names[0]) == b""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such folder or ZIP archive"),
        ("text.txt", "neither a folder nor a readable ZIP"),
        ("text.txt/inside", "neither a folder nor a readable ZIP"),
        ("cut.zip", "neither a folder nor a readable ZIP"),
        ("whole.zip/other", "whole.zip has no folder other"),
        ("whole.zip/anno", "whole.zip has no folder anno"),  # part of a name
    ],
)
def test_what_is_no_tree(tmp_path, name, message):
    (tmp_path / "text.txt").write_text("1,2,3,4")
    data = packed(tmp_path / "whole.zip", {"annos/a.txt": "1" * 500}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=message):
        FileTree(tmp_path / name)


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members(tmp_path, how):
    path = packed(tmp_path / "f.zip", {"annos/a-1.txt": "1,2,3,4\n" * 200}, how)
    data = bytearray(path.read_bytes())
    data[50:64] = b"\xaa" * 14
    path.write_bytes(data)
    with FileTree(path) as files, pytest.raises(InputError, match=r"f\.zip:.*cannot be read: \S"):
        files.text("a-1.txt")


def test_encrypted_members(tmp_path):
    path = packed(tmp_path / "f.zip", {"a.txt": "1"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag, in front of the file and in the list at the end
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with FileTree(path) as files, pytest.raises(InputError, match=r"f\.zip:a\.txt .* encrypted"):
        files.text("a.txt")


def test_a_member_that_would_fill_the_memory(tmp_path):
    path = tmp_path / "f.zip"
    packed(path, {"a.txt": bytes(65 << 20)})
    assert path.stat().st_size < 1 << 20
    with FileTree(path) as files, pytest.raises(InputError, match=r"a\.txt has 65 MB; too large"):
        files.data("a.txt")


@pytest.mark.parametrize(
    ("path", "name"),
    [("ATOM", "ATOM"), ("v1.2", "v1.2"), ("ATOM.zip", "ATOM"), ("all.zip/LaSOT/DiMP", "DiMP"),
     ("mine/results", "mine"), ("mine/data", "mine"), ("/results", "results"), ("a.txt", "a")],
)  # fmt: skip
def test_trackers_are_called_by_their_folders(path, name):
    assert tracker_name(Path(path)) == name


def test_a_single_file_is_a_tree_of_its_own(tmp_path):
    (tmp_path / "mine.txt").write_text("1")
    with TrackerFiles(tmp_path / "mine.txt", single=True) as found:
        assert (found.name, found.files.text("mine.txt")) == ("mine", "1")
