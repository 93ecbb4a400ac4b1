"""Files for annotation tools and training: read by those who are to read them, and by us again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from annotation_samples import FRAMES, INFO, H, W, bounds, frame_at, masks_at, result_at
from PIL import Image

from vision_mem.errors import InputError, MissingExtra
from vision_mem.formats.annotation_rows import AnnotationRow, filled, keyframes
from vision_mem.formats.prompts import plan_prompts
from vision_mem.models.detectors import FileDetector
from vision_mem.mots.records import MotsResult, TrackResult
from vision_mem.sinks.annotations import AnnotationChoice, check_pictures
from vision_mem.sinks.registry import ANNOTATION_SINKS, MOTS_SINKS, SINKS, make_sinks

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools


def tracks_at(t: int) -> MotsResult:
    tracks = [
        TrackResult(
            each.object_id, f"car-{each.object_id}", 2, "car", "confirmed", each.present,
            each.mask, each.box, each.score,
        ) for each in result_at(t).objects
    ]  # fmt: skip
    return MotsResult(t, t / 25.0, (H, W), tuple(tracks))


def write(folder: Path, names: list[str], *, mots: bool = False, last: int = FRAMES, **place: Any):
    """Drive sinks over the frames; what is written is closed."""
    first = place.get("frames", 0)
    table = MOTS_SINKS if mots else SINKS
    sinks = make_sinks(folder, names, INFO, table=table, source="clips/clip.mp4", **place)
    for sink in sinks:
        sink.open(INFO)
    for t in range(first, last):
        for sink in sinks:
            sink.write(frame_at(t), tracks_at(t) if mots else result_at(t))
    for sink in sinks:
        sink.close()
        sink.close()
    return folder


def truth() -> dict[tuple[int, str], np.ndarray]:
    return {
        (t, each.name): each.mask
        for t in range(FRAMES) for each in result_at(t).objects if each.present
    }  # fmt: skip


def detected(path: Path, format: str = "auto") -> dict[tuple[int, str], Any]:
    """What a file says when it is read as detections: boxes and masks by frame and word."""
    detector = FileDetector(path, format, frame_count=FRAMES, size=(H, W))
    found = {}
    for t in range(FRAMES):
        seen = detector.detect(frame_at(t))
        for n in range(len(seen)):
            found[t, seen.name_of(n)] = seen.boxes[n], seen.mask_of(n)
    return found


# -- COCO ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "coco-polygons"])
def test_pycocotools_reads_the_same_masks(tmp_path: Path, name: str, capsys) -> None:
    from pycocotools.coco import COCO

    write(tmp_path, [name])
    (path,) = (tmp_path / "coco").glob("[!.]*.json")
    coco = COCO(str(path))
    expected = truth()
    assert len(coco.anns) == len(expected) and len(coco.imgs) == FRAMES
    for each in coco.anns.values():
        image = coco.imgs[each["image_id"]]
        key = image["frame_id"], each["attributes"]["name"]
        assert np.array_equal(coco.annToMask(each).astype(bool), expected[key]), key
        x1, y1, x2, y2 = bounds(expected[key]).tolist()
        assert each["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert each["area"] == expected[key].sum()
        assert coco.cats[each["category_id"]]["name"] == key[1]
        assert isinstance(each["segmentation"], list) == (name == "coco-polygons")
    video = coco.dataset["videos"][0]
    assert (video["name"], video["width"], video["height"]) == ("clip", W, H)
    assert image["file_name"] == "clip/000023.jpg"


@pytest.mark.parametrize("name", ["coco", "coco-polygons", "cvat", "parquet"])
def test_a_file_is_prompts_again(tmp_path: Path, name: str) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    write(tmp_path, [name])
    (path,) = [p for p in tmp_path.rglob("clip*") if p.is_file()]
    plan = plan_prompts(init=path)
    assert plan.frames == [0, 3]
    ((dog,), (cat,)) = plan.by_frame.values()
    assert (dog.name, cat.name) == ("dog", "cat & <mouse>")
    for prompt, t in ((dog, 0), (cat, 3)):
        mask = masks_at(t)[prompt.name]
        if name == "cvat":
            assert prompt.box.tolist() == bounds(mask).tolist()
        else:
            assert np.array_equal(prompt.mask, mask)


def test_a_file_of_mots_has_classes_and_names(tmp_path: Path) -> None:
    write(tmp_path, ["coco"], mots=True)
    content = json.loads((tmp_path / "coco" / "clip.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "car"}]
    names = {each["attributes"]["name"] for each in content["annotations"]}
    assert names == {"car-1", "car-2"}
    assert [p.name for some in plan_prompts(init=tmp_path / "coco" / "clip.json").by_frame.values()
            for p in some] == ["car-1", "car-2"]  # fmt: skip


# -- YOLO ----------------------------------------------------------------------------------------


def test_yolo_labels(tmp_path: Path) -> None:
    choice = AnnotationChoice(pictures=True)
    write(tmp_path, ["yolo", "yolo-segments"], annotations=choice)
    labels = sorted((tmp_path / "yolo" / "labels").glob("*.txt"))
    assert len(labels) == FRAMES
    assert labels[0].read_text() == "0 0.166667 0.366667 0.222222 0.400000\n"
    assert (
        (tmp_path / "yolo" / "data.yaml")
        .read_text()
        .endswith('train: images\nval: images\nnames:\n  0: "dog"\n  1: "cat & <mouse>"\n')
    )
    assert "--frames" not in (tmp_path / "yolo" / "data.yaml").read_text()
    with Image.open(tmp_path / "yolo" / "images" / "clip_000007.jpg") as picture:
        assert picture.size == (W, H)
    found = detected(tmp_path / "yolo" / "labels")
    assert set(found) == set(truth())
    for key, mask in truth().items():
        assert np.abs(found[key][0] - bounds(mask)).max() < 1e-3
    found = detected(tmp_path / "yolo-segments" / "labels")
    for key, mask in truth().items():
        whole = mask.copy()
        if key[1] == "dog":  # holes are filled, and parts hang together
            left = bounds(mask)[0].astype(int)
            whole[10:30, left : left + 20] = True
        assert (found[key][1] ^ whole).sum() <= 4, key


def test_supervision_reads_yolo_and_coco(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    write(tmp_path, ["yolo", "coco"], annotations=AnnotationChoice(pictures=True))
    root = tmp_path / "yolo"
    for data in (
        supervision.DetectionDataset.from_yolo(
            str(root / "images"), str(root / "labels"), str(root / "data.yaml")
        ),
        supervision.DetectionDataset.from_coco(
            str(tmp_path / "coco" / "images"), str(tmp_path / "coco" / "clip.json"),
            force_masks=True,
        ),
    ):  # fmt: skip
        assert data.classes == ["dog", "cat & <mouse>"] and len(data) == FRAMES
        for path, _, found in data:
            t = int(Path(path).stem[-6:])
            boxes = [bounds(each.mask) for each in result_at(t).objects if each.present]
            assert np.abs(found.xyxy - boxes).max() < 0.01
            if found.mask is not None:
                assert np.array_equal(found.mask[0], masks_at(t)["dog"])


@pytest.mark.filterwarnings("ignore")
def test_datumaro_reads_coco_and_cvat(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    write(tmp_path, ["coco", "coco-polygons", "cvat"], annotations=AnnotationChoice(pictures=True))
    expected = truth()
    for name, kind in (("clip.json", "mask"), ("clip.polygons.json", "polygon")):
        root = tmp_path / kind  # COCO's own layout
        (root / "annotations").mkdir(parents=True)
        (root / "images").symlink_to(tmp_path / "coco" / "images")
        (tmp_path / "coco" / name).rename(root / "annotations" / "instances_clip.json")
        items = {i.media.path[-10:-4]: i for i in datumaro.Dataset.import_from(str(root), "coco")}
        assert len(items) == FRAMES
        for (t, who), mask in expected.items():
            found = [
                each for each in items[f"{t:06d}"].annotations
                if each.attributes["name"] == who and each.type.name == kind
            ]  # fmt: skip
            assert found, (t, who)
            if kind == "mask":
                assert np.array_equal(found[0].image.astype(bool), mask)
    items = {
        item.attributes["frame"]: item
        for item in datumaro.Dataset.import_from(str(tmp_path / "cvat" / "clip.xml"), "cvat")
    }
    for (t, who), mask in expected.items():
        (box,) = [a for a in items[t].annotations if a.attributes["name"] == who]
        assert np.abs(np.array(box.points) - bounds(mask)).max() < 0.01


# -- CVAT and Label Studio -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cvat", "cvat-polygons"])
def test_cvat_has_what_its_manual_says(tmp_path: Path, name: str) -> None:
    write(tmp_path, [name])
    (path,) = (tmp_path / "cvat").glob("[!.]*.xml")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "annotations" and root.findtext("version") == "1.1"
    task = root.find("meta/task")
    assert task.findtext("mode") == "interpolation" and task.findtext("size") == str(FRAMES)
    labels = [each.findtext("name") for each in task.iterfind("labels/label")]
    assert labels == ["dog", "cat & <mouse>"]
    assert (task.findtext("original_size/width"), task.findtext("original_size/height")) == (
        str(W), str(H),
    )  # fmt: skip
    tracks = root.findall("track")
    assert [(each.get("id"), each.get("label")) for each in tracks] == [
        ("0", "dog"), ("1", "cat & <mouse>"),
    ]  # fmt: skip
    kind = "box" if name == "cvat" else "polygon"
    for each in root.iter(kind):
        assert {"frame", "keyframe", "outside", "occluded", "z_order"} <= set(each.keys())
        assert ({"xtl", "ytl", "xbr", "ybr"} <= set(each.keys())) == (kind == "box")
    cat = {int(e.get("frame")): e for e in tracks[1]}
    assert sorted(cat) == [*range(3, 11), *range(15, FRAMES)]
    assert [f for f, e in cat.items() if e.get("outside") == "1"] == [10]
    if kind == "box":
        keys = [int(e.get("frame")) for e in tracks[0] if e.get("keyframe") == "1"]
        assert keys == [0, FRAMES - 1], "a straight walk needs two keyframes"
    found = detected(path)
    assert set(found) == set(truth())
    for key, mask in truth().items():
        assert np.abs(found[key][0] - bounds(mask)).max() <= 0.5


def test_label_studio_has_what_its_guide_says(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    write(tmp_path, ["labelstudio"])
    path = tmp_path / "labelstudio" / "clip.json"
    number, share = {"type": "number"}, {"type": "number", "minimum": 0, "maximum": 100}
    box = {"frame": {"type": "integer", "minimum": 1}, "enabled": {"type": "boolean"},
           "rotation": number, "time": number, "x": share, "y": share, "width": share,
           "height": share}  # fmt: skip
    value = {"framesCount": {"const": FRAMES}, "duration": number,
             "labels": {"type": "array", "items": {"type": "string"}, "minItems": 1},
             "sequence": {"type": "array", "minItems": 1, "items": _object(box)}}  # fmt: skip
    text = {"type": "string"}
    region = {"id": text, "type": {"const": "videorectangle"}, "from_name": {"const": "box"},
              "to_name": {"const": "video"}, "value": _object(value), "score": number}  # fmt: skip
    result = {"model_version": text, "result": {"type": "array", "items": _object(region)}}
    task = {"data": _object({"video": text}),
            "predictions": {"type": "array", "items": _object(result)}}  # fmt: skip
    content = json.loads(path.read_text())
    jsonschema.validate(content, {"type": "array", "items": _object(task)})
    dog, cat = content[0]["predictions"][0]["result"]
    assert [each["frame"] for each in dog["value"]["sequence"]] == [1, FRAMES]
    spans = [(each["frame"], each["enabled"]) for each in cat["value"]["sequence"]]
    assert spans == [(4, True), (10, False), (16, True), (24, False)]
    config = ElementTree.fromstring((path.parent / "clip.config.xml").read_text())
    assert config.find("VideoRectangle").get("name") == "box"
    assert [each.get("value") for each in config.iter("Label")] == ["dog", "cat & <mouse>"]
    found = detected(path)
    assert set(found) == set(truth())
    for key, mask in truth().items():
        assert np.abs(found[key][0] - bounds(mask)).max() <= 0.5


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_keyframes_are_near_the_truth() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        steps = np.cumsum(rng.normal(0, 1.5, (200, 4)), 0)
        rows = [AnnotationRow(n, 1, "a", "a", tuple(box)) for n, box in enumerate(steps.tolist())]
        gap = int(rng.integers(60, 100))
        rows[gap] = replace(rows[gap], outside=True)
        del rows[gap + 1 : gap + 9]
        marked = list(keyframes(rows))
        assert [row for row, _ in marked] == rows
        keys = [row for row, key in marked if key]
        again = list(filled(keys))
        kept = [row for row in rows if not row.outside]
        assert [row.frame for row in again] == [row.frame for row in kept]
        for one, other in zip(again, kept, strict=True):
            assert np.abs(np.subtract(one.box, other.box)).max() <= 0.5 + 1e-9
    still = [AnnotationRow(n, 1, "a", "a", (0, 0, 9, 9)) for n in range(500)]
    assert sum(key for _, key in keyframes(still)) <= 12


# -- DAVIS and Parquet ---------------------------------------------------------------------------


def test_davis_masks_and_names(tmp_path: Path) -> None:
    write(tmp_path, ["davis"], annotations=AnnotationChoice(pictures=True))
    root = tmp_path / "davis"
    with Image.open(root / "Annotations" / "clip" / "00005.png") as picture:
        assert picture.mode == "P" and picture.getpalette()[3:6] == [128, 0, 0]
        values = np.asarray(picture)
    masks = masks_at(5)
    assert np.array_equal(values == 1, masks["dog"])
    assert np.array_equal(values == 2, masks["cat & <mouse>"])
    assert len(list((root / "JPEGImages" / "clip").glob("*.jpg"))) == FRAMES
    names = [json.loads(line) for line in (root / "clip.objects.jsonl").read_text().splitlines()]
    assert [(each["id"], each["name"], each["frame"]) for each in names] == [
        (1, "dog", 0), (2, "cat & <mouse>", 3),
    ]  # fmt: skip


def test_a_table_of_parquet(tmp_path: Path) -> None:
    try:
        write(tmp_path, ["parquet"])
    except MissingExtra as error:
        assert "vision-mem[interop]" in str(error)
        pytest.skip("pyarrow is not installed")
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(tmp_path / "parquet" / "clip.parquet").to_pylist()
    expected = truth()
    assert {(row["frame"], row["name"]) for row in rows} == set(expected)
    for row in rows:
        box = [row["x1"], row["y1"], row["x2"], row["y2"]]
        assert box == bounds(expected[row["frame"], row["name"]]).tolist()
    found = detected(tmp_path / "parquet" / "clip.parquet")
    assert all(np.array_equal(found[key][1], mask) for key, mask in expected.items())


# -- what goes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "frames"),
    [
        (AnnotationChoice(every=5), [0, 5, 10, 15, 20]),
        (AnnotationChoice(sure=0.8), [t for t in range(FRAMES) if t % 4]),
        (AnnotationChoice(every=3, sure=0.8), [3, 6, 9, 15, 18, 21]),
    ],
)
def test_frames_are_chosen(tmp_path: Path, choice: AnnotationChoice, frames: list[int]) -> None:
    write(tmp_path, ["coco", "yolo", "davis"], annotations=replace(choice, pictures=True))
    content = json.loads((tmp_path / "coco" / "clip.json").read_text())
    assert [image["frame_id"] for image in content["images"]] == frames
    for pattern in ("coco/images/clip/*", "yolo/labels/*", "yolo/images/*", "davis/*/clip/*.png"):
        assert [int(p.stem[-5:]) for p in sorted(tmp_path.glob(pattern))] == frames


@pytest.mark.parametrize(
    ("pad", "box"),
    [("0", [5, 10, 25, 34]), ("3", [2, 7, 28, 37]), ("50%", [0, 0, 35, 46]), ("9", [0, 1, 34, 43])],
)
def test_boxes_are_padded_on_wish(tmp_path: Path, pad: str, box: list[float]) -> None:
    write(tmp_path, ["coco"], annotations=AnnotationChoice(pad=pad), last=1)
    (each,) = json.loads((tmp_path / "coco" / "clip.json").read_text())["annotations"]
    x, y, w, h = each["bbox"]
    assert [x, y, x + w, y + h] == [*box[:2], *box[2:]]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"pad": "-3"}, "pixels as 4"), ({"pad": "x%"}, "10%"), ({"every": 0}, "1 or more"),
     ({"sure": 7.0}, "from 0 to 1")],
)  # fmt: skip
def test_wrong_choices(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        AnnotationChoice(**wrong)
    with pytest.raises(InputError, match="add one of them to --save"):
        check_pictures(AnnotationChoice(pictures=True), ["cvat", "video"])


def test_nothing_seen_is_a_valid_file(tmp_path: Path) -> None:
    names = [name for name in ANNOTATION_SINKS if name != "parquet"]
    write(tmp_path, names, last=0)
    assert json.loads((tmp_path / "coco" / "clip.json").read_text())["annotations"] == []
    assert ElementTree.parse(tmp_path / "cvat" / "clip.xml").getroot().findall("track") == []
    assert json.loads((tmp_path / "labelstudio" / "clip.json").read_text())[0]["data"]
    with pytest.raises(InputError, match="holds no object"):
        plan_prompts(init=tmp_path / "coco" / "clip.json")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xml", "<annotations><track", "not whole XML"),
        ("a.xml", "<html/>", "begins with html"),
        ("a.xml", "<!DOCTYPE x><annotations/>", "document type"),
        ("a.xml", '<annotations><track id="1"></track></annotations>', "label"),
        ("a.json", '{"images": [{"id": 1}], "annotations": []}', "height"),
        ("a.json", '{"images": [], "annotations": [{"id": 1}]}', "bbox"),
        ("a.json", '[{"data": {}}]', "Label Studio"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words) as error:
        plan_prompts(init=tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["coco", "cvat", "labelstudio"])
def test_no_file_is_held_in_memory(tmp_path: Path, name: str) -> None:
    import tracemalloc

    write(tmp_path, [name], last=1)
    (journal,) = tmp_path.rglob(".*.rows.jsonl")
    line = json.loads(journal.read_text())
    journal.write_text("".join(json.dumps(line | {"frame": t}) + "\n" for t in range(2000)))
    (sink,) = make_sinks(tmp_path, [name], INFO, append=True)
    sink.open(INFO)
    tracemalloc.start()
    sink.close()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000, "all lines together take four times as much"


# -- killed and continued -------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_killed_and_continued_is_the_straight_run(root: Path, tmp_path: Path) -> None:
    names = [name for name in ANNOTATION_SINKS if name != "parquet"]
    choice = AnnotationChoice(pictures=True, every=2, pad="10%")
    write(tmp_path / "straight", names, annotations=choice)
    code = (
        f"import sys, os, signal; sys.path.insert(0, {str(root / 'tests' / 'fixtures')!r})\n"
        "from annotation_samples import INFO, frame_at, result_at\n"
        "from vision_mem.sinks.annotations import AnnotationChoice\n"
        "from vision_mem.sinks.registry import make_sinks\n"
        "choice = AnnotationChoice(pictures=True, every=2, pad='10%')\n"
        f"sinks = make_sinks({str(tmp_path / 'killed')!r}, {names!r}, INFO, annotations=choice,\n"
        "    source='clips/clip.mp4')\n"
        "for sink in sinks: sink.open(INFO)\n"
        "for t in range(17):\n"
        "    for sink in sinks: sink.write(frame_at(t), result_at(t))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "killed" / "coco" / "clip.json").exists()
    # Half a line, as a kill in the middle of a write leaves it.
    with (tmp_path / "killed" / "coco" / ".clip.json.rows.jsonl").open("a") as journal:
        journal.write('{"frame": 17, "ti')
    write(tmp_path / "killed", names, append=True, frames=10, annotations=choice)
    assert _files(tmp_path / "killed") == _files(tmp_path / "straight")
    # A run that has ended goes on as well.
    write(tmp_path / "parts", names, last=9, annotations=choice)
    write(tmp_path / "parts", names, append=True, frames=9, annotations=choice)
    assert _files(tmp_path / "parts") == _files(tmp_path / "straight")
