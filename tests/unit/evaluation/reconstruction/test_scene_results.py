"""Files of Sintel and of points: what is written is read, what is damaged gets one line."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from vision_mem.errors import SourceError
from vision_mem.formats.ply import read_arrays, read_points, write_ply
from vision_mem.formats.sintel import read_cam, read_dpt, write_cam, write_dpt
from vision_mem.geometry.poses import exponential, inverse

TAG = struct.pack("<f", 202021.25)


def test_sintel_s_bytes_by_hand(tmp_path):
    (tmp_path / "a.dpt").write_bytes(TAG + struct.pack("<2i6f", 3, 2, *range(6)))
    assert read_dpt(tmp_path / "a.dpt").tolist() == [[0, 1, 2], [3, 4, 5]]
    numbers = [500.0, 0, 320, 0, 510, 240, 0, 0, 1, 1, 0, 0, 0.5, 0, 1, 0, -2, 0, 0, 1, 4]
    (tmp_path / "a.cam").write_bytes(TAG + struct.pack("<21d", *numbers))
    matrix, pose = read_cam(tmp_path / "a.cam")
    assert matrix.tolist() == [[500, 0, 320], [0, 510, 240], [0, 0, 1]]
    # World-to-camera in the file: the camera stands where that motion comes from.
    assert pose[:3, 3].tolist() == [-0.5, 2, -4]


def test_sintel_s_files_there_and_back(tmp_path):
    depth = np.random.default_rng(0).uniform(0, 9, (5, 7)).astype(np.float32)
    write_dpt(tmp_path / "new" / "a.dpt", depth)
    assert (read_dpt(tmp_path / "new" / "a.dpt") == depth).all()
    pose = exponential((0.1, -0.4, 0.2, 1, 2, 3))
    write_cam(tmp_path / "a.cam", np.diag([4.0, 5, 1]), pose)
    matrix, back = read_cam(tmp_path / "a.cam")
    assert np.allclose(back, pose) and np.allclose(matrix, np.diag([4.0, 5, 1]))
    assert np.allclose(inverse(back) @ pose, np.eye(4))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.dpt", None, "cannot be read"),
        ("a.dpt", b"", "0 bytes"),
        ("a.dpt", struct.pack("<f2i", 1.0, 1, 1), "begins with 1, not"),
        ("a.dpt", TAG + struct.pack("<2i", 3, 2), "12 bytes; 3 x 2 pixels take 36"),
        ("a.dpt", TAG + struct.pack("<2i", -3, 2), "-3 x 2 pixels"),
        ("a.dpt", TAG + struct.pack("<2i", 1 << 30, 1 << 30), "not a depth map"),
        ("a.cam", TAG, "expected 172"),
        ("a.cam", TAG + struct.pack("<21d", *[np.nan] * 21), "no rigid motion"),
        ("a.cam", TAG + struct.pack("<21d", *range(21)), "no rigid motion"),
        ("a.cam", b"x" * 200, "no file of Sintel"),
        ("a.ply", None, "cannot be read"),
        ("a.ply", b"plx\nend_header\n", "no PLY"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n1\n", "without x, y"),
        ("a.ply", b"ply\nformat odd 1.0\nelement vertex 1\nend_header\n", "no format"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement face 2\nend_header\n", "before its vertices"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int x\n"
                  b"end_header\n", "property"),
        ("a.npz", None, "cannot be read"),
        ("a.npz", b"PK nothing", "cannot be read as npz"),
    ],
)  # fmt: skip
def test_damaged_files_get_one_line(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    read = {"dpt": read_dpt, "cam": read_cam, "ply": read_points, "npz": read_arrays}
    with pytest.raises(SourceError, match=says) as error:
        read[name[-3:]](tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_points_of_other_programs(tmp_path, form):
    header = f"ply\nformat {form} 1.0\ncomment any\nelement vertex 3\nproperty uchar red\n"
    header += "property double x\nproperty float y\nproperty float z\nelement face 1\n"
    header += "property list uchar int vertex_indices\nend_header\n"
    rows = [(255, 1.0, 2.0, 3.0), (0, -1.5, 0.5, 9.0), (7, np.nan, 0.0, 0.0)]
    if form == "ascii":
        body = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode() + b"3 0 1 2\n"
    else:
        order = "<" if "little" in form else ">"
        body = b"".join(struct.pack(f"{order}Bdff", *row) for row in rows) + b"\x03" + bytes(12)
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    assert read_points(tmp_path / "a.ply").tolist() == [[1, 2, 3], [-1.5, 0.5, 9]]
    (tmp_path / "cut.ply").write_bytes((header.encode() + body)[: len(header) + 10])
    with pytest.raises(SourceError, match=r"ends before|lacks numbers"):
        read_points(tmp_path / "cut.ply")


def test_our_own_points(tmp_path):
    points = np.random.default_rng(0).normal(0, 1, (50, 3)).astype(np.float32)
    write_ply(tmp_path / "a.ply", points, normals=points, colours=np.zeros((50, 3), np.uint8))
    assert (read_points(tmp_path / "a.ply") == points).all()


def test_arrays_are_numbers_and_not_too_many(tmp_path):
    held = io.BytesIO()
    np.savez(held, depth=np.ones((2, 2)), moving=np.zeros((2, 2), bool))
    (tmp_path / "a.npz").write_bytes(held.getvalue())
    assert sorted(read_arrays(tmp_path / "a.npz")) == ["depth", "moving"]
    with pytest.raises(SourceError, match="unpacks"):
        read_arrays(tmp_path / "a.npz", most=20)
    np.savez(tmp_path / "b.npz", depth=np.array([object()], dtype=object))
    with pytest.raises(SourceError, match="cannot be read as npz"):
        read_arrays(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", depth=np.array(["words"]))
    with pytest.raises(SourceError, match="no array of numbers"):
        read_arrays(tmp_path / "c.npz")
