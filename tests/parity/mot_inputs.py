"""Files of many objects, truth and results, made the same way here and where scorers were run.

``scripts/goldens/mot_scorers.py`` runs the official scorers on them; the tests run ours.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

SIZE = (60, 100)  # height, width
KITTI_NAMES = {1: "Car", 2: "Van", 3: "Truck", 4: "Pedestrian", 5: "Person", 6: "Cyclist"}
TRACKER = "ours"


class Walk:
    """A box of one class that wanders from one frame to another, and may be away in between."""

    def __init__(self, random, frames, kinds, *, scale=1.0):
        self.kind = int(random.choice(kinds))
        self.first = int(random.integers(0, frames // 2))
        self.last = int(random.integers(self.first + 2, frames + 1))
        gone = int(random.integers(self.first, self.last))
        self.away = range(gone, gone + int(random.integers(0, 6)))
        height, width = SIZE[0] * scale, SIZE[1] * scale
        middle = random.random(2) * [0.8 * width, 0.8 * height] + 0.1 * min(height, width)
        steps = random.normal(0, 1.5 * scale, (frames, 2))
        self.middle = middle + np.cumsum(steps, axis=0)
        self.half = random.uniform(4, 12, 2) * scale
        self.number = 0

    def at(self, frame):
        """Its box x1, y1, x2, y2, or None."""
        if not self.first <= frame < self.last or frame in self.away:
            return None
        return np.concatenate([self.middle[frame] - self.half, self.middle[frame] + self.half])


def tracks(seed, frames, kinds, count, *, scale=1.0):
    """Truth: for each frame a list of (id, class, box)."""
    random = np.random.default_rng(seed)
    walks = [Walk(random, frames, kinds, scale=scale) for _ in range(count)]
    found = [[] for _ in range(frames)]
    for number, walk in enumerate(walks, start=1):
        for frame in range(frames):
            if (box := walk.at(frame)) is not None:
                found[frame].append((number, walk.kind, np.round(box, 2)))
    for frame in (3, 4):  # nothing at all
        found[frame] = []
    return found


def followed(truth, seed, kinds, *, spread=1.5, missed=0.2, switched=0.05, invented=3):
    """Results: the truth shaken, with misses, other ids, other classes, and things made up."""
    random = np.random.default_rng(seed)
    frames = len(truth)
    names = {}
    fresh = 100
    found = [[] for _ in range(frames)]
    for frame, objects in enumerate(truth):
        if frame in (7, 8):
            continue
        for number, kind, box in objects:
            if number not in names or random.random() < switched:
                fresh += 1
                lives = list(names.values())
                # Now and then two objects change names.
                if lives and number in names and random.random() < 0.5:
                    other = int(random.choice(list(names)))
                    names[number], names[other] = names[other], names[number]
                else:
                    wrong = random.random() < 0.15
                    names[number] = (fresh, int(random.choice(kinds)) if wrong else kind)
            if random.random() < missed:
                continue
            identity, said = names[number]
            moved = box + np.tile(random.normal(0, spread, 2), 2) + random.normal(0, 0.6, 4)
            moved[2:] = np.maximum(moved[2:], moved[:2] + 2)
            found[frame].append((identity, said, np.round(moved, 2)))
    for extra in range(invented):
        walk = Walk(random, frames, kinds)
        for frame in range(frames):
            box = walk.at(frame)
            if box is not None and frame not in (7, 8):
                found[frame].append((900 + extra, walk.kind, np.round(box, 2)))
    return [_once(objects) for objects in found]


def _once(objects):
    """Each id once."""
    return list({identity: (identity, kind, box) for identity, kind, box in objects}.values())


def paint(objects, *, first=0):
    """Ellipses of objects as a label image, number of the object in the list + 1; later on top."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    labels = np.zeros(SIZE, np.int32)
    for place, (_, _, box) in enumerate(objects, start=1 + first):
        x, y = (box[:2] + box[2:]) / 2
        w, h = (box[2:] - box[:2]) / 2
        labels[((columns - x) / w) ** 2 + ((rows - y) / h) ** 2 <= 1] = place
    return labels


def rle(mask):
    """COCO's compressed string."""
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def mots_lines(found, first_frame, *, ignored=None, seed=0):
    """MOTS text; ``ignored``: for each frame a list of boxes where nothing counts."""
    lines = []
    random = np.random.default_rng(seed)
    for frame, objects in enumerate(found):
        number = frame + first_frame
        labels = paint(objects)
        head = f"{SIZE[0]} {SIZE[1]}"
        rows = [
            f"{number} {kind * 1000 + identity} {kind} {head} {rle(labels == place)}"
            for place, (identity, kind, _) in enumerate(objects, start=1)
            if (labels == place).any()
        ]
        for x1, y1, x2, y2 in ignored[frame] if ignored else []:
            mask = np.zeros(SIZE, bool)
            mask[y1:y2, x1:x2] = True
            rows.append(f"{number} 10000 10 {head} {rle(mask & (labels == 0))}")
        lines += [rows[n] for n in random.permutation(len(rows))]
    return lines


def ignored_boxes(seed, frames):
    """For each frame none, one or two overlapping rectangles."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        boxes = []
        for _ in range(int(random.integers(0, 3))):
            x, y = random.integers(0, [70, 35])
            boxes.append((x, y, x + int(random.integers(10, 40)), y + int(random.integers(10, 30))))
        found.append(boxes)
    return found


def kitti_lines(found, *, truth, seed):
    """KITTI labels; the truth has levels of truncation and occlusion, and DontCare."""
    random = np.random.default_rng(seed)
    world = "-1 -1 -1 -1000 -1000 -1000 -10"
    lines = []
    for frame, objects in enumerate(found):
        for identity, kind, box in objects:
            levels = "0 0"
            if truth:
                occluded = random.choice(4, p=[0.6, 0.2, 0.1, 0.1])
                levels = f"{int(random.random() < 0.1)} {int(occluded)}"
            place = " ".join(f"{v:.2f}" for v in box)
            line = f"{frame} {identity} {KITTI_NAMES[kind]} {levels} -10 {place} {world}"
            lines.append(line if truth else f"{line} {random.random():.3f}")
        if truth:
            for _ in range(int(random.integers(0, 3))):
                x, y = random.uniform(0, [300, 180])
                place = f"{x:.2f} {y:.2f} {x + 80:.2f} {y + 50:.2f}"
                lines.append(f"{frame} -1 DontCare -1 -1 -10 {place} {world}")
    return lines


def mot_lines(found, *, truth, seed, year):
    """MOTChallenge lines."""
    random = np.random.default_rng(seed)
    lines = []
    for frame, objects in enumerate(found, start=1):
        for identity, kind, (x1, y1, x2, y2) in objects:
            place = f"{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f}"
            if not truth:
                lines.append(f"{frame},{identity},{place},{random.random():.3f},-1,-1,-1")
            elif year == "MOT15":
                lines.append(f"{frame},{identity},{place},{int(random.random() < 0.9)},-1,-1,-1")
            else:
                marked = int(kind == 1 and random.random() < 0.9)
                lines.append(f"{frame},{identity},{place},{marked},{kind},{random.random():.2f}")
    return lines


# Name to (seed, frames, objects).
SEQUENCES = {"0000": (11, 40, 9), "0001": (12, 55, 14), "0002": (13, 30, 4), "0003": (14, 24, 6)}


def _write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_kitti_mots(root: Path):
    """Two classes; the third sequence has cars only, the fourth no results."""
    results = root / "trackers" / TRACKER / "data"
    for name, (seed, frames, count) in SEQUENCES.items():
        truth = tracks(seed, frames, [1] if name == "0002" else [1, 2], count)
        found = followed(truth, seed + 100, [1, 2])
        if name == "0003":
            found = [[]] * frames
        ignored = ignored_boxes(seed + 200, frames)
        _write(
            root / "gt" / "label_02" / f"{name}.txt",
            mots_lines(truth, 0, ignored=ignored, seed=seed),
        )
        _write(results / f"{name}.txt", mots_lines(found, 0, seed=seed + 1))
    lines = [f"{name} empty 000000 {v[1] - 1:06d}" for name, v in SEQUENCES.items()]
    _write(root / "gt" / "evaluate_mots.seqmap.val", lines)


def write_mots_challenge(root: Path):
    """One class; frames from 1."""
    names = []
    for name, (seed, frames, count) in SEQUENCES.items():
        full = f"MOTS20-{name[2:]}"
        names.append(full)
        truth = tracks(seed + 20, frames, [2], count)
        found = followed(truth, seed + 120, [2], spread=1.0)
        ignored = ignored_boxes(seed + 220, frames)
        folder = root / "gt" / "MOTS-train" / full
        _write(folder / "gt" / "gt.txt", mots_lines(truth, 1, ignored=ignored, seed=seed))
        _write(folder / "seqinfo.ini", seqinfo(full, frames))
        _write(
            root / "trackers" / "MOTS-train" / TRACKER / "data" / f"{full}.txt",
            mots_lines(found, 1, seed=seed + 1),
        )
    _write(root / "gt" / "seqmaps" / "MOTS-train.txt", ["name", *names])


def write_kitti_mot(root: Path):
    """Boxes of all classes, four times as large, so that the least height matters."""
    for name, (seed, frames, count) in SEQUENCES.items():
        truth = tracks(seed + 40, frames, [1, 1, 1, 2, 4, 4, 5, 6], 2 * count, scale=3)
        found = followed(truth, seed + 140, [1, 4], spread=4, invented=6)
        found = [[o for o in objects if o[1] in (1, 4)] for objects in found]
        _write(root / "gt" / "label_02" / f"{name}.txt", kitti_lines(truth, truth=True, seed=seed))
        _write(
            root / "trackers" / TRACKER / "data" / f"{name}.txt",
            kitti_lines(found, truth=False, seed=seed),
        )
    lines = [f"{name} empty 000000 {v[1]:06d}" for name, v in SEQUENCES.items()]
    _write(root / "gt" / "evaluate_tracking.seqmap.training", lines)


def write_mot(root: Path, year: str):
    """Pedestrians among other classes (MOT17) or boxes without class (MOT15)."""
    names = []
    kinds = [1, 1, 1, 1, 2, 3, 7, 8, 12] if year == "MOT17" else [1]
    for name, (seed, frames, count) in SEQUENCES.items():
        full = f"{year}-{name[2:]}" + ("-FRCNN" if year == "MOT17" else "")
        names.append(full)
        truth = tracks(seed + 60, frames, kinds, 2 * count)
        found = followed(truth, seed + 160, [1])
        folder = root / "gt" / f"{year}-train" / full
        _write(folder / "gt" / "gt.txt", mot_lines(truth, truth=True, seed=seed, year=year))
        _write(folder / "seqinfo.ini", seqinfo(full, frames))
        lines = mot_lines(found, truth=False, seed=seed, year=year)
        _write(root / "trackers" / f"{year}-train" / TRACKER / "data" / f"{full}.txt", lines)
    _write(root / "gt" / "seqmaps" / f"{year}-train.txt", ["name", *names])


def seqinfo(name, frames):
    """Lines of a ``seqinfo.ini``."""
    return ["[Sequence]", f"name={name}", "imDir=img1", "frameRate=30", f"seqLength={frames}",
            f"imWidth={SIZE[1]}", f"imHeight={SIZE[0]}", "imExt=.jpg"]  # fmt: skip


def _years(year):
    return (
        lambda root: write_mot(root, year),
        f"gt/{year}-train",
        f"trackers/{year}-train/{TRACKER}",
    )


# Where ours looks, below what each writer makes: root of the set and folder of the results.
SETS = {
    "kitti-mots": (write_kitti_mots, "gt", f"trackers/{TRACKER}"),
    "mots-challenge": (write_mots_challenge, "gt/MOTS-train", f"trackers/MOTS-train/{TRACKER}"),
    "kitti-mot": (write_kitti_mot, "gt", f"trackers/{TRACKER}"),
    "mot17": _years("MOT17"),
    "mot15": _years("MOT15"),
}


def frame_tables(seed, frames=60, objects=5, results=6):
    """Ids and overlaps without files: for each frame truth ids, result ids, ``(g, r)`` overlaps.

    Overlaps are multiples of 0.1 now and then, so that some lie on a threshold.
    """
    random = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        truth = np.sort(random.permutation(objects)[: random.integers(0, objects + 1)])
        result = np.sort(random.permutation(results)[: random.integers(0, results + 1)])
        table = random.random((len(truth), len(result))) ** 2
        table[truth[:, None] == result] += 0.45
        if random.random() < 0.3:
            table = np.round(table, 1)
        found.append((truth, result, np.clip(table, 0, 1)))
    return found


def fingerprint(root: Path) -> str:
    """Of all files below a folder, so that nobody compares with numbers of other inputs."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
