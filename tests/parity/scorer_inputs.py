"""Inputs for the scorers, made the same way here and where the official ones were run.

``scripts/goldens/scorers.py`` runs the official scorers on them; the tests run ours. Everything is
rounded before use, so that both sides read the same numbers from text.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

SIZE = (96, 128)  # height, width


def walk(seed, frames, *, size=SIZE):
    """Boxes x, y, width, height that wander about and leave the image a little, two decimals."""
    random = np.random.default_rng(seed)
    height, width = size
    place = np.array([0.4 * width, 0.4 * height, 0.25 * width, 0.3 * height])
    steps = random.normal(0, 1, (frames, 4)) * [0.04 * width, 0.04 * height, 0.8, 0.8]
    boxes = place + np.cumsum(steps, axis=0)
    boxes[:, 2:] = np.clip(boxes[:, 2:], 3, None)
    return np.round(boxes, 2)


def near(truth, seed, spread):
    """A tracker's boxes: the truth, shaken; now and then far off."""
    random = np.random.default_rng(seed)
    boxes = truth + random.normal(0, spread, truth.shape)
    boxes[random.random(len(boxes)) < 0.15, :2] += 40
    boxes[:, 2:] = np.clip(boxes[:, 2:], 2, None)
    return np.round(boxes, 3)


def success_cases():
    """Name to (tag, truth, visible or None, predicted), one for each rule of the scorer."""
    cases = {}

    def add(name, tag, seed, frames=50, visible=False):
        truth = walk(seed, frames)
        flags = None
        if visible:
            flags = np.random.default_rng(seed + 1).random(frames) > 0.2
            flags[0] = True
            truth[~flags & (np.arange(frames) % 2 == 0)] = 0
        cases[name] = [tag, truth, flags, near(truth, seed + 2, 2.0)]
        return cases[name]

    add("plain", "otb", 10)
    add("flags", "lasot", 20, visible=True)
    add("flags without a name", "lasot_extension_subset", 30, visible=True)
    zeros = add("boxes declared absent", "lasot", 40, visible=True)
    zeros[3][5:9] = 0
    zeros[3][20, 2] = 0
    zeros[3][30:32, 3] = 0
    first = add("first box absent too", "otb", 50)
    first[3][0:3] = 0
    longer = add("longer", "lasot", 60, visible=True)
    longer[3] = np.concatenate([longer[3], longer[3][:7]])
    shorter = add("shorter", "nfs", 70)
    shorter[3] = shorter[3][:41]
    shorter[3][30] = 0
    uav = add("no truth", "uav", 80)
    uav[1][10:17] = np.nan
    uav[3][12] = 0
    uav[3][17:19] = 0
    empty = add("truth without area", "otb", 90)
    empty[1][11:13, 2:] = 0
    ties = add("ties with thresholds", "otb", 100, frames=22)
    ties[1][:] = [10, 20, 100, 40]
    ties[3][:] = [10, 20, 100, 40]
    ties[3][:, 2] = 5 * np.clip(np.arange(22), 1, 20)  # overlaps 0.05, 0.10, ..., 1
    still = add("on the spot", "otb", 110, frames=60)
    still[1][:] = [50, 50, 20, 10]
    still[3][:] = [50, 50, 20, 10]
    still[3][:, 0] += np.arange(60)  # 0 to 59 pixels off
    return {name: tuple(case) for name, case in cases.items()}


def got10k_set():
    """Name to (size, cover, truth, runs): some runs repeated, boxes out of the image, no area."""
    found = {}
    for number, (frames, size, repeated) in enumerate(
        [(40, SIZE, 1), (55, (120, 90), 3), (33, (64, 200), 2), (60, SIZE, 1)], start=1
    ):
        truth = walk(200 + number, frames, size=size)
        cover = np.random.default_rng(300 + number).integers(0, 9, frames)
        cover[0] = 8
        runs = [near(truth, 400 + 10 * number + run, 3.0) for run in range(repeated)]
        runs[0][7:9] = 0
        runs[0][11, 2:] = [-3, 5]
        runs[0][13, :2] = [-30, -20]
        found[f"GOT-10k_Val_{number:06d}"] = (size, cover, truth, runs)
    return found


def write_got10k(root: Path, results: Path):
    """The set and a tracker's results as files."""
    found = got10k_set()
    (root / "val").mkdir(parents=True)
    (root / "val" / "list.txt").write_text("\n".join(found) + "\n")
    for name, (size, cover, truth, runs) in found.items():
        folder = root / "val" / name
        folder.mkdir()
        np.savetxt(folder / "groundtruth.txt", truth, fmt="%.4f", delimiter=",")
        np.savetxt(folder / "cover.label", cover, fmt="%d")
        for label in ("absence", "cut_by_image"):
            np.savetxt(folder / f"{label}.label", np.zeros(len(truth)), fmt="%d")
        lines = ["[METAINFO]", "object_class: cup", f"resolution: ({size[1]}, {size[0]})"]
        (folder / "meta_info.ini").write_text("\n".join(lines) + "\n")
        for frame in range(len(truth)):
            (folder / f"{frame + 1:08d}.jpg").touch()
        place = results / name
        place.mkdir(parents=True)
        for number, boxes in enumerate(runs, start=1):
            np.savetxt(place / f"{name}_{number:03d}.txt", boxes, fmt="%.3f", delimiter=",")
        np.savetxt(place / f"{name}_time.txt", np.full(len(truth), 0.01), fmt="%.8f")


def discs(seed, frames, objects, *, size=SIZE):
    """Label images with an object in each of several discs that wander, vanish and overlap."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    images = np.zeros((frames, *size), np.uint8)
    for number in range(1, objects + 1):
        centre = np.array([size[0] / 2, size[1] * number / (objects + 1)])
        centres = centre + np.cumsum(random.integers(-4, 5, (frames, 2)), axis=0)
        radii = random.integers(8, 20, frames)
        radii[random.random(frames) < 0.15] = 0
        radii[0] = 14
        for image, (row, column), radius in zip(images, centres, radii, strict=True):
            image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = number
    return images


def mask_set():
    """Name to (truth, predicted) label images; predictions lack objects, are shifted, are full."""
    found = {}
    for number, (frames, objects) in enumerate([(14, 1), (17, 3), (9, 2), (25, 4)], start=1):
        truth = discs(500 + number, frames, objects)
        predicted = np.roll(truth, (number - 2, 2 * number - 3), axis=(1, 2))
        predicted[3] = 0
        predicted[4] = truth[4]
        predicted[5] = objects  # everywhere: no boundary at all
        found[f"clip-{number}"] = (truth, predicted)
    return found


def _polygon(box, random):
    x, y, width, height = box
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    return np.round(corners + random.normal(0, 4, corners.shape), 2)


def vot_set():
    """Name to (truth lines, predicted lines) as the VOT toolkit writes regions."""
    found = {}
    for number, frames in enumerate([40, 31, 52], start=1):
        random = np.random.default_rng(600 + number)
        boxes = walk(610 + number, frames)
        shaken = near(boxes, 620 + number, 3.0)
        truth, predicted = [], []
        for frame, (box, ours) in enumerate(zip(boxes, shaken, strict=True)):
            if number == 1:
                truth.append(_line(box))
            else:
                truth.append(_line(_polygon(box, random).ravel()))
            kind = (frame + number) % 4
            if kind == 0:
                predicted.append(_line(_polygon(ours, random).ravel()))
            elif kind == 1:
                x, y = (int(value) for value in ours[:2])
                height, width = max(int(ours[3]), 4), max(int(ours[2]), 4)
                runs = [2, width * height - 5, 3]
                predicted.append(f"m{x},{y},{width},{height}," + ",".join(map(str, runs)))
            else:
                predicted.append(_line(ours))
        for frame in range(8, 22):
            if number == 3:
                truth[frame] = "0.00,0.00,0.00,0.00"  # absent
        truth[5] = "nan,nan,nan,nan"  # unknown
        predicted[10:13] = ["0"] * 3
        predicted[0] = "1"
        if number == 2:
            predicted[15] = "2"
        found[f"vot-{number}"] = (truth, predicted)
    return found


def _line(values):
    return ",".join(f"{value:.2f}" for value in values)


def vot_anchors():
    """Name to {anchor: (forward, predicted lines)} on the truth of ``vot_set``."""
    found = {}
    for number, (name, (truth, predicted)) in enumerate(vot_set().items()):
        frames = len(truth)
        runs = {}
        for anchor in (0, 10, frames - 1):
            forward = anchor != frames - 1
            path = range(anchor, frames) if forward else range(anchor, -1, -1)
            lines = [predicted[frame] for frame in path]
            if number == 1 and anchor == 0:
                lines[12:26] = ["200.00,200.00,5.00,5.00"] * 14  # lost for long enough
            runs[anchor] = (forward, lines)
        found[name] = runs
    return found


def fingerprint():
    """Of all inputs, to tell "other inputs" from "another scorer"."""
    digest = hashlib.sha256()
    for name, (tag, truth, visible, predicted) in success_cases().items():
        flags = "" if visible is None else "".join(map(str, visible.astype(int)))
        digest.update(f"{name} {tag} {flags}".encode())
        digest.update(np.round(truth, 4).tobytes() + np.round(predicted, 4).tobytes())
    for name, (size, cover, truth, runs) in got10k_set().items():
        digest.update(f"{name} {size} {cover.tolist()}".encode())
        digest.update(b"".join(np.round(boxes, 4).tobytes() for boxes in [truth, *runs]))
    for truth, predicted in mask_set().values():
        digest.update(truth.tobytes() + predicted.tobytes())
    digest.update(repr([vot_set(), vot_anchors()]).encode())
    return digest.hexdigest()
