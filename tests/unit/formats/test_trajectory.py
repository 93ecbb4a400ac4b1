"""Camera paths of other programs: columns, units, names, and rows that are no pose."""

from __future__ import annotations

import numpy as np
import pytest

from vision_mem.errors import SourceError
from vision_mem.formats.trajectory import read_trajectory

TURNED = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
"""A quarter turn about z at 1, 2, 3: x, y, z, w = 0, 0, 0.7071068, 0.7071068."""
H = "0.7071068"
EUROC = (
    "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], "
    "q_RS_z [], v_RS_R_x [m s^-1], v_RS_R_y [m s^-1], v_RS_R_z [m s^-1], b_w_RS_S_x [rad s^-1], "
    "b_w_RS_S_y [rad s^-1], b_w_RS_S_z [rad s^-1], b_a_RS_S_x [m s^-2], b_a_RS_S_y [m s^-2], "
    f"b_a_RS_S_z [m s^-2]\n1403636580838555648,1,2,3,{H},0,0,{H},9,8,7,6,5,4,3,2,1\n"
)
ROS = (
    "%time,field.header.stamp,field.pose.position.x,field.pose.position.y,"
    "field.pose.position.z,field.pose.orientation.x,field.pose.orientation.y,"
    f"field.pose.orientation.z,field.pose.orientation.w\n1403636580838555648,7,1,2,3,0,0,{H},{H}\n"
)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        (f"1.5 1 2 3 0 0 {H} {H}\n", 1.5),
        (f"# timestamp tx ty tz qx qy qz qw\n1.5 1 2 3 0 0 {H} {H}\n", 1.5),
        (f"time,tx,ty,tz,qx,qy,qz,qw\n1.5,1,2,3,0,0,{H},{H}\n", 1.5),
        (f"timestamp,tx,ty,tz,qw,qx,qy,qz\n1.5,1,2,3,{H},0,0,{H}\n", 1.5),
        (f"# time x y z q_w q_x q_y q_z\n1.5 1 2 3 {H} 0 0 {H}\n", 1.5),
        (f"t;px;py;pz;qx;qy;qz;qw\n1.5;1;2;3;0;0;{H};{H}\n", 1.5),
        (EUROC, 1403636580.838555648),
        (f"1403636580838555648,1,2,3,{H},0,0,{H}\n", 1403636580.838555648),
        (ROS, 1403636580.838555648),
        (f"1403636580838 1 2 3 0 0 {H} {H}\n", 1403636580.838),
        ("0 -1 0 1 1 0 0 2 0 0 1 3\n", 0.0),
        ("0 -1 0 1 1 0 0 2 0 0 1 3 0 0 0 1\n", 0.0),
        ("r11,r12,r13,tx,r21,r22,r23,ty,r31,r32,r33,tz\n0,-1,0,1,1,0,0,2,0,0,1,3\n", 0.0),
    ],
    ids=["tum", "remark", "csv", "real first", "remark real first", "semicolons", "euroc",
         "euroc without names", "ros", "milliseconds", "kitti", "sixteen", "kitti with names"],
)  # fmt: skip
def test_columns_and_units(tmp_path, caplog, text, time_s):
    (tmp_path / "path.txt").write_text(text)
    found = read_trajectory(tmp_path / "path.txt")
    assert np.allclose(found.poses[0], TURNED, atol=1e-6)
    assert found.times[0] == pytest.approx(time_s, abs=1e-5)
    assert found.timed == (time_s > 0) and not caplog.records


@pytest.mark.parametrize(
    ("bad", "form"),
    [
        ("1 nan 0 0 0 0 0 1", "tum"), ("1 0 0 0 0 0 0 0", "tum"), ("nan 0 0 0 0 0 0 1", "tum"),
        ("1 inf 0 0 0 0 0 1", "tum"), ("1 1e308 0 0 1e308 1e308 0 0", "tum"),
        ("0 0 0 0 0 0 0 0 0 0 0 0", "kitti"), ("2 0 0 0 0 2 0 0 0 0 2 0", "kitti"),
        ("1 0 0 0 0 1 0 0 0 0 -1 0", "kitti"), ("nan 0 0 0 0 1 0 0 0 0 1 0", "kitti"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_pose_costs_its_frame_only(tmp_path, caplog, recwarn, bad, form):
    good = ["0 0 0 0 0 0 0 1", "2 5 0 0 0 0 0 1"]
    if form == "kitti":
        good = ["1 0 0 0 0 1 0 0 0 0 1 0", "1 0 0 5 0 1 0 0 0 0 1 0"]
    path = tmp_path / "path.txt"
    path.write_text("\n".join([good[0], bad, good[1]]) + "\n")
    found = read_trajectory(path)
    assert found.times.tolist() == [0, 2] and found.rows.tolist() == [0, 2] and found.total == 3
    rows = found.by_row(3)
    assert rows[1] is None and rows[2][0, 3] == 5 and found.by_row(2) is None
    (said,) = (r.getMessage() for r in caplog.records)
    assert "1 of 3 rows are no rigid motion (line 2 is the first)" in said
    assert not recwarn.list, "no words of numpy"


def test_a_last_line_cut_short_is_no_pose(tmp_path, caplog):
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n2 0 0")
    assert len(read_trajectory(tmp_path / "path.txt")) == 2
    assert "1 of 3 rows" in caplog.text


def test_angles_are_not_taken_for_quaternions(tmp_path):
    (tmp_path / "path.csv").write_text("frame,stamp,x,y,z,roll,pitch,yaw\n1,2,3,4,5,6,7,8\n")
    with pytest.raises(SourceError, match="expected a quaternion among them"):
        read_trajectory(tmp_path / "path.csv")
