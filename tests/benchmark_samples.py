"""Tiny copies of benchmarks, one for each layout that ``open_benchmark`` and
``open_mot_benchmark`` know.

    names = write_sample("lasot", tmp_path)

Each sequence has ``FRAMES`` frames of ``WIDTH`` x ``HEIGHT``: a bright patterned square of
``SIDE`` pixels that moves over a darker texture. ``true_boxes(number, origin)`` says where it is in
the number-th sequence of a sample, as x, y, width, height with the first pixel counted from
``origin``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

FRAMES, WIDTH, HEIGHT, SIDE = 8, 96, 64, 20
HIDDEN_FRAME = 5
"""In sets that flag frames (LaSOT, GOT-10k) the first sequence is flagged as absent here."""


def true_boxes(number: int, origin: int = 0) -> np.ndarray:
    """``(FRAMES, 4)`` x, y, width, height."""
    steps = np.arange(FRAMES)
    x = 6 + 4 * number + 5 * steps
    y = 10 + 3 * number + 2 * steps
    side = np.full(FRAMES, SIDE)
    return np.stack([x + origin, y + origin, side, side], axis=1).astype(float)


def picture(number: int, frame: int) -> np.ndarray:
    """``(HEIGHT, WIDTH, 3)`` uint8 RGB."""
    rng = np.random.default_rng(number)
    image = rng.integers(30, 110, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    image = image.repeat(4, 0).repeat(4, 1)
    square = rng.integers(150, 255, (SIDE // 5, SIDE // 5, 3), dtype=np.uint8)
    x, y = true_boxes(number)[frame, :2].astype(int)
    image[y : y + SIDE, x : x + SIDE] = square.repeat(5, 0).repeat(5, 1)
    return image


def mask(number: int, frame: int, value: int = 1) -> np.ndarray:
    """``(HEIGHT, WIDTH)`` uint8: ``value`` on the square, 0 elsewhere."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = true_boxes(number)[frame, :2].astype(int)
    labels[y : y + SIDE, x : x + SIDE] = value
    return labels


def write_images(
    folder: Path, number: int, pattern: str = "{:08d}.jpg", first: int = 1, count: int = FRAMES
) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(count):
        image = Image.fromarray(picture(number, min(frame, FRAMES - 1)))
        image.save(folder / pattern.format(first + frame), quality=95)


def write_masks(folder: Path, number: int, *, value: int = 1, second: bool = False) -> None:
    """Indexed PNG truth; ``second`` adds a still object 2 in the lower right corner."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(FRAMES):
        labels = mask(number, frame, value)
        if second:
            labels[-10:, -12:] = 2
        image = Image.fromarray(labels)
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [200] * 759)
        image.save(folder / f"{frame:05d}.png")


def rows(values: np.ndarray, separator: str = ",") -> str:
    """Rows of numbers as text, whole numbers without a point."""
    return "".join(separator.join(f"{v:g}" for v in row) + "\n" for row in np.atleast_2d(values))


def write(path: Path, text: str | Iterable[object]) -> Path:
    """A text file; of several items, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(text, str):
        text = "".join(f"{item}\n" for item in text)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def _flags(number: int) -> list[int]:
    return [int(number == 0 and frame == HIDDEN_FRAME) for frame in range(FRAMES)]


def _lasot(root: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        folder = root / name.rpartition("-")[0] / name
        write_images(folder / "img", number)
        write(folder / "groundtruth.txt", rows(true_boxes(number, 1)))
        write(folder / "full_occlusion.txt", ",".join(map(str, _flags(number))))
        write(folder / "out_of_view.txt", ",".join(["0"] * FRAMES))
        write(folder / "nlp.txt", "a square on a wall")


def _lasot_test(root: Path) -> list[str]:
    names = ["airplane-1", "airplane-9", "bird-2"]
    _lasot(root, names)
    write(root / "testing_set.txt", names)
    return names


def _lasot_ext(root: Path) -> list[str]:
    names = ["atv-1", "atv-2", "badminton-1"]
    _lasot(root, names)
    return names


def _got10k(root: Path, split: str) -> list[str]:
    names = [f"GOT-10k_{split.title()}_{number:06d}" for number in (1, 2)]
    write(root / split / "list.txt", names)
    for number, name in enumerate(names):
        folder = root / split / name
        write_images(folder, number)
        boxes = true_boxes(number)
        text = "".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in boxes)
        write(folder / "groundtruth.txt", text.splitlines()[0] + "\n" if split == "test" else text)
        if split == "val":
            write(folder / "cover.label", [0 if flag else 8 for flag in _flags(number)])
            write(folder / "absence.label", _flags(number))
            write(folder / "cut_by_image.label", [0] * FRAMES)
            meta = ["[METAINFO]", "url: https://example.org/a%20b", "object_class: square",
                    "motion_class: sliding", f"resolution: ({WIDTH}, {HEIGHT})"]  # fmt: skip
            write(folder / "meta_info.ini", meta)
    return names


def _trackingnet(root: Path) -> list[str]:
    names = ["-Dz7OIf54b0_0", "0-6LB4FqxoE_0"]
    for number, name in enumerate(names):
        write_images(root / "TEST" / "frames" / name, number, "{}.jpg", first=0)
        write(root / "TEST" / "anno" / f"{name}.txt", rows(true_boxes(number)[0]))
    return names


def _otb(root: Path) -> list[str]:
    """Crossing has tabs, Jogging two targets; David's truth begins at image 300."""
    write_images(root / "Crossing" / "img", 0, "{:04d}.jpg")
    write(root / "Crossing" / "groundtruth_rect.txt", rows(true_boxes(0, 1), "\t"))
    write_images(root / "David" / "img", 1, "{:04d}.jpg", first=298, count=2)
    write_images(root / "David" / "img", 1, "{:04d}.jpg", first=300)
    write(root / "David" / "groundtruth_rect.txt", rows(true_boxes(1, 1)))
    write_images(root / "Jogging" / "img", 2, "{:04d}.jpg")
    write(root / "Jogging" / "groundtruth_rect.1.txt", rows(true_boxes(2, 1), " "))
    still = np.repeat([[60.0, 40.0, 12.0, 12.0]], FRAMES, axis=0)
    write(root / "Jogging" / "groundtruth_rect.2.txt", rows(still))
    return ["Crossing", "David", "Jogging-1", "Jogging-2"]


def _nfs(root: Path) -> list[str]:
    """The original layout, the truth at 240 frames a second."""
    names = ["airboard_1", "bee"]
    for number, name in enumerate(names):
        write_images(root / name / "30" / name, number, "{:05d}.jpg")
        lines = []
        for row in range(8 * FRAMES):
            x, y, w, h = true_boxes(number)[row // 8]
            lines.append(f'0 {x:g} {y:g} {x + w:g} {y + h:g} {row + 1} 0 0 0 "square"')
        write(root / name / "30" / f"{name}.txt", lines)
    return names


def _uav123(root: Path) -> list[str]:
    """Both parts of car16 lie in one folder; the second starts with image 415."""
    images = root / "data_seq" / "UAV123"
    write_images(images / "bike1", 0, "{:06d}.jpg")
    write_images(images / "car16", 1, "{:06d}.jpg")
    write_images(images / "car16", 2, "{:06d}.jpg", first=416)
    truth = true_boxes(0, 1)
    text = rows(truth).splitlines()
    text[HIDDEN_FRAME] = "NaN,NaN,NaN,NaN"
    write(root / "anno" / "UAV123" / "bike1.txt", text)
    write(root / "anno" / "UAV123" / "car16_1.txt", rows(true_boxes(1, 1)))
    write(root / "anno" / "UAV123" / "car16_2.txt", rows(true_boxes(2, 1)))
    write(root / "anno" / "UAV123" / "att" / "bike1.txt", "1,1,0,1,0,0,0,0,1,1,1,1\n")
    return ["bike1", "car16_1", "car16_2"]


def _davis(root: Path, year: str) -> list[str]:
    names = ["car-shadow", "libby"]
    for number, name in enumerate(names):
        write_images(root / "JPEGImages" / "480p" / name, number, "{:05d}.jpg", first=0)
        several = year == "2017" and number == 0
        value = 255 if year == "2016" else 1
        folder = root / "Annotations" / "480p" / name
        write_masks(folder, number, value=value, second=several)
    write(root / "ImageSets" / year / "val.txt", names)
    return names


def _vot(root: Path) -> list[str]:
    """Rectangles, polygons with frames without object, and a mask as truth."""
    names = ["agility", "ball", "car1"]
    boxes = [true_boxes(number) for number in range(3)]
    for number, name in enumerate(names):
        write_images(root / "sequences" / name / "color", number)
    write(root / "sequences" / "list.txt", names)
    write(root / "sequences" / "agility" / "groundtruth.txt", rows(boxes[0]))
    x, y, w, h = boxes[1].T
    polygons = rows(np.stack([x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2], 1))
    lines = polygons.splitlines()
    lines[HIDDEN_FRAME] = "0"
    write(root / "sequences" / "ball" / "groundtruth.txt", lines)
    masks = [f"m{x:g},{y:g},{w:g},{h:g},0,{w * h:g}" for x, y, w, h in boxes[2]]
    write(root / "sequences" / "car1" / "groundtruth.txt", masks)
    write(root / "sequences" / "ball" / "occlusion.tag", _flags(0))
    write(root / "sequences" / "ball" / "camera_motion.tag", _flags(1))
    write(root / "sequences" / "ball" / "sequence", ["name=ball", f"width={WIDTH}",
                                                      f"height={HEIGHT}"])  # fmt: skip
    return names


def _folder(root: Path) -> list[str]:
    names = ["bee", "cup2", "cup10"]
    inside = ["", "img", "imgs"]
    for number, name in enumerate(names):
        write_images(root / name / inside[number], number, "{}.jpg")
        write(root / name / "groundtruth.txt", rows(true_boxes(number)))
    return names


def _many_boxes(number: int) -> Iterator[tuple[int, list[float]]]:
    """Frame from 0 and left, top, width, height of the square."""
    yield from enumerate(true_boxes(number).tolist())


def _run_lengths(number: int, frame: int) -> str:
    from vision_mem.formats.rle import encode_mask

    return f"{HEIGHT} {WIDTH} {encode_mask(mask(number, frame).astype(bool))}"


_WORLD = "-1 -1 -1 -1000 -1000 -1000 -10"


def _kitti(root: Path) -> list[str]:
    """A pedestrian in one sequence, a car in the other; masks, boxes and detections."""
    names = ["0002", "0006"]
    place = root / "training"
    for number, name in enumerate(names):
        write_images(place / "image_02" / name, number, "{:06d}.png", first=0)
        kind, word = ((2, "Pedestrian"), (1, "Car"))[number]
        masks, labels, found = [], [], []
        for frame, (x, y, w, h) in _many_boxes(number):
            masks.append(f"{frame} {kind}007 {kind} {_run_lengths(number, frame)}")
            box = f"{x:.2f} {y:.2f} {x + w:.2f} {y + h:.2f}"
            labels.append(f"{frame} 7 {word} 0 0 -10 {box} {_WORLD}")
            found.append(f"{frame} -1 {word} -1 -1 -10 {box} {_WORLD} 0.95")
            found.append(f"{frame} -1 Tram -1 -1 -10 1 1 30 12 {_WORLD} 0.5")
        write(place / "instances_txt" / f"{name}.txt", masks)
        write(place / "label_02" / f"{name}.txt", labels)
        write(place / "det_02" / f"{name}.txt", found)
    last = FRAMES - 1
    write(root / "evaluate_mots.seqmap.val", [f"{n} empty 000000 {last:06d}" for n in names])
    lines = [f"{n} empty 000000 {FRAMES:06d}" for n in names]
    write(root / "evaluate_tracking.seqmap.training", lines)
    # As KITTI has it: other images, no truth.
    write_images(root / "testing" / "image_02" / "0000", 2, "{:06d}.png", first=0)
    return names


def _challenge(root: Path, key: str) -> list[str]:
    """One person a sequence, with the set's detections; one sequence without truth."""
    known = {
        "mot17": ["MOT17-02-FRCNN", "MOT17-04-FRCNN"],
        "mots-challenge": ["MOTS20-02", "MOTS20-05"],
        "mot20": ["MOT20-01", "MOT20-02"],
    }
    names = known.get(key, ["ADL-Rundle-6", "TUD-Campus"])
    for number, name in enumerate([*names, "MOT-07"]):
        folder = root / ("test" if number == len(names) else "train") / name
        write_images(folder / "img1", number, "{:06d}.jpg")
        tail = "-1,-1,-1" if key == "mot15" else "1,1"
        truth, found = [], []
        for frame, (x, y, w, h) in _many_boxes(number):
            runs = _run_lengths(number, frame)
            if key == "mots-challenge":
                truth.append(f"{frame + 1} 2001 2 {runs}")
                found.append(f"{frame + 1} {x:g} {y:g} {w:g} {h:g} 0.9 2 {runs}")
            else:
                score = 45.1 if key == "mot15" else 0.9
                truth.append(f"{frame + 1},1,{x:g},{y:g},{w:g},{h:g},1,{tail}")
                found.append(f"{frame + 1},-1,{x:g},{y:g},{w:g},{h:g},{score}")
        if number < len(names):
            write(folder / "gt" / "gt.txt", truth)
        write(folder / "det" / "det.txt", found)
        write(folder / "seqinfo.ini", ["[Sequence]", f"name={name}", "imDir=img1", "frameRate=25",
              f"seqLength={FRAMES}", f"imWidth={WIDTH}", f"imHeight={HEIGHT}"])  # fmt: skip
    return names


_WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "lasot": _lasot_test,
    "lasot-ext": _lasot_ext,
    "got10k-val": lambda root: _got10k(root, "val"),
    "got10k-test": lambda root: _got10k(root, "test"),
    "trackingnet": _trackingnet,
    "otb100": _otb,
    "nfs": _nfs,
    "uav123": _uav123,
    "davis2016": lambda root: _davis(root, "2016"),
    "davis2017": lambda root: _davis(root, "2017"),
    "vot": _vot,
    "folder": _folder,
    "kitti-mots": _kitti,
    "kitti-mot": _kitti,
    "mots-challenge": lambda root: _challenge(root, "mots-challenge"),
    "mot15": lambda root: _challenge(root, "mot15"),
    "mot17": lambda root: _challenge(root, "mot17"),
    "mot20": lambda root: _challenge(root, "mot20"),
}


def write_sample(key: str, root: Path) -> list[str]:
    """Write a small copy of a benchmark; returns its sequences' names, in the order of the set."""
    return _WRITERS[key](root)
