"""What users point at: every form, and every way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_mem.errors import InputError
from vision_mem.formats.prompts import FIRST, describe, plan_prompts, read_init, read_mask
from vision_mem.tracking.prompts import check_plan
from vision_mem.types import SourceInfo


def test_a_box_becomes_corners_on_the_first_frame() -> None:
    plan = plan_prompts(boxes=["10,20,30,40"])
    (prompt,) = plan.at(7, None)
    assert prompt.box.tolist() == [10, 20, 40, 60]
    assert (prompt.name, prompt.object_id) == (None, 1)
    assert plan.at(8, 7) == ()


def test_names_and_frames() -> None:
    plan = plan_prompts(boxes=["dog=1,2,3,4", "cat=5,6,7,8@25", "dog=9,9,3,3@30"])
    assert [p.name for p in plan.at(0, None)] == ["dog"]
    assert [(p.name, p.object_id) for p in plan.at(25, 24)] == [("cat", 2)]
    assert [(p.name, p.object_id) for p in plan.at(30, 29)] == [("dog", 1)]
    assert plan.frames == [25, 30]


def test_a_frame_the_source_left_out_is_made_up_for_on_the_next() -> None:
    plan = plan_prompts(boxes=["dog=1,2,3,4@25"])
    assert [len(plan.at(i, i - 4 if i else None)) for i in range(0, 40, 4)] == [0] * 7 + [1, 0, 0]


def test_points_of_one_name_join_one_object() -> None:
    plan = plan_prompts(points=["a=1,2", "b=3,4", "a=5,6"], not_points=["a=7,8"])
    a, b = plan.at(0, None)
    assert a.points.tolist() == [[1, 2], [5, 6], [7, 8]]
    assert a.labels.tolist() == [1, 1, 0]
    assert b.points.tolist() == [[3, 4]]


def test_points_without_a_name_join_the_box_without_a_name() -> None:
    (prompt,) = plan_prompts(boxes=["1,2,3,4"], not_points=["2,3"]).at(0, None)
    assert prompt.box is not None
    assert prompt.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"boxes": ["1,2,3"]}, "expected 4 numbers x,y,w,h"),
        ({"boxes": ["1,2,3,x"]}, "expected 4 numbers x,y,w,h"),
        ({"boxes": ["1,2,3,nan"]}, "expected 4 numbers x,y,w,h"),
        ({"boxes": ["1,2,0,4"]}, "has no area"),
        ({"boxes": ["1e300,2,3,4"]}, "expected 4 numbers x,y,w,h, in pixels"),
        ({"boxes": ["1," * 9999]}, "1,1,1,...: expected 4 numbers"),
        ({"boxes": ["1,2,3,-4"]}, "has no area"),
        ({"boxes": ["=1,2,3,4"]}, "name before '=' is empty"),
        ({"boxes": ["1,2,3,4@x"]}, "no frame number"),
        ({"boxes": ["1,2,3,4@-1"]}, "no frame number"),
        ({"boxes": ["a=1,2,3,4", "a=5,6,7,8"]}, "two boxes or masks on one frame"),
        ({"boxes": ["1,2,3,4", "5,6,7,8"], "points": ["1,2"]}, "not clear which one"),
        ({"points": ["1"]}, "expected 2 numbers x,y"),
        ({"not_points": ["1,2"]}, "only --not-point"),
        ({"masks": ["absent.png"]}, "cannot be read as a picture"),
        ({"init": "absent.txt"}, "cannot be read as text"),
    ],
)
def test_wrong_prompts_are_one_clear_line(options: dict, says: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_prompts(**options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["10,20,30,40", "10\t20\t30\t40", "10 20 30 40", "10.0, 20,30;40"])
def test_first_line_of_benchmark_files(tmp_path: Path, line: str) -> None:
    path = tmp_path / "groundtruth.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(line + "\n1,1,1,1\n", encoding=encoding)
        ((frame, prompt),) = read_init(path)
        assert frame == FIRST
        assert prompt.box.tolist() == [10, 20, 40, 60]


_ODD_INIT = [
    "", "\n", "nan,nan,nan,nan", "a,b,c,d", "[1, 2", "[{}]", "[3]", "{", "[" * 100_000, "[[]]",
    '{"prompts": 5}', '{"bocks": [1, 2, 3, 4]}', '{"box": 5}', '{"box": [1, 2, 3]}',
    '{"box": [1, 2, NaN, 4]}', '{"box": [1e300, 2, 3, 4]}', '{"box": [1, 2, "3", 4]}',
    '{"box": [1, 2, true, 4]}', '{"box": [1, 2, 0, 4]}', '{"box": [1, 2, 3, 4], "frame": 1.5}',
    '{"box": [1, 2, 3, 4], "frame": true}', '{"box": [1, 2, 3, 4], "name": 5}',
    '{"points": "here"}', '{"points": [[1]]}', '{"points": [[1, [2]]]}', '{"points": [[1, NaN]]}',
    '{"points": [[1, 2]], "labels": [7]}', '{"mask": 5}', f"[{'9' * 5000}]", f"{'1,' * 6_000_000}",
    "x" * (1 << 25),
]  # fmt: skip


@pytest.mark.parametrize("text", _ODD_INIT, ids=range(len(_ODD_INIT)))
def test_wrong_init_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "init"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_init(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


def test_init_files_that_do_not_end(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    for path in (Path("/dev/zero"), tmp_path / "sparse"):
        with pytest.raises(InputError, match=r"is larger than 16 MB|is a device or a pipe"):
            read_init(path)
    with pytest.raises(InputError, match="cannot be read as text: Is a directory"):
        read_init(tmp_path)


def test_json_prompts(tmp_path: Path) -> None:
    mask = np.zeros((8, 9), np.uint8)
    mask[2:4, 3:6] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    items = [
        {"name": "dog", "box": [1, 2, 3, 4], "points": [[2, 3]], "labels": [0]},
        {"name": "cat", "frame": 5, "points": [[1, 1], [2, 2]]},
        {"mask": "m.png", "frame": 0},
    ]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(items))
    plan = plan_prompts(init=path)
    dog, masked = plan.at(0, None)
    assert dog.box.tolist() == [1, 2, 4, 6]
    assert masked.mask.sum() == 6
    assert describe(masked) == {"object_id": 2, "mask_pixels": 6}
    assert plan.at(5, 4)[0].name == "cat"


@pytest.mark.parametrize(
    "item",
    [{"box": [1, 2]}, {"boxes": [1, 2, 3, 4]}, {"box": [1, 2, 3, 4], "frame": "x"}, {"box": 3}],
)
def test_wrong_json_prompts(tmp_path: Path, item: dict) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([item]))
    with pytest.raises(InputError, match="prompt 0"):
        read_init(path)


def _save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(values)
    if mode == "P":
        image = image.convert("P") if values.ndim == 3 else Image.fromarray(values, mode="L")
    image.save(path)
    return path


def test_masks_hold_one_object_a_value(tmp_path: Path) -> None:
    values = np.zeros((6, 8), np.uint8)
    values[1, 1:4] = 1
    values[4, 2:7] = 38
    first, second = read_mask(_save(tmp_path / "m.png", values))
    assert (first.name, int(first.mask.sum())) == ("object-1", 3)
    assert (second.name, int(second.mask.sum())) == ("object-38", 5)
    named = read_mask(tmp_path / "m.png", "fish")
    assert [p.name for p in named] == ["fish-1", "fish-38"]


def test_masks_in_colour_with_soft_edges_or_16_bits(tmp_path: Path) -> None:
    square = np.zeros((16, 16, 3), np.uint8)
    square[4:8, 4:8] = (200, 30, 30)
    (colour,) = read_mask(_save(tmp_path / "rgb.png", square))
    assert int(colour.mask.sum()) == 16
    soft = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    (edge,) = read_mask(_save(tmp_path / "soft.png", soft))
    assert int(edge.mask.sum()) == 4 * 128
    deep = np.zeros((4, 4), np.uint16)
    deep[0] = 300
    (only,) = read_mask(_save(tmp_path / "deep.png", deep))
    assert int(only.mask.sum()) == 4


def test_a_mask_file_may_have_any_name_and_a_frame(tmp_path: Path) -> None:
    values = np.ones((4, 4), np.uint8)
    odd = _save(tmp_path / "a=b@3.png", values)
    assert plan_prompts(masks=[str(odd)]).at(0, None)[0].mask.all()
    plain = _save(tmp_path / "m.png", values)
    assert plan_prompts(masks=[f"x={plain}@9"]).at(9, 8)[0].name == "x"


def test_an_empty_mask(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="shows no object"):
        read_mask(path)


@pytest.mark.parametrize(
    ("mask", "says"),
    [("gone.png", r"mask .*gone\.png cannot be read as a picture: No such file"),
     ("i.json", "cannot identify"), ("black.png", "shows no object")],
)  # fmt: skip
def test_errors_of_masks_name_the_file_that_names_them(tmp_path, mask, says):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "black.png")
    file = tmp_path / "i.json"
    file.write_text(json.dumps([{"box": [1, 2, 3, 4]}, {"mask": mask}]))
    with pytest.raises(InputError, match=rf"^--init \S*i\.json, prompt 1: .*{says}"):
        read_init(file)


def test_a_slip_in_the_name_of_a_file_of_prompts_is_seen(tmp_path):
    (tmp_path / "boxes.txt").write_text("1,2,3,4")
    with pytest.raises(InputError, match=r"did you mean '\S*boxes\.txt'"):
        read_init(tmp_path / "box.txt")


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("x,y,w,h\n1,2,3,4\n", [[1, 2, 4, 6]]),
        ('\ufeff"x";"y";"w";"h"\r\n1,5;2,5;3;4\r\n', [[1.5, 2.5, 4.5, 6.5]]),
        ('{"box": [1, 2, 3, 4]}\n{"box": [5, 6, 1, 1], "name": "a"}\n',
         [[1, 2, 4, 6], [5, 6, 6, 7]]),
    ],
)  # fmt: skip
def test_tables_of_peoples_own_are_read(tmp_path, text, boxes):
    (tmp_path / "i.txt").write_text(text, encoding="utf-8")
    found = read_init(tmp_path / "i.txt")
    assert [prompt.box.tolist() for _, prompt in found] == boxes


@pytest.mark.parametrize(
    ("text", "says"),
    [("[null]", "prompt 0 is null; expected"), ('[{"name": null, "frame": true}]', "frame is true"),
     ('{"prompts": {"a": 1}}', 'prompts are {"a": 1}; expected a list')],
)  # fmt: skip
def test_odd_values_are_shown_as_they_were_written(tmp_path, text, says):
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_init(tmp_path / "i.json")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "corners"),
    [
        ("dog=10,20,30,40", [10, 20, 40, 60]),
        ("dog=xyxy:10,20,40,60", [10, 20, 40, 60]),
        ("XYXY:10, 20, 40, 60@3", [10, 20, 40, 60]),
        ("xywh:10,20,30,40", [10, 20, 40, 60]),
    ],
)
def test_both_orders_of_a_box(text, corners):
    ((prompt,),) = plan_prompts(boxes=[text]).by_frame.values()
    assert prompt.box.tolist() == corners


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xyxy:10,20,5,60", "x1 < x2"),
        ("xyxy:10,20,5", "x1,y1,x2,y2"),
        ("yxyx:10,20,30,40", "expected xyxy: or xywh:"),
    ],
)
def test_orders_that_are_none(text, words):
    with pytest.raises(InputError, match=words):
        plan_prompts(boxes=[text])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dog=400,200,600,400", True),  # as corners it would fit
        ("400,200,600,400@0", True),
        ("dog=400,200,200,100", False),
        ("dog=xyxy:400,200,600,400", False),
        ("dog=600,200,100,100", False),  # leaves the frame either way
    ],
)
def test_corners_that_are_typed_as_sizes_get_a_hint(text, told, caplog):
    info = SourceInfo("clip", 640, 480, 25.0, 10)
    check_plan(plan_prompts(boxes=[text]), info, 0, 1, fixed=True)
    assert ("say xyxy:400,200,600,400" in caplog.text) == told


def test_clicks_may_mean_parts() -> None:
    plan = plan_prompts(points=["cup=4,5", "9,9@3"], boxes=["dog=1,2,3,4"], not_points=["cup=1,1"])
    parts = [p.part for some in plan.of_parts().by_frame.values() for p in some]
    assert sorted(parts) == [False, True, True]
    assert not any(p.part for some in plan.by_frame.values() for p in some)
    with pytest.raises(InputError, match="--part says what a --point means"):
        plan_prompts(boxes=["1,2,3,4"], points=["2,3"]).of_parts()
