"""The page of points: whole in one file, and a first view that shows the scene from its front."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest

from vision_mem.visualization.html_report import cards_html, table_html, write_report
from vision_mem.visualization.point_viewer import MOST_POINTS, ViewedLine, ViewedScene, viewer_html
from vision_mem.visualization.scene_views import CameraPath, first_view, view_from


@dataclass
class Corner:
    """Two walls and a floor that meet, seen from inside; up is -y."""

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    voxel: float = 0.05


@pytest.fixture(scope="module")
def corner():
    grid = np.stack(np.meshgrid(*[np.arange(0, 3, 0.05)] * 2), axis=-1).reshape(-1, 2)
    parts, normals = [], []
    for axis, value, facing in ((0, 0.0, 1.0), (2, 3.0, -1.0), (1, 3.0, -1.0)):
        points, normal = np.full((len(grid), 3), value), np.zeros(3)
        points[:, [k for k in range(3) if k != axis]] = grid
        normal[axis] = facing
        parts.append(points)
        normals.append(np.tile(normal, (len(grid), 1)))
    points = np.concatenate(parts).astype(np.float32)
    colours = np.full((len(points), 3), 90, np.uint8)
    return Corner(points, np.concatenate(normals).astype(np.float32), colours)


PATH = CameraPath(np.array([[2.5, 1.5, 0.5], [2.4, 1.5, 0.6]]), np.tile(np.eye(3), (2, 1, 1)))


def test_the_first_view_is_of_the_front(corner):
    view = first_view(corner, PATH)
    away = view.eye - view.target
    assert view.up[1] == pytest.approx(-1, abs=0.01)
    # Before both walls, and above the floor.
    assert away[0] > 0 and away[2] < 0 and away[1] < 0
    picture = view_from(corner, PATH, view, 160, 100)
    assert (picture.max(axis=2) < 200).mean() > 0.3
    empty = Corner(*(each[:0] for each in (corner.points, corner.normals, corner.colours)))
    assert view_from(empty, PATH, first_view(empty, PATH), 32, 24).min() > 200


def _scene(corner, lines=()):
    return ViewedScene(
        corner.points, corner.normals, corner.colours, corner.voxel, (0, -1, 0), (3, 0, 0),
        (0, 0, 3), lines,
    )  # fmt: skip


def test_the_page_holds_all_and_fetches_nothing(corner, tmp_path):
    line = ViewedLine("</script><b>", PATH.places, (1, 0, 0))
    write_report(tmp_path / "index.html", "a <b>", "about", [
        ("Look", viewer_html(_scene(corner, [line]), "view.png")),
        ("Moved", cards_html([("object 1", "sure", "sure-1.png", ("<i>",))])),
        ("Table", table_html(("x",), [["<&>"]])),
    ])  # fmt: skip
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r"https?://|//cdn|import\s", page)
    assert page.count("</script>") == 1 and "&lt;i&gt;" in page and "&lt;&amp;&gt;" in page
    data = json.loads(re.search(r"const D=(\{.*?\}),box=", page)[1])
    whole = np.frombuffer(base64.b64decode(data["p"]), "<u2").reshape(-1, 3)
    points = whole / 65535 * data["span"] + data["low"]
    np.testing.assert_allclose(points, corner.points, atol=1e-3)
    assert len(base64.b64decode(data["q"])) == len(base64.b64decode(data["c"])) == 3 * data["n"]


def test_of_too_many_points_some_are_left_out(corner):
    times = MOST_POINTS // len(corner.points) + 1
    many = Corner(
        *(np.tile(a, (times, 1)) for a in (corner.points, corner.normals, corner.colours))
    )
    data = re.search(r'"n":(\d+)', viewer_html(_scene(many), "view.png"))
    assert int(data[1]) == MOST_POINTS
