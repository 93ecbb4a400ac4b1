"""From pictures with depth to points and things in space; and which way is up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vision_mem.errors import InputError, SourceError
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import make_pose, rotation_from
from vision_mem.navigation.backprojection import cloud, lift, lift_pixel
from vision_mem.navigation.gravity import find_up, levelled, turned
from vision_mem.navigation.observer import parse_thing, read_things
from vision_mem.sources.posed_jsonl import PosedRow, read_posed_lines
from vision_mem.synthetic.furnished_room import Room
from vision_mem.types import Detections

CAMERA = Pinhole(100.0, 100.0, 50.0, 40.0, 100, 80)


def plane(z: float = 2.0) -> np.ndarray:
    return np.full((80, 100), z, np.float32)


def test_a_cloud_leaves_out_what_has_no_reading() -> None:
    depth = plane()
    depth[:, 50:] = [[np.nan, np.inf, 0.0, -1.0, 2.0] * 10]
    image = np.zeros((80, 100, 3), np.uint8)
    image[..., 0] = np.arange(100)
    points, colours = cloud(image, depth, CAMERA)
    assert len(points) == 80 * (50 + 10) and (points[:, 2] == 2).all()
    where, _ = CAMERA.project(points)
    np.testing.assert_allclose(np.floor(where[:, 0]), colours[:, 0])
    assert len(cloud(image, plane(), CAMERA, 4)[0]) == 20 * 25


def test_a_pixel_is_lifted_by_the_median_around_it() -> None:
    depth = plane()
    depth[38:43, 60:62] = 0.0
    depth[40, 64] = 9.0
    np.testing.assert_allclose(lift_pixel(depth, CAMERA, 62.0, 40.0), (0.24, 0.0, 2.0))
    assert lift_pixel(plane(0.0), CAMERA, 10, 10) is None
    for u, v in ((-1, 5), (100, 5), (5, 80)):
        with pytest.raises(InputError, match="outside the image"):
            lift_pixel(depth, CAMERA, u, v)


def detected(boxes, masks=None, **more) -> Detections:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(corners, masks=masks, names={0: "cup"}, **more)


def test_a_thing_is_where_its_own_surface_is() -> None:
    depth = plane(3.0)
    depth[30:50, 40:60] = 1.0
    (cup,) = lift(detected([(38, 28, 62, 52)]), depth, CAMERA)
    np.testing.assert_allclose(cup.position, (0.0, 0.0, 1.0), atol=0.02)
    assert cup.label == "cup" and cup.score == 1.0
    # A mask knows which pixels are meant, whatever the box's middle shows.
    mask = np.zeros((1, 80, 100), bool)
    mask[0, :10] = True
    (strip,) = lift(detected([(38, 28, 62, 52)], mask), depth, CAMERA)
    assert strip.position[2] == 3.0 and strip.position[1] == pytest.approx(-1.05, abs=0.05)


def test_what_the_border_cuts_off_is_less_sure() -> None:
    whole, cut = lift(detected([(40, 30, 60, 50), (-5, 30, 15, 50)]), plane(), CAMERA)
    assert cut.sigma[0, 0] > 3 * whole.sigma[0, 0] and cut.sigma[1, 1] == whole.sigma[1, 1]


@pytest.mark.parametrize("box", [(-50, -50, -10, -10), (200, 10, 240, 30), (10, 10, 11, 11)])
def test_things_out_of_view_or_without_depth_are_left_out(box) -> None:
    assert lift(detected([box]), plane(), CAMERA) == []
    assert lift(detected([(10, 10, 50, 50)]), plane(0.0), CAMERA) == []
    assert lift(detected([]), plane(), CAMERA) == []


@pytest.mark.parametrize("degrees", [(0, 0, 0), (25, 0, 0), (0, -12, 0), (-17, 9, 140)])
def test_up_is_found_from_floors_and_tables(degrees) -> None:
    tilt = make_pose(rotation_from(np.radians(degrees)), (1, 2, 3))
    frames = [frame for frame, _ in Room().film()][::6]
    up = find_up((each.depth, each.camera, tilt @ each.pose) for each in frames)
    true = tilt[:3, 2]
    assert np.degrees(np.arccos(np.clip(up @ true, -1, 1))) < 1.0
    axis, turn = levelled(up)
    made = turned(tilt, turn)[:3, 2]
    wanted = np.eye(3)["xyz".index(axis[1])] * (1 if axis[0] == "+" else -1)
    assert np.degrees(np.arccos(np.clip(made @ wanted, -1, 1))) < 3.1
    if not any(degrees):
        assert axis == "+z" and not turn.any()


def test_where_little_is_level_nothing_is_said() -> None:
    wall = [(plane(), CAMERA, np.eye(4))] * 3
    assert find_up(wall) is None
    assert find_up([]) is None
    assert find_up([(plane(0.0), CAMERA, np.eye(4))]) is None
    around = [make_pose(rotation_from((0, 0, a)), (0, 0, 0)) for a in (0, np.pi)]
    assert find_up([(plane(), CAMERA, pose) for pose in around]) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[]", "no object"),
        ("{}", "no object"),
        ('{"t": 0, "pose": [1, 2]}', "2 numbers"),
        ('{"t": 0, "pose": "here"}', "could not convert"),
        ('{"t": "x"}', "could not convert"),
        ('{"t": 0, "pos": 1}', "'pos' is not known"),
        ('{"t": 0, "depth": "no.png", "K": [1, 1, 1, 1]}', "no.png"),
        ('{"t": 0, "depth": "no.png"}', "without K"),
        ('{"t": 0, "points": "no.npy"}', "no.npy"),
        ('{"t": 0, "points": [[1, 2]]}', "reshape"),
        ('{"t": 0, "things": {}}', "no list"),
        ('{"t": 0, "things": [{"label": "x"}]}', "exactly one of"),
        ('{"t": 0, "things": [{"name": "x"}]}', "'name' of a thing"),
        ('{"t": 0, "position": [0, 0, 0], "quaternion": [0, 0, 0, 0]}', "has no direction"),
        ("[" * 100_000, "line 1"),
        ("\xff\xfe", "line 1"),
    ],
)
def test_a_bad_line_is_one_error_and_the_next_one_is_read(tmp_path, line: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n\n" + json.dumps({"t": 2}).encode())
    bad, good = read_posed_lines(path)
    assert isinstance(bad, SourceError) and says in str(bad) and "line 1" in str(bad)
    assert "\n" not in str(bad) and len(str(bad)) < 400
    assert isinstance(good, PosedRow) and (good.index, good.time_s, good.pose) == (1, 2.0, None)


def test_a_quaternion_and_three_rows_are_poses(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    half = np.sqrt(0.5)
    rows = [
        {"t": 0, "position": [1, 2, 3], "quaternion": [0, 0, half, half]},
        {"t": 1, "pose": [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    one, other = read_posed_lines(path)
    np.testing.assert_allclose(one.pose, other.pose, atol=1e-12)
    assert [row.index for row in read_posed_lines(path, 1)] == [1]
    with pytest.raises(InputError, match="cannot be read"):
        list(read_posed_lines(tmp_path / "no.jsonl"))


@pytest.mark.parametrize("spot", ["[" * 50_000 + "]" * 50_000, "9" * 5_000, "9" * 400, '"x"', "{}"])
@pytest.mark.parametrize("kind", ['"position": [{}, 1, 2]', '"pixel": [1, 2], "frame": {}'])
def test_landmarks_from_strangers_are_one_bounded_line(tmp_path, kind, spot) -> None:
    path = tmp_path / "things.jsonl"
    path.write_text(f'{{"name": "a", {kind.replace("{}", spot)}}}\n')
    with pytest.raises(InputError) as error:
        read_things(path)
    assert "line 1" in str(error.value) and len(str(error.value)) < 300
    with pytest.raises(InputError) as error:
        parse_thing(f"a={'7' * 9_000}")
    assert len(str(error.value)) < 300
