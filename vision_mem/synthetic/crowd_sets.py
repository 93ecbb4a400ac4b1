"""A generated benchmark of many objects on disk, in the layout of KITTI MOTS and KITTI tracking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import LineFile, make_folder, sink_error
from vision_mem.geometry.masks import mask_to_box
from vision_mem.sinks.tracks import MotsPng, MotsText
from vision_mem.synthetic.crowds import CROWD_CLASSES, IGNORED, CrowdClip, CrowdFrame, CrowdSettings
from vision_mem.synthetic.set_folder import prepare_set

CROWD_SET: tuple[CrowdSettings, ...] = (
    CrowdSettings(seed=1),
    CrowdSettings(seed=2, objects=10),
    CrowdSettings(seed=4, moving=True),
)
"""The default set: two clips of a camera that stands still, one of a camera that moves."""

_MASK_LIST = "evaluate_mots.seqmap.val"

RECORD = "crowds.json"
"""Says what ``prepare_crowd`` made a set of."""

_OnFrame = Callable[[str, int], None]
_WORLD = "-1 -1 -1 -1000 -1000 -1000 -10"
_DETECTING = 2  # draws for detections are not those for the clip
# How a generated detector errs: shares of objects, of a box's size, and inventions a frame.
_MISSED, _MISSED_HIDDEN, _TWICE, _MISTAKEN, _OFF, _INVENTED = 0.05, 0.7, 0.02, 0.02, 0.04, 0.2
_PARTLY, _LARGELY = 0.1, 0.5  # hidden shares at which KITTI's levels of occlusion begin


@dataclass(frozen=True)
class CrowdSeries:
    """A set of generated clips in a few numbers.

    Attributes:
        sequences: how many.
        frames, width, height, objects, pillars, ignored: of each, see ``CrowdSettings``.
        seed: of the first; the others count on.
        moving_every: each ``moving_every``-th clip has a camera that moves; 0: none.
    """

    sequences: int = 4
    frames: int = 60
    width: int = 416
    height: int = 240
    objects: int = 6
    pillars: int = 1
    ignored: bool = True
    seed: int = 1
    moving_every: int = 4

    def __post_init__(self) -> None:
        if not (1 <= self.sequences <= 10_000 and self.moving_every >= 0):
            raise InputError(
                f"{self.sequences} crowds, each {self.moving_every}th with a moving camera, cannot "
                "be made; expected sequences=1 or more and moving_every=0 or more"
            )
        self.settings()

    def settings(self) -> list[CrowdSettings]:
        """Those of each clip."""
        return [
            CrowdSettings(
                seed=self.seed + number, frames=self.frames, width=self.width, height=self.height,
                objects=self.objects, pillars=self.pillars, ignored=self.ignored,
                moving=(number + 1) % (self.moving_every or self.sequences + 1) == 0,
            )
            for number in range(self.sequences)
        ]  # fmt: skip


def prepare_crowd(
    root: str | Path,
    series: CrowdSeries | None = None,
    *,
    on_frame: _OnFrame = lambda name, frame: None,
) -> dict[str, Any]:
    """Write a set where there is none yet; several programs may do so at a time.

    The folder appears when all of it is there.

    Args:
        root: the set's folder; see ``write_crowd`` for what it gets.
        series: what to make; None: whatever is there, or the defaults.
        on_frame: called with sequence and frame when it is written.

    Returns:
        What the set is made of, JSON-ready; empty when the folder does not say.

    Raises:
        InputError: when the folder holds other things, or a set of another ``series``.
        SinkError: when it cannot be written.
    """
    return prepare_set(
        root, series, CrowdSeries(),
        lambda place, some: write_crowd(place, some.settings(), on_frame=on_frame),
        what="crowds", record=RECORD, option="--crowd", foreign=_MASK_LIST,
    )  # fmt: skip


def write_crowd(
    root: str | Path,
    settings: Sequence[CrowdSettings] = CROWD_SET,
    *,
    on_frame: _OnFrame = lambda name, frame: None,
) -> list[str]:
    """Render clips and write images and truth.

    Below ``root``: ``training/image_02/0000/000000.png``, truth as ``training/instances/0000/``
    (PNG), ``training/instances_txt/0000.txt`` and ``training/label_02/0000.txt`` (boxes),
    ``training/det_02/0000.txt`` (what a middling detector might find, see ``_found``), and the two
    lists ``evaluate_mots.seqmap.val`` and ``evaluate_tracking.seqmap.training``. Both
    ``kitti-mots`` and ``kitti-mot`` open it.

    Args:
        root: a folder; files of these names are replaced.
        settings: one for each sequence.
        on_frame: called with sequence and frame when it is written.

    Returns:
        Names of the sequences.

    Raises:
        SinkError: when something cannot be written.
    """
    root = Path(root)
    names = [f"{number:04d}" for number in range(len(settings))]
    for name, chosen in zip(names, settings, strict=True):
        _write_sequence(root / "training", name, CrowdClip(chosen, name), on_frame)
    lengths = list(zip(names, (chosen.frames for chosen in settings), strict=True))
    _write_list(
        root / _MASK_LIST,
        [f"{name} empty 000000 {count - 1:06d}" for name, count in lengths],
    )
    _write_list(
        root / "evaluate_tracking.seqmap.training",
        [f"{name} empty 000000 {count:06d}" for name, count in lengths],
    )
    return names


def _write_sequence(
    place: Path, name: str, clip: CrowdClip, on_frame: Callable[[str, int], None]
) -> None:
    images = place / "image_02" / name
    make_folder(images)
    text = MotsText(place / "instances_txt" / f"{name}.txt")
    pictures = MotsPng(place / "instances" / name)
    labels = LineFile(place / "label_02" / f"{name}.txt")
    detections = LineFile(place / "det_02" / f"{name}.txt")
    random = np.random.default_rng([clip.settings.seed, _DETECTING])
    try:
        text.open(clip.info)
        pictures.open(clip.info)
        for index, frame in enumerate(clip):
            _write_image(images / f"{index:06d}.png", frame)
            records, ignored = frame.records(), frame.labels == IGNORED
            text.write(index, records, ignored)
            pictures.write(index, records, ignored)
            if lines := _labels(index, frame):
                labels.write(*lines)
            if lines := _found(index, frame, random):
                detections.write(*lines)
            on_frame(name, index)
    finally:
        text.close()
        pictures.close()
        labels.close()
        detections.close()


def _write_image(path: Path, frame: CrowdFrame) -> None:
    from PIL import Image

    try:
        Image.fromarray(frame.image).save(path, compress_level=1)
    except OSError as error:
        raise sink_error(path, error) from None


def _labels(index: int, frame: CrowdFrame) -> list[str]:
    """KITTI tracking labels of a frame: boxes of what is to be seen."""
    lines = []
    for each in frame.records():
        assert each.box is not None, "made with one"
        share = frame.hidden[each.object_id]
        occluded = (share > _PARTLY) + (share > _LARGELY)
        kind = CROWD_CLASSES[each.class_id].capitalize()
        place = " ".join(f"{value:.2f}" for value in each.box.tolist())
        cut = int(each.object_id in frame.cut)
        lines.append(f"{index} {each.object_id} {kind} {cut} {occluded} -10 {place} {_WORLD}")
    region = mask_to_box(frame.labels == IGNORED)
    if region.any():
        place = " ".join(f"{value:.2f}" for value in region.tolist())
        lines.append(f"{index} -1 DontCare -1 -1 -10 {place} {_WORLD}")
    return lines


def _found(index: int, frame: CrowdFrame, random: np.random.Generator) -> list[str]:
    """What a middling detector might find on a frame, as KITTI labels with scores.

    It misses what is hidden more often than what is not, places boxes a little off, now and then
    takes one class for the other, finds a thing twice, or something where nothing is. Its errors
    on one frame know nothing of those before.
    """
    height, width = frame.labels.shape
    found: list[tuple[int, NDArray[np.float64], float]] = []
    for each in frame.records():
        assert each.box is not None, "made with one"
        hidden = frame.hidden[each.object_id]
        times = 1 + (random.random() < _TWICE)
        for _ in range(0 if random.random() < _MISSED + _MISSED_HIDDEN * hidden else times):
            box = each.box.astype(np.float64)
            size = np.tile(box[2:] - box[:2], 2)
            box += random.normal(0.0, _OFF, 4) * size
            kind = each.class_id if random.random() >= _MISTAKEN else _other(each.class_id)
            found.append((kind, box, 1 - 0.4 * hidden - abs(random.normal(0.0, 0.1))))
    for _ in range(random.poisson(_INVENTED)):
        centre, size = random.uniform(0, [width, height]), height * random.uniform(0.12, 0.3, 2)
        box = np.concatenate([centre - size / 2, centre + size / 2])
        found.append((_other(int(random.integers(1, 3))), box, random.uniform(0.3, 0.7)))
    lines = []
    for kind, box, score in found:
        box = box.clip(0, [width, height, width, height])
        if (box[2:] - box[:2] < 2).any():
            continue
        place = " ".join(f"{value:.2f}" for value in box.tolist())
        word = CROWD_CLASSES[kind].capitalize()
        lines.append(
            f"{index} -1 {word} -1 -1 -10 {place} {_WORLD} {min(max(score, 0.3), 0.99):.3f}"
        )
    return lines


def _other(kind: int) -> int:
    return 3 - kind


def _write_list(path: Path, lines: list[str]) -> None:
    file = LineFile(path)
    file.write(*lines)
    file.close()
